"""Submit, withdraw, claim, renew, complete, release: what each does to a task, and may not do.

Tasks move by one table; here it stands a second time, with the refusals filled in.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_ledger import (
    LEASE,
    SECOND,
    SKEW,
    MemoryLedger,
    files_of,
    refused,
)

from coordledger.format import canonical, records, timestamps
from coordledger.format.rules.tasks import MOVES
from coordledger.format.rules.tasks import standing as standing_of

STANDINGS = ["absent", "open", "held", "grace", "expired", "done", "withdrawn"]
VERBS = [
    "submit", "edit", "withdraw", "claim", "reopen", "take", "renew", "complete", "release",
    "handoff", "land", "force",
]  # fmt: skip

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
    ("absent", "withdraw"): "!unknown-task",
    ("open", "withdraw"): "withdrawn",
    ("held", "withdraw"): "!held",
    ("grace", "withdraw"): "!held",
    ("expired", "withdraw"): "withdrawn",
    ("done", "withdraw"): "!done",
    ("withdrawn", "submit"): "open",
    ("withdrawn", "withdraw"): "!withdrawn",
    ("withdrawn", "claim"): "!withdrawn",
    ("withdrawn", "reopen"): "!withdrawn",
    ("withdrawn", "renew"): "!withdrawn",
    ("withdrawn", "complete"): "!withdrawn",
    ("withdrawn", "release"): "!withdrawn",
    ("withdrawn", "force"): "!withdrawn",
}
EXPECTED |= {
    ("absent", "edit"): "!unknown-task",
    ("open", "edit"): "open",
    ("held", "edit"): "claimed",
    ("grace", "edit"): "claimed",
    ("expired", "edit"): "claimed",
    ("done", "edit"): "done",
    ("withdrawn", "edit"): "!withdrawn",
    ("absent", "handoff"): "!unknown-task",
    ("open", "handoff"): "!not-claimed",
    ("held", "handoff"): "claimed",
    ("grace", "handoff"): "!expired",
    ("expired", "handoff"): "!expired",
    ("done", "handoff"): "!done",
    ("withdrawn", "handoff"): "!withdrawn",
    ("absent", "land"): "!unknown-task",
    ("open", "land"): "!not-claimed",
    ("held", "land"): "claimed",
    ("grace", "land"): "!expired",
    ("expired", "land"): "!expired",
    ("done", "land"): "!done",
    ("withdrawn", "land"): "!withdrawn",
}
# The same for somebody who does not hold the task, where it makes a difference.
STRANGERS = {
    ("held", "claim"): "!held",
    ("held", "reopen"): "!held",
    **{
        (standing, verb): "!not-holder"
        for standing in ("held", "grace", "expired")
        for verb in ("renew", "complete", "release", "handoff", "land")
    },
}


BLANK = {  # what a line says of a task of which nothing was said
    "title": None,
    "labels": [],
    "parent": None,
    "not_before": None,
    "attempts": 0,
    "released": None,
    "offer": None,
    "submit_seq": None,
    "legacy": None,
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
    if standing == "withdrawn":
        fleet.put("bob", "release", task="t")
        fleet.put("bob", "withdraw", task="t")
    return fleet


def tried(verb):
    """Kind and fields of the record for a verb on the task `t`."""
    if verb in ("claim", "reopen"):
        return "claim", {"tasks": ["t"], "reopen": verb == "reopen"}
    if verb in ("release", "force"):
        return "release", {"task": "t", "force": verb == "force"}
    if verb == "edit":
        return "edit", {"task": "t", "set": {"priority": 1}}
    if verb == "handoff":
        return "handoff", {"task": "t", "to": "alice"}
    return verb, {"task": "t"}


def outcome(fleet, agent, verb, **more):
    kind, fields = tried(verb)
    why = fleet.refusal(agent, kind, **fields, **more)
    if why:
        return f"!{why}"
    fleet.put(agent, kind, **fields, **more)
    task = fleet.state.task("t")
    return task["status"] if task else "withdrawn"  # and it was never claimed


def test_the_table_says_something_about_each_standing_and_verb():
    taken = {("open", "take"), ("held", "take")}  # others have no offer
    brought = {("absent", "import"): "open", ("absent", "import-done"): "done"}  # test_imports.py
    assert EXPECTED.keys() == {(s, v) for s in STANDINGS for v in VERBS if v != "take"}
    allowed = {move: status for move, status in EXPECTED.items() if status[0] != "!"}
    assert allowed | dict.fromkeys(taken, "claimed") | brought == MOVES


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
    if verb in ("edit", "withdraw") and agent != "bob" and expected[0] != "!":  # bob has offered it
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
            "by": "bob",
            **BLANK,
            "submit_seq": 3,
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
            "by": None,
            **BLANK,
            "attempts": 1,
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
                whole |= {"attempts": whole["attempts"] + 1}
            if kind == "release":
                whole |= {"released": {"agent": "bob" if agent == "bob" else "dave", "seq": seq}}
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
        end = {"status": "done", "until": None, "attempts": 0, "released": None}
        then("bob", "complete", end, task="t", result="ok")
        again = claimed | {"agent": "dave", "session": "s9"}
        fields = {"tasks": ["t"], "session": "s9", "until": until, "reopen": True}
        then("dave", "claim", again, **fields)


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


class TestWithdrawal:
    def test_a_task_that_was_never_claimed_leaves_nothing(self):
        fleet = MemoryLedger("bob")
        before = files_of(fleet.state)
        fleet.put("bob", "submit", task="t")
        fleet.put("bob", "withdraw", task="t", reason="a mistake")
        assert files_of(fleet.state) == before

    def test_another_keeps_a_bare_line_because_epochs_have_no_gap(self):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "submit", task="a")
        fleet.put("bob", "submit", task="t", priority=5, meta={"x": "1"}, after=[])
        fleet.put("bob", "claim", tasks=["t"])
        fleet.put("bob", "release", task="t")
        fleet.put("bob", "withdraw", task="t")
        nothing = dict.fromkeys(("agent", "session", "claimed_at", "until", "by")) | BLANK
        seqs = {"first_seq": 3, "claim_seq": 4, "last_seq": 6, "epoch": 1, "rev": 4}
        bare = {"task": "t", "status": "withdrawn", "priority": 0, "meta": {}, "after": []}
        assert fleet.state.task("t") == bare | nothing | seqs
        fleet.put("alice", "submit", task="t", priority=7, after=["a"])
        line = fleet.state.task("t")
        assert (line["by"], line["status"], line["rev"], line["priority"]) == (
            "alice",
            "open",
            5,
            7,
        )
        assert (line["after"], line["epoch"], line["first_seq"]) == (["a"], 1, 3)

    def test_is_for_the_submitter_and_for_admins(self):
        fleet = MemoryLedger("bob", "dave")
        fleet.put("bob", "submit", task="t")
        fleet.put("dave", "claim", tasks=["unoffered"])
        fleet.put("dave", "release", task="unoffered")
        assert fleet.refusal("dave", "withdraw", task="t") == "not-permitted"
        assert fleet.refusal("dave", "withdraw", task="unoffered") == "not-permitted"
        for task in ("t", "unoffered"):
            assert fleet.refusal("alice", "withdraw", task=task) == ""

    def test_settles_what_waits_for_it(self):
        fleet = MemoryLedger("bob")
        for task in ("claimed", "never"):
            fleet.put("bob", "submit", task=task)
        fleet.put("bob", "submit", task="t", after=["claimed", "never"])
        fleet.put("bob", "claim", tasks=["claimed"])
        fleet.put("bob", "release", task="claimed")
        fleet.put("bob", "withdraw", task="never")
        assert fleet.refusal("bob", "claim", tasks=["t"]) == "blocked"
        fleet.put("bob", "withdraw", task="claimed")
        assert fleet.refusal("bob", "claim", tasks=["t"]) == ""

    def test_no_two_tasks_can_come_to_wait_for_each_other(self):
        fleet = MemoryLedger("bob")
        for task in ("claimed", "never"):
            fleet.put("bob", "submit", task=task)
        fleet.put("bob", "claim", tasks=["claimed"])
        fleet.put("bob", "release", task="claimed")
        fleet.put("bob", "submit", task="t", after=["claimed", "never"])
        for task in ("claimed", "never"):
            fleet.put("bob", "withdraw", task=task)
        assert fleet.refusal("bob", "submit", task="claimed", after=["t"]) == "after-newer"
        fleet.put("bob", "submit", task="never", after=["t"])  # another task of that name
        assert fleet.refusal("bob", "claim", tasks=["t"]) == ""
        assert fleet.refusal("bob", "claim", tasks=["never"]) == "blocked"

    def test_a_reason_has_a_limited_size(self):
        fleet = MemoryLedger("bob", policy={"max_text": 10})
        fleet.put("bob", "submit", task="t")
        assert fleet.refusal("bob", "withdraw", task="t", reason="x" * 11) == "text-too-long"
        assert fleet.refusal("bob", "withdraw", task="t", reason="x" * 10) == ""

    def test_a_withdrawn_line_that_is_offered_again_needs_room_in_its_page(self, monkeypatch):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "claim", tasks=["t"])
        fleet.put("bob", "release", task="t")
        fleet.put("alice", "withdraw", task="t")
        monkeypatch.setattr("coordledger.format.state.PAGE_BYTES", 1000)
        large = {"meta": {"x": "y" * 900}}
        assert fleet.refusal("bob", "submit", task="t", **large) == "page-full"
        assert fleet.refusal("bob", "submit", task="t") == ""


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


class TestAdmission:
    """Section 10: what a server's clock has to say about a claim."""

    @pytest.mark.parametrize("standing", ["absent", "open", "done"])
    def test_of_a_task_that_nobody_holds_asks_no_clock(self, standing):
        fleet = fleet_with(standing)
        record = fleet.record("dave", "claim", tasks=["t"], reopen=True)
        records.admit(fleet.state, record, 0)

    def test_of_a_takeover_waits_for_the_end_of_the_lease_and_the_skew(self):
        fleet = fleet_with("held")
        free = timestamps.parse(fleet.state.task("t")["until"]) + SKEW
        record = fleet.record("dave", "claim", tasks=["a", "t"])
        records.admit(fleet.state, record, free)
        assert refused(records.admit, fleet.state, record, free - 1) == "too-early"

    def test_of_any_other_kind_asks_no_clock(self):
        fleet = fleet_with("held")
        for kind, fields in (("release", {"task": "t"}), ("void", {}), ("submit", {"task": "a"})):
            records.admit(fleet.state, fleet.record("bob", kind, **fields), 0)

    def test_of_a_withdrawal_waits_for_the_end_of_the_lease_and_the_skew(self):
        fleet = fleet_with("expired")
        free = timestamps.parse(fleet.state.task("t")["until"]) + SKEW
        record = fleet.record("bob", "withdraw", task="t")
        records.admit(fleet.state, record, free)
        assert refused(records.admit, fleet.state, record, free - 1) == "too-early"


