"""A fleet on one machine: a bare repository with the real hook, and a clone per agent.

Rules: everything is real (git, the hook, the secrets' files) and lives below one
directory; alice owns the ledger; nothing of the user's own configuration is seen.
What runs as a process is `python -m coordledger`, as users start it. A fleet that was
founded once can be copied, which takes 10 ms and not 300.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.git.process import Git
from coordledger.setup import genesis, hooks, joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

OWNER = "alice"
LEDGER_REF = "refs/coordledger/main"


def hermetic(root: Path) -> dict[str, str]:
    """An environment that knows no user, no system configuration and no secret. Folders stand for
    other hosts' repositories in it: what is written there goes by pushes.
    """
    dropped = ("COORDLEDGER_", "COORDINATION_", "GIT_", "XDG_", "CLAUDE_", "CODEX_", "OPENCODE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    home = root / "home"
    home.mkdir(parents=True, exist_ok=True)
    return env | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "PYTHONWARNINGS": "error",
        "COORDLEDGER_DIRECT": "off",
    }


class Fleet:
    """A founded ledger. `env` is what its processes see; `remote` the bare repository."""

    def __init__(
        self,
        root: Path,
        env: dict[str, str],
        *,
        max_skew: int = 30,
        name: str = "ledger.git",
        sequence: bool = False,
    ) -> None:
        """`sequence`: as `init` leaves a server; else records race for its head."""
        self.root, self.env = root, env
        self.remote = root / name
        self._clones: dict[str, Path] = {}
        self._open: list[Ledger] = []
        root.mkdir(parents=True, exist_ok=True)
        options = Options(path=root, agent=OWNER)
        self.founded = genesis.init(options, env, str(self.remote), max_skew)
        if not sequence:
            git = Git(env, root, Deadline(20))
            hooks.install_hook(self.remote, git, sequence=False)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def forgetful(self) -> Fleet:
        """This fleet, fit to be copied: it has nothing that its copies would take for another's."""
        for sample in self.root.rglob("*.sample"):
            sample.unlink()
        for sessions in list(self.root.rglob(".git/coordledger/.sessions")):
            shutil.rmtree(sessions)
        return self

    def copy(self, root: Path, env: dict[str, str]) -> Fleet:
        """The same fleet at `root`, for an environment that has no secrets yet."""
        made = copy.copy(self)
        made.root, made.env, made.remote = root, env, root / self.remote.name
        made._clones = {agent: root / agent for agent in self._clones}
        made._open = []
        shutil.copytree(self.root, root)
        shutil.copytree(self.env["XDG_CONFIG_HOME"], env["XDG_CONFIG_HOME"])
        for clone in made._clones.values():
            config = clone / ".git" / "config"
            config.write_text(config.read_text().replace(f"{self.remote}\n", f"{made.remote}\n"))
        return made

    # -- agents

    def enroll(self, agent: str, *, admin: bool = False) -> Path:
        """Enrol `agent` (another key, if it is enrolled already); the file of its secret."""
        return self.ledger(OWNER).enroll(agent, admin=admin)

    def with_agents(self, *agents: str) -> Fleet:
        """This fleet, with these enrolled."""
        for agent in agents:
            self.enroll(agent)
        return self

    def clone(self, agent: str) -> Path:
        """The agent's clone, made and joined when first asked for; it need not be enrolled."""
        if agent not in self._clones:
            path = self.root / agent
            self.git("clone", "--quiet", str(self.remote), str(path))
            joining.join(Options(path=path, agent=agent), self.env, "origin")
            self._clones[agent] = path
        return self._clones[agent]

    def ledger(self, agent: str, session: str | None = None, **kw: Any) -> Ledger:
        """A `Ledger` in the agent's clone; closed with the fleet."""
        found = Ledger.open(
            self.clone(agent), agent, session=session, **({"environ": self.env} | kw)
        )
        self._open.append(found)
        return found

    # -- processes

    def run(
        self,
        *argv: str | Path,
        agent: str | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        env: Mapping[str, str | None] | None = None,
        check: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`coordledger ARGV` in the agent's clone, in `cwd`, or in the fleet's directory.

        `env` changes the fleet's environment (None removes a name); `check` is the exit
        code that it must have. Bytes that are no UTF-8 are surrogates, both ways.
        """
        changed = self.env | (env or {})
        where = cwd or (self.clone(agent) if agent else self.root)
        ran = subprocess.run(
            [sys.executable, "-m", "coordledger", *map(str, argv)],
            cwd=where,
            env={name: value for name, value in changed.items() if value is not None},
            input=stdin or "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
            check=False,
        )
        if check is not None:
            assert ran.returncode == check, f"{argv}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran

    def git(self, *args: str | Path, cwd: Path | None = None) -> str:
        """What `git ARGS` prints, in `cwd` or in the bare repository; it has to succeed."""
        where = cwd or (self.remote if self.remote.exists() else self.root)
        ran = subprocess.run(
            ["git", *map(str, args)],
            cwd=where,
            env=self.env,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, f"git {args}: {ran.stderr}"
        return ran.stdout

    def head(self, ref: str = LEDGER_REF) -> str:
        """The id that `ref` has on the remote."""
        return self.git("rev-parse", ref).strip()
