"""A client of a server that sequences: one push each, whoever else writes; and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import fsck, second_opinion
from support.fleet import LEDGER_REF

from coordledger.client.combining.sequenced import SequencedPublisher
from coordledger.git.outcome import WON

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    from coordledger.client.publish import Publication

FOR_REF = "refs/for/coordledger/main.answered"


@pytest.fixture
def busy(fleet: Fleet) -> Fleet:
    """Alice and bob, as on two hosts, and a server that sequences."""
    fleet.env["COORDLEDGER_QUEUE"] = "off"
    fleet.enroll("bob")
    fleet.run("hook", "install", fleet.remote, "--sequence", check=0)
    return fleet


@pytest.fixture
def pushed(busy: Fleet) -> Callable[[], list[str]]:
    """The refs that the server was asked to move since the last call."""
    log = busy.root / "pushes"
    log.touch()
    chained = busy.remote / "hooks" / "pre-receive.chained"
    chained.write_text(f"#!/bin/sh\ncat >> '{log}'\n")
    chained.chmod(0o755)

    def refs() -> list[str]:
        found = [line.split(" ")[2] for line in log.read_text().splitlines()]
        log.write_text("")
        return [ref for ref in found if "try" not in ref]

    return refs


def test_it_learns_to_push_where_records_are_sequenced(
    busy: Fleet, pushed: Callable[[], list[str]]
) -> None:
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        bob.head()
        assert alice.claim("a").won
        assert bob.claim("b").won
        pushed()
        landed = [alice.claim("c").claim, bob.claim("d").claim, alice.claim("e").claim]
        assert pushed() == [FOR_REF] * 3
        assert [claim.seq for claim in landed if claim] == [4, 5, 6]
        ids = busy.git("rev-list", "--reverse", LEDGER_REF).split()
        assert [claim.commit for claim in landed if claim] == ids[4:7]
        for ledger in (alice, bob):
            assert ledger.show("e").seq == 6
            assert ledger.complete("c" if ledger is alice else "d").status == "done"
            assert ledger.audit(full=True).problems == ()
    assert second_opinion(busy.remote) == 9
    fsck(busy.remote, busy.env)


def test_a_push_that_is_repeated_is_told_its_place(
    busy: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answer was lost. The server stops the second push, and says where the record is."""
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        alice.claim("a")
        alice.claim("b")
        publish = SequencedPublisher.publish

        def twice(*asked: Any) -> Publication:
            monkeypatch.undo()
            assert publish(*asked).push.outcome == WON
            assert bob.claim("between").won
            return publish(*asked)

        monkeypatch.setattr(SequencedPublisher, "publish", twice)
        won = alice.claim("c")
        assert won.won
        assert won.claim
        assert (won.claim.seq, won.claim.epoch) == (4, 1)
        assert alice.head().seq == 5


def test_no_is_said_on_the_newest_state(busy: Fleet) -> None:
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        alice.claim("a")
        bob.claim("b")
        alice.claim("wanted")  # which bob has not seen
        lost = bob.claim("wanted")
        assert (lost.outcome, lost.code) == ("lost", "held")
        assert lost.claim
        assert lost.claim.agent == "alice"


def test_a_batch_is_sequenced_as_one(busy: Fleet, pushed: Callable[[], list[str]]) -> None:
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        alice.claim("a")
        bob.claim("b")
        pushed()
        with alice.batch() as batch:
            for number in range(20):
                batch.submit(f"t{number}")
                batch.claim(f"t{number}")
        assert [one.outcome for one in batch.outcomes] == ["landed"] * 40
        assert pushed() == [FOR_REF]
        assert bob.show("t19").seq == batch.outcomes[-1].seq
        assert alice.show("t19").commit == batch.outcomes[-1].commit


def test_a_server_that_is_older_than_the_ref_is_written_to_all_the_same(
    busy: Fleet, pushed: Callable[[], list[str]]
) -> None:
    chained = busy.remote / "hooks/pre-receive.chained"  # which keeps the log
    refusal = "coordledger: refused -: bad-ref: no ledger has this name"
    logging = chained.read_text().strip().replace("cat >>", "tee -a")
    refusing = f"! grep -q answered || {{ echo '{refusal}' >&2; exit 1; }}"
    chained.write_text(f"{logging} | {{ {refusing}; }}\n")
    with busy.ledger("alice") as alice:
        alice.claim("a")
        pushed()
        assert alice.claim("b").won
    assert pushed() == [FOR_REF, LEDGER_REF]


def test_when_the_server_stops_sequencing_it_goes_back(
    busy: Fleet, pushed: Callable[[], list[str]]
) -> None:
    with busy.ledger("alice") as alice:
        alice.claim("a")
        busy.run("hook", "install", busy.remote, "--no-sequence", check=0)
        pushed()
        assert alice.claim("b").won
        assert alice.claim("c").won
    assert pushed() == [FOR_REF, LEDGER_REF, LEDGER_REF]
    assert "refs/for" not in busy.git("for-each-ref")


