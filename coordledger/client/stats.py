"""How much was done, by whom, and how long it took: counted from what became of tasks.

Rules: pure. A percentile is the smallest of the times that so many of a hundred do not exceed
(nearest rank), so it is a time that something has taken. What happened before the window counts in
it only as what began then: a task that is done in it counts with all its time.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger.client.index.rows import (
    CLAIMED,
    DONE,
    FORCED,
    GAVE_BACK,
    TOOK_OVER,
    WAS_HANDED,
    WITHDRAWN,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.client.index.rows import Turn
    from coordledger.client.reports import AgentStats, Spread

_HOUR = 3_600_000


class _Tally:
    """What is counted for one agent."""

    def __init__(self) -> None:
        self.claimed = self.taken_over = self.done = 0
        self.given_back = self.lost = self.forced = 0
        self.durations: list[int] = []
        self.waits: list[int] = []

    def shown(self, agent: str | None, span: int) -> AgentStats:
        hours = span / _HOUR
        per_hour = self.done / hours if hours else 0.0
        return coordledger.AgentStats(
            agent=agent,
            claimed=self.claimed,
            taken_over=self.taken_over,
            done=self.done,
            given_back=self.given_back,
            lost=self.lost,
            forced=self.forced,
            duration=spread(self.durations),
            waiting=spread(self.waits),
            per_hour=round(per_hour, 3),
            per_day=round(24 * per_hour, 3),
        )


def spread(times: list[int]) -> Spread:
    """Of times in milliseconds."""
    times = sorted(times)

    def percentile(percent: int) -> timedelta | None:
        rank = math.ceil(percent * len(times) / 100)
        return timedelta(milliseconds=times[rank - 1]) if times else None

    total = timedelta(milliseconds=sum(times))
    return coordledger.Spread(len(times), percentile(50), percentile(95), total)


def summed(
    turns: Iterable[tuple[str, int, Turn]], span: int
) -> tuple[tuple[AgentStats, ...], AgentStats]:
    """By agent, and in all; `turns` as `Index.turns` has them, in a window of `span` ms."""
    tallies: dict[str | None, _Tally] = {None: _Tally()}
    for agent, at, turn in turns:
        for name in (agent, None):
            _signed(tallies.setdefault(name, _Tally()), agent, at, turn)
        holder = turn.before.agent
        for name in (holder, None) if holder is not None else ():
            _suffered(tallies.setdefault(name, _Tally()), turn)
    total = tallies.pop(None).shown(None, span)
    agents = sorted(name for name in tallies if name is not None)
    return tuple(tallies[name].shown(name, span) for name in agents), total


def _signed(tally: _Tally, agent: str, at: int, turn: Turn) -> None:
    """What the signer of a record did."""
    what, before = turn.what, turn.before
    if what in (CLAIMED, TOOK_OVER, WAS_HANDED):
        tally.claimed += 1
        tally.taken_over += what == TOOK_OVER and before.agent != agent
        if before.submitted is not None:
            tally.waits.append(max(0, at - before.submitted))
    elif what == DONE:
        tally.done += 1
        if before.since is not None:
            tally.durations.append(max(0, at - before.since))
    elif what == GAVE_BACK:
        tally.given_back += 1


def _suffered(tally: _Tally, turn: Turn) -> None:
    """What became of the claim that was there before."""
    tally.lost += turn.what in (TOOK_OVER, WITHDRAWN)
    tally.forced += turn.what == FORCED
