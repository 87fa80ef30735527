"""Who gives a proof is anybody: what can be made of good ones, and of one's own keys.

Each attack has the checksum that fits, as whoever forges computes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.memory_ledger import MemoryLedger, refused
from support.proofs import (
    ALL_SSH,
    Code,
    ledger_with,
    proof_of,
    records_in,
    refusal,
    resealed,
    with_records,
)
from support.ssh_keys import SshKey

from coordledger import CoordledgerError, Failed, Integrity, verify_proof
from coordledger.format import signing
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.records import check as check_shape
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.signing import Signed

REF = "refs/heads/main"


def owner(ledger: MemoryLedger) -> str:
    """What a reader trusts: the owner's public line."""
    return f"ssh-ed25519 {SshKey.of('alice/1').public} alice"


def code_of(data: bytes, *trust: str) -> str:
    try:
        verify_proof(data, trust=trust)
    except CoordledgerError as fault:
        return fault.code
    return ""


# -- another commit


def test_a_proof_of_one_commit_is_none_of_another() -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.line[1], code.tip, [code.contents[code.tip], _c(code, 2)])
    assert refusal(good) == ""
    other = code.commit("mine", code.line[0])
    for commit in (other, code.line[0], code.line[2], code.tip, "f" * 40):
        assert refusal(resealed(good, commit=commit)) == "bad-proof"


def _c(code: Code, number: int) -> bytes:
    return bytes(code.contents[code.line[number]])


def _parent_in_body(code: Code, mine: str) -> list[bytes]:
    content = code.contents[code.tip] + f"\nparent {mine}\n".encode()
    return [content]


FORGED: dict[str, Callable[[Code, str], list[bytes]]] = {
    "another parent": lambda code, mine: [
        _c(code, 3).replace(code.line[2].encode(), mine.encode())
    ],
    "a parent more": lambda code, mine: [
        _c(code, 3).replace(b"\nauthor", b"\nparent " + mine.encode() + b"\nauthor", 1)
    ],
    "a parent in its message": _parent_in_body,
    "a commit of one's own in between": lambda code, mine: [
        code.contents[code.commit("x", mine)],
        _c(code, 3),
    ],
    "another commit first": lambda code, mine: [code.contents[code.commit("x", mine)]],
    "one left out": lambda code, mine: [_c(code, 3), _c(code, 1)],
    "twice": lambda code, mine: [_c(code, 3), _c(code, 3)],
    "empty": lambda code, mine: [b""],
    "a blob": lambda code, mine: [mine.encode()],
}


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
@pytest.mark.parametrize("case", FORGED)
def test_no_forged_way_leads_from_the_landing_to_my_commit(algo: str, case: str) -> None:
    ledger, code = ledger_with(algo)
    mine = code.commit("mine")
    data = proof_of(ledger, mine, code.tip, FORGED[case](code, mine))
    assert refusal(data) == "bad-proof"


@pytest.mark.parametrize("where", ["header", "message", "signature"])
def test_a_parent_counts_only_where_git_reads_it(where: str) -> None:
    """A real commit whose author wrote `parent MINE` somewhere else in it."""
    code = Code("sha1")
    mine = code.commit("mine")
    lines = {
        "header": f"parent {mine}\n",
        "message": "",
        "signature": f"gpgsig x\n parent {mine}\n",
    }[where]
    text = f"parent {mine}" if where == "message" else "x"
    tip = code.commit(text, code.line[0], more=lines)
    ledger = MemoryLedger("bob", ssh=ALL_SSH)
    ledger.put("bob", "claim", tasks=["work"])
    ledger.put("bob", "land", task="work", ref=REF, old=code.none, new=tip)
    path = [code.contents[tip]]
    assert refusal(proof_of(ledger, code.line[0], tip, path, land=3)) == ""
    assert refusal(proof_of(ledger, mine, tip, path, land=3)) == "bad-proof"


