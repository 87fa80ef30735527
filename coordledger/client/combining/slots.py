"""The files of one slot in line (`line`): records that wait, their answer, and a way to wake
the process that waits.

Rules of this file:
- NAME.json waits; a leader renames it to NAME.taken, and may have sent it from then on;
  NAME.answer is for the owner; NAME.bell is a pipe that wakes it, and has a reader as long as
  the owner lives.
- Files appear whole, under NAME.new before. A reader believes nothing of a file's form.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from coordledger import answers, files
from coordledger.format import canonical
from coordledger.git.outcome import UNKNOWN, Push

if TYPE_CHECKING:
    from pathlib import Path

KINDS = (".json", ".taken", ".answer", ".new", ".bell")
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def enter(folder: Path) -> None:
    """Make the folder of the slots. Raises OSError if it is not ours, and nobody else's."""
    try:
        facts = folder.lstat()
    except FileNotFoundError:
        files.make_folders(str(folder), 0o700)
        facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is not a folder of this user's")
    if facts.st_mode & 0o077:
        folder.chmod(0o700)


def open_wakeup(slot: Path) -> int:
    """Make the pipe that wakes this process, and open it. No pipe is ever seen there without
    a reader that lives. Raises OSError.
    """
    fresh = slot.with_suffix(".new")
    os.mkfifo(fresh, 0o600)
    wakeup = os.open(fresh, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fresh.rename(slot.with_suffix(".bell"))
    except OSError:
        os.close(wakeup)
        raise
    return wakeup


def write(slot: Path, suffix: str, facts: object) -> None:
    """Replace one file of a slot. Raises OSError."""
    path, fresh = slot.with_suffix(suffix), slot.with_suffix(".new")
    files.replace(str(path), canonical.encode(facts), str(fresh))


def waiting(folder: Path) -> list[Path]:
    """The files of records that have no answer, in the order of their coming. Raises OSError."""
    names = [path.name for path in folder.iterdir()]
    answered = {name.partition(".")[0] for name in names if name.endswith(".answer")}
    paths = [folder / name for name in names if name.endswith((".json", ".taken"))]
    paths = [path for path in paths if path.stem not in answered]
    return sorted(paths, key=_since) if len(paths) > 1 else paths


def _since(path: Path) -> tuple[int, str]:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns, path.stem
    return 0, path.stem


def exists(slot: Path) -> bool:
    """Whether an answer can still come. (Files go from the first of these to the last.)"""
    return any(slot.with_suffix(kind).exists() for kind in (".json", ".taken", ".answer"))


def write_answer(slot: Path, push: Push) -> None:
    """Raises OSError."""
    lines = None if push.vouches is None else [str(vouch) for vouch in push.vouches]
    write(slot, ".answer", push._asdict() | {"vouches": lines})


def read_answer(slot: Path) -> Push | None:
    """The answer, if there is one."""
    try:
        facts = canonical.read(slot.with_suffix(".answer").read_bytes())
        landed, lines = facts.pop("landed"), facts.pop("vouches")
        landed = landed and {oid: tuple(at) for oid, at in landed.items()}
        vouches = None if lines is None else answers.vouches(answers.read(lines))
        return Push(**facts, landed=landed, vouches=vouches)
    except FileNotFoundError:
        return None
    except UNREADABLE:
        return Push(UNKNOWN, "the answer is not readable")


def clear(slot: Path) -> None:
    """Remove every file of a slot. Raises OSError."""
    for kind in KINDS:
        slot.with_suffix(kind).unlink(missing_ok=True)


def clear_dead(folder: Path) -> None:
    """Remove what owners have left that do not live any more. Raises OSError."""
    names = (path.name for path in folder.iterdir())
    for slot in {name.partition(".")[0] for name in names if name.endswith(KINDS)}:
        if not is_alive(folder / slot):
            clear(folder / slot)


def is_alive(slot: Path) -> bool:
    """Whether the owner lives."""
    return _signal(slot, b"")


def wake(slot: Path) -> bool:
    """Wake the owner; False if it does not live any more."""
    return _signal(slot, b"!")


def _signal(slot: Path, data: bytes) -> bool:
    try:
        pipe = os.open(slot.with_suffix(".bell"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(pipe, data)
    except BlockingIOError:  # it has been woken often enough
        return True
    except OSError:
        return False
    finally:
        os.close(pipe)
    return True
