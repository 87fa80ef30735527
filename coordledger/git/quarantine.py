"""The quarantine: the folder in which git keeps what a push has brought until pre-receive passes.

Rules: only names and sizes are read, from folders and from the indexes of packs
(gitformat-pack(5)); no object is opened. A hook's module: no os, no dulwich.
"""

from __future__ import annotations

import posix

from coordledger.errors import RuleBroken

_HEADER = b"\377tOc\0\0\0\2"  # of version 2; version 1 has none
_FANS = 1024


def contents(folder: str, most: int) -> tuple[set[str], int]:
    """The ids of the objects in an `objects` folder, and the bytes of all its files.

    Raises `RuleBroken`: unneeded, if there are more than `most` objects.
    """
    ids, size = set[str](), 0
    for fan in posix.listdir(folder):
        for name in posix.listdir(f"{folder}/{fan}"):
            path = f"{folder}/{fan}/{name}"
            size += posix.stat(path).st_size
            if len(fan) == 2:
                ids.add(fan + name)
            elif name.endswith(".idx"):
                ids.update(_packed(path, most))
            if len(ids) > most:
                raise _too_many(most)
    return ids, size


def _packed(index: str, most: int) -> list[str]:
    """The ids in a pack's index. A pack is named by a digest, as objects are."""
    width = len(index.rpartition("-")[2].removesuffix(".idx")) // 2
    with open(index, "rb") as file:  # noqa: PTH123
        start = file.read(len(_HEADER))
        is_second = start == _HEADER
        fans = file.read(_FANS) if is_second else start + file.read(_FANS - len(start))
        count = int.from_bytes(fans[-4:], "big")
        if count > most:
            raise _too_many(most)
        offset = 0 if is_second else 4  # version 1 has each id after its place in the pack
        rows = file.read(count * (offset + width))
    stride = offset + width
    return [rows[at + offset : at + stride].hex() for at in range(0, len(rows), stride)]


def _too_many(most: int) -> RuleBroken:
    return RuleBroken("unneeded", what=f"more than {most} objects")