def _meta_of(size):
    """A meta of so many bytes in canonical form."""
    meta = dict.fromkeys("abc", "x" * 1024)
    bare = len(canonical.encode(meta | {"d": ""}))
    return meta | {"d": "x" * (size - bare)}


NUMBERED = [f"{n:02}" for n in range(17)]
WITHIN = [
    *[("meta", value) for value in ({}, {"a": ""}, {"a": "x" * 1024}, {"a": "\xe9" * 170})],
    *[("meta", value) for value in (dict.fromkeys(NUMBERED[:16], "x"), _meta_of(4096))],
    *[("title", value) for value in (None, "", "x" * 256, "\xe9" * 42)],
    *[("labels", value) for value in ([], NUMBERED[:16], ["x" * 64])],
    *[("priority", value) for value in (-1_000_000, 1_000_000)],
    *[("not_before", value) for value in (None, "1970-01-01T00:00:00.000Z")],
]
BEYOND = [
    *[("meta", value) for value in (None, [], "", "x", 1, True, {"a": None}, {"a": 1})],
    *[("meta", value) for value in ({"A": "x"}, {"": "x"}, {"a b": "x"}, {"a": {"b": "x"}})],
    *[("meta", value) for value in ({"a": "x" * 1025}, {"a": "\xe9" * 171}, _meta_of(4097))],
    ("meta", dict.fromkeys(NUMBERED, "x")),
    *[("title", value) for value in (1, [], "x" * 257, "\xe9" * 43)],
    *[("labels", value) for value in (None, "a", NUMBERED, ["b", "a"], ["a", "a"], ["A"], [""])],
    *[("labels", value) for value in (["a", 1], ["x" * 65])],
    *[("after", value) for value in (None, "t", NUMBERED, ["u", "t"], ["t", "t"], ["a b"])],
    *[("priority", value) for value in (None, True, "1", -1_000_001, 1_000_001)],
    *[("parent", value) for value in ("", "a b", "x" * 201, 1, ["t"])],
    *[("not_before", value) for value in ("", "2026-11-21", "2026-11-21T24:00:00.000Z", 0)],
]


