"""A running `coordledger serve`, and a hook that can do nothing without it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fleet import Fleet


class ServeProcess:
    """A running `coordledger serve`."""

    def __init__(self, env: dict[str, str], *remotes: Path) -> None:
        argv = [sys.executable, "-m", "coordledger", "serve", *map(str, remotes)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(argv, env=env, **pipes)
        assert self.process.stdout
        for remote in remotes:
            assert self.process.stdout.readline() == f"serving {remote}\n"

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGKILL) -> tuple[int, str]:
        """The exit code, and what it wrote to stderr."""
        self.send(number)
        self.send(signal.SIGCONT)
        _, err = self.process.communicate(timeout=10)
        return self.process.returncode, err


@contextmanager
def serving(*fleets: Fleet) -> Iterator[ServeProcess]:
    made = ServeProcess(fleets[0].env, *(fleet.remote for fleet in fleets))
    try:
        yield made
    finally:
        if made.process.stdout and not made.process.stdout.closed:
            made.end()


@contextmanager
def without_python(fleet: Fleet, name: str = "pre-receive") -> Iterator[None]:
    """The hook can neither verify nor land: whatever passes, the resident has let pass."""
    hook = fleet.remote / "hooks" / name
    whole = break_python(hook)
    try:
        yield
    finally:
        hook.write_text(whole)


def break_python(hook: Path) -> str:
    """What the hook was before."""
    whole = hook.read_text()
    hook.write_text(re.sub("(?m)^python=.*", "python=/bin/false", whole))
    return whole


@contextmanager
def hidden(fleet: Fleet, name: str) -> Iterator[None]:
    """A file of the remote's is away."""
    away = fleet.remote / f"{name}.away"
    (fleet.remote / name).rename(away)
    try:
        yield
    finally:
        away.rename(fleet.remote / name)
