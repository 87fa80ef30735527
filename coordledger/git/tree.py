"""Trees of git as values: read lazily by id, changed without touching anything.

Rules: an object's id is computed here from its bytes, never asked for; `update` gives
the tree after the changes with the objects that are new, and writes nothing. A value that is
kept at hand counts for the id that it was read or made under and for no other: it may be
missing, never wrong. It knows no ledger: paths and bytes only. Object ids are hexadecimal;
"sha1" or "sha256" is the repository's object format.
"""

from __future__ import annotations

import zlib

from coordledger.hashes import LENGTHS, digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Read = Callable[[str], bytes]  # the content of an object; KeyError if it is not there
    Entries = dict[str, bytes]  # by name, as git sorts: how it stands in its tree
    Objects = dict[str, tuple[str, bytes]]  # id -> kind, content

_MEMORY = 6  # of zlib's 1 to 9
KEPT_BYTES = 67_108_864  # the state of some 200,000 tasks


def object_id(kind: str, content: bytes, algo: str) -> str:
    """The id of a git object; `kind` is blob, tree or commit."""
    return digest(algo, b"%s %d\0%s" % (kind.encode("ascii"), len(content), content)).hex()


def deflate(data: bytes) -> bytes:
    """`data` in zlib's form, as git stores it. With less memory than usual, which would take
    longer to get than to use: most objects are small.
    """
    deflating = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY)
    return deflating.compress(data) + deflating.flush()


def _is_folder(raw: bytes) -> bool:
    return raw.startswith(b"40000 ")


def _order(item: tuple[str, bytes]) -> str:
    name, raw = item
    return name + "/" if _is_folder(raw) else name  # as git sorts


def _parse(content: bytes, algo: str) -> Entries:
    """ValueError if the tree is none of ours."""
    entries: Entries = {}
    width = LENGTHS[algo] // 2
    at = 0
    while at < len(content):
        start, end = at, content.index(b"\0", at)
        mode, name = content[at:end].split(b" ", 1)
        if mode not in (b"100644", b"40000"):
            raise ValueError(f"mode {mode!r}")
        at = end + 1 + width
        if at > len(content):
            raise ValueError("cut off")
        entries[name.decode("ascii")] = content[start:at]
    return dict(sorted(entries.items(), key=_order))


def reachable(read: Read, root: str, algo: str) -> Iterator[str]:
    """The ids of a tree and of all that is in it. ValueError if the tree is none of ours."""
    folders, width = [root], LENGTHS[algo] // 2
    while folders:
        oid = folders.pop()
        yield oid
        for raw in _parse(read(oid), algo).values():
            if _is_folder(raw):
                folders.append(raw[-width:].hex())
            else:
                yield raw[-width:].hex()


def _raw(folder: bool, name: str, oid: str) -> bytes:
    mode = b"40000" if folder else b"100644"
    return b"%s %s\0%s" % (mode, name.encode("ascii"), bytes.fromhex(oid))


def folder_id(files: dict[str, str], algo: str) -> str:
    """The id of a folder that has these files, by name, and nothing else."""
    content = b"".join(_raw(False, name, files[name]) for name in sorted(files))
    return object_id("tree", content, algo)


class _Kept:
    """An object at hand: its id, its content and, once asked for, what that parses to; of a folder
    also what is at hand of its entries, by name, each as this very folder names it.
    """

    __slots__ = ("below", "content", "entries", "is_folder", "oid", "value")

    def __init__(
        self,
        oid: str,
        content: bytes,
        is_folder: bool,
        entries: Entries | None = None,
        below: dict[str, _Kept] | None = None,
    ) -> None:
        self.oid, self.content, self.is_folder, self.entries = oid, content, is_folder, entries
        self.below: dict[str, _Kept] = {} if below is None else below
        self.value: Any = None


