"""Loose objects, read and written without git.

Rules: only what has the plain form is read here: a loose object below the folders that
the environment names, under its id or under a ref whose file is one id. Whatever is packed,
missing, quoted, linked or odd in any way is left to git (`cat_file`), which is started when it
is first needed: on most pushes to a ledger never. An object's size is looked at before its
content, and the content is hashed. Like a hook's other modules it imports no dulwich, no
subprocess and no os: their start costs more than the work.
"""

from __future__ import annotations

import posix
import zlib

from coordledger.errors import RuleBroken
from coordledger.git.cat_file import MAX_OBJECT, CatFile
from coordledger.git.refs import read_plain
from coordledger.git.tree import deflate, object_id
from coordledger.hashes import algorithm, is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, TypeVar

    _T = TypeVar("_T")

    from coordledger.git.cat_file import StoredObject
    from coordledger.git.tree import Objects

KINDS = ("commit", "tree", "blob", "tag")
_START = 4096  # of a file: enough for most objects, and for the header of every one
_CREATE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
_TRIES = 10  # to make a folder, and a file in it
# Objects that were deflated for one repository, and may be written into another one by this very
# process: where a remote is a folder of this machine, each object is in the clone as well.
_deflated: dict[str, bytes] = {}
_MOST_DEFLATED = 16, 65_536  # so many are kept, up to that size
_HEADER = 32  # `commit 67108864` and a NUL are 16


class Reader:
    """The objects of the repository that `environ` names, as `CatFile` gives them."""

    def __init__(self, environ: dict[str, str], *, quiet: bool = False) -> None:
        """`quiet`: what git complains about is not shown."""
        self.environ, self._quiet = environ, quiet
        self._git: CatFile | None = None
        self._git_dir = environ.get("GIT_DIR", ".")
        main = environ.get("GIT_OBJECT_DIRECTORY", f"{self._git_dir}/objects")
        others = environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
        # A quoted path finds nothing here, and git is asked.
        self._folders = [main, *others.split(":")] if others else [main]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End git, if it runs; the next question to it starts it again."""
        running, self._git = self._git, None
        if running is not None:
            running.__exit__()

    @property
    def quarantine(self) -> str:
        """The folder of what a push has brought and git has not let in; "" if there is none."""
        return self.environ.get("GIT_QUARANTINE_PATH", "")

    def before_push(self) -> Reader:
        """The objects that were there before."""
        given = ("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES")
        environ = {name: value for name, value in self.environ.items() if name not in given}
        return Reader(environ, quiet=self._quiet)

    def find(self, name: str, limit: int = MAX_OBJECT) -> StoredObject | None:
        """Id, kind and content of the object that `name` (an id or a ref) names, or None.

        Raises `RuleBroken`: too-large, bad-push.
        """
        oid = self._ref(name) if name.startswith("refs/") else name
        return self.find_loose(oid, limit) or self.find_by_git(name, limit)

    def find_loose(self, oid: str, limit: int = MAX_OBJECT) -> StoredObject | None:
        """As `find`, of an object that has the plain form; its content is the id's."""
        if is_digest(oid):
            for folder in self._folders:
                stored = _loose(_path(folder, oid), oid, limit)
                if stored is not None:
                    return stored
        return None

    def find_by_git(self, name: str, limit: int = MAX_OBJECT) -> StoredObject | None:
        """As `find`, of any object; git does not look whether what is packed is the id's."""
        return self._from_git(lambda git: git.find(name, limit))

    def has_loose(self, oid: str) -> bool:
        """Whether there is a file for the object, whatever is in it."""
        return any(posix.access(_path(folder, oid), posix.F_OK) for folder in self._folders)

    def find_all(self, names: list[str], limit: int = MAX_OBJECT) -> dict[str, StoredObject]:
        """As `CatFile.find_all`."""
        return self._from_git(lambda git: git.find_all(names, limit))

    def _from_git(self, ask: Callable[[CatFile], _T]) -> _T:
        if self._git is None:
            self._git = CatFile(self.environ, quiet=self._quiet)
        try:
            return ask(self._git)
        except BaseException:
            self.close()  # what is left of the answer must not answer the next question
            raise

    def read(self, oid: str) -> bytes:
        """The content of an object; KeyError if it is not there."""
        stored = self.find(oid)
        if stored is None:
            raise KeyError(oid)
        return stored[2]

    def _ref(self, name: str) -> str:
        """The id in the ref's own file; "" if git has to be asked."""
        here = self._git_dir
        if "GIT_COMMON_DIR" in self.environ:
            return ""
        if any(posix.access(f"{here}/{odd}", posix.F_OK) for odd in ("commondir", "reftable")):
            return ""
        return read_plain(here, name) or ""


