"""The genesis record and the policy."""

import pytest
from support.memory_ledger import (
    MASTER,
    POLICY,
    MemoryLedger,
    files_of,
    refused,
)

from coordledger.format import canonical, records
from coordledger.format.chain import AUTHENTIC, authenticate
from coordledger.format.rules.ledger import POLICY as LIMITS
from coordledger.format.signing import Keyring


def test_after_the_genesis_record():
    fleet = MemoryLedger()
    genesis = fleet.head.record
    ledger = {"v": 1, "ledger": genesis["ledger"], "nonce": genesis["nonce"]}
    ledger |= {"owner": "alice", "policy": POLICY, "policy_rev": 1}
    key = {"alg": "hmac-sha256", "verifier": genesis["verifier"]}
    key |= {"id": 1, "from": 0, "under": None, "until": None}
    alice = {"agent": "alice", "role": "admin", "rev": 1, "issued": 0, "keys": [key]}
    assert files_of(fleet.state) == {
        "ledger.json": canonical.encode(ledger) + b"\n",
        "agents/alice.json": canonical.encode(alice) + b"\n",
    }


class TestPolicy:
    def test_replaces_the_given_keys_and_no_other(self):
        fleet = MemoryLedger()
        fleet.put("alice", "policy", set={"max_ttl": 60, "channels": 2})
        assert fleet.state.ledger["policy"] == POLICY | {"max_ttl": 60, "channels": 2}
        assert fleet.state.policy("max_ttl") == 60
        fleet.put("alice", "policy", set={"channels": 3})
        assert fleet.state.ledger["policy"] == POLICY | {"max_ttl": 60, "channels": 3}

    @pytest.mark.parametrize("key", sorted(set(POLICY) - {"max_skew"}))
    def test_is_within_its_range(self, key):
        _, least, most = LIMITS[key]
        fleet = MemoryLedger(ssh=("alice/1",))
        for value in (least, most):
            assert fleet.refusal("alice", "policy", set={key: value}) == ""
        for value in (least - 1, most + 1):
            record = fleet.record("alice", "policy", set={key: value})
            assert refused(records.check, record) == "bad-record"

    def test_never_changes_the_skew(self):
        record = MemoryLedger().record("alice", "policy", set={"max_skew": 30})
        assert refused(records.check, record) == "bad-record"


# -- require_alg


def fleet_of(*ssh: str) -> MemoryLedger:
    fleet = MemoryLedger("bob", ssh=ssh)
    fleet.put("alice", "enroll", who="carol", role="admin")
    return fleet


def test_require_alg_refuses_what_secrets_sign_from_the_next_record_on():
    fleet = fleet_of("alice/1", "bob/2")
    fleet.put("alice", "enroll", who="bob")
    before = fleet.put("bob", "void")
    fleet.put("alice", "policy", set={"require_alg": 1})
    assert fleet.refusal("bob", "void") == "alg-refused"
    assert fleet.refusal("carol", "policy", set={"require_alg": 0}) == "alg-refused"
    assert fleet.refusal("bob", "void", key=2) == ""
    fleet.put("alice", "policy", set={"channels": 3})
    verdict = authenticate(fleet.state, before.commit.signed, before.commit.seq, Keyring([MASTER]))
    assert verdict == AUTHENTIC  # what was signed before stays
    fleet.put("alice", "policy", set={"require_alg": 0})
    assert fleet.refusal("bob", "void") == ""


def test_require_alg_a_reader_without_the_secret_refuses_it_too():
    fleet = fleet_of("alice/1")
    fleet.put("alice", "policy", set={"require_alg": 1})
    signed = fleet.sign(fleet.record("bob", "void"))
    reader = fleet.verifier_at(len(fleet.log), Keyring())
    assert refused(reader.judge, *fleet.forge(signed)) == "alg-refused"


def test_require_alg_is_set_by_an_ssh_key_where_the_owner_has_one():
    on = {"require_alg": 1}
    assert fleet_of().refusal("alice", "policy", set=on) == "alg-refused"
    fleet = fleet_of("alice/2", "carol/1")
    assert fleet.refusal("carol", "policy", set=on) == "alg-refused"
    fleet.put("alice", "enroll", who="alice")
    assert fleet.refusal("alice", "policy", set=on) == "alg-refused"
    assert fleet.refusal("carol", "policy", set=on) == ""
    assert fleet.refusal("alice", "policy", set=on, key=2) == ""
    fleet.put("alice", "revoke", who="alice", id=2)
    assert fleet.refusal("carol", "policy", set=on) == "alg-refused"


def test_require_alg_the_owner_keeps_an_ssh_key_and_no_secret_is_enrolled():
    fleet = fleet_of("alice/1", "alice/3", "bob/2")
    fleet.put("alice", "enroll", who="alice")
    fleet.put("alice", "policy", set={"require_alg": 1})
    assert fleet.refusal("alice", "enroll", who="dave") == "alg-refused"
    assert fleet.refusal("alice", "enroll", who="bob") == ""
    assert fleet.refusal("alice", "revoke", who="alice", id=1) == "last-key"
    assert fleet.refusal("alice", "revoke", who="alice", id=2) == ""
    fleet.put("alice", "enroll", who="alice")
    assert fleet.refusal("alice", "revoke", who="alice", id=1) == ""


def test_require_alg_holds_for_delegates_too():
    fleet = fleet_of("alice/1", "bob/2", "bob.s/2")
    fleet.put("alice", "enroll", who="bob")
    fleet.put("bob", "enroll", who="bob.a")
    fleet.put("alice", "policy", set={"require_alg": 1})
    assert fleet.refusal("bob.a", "void") == "alg-refused"
    for signer, key in (("bob", 2), ("alice", 1)):
        given = {"key": key, "under": 2}
        assert fleet.refusal(signer, "enroll", who="bob.s", **given) == ""
        assert fleet.refusal(signer, "enroll", who="bob.h", **given) == "alg-refused"
    fleet.put("bob", "enroll", who="bob.s", key=2, under=2)
    assert fleet.refusal("bob.s", "void", key=2) == ""
    assert fleet.refusal("bob", "revoke", who="bob.a", key=2) == ""


def test_require_alg_a_ledger_is_founded_with_it_by_an_ssh_key():
    policy = {"require_alg": 1}
    assert refused(MemoryLedger, policy=policy) == "alg-refused"
    assert MemoryLedger(policy=policy, ssh=("alice/1",)).state.requires_ssh
