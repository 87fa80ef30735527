"""Tasks that go from hand to hand, are described, given back for later, and reserve paths."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.other_host import OtherHost
from support.refusals import refusal

if TYPE_CHECKING:
    from support.fleet import Fleet

LATER = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
def three(fleet: Fleet) -> Fleet:
    return fleet.with_agents("bob", "carol")


# -- delegates


def test_a_session_with_a_key_of_its_own_may_be_handed_a_task(three: Fleet) -> None:
    bob, carol = three.ledger("bob"), three.ledger("carol")
    bob.delegate("x")
    carol.claim("t")
    assert carol.handoff("t", to="bob.x").offered_to == "bob.x"
    assert refusal(lambda: carol.handoff("t", to="bob.y")) == "unknown-agent"
    assert refusal(lambda: carol.handoff("t", to="bob..y")) == "bad-agent"
    assert bob.claim("t").code == "held"  # nor is what is a delegate's its own
    won = three.ledger("bob.x", session="s1").claim("t")
    assert (won.outcome, won.claims[0].handed_over_by) == ("won", "carol")


def test_offers_of_one_giver_fill_an_inbox_no_more_than_messages_do(three: Fleet) -> None:
    three.ledger("alice").policy(sender_messages=2)
    bob, carol, alice = (three.ledger(agent) for agent in ("bob", "carol", "alice"))
    for ledger, task in ((carol, "c1"), (bob, "b1"), (bob, "b2"), (bob, "b3")):
        assert ledger.claim(task).won
        ledger.handoff(task, to="alice")
    assert [one.task for one in alice.inbox()] == ["c1", "b2", "b3"]
    assert len(alice.status().offers) == 4  # nothing is lost
    assert alice.claim("b1").won


# -- descriptions


def test_a_task_is_shown_as_it_was_described(three: Fleet) -> None:
    alice = three.ledger("alice")
    alice.submit("epic", title="Log in again", labels=["b", "a"], body="Why:\n- because")
    alice.submit("part", parent="epic", not_before=LATER)
    found = three.ledger("bob").describe("epic")
    claim = found.claim
    assert (claim.title, claim.labels, claim.parent) == ("Log in again", ("a", "b"), None)
    assert (found.body, found.body_checked) == ("Why:\n- because", claim.checked)
    assert found.parts == {"open": 1}
    part = alice.show("part")
    assert (part.parent, part.not_before, part.attempts) == ("epic", LATER, 0)


def test_what_was_a_task_s_parent_is_not_made_its_part(three: Fleet) -> None:
    """Each parent was there before its parts: but one may have disappeared since."""
    alice, bob = three.ledger("alice"), three.ledger("bob")
    alice.submit("one")
    alice.submit("two", parent="one")
    alice.withdraw("one")
    assert bob.show("two").parent == "one"  # whose part it was
    alice.submit("one", parent="two")
    assert (bob.show("one").parent, bob.show("two").parent) == ("two", None)
    assert (bob.describe("one").parts, bob.describe("two").parts) == ({}, {"open": 1})
    listed = {name: bob.some_tasks(parent=name).tasks for name in ("one", "two")}
    assert {name: [one.task for one in found] for name, found in listed.items()} == {
        "one": [],
        "two": ["one"],
    }


def test_the_body_stays_with_the_task_whatever_comes_later(three: Fleet) -> None:
    alice = three.ledger("alice")
    alice.submit("t", body="first")
    alice.edit("t", title="T")
    alice.claim("t")
    alice.release("t")
    assert alice.describe("t").body == "first"
    alice.withdraw("t")
    assert alice.describe("t").body is None
    alice.submit("t", body="second")
    assert alice.describe("t").body == "second"


def test_an_edit_changes_what_it_names(three: Fleet) -> None:
    alice, bob = three.ledger("alice"), three.ledger("bob")
    bob.submit("t", title="T", priority=3, meta={"x": "1"})
    edited = bob.edit("t", labels=["new"], meta={})
    assert (edited.title, edited.priority, edited.labels, edited.meta) == ("T", 3, ("new",), {})
    assert refusal(lambda: three.ledger("carol").edit("t", title="mine")) == "not-permitted"
    assert alice.edit("t", title=None, not_before=LATER).title is None
    assert not three.ledger("carol").claim("t").won
    assert refusal(lambda: bob.edit("t")) == "bad-value"
    assert refusal(lambda: bob.edit("t", after=["t"])) == "after-newer"
    assert refusal(lambda: bob.edit("t", not_before=datetime(2026, 1, 1))) == "bad-value"  # noqa: DTZ001


def test_repeating_an_offer_compares_its_whole_description(three: Fleet) -> None:
    alice = three.ledger("alice")
    assert alice.submit("t", title="T", labels=["a"]).created
    assert not alice.submit("t", title="T", labels=["a"]).created
    assert refusal(lambda: alice.submit("t", title="U", labels=["a"])) == "task-differs"
    assert refusal(lambda: alice.submit("t", title="T")) == "task-differs"


# -- handing over


def test_an_offer_is_in_the_inbox_and_is_taken_by_a_claim(three: Fleet) -> None:
    alice, bob, carol = (three.ledger(name) for name in ("alice", "bob", "carol"))
    bob.claim("t")
    assert bob.handoff("t", to="carol", note="mind the gap").offered_to == "carol"
    assert not alice.claim("t").won
    [message] = carol.inbox()
    assert (message.task, message.sender, message.body) == ("t", "bob", "mind the gap")
    assert [claim.task for claim in carol.status().offers] == ["t"]
    assert bob.status().offers == alice.status().offers == ()
    result = carol.claim("t")
    assert result.won
    assert result.claim is not None
    assert (result.claim.agent, result.claim.epoch) == ("carol", 2)
    assert result.claim.handed_over_by == "bob"
    assert result.claim.last is not None
    assert (result.claim.last.kind, result.claim.last.text) == ("handoff", "mind the gap")
    assert carol.inbox() == []
    assert refusal(lambda: bob.renew("t")) == "not-holder"


def test_who_has_no_key_for_the_giver_takes_over_what_the_server_has_checked(three: Fleet) -> None:
    carol = OtherHost(three, "carol")
    bob = three.ledger("bob")
    bob.claim("t")
    bob.handoff("t", to="carol", note="yours")
    with carol.ledger() as ledger:
        [offer] = ledger.inbox()
        assert (offer.sender, offer.verdict, offer.checked) == ("bob", "unverified", "server")
        result = ledger.claim("t")
        assert (result.won, result.claims[0].handed_over_by) == (True, "bob")


def test_where_the_hook_has_gone_nobody_takes_over_what_only_it_could_check(three: Fleet) -> None:
    carol = OtherHost(three, "carol")
    bob = three.ledger("bob")
    bob.claim("t")
    (three.remote / "hooks" / "pre-receive").unlink()
    bob.handoff("t", to="carol")
    with carol.ledger() as ledger:
        assert refusal(lambda: ledger.claim("t")) == "offer-unchecked"
        assert ledger.claim("another").won


def test_the_giver_withdraws_an_offer_by_going_on(three: Fleet) -> None:
    bob, carol = three.ledger("bob"), three.ledger("carol")
    bob.claim("t", ttl=timedelta(minutes=10))
    bob.handoff("t", to="carol")
    assert bob.renew("t", ttl=timedelta(minutes=20), note="after all").offered_to is None
    assert carol.inbox() == []
    assert carol.claim("t").code == "held"
    last = bob.show("t").last
    assert last is not None
    assert (last.kind, last.text) == ("renew", "after all")


def test_an_offer_to_oneself_or_to_nobody_is_refused(three: Fleet) -> None:
    bob = three.ledger("bob")
    bob.claim("t")
    assert refusal(lambda: bob.handoff("t", to="bob")) == "to-oneself"
    assert refusal(lambda: bob.handoff("t", to="erin")) == "unknown-agent"
    assert refusal(lambda: three.ledger("carol").handoff("t", to="bob")) == "not-holder"


# -- giving back, and what comes next


def test_what_was_given_back_for_later_is_claimed_later(three: Fleet) -> None:
    bob, carol = three.ledger("bob"), three.ledger("carol")
    bob.claim("t")
    bob.release("t", not_before=LATER)
    assert carol.claim("t").code == "not-yet"
    assert carol.claim_next().code == "nothing-to-claim"
    bob.claim("u")
    bob.release("u", not_before=datetime.now(UTC))
    assert carol.claim("u").won


def test_the_next_one_is_first_what_this_session_holds(three: Fleet) -> None:
    alice, bob = three.ledger("alice"), three.ledger("bob")
    alice.submit("urgent", priority=9)
    bob.claim("mine", ttl=timedelta(minutes=10))
    result = bob.claim_next(resume=True, ttl=timedelta(minutes=30))
    assert (result.outcome, [claim.task for claim in result.claims]) == ("renewed", ["mine"])
    assert bob.claim_next(resume=True, ttl=timedelta(minutes=10)).outcome == "kept"
    bob.complete("mine")
    assert bob.claim_next(resume=True).claims[0].task == "urgent"


# -- paths


def test_paths_are_reserved_with_a_claim_and_free_when_it_ends(three: Fleet) -> None:
    bob, carol = three.ledger("bob"), three.ledger("carol")
    assert bob.claim("t", paths=["src/auth/", "README.md"]).claims[0].paths == (
        "README.md",
        "src/auth/",
    )
    [reserved] = carol.paths()
    assert (reserved.task, reserved.agent, reserved.paths) == (
        "t",
        "bob",
        ("README.md", "src/auth/"),
    )
    lost = carol.claim("u", paths=["src/"])
    assert lost.code == "reserved"
    assert "src/auth/ is reserved by bob/" in lost.message
    assert carol.claim_next(paths=["src/auth/login.py"]).code in ("reserved", "nothing-to-claim")
    bob.complete("t")
    assert carol.paths() == []
    assert carol.claim("u", paths=["src/"]).won
    assert refusal(lambda: carol.claim("v", paths=["../x"])) == "bad-value"


def test_a_claim_is_waited_for_until_its_paths_are_free(three: Fleet) -> None:
    bob, carol = three.ledger("bob"), three.ledger("carol")
    bob.claim("t", paths=["src/"])
    assert carol.claim("u", paths=["src/x"], wait=timedelta(milliseconds=100)).code == "reserved"
