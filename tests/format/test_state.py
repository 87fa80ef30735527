"""Sections 7-9: what each record does to the state, and what it may not do.

Tasks move by one table; here it stands a second time, with the refusals filled in.
"""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_ledger import (
    LEASE,
    POLICY,
    SECOND,
    SKEW,
    MemoryLedger,
    files_of,
    refused,
    state_of,
)

from coordledger.format import canonical, records, timestamps
from coordledger.format.records import apply
from coordledger.format.rules.ledger import POLICY as LIMITS
from coordledger.format.rules.tasks import MOVES
from coordledger.format.rules.tasks import standing as standing_of
from coordledger.format.state import page_path

STANDINGS = ["absent", "open", "held", "grace", "expired", "done"]
VERBS = ["submit", "claim", "reopen", "renew", "complete", "release", "force"]

# (standing, verb): the status afterwards, or the slug of the refusal. It is the holder
# who tries, in the session that holds; alice where it takes an admin.
EXPECTED = {
    ("absent", "submit"): "open",
    ("absent", "claim"): "claimed",
    ("absent", "reopen"): "claimed",
    ("absent", "renew"): "!unknown-task",
    ("absent", "complete"): "!unknown-task",
    ("absent", "release"): "!unknown-task",
    ("absent", "force"): "!unknown-task",
    ("open", "submit"): "!task-exists",
    ("open", "claim"): "claimed",
    ("open", "reopen"): "claimed",
    ("open", "renew"): "!not-claimed",
    ("open", "complete"): "!not-claimed",
    ("open", "release"): "!not-claimed",
    ("open", "force"): "!not-claimed",
    ("held", "submit"): "!task-exists",
    ("held", "claim"): "!already-yours",
    ("held", "reopen"): "!already-yours",
    ("held", "renew"): "claimed",
    ("held", "complete"): "done",
    ("held", "release"): "open",
    ("held", "force"): "open",
    ("grace", "submit"): "!task-exists",
    ("grace", "claim"): "!held",
    ("grace", "reopen"): "!held",
    ("grace", "renew"): "!expired",
    ("grace", "complete"): "!expired",
    ("grace", "release"): "!expired",
    ("grace", "force"): "open",
    ("expired", "submit"): "!task-exists",
    ("expired", "claim"): "claimed",
    ("expired", "reopen"): "claimed",
    ("expired", "renew"): "!expired",
    ("expired", "complete"): "!expired",
    ("expired", "release"): "!expired",
    ("expired", "force"): "open",
    ("done", "submit"): "!task-exists",
    ("done", "claim"): "!done",
    ("done", "reopen"): "claimed",
    ("done", "renew"): "!done",
    ("done", "complete"): "!done",
    ("done", "release"): "!done",
    ("done", "force"): "!done",
}
# The same for somebody who does not hold the task, where it makes a difference.
STRANGERS = {
    ("held", "claim"): "!held",
    ("held", "reopen"): "!held",
    **{
        (standing, verb): "!not-holder"
        for standing in ("held", "grace", "expired")
        for verb in ("renew", "complete", "release")
    },
}


def fleet_with(standing):
    """A fleet in which bob's session s1 left the task `t` in this standing."""
    fleet = MemoryLedger("bob", "dave")
    if standing != "absent":
        fleet.put("bob", "submit", task="t")
    if standing not in ("absent", "open"):
        fleet.put("bob", "claim", tasks=["t"])
        until = timestamps.parse(fleet.state.task("t")["until"])
        fleet.now = {"grace": until + SKEW - 1, "expired": until + SKEW}.get(standing, fleet.now)
    if standing == "done":
        fleet.put("bob", "complete", task="t")
    return fleet


def tried(verb):
    """Kind and fields of the record for a verb on the task `t`."""
    if verb in ("claim", "reopen"):
        return "claim", {"tasks": ["t"], "reopen": verb == "reopen"}
    if verb in ("release", "force"):
        return "release", {"task": "t", "force": verb == "force"}
    return verb, {"task": "t"}


