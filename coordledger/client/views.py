"""Tasks, history, messages and agents of a verified copy, as the Python interface gives them.

Rules of this file:
- It reads a state and the copy's verified commits, and changes no record; each value carries the
  verdict on the records that it stands on, and who has checked them.
- A task's line in the state is not believed beyond that: the claim that it speaks of has to be
  that claim.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import coordledger  # what is made of its names is imported when it is made
from coordledger import client
from coordledger.client import lines, scan, stops
from coordledger.client.choosing import Wanted, status_of, urgency
from coordledger.client.claims import Claim, Last, moment, recall_time, time_of
from coordledger.client.journal import LANDED
from coordledger.client.legacies import has_imported, import_of, legacy_of, legacy_of_task
from coordledger.client.offers import Offers
from coordledger.client.vouches import NOBODY
from coordledger.errors import error
from coordledger.format import records, timestamps
from coordledger.format.chain import AUTHENTIC, INVALID, UNKNOWN_KEY, UNVERIFIED
from coordledger.format.names import levels
from coordledger.format.rules.claims import is_offered_to
from coordledger.format.rules.tasks import UNSUBMITTED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from coordledger.client.claims import Legacy
    from coordledger.client.config import Settings
    from coordledger.client.journal import Intent
    from coordledger.client.publish import Published
    from coordledger.client.replica import Replica
    from coordledger.client.reports import (
        Agent,
        Description,
        Event,
        Fact,
        Listing,
        Message,
        Reservation,
        Settled,
        Status,
    )
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.state import State


class Said(NamedTuple):
    """The newest record on a task, as people are told: the verdict is on it and, where the text is
    an older one's, on that; `seq` is that of the newest of these.
    """

    kind: str
    agent: str
    at: str
    text: str | None
    verdict: str
    seq: int


class Told(NamedTuple):
    """What is shown of a task that its line does not say: what the records say that it names.

    `seq` and `commit` are the newest record's, `basis` is the seq up to which somebody has to have
    checked the chain.
    """

    seq: int
    commit: str | None
    note: str | None
    result: str | None
    verdict: str
    basis: int
    last: Said | None
    legacy: Legacy | None = None


class Views:
    """Tasks, history and messages out of one verified copy; `clock()` in milliseconds."""

    def __init__(self, replica: Replica, clock: Callable[[], int]) -> None:
        self._replica, self._clock = replica, clock
        self._who_checked = replica.vouches.who_checked
        self.offers = Offers(replica, clock)
        self._looked_up: tuple[State, list[Record]] | None = None

    # -- intents

    def settled(self, intent: Intent) -> list[Settled]:
        """How an intent ended: once for each task that it is about."""
        record = intent.signed.record if intent.payload else {}
        if intent.outcome == LANDED and intent.seq is not None:
            commit = self._replica.commit_at(intent.seq)
            if commit and commit.record["op"] == intent.op:  # what was sent last may be another
                record = commit.record
        items = record.get("tasks") or [record]
        facts = (intent.what, intent.op, intent.outcome, intent.seq)
        return [coordledger.Settled(*facts, one.get("task"), one.get("epoch")) for one in items]

    # -- tasks

    def lines(self, state: State) -> Iterator[Record]:
        """All tasks as they stand in the state."""
        return lines.of_all(self._replica, state)

    def listing(
        self, state: State, wanted: Wanted, limit: int | None, checked: str | None
    ) -> Listing:
        """The first `limit` of the tasks that are `wanted` and were `checked` by that one: by
        priority, then by age, completed ones last.
        """
        at = self._clock()
        return client.listings.listing(self, self._replica, state, wanted, limit, checked, at)

    def read_ahead(self, tasks: list[Record]) -> None:
        """Bring the records here that these lines name."""
        seqs = {seq for task in tasks for seq in (task["last_seq"], task["claim_seq"])}
        seqs |= {task["legacy"]["seq"] for task in tasks if task["legacy"]}
        self._read_records([seq for seq in seqs if seq is not None])

    def _read_records(self, seqs: list[int]) -> None:
        local = self._replica.local
        oids = [local.id_at(seq) for seq in seqs]
        local.repository.read_ahead([oid for oid in oids if oid])

    def claim(self, state: State, name: str, published: Published | None = None) -> Claim:
        """One task. `published` is what made this state, where that is more than the copy has.

        Raises `Failed`: unknown-task.
        """
        task = state.task(name)
        if task is None:
            raise error("unknown-task", task=name)
        return self._claim_of(state, task, published)

    def withdrawn(self, before: Record, published: Published) -> Claim:
        """A task whose offer was taken back, and whose line was `before`; it may have no other."""
        line = published.state.task(before["task"])
        return self._claim_of(published.state, line or gone(before, published.here), published)

    def describe(self, state: State, name: str) -> Description:
        """All of one task. Raises `Failed`: unknown-task."""
        claim = self.claim(state, name)
        task = state.task(name) or {}
        seq, body, checked = task["submit_seq"], None, NOBODY
        commit = None if seq is None else self._replica.commit_at(seq)
        offers = commit is not None and commit.record["kind"] in ("submit", "import")
        if commit and offers and commit.record["task"] == name:
            body = commit.record["body"]
            checked = self._who_checked(self._replica.verdict_of(commit), seq)
        at = self._clock()
        self._replica.local.repository.read_ahead(state.unread_pages())
        parts = Counter(status_of(line, at, state.skew) for line in state.parts_of(name))
        return coordledger.Description(claim, body, checked, dict(parts))

    def held_by(self, state: State, agent: str, *, below: bool = False) -> tuple[Claim, ...]:
        """What an agent holds, and (`below`) its delegates, the most urgent first."""
        names = [agent, *(state.delegates(agent) if below else ())]
        return self._busy(state, lambda t: t["status"] == "claimed" and t["agent"] in names)

    def offered_to(self, state: State, agent: str) -> tuple[Claim, ...]:
        """The tasks that an agent may take over, the most urgent first."""
        at = self._clock()
        return self._busy(state, lambda task: is_offered_to(task, agent, at))

    def busy(self, state: State) -> list[Record]:
        """The tasks that are claimed or offered, as lines: looked up once for each state."""
        if self._looked_up is None or self._looked_up[0] is not state:
            self._looked_up = (state, lines.of_busy(self._replica, state))
        return self._looked_up[1]

    def _busy(self, state: State, wanted: Callable[[Record], bool]) -> tuple[Claim, ...]:
        tasks = sorted(filter(wanted, self.busy(state)), key=urgency)
        self.read_ahead(tasks)
        return tuple(self._claim_of(state, task) for task in tasks)

    def in_the_way(self, state: State, tasks: list[str]) -> tuple[Claim, ...]:
        """Why `tasks`, of which some exist, cannot be claimed together."""
        claims = [self.claim(state, task) for task in tasks if state.task(task)]
        several = len(claims) > 1
        return tuple(
            claim
            for claim in claims
            if not several or claim.status != "open" or state.waits_for(state.task(claim.task))
        )

    def status(self, state: State, settings: Settings, session: str | None) -> Status:
        """Where the ledger stands, and what is the agent's."""
        local, trusted, agent = self._replica.local, self._replica.trusted, settings.agent
        stop = self._replica.stop
        names = settings.names if agent else ()
        unread = len(self.unread(state, names, settings.channels)) if agent else 0
        vouches = self._replica.vouches
        newest = vouches.newest
        return coordledger.Status(
            ledger=trusted.ledger,
            ref=local.remote_ref,
            remote=settings.remote.shown,
            head=trusted.commit,
            seq=trusted.seq,
            agent=agent,
            session=session,
            enforcement=vouches.enforcement,
            vouched=coordledger.Vouched(newest.seq, time_of(newest.at), vouches.url)
            if newest
            else None,
            stopped_at=stops.facts_of(stop) if stop else None,
            claims=self.held_by(state, agent) if agent else (),
            unread=unread,
            offers=tuple(one for name in names for one in self.offered_to(state, name)),
        )

    def _claim_of(self, state: State, task: Record, published: Published | None = None) -> Claim:
        return self.shown(state, task, self.told_of(task, published), self._clock())

    def told_of(self, task: Record, published: Published | None = None) -> Told:
        """What the records say that a task's line names, and the verdict on them."""
        last = task["last_seq"]
        fresh = published if published and published.here.seq == last else None
        newest = fresh.here if fresh else self._replica.commit_at(last)
        same = task["claim_seq"] in (None, last)
        claim = newest if same else self._replica.commit_at(task["claim_seq"])
        claim = None if task["claim_seq"] is None else claim
        brought = import_of(self._replica, task, newest)
        finish = brought or newest
        seqs = (brought.seq if brought else task["claim_seq"], fresh.seq if fresh else last)
        return Told(
            seq=fresh.seq if fresh else last,
            commit=fresh.oid if fresh else newest.oid if newest else None,
            note=claim.record.get("note") if claim and task["agent"] else None,
            result=finish.record.get("result") if finish and task["status"] == "done" else None,
            verdict=self._verdict_of(task, newest, brought or claim),
            basis=max(seq or 0 for seq in seqs),
            last=self._last_of(task, newest, brought or claim),
            legacy=legacy_of_task(task, brought),
        )

    def shown(self, state: State, task: Record, told: Told, at: int) -> Claim:
        """A task as it stands at a moment, by its line, and by what its records have `told`."""
        live, to = task["status"] == "claimed", task["offer"] and task["offer"]["agent"]
        claimed_at, last = task["claimed_at"], told.last
        return Claim(
            task=task["task"],
            status=status_of(task, at, state.skew),
            agent=task["agent"],
            session=task["session"],
            epoch=task["epoch"],
            rev=task["rev"],
            claimed_at=recall_time(claimed_at) if claimed_at else None,
            expires_at=recall_time(task["until"]) if live else None,
            claimable_at=moment(state.claimable_at(task)) if live else None,
            note=told.note,
            result=told.result,
            priority=task["priority"],
            meta=task["meta"],
            after=tuple(task["after"]),
            waits_for=tuple(state.waits_for(task)) if task["status"] == "open" else (),
            seq=told.seq,
            commit=told.commit,
            verdict=told.verdict,
            checked=self._who_checked(told.verdict, told.basis),
            by=task["by"],
            last=self._last(last) if last else None,
            title=task["title"],
            labels=tuple(task["labels"]),
            parent=state.parent_of(task),
            not_before=recall_time(task["not_before"]) if task["not_before"] else None,
            attempts=task["attempts"],
            offered_to=to if to and is_offered_to(task, to, at) else None,
            paths=tuple(state.paths_of(task["task"])) if live else (),
            legacy=told.legacy,
        )

    def _last(self, said: Said) -> Last:
        checked = self._who_checked(said.verdict, said.seq)
        return Last(said.kind, said.agent, recall_time(said.at), said.text, said.verdict, checked)

    def last_before(self, task: Record) -> Last | None:
        """What the newest record on a task said, as its line in an earlier state has it."""
        seq = task["claim_seq"]
        claim = None if seq is None else self._replica.commit_at(seq)
        said = self._last_of(task, self._replica.commit_at(task["last_seq"]), claim)
        return self._last(said) if said else None

    def _last_of(self, task: Record, newest: Commit | None, claim: Commit | None) -> Said | None:
        """`newest` and `claim` are the records that the task's line names, where the copy has
        them; None if the line, which a shallow copy takes on trust, names another task's record.
        """
        if newest and newest.record["kind"] == "edit":  # it says nothing to people
            newest = (
                claim if task["status"] in ("claimed", "done") else self._given_back(task) or newest
            )
        if newest is None or task["task"] not in tasks_of(newest.record):
            return None
        r = newest.record
        bare = r["kind"] == "renew" and r["note"] is None
        renews = bare and claim is not None and _claims(claim.record, task)
        said = [newest, claim] if renews and claim else [newest]
        text, verdict = text_of(said[-1].record), self._worst_of(said)
        seq = max(commit.seq for commit in said)
        return Said(r["kind"], r["agent"], r["at"], text, verdict, seq)

    def _given_back(self, task: Record) -> Commit | None:
        """The record that gave the task back, where it is open again since, and in the copy."""
        return self._replica.commit_at(task["released"]["seq"]) if task["released"] else None

    def _worst_of(self, commits: list[Commit]) -> str:
        """The verdict on what stands on all of these."""
        verdicts = {self._replica.verdict_of(commit) for commit in commits}
        order = (INVALID, UNKNOWN_KEY, UNVERIFIED)
        return next((bad for bad in order if bad in verdicts), AUTHENTIC)

    def _verdict_of(self, task: Record, newest: Commit | None, basis: Commit | None) -> str:
        """Of the records that the line stands on: the newest, and the claim if it is held, or the
        import if it stands so (`basis`).
        """
        brought = task["legacy"] is not None
        has_basis = brought or task["status"] not in ("open", "withdrawn")
        needed = [newest, basis] if has_basis else [newest]
        if not all(needed):
            return UNVERIFIED
        is_it = has_imported if brought else _claims
        if has_basis and basis and not is_it(basis.record, task):
            return INVALID
        return self._worst_of([commit for commit in needed if commit])

    def history(self, state: State, task: str) -> list[Event]:
        """Every record about a task that this copy has, oldest first.

        Raises `Failed`: unknown-task.
        """
        line = state.task(task)
        if line is None:
            raise error("unknown-task", task=task)
        trusted = self._replica.trusted  # a shallow copy's state may say anything
        first, last = max(line["first_seq"], trusted.first), min(line["last_seq"], trusted.seq)
        commits = scan.of_task(self._replica, task, first, last)
        return [
            self._event(commit, task)
            for commit in commits
            if commit and task in tasks_of(commit.record)
        ]

    def _event(self, commit: Commit, task: str) -> Event:
        r = commit.record
        epochs = [item["epoch"] for item in r.get("tasks", ()) if item["task"] == task]
        verdict = self._replica.verdict_of(commit)
        return coordledger.Event(
            seq=commit.seq,
            at=time_of(r["at"]),
            kind=r["kind"],
            agent=r["agent"],
            session=r["session"],
            epoch=epochs[0] if epochs else r.get("epoch"),
            text=text_of(r),
            subject=records.subject(r),
            commit=commit.oid,
            verdict=verdict,
            checked=self._who_checked(verdict, commit.seq),
            legacy=legacy_of(commit) if r["kind"] == "import" else None,
        )

    # -- messages

    def inbox(
        self,
        state: State,
        names: Sequence[str],
        channels: Collection[str] | None,
        *,
        direct: bool = True,
        everything: bool = False,
    ) -> list[Message]:
        """The unread messages: to one of the `names` (if `direct`), and by others in the channels
        (None: in all); the last name's is the mark of what is read there. With `everything` those
        that are read, and their own, too.
        """
        lines = self._mail(state, names, channels, direct=direct, everything=everything)
        oids = [self._replica.local.id_at(line["seq"]) for line, _, _ in lines]
        self._replica.local.repository.read_ahead([oid for oid in oids if oid])
        return [self.message(line, to=to, channel=channel) for line, to, channel in lines]

    def unread(
        self, state: State, names: Sequence[str], channels: Collection[str] | None
    ) -> set[int]:
        """The numbers of what `inbox` shows; nothing of it is verified."""
        return {line["seq"] for line, _, _ in self._mail(state, names, channels)}

    def _mail(
        self,
        state: State,
        names: Sequence[str],
        channels: Collection[str] | None,
        *,
        direct: bool = True,
        everything: bool = False,
    ) -> list[tuple[Record, str | None, str | None]]:
        """The lines of `inbox`, by seq, each with whom it is to or its channel."""
        lines: list[tuple[Record, str | None, str | None]] = []
        lines += [(line, name, None) for name in names for line in state.inbox(name) if direct]
        for channel in state.channels() if channels is None else channels:
            read = set() if everything else self._replica.trusted.read_in(names[-1], channel)
            lines += [
                (line, None, channel)
                for line in state.channel(channel)
                if line["seq"] not in read and (everything or line["agent"] not in names)
            ]
        return sorted(lines, key=lambda found: found[0]["seq"])

    def sent(self, send: Commit, ack: Commit | None) -> Message:
        """A message by its record; `ack` is that of its addressee, if there is one."""
        record = send.record
        where = {"to": record["to"], "channel": record["channel"]}
        message = self.message(record | {"seq": send.seq}, **where)
        if ack is None:
            return message
        verdict = self._replica.verdict_of(ack)
        checked = self._who_checked(verdict, ack.seq)
        acked = coordledger.Acked(ack.seq, time_of(ack.record["at"]), verdict, checked)
        return message._replace(acked=acked)

    def message(
        self, line: Record, *, to: str | None = None, channel: str | None = None
    ) -> Message:
        """A line of an inbox or a channel, beside the record that it comes from."""
        commit = self._replica.commit_at(line["seq"])
        verdict = self._replica.verdict_of(commit) if commit else UNVERIFIED
        if commit and not _sends(commit.record, line, to, channel):
            verdict = INVALID
        return coordledger.Message(
            seq=line["seq"],
            sender=line["agent"],
            session=line["session"],
            to=to,
            channel=channel,
            thread=line["thread"],
            importance=line["importance"],
            body=line["body"],
            sent_at=time_of(line["at"]),
            commit=commit.oid if commit else None,
            verdict=verdict,
            checked=self._who_checked(verdict, line["seq"]),
        )

    # -- facts

    def fact_lines(self, state: State) -> list[Record]:
        """All facts as they stand in the state."""
        self._replica.local.repository.read_ahead(state.unread_pages("facts"))
        return list(state.facts())

    def facts(self, lines: list[Record]) -> list[Fact]:
        """Facts, given by their lines."""
        self._read_records([line["rev"] for line in lines])
        return [self.fact(line) for line in lines]

    def fact(self, line: Record, published: Published | None = None) -> Fact:
        """A fact's line, beside the record that it comes from: `published`, where that is known."""
        seq = line["rev"]
        commit = published.here if published else self._replica.commit_at(seq)
        verdict = self._replica.verdict_of(commit) if commit else UNVERIFIED
        if commit and not _sets(commit.record, line):
            verdict = INVALID
        oid = published.oid if published else commit.oid if commit else None
        return coordledger.Fact(
            key=line["fact"],
            value=line["value"],
            rev=seq,
            agent=line["agent"],
            session=line["session"],
            at=time_of(line["at"]),
            expires_at=moment(timestamps.parse(line["until"])) if line["until"] else None,
            commit=oid,
            verdict=verdict,
            checked=self._who_checked(verdict, seq),
        )


