"""A push on the wire: the words of git's receive-pack and of its client, as values.

Rules: pure; bytes in, values out; no process, no socket, no deadline. Only what a push of
single refs needs: the advertisement of receive-pack, the request, the report (git's
gitprotocol-pack(5) and gitprotocol-common(5)). The server's words are parsed strictly:
a report that is cut off or odd is no report.
"""

from __future__ import annotations

from coordledger.git import pktline
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.hashes import LENGTHS
from coordledger.values import Value

_ASKED = ("report-status", "side-band-64k", "delete-refs", "quiet", "ofs-delta")
_DATA, _PROGRESS, _DEATH = b"\1", b"\2", b"\3"  # the third says what the server died of


class Advertisement(Value):
    """The refs of a server, and what it can do."""

    refs: dict[str, str]
    capabilities: frozenset[str]

    @property
    def algo(self) -> str:
        """The repository's object format; servers that do not say have SHA-1."""
        formats = (c for c in self.capabilities if c.startswith("object-format="))
        return next(formats, "=sha1").partition("=")[2]


class Report(Value):
    """The end of a push: per ref None or why not, and what the hooks printed."""

    unpacked: str
    refs: dict[str, str | None]
    printed: str


def advertisement(lines: list[bytes]) -> Advertisement:
    """The packets that receive-pack begins with. Raises `ProtocolError`."""
    refs, capabilities = {}, frozenset[str]()
    for number, line in enumerate(lines):
        what, _, rest = line.rstrip(b"\n").partition(b"\0")
        if what.startswith(b"ERR "):
            raise ProtocolError(_text(what[4:]))
        if what.startswith((b"version ", b"shallow ")):
            continue
        oid, _, name = _text(what).partition(" ")
        if rest or number == 0:
            capabilities = frozenset(_text(rest).split())
        if not name:
            raise ProtocolError("a ref without a name")
        if name != "capabilities^{}":
            refs[name] = oid
    return Advertisement(refs, capabilities)


def service_advertisement(answer: bytes, service: str) -> Advertisement:
    """The same as smart HTTP gives it, which announces the service. Raises `ProtocolError`."""
    announced = f"# service={service}".encode("ascii")
    packets, rest, whole = pktline.split(answer)
    if not whole or [packet.rstrip(b"\n") for packet in packets] != [announced]:
        raise ProtocolError("no advertisement of the service")
    packets, _, whole = pktline.split(rest)
    if not whole:
        raise ProtocolError("the advertisement is cut off")
    return advertisement(packets)


def request(
    advertised: Advertisement, moves: list[tuple[str | None, str | None, str]], pack: bytes
) -> bytes:
    """The request for `moves` (old, new, ref; None: does not exist), with the objects in `pack`."""
    width = LENGTHS.get(advertised.algo, LENGTHS["sha1"])
    asked = [c for c in _ASKED if c in advertised.capabilities]
    asked += [c for c in advertised.capabilities if c.startswith("object-format=")]
    capabilities = b"\0 " + " ".join(asked).encode("ascii")
    out = []
    for old, new, ref in moves:
        line = f"{old or '0' * width} {new or '0' * width} {ref}".encode("ascii")
        out.append(pktline.encode(line + capabilities))
        capabilities = b""
    return b"".join([*out, FLUSH, pack])


def report(answer: bytes, advertised: Advertisement) -> Report:
    """The report in what the server answered. Raises `ProtocolError` if it is not whole."""
    unpacked, refs, printed, died = "", dict[str, str | None](), "", ""
    if "side-band-64k" in advertised.capabilities:
        answer, printed, died = _unband(answer)
    packets, _, whole = pktline.split(answer)
    if not whole:
        raise ProtocolError(died or "the answer is cut off")
    for line in map(_text, packets):
        word, _, rest = line.rstrip("\n").partition(" ")
        name, _, why = rest.partition(" ")
        if word in ("ok", "ng") and name in refs:
            raise ProtocolError("the report speaks of a ref twice")
        if word == "unpack":
            unpacked = rest
        elif word == "ok":
            refs[name] = None
        elif word == "ng":
            refs[name] = why or "refused"
    if not unpacked:
        raise ProtocolError(died or "the answer is no report")
    return Report(unpacked, refs, printed)


def _unband(answer: bytes) -> tuple[bytes, str, str]:
    """The report, what was printed, and what the server died of: a report that is whole all the
    same says what became of the push.
    """
    packets, _, _ = pktline.split(answer)  # the last flush may come after the report's own
    data, printed, died = [], [], []
    for packet in packets:
        if packet[:1] == _DATA:
            data.append(packet[1:])
        elif packet[:1] == _PROGRESS:
            printed.append(packet[1:])
        elif packet[:1] == _DEATH:
            died.append(packet[1:])
        else:
            raise ProtocolError("a packet on no band")
    return b"".join(data), _text(b"".join(printed)), _text(b"".join(died)).strip()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
