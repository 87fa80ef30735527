"""Tasks and messages from another system: what an import leaves in the state, and for how long."""

import pytest
from support.memory_ledger import LEGACY, SECOND, SKEW, MemoryLedger, files_of

from coordledger.format import timestamps
from coordledger.format.state import PAGE_BYTES, page_path


@pytest.fixture
def fleet():
    return MemoryLedger("bob", "carol", policy={"max_ttl": 3600})


def offer(fleet, to="bob", seconds=600):
    return {"agent": to, "until": timestamps.show(fleet.now + seconds * SECOND)}


class TestATask:
    def test_that_is_open_goes_on_with_the_epoch_after_its_old_one(self, fleet):
        fleet.put("alice", "import", task="t", epoch=4, attempts=2)
        line = fleet.state.task("t")
        assert (line["status"], line["epoch"], line["attempts"]) == ("open", 4, 2)
        fleet.put("bob", "claim", tasks=["t"])
        line = fleet.state.task("t")
        assert (line["epoch"], line["attempts"], line["claim_seq"]) == (5, 3, 4)

    def test_is_the_importers_and_nobody_has_held_it(self, fleet):
        fleet.put("alice", "import", task="t", status="done", epoch=3, result="merged")
        line = fleet.state.task("t")
        assert (line["by"], line["submit_seq"]) == ("alice", 3)
        nobody = [line[name] for name in ("agent", "session", "claimed_at", "until", "claim_seq")]
        assert nobody == [None] * 5
        assert "merged" not in str(line)

    @pytest.mark.parametrize("mac", ["valid", "invalid", "unknown"])
    def test_says_what_the_importer_found_until_it_is_claimed(self, fleet, mac):
        fleet.put("alice", "import", task="t", legacy=LEGACY | {"mac": mac})
        legacy = {"mac": mac, "seq": 3, "source": "an older system"}
        fleet.put("alice", "edit", task="t", set={"priority": 1})
        assert fleet.state.task("t")["legacy"] == legacy
        fleet.put("bob", "claim", tasks=["t"])
        assert fleet.state.task("t")["legacy"] is None

    def test_says_so_no_longer_once_it_is_withdrawn_or_submitted_again(self, fleet):
        fleet.put("alice", "import", task="t", epoch=2)
        fleet.put("alice", "withdraw", task="t")
        line = fleet.state.task("t")
        assert (line["legacy"], line["epoch"], line["status"]) == (None, 2, "withdrawn")
        fleet.put("bob", "submit", task="t")
        assert fleet.state.task("t")["legacy"] is None
        fleet.put("bob", "claim", tasks=["t"])
        assert fleet.state.task("t")["epoch"] == 3

    def test_that_nobody_ever_claimed_leaves_no_line_when_it_is_withdrawn(self, fleet):
        before = files_of(fleet.state)
        fleet.put("alice", "import", task="t")
        fleet.put("alice", "withdraw", task="t")
        assert files_of(fleet.state) == before

    def test_that_is_done_settles_what_waits_for_it_and_can_be_reopened(self, fleet):
        fleet.put("alice", "import", task="t", status="done", epoch=1)
        fleet.put("bob", "submit", task="next", after=["t"])
        fleet.put("bob", "claim", tasks=["next"])
        assert fleet.refusal("bob", "claim", tasks=["t"]) == "done"
        fleet.put("carol", "claim", tasks=["t"], reopen=True)
        assert fleet.state.task("t")["epoch"] == 2

    def test_waits_for_tasks_that_were_imported_before_it(self, fleet):
        fleet.put("alice", "import", task="t")
        fleet.put("alice", "import", task="next", after=["t"], parent="t")
        assert fleet.refusal("bob", "claim", tasks=["next"]) == "blocked"

    def test_is_imported_once(self, fleet):
        fleet.put("alice", "import", task="t")
        assert fleet.refusal("alice", "import", task="t") == "task-exists"
        fleet.put("bob", "claim", tasks=["u"])
        assert fleet.refusal("alice", "import", task="u") == "task-exists"
        assert fleet.refusal("alice", "submit", task="t") == "task-exists"

    def test_has_room_in_its_page(self, fleet):
        name, others = "t0", (f"t{n}" for n in range(10**6))
        body = {"meta": dict.fromkeys("abc", "x" * 1000), "title": "x" * 256}
        same = (task for task in others if page_path(task) == page_path(name))
        while fleet.refusal("alice", "import", task=(task := next(same)), **body) == "":
            fleet.put("alice", "import", task=task, **body)
        assert fleet.refusal("alice", "import", task=task, **body) == "page-full"
        assert PAGE_BYTES - 5000 < len(fleet.state.tree.get(page_path(name))) <= PAGE_BYTES


class TestAnOffer:
    def test_keeps_others_away_until_it_ends(self, fleet):
        fleet.put("alice", "import", task="t", epoch=1, offer=offer(fleet))
        assert fleet.refusal("carol", "claim", tasks=["t"]) == "offered"
        end = timestamps.parse(fleet.state.task("t")["offer"]["until"])
        fleet.now = end + SKEW - 1
        assert fleet.refusal("carol", "claim", tasks=["t"]) == "offered"
        fleet.now = end + SKEW
        fleet.put("carol", "claim", tasks=["t"])

    def test_is_taken_without_another_attempt_though_the_task_waits_for_others(self, fleet):
        fleet.put("bob", "submit", task="first")
        given = {"epoch": 4, "attempts": 1, "after": ["first"], "offer": offer(fleet)}
        fleet.put("alice", "import", task="t", **given)
        assert fleet.state.task("t")["offer"]["seq"] == 4
        fleet.put("bob", "claim", tasks=["t"])
        line = fleet.state.task("t")
        assert (line["epoch"], line["attempts"], line["offer"]) == (5, 1, None)

    def test_is_for_an_agent_with_a_key_and_no_longer_than_a_lease(self, fleet):
        def refusal(given):
            return fleet.refusal("alice", "import", task="t", offer=given)

        assert refusal(offer(fleet, "dave")) == "unknown-agent"
        assert refusal(offer(fleet, seconds=0)) == "bad-lease"
        assert refusal(offer(fleet, seconds=3601)) == "ttl-above-policy"
        assert refusal(offer(fleet, seconds=3600)) == ""
        fleet.put("alice", "revoke", who="bob")
        assert refusal(offer(fleet)) == "unknown-agent"


class TestAMessage:
    def test_stands_in_the_records_alone(self, fleet):
        before = files_of(fleet.state)
        fleet.put("alice", "archive", to="bob", channel="general", body="\x1b[31m")
        assert files_of(fleet.state) == before
        assert fleet.state.inbox("bob") == []

    def test_has_a_body_within_the_policys_bound(self):
        fleet = MemoryLedger(policy={"max_body": 6})
        fleet.put("alice", "archive", body="é")
        assert fleet.refusal("alice", "archive", body="é.") == "text-too-long"


@pytest.mark.parametrize(("kind", "given"), [("import", {"task": "t"}), ("archive", {})])
def test_it_takes_an_admin(fleet, kind, given):
    assert fleet.refusal("bob", kind, **given) == "not-permitted"
    fleet.put("alice", "enroll", who="bob", role="admin")
    assert fleet.refusal("bob", kind, key=2, **given) == ""
