"""The genesis record and the policy."""

import pytest
from support.memory_ledger import (
    POLICY,
    MemoryLedger,
    files_of,
    refused,
)

from coordledger.format import canonical, records
from coordledger.format.rules.ledger import POLICY as LIMITS


def test_after_the_genesis_record():
    fleet = MemoryLedger()
    genesis = fleet.head.record
    ledger = {"v": 1, "ledger": genesis["ledger"], "nonce": genesis["nonce"]}
    ledger |= {"owner": "alice", "policy": POLICY, "policy_rev": 1}
    key = {"alg": "hmac-sha256", "verifier": genesis["verifier"]}
    key |= {"id": 1, "from": 0, "until": None}
    alice = {"agent": "alice", "role": "admin", "rev": 1, "keys": [key]}
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
        fleet = MemoryLedger()
        for value in (least, most):
            assert fleet.refusal("alice", "policy", set={key: value}) == ""
        for value in (least - 1, most + 1):
            record = fleet.record("alice", "policy", set={key: value})
            assert refused(records.check, record) == "bad-record"

    def test_never_changes_the_skew(self):
        record = MemoryLedger().record("alice", "policy", set={"max_skew": 30})
        assert refused(records.check, record) == "bad-record"
