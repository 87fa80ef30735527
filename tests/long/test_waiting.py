"""How long a wait takes, what ends it, and how often the remote is asked meanwhile."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from coordledger import Failed, Ledger, Lost
from coordledger.client import waiting
from coordledger.client.claims import ClaimResult
from coordledger.client.combining.looks import Look
from coordledger.client.waiting import MOST_WAIT, PROMPT, RARE, until_changed, until_won
from coordledger.git import refs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet
    from support.hookless_host import HooklessHost

LOST, WON = ClaimResult("lost", (), "held"), ClaimResult("won", ())
LONG = timedelta(minutes=2)


class World:
    """Clocks that only sleeping moves, a remote whose head moves when it is told to, and tasks
    whose leases end.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slept, self.looks = 1_000_000, list[float](), 0
        self.passed = 0.0
        self.moves_at: list[int] = []  # looks
        self.away_at: list[int] = []
        self.stamps: Iterator[object] | None = None  # of the ref's files, at each glance
        self.leases: list[int] = []
        self.clock = lambda: self.now
        self.begin = lambda: None
        state = SimpleNamespace(skew=30_000, claimable_at=lambda task: task["until"])
        position = SimpleNamespace(state=state)
        self.replica = SimpleNamespace(has_seen=lambda head: not head, position=lambda: position)
        self.copy = SimpleNamespace(commit="old")
        self.local = SimpleNamespace(remote_ref="refs/x", trusted=self.copy)
        self.remote = SimpleNamespace(
            stamp=lambda ref: next(self.stamps) if self.stamps else None  # type: ignore[arg-type]
        )
        clock = SimpleNamespace(
            sleep=self._sleep,
            monotonic=lambda: self.passed,
            monotonic_ns=lambda: round(self.passed * 1e9),
        )
        monkeypatch.setattr(waiting, "time", clock)
        monkeypatch.setattr(waiting.lines, "claimable", lambda *_: self.claimed())

    def claimed(self) -> list[dict[str, Any]]:
        facts = {"status": "claimed", "not_before": None, "offer": None}
        return [facts | {"until": at} for at in self.leases]

    def _sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.passed += seconds
        self.now += round(1000 * seconds)

    def look(self, after: int) -> Look:
        self.looks += 1
        at = round(self.passed * 1e9)
        if self.looks in self.away_at:
            return Look(at, "new", answered=False)
        return Look(at, "new" if self.looks in self.moves_at else "")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    return World(monkeypatch)


def attempts(*results: ClaimResult) -> Callable[[], ClaimResult]:
    return iter(results).__next__


# -- the loop


def test_a_wait_ends_when_the_remote_has_moved(world: Any) -> None:
    world.moves_at = [3]
    until_changed(world, world.now + 60_000, "old")
    assert world.looks == 3
    assert world.slept == pytest.approx([PROMPT] * 3)


def test_no_look_in_the_first_minute_is_more_than_a_second_after_another(world: Any) -> None:
    until_changed(world, world.now + 60_000, "old")
    assert max(world.slept) <= 1.0
    assert world.looks <= 60 / PROMPT


def test_looks_become_rarer_and_the_wait_ends_in_time(world: Any) -> None:
    end = world.now + 3_600_000
    until_changed(world, end, "old")
    assert abs(world.now - end) <= 5
    assert max(world.slept) == pytest.approx(RARE)
    assert world.looks < 3600 / RARE + 150


def test_a_remote_that_is_away_for_a_moment_ends_no_wait(world: Any) -> None:
    world.away_at, world.moves_at = [1, 2], [3]
    until_changed(world, world.now + 60_000, "old")
    assert world.looks == 3


def test_a_wait_that_is_over_sleeps_no_more(world: Any) -> None:
    until_changed(world, world.now, "old")
    assert (world.slept, world.looks) == ([], 0)


