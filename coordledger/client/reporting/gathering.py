"""What a report says: read out of one verified copy, at one moment.

Rules of this file:
- The copy is brought up to date once, by an audit of what was not audited yet; everything else is
  of that state. Which records are shown is the index's to say, what they say is read from them, and
  who has checked each is the copy's own verdict.
- Texts are as they were written. Who shows them makes them harmless.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import coordledger
from coordledger import client
from coordledger.client.choosing import Wanted
from coordledger.client.looking import activity_of, asked_for, at_ms, entry_of, stats_of
from coordledger.client.reporting.leases import Lease, Told, lease_of, leases
from coordledger.client.views import Views, agents_of
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from coordledger.client.claims import Claim
    from coordledger.client.index.rows import Turn
    from coordledger.client.index.store import Index
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica
    from coordledger.client.reports import (
        Activity,
        Agent,
        Audit,
        Head,
        LogEntry,
        Message,
        Stats,
        Status,
    )
    from coordledger.format.commit import Commit
    from coordledger.format.state import State

    Found = list[tuple[Commit, tuple[Turn, ...]]]

MOST = 20_000  # records that a report has, where nobody says how many
KEYS = ("genesis", "enroll", "revoke", "policy")
_TOLD = 200  # records between two words about how far it has come


class Selection(NamedTuple):
    """Of what a report speaks: each of these that is given; `limit`: of the newest records alone,
    None: of all.
    """

    since: datetime | None = None
    until: datetime | None = None
    task: str | None = None
    agent: str | None = None
    limit: int | None = MOST


class Report(Value):
    """`records` are the newest that were selected, of `matching` (with an `agent`: of which they
    are a part); `leases` and `messages` follow from them. `keys` are all records about keys and
    policy, whatever was selected. `bodies`: what tasks were submitted with. `oldest`: records below
    it are not in this copy; `audited`: up to which one audits have come.
    """

    ledger: str
    url: str
    ref: str
    head: Head
    made_at: datetime
    since: datetime | None
    until: datetime | None
    task: str | None
    agent: str | None
    oldest: int
    matching: int
    audited: int
    status: Status
    audit: Audit
    stats: Stats
    tasks: tuple[Claim, ...]
    bodies: dict[str, str]
    leases: tuple[Lease, ...]
    records: tuple[LogEntry, ...]
    messages: tuple[Message, ...]
    agents: tuple[Agent, ...]
    activity: tuple[Activity, ...]
    keys: tuple[LogEntry, ...]
    policy: dict[str, Any]


def gather(connection: Connection, selected: Selection, *, full: bool = False) -> Report:
    """The report of what is `selected`. It audits what is new here first, or (`full`) everything.

    Raises `Failed`: bad-task; and as `Ledger.audit`, `Ledger.log`.
    """
    asked = asked_for(selected.since, selected.until, selected.task, None)
    audit = client.audit.audit(connection, full=full, since=None, resume=False)
    replica, now = connection.replica, at_ms(connection.clock())
    state, views = replica.position().state, Views(connection.replica, connection.clock)

    def question(index: Index) -> tuple[int, Found, Found]:
        rows = index.newest(asked, selected.limit)
        about_keys = index.newest(client.index.Asked(kinds=KEYS))
        found = index.read([(row.seq, row.oid) for row in rows])
        keys = index.read([(row.seq, row.oid) for row in about_keys])
        return index.count(asked), _turned(index, found), _turned(index, keys)

    matching, found, about_keys = client.index.ask(replica, question)
    records = tuple(_entries(replica, found))
    told = [
        Told(entry.seq, commit.record, turns, entry.checked)
        for (commit, turns), entry in zip(found, records, strict=True)
    ]
    who = selected.agent
    shown = [who is None or _concerns(who, entry) for entry in records]
    tasks = _tasks(views, state, selected, list(compress(told, shown)))
    trusted, settings = replica.trusted, connection.settings
    return Report(
        ledger=trusted.ledger,
        url=replica.vouches.url,
        ref=connection.local.remote_ref,
        head=coordledger.Head(trusted.ledger, trusted.seq, trusted.digest, trusted.commit),
        made_at=now,
        since=selected.since,
        until=selected.until,
        task=selected.task,
        agent=selected.agent,
        oldest=trusted.first,
        matching=matching,
        audited=replica.trusted.audited,
        status=views.status(state, settings, None),
        audit=audit,
        stats=stats_of(connection, selected.since, selected.until),
        tasks=tasks,
        bodies=_bodies(state, found),
        leases=_leases(told, tasks, selected, now),
        records=tuple(compress(records, shown)),
        messages=tuple(_messages(views, found, selected.agent)),
        agents=tuple(agents_of(state)),
        activity=tuple(activity_of(connection, state)),
        keys=tuple(_entries(replica, about_keys)),
        policy=dict(state.ledger["policy"]),
    )


def _turned(index: Index, commits: list[Commit]) -> Found:
    return [(commit, tuple(index.turns_of(commit))) for commit in commits]


def _entries(replica: Replica, found: Found) -> Iterable[LogEntry]:
    for done, (commit, turns) in enumerate(found):
        if done % _TOLD == 0:
            replica.progress("reading", done, len(found))
        yield entry_of(replica, commit, list(turns))


def _concerns(agent: str, one: LogEntry) -> bool:
    """Whether the agent has signed it, it is for the agent, or has ended what the agent held."""
    return agent in (one.agent, one.to) or any(agent == before.agent for before in one.before)


def _tasks(views: Views, state: State, selected: Selection, told: list[Told]) -> tuple[Claim, ...]:
    """The tasks that are shown: all, or those that the selected records are about, with those that
    the agent holds.
    """
    tasks = views.listing(state, Wanted(), None, None).tasks
    if selected.task is not None:
        return tuple(one for one in tasks if one.task == selected.task)
    if selected.agent is not None:
        named = {turn.task for one in told for turn in one.turns}
        return tuple(t for t in tasks if t.task in named or t.agent == selected.agent)
    return tasks


def _bodies(state: State, found: Found) -> dict[str, str]:
    """By task, of the records that were found: the one that a task stands submitted by."""
    bodies = {}
    for commit, _ in found:
        r = commit.record
        if r["kind"] in ("submit", "import") and r["body"]:
            line = state.task(r["task"])
            if line and line["submit_seq"] == commit.seq:
                bodies[r["task"]] = r["body"]
    return bodies


def _leases(
    told: list[Told], tasks: tuple[Claim, ...], selected: Selection, now: datetime
) -> tuple[Lease, ...]:
    """Those that the records tell of, and those of tasks that were claimed before the first one and
    are so still. The end of what is shown is the moment at which a lease lasts, or is over.
    """
    end = min(now, selected.until or now)
    found = leases(told, end)
    known = {(one.task, one.start) for one in found}
    found += [
        lease_of(one, end)
        for one in tasks
        if one.expires_at and one.claimed_at and (one.task, one.claimed_at) not in known
        if one.claimed_at < end and (selected.since is None or selected.since < one.expires_at)
    ]
    if selected.task is not None:
        found = [one for one in found if one.task == selected.task]
    if selected.agent is not None:
        found = [one for one in found if one.agent == selected.agent]
    return tuple(sorted(found, key=lambda lease: (lease.start, lease.task)))


def _messages(views: Views, found: Found, agent: str | None) -> Iterable[Message]:
    acks: dict[int, Commit] = {}
    for commit, _ in found:
        if commit.record["kind"] == "ack":
            acks |= dict.fromkeys(commit.record["messages"], commit)
    for commit, _ in found:
        r = commit.record
        if r["kind"] == "send" and agent in (None, r["agent"], r["to"]):
            yield views.sent(commit, acks.get(commit.seq))
