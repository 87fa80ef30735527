"""Shared facts from Python: set, compared, listed, removed; who has checked them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import fsck, second_opinion
from support.refusals import refusal
from support.sequencing import switch

from coordledger import Failed, Ledger, Lost
from coordledger.client import operations

if TYPE_CHECKING:
    from support.fleet import Fleet

    from coordledger.format.state import State

HOUR = timedelta(hours=1)


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    return fleet.with_agents("bob")


def test_a_fact_is_what_was_set_last_and_says_by_whom(two: Fleet) -> None:
    with two.ledger("alice") as alice, two.ledger("bob") as bob:
        first = alice.facts.set("image", "sha256:1", ttl=HOUR)
        assert bob.facts.get("image") == first
        assert first.expires_at
        assert first.expires_at - first.at == HOUR
        second = bob.facts.set("image", "\x1b[31m\né")
        assert alice.facts.get("image") == second
        assert (second.agent, second.value, second.expires_at) == ("bob", "\x1b[31m\né", None)
        assert second.rev == first.rev + 1
        assert (second.verdict, second.checked) == ("authentic", "here")
    assert second_opinion(two.remote) == two.ledger("alice").head().seq + 1
    fsck(two.remote, two.env)


def test_facts_are_listed_by_prefix_and_sorted_by_key(two: Fleet) -> None:
    with two.ledger("alice") as alice:
        with alice.batch() as batch:
            for key in ("b/2", "a/1", "b/10", "~"):
                batch.set_fact(key, key, ttl=HOUR)
            batch.remove_fact("~")
            batch.remove_fact("never")
        assert [one.outcome for one in batch.outcomes] == ["landed"] * 5 + ["failed"]
        assert [one.key for one in alice.facts.list()] == ["a/1", "b/10", "b/2"]
        assert [one.value for one in alice.facts.list("b/")] == ["b/10", "b/2"]
        assert alice.facts.list("c") == []


def test_what_is_removed_is_gone_until_it_is_set_anew_at_another_revision(two: Fleet) -> None:
    with two.ledger("alice") as alice, two.ledger("bob") as bob:
        seen = alice.facts.set("k", "v").rev
        bob.facts.remove("k")
        for act in (lambda: alice.facts.get("k"), lambda: alice.facts.remove("k")):
            assert refusal(act) == "unknown-fact"
        again = bob.facts.set("k", "v", if_rev=0)
        assert again.rev > seen
        for act in (
            lambda: alice.facts.set("k", "w", if_rev=seen),
            lambda: alice.facts.remove("k", if_rev=seen),
            lambda: alice.facts.set("k", "w", if_rev=0),
        ):
            with pytest.raises(Lost) as caught:
                act()
            assert caught.value.code == "fact-changed"
        assert alice.facts.set("k", "w", if_rev=again.rev).value == "w"


def test_of_those_who_compare_one_wins_and_those_who_do_not_never_lose(two: Fleet) -> None:
    with two.ledger("alice") as alice:
        rev = alice.facts.set("k", "0").rev
    ends: list[str] = []

    def run(agent: str, if_rev: int | None) -> None:
        with two.ledger(agent, f"s-{threading.get_ident() % 10_000}") as ledger:
            try:
                ends.append(ledger.facts.set("k", agent, if_rev=if_rev).agent)
            except Lost as lost:
                ends.append(lost.code)

    for if_rev, lost in ((rev, 3), (None, 0)):
        ends.clear()
        threads = [
            threading.Thread(target=run, args=(agent, if_rev)) for agent in ("alice", "bob") * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ends) == 4
        assert ends.count("fact-changed") == lost


def test_who_does_not_compare_sets_it_also_where_a_server_that_sequences_has_moved_on(
    two: Fleet,
) -> None:
    switch(two, sequence=True)
    with two.ledger("alice") as alice, two.ledger("bob") as bob:
        alice.facts.set("moved", "0")
        for if_rev, end in ((None, ""), (alice.facts.get("moved").rev, "fact-changed")):
            meanwhile = iter(("1", "2"))
            operation = operations.set_fact("moved", "mine", if_rev=if_rev)

            def build(state: State, at: int) -> tuple[str, dict[str, Any]]:
                fields = operation.build(state, at)  # noqa: B023
                for value in meanwhile:  # noqa: B023
                    bob.facts.set("moved", value)
                    break
                return fields

            again = operation._replace(build=build)
            if end:
                assert refusal(lambda: alice.connection.write(again)) == end  # noqa: B023
            else:
                alice.connection.write(again)
                assert bob.facts.get("moved").value == "mine"


@pytest.mark.parametrize("sequence", [True, False])
def test_a_batch_that_sets_one_key_again_and_again_lands_wherever_the_others_are(
    two: Fleet, sequence: bool
) -> None:
    """What it says of the second is what the first has made, whose number the server decides."""
    switch(two, sequence=sequence)
    env = two.env | {"COORDLEDGER_QUEUE": "off"}  # else bob's would wait for this process's turn
    there = two.clone("alice")
    with Ledger.open(there, "alice", environ=env) as alice, two.ledger("bob") as bob:
        alice.facts.set("k", "0")  # from here on the server is known to sequence
        pushes: list[int] = []
        real = alice.connection.remote.push

        def push(*args: Any, **kw: Any) -> Any:
            if sequence or len(pushes) < 3:  # somebody else is always faster
                bob.send("x", channel="general")
            pushes.append(1)
            return real(*args, **kw)

        alice.connection.remote.push = push  # type: ignore[method-assign]
        with alice.batch() as batch:
            batch.submit("before")
            batch.set_fact("k", "1")
            batch.set_fact("k", "2")
            batch.claim("t")
            batch.set_fact("k", "3")
            batch.remove_fact("k")
            batch.set_fact("k", "4")
        ends = [(one.what, one.outcome, one.code) for one in batch.outcomes]
        assert {end for _, end, _ in ends} == {"landed"}, ends
        assert bob.facts.get("k").value == "4"
        assert [one.seq for one in batch.outcomes] == sorted(one.seq or 0 for one in batch.outcomes)
        assert len(pushes) < 20
        fsck(two.remote, two.env)


def test_what_has_run_out_is_not_shown_and_may_be_replaced(fleet: Fleet) -> None:
    with fleet.ledger("alice") as alice:
        rev = alice.facts.set("k", "v", ttl=HOUR).rev
        alice.facts.set("lasts", "v")
    later = alice.connection.clock() + 61 * 60_000
    with Ledger.open(
        fleet.clone("alice"), "alice", environ=fleet.env, offline=True, clock=lambda: later
    ) as reader:
        assert [one.key for one in reader.facts.list()] == ["lasts"]
        assert refusal(lambda: reader.facts.get("k")) == "unknown-fact"
    with fleet.ledger("alice") as alice:
        assert alice.facts.set("k", "w", if_rev=rev).value == "w"


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 201, "a\n"])
def test_a_key_has_the_form_of_a_tasks_id(fleet: Fleet, key: str) -> None:
    facts = fleet.ledger("alice").facts
    for act in (lambda: facts.get(key), lambda: facts.set(key, ""), lambda: facts.remove(key)):
        assert refusal(act) == "bad-fact"


def test_what_cannot_be_meant_is_refused_before_anything_is_sent(fleet: Fleet) -> None:
    with fleet.ledger("alice") as alice:
        head, facts = alice.head(), alice.facts
        assert refusal(lambda: facts.set("k", "x" * 4097)) == "text-too-long"
        assert refusal(lambda: facts.set("k", "x", ttl=timedelta(0))) == "bad-ttl"
        assert refusal(lambda: facts.set("k", "x", ttl=timedelta.max)) == "bad-ttl"
        assert refusal(lambda: facts.set("k", 7)) == "bad-value"  # type: ignore[arg-type]
        for rev in (-1, True, "7"):
            assert refusal(lambda: facts.set("k", "v", if_rev=rev)) == "bad-value"  # type: ignore[arg-type] # noqa: B023
        assert refusal(lambda: facts.remove("k", if_rev=0)) == "bad-value"
        assert alice.head() == head


def test_a_purge_removes_the_facts_that_an_agent_has_set(two: Fleet) -> None:
    with two.ledger("alice") as alice, two.ledger("bob") as bob:
        for number in range(3):
            bob.facts.set(f"junk/{number}", "x")
        bob.facts.set("overtaken", "x")
        alice.facts.set("overtaken", "y")
        purged = alice.purge("bob")
        assert sorted(purged.facts) == ["junk/0", "junk/1", "junk/2"]
        assert [one.key for one in alice.facts.list()] == ["overtaken"]
        with pytest.raises(Failed):
            bob.facts.set("junk/3", "x")
