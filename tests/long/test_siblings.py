"""Processes that read and write in the worktrees of one clone, all at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

SECONDS = int(os.environ.get("COORDLEDGER_SOAK", "30"))
PROCESSES = 6

HAMMER = """
import json, random, sys, time
from datetime import timedelta
from coordledger import CoordledgerError, Ledger, Lost
from coordledger.client.config import Options

path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
dice, end, counts, faults = random.Random(name), time.monotonic() + seconds, {}, []
while time.monotonic() < end:
    what = dice.choice(("tasks", "audit", "write", "write"))
    try:
        with Ledger.open(path, agent="alice", session=name) as ledger:
            if what == "tasks":
                ledger.tasks()
            elif what == "audit":
                faults += [str(problem) for problem in ledger.audit().problems]
            else:
                task = f"t{dice.randrange(4)}"
                if ledger.claim(task, reopen=True).won:
                    dice.choice((ledger.complete, ledger.release))(task)
    except Lost:
        pass
    except Exception as fault:
        faults.append(f"{what}: {type(fault).__name__}: {getattr(fault, 'code', '')}: {fault}")
    counts[what] = counts.get(what, 0) + 1
print(json.dumps([counts, faults]))
"""


@pytest.mark.parametrize("queue", ["on", "off"])
def test_six_processes_in_three_worktrees_are_in_nobody_s_way(
    make_fleet: Callable[..., Fleet], queue: str
) -> None:
    fleet = make_fleet()
    clone = fleet.clone("alice")
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "x", cwd=clone)
    trees = [clone, fleet.root / "second", fleet.root / "third"]
    for tree in trees[1:]:
        fleet.git("worktree", "add", "--quiet", tree, cwd=clone)
    env = fleet.env | {"COORDLEDGER_QUEUE": queue}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(trees[n % 3]), f"p{n}", str(SECONDS)],
            env=env,
            stdout=subprocess.PIPE,
        )
        for n in range(PROCESSES)
    ]
    said = [json.loads(process.communicate(timeout=SECONDS + 60)[0]) for process in running]
    assert [fault for _, faults in said for fault in faults] == []
    assert all(sum(counts.values()) > SECONDS / 10 for counts, _ in said), said
    with opened(fleet, clone, "alice") as ledger:
        assert ledger.audit(full=True).problems == ()
        assert ledger.connection.local.journal.intents() == []
        assert ledger.connection.local.told.all() == []
        assert ledger.head().commit == fleet.head()
    refs = fleet.git("for-each-ref", "refs/coordledger-incoming", cwd=clone)
    assert refs == ""
    fsck(clone, fleet.env)