def test_a_tag_leads_where_it_points_and_nowhere_else() -> None:
    code = Code("sha1")
    mine = code.commit("mine")
    text = f"object {code.tip}\ntype commit\ntag v1\ntagger b <b@c> 1 +0000\nobject {mine}\n\nx\n"
    tag = object_id("tag", text.encode(), "sha1")
    ledger = MemoryLedger("bob", ssh=ALL_SSH)
    ledger.put("bob", "claim", tasks=["work"])
    ledger.put("bob", "land", task="work", ref="refs/tags/v1", old=code.none, new=tag)
    assert refusal(proof_of(ledger, code.tip, tag, [text.encode()], land=3)) == ""
    assert refusal(proof_of(ledger, mine, tag, [text.encode()], land=3)) == "bad-proof"


def test_ids_of_one_kind_are_no_ids_of_the_other() -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.tip, code.tip)
    assert refusal(resealed(good, commit=code.tip + "0" * 24)) == "bad-proof"
    assert refusal(resealed(good, commit=code.tip[:39])) == "bad-proof"


@pytest.mark.parametrize(
    "head",
    [
        "tag x\nobject {}\ntype commit",
        "object {}\ntype tree",
        "object {}",
        "parent {}",
        "blob x\nparent {}",
    ],
)
@pytest.mark.parametrize("kind", ["tag", "commit"])
def test_what_git_does_not_read_as_a_tag_or_a_commit_leads_nowhere(kind: str, head: str) -> None:
    code = Code("sha1")
    odd = (head.format(code.tip) + "\n\nx\n").encode()
    new = object_id(kind, odd, "sha1")
    ledger = MemoryLedger("bob", ssh=ALL_SSH)
    ledger.put("bob", "claim", tasks=["work"])
    ledger.put("bob", "land", task="work", ref="refs/tags/v1", old=code.none, new=new)
    assert refusal(proof_of(ledger, new, new, land=3)) == ""
    assert refusal(proof_of(ledger, code.tip, new, [odd], land=3)) == "bad-proof"


# -- other records


@pytest.mark.parametrize("land", [0, 1, 2, 3, 5, 2**53 - 1])
def test_another_record_is_no_landing(land: int) -> None:
    ledger, code = ledger_with("sha1")
    ledger.put("alice", "void")
    assert refusal(resealed(proof_of(ledger, code.tip, code.tip), land=land)) == "bad-proof"


def test_no_record_is_left_out_doubled_or_moved() -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.tip, code.tip)
    records = records_in(good)
    for at in range(len(records)):
        without = records[:at] + records[at + 1 :]
        doubled = records[: at + 1] + records[at:]
        assert refusal(with_records(good, without, land=3)) == "bad-proof"
        assert refusal(with_records(good, doubled, land=5)) == "bad-proof"
        if at:
            moved = [*records[: at - 1], records[at], records[at - 1], *records[at + 1 :]]
            assert refusal(with_records(good, moved)) == "bad-proof"


@pytest.mark.parametrize("part", ["payload", "tag", "canonical", "name twice"])
@pytest.mark.parametrize("at", range(5))
def test_no_record_is_changed(part: str, at: int) -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.tip, code.tip)
    records = records_in(good)
    payload, _, tag = records[at].partition(b"\n")
    records[at] = {
        "payload": payload.replace(b'"session":"s1"', b'"session":"s2"') + b"\n" + tag,
        "tag": payload + b"\n" + bytes([tag[0] ^ 1]) + tag[1:],
        "canonical": payload.replace(b",", b", ", 1) + b"\n" + tag,
        "name twice": payload.replace(b'{"agent"', b'{"agent":"bob","agent"', 1) + b"\n" + tag,
    }[part]
    assert refusal(with_records(good, records)) == "bad-proof"


def test_a_ledgers_records_are_no_records_of_another() -> None:
    """Even where both have one owner, with one key, and the same agents."""
    ledger, code = ledger_with("sha1")
    other = MemoryLedger("bob", "carol", ssh=ALL_SSH, policy={"max_ttl": 3600})
    other.put("bob", "claim", tasks=["work"])
    assert other.state.ledger["ledger"] != ledger.state.ledger["ledger"]
    good = proof_of(ledger, code.tip, code.tip)
    mixed = [*records_in(proof_of(other, code.tip, code.tip)), records_in(good)[4]]
    assert refusal(with_records(good, mixed)) == "bad-proof"
    genesis = records_in(proof_of(other, code.tip, code.tip))[:1]
    assert refusal(with_records(good, genesis + records_in(good)[1:])) == "bad-proof"


