"""Before an edit: whether somebody else has reserved the file.

Rules of this file: the answer is the local copy's, and says how old that is. It is a courtesy among
agents, not a boundary: what a shell writes is not seen here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coordledger.client import guarding
from coordledger.client.texts import quoted, safe, word
from coordledger.integrations.here import clock_time, span

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.integrations.here import Here

_SHOWN = 120  # characters of a path


def refusal(here: Here, paths: Iterable[str], cwd: str) -> str:
    """Why one of the paths is not to be written; "" if that is not so."""
    absolute = [os.path.join(cwd or os.curdir, path) for path in paths]  # noqa: PTH118 - may be so
    found = guarding.guard(here.connection, absolute)
    if not found.reserved:
        return ""
    first, more = found.reserved[0], len(found.reserved) - 1
    root = here.connection.repository.root
    shown = os.path.relpath(first.path, root) if root else first.path
    task, beside = word(first.task), f" So are {more} more." if more else ""
    return (
        f"{quoted(shown, _SHOWN)} is reserved by {safe(f'{first.agent}/{first.session}')} for task"
        f" {task} until {clock_time(first.expires_at, here.now)} (as of {span(found.age)}"
        f" ago).{beside}"
        f" coordledger wait {task} --for free waits for it;"
        f" coordledger send --to {safe(first.agent)} TEXT asks."
    )