class _Memory:
    """One object for each path: the newest that its reader has seen or made there."""

    def __init__(self, kept: dict[str, _Kept], size: int) -> None:
        self._kept, self._size = kept, size  # what was made last comes last

    def copy(self) -> _Memory:
        return _Memory(dict(self._kept), self._size)

    def get(self, path: str, oid: str) -> _Kept | None:
        kept = self._kept.get(path)
        return kept if kept is not None and kept.oid == oid else None

    def seen(self, path: str, kept: _Kept) -> None:
        """Keep what was read, where there is room: it pushes out nothing."""
        if path not in self._kept and self._size < KEPT_BYTES:
            self.add(path, kept)

    def has(self, path: str, kept: _Kept) -> bool:
        return self._kept.get(path) is kept

    def add(self, path: str, new: _Kept) -> None:
        """Keep what may be stored nowhere yet, instead of what it replaces."""
        old = self._kept.pop(path, None)
        self._size += len(new.content) - (len(old.content) if old else 0)
        self._kept[path] = new

    def trim(self) -> None:
        """Forget the oldest half of too much; by then it is in the store."""
        if self._size > KEPT_BYTES:
            for kept in self._kept.values():
                kept.below.clear()  # or it would be at hand by way of its folder
            for path in list(self._kept):
                self._size -= len(self._kept.pop(path).content)
                if self._size <= KEPT_BYTES // 2:
                    break


