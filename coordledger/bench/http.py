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

from .figures import against, timed
from .worker_pool import ENDING, Resident
from .workspace import OWNER
from .write import CLAIM, RESIDENT, claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .figures import Report, Rows, Took
    from .workspace import BenchFleet, Workspace

ROUNDS = 20
WARM_UP = 2
FLOOR = "git push over HTTP, no hook (FLOOR)"


def run(workspace: Workspace, rounds: int, report: Report) -> Rows:
    """Rows, and what is left out."""
    if not workspace.has_git_program("http-backend"):
        return [], {"everything": "this git has no http-backend"}
    bare, alone, served = (
        workspace.bare("floor"),
        workspace.fleet("ledger"),
        workspace.fleet("served"),
    )
    for repository in (bare, alone.remote, served.remote):
        workspace.git(repository, "config", "http.receivepack", "true")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_serving(workspace))
        stack.enter_context(Resident(workspace.environ, served.remote))
        local = workspace.local(f"{url}/{bare.name}", workspace.root / "floor")

        def floor(number: int) -> Took:
            workspace.git(local, "commit", "--quiet", "--allow-empty", "--message=empty")
            return timed(lambda: workspace.git(local, "push", "--quiet", "origin", "HEAD:main"))

        def claims(fleet: BenchFleet) -> Callable[[int], Took]:
            path = fleet.join(OWNER, f"{url}/{fleet.remote.name}")
            ledger = stack.enter_context(fleet.open(OWNER, path))
            return lambda number: claim(ledger, number)

        acts = {FLOOR: floor, CLAIM: claims(alone), RESIDENT: claims(served)}
        return against(FLOOR, acts, rounds, WARM_UP, report), {}


@contextlib.contextmanager
def _serving(workspace: Workspace) -> Iterator[str]:
    """The URL below which a server shows the workspace's repositories."""
    process = subprocess.Popen(
        [sys.executable, "-m", "coordledger.bench.httpd", str(workspace.root)],
        env=workspace.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield f"http://127.0.0.1:{port}"
    finally:
        process.communicate(timeout=ENDING)