def test_a_server_without_any_hook_is_not_believed_to_have_landed_it(busy: Fleet) -> None:
    """It makes a ref of what was to be sequenced, and says ok."""
    with busy.ledger("alice") as alice:
        alice.claim("a")
        for name in ("pre-receive", "proc-receive"):
            (busy.remote / "hooks" / name).unlink()
        busy.git("config", "--unset-all", "receive.procReceiveRefs")
        assert alice.claim("b").won
        assert busy.head() == alice.show("b").commit
    assert second_opinion(busy.remote) == 4


def test_a_push_to_the_ledgers_ref_has_landed_nowhere_else(fleet: Fleet) -> None:
    """Whatever a hook of the project's prints."""
    hook = fleet.remote / "hooks" / "post-receive"
    line = f"coordledger: landed $new 99 {'f' * 40}"
    hook.write_text(f'#!/bin/sh\nwhile read -r old new ref\ndo echo "{line}"\ndone\n')
    hook.chmod(0o755)
    with fleet.ledger("alice") as alice:
        claim = alice.claim("a").claim
        assert claim
        assert (claim.seq, claim.commit) == (1, fleet.head())
        assert alice.head(refresh=False).commit == fleet.head()


def test_a_ref_that_another_client_has_left_there_keeps_nobody_back(busy: Fleet) -> None:
    """As where the hooks were lost: the first client's push made it, and no other's can move it."""
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        alice.claim("a")
        bob.claim("b")
        for name in ("pre-receive", "proc-receive"):
            (busy.remote / "hooks" / name).unlink()
        busy.git("config", "--unset-all", "receive.procReceiveRefs")
        assert alice.claim("c").won
        assert FOR_REF in busy.git("for-each-ref")
        assert bob.claim("d").won
        assert alice.claim("e").won
    assert second_opinion(busy.remote) == 7


def test_what_git_itself_pushes_is_sequenced_too(
    busy: Fleet, pushed: Callable[[], list[str]]
) -> None:
    """Any protocol.* setting has it pushed by git, which prints the name that the ref got."""
    git = ("-c", "user.name=x")
    busy.git(*git, "config", "protocol.version", "2", cwd=busy.clone("alice"))
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        assert not alice.connection.settings.remote.plain
        alice.claim("a")
        bob.claim("b")
        pushed()
        won = alice.claim("c")
        assert won.won
        assert pushed() == [FOR_REF]
        assert won.claim
        assert won.claim.commit == busy.head()


@pytest.mark.parametrize("by_git", [False, True], ids=["direct", "by git"])
def test_who_is_behind_sends_his_record_and_nothing_else(busy: Fleet, *, by_git: bool) -> None:
    """git would send all of history: it does not know the server's head, and so no common one."""
    if by_git:
        busy.git("config", "protocol.version", "2", cwd=busy.clone("alice"))
    with busy.ledger("alice") as alice, busy.ledger("bob") as bob:
        alice.claim("a")
        bob.claim("b")
        busy.git("config", "receive.unpackLimit", "3")  # three objects would stay a pack
        won = alice.claim("c").claim
        assert won
        assert won.commit == busy.head()
        with alice.batch() as batch:
            batch.submit("d")
        assert [one.outcome for one in batch.outcomes] == ["landed"]
    assert not list(busy.remote.glob("objects/pack/*.pack"))
    assert second_opinion(busy.remote) == 6
    fsck(busy.remote, busy.env)


def test_the_copy_holds_what_landed_as_it_was_planned(busy: Fleet) -> None:
    """In an envelope it was sent; the copy moves on to the record's own commit."""
    with busy.ledger("alice") as alice:
        alice.claim("a")
        won = alice.claim("b").claim
        assert won
        assert won.commit == busy.head()
        clone = busy.clone("alice")
        assert alice.head().commit == won.commit
        assert "tasks/" in busy.git("ls-tree", "-r", won.commit, cwd=clone)
        assert won.commit in busy.git("rev-parse", LEDGER_REF, cwd=clone)


def test_installing_the_hook_removes_what_pushes_left_while_there_was_none(busy: Fleet) -> None:
    with busy.ledger("alice") as alice:
        alice.claim("a")
        for name in ("pre-receive", "proc-receive"):
            (busy.remote / "hooks" / name).unlink()
        busy.git("config", "--unset-all", "receive.procReceiveRefs")
        alice.claim("b")
        assert FOR_REF in busy.git("for-each-ref")
        ran = busy.run("hook", "install", busy.remote, "--sequence", check=0)
        assert f"removed {FOR_REF}" in ran.stdout
        assert alice.claim("c").won
        assert alice.claim("d").won
    assert FOR_REF not in busy.git("for-each-ref")
