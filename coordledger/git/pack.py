"""Packs (gitformat-pack(5)) of a few whole objects: no deltas.

Rules: pure; what is in a pack is the caller's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.git.tree import deflate
from coordledger.hashes import digest

if TYPE_CHECKING:
    from coordledger.git.tree import Objects

MANY = 64  # objects
_KINDS = {"commit": 1, "tree": 2, "blob": 3}


def pack(objects: Objects, algo: str) -> bytes:
    """A pack of objects: id -> kind, content."""
    parts = [b"PACK", (2).to_bytes(4, "big"), len(objects).to_bytes(4, "big")]
    deflated = _deflated([content for _, content in objects.values()])
    for (kind, content), small in zip(objects.values(), deflated, strict=True):
        size = len(content)
        head = [_KINDS[kind] << 4 | size & 15]
        size >>= 4
        while size:
            head[-1] |= 128
            head.append(size & 127)
            size >>= 7
        parts += [bytes(head), small]
    whole = b"".join(parts)
    return whole + digest(algo, whole)


def _deflated(contents: list[bytes]) -> list[bytes]:
    """Each by itself; of many another thread makes half: zlib leaves the interpreter to others."""
    if len(contents) <= MANY:
        return [deflate(content) for content in contents]
    from threading import Thread  # noqa: PLC0415 - a claim needs none

    half = len(contents) // 2
    second: list[bytes] = []
    helper = Thread(target=lambda: second.extend(map(deflate, contents[half:])))
    helper.start()
    first = [deflate(content) for content in contents[:half]]
    helper.join()
    return first + second
