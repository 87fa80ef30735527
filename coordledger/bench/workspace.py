"""Where the benchmarks happen: a folder, an environment, repositories, ledgers, clones.

Rules of this file: nobody's configuration, secrets or caches count; everything is made
through the interfaces that users have; nothing here is timed.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.setup import genesis, joining

if TYPE_CHECKING:
    from collections.abc import Sequence

OWNER = "owner"
PATIENCE = 120.0  # seconds: many processes make a loser wait
DIRECT = {"COORDLEDGER_DIRECT": "on"}  # without pushes, on the server's own host
APART = {"COORDLEDGER_QUEUE": "off"}  # as on separate hosts: processes do not line up
# Without cached bytecode each start would time the compiler.
_DROPPED = ("COORDLEDGER_", "COORDINATION_", "GIT_", "XDG_", "PYTHONDONTWRITEBYTECODE")


class Workspace:
    """A folder with everything in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)} | {
            "HOME": str(root),
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "COORDLEDGER_DIRECT": "off",  # by pushes, as to another host, but where a row says so
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@example.org",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@example.org",
        }

    def git(self, cwd: Path, *argv: str) -> str:
        """What `git ARGV` prints; it has to succeed."""
        return self._run(cwd, "git", *argv)

    def python(self, cwd: Path, *argv: str) -> str:
        """What `python ARGV` prints; it has to succeed."""
        return self._run(cwd, sys.executable, *argv)

    def command(self, cwd: Path, *argv: str, **environ: str) -> str:
        """What `coordledger ARGV` prints; it has to succeed."""
        script = Path(sys.executable).with_name("coordledger")  # as pip installs it
        start = (str(script),) if script.exists() else (sys.executable, "-m", "coordledger")
        return self._run(cwd, *start, *argv, **environ)

    def _run(self, cwd: Path, *argv: str, **environ: str) -> str:
        env = self.environ | environ
        ran = subprocess.run(argv, cwd=cwd, env=env, check=True, capture_output=True, text=True)
        return ran.stdout

    def has_git_program(self, name: str) -> bool:
        return Path(self.git(self.root, "--exec-path").strip(), f"git-{name}").exists()

    def bare(self, name: str) -> Path:
        """A bare repository without any hook, and one empty commit on main."""
        path, local = self.root / f"{name}.git", self.root / f"{name}.first"
        self.git(self.root, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
        self.local(str(path), local)
        self.git(local, "commit", "--quiet", "--allow-empty", "--message=empty")
        self.git(local, "push", "--quiet", "origin", "HEAD:refs/heads/main")
        return path

    def local(self, remote: str, path: Path) -> Path:
        """A clone that never stops to tidy up."""
        upkeep = ("--config=gc.auto=0", "--config=maintenance.auto=false")
        self.git(self.root, "clone", "--quiet", *upkeep, remote, str(path))
        return path

    def fleet(self, name: str, agents: Sequence[str] = (), ledger: str = "main") -> BenchFleet:
        return BenchFleet(self, name, agents, ledger)


class BenchFleet:
    """A guarded ledger; its owner and `agents`, each with a clone that has joined."""

    def __init__(self, workspace: Workspace, name: str, agents: Sequence[str], ledger: str) -> None:
        self.workspace, self.name, self.ledger_name = workspace, name, ledger
        self.remote = workspace.root / f"{name}.git"
        self.clones: dict[str, Path] = {}
        options = Options(workspace.root, agent=OWNER, ledger=ledger)
        genesis.init(options, workspace.environ, str(self.remote), 30)
        self.join(OWNER)
        with self.open(OWNER) as owner:
            for agent in agents:
                owner.enroll(agent)
        for agent in agents:
            self.join(agent)

    def join(self, agent: str, remote: str | None = None) -> Path:
        """A clone of `remote` (this fleet's path, if not told) for the agent."""
        url = remote or str(self.remote)
        path = self.workspace.root / f"{self.name}.{self.ledger_name}.{len(self.clones)}.{agent}"
        self.workspace.local(url, path)
        options = Options(path, agent=agent, ledger=self.ledger_name)
        joining.join(options, self.workspace.environ, url)
        self.clones[agent] = path
        return path

    def open(self, agent: str, path: Path | None = None, **environ: str) -> Ledger:
        options = Options(
            path or self.clones[agent], agent=agent, ledger=self.ledger_name, timeout=PATIENCE
        )
        return Ledger(connect(options, self.workspace.environ | environ))


def machine(root: Path) -> dict[str, Any]:
    """What figures depend on."""
    git = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True)
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "git": git.stdout.split()[2],
        "python": platform.python_version(),
        "dulwich": version("dulwich"),
        "coordledger": version("coordledger"),
        "file_system": _file_system(root),
        "load": round(os.getloadavg()[0], 2),  # of what else runs here: nothing is measured yet
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _file_system(path: Path) -> str:
    """The type of the file system of `path`, or "" where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    except OSError:
        return ""
    found = ("", "")
    for _, point, kind, *_ in (line.split() for line in lines):
        if path.resolve().is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1]
