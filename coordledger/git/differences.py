"""In which files two commits differ, as far as somebody wants to know.

Rules: trees are compared, so no rename, no attribute and no setting of git's hides anything. A
folder that nobody wants to look into is not read, and what is read is counted: a few objects can
stand for millions of files. A name that no checkout can have, or that stands twice, is a
`ValueError` where it differs. A submodule is a file here. A hook's module: no os, no dulwich.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordledger.git.loose import Reader

    Side = list[tuple[bool, str]]  # what differs of one name: is it a folder, id

MAX_PART, MAX_PATH = 765, 4096  # bytes; no checkout has longer names, and paths
_KINDS, _FOLDER = 0o170000, 0o040000  # of modes
_COST = 4096  # bytes that count for each tree, however small
_TAGS = 10  # of tags, one on the other


class Trees:
    """The trees of commits: `budget` bytes of them may be read, and `_COST` counts for each."""

    def __init__(self, objects: Reader, budget: int) -> None:
        self._objects, self._most, self._left = objects, budget, budget

    def differing(
        self, old: str | None, new: str | None, wanted: Callable[[str], bool]
    ) -> Iterator[str]:
        """The names of the files that are not the same in two commits (None: in none), among those
        in folders that are `wanted` by their names, each with a `/` at its end.

        Raises `ValueError`, `KeyError` if an object is not there, `RuleBroken`: too-large.
        """
        folders = [("", old and self._tree_of(old), new and self._tree_of(new))]
        while folders:
            above, one, other = folders.pop()
            for name, sides in _compared(self._entries(one), self._entries(other)):
                path = _checked(above, name, sides)
                if not all(is_folder for side in sides for is_folder, _ in side):
                    yield path
                before, after = (
                    next((oid for is_folder, oid in side if is_folder), None) for side in sides
                )
                if (before or after) and wanted(f"{path}/"):
                    folders.append((f"{path}/", before, after))

    def _tree_of(self, oid: str) -> str:
        for _ in range(_TAGS):
            found = self._objects.find(oid, self._most)
            if found is None:
                raise KeyError(oid)
            _, kind, content = found
            if kind == "tree":
                return oid
            named = content.split(b"\n", 1)[0].split(b" ")[-1].decode("ascii", "replace")
            if kind == "commit":
                return named
            if kind != "tag":
                break
            oid = named
        raise ValueError(f"{oid[:12]} is no commit")

    def _entries(self, oid: str | None) -> set[bytes]:
        """The entries of a tree, as they are in it: mode, name and id."""
        if oid is None:
            return set()
        found = self._objects.find(oid, self._most)
        if found is None or found[1] != "tree":
            raise KeyError(oid)
        content, at, width = found[2], 0, len(oid) // 2
        self._left -= len(content) + _COST
        if self._left < 0:
            raise ValueError("there is too much in it")
        entries = set()
        while at < len(content):
            start, at = at, content.index(b"\0", at) + 1 + width
            entries.add(content[start:at])
        return entries


def _compared(before: set[bytes], after: set[bytes]) -> list[tuple[str, tuple[Side, Side]]]:
    """The names whose entries differ, with these."""
    found: dict[str, tuple[Side, Side]] = {}
    for number, entries in enumerate((before - after, after - before)):
        for entry in entries:
            head, _, oid = entry.partition(b"\0")
            mode, _, name = head.partition(b" ")
            sides = found.setdefault(name.decode("utf-8", "surrogateescape"), ([], []))
            sides[number].append((int(mode, 8) & _KINDS == _FOLDER, oid.hex()))
    return sorted(found.items())


def _checked(above: str, name: str, sides: tuple[Side, Side]) -> str:
    """The path, if it can be one of a file."""
    path = above + name
    if name in ("", ".", "..") or "/" in name or len(name) > MAX_PART or len(path) > MAX_PATH:
        raise ValueError(f"{path[:100]} is no name that a checkout can have")
    if any(len(side) > 1 for side in sides):
        raise ValueError(f"{path[:100]} stands twice in its folder")
    return path
