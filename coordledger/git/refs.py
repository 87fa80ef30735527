"""A repository's refs: what they say, and how they move.

Rules of this file:
- A ref whose own file is one id has the plain form. It is read and written as such: to start
  git, or to import dulwich, takes longer than the rest of a claim. Packed refs, symbolic ones
  and whatever else there is are left to dulwich, which no other module imports.
- Where refs are no files (reftable), git's own programs read and write them: `GitRefs`.
- A ref moves under its lock file, as git moves it. A lock file that a killed process left
  behind stops nobody for longer than `LOCK_SECONDS`.
- `move` is git's own compare-and-swap, and brings the ref to the disk.
- The hooks import this: dulwich is imported late, and neither os nor typing is.

It does not decide what may be written to which ref.
"""

from __future__ import annotations

import posix
import time
from _stat import S_ISGID

from coordledger.errors import CoordledgerError, RuleBroken, error
from coordledger.hashes import LENGTHS, is_digest, is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from coordledger.git.process import Ran

    _T = TypeVar("_T")

LOCK_SECONDS = 1.0
LOCK_WAIT = 0.1  # seconds, as git waits for the lock of a ref
_POLL = 0.01
_NEW = ".ref"
_KEPT_IN = ("packed-refs", "reftable/tables.list")


def parse_update(line: str) -> tuple[str, str, str]:
    """Old id, new id and ref of a line that git gives its hooks. Raises `RuleBroken`: bad-push."""
    old, _, rest = line.partition(" ")
    new, _, ref = rest.partition(" ")
    if not ref or len(old) != len(new) or not is_digest(old) or not is_digest(new):
        raise RuleBroken("bad-push", why="a line of the list is not: old new ref")
    return old, new, ref


def read_plain(folder: str, name: str) -> str | None:
    """The id in the ref's own file, "" if there is no file; None where it says anything else."""
    try:
        flags = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
        fd = posix.open(f"{folder}/{name}", flags)
    except FileNotFoundError:
        return ""
    except OSError:
        return None
    try:
        text = posix.read(fd, 66).decode("latin-1")
    except OSError:  # a folder
        return None
    finally:
        posix.close(fd)
    return text[:-1] if text.endswith("\n") and is_digest(text[:-1]) else None


def stamp(repository: str, name: str) -> tuple[tuple[int, int, int] | None, ...] | None:
    """What is another whenever a ref has moved in the repository at that path, bare or not, in
    whatever way refs are kept there; None where nothing is found that says so.
    """
    for folder in (f"{repository}/.git", repository):
        found = tuple(_facts(f"{folder}/{file}") for file in (name, *_KEPT_IN))
        if any(found):
            return found
    return None


def _facts(path: str) -> tuple[int, int, int] | None:
    """Of a file that is replaced when it changes: its successor is there before it goes."""
    try:
        facts = posix.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def move(
    git_dir: str, ref: str, old: str, new: str, environ: dict[str, str], why: str = "push"
) -> str:
    """Point `ref` from `old` to `new`, and say `why` in the reflog: "", or why it did not."""
    from coordledger import files  # noqa: PLC0415 - a hook that judges only reads
    from coordledger.git import spawn  # noqa: PLC0415 - so it is

    argv = ["update-ref", "--no-deref", "-m", why, ref, new, old]
    status, printed = spawn.run(argv, environ | {"LC_ALL": "C"}, errors=True)
    if status:
        return printed[:4096].decode("ascii", "replace").strip() or "git update-ref died"
    if files.sync(f"{git_dir}/{ref}"):  # where git keeps it as a file
        files.sync(f"{git_dir}/{ref.rpartition('/')[0]}")
    return ""


class Mover:
    """Moves one ref of a repository by git's own compare-and-swap, and brings it to the disk."""

    def __init__(self, git_dir: str, ref: str, environ: dict[str, str]) -> None:
        self._git_dir, self._ref, self._environ = git_dir, ref, environ

    def prepare(self, new: str) -> list[str]:
        """Make ready for a move to `new`: the files that have to be on the disk before it."""
        return []

    def move(self, old: str, new: str) -> str:
        """As the function `move`."""
        return move(self._git_dir, self._ref, old, new, self._environ)

    def close(self) -> None:
        """Remove what was prepared."""


