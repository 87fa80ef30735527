"""Looks at the remote's head that serve all processes of one user on one host.

Rules of this file:
- Who looks has the lock, and writes down what it has seen and when it began; who comes meanwhile
  waits for that. The kernel takes the lock from one that dies, and the next one looks.
- What is written down is a hint to those who wait that a fetch may be worth it: nothing of it
  is believed otherwise. Whatever is wrong with the folder, each looks for itself.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.client.combining import slots
from coordledger.errors import Failed
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GLANCE = 0.05  # seconds between two looks whether the other one has seen something
STUCK = 10.0  # seconds after which nobody waits for it
_NOTHING, _NO_ANSWER = "-", "?"


class Look(Value):
    """What the remote has said: `head` (None: it has none), where it has `answered`; and `at`, when
    it began to be asked, by this host's monotonic clock.
    """

    at: int
    head: str | None
    answered: bool = True


class Looks:
    """Looks at one ref of one remote."""

    def __init__(self, folder: Path | None, ask: Callable[[], str | None]) -> None:
        """`ask()` gives the head; `folder` is where the user's processes line up, if they do."""
        self._folder, self._ask = folder, ask

    def after(self, moment: int) -> Look:
        """A look that was begun after that: another process's, or an own one."""
        if self._folder is None:
            return self._own()
        try:
            slots.enter(self._folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            lock = os.open(self._folder / "looking", flags, 0o600)
        except OSError:
            return self._own()
        try:
            return self._shared(self._folder / "seen", lock, moment)
        finally:
            os.close(lock)

    def _shared(self, seen: Path, lock: int, moment: int) -> Look:
        patience = time.monotonic() + STUCK
        while time.monotonic() < patience:
            alone = files.try_lock(lock)  # before it is read: the other one may just have written
            look = _read(seen)
            if look and moment < look.at <= time.monotonic_ns():  # else of before a boot
                return look
            if alone:
                look = self._own()
                with contextlib.suppress(OSError):
                    files.replace(str(seen), _line(look), f"{seen}.new", mode=0o600)
                return look
            time.sleep(GLANCE)
        return self._own()  # it is stopped, or its remote does not answer

    def _own(self) -> Look:
        at = time.monotonic_ns()
        try:
            return Look(at, self._ask())
        except Failed:
            return Look(at, None, answered=False)


def _line(look: Look) -> bytes:
    said = (look.head or _NOTHING) if look.answered else _NO_ANSWER
    return f"{look.at} {said}\n".encode("ascii")


def _read(seen: Path) -> Look | None:
    with contextlib.suppress(OSError, ValueError):
        at, said = seen.read_text("ascii").split()
        return Look(int(at), None if said in (_NOTHING, _NO_ANSWER) else said, said != _NO_ANSWER)
    return None
