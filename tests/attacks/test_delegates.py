"""Sessions with a delegate's key each: who has one cannot act as another, whatever it writes.

All pushes are plain git's, through the real hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import second_opinion

from coordledger.format.chain import AUTHENTIC
from coordledger.format.signing import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    """bob's delegates are bob.a and bob.b; bob.b holds a task, offers one and has a message."""
    fleet = founded("bob", "carol", max_skew=3600)
    bob = fleet.ledger("bob")
    for name in ("a", "b"):
        bob.delegate(name)
    bob.send("to b alone", to="bob.b")
    other = fleet.ledger("bob.b", session="s1")
    other.claim("held")
    other.submit("offered")
    bob.claim("bobs")
    return fleet


def key_of(attacker: Attacker, agent: str) -> int:
    entry = attacker.state.agent(agent)
    assert entry
    return int(entry["keys"][-1]["id"])


AS_BOB_B: dict[str, tuple[str, dict[str, Any]]] = {
    "claims": ("claim", {"tasks": ["new"]}),
    "renews": ("renew", {"task": "held"}),
    "completes": ("complete", {"task": "held"}),
    "gives-back": ("release", {"task": "held"}),
    "withdraws": ("withdraw", {"task": "offered"}),
    "submits": ("submit", {"task": "fresh"}),
    "sends": ("send", {"to": "carol"}),
    "acks": ("ack", {"messages": "THERE"}),
    "enrols-below-it": ("enroll", {"who": "bob.b.c", "under": 2}),
    "voids": ("void", {}),
}


@pytest.mark.parametrize("thief", ["bob.a", "carol", "bob"])
@pytest.mark.parametrize("what", AS_BOB_B)
def test_nobody_acts_as_a_delegate_by_another_key(
    attacker: Attacker, what: str, thief: str
) -> None:
    kind, given = AS_BOB_B[what]
    given = given | {"key": key_of(attacker, "bob.b")}
    if given.get("messages") == "THERE":
        given["messages"] = [message["seq"] for message in attacker.state.inbox("bob.b")]
    record = attacker.record("bob.b", kind, **given)
    if kind == "renew":
        record["until"] = attacker.later_by({"at": attacker.state.task("held")["until"]}, 60_000)
    forged = attacker.sign(record, attacker.secret(thief, key_of(attacker, thief)))
    assert attacker.refusal(attacker.propose(forged)) == "bad-signature"
    right = attacker.propose(attacker.sign(record))
    reader = attacker.stand(attacker.tip, Keyring([attacker.master]))
    assert reader.judge(right, attacker.raw(right)) == AUTHENTIC  # it was wrong in nothing else


@pytest.mark.parametrize(
    "name", ["bob.autonomous-opus-1", "bob-autonomous-opus-1", "bob.a.b", "bob"]
)
def test_a_name_that_is_made_up_is_nobodys(attacker: Attacker, name: str) -> None:
    mine = attacker.secret("bob.a", key_of(attacker, "bob.a"))
    for key in (1, 2):
        record = attacker.record("bob.a", "claim", tasks=["t"], key=1) | {"agent": name, "key": key}
        oid = attacker.render(attacker.sign(record, mine))
        code = attacker.refusal(oid)
        assert code == ("bad-signature" if (name, key) == ("bob", 1) else "unknown-key")


