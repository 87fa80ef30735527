"""A signed record moves to any head without its secret, and lands once or never."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.attack_batch import Batch
from support.attacker import second_opinion
from support.fleet import LEDGER_REF

from coordledger.errors import RuleBroken
from coordledger.format import rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet


@pytest.fixture(scope="module")
def full(founded: Callable[..., Fleet]) -> Fleet:
    """A ledger with a record of every kind, whose clocks are an hour's tolerance apart."""
    fleet = founded("bob", "carol", "dave", max_skew=3600)
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    alice.revoke("dave")
    alice.policy(max_text=4000)
    bob.submit("first")
    bob.claim("first", "second", ttl=timedelta(minutes=5))
    bob.renew("first", ttl=timedelta(minutes=9))
    bob.complete("first")
    bob.send("hello", to="carol")
    carol = fleet.ledger("carol")
    carol.ack(carol.inbox()[0].seq)
    bob.submit("withdrawn")
    bob.edit("withdrawn", title="Withdrawn")
    bob.withdraw("withdrawn")
    bob.handoff("second", to="carol")
    bob.release("second")
    bob.facts.set("image", "v1")
    bob.send("x", channel="dropped")
    alice.drop_channel("dropped")
    batch = Batch(fleet, fleet.root / "batch.git")
    batch.put("alice", "import", task="imported")
    batch.put("alice", "archive")
    batch.send()
    batch.close()
    return fleet


