"""What a claim may not do, and what it leaves behind: times, offers, attempts, reserved paths.

By which moves a task changes at all, and who its holder is, stands in `test_tasks`.
"""

import pytest
from support.memory_ledger import LEASE, SECOND, SKEW, MemoryLedger, state_of

from coordledger.errors import RuleBroken
from coordledger.format import timestamps
from coordledger.format.records import admit
from coordledger.format.reservations import Area, path_problem
from coordledger.format.rules.claims import KINDS
from coordledger.format.state import RESERVATIONS, line_of, page_path


@pytest.fixture
def fleet():
    fleet = MemoryLedger("bob", "dave", "erin")
    fleet.put("bob", "submit", task="t")
    return fleet


def line(fleet, task="t"):
    return fleet.state.task(task)


def at_the_server(fleet, now, agent, kind, **fields):
    """The slug with which a server would refuse a record that is valid, or ""."""
    record = fleet.record(agent, kind, **fields)
    assert fleet.refusal_of(fleet.sign(record)) == ""
    try:
        admit(fleet.state, record, now)
    except RuleBroken as broken:
        assert str(broken)
        return broken.code
    return ""


class TestNotBefore:
    def test_a_task_is_claimed_from_its_very_moment_on(self, fleet):
        then = fleet.now + 60 * SECOND
        fleet.put("bob", "edit", task="t", set={"not_before": timestamps.show(then)})
        for moment, code in ((then - 1, "not-yet"), (then, "")):
            fleet.now = moment
            assert fleet.refusal("dave", "claim", tasks=["t"]) == code
            assert fleet.refusal("dave", "claim", tasks=["t"], reopen=True) == code

    def test_the_servers_clock_has_to_have_come_there_too(self, fleet):
        then = fleet.now + 60 * SECOND
        fleet.put("bob", "edit", task="t", set={"not_before": timestamps.show(then)})
        fleet.now = then
        assert at_the_server(fleet, then - 1, "dave", "claim", tasks=["t"]) == "not-yet"
        assert at_the_server(fleet, then, "dave", "claim", tasks=["t"]) == ""

    def test_a_release_says_it_or_takes_it_back(self, fleet):
        then = timestamps.show(fleet.now + 600 * SECOND)
        fleet.put("dave", "claim", tasks=["t"])
        fleet.put("dave", "release", task="t", not_before=then)
        assert line(fleet)["not_before"] == then
        assert fleet.refusal("bob", "claim", tasks=["t"]) == "not-yet"
        fleet.now = timestamps.parse(then)
        fleet.put("dave", "claim", tasks=["t"])
        fleet.put("dave", "release", task="t")
        assert line(fleet)["not_before"] is None


class TestReopening:
    @pytest.mark.parametrize(
        ("policy", "may"),
        [(0, {"alice", "bob", "dave"}), (1, {"alice", "bob"}), (2, {"alice"})],
    )
    def test_is_for_those_of_whom_the_policy_says_so(self, fleet, policy, may):
        fleet.put("alice", "policy", set={"reopen": policy})
        fleet.put("dave", "claim", tasks=["t"])
        fleet.put("dave", "complete", task="t")
        for agent in ("alice", "bob", "dave"):
            code = fleet.refusal(agent, "claim", tasks=["t"], reopen=True)
            assert code == ("" if agent in may else "not-permitted")
            assert fleet.refusal(agent, "claim", tasks=["t"]) == "done"
            assert fleet.refusal(agent, "claim", tasks=["new"], reopen=True) == ""

    def test_is_for_the_name_above_the_submitter_as_if_it_were_its_own(self, fleet):
        fleet.put("alice", "policy", set={"reopen": 1})
        fleet.put("bob", "enroll", who="bob.x")
        fleet.put("bob.x", "submit", task="x")
        fleet.put("dave", "claim", tasks=["x"])
        assert fleet.refusal("bob", "edit", task="x", set={"priority": 1}) == ""
        fleet.put("dave", "complete", task="x")
        assert fleet.refusal("bob", "claim", tasks=["x"], reopen=True) == ""
        assert fleet.refusal("dave", "claim", tasks=["x"], reopen=True) == "not-permitted"