def test_a_ref_whose_files_are_watched_is_asked_for_when_they_change(world: Any) -> None:
    world.stamps = iter([1] * 20 + [2] * 100)
    world.moves_at = [2]
    until_changed(world, world.now + 60_000, "old")
    assert (world.looks, len(world.slept)) == (2, 20)
    assert set(world.slept) == {waiting.GLANCE}


def test_files_that_do_not_change_are_not_believed_for_long(world: Any) -> None:
    world.stamps = iter(lambda: 1, None)
    until_changed(world, world.now + 100_000, "old")
    assert world.looks == 4


def test_a_watched_remote_that_did_not_answer_is_asked_again_soon(world: Any) -> None:
    world.stamps = iter(lambda: 1, None)
    world.away_at, world.moves_at = [1], [2]
    until_changed(world, world.now + 60_000, "old")
    assert world.passed <= 1.0


def test_a_wait_ends_when_another_process_has_brought_the_copy_on(world: Any) -> None:
    """Then the remote's head is the copy's, but not the one that was read before the wait."""
    until_changed(world, world.now + 60_000, "older")
    assert (world.slept, world.looks) == ([], 0)


def test_a_claim_is_attempted_again_when_a_lease_ends(world: Any) -> None:
    world.leases = [world.now - 5, world.now + 2_000, world.now + 9_000]
    until_won(world, world, attempts(LOST, WON), world.now + 60_000)
    assert world.now == 1_002_000


def test_a_claim_that_is_too_early_waits_for_the_servers_clock(world: Any) -> None:
    early = ClaimResult("lost", (), "too-early")
    until_won(world, world, attempts(early, WON), world.now + 60_000)
    assert world.now == pytest.approx(1_030_000, abs=5)


def test_without_any_lease_only_the_remote_or_the_end_is_waited_for(world: Any) -> None:
    result = until_won(world, world, attempts(LOST, LOST), world.now + 20_000)
    assert (result, world.now) == (LOST, pytest.approx(1_020_000, abs=5))
    assert MOST_WAIT > 20_000


@pytest.mark.parametrize("code", ["done", "already-yours", "wrong-epoch", "not-holder"])
def test_what_no_wait_can_change_is_told_at_once(world: Any, code: str) -> None:
    lost = ClaimResult("lost", (), code)
    assert until_won(world, world, attempts(lost), world.now + 60_000) is lost
    assert world.slept == []


# -- for a task


@pytest.fixture
def two(founded: Callable[..., Fleet]) -> tuple[Ledger, Ledger]:
    fleet = founded("bob", max_skew=1)
    return fleet.ledger("alice"), fleet.ledger("bob")


def test_what_is_so_already_is_told_without_waiting(two: tuple[Ledger, Ledger]) -> None:
    alice, _ = two
    alice.submit("free")
    for task in ("claimed", "done"):
        alice.claim(task)
    alice.complete("done")
    for task in ("free", "claimed", "done"):
        [found] = alice.wait(task, until=task, timeout=timedelta(0))
        assert found.task == task
    assert [one.task for one in alice.wait("done", "done", timeout=timedelta(0))] == ["done"] * 2


def test_what_cannot_become_so_is_told_at_once(two: tuple[Ledger, Ledger]) -> None:
    alice, _ = two
    alice.submit("kept")  # its line stays: it was held once
    alice.claim("kept")
    alice.release("kept")
    alice.withdraw("kept")
    alice.claim("done")
    alice.complete("done")
    wrong = [("kept", "done"), ("kept", "free"), ("kept", "claimed"), ("done", "free")]
    wrong += [("done", "claimed"), ("absent", "done"), ("absent", "free")]
    for task, until in wrong:
        with pytest.raises(Lost) as lost:
            alice.wait(task, until=until, timeout=LONG)
        assert lost.value.code == "cannot-become", (task, until)


def test_a_task_waits_for_others_until_it_is_free(two: tuple[Ledger, Ledger]) -> None:
    alice, _ = two
    alice.submit("a")
    alice.submit("b", after=["a"])
    with pytest.raises(Failed, match="b: not free after 0 s") as vain:
        alice.wait("a", "b", until="free", timeout=timedelta(0))
    assert (vain.value.code, vain.value.exit_code) == ("waited-in-vain", 1)


