"""When a lease is renewed, and when what runs under it has to end: functions of two clocks.

Rules of this file: nothing here reads a clock, waits or knows a process. A lease is over by
whichever clock says so first: one that is never set and counts on while the machine sleeps, or the
one on the wall, which others compare the lease's end with. It can be used until `max_skew` before
its end, since another host's clock may be that far ahead.

    asked for              half: renew              TERM        KILL  usable end   end
    |----------------------|------------------------|-----------|-----|------------|
                                                    <-- grace --><----> <-- skew -->
                                                                margin
"""

from __future__ import annotations

import time
from math import inf
from typing import NamedTuple

RENEW, RUN, TERMINATE, KILL = "renew", "run", "terminate", "kill"

GRACE = 10.0  # seconds at most that a program gets to end after it was asked to
_MARGIN = 2.0  # seconds at most before the usable end by which it has to be dead
_RETRY = 30.0  # seconds at most between two attempts to renew
_LOOK = 60.0  # seconds at most between two looks at the claim
LEAST = 1.0  # seconds that have to be usable for a program to be started

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Reading(NamedTuple):
    """Both clocks at one moment, in seconds."""

    steady: float
    wall: float


def read_clocks() -> Reading:
    """The clocks of this machine. Where there is no CLOCK_BOOTTIME, the wall clock alone tells of
    the time that the machine has slept.
    """
    return Reading(time.clock_gettime(_STEADY), time.time())


class Lease(NamedTuple):
    """A lease that was granted: its usable length, and its usable end by each clock."""

    length: float
    steady_end: float
    wall_end: float

    def left(self, now: Reading) -> float:
        """The usable seconds that are left, by the clock that says less."""
        return min(self.steady_end - now.steady, self.wall_end - now.wall)


ENDLESS = Lease(inf, inf, inf)


def granted(asked: Reading, expires: float, skew: float) -> Lease:
    """The lease that ends at `expires` by the wall clock, and was asked for after `asked`."""
    length = max(0.0, expires - skew - asked.wall)
    return Lease(length, asked.steady + length, expires - skew)


def margin(lease: Lease) -> float:
    """By how many seconds before the usable end all has to be dead."""
    return min(_MARGIN, lease.length / 8)


def grace(lease: Lease) -> float:
    """How many seconds a program gets between TERM and KILL."""
    return min(GRACE, lease.length / 4)


def phase(lease: Lease, now: Reading) -> str:
    """What is due: nothing (RUN), to RENEW, to TERMINATE the program, to KILL it."""
    left = lease.left(now)
    if left <= margin(lease):
        return KILL
    if left <= margin(lease) + grace(lease):
        return TERMINATE
    return RENEW if left <= lease.length / 2 else RUN


def until_next(lease: Lease, now: Reading) -> float:
    """The seconds until the next phase begins, if no clock is set meanwhile; 0 in the last one."""
    left, last = lease.left(now), margin(lease)
    begins = (lease.length / 2, last + grace(lease), last)
    return min((left - at for at in begins if at < left), default=0.0)


def until_look(lease: Lease) -> float:
    """The seconds between two looks at a claim that is not to be renewed yet."""
    return min(_LOOK, max(1.0, lease.length / 10))


def until_retry(lease: Lease, now: Reading, jitter: float) -> float:
    """The seconds between a renewal that failed and the next one: the nearer TERM is, the fewer.
    `jitter` is a random number from 0 to 1: who fails together does not come back together.
    """
    useful = max(0.0, lease.left(now) - margin(lease) - grace(lease))
    return max(0.2, min(_RETRY, useful / 8)) * (0.5 + jitter / 2)


def attempt_timeout(lease: Lease, now: Reading, most: float) -> float:
    """How many seconds one attempt to renew may take: there is time for another one after it."""
    useful = lease.left(now) - margin(lease) - grace(lease)
    return max(1.0, min(most, useful / 2))
