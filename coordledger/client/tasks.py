"""The use cases about tasks: offer, edit, claim, keep, hand over, give back, look.

Rules of this file: those of `ledger`, which has the others.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Unpack

from coordledger import client
from coordledger.client import claiming, lines, operations, submitting, waiting
from coordledger.client.choosing import Choice, Wanted
from coordledger.client.operations import need_label, need_task
from coordledger.client.views import reservations_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime, timedelta
    from pathlib import Path

    from coordledger.client.claims import Changes, Claim, ClaimResult
    from coordledger.client.opening import Connection
    from coordledger.client.reports import (
        Description,
        Event,
        Guarded,
        Landing,
        Listing,
        Reservation,
    )
    from coordledger.client.views import Views


class Tasks:
    """The part of a `Ledger` that is about tasks."""

    if TYPE_CHECKING:  # `Ledger` has them
        connection: Connection
        _views: Views

    def submit(
        self,
        task: str,
        *,
        priority: int = 0,
        meta: Mapping[str, str] | None = None,
        after: Iterable[str] = (),
        title: str | None = None,
        labels: Iterable[str] = (),
        parent: str | None = None,
        not_before: datetime | None = None,
        body: str | None = None,
    ) -> Claim:
        """Offer a task, which cannot be claimed before those in `after` are done, nor before the
        moment `not_before`.

        The highest `priority` (-1,000,000 to 1,000,000) comes first; `meta` has at most 16 names
        with texts. `title` is a line and `labels` are words to find the task by, `parent` is a task
        that it is a part of, `body` what there is to say of it.
        Repeating it changes nothing, and `created` is false then. Raises `Lost`:
        task-differs, if it is there with other attributes (`data` has the `claim` and the
        `differences`); `Failed`: unknown-task (in `after`, `parent`), …
        """
        operation = operations.submit(
            task,
            priority=priority,
            meta=meta,
            after=after,
            title=title,
            labels=labels,
            parent=parent,
            not_before=not_before,
            body=body,
        )
        return submitting.submit(self.connection, self._views, task, operation)

    def edit(self, task: str, **changes: Unpack[Changes]) -> Claim:
        """Change attributes of a task, as its submitter, its holder or an admin.

        The `changes` are named as in `submit`; what is not given stays. Raises `Lost`:
        withdrawn; `Failed`: unknown-task, not-permitted, after-newer, parent-newer, …
        """
        published = self.connection.write(operations.edit(task, **changes))
        return self._views.claim(published.state, task, published)

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
        cancel: threading.Event | None = None,
        reopen: bool = False,
        note: str | None = None,
        paths: Iterable[str] = (),
        dry_run: bool = False,
    ) -> ClaimResult:
        """Claim the tasks, all or none, and with them the `paths`: files, or folders that end in
        `/`, relative and in normal form. Losing is a result, not an exception.

        It is tried again for `wait`, while the tasks are held or wait for others, or until `cancel`
        is set: an attempt that has begun ends first, and its result is the call's. `reopen` takes
        tasks that are done, too. `dry_run` writes nothing. A task that is offered to this agent is
        taken over from its holder, if somebody has checked that record of the holder's. Raises
        `Failed`: offer-unchecked.
        """
        operation = operations.claim(tasks, ttl=ttl, reopen=reopen, note=note, paths=paths)
        connection, views = self.connection, self._views
        names = sorted(set(tasks))
        return claiming.claim(
            connection, views, operation, lambda: names, wait, cancel, dry_run=dry_run
        )

    def claim_next(
        self,
        *,
        ttl: timedelta | None = None,
        wait: timedelta | None = None,
        cancel: threading.Event | None = None,
        note: str | None = None,
        paths: Iterable[str] = (),
        labels: Iterable[str] = (),
        any_label: bool = False,
        max_attempts: int | None = None,
        resume: bool = False,
        dry_run: bool = False,
    ) -> ClaimResult:
        """Claim the claimable task of the highest priority, of these the oldest; what this agent
        has given back itself comes after all others.

        It has all the `labels`, or with `any_label` one of them, and was claimed in vain less than
        `max_attempts` times (by default the policy's). With `resume` it is first what
        this session holds already, renewed for `ttl`. Other arguments (`wait`, `cancel`, `note`,
        `paths`, `dry_run`) and errors are those of `claim`.
        """
        connection, views = self.connection, self._views
        for label in labels:
            need_label(label)
        resumed = claiming.resume(connection, views, ttl) if resume and not dry_run else None
        if resumed is not None:
            return resumed
        wanted = Wanted(labels=frozenset(labels), any_label=any_label)
        replica, agent = connection.replica, connection.settings.agent
        claimable = functools.partial(lines.claimable, replica, agent=agent)
        choice = Choice(claimable, wanted, max_attempts)
        operation = operations.claim_of(
            "claim --next", choice.make, ttl=ttl, reopen=False, note=note, paths=paths
        )
        operation = operation._replace(choose_again=choice.is_refused)
        tasks = choice.tasks
        return claiming.claim(
            connection, views, operation, lambda: tasks, wait, cancel, dry_run=dry_run
        )

    def renew(self, task: str, *, ttl: timedelta | None = None, note: str | None = None) -> Claim:
        """Extend the lease that this session holds to `ttl` from now; one that lasts as long
        already is kept, and nothing is written. The `note` says how it goes. Raises `Lost`.
        """
        return self.renewal(task, ttl=ttl, note=note).claims[0]

    def renewal(
        self, task: str, *, ttl: timedelta | None = None, note: str | None = None
    ) -> ClaimResult:
        """As `renew` (`ttl`, `note`), with its outcome: renewed or kept. Raises `Lost`."""
        return claiming.renew(self.connection, self._views, task, ttl, note)

    def complete(self, task: str, *, result: str | None = None) -> Claim:
        """Finish a task that this session holds. Repeating it is no error. Raises `Lost`."""
        return claiming.complete(self.connection, self._views, task, result)

    def release(
        self,
        task: str,
        *,
        reason: str | None = None,
        force: bool = False,
        not_before: datetime | None = None,
    ) -> Claim:
        """Give a task back, to be claimed from the moment `not_before` on, or at once; with
        `force` an admin takes anybody's. Raises `Lost`.
        """
        operation = operations.release(task, reason=reason, force=force, not_before=not_before)
        published = self.connection.write(operation)
        return self._views.claim(published.state, task, published)

    def push(
        self,
        *refspecs: str,
        task: str | None = None,
        complete: bool = False,
        result: str | None = None,
        require_paths: bool = False,
    ) -> Landing:
        """Push code to fenced refs of the ledger's remote, together with the records that say under
        whose claim: all of it or nothing.

        `refspecs` are git's (`HEAD:main`); `task` is one that this session holds, by default its
        only one, and is completed with it if `complete`, with a `result`. `require_paths`: all that
        is changed has to lie within the paths of the claim. Raises `Lost`: not-holder, …;
        `Failed`: code-moved, code-refused, nothing-to-land, not-fenced, outside-paths, which-task;
        `OutcomeUnknown`: not-moved.
        """
        return client.landing.push(
            self.connection,
            self._views,
            refspecs,
            task,
            complete=complete,
            result=result,
            require_paths=require_paths,
        )

    def handoff(self, task: str, *, to: str, note: str | None = None) -> Claim:
        """Offer a task that this session holds to the agent `to`, who takes it by claiming it.

        Until the lease ends nobody else can. What this session does next with the task
        (renew, complete, release) withdraws the offer. Raises `Lost`; `Failed`: to-oneself,
        unknown-agent.
        """
        published = self.connection.write(operations.handoff(task, to=to, note=note))
        return self._views.claim(published.state, task, published)

    def tasks(self) -> list[Claim]:
        """All tasks: by priority (highest first), then by age; what is done comes last."""
        return list(self.some_tasks().tasks)

    def some_tasks(
        self,
        statuses: Collection[str] = (),
        agent: str | None = None,
        limit: int | None = None,
        checked: str | None = None,
        *,
        labels: Collection[str] = (),
        any_label: bool = False,
        parent: str | None = None,
        blocked: bool = False,
        stuck: bool = False,
    ) -> Listing:
        """The first `limit` of the tasks that have one of `statuses` and all `labels` (or, with
        `any_label`, one), are `agent`'s, parts of `parent`, and were `checked` by here, server or
        nobody, in the order of `tasks`; and how many there are. `blocked` ones wait for others;
        nobody holds a `stuck` one, and it was claimed in vain as often as the policy's
        `max_attempts` says. Tasks that are not asked for are not verified.
        """
        wanted = Wanted(statuses, agent, labels, any_label, parent, blocked, stuck)
        return self._views.listing(self.connection.read(), wanted, limit, checked)

    def wait(
        self,
        *tasks: str,
        until: str = "done",
        timeout: timedelta | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Claim]:
        """Block `until` all of the tasks are done, free (to be claimed now) or claimed, but no
        longer than `timeout`, by default a day; the tasks as they are then.

        Raises `Lost`: cannot-become, if one of them is withdrawn, done or (where it is not to be
        claimed) not there; `Failed`: waited-in-vain, at once where `cancel` is set.
        """
        return waiting.until_so(self.connection, self._views, tasks, until, timeout, cancel)

    def describe(self, task: str) -> Description:
        """One task with its body, and how far its parts are. Raises `Failed`: unknown-task."""
        need_task(task)
        return self._views.describe(self.connection.read(), task)

    def paths(self) -> list[Reservation]:
        """The paths that live claims reserve."""
        return reservations_of(self.connection.read(), self.connection.clock())

    def guard(self, paths: Iterable[str | Path]) -> Guarded:
        """Which of the files and folders `paths` are reserved by somebody else's live claim, by
        another session of this agent's too. Relative ones are seen from where the ledger was
        opened; one outside of the work tree is nobody's.

        The local copy answers, without the network: a comfort, no boundary. Raises `Failed`:
        not-joined; `Integrity`: bad-copy.
        """
        return client.guarding.guard(self.connection, paths)

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
