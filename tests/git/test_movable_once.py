"""A signed record moves to any head without its secret, and lands once or never."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from fleet import LEDGER_REF

from coordledger.errors import RuleBroken
from coordledger.format import records

from .forge import second_opinion

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet import Fleet

    from .forge import Forge


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
    bob.release("second")
    bob.send("hello", to="carol")
    carol = fleet.ledger("carol")
    carol.ack(carol.inbox()[0].seq)
    return fleet


@pytest.fixture
def forge(full: Fleet, forge_for: Callable[[Fleet], Forge]) -> Forge:
    return forge_for(full)


def test_somebody_without_the_secret_lands_it_on_a_newer_head(forge: Forge, full: Fleet) -> None:
    delayed = forge.signed("bob", "claim", tasks=["delayed"])
    base = forge.head.seq
    for number in range(3):
        full.ledger("carol").claim(f"unrelated{number}")
    oid = forge.propose(delayed)  # `stand` reads the chain without any secret
    assert forge.push(oid).slug == ""
    landed = forge.head
    assert landed.signed.payload == delayed.payload
    assert (landed.seq, landed.record["base"]["seq"]) == (base + 4, base)
    found = full.ledger("carol").show("delayed")
    assert (found.agent, found.epoch, found.verdict) == ("bob", 1, "authentic")


def test_the_same_bytes_never_land_again(forge: Forge, full: Fleet) -> None:
    oid = forge.propose(forge.signed("bob", "send", channel="general", body="once"))
    assert forge.push(oid).slug == ""
    for _ in range(2):
        again = forge.render(forge.stolen(oid))
        assert forge.refusal(again) == "replayed"
        full.ledger("carol").claim(f"between{forge.head.seq}")
    assert [m.body for m in full.ledger("carol").messages("general")].count("once") == 1


def test_one_push_does_not_bring_a_record_twice(forge: Forge) -> None:
    signed = forge.signed("bob", "send", channel="general", body="twice")
    first = forge.propose(signed)
    second = forge.render(signed, on=first)
    assert forge.refusal(second) == "replayed"


def test_signed_again_for_the_same_intent_it_does_not_land_again(forge: Forge) -> None:
    record = forge.record("bob", "send", channel="general", body="intent")
    assert forge.push(forge.propose(forge.sign(record))).slug == ""
    afresh = record | {"at": forge.later_by(record, 1000), "body": "intent, again"}
    assert forge.refusal(forge.render(forge.sign(afresh))) == "replayed"
    void = forge.record("bob", "void", op=record["op"], base=record["base"])
    assert forge.refusal(forge.render(forge.sign(void))) == "replayed"


def test_a_voided_intent_never_lands(forge: Forge) -> None:
    claim = forge.record("bob", "claim", tasks=["given-up"])
    void = forge.record("bob", "void", op=claim["op"], base=claim["base"])
    assert forge.push(forge.propose(forge.sign(void))).slug == ""
    assert forge.refusal(forge.render(forge.sign(claim))) == "replayed"


def test_nobody_else_takes_the_op_away(forge: Forge) -> None:
    """The op is the agent's own: another agent's void with it stops nothing."""
    claim = forge.record("bob", "claim", tasks=["mine"])
    void = forge.record("carol", "void", op=claim["op"], base=claim["base"])
    assert forge.push(forge.propose(forge.sign(void))).slug == ""
    assert forge.push(forge.propose(forge.sign(claim))).slug == ""


@pytest.mark.parametrize("kind", ["submit", "claim", "renew", "complete", "release", "policy"])
def test_a_record_whose_object_has_moved_never_lands(forge: Forge, full: Fleet, kind: str) -> None:
    task = f"moves-{kind}"
    bob = full.ledger("bob", session="s1")
    given: dict = {"task": task}
    if kind in ("renew", "complete", "release"):
        bob.claim(task, ttl=timedelta(minutes=5))
    if kind == "claim":
        given = {"tasks": [task]}
    if kind == "policy":
        given = {"set": {"max_text": 3000}}
    delayed = forge.signed("alice" if kind == "policy" else "bob", kind, **given)
    forge.propose(delayed)  # at first it fits
    if kind == "policy":
        full.ledger("alice").policy(max_text=3500)
    elif kind in ("submit", "claim"):
        full.ledger("carol").claim(task)
        full.ledger("carol").release(task)
    else:
        bob.renew(task, ttl=timedelta(minutes=50))
    wanted = {"submit": "task-exists"}.get(kind, "stale-rev")
    wanted = {"claim": "wrong-epoch"}.get(kind, wanted)
    assert forge.refusal(forge.render(delayed)) == wanted


def test_a_release_that_was_overtaken_gives_nobodys_new_claim_back(
    forge: Forge, full: Fleet
) -> None:
    bob = full.ledger("bob", session="s1")
    bob.claim("overtaken")
    delayed = forge.signed("bob", "release", task="overtaken")
    bob.release("overtaken")
    full.ledger("carol").claim("overtaken")
    assert forge.refusal(forge.render(delayed)) == "not-holder"
    full.ledger("carol").release("overtaken")
    bob.claim("overtaken")  # the very same session holds it again
    assert forge.refusal(forge.render(delayed)) in ("wrong-epoch", "stale-rev")


def test_every_kind_of_record_is_refused_when_it_is_replayed(forge: Forge, full: Fleet) -> None:
    seen = {}
    for oid in full.git("rev-list", "--reverse", LEDGER_REF).split():
        signed = forge.stolen(oid)
        seen.setdefault(signed.record["kind"], signed)
    assert set(seen) == set(records.KINDS)
    for kind, signed in seen.items():
        with pytest.raises(RuleBroken):
            forge.propose(signed)
        wanted = "bad-genesis" if kind == "genesis" else "replayed"
        assert forge.refusal(forge.render(signed)) == wanted, kind


def test_another_ledger_with_the_same_agents_takes_none_of_it(
    forge: Forge, full: Fleet, make_fleet: Callable[..., Fleet], forge_for: Callable[..., Forge]
) -> None:
    other = make_fleet(max_skew=3600)
    other.enroll("bob")
    there = forge_for(other)
    assert there.refusal(there.render(forge.signed("bob", "void"))) == "wrong-ledger"


def test_another_history_of_the_same_ledger_takes_none_of_it(
    make_fleet: Callable[..., Fleet], forge_for: Callable[..., Forge]
) -> None:
    """After a restored backup, what was signed on the lost records does not fit."""
    fleet = make_fleet()
    forge = forge_for(fleet)
    backup = forge.tip
    fleet.ledger("alice").submit("lost")
    signed = forge.signed("alice", "void")
    fleet.git("update-ref", LEDGER_REF, backup)
    assert forge.refusal(forge.render(signed)) == "bad-base"
    forge.push(forge.propose(forge.signed("alice", "void")))
    assert forge.refusal(forge.render(signed)) == "bad-base"


def test_an_intent_older_than_1024_records_is_dead(
    make_fleet: Callable[..., Fleet], forge_for: Callable[..., Forge]
) -> None:
    """And one push may bring 1,024."""
    fleet = make_fleet(max_skew=3600)
    forge = forge_for(fleet)
    old, landed = forge.signed("alice", "submit", task="old"), forge.signed("alice", "void")
    assert forge.push(forge.propose(landed)).slug == ""
    above = forge.voids(1024)
    forge.propose(old, on=above[-2])  # the last moment at which it fits
    assert forge.push(above[-1]).slug == ""
    for signed in (old, landed):
        assert forge.refusal(forge.render(signed)) == "bad-base"


def test_the_second_implementation_agrees_with_what_landed(full: Fleet) -> None:
    count = int(full.git("rev-list", "--count", LEDGER_REF))
    assert second_opinion(full.remote) == count
