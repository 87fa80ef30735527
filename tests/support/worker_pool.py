"""Processes of many agents that start together and race on one ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.fleet import Fleet

_WORKER = Path(__file__).with_name("worker.py")
_TIMEOUT = 60  # seconds, for each process


class WorkerPool:
    """Processes that start together."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.go = fleet, fleet.root / "go"
        self.go.unlink(missing_ok=True)
        self._running: list[tuple[str, subprocess.Popen[str]]] = []

    def add(self, task: str, agent: str, *arguments: str, session: str = "") -> None:
        argv = [sys.executable, str(_WORKER), task, str(self.clone(agent)), agent, session]
        process = subprocess.Popen(
            [*argv, str(self.go), *arguments],
            env=self.fleet.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append((f"{agent}/{session}" if session else agent, process))

    def clone(self, agent: str) -> Path:
        """A clone that has not joined yet: its first contact is a part of the race."""
        path = self.fleet.root / f"clone of {agent}"
        if not path.exists():
            self.fleet.git("init", "--quiet", path)
            self.fleet.git("remote", "add", "origin", self.fleet.remote, cwd=path)
        return path

    def run(self) -> dict[str, list[dict[str, Any]]]:
        """Let them go; what each said."""
        self.go.touch()
        said = {}
        for name, process in self._running:
            try:
                out, err = process.communicate(timeout=_TIMEOUT)
            finally:
                process.kill()
            assert process.returncode == 0, err
            said[name] = [json.loads(line) for line in out.splitlines()]
        return said