def reservations_of(state: State, at: int) -> list[Reservation]:
    """The paths that live claims reserve at a moment, by path."""
    lines = [line for line in state.reservations() if at < timestamps.parse(line["until"])]
    return [
        coordledger.Reservation(
            line["task"],
            line["agent"],
            line["session"],
            tuple(line["paths"]),
            time_of(line["until"]),
        )
        for line in sorted(lines, key=lambda line: line["paths"])
    ]


def gone(before: Record, withdrawal: Commit) -> Record:
    """The line that a task would have, had its withdrawal not removed it."""
    record = withdrawal.record
    bare = {"status": "withdrawn"} | UNSUBMITTED
    return before | bare | {"rev": record["rev"], "last_seq": withdrawal.seq}


def agents_of(state: State) -> list[Agent]:
    """All agents, each delegate after the name above it."""
    return [agent_of(state, name) for name in sorted(state.agents(), key=levels)]


def agent_of(state: State, name: str) -> Agent:
    """An agent; one without a key, if it is a delegate that has left the state."""
    entry: dict[str, Any] = state.agent(name) or {"role": "agent", "rev": 0, "keys": []}
    keys = tuple(
        coordledger.Key(
            key["id"], key["alg"], key["verifier"], key["from"], key["until"], key["under"]
        )
        for key in entry["keys"]
    )
    role = "owner" if name == state.ledger["owner"] else entry["role"]
    active = any(key.until_seq is None for key in keys)
    return coordledger.Agent(name, role, entry["rev"], active, keys)


