"""Where the time of a claim goes: its parts, each timed by itself.

Rules of this file: the parts are real ones (the same programs, the same records); what they
leave of the whole belongs to nobody and is not shown.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import against, timed
from .workspace import OWNER
from .write import FLOOR, Acts, claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .figures import Report, Rows, Took
    from .workspace import Workspace

ROUNDS = 20
WARM_UP = 2
_PACKAGE = str(Path(__file__).parents[2])
_IMPORTS = f"import sys; sys.path.insert(0, {_PACKAGE!r}); import coordledger.server.pre_receive"


def run(workspace: Workspace, rounds: int, report: Report) -> Rows:
    """Rows, and what is left out."""
    fleet = workspace.fleet("unguarded")
    (fleet.remote / "hooks" / "pre-receive").unlink()
    pushes: list[Took] = []

    def program(*argv: str, say: bytes = b"") -> Callable[[int], Took]:
        def act() -> None:
            subprocess.run(argv, env=workspace.environ, input=say, check=True, capture_output=True)

        return lambda number: timed(act)

    with Acts(workspace) as acts, fleet.open(OWNER) as ledger:
        remote: Any = ledger.connection.remote
        push = remote.push

        def watched(*given: Any) -> Any:
            answers: list[Any] = []
            pushes.append(timed(lambda: answers.append(push(*given))))
            return answers[0]

        remote.push = watched

        def unguarded(number: int) -> Took:
            """The whole; what its push took is the next row."""
            return claim(ledger, number)

        parts: dict[str, Callable[[int], Took]] = {
            FLOOR: acts.floor,
            "warm claim": acts.warm,
            "warm claim, no hook": unguarded,
            "- its push": lambda number: pushes[-1],
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
