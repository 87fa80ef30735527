"""Wait for somebody else's record.

Rules of this file: there is one loop (`until_changed`). Where the remote is a folder of this
machine it watches the ref's files; elsewhere the remote is asked for its head only, once for all
of this user's processes that wait on this host: at first more than once a second, later after a
sixtieth of the time that was waited. A remote that is away for a moment is waited for as well.
No wait lasts longer than it was asked to. One that is cancelled ends as if its time were over: what
it is at, an attempt or a question to the remote, goes to its end first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from coordledger.client import lines
from coordledger.client.choosing import is_free
from coordledger.client.operations import milliseconds, need_task
from coordledger.errors import error
from coordledger.format import timestamps
from coordledger.format.rules.tasks import standing

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta

    from coordledger.client.claims import Claim, ClaimResult
    from coordledger.client.opening import Connection
    from coordledger.client.views import Views
    from coordledger.format.records import Record
    from coordledger.format.state import State

    Stop = tuple[Callable[[], bool], Callable[[float], object]]

GLANCE = 0.1  # seconds between two looks at the files of a ref
UNWATCHED = 30.0  # seconds after which files are not believed that nothing has changed
PROMPT, RARE = 0.8, 5.0  # seconds between two questions to the remote
_SHARE = 60  # of the time that was waited
MOST_WAIT = 86_400_000  # milliseconds
# Why a claim was lost that may be won later.
_MAY_CHANGE = ("held", "blocked", "nothing-to-claim", "too-early", "not-yet", "offered", "reserved")
WANTED = ("done", "free", "claimed")


def end_of(connection: Connection, wait: timedelta | None) -> int:
    """The moment at which a wait is over that begins now."""
    return connection.clock() + (milliseconds(wait) if wait else 0)


def has_ended(now: int, end: int, cancel: threading.Event | None) -> bool:
    return now >= end or (cancel is not None and cancel.is_set())


def until_won(
    connection: Connection,
    views: Views,
    attempt: Callable[[], ClaimResult],
    end: int,
    cancel: threading.Event | None = None,
) -> ClaimResult:
    """Attempt a claim, and again whenever the ledger has changed or a lease has run out, until
    it is won, the clock has reached `end`, or `cancel` is set.
    """
    while True:
        seen = newest(connection)
        result = attempt()
        is_final = result.won or result.code not in _MAY_CHANGE
        if is_final or has_ended(connection.clock(), end, cancel):
            return result
        until = min(end, _next_chance(connection, result.code))
        until_changed(connection, until, seen, *stopped_by(cancel))


def until_so(
    connection: Connection,
    views: Views,
    tasks: Sequence[str],
    wanted: str,
    wait: timedelta | None,
    cancel: threading.Event | None = None,
) -> list[Claim]:
    """The tasks, as soon as all are as `wanted`; it waits until `cancel` is set.

    Raises `Lost`: cannot-become; `Failed`: waited-in-vain, bad-task, bad-value.
    """
    for task in tasks:
        need_task(task)
    if not tasks:
        raise error("bad-value", what="TASK", why="one at least")
    if wanted not in WANTED:
        raise error("bad-value", what="until", why=f"{wanted} is none of {', '.join(WANTED)}")
    begun = connection.clock()
    end = begun + (MOST_WAIT if wait is None else milliseconds(wait))
    while True:
        seen = newest(connection)
        state, at = connection.read(), connection.clock()
        lines = {task: state.task(task) for task in tasks}
        left = {name: line for name, line in lines.items() if not _is_so(state, line, wanted, at)}
        if not left:
            return [views.claim(state, task) for task in tasks]
        for name, line in left.items():
            if why := _never(line, wanted):
                raise error("cannot-become", task=name, wanted=wanted, why=why)
        if has_ended(at, end, cancel):
            facts = {"wanted": wanted, "seconds": f"{(min(at, end) - begun) / 1000:g}"}
            raise error("waited-in-vain", task=" ".join(left), **facts)
        held = (line for line in left.values() if line and wanted == "free")
        until = min(end, _next_moment(state, held, at))
        until_changed(connection, until, seen, *stopped_by(cancel))


def _is_so(state: State, line: Record | None, wanted: str, at: int) -> bool:
    if line is None:
        return False
    if wanted == "free":
        return is_free(state, line, at)
    return standing(line, at, state.skew) == {"claimed": "held"}.get(wanted, wanted)


def _never(line: Record | None, wanted: str) -> str:
    """Why a task cannot become what is wanted by what is asked of others: "" if it can.

    A claim may make a task. It has to be submitted before it can be waited for otherwise, so that
    a name that was misspelt, or an offer that was taken back, is told at once.
    """
    if line is None:
        return "" if wanted == "claimed" else "there is no such task"
    if line["status"] == "withdrawn":
        return "it was withdrawn"
    return "it is done" if line["status"] == "done" else ""


def newest(connection: Connection) -> str:
    """The head of the copy. A wait asks for it before it reads: other processes of the
    clone bring the copy on, too, and what they bring afterwards ends the wait.
    """
    trusted = connection.local.trusted
    return trusted.commit if trusted else ""


def _never_over() -> bool:
    return False


def stopped_by(cancel: threading.Event | None) -> Stop:
    """What ends a wait before its time, and how it sleeps meanwhile."""
    return (cancel.is_set, cancel.wait) if cancel else (_never_over, time.sleep)


def until_changed(
    connection: Connection,
    until: int,
    seen: str,
    is_over: Callable[[], bool] = _never_over,
    pause: Callable[[float], object] | None = None,
) -> None:
    """Return when the copy's head is another than `seen`, the remote has one that the copy has
    not, the clock has reached `until`, or it `is_over`.
    """
    pause = pause or time.sleep
    replica, ref = connection.replica, connection.local.remote_ref
    begun = time.monotonic()
    due, looked = begun + PROMPT, time.monotonic_ns()
    stamp: object = None  # of the ref's files, if they can be watched
    while (left := (until - connection.clock()) / 1000) > 0:
        if is_over() or newest(connection) != seen:
            return
        now, before = time.monotonic(), stamp
        stamp = connection.remote.stamp(ref)  # before the look: what comes after it is seen then
        if now >= due or stamp != before:
            connection.begin()
            look = connection.look(looked)
            if look.answered and not replica.has_seen(look.head):
                return
            if look.answered and look.head == seen:
                connection.local.note_look(connection.clock())
            now, looked = time.monotonic(), look.at
            pace = min(RARE, max(PROMPT, (now - begun) / _SHARE))
            due = max(looked / 1e9 + pace, now + pace / 4)
            due = now + UNWATCHED if stamp and look.answered else due
        pause(min(left, GLANCE if stamp else max(0.0, due - now)))


def _next_chance(connection: Connection, code: str) -> int:
    """When a lease runs out, an offer, or the time before which a task is not to be claimed, of any
    task: what is waited for may be any.
    """
    state, now = connection.replica.position().state, connection.clock()
    if code == "too-early":  # by the server's clock, which is at most that far behind
        return now + state.skew
    return _next_moment(state, lines.claimable(connection.replica, state, None), now)


def _next_moment(state: State, tasks: Iterable[Record], now: int) -> int:
    """When the first of these tasks may be claimed that may not be now, by the clock alone."""
    moments = (at for task in tasks for at in _moments_of(task, state))
    return min((at for at in moments if at > now), default=now + MOST_WAIT)


def _moments_of(task: Record, state: State) -> Iterator[int]:
    if task["status"] == "claimed":
        yield state.claimable_at(task)
    if task["not_before"] is not None:
        yield timestamps.parse(task["not_before"])
    if task["offer"] is not None:
        yield timestamps.parse(task["offer"]["until"]) + state.skew
