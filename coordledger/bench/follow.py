"""What it costs to bring a copy up to a busy ledger's head: the server, and both together.

Rules of this file: the ledger is grown by `generate`, a day in a fleet's life, and packed; its
newest records are loose, as pushes leave them. A copy that is as many records behind follows:
by commits alone, by whole objects (as of a server that offers no filter), and by commits once the
server's upkeep has packed all, in turn. Each time it is the same copy, put back. What the server
takes is measured around its `git upload-pack`, in follows of their own: what measures is not free.
Times are of the processor, of all processes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.bench import generate
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.deadline import Deadline, unix_ms
from coordledger.format.names import LEDGERS
from coordledger.git.process import Git
from coordledger.setup import joining

from .figures import Took, in_turn, median, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .figures import Report, Rows
    from .workspace import Workspace

ROUNDS = 5
WARM_UP = 1
RECORDS = 2000
GAPS = (1, 10, 100, 400)
PATIENCE = 120.0
_REF = LEDGERS + "main"
_WAYS = {"commits alone": ("true", False), "whole": ("false", False), "packed": ("true", True)}
_MEASURE = """import os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "a") as log:
    log.write(f"{used.ru_utime + used.ru_stime}\\n")
sys.exit(code)
"""


def run(
    workspace: Workspace,
    rounds: int,
    report: Report,
    *,
    records: int = RECORDS,
    gaps: tuple[int, ...] = GAPS,
) -> Rows:
    """Rows, and what is left out."""
    grown = workspace.root / "grown.git"
    git = Git(workspace.environ, workspace.root, Deadline(PATIENCE))
    made = generate.grow(grown, git, records, now=unix_ms())
    generate.settle(grown, git)
    workspace.git(grown, "config", "uploadpack.allowAnySHA1InWant", "true")
    secret = workspace.root / "secret"
    keyfiles.append(str(secret), made.secret_of(generate.OWNER))
    acts: dict[str, Callable[[int], Took]] = {}
    measured = _Measured(workspace)
    for gap in gaps:
        for way, (offers, packed) in _WAYS.items():
            server = _server(workspace, grown, gap, f"{gap}-{way.split()[0]}.git")
            copy = _copy_behind(workspace, server, gap, secret)
            workspace.git(server, "config", "uploadpack.allowFilter", offers)
            if packed:
                tasks = ("--task=loose-objects", "--task=incremental-repack")
                for _ in range(2):  # the second one removes what the first one has packed
                    workspace.git(server, "maintenance", "run", "--quiet", *tasks)
            acts[f"{gap} {way}"] = _follow(workspace, copy, workspace.environ)
            acts[f"{gap} {way}, server"] = measured.around(
                _follow(workspace, copy, measured.environ)
            )
    times = in_turn(acts, rounds, WARM_UP, report)
    rows = []
    for gap in gaps:
        for way in _WAYS:
            both = median([took.cpu for took in times[f"{gap} {way}"]])
            server_ms = median([took.cpu for took in times[f"{gap} {way}, server"]])
            rows.append(
                {
                    "what": f"{gap} records, {way}",
                    "cpu_ms": round(1000 * both, 1),
                    "server_ms": round(1000 * server_ms, 1),
                    "cpu_per_record_ms": round(1000 * both / gap, 3),
                    "server_per_record_ms": round(1000 * server_ms / gap, 3),
                }
            )
    return rows, {}


def _server(workspace: Workspace, grown: Path, gap: int, name: str) -> Path:
    """The ledger on a server, but for its newest records; these come loose, and beside it."""
    server = workspace.root / name
    workspace.git(workspace.root, "init", "--quiet", "--bare", str(server))
    base = workspace.git(grown, "rev-parse", f"{_REF}~{gap}").strip()
    workspace.git(server, "fetch", "--quiet", str(grown), f"{base}:{_REF}")
    workspace.git(server, "repack", "-a", "-d", "--quiet")
    head = workspace.git(grown, "rev-parse", _REF).strip()
    packed = subprocess.run(
        ["git", "pack-objects", "--revs", "--stdout", "--quiet"],
        cwd=grown,
        env=workspace.environ,
        input=f"{head}\n^{base}\n".encode(),
        capture_output=True,
        check=True,
    )
    subprocess.run(
        ["git", "unpack-objects", "-q"],
        cwd=server,
        env=workspace.environ,
        input=packed.stdout,
        check=True,
    )
    return server


def _copy_behind(workspace: Workspace, server: Path, gap: int, secret: Path) -> Path:
    """A clone that has joined; then the server's ref moves on."""
    copy = workspace.root / f"{server.name}.copy"
    workspace.git(workspace.root, "init", "--quiet", str(copy))
    options = Options(copy, agent=generate.OWNER, timeout=PATIENCE)
    joining.join(options, workspace.environ, str(server), secret_file=secret)
    grown = workspace.root / "grown.git"
    head = workspace.git(grown, "rev-parse", _REF).strip()
    workspace.git(server, "update-ref", _REF, head)
    return copy


def _follow(workspace: Workspace, copy: Path, environ: dict[str, str]) -> Callable[[int], Took]:
    at_work = workspace.root / "at-work"

    def act(number: int) -> Took:
        shutil.rmtree(at_work, ignore_errors=True)
        shutil.copytree(copy, at_work)
        options = Options(at_work, agent=generate.OWNER, timeout=PATIENCE)
        with Ledger(connect(options, environ)) as ledger:
            ledger.head(refresh=False)
            return timed(ledger.head)

    return act


class _Measured:
    """An environment in which `git upload-pack` notes what it takes, whoever starts it."""

    def __init__(self, workspace: Workspace) -> None:
        self._log = workspace.root / "server-times"
        script = workspace.root / "measure.py"
        script.write_text(_MEASURE, "utf-8")
        git = shutil.which("git", path=workspace.environ.get("PATH")) or "git"
        measure = f'exec "{sys.executable}" -ISE "{script}" "{self._log}" "{git}" upload-pack'
        programs = workspace.root / "git-programs"
        programs.mkdir()
        for own in Path(workspace.git(workspace.root, "--exec-path").strip()).iterdir():
            (programs / own.name).symlink_to(own)
        (programs / "git-upload-pack").unlink(missing_ok=True)
        first = workspace.root / "first-in-path"
        first.mkdir()
        inside = f'if [ "$1" = upload-pack ]; then shift; {measure} "$@"; fi\nexec "{git}" "$@"\n'
        for path, text in (
            (programs / "git-upload-pack", f'{measure} "$@"\n'),
            (first / "git", inside),
        ):
            path.write_text(f"#!/bin/sh\n{text}", "utf-8")
            path.chmod(0o755)
        self.environ = workspace.environ | {
            "PATH": f"{first}:{workspace.environ.get('PATH', '')}",
            "GIT_EXEC_PATH": str(programs),
        }

    def around(self, act: Callable[[int], Took]) -> Callable[[int], Took]:
        """The same act, and what the server has taken in it."""

        def measured(number: int) -> Took:
            self._log.write_text("", "utf-8")
            took = act(number)
            noted = self._log.read_text("utf-8").split()
            return Took(took.wall, sum(map(float, noted)))

        return measured
