"""Ledgers of valid records that dice have chosen: leases run out, tasks are taken over, offered."""

from __future__ import annotations

import random
from typing import Any

from support.memory_ledger import LEASE, LEGACY, SKEW, MemoryLedger

from coordledger.errors import RuleBroken

AGENTS = ("alice", "bob", "carol")
TASKS = ("a", "b", "c")
JUMPS = (0, 0, 0, LEASE // 2, LEASE + SKEW)  # milliseconds until the next record

VERBS: dict[str, Any] = {
    "submit": lambda task, other: {"task": task},
    "claim": lambda task, other: {"tasks": [task]},
    "reopen": lambda task, other: {"tasks": [task], "reopen": True},
    "claim two": lambda task, other: {"tasks": sorted({task, "c"})},
    "renew": lambda task, other: {"task": task},
    "complete": lambda task, other: {"task": task},
    "release": lambda task, other: {"task": task},
    "force": lambda task, other: {"task": task, "force": True},
    "handoff": lambda task, other: {"task": task, "to": other},
    "withdraw": lambda task, other: {"task": task},
    "land": lambda task, other: {"task": task},
    "land and complete": lambda task, other: {"task": task, "complete": True},
    "import": lambda task, other: {"task": task},
    "send": lambda task, other: {"to": other},
    "reply": lambda task, other: {"channel": "general"},
    "archive": lambda task, other: {"to": "Bob", "legacy": LEGACY},
    "ack": lambda task, other: {},
    "fact": lambda task, other: {"fact": task},
}
KINDS = {
    "claim two": "claim",
    "reopen": "claim",
    "force": "release",
    "land and complete": "land",
    "reply": "send",
}

Lines = dict[int, dict[str, dict[str, Any] | None]]  # seq -> task -> its line before the record


def told(seed: int, count: int) -> tuple[MemoryLedger, Lines]:
    """A ledger of valid records that the dice have chosen, and how the tasks of each stood before
    it, by the state of the chain itself.
    """
    dice, ledger, before = random.Random(seed), MemoryLedger(*AGENTS[1:]), Lines()
    while len(ledger.log) < count:
        verb = dice.choice(list(VERBS))
        agent, other = dice.sample(AGENTS, 2)
        task = dice.choice(TASKS)
        fields = VERBS[verb](task, other)
        if verb == "ack":
            fields = {"messages": [line["seq"] for line in ledger.state.inbox(agent)][:2]}
        if verb == "reply" and ledger.head.seq > 3:
            fields["thread"] = dice.randrange(ledger.head.seq)
        ledger.now += dice.choice(JUMPS)
        names = [*fields.get("tasks", ()), *([fields["task"]] if "task" in fields else [])]
        lines = {name: ledger.state.task(name) for name in names}
        try:
            put = ledger.put(agent, KINDS.get(verb, verb), **fields)
        except RuleBroken:
            continue
        before[put.commit.seq] = lines
    return ledger, before
