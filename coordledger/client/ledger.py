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
import functools
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import coordledger  # what is made of its names is imported when it is made
from coordledger import client
from coordledger.client import operations
from coordledger.client.config import Options
from coordledger.client.looking import Looking
from coordledger.client.mailbox import Mail
from coordledger.client.opening import connect, silent
from coordledger.client.tasks import Tasks
from coordledger.client.views import Views, agents_of
from coordledger.deadline import unix_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coordledger.client.batch import Batch
    from coordledger.client.facts import Facts
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Progress
    from coordledger.client.reports import (
        Agent,
        Audit,
        Blame,
        Damage,
        Delegate,
        Head,
        Imported,
        Purged,
        Settled,
        Status,
    )
    from coordledger.format.signing import Secret


class Ledger(Tasks, Mail, Looking):
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
        self.connection, self._replica = connection, connection.replica
        self._views = Views(connection.replica, connection.clock)

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
        found, why = self._views.status(state, settings, session), self.connection.why_pushed()
        return found._replace(writes="push" if why else "direct", pushes_because=why)

    # -- operations that go together

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

    # -- code

    def blame(self, commit: str) -> Blame:
        """Under whose claim a `commit` of the code (any name that git takes) came to which ref: the
        oldest land record of each. Raises `Failed`: unknown-commit, never-landed.
        """
        return client.blaming.blame(self.connection, commit)

    def prove(self, commit: str, *, ref: str | None = None, whole: bool = False) -> bytes:
        """A file that proves under whose claim a `commit` of the code came to a `ref` (by default
        where it came to first): what `verify_proof` takes. It has all records up to that landing;
        with `whole` all up to the newest. Raises `Failed`: unknown-commit, never-landed, gone,
        proof-too-large.
        """
        return client.proving.prove(self.connection, commit, ref, whole=whole)

    # -- to and from other systems

    def import_from(
        self,
        form: str,
        file: str | Path,
        *,
        agents: Mapping[str, str] | None = None,
        secrets: str | Path | None = None,
        source: str | None = None,
        repository: str | None = None,
        dry_run: bool = False,
        before: Callable[[Imported], None] | None = None,
    ) -> Imported:
        """Import the `file` of another system, as an admin: gptme (SQLite), beads, github or
        coordledger is its `form`. With `dry_run` nothing is written. A second time changes nothing.

        `agents`: patterns of names there, each with the agent here that is offered what it holds
        there. `secrets`: a folder with the old secrets, AGENT.secret. `source` tells stores of one
        form apart; `repository`: OWNER/REPO of issues without a URL. `before` hears of the whole
        plan, and then all is written. Raises `Failed`: bad-import, not-permitted, bad-agent,
        bad-value.
        """
        from coordledger.client.importing import landing  # noqa: PLC0415 - claims need none

        return landing.bring(
            self.connection,
            form,
            Path(file),
            agents=agents or {},
            secrets=None if secrets is None else Path(secrets),
            source=source,
            repository=repository,
            dry_run=dry_run,
            before=before,
        )

    def export(self, form: str = "jsonl") -> str:
        """All tasks as a text: of the `form` jsonl or beads, which `import_from` reads again, or
        csv, for a spreadsheet. Raises `Failed`: bad-value.
        """
        return client.exporting.export(self.connection, self._views, form)

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

    def audit(
        self,
        *,
        full: bool = False,
        since: int | None = None,
        resume: bool = False,
        trust: Iterable[str] = (),
        secrets: Iterable[Secret] = (),
        report: str | Path | None = None,
    ) -> Audit:
        """Verify what this clone has not audited yet, and what nobody has checked; `full`: from the
        first record on; `since`: from the record with that seq on.

        An audit that is interrupted has noted how far it was: the next one that is not `full`
        begins there, and a full one if it is to `resume`. Only bringing the copy up to date is
        under the timeout: the rest waits for nobody. `trust`: what is known of the ledger from
        elsewhere, as of `verify_proof`; `secrets` verify, beside those that are found, what
        secrets have signed. `report`: a file, .html or .md, that tells an auditor all of it; a
        resumed audit has none. Raises `Integrity`: pin-mismatch; `Failed`: bad-value, bad-ssh-key.
        """
        words, folder = list(trust), self.connection.settings.path
        self.connection.given = list(secrets)
        known = [one for word in words for one in client.heads.trusted(word, folder)]
        audit = functools.partial(
            client.audit.audit, self.connection, full=full, since=since, resume=resume, trust=known
        )
        if report is None:
            return audit()
        from coordledger.client.reporting.audit_file import AuditFile  # noqa: PLC0415 - few want it

        file = AuditFile(Path(report))
        found = audit(see=file.seen.add)
        file.write(self.connection, found, words)
        return found

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
