"""Plain git: pushes of empty commits, to a branch of the process's own, where no hook looks on.

Nobody races, so this is not a way to claim: it is what git takes for anything that is pushed.
Commits are made by the hundred, as only their pushes count.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_AT_ONCE = 256


class Pushes:
    """One process's pushes from its clone."""

    def __init__(self, local: Path, agent: str) -> None:
        self._clone, self._agent = local, agent
        self._commits: list[str] = []
        self._make()

    def push(self) -> None:
        """Returns when the next commit is on the remote."""
        if not self._commits:
            self._make()
        self._git("push", "--quiet", "origin", f"{self._commits.pop()}:refs/heads/{self._agent}")

    def _make(self) -> None:
        one = f"commit refs/heads/mine\ncommitter {self._agent} <> 1 +0000\ndata 0\n"
        self._git("fast-import", "--quiet", say=one * _AT_ONCE)
        self._commits = self._git("rev-list", f"--max-count={_AT_ONCE}", "mine").split()

    def _git(self, *argv: str, say: str = "") -> str:
        ran = subprocess.run(
            ["git", *argv], cwd=self._clone, input=say, check=True, capture_output=True, text=True
        )
        return ran.stdout
