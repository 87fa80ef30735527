"""The use cases: what an agent, an admin or an auditor does with a ledger.

    with Ledger.open(agent="alice") as ledger:
        if ledger.claim("task-1", ttl=timedelta(minutes=30)).won:
            ...
            ledger.complete("task-1", result="merged as 3f2c1a")

Rules of this file: a use case reads a state or has a record written, and shows what came of it.
How a ledger is opened, read and written is `opening`'s, what records say `operations`', what a
state shows `views`'; whether a record fits is decided by `format.state` alone. Every public
method ends within the timeout, or with its wait.
"""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import coordledger  # what is made of its names is imported when it is made
from coordledger import client
from coordledger.client import claiming, operations, submitting, waiting
from coordledger.client.config import Options
from coordledger.client.mailbox import Mail
from coordledger.client.opening import connect, silent
from coordledger.client.operations import need_task
from coordledger.client.views import Views, agents_of
from coordledger.deadline import unix_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from coordledger.client.batch import Batch
    from coordledger.client.claims import Claim, ClaimResult
    from coordledger.client.facts import Facts
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Progress
    from coordledger.client.reports import (
        Agent,
        Audit,
        Damage,
        Delegate,
        Event,
        Head,
        Purged,
        Settled,
        Status,
    )
    from coordledger.format.signing import Secret