class PlainMover(Mover):
    """The same without starting git, where the ref has the plain form, no reflog, and no readers by
    its folder's leave: else git does it. No hook runs.

    The file with the new id is complete and on the disk before it becomes `<ref>.lock`, by a
    hard link, and then the ref. Its name is new each time, as it is the ref's own file afterwards,
    which nobody may write to. Its process has it locked until it is removed: so one that a killed
    process has left is known, and git's lock with it, and both are removed by the next one.
    """

    _prepared, _fd, _is_swept = "", -1, False

    def prepare(self, new: str) -> list[str]:
        from coordledger import files  # noqa: PLC0415 - as in `move`

        self.close()
        if not self._is_swept:
            self._remove_dead()
            self._is_swept = True
        path = f"{self._beginning}{posix.urandom(8).hex()}{_NEW}"
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        self._fd = posix.open(path, flags, 0o666)
        self._prepared = path
        files.try_lock(self._fd)
        files.write_all(self._fd, f"{new}\n".encode("ascii"))
        return [path]

    @property
    def _beginning(self) -> str:
        return f"{self._git_dir}/coordledger/{self._ref.rpartition('/')[2]}."

    @property
    def _lock_path(self) -> str:
        return f"{self._git_dir}/{self._ref}.lock"

    def move(self, old: str, new: str) -> str:
        if posix.access(f"{self._git_dir}/logs/{self._ref}", posix.F_OK) or self._inherits():
            return super().move(old, new)
        try:
            if not self._lock():
                return f"Unable to create '{self._lock_path}': File exists"
        except OSError:  # no folder for it, or a file system without hard links
            return super().move(old, new)
        now = self._swap(old)
        if not now:  # it is packed, or symbolic
            return super().move(old, new)
        return "" if now == old else f"is at {now} but expected {old}"

    def _inherits(self) -> bool:
        """Whether a file that is made beside the ref gets its group or an access list from there,
        by which another account may read the repository.
        """
        folder = f"{self._git_dir}/{self._ref}".rpartition("/")[0]
        try:
            there = posix.stat(folder)
            if there.st_mode & S_ISGID and there.st_gid != posix.fstat(self._fd).st_gid:
                return True
            posix.getxattr(folder, "system.posix_acl_default")
        except (OSError, AttributeError):  # there is none; or none anywhere
            return False
        return True

    def _lock(self) -> bool:
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                posix.link(self._prepared, self._lock_path)
            except FileExistsError:
                self._remove_dead()
                if time.monotonic() > end:
                    return False
                time.sleep(_POLL)
            else:
                return True

    def _swap(self, old: str) -> str | None:
        """With the lock: the id that the ref had, as `read_plain` has it. It has moved if that is
        `old`.
        """
        from coordledger import files  # noqa: PLC0415 - as in `move`

        path = f"{self._git_dir}/{self._ref}"
        now = read_plain(self._git_dir, self._ref)
        if now == old:
            posix.rename(self._lock_path, path)
            files.sync(path.rpartition("/")[0])
        else:
            files.remove(self._lock_path)
        return now

    def _remove_dead(self) -> None:
        """Remove what killed processes have left, and git's lock if one of them had it."""
        folder, _, beginning = self._beginning.rpartition("/")
        for name in posix.listdir(folder):
            path = f"{folder}/{name}"
            if name.startswith(beginning) and name.endswith(_NEW) and path != self._prepared:
                self._remove_if_dead(path)

    def _remove_if_dead(self, path: str) -> None:
        from coordledger import files  # noqa: PLC0415 - as in `move`

        try:
            fd = posix.open(path, posix.O_RDWR | posix.O_CLOEXEC | posix.O_NOFOLLOW)
        except OSError:
            return
        try:
            if files.try_lock(fd):
                if files.is_at(fd, self._lock_path):
                    files.remove(self._lock_path)
                files.remove(path)
        finally:
            posix.close(fd)

    def close(self) -> None:
        from coordledger import files  # noqa: PLC0415 - as in `move`

        if not self._prepared:
            return
        try:
            if files.is_at(self._fd, self._lock_path):  # an interrupt came with the lock in hand
                files.remove(self._lock_path)
            files.remove(self._prepared)
            # Forgotten before it is closed: closed once more, the number may be another file's.
            fd, self._prepared, self._fd = self._fd, "", -1
            posix.close(fd)
        except OSError:  # whether the ref has moved is known all the same
            pass


