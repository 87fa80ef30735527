"""Facts: set, replaced, removed, at their end, and the bounds of their page."""

import pytest
from support.memory_ledger import SECOND, SKEW, MemoryLedger

from coordledger.format import timestamps
from coordledger.format.state import PAGE_BYTES, fact_path


@pytest.fixture
def fleet():
    return MemoryLedger("bob")


def on_page_of(key, count):
    """Other keys on the page of `key`."""
    keys = (f"other/{n}" for n in range(100_000))
    return [other for other in keys if fact_path(other) == fact_path(key)][:count]


class TestALine:
    def test_says_who_set_what_and_when_and_its_revision_is_the_records_number(self, fleet):
        at, until = timestamps.show(fleet.now), timestamps.show(fleet.now + 1)
        fleet.put("bob", "fact", fact="k", value="\x1b[31m é", until=until, session="s7")
        said = {"fact": "k", "value": "\x1b[31m é", "until": until, "at": at}
        assert fleet.state.fact("k") == said | {"agent": "bob", "session": "s7", "rev": 2}
        assert fleet.state.fact("j") is None
        assert list(fleet.state.facts()) == [fleet.state.fact("k")]

    def test_takes_the_place_of_the_one_before_whoever_set_that(self, fleet):
        other = on_page_of("k", 1)[0]
        fleet.put("bob", "fact", fact="k", value="1")
        fleet.put("bob", "fact", fact=other, value="2")
        fleet.put("alice", "fact", fact="k", value="3")
        assert [line["value"] for line in fleet.state.facts()] == ["2", "3"]  # sorted by rev
        assert fleet.state.fact("k")["agent"] == "alice"

    @pytest.mark.parametrize(
        "value", ["k", '"', '\\"', ',"fact":"k","rev":', ',"until":"1970', "\n"]
    )
    def test_is_found_whatever_another_one_says(self, fleet, value):
        key = "k"
        for other in on_page_of(key, 2):
            fleet.put("bob", "fact", fact=other, value=value)
        fleet.put("bob", "fact", fact=key, value="mine")
        fleet.put("bob", "fact", fact=key, value="still")
        assert fleet.state.fact(key)["value"] == "still"
        assert len(list(fleet.state.facts())) == 3

    def test_may_have_a_key_of_any_printable_characters(self, fleet):
        for key in ('"', "\\", '\\"', ',"rev":', "~" * 200):
            fleet.put("bob", "fact", fact=key, value="1")
            fleet.put("bob", "fact", fact=key, value="2")
            assert fleet.state.fact(key)["value"] == "2"
            fleet.put("bob", "fact", fact=key, value=None)
            assert fleet.state.fact(key) is None
        assert "facts" not in fleet.state.tree.names("")


class TestComparing:
    def test_who_read_another_value_has_lost(self, fleet):
        fleet.put("bob", "fact", fact="k")
        for was in (0, 1, 3):
            assert fleet.refusal("alice", "fact", fact="k", was=was) == "fact-changed"
        assert fleet.refusal("alice", "fact", fact="k", was=2) == ""
        assert fleet.refusal("alice", "fact", fact="k", was=2, value=None) == ""
        assert fleet.refusal("alice", "fact", fact="j", was=2) == "fact-changed"

    def test_what_was_removed_and_set_again_is_at_another_revision(self, fleet):
        seen = fleet.put("bob", "fact", fact="k", value="a").commit.seq
        fleet.put("bob", "fact", fact="k", value=None)
        assert fleet.refusal("alice", "fact", fact="k", was=seen) == "fact-changed"
        fleet.put("bob", "fact", fact="k", value="a")
        assert fleet.refusal("alice", "fact", fact="k", was=seen) == "fact-changed"
        assert fleet.refusal("alice", "fact", fact="k", was=seen, value=None) == "fact-changed"

    def test_nothing_is_removed_that_is_not_there(self, fleet):
        assert fleet.refusal("bob", "fact", fact="k", was=1, value=None) == "fact-changed"