def test_the_end_of_a_lease_makes_a_task_free(two: tuple[Ledger, Ledger]) -> None:
    alice, bob = two
    bob.claim("t", ttl=timedelta(seconds=1))
    [found] = alice.wait("t", until="free", timeout=LONG)
    assert found.status == "expired"
    assert alice.claim("t", wait=LONG).won


@pytest.mark.parametrize("what", ["unknown", ""])
def test_nothing_else_is_waited_for(two: tuple[Ledger, Ledger], what: str) -> None:
    with pytest.raises(Failed) as failed:
        two[0].wait("t", until=what)
    assert failed.value.code == "bad-value"
    with pytest.raises(Failed):
        two[0].wait()


# -- with real remotes


class Waiters:
    """Ledgers that wait, each in a thread, and what comes of it."""

    def __init__(self, ledgers: list[Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting, self.found = threading.Semaphore(0), list[Any]()
        real = waiting.until_changed

        def told(connection: Any, until: int, seen: str, *stop: Any) -> None:
            self.waiting.release()
            real(connection, until, seen, *stop)

        monkeypatch.setattr(waiting, "until_changed", told)
        self._threads = [threading.Thread(target=self._wait, args=(one,)) for one in ledgers]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self.waiting.acquire(timeout=60)

    def _wait(self, ledger: Ledger) -> None:
        self.found += ledger.wait("t", timeout=LONG)

    def end(self) -> None:
        over = time.monotonic() + LONG.total_seconds() / 2  # a wait that missed it ends later
        for thread in self._threads:
            thread.join(timeout=max(0.0, over - time.monotonic()))
        assert [one.status for one in self.found] == ["done"] * len(self._threads)


def test_a_folder_is_watched_and_not_asked(
    founded: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what looks in time nor packed refs end the wait: the record does."""
    for seconds in ("UNWATCHED", "PROMPT", "RARE"):
        monkeypatch.setattr(waiting, seconds, 1e9)
    fleet = founded("bob")
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    bob.claim("t")
    looks: list[int] = []
    look = alice.connection.look
    alice.connection.look = lambda after: looks.append(after) or look(after)  # type: ignore[method-assign, func-returns-value]
    waiters = Waiters([alice], monkeypatch)
    fleet.git("pack-refs", "--all", cwd=fleet.remote)
    bob.complete("t")
    waiters.end()
    assert len(looks) <= 4  # at the beginning, packed (the file comes, the other one goes), moved


def test_many_that_wait_on_one_host_ask_as_often_as_one(
    host: HooklessHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho >> {asked}\nshift\nexec sh -c "$*"\n')
    host.found()
    writer = host.ledger("alice")
    writer.claim("t")
    ledgers = [Ledger.open(host.root / "alice", "alice", environ=host.env) for _ in range(20)]
    waiters = Waiters(ledgers, monkeypatch)
    before, begun = asked.stat().st_size, time.monotonic()
    while asked.stat().st_size < before + 4:
        time.sleep(0.05)
    took, count = time.monotonic() - begun, asked.stat().st_size - before
    writer.complete("t")
    waiters.end()
    assert count <= took / PROMPT + 2


# -- cancelling


class Cancel(threading.Event):
    """`awaited` is set when a wait sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.awaited.set()
        return super().wait(timeout)


@pytest.mark.parametrize("remote", ["a folder", "elsewhere"])
@pytest.mark.parametrize("what", ["claim", "claim_next", "wait", "inbox"])
def test_a_wait_that_is_cancelled_ends_at_once_as_if_its_time_were_over(
    host: HooklessHost, monkeypatch: pytest.MonkeyPatch, what: str, remote: str
) -> None:
    """Both a ref that is watched and one that is asked for."""
    host.found()
    holder = host.ledger("alice")
    holder.claim("t")
    seq = holder.head().seq
    if remote == "elsewhere":
        monkeypatch.setattr(waiting, "PROMPT", 1e9)
        monkeypatch.setattr(waiting, "RARE", 1e9)
    else:
        monkeypatch.setattr("coordledger.git.remote.Remote.stamp", lambda *_: "same")
    cancel, ended = Cancel(), list[Any]()
    ledger = Ledger.open(host.root / "alice", "alice", session="two", environ=host.env)
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: ledger.claim("t", wait=LONG, cancel=cancel),
        "claim_next": lambda: ledger.claim_next(wait=LONG, cancel=cancel),
        "wait": lambda: ledger.wait("t", timeout=LONG, cancel=cancel),
        "inbox": lambda: ledger.inbox(wait=LONG, cancel=cancel),
    }

    def call() -> None:
        try:
            ended.append(calls[what]())
        except Failed as failed:
            ended.append(failed.code)

    thread = threading.Thread(target=call)
    thread.start()
    assert cancel.awaited.wait(60)
    cancel.set()
    thread.join(timeout=LONG.total_seconds() / 2)  # one that missed it ends later
    [found] = ended
    if what == "wait":
        assert found == "waited-in-vain"
    else:
        said = {"claim": "held", "claim_next": "nothing-to-claim"}
        assert found == [] if what == "inbox" else found.code == said[what]
    assert holder.head().seq == seq
    ended.clear()
    call()  # once it is set, nothing is waited for
    assert ended == [found] or ended[0].code == found.code


def test_of_two_ledgers_in_asyncio_one_waits_on_after_the_other_is_cancelled(
    founded: Callable[..., Fleet],
) -> None:
    """As docs/python.md has it: its code runs here."""
    page = Path(__file__).resolve().parents[2] / "docs" / "python.md"
    [code] = re.findall(
        r"^```python\n(import asyncio\n.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    documented: dict[str, Any] = {}
    exec(code, documented)
    fleet = founded("bob", "carol")
    clones = {agent: fleet.clone(agent) for agent in ("alice", "bob", "carol")}

    async def work() -> None:
        alice, bob, carol = (
            documented["InThread"](path=clones[agent], agent=agent) for agent in clones
        )
        await alice.call("claim", "t")
        waits = [asyncio.create_task(one.claim("t", wait=LONG)) for one in (bob, carol)]
        await asyncio.sleep(0.5)
        waits[0].cancel()
        done, _ = await asyncio.wait([waits[0]], timeout=LONG.total_seconds() / 2)
        assert done
        assert waits[0].cancelled()
        assert not waits[1].done()
        await alice.call("complete", "t")
        await alice.call("submit", "next")
        assert (await waits[1]).code == "done"
        won = asyncio.create_task(carol.claim("next", wait=LONG))
        await asyncio.sleep(0)  # it is at its attempt
        await asyncio.sleep(0)
        won.cancel()
        await asyncio.wait([won])
        assert won.cancelled()
        assert (await bob.call("show", "next")).status == "open"  # given back, or never claimed
        for one in (alice, bob, carol):
            await one.close()

    asyncio.run(work())


# -- the files of a ref


@pytest.mark.parametrize("bare", [True, False])
def test_a_stamp_is_another_whenever_a_ref_moves(tmp_path: Path, *, bare: bool) -> None:
    kept = tmp_path if bare else tmp_path / ".git"
    assert refs.stamp(str(tmp_path), "refs/x/main") is None
    seen: set[object] = set()
    for name in ("refs/x/main", "packed-refs", "reftable/tables.list"):
        for text in ("one", "two", "two"):  # replaced by a file that says the same: it may have
            (kept / name).parent.mkdir(parents=True, exist_ok=True)  # been another in between
            (kept / "new").write_text(text)
            (kept / "new").rename(kept / name)
            stamp = refs.stamp(str(tmp_path), "refs/x/main")
            assert stamp not in seen
            seen.add(stamp)
    (kept / "refs/x/main").unlink()
    assert refs.stamp(str(tmp_path), "refs/x/main") not in seen
