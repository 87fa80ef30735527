"""Enroll and revoke: who may, and what becomes of the keys."""

import pytest
from support.memory_ledger import (
    MemoryLedger,
    files_of,
    refused,
    state_of,
)

from coordledger.format import canonical
from coordledger.format.records import apply


class TestAgents:
    def test_enroll_and_revoke_change_the_agents_file(self):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "enroll", who="bob", role="admin")
        fleet.put("alice", "revoke", who="bob", id=1)
        keys = [
            {
                "id": number,
                "alg": "hmac-sha256",
                "verifier": fleet.secret("bob", number).fingerprint("ab" * 32, "bob", number),
                "from": first,
                "under": None,
                "until": last,
            }
            for number, first, last in ((1, 2, 3), (2, 3, None))
        ]
        assert fleet.state.agent("bob") == {
            "agent": "bob",
            "role": "admin",
            "rev": 3,
            "issued": 0,
            "keys": keys,
        }
        assert fleet.state.agents() == ["alice", "bob"]
        assert fleet.state.agent("carol") is None

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            ("enroll", {"who": "dave"}),
            ("enroll", {"who": "bob"}),
            ("revoke", {"who": "bob"}),
            ("revoke", {"who": "dave"}),
            ("policy", {"set": {"channels": 3}}),
            ("release", {"task": "t", "force": True}),
        ],
    )
    def test_what_takes_an_admin(self, kind, fields):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("bob", "claim", tasks=["t"])
        for who, code in (("bob", "not-permitted"), ("alice", "")):
            assert fleet.refusal(who, kind, **fields) == code
        fleet.put("alice", "enroll", who="bob", role="admin")
        if fields != {"who": "bob"}:
            assert fleet.refusal("bob", kind, **fields) == ""
        fleet.put("alice", "enroll", who="bob", role="agent")
        assert fleet.refusal("bob", kind, **fields) == "not-permitted"

    @pytest.mark.parametrize("kind", ["enroll", "revoke"])
    def test_only_the_owner_changes_the_owners_keys(self, kind):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "enroll", who="bob", role="admin")
        fleet.put("alice", "enroll", who="alice")
        assert fleet.refusal("bob", kind, who="alice") == "not-permitted"
        assert fleet.refusal("alice", kind, who="alice") == ""

    def test_the_owner_stays_an_admin(self):
        fleet = MemoryLedger()
        assert fleet.refusal("alice", "enroll", who="alice", role="agent") == "not-permitted"

    @pytest.mark.parametrize("number", [1, 3, 1024])
    def test_a_new_key_has_the_next_number(self, number):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("alice", "enroll", who="bob", id=number) == "bad-key"
        assert fleet.refusal("alice", "enroll", who="bob", id=2) == ""
        assert fleet.refusal("alice", "enroll", who="erin", id=2) == "bad-key"

    def test_a_revoked_key_still_counts(self):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "revoke", who="bob")
        assert fleet.refusal("alice", "enroll", who="bob", id=1) == "bad-key"
        assert fleet.refusal("alice", "enroll", who="bob", id=2) == ""

    def test_a_key_is_revoked_once(self):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("alice", "revoke", who="bob", id=2) == "bad-key"
        assert fleet.refusal("alice", "revoke", who="erin", id=1) == "bad-key"
        fleet.put("alice", "revoke", who="bob")
        assert fleet.refusal("alice", "revoke", who="bob", id=1) == "bad-key"

    def test_the_owners_last_key_stays(self):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("alice", "revoke", who="alice") == "last-key"
        fleet.put("alice", "enroll", who="alice")
        fleet.put("alice", "revoke", who="alice", id=2)
        assert fleet.refusal("alice", "revoke", who="alice", id=1) == "last-key"

    def test_anybody_elses_last_key_can_go(self):
        assert MemoryLedger("bob").refusal("alice", "revoke", who="bob") == ""

    def test_an_agent_has_at_most_1024_keys(self):
        fleet = MemoryLedger("bob")
        files = files_of(fleet.state)
        entry = fleet.state.agent("bob")
        record = fleet.record("alice", "enroll", who="bob", rev=2)
        for count, code in ((1023, ""), (1024, "bad-key")):
            entry["keys"] = [entry["keys"][0] | {"id": n + 1} for n in range(count)]
            line = canonical.encode(entry) + b"\n"
            full = state_of(files | {"agents/bob.json": line})
            assert refused(apply, full, record | {"id": count + 1}, 9) == code

    def test_a_ledger_has_at_most_4096_agents(self):
        fleet = MemoryLedger("bob")
        files = files_of(fleet.state)
        bob = files["agents/bob.json"]
        new = fleet.record("alice", "enroll", who="zoe")
        for count, code in ((4095, ""), (4096, "too-many-agents")):
            more = {f"agents/a{n}.json": bob for n in range(count - 2)}
            full = state_of(files | more)
            assert len(full.agents()) == count
            assert refused(apply, full, new, 9) == code
        known = fleet.record("alice", "enroll", who="bob")
        assert refused(apply, full, known, 9) == ""


# -- delegates


def test_a_name_has_at_most_256_delegates():
    """Of all levels together; others have theirs, and one that is there gets another key."""
    fleet = MemoryLedger("bob", "zoe")
    fleet.put("bob", "enroll", who="bob.a")
    fleet.put("bob", "enroll", who="bob.a.b")
    files = files_of(fleet.state)
    below = files["agents/bob.a.b.json"]
    new = {
        (signer, who): fleet.record(signer, "enroll", who=who)
        for signer, who in (("bob", "bob.q"), ("bob.a", "bob.a.q"), ("zoe", "zoe.q"))
    }
    again = fleet.record("bob", "enroll", who="bob.a")
    for count, code in ((255, ""), (256, "too-many-delegates")):
        more = {f"agents/bob.n{n}.json": below for n in range(count - 2)}
        full = state_of(files | more)
        found = {who: refused(apply, full, record, 9) for (_, who), record in new.items()}
        assert found == {"bob.q": code, "bob.a.q": code, "zoe.q": ""}
        assert refused(apply, full, again, 9) == ""


def test_an_ended_delegate_leaves_nothing_in_the_state():
    fleet = MemoryLedger("bob")
    before = files_of(fleet.state).keys()
    for n in (1, 3, 5):  # the numbers of the keys; a name may come again, no number does
        fleet.put("bob", "enroll", who="bob.s")
        fleet.put("bob.s", "enroll", who="bob.s.t", key=n, under=n)
        fleet.put("alice", "send", to="bob.s.t")
        fleet.put("bob.s.t", "void", key=n + 1)
        fleet.put("bob", "revoke", who="bob.s")
    assert files_of(fleet.state).keys() == before
    assert fleet.state.agent("bob")["issued"] == 6


def test_who_is_below_whom_goes_by_dots():
    fleet = MemoryLedger("bob", "bobby", "bob-2")
    fleet.put("bobby", "enroll", who="bobby.x")
    fleet.put("alice", "enroll", who="bob-2.x")
    for who in ("bobby.x", "bob-2.x"):
        assert fleet.refusal("bob", "revoke", who=who) == "not-permitted"


def test_the_owner_vouches_for_its_delegates_with_the_key_that_signs():
    """Also though it is an admin: with a stolen key ends what that key has made."""
    fleet = MemoryLedger()
    fleet.put("alice", "enroll", who="alice")
    assert fleet.refusal("alice", "enroll", who="alice.x", under=2) == "bad-key"
    assert fleet.refusal("alice", "enroll", who="alice.x", under=1) == ""
