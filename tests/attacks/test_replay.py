"""Somebody who kept the bytes of every record and sends them again, anywhere, at any time."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.attack_batch import Batch
from support.attacker import Attacker, second_opinion
from support.fleet import LEDGER_REF, OWNER

from coordledger.errors import RuleBroken
from coordledger.format import canonical, rules
from coordledger.format.signing import Signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger.format.chain import Chain

CAREER = [
    ("alice", "enroll", {"who": "dave"}),
    ("alice", "policy", {"set": {"max_text": 4000}}),
    ("bob", "submit", {"task": "a"}),
    ("bob", "claim", {"tasks": ["a", "b"]}),
    ("bob", "renew", {"task": "a", "until": "LATER"}),
    ("bob", "send", {"to": "carol", "body": "direct"}),
    ("bob", "send", {"channel": "general", "body": "to all"}),
    ("bob", "release", {"task": "b"}),
    ("carol", "claim", {"tasks": ["b"]}),
    ("alice", "release", {"task": "b", "force": True}),
    ("carol", "ack", {"messages": "HERS"}),
    ("bob", "complete", {"task": "a"}),
    ("bob", "claim", {"tasks": ["a"], "reopen": True}),
    ("bob", "void", {}),
    ("dave", "void", {}),
    ("alice", "revoke", {"who": "dave"}),
    ("alice", "enroll", {"who": "dave"}),
    ("bob", "handoff", {"task": "a", "to": "carol"}),
    ("carol", "claim", {"tasks": ["a"], "paths": ["src/"]}),
    ("carol", "release", {"task": "a"}),
    ("bob", "submit", {"task": "c"}),
    ("bob", "edit", {"task": "c", "set": {"title": "C"}}),
    ("bob", "withdraw", {"task": "c"}),
    ("alice", "drop", {"channel": "general"}),
    ("alice", "import", {"task": "d", "epoch": 3}),
    ("alice", "archive", {}),
    ("bob", "fact", {"fact": "image"}),
    ("carol", "fact", {"fact": "image", "value": None}),
]


@pytest.fixture(scope="module")
def lived(founded: Callable[..., Fleet]) -> tuple[Fleet, Batch, list[str]]:
    """A ledger with a record of every kind, and the ids of all its commits, oldest first."""
    fleet = founded("bob", "carol", max_skew=3600)
    batch = Batch(fleet, fleet.root / "batch.git")
    for agent, kind, given in CAREER:
        filled = dict(given)
        if filled.get("until") == "LATER":
            lease = batch.state.task("a") or {}
            filled["until"] = batch.later_by({"at": lease["until"]}, 60_000)
        if filled.get("messages") == "HERS":
            filled["messages"] = [batch.state.inbox("carol")[0]["seq"]]
        batch.put(agent, kind, **filled)
    batch.send()
    return fleet, batch, fleet.git("rev-list", "--reverse", LEDGER_REF).split()


def lands(chain: Chain, signed: Signed) -> str:
    """The slug with which a chain refuses to take a record at its head, or ""."""
    try:
        chain.propose(signed)
    except RuleBroken as broken:
        return broken.code
    return ""


def test_no_record_of_any_kind_fits_at_any_later_place(
    lived: tuple[Fleet, Batch, list[str]],
) -> None:
    _, batch, ids = lived
    kept = [batch.stolen(oid) for oid in ids]
    with_code = {"land"}  # these are tried where refs are fenced
    assert {signed.record["kind"] for signed in kept} == set(rules.MODULES) - with_code
    tried = 0
    for place in range(len(ids)):
        chain = batch.stand(ids[place])
        for signed in kept[: place + 1]:
            assert lands(chain, signed) != "", (place, signed.record["kind"])
            tried += 1
    assert tried == len(ids) * (len(ids) + 1) // 2


def test_every_record_fits_once_where_it_belongs_and_then_never_again(
    lived: tuple[Fleet, Batch, list[str]],
) -> None:
    """The same keeper, before the record landed: its bytes are good, for one time."""
    _, batch, ids = lived
    for place in range(1, len(ids)):
        chain, signed = batch.stand(ids[place - 1]), batch.stolen(ids[place])
        proposal = chain.propose(signed)
        assert proposal.commit.oid == ids[place]
        chain.advance(proposal)
        assert lands(chain, signed) == "replayed"


@pytest.mark.parametrize("between", [0, 2])
def test_one_push_never_brings_a_record_twice_whatever_lies_between(
    shared_fleet: Fleet, attacker: Attacker, between: int
) -> None:
    for kind, given in [
        ("send", {"channel": "general", "body": f"once-{between}"}),
        ("submit", {"task": f"once-{between}"}),
        ("claim", {"tasks": [f"claimed-{between}"]}),
        ("void", {}),
    ]:
        signed = attacker.signed("bob", kind, **given)
        oid = attacker.propose(signed)
        for _ in range(between):
            oid = attacker.propose(attacker.signed("carol", "void", on=oid), on=oid)
        assert attacker.refusal(attacker.render(signed, on=oid)) == "replayed"
        assert attacker.push(oid).slug == ""
        assert attacker.refusal(attacker.render(signed)) == "replayed"


def test_what_its_holder_did_since_is_not_undone(shared_fleet: Fleet, attacker: Attacker) -> None:
    """Each of a holder's records again, after each of the later ones."""
    batch = Batch(shared_fleet, shared_fleet.root / "holder.git")
    kept: list[Signed] = []
    steps = [
        ("claim", {"tasks": ["long-held"]}),
        ("renew", {"task": "long-held"}),
        ("complete", {"task": "long-held"}),
        ("claim", {"tasks": ["long-held"], "reopen": True}),
        ("release", {"task": "long-held"}),
        ("claim", {"tasks": ["long-held"]}),
    ]
    for kind, given in steps:
        if kind == "renew":
            lease = batch.state.task("long-held") or {}
            given["until"] = batch.later_by({"at": lease["until"]}, 60_000)
        oid = batch.put("bob", kind, **given)
        batch.send()
        kept.append(batch.stolen(oid))
        chain = attacker.chain
        assert [lands(chain, old) for old in kept] == ["replayed"] * len(kept)
        assert attacker.refusal(attacker.render(kept[0])) == "replayed"
    found = shared_fleet.ledger("carol").show("long-held")
    assert (found.agent, found.epoch, found.status) == ("bob", 3, "claimed")
    batch.close()


