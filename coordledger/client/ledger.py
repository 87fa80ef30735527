"""The use cases: what an agent, an admin or an auditor does with a ledger.

    with Ledger.open(agent="alice") as ledger:
        if ledger.claim("task-1", ttl=timedelta(minutes=30)).won:
            ...
            ledger.complete("task-1", result="merged as 3f2c1a")

Rules of this file: a use case reads the state, says which record it wants, and leaves
signing, pushing and settling to `writing`; it makes no rule of claims of its own
(`state` has them). Every public method ends within the timeout, or with its wait.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import coordledger  # what is made of its names is imported when it is made
from coordledger import keyfiles
from coordledger.client import config, operations
from coordledger.client.batch import Batch
from coordledger.client.claims import Claim, ClaimResult, moment
from coordledger.client.combining.line import Line
from coordledger.client.combining.sequenced import SequencedPublisher
from coordledger.client.config import Options, SecretFinder, Settings
from coordledger.client.local_state import LocalState
from coordledger.client.operations import Operation, milliseconds, need_channel, need_task
from coordledger.client.publish import DirectPublisher, Published, push_error
from coordledger.client.replica import Replica, parse_place
from coordledger.client.signer import Identity
from coordledger.client.writer import Writer
from coordledger.errors import LOST, UNKNOWN, CoordledgerError, Failed, Lost, error
from coordledger.format import records, timestamps
from coordledger.format.chain import AUTHENTIC, INVALID, UNKNOWN_KEY, UNVERIFIED
from coordledger.format.names import is_identifier
from coordledger.format.rules.ledger import POLICY
from coordledger.format.rules.mailbox import MAX_ACK
from coordledger.format.rules.tasks import standing
from coordledger.format.signing import ALG, Keyring, Secret
from coordledger.git.address import NOWHERE
from coordledger.git.outcome import WON
from coordledger.git.process import Deadline, Git, child_environment
from coordledger.git.remote import Remote
from coordledger.git.repository import Repository
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from coordledger.client.replica import Damage, Progress
    from coordledger.client.reports import (
        Agent,
        Audit,
        Event,
        Head,
        Message,
        Outcome,
        Settled,
        Status,
    )
    from coordledger.client.signer import Fields
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.state import State

POLL_LEAST, POLL_MOST = 0.5, 5.0  # seconds between two looks at the remote while waiting
MOST_WAIT = 86_400_000  # milliseconds
_LOT = 500  # tasks whose records are read together


def _now() -> int:
    return time.time_ns() // 1_000_000


def _random_hex(count: int) -> str:
    return os.urandom(count).hex()


def _random_fraction() -> float:
    return int.from_bytes(os.urandom(4)) / 2**32


def silent(what: str, done: int, of: int) -> None:
    pass


class Ledger:
    """One ledger as one agent's session sees it. Not for use by several threads at once."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        git: Git,
        *,
        clock: Callable[[], int] = _now,
        hexadecimal: Callable[[int], str] = _random_hex,
        jitter: Callable[[], float] = _random_fraction,
        progress: Progress = silent,
    ) -> None:
        """Most callers want `open`. `clock()` gives milliseconds since 1970."""
        self.settings, self._store, self._git, self._clock = settings, repository, git, clock
        self._hexadecimal, self._jitter = hexadecimal, jitter
        self._keyrings: dict[str | None, Keyring] = {}
        self.finder = SecretFinder(settings, repository.root)
        self._alone = SequencedPublisher(DirectPublisher())
        self._queue: Line | None = None
        self.remote = self._remote(git)
        self.local = LocalState(repository, settings.ledger, settings.branch)
        self.replica = Replica(self.local, self.remote, git, self._keyring, clock, progress)

    @classmethod
    def open(
        cls,
        path: str | Path = ".",
        agent: str | None = None,
        *,
        session: str | None = None,
        remote: str | None = None,
        ledger: str | None = None,
        timeout: timedelta = timedelta(seconds=30),
        offline: bool = False,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], int] = _now,
        progress: Progress = silent,
    ) -> Self:
        """The ledger of the clone around `path`, or the user's own outside of any.

        `agent` and `remote` default to the environment's and git's configuration. Nothing
        is fetched yet. Raises `Failed`: not-a-repository, no-remote, bad-agent, …
        """
        options = Options(
            path=Path(path),
            agent=agent,
            session=session,
            remote=remote,
            ledger=ledger,
            timeout=timeout.total_seconds(),
            offline=offline,
        )
        env = os.environ if environ is None else environ
        return cls.from_options(options, env, clock=clock, progress=progress)

    @classmethod
    def from_options(
        cls,
        options: Options,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], int] = _now,
        progress: Progress = silent,
    ) -> Self:
        settings, repository, git = surroundings(options, environ)
        if settings.remote.kind == NOWHERE and not (settings.offline and repository):
            raise error("no-remote", remote=settings.remote.given)
        if repository is None:
            repository = _private_clone(settings, git)
            git = repository.git = git_in(repository, environ, git.deadline)
        return cls(settings, repository, git, clock=clock, progress=progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._queue is not None:
            self._queue.close()
        self.replica.close()

    # -- surroundings

    def _keyring(self, ledger_id: str | None) -> Keyring:
        """Every secret at hand: the master where it is, and single agents'."""
        if ledger_id not in self._keyrings:
            try:
                masters = config.masters(self.settings, ledger_id)
            except Failed as fault:
                if fault.code not in ("secret-exposed", "bad-secret"):
                    raise
                masters = []
            self._keyrings[ledger_id] = Keyring(masters, self.finder.quietly)
        return self._keyrings[ledger_id]

    def _remote(self, git: Git) -> Remote:
        """The remote as seen from `git`'s repository; straight, where git would add nothing."""
        settings, http = self.settings, None
        if settings.plain_http and settings.remote.is_plain_web:
            http = (settings.remote.url, settings.ca_file)
        return Remote(git, settings.remote, http)

    def identity(self) -> Identity:
        session = self.settings.session or self.local.session(lambda: self._hexadecimal(4))
        return Identity(self.settings.need_agent, session, self.finder.find)

    def writer(self) -> Writer:
        publisher = self._line() if self.settings.queue else self._alone
        me = self.identity()
        return Writer(self.replica, me, self._clock, self._hexadecimal, self._jitter, publisher)

    def _line(self) -> Line:
        """Where this user's processes on this host line up to write to this ledger."""
        if self._queue is None:
            settings = self.settings
            host = os.uname().nodename  # homes can be shared
            what = [host, settings.remote.place, *settings.transport_settings]
            what += [self.local.remote_ref, self._store.algo]
            name = digest("sha256", "\n".join(what).encode()).hex()[:24]
            folder = self.settings.cache_dir / "queue" / name
            self._queue = Line(folder, self._shared_copy, self._clock, self._alone)
        return self._queue

    def _shared_copy(self, path: Path, deadline: Deadline) -> Replica:
        """The copy of those in line. Where it goes, and as whom, is this clone's configuration."""
        if not (path / "HEAD").exists():
            form = f"--object-format={self._store.algo}"
            self._git.output("init", "--quiet", "--bare", "--template=", form, "--", str(path))
        here = f"include.path={self._store.common_dir / 'config'}"
        environ = child_environment(self.settings.environ) | {"GIT_DIR": str(path)}
        cwd = self._store.root or self._store.git_dir
        git = Git(environ, cwd, deadline, options=("-c", here))
        repository = Repository.open(git, path)
        local = LocalState(repository, self.settings.ledger, self.settings.branch)
        remote = self._remote(git)
        remote.need_same_address()  # not each of the clone's settings is in that one file
        return Replica(local, remote, git, self._keyring, self._clock, silent)

    def _begin(self) -> None:
        """Each public method has the whole timeout, and looks for secrets anew."""
        self._git.deadline = Deadline(self.settings.timeout)
        self._keyrings.clear()

    def _read(self) -> State:
        """The newest state: the remote's, or (offline) the copy's."""
        self._begin()
        if self.settings.offline:
            self.replica.trusted  # noqa: B018 - raises if there is no copy
            return self.replica.position().state
        return self.replica.refresh().state

    def _write(self, wanted: Operation, *, look: bool = False) -> Published:
        self._begin()
        return self.writer().write(wanted.what, wanted.build, look=look)

    # -- joining

    def join(self, *, depth: int | None = None, pin: str | None = None) -> Head:
        """Fetch, verify, remember the head."""
        self._begin()
        self.replica.join(depth, pin)
        return self.head(refresh=False)

    def reset(self) -> None:
        """Forget the verified head: the only way back. The caller has asked."""
        self._begin()
        with self.local.lock(self._git.deadline):
            self.local.reset()

    def head(self, *, refresh: bool = True) -> Head:
        if refresh:
            self._read()
        known = self.replica.trusted
        return coordledger.Head(known.ledger, known.seq, known.digest, known.commit)

    def compare(self, line: str) -> Head:
        """Whether another copy's `head` line belongs to this history.

        Raises `Integrity`: head-differs; `Failed`: bad-value, gone.
        """
        ledger, seq, digest = parse_place(line, "--compare")
        mine = self.head()
        if ledger not in (None, mine.ledger):
            raise error("head-differs", why=f"it is ledger {ledger}, this is {mine.ledger}")
        if seq is None:
            return mine
        if seq > mine.seq:
            raise error("head-differs", why=f"record {seq} is not in the remote's history")
        found, first = self.replica.commit_at(seq), self.replica.trusted.first
        if found is None or 0 < seq <= first:
            raise error("gone", seq=seq)
        if not found.digest.startswith(digest):
            raise error("head-differs", why=f"at record {seq} it has another digest")
        return mine

    # -- tasks

    def submit(
        self,
        task: str,
        *,
        priority: int = 0,
        meta: Mapping[str, str] | None = None,
        after: Iterable[str] = (),
    ) -> Claim:
        """Offer a task. Repeating it changes nothing."""
        try:
            return self._change(
                task, operations.submit(task, priority=priority, meta=meta, after=after)
            )
        except Failed as fault:
            if fault.code != "task-exists":
                raise
        return self._show(task)

    def claim(
        self,
        *tasks: str,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        reopen: bool = False,
        note: str | None = None,
        dry_run: bool = False,
    ) -> ClaimResult:
        """Claim the tasks, all or none. Losing is a result, not an exception.

        Raises `OutcomeUnknown`, `Failed`, `Integrity`.
        """
        wanted = operations.claim(tasks, ttl=ttl, reopen=reopen, note=note)
        return self._claim(wanted, lambda: sorted(set(tasks)), wait, dry_run=dry_run)

    def claim_next(
        self,
        *,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        note: str | None = None,
        dry_run: bool = False,
    ) -> ClaimResult:
        """Claim the claimable task of the highest priority, of these the oldest."""
        chosen: list[str] = []

        def choose(now: State, at: int) -> list[str]:
            chosen[:] = _next_task(now, self._lines(now), at)
            return chosen

        wanted = operations.claim_of("claim --next", choose, ttl=ttl, reopen=False, note=note)
        return self._claim(wanted, lambda: chosen, wait, dry_run=dry_run, look=True)

    def _claim(
        self,
        wanted: Operation,
        chosen: Callable[[], list[str]],
        wait: timedelta | None,
        *,
        dry_run: bool,
        look: bool = False,
    ) -> ClaimResult:
        def attempt() -> ClaimResult:
            try:
                if dry_run:
                    self._begin()
                    now, landed = self.writer().dry_run(wanted.build), None
                else:
                    landed = self._write(wanted, look=look)
                    now = landed.state
            except Lost as lost:
                names = chosen()
                renewable = lost.code == "already-yours" and len(names) == 1 and not dry_run
                if renewable and self.settings.session is not None:
                    return ClaimResult("renewed", (self.renew(names[0], ttl=wanted.ttl),))
                return self._lost(lost, names)
            return ClaimResult("won", tuple(self._shown(now, name, landed) for name in chosen()))

        return self._until_won(attempt, wait)

    def _until_won(self, attempt: Callable[[], ClaimResult], wait: timedelta | None) -> ClaimResult:
        """Try again whenever the ledger changed or a lease ran out, until `wait` is over."""
        end = self._clock() + (milliseconds(wait) if wait else 0)
        while True:
            result = attempt()
            waiting = ("held", "blocked", "nothing-to-claim", "too-early")
            if result.won or result.code not in waiting or self._clock() >= end:
                return result
            self._wait_for_change(min(end, *self._wake_times(result.code)))

    def _wake_times(self, code: str) -> list[int]:
        """When a lease runs out: any, for what is waited for may be any."""
        now, clock = self.replica.position().state, self._clock()
        if code == "too-early":  # by the server's clock, which is at most that far behind
            return [clock + now.skew]
        held = (task for task in self._lines(now) if task["status"] == "claimed")
        return [at for at in map(now.claimable_at, held) if at > clock] or [clock + MOST_WAIT]

    def _lost(self, lost: Lost, tasks: list[str]) -> ClaimResult:
        now = self.replica.position().state
        mine = [name for name in tasks if now.task(name)]
        way = [self._shown(now, name) for name in mine]
        if len(way) > 1:
            way = [
                claim
                for claim in way
                if claim.status != "open" or now.waits_for(now.task(claim.task))
            ]
        return ClaimResult("lost", tuple(way), lost.code, lost.message, lost.hint)

    def renew(self, task: str, *, ttl: timedelta | None = None) -> Claim:
        """Extend the lease that this session holds. Raises `Lost`."""
        return self._change(task, operations.renew(task, ttl=ttl))

    def complete(self, task: str, *, result: str | None = None) -> Claim:
        """Finish a task that this session holds. Repeating it is no error. Raises `Lost`."""
        wanted = operations.complete(task, result=result)
        me = self.identity()
        try:
            return self._change(task, wanted)
        except Lost as lost:
            mine = lost.data.get("agent") == me.agent and lost.data.get("session") == me.session
            if lost.code == "done" and mine:
                return self._shown(self.replica.position().state, task)
            raise

    def release(self, task: str, *, reason: str | None = None, force: bool = False) -> Claim:
        """Give a task back; with `force` an admin takes anybody's. Raises `Lost`."""
        return self._change(task, operations.release(task, reason=reason, force=force))

    def _change(self, task: str, wanted: Operation) -> Claim:
        landed = self._write(wanted)
        return self._shown(landed.state, task, landed)

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect operations, and land them with as few pushes as it takes when the block ends.

            with ledger.batch() as batch:
                batch.submit("task-1")
                batch.claim("task-1")
            batch.outcomes  # one for each, in this order

        Each stands for itself: one that is refused keeps no other back.
        """
        batch = Batch()
        yield batch
        if batch.operations:
            self._begin()
            wanted = [(one.what, one.build) for one in batch.operations]
            found = self.writer().write_all(wanted)
            batch.outcomes = [
                _outcome(operation.what, one)
                for operation, one in zip(batch.operations, found, strict=True)
            ]

    def tasks(self) -> list[Claim]:
        """All tasks: by priority (highest first), then by age; what is done comes last."""
        return self.some_tasks()[0]

    def some_tasks(
        self,
        statuses: Collection[str] = (),
        agent: str | None = None,
        limit: int | None = None,
    ) -> tuple[list[Claim], int]:
        """The first `limit` of the tasks that have one of `statuses` and are `agent`'s, in the
        order of `tasks`; and how many there are. What is not asked for is not verified.
        """
        now, at = self._read(), self._clock()
        found = [
            task
            for task in self._lines(now)
            if (not statuses or _status(task, at, now.skew) in statuses)
            and agent in (None, task["agent"])
        ]
        found.sort(key=lambda task: (task["status"] == "done", _urgency(task)))
        wanted = found[:limit]
        claims: list[Claim] = []
        for start in range(0, len(wanted), _LOT):
            lot = wanted[start : start + _LOT]
            seqs = {seq for task in lot for seq in (task["last_seq"], task["claim_seq"])}
            oids = [self.local.id_at(seq) for seq in seqs if seq is not None]
            self.local.repository.read_ahead([oid for oid in oids if oid])
            claims += [self._claim_of(now, task, at=at) for task in lot]
        return claims, len(found)

    def _lines(self, now: State) -> Iterator[Record]:
        """All tasks as they stand in the state."""
        self.local.repository.read_ahead(now.unread_pages())
        return now.tasks()

    def show(self, task: str) -> Claim:
        """One task. Raises `Failed`: unknown-task."""
        need_task(task)
        self._read()
        return self._show(task)

    def _show(self, task: str) -> Claim:
        return self._shown(self.replica.position().state, task)

    def _shown(self, now: State, name: str, landed: Published | None = None) -> Claim:
        task = now.task(name)
        if task is None:
            raise error("unknown-task", task=name)
        return self._claim_of(now, task, landed)

    def _claim_of(
        self, now: State, task: Record, landed: Published | None = None, at: int | None = None
    ) -> Claim:
        """`landed` is what made this state, where that is more than the copy has; `at` the
        moment that it is for, if that is not this one.
        """
        fresh = landed if landed and landed.here.seq == task["last_seq"] else None
        newest = fresh.here if fresh else self.replica.commit_at(task["last_seq"])
        same = task["claim_seq"] in (None, task["last_seq"])
        claim = newest if same else self.replica.commit_at(task["claim_seq"])
        claim = None if task["claim_seq"] is None else claim
        live = task["status"] == "claimed"
        note = claim.record.get("note") if claim and task["status"] != "open" else None
        result = newest.record.get("result") if newest and task["status"] == "done" else None
        return Claim(
            task=task["task"],
            status=_status(task, self._clock() if at is None else at, now.skew),
            agent=task["agent"],
            session=task["session"],
            epoch=task["epoch"],
            rev=task["rev"],
            claimed_at=moment(timestamps.parse(task["claimed_at"])) if task["claimed_at"] else None,
            expires_at=moment(timestamps.parse(task["until"])) if live else None,
            claimable_at=moment(now.claimable_at(task)) if live else None,
            note=note,
            result=result,
            priority=task["priority"],
            meta=task["meta"],
            after=tuple(task["after"]),
            waits_for=tuple(now.waits_for(task)) if task["status"] == "open" else (),
            seq=fresh.seq if fresh else task["last_seq"],
            commit=fresh.oid if fresh else newest.oid if newest else None,
            verdict=self._verdict_of(task, newest, claim),
        )

    def _verdict_of(self, task: Record, newest: Commit | None, claim: Commit | None) -> str:
        """Of the records that the line stands on: the newest, and the claim if it is held."""
        needed = [newest] if task["status"] == "open" else [newest, claim]
        if not all(needed):
            return UNVERIFIED
        found = {self.replica.verdict_of(record) for record in needed if record}
        if task["status"] != "open" and claim and not _claims(claim.record, task):
            return INVALID
        order = (INVALID, UNKNOWN_KEY, UNVERIFIED)
        return next((bad for bad in order if bad in found), AUTHENTIC)

    def history(self, task: str) -> list[Event]:
        """Every record about a task that this copy has, oldest first."""
        need_task(task)
        line = self._read().task(task)
        if line is None:
            raise error("unknown-task", task=task)
        events = []
        known = self.replica.trusted  # a shallow copy's state may say anything
        for seq in range(max(line["first_seq"], known.first), min(line["last_seq"], known.seq) + 1):
            found = self.replica.commit_at(seq)
            if found and task in _tasks_of(found.record):
                events.append(self._event(found, task))
        return events

    def _event(self, found: Commit, task: str) -> Event:
        r = found.record
        epochs = [item["epoch"] for item in r.get("tasks", ()) if item["task"] == task]
        at = moment(timestamps.parse(r["at"]))
        if at is None:
            raise AssertionError("a record has its time")
        return coordledger.Event(
            seq=found.seq,
            at=at,
            kind=r["kind"],
            agent=r["agent"],
            session=r["session"],
            epoch=epochs[0] if epochs else r.get("epoch"),
            text=r.get("note") or r.get("result") or r.get("reason"),
            subject=records.subject(r),
            commit=found.oid,
            verdict=self.replica.verdict_of(found),
        )

    def require(
        self,
        task: str,
        *,
        by: str | None = None,
        epoch: int | None = None,
        trust_server: bool = False,
    ) -> Claim:
        """The live, authentic claim on a task, or an exception: a gate for scripts.

        A lease counts until `max_skew` before its end, so that nobody acts on one that
        another clock has seen end. Raises `Lost`: not-live, not-holder, wrong-epoch,
        holder-revoked; `Failed`: no-key, nobody-checked, unknown-task;
        `Integrity`: bad-signature.
        """
        if self.settings.offline:
            raise error("bad-value", what="--offline", why="a gate asks the remote")
        claim = self.show(task)
        now = self.replica.position().state
        held = {"task": task, "agent": claim.agent, "session": claim.session, "epoch": claim.epoch}
        ends = claim.expires_at - timedelta(milliseconds=now.skew) if claim.expires_at else None
        if ends is None or ends <= (moment(self._clock()) or ends):
            raise error("not-live", task=task)
        if by not in (None, claim.agent):
            raise error("not-holder", **held)
        if epoch not in (None, claim.epoch):
            raise error("wrong-epoch", task=task, epoch=claim.epoch, got=epoch)
        if not _agent(now, str(claim.agent)).active:
            raise error("holder-revoked", task=task, agent=claim.agent)
        if claim.verdict in (INVALID, UNKNOWN_KEY):
            raise error("bad-signature", agent=claim.agent, key="?")
        if claim.verdict == UNVERIFIED and not trust_server:
            raise error("no-key", agent=claim.agent)
        if claim.verdict == UNVERIFIED and self.replica.trusted.enforcement != "server":
            raise error("nobody-checked", agent=claim.agent)
        return claim

    # -- messages

    def send(
        self,
        body: str,
        *,
        to: str | None = None,
        channel: str | None = None,
        thread: int | None = None,
        importance: str = "normal",
    ) -> Message:
        """Send to one agent or to one channel."""
        wanted = operations.send(body, to=to, channel=channel, thread=thread, importance=importance)
        landed = self._write(wanted)
        return self._message(landed.here.record | {"seq": landed.seq}, to, channel)

    def inbox(
        self,
        *,
        everything: bool = False,
        channel: str | None = None,
        wait: timedelta | None = None,
    ) -> list[Message]:
        """What is addressed to this agent and not acknowledged, and what is unread in the
        configured channels (or only in `channel`); `everything` takes read ones too.

        With `wait` it blocks until there is something or the time is over.
        """
        me = self.settings.need_agent
        if channel is not None:
            need_channel(channel)
        end = self._clock() + (milliseconds(wait) if wait else 0)
        while True:
            found = self._inbox(self._read(), me, channel, everything=everything)
            if found or self._clock() >= end:
                return found
            self._wait_for_change(end)

    def _inbox(self, now: State, me: str, only: str | None, *, everything: bool) -> list[Message]:
        found = []
        if only is None:
            found += [self._message(line, me, None) for line in now.inbox(me)]
        for channel in [only] if only else self.settings.channels:
            read = set() if everything else set(self._read_marks(me, channel))
            found += [
                self._message(line, None, channel)
                for line in now.channel(channel)
                if line["seq"] not in read and (everything or line["agent"] != me)
            ]
        return sorted(found, key=lambda message: message.seq)

    def _read_marks(self, me: str, channel: str) -> list[int]:
        return self.replica.trusted.read.get(f"{me}/{channel}", [])

    def messages(self, channel: str, limit: int | None = None) -> list[Message]:
        """What a channel keeps, oldest first; the newest `limit` of it."""
        need_channel(channel)
        lines = self._read().channel(channel)
        return [self._message(line, None, channel) for line in lines[-(limit or len(lines)) :]]

    def ack(self, *seqs: int) -> list[int]:
        """Acknowledge messages: direct ones by a record, channel ones in this clone only.

        Raises `Failed`: not-in-inbox.
        """
        me = self.settings.need_agent
        now = self._read()
        wanted = sorted(set(seqs))
        direct = {line["seq"] for line in now.inbox(me)}
        kept = {name: {line["seq"] for line in now.channel(name)} for name in now.channels()}
        for seq in wanted:
            if seq not in direct and not any(seq in there for there in kept.values()):
                raise error("not-in-inbox", seq=seq)
        mine = [seq for seq in wanted if seq in direct]
        for at in range(0, len(mine), MAX_ACK):
            part = mine[at : at + MAX_ACK]
            self._write(Operation("ack", lambda now, at, part=part: ("ack", {"messages": part})))  # type: ignore[misc]
        self._mark_read(me, kept, set(wanted) - direct)
        return wanted

    def _mark_read(self, me: str, kept: dict[str, set[int]], seqs: set[int]) -> None:
        if not seqs:
            return
        with self.local.lock(self._git.deadline):
            known = self.replica.trusted
            marks = dict(known.read)
            for channel, there in kept.items():
                name = f"{me}/{channel}"
                read = (set(marks.get(name, [])) | seqs) & there
                if read:
                    marks[name] = sorted(read)
            self.local.save(known._replace(read=marks))

    def _message(self, line: Record, to: str | None, channel: str | None) -> Message:
        found = self.replica.commit_at(line["seq"])
        sent_at = moment(timestamps.parse(line["at"]))
        if sent_at is None:
            raise AssertionError("a message has its time")
        verdict = self.replica.verdict_of(found) if found else UNVERIFIED
        if found and not _sends(found.record, line, to, channel):
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
            sent_at=sent_at,
            commit=found.oid if found else None,
            verdict=verdict,
        )

    def _wait_for_change(self, until: int) -> None:
        """Return when the remote's head has moved or the clock has reached `until`."""
        pause = POLL_LEAST
        while True:
            left = (until - self._clock()) / 1000
            if left <= 0:
                return
            time.sleep(min(left, pause * (0.75 + self._jitter() / 2)))
            pause = min(POLL_MOST, pause * 1.5)
            self._begin()
            try:
                moved = self.remote.head(self.local.remote_ref) != self.replica.trusted.commit
            except Failed:
                continue  # a remote that is away for a moment is waited for too
            if moved:
                return

    # -- agents and policy

    def agents(self) -> list[Agent]:
        now = self._read()
        return [_agent(now, name) for name in now.agents()]

    def enroll(self, who: str, *, admin: bool = False, secret: Secret | None = None) -> Path:
        """Enrol an agent, or another key of one; the file with its secret.

        The secret is derived from the master, or `secret`, which then has to be on the
        server too. Raises `Failed`: no-master, not-permitted, bad-agent.
        """
        if not is_identifier(who):
            raise error("bad-agent", value=who)
        self._read()
        ledger = self.replica.position().state.ledger
        masters = config.masters(self.settings, ledger["ledger"])
        if not masters and secret is None:
            where = self.settings.config_dir / "masters" / ledger["ledger"]
            raise error("no-master", where=where)

        def build(now: State, at: int) -> tuple[str, Fields]:
            entry = now.agent(who) or {"rev": 0, "keys": [], "role": "agent"}
            number = len(entry["keys"]) + 1
            chosen = secret or masters[-1].derive(ledger["nonce"], who, number)
            self._put_secret(who, chosen, on_server=secret is not None)
            return "enroll", {
                "who": who,
                "rev": entry["rev"] + 1,
                "id": number,
                "alg": ALG,
                "fingerprint": chosen.fingerprint(ledger["nonce"], who, number),
                "role": "admin" if admin else entry["role"],
            }

        self._write(Operation(f"enroll {who}", build))
        return self.finder.home(who)

    def _put_secret(self, who: str, secret: Secret, *, on_server: bool) -> None:
        """Files first: a record that names a secret never lands before the secret is safe."""
        keyfiles.append(str(self.finder.home(who)), secret)
        server = self.settings.remote.folder
        if on_server and server and os.path.isdir(f"{server}/coordledger"):  # noqa: PTH112
            keyfiles.append(f"{server}/coordledger/{who}.secret", secret)

    def revoke(self, who: str, key: int | None = None) -> list[int]:
        """Revoke one key, or (without a number) every active one. Raises `Failed`."""
        if not is_identifier(who):
            raise error("bad-agent", value=who)
        entry = self._read().agent(who)
        if entry is None:
            raise error("unknown-agent", who=who)
        active = [item["id"] for item in entry["keys"] if item["until"] is None]
        wanted = [key] if key is not None else active
        for number in wanted:

            def build(now: State, at: int, number: int = number) -> tuple[str, Fields]:
                rev = (now.agent(who) or {"rev": 0})["rev"] + 1
                return "revoke", {"who": who, "rev": rev, "id": number}

            self._write(Operation(f"revoke {who}/{number}", build))
        return wanted

    def policy(self, **changes: int) -> dict[str, int]:
        """The policy, after the changes if there are any (an admin's record)."""
        if not changes:
            return dict(self._read().ledger["policy"])
        for key, value in changes.items():
            if key not in POLICY:
                raise error("bad-value", what=key, why="no such key of the policy")
            if key == "max_skew":
                raise error("bad-value", what=key, why="it is fixed when the ledger is made")
            _, least, most = POLICY[key]
            if not least <= value <= most:
                raise error("bad-policy", key=key, value=value, least=least, most=most)

        def build(now: State, at: int) -> tuple[str, Fields]:
            return "policy", {"rev": now.ledger["policy_rev"] + 1, "set": dict(changes)}

        self._write(Operation("policy", build))
        return dict(self.replica.position().state.ledger["policy"])

    # -- looking after it

    def audit(self, *, full: bool = False, since: int | None = None, resume: bool = False) -> Audit:
        """Verify what this clone has not audited yet; `full`: from the first record on.

        An audit that is interrupted has noted how far it was: the next one that is not `full`
        begins there, and a full one if it is to `resume`. Only bringing the copy up to date is
        under the timeout: the rest waits for nobody.
        """
        self._read()
        known = self.replica.trusted
        if since is not None and since > known.seq:
            raise error("bad-value", what="--since", why=f"the newest record is {known.seq}")
        start = since if since is not None else (0 if full else known.audited + 1)
        start = max(start, known.first)
        noted = self.replica.auditing() if full and resume else None
        begin, before = (noted["seq"] + 1, noted["verdicts"]) if noted else (start, {})

        def note(head: Commit, counts: dict[str, int]) -> None:
            place = {"seq": head.seq, "commit": head.oid, "verdicts": counts}
            self._note_audit(start, head.seq, **({"auditing": place} if full else {}))

        counts, problems, last = self.replica.audit(begin, before, note)
        self._note_audit(start, -1 if problems else last, **({"auditing": None} if full else {}))
        total = sum(counts.values())
        resumed = begin if noted else None
        return coordledger.Audit(
            known.ledger, known.commit, total, counts, tuple(problems), start, resumed
        )

    def _note_audit(self, start: int, last: int, **changes: Any) -> None:
        """Everything from `start` to `last` has been audited. It may have taken long."""
        self._git.deadline = Deadline(self.settings.timeout)
        with self.local.lock(self._git.deadline):
            now = self.replica.trusted
            newest = max(now.audited, last) if start <= now.audited + 1 else now.audited
            self.local.save(now._replace(audited=newest, **changes))

    def damage(self) -> Damage | None:
        """Where the remote's history stops being valid; None if it does not.

        What this copy has adopted is looked at again, too: keys may have come since.
        """
        self._begin()
        return self.replica.damage() or self.replica.damage_adopted()

    def repair(self, found: Damage) -> Head:
        """Cut the remote back to the last valid record: what follows it is given up.

        For remotes without a hook; the caller has shown it and was told yes. It is logged.
        Raises `Failed`: push-refused, …
        """
        self._begin()
        self.local.log(f"repair: from {found.head} to {found.last.seq}:{found.last.digest}")
        push = self.remote.push(self.local.remote_ref, found.head, found.last.oid)
        if push.outcome != WON:
            raise push_error(push, self.remote.shown)
        if self.replica.trusted.seq > found.last.seq:  # adopted before the keys were here
            self.reset()
        return self.head()

    def resolve(self) -> list[Settled]:
        """Settle what is open: landed, or voided so that it never can; or still open."""
        self._begin()
        found = self.writer().resolve()
        return [
            coordledger.Settled(intent.what, intent.op, intent.outcome, intent.seq)
            for intent in found
        ]

    def status(self) -> Status:
        now = self._read()
        known = self.replica.trusted
        me = self.settings.agent
        session = self.identity().session if me else None
        held = sorted((t for t in self._lines(now) if me and t["agent"] == me), key=_urgency)
        mine = [self._claim_of(now, task) for task in held]
        live = tuple(claim for claim in mine if claim.status in ("claimed", "expired"))
        unread = len(self._inbox(now, me, None, everything=False)) if me else 0
        return coordledger.Status(
            known.ledger,
            self.local.remote_ref,
            self.settings.remote.shown,
            known.commit,
            known.seq,
            me,
            session,
            known.enforcement,
            live,
            unread,
        )


# -- what the use cases share


def surroundings(
    options: Options, environ: Mapping[str, str]
) -> tuple[Settings, Repository | None, Git]:
    """Settings, the repository around the path (None outside of any), and git there."""
    if not options.path.is_dir():
        raise error("not-a-repository", path=options.path)
    named, git = environ.get("GIT_DIR"), git_at(options, environ)
    try:
        repository = Repository.open(git, options.path.absolute() / named if named else None)
        git = repository.git = git_in(repository, environ, git.deadline)
    except Failed as fault:
        if fault.code != "not-a-repository" or named:
            raise
        repository = None
    base = (repository.root or repository.git_dir) if repository else None
    settings = config.load(options, environ, git, base)
    return settings, repository, git


def git_in(repository: Repository, environ: Mapping[str, str], deadline: Deadline) -> Git:
    """Git for this very repository, whatever the directory; relative URLs are its root's."""
    env = child_environment(environ) | {"GIT_DIR": str(repository.git_dir)}
    return Git(env, repository.root or repository.git_dir, deadline)


def git_at(options: Options, environ: Mapping[str, str]) -> Git:
    """Git in a directory, for repositories that are named in its arguments."""
    return Git(child_environment(environ), options.path, Deadline(options.timeout))


def _private_clone(settings: Settings, git: Git) -> Repository:
    """A bare repository in the cache: what serves outside of any repository."""
    name = digest("sha256", settings.remote.given.encode()).hex()[:24]
    path = settings.cache_dir / f"{name}.git"
    if not (path / "HEAD").exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        git.output("init", "--quiet", "--bare", "--template=", "--", str(path))
    return Repository.open(git, path)


def _status(task: Record, at: int, skew: int) -> str:
    """How a task stands at a moment, as people are told: its holder's lease runs, or is over."""
    stands = standing(task, at, skew)
    return {"held": "claimed", "grace": "expired"}.get(stands, stands)


def _urgency(task: Record) -> tuple[int, int, str]:
    return -task["priority"], task["first_seq"], task["task"]


def _next_task(now: State, tasks: Iterator[Record], at: int) -> list[str]:
    for task in sorted(tasks, key=_urgency):
        free = standing(task, at, now.skew) in ("open", "expired")
        if free and not now.waits_for(task):
            return [task["task"]]
    raise error("nothing-to-claim")


def _tasks_of(r: Record) -> list[str]:
    return [item["task"] for item in r["tasks"]] if "tasks" in r else [r.get("task", "")]


def _claims(r: Record, task: Record) -> bool:
    """Whether a record is the claim that a task's line speaks of."""
    return (
        r["kind"] == "claim"
        and (r["agent"], r["session"]) == (task["agent"], task["session"])
        and (task["task"], task["epoch"]) in ((i["task"], i["epoch"]) for i in r["tasks"])
    )


def _sends(r: Record, line: Record, to: str | None, channel: str | None) -> bool:
    """Whether a record is the message that an inbox or a channel shows."""
    same = ("agent", "session", "at", "thread", "importance", "body")
    return (
        r["kind"] == "send"
        and (r["to"], r["channel"]) == (to, channel)
        and all(r[name] == line[name] for name in same)
    )


def _outcome(what: str, found: Published | CoordledgerError) -> Outcome:
    if isinstance(found, Published):
        claimed = found.here.record.get("tasks", ())
        epoch = claimed[0]["epoch"] if len(claimed) == 1 else found.here.record.get("epoch")
        return coordledger.Outcome(what, "landed", found.seq, found.oid, epoch)
    how = {LOST: "lost", UNKNOWN: "unknown"}.get(found.exit_code, "failed")
    return coordledger.Outcome(
        what, how, None, None, None, found.code, found.message, found.hint, found
    )


def _agent(now: State, name: str) -> Agent:
    entry: dict[str, Any] = now.agent(name) or {}
    keys = tuple(
        coordledger.Key(key["id"], key["alg"], key["fingerprint"], key["from"], key["until"])
        for key in entry["keys"]
    )
    role = "owner" if name == now.ledger["owner"] else entry["role"]
    active = any(key.until_seq is None for key in keys)
    return coordledger.Agent(name, role, entry["rev"], active, keys)
