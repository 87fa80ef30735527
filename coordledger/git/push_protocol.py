"""What a push looks like on the wire: git's pkt-lines and packs, as bytes and values.

Rules: pure; bytes in, values out; no process, no socket, no deadline. Only what a push of
single refs needs: the advertisement of receive-pack, the request, the report (git's
gitprotocol-pack(5) and gitprotocol-common(5)). What the server says is parsed strictly:
a report that is cut off or odd is no report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.git.tree import deflate
from coordledger.hashes import digest

if TYPE_CHECKING:
    from coordledger.git.tree import Objects

FLUSH = b"0000"
MAX_PKT = 65_520
MANY = 64  # objects
_ASKED = ("report-status", "side-band-64k", "delete-refs", "quiet", "ofs-delta")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_DATA, _PROGRESS = b"\1", b"\2"  # the third band says what the server died of


class BadWire(Exception):
    """What came is not what the protocol says."""


class Advertisement(NamedTuple):
    """The refs of a server, and what it can do."""

    refs: dict[str, str]
    capabilities: frozenset[str]

    @property
    def algo(self) -> str:
        """The repository's object format; servers that do not say have SHA-1."""
        found = (c for c in self.capabilities if c.startswith("object-format="))
        return next(found, "=sha1").partition("=")[2]


class Report(NamedTuple):
    """What became of a push: per ref None or why not, and what the hooks printed."""

    unpacked: str
    refs: dict[str, str | None]
    printed: str


def pack(objects: Objects, algo: str) -> bytes:
    """A pack (gitformat-pack(5)) of whole objects: id -> kind, content."""
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


def pkt(data: bytes) -> bytes:
    return b"%04x%s" % (len(data) + 4, data)


def packets(data: bytes) -> tuple[list[bytes], int | None]:
    """The packets up to the first flush, and where it ends; None if it has not come yet.

    Raises `BadWire`.
    """
    found: list[bytes] = []
    at = 0
    while at + 4 <= len(data):
        if not _HEX.issuperset(data[at : at + 4]):  # int() takes more for digits
            raise BadWire(_text(data[at : at + 80]))
        size = int(data[at : at + 4], 16)
        if size == 0:
            return found, at + 4
        if not 4 <= size <= MAX_PKT:
            raise BadWire("a packet of an impossible length")
        if at + size > len(data):
            break
        found.append(data[at + 4 : at + size])
        at += size
    return found, None


def advertisement(lines: list[bytes]) -> Advertisement:
    """The packets that receive-pack begins with. Raises `BadWire`."""
    refs, capabilities = {}, frozenset[str]()
    for number, line in enumerate(lines):
        what, _, rest = line.rstrip(b"\n").partition(b"\0")
        if what.startswith(b"ERR "):
            raise BadWire(_text(what[4:]))
        if what.startswith((b"version ", b"shallow ")):
            continue
        oid, _, name = _text(what).partition(" ")
        if rest or number == 0:
            capabilities = frozenset(_text(rest).split())
        if not name:
            raise BadWire("a ref without a name")
        if name != "capabilities^{}":
            refs[name] = oid
    return Advertisement(refs, capabilities)


def service_advertisement(answer: bytes, service: str) -> Advertisement:
    """The same as smart HTTP gives it, which announces the service. Raises `BadWire`."""
    announced = f"# service={service}".encode("ascii")
    said, end = packets(answer)
    if end is None or [line.rstrip(b"\n") for line in said] != [announced]:
        raise BadWire("no advertisement of the service")
    lines, end = packets(answer[end:])
    if end is None:
        raise BadWire("the advertisement is cut off")
    return advertisement(lines)


def request(
    there: Advertisement, moves: list[tuple[str | None, str | None, str]], pack: bytes
) -> bytes:
    """What asks for `moves` (old, new, ref; None: does not exist), with the objects in `pack`."""
    width = 64 if there.algo == "sha256" else 40
    asked = [c for c in _ASKED if c in there.capabilities]
    asked += [c for c in there.capabilities if c.startswith("object-format=")]
    said = b"\0 " + " ".join(asked).encode("ascii")
    out = []
    for old, new, ref in moves:
        line = f"{old or '0' * width} {new or '0' * width} {ref}".encode("ascii")
        out.append(pkt(line + said))
        said = b""
    return b"".join([*out, FLUSH, pack])


def report(answer: bytes, there: Advertisement) -> Report:
    """The report in what the server answered. Raises `BadWire` if it is not whole."""
    unpacked, refs, printed = "", dict[str, str | None](), ""
    if "side-band-64k" in there.capabilities:
        answer, printed = _unband(answer)
    lines, end = packets(answer)
    if end is None:
        raise BadWire("the answer is cut off")
    for line in map(_text, lines):
        word, _, rest = line.rstrip("\n").partition(" ")
        name, _, why = rest.partition(" ")
        if word == "unpack":
            unpacked = rest
        elif word == "ok":
            refs[name] = None
        elif word == "ng":
            refs[name] = why or "refused"
    if not unpacked:
        raise BadWire("the answer is no report")
    return Report(unpacked, refs, printed)


def _unband(answer: bytes) -> tuple[bytes, str]:
    """The report, and what was printed."""
    lines, _ = packets(answer)  # the last flush may come after the report's own
    data, printed = [], []
    for line in lines:
        if line[:1] == _DATA:
            data.append(line[1:])
        elif line[:1] == _PROGRESS:
            printed.append(line[1:])
        else:
            raise BadWire(_text(line[1:]).strip() or "a packet on no band")
    return b"".join(data), _text(b"".join(printed))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