def tasks_of(r: Record) -> list[str]:
    return [item["task"] for item in r["tasks"]] if "tasks" in r else [r.get("task", "")]


def text_of(r: Record) -> str | None:
    """What the signer says to people."""
    moved = f"{r['ref']} {r['old'][:12]}..{r['new'][:12]}" if r["kind"] == "land" else None
    return r.get("note") or r.get("result") or r.get("reason") or moved


def _claims(r: Record, task: Record) -> bool:
    """Whether a record is the claim that a task's line speaks of."""
    return (
        r["kind"] == "claim"
        and (r["agent"], r["session"]) == (task["agent"], task["session"])
        and (task["task"], task["epoch"]) in ((i["task"], i["epoch"]) for i in r["tasks"])
    )


def _sets(r: Record, line: Record) -> bool:
    """Whether a record is the one that has set a fact."""
    same = ("fact", "value", "until", "agent", "session", "at")
    return r["kind"] == "fact" and all(r[name] == line[name] for name in same)


def _sends(r: Record, line: Record, to: str | None, channel: str | None) -> bool:
    """Whether a record is the message that an inbox or a channel shows."""
    same = ("agent", "session", "at", "thread", "importance", "body")
    return (
        r["kind"] == "send"
        and (r["to"], r["channel"]) == (to, channel)
        and all(r[name] == line[name] for name in same)
    )