class TestAttributes:
    @pytest.fixture
    def fleet(self):
        return MemoryLedger("bob")

    @pytest.mark.parametrize(("name", "value"), WITHIN, ids=lambda value: ascii(value)[:20])
    def test_of_this_size_are_taken(self, fleet, name, value):
        fleet.put("bob", "submit", task="t", **{name: value})
        fleet.put("bob", "submit", task="u")
        fleet.put("bob", "edit", task="u", set={name: value})
        assert [fleet.state.task(task)[name] for task in ("t", "u")] == [value, value]

    @pytest.mark.parametrize(("name", "value"), BEYOND, ids=lambda value: ascii(value)[:20])
    def test_beyond_that_or_of_another_kind_are_refused(self, fleet, name, value):
        fleet.put("bob", "submit", task="u")
        for kind, fields in (("submit", {name: value}), ("edit", {"set": {name: value}})):
            record = fleet.record("bob", kind, task="t" if kind == "submit" else "u", **fields)
            assert refused(records.check, record) == "bad-record"

    @pytest.mark.parametrize("changes", [{}, {"body": "x"}, {"title": "x", "by": "bob"}, [], None])
    def test_an_edit_names_one_at_least_and_nothing_else(self, fleet, changes):
        fleet.put("bob", "submit", task="u")
        record = fleet.record("bob", "edit", task="u", set=changes)
        assert refused(records.check, record) == "bad-record"
