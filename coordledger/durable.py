"""Objects and a ref, written so that they outlive a power cut: what a server lands by itself.

Rules: an object is on the disk before a ref may point to it; the ref moves by git's own
compare-and-swap. It verifies nothing, and whoever dies in the middle leaves no more than
what `git gc` sweeps up. It imports as little as `loose`.
"""

from __future__ import annotations

import errno
import posix

from . import loose
from .tree import algorithm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .tree import Objects

MANY = 100  # objects; as many as git's own receive-pack leaves in a pack
_SYNCED = "core.fsync=committed"  # whatever else is configured


def write(
    folder: str, objects: Objects, environ: dict[str, str], arrived: Iterable[str] = ()
) -> None:
    """Add objects (id -> kind, content) to the `objects` folder of the repository that `environ`
    names: many as a pack, which takes a fifth of the time.

    `arrived` are there already, by a push: by default git brings only packs to the disk itself.
    Raises OSError.
    """
    there = {*arrived, *(oid for oid in objects if loose.freshen(_path(folder, oid)))}
    synced = {f"{folder}/{oid[:2]}" for oid in there if _sync(_path(folder, oid))}
    fresh = {oid: made for oid, made in objects.items() if oid not in there}
    for name in synced | (_pack if len(fresh) >= MANY else _loose)(folder, fresh, environ):
        _sync(name)


def _loose(folder: str, objects: Objects, environ: dict[str, str]) -> set[str]:
    """The folders that have changed."""
    return loose.write(folder, objects, _sync_all)


def _pack(folder: str, objects: Objects, environ: dict[str, str]) -> set[str]:
    """The folders that have changed. Raises OSError."""
    from .wire import pack  # noqa: PLC0415 - which takes longer than a few objects

    whole = pack(objects, algorithm(next(iter(objects))))
    path = f"{folder}/tmp_pack_{posix.urandom(8).hex()}"  # noqa: S108 - git prunes such
    try:
        with open(path, "xb") as file:  # noqa: PTH123
            file.write(whole)
        code, said = _git(["-c", _SYNCED, "index-pack", "--stdin"], environ, path)
    finally:
        posix.unlink(path)
    if code:
        raise OSError(errno.EIO, said)
    return {f"{folder}/pack"}


def _path(folder: str, oid: str) -> str:
    return f"{folder}/{oid[:2]}/{oid[2:]}"


def _sync_all(paths: list[str]) -> None:
    for path in paths:  # all of them written: the first one's sync takes the others along
        _sync(path)


def _sync(path: str) -> bool:
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


def move(git_dir: str, ref: str, old: str, new: str, environ: dict[str, str]) -> str:
    """Point `ref` from `old` to `new`, with a reflog as git keeps it: "", or why it did not."""
    code, said = _git(["update-ref", "--no-deref", "-m", "push", ref, new, old], environ)
    if code:
        return said
    if _sync(f"{git_dir}/{ref}"):  # where git keeps it as a file
        _sync(f"{git_dir}/{ref.rpartition('/')[0]}")
    return ""


def _git(args: list[str], environ: dict[str, str], given: str = "/dev/null") -> tuple[int, str]:
    """Run git on the content of the file `given`: how it ended, and what it said."""
    ours, theirs = posix.pipe()
    try:
        pid = posix.posix_spawnp(
            "git",
            ["git", *args],
            environ | {"LC_ALL": "C"},
            file_actions=[
                (posix.POSIX_SPAWN_OPEN, 0, given, posix.O_RDONLY, 0),
                (posix.POSIX_SPAWN_DUP2, theirs, 1),
                (posix.POSIX_SPAWN_DUP2, theirs, 2),
            ],
        )
    finally:
        posix.close(theirs)
    with open(ours, "rb") as answer:  # noqa: PTH123
        said = answer.read(4096).decode("ascii", "replace").strip()
    return posix.waitpid(pid, 0)[1], said or f"git {args[0]} died"
