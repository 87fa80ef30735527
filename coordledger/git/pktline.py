"""pkt-lines (gitprotocol-common(5)): git's frames on the wire, as bytes and values.

Rules: the one codec, for what we ask of a server and for what git asks of a hook. A packet that
is cut off or has an impossible length is an error; a packet's end of line is part of it. The
hooks import this: it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FLUSH = b"0000"
MAX_LENGTH = 65_520  # with the four bytes that say it
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ProtocolError(Exception):
    """The bytes that came are not what the protocol says."""


def encode(data: bytes) -> bytes:
    return b"%04x%s" % (len(data) + 4, data)


def split(data: bytes) -> tuple[list[bytes], bytes, bool]:
    """The packets up to the first flush, what follows, and whether there was a flush.

    Without one, a packet that is cut off is what follows. Raises `ProtocolError`.
    """
    packets: list[bytes] = []
    at = 0
    while at + 4 <= len(data):
        length = _length(data[at : at + 4], data[at : at + 80])
        if length == 0:
            return packets, data[at + 4 :], True
        if at + length > len(data):
            break
        packets.append(data[at + 4 : at + length])
        at += length
    return packets, data[at:], False


def read(take: Callable[[int], bytes], limit: int) -> list[bytes]:
    """The packets up to the next flush, of `limit` bytes at most. Raises `ProtocolError`.

    `take(n)` gives n bytes, or fewer at the end of all.
    """
    packets: list[bytes] = []
    while length := _length(head := take(4), head):
        limit -= length
        packet = take(length - 4) if limit >= 0 else b""
        if len(packet) != length - 4:
            raise ProtocolError("the packets are cut off, or too many")
        packets.append(packet)
    return packets


def _length(head: bytes, seen: bytes) -> int:
    """The length in the four bytes, 0 for a flush; where they are none, `seen` is shown."""
    if len(head) != 4 or not _HEX.issuperset(head):  # int() takes more for digits
        raise ProtocolError(seen.decode("utf-8", "replace") or "the packets end early")
    length = int(head, 16)
    if 0 < length < 4 or length > MAX_LENGTH:
        raise ProtocolError("a packet of an impossible length")
    return length
