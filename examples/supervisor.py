"""A supervisor: it offers tasks, keeps workers at them, and says what came of each.

    python examples/supervisor.py --workers 3 --task build --task test -- ./work-on-one-task

Each worker is a thread with a `Ledger` and a session of its own. It takes the next of these tasks,
runs the command with it, renews the lease meanwhile, and completes the task or gives it back. A
command whose lease is lost is killed. `coordledger run` does so with more care.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from datetime import timedelta

from coordledger import Claim, CoordledgerError, Ledger

LABEL = "supervised"
LEASE = timedelta(minutes=2)
HEARTBEAT = 30.0  # seconds between two renewals


def work(ledger: Ledger, claim: Claim, command: list[str]) -> None:
    """One task from the claim to its end."""
    known = {"COORDLEDGER_TASK": claim.task, "COORDLEDGER_EPOCH": str(claim.epoch)}
    process = subprocess.Popen(command, env=os.environ | known)
    try:
        while True:
            try:
                code = process.wait(HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                ledger.renew(claim.task, ttl=LEASE)
    except BaseException:  # the lease is lost, or cannot be renewed: nothing may run without it
        process.kill()
        process.wait()
        raise
    if code == 0:
        ledger.complete(claim.task, result="done by the supervisor")
    else:
        ledger.release(claim.task, reason=f"exit {code}")


def worker(number: int, command: list[str]) -> None:
    """Until there is nothing left to claim."""
    with Ledger.open(session=f"worker-{number}") as ledger:
        while True:
            # One attempt for each task: what has failed is left to somebody who looks at it.
            result = ledger.claim_next(labels=[LABEL], max_attempts=1, ttl=LEASE)
            if not result.won or result.claim is None:
                return
            try:
                work(ledger, result.claim, command)
            except CoordledgerError as fault:
                print(f"{result.claim.task}: {fault.message}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a command for each of some tasks.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    with Ledger.open() as ledger:
        for task in given.task:
            ledger.submit(task, labels=[LABEL])
        threads = [
            threading.Thread(target=worker, args=(number, given.command))
            for number in range(given.workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        claims = [ledger.show(task) for task in given.task]
    for claim in claims:
        said = claim.result if claim.status == "done" else claim.last.text if claim.last else None
        print(f"{claim.task}: {claim.status}, {said or 'not tried'}")
    return 0 if all(claim.status == "done" for claim in claims) else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except CoordledgerError as fault:
        raise SystemExit(f"{fault.message}\n{fault.hint}") from None
