"""A proof that a commit of the code came to a ref under a claim (docs/proof.md).

Rules: `judge` has no rule of its own about records: it steps along them with `Chain`, as every
other reader does, and says what stands there. The file comes from anybody, so it is bounded before
it is taken apart, is inflated piece by piece, and of the states only the newest is kept. No I/O, no
clock: what is trusted, and how long it may take, is the caller's, who sees each record (`seen`).

`encode` believes its caller: what it is given was verified.
"""

from __future__ import annotations

import zlib
from binascii import a2b_base64, b2a_base64
from typing import NamedTuple

from coordledger.errors import RuleBroken
from coordledger.format import canonical, fields, records
from coordledger.format.chain import UNVERIFIED, Chain
from coordledger.format.signing import Signed
from coordledger.git.scratch import Scratch
from coordledger.git.tree import object_id
from coordledger.hashes import digest, is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.signing import Keyring

    _Key = tuple[str, int]  # agent and number

VERSION = 1
MAX_BYTES = 33_554_432
MAX_RECORD = canonical.MAX_BYTES + 65
MAX_RECORDS = 268_435_456
MAX_PATH = 16_777_216
MAX_STATE = 268_435_456
_ALGORITHMS = {40: "sha1", 64: "sha256"}
_CHUNK = 65_536
# The quotation marks of the one form that there is: six names, four texts without any.
_QUOTES = 20


class Proof(NamedTuple):
    """A file, taken apart as far as that can be done at once; items are inflated when asked for."""

    commit: str
    land: int
    records: str
    path: str

    @property
    def algo(self) -> str:
        """The object format of the repository."""
        return _ALGORITHMS[len(self.commit)]

    def signed(self) -> Iterator[tuple[bytes, bytes]]:
        """Payload and tag of each record."""
        for item in _items(self.records, MAX_RECORD, MAX_RECORDS):
            payload, newline, tag = item.partition(b"\n")
            if not newline:
                raise bad("a record has no tag")
            yield payload, tag


class Authority(NamedTuple):
    """A key as the ledger lists it, and the seq of the record that brought it."""

    agent: str
    key: int
    alg: str
    verifier: str
    seq: int


class Judged(NamedTuple):
    """What a proof shows. `landing` is its record; `task` is the line that the task had before it,
    with the claim; `keys`: the key that has signed it, then who has enrolled the one before, up to
    the owner's first; `unchecked`: how many records no key was here for, and `first` of them;
    `distance` is how many parents lie between `new` and the commit; `last` is the newest record.
    """

    landing: Commit
    task: Record
    keys: list[Authority]
    distance: int
    last: Commit
    unchecked: int
    first: Commit | None


def bad(why: object) -> RuleBroken:
    return RuleBroken("bad-proof", why=why)


# -- bytes


def encode(
    commit: str, land: int, signed: Iterable[tuple[bytes, bytes]], path: Iterable[bytes]
) -> bytes:
    """The file. Raises `RuleBroken`: proof-too-large."""
    members: Record = {
        "proof": VERSION,
        "commit": commit,
        "land": land,
        "records": _packed((b"%s\n%s" % one for one in signed), MAX_RECORDS),
        "path": _packed(path, MAX_PATH),
    }
    data = canonical.encode(members | {"sha256": _checksum(members)}) + b"\n"
    if len(data) > MAX_BYTES:
        raise RuleBroken("proof-too-large", limit=MAX_BYTES)
    return data


def _checksum(members: Record) -> str:
    return digest("sha256", canonical.encode(members)).hex()


def _packed(items: Iterable[bytes], limit: int) -> str:
    deflating, size, packed = zlib.compressobj(9), 0, bytearray()
    for item in items:
        size += 4 + len(item)
        packed += deflating.compress(len(item).to_bytes(4, "big") + item)
        if size > limit or len(packed) > MAX_BYTES:
            raise RuleBroken("proof-too-large", limit=min(limit, MAX_BYTES))
    return b2a_base64(packed + deflating.flush(), newline=False).decode("ascii")


def decode(data: bytes) -> Proof:
    """The proof in a file's bytes; nothing of it is verified but their checksum.

    Raises `RuleBroken`: bad-proof, newer-version.
    """
    if len(data) > MAX_BYTES:
        raise bad(f"it has more than {MAX_BYTES} bytes")
    # Before it is parsed: what is nested, or has many values, is none, and may take much memory.
    if data.count(b"{") != 1 or b"[" in data or data.count(b'"') > _QUOTES:
        raise bad("the file is no proof")
    if not data.endswith(b"}\n"):
        raise bad("the file is no proof, or it was cut off")
    try:
        members = canonical.decode(data[:-1], MAX_BYTES)
    except RuleBroken as broken:
        raise bad(broken) from None
    if fields.is_integer(members.get("proof"), VERSION + 1):
        raise RuleBroken("newer-version", what=f"proof {members['proof']}")
    _check(members)
    told = members.pop("sha256")
    if told != _checksum(members):
        raise bad("it was damaged: its checksum is another")
    return Proof(members["commit"], members["land"], members["records"], members["path"])


def _check(members: dict[str, Any]) -> None:
    texts = ("commit", "path", "records", "sha256")
    if sorted(members) != ["commit", "land", "path", "proof", "records", "sha256"] or not all(
        isinstance(members[name], str) for name in texts
    ):
        raise bad("the file is no proof")
    if not fields.is_integer(members["proof"], VERSION):
        raise bad("its version is none")
    if not is_hex(members["commit"], *_ALGORITHMS) or not members["commit"].strip("0"):
        raise bad("its commit is no object id")
    if wrong := fields.count(members["land"]):
        raise bad(f"land: {wrong}")


