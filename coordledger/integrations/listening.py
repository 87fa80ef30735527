"""The background listener of a session: it ends when there is something for the agent.

Rules of this file:
- One listens for a session; another one that is started ends at once.
- What the session knows of already does not end it. What it is told is remembered as told.
- It ends when the harness's process has: nobody reads its stderr then, or its parents are others.
- A remote that is away is waited for.
- None listens where it would be waited for: without a terminal (`claude -p`, an SDK) Claude Code
  goes on only when its background hooks have ended, and is woken by none.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.client import waiting
from coordledger.errors import CoordledgerError
from coordledger.integrations import news
from coordledger.integrations.here import look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordledger.client.config import Options
    from coordledger.integrations.here import Here
    from coordledger.integrations.memory import Memory

TIMEOUT = 20.0  # seconds for a look at the remote
_LONGEST = 86_400_000  # milliseconds
_PAUSE = 15.0  # seconds after something that went wrong
_GLANCE = 0.5  # seconds between two looks whether the harness is there


def can_wake(environ: Mapping[str, str]) -> bool:
    """Whether the harness goes on while a background hook runs: Claude Code at a terminal does."""
    return environ.get("CLAUDE_CODE_ENTRYPOINT", "cli") == "cli"


def listen(
    options: Options,
    environ: Mapping[str, str],
    memory_at: Callable[[Here], Memory],
    is_over: Callable[[], bool],
) -> str:
    """What has come for the agent, as a text; "" if it ends for another reason.

    Raises `CoordledgerError`, OSError, if it cannot begin.
    """
    here = look(options, environ) if can_wake(environ) else None
    if here is None:
        return ""
    memory = memory_at(here)
    lock = memory.alone("listener")
    if lock is None:
        return ""
    try:
        return _wait(here, options._replace(timeout=TIMEOUT), environ, memory, is_over)
    finally:
        os.close(lock)


def _wait(
    here: Here,
    options: Options,
    environ: Mapping[str, str],
    memory: Memory,
    is_over: Callable[[], bool],
) -> str:
    known = memory.counted() or here.unread()
    end = here.now + _LONGEST
    online: Here | None = None
    while not is_over():
        try:
            if online is None:
                online = look(options, environ, offline=False)
                if online is None:
                    return ""
            seen = waiting.newest(online.connection)
            online.read()
            unread = online.unread()
            if fresh := memory.tell(unread - known, unread):
                everything = online.mail() + online.offers()
                return news.told([one for one in everything if one.seq in fresh], online.agent)
            if online.now >= end:
                return ""
            waiting.until_changed(online.connection, end, seen, is_over)
        except (CoordledgerError, OSError):
            _pause(is_over)
    return ""


def _pause(is_over: Callable[[], bool]) -> None:
    end = time.monotonic() + _PAUSE
    while time.monotonic() < end and not is_over():
        time.sleep(_GLANCE)


def parents_gone() -> Callable[[], bool]:
    """Whether the processes that have started this one have ended since, or nobody reads what it
    writes; asked of the system twice a second at most.
    """
    first, above = os.getppid(), _parent_of(os.getppid())
    asked, answer = 0.0, False

    def gone() -> bool:
        nonlocal asked, answer
        now = time.monotonic()
        if not answer and now - asked >= _GLANCE:
            asked = now
            answer = os.getppid() != first or _parent_of(first) != above or not _is_read(2)
        return answer

    return gone


def _parent_of(process: int) -> int:
    """0 where the system does not say. A shell may stand between the harness and this process."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        facts = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
        return int(facts.rpartition(")")[2].split()[1])
    return 0


def _is_read(fd: int) -> bool:
    """False if it is a pipe that nobody reads any more."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(fd, 0)
        return not any(seen & select.POLLERR for _, seen in poll.poll(0))
    return True
