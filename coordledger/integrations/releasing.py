"""What a session that has ended held is free again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client import operations
from coordledger.errors import CoordledgerError
from coordledger.integrations import memory

if TYPE_CHECKING:
    from datetime import datetime

    from coordledger.integrations.here import Here

ENDED = "session ended"


def release(here: Here, since: int | None = None) -> None:
    """Release what the session holds and has not offered to anybody; if it has other users, what it
    has claimed `since` a moment, in milliseconds; 0: nobody knows when. What fails is logged.
    """
    for claim in here.held():
        is_others = since is not None and not _is_since(claim.claimed_at, since)
        if is_others or claim.offered_to:
            continue
        connection = here.connection.as_agent(claim.agent or here.agent)
        try:
            connection.write(operations.release(claim.task, reason=ENDED))
        except (CoordledgerError, OSError) as fault:
            memory.log(here.folder, f"release {claim.task}: {fault}")


def _is_since(moment: datetime | None, since: int) -> bool:
    return bool(since) and moment is not None and 1000 * moment.timestamp() >= since
