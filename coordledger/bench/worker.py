"""One process of a pool: python -m coordledger.bench.worker naive|ledger CLONE AGENT [LEDGER]

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


def claimer(kind: str, local: str, agent: str, ledger: str = "main") -> Callable[[str], object]:
    """How this process claims a task. It has to win it: nobody else wants it."""
    if kind == "naive":
        from .naive import Loop  # noqa: PLC0415 - each worker pays for its own kind alone

        return Loop(Path(local), agent).claim
    from coordledger import Ledger  # noqa: PLC0415

    mine = Ledger.open(local, agent, ledger=ledger, timeout=PATIENCE)

    def claim(task: str) -> None:
        result = mine.claim(task, ttl=timedelta(minutes=30))
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
