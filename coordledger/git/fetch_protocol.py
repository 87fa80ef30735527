"""A fetch of commits alone on the wire: the words of git's upload-pack and its client, as values.

Rules: pure; bytes in, values out; no process, no socket, no deadline. Version 0 of the protocol
(gitprotocol-pack(5)), in one round: what is wanted, by `filter=tree:0` without its trees and
files, what is here, and "done". What a server answers is bounded, and parsed strictly: whatever
is odd is no answer, and git fetches then. Of a pack, only commits are taken, whatever else is in
it; each is known by the id that is made of its bytes. Deltas are those of gitformat-pack(5).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from coordledger.git import pktline
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.git.tree import object_id
from coordledger.hashes import LENGTHS

if TYPE_CHECKING:
    from coordledger.git.push_protocol import Advertisement

MOST_OBJECTS = 6000  # more are git's to fetch; and they are judged sooner side by side
MOST_BYTES = 33_554_432  # of an answer, and of the commits in it
_ASKED = ("side-band-64k", "ofs-delta", "no-progress")
_DATA, _DEATH = b"\1", b"\3"
_START = b"PACK" + (2).to_bytes(4, "big")
_LONGEST = 56  # bits
_COMMIT, _OFFSET_DELTA, _ID_DELTA = 1, 6, 7
_WHOLE = (_COMMIT, 2, 3, 4)  # tree, blob, tag


def offers_commits(advertised: Advertisement) -> bool:
    """Whether commits can be had there without their trees."""
    return {"filter", "side-band-64k"} <= advertised.capabilities


def request(advertised: Advertisement, want: str, have: str) -> bytes:
    """Ask for the commits from above `have` up to `want`."""
    asked = [c for c in _ASKED if c in advertised.capabilities]
    asked += [c for c in advertised.capabilities if c.startswith("object-format=")]
    words = [f"want {want} {' '.join([*asked, 'filter'])}\n", "filter tree:0\n"]
    said = [f"have {have}\n", "done\n"]
    wants, haves = (b"".join(pktline.encode(w.encode("ascii")) for w in ws) for ws in (words, said))
    return wants + FLUSH + haves


def commits(answer: bytes, algo: str) -> dict[str, bytes]:
    """The commits in the answer to `request`, by their ids. Raises `ProtocolError`."""
    packets, _, whole = pktline.split(answer)
    if not whole:
        raise ProtocolError("the answer is cut off")
    data = []
    for packet in packets:
        if packet[:1] == _DATA:
            data.append(packet[1:])
        elif packet[:1] == _DEATH or packet.startswith(b"ERR "):
            raise ProtocolError(packet.decode("utf-8", "replace"))
    return commits_in(b"".join(data), algo)


def commits_in(pack: bytes, algo: str) -> dict[str, bytes]:
    """The commits of a pack, by their ids. Raises `ProtocolError`."""
    count = int.from_bytes(pack[8:12], "big")
    if pack[:8] != _START or count > MOST_OBJECTS:
        raise ProtocolError("no pack, or a large one")
    reader = _Reader(pack, algo)
    try:
        for _ in range(count):
            reader.step()
    except (IndexError, zlib.error) as fault:
        raise ProtocolError(f"the pack is damaged: {fault}") from None
    return reader.commits


class _Reader:
    """A place in a pack, and the commits before it."""

    def __init__(self, pack: bytes, algo: str) -> None:
        self.commits: dict[str, bytes] = {}
        self._pack, self._algo, self._at = memoryview(pack), algo, 12
        self._by_place: dict[int, tuple[int, bytes]] = {}  # kinds and contents
        self._left = MOST_BYTES

    def step(self) -> None:
        """Read the next object. Raises `ProtocolError`, IndexError, zlib.error."""
        start = self._at
        byte = self._byte()
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 128:
            byte = self._byte()
            size |= (byte & 127) << _sane(shift)
            shift += 7
        base = self._base(kind, start)
        content = self._inflated(size)
        if base:
            kind, content = base[0], _with_delta(base[1], content, self._left)
        self._left -= len(content)
        self._by_place[start] = kind, content
        if kind == _COMMIT:
            self.commits[object_id("commit", content, self._algo)] = content

    def _base(self, kind: int, start: int) -> tuple[int, bytes] | None:
        """What an object of this kind, at this place, differs from. Raises `ProtocolError`."""
        if kind in _WHOLE:
            return None
        if kind == _OFFSET_DELTA:
            base = self._by_place.get(start - self._distance())
        else:
            width = LENGTHS[self._algo] // 2
            content = self.commits.get(self._pack[self._at : self._at + width].hex())
            base = (_COMMIT, content) if content else None
            self._at += width
        if base is None or kind not in (_OFFSET_DELTA, _ID_DELTA):
            raise ProtocolError("an object of no kind, or a delta of what is not there")
        return base

    def _byte(self) -> int:
        self._at += 1
        return self._pack[self._at - 1]

    def _distance(self) -> int:
        byte = self._byte()
        distance = byte & 127
        while byte & 128 and distance < self._at:
            byte = self._byte()
            distance = (distance + 1) << 7 | byte & 127
        return distance

    def _inflated(self, size: int) -> bytes:
        if size > self._left:
            raise ProtocolError("the pack is too large")
        inflating = zlib.decompressobj()
        given = self._pack[self._at : self._at + size + (size >> 3) + 64]
        content = inflating.decompress(given, size + 1)
        if not inflating.eof or len(content) != size:
            raise ProtocolError("an object in the pack has another size")
        self._at += len(given) - len(inflating.unused_data)
        return content


def _with_delta(base: bytes, delta: bytes, limit: int) -> bytes:
    """What the delta makes of its base. Raises `ProtocolError`, IndexError."""
    size, at = _size(delta, 0)
    wanted, at = _size(delta, at)
    if size != len(base) or wanted > limit:
        raise ProtocolError("a delta of something else")
    parts, made = [], 0
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 128:
            numbers = [0] * 7
            for bit in range(7):
                if code >> bit & 1:
                    numbers[bit] = delta[at]
                    at += 1
            start = int.from_bytes(numbers[:4], "little")
            length = int.from_bytes(numbers[4:], "little") or 0x10000
            part = base[start : start + length]
        else:
            length = code
            part = delta[at : at + length]
            at += length
        made += length
        if not length or len(part) != length or made > wanted:
            raise ProtocolError("a delta that leads outside")
        parts.append(part)
    if made != wanted:
        raise ProtocolError("a delta that is cut off")
    return b"".join(parts)


def _size(delta: bytes, at: int) -> tuple[int, int]:
    """A size at the beginning of a delta, and where it ends."""
    size = shift = 0
    while True:
        byte = delta[at]
        size |= (byte & 127) << _sane(shift)
        shift += 7
        at += 1
        if not byte & 128:
            return size, at


def _sane(shift: int) -> int:
    """Of a size's next part; one that does not end would be a very long number."""
    if shift > _LONGEST:
        raise ProtocolError("a size that is too large")
    return shift
