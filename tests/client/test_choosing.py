"""Which task comes next, and which ones a list shows, in a ledger in memory."""

from __future__ import annotations

from typing import Any

import pytest
from support.memory_ledger import LEASE, SECOND, SKEW, MemoryLedger

from coordledger.client.choosing import Choice, Wanted, in_order, is_blocked, is_stuck
from coordledger.errors import CoordledgerError, Lost
from coordledger.format import timestamps


@pytest.fixture
def fleet() -> MemoryLedger:
    return MemoryLedger("bob", "carol")


class Chooser:
    """What bob would be given next."""

    def __init__(self, fleet: MemoryLedger) -> None:
        self.fleet = fleet

    def make(self, **given: Any) -> Choice:
        most = given.pop("max_attempts", None)
        return Choice(lambda state: iter(in_order(state.tasks(), "bob")), Wanted(**given), most)

    def next(self, at: int | None = None, **given: Any) -> str:
        try:
            [task] = self.make(**given).make(self.fleet.state, at or self.fleet.now)
        except CoordledgerError as fault:
            return f"!{fault.code}"
        return task


@pytest.fixture
def chooser(fleet: MemoryLedger) -> Chooser:
    return Chooser(fleet)


def test_it_is_the_most_urgent_that_waits_for_nothing(
    fleet: MemoryLedger, chooser: Chooser
) -> None:
    assert chooser.next() == "!nothing-to-claim"
    fleet.put("bob", "submit", task="first")
    fleet.put("bob", "submit", task="second")
    fleet.put("bob", "submit", task="urgent", priority=9, after=["first"])
    assert chooser.next() == "first"
    state = chooser.fleet.state
    assert [task["task"] for task in state.tasks() if is_blocked(state, task)] == ["urgent"]
    fleet.put("carol", "claim", tasks=["first"])
    fleet.put("carol", "complete", task="first")
    assert chooser.next() == "urgent"


def test_it_may_be_one_whose_lease_is_over_for_every_clock(
    fleet: MemoryLedger, chooser: Chooser
) -> None:
    fleet.put("carol", "claim", tasks=["t"])
    state = chooser.fleet.state
    free = state.claimable_at(state.task("t") or {})
    for at in (free - SKEW - 1, free - SKEW, free - 1):
        assert chooser.next(at) == "!nothing-to-claim"
    assert chooser.next(free) == "t"


def test_it_has_all_the_labels_or_one_of_them(fleet: MemoryLedger, chooser: Chooser) -> None:
    for task, labels in (("none", []), ("a", ["a"]), ("ab", ["a", "b"])):
        fleet.put("bob", "submit", task=task, labels=labels)
    assert chooser.next() == "none"
    assert chooser.next(labels=["a"]) == "a"
    assert chooser.next(labels=["a", "b"]) == "ab"
    assert chooser.next(labels=["b", "a"], any_label=True) == "a"
    assert chooser.next(labels=["c"]) == "!nothing-to-claim"


def test_it_is_none_before_its_time_nor_one_that_is_offered_to_somebody(
    fleet: MemoryLedger, chooser: Chooser
) -> None:
    later = timestamps.show(fleet.now + 600 * SECOND)
    fleet.put("bob", "submit", task="later", not_before=later)
    fleet.put("carol", "claim", tasks=["offered"])
    fleet.put("carol", "handoff", task="offered", to="bob")
    assert chooser.next() == "!nothing-to-claim"
    assert chooser.next(timestamps.parse(later)) == "later"


def test_what_i_have_given_back_comes_after_what_others_have(
    fleet: MemoryLedger, chooser: Chooser
) -> None:
    for task, priority in (("mine", 9), ("hers", 1)):
        fleet.put("alice", "submit", task=task, priority=priority)
    for agent, task in (("bob", "mine"), ("carol", "hers")):
        fleet.put(agent, "claim", tasks=[task])
        fleet.put(agent, "release", task=task)
    assert chooser.next() == "hers"
    fleet.put("carol", "claim", tasks=["hers"])
    assert chooser.next() == "mine"


def test_what_was_claimed_in_vain_too_often_is_left_out_and_counted(
    fleet: MemoryLedger, chooser: Chooser
) -> None:
    fleet.put("alice", "submit", task="t")
    fleet.put("alice", "policy", set={"max_attempts": 2})
    for _ in range(2):
        assert chooser.next() == "t"
        fleet.put("carol", "claim", tasks=["t"])
        fleet.put("carol", "release", task="t", reason="flaky")
    assert chooser.next(max_attempts=3) == "t"
    with pytest.raises(Lost, match="but 1 that 2 attempts or more could not end"):
        chooser.make().make(chooser.fleet.state, chooser.fleet.now)
    state = chooser.fleet.state
    line = state.task("t") or {}
    assert is_stuck(state, line, fleet.now)
    fleet.put("bob", "claim", tasks=["t"])
    state = chooser.fleet.state
    line = state.task("t") or {}
    assert not is_stuck(state, line, fleet.now)
    assert is_stuck(state, line, fleet.now + LEASE + SKEW)


@pytest.mark.parametrize("code", ["too-early", "not-yet", "offered"])
def test_what_the_servers_clock_refuses_is_passed_over_for_a_second(
    fleet: MemoryLedger, chooser: Chooser, code: str
) -> None:
    fleet.put("alice", "submit", task="first")
    fleet.put("alice", "submit", task="second")
    choice, state, now = chooser.make(), chooser.fleet.state, chooser.fleet.now
    lost = Lost(code, "", "")
    assert choice.make(state, now) == ["first"]
    assert choice.is_refused(lost)
    assert choice.make(state, now) == ["second"]
    assert choice.is_refused(lost)
    with pytest.raises(Lost) as caught:
        choice.make(state, now)
    assert caught.value is lost
    assert choice.make(state, now + 1000) == ["first"]


def test_paths_that_are_reserved_are_so_whatever_the_task(chooser: Chooser) -> None:
    assert not chooser.make().is_refused(Lost("reserved", "", ""))


def test_a_list_is_narrowed_down_by_each_thing_that_is_said(
    fleet: MemoryLedger, chooser: Chooser
) -> None:
    fleet.put("bob", "submit", task="whole", labels=["a"])
    fleet.put("bob", "submit", task="part", parent="whole", after=["whole"], labels=["a", "b"])
    fleet.put("carol", "claim", tasks=["whole"])

    def found(**wanted: Any) -> set[str]:
        state = chooser.fleet.state
        fits = Wanted(**wanted).fits
        return {task["task"] for task in state.tasks() if fits(state, task, fleet.now)}

    assert found() == {"whole", "part"}
    assert found(parent="whole") == found(blocked=True) == found(statuses=["open"]) == {"part"}
    assert found(agent="carol") == {"whole"}
    assert found(labels=["b", "c"]) == set()
    assert found(labels=["b", "c"], any_label=True) == {"part"}
    assert found(parent="whole", agent="carol") == set()
    assert found(stuck=True) == set()
