"""Hostile values, and the chain of tests/vectors to be hostile to."""

from __future__ import annotations

import functools
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.second_reader import Reader

from coordledger.format import signing
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring, Secret
from coordledger.server.mark import Marks

if TYPE_CHECKING:
    from coordledger.format.commit import Commit

VECTORS = Path(__file__).parents[1] / "vectors"

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;aGk=\x07"
BIDI = "\u202eevil\u2066\u2069\u200f\u061c"
# What somebody may have written, and what must never reach a terminal as it is.
TEXTS = {
    "escape sequences": ESCAPES,
    "bidi": BIDI,
    "C1": "\x9b31m\x85\x90",
    "NUL and carriage return": "a\0b\rwon a  epoch 1\x08\x7f",
    "separators of lines": "a\u2028won a\u2029won b\x0b\x0c\x1c\x1d\x1e",
    "invisible": "\u200b\u200d\ufeff\u00ad\U000e0041\ufff9",
    "a line that looks like one of ours": "x\nwon everything  epoch 1\n\x1b[1A",
    "markup": "[red]x[/red] [link=file:///etc/passwd]y[/link] :boom:",
    "plain": "naïve ☃ \U0001f600",
}


def is_harmless(text: str) -> bool:
    """Printable, and no character that turns the direction of writing; line ends alone pass."""
    turns = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    return all(line.isprintable() and not turns & set(line) for line in text.split("\n"))


@functools.cache
def chain(name: str = "chain") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / "valid" / f"{name}.json").read_text())
    return found


def in_bytes(lines: list[Any]) -> bytes:
    """The commit of a vector, as tests/vectors/README.md says."""
    texts = [
        line
        if isinstance(line, str)
        else "".join(piece if isinstance(piece, str) else piece[0] * piece[1] for piece in line)
        for line in lines
    ]
    return "\n".join(texts).encode("latin-1")


@functools.cache
def log(algo: str = "sha1") -> list[tuple[str, bytes]]:
    """The valid chain: id and bytes of each commit."""
    return [(row[algo]["oid"], in_bytes(row[algo]["commit"])) for row in chain()["records"]]


@functools.cache
def malformed() -> dict[str, dict[str, Any]]:
    paths = sorted((VECTORS / "malformed").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in paths}


def keyring() -> Keyring:
    secrets: dict[str, list[Secret]] = {}
    for name, line in chain()["secrets"].items():
        secrets.setdefault(name.split("/")[0], []).append(Secret(line))
    return Keyring([], lambda agent: secrets.get(agent, []))


def secret_of(nonce: str, agent: str, key: int, fingerprint: str) -> bytes | None:
    """The secrets of the chain, as the second reader asks for them."""
    line = chain()["secrets"].get(f"{agent}/{key}")
    return line.encode("ascii") if line else None


@functools.cache
def objects() -> dict[str, bytes]:
    """All objects of the valid chain in SHA-1: kind is not needed, ids are unique."""
    return {oid: content for oid, (_, content) in written().items()}


@functools.cache
def written() -> dict[str, tuple[str, bytes]]:
    found: dict[str, tuple[str, bytes]] = {}
    reader = Chain(lambda oid: found[oid][1], keyring(), None, "sha1")
    for oid, content in log():
        proposal = reader.propose(parse_commit(oid, content).signed)
        assert proposal.commit.oid == oid
        found |= proposal.objects
        reader.advance(proposal)
    return found


def readers_after(count: int, voids: int = 0) -> tuple[Chain, Reader]:
    """Both implementations after `count` records of the valid chain, and then some voids."""
    head = parse_commit(*log()[count - 1]) if count else None
    ours = Chain(objects().__getitem__, keyring(), head, "sha1")
    theirs: Reader = pickle.loads(_second_readers()[count])
    for _ in range(voids):
        proposal = ours.propose(void_on(ours))
        theirs.step(proposal.content)
        ours.advance(proposal)
    return ours, theirs


@functools.cache
def _second_readers() -> list[bytes]:
    """The second reader after each number of records: it reads the chain once, and who takes one
    of these out has it alone.
    """
    reader = Reader(secret_of)
    found = [pickle.dumps(reader)]
    for _, content in log():
        reader.step(content)
        found.append(pickle.dumps(reader))
    return found


def void_on(reader: Chain) -> signing.Signed:
    head = reader.head
    assert head
    record = {
        "v": 1,
        "ledger": head.record["ledger"],
        "at": head.record["at"],
        "agent": "alice",
        "key": 1,
        "session": "s1",
        "op": f"{head.seq + 1:032x}",
        "base": {"digest": head.digest, "seq": head.seq},
        "kind": "void",
    }
    return signing.sign(record, Secret(chain()["secrets"]["alice/1"]))


class NoMarks(Marks):
    """All that is in the ledger counts as verified, and nothing is kept."""

    def __init__(self) -> None:
        pass

    def need(self, name: str, oid: str) -> None:
        pass

    def keep(self, name: str, old: Commit, new: Commit) -> None:
        pass