def outcome(fleet, agent, verb, **more):
    kind, fields = tried(verb)
    why = fleet.refusal(agent, kind, **fields, **more)
    if why:
        return f"!{why}"
    fleet.put(agent, kind, **fields, **more)
    return fleet.state.task("t")["status"]


def test_the_table_says_something_about_each_standing_and_verb():
    assert EXPECTED.keys() == {(s, v) for s in STANDINGS for v in VERBS}
    allowed = {move: status for move, status in EXPECTED.items() if status[0] != "!"}
    assert allowed == MOVES


@pytest.mark.parametrize(("standing", "verb"), EXPECTED)
def test_a_task_moves_by_the_table_and_no_other_way(standing, verb):
    fleet = fleet_with(standing)
    who = "alice" if verb == "force" else "bob"
    assert outcome(fleet, who, verb) == EXPECTED[standing, verb]


@pytest.mark.parametrize(("standing", "verb"), EXPECTED)
@pytest.mark.parametrize(("agent", "session"), [("dave", "s1"), ("bob", "s2")])
def test_somebody_else_or_another_session_cannot_do_what_the_holder_can(
    standing, verb, agent, session
):
    fleet = fleet_with(standing)
    expected = STRANGERS.get((standing, verb), EXPECTED[standing, verb])
    if verb == "force":
        expected = "!not-permitted"
    assert outcome(fleet, agent, verb, session=session) == expected


@pytest.mark.parametrize("standing", STANDINGS)
def test_a_task_stands_as_its_lease_says(standing):
    fleet = fleet_with(standing)
    found = fleet.state.task("t")
    assert standing_of(found, fleet.now, fleet.state.skew) == standing


def test_the_lease_ends_at_its_very_millisecond():
    task = {"status": "claimed", "until": timestamps.show(10_000)}
    rows = {9_999: "held", 10_000: "grace", 10_499: "grace", 10_500: "expired"}
    assert {at: standing_of(task, at, 500) for at in rows} == rows


