"""A hundred claims of one agent: one by one, and as one batch."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from .figures import in_turn, median, milliseconds, timed
from .workspace import OWNER

if TYPE_CHECKING:
    from .figures import Report, Rows, Took
    from .workspace import Workspace

ROUNDS = 3
WARM_UP = 0
OPERATIONS = 100
TTL = timedelta(minutes=30)


def run(workspace: Workspace, rounds: int, report: Report, *, operations: int = OPERATIONS) -> Rows:
    """Rows, and what is left out."""
    with workspace.fleet("ledger").open(OWNER) as ledger:
        ledger.claim("first", ttl=TTL)

        def singly(number: int) -> Took:
            def act() -> None:
                for n in range(operations):
                    ledger.claim(f"single-{number}-{n}", ttl=TTL)

            return timed(act)

        def batch(number: int) -> Took:
            def act() -> None:
                with ledger.batch() as batch:
                    for n in range(operations):
                        batch.claim(f"batch-{number}-{n}", ttl=TTL)
                if not all(outcome.landed for outcome in batch.outcomes):
                    raise RuntimeError("not all of the batch has landed")

            return timed(act)

        acts = {"one by one": singly}
        missing = {}
        if hasattr(ledger, "batch"):
            acts["one batch"] = batch
        else:
            missing["one batch"] = "there is no `Ledger.batch` yet"
        times = in_turn(acts, rounds, WARM_UP, report)
    walls = {name: median([took.wall for took in found]) for name, found in times.items()}
    rows = [
        {
            "what": f"{operations} claims, {name}",
            "median_ms": milliseconds(wall),
            "record_ms": milliseconds(wall / operations),
            "cpu_ms": milliseconds(median([took.cpu for took in times[name]]) / operations),
            "faster": round(walls["one by one"] / wall, 1),
        }
        for name, wall in walls.items()
    ]
    return rows, missing
