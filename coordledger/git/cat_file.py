"""Objects of a repository through one `git cat-file --batch`.

Rules: what git sees is what is read, the quarantine of a push included; replace refs
and grafts change nothing; an object's size is looked at before its content. It imports
no subprocess, no dulwich and no os: inside a hook their start costs more than the work.
"""

from __future__ import annotations

import posix

from coordledger.errors import RuleBroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    StoredObject = tuple[str, str, bytes]  # id, kind, content

MAX_OBJECT = 67_108_864


def parse_header(line: bytes, limit: int) -> tuple[str, str, int] | None:
    """Id, kind and size of an object, which git prints before its content; None: it has none.

    Raises `RuleBroken`: too-large, bad-push.
    """
    words = line.split()
    if words[1:] == [b"missing"]:
        return None
    if len(words) != 3:
        raise RuleBroken("bad-push", why="git cat-file gave no answer")
    kind, size = words[1].decode("ascii"), int(words[2])
    if size > limit:
        raise RuleBroken("too-large", what=f"the {kind}", size=size, limit=limit)
    return words[0].decode("ascii"), kind, size


class CatFile:
    """A running `git cat-file --batch` in the repository that the environment names."""

    def __init__(self, environ: dict[str, str], *, quiet: bool = False) -> None:
        """`quiet`: git's complaints are not shown, and it is in a process group of its own."""
        theirs_in, ours_out = posix.pipe()
        ours_in, theirs_out = posix.pipe()
        actions: list[tuple[Any, ...]] = [
            (posix.POSIX_SPAWN_DUP2, theirs_in, 0),
            (posix.POSIX_SPAWN_DUP2, theirs_out, 1),
        ]
        alone: dict[str, Any] = {}
        if quiet:
            actions.append((posix.POSIX_SPAWN_OPEN, 2, "/dev/null", posix.O_WRONLY, 0))
            alone = {"setpgroup": 0}
        try:
            self._pid = posix.posix_spawnp(
                "git",
                ["git", "cat-file", "--batch"],
                environ | {"GIT_NO_REPLACE_OBJECTS": "1"},
                file_actions=actions,
                **alone,
            )
        finally:
            posix.close(theirs_in)
            posix.close(theirs_out)
            self._ask = open(ours_out, "wb", buffering=0)  # noqa: PTH123, SIM115
            self._answer = open(ours_in, "rb")  # noqa: PTH123, SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ask.close()
        self._answer.close()
        try:  # noqa: SIM105 - contextlib takes longer to import
            posix.waitpid(self._pid, 0)
        except ChildProcessError:  # somebody waits for all children of this process
            pass

    def find(self, name: str, limit: int = MAX_OBJECT) -> StoredObject | None:
        """Id, kind and content of the object that `name` (an id or a ref) names, or None.

        Raises `RuleBroken`: too-large, bad-push. The rest of the answer is then left unread, and
        this reader is done: the next question would be answered with the object's bytes.
        """
        self._say(name.encode("ascii") + b"\n")
        stored = self._answered(limit)
        if stored and "/" not in name and name != stored[0]:
            raise RuleBroken("bad-push", why="git cat-file answers another question")
        return stored

    def find_all(self, names: list[str], limit: int = MAX_OBJECT) -> dict[str, StoredObject]:
        """The objects under these names, by their ids; all of them asked for at once.

        Raises as `find` does; what was asked is then left unread, and this reader is done.
        """
        self._say("".join(f"{name}\n" for name in names).encode("ascii"))
        answers = [self._answered(limit) for _ in names]
        return {stored[0]: stored for stored in answers if stored}

    def _answered(self, limit: int) -> StoredObject | None:
        stored = parse_header(self._answer.readline(), limit)
        if stored is None:
            return None
        oid, kind, size = stored
        content = self._answer.read(size)
        if len(content) != size or self._answer.read(1) != b"\n":
            raise RuleBroken("bad-push", why="git cat-file stopped")
        return oid, kind, content

    def read(self, oid: str) -> bytes:
        """The content of an object; KeyError if it is not there."""
        stored = self.find(oid)
        if stored is None:
            raise KeyError(oid)
        return stored[2]

    def _say(self, lines: bytes) -> None:
        try:
            while lines:
                lines = lines[self._ask.write(lines) :]
        except BrokenPipeError:
            raise RuleBroken("bad-push", why="git cat-file stopped") from None
