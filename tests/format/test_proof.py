"""Proofs in memory: what holds, what the file's form refuses, what is bounded."""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_ledger import MASTER, MemoryLedger
from support.proofs import ALL_SSH, Code, changed, ledger_with, proof_of, refusal, resealed

from coordledger.errors import RuleBroken
from coordledger.format import proof
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring
from coordledger.git.scratch import Scratch
from coordledger.git.tree import Tree, object_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.commit import Commit
    from coordledger.format.proof import Judged


def nobody(commit: Commit) -> None:
    pass


def judged(data: bytes, *secrets: Any) -> Judged:
    ring = Keyring(secrets, lambda agent: secrets)
    return proof.judge(proof.decode(data), ring, nobody)


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_a_proof_shows_landing_claim_and_keys_and_nothing_is_left_unchecked(algo: str) -> None:
    ledger, code = ledger_with(algo)
    found = judged(proof_of(ledger, code.tip, code.tip))
    assert found.landing.record["new"] == code.tip
    assert (found.landing.seq, found.landing.oid) == (4, ledger.log[4][0])
    assert (found.task["agent"], found.task["claim_seq"]) == ("bob", 3)
    assert [(key.agent, key.key, key.seq) for key in found.keys] == [("bob", 1, 1), ("alice", 1, 0)]
    assert (found.unchecked, found.first, found.distance) == (0, None, 0)
    assert found.last.digest == ledger.head.digest


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_an_ancestor_is_shown_by_the_commits_on_the_way(algo: str) -> None:
    ledger, code = ledger_with(algo)
    for distance, oid in enumerate(reversed(code.line)):
        path = [code.contents[one] for one in reversed(code.line[len(code.line) - distance :])]
        assert judged(proof_of(ledger, oid, code.tip, path)).distance == distance


def test_secrets_check_what_secrets_have_signed_and_their_lack_is_counted() -> None:
    ledger, code = ledger_with("sha1", ssh=())
    data = proof_of(ledger, code.tip, code.tip)
    found = judged(data)
    assert (found.unchecked, found.first and found.first.seq) == (5, 0)
    assert judged(data, MASTER).unchecked == 0
    some = judged(data, ledger.secret("bob"))
    assert (some.unchecked, some.first and some.first.seq) == (3, 0)


def test_a_mixed_ledger_is_checked_as_far_as_there_are_keys() -> None:
    ledger, code = ledger_with("sha1", ssh=("bob/1",))
    assert judged(proof_of(ledger, code.tip, code.tip)).unchecked == 3


def test_what_was_delegated_is_traced_over_the_name_above() -> None:
    ledger, code = ledger_with("sha1", ssh=(*ALL_SSH, "bob.x/1"))
    ledger.put("bob", "enroll", who="bob.x")
    ledger.put("bob.x", "claim", tasks=["more"])
    ledger.put("bob.x", "land", task="more", ref="refs/heads/x", old=code.none, new=code.tip)
    found = judged(proof_of(ledger, code.tip, code.tip, land=len(ledger.log) - 1))
    names = [(key.agent, key.key, key.seq) for key in found.keys]
    assert names == [("bob.x", 1, 5), ("bob", 1, 1), ("alice", 1, 0)]


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:-20],
    "without its end": lambda data: data[:-1],
    "with another end": lambda data: data[:-1] + b"\r\n",
    "with another last byte": lambda data: data[:-1] + b"x",
    "twice": lambda data: data + data,
    "with spaces": lambda data: data.replace(b",", b", ", 1),
    "foreign": lambda data: b'{"name":"x"}\n',
    "a list": lambda data: b"[" + data[:-1] + b"]\n",
    "nested": lambda data: b"[" * 1_000_000 + b"]" * 1_000_000 + b"\n",
    "nested objects": lambda data: b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000 + b"\n",
    "a number": lambda data: b"1" * 1_000_000 + b"}\n",
    "a name twice": lambda data: data.replace(b'"land":4,', b'"land":4,"land":4,'),
    "binary": lambda data: bytes(range(256)) * 100,
    "huge": lambda data: b" " * (proof.MAX_BYTES + 1),
    "no checksum": lambda data: changed(data, sha256=None),
    "wrong checksum": lambda data: changed(data, sha256="0" * 64),
    "a member more": lambda data: resealed(data, more=1),
    "a member less": lambda data: resealed(data, path=None),
    "no number": lambda data: resealed(data, land="4"),
    "true": lambda data: resealed(data, land=True),
    "below zero": lambda data: resealed(data, land=-1),
    "version 0": lambda data: resealed(data, proof=0),
    "version true": lambda data: resealed(data, proof=True),
    "no id": lambda data: resealed(data, commit="x" * 40),
    "a short id": lambda data: resealed(data, commit="a" * 39),
    "no commit": lambda data: resealed(data, commit="0" * 40),
    "no base64": lambda data: resealed(data, records="*"),
    "no zlib": lambda data: resealed(data, records="AAAA"),
    "nothing": lambda data: resealed(data, records=""),
    "something after": lambda data: resealed(data, items=lambda raw: zlib.compress(raw) + b"x"),
    "zlib cut off": lambda data: resealed(data, items=lambda raw: zlib.compress(raw)[:-1]),
    "an item cut off": lambda data: resealed(data, items=lambda raw: zlib.compress(raw[:-1])),
    "a length cut off": lambda data: resealed(data, items=lambda raw: zlib.compress(raw + b"\0")),
    "no tag": lambda data: resealed(data, items=lambda raw: zlib.compress(b"\0\0\0\1x")),
    "an item too large": lambda data: resealed(
        data, items=lambda raw: zlib.compress(b"\x7f\xff\xff\xff")
    ),
    "no records": lambda data: resealed(data, items=lambda raw: zlib.compress(b"")),
    "a bomb": lambda data: resealed(data, items=lambda raw: zlib.compress(b"\0" * 50_000_000)),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_has_not_the_one_form_does_not_hold(form: str) -> None:
    ledger, code = ledger_with("sha1")
    assert refusal(FORMS[form](proof_of(ledger, code.tip, code.tip))) == "bad-proof"


