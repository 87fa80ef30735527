"""What hooks leave to a process of its own: to look at the remote, to renew, to release, and what
there is to do for a session's own key (`own_keys`).

Rules of this file:
- A hook waits for none of it. The process has a session of its own (setsid), so that it outlives
  the harness; it ends by itself within `MOST` seconds.
- Of one work tree one looks and renews at a time, and no sooner than `REST` after the last one
  began: a remote that is away is not asked at each tool. Where the server has put a record of
  this clone's behind others', these are looked for sooner.
- A lease is renewed past its half, for as long as it was. A task that is offered to somebody is
  neither renewed nor released, which would withdraw the offer.
- Whatever goes wrong is logged, and tried again when the next hook is called.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from coordledger.client import claiming
from coordledger.errors import CoordledgerError
from coordledger.integrations import memory
from coordledger.integrations.here import look
from coordledger.integrations.releasing import release

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

    from coordledger.client.claims import Claim
    from coordledger.client.config import Options
    from coordledger.integrations.here import Here
    from coordledger.integrations.own_keys import OwnKeys

TEND, RELEASE, ENROL = "tend", "release", "enrol"
MOST = 90  # seconds
TIMEOUT = 30.0  # seconds for each operation
REST = 30.0  # seconds
REST_BEHIND = 2.0  # seconds, where the copy is known to be behind
_BEGAN = "tended"  # when the last one began
RENEWED_AT = 0.5  # of a lease


def start(name: str, harness: str, session: str, environ: Mapping[str, str], cwd: Path) -> None:
    """Have a job done. Raises OSError."""
    # -P: nothing is imported from the folder that the session works in.
    argv = [sys.executable, "-P", "-m", "coordledger", "agent-hook", harness]
    process = subprocess.Popen(
        [*argv, "--job", name, "--of", session],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env=dict(environ),
        start_new_session=True,
    )
    process.returncode = 0  # nobody waits for it: it is init's when this process has ended


def is_due(here: Here, now: float, rest: float = REST) -> bool:
    """Whether somebody has to look at the remote again, or a lease is past its half."""
    if here.is_behind:
        rest = min(rest, REST_BEHIND)
    if age_of(here.folder / _BEGAN, now) < rest:
        return False
    if here.is_behind or here.is_ahead or here.age.total_seconds() >= rest:
        return True
    return any(is_past_half(one, here.now) for one in here.held())


def age_of(path: Path, now: float) -> float:
    """How many seconds ago a file was written; a great many, if it is not there."""
    with contextlib.suppress(OSError):
        age = now - path.stat().st_mtime
        return age if age >= 0 else float("inf")
    return float("inf")


def do(name: str, options: Options, environ: Mapping[str, str], remembered: str) -> None:
    """Do a job; `remembered` is how the harness calls its session, after its own name."""
    options = options._replace(timeout=TIMEOUT)
    place = look(options, environ)
    if place is None:
        return
    if name == TEND:
        _tend(place, options, environ)
    elif name == RELEASE:
        harness, _, session = remembered.partition(" ")
        ended = memory.Memory(place.folder, harness, session)
        _release(place, options, environ, ended, is_own=place.is_of(harness))
        if keys := _own_keys(place, options, environ):
            keys.end()
    elif name == ENROL and (keys := _own_keys(place, options, environ)):
        keys.enrol()
        with _logged(place, "keys of other sessions"):
            keys.end_silent()


def _own_keys(place: Here, options: Options, environ: Mapping[str, str]) -> OwnKeys | None:
    from coordledger.integrations.own_keys import OwnKeys  # noqa: PLC0415 - few have them

    return OwnKeys(place, place.key, options, environ) if place.key else None


def _tend(place: Here, options: Options, environ: Mapping[str, str]) -> None:
    lock = memory.take(place.folder, "tending")
    if lock is None:
        return
    try:
        began = place.folder / _BEGAN
        began.touch()
        here = look(options, environ, offline=False)
        if here is None:
            return
        for claim in here.held():
            if is_past_half(claim, here.now):
                with _logged(here, f"renew {claim.task}"):
                    connection = here.connection.as_agent(claim.agent or here.agent)
                    claiming.renew(connection, here.views, claim.task, length_of(claim))
        here.close()
    finally:
        os.close(lock)


def _release(
    place: Here,
    options: Options,
    environ: Mapping[str, str],
    session: memory.Memory,
    *,
    is_own: bool,
) -> None:
    """What was claimed in a session that has ended is free again. One that is not the harness's own
    has other users: then only what was claimed since the harness's began is released.
    """
    since = None if is_own else session.started
    here = look(options, environ, offline=False) if is_own or session.is_alone() else None
    if here is not None:
        release(here, since)
        here.close()
    session.end()


@contextlib.contextmanager
def _logged(here: Here, what: str) -> Iterator[None]:
    try:
        yield
    except (CoordledgerError, OSError) as fault:
        memory.log(here.folder, f"{what}: {fault}")


def length_of(claim: Claim) -> timedelta | None:
    """How long the lease was when it was written last; None if the record is not here, or an offer
    is the newest one.
    """
    if claim.expires_at is None or claim.last is None or claim.last.agent != claim.agent:
        return None
    return claim.expires_at - claim.last.at if claim.last.kind in ("claim", "renew") else None


def is_past_half(claim: Claim, now: int) -> bool:
    if claim.expires_at is None:
        return False
    length = length_of(claim)
    if length is None:
        return False
    return now / 1000 > claim.expires_at.timestamp() - length.total_seconds() * (1 - RENEWED_AT)