class TestAttempts:
    def test_are_counted_until_the_task_is_completed(self, fleet):
        for number in (1, 2):
            fleet.put("dave", "claim", tasks=["t"])
            assert line(fleet)["attempts"] == number
            seq = fleet.put("dave", "release", task="t").commit.seq
            assert line(fleet)["released"] == {"agent": "dave", "seq": seq}
        fleet.put("bob", "claim", tasks=["t"])
        assert line(fleet)["released"]["agent"] == "dave"  # who gave it back last
        fleet.put("bob", "complete", task="t")
        assert (line(fleet)["attempts"], line(fleet)["released"]) == (0, None)
        fleet.put("bob", "claim", tasks=["t"], reopen=True)
        assert line(fleet)["attempts"] == 1

    def test_count_a_lease_that_ran_out(self, fleet):
        fleet.put("dave", "claim", tasks=["t"])
        fleet.now += LEASE + SKEW
        fleet.put("bob", "claim", tasks=["t"])
        assert line(fleet)["attempts"] == 2

    def test_a_release_by_force_names_who_held_it(self, fleet):
        fleet.put("dave", "claim", tasks=["t"])
        fleet.put("alice", "release", task="t", force=True)
        assert line(fleet)["released"]["agent"] == "dave"

    def test_end_when_the_task_is_withdrawn(self, fleet):
        fleet.put("dave", "claim", tasks=["t"])
        fleet.put("dave", "release", task="t")
        fleet.put("bob", "withdraw", task="t")
        assert (line(fleet)["attempts"], line(fleet)["released"]) == (0, None)


class TestOffers:
    @pytest.fixture
    def offered(self, fleet):
        """bob has offered the task `t` to dave."""
        fleet.put("bob", "claim", tasks=["t"])
        self.seq = fleet.put("bob", "handoff", task="t", to="dave", note="half done").commit.seq
        return fleet

    def test_stand_in_the_line_and_change_no_holder(self, offered):
        task = line(offered)
        assert task["offer"] == {"agent": "dave", "seq": self.seq, "until": task["until"]}
        assert (task["agent"], task["epoch"], task["attempts"]) == ("bob", 1, 1)

    def test_are_taken_at_once_with_the_next_epoch_and_no_further_attempt(self, offered):
        before = line(offered)
        assert at_the_server(offered, offered.now, "dave", "claim", tasks=["t"]) == ""
        offered.put("dave", "claim", tasks=["t"], session="s9")
        task = line(offered)
        assert (task["agent"], task["session"], task["offer"]) == ("dave", "s9", None)
        assert (task["epoch"], task["attempts"]) == (2, before["attempts"])
        assert offered.refusal("bob", "renew", task="t") == "not-holder"
        assert offered.refusal("bob", "complete", task="t") == "not-holder"

    def test_are_for_nobody_else(self, offered):
        for agent in ("alice", "erin"):
            assert offered.refusal(agent, "claim", tasks=["t"]) == "held"
        assert offered.refusal("bob", "claim", tasks=["t"]) == "already-yours"

    def test_last_until_the_lease_ends(self, offered):
        until = timestamps.parse(line(offered)["until"])
        for moment, code in ((until - 1, ""), (until, "held"), (until + SKEW, "")):
            offered.now = moment
            assert offered.refusal("dave", "claim", tasks=["t"]) == code
        offered.put("erin", "claim", tasks=["t"])
        assert (line(offered)["attempts"], line(offered)["offer"]) == (2, None)

    @pytest.mark.parametrize("kind", ["renew", "complete", "release"])
    def test_end_with_whatever_the_giver_does_next(self, offered, kind):
        offered.put("bob", kind, task="t")
        assert line(offered)["offer"] is None

    def test_are_replaced_by_another_one(self, offered):
        offered.put("bob", "handoff", task="t", to="erin")
        assert line(offered)["offer"]["agent"] == "erin"
        assert offered.refusal("dave", "claim", tasks=["t"]) == "held"

    def test_end_with_a_release_by_force(self, offered):
        offered.put("alice", "release", task="t", force=True)
        assert line(offered)["offer"] is None

    def test_are_for_somebody_else_who_can_sign(self, offered):
        offered.put("alice", "revoke", who="erin")
        rows = {"bob": "to-oneself", "erin": "unknown-agent", "nobody": "unknown-agent"}
        for to, code in rows.items():
            assert offered.refusal("bob", "handoff", task="t", to=to) == code

    def test_to_somebody_who_was_revoked_block_the_task_no_longer_than_the_lease(self, offered):
        offered.put("alice", "revoke", who="dave")
        assert offered.refusal("dave", "claim", tasks=["t"]) == "unknown-key"
        assert offered.refusal("bob", "renew", task="t") == ""
        assert offered.refusal("bob", "handoff", task="t", to="erin") == ""

    def test_pass_on_through_a_chain_of_agents(self, offered):
        offered.put("dave", "claim", tasks=["t"])
        offered.put("dave", "handoff", task="t", to="erin")
        offered.put("erin", "claim", tasks=["t"])
        offered.put("erin", "handoff", task="t", to="bob")
        offered.put("bob", "claim", tasks=["t"])
        assert (line(offered)["agent"], line(offered)["epoch"]) == ("bob", 4)
        assert line(offered)["attempts"] == 1

    def test_are_taken_whatever_a_new_claim_would_have_to_wait_for(self, offered):
        later = timestamps.show(offered.now + LEASE)
        offered.put("bob", "submit", task="u")
        offered.put("bob", "submit", task="v", after=["u"])
        assert offered.refusal("dave", "claim", tasks=["v"]) == "blocked"
        offered.put("alice", "edit", task="t", set={"not_before": later})
        assert offered.refusal("dave", "claim", tasks=["t"]) == ""

    def test_can_be_one_of_a_group(self, offered):
        offered.put("dave", "claim", tasks=["new", "t"])
        assert (line(offered)["attempts"], line(offered, "new")["attempts"]) == (1, 1)