class TestAnEnd:
    def test_is_after_the_beginning(self, fleet):
        for more, code in ((0, "fact-ends-at-once"), (-1, "fact-ends-at-once"), (1, "")):
            until = timestamps.show(fleet.now + more)
            assert fleet.refusal("bob", "fact", fact="k", until=until) == code

    def test_is_no_reason_not_to_replace_it_before_or_after(self, fleet):
        until = timestamps.show(fleet.now + 60 * SECOND)
        for _ in range(2):
            fleet.put("bob", "fact", fact="k", until=until)
        fleet.now = timestamps.parse(until) + 5 * SKEW
        assert fleet.refusal("bob", "fact", fact="k", was=3) == ""
        assert fleet.refusal("bob", "fact", fact="k", was=2) == "fact-changed"

    def test_lets_it_count_as_absent_two_skews_later(self, fleet):
        until = timestamps.show(fleet.now + 60 * SECOND)
        fleet.put("bob", "fact", fact="k", until=until)
        fleet.now = timestamps.parse(until) + 2 * SKEW - 1
        assert fleet.refusal("bob", "fact", fact="k", was=0) == "fact-changed"
        fleet.now += 1
        assert fleet.refusal("bob", "fact", fact="k", was=0) == ""

    def test_makes_room_two_skews_later_by_any_record_on_its_page(self, fleet):
        other, lasting = on_page_of("k", 2)
        until = timestamps.show(fleet.now + 60 * SECOND)
        fleet.put("bob", "fact", fact="k", until=until)
        fleet.put("bob", "fact", fact=lasting)
        for moment, left in ((2 * SKEW - 1, ["k", lasting]), (2 * SKEW, [lasting])):
            then = fleet.at(len(fleet.log))
            then.now = timestamps.parse(until) + moment
            then.put("alice", "fact", fact=other)
            assert [line["fact"] for line in then.state.facts()] == [*left, other]

    def test_lets_the_last_one_go_with_its_page(self, fleet):
        until = timestamps.show(fleet.now + SECOND)
        other = on_page_of("k", 1)[0]
        fleet.put("bob", "fact", fact=other)
        fleet.put("bob", "fact", fact="k", until=timestamps.show(fleet.now + 1))
        fleet.now = timestamps.parse(until) + 3 * SKEW
        fleet.put("bob", "fact", fact=other, value=None)
        assert "facts" not in fleet.state.tree.names("")


class TestBounds:
    def test_a_value_is_within_the_policy(self):
        fleet = MemoryLedger(policy={"max_fact": 12})
        for value, code in (("x" * 12, ""), ("é" * 2, ""), ("é" * 3, "text-too-long"), ("", "")):
            assert fleet.refusal("alice", "fact", fact="k", value=value) == code

    def test_a_page_is_full_until_something_on_it_goes(self, monkeypatch):
        fleet = MemoryLedger()
        one, two, three = on_page_of("k", 3)
        fleet.put("alice", "fact", fact=one, value="x" * 100)
        fleet.put("alice", "fact", fact=two, value="x" * 100)
        size = len(fleet.state.tree.get(fact_path(one)))
        monkeypatch.setattr("coordledger.format.rules.facts.PAGE_BYTES", size)
        assert fleet.refusal("alice", "fact", fact=three, value="") == "facts-full"
        assert fleet.refusal("alice", "fact", fact=two, value="x" * 100) == ""
        assert fleet.refusal("alice", "fact", fact=two, value="x" * 101) == "facts-full"
        fleet.put("alice", "fact", fact=one, value=None)
        assert fleet.refusal("alice", "fact", fact=three, value="x" * 90) == ""

    def test_the_largest_line_has_room_in_a_page(self):
        fleet = MemoryLedger(policy={"max_fact": 16_384})
        fleet.put("alice", "fact", fact="\\" * 200, value="\x01" * (16_384 // 6))
        assert len(fleet.state.tree.get(fact_path("\\" * 200))) < PAGE_BYTES // 7
