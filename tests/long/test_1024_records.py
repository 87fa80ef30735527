"""Where a record may stand: on a base at most 1,024 records below, 1,024 in a push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.forgeries import submitted
from support.memory_ledger import UNDESCRIBED
from support.sequencing import enveloped, grow, landed, lying, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet


def test_1025_records_are_too_many_and_so_are_1025_between(own_attacker: Attacker) -> None:
    head = own_attacker.tip
    oids = own_attacker.voids(1025)
    stale = submitted(own_attacker, "stale")
    assert send(own_attacker, oids[-1]).slug == "too-many-records"
    assert own_attacker.tip == head
    assert len(landed(send(own_attacker, oids[-2]))) == 1024
    assert len(landed(send(own_attacker, stale))) == 1  # 1,024 have landed since
    late = own_attacker.propose(own_attacker.signed("alice", "void", on=oids[0]), on=oids[0])
    grow(own_attacker, 2)
    assert (
        send(own_attacker, late).slug == "bad-genesis"
    )  # what is below is out of reach: all comes
    assert send(own_attacker, *enveloped(own_attacker, late)).slug == "bad-base"
    # However far down an envelope says that it stands, none is left out.
    pair = own_attacker.voids(2)
    sent = enveloped(own_attacker, *(lying(own_attacker, oid, 0) for oid in pair))
    assert [pushed for pushed, *_ in landed(send(own_attacker, sent[-1]))] == sent


def test_an_intent_older_than_1024_records_is_dead(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[..., Attacker]
) -> None:
    """And one push may bring 1,024."""
    fleet = make_fleet(max_skew=3600)
    attacker = attacker_for(fleet)
    old, landed = attacker.signed("alice", "submit", task="old"), attacker.signed("alice", "void")
    assert attacker.push(attacker.propose(landed)).slug == ""
    above = attacker.voids(1024)
    attacker.propose(old, on=above[-2])  # the last moment at which it fits
    assert attacker.push(above[-1]).slug == ""
    for signed in (old, landed):
        assert attacker.refusal(attacker.render(signed)) == "bad-base"


def test_a_write_from_a_copy_that_is_far_behind_finds_its_way(fleet: Fleet) -> None:
    """More records than a base may be old: it was not sent, so that it takes a newer one."""
    fleet.enroll("bob")
    fleet.ledger("bob").head()
    alice = fleet.ledger("alice")
    wanted = [(f"submit {n}", _submit(f"t{n}"), None) for n in range(1100)]
    alice.connection.begin()
    landed = alice.connection.writer().write_all(wanted)
    assert [one.seq for one in landed] == list(range(landed[0].seq, landed[0].seq + 1100))
    assert fleet.ledger("bob").claim("t0").won


def _submit(task: str) -> Callable[..., tuple[str, dict[str, Any]]]:
    fields: dict[str, Any] = {"task": task, "rev": 1, "body": None, **UNDESCRIBED}
    return lambda now, at: ("submit", fields)