class TestLines:
    """Each field of a task's line after each record."""

    def test_a_submitted_task(self):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "submit", task="a")
        fleet.put("bob", "submit", task="t", priority=-7, meta={"x": "é"}, after=["a"])
        assert fleet.state.task("t") == {
            "task": "t",
            "status": "open",
            "rev": 1,
            "epoch": 0,
            "agent": None,
            "session": None,
            "claimed_at": None,
            "until": None,
            "priority": -7,
            "meta": {"x": "é"},
            "after": ["a"],
            "first_seq": 3,
            "claim_seq": None,
            "last_seq": 3,
        }

    def test_a_task_that_is_claimed_unseen(self):
        fleet = MemoryLedger("bob")
        at = timestamps.show(fleet.now)
        fleet.put("bob", "claim", tasks=["t"], session="s7")
        assert fleet.state.task("t") == {
            "task": "t",
            "status": "claimed",
            "rev": 1,
            "epoch": 1,
            "agent": "bob",
            "session": "s7",
            "claimed_at": at,
            "until": timestamps.show(timestamps.parse(at) + LEASE),
            "priority": 0,
            "meta": {},
            "after": [],
            "first_seq": 2,
            "claim_seq": 2,
            "last_seq": 2,
        }

    def test_the_life_of_a_task(self):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("alice", "submit", task="t", priority=3, meta={"x": "1"})
        whole = fleet.state.task("t")

        def then(agent, kind, changed, **fields):
            nonlocal whole
            at = timestamps.show(fleet.now)
            seq = fleet.put(agent, kind, **fields).commit.seq
            whole |= changed | {"rev": whole["rev"] + 1, "last_seq": seq}
            if kind == "claim":
                whole |= {"claimed_at": at, "claim_seq": seq, "epoch": whole["epoch"] + 1}
            assert fleet.state.task("t") == whole

        until = timestamps.show(fleet.now + LEASE)
        claimed = {"status": "claimed", "agent": "bob", "session": "s1", "until": until}
        free = {"status": "open", "agent": None, "session": None, "until": None, "claimed_at": None}
        then("bob", "claim", claimed, tasks=["t"])
        later = timestamps.show(fleet.now + 2 * LEASE)
        then("bob", "renew", {"until": later}, task="t", until=later)
        then("bob", "release", free, task="t", reason="lunch")
        then("dave", "claim", claimed | {"agent": "dave", "until": until}, tasks=["t"], until=until)
        then("alice", "release", free, task="t", force=True)
        then("bob", "claim", claimed, tasks=["t"], until=until)
        then("bob", "complete", {"status": "done", "until": None}, task="t", result="ok")
        again = claimed | {"agent": "dave", "session": "s9"}
        fields = {"tasks": ["t"], "session": "s9", "until": until, "reopen": True}
        then("dave", "claim", again, **fields)

    def test_a_task_stands_on_the_page_that_its_hash_names(self):
        fleet = MemoryLedger("bob")
        names = [f"t{number}" for number in range(9)] + ["~", "A#1/2:3"]
        fleet.put("bob", "claim", tasks=sorted(names))
        for name in names:
            digest = hashlib.sha256(name.encode()).digest()
            path = f"tasks/{digest[0] % 64:02x}/{digest[1] % 64:02x}.jsonl"
            lines = fleet.state.tree.get(path).splitlines()
            assert name in [canonical.decode(line)["task"] for line in lines]
        assert sorted(task["task"] for task in fleet.state.tasks()) == sorted(names)

    def test_tasks_on_one_page_are_sorted_by_their_bytes(self):
        fleet = MemoryLedger("bob")
        wanted = page_path("t")
        found = (f"{letter}{n}" for n in range(90_000) for letter in "Zat")
        same = [name for name in found if page_path(name) == wanted][:6]
        assert len(same) == 6
        for name in [same[3], same[0], same[5]]:
            fleet.put("bob", "submit", task=name)
        fleet.put("bob", "claim", tasks=sorted({same[0], same[1], same[2], same[4]}))
        lines = fleet.state.tree.get(wanted).splitlines()
        assert [canonical.decode(line)["task"] for line in lines] == sorted(same)
        assert all(fleet.state.task(name)["task"] == name for name in same)


class TestTheWholeState:
    def test_after_the_genesis_record(self):
        fleet = MemoryLedger()
        genesis = fleet.head.record
        ledger = {"v": 1, "ledger": genesis["ledger"], "nonce": genesis["nonce"]}
        ledger |= {"owner": "alice", "policy": POLICY, "policy_rev": 1}
        key = {"alg": "hmac-sha256", "fingerprint": genesis["fingerprint"]}
        key |= {"id": 1, "from": 0, "until": None}
        alice = {"agent": "alice", "role": "admin", "rev": 1, "keys": [key]}
        assert files_of(fleet.state) == {
            "ledger.json": canonical.encode(ledger) + b"\n",
            "agents/alice.json": canonical.encode(alice) + b"\n",
        }

    def test_a_void_record_leaves_the_tree_as_it_was(self):
        fleet = MemoryLedger("bob")
        before = fleet.head.tree
        assert fleet.put("bob", "void").commit.tree == before

    def test_is_never_changed_by_a_record_that_is_refused(self):
        fleet = fleet_with("held")
        before = files_of(fleet.state)
        assert fleet.refusal("dave", "claim", tasks=["a", "t"]) == "held"
        assert files_of(fleet.state) == before


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


