"""Wait for somebody else's record.

Rules of this file: the remote is asked for its head only, less and less often; a remote that
is away for a moment is waited for as well. No wait lasts longer than it was asked to.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coordledger.client.operations import milliseconds
from coordledger.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from coordledger.client.claims import ClaimResult
    from coordledger.client.opening import Connection
    from coordledger.client.views import Views

POLL_LEAST, POLL_MOST = 0.5, 5.0  # seconds between two looks at the remote
MOST_WAIT = 86_400_000  # milliseconds
_MAY_CHANGE = ("held", "blocked", "nothing-to-claim", "too-early")  # why a claim was lost


def end_of(connection: Connection, wait: timedelta | None) -> int:
    """The moment at which a wait is over that begins now."""
    return connection.clock() + (milliseconds(wait) if wait else 0)


def until_won(
    connection: Connection, views: Views, attempt: Callable[[], ClaimResult], end: int
) -> ClaimResult:
    """Attempt a claim, and again whenever the ledger has changed or a lease has run out, until
    it is won or the clock has reached `end`.
    """
    while True:
        result = attempt()
        if result.won or result.code not in _MAY_CHANGE or connection.clock() >= end:
            return result
        until_changed(connection, min(end, _next_chance(connection, views, result.code)))


def until_changed(connection: Connection, until: int) -> None:
    """Return when the remote's head has moved, or the clock has reached `until`."""
    pause = POLL_LEAST
    while True:
        left = (until - connection.clock()) / 1000
        if left <= 0:
            return
        time.sleep(min(left, pause * (0.75 + connection.jitter() / 2)))
        pause = min(POLL_MOST, pause * 1.5)
        connection.begin()
        try:
            if connection.replica.is_behind():
                return
        except Failed:
            continue  # a remote that is away for a moment is waited for too


def _next_chance(connection: Connection, views: Views, code: str) -> int:
    """When the first lease runs out, of any task: what is waited for may be any."""
    state, now = connection.replica.position().state, connection.clock()
    if code == "too-early":  # by the server's clock, which is at most that far behind
        return now + state.skew
    held = (task for task in views.lines(state) if task["status"] == "claimed")
    return min((at for at in map(state.claimable_at, held) if at > now), default=now + MOST_WAIT)
