"""`coordledger run` as a process, and programs that it runs.

Rules: what a program does is seen in files of a folder (`$SEEN`): it makes `ready` when it can be
spoken to, and a beating one writes the wall clock to `beats`, so that a test can tell until when
it was alive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.fleet import Fleet

PATIENCE = 60.0  # seconds, on loaded machines

BEAT = """
import os, signal, sys, time
seen = os.environ["SEEN"]
for name in sys.argv[1].split(","):
    if name:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
if "setsid" in sys.argv:
    os.setsid()
name = sys.argv[2]
with open(f"{seen}/{name}.pid", "w") as file:
    file.write(str(os.getpid()))
with open(f"{seen}/{name}", "a", buffering=1) as file:
    while True:
        file.write(f"{time.time()}\\n")
        time.sleep(0.02)
"""

# A signal that arrives is written down; TERM ends it with 9.
LISTEN = """
import os, signal, sys, time
seen = os.environ["SEEN"]
def heard(number, frame):
    with open(f"{seen}/heard", "a") as file:
        file.write(signal.Signals(number).name + "\\n")
    if number == signal.SIGTERM:
        sys.exit(9)
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), heard)
open(f"{seen}/ready", "w").close()
while True:
    time.sleep(0.05)
"""


def wait_until(happened: Callable[[], object], why: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, why
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Running:
    """A `coordledger run ARGV` that was started in an agent's clone."""

    def __init__(
        self,
        fleet: Fleet,
        agent: str,
        *argv: str,
        env: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "coordledger"),
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.fleet, self.agent = fleet, agent
        self.clone = fleet.clone(agent)
        self.seen = fleet.root / f"seen-{time.monotonic_ns()}"
        self.seen.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, *program, "run", *argv],
            cwd=self.clone,
            env=fleet.env | {"SEEN": str(self.seen)} | (env or {}),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """Nothing outlives a test that failed."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        for path in self.seen.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE)

    # -- what the program has left

    def wait_for(self, name: str) -> str:
        path = self.seen / name
        wait_until(lambda: path.exists() and path.read_text(), f"no {name}")
        return path.read_text()

    def wait_for_line(self, name: str, line: str) -> None:
        path = self.seen / name
        wait_until(
            lambda: path.exists() and line in path.read_text().splitlines(), f"no {line} in {name}"
        )

    def pid(self, name: str) -> int:
        return int(self.wait_for(f"{name}.pid"))

    def last_beat(self, name: str = "beats") -> float:
        """The wall clock when it was last alive."""
        return float(self.wait_for(name).strip().splitlines()[-1])

    def end(self) -> tuple[int, str, str]:
        """Its exit code, and what it has printed."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    # -- what the ledger says

    def claim(self):
        return self.fleet.ledger(self.agent).show("t")

    def kinds(self, task: str = "t") -> list[str]:
        return [event.kind for event in self.fleet.ledger(self.agent).history(task)]

    def usable_until(self, skew: float) -> float:
        """The newest lease's usable end, by the wall clock."""
        return self.claim().expires_at.timestamp() - skew


def beat(*ignored: str, name: str = "beats") -> tuple[str, ...]:
    """A program that beats, deaf to some signals."""
    return (sys.executable, "-c", BEAT, ",".join(ignored), name)


def listen(*names: str) -> tuple[str, ...]:
    """A program that writes down what it hears."""
    return (sys.executable, "-c", LISTEN, *names)
