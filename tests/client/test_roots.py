"""Whose key has signed: what a reader has to have checked before it counts as checked here."""

from __future__ import annotations

import pytest
from support.memory_ledger import MASTER, OWN, MemoryLedger

from coordledger.client.roots import CheckedHere
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring, Secret, Signed, sign


def rooted(ledger: MemoryLedger, agent: str, key: int, ring: Keyring, first: int = 0) -> bool:
    """For a reader with these secrets, of a copy that begins at `first`."""

    def commit_at(seq: int):
        return parse_commit(*ledger.log[seq]) if seq >= first else None

    signed = {"agent": agent, "key": key}
    return CheckedHere(ring).is_rooted(signed, lambda: ledger.state, commit_at)


def test_a_key_that_a_mac_has_enrolled_counts_for_who_has_the_secret() -> None:
    ledger = MemoryLedger("bob", "grace", ssh=("grace/1",))
    alices = Keyring([], lambda who: [ledger.secret("alice")] if who == "alice" else [])
    bobs = Keyring([], lambda who: [ledger.secret("bob")] if who == "bob" else [])
    assert rooted(ledger, "grace", 1, Keyring([MASTER]))
    assert rooted(ledger, "grace", 1, alices)
    assert not rooted(ledger, "grace", 1, bobs)
    assert not rooted(ledger, "grace", 1, Keyring())
    assert rooted(ledger, "bob", 1, bobs)  # a secret says itself whose it is


def test_a_key_that_a_forged_mac_has_enrolled_counts_for_nobody() -> None:
    """As somebody can write it who pushes where no hook is."""
    ledger = MemoryLedger("bob", ssh=("bob/2",))
    record = ledger.record("alice", "enroll", who="bob")
    forged = sign(record, OWN)
    ledger.land(Signed(forged.payload, forged.record, forged.tag))
    for ring in (Keyring(), Keyring([], lambda _: [Secret("B" * 43)]), Keyring([MASTER])):
        assert not rooted(ledger, "bob", 2, ring)


def test_where_all_keys_are_ssh_keys_every_reader_gets_to_the_first_record() -> None:
    names = [f"alice/{n}" for n in range(1, 40)]
    ledger = MemoryLedger("bob", ssh=("bob/1", *names))
    for number in range(2, 40):
        ledger.put("alice", "enroll", who="alice", key=number - 1)
    ledger.put("alice", "enroll", who="bob", key=39)
    assert rooted(ledger, "alice", 39, Keyring())
    assert rooted(ledger, "bob", 1, Keyring())


@pytest.mark.parametrize(("first", "good"), [(0, True), (1, True), (2, False)])
def test_a_shallow_copy_has_to_reach_the_records_that_enrolled(first: int, good: bool) -> None:
    ledger = MemoryLedger("bob", ssh=("alice/1", "bob/1"))
    assert rooted(ledger, "bob", 1, Keyring(), first) is good
