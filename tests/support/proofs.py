"""Proofs of ledgers in memory, and what an attacker makes of them."""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from support.memory_ledger import MemoryLedger

from coordledger.errors import RuleBroken
from coordledger.format import proof
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from coordledger.format.commit import Commit

ALL_SSH = ("alice/1", "bob/1", "carol/1")
WHO = b"Bob <bob@example.com> 1790000000 +0000"


class Code:
    """A line of commits of code; `tip` is the newest."""

    def __init__(self, algo: str, length: int = 4) -> None:
        self.algo, self.contents, self.line = algo, {}, []  # type: ignore[var-annotated]
        self.none = "0" * (40 if algo == "sha1" else 64)
        for number in range(length):
            self.line.append(self.commit(f"commit {number}", *self.line[-1:]))

    @property
    def tip(self) -> str:
        return str(self.line[-1])

    def commit(self, text: str, *parents: str, more: str = "") -> str:
        """Another commit, on no line; `more` are lines after its committer."""
        tree = object_id("tree", b"", self.algo)
        above = "".join(f"parent {parent}\n" for parent in parents)
        head = f"tree {tree}\n{above}".encode() + b"author %s\ncommitter %s\n" % (WHO, WHO)
        content = head + f"{more}\n{text}\n".encode()
        oid = object_id("commit", content, self.algo)
        self.contents[oid] = content
        return oid


def ledger_with(algo: str, ssh: Container[str] = ALL_SSH) -> tuple[MemoryLedger, Code]:
    """alice's ledger: she enrols bob and carol, bob claims `work` and lands some code."""
    code = Code(algo)
    ledger = MemoryLedger("bob", "carol", algo=algo, ssh=ssh)
    ledger.put("bob", "claim", tasks=["work"])
    ledger.put("bob", "land", task="work", ref="refs/heads/main", old=code.none, new=code.tip)
    return ledger, code


def proof_of(
    ledger: MemoryLedger,
    commit: str,
    new: str,
    path: Iterable[bytes] = (),
    *,
    land: int = 4,
    last: int | None = None,
) -> bytes:
    """The file that says that `commit` came with `new`, by record `land`."""
    commits = [parse_commit(*one).signed for one in ledger.log[: None if last is None else last]]
    return proof.encode(commit, land, [(one.payload, one.tag) for one in commits], path)


def changed(data: bytes, **members: Any) -> bytes:
    """The file with other members (None: without), as they are."""
    value = json.loads(data) | members
    value = {name: one for name, one in value.items() if one is not None}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def resealed(data: bytes, items: Callable[[bytes], bytes] | None = None, **members: Any) -> bytes:
    """As `changed`, with the checksum that fits; `items` makes its zlib out of the records."""
    if items:
        raw = zlib.decompress(b64decode(json.loads(data)["records"]))
        members["records"] = b64encode(items(raw)).decode()
    value = json.loads(changed(data, **members, sha256=None))
    text = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return changed(data, **members, sha256=hashlib.sha256(text).hexdigest())


def with_records(data: bytes, records: list[bytes], **members: Any) -> bytes:
    """The file with other records, each payload, line end, tag."""
    raw = b"".join(len(one).to_bytes(4, "big") + one for one in records)
    return resealed(data, items=lambda _: zlib.compress(raw), **members)


def records_in(data: bytes) -> list[bytes]:
    raw, found = zlib.decompress(b64decode(json.loads(data)["records"])), []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "big")
        found.append(raw[4:end])
        raw = raw[end:]
    return found


def _nothing(commit: Commit) -> None:
    pass


def refusal(data: bytes, seen: Callable[[Commit], None] = _nothing) -> str:
    """The slug with which a proof is refused, or "" if it holds."""
    try:
        proof.judge(proof.decode(data), Keyring(), seen)
    except RuleBroken as broken:
        assert str(broken).isprintable()
        assert len(str(broken)) < 400
        return broken.code
    return ""