def test_a_proof_of_a_newer_version_is_said_to_be_one() -> None:
    ledger, code = ledger_with("sha1")
    assert refusal(resealed(proof_of(ledger, code.tip, code.tip), proof=2)) == "newer-version"


def test_a_bomb_in_the_path_ends_at_its_bound() -> None:
    ledger, code = ledger_with("sha1")
    size = proof.MAX_PATH + 1
    bomb = zlib.compress(size.to_bytes(4, "big") + b"\0" * size)
    data = resealed(proof_of(ledger, code.tip, code.tip), path=b64encode(bomb).decode())
    assert refusal(data) == "bad-proof"


def test_the_page_and_the_code_have_the_same_bounds() -> None:
    from pathlib import Path

    page = Path(__file__).parents[2].joinpath("docs/proof.md").read_text("utf-8")
    bounds = (proof.MAX_BYTES, proof.MAX_RECORD, proof.MAX_RECORDS, proof.MAX_PATH, proof.MAX_STATE)
    assert [f"{bound:,}" for bound in bounds if f"{bound:,}" not in page] == []


def test_the_page_is_enough_to_take_a_proof_apart() -> None:
    """With nothing but the standard library, as another implementation would."""
    ledger, code = ledger_with("sha1")
    path = [code.contents[oid] for oid in reversed(code.line[1:])]
    data = proof_of(ledger, code.line[0], code.tip, path)
    members = json.loads(data)
    told = members.pop("sha256")
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(canonical).hexdigest() == told

    def items(text: str) -> list[bytes]:
        raw, found = zlib.decompress(b64decode(text)), []
        while raw:
            size = int.from_bytes(raw[:4], "big")
            found.append(raw[4 : 4 + size])
            raw = raw[4 + size :]
        return found

    assert members["proof"] == 1
    assert items(members["path"]) == path
    digest = bytes(32)
    for item in items(members["records"]):
        payload, _, tag = item.partition(b"\n")
        digest = hashlib.sha256(digest + payload + b"\n" + tag).digest()
    assert digest.hex() == ledger.head.digest
    new = json.loads(payload)["new"]
    for content in path:
        assert hashlib.sha1(b"commit %d\0%s" % (len(content), content)).hexdigest() == new
        new = content.split(b"\n")[1].removeprefix(b"parent ").decode()
    assert new == members["commit"]


def test_a_proof_that_would_be_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, code = ledger_with("sha1")
    for bound in ("MAX_BYTES", "MAX_RECORDS", "MAX_PATH"):
        with monkeypatch.context() as patch:
            patch.setattr(proof, bound, 200)
            with pytest.raises(RuleBroken) as broken:
                proof_of(ledger, code.line[0], code.tip, [b"x" * 300])
            assert broken.value.code == "proof-too-large"


def test_the_sum_of_the_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, code = ledger_with("sha1")
    path = [code.contents[oid] for oid in reversed(code.line[1:])]
    data = proof_of(ledger, code.line[0], code.tip, path)
    assert refusal(data) == ""
    for bound, size in (("MAX_PATH", len(path[0]) + 10), ("MAX_RECORDS", 2000)):
        with monkeypatch.context() as patch:
            patch.setattr(proof, bound, size)
            assert refusal(data) == "bad-proof"


def test_a_part_is_not_waited_for_that_says_it_is_too_large() -> None:
    told = b64encode(zlib.compress(b"\0\0\0\x0b")).decode()
    with pytest.raises(RuleBroken, match="too large"):
        list(proof._items(told, 10, 100))


def test_a_state_that_is_too_large_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, code = ledger_with("sha1")
    data = proof_of(ledger, code.tip, code.tip)
    monkeypatch.setattr(proof, "MAX_STATE", 100)
    monkeypatch.setattr(proof, "Scratch", lambda algo: Scratch(algo, slack=0))
    assert refusal(data) == "bad-proof"


def test_what_is_kept_of_a_long_chain_is_no_more_than_a_few_states() -> None:
    scratch, tree = Scratch("sha1", slack=1000), None
    tree = Tree(scratch.read, None, "sha1")
    most = 0
    for number in range(300):
        tree = tree.update({f"tasks/{number % 7}.jsonl": b"%d\n" % number * 20})
        scratch.step(tree.objects, tree.root)
        most = max(most, scratch._size)
    assert most < 10_000
    for number in range(293, 300):
        fresh = Tree(scratch.read, tree.root, "sha1")
        assert fresh.get(f"tasks/{number % 7}.jsonl") == b"%d\n" % number * 20


def test_a_chain_in_scratch_is_the_chain_of_the_repository() -> None:
    ledger = MemoryLedger("bob", ssh=ALL_SSH)
    for number in range(50):
        ledger.put("bob", "claim", tasks=[f"t{number}"])
    scratch = Scratch("sha1", slack=0)
    chain = Chain(scratch.read, Keyring(), None, "sha1")
    for oid, content in ledger.log:
        _, proposal = chain.check(parse_commit(oid, content).signed)
        chain.advance(proposal)
        scratch.step(proposal.objects, proposal.tree.root)
        assert chain.head and chain.head.oid == oid


def test_code_of_the_tests_is_what_git_calls_it() -> None:
    code = Code("sha1")
    assert code.tip == object_id("commit", code.contents[code.tip], "sha1")
