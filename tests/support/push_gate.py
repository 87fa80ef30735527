"""Processes that write, and a gate before the server that decides what happens to a push."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

WORKER = Path(__file__).with_name("worker.py")

# What happens to the next push, in the server's hooks: a file says what, and is taken away.
BEFORE = """#!/bin/sh
cat > /dev/null
cd "$GATE" || exit 1
if mv hold holding 2> /dev/null; then
	n=0
	while [ -e holding ] && [ $n -lt 600 ]; do sleep 0.02; n=$((n + 1)); done
elif ! mv now once 2> /dev/null; then
	exit 0
fi
if mv vanish vanished 2> /dev/null; then mv "$REMOTE" "$REMOTE.away"; fi
if mv kill killed 2> /dev/null; then kill -9 $(ps -o ppid= -p $PPID); fi
if mv refuse refused 2> /dev/null; then exit 1; fi
"""
LANDED = """#!/bin/sh
grep refs/coordledger/ > /dev/null || exit 0
[ "$1" = committed ] || exit 0
cd "$GATE" || exit 0
if mv hold-landed holding 2> /dev/null; then
	n=0
	while [ -e holding ] && [ $n -lt 600 ]; do sleep 0.02; n=$((n + 1)); done
fi
if mv vanish-landed vanished 2> /dev/null; then mv "$REMOTE" "$REMOTE.away"; fi
if mv kill-landed killed 2> /dev/null; then kill -9 $PPID; fi
"""


class PushGate:
    """Decides what happens to the next push of a fleet on its way."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.folder = fleet, fleet.root / "gate"
        self.folder.mkdir(exist_ok=True)
        hooks = fleet.remote / "hooks"
        facts = f'GATE="{self.folder}" REMOTE="{fleet.remote}"\n'
        for name, text in (("pre-receive.chained", BEFORE), ("reference-transaction", LANDED)):
            (hooks / name).write_text(text.replace("\n", "\n" + facts, 1))
            (hooks / name).chmod(0o755)

    def set(self, *names: str) -> None:
        for name in names:
            (self.folder / name).touch()

    def wait_for(self, name: str) -> None:
        end = time.monotonic() + 15
        while not (self.folder / name).exists():
            assert time.monotonic() < end, f"nothing made {name}"
            time.sleep(0.005)

    def open(self) -> None:
        (self.folder / "holding").unlink()

    def clear(self) -> None:
        """What is held goes on, and no later push is held."""
        for path in self.folder.iterdir():
            path.unlink()

    def bring_back(self) -> None:
        Path(f"{self.fleet.remote}.away").rename(self.fleet.remote)


def start(fleet: Fleet, agent: str, *tasks: str) -> subprocess.Popen[bytes]:
    """A process that claims the tasks at once."""
    argv = [sys.executable, str(WORKER), "claim", str(fleet.clone(agent)), agent, "", "/", *tasks]
    return subprocess.Popen(
        argv, env=fleet.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the client alone: its git lives on, as after a crash."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)


def ended(process: subprocess.Popen[bytes]) -> dict:
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return json.loads(out)


def eventually(check: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)
