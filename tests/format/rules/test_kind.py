"""What several kinds share: revisions (rule 6), and the sizes of texts."""

import pytest
from support.memory_ledger import (
    MemoryLedger,
)

from coordledger.format import canonical

REVS = [
    ("bob", "claim", {"tasks": [{"task": "t", "rev": 3, "epoch": 2}]}),
    ("bob", "claim", {"tasks": [{"task": "new", "rev": 1, "epoch": 1}]}),
    ("alice", "enroll", {"who": "bob", "rev": 2}),
    ("alice", "enroll", {"who": "erin", "rev": 1}),
    ("alice", "revoke", {"who": "bob", "rev": 2}),
    ("alice", "policy", {"set": {"channels": 9}, "rev": 2}),
    ("bob", "submit", {"task": "new", "rev": 1}),
    ("bob", "renew", {"task": "h", "rev": 2, "until": "2026-11-21T03:40:00.000Z"}),
    ("bob", "complete", {"task": "h", "rev": 2}),
    ("bob", "release", {"task": "h", "rev": 2}),
    ("alice", "release", {"task": "h", "rev": 2, "force": True}),
]


class TestRev:
    """Rule 6."""

    @pytest.mark.parametrize(("agent", "kind", "fields"), REVS)
    def test_is_the_next_one_and_no_other(self, agent, kind, fields):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "claim", tasks=["h", "t"])
        fleet.put("bob", "release", task="t")
        right = fields["rev"] if "rev" in fields else fields["tasks"][0]["rev"]
        for rev in (right - 1, right, right + 1, 2**53 - 1):
            changed = {"rev": rev}
            if kind == "claim":
                changed = {"tasks": [fields["tasks"][0] | {"rev": rev}]}
            if rev > 0:
                expected = "" if rev == right else "stale-rev"
                assert fleet.refusal(agent, kind, **fields | changed) == expected

    def test_of_the_record_is_the_objects_afterwards(self):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "policy", set={"channels": 9})
        fleet.put("alice", "revoke", who="bob")
        assert fleet.state.ledger["policy_rev"] == 2
        assert fleet.state.agent("bob")["rev"] == 2


class TestTexts:
    @pytest.mark.parametrize(
        ("kind", "fields", "field"),
        [
            ("claim", {"tasks": ["u"]}, "note"),
            ("complete", {"task": "t"}, "result"),
            ("release", {"task": "t"}, "reason"),
            ("release", {"task": "t", "force": True}, "reason"),
            ("send", {"to": "dave"}, "body"),
        ],
    )
    @pytest.mark.parametrize(("fits", "one_more"), [("x" * 12, "x"), ("éa\n\n\n", "a"), ("é", "é")])
    def test_are_measured_as_they_stand_in_the_record(self, kind, fields, field, fits, one_more):
        limit = canonical.size(fits)
        fleet = MemoryLedger("bob", "dave", policy={"max_text": limit, "max_body": limit})
        fleet.put("alice", "claim", tasks=["t"])
        assert fleet.refusal("alice", kind, **fields, **{field: fits}) == ""
        assert fleet.refusal("alice", kind, **fields, **{field: fits + one_more}) == "text-too-long"

    def test_are_the_parents_policys(self):
        fleet = MemoryLedger(policy={"max_text": 1})
        assert fleet.refusal("alice", "claim", tasks=["t"], note="ab") == "text-too-long"
        fleet.put("alice", "policy", set={"max_text": 2})
        assert fleet.refusal("alice", "claim", tasks=["t"], note="ab") == ""
