"""Refs: what a push asks to be done with them.

Rules: the hooks import this, so nothing of dulwich, no os and no typing.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.hashes import is_digest


def parse_update(line: str) -> tuple[str, str, str]:
    """Old id, new id and ref of a line of githooks(5). Raises `RuleBroken`: bad-push."""
    old, _, rest = line.partition(" ")
    new, _, ref = rest.partition(" ")
    if not ref or len(old) != len(new) or not is_digest(old) or not is_digest(new):
        raise RuleBroken("bad-push", why="a line of the list is not: old new ref")
    return old, new, ref