class TestPathsForm:
    @pytest.mark.parametrize(
        "path",
        ["a", "a/", "a/b", ".git/", "..a", "a..", "a b", "*", "\xe9/\u202e", "x" * 1024, "\xa0~"],
    )
    def test_of_a_good_one(self, path):
        assert path_problem(path) == ""

    @pytest.mark.parametrize(
        "path",
        [
            *("", "/", "//", "/a", "a//", "a//b", ".", "./", "a/.", "..", "../a", "a/../b"),
            *(
                "a\n",
                "\0",
                "\x1f",
                "\x7f",
                "\x80",
                "\x85",
                "\x9f",
                "x" * 1025,
                "\xe9" * 171,
                None,
                1,
                ["a"],
            ),
        ],
    )
    def test_of_a_bad_one(self, path):
        assert path_problem(path)

    @pytest.mark.parametrize(
        ("one", "other", "overlap"),
        [
            ("a", "a", True),
            ("a", "a/", True),
            ("a/", "a/b", True),
            ("a/", "a/b/c/", True),
            ("a/", "ab", False),
            ("a", "a/b", False),  # `a` is a file: below it there is nothing
            ("a/b", "a/c", False),
            ("a/b/", "a/bc", False),
            ("A", "a", False),
            ("a/*", "a/b", False),
        ],
    )
    def test_decides_what_overlaps_either_way_round(self, one, other, overlap):
        assert Area([one]).overlaps(other) == overlap
        assert Area([other]).overlaps(one) == overlap
        assert Area(["z", one]).overlaps(other) == overlap


