"""A file of SQLite in the clone's private folder: opened, shared and thrown away.

Rules: it is a cache, which anybody may throw away: under an exclusive lock, as it is used under a
shared one. SQLite's own files beside it belong to the one that was opened. What stands in it is its
caller's business.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from coordledger import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CACHE = 16_384  # KiB: tasks come in no order
_SPOILT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


@contextlib.contextmanager
def opened(folder: Path, name: str, *, make: bool, patience: float) -> Iterator[sqlite3.Connection]:
    """The file `name`, made if it is not there and `make` says so; another process's transaction is
    waited for so many seconds. Raises OSError: there is none, or none can be made or shared.
    """
    path = folder / name
    if not make and not path.exists():
        raise FileNotFoundError(path)
    with _locked(folder, name, exclusive=False):
        os.close(files.open_in(str(folder), name, os.O_RDWR | os.O_NOFOLLOW))  # with its mode
        db = sqlite3.connect(path, timeout=patience, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA cache_size = -{_CACHE}")
            yield db
        finally:
            db.close()


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All of it or nothing. IMMEDIATE to write; DEFERRED to read what is there at one time."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def is_spoilt(fault: sqlite3.Error) -> bool:
    """Whether the file is none of ours, rather than in use or on a full disk."""
    # The code is SQLite's, without its details; 0 where the module has raised it by itself.
    return (getattr(fault, "sqlite_errorcode", 0) & 0xFF) in _SPOILT


def discard(folder: Path, name: str) -> bool:
    """Throw the file away; False if somebody uses it, or it cannot be."""
    try:
        with _locked(folder, name, exclusive=True):
            for one in (name, f"{name}-wal", f"{name}-shm"):
                (folder / one).unlink(missing_ok=True)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _locked(folder: Path, name: str, *, exclusive: bool) -> Iterator[None]:
    """Raises OSError: the lock is not to be had."""
    import fcntl  # noqa: PLC0415 - as in `files`

    lock = f"{name.removesuffix('.db')}.use"
    fd = files.open_in(str(folder), lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
