"""An agent that claims tasks, and pushes a commit to main for each: with the record of its claim,
or with plain git. It knows no caution: it pushes whenever it gets to it.

    fenced_agent.py CLONE AGENT fenced|plain CLOCK LEASE

CLOCK is a file with the seconds by which its clock is wrong, LEASE has so many seconds.

It says a line about what it is about to do, and what came of it, until its standard input ends.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from coordledger import Ledger
from coordledger.errors import CoordledgerError

TASKS = [f"task-{number}" for number in range(4)]
PAUSE = 0.5  # seconds after a "no", so that others get the processor


class Agent:
    def __init__(self, clone: Path, name: str, clock: Path, lease: float, *, fenced: bool) -> None:
        self.clone, self.name, self.fenced, self._clock = clone, name, fenced, clock
        self.lease = timedelta(seconds=lease)

    def clock(self) -> int:
        return time.time_ns() // 1_000_000 + int(float(self._clock.read_text() or 0) * 1000)

    def say(self, *words: object) -> None:
        print(*words, flush=True)

    def git(self, *args: str) -> subprocess.CompletedProcess[str]:
        who = ("-c", f"user.name={self.name}", "-c", "user.email=x@example.com")
        ran = ("git", *who, *args)
        return subprocess.run(ran, cwd=self.clone, capture_output=True, text=True, check=False)

    def work(self, ledger: Ledger, task: str) -> None:
        claim = ledger.claim(task, ttl=self.lease)
        if not claim.won:
            return
        told = f"{task} epoch {claim.claim.epoch} {random.randrange(10**9)}"
        self.say("claimed", told)
        for _ in range(5):
            self.git("fetch", "--quiet", "origin", "main")
            self.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
            self.git("commit", "--quiet", "--allow-empty", "-m", told)
            new = self.git("rev-parse", "HEAD").stdout.strip()
            if self.push(ledger, task):
                self.say("landed", new, told)
                break
        ledger.release(task)

    def push(self, ledger: Ledger, task: str) -> bool:
        """Whether it landed. Raises what ends the work at this task."""
        if not self.fenced:
            return self.git("push", "origin", "HEAD:refs/heads/main").returncode == 0
        try:
            ledger.push("HEAD:refs/heads/main", task=task)
        except CoordledgerError as fault:
            if fault.code != "code-moved":
                raise
            return False
        return True

    def run(self) -> None:
        pause = 0.0
        while not select.select([sys.stdin], [], [], pause)[0]:
            pause = 0
            timeout = timedelta(seconds=20)
            with Ledger.open(self.clone, self.name, timeout=timeout, clock=self.clock) as ledger:
                try:
                    self.work(ledger, random.choice(TASKS))
                except CoordledgerError as fault:
                    self.say("ended", fault.code)
                    pause = PAUSE


if __name__ == "__main__":
    where, name, how, clock, lease = sys.argv[1:]
    Agent(Path(where), name, Path(clock), float(lease), fenced=how == "fenced").run()
