"""Refs: what a push asks to be done with them.

Rules: the hooks import this, so nothing of dulwich, no os and no typing.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.git.tree import ID_LENGTHS

_HEX = frozenset("0123456789abcdef")


def parse_update(line: str) -> tuple[str, str, str]:
    """Old id, new id and ref of a line of githooks(5). Raises `RuleBroken`: bad-push."""
    old, _, rest = line.partition(" ")
    new, _, ref = rest.partition(" ")
    good = len(old) == len(new) and len(old) in ID_LENGTHS.values() and _HEX.issuperset(old + new)
    if not ref or not good:
        raise RuleBroken("bad-push", why="a line of the list is not: old new ref")
    return old, new, ref
