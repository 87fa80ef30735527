"""Objects and a ref, written so that they outlive a power cut: what a server lands by itself.

Rules: an object is on the disk before a ref may point to it; the ref moves by git's own
compare-and-swap. It verifies nothing, and whoever dies in the middle leaves no more than
what `git gc` sweeps up. It imports as little as `loose`.
"""

from __future__ import annotations

import posix

from coordledger.git import loose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.git.tree import Objects


def write(folder: str, objects: Objects, arrived: Iterable[str] = ()) -> None:
    """Add loose objects (id -> kind, content) to the `objects` folder of a repository.

    `arrived` are there already, by a push: by default git brings only packs to the disk itself.
    """
    there = {*arrived, *(oid for oid in objects if loose.freshen(_path(folder, oid)))}
    synced = {f"{folder}/{oid[:2]}" for oid in there if _sync(_path(folder, oid))}
    fresh = {oid: made for oid, made in objects.items() if oid not in there}
    for name in synced | loose.write(folder, fresh, _sync_all):
        _sync(name)


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
    ours, theirs = posix.pipe()
    try:
        pid = posix.posix_spawnp(
            "git",
            ["git", "update-ref", "--no-deref", "-m", "push", ref, new, old],
            environ | {"LC_ALL": "C"},
            file_actions=[(posix.POSIX_SPAWN_DUP2, theirs, 1), (posix.POSIX_SPAWN_DUP2, theirs, 2)],
        )
    except BaseException:
        posix.close(ours)
        raise
    finally:
        posix.close(theirs)
    with open(ours, "rb") as answer:  # noqa: PTH123
        said = answer.read(4096).decode("ascii", "replace")
    if posix.waitpid(pid, 0)[1]:
        return said.strip() or "git update-ref died"
    if _sync(f"{git_dir}/{ref}"):  # where git keeps it as a file
        _sync(f"{git_dir}/{ref.rpartition('/')[0]}")
    return ""
