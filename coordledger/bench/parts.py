"""Where the time of a claim goes: its parts, each timed by itself.

Rules of this file: the parts are real ones (the same programs, the same records); what they
leave of the whole belongs to nobody and is not shown.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import against, timed
from .ground import OWNER
from .write import FLOOR, Acts

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .figures import Report, Rows
    from .ground import Ground

ROUNDS = 20
WARM_UP = 2
_PACKAGE = str(Path(__file__).parents[2])
_IMPORTS = f"import sys; sys.path.insert(0, {_PACKAGE!r}); import coordledger.hook"


def run(ground: Ground, rounds: int, report: Report) -> Rows:
    """Rows, and what is left out."""
    fleet = ground.fleet("unguarded")
    (fleet.remote / "hooks" / "pre-receive").unlink()
    pushes: list[float] = []

    def program(*argv: str, say: bytes = b"") -> Callable[[int], float]:
        def act() -> None:
            subprocess.run(argv, env=ground.environ, input=say, check=True, capture_output=True)

        return lambda number: timed(act)

    with Acts(ground) as acts, fleet.open(OWNER) as ledger:
        remote: Any = ledger.remote
        push = remote.push

        def watched(*given: Any) -> Any:
            start = time.perf_counter()
            try:
                return push(*given)
            finally:
                pushes.append(time.perf_counter() - start)

        remote.push = watched

        def unguarded(number: int) -> float:
            """The whole; what its push took is the next row."""
            pushes.clear()
            task = f"task-{number}"
            return timed(lambda: ledger.claim(task, ttl=timedelta(minutes=5)))

        parts: dict[str, Callable[[int], float]] = {
            FLOOR: acts.floor,
            "warm claim": acts.warm,
            "warm claim, no hook": unguarded,
            "- its push": lambda number: sum(pushes),
            "- receive-pack alone, taking nothing": program(
                "git", "receive-pack", str(fleet.remote), say=b"0000"
            ),
            "hook alone": acts.hook,
            "- a shell that does nothing": program("/bin/sh", "-c", ":"),
            "- python -I -S -E that does nothing": program(sys.executable, "-ISE", "-c", ""),
            "- the same with the hook's imports": program(sys.executable, "-ISE", "-c", _IMPORTS),
            "git --version": program("git", "--version"),
        }
        return against(FLOOR, parts, rounds, WARM_UP, report), {}
