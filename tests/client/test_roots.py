"""Whose key has signed: what a reader has to have checked before it counts as checked here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.memory_ledger import MASTER, OWN, MemoryLedger
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.client.roots import CheckedHere
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring, Secret, Signed, sign
from coordledger.format.state import State
from coordledger.git.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.format.commit import Commit


def rooted(ledger: MemoryLedger, agent: str, key: int, ring: Keyring, first: int = 0) -> bool:
    """For a reader with these secrets, of a copy that begins at `first`."""

    def commit_at(seq: int):
        return parse_commit(*ledger.log[seq]) if seq >= first else None

    now = ledger.at(len(ledger.log))
    signed = now.put(agent, "void", key=key).commit

    def state_for(commit: Commit) -> State:
        return State(Tree(now.store.__getitem__, commit.tree, now.algo))

    return CheckedHere(ring).is_rooted(signed, state_for, commit_at)


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


@pytest.mark.parametrize(("first", "good"), [(0, True), (1, False), (2, False)])
def test_a_copy_has_to_reach_down_to_the_first_record(first: int, good: bool) -> None:
    """Else the owner's key may be made up, too: nobody has checked the state at the edge."""
    ledger = MemoryLedger("bob", ssh=("alice/1", "bob/1"))
    assert rooted(ledger, "bob", 1, Keyring(), first) is good
    assert rooted(ledger, "alice", 1, Keyring(), first) is good


def test_an_admin_by_a_forged_mac_enrols_nobody() -> None:
    """eve is an agent with an SSH key that everybody knows; adam an admin with a secret. eve makes
    herself an admin in adam's name, where no hook is, and enrols a key of her own as carol's.
    """
    ssh = ("alice/1", "eve/1", "eve/2", "carol/1", "carol/2", "dave/1")
    ledger = MemoryLedger(ssh=ssh)
    ledger.put("alice", "enroll", who="adam", role="admin")
    for who in ("eve", "carol"):
        ledger.put("alice", "enroll", who=who)
    forged = ledger.sign(ledger.record("adam", "enroll", who="eve", role="admin"), OWN)
    ledger.land(forged)
    ledger.put("eve", "enroll", who="carol")
    for key in (1, 2):
        ledger.put("carol", "claim", tasks=[f"t{key}"], key=key)
    assert rooted(ledger, "carol", 1, Keyring())
    assert rooted(ledger, "eve", 1, Keyring())
    assert not rooted(ledger, "eve", 2, Keyring())
    assert not rooted(ledger, "carol", 2, Keyring())
    # what an admin has enrolled whose role can be followed up counts
    ledger.put("alice", "enroll", who="carol", role="admin")
    ledger.put("carol", "enroll", who="dave")
    assert rooted(ledger, "dave", 1, Keyring())


def test_what_somebody_was_entitled_to_does_not_depend_on_what_came_later() -> None:
    """Nor does the owner's right to enrol on how a key of the owner's came in."""
    ssh = ("alice/1", "alice/3", "carol/1", "carol/2", "dave/1", "erin/1")
    ledger = MemoryLedger(ssh=ssh)
    for who in ("adam", "carol"):
        ledger.put("alice", "enroll", who=who, role="admin")
    ledger.put("carol", "enroll", who="dave")
    ledger.put("adam", "enroll", who="carol", role="admin")
    assert rooted(ledger, "dave", 1, Keyring())
    assert not rooted(ledger, "carol", 2, Keyring())
    ledger.put("alice", "enroll", who="alice")
    ledger.put("alice", "enroll", who="alice", key=2)
    ledger.put("alice", "enroll", who="erin")
    assert rooted(ledger, "erin", 1, Keyring())
    assert not rooted(ledger, "alice", 3, Keyring())


def test_a_delegate_counts_by_the_key_that_enrolled_it_whatever_role_that_has() -> None:
    """bob is no admin, and somebody has forged another key of his, whose delegates are nobody's."""
    ssh = ("alice/1", "bob/1", "bob/2", "bob.a/1", "bob.a.b/2", "bob.c/3", "bob.evil/4")
    ledger = MemoryLedger("bob", ssh=ssh)
    ledger.put("alice", "enroll", who="adam", role="admin")
    ledger.put("bob", "enroll", who="bob.a")
    ledger.put("bob.a", "enroll", who="bob.a.b")
    ledger.land(ledger.sign(ledger.record("adam", "enroll", who="bob"), OWN))
    ledger.put("bob", "enroll", who="bob.c")
    ledger.put("bob", "enroll", who="bob.evil", key=2, under=2)
    counts = {agent: rooted(ledger, agent, key, Keyring()) for agent, key in delegates(ssh)}
    assert counts == {"bob.a": True, "bob.a.b": True, "bob.c": True, "bob.evil": False}