@pytest.mark.parametrize(
    ("kind", "given", "code"),
    [
        ("enroll", {"who": "bob.c"}, "not-permitted"),
        ("enroll", {"who": "bob.b"}, "not-permitted"),
        ("enroll", {"who": "bob.a"}, "not-permitted"),
        ("enroll", {"who": "bob.b.c"}, "not-permitted"),
        ("enroll", {"who": "bob"}, "not-permitted"),
        ("revoke", {"who": "bob.b"}, "not-permitted"),
        ("revoke", {"who": "bob"}, "not-permitted"),
        ("release", {"task": "held", "force": True}, "not-permitted"),
        ("release", {"task": "bobs", "force": True}, "not-permitted"),
        ("release", {"task": "held"}, "not-holder"),
        ("withdraw", {"task": "offered"}, "not-permitted"),
        ("policy", {"set": {"channels": 3}}, "not-permitted"),
        ("drop", {"channel": "general"}, "not-permitted"),
        ("import", {"task": "brought"}, "not-permitted"),
        ("archive", {}, "not-permitted"),
    ],
)
def test_a_delegate_has_power_over_what_is_below_it_alone(
    attacker: Attacker, kind: str, given: dict[str, Any], code: str
) -> None:
    signed = attacker.signed("bob.a", kind, key=key_of(attacker, "bob.a"), **given)
    assert attacker.refusal(attacker.render(signed)) == code


def test_with_a_names_last_key_all_below_it_ends_and_stays_dead(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet.enroll("bob")
    bob, alice = fleet.ledger("bob"), fleet.ledger("alice")
    bob.delegate("good")
    bob.delegate("evil")  # by who has stolen bob's secret
    fleet.ledger("bob.evil").delegate("deep")
    attacker = attacker_for(fleet)
    nonce, evil_key = attacker.state.ledger["nonce"], attacker.secret("bob.evil", 2)
    stolen = {
        "bob.evil": (2, evil_key),
        "bob.evil.deep": (3, evil_key.derive(nonce, "bob.evil.deep", 3)),
        "bob.good": (1, attacker.secret("bob.good", 1)),
        "bob": (1, attacker.secret("bob", 1)),
    }
    fleet.enroll("bob")  # alice rotates: key 2
    alice.revoke("bob", 1)

    def refusals() -> set[str]:
        found = set()
        for agent, (key, secret) in stolen.items():
            record = attacker.record("bob", "claim", tasks=["t"], key=1)
            signed = attacker.sign(record | {"agent": agent, "key": key}, secret)
            found.add(attacker.refusal(attacker.render(signed)))
        return found

    assert refusals() == {"unknown-key"}
    assert attacker.state.agents() == ["alice", "bob"]
    made = fleet.ledger("bob").delegate("good")  # by bob's new key
    assert made.agent == "bob.good"
    assert refusals() == {"unknown-key"}
    assert fleet.ledger("bob.good").claim("t").won
    attacker.unders["bob.good", 4] = 2
    assert attacker.secret("bob.good", 4).reveal() != stolen["bob.good"][1].reveal()
    evil = attacker.record("bob", "claim", tasks=["u"], key=1) | {"agent": "bob.good", "key": 4}
    for _, secret in stolen.values():
        oid = attacker.render(attacker.sign(evil, secret))
        assert attacker.refusal(oid) == "bad-signature"


def alice_nonce(attacker: Attacker) -> str:
    return str(attacker.state.ledger["nonce"])


@pytest.mark.parametrize("part", ["json", "secret", "lock", "git", "new", "jsonl"])
def test_a_delegate_may_be_named_like_a_files_suffix(fleet: Fleet, part: str) -> None:
    fleet.enroll("bob")
    fleet.enroll(part)
    made = fleet.ledger("bob").delegate(part)
    assert fleet.ledger(f"bob.{part}").claim("t").won
    assert fleet.ledger(part).claim("u").won
    assert fleet.ledger("bob").claim("v").won
    fleet.ledger("bob").send("hello", to=f"bob.{part}")
    assert [one.agent for one in fleet.ledger("alice").agents()] == sorted(
        ["alice", "bob", f"bob.{part}", part], key=lambda name: name.split(".")
    )
    assert made.where.endswith(f"/bob.{part}.secret")
    assert fleet.ledger("alice").audit(full=True).verdicts == {"authentic": 8}
    assert second_opinion(fleet.remote) == 8
    fleet.git("fsck", "--strict")