def test_a_ledger_in_the_owners_name_is_not_the_owners() -> None:
    ledger, code = ledger_with("sha1")
    mine = MemoryLedger(ssh=("alice/1",))
    genesis = mine.record("alice", "genesis") | {"nonce": "cd" * 32}
    mallory = SshKey.of("mallory")
    fake = MemoryLedger.__new__(MemoryLedger)
    fake.__dict__.update(mine.__dict__)
    fake.store, fake.log = {}, []
    fake.chain = fake.fresh_verifier()
    genesis |= {"base": None, "op": "0" * 32, "verifier": mallory.public, "ledger": ""}
    genesis["ledger"] = signing.ledger_id(genesis)
    fake.land(fake.sign(check_shape(genesis), mallory))
    for kind, given in (
        ("claim", {"tasks": ["work"]}),
        ("land", {"task": "work", "ref": REF, "old": code.none, "new": code.tip}),
    ):
        fake.land(fake.sign(check_shape(fake.record("alice", kind, **given)), mallory))
    data = proof_of(fake, code.tip, code.tip, land=2)
    found = verify_proof(data)
    assert (found.owner, found.compared) == ("alice", ())
    for trust in (owner(ledger), ledger.state.ledger["ledger"], f"0:{_digest(ledger, 0)}"):
        assert code_of(data, trust) == "proof-differs"
    # With the trusted ledger's id written into it, it certifies itself no more.
    renamed = [
        one.replace(genesis["ledger"].encode(), ledger.state.ledger["ledger"].encode())
        for one in records_in(data)
    ]
    assert code_of(with_records(data, renamed)) == "bad-proof"


def _digest(ledger: MemoryLedger, seq: int) -> str:
    return parse_commit(*ledger.log[seq]).digest


def test_what_is_not_trusted_costs_no_more_than_its_first_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger, code = ledger_with("sha1")
    asked = _count_checks(monkeypatch)
    assert code_of(proof_of(ledger, code.tip, code.tip), "0" * 32) == "proof-differs"
    assert len(asked) == 1


def test_a_key_proves_nothing_after_it_was_revoked_nor_one_below_it() -> None:
    ledger, code = ledger_with("sha1", ssh=(*ALL_SSH, "bob.x/1"))
    ledger.put("bob", "enroll", who="bob.x")
    ledger.put("bob.x", "claim", tasks=["more"])
    then = ledger.head
    land = {"task": "more", "ref": REF, "old": code.none, "new": code.tip}
    before = ledger.sign(ledger.record("bob.x", "land", **land))
    ledger.put("alice", "revoke", who="bob")
    assert refused(ledger.chain.propose, before) == "unknown-key"
    good = proof_of(ledger, code.tip, code.tip)
    late = [*records_in(good), before.payload + b"\n" + before.tag]
    assert refusal(with_records(good, late, land=len(late) - 1)) == "bad-proof"
    # Without the revocation it is a chain, and no reader of this file alone can tell. Who knows a
    # newer head can.
    forked = [*late[:-2], late[-1]]
    data = with_records(good, forked, land=len(forked) - 1)
    assert code_of(data, owner(ledger)) == ""
    assert code_of(data, f"{ledger.head.seq}:{ledger.head.digest}") == "proof-differs"
    found = verify_proof(data, trust=[f"{then.seq}:{then.digest}"])
    assert found.compared == ("older-head",)
    assert code_of(data, f"{ledger.head.seq + 5}:{'a' * 64}") == "proof-shorter"


