"""Objects in memory, for a reader that steps along a chain without a repository.

Rules: those of the newest tree are there; older ones may be forgotten at any step, so that what is
kept stays near the size of one tree, however long the chain. It is the caller's to end where one
tree alone is too large.
"""

from __future__ import annotations

from coordledger.git.tree import reachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.git.tree import Objects

_SLACK = 67_108_864


class Scratch:
    """`live`: how many bytes were needed when that was looked at last."""

    def __init__(self, algo: str, slack: int = _SLACK) -> None:
        """Older objects are looked for when `slack` and as much as was live is new."""
        self._contents: dict[str, bytes] = {}
        self._algo, self._slack = algo, slack
        self._size = self.live = 0

    def read(self, oid: str) -> bytes:
        """The content of an object; KeyError if it is not there."""
        return self._contents[oid]

    def step(self, objects: Objects, root: str) -> None:
        """Take the new objects of the tree `root`, which is the newest one now."""
        for oid, (kind, content) in objects.items():
            if kind != "commit" and oid not in self._contents:
                self._contents[oid] = content
                self._size += len(content)
        if self._size > 2 * self.live + self._slack:
            live = reachable(self.read, root, self._algo)
            self._contents = {oid: self._contents[oid] for oid in live}
            self.live = self._size = sum(map(len, self._contents.values()))
