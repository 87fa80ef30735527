"""Delegates as their agent makes, uses and ends them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import second_opinion
from support.refusals import refusal
from support.sequencing import switch

from coordledger.client.config import Options
from coordledger.setup import joining

if TYPE_CHECKING:
    from support.fleet import Fleet


@pytest.fixture
def bobs(fleet: Fleet) -> Fleet:
    return fleet.with_agents("bob")


def test_a_delegate_is_made_in_one_step_and_needs_no_admin(bobs: Fleet) -> None:
    bob = bobs.ledger("bob")
    made = bob.delegate("x")
    assert (made.agent, made.alg) == ("bob.x", "hmac-sha256")
    assert Path(made.where).stat().st_mode & 0o777 == 0o600
    mine = bobs.ledger("bob.x")
    assert mine.claim("t").won
    assert mine.delegate("y").agent == "bob.x.y"
    assert refusal(lambda: bob.delegate("x")) == "agent-exists"
    assert bob.delegate("bob.z").agent == "bob.z"  # the whole name will do
    assert refusal(lambda: bob.delegate("Z")) == "bad-agent"
    assert refusal(lambda: bob.delegate("z.z.z.z")) == "bad-agent"
    assert refusal(lambda: bob.delegate("nobody.y")) == "unknown-agent"
    assert second_opinion(bobs.remote) == 6


def test_a_name_is_made_up_where_none_is_given(bobs: Fleet) -> None:
    bob = bobs.ledger("bob")
    names = {bob.delegate().agent for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("bob.") for name in names)


def test_who_has_the_secret_above_verifies_what_a_delegate_signs(bobs: Fleet) -> None:
    bobs.ledger("bob").delegate("x")
    bobs.ledger("bob.x").claim("t")
    home = Path(bobs.env["XDG_CONFIG_HOME"]) / "coordledger" / "secrets"
    (one,) = home.iterdir()
    (one / "bob.x.secret").unlink()
    (one / "alice.secret").rename(one / "alice.away")
    assert bobs.ledger("bob").show("t").verdict == "authentic"


def test_of_an_ended_delegate_all_that_it_signed_stays_good(bobs: Fleet) -> None:
    bob = bobs.ledger("bob")
    bob.delegate("x")
    mine = bobs.ledger("bob.x")
    mine.claim("t")
    mine.complete("t", result="done")
    mine.send("hello", channel="general")
    assert bob.revoke("bob.x") == [1]
    assert [one.agent for one in bob.agents()] == ["alice", "bob"]
    for reader in (bob, bobs.ledger("alice")):
        assert reader.show("t").verdict == "authentic"
        assert [event.verdict for event in reader.history("t")] == ["authentic"] * 2
        assert [one.verdict for one in reader.messages("general")] == ["authentic"]
        assert reader.audit(full=True).verdicts == {"authentic": 7}
    assert refusal(lambda: mine.claim("u")) == "unknown-agent"
    bob.delegate("x")  # another key of that name changes nothing about it
    assert bob.show("t").verdict == "authentic"
    assert second_opinion(bobs.remote) == 8


def test_a_claim_of_an_ended_delegate_does_not_pass_the_gate_though_its_name_comes_again(
    bobs: Fleet,
) -> None:
    bob = bobs.ledger("bob")
    bob.delegate("x")
    bobs.ledger("bob.x").claim("t")
    assert bob.require("t", by="bob.x").verdict == "authentic"
    bob.revoke("bob.x")
    assert refusal(lambda: bob.require("t", by="bob.x")) == "holder-revoked"
    bob.delegate("x")
    assert refusal(lambda: bob.require("t", by="bob.x")) == "holder-revoked"


def test_what_is_held_below_is_given_back_by_force_alone(bobs: Fleet) -> None:
    bob = bobs.ledger("bob", session="s")
    bob.delegate("x")
    mine = bobs.ledger("bob.x", session="s")
    mine.claim("t")
    bob.claim("u")
    assert not bob.claim("t").won
    assert refusal(lambda: bob.complete("t")) == "not-holder"
    assert refusal(lambda: bob.release("t")) == "not-holder"
    assert bob.release("t", force=True).status == "open"
    assert refusal(lambda: mine.release("u", force=True)) == "not-permitted"


def test_a_purge_undoes_what_is_below_too(bobs: Fleet) -> None:
    bob = bobs.ledger("bob")
    bob.delegate("x")
    bobs.ledger("bob.x").delegate("y")
    bob.delegate("z")
    bobs.enroll("bobby")
    for name, task in (("bob.x", "a"), ("bob.x.y", "b"), ("bob.z", "c"), ("bobby", "d")):
        ledger = bobs.ledger(name)
        ledger.claim(task)
        ledger.submit(f"{task}-offer")
        ledger.facts.set(f"{task}-fact", "1")
    purged = bob.purge("bob.x")
    assert (purged.revoked, purged.released) == ((1,), ("a", "b"))
    assert purged.ended == ("bob.x.y",)
    assert (purged.withdrawn, purged.left) == (("a-offer", "b-offer"), ())
    assert sorted(purged.facts) == ["a-fact", "b-fact"]
    assert bob.show("c").agent == "bob.z"
    purged = bobs.ledger("alice").purge("bob")
    assert (purged.released, purged.withdrawn) == (("c",), ("c-offer",))
    assert purged.facts == ("c-fact",)
    assert bob.show("d").agent == "bobby"
    assert [one.agent for one in bob.agents()] == ["alice", "bob", "bobby"]


def test_a_message_to_an_ended_delegate_is_refused_and_its_inbox_is_gone(bobs: Fleet) -> None:
    bob = bobs.ledger("bob")
    bob.delegate("x")
    bob.send("for the first one", to="bob.x")
    bob.revoke("bob.x")
    assert refusal(lambda: bob.send("more", to="bob.x")) == "unknown-agent"
    bob.delegate("x")
    assert bobs.ledger("bob.x").inbox() == []


def test_it_stands_under_the_key_that_signs_for_it(bobs: Fleet) -> None:
    """With bob's first key ends what it has vouched for, and nothing of the second one's."""
    bob, alice = bobs.ledger("bob"), bobs.ledger("alice")
    bob.delegate("old")
    bobs.enroll("bob")
    bob.delegate("new")
    bobs.ledger("bob.old").delegate("deep")
    alice.revoke("bob", 1)
    assert [one.agent for one in alice.agents()] == ["alice", "bob", "bob.new"]
    assert bobs.ledger("bob.new").claim("t").won


def test_an_ssh_key_has_delegates_with_ssh_keys(fleet: Fleet) -> None:
    bob = fleet.ledger("bob")
    line = bob.connection.ssh_keys.make("bob")
    fleet.ledger("alice").enroll_ssh("bob", f"ssh-ed25519 {line.public} bob")
    made = bob.delegate("x")
    assert (made.agent, made.alg) == ("bob.x", "ssh-ed25519")
    assert fleet.ledger("bob.x").claim("t").won
    bob.revoke("bob.x")
    ran = fleet.run("show", "3", "--sshsig", "--json", agent="alice", check=0)
    assert json.loads(ran.stdout)["agent"] == "bob.x"  # also when it has left the state


def test_an_admin_enrols_a_delegate_where_the_master_is(bobs: Fleet) -> None:
    bobs.ledger("alice").enroll("bob.x")
    assert bobs.ledger("bob.x").claim("t").won
    assert refusal(lambda: bobs.ledger("alice").enroll("bob.y", admin=True)) == "bad-record"
    assert bobs.ledger("bob").revoke("bob.x") == [1]


@pytest.mark.parametrize("sequence", [False, True])
def test_two_who_make_delegates_at_once_do_not_get_in_each_others_way(
    bobs: Fleet, sequence: bool
) -> None:
    switch(bobs, sequence=sequence)
    clones = [bobs.clone("bob"), bobs.root / "elsewhere"]
    bobs.git("clone", "--quiet", str(bobs.remote), str(clones[1]))
    joining.join(Options(path=clones[1], agent="bob"), bobs.env, "origin")
    alone = {"COORDLEDGER_QUEUE": "off"}

    def make(n: int) -> int:
        argv = ("agent", "delegate", f"n{n}")
        return bobs.run(*argv, cwd=clones[n % 2], env=alone).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(make, range(4))) == [0] * 4
    for n in range(4):
        assert bobs.ledger(f"bob.n{n}").claim(f"t{n}").won
    assert second_opinion(bobs.remote) == 10


def test_its_key_is_rotated_without_an_admin(bobs: Fleet) -> None:
    bob = bobs.ledger("bob")
    bob.delegate("x")
    bob.delegate("y")
    bob.enroll("bob.x")
    assert bob.revoke("bob.x", 1) == [1]
    assert bobs.ledger("bob.x").claim("t").won
    keys = next(one.keys for one in bob.agents() if one.agent == "bob.x")
    assert [(key.id, key.under, key.until_seq) for key in keys] == [(1, 1, 5), (3, 1, None)]
    assert bob.audit(full=True).verdicts == {"authentic": 7}


def test_a_delegate_founds_no_ledger(fleet: Fleet) -> None:
    argv = ["init", str(fleet.root / "other.git"), "--agent", "alice.x"]
    assert fleet.run(*argv).returncode == 1
    assert not (fleet.root / "other.git").exists()


def test_the_environment_names_its_secret(bobs: Fleet) -> None:
    made = bobs.ledger("bob").delegate("x-1")
    secret = Path(made.where).read_text().strip()
    Path(made.where).unlink()
    env = {"COORDINATION_SECRET_BOB__X_1": secret, "COORDLEDGER_AGENT": "bob.x-1"}
    bobs.run("claim", "t", cwd=bobs.clone("bob"), env=env, check=0)
    assert bobs.ledger("alice").show("t").agent == "bob.x-1"
