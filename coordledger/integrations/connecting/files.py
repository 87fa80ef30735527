"""Reading and writing of settings that are others': below one folder, whole, all or none.

Rules of this file:
- Nothing outside of the folder (a project's top, a user's home) is read or written, nor git's own
  files in it, whatever links lead there; a link that stays inside is written through.
- What changes together is written beside the files first, then renamed; where one rename fails the
  others are taken back. A file that somebody has changed meanwhile is not overwritten.
- A file keeps its mode and owner. A read-only one is refused: rename would not ask.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger import files
from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGEST = 1 << 20  # bytes: no settings that people write are as large
_BESIDE = ".coordledger-new"
_LOCKED = 10  # seconds that another `setup` may take
_ASKS = 0.02


class File(NamedTuple):
    """A file that may be there: as it is called, where it is, what it has (None: it is not there),
    and the system's facts about it.
    """

    shown: str
    path: Path
    content: bytes | None = None
    facts: os.stat_result | None = None


class Change(NamedTuple):
    """What becomes of a file; None: it is deleted, and the folders above it that this leaves empty,
    up to `top`.
    """

    file: File
    content: bytes | None
    top: Path


def read(top: Path, name: str) -> File:
    """A file below a folder. Raises Failed."""
    whole = Path(os.path.realpath(top))
    path = Path(os.path.realpath(whole / name))
    inside = path.relative_to(whole).parts if path.is_relative_to(whole) else ()
    if not inside:
        raise _refused(name, f"it leads out of {whole}, to {path}")
    if ".git" in inside:
        raise _refused(name, f"it leads to git's own files, {path}")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _refused(name, "it is no file")
        if found.st_size > LARGEST:
            raise _refused(name, f"it has {found.st_size} bytes, more than {LARGEST}")
        return File(name, path, path.read_bytes(), found)
    except FileNotFoundError:
        return File(name, path)
    except NotADirectoryError:
        raise _refused(name, "what should be a folder is a file") from None


def _refused(name: str, why: str) -> Exception:
    return error("settings-refused", path=name, why=why)


@contextlib.contextmanager
def locked(top: Path) -> Iterator[None]:
    """One `setup` at a time below a folder."""
    fd = os.open(top, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + _LOCKED
        if not files.lock_by_polling(fd, lambda: time.monotonic() > end, _ASKS):
            raise error("local-lock", where=top, holder="another coordledger setup")
        yield
    finally:
        os.close(fd)


def apply(changes: Sequence[Change]) -> None:
    """Make all changes, or none. Raises Failed, OSError."""
    left_over = [change for change in changes if is_left_over(change)]
    for change in left_over:
        files.remove(_beside(change))
    wanted = [change for change in changes if change.content != change.file.content]
    made: list[Path] = []
    done: list[Change] = []
    try:
        for change in wanted:
            _prepare(change, made)
        for change in wanted:
            _need_unchanged(change.file)
        for change in wanted:
            done.append(change)
            _put(change)
    except BaseException:
        for change in reversed(done):
            with contextlib.suppress(OSError):
                _take_back(change)
        for change in wanted:
            files.remove(_beside(change))
        _remove_folders(reversed(made))
        raise
    for change in (*wanted, *left_over):
        if change.content is None:
            _remove_empty(change.file.path.parent, Path(os.path.realpath(change.top)))


def is_left_over(change: Change) -> bool:
    """Whether a `setup` that was killed has left something beside the file."""
    return os.path.lexists(_beside(change))


def _beside(change: Change) -> str:
    path = change.file.path
    return str(path.with_name(f".{path.name}{_BESIDE}"))


def _prepare(change: Change, made: list[Path]) -> None:
    """Bring the new content to the disk, beside the file."""
    path, old = change.file.path, change.file.facts
    if old is not None and not old.st_mode & stat.S_IWUSR:
        raise _refused(change.file.shown, "it is read-only")
    if change.content is None:
        return
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        made.append(folder)
    _write(_beside(change), change.content, old)


def _write(beside: str, content: bytes, old: os.stat_result | None) -> None:
    files.remove(beside)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(beside, flags, 0o666)
    try:
        if old is not None:
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):
                    os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
        files.write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def _need_unchanged(file: File) -> None:
    try:
        content: bytes | None = file.path.read_bytes()
    except FileNotFoundError:
        content = None
    if content != file.content:
        raise _refused(file.shown, "somebody has changed it meanwhile; try again")


def _put(change: Change) -> None:
    path = change.file.path
    if change.content is None:
        path.unlink()
    else:
        os.rename(_beside(change), path)  # noqa: PTH104 - from a text
    files.sync(str(path.parent))


def _take_back(change: Change) -> None:
    """As it was, whether the change was made or not."""
    path, before = change.file.path, change.file.content
    if before is None:
        files.remove(str(path))
        return
    if not path.exists() or path.read_bytes() != before:
        _write(_beside(change), before, change.file.facts)
        os.rename(_beside(change), path)  # noqa: PTH104 - from a text


def _remove_empty(folder: Path, top: Path) -> None:
    """A folder and those above it, as far as nothing is in them."""
    with contextlib.suppress(OSError):
        while folder != top and folder.is_relative_to(top):
            folder.rmdir()
            folder = folder.parent


def _remove_folders(folders: Iterator[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
