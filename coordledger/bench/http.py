"""The same over git's smart HTTP: a claim beside `git push` of an empty commit.

FLOOR is here one `git push` by git's own program to a repository without any hook, through
the same server on the same machine. The claiming process is warm: it has the ledger
open, and may keep its connection.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

from .crowd import ENDING, Resident
from .figures import against, timed
from .ground import OWNER
from .write import CLAIM, RESIDENT, claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .figures import Report, Rows, Took
    from .ground import Fleet, Ground

ROUNDS = 20
WARM_UP = 2
FLOOR = "git push over HTTP, no hook (FLOOR)"


def run(ground: Ground, rounds: int, report: Report) -> Rows:
    """Rows, and what is left out."""
    if not ground.has_git_program("http-backend"):
        return [], {"everything": "this git has no http-backend"}
    bare, alone, served = ground.bare("floor"), ground.fleet("ledger"), ground.fleet("served")
    for repository in (bare, alone.remote, served.remote):
        ground.git(repository, "config", "http.receivepack", "true")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_serving(ground))
        stack.enter_context(Resident(ground.environ, served.remote))
        local = ground.local(f"{url}/{bare.name}", ground.root / "floor")

        def floor(number: int) -> Took:
            ground.git(local, "commit", "--quiet", "--allow-empty", "--message=empty")
            return timed(lambda: ground.git(local, "push", "--quiet", "origin", "HEAD:main"))

        def claims(fleet: Fleet) -> Callable[[int], Took]:
            path = fleet.join(OWNER, f"{url}/{fleet.remote.name}")
            ledger = stack.enter_context(fleet.open(OWNER, path))
            return lambda number: claim(ledger, number)

        acts = {FLOOR: floor, CLAIM: claims(alone), RESIDENT: claims(served)}
        return against(FLOOR, acts, rounds, WARM_UP, report), {}


@contextlib.contextmanager
def _serving(ground: Ground) -> Iterator[str]:
    """The URL below which a server shows the ground's repositories."""
    process = subprocess.Popen(
        [sys.executable, "-m", "coordledger.bench.httpd", str(ground.root)],
        env=ground.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield f"http://127.0.0.1:{port}"
    finally:
        process.communicate(timeout=ENDING)
