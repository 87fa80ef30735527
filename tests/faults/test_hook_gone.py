"""A server whose hook was gone: more than it verifies by itself, and what its owner does then."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from support.attacker import TRY_REF
from support.forgeries import forged, good
from support.serve_process import hidden

from coordledger.format.commit import parse_commit
from coordledger.server import mark
from coordledger.setup import verifying
from coordledger.setup.verifying import VerifiedRepository

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

MOST = 1024


def test_more_records_than_the_hook_verifies_by_itself_wait_for_the_owner(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = make_fleet(max_skew=3600)
    attacker = attacker_for(fleet)
    with hidden(fleet, "hooks/pre-receive"):
        assert attacker.push(attacker.voids(MOST)[-1]).slug == ""
    pushed = attacker.push(good(attacker))
    assert pushed.slug == ""
    [said] = pushed.vouched
    assert said.seq == MOST + 1

    with hidden(fleet, "hooks/pre-receive"):
        assert attacker.push(attacker.voids(MOST + 1)[-1]).slug == ""
    head = attacker.tip
    for refspec in (good(attacker), f"{head}:{TRY_REF}"):
        pushed = attacker.push(refspec)
        assert pushed.slug == "unverified-below"
        assert pushed.vouched == []
    told = fleet.run("submit", "x", agent="alice", check=1)
    assert "coordledger hook verify REPO.git" in told.stderr

    ran = fleet.run("hook", "verify", fleet.remote, "--json", check=0)
    [found] = json.loads(ran.stdout)["ledgers"]
    newest = parse_commit(head, attacker.raw(head))
    assert found == {
        "name": "main",
        "ledger": said.ledger,
        "seq": newest.seq,
        "digest": newest.digest,
        "records": MOST + 1,
    }
    assert attacker.push(good(attacker)).slug == ""
    again = fleet.run("hook", "verify", fleet.remote, check=0)
    assert f"verified ledger main up to {newest.seq + 1}:" in again.stdout
    assert ", 0 records of it now" in again.stdout
    full = fleet.run("hook", "verify", fleet.remote, "--full", check=0)
    assert f", {newest.seq + 2} records of it now" in full.stdout

    (fleet.remote / "coordledger/main.verified").unlink()
    assert attacker.push(good(attacker)).slug == "unverified-below"
    fleet.run("hook", "install", fleet.remote, check=0)
    assert attacker.push(good(attacker)).slug == ""


def test_a_bad_record_is_named_to_the_owner_and_ends_writes_as_an_integrity_failure(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    secret = fleet.enroll("bob")
    attacker = attacker_for(fleet)
    bad = forged(attacker)
    where = f"record {parse_commit(bad, attacker.raw(bad)).seq} ({bad[:12]})"
    with hidden(fleet, "hooks/pre-receive"):
        assert attacker.push(bad).slug == ""
    # As if a release that took it for valid had verified it: the whole chain has the last word.
    mark.write(str(fleet.remote / "coordledger/main.verified"), bad, bad, durable=False)
    for command in (["verify", "--full"], ["verify"], ["install"]):
        ran = fleet.run("hook", *command, fleet.remote, check=4)
        assert f"{where}: the signature does not verify for alice/1" in ran.stderr
    # From a host of his own bob cannot see it by himself: no key of alice's is there.
    bobs = fleet.root / "bobs" / secret.relative_to(fleet.env["XDG_CONFIG_HOME"])
    bobs.parent.mkdir(parents=True, mode=0o700)
    shutil.copy(secret, bobs)
    ssh = fleet.root / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\neval "$last"\n')
    ssh.chmod(0o755)
    far = {"GIT_SSH_COMMAND": str(ssh), "COORDLEDGER_REMOTE": f"host:{fleet.remote}"}
    far["XDG_CONFIG_HOME"] = str(fleet.root / "bobs")
    ran = fleet.run("submit", "two", agent="bob", env=far, check=4)
    assert "the server refused" in ran.stderr
    assert where in ran.stderr
    assert attacker.tip == bad


def test_what_an_interrupted_run_has_verified_is_kept(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker], monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker = attacker_for(fleet)
    with hidden(fleet, "hooks/pre-receive"):
        assert attacker.push(attacker.voids(300)[-1]).slug == ""
    monkeypatch.setattr(verifying, "_KEPT", 50)

    def interrupt(what: str, done: int, of: int) -> None:
        if done == 200:
            raise KeyboardInterrupt

    with VerifiedRepository(fleet.remote, fleet.env) as there:
        with pytest.raises(KeyboardInterrupt):
            there.verify("main", progress=interrupt)
        assert there.verify("main").records == 150
        with pytest.raises(KeyboardInterrupt):
            there.verify("main", full=True, progress=interrupt)
        assert there.verify("main").records == 0


def test_an_install_tells_of_a_ledger_whose_secrets_are_not_here(fleet: Fleet) -> None:
    (fleet.remote / "coordledger/main.verified").unlink()
    with hidden(fleet, "coordledger/master"):
        ran = fleet.run("hook", "install", fleet.remote, check=1)
        assert "the server has no secret for alice/1" in ran.stderr
        assert "installed" in ran.stdout
    fleet.run("hook", "install", fleet.remote, check=0)
    assert fleet.head() in mark.read(str(fleet.remote / "coordledger/main.verified"))


def test_verifying_names_a_ledger_that_is_not_there(fleet: Fleet) -> None:
    ran = fleet.run("hook", "verify", fleet.remote, "--ledger", "other", check=1)
    assert f"{fleet.remote} has no ledger other" in ran.stderr
    fleet.run("hook", "verify", fleet.root / "nowhere.git", check=1)
