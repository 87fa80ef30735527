"""The index of records tells what a walk over them does, and what the state of the chain was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.copy_in_memory import CopyInMemory
from support.diced_ledger import TASKS, told

from coordledger.client.index import Asked, ask, rows, store
from coordledger.format import timestamps
from coordledger.format.commit import parse_commit

if TYPE_CHECKING:
    import pytest

    from coordledger.client.index.store import Index


def stood(line: dict[str, Any] | None) -> tuple[Any, ...]:
    """Who held a task until when since when, and to whom it was offered, by its line."""
    if line is None or line["status"] != "claimed":
        return (None, None, None, None)
    offered = line["offer"]["agent"] if line["offer"] else None
    times = (timestamps.parse(line["until"]), timestamps.parse(line["claimed_at"]))
    return (line["agent"], *times, offered)


def everything(index: Index) -> list[Any]:
    """All that the index can be asked."""
    places = [(row.seq, row.oid) for row in index.newest(Asked())]
    return [
        index.newest(Asked()),
        [index.turns_of(one) for one in index.read(places)],
        [index.places_of(task) for task in TASKS],
        sorted(map(str, index.counts(None, None))),
        sorted(index.durations(None, None)),
        sorted(index.waits(None, None)),
        index.last_seen(),
        index.messages(1000),
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 60), max_size=3))
def test_however_it_is_filled_it_tells_what_the_state_of_the_chain_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: list[int]
) -> None:
    ledger, before = told(seed, 60)
    copy = CopyInMemory(ledger, tmp_path_factory.mktemp("copy"))
    for cut in sorted(cuts):
        copy.length = cut
        assert ask(copy, lambda index: len(index.newest(Asked()))) == cut
    copy.length = None
    found = ask(copy, everything)
    with store._memory(copy) as index:
        assert everything(index) == found
    commits = [parse_commit(*entry) for entry in ledger.log]
    assert [(row.seq, row.oid) for row in found[0]] == [(one.seq, one.oid) for one in commits]
    for one, turns in zip(commits, found[1], strict=True):
        lines = before.get(one.seq, {})
        assert {turn.task: _stands(turn.before) for turn in turns} == {
            name: stood(line) for name, line in lines.items()
        }
        assert {turn.what for turn in turns} == _became(one.record, [*lines.values()])
    for task, places in zip(TASKS, found[2], strict=True):
        assert [seq for seq, _ in places] == [seq for seq in before if task in before[seq]]
    sent = [one for one in commits if one.record["kind"] in ("send", "archive")]
    acked = {n: one.seq for one in commits for n in one.record.get("messages", ())}
    assert found[-1] == [(one.seq, one.oid, acked.get(one.seq)) for one in sent]


def _became(r: dict[str, Any], lines: list[dict[str, Any] | None]) -> set[str]:
    """What a record did to its tasks, by their lines before it."""
    if r["kind"] == "claim":
        held = [line for line in lines if line and line["status"] == "claimed"]
        now = r["at"]
        given = [o for o in held if o["offer"] and o["offer"]["agent"] == r["agent"]]
        handed = [o for o in given if now < o["offer"]["until"]]
        found = {rows.WAS_HANDED} if handed else set()
        found |= {rows.TOOK_OVER} if len(held) > len(handed) else set()
        return found | ({rows.CLAIMED} if len(lines) > len(held) else set())
    if r["kind"] == "complete" or r.get("complete"):
        return {rows.DONE}
    if r["kind"] == "release":
        return {rows.FORCED if r["force"] else rows.GAVE_BACK}
    names = {"withdraw": rows.WITHDRAWN}
    return {names.get(r["kind"], rows.OTHER)} if lines else set()


def _stands(before: rows.Standing) -> tuple[Any, ...]:
    return (before.agent, before.until, before.since, before.offered)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), since=st.integers(0, 60), task=st.sampled_from((None, *TASKS)))
def test_what_is_asked_for_is_what_a_walk_over_the_records_finds(
    tmp_path_factory: pytest.TempPathFactory, seed: int, since: int, task: str | None
) -> None:
    ledger, _ = told(seed, 60)
    copy = CopyInMemory(ledger, tmp_path_factory.mktemp("copy"))
    commits = [parse_commit(*entry) for entry in ledger.log]
    begin = timestamps.parse(commits[min(since, 59)].record["at"])
    asked = Asked(since=begin, task=task, agent="bob", kinds=("claim", "complete", "send"))

    def fits(r: dict[str, Any]) -> bool:
        names = [item["task"] for item in r.get("tasks", ())] + [r.get("task")]
        right = r["agent"] == "bob" and r["kind"] in asked.kinds
        return right and timestamps.parse(r["at"]) >= begin and task in (None, *names)

    walked = [one.seq for one in commits if fits(one.record)]
    rows = ask(copy, lambda index: index.newest(asked))
    assert [row.seq for row in rows] == walked
    rows = ask(copy, lambda index: index.newest(asked, 2))
    assert [row.seq for row in rows] == walked[-2:]
