"""One process of a pool: python -m coordledger.bench.worker KIND PLACE AGENT [MORE]

KIND is `ledger`, `naive` or `push`, and PLACE a clone; or `sqlite`, and PLACE a file. MORE is a
ledger's name, or SQLite's `synchronous`.

It says that it is ready, then claims the tasks of each line that it reads, and answers
each line with what that took. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import cpu

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = timedelta(seconds=120)


def claimer(kind: str, place: str, agent: str, *more: str) -> Callable[[str], object]:
    """How this process claims a task. It has to win it: nobody else wants it."""
    # Each worker pays for its own kind alone.
    if kind == "naive":
        from .naive import Loop  # noqa: PLC0415

        return Loop(Path(place), agent).claim
    if kind == "push":
        from .plain import Pushes  # noqa: PLC0415

        pushes = Pushes(Path(place), agent)
        return lambda task: pushes.push()
    if kind == "sqlite":
        from .sqlite import Table  # noqa: PLC0415

        return Table(Path(place), agent, *more).claim
    from coordledger import Ledger  # noqa: PLC0415

    ledger = Ledger.open(place, agent, ledger=more[0] if more else "main", timeout=PATIENCE)

    def claim(task: str) -> None:
        result = ledger.claim(task, ttl=timedelta(minutes=30))
        if not result.won:
            raise RuntimeError(f"{task}: {result.code}")

    return claim


def main() -> None:
    claim = claimer(*sys.argv[1:])
    say = os.fdopen(os.dup(1), "w")
    say.write("ready\n")
    say.flush()
    for line in sys.stdin:
        before, seconds = cpu(), []
        for task in json.loads(line):
            start = time.perf_counter()
            claim(task)
            seconds.append(time.perf_counter() - start)
        say.write(json.dumps({"seconds": seconds, "cpu": cpu() - before}) + "\n")
        say.flush()


if __name__ == "__main__":
    main()
