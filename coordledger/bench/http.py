"""The same over git's smart HTTP: a claim beside `git push` of an empty commit.

FLOOR is here one `git push` by git's own program to a repository without any hook, through
the same server on the same machine. The claiming process is warm: it has the ledger
open, and may keep its connection.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from .crowd import ENDING
from .figures import against, timed
from .ground import OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .figures import Report, Rows, Took
    from .ground import Ground

ROUNDS = 20
WARM_UP = 2
FLOOR = "git push over HTTP, no hook (FLOOR)"


def run(ground: Ground, rounds: int, report: Report) -> Rows:
    """Rows, and what is left out."""
    if not ground.has_git_program("http-backend"):
        return [], {"everything": "this git has no http-backend"}
    bare, fleet = ground.bare("floor"), ground.fleet("ledger")
    for repository in (bare, fleet.remote):
        ground.git(repository, "config", "http.receivepack", "true")
    with _serving(ground) as url:
        clone = ground.clone(f"{url}/{bare.name}", ground.root / "floor")
        path = fleet.join(OWNER, f"{url}/{fleet.remote.name}")
        with fleet.open(OWNER, path) as ledger:

            def floor(number: int) -> Took:
                ground.git(clone, "commit", "--quiet", "--allow-empty", "--message=empty")
                return timed(lambda: ground.git(clone, "push", "--quiet", "origin", "HEAD:main"))

            def claim(number: int) -> Took:
                task = f"task-{number}"
                return timed(lambda: ledger.claim(task, ttl=timedelta(minutes=5)))

            acts = {FLOOR: floor, "warm claim, Python interface": claim}
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
