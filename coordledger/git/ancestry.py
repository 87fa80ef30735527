"""Which commits contain another one, and by which of their parents.

Rules: git is asked once for all of them, however many they are. Replace refs change nothing, no
remote is asked for what a partial clone has not got, and what is not here is told as not here.
Nothing is proved here: whoever shows a way to somebody else hashes the commits on it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from coordledger.errors import error
from coordledger.git.process import NO_REMOTE
from coordledger.hashes import LENGTHS, is_hex

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from coordledger.git.process import Git


def commit_named(git: Git, name: str) -> str | None:
    """The id of the commit that `name` (an id, a ref, `HEAD~3`, a tag) names; None if it is not
    here, or if that is no commit. Raises `Failed`: no-git, timeout.
    """
    if not name or not name.isprintable():
        return None
    asked = ("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}")
    found = git.run(*asked, **NO_REMOTE).out.strip()
    return found if _is_oid(found) else None


def commits_of(git: Git, oids: Iterable[str]) -> dict[str, str]:
    """The commit that each of these ids names: itself, or what a tag with it points to. What is
    not here, and what is no commit, is left out. Raises `Failed`: git-failed, no-git, timeout.
    """
    names = list(dict.fromkeys(oids))
    asked = "".join(f"{oid}^{{commit}}\n" for oid in names)
    lines = _run(git, "cat-file", "--batch-check=%(objectname)", stdin=asked).split("\n")
    return {oid: line for oid, line in zip(names, lines, strict=False) if _is_oid(line)}


def containing(git: Git, commit: str, tips: Collection[str]) -> set[str]:
    """Those of the commits `tips`, all of them here, that are `commit` or descend from it. Raises
    `Failed`: git-failed, no-git, timeout.
    """
    asked = "".join(f"{tip}\n" for tip in (f"^{commit}", *tips))
    between = _run(git, "rev-list", "--ancestry-path", "--stdin", stdin=asked).split()
    return {commit, *between}.intersection(tips)


def way_down(git: Git, tip: str, commit: str) -> list[str]:
    """A shortest way from `tip` to `commit`, each one a parent of the one before it; none if there
    is no way. Raises `Failed`: git-failed, no-git, timeout.
    """
    asked = ("rev-list", "--ancestry-path", "--parents", "--stdin")
    lines = _run(git, *asked, stdin=f"{tip}\n^{commit}\n").splitlines()
    parents = {child: above for child, *above in (line.split() for line in lines)}
    came_from: dict[str, str] = {tip: ""}
    ahead = deque([tip])
    while ahead and commit not in came_from:
        here = ahead.popleft()
        for parent in parents.get(here, ()):
            if parent not in came_from:
                came_from[parent] = here
                ahead.append(parent)
    way = [commit] if commit in came_from else []
    while way and came_from[way[-1]]:
        way.append(came_from[way[-1]])
    return way[::-1]


def _is_oid(text: str) -> bool:
    return any(is_hex(text, length) for length in LENGTHS.values())


def _run(git: Git, *args: str, stdin: str) -> str:
    ran = git.run(*args, stdin=stdin, **NO_REMOTE)
    if ran.code:
        raise error("git-failed", why=ran.why())
    return ran.out
