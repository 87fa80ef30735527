"""One attempt to claim tasks: won, renewed, or lost with the claims that are in the way.

Rules of this file: losing is a result, every other fault an exception. A session that was named
by the caller and holds the one task already has its lease renewed; a session that was only minted
cannot be told from another run in the same work tree, and has lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client import operations
from coordledger.client.claims import ClaimResult
from coordledger.errors import Lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.opening import Connection
    from coordledger.client.operations import Operation
    from coordledger.client.views import Views


def attempt(
    connection: Connection,
    views: Views,
    operation: Operation,
    chosen: Callable[[], list[str]],
    *,
    dry_run: bool,
    look: bool = False,
) -> ClaimResult:
    """Write `operation`, or with `dry_run` do all but that. `chosen()` gives the tasks that its
    record was made for; `look`: decide on the remote's newest state only.

    Raises `Failed`, `OutcomeUnknown`, `Integrity`.
    """
    published = None
    try:
        if dry_run:
            connection.begin()
            state = connection.writer().dry_run(operation.build)
        else:
            published = connection.write(operation, look=look)
            state = published.state
    except Lost as lost:
        tasks = chosen()
        renewable = lost.code == "already-yours" and len(tasks) == 1 and not dry_run
        if renewable and connection.settings.session is not None:
            renewed = connection.write(operations.renew(tasks[0], ttl=operation.ttl))
            return ClaimResult("renewed", (views.claim(renewed.state, tasks[0], renewed),))
        in_the_way = views.in_the_way(connection.replica.position().state, tasks)
        return ClaimResult("lost", in_the_way, lost.code, lost.message, lost.hint)
    return ClaimResult("won", tuple(views.claim(state, task, published) for task in chosen()))