class Refs:
    """The refs in one repository's common folder; `algo` is its object format."""

    def __init__(self, folder: str, algo: str) -> None:
        self._folder, self._width = folder, LENGTHS[algo]

    def get(self, name: str) -> str | None:
        """The id that a ref points to, or None."""
        plain = self._plain(name)
        if plain:
            return plain
        if plain == "" and not self._is_packed(name):
            return None
        oid = self._by_dulwich(lambda refs: refs.follow(name.encode("ascii"))[1])
        return oid.decode("ascii") if oid else None

    def set(self, name: str, oid: str | None) -> None:
        """Point a ref of our own to `oid`; None removes it."""
        plain = self._plain(name)
        if plain is None or (oid is None and self._is_packed(name)):
            _patiently(lambda: self._set_by_dulwich(name, oid))
        elif plain != (oid or "") or posix.access(self._lock(name), posix.F_OK):
            _patiently(lambda: self._replace(name, oid))

    def add(self, name: str, oid: str) -> bool:
        """Create a ref; False if it exists."""
        ref, new = name.encode("ascii"), oid.encode("ascii")
        return _patiently(lambda: self._by_dulwich(lambda refs: bool(refs.add_if_new(ref, new))))

    def _plain(self, name: str) -> str | None:
        oid = read_plain(self._folder, name)
        return oid if not oid or is_hex(oid, self._width) else None

    def _is_packed(self, name: str) -> bool:
        try:
            with open(f"{self._folder}/packed-refs", "rb") as packed:  # noqa: PTH123
                return f" {name}\n".encode("ascii") in packed.read()
        except FileNotFoundError:
            return False

    def _lock(self, name: str) -> str:
        return f"{self._folder}/{name}.lock"

    def _replace(self, name: str, oid: str | None) -> None:
        """As git does it: who makes the lock file may move it to the ref's place. Like git's own
        it is not brought to the disk. Raises `FileExistsError`.
        """
        from coordledger import files  # noqa: PLC0415 - as in `move`

        path, lock = f"{self._folder}/{name}", self._lock(name)
        folder = path.rpartition("/")[0]
        if not posix.access(folder, posix.F_OK):  # a shared repository's refs are a group's
            mode = posix.stat(f"{self._folder}/refs").st_mode & 0o7777
            files.make_folders(folder, mode)
        if oid:
            files.replace(path, oid.encode("ascii") + b"\n", lock, exclusive=True)
            return
        posix.close(posix.open(lock, posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666))
        try:
            posix.unlink(path)
        except FileNotFoundError:
            pass
        finally:
            files.remove(lock)

    def _set_by_dulwich(self, name: str, oid: str | None) -> None:
        ref = name.encode("ascii")
        if oid is None:
            self._by_dulwich(lambda refs: refs.remove_if_equals(ref, None))
        else:
            self._by_dulwich(lambda refs: refs.set_if_equals(ref, None, oid.encode("ascii")))

    def _by_dulwich(self, act: Callable[[Any], _T]) -> _T:
        """The result of `act` on dulwich's container of the refs. Raises `FileExistsError`."""
        import errno  # noqa: PLC0415 - here and below: most processes need none of it

        from dulwich.file import FileLocked  # noqa: PLC0415
        from dulwich.refs import DiskRefsContainer  # noqa: PLC0415 - 20 ms

        try:
            return act(DiskRefsContainer(self._folder))
        except FileLocked as held:
            lock = held.lockfilename
            path = lock.decode("utf-8", "surrogateescape") if isinstance(lock, bytes) else lock
            raise FileExistsError(errno.EEXIST, "the ref is locked", path) from None


class GitRefs:
    """As `Refs`, by git's programs; `run` runs git in the repository, whatever way it keeps refs.

    All raise `Failed`: git-failed, no-git, timeout.
    """

    def __init__(self, run: Callable[..., Ran]) -> None:
        self._run = run

    def get(self, name: str) -> str | None:
        ran = self._run("for-each-ref", "--format=%(objectname) %(refname)", name)
        if ran.code:
            raise error("git-failed", why=ran.why())
        for line in ran.out.splitlines():
            oid, _, found = line.partition(" ")
            if found == name:  # and not one below it
                return oid
        return None

    def set(self, name: str, oid: str | None) -> None:
        if self.get(name) != oid:
            self._update(*((name, oid) if oid else ("-d", name)))

    def add(self, name: str, oid: str) -> bool:
        try:
            self._update(name, oid, "0" * len(oid))
        except CoordledgerError:
            if self.get(name) is None:
                raise
            return False
        return True

    def _update(self, *args: str) -> None:
        ran = self._run("update-ref", "--no-deref", *args)
        if ran.code:
            raise error("git-failed", why=ran.why())


def _patiently(act: Callable[[], _T]) -> _T:
    """`act`, which takes a lock file: waited for, and removed if its holder has died.

    A process that holds one of these writes a line and lets go. The same file after a whole
    second has no holder any more.
    """
    from coordledger import files  # noqa: PLC0415 - as in `move`

    seen, since = None, 0.0
    while True:
        try:
            return act()
        except FileExistsError as held:
            path = str(held.filename)
            if not path.endswith(".lock"):
                raise
            mark = _mark(path)
            if mark is None or mark != seen:
                seen, since = mark, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                files.remove(path)
            time.sleep(_POLL)


def _mark(path: str) -> tuple[int, int] | None:
    """Tells one file at `path` from the next; None if there is none."""
    try:
        facts = posix.stat(path)
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns
