"""One agent, nobody in its way: what a claim costs beside a bare `git push`.

FLOOR is one `git push` of an empty commit to a bare repository on this machine, without any
hook. Every row is also given as a multiple of it.
"""

from __future__ import annotations

import contextlib
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

from coordledger.client.config import Options
from coordledger.client.opening import surroundings

from . import sqlite
from .figures import against, timed
from .worker_pool import Resident
from .workspace import DIRECT, OWNER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

    from coordledger.client.ledger import Ledger

    from .figures import Report, Rows, Took
    from .workspace import Workspace

ROUNDS = 20
WARM_UP = 2
FLOOR = "git push, no hook (FLOOR)"
CLAIM = "warm claim, Python interface"
RESIDENT = "warm claim, resident process"
IMPORTS = "import click, dulwich.client, dulwich.repo"


class Acts:
    """What is timed: each prepares itself and returns the seconds of its last step."""

    def __init__(self, workspace: Workspace) -> None:
        self._ground = workspace
        self._clone = workspace.local(str(workspace.bare("floor")), workspace.root / "floor")
        self._fleet = workspace.fleet("ledger")
        self._work = self._fleet.clones[OWNER]
        self._ledger = self._fleet.open(OWNER)
        self._near = self._fleet.open(OWNER, None, **DIRECT)
        self._table = sqlite.Table(workspace.root / "work.db", OWNER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ledger.close()
        self._near.close()
        self._table.close()

    def floor(self, number: int) -> Took:
        git, local = self._ground.git, self._clone
        git(local, "commit", "--quiet", "--allow-empty", "--message=empty")
        return timed(lambda: git(local, "push", "--quiet", "origin", "HEAD:main"))

    def warm(self, number: int) -> Took:
        return claim(self._ledger, number)

    def direct(self, number: int) -> Took:
        return timed(lambda: self._near.claim(f"near-{number}", ttl=timedelta(minutes=5)))

    def sqlite(self, number: int) -> Took:
        return timed(lambda: self._table.claim(f"task-{number}"))

    def cold_direct(self, number: int) -> Took:
        argv = ("claim", f"cold-near-{number}")
        return timed(lambda: self._ground.command(self._work, *argv, **DIRECT))

    def cold(self, number: int) -> Took:
        return timed(lambda: self._ground.command(self._work, "claim", f"cold-{number}"))

    def hook(self, number: int) -> Took:
        return hook_alone(self._ground, self._ledger, self._fleet.remote)

    def help(self, number: int) -> Took:
        return timed(lambda: self._ground.command(self._work, "--help"))

    def click(self, number: int) -> Took:
        return self._start("-c", "import click")

    def imports(self, number: int) -> Took:
        return self._start("-c", IMPORTS)

    def _start(self, *argv: str) -> Took:
        return timed(lambda: self._ground.python(self._work, *argv))


def run(workspace: Workspace, rounds: int, report: Report) -> Rows:
    """Rows; nothing is left out."""
    with contextlib.ExitStack() as stack:
        acts = stack.enter_context(Acts(workspace))
        timing: dict[str, Callable[[int], Took]] = {
            FLOOR: acts.floor,
            CLAIM: acts.warm,
            "warm claim, without a push, on the server's host": acts.direct,
            "cold claim, command line": acts.cold,
            "cold claim without a push, on the server's host": acts.cold_direct,
            "hook alone": acts.hook,
            "python: import click": acts.click,
            "coordledger --help": acts.help,
            f"python: {IMPORTS}": acts.imports,
            f"SQLite, synchronous={sqlite.FULL}": acts.sqlite,
        }
        served = workspace.fleet("served")
        stack.enter_context(Resident(workspace.environ, served.remote))
        ledger = stack.enter_context(served.open(OWNER))
        timing[RESIDENT] = lambda number: claim(ledger, number)
        return against(FLOOR, timing, rounds, WARM_UP, report), {}


def claim(ledger: Ledger, number: int) -> Took:
    """A claim of a task that nobody else wants."""
    return timed(lambda: ledger.claim(f"task-{number}", ttl=timedelta(minutes=5)))


def hook_alone(workspace: Workspace, ledger: Ledger, remote: Path) -> Took:
    """The hook as git starts it, on a record whose objects the server has."""
    connection = ledger.connection
    chain = connection.replica.refresh()
    proposal = chain.propose(connection.writer().sample(chain))
    there = surroundings(Options(remote), workspace.environ).repository
    if there is None:
        raise RuntimeError(f"{remote} is no repository")
    there.write(proposal.objects)
    there.close()
    old = chain.head.oid if chain.head else ""
    line = f"{old} {proposal.commit.oid} {connection.local.ref}\n"
    return timed(
        lambda: subprocess.run(
            [str(remote / "hooks" / "pre-receive")],
            cwd=remote,
            env=workspace.environ | {"GIT_DIR": "."},
            input=line.encode(),
            check=True,
            capture_output=True,
        )
    )