class Tree:
    """The files below one root. Immutable; reads objects when they are asked for."""

    def __init__(self, read: Read, root: str | None, algo: str) -> None:
        """`root` is None for the empty tree, which has no id here."""
        self._read, self.root, self._algo = read, root or "", algo
        self._width = LENGTHS[algo] // 2
        self._root: _Kept | None = None
        self._memory = _Memory({}, 0)
        self._new: dict[str, _Kept] = {}  # by path, what `update` has made for this tree
        self.objects: Objects = {}  # the same as objects of git
        self.ids: dict[str, str] = {}  # the same by path: the ids

    def _object(self, path: str, oid: str, is_folder: bool) -> _Kept:
        new = self._new.get(path)
        if new is not None and new.oid == oid:
            return new
        kept = self._memory.get(path, oid)
        if kept is None:
            kept = _Kept(oid, self._read(oid), is_folder)
            self._memory.seen(path, kept)
        return kept

    def _top(self) -> _Kept | None:
        """The root folder; None of the empty tree."""
        if self._root is None and self.root:
            self._root = self._object("", self.root, is_folder=True)
        return self._root

    def _entries(self, folder: _Kept) -> Entries:
        if folder.entries is None:
            folder.entries = _parse(folder.content, self._algo)
        return folder.entries

    def _inside(self, folder: _Kept, name: str, path: str) -> _Kept | None:
        """What the folder has under this name, read; `path` is where that is."""
        found = folder.below.get(name)
        if found is None:
            raw = self._entries(folder).get(name)
            if raw is None:
                return None
            found = self._object(path, raw[-self._width :].hex(), _is_folder(raw))
            if self._memory.has(path, found):
                folder.below[name] = found
        return found

    def _folder(self, path: str) -> _Kept | None:
        """The folder at a path, "" for the root; None if there is none."""
        here, above = self._top(), ""
        for name in path.split("/") if path else ():
            above = f"{above}/{name}" if above else name
            here = self._inside(here, name, above) if here and here.is_folder else None
        return here if here and here.is_folder else None

    def _find(self, path: str) -> tuple[bool, str] | None:
        """Whether it is a folder, and its id, unread; None if it is not there."""
        if not path:
            return (True, self.root) if self.root else None
        above, _, name = path.rpartition("/")
        folder = self._folder(above)
        raw = self._entries(folder).get(name) if folder else None
        return (_is_folder(raw), raw[-self._width :].hex()) if raw else None

    def _file(self, path: str) -> _Kept | None:
        above, _, name = path.rpartition("/")
        folder = self._folder(above)
        file = self._inside(folder, name, path) if folder else None
        return file if file and not file.is_folder else None

    def id_of(self, path: str) -> str:
        """The id of a file or a folder that is there. KeyError: it is not."""
        entry = self._find(path)
        if entry is None:
            raise KeyError(path)
        return entry[1]

    def get(self, path: str) -> bytes | None:
        """The content of a file, or None."""
        file = self._file(path)
        return None if file is None else file.content

    def value(self, path: str, parse: Callable[[bytes], Any]) -> Any:
        """The value that `parse` makes of a file, or None. One parser for each path; no caller
        changes what comes out: it is given again for as long as the file is the same.
        """
        file = self._file(path)
        if file is not None and file.value is None:
            file.value = parse(file.content)
        return file and file.value

    def missing(self, folder: str) -> list[str]:
        """The ids of the files in a folder, and below, that would have to be read."""
        entry = self._find(folder)
        if entry is None:
            return []
        if not entry[0]:
            return [] if self._memory.get(folder, entry[1]) else [entry[1]]
        return [oid for name in self.names(folder) for oid in self.missing(f"{folder}/{name}")]

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none if it is not there."""
        found = self._folder(folder)
        return sorted(self._entries(found)) if found else []

    def ids_in(self, folder: str) -> dict[str, str]:
        """What is in a folder: name -> id; nothing if it is not there."""
        found = self._folder(folder)
        entries = self._entries(found) if found else {}
        return {name: raw[-self._width :].hex() for name, raw in entries.items()}

    def update(self, changes: dict[str, bytes | None]) -> Tree:
        """The tree after `changes` (path -> content, None removes); its `objects` are new."""
        after = Tree(self._read, None, self._algo)
        after._memory = self._memory
        if not changes and self.root:
            after.root = self.root
            return after
        nested: dict[str, Any] = {}
        for path, content in changes.items():
            *folders, name = path.split("/")
            here = nested
            for folder in folders:
                here = here.setdefault(folder, {})
            here[name] = content
        root = self._write("", self._top(), nested, after) or after._add("", b"", is_folder=True)
        after.root = root.oid
        return after

    def _write(
        self, path: str, before: _Kept | None, changes: dict[str, Any], after: Tree
    ) -> _Kept | None:
        """The folder after these changes; None if nothing is left in it."""
        entries = dict(self._entries(before)) if before else {}
        below = dict(before.below) if before else {}
        in_order = True
        for name, change in changes.items():
            inside = f"{path}/{name}" if path else name
            is_folder = isinstance(change, dict)
            was = entries.get(name)
            if isinstance(change, dict):
                folder = self._inside(before, name, inside) if before and was else None
                here = folder if folder and folder.is_folder else None
                new = self._write(inside, here, change, after)
            else:
                new = None if change is None else after._add(inside, change, is_folder=False)
            if new is None:
                entries.pop(name, None)
                below.pop(name, None)
                continue
            in_order = in_order and was is not None and _is_folder(was) == is_folder
            entries[name], below[name] = _raw(is_folder, name, new.oid), new
        if not entries:
            return None
        if not in_order:
            entries = dict(sorted(entries.items(), key=_order))
        return after._add(path, b"".join(entries.values()), True, entries, below)

    def _add(
        self,
        path: str,
        content: bytes,
        is_folder: bool,
        entries: Entries | None = None,
        below: dict[str, _Kept] | None = None,
    ) -> _Kept:
        kind = "tree" if is_folder else "blob"
        oid = object_id(kind, content, self._algo)
        self.objects[oid] = (kind, content)
        self.ids[path] = oid
        new = self._new[path] = _Kept(oid, content, is_folder, entries, below)
        return new

    def copy(self) -> Tree:
        """The same tree for another reader, who steps on without this one."""
        copy = Tree(self._read, self.root, self._algo)
        copy._memory = self._memory.copy()
        return copy

    def stand(self) -> None:
        """The reader steps onto this tree: what is new here replaces what was kept."""
        for path, new in self._new.items():
            self._memory.add(path, new)
        self._memory.trim()
        self._new = {}