def _items(text: str, most_each: int, most: int) -> Iterator[bytes]:
    """Raises `RuleBroken`: bad-proof."""
    waiting, size = bytearray(), 0
    for chunk in _inflated(text):
        waiting += chunk
        size += len(chunk)
        if size > most:
            raise bad("it is too large")
        while len(waiting) >= 4:
            end = 4 + int.from_bytes(waiting[:4], "big")
            if end > 4 + most_each:
                raise bad("a part of it is too large")
            if len(waiting) < end:
                break
            yield bytes(waiting[4:end])
            del waiting[:end]
    if waiting:
        raise bad("a part of it is cut off")


def _inflated(text: str) -> Iterator[bytes]:
    inflating = zlib.decompressobj()
    try:
        left = a2b_base64(text, strict_mode=True)
        while not inflating.eof:
            chunk = inflating.decompress(left, _CHUNK)
            left = inflating.unconsumed_tail
            if not chunk and not left and not inflating.eof:
                raise ValueError("cut off")
            yield chunk
    except (ValueError, zlib.error):
        raise bad("a part of it is damaged") from None
    if inflating.unused_data:
        raise bad("something follows a part of it")


# -- what it shows


def judge(proof: Proof, keyring: Keyring, seen: Callable[[Commit], None]) -> Judged:
    """What the proof shows, with the secrets of `keyring`; `seen` is called with each record, once
    it is verified as far as that can be, and may raise.

    Raises `RuleBroken`: bad-proof, newer-version.
    """
    walk = _Walk(proof, keyring)
    for payload, tag in proof.signed():
        seen(walk.step(payload, tag))
    landing, last = walk.landing, walk.chain.head
    if landing is None or last is None:
        raise bad("it ends before its land record")
    if landing.record["kind"] != "land":
        raise bad(f"record {proof.land} is no land record")
    path = _items(proof.path, MAX_PATH, MAX_PATH)
    distance = _follow(landing.record["new"], path, proof.commit)
    keys = list(walk.authorities(landing))
    return Judged(landing, walk.task, keys, distance, last, walk.unchecked, walk.first)


class _Walk:
    """From the first record to the newest."""

    def __init__(self, proof: Proof, keyring: Keyring) -> None:
        self._land, self._objects = proof.land, Scratch(proof.algo)
        self.chain = Chain(self._objects.read, keyring, None, proof.algo)
        self.landing: Commit | None = None
        self.task: Record = {}
        self.unchecked = 0
        self.first: Commit | None = None
        # By agent and number: the seq and the signer of the record that brought the key.
        self._brought: dict[_Key, tuple[int, _Key, str, str]] = {}

    def step(self, payload: bytes, tag: bytes) -> Commit:
        """Verify the next record and step onto it."""
        seq, before = self.chain.next_seq, self.chain.state
        try:
            record = records.check(canonical.decode(payload))
            verdict, proposal = self.chain.check(Signed(payload, record, tag))
        except RuleBroken as broken:
            if broken.code == "newer-version":
                raise
            raise bad(f"record {seq}: {broken}") from None
        except ValueError:
            raise bad(f"record {seq}: its state is not one of a ledger") from None
        commit = proposal.commit
        if seq == self._land:
            self.landing = commit
            self.task = (before.task(record["task"]) or {}) if record["kind"] == "land" else {}
        if verdict == UNVERIFIED:
            self.unchecked += 1
            self.first = self.first or commit
        self._note_key(seq, record)
        self.chain.advance(proposal)
        self._objects.step(proposal.objects, proposal.tree.root)
        if self._objects.live > MAX_STATE:
            raise bad("its state is too large")
        return commit

    def _note_key(self, seq: int, record: Record) -> None:
        signer = record["agent"], record["key"]
        if record["kind"] in ("genesis", "enroll"):
            brought = signer if seq == 0 else (record["who"], record["id"])
            self._brought[brought] = seq, signer, record["alg"], record["verifier"]

    def authorities(self, landing: Commit) -> Iterator[Authority]:
        """The key of the landing, and who has vouched for it, up to the first."""
        signer = landing.record["agent"], landing.record["key"]
        while True:
            seq, by, alg, verifier = self._brought[signer]
            yield Authority(*signer, alg, verifier, seq)
            if by == signer:
                return
            signer = by


def _follow(new: str, path: Iterable[bytes], commit: str) -> int:
    """How many objects lead from the one with the id `new` to `commit`: each is what its id says,
    and names the next one. Raises `RuleBroken`: bad-proof.
    """
    expected, algo, distance = {new}, _ALGORITHMS[len(commit)], 0
    for content in path:
        ids = {object_id(kind, content, algo): kind for kind in ("commit", "tag")}
        here = expected.intersection(ids)
        if not here:
            raise bad("the way from the ref's new value to the commit is broken")
        expected = _named(ids[here.pop()], content)
        distance += 1
    if commit not in expected:
        raise bad("the ref's new value does not lead to the commit")
    return distance


def _named(kind: str, content: bytes) -> set[str]:
    """What an object builds on, where git looks for it: a commit's parents, what a tag is of."""
    first, *lines = content.partition(b"\n\n")[0].split(b"\n")
    if kind == "tag":
        good = first.startswith(b"object ") and lines[:1] in ([b"type commit"], [b"type tag"])
        return {_text(first)} if good else set()
    parents: set[str] = set()
    for line in lines if first.startswith(b"tree ") else ():
        if not line.startswith(b"parent "):
            break
        parents.add(_text(line))
    return parents


def _text(line: bytes) -> str:
    """The id in a line of an object."""
    return line.partition(b" ")[2].decode("ascii", "replace")
