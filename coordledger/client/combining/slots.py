"""The files of one place in line (`queue`): what waits, the answer to it, and a bell.

Rules: NAME.json waits; NAME.taken may have been sent; NAME.answer is for its owner; NAME.bell
is a pipe that wakes it, and has a reader as long as the owner lives. They appear whole, under
NAME.new before. Whoever reads one believes nothing of its form.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coordledger.format import canonical
from coordledger.git.remote import UNKNOWN, Push

if TYPE_CHECKING:
    from pathlib import Path

KINDS = (".json", ".taken", ".answer", ".new", ".bell")
NONSENSE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def listen(place: Path) -> int:
    """Hang up a bell, and listen. It is never seen without a listener that lives."""
    fresh = place.with_suffix(".new")
    os.mkfifo(fresh, 0o600)
    ear = os.open(fresh, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fresh.rename(place.with_suffix(".bell"))
    except OSError:
        os.close(ear)
        raise
    return ear


def put(place: Path, suffix: str, facts: object) -> None:
    fresh = place.with_suffix(".new")
    fresh.write_bytes(canonical.encode(facts))
    fresh.rename(place.with_suffix(suffix))


def stands(place: Path) -> bool:
    """Whether somebody can still answer. (Files go from the first of these to the last.)"""
    return any(place.with_suffix(kind).exists() for kind in (".json", ".taken", ".answer"))


def heard(place: Path) -> Push | None:
    """The answer, if there is one."""
    try:
        facts = canonical.read(place.with_suffix(".answer").read_bytes())
        landed = facts.pop("landed")
        return Push(**facts, landed=landed and {oid: tuple(at) for oid, at in landed.items()})
    except FileNotFoundError:
        return None
    except NONSENSE:
        return Push(UNKNOWN, "the answer is not readable")


def clear(place: Path) -> None:
    for kind in KINDS:
        place.with_suffix(kind).unlink(missing_ok=True)


def _knock(place: Path, said: bytes) -> bool:
    try:
        bell = os.open(place.with_suffix(".bell"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(bell, said)
    except BlockingIOError:  # it has been rung often enough
        return True
    except OSError:
        return False
    finally:
        os.close(bell)
    return True


def listens(place: Path) -> bool:
    """Whether the owner lives."""
    return _knock(place, b"")


def ring(place: Path) -> bool:
    """Wake the owner; False if nobody listens any more."""
    return _knock(place, b"!")
