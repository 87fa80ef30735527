"""One run of a git program, and what it prints: for hooks, where subprocess would take longer to
import than a record takes to verify.

It has no deadline: git gives its hooks none. Who has one uses `process`.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(argv: list[str], environ: dict[str, str], *, errors: bool = False) -> tuple[int, bytes]:
    """The exit status (as of `waitpid`) of `git ARGV`, and its output; with its `errors`, or
    without. Raises OSError.
    """
    ours, theirs = posix.pipe()
    actions: list[tuple[Any, ...]] = [(posix.POSIX_SPAWN_DUP2, theirs, 1)]
    if errors:
        actions.append((posix.POSIX_SPAWN_DUP2, theirs, 2))
    else:
        actions.append((posix.POSIX_SPAWN_OPEN, 2, "/dev/null", posix.O_WRONLY, 0))
    try:
        pid = posix.posix_spawnp("git", ["git", *argv], environ, file_actions=actions)
    except BaseException:
        posix.close(ours)
        raise
    finally:
        posix.close(theirs)
    with open(ours, "rb") as answer:  # noqa: PTH123
        printed = answer.read()
    return posix.waitpid(pid, 0)[1], printed
