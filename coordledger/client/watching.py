"""What a live screen shows of a ledger, read again and again by one process.

Rules of this file:
- The remote is asked once for each reading, and what has not changed is not read again: a folder
  and a page of tasks are known by their ids, a task by its line, everything by the head.
- How a task stands now is not said here: leases end between two readings. The screen compares
  `expires_at` with the clock.
- Nothing is written, and nothing is judged here.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger import client
from coordledger.client import lines
from coordledger.client.choosing import Wanted, is_stuck
from coordledger.client.claims import moment
from coordledger.client.looking import activity_of, entries_of
from coordledger.client.views import Views
from coordledger.format.state import value_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection
    from coordledger.client.reports import Activity, Description, LogEntry, Status
    from coordledger.client.views import Told
    from coordledger.format.records import Record
    from coordledger.format.state import State

NEWS = 200  # records
_MOST = 300  # tasks that nobody holds
_RECORDS = 1000  # of one task
OPEN, BLOCKED, STUCK, DONE = "open", "blocked", "stuck", "done"
CHOICES = {  # which tasks can be asked for, beside those that are held
    OPEN: Wanted(("open",)),
    BLOCKED: Wanted(blocked=True),
    STUCK: Wanted(stuck=True),
    DONE: Wanted(("done",)),
}


class Watched(NamedTuple):
    """A reading. `held`: all tasks that somebody has claimed, also those whose lease is over.
    `counts`: how many tasks are open, claimed (or expired), done and withdrawn; `stuck` are those
    of `list --stuck`. `news`: the newest records, oldest first. `as_of`: when the remote's head was
    this copy's.
    """

    status: Status
    held: tuple[Claim, ...]
    counts: dict[str, int]
    stuck: int
    agents: tuple[Activity, ...]
    news: tuple[LogEntry, ...]
    as_of: datetime | None


class _Page(NamedTuple):
    """Of the tasks on a page how many have each status, and how often those that are open were
    claimed in vain.
    """

    counts: Counter[str]
    tried: tuple[int, ...]


class Watching:
    """Reads for a screen. Not for use by several threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._replica = connection, connection.replica
        self._views = Views(connection.replica, connection.clock)
        self._folders: dict[str, tuple[str, dict[str, _Page]]] = {}  # their ids, pages by id
        self._told: dict[str, tuple[Record, Told]] = {}  # by task
        self._news: tuple[LogEntry, ...] = ()
        self._asked = 0  # when the remote has answered last, in milliseconds since 1970
        self._last: tuple[Any, Watched] | None = None

    def read(self) -> Watched:
        """Ask the remote. Raises as `Connection.read`."""
        connection = self._connection
        begun = connection.clock()
        state = connection.read()
        if not connection.settings.offline:
            self._asked = begun
        return self._read(state)

    def recall(self) -> Watched:
        """What the copy has; the remote is not asked. Raises `Failed`: not-joined."""
        return self._read(self._recall())

    def describe(self, task: str) -> tuple[Description, list[LogEntry]]:
        """All of a task that the copy has, and its records. Raises `Failed`: unknown-task."""
        state = self._recall()
        asked = client.index.Asked(task=task)
        return self._views.describe(state, task), entries_of(self._connection, asked, _RECORDS)

    def tasks(self, choice: str) -> Sequence[Claim]:
        """The first `_MOST` of the tasks of one of the `CHOICES` that the copy has: the most urgent
        first, of those that are done the one that was done last.
        """
        state = self._recall()
        if choice != DONE:
            return self._views.listing(state, CHOICES[choice], _MOST, None).tasks
        done = (line for line in lines.of_all(self._replica, state) if line["status"] == "done")
        found = heapq.nlargest(_MOST, done, key=lambda line: line["last_seq"])
        self._views.read_ahead(found)
        return self._shown(state, [(line, self._views.told_of(line)) for line in found])

    def _recall(self) -> State:
        self._connection.begin()
        self._replica.trusted  # noqa: B018 - raises if there is no copy
        return self._replica.position().state

    def _read(self, state: State) -> Watched:
        replica, settings = self._replica, self._connection.settings
        stop = replica.stop
        known = (replica.trusted, stop and stop.code, replica.vouches.newest)
        if self._last is None or self._last[0] != known or self._may_be_checked(self._last[1]):
            session = self._connection.identity().session if settings.agent else None
            busy = self._views.busy(state)
            held = [line for line in busy if line["status"] == "claimed"]
            counts, stuck = self._counted(state, held)
            watched = Watched(
                status=self._views.status(state, settings, session),
                held=tuple(self._held(state, held)),
                counts=counts,
                stuck=stuck,
                agents=tuple(activity_of(self._connection, state, busy)),
                news=self._newest(),
                as_of=None,
            )
            # The server may have been asked for a vouch meanwhile.
            self._last = ((*known[:2], replica.vouches.newest), watched)
        newest = max(self._asked, self._connection.local.looked_at)
        as_of = moment(min(newest, self._connection.clock()))
        return self._last[1]._replace(as_of=as_of)

    def _may_be_checked(self, read: Watched) -> bool:
        """Whether the server may vouch now for what nobody had checked: it did not answer, then."""
        checked = {one.checked for one in read.news} | {one.checked for one in read.held}
        return "nobody" in checked and self._connection.enforcement == "server"

    def _newest(self) -> tuple[LogEntry, ...]:
        """The newest records. What nobody has checked is read again: somebody may have, since."""
        known = self._news
        if not known or any(one.checked == "nobody" for one in known):
            known, after = (), None
        else:
            after = known[-1].seq
        fresh = entries_of(self._connection, client.index.Asked(after=after), NEWS)
        self._news = (*known, *fresh)[-NEWS:]
        return self._news

    def _counted(self, state: State, held: list[Record]) -> tuple[dict[str, int], int]:
        """How many tasks have each status, and how many are stuck."""
        self._folders = {
            folder: self._folders[folder]
            if self._folders.get(folder, ("",))[0] == oid
            else (oid, self._pages_in(state, folder))
            for folder, oid in state.task_folders().items()
        }
        counts: Counter[str] = Counter()
        most, now = state.policy("max_attempts"), self._connection.clock()
        stuck = sum(is_stuck(state, line, now) for line in held)
        for _, pages in self._folders.values():
            for page in pages.values():
                counts.update(page.counts)
                stuck += sum(attempts >= most for attempts in page.tried)
        return dict(counts), stuck

    def _pages_in(self, state: State, folder: str) -> dict[str, _Page]:
        _, known = self._folders.get(folder, ("", {}))
        paths = state.task_pages(folder)
        unread = [oid for oid in paths.values() if oid not in known]
        self._replica.local.repository.read_ahead(unread)
        return {
            oid: known[oid] if oid in known else _page_of(map(value_of, state.lines_on(path)))
            for path, oid in paths.items()
        }

    def _held(self, state: State, held: list[Record]) -> list[Claim]:
        known = self._told
        fresh = [line for line in held if known.get(line["task"], (None,))[0] != line]
        self._views.read_ahead(fresh)
        told = {line["task"]: (line, self._views.told_of(line)) for line in fresh}
        self._told = {line["task"]: told.get(line["task"]) or known[line["task"]] for line in held}
        return self._shown(state, self._told.values())

    def _shown(self, state: State, told: Iterable[tuple[Record, Told]]) -> list[Claim]:
        now = self._connection.clock()
        return [self._views.shown(state, line, said, now) for line, said in told]


def _page_of(tasks: Iterable[Record]) -> _Page:
    counts: Counter[str] = Counter()
    tried = []
    for task in tasks:
        counts[task["status"]] += 1
        if task["status"] == "open" and task["attempts"]:
            tried.append(task["attempts"])
    return _Page(counts, tuple(tried))
