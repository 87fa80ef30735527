"""The files that are read, as somebody else may have left them.

Rules: only a regular file is opened, nothing is waited for, and what is read is bounded. A database
is copied, with what SQLite keeps beside it, and only the copy is opened: nothing is ever written
beside the original, and nobody who uses it meanwhile is in the way or is kept waiting.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT = 256 * 1024 * 1024
MAX_DATABASE = 2 * 1024 * 1024 * 1024
_LOT = 1024 * 1024
_TRIES = 5


def read(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The content of a regular file. Raises `Failed`: bad-import."""
    with _opened(path) as fd:
        size = os.fstat(fd).st_size
        if size > limit:
            raise error("bad-import", path=path, why=f"{size} bytes, more than {limit}")
        with os.fdopen(os.dup(fd), "rb") as file:
            content = file.read(limit + 1)
    if len(content) > limit:
        raise error("bad-import", path=path, why=f"more than {limit} bytes")
    return content


@contextlib.contextmanager
def copied(path: Path) -> Iterator[Path]:
    """A copy of a database and its write-ahead log, as they were at one moment; for as long as the
    block lasts. Raises `Failed`: bad-import.
    """
    real = _resolved(path)
    with tempfile.TemporaryDirectory(prefix="coordledger-import-") as folder:
        copy = Path(folder) / "database"
        for _ in range(_TRIES):
            before = _marks(real)
            for suffix in ("", "-wal"):
                _copy(Path(f"{real}{suffix}"), Path(f"{copy}{suffix}"), optional=bool(suffix))
            if _marks(real) == before:
                break
        else:
            raise error("bad-import", path=path, why="it changes while it is read: stop its users")
        yield copy


def _resolved(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError) as fault:
        raise error("bad-import", path=path, why=_why(fault)) from None


def _marks(real: Path) -> list[tuple[int, ...] | None]:
    """What changes when the file or its log does."""
    marks: list[tuple[int, ...] | None] = []
    for suffix in ("", "-wal"):
        try:
            facts = os.lstat(f"{real}{suffix}")
            marks.append((facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns))
        except OSError:
            marks.append(None)
    return marks


def _copy(path: Path, to: Path, *, optional: bool) -> None:
    to.unlink(missing_ok=True)
    if optional and not os.path.lexists(path):
        return
    with _opened(path, follow=not optional) as fd, to.open("xb") as file:
        size = os.fstat(fd).st_size
        if size > MAX_DATABASE:
            raise error("bad-import", path=path, why=f"{size} bytes, more than {MAX_DATABASE}")
        left = size
        while left > 0 and (lot := os.read(fd, min(_LOT, left))):
            file.write(lot)
            left -= len(lot)


@contextlib.contextmanager
def _opened(path: Path, *, follow: bool = True) -> Iterator[int]:
    """A regular file, for reading. A pipe is not waited for."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except (OSError, ValueError) as fault:
        raise error("bad-import", path=path, why=_why(fault)) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise error("bad-import", path=path, why="it is no regular file")
        yield fd
    finally:
        os.close(fd)


def _why(fault: Exception) -> str:
    return fault.strerror or str(fault) if isinstance(fault, OSError) else str(fault)
