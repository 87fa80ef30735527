"""Packs (gitformat-pack(5)) of a few whole objects: no deltas.

Rules: what is in a pack is the caller's business. A pack in a repository appears whole, with its
index, and is kept from `git repack` until whoever wrote it has named what is in it by a ref.
"""

from __future__ import annotations

import posix
import zlib
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.git.tree import deflate
from coordledger.hashes import digest

if TYPE_CHECKING:
    from coordledger.git.tree import Objects

MANY = 64  # objects
_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_START = b"PACK" + (2).to_bytes(4, "big")
_INDEX = b"\377tOc" + (2).to_bytes(4, "big")


def pack(objects: Objects, algo: str) -> bytes:
    """A pack of objects: id -> kind, content."""
    return _pack(list(_entries(objects).values()), algo)


def write_durably(folder: str, objects: Objects, algo: str) -> str:
    """Add a pack of these to an `objects` folder: on the disk when this returns.

    What is returned is the path of the file that keeps `git repack -d` from dropping the pack as
    long as no ref leads to its objects; the caller removes it then. Raises OSError.
    """
    entries = _entries(objects)
    whole = _pack(list(entries.values()), algo)
    index = _index(entries, whole, algo)
    into = f"{folder}/pack"
    name = f"{into}/pack-{digest(algo, index).hex()}"
    mode = posix.stat(folder).st_mode & 0o444
    keep = f"{name}.keep"
    parts = ((keep, b"coordledger\n"), (f"{name}.pack", whole), (f"{name}.idx", index))
    try:
        for path, content in parts:  # git looks at a pack once its index is there
            beside = f"{into}/tmp_pack_{posix.urandom(8).hex()}"  # noqa: S108 - git prunes such
            files.replace(path, content, beside, mode=mode, exclusive=True, durable=True)
    except BaseException:
        for path, _ in reversed(parts):
            files.remove(path)
        raise
    return keep


def _entries(objects: Objects) -> dict[str, bytes]:
    """How the objects stand in a pack, by their ids."""
    deflated = _deflated([content for _, content in objects.values()])
    pairs = zip(objects.items(), deflated, strict=True)
    return {oid: _head(kind, len(content)) + small for (oid, (kind, content)), small in pairs}


def _head(kind: str, size: int) -> bytes:
    head = [_KINDS[kind] << 4 | size & 15]
    size >>= 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head)


def _pack(entries: list[bytes], algo: str) -> bytes:
    whole = b"".join([_START, len(entries).to_bytes(4, "big"), *entries])
    return whole + digest(algo, whole)


def _index(entries: dict[str, bytes], whole: bytes, algo: str) -> bytes:
    """The index of the pack `whole`, which is smaller than 2 GiB."""
    offsets, at = {}, len(_START) + 4
    for oid, entry in entries.items():
        offsets[oid] = at.to_bytes(4, "big")
        at += len(entry)
    oids = sorted(entries)
    ids = [bytes.fromhex(oid) for oid in oids]
    firsts = [0] * 256
    for one in ids:
        firsts[one[0]] += 1
    total, fan = 0, []
    for count in firsts:
        total += count
        fan.append(total.to_bytes(4, "big"))
    checks = [zlib.crc32(entries[oid]).to_bytes(4, "big") for oid in oids]
    places = [offsets[oid] for oid in oids]
    seal = whole[-len(digest(algo, b"")) :]
    index = b"".join([_INDEX, *fan, *ids, *checks, *places, seal])
    return index + digest(algo, index)


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
