"""Eight agents push code to one branch; they are killed, sleep through their leases, their clocks
jump. Each goes on for `COORDLEDGER_SOAK` seconds; with pytest -s the figures are shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from support.attacker import second_opinion
from support.fleet import LEDGER_REF, Fleet
from support.pusher import MAIN, fence

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = max(10, int(os.environ.get("COORDLEDGER_SOAK", "0")))
AGENTS = [f"agent{number}" for number in range(8)]
PROGRAM = Path(__file__).parents[1] / "support" / "fenced_agent.py"


class Push(NamedTuple):
    """One move of main, and the ledger's head at that moment, as the server's hook has seen it."""

    at: float
    new: str
    head: str


class Driver:
    """One agent, again and again."""

    def __init__(self, fleet: Fleet, name: str, how: str, lease: float) -> None:
        self.fleet, self.name, self.how, self.lease = fleet, name, how, lease
        self.said: list[str] = []
        self.kills = self.sleeps = self.jumps = 0
        self.clock = fleet.root / f"{name}.clock"
        self.jump(0)
        self.start()

    def jump(self, seconds: float) -> None:
        self.clock.write_text(str(seconds))

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, PROGRAM, self.fleet.clone(self.name), self.name),
                *(self.how, self.clock, str(self.lease)),
            ],
            env=self.fleet.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.thread = threading.Thread(target=self.listen, args=(self.process,))
        self.thread.start()

    def listen(self, process: subprocess.Popen[str]) -> None:
        """Take down what it says; where it has a claim, put it to sleep: at the first one, and
        now and then.
        """
        slept = False
        assert process.stdout
        for line in process.stdout:
            self.said.append(line.strip())
            if line.startswith("claimed") and (not slept or random.random() < 0.25):
                slept = True
                self.sleeps += 1
                self.signal(signal.SIGSTOP)
                time.sleep(self.lease + 1.5)  # its lease ends, and the skew of one second
                self.signal(signal.SIGCONT)

    def signal(self, which: signal.Signals) -> None:
        """What it has started goes on: git, and the server's side."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, which)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.thread.join()
        for file in (self.process.stdin, self.process.stdout):
            assert file
            file.close()

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(40)
        finally:
            self.kill()


class Story:
    """What has come of it, as plain git and the hook's notes tell."""

    def __init__(self, fleet: Fleet, notes: Path, drivers: list[Driver]) -> None:
        self.fleet, self.drivers = fleet, drivers
        self.acknowledged = {
            line.split()[1] for one in drivers for line in one.said if line.startswith("landed")
        }
        self.ended = {line.split()[1] for one in drivers for line in one.said if "ended " in line}
        lines = (line.split() for line in notes.read_text().splitlines())
        self.pushes = [Push(float(at), new, head) for at, new, head in lines]
        ids = fleet.git("rev-list", "--reverse", LEDGER_REF).split()
        self.places = {oid: place for place, oid in enumerate(ids)}
        bodies = fleet.git("log", "--reverse", "--format=%x00%B", ids[-1]).split("\0")[1:]
        self.records = [json.loads(re.findall(r"(?m)^\{.*", body)[0]) for body in bodies]
        self.main = fleet.git("log", "--reverse", "--format=%H %s", MAIN).splitlines()[1:]

    def figures(self) -> str:
        """What has happened, in a line."""
        ends = Counter(line for one in self.drivers for line in one.said if "ended " in line)
        what = ("kills", "sleeps", "jumps")
        done = [f"{sum(getattr(one, name) for one in self.drivers)} {name}" for name in what]
        done += [f"{count} {line}" for line, count in sorted(ends.items())]
        pushes = f"{len(self.pushes)} pushes, {len(self.stale())} of them stale"
        return f"{pushes}; {len(self.records)} records; {', '.join(done)}"

    def holder(self, task: str, place: int, at: str) -> int:
        """The epoch of the live claim on a task, at a record and a time; 0: there is none."""
        epoch, until = 0, ""
        for record in self.records[: place + 1]:
            if record["kind"] == "claim" and record["tasks"][0]["task"] == task:
                epoch, until = record["tasks"][0]["epoch"], record["until"]
            elif record["kind"] == "release" and record["task"] == task:
                until = ""
        return epoch if until > at else 0

    def stale(self) -> list[str]:
        """What was pushed under a claim that was no longer the newest one, or was given back."""
        found = []
        subjects = dict(line.split(" ", 1) for line in self.main)
        for push in self.pushes:
            subject = subjects[push.new].split()
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(push.at - 2))  # the skew
            if self.holder(subject[0], self.places[push.head], at) != int(subject[2]):
                found.append(" ".join(subject))
        return found


