"""Processes of one clone, in one worktree or several: none waits for another's network."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import opened
from support.fleet import LEDGER_REF
from support.push_gate import PushGate, ended, kill, start

from coordledger.client import holder
from coordledger.deadline import Deadline
from coordledger.errors import Failed, Integrity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet()
    fleet.enroll("bob")
    fleet.ledger("alice").submit("t")
    return fleet


@pytest.fixture
def gate(fleet: Fleet) -> Iterator[PushGate]:
    gate = PushGate(fleet)
    yield gate
    gate.clear()


@pytest.fixture
def sibling(fleet: Fleet) -> Path:
    """A second worktree of alice's clone."""
    path = fleet.root / "sibling"
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    clone = fleet.clone("alice")
    fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "x", cwd=clone)
    fleet.git("worktree", "add", "--quiet", path, cwd=clone)
    return path


def test_a_hanging_push_stops_neither_the_reads_nor_the_writes_of_others(
    fleet: Fleet, gate: PushGate, sibling: Path
) -> None:
    gate.set("hold")
    hanging = start(fleet, "alice", "t")
    gate.wait_for("holding")
    limit = timedelta(seconds=8)
    for path in (sibling, fleet.clone("alice")):  # another worktree, and the very same one
        began = time.monotonic()
        with opened(fleet, path, "alice", session=f"of-{path.name}", timeout=limit) as ledger:
            assert ledger.show("t").status == "open"
            assert ledger.audit().problems == ()
            assert time.monotonic() - began < 4
            assert ledger.connection.open_writes() == []  # its process lives, and is at it
            assert ledger.resolve() == []
            assert ledger.claim(f"for-{path.name}").won
    gate.open()
    assert ended(hanging)["outcome"] == "won"
    with opened(fleet, sibling, "alice") as ledger:
        assert {task.status for task in ledger.tasks()} == {"claimed"}
        assert ledger.audit(full=True).problems == ()
        assert ledger.connection.local.journal.intents() == []


def test_whoever_waits_in_line_in_vain_hears_who_leads(fleet: Fleet, gate: PushGate) -> None:
    gate.set("hold")
    leading = start(fleet, "alice", "t")
    gate.wait_for("holding")
    with opened(fleet, fleet.clone("bob"), "bob", timeout=timedelta(seconds=3)) as bob:
        line = bob.connection.line()
        line._is_stuck = lambda deadline: False  # type: ignore[method-assign]
        with pytest.raises(Failed) as failed:
            bob.submit("another")
    assert failed.value.code == "local-lock"
    said = failed.value.message
    assert f"the line to this ledger is held by process {leading.pid} on " in said
    assert str(fleet.clone("alice")) in said
    gate.open()
    ended(leading)


def test_what_a_killed_process_has_left_is_settled_by_a_sibling(
    fleet: Fleet, gate: PushGate, sibling: Path
) -> None:
    gate.set("hold")
    dying = start(fleet, "alice", "t")
    gate.wait_for("holding")
    with opened(fleet, sibling, "alice") as ledger:
        assert ledger.resolve() == []
        kill(dying)
        gate.open()
        [settled] = ledger.resolve()
    assert settled.what == "claim t"
    assert settled.outcome in ("landed", "voided")


def after_the_fetch(ledger: Ledger, act: Callable[[], object], *, whole: bool = False) -> None:
    """Once, `act` happens after the ledger's process has fetched, by commits alone or `whole`
    objects, and before it judges.
    """
    replica = ledger.connection.replica
    fetch, news = replica.fetch, replica.remote.news

    def acted(got: object) -> object:
        replica.fetch, replica.remote.news = fetch, news  # type: ignore[method-assign]
        act()
        return got

    def fetch_and_wait(*args: object) -> object:
        return acted(fetch(*args))  # type: ignore[arg-type]

    def ask_and_wait(*args: object) -> object:
        return acted(news(*args))  # type: ignore[arg-type]

    replica.fetch = fetch_and_wait  # type: ignore[assignment, method-assign]
    if not whole:
        replica.remote.news = ask_and_wait  # type: ignore[assignment, method-assign]


