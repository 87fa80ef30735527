"""Rows of other systems as tasks, archived messages and facts: what fits, what is cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_ledger import MemoryLedger

from coordledger.client.importing.fitting import Ground, Plan, fit
from coordledger.client.importing.rows import FactRow, Legacy, MessageRow, Origin, TaskRow, Unfit
from coordledger.client.importing.texts import cut, identifier
from coordledger.format import canonical, records, timestamps

FLEET = MemoryLedger("bob", "carol")


def ground(fleet: MemoryLedger = FLEET, earlier: Any = None) -> Ground:
    state = fleet.state
    return Ground(
        policy=state.ledger["policy"],
        is_active=state.has_active_key,
        task=state.task,
        fact=state.fact,
        earlier=earlier or {},
        now=fleet.now,
    )


def task(name: str, **given: Any) -> TaskRow:
    return TaskRow(Origin("t", name), name, given.pop("legacy", Legacy()), **given)


def fitted(*rows: Any, agents: Any = (), on: Ground | None = None) -> list[Plan]:
    return fit(list(rows), on or ground(), "there", list(agents))


def lands(plan: Plan) -> None:
    """The record that the plan makes has its shape."""
    kind = {"task": "import", "message": "archive"}[plan.kind]
    extra = {"rev": 1, "offer": None} if plan.kind == "task" else {}
    records.check(FLEET.record("alice", kind, **plan.fields, **extra))


class TestNames:
    def test_are_encoded_as_the_command_line_does(self) -> None:
        plan, plain = fitted(task("a b\u2603"), task("x#1"))
        assert (plan.name, plain.name) == ("a%20b%E2%98%83", "x#1")
        assert plan.fields["legacy"]["id"] == "a b\u2603"

    @pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\u2603" * 100])
    def test_that_cannot_be_are_told_of(self, name: str) -> None:
        (plan,) = fitted(task(name))
        assert (plan.outcome, plan.name) == ("skipped", None)

    def test_that_are_one_here_come_once(self) -> None:
        first, second = fitted(task("a b"), task("a%20b"))
        assert (first.outcome, second.outcome) == ("new", "skipped")
        assert "t a b has the name a%20b already" in second.notes


class TestTexts:
    def test_too_long_are_cut_and_the_whole_is_in_the_body(self) -> None:
        (plan,) = fitted(task("t", title="\xe9" * 300, status="done", result="r" * 20_000))
        assert canonical.size(plan.fields["title"]) <= 256
        assert canonical.size(plan.fields["result"]) <= 4096
        assert "sha256" in plan.fields["result"]
        assert "r" * 20_000 in plan.fields["body"]
        assert len(plan.notes) == 2
        lands(plan)

    def test_of_meta_that_have_no_room_go_into_the_body(self) -> None:
        meta = {"Fine Name": "x", "long": "y" * 1025, **{f"m{n:02}": "z" * 300 for n in range(20)}}
        (plan,) = fitted(task("t", meta=meta))
        assert plan.fields["meta"]["fine-name"] == "x"
        assert "y" * 1025 in plan.fields["body"]
        lands(plan)

    def test_of_labels_become_identifiers(self) -> None:
        (plan,) = fitted(task("t", labels=["bug", "good first issue", "P1!", "\u2603"]))
        assert plan.fields["labels"] == ["bug", "good-first-issue", "p1"]
        assert "good first issue" in plan.fields["body"]
        lands(plan)

    def test_of_messages_are_cut(self) -> None:
        legacy = Legacy("a" * 600, 0, "u" * 99, "t" * 300, "invalid")
        (plan,) = fitted(MessageRow(Origin("m", "1"), "x" * 300, None, "b" * 80_000, legacy))
        assert len(plan.notes) == 5
        lands(plan)

    @given(st.text(max_size=80), st.integers(0, 200))
    def test_cut_have_room(self, text: str, limit: int) -> None:
        notes: list[str] = []
        short = cut(text, limit, notes, "it")
        assert canonical.size(short) <= limit
        assert (short == text) == (not notes) == (canonical.size(text) <= limit)

    def test_are_cut_without_a_look_at_each_character(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[str] = []
        size = canonical.size
        monkeypatch.setattr(canonical, "size", lambda text: sizes.append(text) or size(text))
        short = cut("\u20ac" * 100_000, 60_000, [], "it")
        assert 60_000 - 6 < size(short) <= 60_000
        assert len(sizes) < 30

    @given(st.text(max_size=80))
    def test_as_identifiers_are_some_or_none(self, text: str) -> None:
        name = identifier(text)
        assert not name or records.check(FLEET.record("alice", "void", session=name))


class TestLinks:
    def test_may_come_in_any_order(self) -> None:
        plans = fitted(
            task("c", after=["b"]), task("b", after=["a"], parent="d"), task("a"), task("d")
        )
        assert [plan.name for plan in plans] == ["a", "d", "b", "c"]
        assert plans[2].fields["after"] == ["a"]
        assert [plan.notes for plan in plans] == [[], [], [], []]

    def test_that_go_round_are_cut_once(self) -> None:
        plans = fitted(task("a", after=["b"]), task("b", after=["c"]), task("c", after=["a"]))
        kept = {plan.name: plan.fields["after"] for plan in plans}
        assert kept == {"a": ["b"], "b": ["c"], "c": []}
        assert sum("cut" in str(plan.notes) for plan in plans) == 1

    def test_to_itself_or_to_nothing_are_cut(self) -> None:
        (plan,) = fitted(task("a", after=["a", "absent", "x" * 300], parent="a\n"))
        assert (plan.fields["after"], plan.fields["parent"]) == ([], None)
        assert len(plan.notes) == 4

    def test_to_what_is_here_are_kept(self) -> None:
        fleet = MemoryLedger()
        fleet.put("alice", "submit", task="here")
        (plan,) = fitted(task("a", after=["here"]), on=ground(fleet))
        assert plan.fields["after"] == ["here"]

    def test_to_what_cannot_come_are_cut(self) -> None:
        plan, _ = fitted(task("a", after=["x" * 201]), task("x" * 201))
        assert plan.fields["after"] == []

    def test_are_at_most_sixteen(self) -> None:
        names = [f"n{n:02}" for n in range(20)]
        plans = fitted(task("a", after=names), *map(task, names))
        (plan,) = (plan for plan in plans if plan.name == "a")
        assert len(plan.fields["after"]) == 16

    @given(
        st.dictionaries(
            st.sampled_from("abcdefg"),
            st.lists(st.sampled_from("abcdefgx"), max_size=4),
            max_size=7,
        )
    )
    def test_always_lead_to_what_comes_before(self, links: dict[str, list[str]]) -> None:
        plans = fitted(*(task(name, after=after) for name, after in links.items()))
        done: set[str] = set()
        for plan in plans:
            assert set(plan.fields["after"]) <= done
            done.add(str(plan.name))
        assert done == links.keys()

    def test_of_a_long_chain_take_no_stack(self) -> None:
        rows = [task(f"n{n}", after=[f"n{n + 1}"]) for n in range(5000)]
        assert len(fitted(*rows)) == 5000


class TestWhoHeldIt:
    LATER = FLEET.now + 10_000

    def test_is_offered_it_until_then(self) -> None:
        (plan,) = fitted(task("t", holder="bob", until=self.LATER))
        assert (plan.holder, plan.until) == ("bob", self.LATER)

    def test_may_have_another_name_here(self) -> None:
        agents = [("bob-*", "bob"), ("*", "carol")]
        plans = fitted(
            task("t", holder="bob-x", until=self.LATER),
            task("u", holder="Eve", until=self.LATER),
            agents=agents,
        )
        assert [plan.holder for plan in plans] == ["bob", "carol"]

    @pytest.mark.parametrize("holder", ["eve", "B\xd8B", ""])
    def test_is_told_of_where_nobody_here_is_that(self, holder: str) -> None:
        (plan,) = fitted(task("t", holder=holder, until=self.LATER))
        assert plan.holder is None
        assert "--map" in str(plan.notes)

    def test_of_what_was_given_up_is_nobody_that_next_would_choose(self) -> None:
        (plan,) = fitted(task("t", is_dead=True, attempts=1))
        assert plan.fields["attempts"] == 5


class TestASecondTime:
    def again(self, fleet: MemoryLedger, **change: Any) -> Plan:
        (plan,) = fitted(task("t", epoch=2), on=ground(fleet))
        fleet.put("alice", "import", **plan.fields)
        record = fleet.head.record | {"seq": fleet.head.seq}
        key = ("import", "there/t", "t")
        (plan,) = fitted(task("t", **({"epoch": 2} | change)), on=ground(fleet, {key: record}))
        return plan

    def test_nothing_is_new(self) -> None:
        plan = self.again(MemoryLedger())
        assert (plan.outcome, plan.seq) == ("exists", 1)

    def test_another_verdict_on_its_mac_is_nothing_new(self) -> None:
        fleet = MemoryLedger()
        row = {"legacy": Legacy("bob", tag="x", mac="unknown")}
        (plan,) = fitted(task("t", **row), on=ground(fleet))
        fleet.put("alice", "import", **plan.fields)
        key = ("import", "there/t", "t")
        earlier = {key: fleet.head.record | {"seq": 1}}
        row = {"legacy": Legacy("bob", tag="x", mac="valid")}
        assert fitted(task("t", **row), on=ground(fleet, earlier))[0].outcome == "exists"

    @pytest.mark.parametrize(
        "change", [{"epoch": 3}, {"status": "done"}, {"legacy": Legacy("bob")}, {"title": "x"}]
    )
    def test_what_is_another_by_now_is_a_conflict(self, change: Any) -> None:
        assert self.again(MemoryLedger(), **change).outcome == "conflict"

    def test_a_task_from_elsewhere_is_a_conflict(self) -> None:
        fleet = MemoryLedger("bob")
        fleet.put("bob", "claim", tasks=["t"])
        (plan,) = fitted(task("t"), on=ground(fleet))
        assert plan.outcome == "conflict"

    @pytest.mark.parametrize(("value", "outcome"), [("v", "exists"), ("w", "conflict")])
    def test_a_fact_is_compared_by_its_value(self, value: str, outcome: str) -> None:
        fleet = MemoryLedger()
        fleet.put("alice", "fact", fact="k", value="v")
        (plan,) = fitted(FactRow(Origin("f", "k"), "k", value, None), on=ground(fleet))
        assert plan.outcome == outcome


def test_a_fact_of_which_half_would_be_none_does_not_come() -> None:
    (plan,) = fitted(FactRow(Origin("f", "k"), "k", "x" * 4097, None))
    assert plan.outcome == "skipped"


def test_what_a_reader_could_not_read_stays_in_the_report() -> None:
    (plan,) = fitted(Unfit(Origin("t", "1"), "no reason"))
    assert (plan.outcome, plan.notes) == ("skipped", ["no reason"])


def test_the_end_of_a_lease_there_and_the_time_stand_as_they_were() -> None:
    legacy = Legacy("B\xf8b", FLEET.now, "2027-01-01 00:00:00", "tag", "valid")
    (plan,) = fitted(task("t", legacy=legacy))
    said = plan.fields["legacy"]
    assert said["until"] == "2027-01-01 00:00:00"
    assert said["at"] == timestamps.show(FLEET.now)
    assert (said["agent"], said["tag"], said["mac"]) == ("B\xf8b", "tag", "valid")
    lands(plan)
