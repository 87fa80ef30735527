"""The answers that a leader gives to those that wait, for every end of its pushes.

Rules: the slots are real files and pipes, the remote is in memory. An owner is answered with
the remote's word about its very records, or told to look or to push by itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.memory_remote import (
    DROPPED_UNANSWERED,
    HONEST,
    LANDED_UNANSWERED,
    LOST_FOR_NOTHING,
    NOT_SENT,
    STALE_LOCK,
    Ending,
    MemoryClient,
    MemoryServer,
    after,
    failing,
    refused,
)

from coordledger.client.combining import slots
from coordledger.client.combining.leader import LOSSES, Leader
from coordledger.client.combining.line import _request
from coordledger.client.combining.sequenced import SequencedPublisher
from coordledger.client.publish import DirectPublisher
from coordledger.deadline import Deadline
from coordledger.errors import error
from coordledger.format import records
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, UNSENT, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.format.chain import Proposal

    Plan = Callable[[MemoryServer], list[Ending]]


class Owner:
    """A process that waits with one record."""

    def __init__(self, folder: Path, proposal: Proposal) -> None:
        self.slot = folder / f"{proposal.commit.record['op']}-1"
        self.oid, self.op = proposal.commit.oid, proposal.commit.record["op"]
        self._wakeup = slots.open_wakeup(self.slot)
        slots.write(self.slot, ".json", _request([proposal]))

    @property
    def answer(self) -> Push | None:
        return slots.read_answer(self.slot)

    @property
    def outcome(self) -> str:
        return self.answer.outcome if self.answer else "none"

    def die(self) -> None:
        os.close(self._wakeup)


class ServedLine:
    """A server, a line's folder, and a leader that serves it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.server, self.folder = MemoryServer("bob"), folder
        self.copy = MemoryClient(self.server, folder / "copy.git", env)
        publisher = SequencedPublisher(DirectPublisher())
        self.leader = Leader(folder, lambda *_: self.copy.replica, self.copy.now, publisher)
        self.signs_of_life = 0

    def propose(self, kind: str = "send", **given: Any) -> Proposal:
        ledger = self.server.ledger
        given = given or {"channel": "x"}
        return ledger.chain.propose(
            ledger.sign(records.check(ledger.record("alice", kind, **given)))
        )

    def owner(self, kind: str = "send", **given: Any) -> Owner:
        return Owner(self.folder, self.propose(kind, **given))

    def serve(self) -> None:
        def live() -> None:
            self.signs_of_life += 1

        self.leader.serve(Deadline(20), live)
        self.server.plan.clear()

    def places(self) -> dict[str, tuple[int, str]]:
        """Where each intent has landed."""
        log = enumerate(zip(self.server.ops(), self.server.ledger.log, strict=True))
        return {op: (seq, oid) for seq, (op, (oid, _)) in log}


@pytest.fixture
def line(tmp_path: Path, env: dict[str, str]) -> Iterator[ServedLine]:
    folder = tmp_path / "line"
    folder.mkdir()
    line = ServedLine(folder, env)
    yield line
    line.leader.close()


class Row(NamedTuple):
    """How the pushes end; the answers to two owners then, and with how many pushes."""

    plan: Plan
    outcomes: list[str]
    pushes: int


def another(server: MemoryServer) -> Ending:
    return after(lambda: server.write("bob", "claim", tasks=["another"]))


