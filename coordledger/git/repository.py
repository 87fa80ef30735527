"""A repository: what git says of it, its objects, and its refs (`refs`).

Rules: objects are addressed by hexadecimal ids; what is written is there when the call
returns: a few as loose objects, many as a pack. Loose objects are read and written as such:
to start git for each takes longer than the rest of a claim. Packs are git's business. No
network, no verification, no ledger.
"""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.errors import Integrity, RuleBroken, error
from coordledger.git import loose
from coordledger.git.process import NO_REMOTE, untrusted
from coordledger.git.refs import GitRefs, Refs
from coordledger.git.tree import object_id
from coordledger.hashes import LENGTHS, is_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from coordledger.errors import CoordledgerError
    from coordledger.git.cat_file import StoredObject
    from coordledger.git.loose import Reader
    from coordledger.git.process import Git, Ran
    from coordledger.git.tree import Objects

MANY = 64  # objects: more are written as a pack of their own
_LOT = 256  # names of objects, which fit into a pipe
_STREAMED = 512  # objects: to have a git of their own print them takes less than to ask for each
# What git is asked of the repository where it runs.
WHERE = (
    "rev-parse",
    *("--is-bare-repository", "--absolute-git-dir", "--show-object-format", "--show-toplevel"),
)
_FORMS = ("repository extension", "repo version")  # in what git says of them


