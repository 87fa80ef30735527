"""One agent's process of the soak: python soaker.py CLONE AGENT SEED END CALM

It claims, renews, completes, releases and sends until the time END, waits for the file CALM,
settles what is open, and ends. With SOAKER_PLAIN in the environment it never lets the server
sequence its records. Each operation is lines of JSON on standard output: what is wanted, each op
(taken from its source of random numbers), and in the end what was said.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordledger import Ledger
from coordledger.client.claims import ClaimResult
from coordledger.client.combining.sequenced import SequencedPublisher
from coordledger.errors import CoordledgerError, Failed, Integrity, Lost, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = tuple(f"task{number}" for number in range(6))
TIMEOUT = timedelta(seconds=4)
PATIENCE = 25.0  # seconds for settling in the end
MARGIN = 5.0  # the ledger's max_skew, in seconds


class Agent:
    def __init__(self, ledger: Ledger, seed: str) -> None:
        self.ledger, self.dice = ledger, random.Random(seed)
        self.me = ledger.connection.settings.need_agent
        self.peers = [f"agent{number}" for number in range(8)]
        self.held: dict[str, float] = {}  # task -> until when, by the clock, for certain
        self.ops: list[str] = []
        self.sent = 0
        ledger.connection.hexadecimal = self.mint

    def mint(self, count: int) -> str:
        made = secrets.token_hex(count)
        if count == 16:
            self.ops.append(made)
            self.say(kind="minted", op=made)
        return made

    def say(self, **facts: object) -> None:
        print(json.dumps(facts), flush=True)

    def do(self, kind: str, act: Callable[[], Any], **facts: object) -> tuple[str, Any]:
        """Try `act`; how it ended, as it was logged, and what it gave."""
        self.ops.clear()
        self.say(kind="begun", of=kind, **facts)
        code, result = "", None
        began = time.time()
        try:
            result = act()
            outcome = "won"
            if isinstance(result, ClaimResult) and not result.won:
                outcome, code = "lost", result.code
        except Lost as lost:
            outcome, code = "lost", lost.code
        except OutcomeUnknown as unknown:
            outcome, code = "unknown", unknown.code
            facts["why"] = unknown.message
        except Failed as failed:
            outcome, code = "failed", failed.code
            facts["why"] = failed.message
        except Integrity as bad:
            outcome, code = "integrity", bad.code
            facts["why"] = bad.message
        self.say(kind=kind, outcome=outcome, code=code, ops=self.ops, began=began, **facts)
        return outcome, result

    # -- one step

    def step(self) -> None:
        chance = self.dice.random()
        if self.held and chance < 0.5:
            self.use(self.dice.choice(sorted(self.held)))
        elif chance < 0.75:
            self.take(self.dice.choice(TASKS))
        elif chance < 0.95:
            self.send()
        else:
            self.do("ack", self.ack)

    def take(self, task: str) -> None:
        ttl = self.dice.choice((6, 20))
        act = lambda: self.ledger.claim(task, ttl=timedelta(seconds=ttl), reopen=True)  # noqa: E731
        self.held.pop(task, None)
        outcome, result = self.do("claim", act, task=task)
        if outcome == "won":
            self.held[task] = result.claim.expires_at.timestamp() - MARGIN

    def use(self, task: str) -> None:
        kind = self.dice.choice(("renew", "renew", "complete", "release"))
        until = self.held.pop(task)
        acts: dict[str, Callable[[], Any]] = {
            "renew": lambda: self.ledger.renew(task, ttl=timedelta(seconds=25)),
            "complete": lambda: self.ledger.complete(task, result="done"),
            "release": lambda: self.ledger.release(task),
        }
        outcome, result = self.do(kind, acts[kind], task=task)
        if outcome == "lost" and time.time() < until:
            self.say(kind="violation", task=task, why=f"{kind} was lost while the lease ran")
        if outcome == "failed":
            self.held[task] = until
        if outcome == "won" and kind == "renew":
            self.held[task] = result.expires_at.timestamp() - MARGIN

    def send(self) -> None:
        self.sent += 1
        body = f"{self.me} {self.dice.random()} {self.sent}"
        where = {"to": self.dice.choice(self.peers)} if self.sent % 2 else {"channel": "general"}
        self.do("send", lambda: self.ledger.send(body, **where), body=body)

    def ack(self) -> None:
        mine = [message.seq for message in self.ledger.inbox() if message.to]
        if mine:
            self.ledger.ack(*mine[:5])

    def settle(self) -> None:
        """Until nothing is open any more: each settled intent is a line."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                settled = self.ledger.resolve()
            except CoordledgerError as fault:
                self.say(kind="note", why=fault.message)
                settled = None
            for found in settled or ():
                if found.outcome != "open":
                    self.say(kind="settled", op=found.op, outcome=found.outcome, seq=found.seq)
            if settled is not None and all(found.outcome != "open" for found in settled):
                return
            assert time.monotonic() < end, "it cannot be settled"


def _never_sequence() -> None:
    def publish(self: SequencedPublisher, *args: Any) -> Any:
        return self._direct.publish(*args)

    SequencedPublisher.publish = publish  # type: ignore[method-assign]


def main() -> None:
    clone, name, seed, end, calm = sys.argv[1:]
    if "SOAKER_PLAIN" in os.environ:
        _never_sequence()
    with Ledger.open(clone, name, timeout=TIMEOUT) as ledger:
        agent = Agent(ledger, seed)
        while time.time() < float(end):
            agent.step()
        deadline = time.monotonic() + PATIENCE
        while not Path(calm).exists():
            assert time.monotonic() < deadline, "nobody said that it is calm"
            time.sleep(0.02)
        agent.settle()


if __name__ == "__main__":
    main()