class TestEpoch:
    @pytest.mark.parametrize("epoch", [1, 3, 2**53 - 1])
    def test_of_a_claim_is_the_next_one(self, epoch):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "claim", tasks=["t"])
        fleet.put("bob", "release", task="t")
        wrong = {"task": "t", "rev": 3, "epoch": epoch}
        assert fleet.refusal("bob", "claim", tasks=[wrong]) == "wrong-epoch"
        assert fleet.refusal("bob", "claim", tasks=[wrong | {"epoch": 2}]) == ""

    @pytest.mark.parametrize("epoch", [2, 3])
    def test_of_a_new_task_is_one(self, epoch):
        wrong = {"task": "t", "rev": 1, "epoch": epoch}
        assert MemoryLedger("bob").refusal("bob", "claim", tasks=[wrong]) == "wrong-epoch"

    @pytest.mark.parametrize("kind", ["renew", "complete", "release"])
    @pytest.mark.parametrize("epoch", [1, 3])
    def test_of_what_the_holder_does_is_the_tasks(self, kind, epoch):
        fleet = MemoryLedger("bob")
        for _ in range(2):
            fleet.put("bob", "claim", tasks=["t"])
            fleet.put("bob", "release", task="t")
        fleet.put("bob", "claim", tasks=["t"])
        assert fleet.state.task("t")["epoch"] == 3
        expected = "" if epoch == 3 else "wrong-epoch"
        assert fleet.refusal("bob", kind, task="t", epoch=epoch) == expected

    def test_of_a_release_by_force_is_the_tasks(self):
        fleet = fleet_with("held")
        assert fleet.refusal("alice", "release", task="t", force=True, epoch=2) == "wrong-epoch"


class TestLease:
    def test_ends_after_it_begins(self):
        fleet = MemoryLedger("bob")
        for more, code in ((-1, "bad-lease"), (0, "bad-lease"), (1, "")):
            until = timestamps.show(fleet.now + more)
            assert fleet.refusal("bob", "claim", tasks=["t"], until=until) == code

    def test_is_as_long_as_the_policy_says_and_no_millisecond_longer(self):
        fleet = MemoryLedger("bob", policy={"max_ttl": 60})
        for more, code in ((60_000, ""), (60_001, "ttl-above-policy")):
            until = timestamps.show(fleet.now + more)
            assert fleet.refusal("bob", "claim", tasks=["t"], until=until) == code
        fleet.put("bob", "claim", tasks=["t"], until=timestamps.show(fleet.now + 30_000))
        for more, code in ((60_000, ""), (60_001, "ttl-above-policy")):
            until = timestamps.show(fleet.now + more)
            assert fleet.refusal("bob", "renew", task="t", until=until) == code

    def test_is_renewed_to_a_later_end_only(self):
        fleet = fleet_with("held")
        until = timestamps.parse(fleet.state.task("t")["until"])
        for end, code in ((until - 1, "not-later"), (until, "not-later"), (until + 1, "")):
            assert fleet.refusal("bob", "renew", task="t", until=timestamps.show(end)) == code

    @pytest.mark.parametrize("kind", ["renew", "complete", "release"])
    def test_is_over_at_its_end(self, kind):
        fleet = fleet_with("held")
        until = timestamps.parse(fleet.state.task("t")["until"])
        for at, code in ((until - 1, ""), (until, "expired"), (until + SKEW, "expired")):
            fleet.now = at
            assert fleet.refusal("bob", kind, task="t") == code

    def test_can_be_taken_over_a_skew_after_its_end(self):
        fleet = fleet_with("held")
        until = timestamps.parse(fleet.state.task("t")["until"])
        for at, code in ((until + SKEW - 1, "held"), (until + SKEW, "")):
            fleet.now = at
            assert fleet.refusal("dave", "claim", tasks=["t"]) == code
            assert fleet.refusal("bob", "claim", tasks=["t"]) == code

    def test_the_skew_is_the_ledgers_own(self):
        fleet = MemoryLedger("bob", "dave", policy={"max_skew": 3600})
        fleet.put("bob", "claim", tasks=["t"])
        fleet.now = timestamps.parse(fleet.state.task("t")["until"]) + 3_600_000 - 1
        assert fleet.refusal("dave", "claim", tasks=["t"]) == "held"
        fleet.now += 1
        assert fleet.refusal("dave", "claim", tasks=["t"]) == ""
        assert fleet.state.claimable_at(fleet.state.task("t")) == fleet.now


