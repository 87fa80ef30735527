"""What people look at: the log, the figures, the agents.

Rules of this file: which records are shown, and how a task stood before one, is the index's to say;
what a record says, and the verdict on it, is read from the record at its place in the copy.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger import client
from coordledger.client import lines, waiting
from coordledger.client.claims import moment, time_of
from coordledger.client.operations import need_task
from coordledger.client.views import Views, agents_of, tasks_of, text_of
from coordledger.errors import error
from coordledger.format import records
from coordledger.format.names import is_below
from coordledger.format.rules import MODULES

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterator

    from coordledger.client.index import Asked
    from coordledger.client.index.rows import Turn
    from coordledger.client.index.store import Index
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica
    from coordledger.client.reports import Activity, Before, LogEntry, Stats
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.state import State

    Found = list[tuple[Commit, list[Turn]]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Looking:
    """What a `Ledger` tells of all that has happened."""

    if TYPE_CHECKING:  # `Ledger` has them
        connection: Connection
        _views: Views

    def log(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        task: str | None = None,
        agent: str | None = None,
        kinds: Collection[str] = (),
        after: int | None = None,
        limit: int | None = None,
    ) -> list[LogEntry]:
        """The newest `limit` records (None: all), oldest first: signed at `since` or later and
        before `until`, about the `task`, by the `agent`, of one of the `kinds`, `after` the record
        with that seq. Raises `Failed`: bad-task, bad-value.
        """
        asked = asked_for(since, until, task, agent, kinds, after)
        self.connection.read()
        return self._entries(asked, limit)

    def follow(
        self,
        *,
        task: str | None = None,
        agent: str | None = None,
        kinds: Collection[str] = (),
        after: int | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[LogEntry]:
        """As `log` (`task`, `agent`, `kinds`): each record `after` that seq, by default after the
        newest one of this copy, as it comes; until `cancel` is set. Raises `Failed`: bad-task,
        bad-value.
        """
        connection, replica = self.connection, self.connection.replica
        asked = asked_for(None, None, task, agent, kinds, after)
        while True:
            seen = waiting.newest(connection)
            connection.read()
            last = replica.trusted.seq
            if asked.after is not None:
                found = self._entries(asked, None)
                yield from found
                last = max(last, *(entry.seq for entry in found[-1:]), asked.after)
            asked = asked._replace(after=last)
            if cancel is not None and cancel.is_set():
                return
            end = connection.clock() + waiting.MOST_WAIT
            waiting.until_changed(connection, end, seen, *waiting.stopped_by(cancel))

    def stats(self, *, since: datetime | None = None, until: datetime | None = None) -> Stats:
        """What was done from `since` (by default the first record) until `until` (now)."""
        self.connection.read()
        return stats_of(self.connection, since, until)

    def activity(self) -> list[Activity]:
        """What is seen of each agent, delegates after the name above them."""
        return activity_of(self.connection, self.connection.read())

    def _entries(self, asked: Asked, limit: int | None) -> list[LogEntry]:
        return entries_of(self.connection, asked, limit)


def entries_of(connection: Connection, asked: Asked, limit: int | None) -> list[LogEntry]:
    """As `Looking.log`, of the copy as it is."""
    replica = connection.replica

    def question(index: Index) -> Found:
        rows = index.newest(asked, limit)
        commits = index.read([(row.seq, row.oid) for row in rows])
        return [(commit, index.turns_of(commit)) for commit in commits]

    return [
        entry_of(replica, commit, turns) for commit, turns in client.index.ask(replica, question)
    ]


def stats_of(connection: Connection, since: datetime | None, until: datetime | None) -> Stats:
    """As `Looking.stats`, of the copy as it is."""
    from coordledger.client import stats  # noqa: PLC0415 - with the index, see below

    begin, end, now = _ms(since), _ms(until), connection.clock()

    def question(index: Index) -> Stats:
        earliest, latest = index.span()
        first = earliest if begin is None else begin
        last = max(now, latest + 1) if end is None else end
        times = index.durations(begin, end), index.waits(begin, end)
        agents, total = stats.summed(index.counts(begin, end), *times, max(0, last - first))
        return coordledger.Stats(at_ms(first), at_ms(last), agents, total)

    return client.index.ask(connection.replica, question)


def activity_of(
    connection: Connection, state: State, busy: list[Record] | None = None
) -> list[Activity]:
    """As `Looking.activity`, of the copy as it is, whose newest state is `state`; `busy`: what
    `lines.of_busy` has said, if it was asked.
    """
    from coordledger.client.index.rows import DONE  # noqa: PLC0415 - as above

    now = connection.clock()
    midnight = now - now % 86_400_000

    def question(index: Index) -> tuple[dict[str, int], Counter[str]]:
        done: Counter[str] = Counter()
        for agent, what, _, count in index.counts(midnight, None):
            done[agent] += count if what == DONE else 0
        return index.last_seen(), done

    seen, done = client.index.ask(connection.replica, question)
    holds: dict[str, list[str]] = {}
    for line in lines.of_busy(connection.replica, state) if busy is None else busy:
        if line["status"] == "claimed":
            holds.setdefault(line["agent"], []).append(line["task"])
    agents = agents_of(state)
    return [
        coordledger.Activity(
            agent=one.agent,
            role=one.role,
            active=one.active,
            last_seen=moment(seen.get(one.agent)),
            holds=tuple(sorted(holds.get(one.agent, ()))),
            done_today=done[one.agent],
            unread=len(state.inbox(one.agent)),
            keys=tuple(sorted({key.alg for key in one.keys if key.until_seq is None})),
            delegates=tuple(o.agent for o in agents if is_below(o.agent, one.agent)),
        )
        for one in agents
    ]


def asked_for(
    since: datetime | None,
    until: datetime | None,
    task: str | None,
    agent: str | None,
    kinds: Collection[str] = (),
    after: int | None = None,
) -> Asked:
    """As `log` takes it. Raises `Failed`: bad-task, bad-value."""
    if task is not None:
        need_task(task)
    for kind in kinds:
        if kind not in MODULES:
            raise error("bad-value", what="kind", why=f"{kind!a} is none of {', '.join(MODULES)}")
    return client.index.Asked(_ms(since), _ms(until), task, agent, tuple(kinds), after)


def _ms(at: datetime | None) -> int | None:
    return None if at is None else in_ms(at)


def in_ms(at: datetime) -> int:
    """Milliseconds since 1970, as records and the index have moments."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def at_ms(at: int) -> datetime:
    """The other way."""
    return _EPOCH + timedelta(milliseconds=at)