def test_a_neighbour_who_kept_bytes_lands_them_once_or_never(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    kept = attacker.signed("bob", "claim", tasks=["kept"])
    shared_fleet.ledger("carol").submit("something-else")
    assert attacker.push(attacker.propose(kept)).slug == ""  # bob wanted it, and it was still good
    for _ in range(2):
        assert attacker.refusal(attacker.render(kept)) == "replayed"
        shared_fleet.ledger("carol").send("between", channel="general")

    # Given up by its signer, in whatever way: then it never lands.
    given_up = attacker.record("bob", "claim", tasks=["given-up"])
    void = attacker.record("bob", "void", op=given_up["op"], base=given_up["base"])
    assert attacker.push(attacker.propose(attacker.sign(void))).slug == ""
    assert attacker.refusal(attacker.render(attacker.sign(given_up))) == "replayed"
    assert shared_fleet.ledger("carol").show("kept").epoch == 1


def test_after_a_revocation_kept_bytes_are_worth_nothing(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    shared_fleet.enroll("frank")
    landed = attacker.signed("frank", "send", channel="general", body="while valid")
    assert attacker.push(attacker.propose(landed)).slug == ""
    kept = [attacker.signed("frank", "claim", tasks=["frank-s"]), attacker.signed("frank", "void")]
    for signed in kept:
        attacker.propose(signed)  # at first they fit
    # In one push: the revocation, and then what was signed before it.
    revoked = attacker.propose(attacker.signed("alice", "revoke", who="frank"))
    for signed in (landed, *kept):
        assert attacker.refusal(attacker.render(signed, on=revoked)) == "unknown-key"
    assert attacker.push(revoked).slug == ""
    for signed in (landed, *kept):
        assert attacker.refusal(attacker.render(signed)) == "unknown-key"
    # The number of a key is never given again, so a new key makes the old bytes no better.
    shared_fleet.enroll("frank")
    for signed in (landed, *kept):
        assert attacker.refusal(attacker.render(signed)) == "unknown-key"
    assert attacker.push(attacker.propose(attacker.signed("frank", "void", key=2))).slug == ""
    landing = shared_fleet.ledger("carol").messages("general")
    assert [m.verdict for m in landing if m.body == "while valid"] == ["authentic"]


def test_a_record_is_worth_nothing_in_another_agents_name(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    signed = attacker.signed("bob", "claim", tasks=["stolen"])
    for change in ({"agent": "carol"}, {"agent": "alice"}, {"session": "s2"}, {"key": 2}):
        record = signed.record | change
        stolen = Signed(canonical.encode(record), record, signed.tag)
        slug = attacker.refusal(attacker.render(stolen))
        assert slug == ("unknown-key" if "key" in change else "bad-signature")
    # The very same payload under another's own MAC: the payload says whose it is.
    resigned = Signed(signed.payload, signed.record, attacker.secret("carol").sign(signed.payload))
    assert attacker.refusal(attacker.render(resigned)) == "bad-signature"
    # Another's fingerprint under one's own name is no key of one's own.
    theirs = attacker.state.agent("bob") or {}
    copied = theirs["keys"][0]["verifier"]
    made = attacker.signed("alice", "enroll", who="copycat", verifier=copied)
    assert attacker.push(attacker.propose(made)).slug == ""
    for secret in (attacker.secret("bob"), attacker.secret("copycat"), attacker.secret("carol")):
        void = attacker.sign(attacker.record("copycat", "void"), secret)
        assert attacker.refusal(attacker.render(void)) == "no-secret"


def test_another_ledger_on_the_same_server_with_the_same_master_takes_nothing(
    lived: tuple[Fleet, Batch, list[str]], tmp_path: Path
) -> None:
    fleet, batch, ids = lived
    fleet.run("--ledger", "other", "init", fleet.remote, "--agent", OWNER, check=0)
    other = Attacker(fleet, tmp_path / "other.git", ref="refs/coordledger/other")
    kinds = {batch.stolen(oid).record["kind"]: oid for oid in ids}
    slugs = {other.refusal(other.render(batch.stolen(oid))) for oid in kinds.values()}
    assert slugs == {"wrong-ledger", "bad-genesis"}
    # The whole chain at once is no continuation either, nor is a ref that is none of it.
    assert other.refusal(f"{ids[-1]}:refs/coordledger/other") == "not-fast-forward"
    assert other.refusal(f"{ids[-1]}:refs/coordledger/third") == "no-create"
    both = [
        f"{batch.propose(batch.signed('bob', 'void'))}:{LEDGER_REF}",
        f"{ids[-1]}:refs/coordledger/other",
    ]
    assert batch.refusal(*both) == "not-fast-forward"
    assert batch.refusal("--atomic", *both[::-1]) == "not-fast-forward"
    other.close()


def test_on_a_restored_copy_a_record_lands_once_or_never(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker], tmp_path: Path
) -> None:
    """After a restore the lost records may come again from who kept them: each at most once."""
    fleet.enroll("bob")
    attacker = attacker_for(fleet)
    early = attacker.signed("bob", "send", channel="general", body="early")
    assert attacker.push(attacker.propose(early)).slug == ""
    backup = tmp_path / "backup.git"
    shutil.copytree(fleet.remote, backup)

    lost = [attacker.signed("bob", "submit", task="lost")]
    assert attacker.push(attacker.propose(lost[0])).slug == ""
    lost.append(attacker.signed("bob", "claim", tasks=["lost"]))
    assert attacker.push(attacker.propose(lost[1])).slug == ""

    shutil.rmtree(fleet.remote)
    shutil.copytree(backup, fleet.remote)
    restored = attacker_for(fleet)
    assert restored.refusal(restored.render(early)) == "replayed"
    # Its base is gone with what was lost; the one before it names what is there.
    assert restored.refusal(restored.render(lost[1])) == "bad-base"
    assert restored.push(restored.propose(lost[0])).slug == ""
    for signed in (early, lost[0]):
        assert restored.refusal(restored.render(signed)) == "replayed"
    # Now the history is the very same again, so the next fits too, and once.
    assert restored.push(restored.propose(lost[1])).slug == ""
    assert restored.refusal(restored.render(lost[1])) == "replayed"
    assert second_opinion(fleet.remote) == 5


def test_on_a_restored_copy_that_went_another_way_what_was_lost_is_lost(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker], tmp_path: Path
) -> None:
    attacker = attacker_for(fleet)
    backup = attacker.tip
    first = attacker.signed("alice", "void")
    assert attacker.push(attacker.propose(first)).slug == ""
    second = attacker.signed("alice", "submit", task="second")
    assert attacker.push(attacker.propose(second)).slug == ""
    fleet.git("update-ref", LEDGER_REF, backup)
    assert (
        attacker.push(attacker.propose(attacker.signed("alice", "void"))).slug == ""
    )  # another one
    assert attacker.refusal(attacker.render(second)) == "bad-base"
    assert attacker.push(attacker.propose(first)).slug == ""  # it builds on nothing that was lost
    assert attacker.refusal(attacker.render(second)) == "bad-base"
    assert attacker.refusal(attacker.render(first)) == "replayed"


def test_when_old_bytes_come_late_the_servers_clock_refuses_them(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    attacker.later = -31_000
    kept = attacker.signed("bob", "send", channel="general", body="late")
    attacker.later = 0
    assert attacker.refusal(attacker.propose(kept)) == "clock-skew"