class TestPaths:
    @pytest.fixture
    def reserved(self, fleet):
        """bob's claim of `t` has the paths README.md and src/."""
        fleet.put("bob", "claim", tasks=["t"], paths=["README.md", "src/"])
        return fleet

    def reserve(self, fleet, agent, path, **more):
        return fleet.refusal(agent, "claim", tasks=["new"], paths=[path], **more)

    def test_stand_in_one_file(self, reserved):
        until = line(reserved)["until"]
        assert reserved.state.reservations() == [
            {"agent": "bob", "session": "s1", "task": "t", "until": until}
            | {"paths": ["README.md", "src/"]}
        ]

    def test_are_refused_to_others_and_to_other_sessions(self, reserved):
        assert self.reserve(reserved, "dave", "src/auth/") == "reserved"
        assert self.reserve(reserved, "bob", "src/auth/", session="s2") == "reserved"
        assert self.reserve(reserved, "bob", "src/auth/") == ""
        assert self.reserve(reserved, "dave", "docs/") == ""

    def test_name_who_holds_them(self, reserved):
        record = reserved.record("dave", "claim", tasks=["new"], paths=["src/a"])
        with pytest.raises(RuleBroken, match="src/ is reserved by bob/s1 for t until ") as caught:
            reserved.chain.propose(reserved.sign(record))
        data = caught.value.data
        assert (data["agent"], data["task"], data["path"]) == ("bob", "t", "src/")

    @pytest.mark.parametrize(
        ("agent", "kind", "more"),
        [
            ("bob", "complete", {}),
            ("bob", "release", {}),
            ("alice", "release", {"force": True}),
        ],
    )
    def test_are_free_when_the_claim_ends(self, reserved, agent, kind, more):
        reserved.put(agent, kind, task="t", **more)
        assert reserved.state.tree.get("paths.jsonl") is None
        assert self.reserve(reserved, "dave", "src/") == ""

    def test_are_free_when_the_task_is_withdrawn(self, reserved):
        reserved.now += LEASE + SKEW
        reserved.put("bob", "withdraw", task="t")
        assert reserved.state.reservations() == []

    def test_are_free_a_skew_after_the_leases_end_by_the_servers_clock_too(self, reserved):
        free = timestamps.parse(line(reserved)["until"]) + SKEW
        for moment, code in ((free - 1, "reserved"), (free, "")):
            reserved.now = moment
            assert self.reserve(reserved, "dave", "src/") == code
        given = {"tasks": ["new"], "paths": ["src/"]}
        assert at_the_server(reserved, free - 1, "dave", "claim", **given) == "reserved"
        assert at_the_server(reserved, free, "dave", "claim", **given) == ""

    def test_go_on_with_the_lease(self, reserved):
        until = timestamps.show(reserved.now + 3 * LEASE)
        reserved.put("bob", "renew", task="t", until=until)
        assert [one["until"] for one in reserved.state.reservations()] == [until]
        reserved.now += 2 * LEASE
        assert self.reserve(reserved, "dave", "src/") == "reserved"

    def test_are_those_of_the_newest_claim(self, reserved):
        reserved.put("bob", "handoff", task="t", to="dave")
        reserved.put("dave", "claim", tasks=["t"], paths=["src/b"])
        assert [one["paths"] for one in reserved.state.reservations()] == [["src/b"]]
        reserved.put("dave", "handoff", task="t", to="erin")
        reserved.put("erin", "claim", tasks=["t"])
        assert reserved.state.reservations() == []

    def test_of_leases_that_ended_long_ago_are_tidied_up_by_the_next_claim(self, reserved):
        until = timestamps.parse(line(reserved)["until"])
        reserved.now = until + 2 * SKEW - 1
        reserved.put("dave", "claim", tasks=["u"], paths=["x"])
        assert [one["task"] for one in reserved.state.reservations()] == ["t", "u"]
        reserved.put("dave", "claim", tasks=["v"])  # one without paths leaves them
        assert [one["task"] for one in reserved.state.reservations()] == ["t", "u"]
        reserved.put("dave", "claim", tasks=["w"], paths=["y"])
        assert [one["task"] for one in reserved.state.reservations()] == ["u", "w"]

    def test_belong_to_each_task_of_a_group(self, fleet):
        fleet.put("bob", "claim", tasks=["a", "b"], paths=["x"])
        fleet.put("bob", "complete", task="a")
        assert self.reserve(fleet, "dave", "x") == "reserved"
        fleet.put("bob", "complete", task="b")
        assert self.reserve(fleet, "dave", "x") == ""

    def test_of_all_together_have_a_bound(self, fleet):
        paths = [f"{n:02}{'x' * 1022}" for n in range(32)]
        fleet.put("bob", "claim", tasks=["a1", "a2", "a3"], paths=paths)
        full = {"tasks": ["a4"], "paths": paths}
        assert fleet.refusal("bob", "claim", **full) == "paths-full"
        assert fleet.refusal("bob", "claim", tasks=["a4"]) == ""
        assert fleet.refusal("bob", "renew", task="a1") == ""
        room = 131_072 - len(fleet.state.tree.get(RESERVATIONS))
        bare = {"agent": "bob", "session": "s1", "task": "a4", "until": line(fleet, "a1")["until"]}
        room -= len(line_of(bare | {"paths": [""]}))
        assert room > 1000
        last = [f"{n:03}{'y' * 1017}" for n in range(room // 1023)]
        last.append("z" * (room - 1023 * len(last)))
        given = {"tasks": ["a4"], "until": bare["until"]}
        assert fleet.refusal("bob", "claim", **given, paths=[*last[:-1], last[-1] + "z"]) == (
            "paths-full"
        )
        fleet.put("bob", "claim", **given, paths=last)
        assert len(fleet.state.tree.get(RESERVATIONS)) == 131_072


class TestAnOfferOfWhatNobodyHolds:
    """No record of today leaves one: a state may, and the page says what it means."""

    def refusal(self, fleet, agent, at):
        until = timestamps.show(fleet.now + LEASE)
        offer = {"agent": "dave", "seq": 1, "until": until}
        content = line_of(line(fleet) | {"offer": offer})
        ledger = {"ledger.json": line_of(fleet.state.ledger), page_path("t"): content}
        record = fleet.record(agent, "claim", tasks=["t"], at=timestamps.show(fleet.now + at))
        record["until"] = timestamps.show(fleet.now + 3 * LEASE)
        try:
            KINDS["claim"].apply(state_of(ledger), record, 9)
        except RuleBroken as broken:
            return broken.code
        return ""

    @pytest.mark.parametrize(
        ("at", "agents"),
        [(0, {"dave"}), (LEASE - 1, {"dave"}), (LEASE, set()), (LEASE + SKEW - 1, set())],
    )
    def test_is_for_one_until_it_ends(self, fleet, at, agents):
        codes = {who: self.refusal(fleet, who, at) for who in ("alice", "bob", "dave")}
        assert codes == {who: "" if who in agents else "offered" for who in codes}

    def test_is_over_a_skew_later(self, fleet):
        assert {self.refusal(fleet, who, LEASE + SKEW) for who in ("alice", "dave")} == {""}


class TestEdits:
    def test_are_for_the_submitter_the_holder_and_admins(self, fleet):
        fleet.put("dave", "claim", tasks=["t"])
        given = {"task": "t", "set": {"title": "x"}}
        rows = {"alice": "", "bob": "", "dave": "", "erin": "not-permitted"}
        assert {who: fleet.refusal(who, "edit", **given) for who in rows} == rows
        assert fleet.refusal("dave", "edit", **given, session="s2") == "not-permitted"
        fleet.now += LEASE
        assert fleet.refusal("dave", "edit", **given) == "not-permitted"

    def test_change_what_they_name_and_nothing_else(self, fleet):
        fleet.put("bob", "edit", task="t", set={"title": "One", "labels": ["a"]})
        before = line(fleet)
        seq = fleet.put("bob", "edit", task="t", set={"title": None, "meta": {"x": "1"}}).commit.seq
        changed = {"title": None, "meta": {"x": "1"}, "rev": 3, "last_seq": seq}
        assert line(fleet) == before | changed

    def test_make_no_cycle(self, fleet):
        fleet.put("bob", "submit", task="u", after=["t"], parent="t")
        for attribute, code in (("after", "after-newer"), ("parent", "parent-newer")):
            for name, wrong in (("u", code), ("t", code), ("nothing", "unknown-task")):
                value = [name] if attribute == "after" else name
                given = {"task": "t", "set": {attribute: value}}
                assert fleet.refusal("bob", "edit", **given) == wrong

    def test_find_room_in_the_page_or_are_refused(self, fleet):
        meta = {f"m{n}": "x" * 1000 for n in range(4)}
        names = _on_one_page(40)
        offered = []
        for name in names:
            if fleet.refusal("bob", "submit", task=name, meta=meta):
                break
            fleet.put("bob", "submit", task=name, meta=meta)
            offered.append(name)
        assert len(offered) < len(names)
        longer = {"title": "x" * 256, "labels": [f"{n:02}{'l' * 62}" for n in range(16)]}
        codes = []
        for name in offered[:5]:
            codes.append(fleet.refusal("bob", "edit", task=name, set=longer))
            if codes[-1] == "":
                fleet.put("bob", "edit", task=name, set=longer)
        assert set(codes) <= {"", "page-full"}
        assert codes[-1] == "page-full"
        assert len(fleet.state.tree.get(page_path(names[0]))) <= 131_072


def _on_one_page(count):
    """Names of tasks that stand on one page."""
    wanted = page_path("t")
    found, number = [], 0
    while len(found) < count:
        number += 1
        if page_path(f"n{number}") == wanted:
            found.append(f"n{number}")
    return found