ROWS: dict[str, Row] = {
    "won": Row(lambda s: [HONEST], [WON, WON], 1),
    "lost once": Row(lambda s: [another(s)], [WON, WON], 2),
    "lost again and again": Row(lambda s: [LOST_FOR_NOTHING] * 99, [LOST, LOST], LOSSES),
    "a lock that stays": Row(lambda s: [STALE_LOCK], [LOST, LOST], 1),
    "no answer, and it landed": Row(lambda s: [LANDED_UNANSWERED], [UNKNOWN, UNKNOWN], 1),
    "no answer, and it did not land": Row(lambda s: [DROPPED_UNANSWERED], [UNKNOWN, UNKNOWN], 1),
    "one is blamed": Row(lambda s: [refused("clock-skew", blames=1)], [WON, REFUSED], 2),
    "none is blamed: each for itself": Row(lambda s: [refused("busy")], [UNSENT, UNSENT], 1),
    "not sent": Row(lambda s: [NOT_SENT], [UNSENT, UNSENT], 0),
    "the disk fails": Row(lambda s: [failing(OSError(5, "sick"))], [UNSENT, UNSENT], 0),
    "the time is over": Row(
        lambda s: [failing(error("timeout", seconds="1"))], [UNSENT, UNSENT], 0
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_two_owners_are_answered_as_their_push_ends(line: ServedLine, row: Row) -> None:
    owners = [line.owner(), line.owner()]
    line.server.plan.extend(row.plan(line.server))
    line.serve()
    assert [one.outcome for one in owners] == row.outcomes
    assert len(line.server.pushes) == row.pushes
    for one in owners:
        if one.answer and one.outcome == WON:
            assert one.answer.landed == {one.oid: line.places()[one.op]}
            assert one.answer.vouches == line.server.vouches
        if one.answer and one.outcome == REFUSED:
            assert one.oid.startswith(one.answer.blamed)
    assert line.signs_of_life >= 1


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_of_what_an_earlier_leader_had_taken_only_landed_is_certain(
    line: ServedLine, row: Row
) -> None:
    owners = [line.owner(), line.owner()]
    for one in owners:
        one.slot.with_suffix(".json").rename(one.slot.with_suffix(".taken"))
    line.server.plan.extend(row.plan(line.server))
    line.serve()
    expected = [WON if outcome == WON else UNKNOWN for outcome in row.outcomes]
    assert [one.outcome for one in owners] == expected


def test_a_refusal_of_a_single_record_is_its_own(line: ServedLine) -> None:
    owner = line.owner()
    line.server.plan.append(refused("busy", "wait"))
    line.serve()
    assert owner.answer == Push(REFUSED, "wait", "busy")


def test_a_record_that_has_landed_is_not_sent_again(line: ServedLine) -> None:
    owner = line.owner()
    line.serve()
    line.copy.replica.refresh()
    [place] = owner.answer.landed.values()  # type: ignore[union-attr]
    owner.slot.with_suffix(".answer").rename(owner.slot.with_suffix(".old"))
    taken = owner.slot.with_suffix(".taken")
    assert taken.exists()
    line.serve()
    assert owner.answer == Push(WON, landed={owner.oid: place})
    assert len(line.server.pushes) == 1
    owner.slot.with_suffix(".old").unlink()


def test_a_record_whose_intent_has_landed_otherwise_is_lost(line: ServedLine) -> None:
    owner = line.owner()
    line.server.write("alice", "void", op=owner.op)
    line.copy.replica.refresh()
    line.serve()
    assert owner.answer == Push(LOST, "its intent is in the chain already")
    assert line.server.pushes == []


def test_a_record_that_waited_for_too_long_is_signed_again_by_its_owner(line: ServedLine) -> None:
    owner = line.owner()
    line.server.ledger.now += line.server.ledger.state.skew
    line.serve()
    assert owner.answer == Push(LOST, "it waited for too long")
    assert line.server.pushes == []


def test_of_two_that_want_the_same_task_one_is_told_to_look(line: ServedLine) -> None:
    first, second = (line.owner("claim", tasks=["t"]) for _ in range(2))
    line.serve()
    assert sorted([first.outcome, second.outcome]) == [LOST, WON]
    assert len(line.server.pushes) == 1


def test_a_record_that_did_not_fit_is_tried_again_where_the_one_before_it_is_refused(
    line: ServedLine,
) -> None:
    first, second = (line.owner("claim", tasks=["t"]) for _ in range(2))
    line.server.plan.append(refused("clock-skew", blames=0))
    line.serve()
    assert [first.outcome, second.outcome] == [REFUSED, WON]


def test_the_record_of_an_owner_that_has_died_is_removed_and_not_sent(line: ServedLine) -> None:
    dead, living = line.owner(), line.owner()
    dead.die()
    line.serve()
    assert living.outcome == WON
    assert [len(push.records) for push in line.server.pushes] == [1]
    assert not slots.exists(dead.slot)
    assert dead.op not in line.places()


def test_an_owner_that_dies_during_a_lost_push_is_left_out_of_the_next(line: ServedLine) -> None:
    dying, living = line.owner(), line.owner()

    def die() -> None:
        line.server.write("bob", "claim", tasks=["another"])
        dying.die()

    line.server.plan.append(after(die))
    line.serve()
    assert living.outcome == WON
    assert [len(push.records) for push in line.server.pushes] == [2, 1]


def test_a_base_that_the_copy_has_not_seen_makes_it_catch_up(line: ServedLine) -> None:
    line.copy.replica.refresh()
    line.server.write("bob", "claim", tasks=["another"])
    owner = line.owner()  # signed on bob's claim
    line.serve()
    assert owner.outcome == WON
    assert len(line.server.pushes) == 1


def test_a_server_that_sequences_tells_each_owner_its_own_place(line: ServedLine) -> None:
    line.server.sequences = True
    line.owner()
    line.serve()  # and learns it
    owners = [line.owner(), line.owner()]
    line.server.write("bob", "claim", tasks=["another"])  # which the copy has not seen
    line.serve()
    assert [one.answer.landed for one in owners] == [  # type: ignore[union-attr]
        {one.oid: line.places()[one.op]} for one in owners
    ]
    assert len(line.server.pushes) == 2
