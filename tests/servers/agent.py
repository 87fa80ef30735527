"""An agent's process: `agent.py CLONE AGENT [--remote URL] [--timeout S] [--start] TASK…`

It claims each task and prints a line of JSON for it. With `--start` it first reads the
ledger, says "ready", and waits for a line: so that several of them begin at one moment.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta

from coordledger import Ledger
from coordledger.errors import CoordledgerError


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clone")
    parser.add_argument("agent")
    parser.add_argument("--remote")
    parser.add_argument("--timeout", type=float, default=20)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("tasks", nargs="+")
    given = parser.parse_args()
    limit = timedelta(seconds=given.timeout)
    with Ledger.open(given.clone, given.agent, remote=given.remote, timeout=limit) as ledger:
        if given.start:
            ledger.head()
            print("ready", flush=True)
            sys.stdin.readline()
        for task in given.tasks:
            print(json.dumps(_claim(ledger, task)), flush=True)


def _claim(ledger: Ledger, task: str) -> dict[str, object]:
    try:
        result = ledger.claim(task)
    except CoordledgerError as fault:
        said = {"code": fault.code, "message": fault.message, "hint": fault.hint}
        return {"outcome": "error", "exit": fault.exit_code} | said
    (claim,) = result.claims
    return {"outcome": result.outcome, "session": claim.session, "epoch": claim.epoch}


main()