def test_an_overtaken_reader_goes_on_from_the_newer_head(fleet: Fleet) -> None:
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob = fleet.ledger("bob")
    bob.send("one", channel="general")

    def overtake() -> None:
        bob.send("two", channel="general")
        swift.head()

    after_the_fetch(slow, overtake)
    bodies = [message.body for message in slow.messages("general")]
    assert bodies == ["one", "two"]
    trusted = swift.connection.replica.trusted
    assert slow.head(refresh=False).seq == trusted.seq
    assert trusted.commit == fleet.head()


def test_an_overtaken_reader_judges_what_is_left_beyond_the_other_ones_head(fleet: Fleet) -> None:
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob = fleet.ledger("bob")
    bob.send("one", channel="general")
    between = fleet.head()
    bob.send("two", channel="general")
    newest = fleet.head()

    def overtake() -> None:  # the other process had fetched earlier, and adopts now
        fleet.git("update-ref", LEDGER_REF, between)
        swift.head()
        fleet.git("update-ref", LEDGER_REF, newest)

    after_the_fetch(slow, overtake)
    assert slow.head().commit == newest
    assert swift.connection.replica.trusted.commit == newest


def test_a_reader_that_is_overtaken_while_it_judges_moves_the_clone_nowhere(fleet: Fleet) -> None:
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob, replica = fleet.ledger("bob"), slow.connection.replica
    bob.send("one", channel="general")
    adopt, moved = replica.adopt, list[bool]()

    def be_overtaken_and_adopt(*args: object) -> bool:
        replica.adopt = adopt  # type: ignore[method-assign]
        bob.send("two", channel="general")
        swift.head()
        moved.append(adopt(*args))  # type: ignore[arg-type]
        assert fleet.ledger("alice").head(refresh=False).commit == fleet.head()
        return moved[0]

    replica.adopt = be_overtaken_and_adopt  # type: ignore[method-assign]
    assert slow.head().commit == fleet.head()
    assert moved == [False]


def test_a_reader_that_is_overtaken_before_it_judges_sees_no_older_remote(fleet: Fleet) -> None:
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob, replica = fleet.ledger("bob"), slow.connection.replica
    bob.send("one", channel="general")
    path_to = replica.path_to

    def be_overtaken_and_look(head: str) -> object:
        replica.path_to = path_to  # type: ignore[method-assign]
        bob.send("two", channel="general")
        swift.head()
        return path_to(head)

    replica.path_to = be_overtaken_and_look  # type: ignore[method-assign,assignment]
    assert slow.head().commit == fleet.head()


def test_a_remote_that_went_back_is_noticed_also_where_another_process_moves_on(
    fleet: Fleet,
) -> None:
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob, before = fleet.ledger("bob"), fleet.head()
    bob.send("one", channel="general")
    slow.head()
    bob.send("two", channel="general")
    newest = fleet.head()
    fleet.git("update-ref", LEDGER_REF, before)

    def overtake() -> None:  # with what it had fetched earlier
        fleet.git("update-ref", LEDGER_REF, newest)
        swift.head()

    after_the_fetch(slow, overtake, whole=True)  # what is gone is no way that leads up
    with pytest.raises(Integrity) as caught:
        slow.head()
    assert caught.value.code == "remote-behind"


def test_what_has_landed_is_remembered_where_a_stopped_process_keeps_the_lock(fleet: Fleet) -> None:
    alice = opened(fleet, fleet.clone("alice"), "alice")
    before = alice.head()
    stopped = opened(fleet, fleet.clone("alice"), "alice", session="stopped").connection.local
    with stopped.lock(Deadline(1)):
        assert alice.claim("t").won
    assert alice.connection.local.told.all() == [(before.seq + 1, fleet.head())]
    assert alice.head(refresh=False) == before