@pytest.fixture
def attacker(full: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(full)


def test_somebody_without_the_secret_lands_it_on_a_newer_head(
    attacker: Attacker, full: Fleet
) -> None:
    delayed = attacker.signed("bob", "claim", tasks=["delayed"])
    base = attacker.head.seq
    for number in range(3):
        full.ledger("carol").claim(f"unrelated{number}")
    oid = attacker.propose(delayed)  # `stand` reads the chain without any secret
    assert attacker.push(oid).slug == ""
    landed = attacker.head
    assert landed.signed.payload == delayed.payload
    assert (landed.seq, landed.record["base"]["seq"]) == (base + 4, base)
    found = full.ledger("carol").show("delayed")
    assert (found.agent, found.epoch, found.verdict) == ("bob", 1, "authentic")


def test_the_same_bytes_never_land_again(attacker: Attacker, full: Fleet) -> None:
    oid = attacker.propose(attacker.signed("bob", "send", channel="general", body="once"))
    assert attacker.push(oid).slug == ""
    for _ in range(2):
        again = attacker.render(attacker.stolen(oid))
        assert attacker.refusal(again) == "replayed"
        full.ledger("carol").claim(f"between{attacker.head.seq}")
    assert [m.body for m in full.ledger("carol").messages("general")].count("once") == 1


def test_one_push_does_not_bring_a_record_twice(attacker: Attacker) -> None:
    signed = attacker.signed("bob", "send", channel="general", body="twice")
    first = attacker.propose(signed)
    second = attacker.render(signed, on=first)
    assert attacker.refusal(second) == "replayed"


def test_signed_again_for_the_same_intent_it_does_not_land_again(attacker: Attacker) -> None:
    record = attacker.record("bob", "send", channel="general", body="intent")
    assert attacker.push(attacker.propose(attacker.sign(record))).slug == ""
    afresh = record | {"at": attacker.later_by(record, 1000), "body": "intent, again"}
    assert attacker.refusal(attacker.render(attacker.sign(afresh))) == "replayed"
    void = attacker.record("bob", "void", op=record["op"], base=record["base"])
    assert attacker.refusal(attacker.render(attacker.sign(void))) == "replayed"


def test_a_voided_intent_never_lands(attacker: Attacker) -> None:
    claim = attacker.record("bob", "claim", tasks=["given-up"])
    void = attacker.record("bob", "void", op=claim["op"], base=claim["base"])
    assert attacker.push(attacker.propose(attacker.sign(void))).slug == ""
    assert attacker.refusal(attacker.render(attacker.sign(claim))) == "replayed"


def test_nobody_else_takes_the_op_away(attacker: Attacker) -> None:
    """The op is the agent's own: another agent's void with it stops nothing."""
    claim = attacker.record("bob", "claim", tasks=["mine"])
    void = attacker.record("carol", "void", op=claim["op"], base=claim["base"])
    assert attacker.push(attacker.propose(attacker.sign(void))).slug == ""
    assert attacker.push(attacker.propose(attacker.sign(claim))).slug == ""


@pytest.mark.parametrize("kind", ["submit", "claim", "renew", "complete", "release", "policy"])
def test_a_record_whose_object_has_moved_never_lands(
    attacker: Attacker, full: Fleet, kind: str
) -> None:
    task = f"moves-{kind}"
    bob = full.ledger("bob", session="s1")
    given: dict = {"task": task}
    if kind in ("renew", "complete", "release"):
        bob.claim(task, ttl=timedelta(minutes=5))
    if kind == "claim":
        given = {"tasks": [task]}
    if kind == "policy":
        given = {"set": {"max_text": 3000}}
    delayed = attacker.signed("alice" if kind == "policy" else "bob", kind, **given)
    attacker.propose(delayed)  # at first it fits
    if kind == "policy":
        full.ledger("alice").policy(max_text=3500)
    elif kind in ("submit", "claim"):
        full.ledger("carol").claim(task)
        full.ledger("carol").release(task)
    else:
        bob.renew(task, ttl=timedelta(minutes=50))
    wanted = {"submit": "task-exists"}.get(kind, "stale-rev")
    wanted = {"claim": "wrong-epoch"}.get(kind, wanted)
    assert attacker.refusal(attacker.render(delayed)) == wanted


def test_a_release_that_was_overtaken_gives_nobodys_new_claim_back(
    attacker: Attacker, full: Fleet
) -> None:
    bob = full.ledger("bob", session="s1")
    bob.claim("overtaken")
    delayed = attacker.signed("bob", "release", task="overtaken")
    bob.release("overtaken")
    full.ledger("carol").claim("overtaken")
    assert attacker.refusal(attacker.render(delayed)) == "not-holder"
    full.ledger("carol").release("overtaken")
    bob.claim("overtaken")  # the very same session holds it again
    assert attacker.refusal(attacker.render(delayed)) in ("wrong-epoch", "stale-rev")


def test_every_kind_of_record_is_refused_when_it_is_replayed(
    attacker: Attacker, full: Fleet
) -> None:
    seen = {}
    for oid in full.git("rev-list", "--reverse", LEDGER_REF).split():
        signed = attacker.stolen(oid)
        seen.setdefault(signed.record["kind"], signed)
    assert set(seen) == set(rules.MODULES) - {"land"}  # lands with code alone
    for kind, signed in seen.items():
        with pytest.raises(RuleBroken):
            attacker.propose(signed)
        wanted = "bad-genesis" if kind == "genesis" else "replayed"
        assert attacker.refusal(attacker.render(signed)) == wanted, kind


def test_another_ledger_with_the_same_agents_takes_none_of_it(
    attacker: Attacker,
    full: Fleet,
    make_fleet: Callable[..., Fleet],
    attacker_for: Callable[..., Attacker],
) -> None:
    other = make_fleet(max_skew=3600, anew=True)
    other.enroll("bob")
    there = attacker_for(other)
    assert there.refusal(there.render(attacker.signed("bob", "void"))) == "wrong-ledger"


def test_another_history_of_the_same_ledger_takes_none_of_it(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[..., Attacker]
) -> None:
    """After a restored backup, what was signed on the lost records does not fit."""
    fleet = make_fleet()
    attacker = attacker_for(fleet)
    backup = attacker.tip
    fleet.ledger("alice").submit("lost")
    signed = attacker.signed("alice", "void")
    fleet.git("update-ref", LEDGER_REF, backup)
    assert attacker.refusal(attacker.render(signed)) == "bad-base"
    attacker.push(attacker.propose(attacker.signed("alice", "void")))
    assert attacker.refusal(attacker.render(signed)) == "bad-base"


def test_the_second_implementation_agrees_with_what_landed(full: Fleet) -> None:
    count = int(full.git("rev-list", "--count", LEDGER_REF))
    assert second_opinion(full.remote) == count
