"""What people write today: fetch, commit, push, and again if somebody was faster.

One file for each claimed task on one branch, one commit for each claim, git's own programs,
a clone for each process. No signature, no verification, no lease, no hook: it is here to
be compared with, and it is meant to be as fast as such a loop gets:

- only that branch is fetched, no tags, and nothing tidies up behind the clone's back;
- the commit is made by `git fast-import`, one process; `hash-object`, `update-index`,
  `write-tree`, `commit-tree`, or `reset --hard`, `add`, `commit`, take 5 ms longer;
- after a lost race nothing is rebased: the same file is put on the head that was fetched;
- it waits between two attempts, a random time that doubles up to `MOST`. Tried at 16
  processes: other limits, and no growth, were slower or the same.
"""

from __future__ import annotations

import random
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "refs/heads/main"
_SEEN = "refs/remotes/origin/main"
_MINE = "refs/heads/mine"
LEAST, MOST = 0.05, 0.8  # seconds


class Loop:
    """One process's loop in its clone."""

    def __init__(self, local: Path, agent: str) -> None:
        self._clone, self._agent = local, agent

    def claim(self, task: str) -> None:
        """Returns when the claim is on the remote. Raises `RuntimeError` if it is another's."""
        wait = LEAST
        while True:
            self._must("fetch", "--quiet", "--no-tags", "origin", f"+{BRANCH}:{_SEEN}")
            if self._git("cat-file", "-e", f"{_SEEN}:tasks/{task}") == 0:
                raise RuntimeError(f"{task} is somebody else's")
            self._must("fast-import", "--quiet", "--force", say=self._commit(task))
            if self._git("push", "--quiet", "origin", f"{_MINE}:{BRANCH}") == 0:
                return
            time.sleep(random.uniform(0, wait))  # noqa: S311 - no secret
            wait = min(2 * wait, MOST)

    def _commit(self, task: str) -> str:
        return (
            f"commit {_MINE}\n"
            f"committer {self._agent} <{self._agent}@example.org> {int(time.time())} +0000\n"
            f"data {len(task) + 6}\nclaim {task}\n"
            f"from {_SEEN}\n"
            f"M 100644 inline tasks/{task}\n"
            f"data {len(self._agent) + 1}\n{self._agent}\n\n"
        )

    def _git(self, *argv: str, say: str = "") -> int:
        ran = subprocess.run(
            ["git", *argv],
            cwd=self._clone,
            input=say,
            check=False,
            capture_output=True,
            text=True,
        )
        return ran.returncode

    def _must(self, *argv: str, say: str = "") -> None:
        code = self._git(*argv, say=say)
        if code:
            raise RuntimeError(f"git {argv[0]}: exit code {code}")