def entry_of(replica: Replica, commit: Commit, turns: list[Turn]) -> LogEntry:
    """A record of the copy as `log` tells it; `turns` as the index has them."""
    from coordledger.client.legacies import legacy_of  # noqa: PLC0415 - a claim needs none

    r, verdict = commit.record, replica.verdict_of(commit)
    names = [task for task in tasks_of(r) if task]
    items = r.get("tasks") or [r]
    return coordledger.LogEntry(
        seq=commit.seq,
        at=time_of(r["at"]),
        kind=r["kind"],
        agent=r["agent"],
        session=r["session"],
        tasks=tuple(names),
        epoch=items[0].get("epoch") if len(names) == 1 else None,
        text=r["body"] if r["kind"] in ("send", "archive") else text_of(r) or r.get("title"),
        to=r.get("to"),
        channel=r.get("channel"),
        ref=r.get("ref"),
        old=r.get("old"),
        new=r.get("new"),
        before=tuple(_before(turn) for turn in turns if turn.what and turn.before.agent),
        subject=records.subject(r),
        commit=commit.oid,
        verdict=verdict,
        checked=replica.vouches.who_checked(verdict, commit.seq),
        legacy=legacy_of(commit) if r["kind"] in ("import", "archive") else None,
    )


def _before(turn: Turn) -> Before:
    stood = turn.before
    return coordledger.Before(
        task=turn.task,
        what=turn.what,
        agent=stood.agent or "",
        claimed_at=at_ms(stood.since or 0),
        expires_at=at_ms(stood.until or 0),
    )
