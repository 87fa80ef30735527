"""Clocks at the very end: of a lease, an offer, a reservation, a fact.

Of two clocks that are each at most a skew off the server's, at each moment of the server's: what
still counts for one has not ended for another. The moments are those at which one of the rules
changes its mind, and those beside them.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.memory_ledger import LEASE, SKEW, MemoryLedger

from coordledger.errors import RuleBroken
from coordledger.format import timestamps
from coordledger.format.records import admit
from coordledger.format.rules.claims import KINDS
from coordledger.format.state import RESERVATIONS

OFF = (-SKEW, -1, 0, 1, SKEW)


@pytest.fixture
def fleet() -> MemoryLedger:
    fleet = MemoryLedger("bob", "dave", "erin")
    fleet.put("bob", "submit", task="t")
    return fleet


def end_of(fleet: MemoryLedger) -> int:
    task = fleet.state.task("t")
    assert task
    return timestamps.parse(task["until"])


@pytest.fixture
def held(fleet: MemoryLedger) -> MemoryLedger:
    fleet.put("bob", "claim", tasks=["t"], paths=["src/"])
    return fleet


def admitted(fleet: MemoryLedger, now: int, agent: str, kind: str, **fields: Any) -> bool:
    """Whether a server lets a record pass at `now`, by some clock that is not too far off."""
    for off in OFF:
        fleet.now = now + off
        record = fleet.record(agent, kind, **fields)
        if kind == "renew":
            record["until"] = timestamps.show(fleet.now + 5 * LEASE)
        if fleet.refusal_of(fleet.sign(record)):
            continue
        try:
            admit(fleet.state, record, now)
        except RuleBroken:
            continue
        return True
    return False


def moments(until: int) -> list[int]:
    borders = [until + n * SKEW for n in (-2, -1, 0, 1, 2, 3)]
    return [border + beside for border in borders for beside in (-1, 0, 1)]


@pytest.mark.parametrize(
    ("agent", "kind", "fields"),
    [
        ("dave", "claim", {"tasks": ["t"]}),
        ("dave", "claim", {"tasks": ["t"], "reopen": True}),
        ("dave", "claim", {"tasks": ["u"], "paths": ["src/x"]}),
        ("bob", "claim", {"tasks": ["u"], "paths": ["src/"], "session": "s2"}),
        ("bob", "withdraw", {"task": "t"}),
    ],
)
def test_nothing_of_a_holders_is_anothers_too(
    held: MemoryLedger, agent: str, kind: str, fields: dict[str, Any]
) -> None:
    until = end_of(held)
    holds, others = [], []
    for now in moments(until):
        if admitted(held, now, "bob", "renew", task="t"):
            holds.append(now)
        if admitted(held, now, agent, kind, **fields):
            others.append(now)
    assert max(holds) == until + SKEW - 1
    assert min(others) == until + SKEW


def test_an_offer_is_taken_as_long_as_its_giver_could_go_on(held: MemoryLedger) -> None:
    until = end_of(held)
    held.put("bob", "handoff", task="t", to="dave")
    times = moments(until)
    taken = [n for n in times if admitted(held, n, "dave", "claim", tasks=["t"])]
    erins = [n for n in times if admitted(held, n, "erin", "claim", tasks=["t"])]
    assert taken == times  # by the offer, and from the skew on as everybody
    assert min(erins) == until + SKEW


def test_what_is_tidied_up_has_ended_for_all(held: MemoryLedger) -> None:
    until = end_of(held)
    for now in moments(until):
        fits = {"tasks": ["u"], "paths": ["x"]}
        for off in OFF:
            held.now = now + off
            record = held.record("dave", "claim", **fits)
            if "t" not in str(KINDS["claim"].apply(held.state, record, 9)[RESERVATIONS]):
                assert not admitted(held, now, "bob", "renew", task="t")


def test_a_fact_is_replaced_unread_when_nobody_takes_it_for_living(fleet: MemoryLedger) -> None:
    until = fleet.now + LEASE
    fleet.put("bob", "fact", fact="k", until=timestamps.show(until))
    unread = [
        now for now in moments(until) if admitted(fleet, now, "dave", "fact", fact="k", was=0)
    ]
    assert min(unread) == until + SKEW  # the slowest clock says `until` then
