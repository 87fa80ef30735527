"""What is taken for good can be given back: offers, channels, and all that one agent did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.refusals import refusal

if TYPE_CHECKING:
    from support.fleet import Fleet


@pytest.fixture
def three(fleet: Fleet) -> Fleet:
    return fleet.with_agents("bob", "mallory")


# -- offers


def test_an_offer_that_nobody_took_is_withdrawn_without_a_trace_in_the_state(three: Fleet) -> None:
    bob, mallory = three.ledger("bob"), three.ledger("mallory")
    bob.submit("t", priority=5)
    assert bob.show("t").by == "bob"
    assert refusal(lambda: mallory.withdraw("t")) == "not-permitted"
    claim = bob.withdraw("t", reason="a mistake")
    assert (claim.status, claim.by, claim.rev, claim.verdict) == ("withdrawn", None, 2, "authentic")
    assert claim.last is not None
    assert (claim.last.kind, claim.last.text) == ("withdraw", "a mistake")
    assert refusal(lambda: bob.show("t")) == "unknown-task"
    assert refusal(lambda: bob.withdraw("t")) == "unknown-task"
    assert mallory.submit("t", priority=7).created


def test_a_withdrawn_task_that_was_claimed_once_waits_to_be_offered_again(three: Fleet) -> None:
    alice, bob = three.ledger("alice"), three.ledger("bob")
    alice.submit("t", priority=5)
    bob.claim("t")
    assert refusal(lambda: alice.withdraw("t")) == "held"
    bob.release("t")
    assert alice.withdraw("t", reason="no").status == "withdrawn"
    shown = bob.show("t")
    assert (shown.status, shown.epoch, shown.priority, shown.verdict) == (
        "withdrawn",
        1,
        0,
        "authentic",
    )
    assert [claim.task for claim in bob.some_tasks(["withdrawn"]).tasks] == ["t"]
    assert bob.claim("t").code == "withdrawn"
    assert bob.claim_next().code == "nothing-to-claim"
    assert refusal(lambda: alice.withdraw("t")) == "withdrawn"
    again = bob.submit("t", priority=1)
    assert (again.status, again.by, again.created, again.epoch) == ("open", "bob", True, 1)
    won = alice.claim("t").claim
    assert won is not None
    assert won.epoch == 2


def test_an_offer_is_withdrawn_in_a_batch_too(three: Fleet) -> None:
    with three.ledger("bob").batch() as batch:
        batch.submit("t")
        batch.withdraw("t", reason="no")
        batch.line('{"do": "withdraw", "task": "t"}', lambda text: timedelta(0))
    assert [(one.outcome, one.code) for one in batch.outcomes] == [
        ("landed", ""),
        ("landed", ""),
        ("failed", "unknown-task"),
    ]


# -- channels


def test_a_channel_is_dropped_by_an_admin_and_makes_room(three: Fleet) -> None:
    alice, bob = three.ledger("alice"), three.ledger("bob")
    alice.policy(channels=2)
    for name in ("pr-1", "pr-2"):
        bob.send("x", channel=name)
    assert refusal(lambda: alice.send("hello", channel="general")) == "too-many-channels"
    assert refusal(lambda: bob.drop_channel("pr-1")) == "not-permitted"
    assert refusal(lambda: alice.drop_channel("pr-3")) == "unknown-channel"
    assert refusal(lambda: alice.drop_channel("No")) == "bad-channel"
    alice.drop_channel("pr-1")
    assert [(one.channel, one.messages) for one in bob.channels()] == [("pr-2", 1)]
    assert alice.send("hello", channel="general").channel == "general"
    assert bob.messages("pr-1") == []


# -- all that one agent did


def test_a_purge_undoes_what_an_agent_holds_and_offered(three: Fleet) -> None:
    alice, bob, mallory = (three.ledger(name) for name in ("alice", "bob", "mallory"))
    with alice.batch() as batch:
        for number in range(6):
            batch.submit(f"job-{number}")
    with mallory.batch() as batch:
        for number in range(5):
            batch.claim(f"job-{number}", ttl=timedelta(hours=23))
        for number in range(8):
            batch.submit(f"junk-{number}", priority=1_000_000)
        batch.claim("junk-0")
        batch.claim("own")
        batch.complete("job-4", result="really")
    bob.claim("junk-1")
    assert refusal(lambda: bob.purge("mallory")) == "not-permitted"
    before = alice.head().seq
    purged = alice.purge("mallory")
    assert (purged.agent, purged.revoked) == ("mallory", (1,))
    assert sorted(purged.released) == ["job-0", "job-1", "job-2", "job-3", "junk-0", "own"]
    assert sorted(purged.withdrawn) == [f"junk-{n}" for n in (0, 2, 3, 4, 5, 6, 7)]
    assert purged.left == ("junk-1",)
    assert alice.head().seq == before + 1 + 6 + 7
    statuses = {claim.task: claim.status for claim in alice.tasks()}
    assert statuses["job-4"] == "done"
    assert statuses["junk-0"] == "withdrawn"
    assert "junk-2" not in statuses
    chosen = bob.claim_next().claim
    assert chosen is not None
    assert chosen.task == "job-0"
    assert chosen.last is not None
    assert chosen.last.text == "mallory was revoked"
    assert refusal(lambda: mallory.submit("more")) == "key-revoked"
    bob.release("junk-1")
    again = alice.purge("mallory")  # what was left
    assert (again.revoked, again.withdrawn, again.left) == ((), ("junk-1",), ())
    assert alice.purge("mallory").withdrawn == ()


def test_a_purge_lets_go_what_an_agent_gave_back_until_the_end_of_time(three: Fleet) -> None:
    alice, bob, mallory = (three.ledger(name) for name in ("alice", "bob", "mallory"))
    never = datetime(9999, 12, 31, tzinfo=UTC)
    for task in ("alices", "kept", "touched"):
        alice.submit(task)
    for task in ("alices", "nobodys", "touched"):
        assert mallory.claim(task).won
        mallory.release(task, not_before=never)
    mallory.submit("mallorys")
    mallory.claim("mallorys")
    mallory.release("mallorys", not_before=never)
    mallory.claim("kept")
    alice.release("kept", force=True, not_before=never)  # so alice wants it
    alice.edit("touched", priority=1)
    purged = alice.purge("mallory")
    assert (purged.freed, purged.withdrawn) == (("alices", "nobodys"), ("mallorys",))
    assert [bob.claim(task).won for task in ("alices", "nobodys")] == [True, True]
    assert [bob.claim(task).code for task in ("kept", "touched")] == ["not-yet", "not-yet"]
    assert alice.purge("mallory").freed == ()


def test_a_purge_names_an_agent_that_is_there_and_not_the_owner(three: Fleet) -> None:
    alice = three.ledger("alice")
    assert refusal(lambda: alice.purge("nobody")) == "unknown-agent"
    assert refusal(lambda: alice.purge("No")) == "bad-agent"
    assert refusal(lambda: alice.purge("alice")) == "last-key"


def test_an_admin_can_purge_itself(three: Fleet) -> None:
    alice, bob = three.ledger("alice"), three.ledger("bob")
    alice.enroll("bob", admin=True)
    bob.submit("junk")
    bob.claim("t")
    purged = bob.purge("bob")
    assert (purged.revoked, purged.released, purged.withdrawn) == ((1, 2), ("t",), ("junk",))
    assert refusal(lambda: bob.submit("more")) == "key-revoked"
