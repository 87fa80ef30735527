"""Objects and a ref, written so that they outlive a power cut: what a server lands by itself.

Rules: an object appears whole, under its own name, and is on the disk before a ref may
point to it; the ref moves by git's own compare-and-swap. Modes follow those of the
`objects` folder, as git's shared repositories want it. It verifies nothing, and whoever
dies in the middle leaves no more than what `git gc` sweeps up. As in a hook's other
modules, no dulwich, no subprocess and no os: their start costs more than the work.
"""

from __future__ import annotations

import posix
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .tree import Objects


def write(folder: str, objects: Objects, arrived: Iterable[str] = ()) -> None:
    """Add loose objects (id -> kind, content) to the `objects` folder of a repository.

    `arrived` are there already, by a push: by default git brings only packs to the disk itself.
    """
    mode = posix.stat(folder).st_mode
    moves = []
    synced = {f"{folder}/{oid[:2]}" for oid in arrived if _sync(_path(folder, oid))}
    for oid, (kind, content) in objects.items():
        fan, path = f"{folder}/{oid[:2]}", _path(folder, oid)
        if _freshen(path) and _sync(path):
            synced.add(fan)
            continue
        if not posix.access(fan, posix.F_OK):
            _add_folder(fan, mode)
            synced.add(folder)
        fresh = f"{fan}/tmp_obj_{posix.getpid()}_{oid[:16]}"  # noqa: S108 - git prunes such names
        fd = posix.open(
            fresh, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o444
        )
        with open(fd, "wb") as file:  # noqa: PTH123
            posix.fchmod(fd, mode & 0o444)
            header = b"%s %d\0" % (kind.encode("ascii"), len(content))
            file.write(zlib.compress(header + content, 1))
        moves.append((fresh, path))
        synced.add(fan)
    for fresh, _ in moves:  # all of them written: the first one's sync takes the others along
        _sync(fresh)
    for fresh, path in moves:
        posix.rename(fresh, path)
    for name in synced:
        _sync(name)


def _freshen(path: str) -> bool:
    """Keep `git gc` from an old object that nothing has named so far; False if that cannot be."""
    try:
        posix.utime(path)
    except OSError:
        return False
    return True


def _path(folder: str, oid: str) -> str:
    return f"{folder}/{oid[:2]}/{oid[2:]}"


def _add_folder(path: str, mode: int) -> None:
    try:
        posix.mkdir(path)
    except FileExistsError:
        return
    if posix.stat(path).st_mode != mode:
        posix.chmod(path, mode & 0o7777)


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
    ours, theirs = posix.pipe()
    try:
        pid = posix.posix_spawnp(
            "git",
            ["git", "update-ref", "--no-deref", "-m", "push", ref, new, old],
            environ | {"LC_ALL": "C"},
            file_actions=[(posix.POSIX_SPAWN_DUP2, theirs, 1), (posix.POSIX_SPAWN_DUP2, theirs, 2)],
        )
    finally:
        posix.close(theirs)
    with open(ours, "rb") as answer:  # noqa: PTH123
        said = answer.read(4096).decode("ascii", "replace")
    if posix.waitpid(pid, 0)[1]:
        return said.strip() or "git update-ref died"
    if _sync(f"{git_dir}/{ref}"):  # where git keeps it as a file
        _sync(f"{git_dir}/{ref.rpartition('/')[0]}")
    return ""
