"""An agent on another host: behind an ssh that is none, with its own secret and no other."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.setup import joining

if TYPE_CHECKING:
    from support.fleet import Fleet


class OtherHost:
    """`fleet`'s ledger as `agent` sees it from there; `called` tells what it has started here."""

    def __init__(self, fleet: Fleet, agent: str, **joined: Any) -> None:
        """`joined`: options of `join`."""
        self.fleet, self.agent, self.path = fleet, agent, fleet.root / f"{agent}-elsewhere"
        home, script = fleet.root / f"home-{agent}", fleet.root / f"ssh-{agent}"
        self._calls = fleet.root / f"calls-{agent}"
        script.write_text(f'#!/bin/sh\nshift\necho "$1" >> {self._calls}\nexec sh -c "$*"\n')
        script.chmod(0o755)
        self.env = fleet.env | {
            "XDG_CONFIG_HOME": str(home),
            "GIT_SSH_COMMAND": str(script),
            "GIT_SSH_VARIANT": "simple",
        }
        id_ = fleet.founded.ledger
        secret = home / "coordledger" / "secrets" / id_ / f"{agent}.secret"
        secret.parent.mkdir(parents=True, mode=0o700)
        for folder in (home, home / "coordledger", home / "coordledger" / "secrets"):
            folder.chmod(0o700)
        theirs = fleet.root.parent / fleet.env["XDG_CONFIG_HOME"] / "coordledger/secrets"
        shutil.copy(theirs / id_ / f"{agent}.secret", secret)
        fleet.git("init", "--quiet", str(self.path), cwd=fleet.root)
        fleet.git("remote", "add", "origin", self.url, cwd=self.path)
        self.joined = joining.join(Options(self.path, agent=agent), self.env, "origin", **joined)
        self.called()

    @property
    def url(self) -> str:
        return f"host:{self.fleet.remote}"

    def ledger(self, **given: Any) -> Ledger:
        """A process there; closed with the fleet."""
        ledger = Ledger.open(self.path, self.agent, environ=self.env, **given)
        self.fleet._open.append(ledger)
        return ledger

    def called(self) -> list[str]:
        """git's programs that were started here since the last time: `receive` and `upload`."""
        if not self._calls.exists():
            return []
        lines = self._calls.read_text().splitlines()
        self._calls.write_text("")
        return [line.split()[0].removeprefix("git-").removesuffix("-pack") for line in lines]