class TestGroups:
    def test_all_tasks_are_claimed(self):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "submit", task="b")
        names = [f"t{number:02}" for number in range(15)]
        seq = fleet.put("bob", "claim", tasks=["b", *names]).commit.seq
        found = {task["task"]: task for task in fleet.state.tasks()}
        assert set(found) == {"b", *names}
        assert {(t["status"], t["epoch"], t["claim_seq"]) for t in found.values()} == {
            ("claimed", 1, seq)
        }
        assert (found["b"]["rev"], found["t00"]["rev"]) == (2, 1)

    @pytest.mark.parametrize(
        ("taken", "code"),
        [("held", "held"), ("done", "done"), ("waiting", "blocked"), ("grace", "held")],
    )
    @pytest.mark.parametrize("others", [("a", "b"), ("x", "y"), ("a", "z")])
    def test_or_none_of_them(self, taken, code, others):
        fleet = fleet_with("open" if taken == "waiting" else taken)
        if taken == "waiting":
            fleet.put("bob", "submit", task="u", after=["t"])
        before = files_of(fleet.state)
        name = "u" if taken == "waiting" else "t"
        tasks = sorted([name, *others])
        assert fleet.refusal("dave", "claim", tasks=tasks) == code
        assert files_of(fleet.state) == before
        assert fleet.refusal("dave", "claim", tasks=list(others)) == ""

    def test_one_stale_task_is_enough_to_refuse_all(self):
        fleet = fleet_with("open")
        wrong = {"task": "t", "rev": 1, "epoch": 1}
        assert fleet.refusal("bob", "claim", tasks=["a", wrong]) == "stale-rev"


class TestAfter:
    def test_a_task_waits_until_all_that_it_names_are_done(self):
        fleet = MemoryLedger("bob")
        for name in ("a", "b"):
            fleet.put("bob", "submit", task=name)
        fleet.put("bob", "submit", task="t", after=["a", "b"])
        for name in ("a", "b"):
            assert fleet.state.waits_for(fleet.state.task("t"))[0] == name
            assert fleet.refusal("bob", "claim", tasks=["t"]) == "blocked"
            assert fleet.refusal("bob", "claim", tasks=["t"], reopen=True) == "blocked"
            fleet.put("bob", "claim", tasks=[name])
            assert fleet.refusal("bob", "claim", tasks=["t"]) == "blocked"
            fleet.put("bob", "complete", task=name)
        assert fleet.refusal("bob", "claim", tasks=["t"]) == ""

    def test_a_task_cannot_wait_for_one_that_is_not_there(self):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("bob", "submit", task="t", after=["a"]) == "unknown-task"
        assert fleet.refusal("bob", "submit", task="t", after=["t"]) == "unknown-task"

    def test_a_group_cannot_unblock_itself(self):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "submit", task="a")
        fleet.put("bob", "submit", task="t", after=["a"])
        assert fleet.refusal("bob", "claim", tasks=["a", "t"]) == "blocked"

    def test_a_reopened_task_blocks_again(self):
        fleet = fleet_with("done")
        fleet.put("bob", "submit", task="u", after=["t"])
        fleet.put("bob", "claim", tasks=["t"], reopen=True)
        assert fleet.refusal("bob", "claim", tasks=["u"]) == "blocked"


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


