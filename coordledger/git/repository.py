"""A repository's objects and refs.

Rules: objects are addressed by hexadecimal ids; what is written is there when the call
returns: a few as loose objects, many as a pack. What has the plain form (a loose object, a
ref whose file is one id) is read and written as such: to start git for each, or to import
dulwich, takes longer than the rest of a claim. Packs are git's business, and refs of any
other form dulwich's, which nobody else imports. A lock file that a killed process left
behind stops nobody for longer than `LOCK_SECONDS`. No network, no verification, no ledger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from coordledger.errors import Integrity, RuleBroken, error
from coordledger.git import loose
from coordledger.git.pack import MANY, pack
from coordledger.git.process import NO_REMOTE
from coordledger.git.tree import object_id
from coordledger.hashes import LENGTHS, is_hex

if TYPE_CHECKING:
    from collections.abc import Callable

    from dulwich.objects import ObjectID
    from dulwich.refs import DiskRefsContainer, Ref

    from coordledger.errors import CoordledgerError
    from coordledger.git.cat_file import Found
    from coordledger.git.loose import Reader
    from coordledger.git.process import Git, Ran
    from coordledger.git.tree import Objects

_T = TypeVar("_T")

LOCK_SECONDS = 1.0
_POLL = 0.01
_LOT = 256  # names of objects, which fit into a pipe
_FORMS = ("repository extension", "repo version")  # in what git says of them


class Repository:
    """One repository, bare or with a work tree, or a linked work tree of it."""

    def __init__(self, git: Git, git_dir: Path, root: Path | None, algo: str) -> None:
        """`git` may be replaced by another one, whose deadline is the caller's."""
        self.git, self.git_dir, self.root, self.algo = git, git_dir, root, algo
        self.common_dir = git_dir
        if (git_dir / "commondir").exists():
            shared = os.fsdecode((git_dir / "commondir").read_bytes())
            self.common_dir = (git_dir / shared.removesuffix("\n")).resolve()
        self._objects = str(self.common_dir / "objects")
        self._reader: Reader | None = None
        self._ahead: dict[str, Found] = {}

    @classmethod
    def open(cls, git: Git, path: Path | None = None) -> Repository:
        """The repository at `path`; None for the one that git finds where it runs.

        Raises `Failed`: not-a-repository, object-format, git-failed (somebody else's).
        """
        named: dict[str, str] = {}
        there: tuple[str, ...] = ()
        if path:
            path = path / ".git" if (path / ".git").is_dir() else path
            named = {"GIT_DIR": str(path)}
            if path.name == ".git" and path.is_dir():
                there = ("-C", str(path.parent))
        asked = "--is-bare-repository --absolute-git-dir --show-object-format --show-toplevel"
        ran = git.run(*there, "rev-parse", *asked.split(), errors="surrogateescape", **named)
        bare, git_dir, algo, root, *_ = [*ran.out.split("\n"), "", "", "", ""]
        if algo not in LENGTHS:
            shown = path or git.cwd or "."
            if any(text in ran.err for text in _FORMS):
                what = " ".join(ran.err.removeprefix("fatal:").split())
                raise error("object-format", path=shown, what=what)
            if "not a git repository" in ran.err:
                raise error("not-a-repository", path=shown)
            raise error("git-failed", why=ran.why())
        if (Path(git_dir) / "reftable").exists():  # not tried against git's own
            raise error("object-format", path=git_dir, what="extensions.refStorage = reftable")
        return cls(git, Path(git_dir), Path(root) if bare == "false" and root else None, algo)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    # -- objects

    def read(self, oid: str) -> bytes:
        """The content of an object; KeyError if it is not there, or if that is no id.

        Raises `Integrity`: bad-copy. git does not look whether what is packed is the id's.
        """
        found = self._find(oid)
        if found is None:
            raise KeyError(oid)
        _, kind, content = found
        if object_id(kind, content, self.algo) != oid:
            raise _damaged(oid)
        return content

    def read_ahead(self, oids: list[str]) -> None:
        """Bring objects here that are read next: git answers for a lot of them sooner than for
        one after the other. Whatever it has no answer for is looked for when it is read.
        """
        self._ahead.clear()
        for at in range(0, len(oids), _LOT):
            with contextlib.suppress(RuleBroken):
                self._ahead |= self._objects_here().find_all(oids[at : at + _LOT])

    def _objects_here(self) -> Reader:
        if self._reader is None:
            self._reader = self.git.reader(self.git_dir, self._objects)
            weakref.finalize(self, self._reader.close)
        return self._reader

    def has(self, oid: str) -> bool:
        """Whether it is there, in whatever state."""
        try:
            return self._find(oid) is not None
        except Integrity:
            return True

    def _is_id(self, oid: str) -> bool:
        return is_hex(oid, LENGTHS[self.algo])

    def _find(self, oid: str) -> Found | None:
        if not self._is_id(oid):
            return None
        if oid in self._ahead:
            return self._ahead.pop(oid)
        for _ in range(2):  # git may have been killed, which says nothing of the object
            with contextlib.suppress(RuleBroken):
                found = self._objects_here().find(oid)
                if found:
                    return found
                break
        # For git, what it cannot read is missing; -e asks for no more than a file.
        if self._run("cat-file", "-e", oid).code == 0:
            raise _damaged(oid)
        return None

    def write(self, objects: Objects, pack: Callable[[], bytes] | None = None) -> None:
        """Add objects (id -> kind, content); those that are here already are left alone.

        `pack()` gives what `pack(objects)` does, if the caller may have it already.
        """
        if len(objects) <= MANY:  # more take a tenth of the time as a pack of their own
            loose.write(self._objects, objects)
            return
        ran = self._run(
            "index-pack", "--stdin", "--threads=1", said=pack() if pack else self.pack(objects)
        )
        if ran.code:
            raise OSError(errno.EIO, f"git index-pack: {ran.why()}")

    def _run(self, *args: str, said: bytes | None = None) -> Ran:
        return self.git.run(*args, said=said, GIT_DIR=str(self.git_dir), **NO_REMOTE)

    def pack(self, objects: Objects) -> bytes:
        """Objects as a pack of their own."""
        return pack(objects, self.algo)

    # -- refs

    def ref(self, name: str) -> str | None:
        """The id that a ref points to, or None."""
        plain = self._plain(name)
        if plain:
            return plain
        if plain == "" and not self._is_packed(name):
            return None
        found = self._by_dulwich(lambda refs: refs.follow(_ref(name))[1])
        return found.decode("ascii") if found else None

    def set_ref(self, name: str, oid: str | None) -> None:
        """Point a ref of our own to `oid`; None removes it."""
        plain = self._plain(name)
        if plain is None or (oid is None and self._is_packed(name)):
            _patiently(lambda: self._by_dulwich(lambda refs: _set(refs, _ref(name), oid)))
        elif plain != (oid or "") or self._lock(name).exists():
            _patiently(lambda: self._replace(name, oid))

    def add_ref(self, name: str, oid: str) -> bool:
        """Create a ref; False if it exists."""
        return _patiently(
            lambda: self._by_dulwich(lambda refs: refs.add_if_new(_ref(name), _id(oid)))
        )

    def _plain(self, name: str) -> str | None:
        """The id in the ref's own file, "" if there is no file; None where it says more."""
        try:
            content = (self.common_dir / name).read_bytes()
        except FileNotFoundError:
            return ""
        except OSError:  # a folder
            return None
        oid = content[:-1].decode("latin-1")
        return oid if content[-1:] == b"\n" and self._is_id(oid) else None

    def _is_packed(self, name: str) -> bool:
        try:
            return f" {name}\n".encode("ascii") in (self.common_dir / "packed-refs").read_bytes()
        except FileNotFoundError:
            return False

    def _lock(self, name: str) -> Path:
        return self.common_dir / f"{name}.lock"

    def _replace(self, name: str, oid: str | None) -> None:
        """As git does it: who makes the lock file may move it to the ref's place.

        Raises `FileExistsError`.
        """
        path, lock = self.common_dir / name, self._lock(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(fd, "wb") as file:  # noqa: PTH123 - not brought to the disk, as git does it
                file.write(oid.encode("ascii") + b"\n" if oid else b"")
            if oid:
                lock.replace(path)
            else:
                path.unlink(missing_ok=True)
                lock.unlink()
        except BaseException:
            lock.unlink(missing_ok=True)
            raise

    def _by_dulwich(self, act: Callable[[DiskRefsContainer], _T]) -> _T:
        """Raises `FileExistsError`."""
        from dulwich.file import FileLocked  # noqa: PLC0415 - most processes need none of it
        from dulwich.refs import DiskRefsContainer  # noqa: PLC0415 - 20 ms

        try:
            return act(DiskRefsContainer(str(self.common_dir)))
        except FileLocked as held:
            lock = os.fsdecode(held.lockfilename)
            raise FileExistsError(errno.EEXIST, "the ref is locked", lock) from None


def open_bare(path: Path, git: Git) -> Repository:
    """The bare repository at `path`. Raises `Failed`: not-a-repository, bad-value."""
    repository = Repository.open(git, path)
    if repository.root is not None:
        why = "a work tree's repository: give the bare one that agents push to"
        raise error("bad-value", what=str(path), why=why)
    return repository


def _set(refs: DiskRefsContainer, name: Ref, oid: str | None) -> None:
    if oid is None:
        refs.remove_if_equals(name, None)
    else:
        refs.set_if_equals(name, None, _id(oid))


def _patiently(act: Callable[[], _T]) -> _T:
    """`act`, which takes a lock file: waited for, and removed if its holder has died.

    Whoever holds one of these writes a line and lets go. The same file after a whole
    second is nobody's.
    """
    seen, since = None, 0.0
    while True:
        try:
            return act()
        except FileExistsError as held:
            if not str(held.filename).endswith(".lock"):
                raise
            mark = _mark(held.filename)
            if mark is None or mark != seen:
                seen, since = mark, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                Path(held.filename).unlink(missing_ok=True)
            time.sleep(_POLL)


def _damaged(oid: str) -> CoordledgerError:
    return error("bad-copy", why=f"object {oid[:12]} is not what its id says")


def _mark(path: str) -> tuple[int, int] | None:
    """Tells one file at `path` from the next; None if there is none."""
    try:
        facts = Path(path).stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _id(oid: str) -> ObjectID:
    return cast("ObjectID", oid.encode("ascii"))


def _ref(name: str) -> Ref:
    return cast("Ref", name.encode("ascii"))
