"""Hosts that share a remote and nothing else: a home, a clone and an environment for each.

Rules: no file goes from one to another but through git, and what a test carries by hand.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from support.fleet import hermetic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Host:
    """One machine of one agent. What `conftest.inside` needs of a fleet is here."""

    def __init__(self, root: Path, agent: str) -> None:
        self.agent = agent
        self.env = hermetic(root / agent)
        self.root = root / agent / "clone"
        self.root.mkdir()
        self.run("git", "init", "--quiet", ".")

    def clone(self, agent: str) -> Path:
        assert agent == self.agent
        return self.root

    def run(self, *argv: str | Path, stdin: bytes = b"", check: bool = True) -> str:
        """What a program prints here."""
        ran = subprocess.run(
            [str(word) for word in argv],
            cwd=self.root,
            env=self.env,
            input=stdin,
            capture_output=True,
            check=False,
        )
        assert not check or ran.returncode == 0, ran.stderr
        return ran.stdout.decode()

    def keygen(self, name: str, passphrase: str = "", kind: str = "ed25519") -> Path:
        """A key that OpenSSH makes: the private file; the public one is beside it."""
        path = self.root.parent / name
        self.run("ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "a comment", "-f", path)
        return path

    @contextlib.contextmanager
    def ssh_agent(self) -> Iterator[None]:
        """With an agent of OpenSSH's in the environment."""
        socket = self.root.parent / "agent.sock"
        command = ["ssh-agent", "-D", "-a", str(socket)]
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE) as agent:
            assert agent.stdout
            agent.stdout.readline()  # it listens
            before, self.env = self.env, self.env | {"SSH_AUTH_SOCK": str(socket)}
            try:
                yield
            finally:
                self.env = before
                agent.terminate()


def files_below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            yield type(folder)(where, name)
