"""A signed record <-> its one commit (docs/format.md, section 6).

Rules: `successor` decides everything about a commit, and `render_commit` is the only builder
of its bytes (`envelope` changes them for the way to a server that renders them again).
`parse_commit` takes a commit's bytes apart and checks no more than it needs for that: a
verifier renders what was parsed and compares the bytes. Rebuild, don't inspect.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64  # base64 around them imports re

from coordledger.errors import RuleBroken
from coordledger.format import canonical, records, timestamps
from coordledger.format.signing import Signed
from coordledger.hashes import digest, is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.records import Record

MAX_COMMIT_BYTES = 262_144
FIRST_DIGEST = bytes(32)


class Commit:
    """One commit of a chain, taken apart.

    It says nothing about whether it is valid: that is known where it was judged.
    """

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
        """`oid`, `tree`, `parent`: object ids. `committed`: the committer's date in seconds
        since 1970. `digest`: the chain's, up to this record.
        """
        self.oid, self.tree, self.parent = oid, tree, parent
        self.committed, self.signed, self.seq, self.digest = committed, signed, seq, digest

    @property
    def record(self) -> Record:
        return self.signed.record


def next_digest(before: str | None, signed: Signed) -> str:
    """The chain's digest after a record; `before` is None ahead of the genesis record."""
    start = bytes.fromhex(before) if before else FIRST_DIGEST
    return digest("sha256", start + signed.payload + b"\n" + signed.tag).hex()


def successor(parent: Commit | None, tree: str, signed: Signed) -> Commit:
    """The commit that puts `signed` on `parent`, with that state.

    Its `oid` is empty: the bytes that `render_commit` makes of it decide that.
    """
    at = _seconds(signed.record)
    if parent is None:
        return Commit("", tree, None, at, signed, 0, next_digest(None, signed))
    committed = max(at, parent.committed)
    digest = next_digest(parent.digest, signed)
    return Commit("", tree, parent.oid, committed, signed, parent.seq + 1, digest)


def _seconds(record: Record) -> int:
    return timestamps.parse(record["at"]) // 1000


def render_commit(commit: Commit, alg: str) -> bytes:
    """The content of a commit that `successor` made; `alg` is that of the signer's key."""
    signed, record = commit.signed, commit.record
    agent, key = record["agent"], record["key"]
    who = f"{agent}/{record['session']} <{agent}@{record['ledger']}>"
    parent = f"parent {commit.parent}\n" if commit.parent else ""
    tag = b2a_base64(signed.tag, newline=False).decode("ascii")
    text = f"""tree {commit.tree}
{parent}author {who} {_seconds(record)} +0000
committer {who} {commit.committed} +0000

{records.subject(record)}

{signed.payload.decode("ascii")}

Coordledger-Signature: {alg} {agent}/{key} {tag}
Coordledger-Seq: {commit.seq}
Coordledger-Digest: {commit.digest}
"""
    return text.encode("ascii")


def envelope(content: bytes, parent: str | None, tree: str) -> bytes:
    """The commit `content` on another parent or on none, with another tree.

    It takes the record to a server that puts it into its place itself, and that therefore
    needs nothing else of the sender's.
    """
    _, _, rest = content.partition(b"\nauthor ")
    line = f"parent {parent}\n" if parent else ""
    return f"tree {tree}\n{line}author ".encode("ascii") + rest


def parse_commit(oid: str, content: bytes) -> Commit:
    """The commit that `render_commit` would have to be given to make these bytes.

    Raises `RuleBroken`: bad-commit, too-large, and those of `canonical.decode` and
    `records.check`.
    """
    return _parse(oid, content, lambda payload: records.check(canonical.decode(payload)))


def recall_commit(oid: str, content: bytes) -> Commit:
    """The same in half the time, of a commit that was judged before.

    For commits below a head that the caller trusts: `content` is known to be that of `oid`.
    Raises `RuleBroken`: bad-commit, too-large.
    """
    return _parse(oid, content, _trusted_record)


def recall_record(oid: str, content: bytes) -> tuple[str | None, int, Record]:
    """Parent, seq and record of a commit, as `recall_commit` has them, in half of its time."""
    try:
        head, _subject, payload, trailers = content.split(b"\n\n")
        second = head.split(b"\n", 2)[1]
        parent = second[7:].decode("ascii") if second.startswith(b"parent ") else None
        seq = int(trailers.split(b"\nCoordledger-Seq: ", 1)[1].split(b"\n", 1)[0])
        return parent, seq, _trusted_record(payload)
    except (ValueError, IndexError, RecursionError):
        raise RuleBroken("bad-commit", why="it has not the form of a record's commit") from None


def _trusted_record(payload: bytes) -> Record:
    record = canonical.read(payload)
    if not isinstance(record, dict) or not {"agent", "key", "op"} <= record.keys():
        raise ValueError("no record")
    return record


def _parse(oid: str, content: bytes, read: Callable[[bytes], Record]) -> Commit:
    if len(content) > MAX_COMMIT_BYTES:
        raise RuleBroken("too-large", what="the commit", size=len(content), limit=MAX_COMMIT_BYTES)
    try:
        head, _subject, payload, trailers = content.split(b"\n\n")
        lines = head.decode("ascii").split("\n")
        tree = lines[0].removeprefix("tree ")
        parent = lines[1].removeprefix("parent ") if lines[1].startswith("parent ") else None
        committed = int(lines[-1].split(" ")[-2])
        signature, seq, digest = (line.split(b": ")[1] for line in trailers.splitlines())
        tag = a2b_base64(signature.split(b" ")[2], strict_mode=True)
        number = int(seq)
        digest_text = digest.decode("ascii")
        if not is_hex(digest_text.lower(), 64):  # a shallow copy shows it on trust
            raise ValueError("no digest")
        record = read(payload)
    except (ValueError, IndexError, RecursionError):
        raise RuleBroken("bad-commit", why="it has not the form of a record's commit") from None
    signed = Signed(payload, record, tag)
    return Commit(oid, tree, parent, committed, signed, number, digest_text)