def taken(fleet: Fleet, how: str) -> float:
    """The seconds that it takes to claim and to push, by the processor as it is."""
    clone = fleet.clone("alice")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    began = time.monotonic()
    with fleet.ledger("alice") as ledger:
        epoch = ledger.claim("first", ttl=timedelta(minutes=10)).claim.epoch
        told = f"first epoch {epoch} 0"
        fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", told, cwd=clone)
        if how == "fenced":
            ledger.push(f"HEAD:{MAIN}", task="first")
        else:
            fleet.git("push", "--quiet", "origin", f"HEAD:{MAIN}", cwd=clone)
    return time.monotonic() - began


def play(fleet: Fleet, how: str, seconds: float) -> Story:
    for agent in AGENTS:
        fleet.enroll(agent)
        fleet.clone(agent)
    clone = fleet.clone("alice")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "root", cwd=clone)
    fleet.git("push", "--quiet", "origin", f"HEAD:{MAIN}", cwd=clone)
    notes = fleet.root / "notes"
    hook = fleet.remote / "hooks/post-receive"
    script = (
        f'case $ref in {MAIN}) echo "$(date +%s.%N) $new $(git rev-parse {LEDGER_REF})" >>{notes}'
    )
    hook.write_text(f"#!/bin/sh\nwhile read -r old new ref; do\n{script} ;;\nesac\ndone\n")
    hook.chmod(0o755)
    notes.touch()
    if how == "fenced":
        fence(fleet, MAIN)
    lease = 2 + 2 * taken(fleet, how)
    drivers = [Driver(fleet, agent, how, lease) for agent in AGENTS]
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > -60:
        if left < 0 and notes.read_text().count("\n") > 5:
            break
        if how == "plain" and Story(fleet, notes, drivers).stale():
            break  # it is there to be seen once
        time.sleep(0.5 if left > 0 else 3)  # then a slow machine gets somewhere
        one = random.choice(drivers)
        if random.random() < 0.3:
            one.kill()
            one.start()
            one.kills += 1
        else:
            one.jumps += 1
            one.jump(random.choice((0, 0, 0, -0.5, 0.5, -40, 40)))
    for one in drivers:
        one.end()
    story = Story(fleet, notes, drivers)
    print(
        f"\n{how}, {seconds} s, leases of {lease:.1f} s: {story.figures()}"
    )  # seen with pytest -s
    return story


def test_no_code_of_a_lost_claim_gets_through(make_fleet: Callable[..., Fleet]) -> None:
    story = play(make_fleet(max_skew=1), "fenced", SECONDS)
    assert second_opinion(story.fleet.remote) == len(story.records)
    lands = [
        (place, record) for place, record in enumerate(story.records) if record["kind"] == "land"
    ]
    assert len(lands) > 2, story.ended
    # main is what the records say, step by step, and nothing else.
    steps = [record["new"] for _, record in lands]
    assert [line.split()[0] for line in story.main] == steps
    assert [record["old"] for _, record in lands[1:]] == steps[:-1]
    assert story.acknowledged <= set(steps)
    for (place, record), line in zip(lands, story.main, strict=True):
        _, task, _, epoch, _ = line.split()
        assert (record["task"], record["epoch"]) == (task, int(epoch))
        assert story.holder(task, place - 1, record["at"]) == int(epoch), line
    assert {"not-holder", "wrong-epoch", "expired", "not-claimed"} & story.ended, story.ended


def test_the_same_without_a_fence_lets_some_through(make_fleet: Callable[..., Fleet]) -> None:
    """So that the test above can fail."""
    story = play(make_fleet(max_skew=1), "plain", SECONDS)
    assert story.stale()