def write(
    folder: str, objects: Objects, settle: Callable[[list[str]], None] = lambda paths: None
) -> set[str]:
    """Add loose objects (id -> kind, content) to an `objects` folder; the folders it changed.

    Each appears whole, under its own name, or is there already. Modes follow those of `folder`, as
    git's shared repositories want it. `settle` gets the paths of all of them, before any that is
    new is in place.
    """
    from coordledger import files  # noqa: PLC0415 - a hook that judges only reads

    mode = posix.stat(folder).st_mode
    moves: list[tuple[str, str]] = []
    present: list[str] = []
    changed = set()
    try:
        for oid, (kind, content) in objects.items():
            fan, path = f"{folder}/{oid[:2]}", _path(folder, oid)
            if _is_whole(path, oid):
                present.append(path)
                changed.add(fan)
                continue
            fresh = f"{fan}/tmp_obj_{posix.urandom(8).hex()}"  # noqa: S108 - git prunes such
            fd = _create(fresh)
            for _ in range(_TRIES if fd is None else 0):  # git removes a folder that is empty
                _add_folder(fan, mode)
                changed.add(folder)
                fd = _create(fresh)
                if fd is not None:
                    break
            if fd is None:
                fd = posix.open(fresh, _CREATE, 0o444)
            moves.append((fresh, path))
            changed.add(fan)
            try:
                posix.fchmod(fd, mode & 0o444)
                files.write_all(fd, _deflate_once(oid, kind, content))
            finally:
                posix.close(fd)
        settle([*present, *(fresh for fresh, _ in moves)])
        for fresh, path in moves:
            posix.rename(fresh, path)
    except BaseException:
        for fresh, _ in moves:
            files.remove(fresh)  # or `git gc` does it some day
        raise
    return changed


def _deflate_once(oid: str, kind: str, content: bytes) -> bytes:
    """An object's file, which is asked for twice at most."""
    done = _deflated.pop(oid, None)
    if done is None:
        done = deflate(b"%s %d\0" % (kind.encode("ascii"), len(content)) + content)
        if len(done) < _MOST_DEFLATED[1]:
            _deflated[oid] = done
            if len(_deflated) > _MOST_DEFLATED[0]:
                _deflated.clear()
    return done


def write_durably(
    folder: str, objects: Objects, arrived: Iterable[str] = (), also: Iterable[str] = ()
) -> None:
    """As `write`; what is written, and those who `arrived`, are on the disk when this returns.

    `arrived` are there already, by a push: by default git brings only packs to the disk itself.
    `also` are paths of other files that go to the disk with them.
    """
    from coordledger import files  # noqa: PLC0415 - a hook that judges only reads

    here = [_path(folder, oid) for oid in arrived]
    changed = write(folder, objects, lambda paths: files.sync_all([*paths, *here, *also]))
    files.sync_all(changed | {path.rpartition("/")[0] for path in here})


def _path(folder: str, oid: str) -> str:
    return f"{folder}/{oid[:2]}/{oid[2:]}"


def _is_whole(path: str, oid: str) -> bool:
    """Whether an object is there, as it should be: git does not bring loose ones to the disk, and a
    crash may leave an empty file under its name. `git gc` will not take an old one for garbage.
    """
    try:
        posix.utime(path)
        return _loose(path, oid, MAX_OBJECT) is not None
    except (OSError, RuleBroken):
        return False


def _create(path: str) -> int | None:
    """A new file; None where its folder is not there."""
    try:
        return posix.open(path, _CREATE, 0o444)
    except FileNotFoundError:
        return None


def _add_folder(path: str, mode: int) -> None:
    try:
        posix.mkdir(path)
        if posix.stat(path).st_mode != mode:
            posix.chmod(path, mode & 0o7777)
    except (FileExistsError, FileNotFoundError):  # git may have removed it again
        return


def _loose(path: str, oid: str, limit: int) -> StoredObject | None:
    """The loose object in a file; None if git should look for it, or at it."""
    inflating = zlib.decompressobj()
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            start = inflating.decompress(file.read(_START), _HEADER)
            header, nul, content = start.partition(b"\0")
            kind, _, digits = header.decode("latin-1").partition(" ")
            if not nul or kind not in KINDS or not digits.isdecimal():
                return None
            size = int(digits)
            if size > limit:
                raise RuleBroken("too-large", what=f"the {kind}", size=size, limit=limit)
            # Twice the size: what does not compress grows a little.
            rest = inflating.unconsumed_tail + (file.read(2 * size) if size else b"")
            content += inflating.decompress(rest, max(1, size - len(content) + 1))
    except (OSError, zlib.error):
        return None
    whole = inflating.eof and not inflating.unused_data and len(content) == size
    if not whole or object_id(kind, content, algorithm(oid)) != oid:
        raise RuleBroken("bad-push", why=f"object {oid[:12]} is not what its id says")
    return oid, kind, content