def test_a_claim_that_has_ended_or_is_anothers_lands_nothing_in_a_proof() -> None:
    for spoil in (
        {"agent": "carol"},
        {"epoch": 2},
        {"session": "s2"},
        {"at": "2026-11-21T09:00:00.000Z"},
        {"task": "none"},
    ):
        ledger, code = ledger_with("sha1")
        given = {"task": "work", "ref": REF, "old": code.tip, "new": code.line[0]} | spoil
        agent = given.pop("agent", "bob")
        signed = ledger.sign(ledger.record(str(agent), "land", **given))
        good = proof_of(ledger, code.line[0], code.tip, [_c(code, n) for n in (3, 2, 1)])
        records = [*records_in(good), signed.payload + b"\n" + signed.tag]
        assert refusal(with_records(good, records, land=5)) == "bad-proof"
        assert refusal(good) == ""


def test_a_landing_that_was_taken_back_is_still_one_and_the_later_one_another() -> None:
    """A proof says that it came; what became of the ref is said by later records."""
    ledger, code = ledger_with("sha1")
    ledger.put("bob", "land", task="work", ref=REF, old=code.tip, new=code.line[0])
    first = proof_of(ledger, code.tip, code.tip)
    assert refusal(first) == ""
    assert refusal(resealed(first, land=5)) == "bad-proof"
    assert refusal(proof_of(ledger, code.line[0], code.line[0], land=5)) == ""


def test_what_a_secret_has_signed_convinces_nobody_without_it() -> None:
    ledger, code = ledger_with("sha1", ssh=())
    good = proof_of(ledger, code.tip, code.tip)
    assert code_of(good) == "proof-unchecked"
    assert code_of(good, ledger.state.ledger["ledger"]) == "proof-unchecked"
    records = records_in(good)
    records[4] = records[4][:-32] + bytes(32)  # anybody can write that
    forged = with_records(good, records)
    assert verify_proof(forged, chain_only=True).unchecked == 5
    with pytest.raises(Integrity):
        verify_proof(forged, secrets=[ledger.secret("bob")], chain_only=True)
    with pytest.raises(Failed):
        verify_proof(good, secrets=[ledger.secret("bob")])


def test_a_tag_of_another_length_is_no_tag_even_without_the_secret() -> None:
    ledger, code = ledger_with("sha1", ssh=())
    good = proof_of(ledger, code.tip, code.tip)
    records = records_in(good)
    records[4] += b"x"
    assert refusal(with_records(good, records)) == "bad-proof"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b",", b", "),
        (b'{"agent":"bob"', b'{"agent":"bob","agent":"bob"'),
        (b'"result":null', b'"result":"' + b"x" * 140_000 + b'"'),
        (b'"complete":false', b'"complete":[[[[[[[[[false]]]]]]]]]'),
        (b'"complete":false', b'"complete":0.5'),
    ],
)
def test_a_payload_that_is_not_canonical_is_no_record_though_its_key_has_signed_it(
    old: bytes, new: bytes
) -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.tip, code.tip)
    records = records_in(good)
    payload = records[4].partition(b"\n")[0].replace(old, new, 1)
    records[4] = payload + b"\n" + SshKey.of("bob/1").sign(payload)
    assert refusal(with_records(good, records)) == "bad-proof"


def test_the_removal_of_a_ref_brings_no_commit() -> None:
    ledger, code = ledger_with("sha1")
    ledger.put("bob", "land", task="work", ref=REF, old=code.tip, new=code.none)
    assert refusal(proof_of(ledger, code.none, code.none, land=5)) == "bad-proof"


def test_a_line_end_in_a_payload_moves_no_byte_into_the_tag() -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.tip, code.tip)
    records = records_in(good)
    records[4] = b"\n" + records[4]
    assert refusal(with_records(good, records)) == "bad-proof"


def test_records_of_a_newer_version_are_said_to_be_so() -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.tip, code.tip)
    records = records_in(good)
    records[4] = records[4].replace(b'"v":1}', b'"v":2}')
    assert refusal(with_records(good, records)) == "newer-version"


def test_every_record_goes_through_the_one_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, code = ledger_with("sha1")
    asked = _count_checks(monkeypatch)
    assert refusal(proof_of(ledger, code.tip, code.tip)) == ""
    assert len(asked) == 5


def _count_checks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    asked: list[object] = []
    real = Chain.check

    def check(self: Chain, signed: Signed) -> object:
        asked.append(signed)
        return real(self, signed)

    monkeypatch.setattr(Chain, "check", check)
    return asked
