"""Packs (gitformat-pack(5)) of a few objects: whole, or by where they differ from one before.

Rules: what is in a pack is the caller's business, and what is much like what, too. A pack in a
repository appears whole, with its index, and is kept from `git repack` until whoever wrote it has
named what is in it by a ref.
"""

from __future__ import annotations

import posix
import zlib
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.git.tree import deflate
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.git.tree import Objects

MANY = 64  # objects
_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_DELTA = 6
_DEEPEST = 16  # deltas, one on the other: git's own packs have up to fifty
_SMALL = 100  # bytes of a delta
_LONGEST_COPY = 0xFFFFFF  # bytes that one step of a delta takes over
_START = b"PACK" + (2).to_bytes(4, "big")
_INDEX = b"\377tOc" + (2).to_bytes(4, "big")


def pack(objects: Objects, algo: str) -> bytes:
    """A pack of objects: id -> kind, content."""
    return _pack(list(_entries(objects).values()), algo)


def write_durably(
    folder: str, objects: Objects, algo: str, like: Mapping[str, str] | None = None
) -> str:
    """Add a pack of these to an `objects` folder: on the disk when this returns. `like` has for an
    object the id of an earlier one in `objects` that it differs from in one place, if there is one.

    What is returned is the path of the file that keeps `git repack -d` from dropping the pack as
    long as no ref leads to its objects; the caller removes it then. Raises OSError.
    """
    entries = _entries_by_deltas(objects, like) if like else _entries(objects)
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
    return {
        oid: _head(_KINDS[kind], len(content)) + small for (oid, (kind, content)), small in pairs
    }


def _entries_by_deltas(objects: Objects, like: Mapping[str, str]) -> dict[str, bytes]:
    """As `_entries`, in their order: what is like another is a step or three from that."""
    entries: dict[str, bytes] = {}
    places: dict[str, int] = {}
    depths: dict[str, int] = {}
    at = len(_START) + 4
    for oid, (kind, content) in objects.items():
        base = like.get(oid, "")
        depth = depths.get(base, _DEEPEST) + 1
        delta = None
        if depth <= _DEEPEST and objects[base][0] == kind:
            delta = _delta(objects[base][1], content)
        if delta is None:
            entry, depth = _head(_KINDS[kind], len(content)) + deflate(content), 0
        else:
            entry = _head(_DELTA, len(delta)) + _distance(at - places[base]) + _stored(delta)
        entries[oid], places[oid], depths[oid] = entry, at, depth
        at += len(entry)
    return entries


def _delta(base: bytes, content: bytes) -> bytes | None:
    """What makes `content` of `base`: its beginning, something new, its end. None where most of it
    is new.
    """
    first = _alike(base, content)
    last = _alike(base[first:][::-1], content[first:][::-1])
    new = content[first : len(content) - last]
    if 2 * len(new) >= len(content) or max(first, last) > _LONGEST_COPY:
        return None
    parts = [_size(len(base)), _size(len(content)), _copy(0, first)]
    parts += [bytes([len(part)]) + part for part in _in_parts(new)]
    return b"".join([*parts, _copy(len(base) - last, last)])


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _stored(delta: bytes) -> bytes:
    """In zlib's form (RFC 1950, 1951); a small one whole, as it would hardly get smaller."""
    if len(delta) > _SMALL:
        return deflate(delta)
    size = len(delta)
    head = b"\x78\x01\x01" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")
    return head + delta + zlib.adler32(delta).to_bytes(4, "big")


def _in_parts(new: bytes) -> list[bytes]:
    return [new[at : at + 127] for at in range(0, len(new), 127)]


def _copy(start: int, length: int) -> bytes:
    """The step of a delta that takes `length` bytes of its base, from `start` on."""
    given = [*start.to_bytes(4, "little"), *length.to_bytes(3, "little")]
    code = 128 | sum(1 << bit for bit, byte in enumerate(given) if byte)
    return bytes([code, *(byte for byte in given if byte)]) if length else b""


def _size(size: int) -> bytes:
    out = [size & 127]
    while size := size >> 7:
        out[-1] |= 128
        out.append(size & 127)
    return bytes(out)


def _distance(distance: int) -> bytes:
    """How far before an entry its base stands."""
    out = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        out.append(128 | distance & 127)
    return bytes(reversed(out))


def _head(kind: int, size: int) -> bytes:
    head = [kind << 4 | size & 15]
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