class Ledger(Mail):
    """One ledger as one agent's session sees it. Not for use by several threads at once.

    `task` and `tasks` are tasks' ids, `ttl` is how long a lease lasts (by default an hour, or as
    long as the policy allows), `wait` how long to try again, `note`, `result` and `reason` are
    texts that the record keeps for people, `channel` is a channel's name. Spans are `timedelta`s.

    Every method may raise `Failed` (among others remote-unreachable, timeout, no-agent) and
    `Integrity`, if the remote's history does not continue the verified one. Below a record there
    that is not valid, reading goes on (`status` names it), and writing raises `Integrity`, or
    `OutcomeUnknown` where the remote gave no answer. Other errors are named.
    """

    def __init__(self, connection: Connection) -> None:
        """Most callers want `open`."""
        super().__init__(connection, Views(connection.replica, connection.clock))
        self._replica = connection.replica

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
        ssh_key: str | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], int] = unix_ms,
        progress: Progress = silent,
    ) -> Self:
        """The ledger of the clone around `path`, or the user's own outside of any.

        `agent`, `session`, `remote` (a name, a path or a URL) and `ledger` (a name) default to
        the environment `environ` (by default this process's) and to git's configuration. Each
        method has the whole `timeout`. `offline` answers from the local copy. `clock()` gives
        milliseconds since 1970; `progress(what, done, of)` hears of long work. `ssh_key`: a file,
        a line (ssh-agent signs), "git". Raises `Failed`: not-a-repository, no-remote, bad-agent, …
        """
        options = Options(
            path=Path(path),
            agent=agent,
            session=session,
            remote=remote,
            ledger=ledger,
            timeout=operations.seconds(timeout),
            offline=offline,
            ssh_key=ssh_key,
        )
        env = os.environ if environ is None else environ
        return cls(connect(options, env, clock=clock, progress=progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what it keeps running: a reader of objects, a connection."""
        self.connection.close()

    # -- where it stands

    def join(self, *, depth: int | None = None, pin: str | None = None) -> Head:
        """Fetch, verify, remember the head.

        `depth` brings only so many of the newest records, and verifies nothing below them;
        `pin` (a ledger's id, `SEQ:DIGEST`, or both) refuses any other history. Raises `Failed`:
        not-a-ledger, bad-value; `Integrity`: pin-mismatch.
        """
        self.connection.join(depth, pin)
        return self.head(refresh=False)

    def reset(self) -> None:
        """Forget the verified head: the only way back. The caller has asked."""
        self.connection.begin()
        self.connection.reset()

    def head(self, *, refresh: bool = True) -> Head:
        """The newest verified head; without `refresh` this copy's, and the remote is not asked."""
        if refresh:
            self.connection.read()
        trusted = self._replica.trusted
        return coordledger.Head(trusted.ledger, trusted.seq, trusted.digest, trusted.commit)

    def compare(self, line: str) -> Head:
        """Whether another copy's `line`, as `Head.line` makes it, belongs to this history. Raises
        `Integrity`: head-differs; `Failed`: bad-value, gone.
        """
        client.heads.compare(self.connection, line)
        return self.head(refresh=False)

    def status(self) -> Status:
        """Where the ledger stands, the claims of this agent, and how much it has not read."""
        state, settings = self.connection.read(), self.connection.settings
        session = self.connection.identity().session if settings.agent else None
        return self._views.status(state, settings, session)

    # -- tasks

    def submit(
        self,
        task: str,
        *,
        priority: int = 0,
        meta: Mapping[str, str] | None = None,
        after: Iterable[str] = (),
    ) -> Claim:
        """Offer a task, which cannot be claimed before those in `after` are done.

        The highest `priority` (-1,000,000 to 1,000,000) comes first; `meta` has at most 16 names
        with texts. Repeating it changes nothing, and `created` is false then. Raises `Lost`:
        task-differs, if it is there with other attributes (`data` has the `claim` and the
        `differences`); `Failed`: unknown-task (in `after`), …
        """
        given: dict[str, Any] = {"priority": priority, "meta": meta, "after": after}
        return submitting.submit(self.connection, self._views, task, **given)

    def withdraw(self, task: str, *, reason: str | None = None) -> Claim:
        """Take back an offer that nobody holds: its submitter does, or an admin.
        Raises `Lost`: held, done, withdrawn; `Failed`: unknown-task, not-permitted.
        """
        return submitting.withdraw(self.connection, self._views, task, reason)

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

        It is tried again for `wait`, while the tasks are held or wait for others. `reopen` takes
        tasks that are done, too. `dry_run` writes nothing.
        """
        operation = operations.claim(tasks, ttl=ttl, reopen=reopen, note=note)
        connection, views = self.connection, self._views
        names = sorted(set(tasks))
        return claiming.claim(connection, views, operation, lambda: names, wait, dry_run=dry_run)

    def claim_next(
        self,
        *,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        note: str | None = None,
        dry_run: bool = False,
    ) -> ClaimResult:
        """Claim the claimable task of the highest priority, of these the oldest.

        Arguments and errors are those of `claim`; `dry_run` writes nothing.
        """
        choice = claiming.Choice(self._views.lines)
        operation = operations.claim_of(
            "claim --next", choice.make, ttl=ttl, reopen=False, note=note
        )
        operation = operation._replace(choose_again=choice.is_refused)
        connection, views, tasks = self.connection, self._views, choice.tasks
        return claiming.claim(connection, views, operation, lambda: tasks, wait, dry_run=dry_run)

    def renew(self, task: str, *, ttl: timedelta | None = None) -> Claim:
        """Extend the lease that this session holds to `ttl` from now; one that lasts as long
        already is kept, and nothing is written. Raises `Lost`.
        """
        return self.renewal(task, ttl=ttl).claims[0]

    def renewal(self, task: str, *, ttl: timedelta | None = None) -> ClaimResult:
        """As `renew`, with its outcome: renewed or kept. Raises `Lost`."""
        return claiming.renew(self.connection, self._views, task, ttl)

    def complete(self, task: str, *, result: str | None = None) -> Claim:
        """Finish a task that this session holds. Repeating it is no error. Raises `Lost`."""
        return claiming.complete(self.connection, self._views, task, result)

    def release(self, task: str, *, reason: str | None = None, force: bool = False) -> Claim:
        """Give a task back; with `force` an admin takes anybody's. Raises `Lost`."""
        operation = operations.release(task, reason=reason, force=force)
        published = self.connection.write(operation)
        return self._views.claim(published.state, task, published)

    def wait(
        self, *tasks: str, until: str = "done", timeout: timedelta | None = None
    ) -> list[Claim]:
        """Block `until` all of the tasks are done, free (to be claimed now) or claimed, but no
        longer than `timeout`, by default a day; the tasks as they are then.

        Raises `Lost`: cannot-become, if one of them is withdrawn, done or (where it is not to be
        claimed) not there; `Failed`: waited-in-vain.
        """
        return waiting.until_so(self.connection, self._views, tasks, until, timeout)

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect operations, and land them with as few pushes as it takes when the block ends.

            with ledger.batch() as batch:
                batch.submit("task-1")
                batch.claim("task-1")
            batch.outcomes  # one for each, in this order

        Each stands for itself: one that is refused keeps no other back.
        """
        batch = client.batch.Batch()
        yield batch
        if batch.operations:
            self.connection.begin()
            client.batch.land(batch, self.connection.writer())

    def tasks(self) -> list[Claim]:
        """All tasks: by priority (highest first), then by age; what is done comes last."""
        return self.some_tasks()[0]

    def some_tasks(
        self,
        statuses: Collection[str] = (),
        agent: str | None = None,
        limit: int | None = None,
        checked: str | None = None,
    ) -> tuple[list[Claim], int]:
        """The first `limit` of the tasks that have one of `statuses`, are `agent`'s and were
        `checked` by here, server or nobody, in the order of `tasks`; and how many there are. Tasks
        that are not asked for are not verified.
        """
        return self._views.claims(self.connection.read(), statuses, agent, limit, checked)

    def show(self, task: str) -> Claim:
        """One task. Raises `Failed`: unknown-task."""
        need_task(task)
        return self._views.claim(self.connection.read(), task)

    def history(self, task: str) -> list[Event]:
        """Every record about a task that this copy has, oldest first. Raises `Failed`:
        unknown-task.
        """
        need_task(task)
        return self._views.history(self.connection.read(), task)

    def require(
        self,
        task: str,
        *,
        by: str | None = None,
        epoch: int | None = None,
        check: str | None = None,
    ) -> Claim:
        """The live claim on a task whose records are checked, or an exception: a gate for scripts.

        It has to be the claim of the agent `by` and to have the `epoch`, where these are given; an
        `epoch` without `by` is one that this agent's session has been told, so the claim has to be
        this session's. The key that signed it has to be valid still. Its records are checked here,
        with a key, or by the server's hook, which is asked to vouch for them now; `check="here"`
        demands the former. A lease counts until `max_skew` before its end, by the server's clock
        and this machine's. Raises `Lost`: not-live, not-holder, wrong-epoch, holder-revoked,
        claim-key-revoked; `Failed`: no-key, nobody-checked, unverified-below, unknown-task,
        no-agent; `Integrity`: bad-signature, invalid-below, vouch-differs, remote-behind.
        """
        need_task(task)
        both = self.connection, self._views
        return client.gate.require(*both, task, by=by, epoch=epoch, check=check)

    # -- facts

    @property
    def facts(self) -> Facts:
        """The shared facts, to be set, read, listed and removed."""
        return client.facts.Facts(self.connection, self._views)

    # -- agents and policy

    def agents(self) -> list[Agent]:
        """All enrolled agents with their keys, revoked ones too; delegates after their agent."""
        return agents_of(self.connection.read())

    def enroll(self, who: str, *, admin: bool = False, secret: Secret | None = None) -> Path:
        """Enrol the agent `who`, or another key of it; the file with its secret.

        `admin` makes it an admin. The secret is derived from the master, or `secret`, which then
        has to be on the server too. Raises `Failed`: no-master, not-permitted, bad-agent.
        """
        return client.administration.enroll(self.connection, who, admin=admin, secret=secret)

    def enroll_ssh(self, who: str, ssh_key: str, *, admin: bool = False) -> None:
        """As `enroll`, with `who` and `admin`, by the public line `ssh_key` of an SSH key. Raises
        `Failed`: bad-ssh-key, not-permitted, bad-agent.
        """
        client.administration.enroll_ssh(self.connection, who, ssh_key, admin=admin)

    def delegate(self, name: str | None = None, *, ssh: bool = False) -> Delegate:
        """Enrol a delegate of mine, `name` after my own name and a dot, by a new key: an SSH key
        if mine is one, or with `ssh`. Raises `Failed`: agent-exists, not-permitted, bad-agent.
        """
        return client.administration.delegate(self.connection, name, ssh=ssh)

    def revoke(self, who: str, key: int | None = None) -> list[int]:
        """Revoke the key number `key` of the agent `who`, or every active one; what was revoked.
        Raises `Failed`: unknown-agent, bad-key, last-key, not-permitted.
        """
        return client.administration.revoke(self.connection, who, key)

    def purge(self, who: str) -> Purged:
        """Revoke all keys of `who` and below, undo what they hold, have offered and have set.
        Raises `Failed`: unknown-agent, last-key, not-permitted.
        """
        return client.administration.purge(self.connection, who)

    def policy(self, **changes: int) -> dict[str, int]:
        """The policy, after the `changes` (key=value) if there are any (an admin's record).

        Raises `Failed`: bad-value, bad-policy, not-permitted.
        """
        if changes:
            return client.administration.change_policy(self.connection, changes)
        return dict(self.connection.read().ledger["policy"])

    # -- looking after it

    def audit(self, *, full: bool = False, since: int | None = None, resume: bool = False) -> Audit:
        """Verify what this clone has not audited yet; `full`: from the first record on;
        `since`: from the record with that seq on.

        An audit that is interrupted has noted how far it was: the next one that is not `full`
        begins there, and a full one if it is to `resume`. Only bringing the copy up to date is
        under the timeout: the rest waits for nobody.
        """
        return client.audit.audit(self.connection, full=full, since=since, resume=resume)

    def damage(self) -> Damage | None:
        """Where the remote's history stops being valid; None if it does not.

        Records that this copy has adopted are judged again, too: keys may have come since.
        """
        self.connection.begin()
        return client.audit.find_damage(self._replica)

    def repair(self, found: Damage) -> Head:
        """Cut the remote back to the last valid record: what follows it is given up.

        For remotes without a hook; the caller has shown what `damage` had `found` and was told
        yes. It is logged.
        Raises `Failed`: push-refused, …
        """
        self.connection.begin()
        client.audit.repair(self.connection, found)
        return self.head()

    def resolve(self) -> list[Settled]:
        """Settle what is open: landed, or voided so that it never can; or still open."""
        self.connection.begin()
        intents = self.connection.writer().resolve()
        return [one for intent in intents for one in self._views.settled(intent)]
