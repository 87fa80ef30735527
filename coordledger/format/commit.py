"""A signed record <-> its one commit (docs/format.md, section 6).

Rules: `render` is a pure function and the only builder of a chain's commits (`envelope`
dresses one for the way to a server that renders it again); `parse` takes out
the record, the tag and what a successor needs, and checks no more than that: whoever
verifies renders what was parsed and compares the bytes. Rebuild, don't inspect.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64  # base64 around them imports re

from coordledger.errors import RuleBroken
from coordledger.format import canonical, records, timestamps
from coordledger.format.signing import TAG_BYTES, Signed
from coordledger.hashes import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.records import Record

MAX_COMMIT_BYTES = 262_144
FIRST_DIGEST = bytes(32)


class Commit:
    """One commit of a chain, taken apart. Verified only where somebody verified it."""

    __slots__ = ("committed", "digest", "oid", "parent", "seq", "signed", "tree")

    def __init__(
        self,
        oid: str,
        tree: str,
        parent: str | None,
        committed: int,
        signed: Signed,
        seq: int,
        digest: str,
    ) -> None:
        """`committed` is the committer's date in seconds since 1970."""
        self.oid, self.tree, self.parent = oid, tree, parent
        self.committed, self.signed, self.seq, self.digest = committed, signed, seq, digest

    @property
    def record(self) -> Record:
        return self.signed.record


def next_digest(before: str | None, signed: Signed) -> str:
    """The chain's digest after a record; `before` is None ahead of the genesis record."""
    start = bytes.fromhex(before) if before else FIRST_DIGEST
    return digest("sha256", start + signed.payload + b"\n" + signed.tag).hex()


def successor(oid: str, parent: Commit | None, tree: str, signed: Signed) -> Commit:
    """The commit that puts `signed` on `parent`, with that state and id."""
    at = timestamps.parse(signed.record["at"]) // 1000
    if parent is None:
        return Commit(oid, tree, None, at, signed, 0, next_digest(None, signed))
    committed = max(at, parent.committed)
    digest = next_digest(parent.digest, signed)
    return Commit(oid, tree, parent.oid, committed, signed, parent.seq + 1, digest)


def render_commit(parent: Commit | None, tree: str, signed: Signed, alg: str) -> bytes:
    """The content of the one commit that puts `signed` on `parent`, with that state."""
    r = signed.record
    at = timestamps.parse(r["at"]) // 1000
    made = successor("", parent, tree, signed)
    who = f"{r['agent']}/{r['session']} <{r['agent']}@{r['ledger']}>"
    above = f"parent {parent.oid}\n" if parent else ""
    tag = b2a_base64(signed.tag, newline=False).decode("ascii")
    text = f"""tree {tree}
{above}author {who} {at} +0000
committer {who} {made.committed} +0000

{records.subject(r)}

{signed.payload.decode("ascii")}

Coordledger-Signature: {alg} {r["agent"]}/{r["key"]} {tag}
Coordledger-Seq: {made.seq}
Coordledger-Digest: {made.digest}
"""
    return text.encode("ascii")


def envelope(content: bytes, above: str | None, tree: str) -> bytes:
    """The commit `content` on another parent or on none, with another tree: to send its record
    to who puts it into its place, and to need nothing else there.
    """
    _, _, rest = content.partition(b"\nauthor ")
    parent = f"parent {above}\n" if above else ""
    return f"tree {tree}\n{parent}author ".encode("ascii") + rest


def parse_commit(oid: str, content: bytes) -> Commit:
    """What `render` would have to have been given, out of the bytes of a commit.

    Raises `RuleBroken`: bad-commit, too-large, and those of `canonical` and `records`.
    """
    return _parse(oid, content, lambda payload: records.check(canonical.decode(payload)))


def recall_commit(oid: str, content: bytes) -> Commit:
    """The same of a commit below a head that the caller trusts: `content` is known to be that
    of `oid`, and was judged when it got there. In half the time of `parse`.

    Raises `RuleBroken`: bad-commit, too-large, bad-signature.
    """
    return _parse(oid, content, _record_of)


def _record_of(payload: bytes) -> Record:
    record = canonical.read(payload)
    if not isinstance(record, dict) or not {"agent", "key", "op"} <= record.keys():
        raise ValueError("no record")
    return record


def _parse(oid: str, content: bytes, record_of: Callable[[bytes], Record]) -> Commit:
    if len(content) > MAX_COMMIT_BYTES:
        raise RuleBroken("too-large", what="the commit", size=len(content), limit=MAX_COMMIT_BYTES)
    try:
        head, _subject, payload, trailers = content.split(b"\n\n")
        lines = head.decode("ascii").split("\n")
        tree = lines[0].removeprefix("tree ")
        above = lines[1].removeprefix("parent ") if lines[1].startswith("parent ") else None
        committed = int(lines[-1].split(" ")[-2])
        signature, seq, digest = (line.split(b": ")[1] for line in trailers.splitlines())
        tag = a2b_base64(signature.split(b" ")[2], strict_mode=True)
        number = int(seq)
        digest_text = digest.decode("ascii")
        bytes.fromhex(digest_text)
        record = record_of(payload)
    except (ValueError, IndexError, RecursionError):
        raise RuleBroken("bad-commit", why="it has not the form of a record's commit") from None
    if len(tag) != TAG_BYTES:  # who has no secret sees that much
        raise RuleBroken("bad-signature", agent=record["agent"], key=record["key"])
    signed = Signed(payload, record, tag)
    return Commit(oid, tree, above, committed, signed, number, digest_text)
