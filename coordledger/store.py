"""A repository's objects and refs. Alone imports dulwich.

Rules: objects are addressed by hexadecimal ids; what is written is there (loose, or as a
pack, as git writes it) when the call returns. A lock file that a killed process left
behind stops nobody for longer than `LOCK_SECONDS`. No network, no verification, no ledger.
"""

from __future__ import annotations

import os
import struct
import time
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dulwich.errors import ChecksumMismatch, FileFormatException, NotGitRepository
from dulwich.file import FileLocked
from dulwich.objects import ObjectID, ShaFile
from dulwich.pack import PackChunkGenerator, UnpackedObject
from dulwich.refs import DiskRefsContainer, Ref
from dulwich.repo import Repo, UnsupportedExtension, UnsupportedVersion

from .errors import error
from .tree import ID_LENGTHS, object_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import Objects

_T = TypeVar("_T")

LOCK_SECONDS = 1.0
MANY = 64  # objects: as a pack of their own they take a tenth of the time
_POLL = 0.01
_HEX = frozenset("0123456789abcdef")
_DAMAGED = (FileFormatException, ChecksumMismatch, zlib.error, struct.error)
_KINDS = {"blob": 3, "tree": 2, "commit": 1}
_NAMES = {number: name for name, number in _KINDS.items()} | {4: "tag"}


class Store:
    """One repository, bare or with a work tree, or a linked work tree of it."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        weakref.finalize(self, repo.close)  # before the interpreter's end takes dulwich apart
        self.git_dir = Path(repo.controldir()).absolute()
        self.common_dir = Path(repo.commondir()).absolute()
        self.root = None if repo.bare else Path(repo.path).absolute()
        self.algo = str(repo.object_format.name)

    @classmethod
    def open(cls, path: Path, *, discover: bool) -> Store:
        """The repository at `path`, or (`discover`) around it.

        Raises `Failed`: not-a-repository, object-format.
        """
        try:
            repo = Repo.discover(str(path)) if discover else Repo(str(path))
        except NotGitRepository:
            raise error("not-a-repository", path=path) from None
        except (UnsupportedExtension, UnsupportedVersion) as fault:
            raise error("object-format", path=path, what=fault) from None
        if not isinstance(repo.refs, DiskRefsContainer):  # not tried against git's own
            repo.close()
            raise error("object-format", path=path, what="extensions.refStorage = reftable")
        return cls(repo)

    def is_ours(self) -> bool:
        """Whether it belongs to this user: its configuration may name programs to start."""
        places = {self.git_dir, self.common_dir}
        places |= {self.root, self.root / ".git"} if self.root else set()
        return all(place.lstat().st_uid == os.geteuid() for place in places)

    def close(self) -> None:
        self._repo.close()

    def read(self, oid: str) -> bytes:
        """The content of an object; KeyError if it is not there, or if that is no id.

        Raises `Integrity`: bad-copy. dulwich does not look whether the content is the id's.
        """
        if not self._is_id(oid):
            raise KeyError(oid)
        try:
            number, content = self._repo.object_store.get_raw(_id(oid))
        except _DAMAGED:
            number, content = 0, b""
        if number not in _NAMES or object_id(_NAMES[number], content, self.algo) != oid:
            raise error("bad-copy", why=f"object {oid[:12]} is not what its id says")
        return content

    def has(self, oid: str) -> bool:
        """Whether it is there, in whatever state."""
        try:
            return self._is_id(oid) and _id(oid) in self._repo.object_store
        except _DAMAGED:
            return True

    def _is_id(self, oid: str) -> bool:
        return len(oid) == ID_LENGTHS[self.algo] and _HEX.issuperset(oid)

    def write(self, objects: Objects, pack: bytes = b"") -> None:
        """Add objects (id -> kind, content); those that are here already are left alone.

        `pack` is what `pack(objects)` gives, if the caller has it already.
        """
        store, form = self._repo.object_store, self._repo.object_format
        if len(objects) > MANY:
            file, commit, abort = store.add_pack()
            try:
                file.write(pack or self.pack(objects))
            except BaseException:
                abort()
                raise
            commit()
            return
        for kind, content in objects.values():
            made = ShaFile.from_raw_string(_KINDS[kind], content, object_format=form)
            _patiently(lambda made=made: store.add_object(made))  # type: ignore[misc]

    def pack(self, objects: Objects) -> bytes:
        """Objects as a pack of their own."""
        whole = (
            UnpackedObject(_KINDS[kind], decomp_chunks=[content], decomp_len=len(content))
            for kind, content in objects.values()
        )
        chunks = PackChunkGenerator(self._repo.object_format, len(objects), whole)
        return b"".join(chunks)

    def ref(self, name: str) -> str | None:
        """The id that a ref points to, or None."""
        try:
            return self._repo.refs[_ref(name)].decode("ascii")
        except KeyError:
            return None

    def set_ref(self, name: str, oid: str | None) -> None:
        """Point a ref of our own to `oid`; None removes it."""
        refs = self._repo.refs
        if oid is None:
            _patiently(lambda: refs.remove_if_equals(_ref(name), None))
        else:
            _patiently(lambda: refs.set_if_equals(_ref(name), None, _id(oid)))

    def add_ref(self, name: str, oid: str) -> bool:
        """Create a ref; False if it exists."""
        refs = self._repo.refs
        return bool(_patiently(lambda: refs.add_if_new(_ref(name), _id(oid))))


def _patiently(act: Callable[[], _T]) -> _T:
    """`act`, which takes a lock file: waited for, and removed if its holder has died.

    Whoever holds one of these writes a line and lets go. The same file after a whole
    second is nobody's.
    """
    seen, since = None, 0.0
    while True:
        try:
            return act()
        except FileLocked as held:
            lock = os.fsdecode(held.lockfilename)
            mark = _mark(lock)
            if mark is None or mark != seen:
                seen, since = mark, time.monotonic()
            elif time.monotonic() - since > LOCK_SECONDS:
                Path(lock).unlink(missing_ok=True)
            time.sleep(_POLL)


def _mark(path: str) -> tuple[int, int] | None:
    """Tells one file at `path` from the next; None if there is none."""
    try:
        facts = Path(path).stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _id(oid: str) -> ObjectID:
    return ObjectID(oid.encode("ascii"))


def _ref(name: str) -> Ref:
    return Ref(name.encode("ascii"))
