"""The commits from one place of a chain to another, in the order in which they are judged.

Rules: the order is that of the commits' own bytes. A long range is listed by git, with all that
would have it see another one (grafts, replace refs, commit-graphs) switched off; where it cannot,
and from where it stops on, commits are read one after the other. Only ids are kept of a long range
(20 bytes a record, 32 of SHA-256); a short one is kept whole. Nothing is verified here, not even
that a long range's contents are those of their ids: `Chain.judge` does that.
"""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING

from coordledger.errors import RuleBroken, error
from coordledger.hashes import is_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordledger.git.process import Git
    from coordledger.git.tree import Read

SHORT = 64
_STEP = 1000  # records between two reports of progress


class CommitRange:
    """Commits one after the other, oldest first; iterating gives ids and contents.

    `head` is the newest one; `below` is where it ends: the id that the oldest one names as its
    parent, or None.
    """

    def __init__(self, git: Git, width: int, head: str) -> None:
        self.head = head
        self.below: str | None = None
        self._git, self._width = git, width
        self._ids = bytearray()  # the newest first
        self._contents: list[bytes] = []  # of as many as make a short range

    def __len__(self) -> int:
        return len(self._ids) // self._width

    def add(self, oid: str, content: bytes) -> None:
        """The next older commit."""
        self._ids += bytes.fromhex(oid)
        if len(self) <= SHORT:
            self._contents.append(content)

    def ids(self) -> Iterator[str]:
        for at in range(len(self._ids) - self._width, -1, -self._width):
            yield self._ids[at : at + self._width].hex()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Raises `Integrity`: bad-copy."""
        yield from self.after(0)

    def after(self, done: int) -> Iterator[tuple[str, bytes]]:
        """All but the first `done`. Raises `Integrity`: bad-copy."""
        if len(self) <= SHORT:
            pairs = zip(self.ids(), reversed(self._contents), strict=True)
            yield from islice(pairs, done, None)
            return
        if done == len(self):
            return
        try:
            yield from self._git.stream(islice(self.ids(), done, None))
        except (RuleBroken, KeyError) as fault:  # git has ended early, or the disk has changed
            raise error("bad-copy", why=f"its commits cannot be read: {fault}") from None


def ancestors(
    read: Read,
    git: Git,
    head: str,
    known: set[str | None],
    progress: Callable[[int], None] = lambda count: None,
    *,
    most: int | None = None,
) -> CommitRange:
    """The commits from `head` down to one of `known`, to the first one of all, or to one that
    is not here; of these the newest `most`. `progress(n)` is called with how many they are so far.

    Raises `Integrity`: bad-copy.
    """
    width = len(head)
    commits = CommitRange(git, width // 2, head)
    oid: str | None = head
    with contextlib.ExitStack() as until_done:
        while oid is not None and oid not in known and len(commits) != most:
            if len(commits) == SHORT:
                if is_hex(oid, width):
                    oid = _add_listed(commits, git, oid, known, progress, most)
                read = until_done.enter_context(git.objects()).read
            try:
                content = read(oid) if is_hex(oid, width) else None
            except KeyError:
                content = None
            except RuleBroken as broken:
                raise error("bad-copy", why=str(broken)) from None
            if content is None:
                break
            commits.add(oid, content)
            if len(commits) % _STEP == 0:
                progress(len(commits))
            oid = raw_parent(content)
    commits.below = oid
    return commits


def _add_listed(
    commits: CommitRange,
    git: Git,
    start: str,
    known: set[str | None],
    progress: Callable[[int], None],
    most: int | None,
) -> str:
    """Add what git lists from `start` on that is not reached from one of `known`, but for the last
    one of it: that is what is to be read next. `start`, where git lists nothing.
    """
    left = [f"--max-count={most - len(commits)}"] if most else []
    width = len(commits.head)
    ends = [f"^{oid}" for oid in known if oid and is_hex(oid, width)]
    last = start
    with contextlib.closing(git.history(*left, start, *ends)) as listed:
        for oid in islice(listed, 1, None):
            commits.add(last, b"")
            last = oid
            if len(commits) % _STEP == 0:
                progress(len(commits))
    return last


def raw_parent(content: bytes) -> str | None:
    """The parent that a commit names first: raw, so that grafts change nothing."""
    for line in content.split(b"\n"):
        if line.startswith(b"parent "):
            return line[7:].decode("ascii", "replace")
        if not line:
            break
    return None
