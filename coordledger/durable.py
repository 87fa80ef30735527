"""Objects and a ref, written so that they outlive a power cut: what a server lands by itself.

Rules: an object is on the disk before a ref may point to it; the ref moves by git's own
compare-and-swap. It verifies nothing, and whoever dies in the middle leaves no more than
what `git gc` sweeps up. It imports as little as `loose`.
"""

from __future__ import annotations

import posix

from . import loose

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .tree import Objects


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


class Refs:
    """`git update-ref` for one repository, started when it is first needed and then kept."""

    def __init__(self, git_dir: str, environ: dict[str, str]) -> None:
        self._git_dir, self._environ = git_dir, environ
        self._pid = 0

    def move(self, ref: str, old: str, new: str) -> str:
        """Point `ref` from `old` to `new`, with a reflog as git keeps it: "", or why not."""
        if not self._pid:
            self._start()
        said = b""
        try:
            posix.write(self._ask, f"start\nupdate {ref} {new} {old}\ncommit\n".encode("ascii"))
            while not said.endswith(b"commit: ok\n"):
                part = posix.read(self._answer, 4096)
                if not part:
                    raise BrokenPipeError
                said += part
        except BrokenPipeError:  # a "no" is its end
            self.close()
            said = said.removeprefix(b"start: ok\n").strip()
            return said.decode("ascii", "replace") or "git update-ref died"
        except BaseException:
            self.close()
            raise
        if _sync(f"{self._git_dir}/{ref}"):  # where git keeps it as a file
            _sync(f"{self._git_dir}/{ref.rpartition('/')[0]}")
        return ""

    def _start(self) -> None:
        theirs_in, self._ask = posix.pipe()
        self._answer, theirs_out = posix.pipe()
        actions = [(posix.POSIX_SPAWN_DUP2, theirs_in, 0)]
        actions += [(posix.POSIX_SPAWN_DUP2, theirs_out, fd) for fd in (1, 2)]
        try:
            self._pid = posix.posix_spawnp(
                "git",
                ["git", "update-ref", "--no-deref", "-m", "push", "--stdin"],
                self._environ | {"LC_ALL": "C"},
                file_actions=actions,
            )
        finally:
            posix.close(theirs_in)
            posix.close(theirs_out)
            if not self._pid:
                posix.close(self._ask)
                posix.close(self._answer)

    def close(self) -> None:
        """End it; the next move starts another one."""
        if self._pid:
            posix.close(self._ask)
            posix.close(self._answer)
            posix.waitpid(self._pid, 0)
        self._pid = 0
