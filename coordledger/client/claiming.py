"""One attempt to claim tasks, to keep one, or to complete it: won, renewed, kept, or lost with
the claims that are in the way.

Rules of this file: losing is a result, every other fault an exception. A session that was named
by the caller and holds the one task already has its lease renewed; a session that was only minted
cannot be told from another run in the same work tree, and has lost. A lease is never shortened:
where it lasts as long already it is kept, and nothing is written.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from coordledger.client import operations, waiting
from coordledger.client.claims import ClaimResult
from coordledger.errors import Failed, Lost
from coordledger.format.rules.claims import is_offered_to

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import timedelta

    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection
    from coordledger.client.operations import Operation
    from coordledger.client.signer import Fields
    from coordledger.client.views import Views
    from coordledger.format.records import Record
    from coordledger.format.state import State


def claim(
    connection: Connection,
    views: Views,
    operation: Operation,
    chosen: Callable[[], list[str]],
    wait: timedelta | None,
    cancel: threading.Event | None,
    *,
    dry_run: bool,
) -> ClaimResult:
    """As `attempt`, and again until it is won, or the `wait` is over or cancelled."""
    once = functools.partial(attempt, connection, views, operation, chosen, dry_run=dry_run)
    return waiting.until_won(connection, views, once, waiting.end_of(connection, wait), cancel)


def attempt(
    connection: Connection,
    views: Views,
    operation: Operation,
    chosen: Callable[[], list[str]],
    *,
    dry_run: bool,
) -> ClaimResult:
    """Write `operation`, or with `dry_run` do all but that. `chosen()` gives the tasks that its
    record was made for.

    Raises `Failed`, `OutcomeUnknown`, `Integrity`.
    """
    published = None
    before: dict[str, Record | None] = {}  # the tasks' lines that a record was made for
    me = connection.settings.need_agent

    def build(state: State, at: int) -> tuple[str, Fields]:
        kind, fields = operation.build(state, at)
        before.clear()
        before.update((item["task"], state.task(item["task"])) for item in fields["tasks"])
        for line in before.values():
            if line and is_offered_to(line, me, at):
                views.offers.need_checked(line)
        return kind, fields

    try:
        if dry_run:
            connection.begin()
            state = connection.writer().dry_run(build)
        else:
            published = connection.write(operation._replace(build=build))
            state = published.state
    except Lost as lost:
        tasks = chosen()
        renewable = lost.code == "already-yours" and len(tasks) == 1 and not dry_run
        if renewable and connection.settings.session is not None:
            return renew(connection, views, tasks[0], operation.ttl)
        in_the_way = views.in_the_way(connection.replica.position().state, tasks)
        return ClaimResult("lost", in_the_way, lost.code, lost.message, lost.hint)
    # What has landed says which tasks: an attempt without an answer may have chosen others.
    tasks = [i["task"] for i in published.here.record["tasks"]] if published else chosen()
    if published and published.resumed:
        return ClaimResult("won", tuple(views.claim(state, task) for task in tasks), resumed=True)
    claims = (views.claim(state, task, published) for task in tasks)
    return ClaimResult("won", tuple(_answer(views, claim, before[claim.task]) for claim in claims))


def _answer(views: Views, claim: Claim, before: Record | None) -> Claim:
    """A claim that was won, with what was last said about the task before, and by whom it was
    handed over.
    """
    if before is None:
        return claim._replace(last=None, created=True)
    taken = claim.attempts == before["attempts"] and before["offer"] is not None
    by = views.offers.giver(before) if taken else None
    return claim._replace(last=views.last_before(before), handed_over_by=by)


def resume(connection: Connection, views: Views, ttl: timedelta | None) -> ClaimResult | None:
    """Go on with the most urgent task that this session holds: None if it holds none.

    Raises as `renew`.
    """
    state, me = connection.read(), connection.identity()
    for held in views.held_by(state, me.agent):
        if held.status == "claimed" and held.session == me.session:
            try:
                return renew(connection, views, held.task, ttl)
            except Lost:
                continue  # it has run out meanwhile
    return None


def renew(
    connection: Connection,
    views: Views,
    task: str,
    ttl: timedelta | None,
    note: str | None = None,
) -> ClaimResult:
    """Extend the lease that this session holds: renewed, or kept as it was.

    Raises `Lost`, `Failed`, `OutcomeUnknown`, `Integrity`.
    """
    try:
        published = connection.write(operations.renew(task, ttl=ttl, note=note))
    except Failed as fault:
        if fault.code != "not-later":
            raise
        state = connection.replica.position().state
        return ClaimResult("kept", (views.claim(state, task),))
    return ClaimResult("renewed", (views.claim(published.state, task, published),))


def complete(connection: Connection, views: Views, task: str, result: str | None) -> Claim:
    """Finish a task that this session holds; it may have done so before.

    Raises `Lost`, `Failed`, `OutcomeUnknown`, `Integrity`.
    """
    me = connection.identity()
    try:
        published = connection.write(operations.complete(task, result=result))
    except Lost as lost:
        by_me = lost.data.get("agent") == me.agent and lost.data.get("session") == me.session
        if lost.code != "done" or not by_me:
            raise
        return views.claim(connection.replica.position().state, task)
    return views.claim(published.state, task, published)
