"""Files that are replaced whole, what outlives a power cut, and locks among processes.

Rules: a reader of a file that is replaced sees the old content or the new. The kernel takes a
lock from a process that dies. The hooks import this: it imports no os, and fcntl only to lock.
"""

from __future__ import annotations

import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

SYNCERS = 15  # threads that wait for the disk beside their caller


def replace(
    path: str,
    content: bytes,
    beside: str,
    *,
    mode: int | None = None,
    exclusive: bool = False,
    durable: bool = False,
) -> None:
    """Write `beside`, in the same folder, and rename it to `path`. Raises OSError.

    A file that is left at `beside` is written over; with `exclusive` it is a FileExistsError.
    `mode` is the file's, whatever the umask. `durable`: it is on the disk when this returns, and
    after a crash before that `path` has the old content or the new.
    """
    fd = _create(beside, mode, exclusive=exclusive)
    try:
        try:
            write_all(fd, content)
            if durable:
                posix.fsync(fd)
        finally:
            posix.close(fd)
        posix.rename(beside, path)
    except BaseException:
        remove(beside)
        raise
    if durable:
        sync(path.rpartition("/")[0] or ".")


def create(path: str, content: bytes, beside: str, *, mode: int) -> bool:
    """Make a file that appears whole; False if there is one at `path`: the first one decides.
    It is written at `beside`, a name in the same folder that no other process has. Raises OSError.
    """
    fd = _create(beside, mode, exclusive=True)
    try:
        try:
            write_all(fd, content)
            posix.fsync(fd)
        finally:
            posix.close(fd)
        posix.link(beside, path)
    except FileExistsError:
        return False
    finally:
        remove(beside)
    return True


def replace_locked(path: str, content: bytes, beside: str, *, mode: int) -> int:
    """As `replace`, durable; and the file is locked from before it is at `path`, until the
    descriptor that this returns is closed. Raises OSError.
    """
    while True:
        fd = _create(beside, mode, exclusive=False)
        lock(fd)
        if is_at(fd, beside):
            break
        posix.close(fd)  # it was taken for one that a killed process had left, and removed
    try:
        write_all(fd, content)
        posix.fsync(fd)
        posix.rename(beside, path)
        sync(path.rpartition("/")[0] or ".")
    except BaseException:
        remove(beside)
        posix.close(fd)
        raise
    return fd


def _create(path: str, mode: int | None, *, exclusive: bool) -> int:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
    flags |= posix.O_EXCL if exclusive else posix.O_TRUNC
    fd = posix.open(path, flags, 0o666 if mode is None else mode)
    if mode is not None:
        try:
            posix.fchmod(fd, mode)
        except BaseException:
            posix.close(fd)
            remove(path)
            raise
    return fd


def is_at(fd: int, path: str) -> bool:
    """Whether the open file is the one at `path`: it was neither replaced nor removed."""
    try:
        here, there = posix.fstat(fd), posix.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def mode_in(folder: str) -> int:
    """The mode of a file in a folder: what its owner, group and others may do in the folder."""
    return posix.stat(folder).st_mode & 0o666


def open_in(folder: str, name: str, flags: int) -> int:
    """Open a file, and make it with `mode_in(folder)` where it is missing. Raises OSError."""
    mode = mode_in(folder)
    fd = posix.open(f"{folder}/{name}", flags | posix.O_CREAT | posix.O_CLOEXEC, mode)
    facts = posix.fstat(fd)
    if facts.st_mode & 0o777 != mode and facts.st_uid == posix.geteuid():  # the umask was stricter
        posix.fchmod(fd, mode)
    return fd


def facts(path: str) -> tuple[int, ...] | None:
    """What tells one state of a file from the next: another once it was changed, replaced, made or
    removed; None if there is none. Links are not followed.
    """
    try:
        found = posix.lstat(path)
    except OSError:
        return None
    whose = (found.st_dev, found.st_ino, found.st_mode, found.st_uid)
    return (*whose, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[posix.write(fd, content) :]


def sync(path: str) -> bool:
    """Bring a file or a folder to the disk; False if there is none."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)
    return True


def sync_all(paths: Collection[str]) -> None:
    """As `sync`, all at the same time: a disk takes ten hardly longer than one. Raises OSError."""
    import _thread  # noqa: PLC0415 - most hooks write nothing

    left, faults, ends = list(paths), list[BaseException](), []

    def work() -> None:
        while left:
            try:
                sync(left.pop())
            except IndexError:  # another thread has taken the last one
                return
            except BaseException as fault:  # noqa: BLE001 - raised below
                faults.append(fault)

    def help_out(end: _thread.LockType) -> None:
        try:
            work()
        finally:
            end.release()

    for _ in range(min(len(left) - 1, SYNCERS)):
        end = _thread.allocate_lock()
        end.acquire()
        try:
            _thread.start_new_thread(help_out, (end,))
        except RuntimeError:  # no more threads: fewer do it
            break
        ends.append(end)
    work()
    for end in ends:
        end.acquire()
    if faults:
        raise faults[0]


def remove(path: str) -> None:
    """Remove a file that nothing depends on, if that can be."""
    try:  # noqa: SIM105 - contextlib takes longer to import
        posix.unlink(path)
    except OSError:
        pass


def make_folders(path: str, mode: int | None = None) -> None:
    """Make a folder and those above it, where they are not there. Raises OSError.

    `mode` is that of each folder that is made, whatever the umask.
    """
    try:
        posix.mkdir(path, 0o777 if mode is None else mode)
        if mode is not None:
            posix.chmod(path, mode)
    except FileExistsError:
        pass
    except FileNotFoundError:
        above = path.rstrip("/").rpartition("/")[0]
        if not above:
            raise
        make_folders(above, mode)
        make_folders(path, mode)


# -- locks: of open files, and released when these are closed


def lock(fd: int) -> None:
    """Wait for the lock, however long it takes."""
    import fcntl  # noqa: PLC0415 - here and below: most hooks take no lock

    fcntl.flock(fd, fcntl.LOCK_EX)


def try_lock(fd: int) -> bool:
    """Take the lock if it is free."""
    import fcntl  # noqa: PLC0415

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    import fcntl  # noqa: PLC0415

    fcntl.flock(fd, fcntl.LOCK_UN)


def lock_by_polling(fd: int, is_over: Callable[[], bool], seconds: float) -> bool:
    """Take the lock as soon as it is free, asked for every few `seconds`; False if `is_over()`
    before. For any thread.
    """
    while not try_lock(fd):
        if is_over():
            return False
        time.sleep(seconds)
    return True


class _Alarm(Exception):
    pass


def lock_in_line(fd: int, seconds: int) -> bool:
    """Take the lock when it is this process's turn, as the kernel lines them up; False after
    `seconds`. For a process with one thread, whose alarm it uses.
    """
    import _signal  # type: ignore[import-not-found] # noqa: PLC0415 - `signal` imports enum: 4 ms

    def too_late(*_: object) -> None:
        raise _Alarm

    _signal.signal(_signal.SIGALRM, too_late)
    _signal.alarm(seconds)
    try:
        lock(fd)
        _signal.alarm(0)
    except _Alarm:
        return False
    return True
