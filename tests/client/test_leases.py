"""Who held what when, of records as they come: each way in which a lease begins and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordledger.client.claims import time_of
from coordledger.client.index import rows
from coordledger.client.reporting.leases import Told, leases
from coordledger.format import timestamps

if TYPE_CHECKING:
    from collections.abc import Iterable

START = timestamps.parse("2026-05-04T10:00:00.000Z")


def at(minutes: float) -> str:
    return timestamps.show(START + int(60_000 * minutes))


def record(minutes: float, agent: str, kind: str, **fields: Any) -> dict[str, Any]:
    bare = {"at": at(minutes), "agent": agent, "session": f"{agent}-run", "kind": kind}
    named = {"tasks": [{"task": "t", "epoch": fields.pop("epoch", 1)}]}
    defaults: dict[str, Any] = {
        "submit": {"task": "t"},
        "claim": named,
        "release": {"task": "t", "force": False},
        "land": {"task": "t", "epoch": 1, "complete": False},
    }.get(kind, {"task": "t", "epoch": 1})
    return bare | defaults | fields


def claim(minutes: float, agent: str, until: float, epoch: int = 1) -> dict[str, Any]:
    return record(minutes, agent, "claim", until=at(until), epoch=epoch)


def told(records: Iterable[dict[str, Any]], checked: str = "here") -> list[Told]:
    """With what each did, as the index says it."""
    standing, found = rows.Standing(), []
    for seq, one in enumerate(records):
        what, after = rows.step(one, standing)
        found.append(Told(seq, one, (rows.Turn("t", seq, what, standing),), checked))
        standing = after
    return found


def lines(found: list[Told], now: float) -> list[str]:
    """`agent 0-30 (30) began, ended by whom`, in minutes."""
    zero = timestamps.parse(at(0))

    def minutes(moment: Any) -> str:
        return f"{(moment.timestamp() * 1000 - zero) / 60_000:g}"

    return [
        f"{one.agent} {minutes(one.start)}-{minutes(one.end)} ({minutes(one.until)}) "
        f"{one.began}, {one.ended} {one.by or '-'}"
        for one in leases(found, time_of(at(now)))
    ]


CASES = {
    "it lasts": ([claim(0, "a", 30)], 10, ["a 0-10 (30) claimed, held -"]),
    "it is over, and nobody came": ([claim(0, "a", 30)], 40, ["a 0-30 (30) claimed, expired -"]),
    "it was renewed": (
        [claim(0, "a", 30), record(20, "a", "renew", until=at(60))],
        40,
        ["a 0-40 (60) claimed, held -"],
    ),
    "it was completed": (
        [record(0, "a", "submit"), claim(1, "a", 30), record(9, "a", "complete")],
        40,
        ["a 1-9 (30) claimed, done a"],
    ),
    "code landed, and completed it": (
        [claim(0, "a", 30), record(5, "a", "land"), record(9, "a", "land", complete=True)],
        40,
        ["a 0-9 (30) claimed, done a"],
    ),
    "it was given back, and claimed again": (
        [claim(0, "a", 30), record(9, "a", "release"), claim(12, "b", 20, 2)],
        15,
        ["a 0-9 (30) claimed, gave back a", "b 12-15 (20) claimed, held -"],
    ),
    "it was released by force": (
        [claim(0, "a", 30), record(9, "root", "release", force=True)],
        15,
        ["a 0-9 (30) claimed, forced root"],
    ),
    "by force, when it was over": (
        [claim(0, "a", 30), record(50, "root", "release", force=True)],
        60,
        ["a 0-30 (30) claimed, expired root"],
    ),
    "it was over, and taken over": (
        [claim(0, "a", 30), claim(35, "b", 60, 2), record(40, "b", "complete", epoch=2)],
        50,
        ["a 0-30 (30) claimed, expired b", "b 35-40 (60) took over, done b"],
    ),
    "it was handed over": (
        [claim(0, "a", 30), record(5, "a", "handoff", to="b"), claim(7, "b", 60, 2)],
        20,
        ["a 0-7 (30) claimed, was handed b", "b 7-20 (60) was handed, held -"],
    ),
    "it was over, and withdrawn": (
        [claim(0, "a", 30), record(50, "a", "withdraw")],
        60,
        ["a 0-30 (30) claimed, expired a"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_lease_lasts_from_its_claim_until_something_ends_it(name: str) -> None:
    records, now, expected = CASES[name]
    assert lines(told(records), now) == expected


def test_a_part_of_a_history_gives_the_part_of_its_leases() -> None:
    whole = told([claim(0, "a", 30), record(20, "a", "renew", until=at(60)), claim(70, "b", 90, 2)])
    assert lines(whole[1:], 80) == [
        "a 0-60 (60) earlier, expired b",
        "b 70-80 (90) took over, held -",
    ]
    assert lines(whole[2:], 80) == lines(whole[1:], 80)


def test_a_lease_is_checked_as_weakly_as_the_weakest_of_its_records() -> None:
    found = told([claim(0, "a", 30), record(5, "a", "renew", until=at(60))])
    found[1] = found[1]._replace(checked="nobody")
    assert [one.checked for one in leases(found, time_of(at(0)))] == ["nobody"]
