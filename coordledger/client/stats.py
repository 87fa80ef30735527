"""How much was done, by whom, and how long it took: counted from what became of tasks.

Rules: pure. A percentile is the smallest of the times that so many of a hundred do not exceed
(nearest rank), so it is a time that something has taken. What happened before the window counts in
it only as what began then: a task that is done in it counts with all its time.
"""

from __future__ import annotations

import math
from collections import defaultdict
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
    counts: Iterable[tuple[str, str, str | None, int]],
    durations: Iterable[tuple[str, int]],
    waits: Iterable[tuple[str, int]],
    span: int,
) -> tuple[tuple[AgentStats, ...], AgentStats]:
    """By agent, and in all, of a window of `span` ms: what `Index` has counted, and how long things
    took.
    """
    tallies: defaultdict[str | None, _Tally] = defaultdict(_Tally)
    for agent, what, holder, count in counts:
        for name in (agent, None):
            _signed(tallies[name], agent, what, holder, count)
        for name in (holder, None) if holder is not None else ():
            tallies[name].lost += count if what in (TOOK_OVER, WITHDRAWN) else 0
            tallies[name].forced += count if what == FORCED else 0
    for agent, time in durations:
        tallies[agent].durations.append(time)
    for agent, time in waits:
        tallies[agent].waits.append(time)
    total = tallies.pop(None, _Tally())
    total.durations = [time for tally in tallies.values() for time in tally.durations]
    total.waits = [time for tally in tallies.values() for time in tally.waits]
    agents = sorted(name for name in tallies if name is not None)
    return tuple(tallies[name].shown(name, span) for name in agents), total.shown(None, span)


def _signed(tally: _Tally, agent: str, what: str, holder: str | None, count: int) -> None:
    """What the signer of records did."""
    if what in (CLAIMED, TOOK_OVER, WAS_HANDED):
        tally.claimed += count
        tally.taken_over += count if what == TOOK_OVER and holder != agent else 0
    elif what == DONE:
        tally.done += count
    elif what == GAVE_BACK:
        tally.given_back += count