class TestAgents:
    def test_enroll_and_revoke_change_the_agents_file(self):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "enroll", who="bob", role="admin")
        fleet.put("alice", "revoke", who="bob", id=1)
        keys = [
            {
                "id": number,
                "alg": "hmac-sha256",
                "fingerprint": fleet.secret("bob", number).fingerprint("ab" * 32, "bob", number),
                "from": first,
                "until": last,
            }
            for number, first, last in ((1, 2, 3), (2, 3, None))
        ]
        assert fleet.state.agent("bob") == {
            "agent": "bob",
            "role": "admin",
            "rev": 3,
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


class TestInbox:
    def test_a_message_is_a_line_at_the_end(self):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("bob", "send", to="dave", body="one")
        at = timestamps.show(fleet.now)
        more = {"body": "two\n\x1b[31m", "thread": 3, "importance": "high", "session": "s7"}
        fleet.put("alice", "send", to="dave", **more)
        assert [line["seq"] for line in fleet.state.inbox("dave")] == [3, 4]
        assert fleet.state.inbox("dave")[1] == {"agent": "alice", "seq": 4, "at": at} | more
        assert fleet.state.inbox("bob") == []

    def test_has_a_limited_number_of_messages(self):
        fleet = MemoryLedger("bob", "dave", policy={"inbox_messages": 3})
        for agent in ("bob", "dave", "bob"):
            fleet.put(agent, "send", to="alice")
        assert fleet.refusal("dave", "send", to="alice") == "mailbox-full"
        assert fleet.refusal("dave", "send", to="bob") == ""
        fleet.put("alice", "ack", messages=[4])
        assert fleet.refusal("dave", "send", to="alice") == ""

    def test_has_a_limited_number_of_messages_from_one_sender(self):
        fleet = MemoryLedger("bob", "dave", policy={"sender_messages": 2})
        for _ in range(2):
            fleet.put("bob", "send", to="alice", session="s8")
        assert fleet.refusal("bob", "send", to="alice") == "mailbox-full"
        assert fleet.refusal("dave", "send", to="alice") == ""
        assert fleet.refusal("bob", "send", to="dave") == ""

    def test_has_a_limited_number_of_bytes_from_one_sender_line_ends_included(self):
        fleet = MemoryLedger("bob", "dave", policy={"sender_bytes": 1024})
        fleet.put("dave", "send", to="alice", body="x" * 500)
        fleet.put("bob", "send", to="alice", body="x" * 500)
        size = len(fleet.state.tree.get("inbox/alice.jsonl")) - len(
            canonical.encode(fleet.state.inbox("alice")[0]) + b"\n"
        )
        empty = size - 500
        room = 1024 - size - empty
        assert fleet.refusal("bob", "send", to="alice", body="x" * room) == ""
        assert fleet.refusal("bob", "send", to="alice", body="x" * (room + 1)) == "mailbox-full"

    def test_tells_senders_apart_whose_names_begin_alike(self):
        fleet = MemoryLedger("bob", "bobby", "bo", policy={"sender_messages": 1})
        fleet.put("bobby", "send", to="alice", body='{"agent":"bob",')
        fleet.put("bo", "send", to="alice")
        assert fleet.refusal("bob", "send", to="alice") == ""
        assert fleet.refusal("bobby", "send", to="alice") == "mailbox-full"

    def test_is_an_active_agents(self):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("alice", "send", to="erin") == "unknown-agent"
        fleet.put("alice", "enroll", who="bob")
        fleet.put("alice", "revoke", who="bob", id=1)
        assert fleet.refusal("alice", "send", to="bob") == ""
        fleet.put("alice", "revoke", who="bob", id=2)
        assert fleet.refusal("alice", "send", to="bob") == "unknown-agent"
        fleet.put("alice", "enroll", who="bob")
        assert fleet.refusal("alice", "send", to="bob") == ""

    def test_may_be_ones_own(self):
        assert MemoryLedger().refusal("alice", "send", to="alice") == ""

    def test_an_ack_removes_its_lines_and_the_last_one_removes_the_file(self):
        fleet = MemoryLedger("bob")
        for _ in range(4):
            fleet.put("bob", "send", to="alice")
        kept = fleet.state.inbox("alice")[1]
        fleet.put("alice", "ack", messages=[2, 4, 5])
        assert fleet.state.inbox("alice") == [kept]
        fleet.put("alice", "ack", messages=[3])
        assert fleet.state.tree.names("inbox") == []
        assert "inbox" not in fleet.state.tree.names("")

    def test_an_ack_names_messages_in_ones_own_inbox(self):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("bob", "send", to="alice")
        fleet.put("alice", "send", to="bob")
        fleet.put("alice", "send", channel="general")
        for messages in ([4], [5], [0], [3, 4], [99]):
            assert fleet.refusal("alice", "ack", messages=messages) == "not-in-inbox"
        assert fleet.refusal("dave", "ack", messages=[3]) == "not-in-inbox"
        fleet.put("alice", "ack", messages=[3])
        assert fleet.refusal("alice", "ack", messages=[3]) == "not-in-inbox"


class TestThreads:
    def test_name_something_that_the_sender_had_read(self):
        fleet = MemoryLedger("bob", "dave")
        base = {"digest": fleet.head.digest, "seq": fleet.head.seq}
        fleet.put("bob", "send", to="dave")
        for to in ({"to": "dave"}, {"channel": "general"}):
            for thread, code in ((2, ""), (0, ""), (3, "bad-thread"), (99, "bad-thread")):
                assert fleet.refusal("alice", "send", **to, thread=thread, base=base) == code
        assert fleet.refusal("alice", "send", to="dave", thread=3) == ""


class TestChannels:
    def test_shed_their_oldest_lines_by_number(self):
        fleet = MemoryLedger("bob", policy={"channel_messages": 3})
        for number in range(5):
            fleet.put("bob", "send", channel="general", body=f"m{number}")
        assert [m["body"] for m in fleet.state.channel("general")] == ["m2", "m3", "m4"]

    def test_shed_their_oldest_lines_by_bytes(self):
        fleet = MemoryLedger("bob", policy={"channel_bytes": 131_072})
        for number in range(2):
            fleet.put("bob", "send", channel="general", body=f"{number}" + "x" * 59_999)
        size = len(fleet.state.tree.get("channels/general.jsonl"))
        empty = size // 2 - 60_000
        room = 131_072 - size - empty
        for body, kept in (("x" * room, [2, 3, 4]), ("x" * (room + 1), [3, 4])):
            then = fleet.at(len(fleet.log))
            then.put("bob", "send", channel="general", body=body)
            assert [m["seq"] for m in then.state.channel("general")] == kept
        for _ in range(2):
            then.put("bob", "send", channel="general", body="y" * 65_000)
        assert [m["seq"] for m in then.state.channel("general")] == [5, 6]

    def test_shed_several_lines_at_once_when_the_policy_was_lowered(self):
        fleet = MemoryLedger()
        for number in range(5):
            fleet.put("alice", "send", channel="general", body=f"m{number}")
        fleet.put("alice", "policy", set={"channel_messages": 1})
        assert len(fleet.state.channel("general")) == 5
        fleet.put("alice", "send", channel="general", body="last")
        assert [m["body"] for m in fleet.state.channel("general")] == ["last"]

    def test_shed_as_many_small_lines_as_a_large_one_needs(self):
        fleet = MemoryLedger(policy={"channel_bytes": 131_072})
        for _ in range(7):
            fleet.put("alice", "send", channel="general", body="x" * 18_000)
        assert len(fleet.state.channel("general")) == 7
        fleet.put("alice", "send", channel="general", body="y" * 60_000)
        assert [m["seq"] for m in fleet.state.channel("general")] == [5, 6, 7, 8]
        assert len(fleet.state.tree.get("channels/general.jsonl")) <= 131_072

    def test_are_limited_in_number(self):
        fleet = MemoryLedger(policy={"channels": 2})
        for name in ("a", "b", "a"):
            fleet.put("alice", "send", channel=name)
        assert fleet.state.channels() == ["a", "b"]
        assert fleet.refusal("alice", "send", channel="c") == "too-many-channels"
        assert fleet.refusal("alice", "send", channel="b") == ""


class TestPages:
    """A page of tasks has at most 1,048,576 bytes."""

    def page(self, size):
        """A state whose page for `t` has `size` bytes, `t` not among them; and its fleet."""
        fleet = MemoryLedger("bob")
        fleet.put("bob", "submit", task="t", meta={"a": "x"})
        line = fleet.state.tree.get(page_path("t"))
        blank = fleet.state.task("t")
        whole, at = [], 0
        while at < size:
            task = blank | {"task": f"!{len(whole):06}", "meta": {"a": ""}}
            bare = len(canonical.encode(task)) + 1
            rest = size - at
            take = rest if rest < 5000 else 2500
            task["meta"] = {"a": "x" * (take - bare)}
            whole.append(canonical.encode(task) + b"\n")
            at += len(whole[-1])
        assert at == size
        return fleet.at(2), files_of(fleet.state), b"".join(whole), line

    @pytest.mark.parametrize(("kind", "over"), [("submit", 0), ("submit", 1), ("claim", 1)])
    def test_a_record_that_adds_a_line_has_to_fit(self, kind, over):
        fleet, files, _, line = self.page(5000)
        record = fleet.record("bob", "submit", task="t", meta={"a": "x"})
        if kind == "claim":
            record = fleet.record("bob", "claim", tasks=["t"])
            fleet.put("bob", "claim", tasks=["t"])
            line = fleet.state.tree.get(page_path("t"))
        _, _, page, _ = self.page(1_048_576 - len(line) + over)
        full = state_of(files | {page_path("t"): page})
        assert refused(apply, full, record, 2) == ("page-full" if over else "")

    def test_a_record_that_only_changes_lines_need_not(self):
        fleet, files, _, line = self.page(5000)
        fleet.put("bob", "submit", task="t", meta={"a": "x"})
        claim = fleet.record("bob", "claim", tasks=["t"])
        _, _, page, _ = self.page(1_048_576 - len(line))
        full = state_of(files | {page_path("t"): page + line})
        changed = apply(full, claim, 3)[page_path("t")]
        assert len(changed) > 1_048_576


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["claim", "renew", "complete", "release", "reopen"]),
            st.sampled_from([("bob", "s1"), ("bob", "s2"), ("dave", "s1")]),
            st.sampled_from([0, 1, 999, 29_000, 30_000, 60_000, 61_000, 90_000, 89_999]),
        ),
        max_size=14,
    )
)
def test_no_two_sessions_ever_work_under_one_lease(steps):
    """A second, naive book-keeping of who holds the task, in the words of section 9."""
    fleet = MemoryLedger("bob", "dave")
    holder, until, done = None, 0, False
    for verb, (agent, session), wait in steps:
        fleet.now += wait
        now, end = fleet.now, fleet.now + 60_000
        kind, fields = tried(verb)
        if kind in ("claim", "renew"):
            fields["until"] = timestamps.show(end)
        if verb in ("claim", "reopen"):
            free = holder is None or now >= until + SKEW
            allowed = free and (not done or verb == "reopen")
        else:
            allowed = holder == (agent, session) and now < until
            allowed = allowed and (verb != "renew" or end > until)
        why = fleet.refusal(agent, kind, **fields, session=session)
        assert (why == "") == allowed
        if allowed:
            fleet.put(agent, kind, **fields, session=session)
            holder = (agent, session) if kind in ("claim", "renew") else None
            until = end if kind in ("claim", "renew") else until
            done = verb == "complete"
            fleet.now = now + SECOND


def test_a_refusal_near_the_end_of_time_is_a_refusal():
    fleet = MemoryLedger("bob", "dave")
    fleet.put("bob", "void", at="9999-12-31T23:59:00.000Z")
    fleet.now = timestamps.parse("9999-12-31T23:59:10.000Z")
    fleet.put("bob", "claim", tasks=["t"], until="9999-12-31T23:59:59.999Z")
    assert fleet.refusal("dave", "claim", tasks=["t"]) == "held"