def delegates(ssh: tuple[str, ...]) -> list[tuple[str, int]]:
    return [(name, int(key)) for name, _, key in (one.partition("/") for one in ssh) if "." in name]


def test_a_delegate_that_a_secret_has_enrolled_counts_for_who_has_the_secret() -> None:
    ledger = MemoryLedger("bob", "carol", ssh=("alice/1", "bob.a/1", "bob.evil/2"))
    ledger.put("bob", "enroll", who="bob.a")
    ledger.land(ledger.sign(ledger.record("bob", "enroll", who="bob.evil"), OWN))
    bobs = Keyring([], lambda who: [ledger.secret("bob")] if who == "bob" else [])
    assert rooted(ledger, "bob.a", 1, bobs)
    assert not rooted(ledger, "bob.a", 1, Keyring())
    assert not rooted(ledger, "bob.evil", 2, bobs)
    assert not rooted(ledger, "bob.evil", 2, Keyring())


def test_an_admin_by_a_forged_mac_enrols_no_delegate_of_others() -> None:
    ledger = MemoryLedger("eve", "bob", ssh=("alice/1", "eve/1", "bob/1", "bob.a/1", "eve.a/1"))
    ledger.put("alice", "enroll", who="adam", role="admin")
    ledger.land(ledger.sign(ledger.record("adam", "enroll", who="eve", role="admin"), OWN))
    ledger.put("eve", "enroll", who="bob.a")
    ledger.put("eve", "enroll", who="eve.a")
    assert not rooted(ledger, "bob.a", 1, Keyring())
    assert rooted(ledger, "eve.a", 1, Keyring())


@pytest.mark.parametrize("depth", [None, 1])
def test_what_a_delegate_has_signed_that_left_the_state_counts_still(
    tmp_path: Path, env: dict[str, str], depth: int | None
) -> None:
    """Its keys are in no newer state; and no shallow copy knows whose they were."""
    server = MemoryServer()
    server.ledger = MemoryLedger("bob", ssh=("alice/1", "bob/1", "bob.a/1", "bob.a.b/2", "bob.a/3"))
    client = MemoryClient(server, tmp_path / "reader.git", env)
    client.replica.join(depth, None)
    server.write("bob", "enroll", who="bob.a")
    server.write("bob.a", "enroll", who="bob.a.b")
    server.write("bob.a.b", "submit", task="t", key=2)
    server.write("bob", "revoke", who="bob.a")
    server.write("bob", "enroll", who="bob.a")
    server.write("bob.a", "submit", task="u", key=3)
    head = client.replica.refresh()
    assert head.state.agent("bob.a.b") is None
    verdicts = {
        client.replica.verdict_of(commit)
        for commit in map(client.replica.commit_at, range(3, 8))
        if commit
    }
    assert verdicts == {"unverified" if depth else "authentic"}
    client.close()


@pytest.mark.parametrize("depth", [None, 1])
def test_the_keys_of_a_state_that_was_taken_on_trust_count_for_nobody(
    tmp_path: Path, env: dict[str, str], depth: int | None
) -> None:
    """The owner's key, one that the edge's record seems to have enrolled, and one after it."""
    server = MemoryServer()
    server.ledger = MemoryLedger("bob", ssh=("alice/1", "bob/1", "carol/1"))
    client = MemoryClient(server, tmp_path / "reader.git", env)
    client.replica.join(depth, None)
    server.write("alice", "enroll", who="carol")
    for agent in ("alice", "bob", "carol"):
        server.write(agent, "submit", task=f"of-{agent}")
    client.replica.refresh()
    verdicts = {
        client.replica.verdict_of(commit)
        for commit in map(client.replica.commit_at, range(2, 6))
        if commit
    }
    assert verdicts == {"unverified" if depth else "authentic"}
    client.close()
