"""Trees of git as values: read lazily by id, changed without touching anything.

Rules: an object's id is computed here from its bytes, never asked for; `update` gives
the new root and the objects that are new, and writes nothing. It knows no ledger:
paths and bytes only. Object ids are hexadecimal; "sha1" or "sha256" is the
repository's object format.
"""

from __future__ import annotations

from .digests import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str], bytes]  # the content of an object; KeyError if it is not there
    Entries = dict[str, tuple[bool, str]]  # name -> is a folder, id
    Objects = dict[str, tuple[str, bytes]]  # id -> kind, content

ID_LENGTHS = {"sha1": 40, "sha256": 64}


def object_id(kind: str, content: bytes, algo: str) -> str:
    """The id of a git object; `kind` is blob, tree or commit."""
    return digest(algo, b"%s %d\0%s" % (kind.encode("ascii"), len(content), content)).hex()


def _parse(content: bytes, algo: str) -> Entries:
    """ValueError if the tree is none of ours."""
    entries: Entries = {}
    width = ID_LENGTHS[algo] // 2
    at = 0
    while at < len(content):
        end = content.index(b"\0", at)
        mode, name = content[at:end].split(b" ", 1)
        if mode not in (b"100644", b"40000"):
            raise ValueError(f"mode {mode!r}")
        at = end + 1 + width
        entries[name.decode("ascii")] = (mode == b"40000", content[end + 1 : at].hex())
    return entries


def _serialise(entries: Entries) -> bytes:
    def order(item: tuple[str, tuple[bool, str]]) -> str:
        name, (folder, _) = item
        return name + "/" if folder else name  # as git sorts

    return b"".join(
        b"%s %s\0%s" % (b"40000" if folder else b"100644", name.encode("ascii"), bytes.fromhex(oid))
        for name, (folder, oid) in sorted(entries.items(), key=order)
    )


class Tree:
    """The files below one root. Immutable; reads objects when they are asked for."""

    def __init__(self, read: Read, root: str | None, algo: str) -> None:
        """`root` is None for the empty tree."""
        self._read, self.root, self._algo = read, root, algo
        self._parsed: dict[str, Entries] = {}

    def _entries(self, oid: str | None) -> Entries:
        if oid is None:
            return {}
        if oid not in self._parsed:
            self._parsed[oid] = _parse(self._read(oid), self._algo)
        return self._parsed[oid]

    def _find(self, path: str) -> tuple[bool, str] | None:
        found: tuple[bool, str] | None = (True, self.root) if self.root else None
        for name in path.split("/") if path else ():
            if found is None or not found[0]:
                return None
            found = self._entries(found[1]).get(name)
        return found

    def get(self, path: str) -> bytes | None:
        """The content of a file, or None."""
        found = self._find(path)
        return None if found is None or found[0] else self._read(found[1])

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if it is not there."""
        found = self._find(folder)
        return sorted(self._entries(found[1])) if found and found[0] else []

    def update(self, changes: dict[str, bytes | None]) -> tuple[str, Objects]:
        """The root after `changes` (path -> content, None removes), and the new objects."""
        objects: Objects = {}
        nested: dict[str, object] = {}
        for path, content in changes.items():
            *folders, name = path.split("/")
            here = nested
            for folder in folders:
                here = here.setdefault(folder, {})  # type: ignore[assignment]
            here[name] = content
        root = self._write(self.root, nested, objects)
        return root or self._add("tree", b"", objects), objects

    def _write(self, oid: str | None, changes: dict[str, object], objects: Objects) -> str | None:
        entries = dict(self._entries(oid))
        for name, change in changes.items():
            if isinstance(change, dict):
                below = entries.get(name)
                new = self._write(below[1] if below and below[0] else None, change, objects)
            elif isinstance(change, bytes):
                new = self._add("blob", change, objects)
            else:
                new = None
            if new is None:
                entries.pop(name, None)
            else:
                entries[name] = (isinstance(change, dict), new)
        return self._add("tree", _serialise(entries), objects) if entries else None

    def _add(self, kind: str, content: bytes, objects: Objects) -> str:
        oid = object_id(kind, content, self._algo)
        objects[oid] = (kind, content)
        return oid