class Repository:
    """One repository, bare or with a work tree, or a linked work tree of it."""

    def __init__(
        self, git: Git, git_dir: Path, root: Path | None, algo: str, *, is_bare: bool = False
    ) -> None:
        """`git` may be replaced by another one, whose deadline is the caller's."""
        self.git, self.git_dir, self.root, self.algo = git, git_dir, root, algo
        self.is_bare = is_bare
        self.common_dir = git_dir
        if (git_dir / "commondir").exists():
            shared = os.fsdecode((git_dir / "commondir").read_bytes())
            self.common_dir = (git_dir / shared.removesuffix("\n")).resolve()
        self._objects = str(self.common_dir / "objects")
        self._has_reftable = (self.common_dir / "reftable").exists()
        self._reader: Reader | None = None
        self._ahead: dict[str, StoredObject] = {}
        self._held: Objects = {}

    @classmethod
    def open(cls, git: Git, path: Path | None = None) -> Repository:
        """The repository at `path`; None for the one that git finds where it runs.

        Raises `Failed`: not-a-repository, object-format, not-trusted, not-named, git-failed.
        """
        named: dict[str, str] = {}
        chdir: tuple[str, ...] = ()
        if path:
            path = path / ".git" if (path / ".git").is_dir() else path
            named = {"GIT_DIR": str(path)}
            if path.name == ".git" and path.is_dir():
                chdir = ("-C", str(path.parent))
        ran = git.run(*chdir, *WHERE, errors="surrogateescape", **named)
        bare, git_dir, algo, root, *_ = [*ran.out.split("\n"), "", "", "", ""]
        if algo not in LENGTHS:
            shown = path or git.cwd or "."
            if any(text in ran.err for text in _FORMS):
                what = " ".join(ran.err.removeprefix("fatal:").split())
                raise error("object-format", path=shown, what=what)
            if "not a git repository" in ran.err:
                raise error("not-a-repository", path=shown)
            raise untrusted(ran.err) or error("git-failed", why=ran.why())
        is_bare = bare == "true"
        top = Path(root) if bare == "false" and root else None
        return cls(git, Path(git_dir), top, algo, is_bare=is_bare)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    @property
    def is_writable(self) -> bool:
        """Whether objects and refs can be added here."""
        parts = (self.common_dir, self.common_dir / "objects", self.common_dir / "refs")
        return all(os.access(part, os.W_OK) for part in parts)

    # -- objects

    def read(self, oid: str) -> bytes:
        """The content of an object; KeyError if it is not there, or if that is no id.

        Raises `Integrity`: bad-copy.
        """
        content = self._find(oid)
        if content is None:
            raise KeyError(oid)
        return content

    def read_ahead(self, oids: list[str]) -> None:
        """Bring objects here that are read next: git answers for a lot of them sooner than for
        one after the other. Whatever it has no answer for is looked for when it is read.
        """
        self._ahead.clear()
        if len(oids) > _STREAMED:
            where = {"GIT_DIR": str(self.git_dir), "GIT_OBJECT_DIRECTORY": self._objects}
            with (
                contextlib.suppress(RuleBroken, KeyError),
                contextlib.closing(self.git.stored_in(oids, **where)) as stored,
            ):
                for one in stored:
                    self._ahead[one[0]] = one
            return
        for at in range(0, len(oids), _LOT):
            with contextlib.suppress(RuleBroken):
                self._ahead |= self._objects_here().find_all(oids[at : at + _LOT])

    @contextlib.contextmanager
    def holding(self, objects: Objects) -> Iterator[None]:
        """As long as this lasts, these are read as if they were here; their ids are theirs."""
        self._held = objects
        try:
            yield
        finally:
            self._held = {}

    def _objects_here(self) -> Reader:
        if self._reader is None:
            self._reader = self.git.reader(self.git_dir, self._objects)
            weakref.finalize(self, self._reader.close)
        return self._reader

    def has(self, oid: str) -> bool:
        """Whether it is there, in whatever state."""
        if self._is_id(oid) and self._objects_here().has_loose(oid):
            return True
        try:
            return self._find(oid) is not None
        except Integrity:
            return True

    def _is_id(self, oid: str) -> bool:
        return is_hex(oid, LENGTHS[self.algo])

    def _find(self, oid: str) -> bytes | None:
        """The content, hashed once."""
        if oid in self._held:
            return self._held[oid][1]
        if not self._is_id(oid):
            return None
        if oid in self._ahead:
            return self._checked(self._ahead.pop(oid))
        reader = self._objects_here()
        for _ in range(2):  # git may have been killed, which says nothing of the object
            with contextlib.suppress(RuleBroken):
                if stored := reader.find_loose(oid):
                    return stored[2]
                if packed := reader.find_by_git(oid):
                    return self._checked(packed)
                break
        # For git, what it cannot read is missing; -e asks for no more than a file.
        if self._run("cat-file", "-e", oid).code == 0:
            raise _damaged(oid)
        return None

    def _checked(self, found: StoredObject) -> bytes:
        oid, kind, content = found
        if object_id(kind, content, self.algo) != oid:
            raise _damaged(oid)
        return content

    def need_whole(self, oid: str, content: bytes) -> None:
        """Raises `Integrity`: bad-copy, if the content is that of no object with this id."""
        kinds = ("commit", "tag", "tree", "blob")
        if all(object_id(kind, content, self.algo) != oid for kind in kinds):
            raise _damaged(oid)

    def write(self, objects: Objects, pack: Callable[[], bytes] | None = None) -> None:
        """Add objects (id -> kind, content); those that are here already are left alone.

        `pack()` gives what `pack(objects)` does, if the caller may have it already.
        """
        if len(objects) <= MANY:  # more take a tenth of the time as a pack
            loose.write(self._objects, objects)
            return
        ran = self._run(
            "index-pack", "--stdin", "--threads=1", stdin=pack() if pack else self.pack(objects)
        )
        if ran.code:
            raise OSError(errno.EIO, f"git index-pack: {ran.why()}")

    def write_until_named(self, objects: Objects, like: Mapping[str, str]) -> str:
        """Add objects that no ref leads to yet: a few as `write` does, many as a pack that is on
        the disk when this returns. What is returned is the path of the file, if any, that keeps
        it from upkeep, and that the caller removes once a ref leads there. `like` is as in
        `pack.write_durably`. Raises OSError.
        """
        if len(objects) <= MANY:
            loose.write(self._objects, objects)
            return ""
        from coordledger.git.pack import write_durably  # noqa: PLC0415 - not of a few

        return write_durably(self._objects, objects, self.algo, like)

    def _run(self, *args: str, stdin: bytes | None = None) -> Ran:
        return self.git.run(*args, stdin=stdin, GIT_DIR=str(self.git_dir), **NO_REMOTE)

    def pack(self, objects: Objects) -> bytes:
        """Objects as a pack of their own."""
        from coordledger.git import pack  # noqa: PLC0415 - where nothing is pushed there is none

        return pack.pack(objects, self.algo)

    # -- the work tree

    def tracks(self, path: Path) -> bool:
        """Whether a file in the work tree came with the code: it, or a symlink on the way to it, is
        in the index or in the newest commit. Whatever git cannot say counts as tracked.
        """
        if self.root is None:
            return False
        name, folder = path.name, os.path.realpath(path.parent)
        for named in (path.absolute(), Path(folder, name), Path(os.path.realpath(path))):
            if named.is_relative_to(self.root):
                inside = named.relative_to(self.root)
                links = [part for part in inside.parents if (self.root / part).is_symlink()]
                if any(self._is_tracked(part.as_posix()) for part in (inside, *links)):
                    return True
        return False

    def _is_tracked(self, name: str) -> bool:
        indexed = self._run("ls-files", "--cached", "--", f":(icase,top){name}")
        committed = self._run("cat-file", "-e", f"HEAD:{name}")
        return indexed.code != 0 or bool(indexed.out) or committed.code == 0

    # -- refs

    @property
    def _refs(self) -> Refs | GitRefs:
        if self._has_reftable:
            return GitRefs(self._run)
        return Refs(str(self.common_dir), self.algo)

    def ref(self, name: str) -> str | None:
        """The id that a ref points to, or None."""
        return self._refs.get(name)

    def set_ref(self, name: str, oid: str | None) -> None:
        """Point a ref of our own to `oid`; None removes it."""
        self._refs.set(name, oid)

    def add_ref(self, name: str, oid: str) -> bool:
        """Create a ref; False if it exists."""
        return self._refs.add(name, oid)


def create_bare(git: Git, path: Path, *options: str) -> None:
    """Make a bare repository at `path`. It keeps its refs as files, whatever the user's default is:
    those are read without git. Raises `Failed`: git-failed, no-git, timeout.
    """
    ran = git.run(
        "init", "--quiet", "--bare", *options, "--", str(path), GIT_DEFAULT_REF_FORMAT="files"
    )
    if ran.code:
        raise error("git-failed", why=ran.why())


def open_bare(path: Path, git: Git) -> Repository:
    """The bare repository at `path`. Raises `Failed`: not-a-repository, bad-value."""
    repository = Repository.open(git, path)
    if repository.root is not None:
        why = "a work tree's repository: give the bare one that agents push to"
        raise error("bad-value", what=str(path), why=why)
    return repository


def _damaged(oid: str) -> CoordledgerError:
    return error("bad-copy", why=f"object {oid[:12]} is not what its id says")
