"""A team whose agents have a HOME and a clone each: a bare repository with the real hook, SSH keys.

Rules: everything is done by the command line, as the README has it; alice owns the ledger and no
harness. Of an agent's two folders the clone is where its harness works, and the HOME holds its
key and settings.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from support.harnesses import Session, bare_environment, prepared
from support.model_mocks import Say, Shell, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from support.harnesses import Harness
    from support.model_mocks import Script, Turn

    Ran = subprocess.CompletedProcess[str]

OWNER = "alice"


class Team:
    """A founded ledger, and whom `add` adds."""

    def __init__(self, root: Path, *, max_skew: str = "30s") -> None:
        self.root, self.remote = root, root / "ledger.git"
        self.sessions: list[Session] = []
        self.home(OWNER).mkdir(parents=True)
        ledger = ("init", self.remote, "--agent", OWNER, "--ssh-key", "--max-skew", max_skew)
        self.run(OWNER, *ledger, cwd=root)
        self._clone(OWNER)
        self.run(OWNER, "join", "origin", "--agent", OWNER)

    def close(self) -> None:
        for session in self.sessions:
            session.kill()
            session.mock.close()

    def home(self, agent: str) -> Path:
        return self.root / f"home-of-{agent}"

    def clone(self, agent: str) -> Path:
        return self.root / agent

    def _clone(self, agent: str) -> None:
        self._process(agent, ["git", "clone", "--quiet", str(self.remote), agent], self.root)

    def add(self, *agents: str) -> None:
        """Each makes a key, alice enrols its public line, it joins."""
        for agent in agents:
            self.home(agent).mkdir()
            line = self.run(agent, "key", "new", "--agent", agent, cwd=self.root).stdout
            public = self.root / f"{agent}.pub"
            public.write_text(line)
            self.run(OWNER, "agent", "add", agent, "--ssh-key", public)
            self._clone(agent)
            self.run(agent, "join", "origin", "--agent", agent)

    def run(
        self, agent: str, *argv: str | Path, cwd: Path | None = None, check: int | None = 0,
        env: Mapping[str, str] | None = None,
    ) -> Ran:  # fmt: skip
        """`coordledger ARGV` as the agent types it, in its clone; `check` is its exit code."""
        command = [sys.executable, "-m", "coordledger", *map(str, argv)]
        return self._process(agent, command, cwd or self.clone(agent), check, env)

    def value(self, agent: str, *argv: str) -> Any:
        """What `coordledger ARGV --json` prints."""
        return json.loads(self.run(agent, *argv, "--json").stdout)

    def git(self, agent: str, *argv: str) -> None:
        self._process(agent, ["git", *argv], self.clone(agent))

    def _process(
        self, agent: str, command: list[str], cwd: Path, check: int | None = 0,
        env: Mapping[str, str] | None = None,
    ) -> Ran:  # fmt: skip
        ran = subprocess.run(
            command, cwd=cwd, env=bare_environment(self.home(agent)) | (env or {}), text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert check in (None, ran.returncode), f"{command}: {ran.returncode}\n{ran}"
        return ran

    def session(self, agent: str, harness: Harness, script: Iterable[Turn] | Script) -> Session:
        """A session of the agent's that can be started; each has transcripts of its own."""
        transcripts = self.root / "transcripts" / f"{agent}-{len(self.sessions)}"
        session = prepared(harness, self.home(agent), self.clone(agent), script, transcripts)
        self.sessions.append(session)
        return session


def work_off(ttl: str, hold: Callable[[int], None] = lambda number: None) -> Script:
    """Claim the next task, do it, complete it; where nothing is free, stop and wait to be woken.

    `hold` is called with the number of each task that was claimed.
    """
    number = 0
    while True:
        answer = yield Shell(f"coordledger claim --next --ttl {ttl} --json")
        won = re.search(r'"task": "([^"]+)"', answer.result)
        if not (won and '"outcome": "won"' in answer.result):
            yield Say("Nothing is free.")
            continue
        number += 1
        hold(number)
        yield Write(f"done/{won[1]}.txt", f"{won[1]}\n")
        yield Shell(f"coordledger complete {won[1]} --result 'see done/{won[1]}.txt'")