def test_processes_that_fetch_at_once_have_each_a_ref(fleet: Fleet) -> None:
    one = opened(fleet, fleet.clone("alice"), "alice").connection
    other = opened(fleet, fleet.clone("alice"), "alice", session="other").connection
    with one.local.incoming_ref() as first:
        one.replica.fetch(first)
        with other.local.incoming_ref() as second:
            other.replica.fetch(second)
            assert second != first
        with other.local.incoming_ref() as again:
            assert again == second
    with other.local.incoming_ref() as free:
        assert free == first
    assert fleet.git("for-each-ref", "refs/coordledger-incoming", cwd=fleet.clone("alice")) == ""


def test_a_remote_that_went_back_is_noticed_whoever_asks(fleet: Fleet) -> None:
    alice = opened(fleet, fleet.clone("alice"), "alice")
    other = opened(fleet, fleet.clone("alice"), "alice", session="other")
    bob = fleet.ledger("bob")
    before = fleet.head()
    bob.send("one", channel="general")
    known = other.head()
    fleet.git("update-ref", LEDGER_REF, before)
    with pytest.raises(Integrity) as caught:
        alice.head()
    assert caught.value.code == "remote-behind"
    assert other.head(refresh=False) == known


def test_a_fork_that_another_process_has_adopted_is_not_overwritten(fleet: Fleet) -> None:
    """A server that shows two processes two histories."""
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob, before = fleet.ledger("bob"), fleet.head()
    bob.send("one", channel="general")
    one = fleet.head()
    fleet.git("update-ref", LEDGER_REF, before)
    fleet.ledger("alice").submit("of-the-other-history")
    other = fleet.head()
    fleet.git("update-ref", LEDGER_REF, one)
    with opened(fleet, fleet.clone("bob"), "bob") as third:  # a clone that knows neither beyond one
        assert third.head().commit == one
    reset(slow)
    slow.head()

    def overtake() -> None:
        fleet.git("update-ref", LEDGER_REF, other)
        reset(swift)
        swift.head()

    fleet.git("update-ref", LEDGER_REF, one)
    reset(slow)
    after_the_fetch(slow, overtake)
    with pytest.raises(Integrity) as caught:
        slow.head()
    assert caught.value.code == "rewritten"
    assert swift.connection.replica.trusted.commit == other


def reset(ledger: Ledger) -> None:
    ledger.connection.begin()
    ledger.connection.reset()


def test_a_place_that_another_process_is_told_of_meanwhile_is_no_rollback(fleet: Fleet) -> None:
    slow = opened(fleet, fleet.clone("alice"), "alice")
    told = slow.connection.local.told
    fleet.ledger("bob").send("one", channel="general")

    def hear() -> None:
        fleet.ledger("bob").send("two", channel="general")
        told.add(fleet.ledger("bob").head().seq, fleet.head())

    after_the_fetch(slow, hear)
    slow.head()
    assert len(told.all()) == 1  # it is for the next look
    slow.head()
    assert told.all() == []


def test_a_head_that_no_stamp_tells_from_the_older_one_is_not_gone_back_from(fleet: Fleet) -> None:
    """File systems remember a file's time for seconds (NFS), and use its number again."""
    slow = opened(fleet, fleet.clone("alice"), "alice")
    swift = opened(fleet, fleet.clone("alice"), "alice", session="swift")
    bob = fleet.ledger("bob")
    slow.head()
    local = slow.connection.local
    bob.send("one", channel="general")
    newest = swift.head()
    facts = local._trusted_path.stat()
    local._stamp = (facts.st_ino, facts.st_mtime_ns)  # and yet it has the older one in memory
    slow.connection.replica.note_sequenced(says=True)
    assert fleet.ledger("alice").head(refresh=False) == newest
    local._stamp = (facts.st_ino, facts.st_mtime_ns)
    assert slow.head() == newest


@pytest.mark.parametrize("file", ["/dev/full", "a pipe"])
def test_whoever_cannot_write_its_name_into_a_lock_has_it_all_the_same(
    tmp_path: Path, file: str
) -> None:
    path = Path(file)
    if file == "a pipe":
        path = tmp_path / "pipe"
        os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    holder.write(fd, tmp_path)
    assert holder.read(fd)
    os.close(fd)
