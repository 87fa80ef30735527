"""A host that runs no hooks: it works, and says what that means."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.hookless_host import forge

from coordledger.client.ledger import Ledger
from coordledger.errors import Failed, Integrity

if TYPE_CHECKING:
    from support.hookless_host import HooklessHost

NONE = "none; forged records are detected where the keys are, not prevented"


def test_a_ledger_without_a_hook_works_and_says_so_everywhere(host: HooklessHost) -> None:
    founded = host.found()
    assert founded.enforcement == "none"
    with host.ledger("alice") as alice:
        alice.enroll("bob")
        assert alice.status().enforcement == "none"
        joined = host.join("bob")
        assert (joined.key, joined.enforcement) == ("ready", "none")
        with host.ledger("bob") as bob:
            assert bob.claim("task").won
            assert alice.claim("task").outcome == "lost"
        assert alice.audit(full=True).verdicts == {"authentic": 3}
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/coordledger/main"


def test_a_forged_record_stops_who_has_the_key_until_an_operator_repairs(
    host: HooklessHost,
) -> None:
    host.found()
    with host.ledger("alice") as alice:
        claim = alice.claim("task").claim
        assert claim is not None
        good = alice.head()
        bad = forge(host, "alice")
        assert [claim.task for claim in alice.tasks()] == ["task"]
        assert alice.audit().problems == (alice.status().stopped_at,)
        for attempt in (lambda: alice.require("task"), lambda: alice.claim("other")):
            with pytest.raises(Integrity) as caught:
                attempt()
            assert caught.value.code == "bad-signature"
            assert f"record {good.seq + 1} ({bad[:12]})" in caught.value.message
        assert alice.head(refresh=False) == good

        found = alice.damage()
        assert found is not None
        assert (found.head, found.last.commit) == (bad, good.commit)
        assert alice.repair(found) == good
        assert alice.damage() is None
        assert alice.claim("other").won
        log = (alice.connection.local.folder / "log").read_text()
        assert f"repair: from {bad} to {good.seq}:{good.digest}" in log


def test_a_repair_that_somebody_overtakes_gives_nothing_up(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        alice.claim("task")
        forge(host, "alice")
        found = alice.damage()
        assert found is not None
        host.git(
            "update-ref", alice.connection.local.remote_ref, found.last.commit
        )  # somebody else repaired
        with host.ledger("alice") as other:
            assert other.claim("elsewhere").won
        head = host.git("rev-parse", alice.connection.local.remote_ref)
        with pytest.raises(Exception, match="stale info") as caught:
            alice.repair(found)
        assert caught.value.code == "push-refused"  # type: ignore[attr-defined]
        assert host.git("rev-parse", alice.connection.local.remote_ref) == head


def test_a_ledger_can_live_on_a_branch(host: HooklessHost) -> None:
    founded = host.found(branch="ledger/main")
    assert founded.enforcement == "none"
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/heads/ledger/main"
    with host.ledger("alice") as alice:
        alice.enroll("bob")
        joined = host.join("bob", branch="ledger/main")
        assert joined.key == "ready"
        with host.ledger("bob") as bob:
            assert bob.claim("task").won
        assert alice.claim("task").outcome == "lost"
        assert alice.audit().problems == ()
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/heads/ledger/main"
    log = host.git("log", "--format=%s", "refs/coordledger/main", cwd=host.root / "alice")
    assert log.splitlines()[-1] == "genesis alice"


@pytest.mark.parametrize("branch", ["a..b", "with space", "-x/.lock"])
def test_a_branch_that_git_would_not_have_is_refused(host: HooklessHost, branch: str) -> None:
    with pytest.raises(Exception, match="--branch") as caught:
        host.found(branch=branch)
    assert caught.value.code == "bad-value"  # type: ignore[attr-defined]


def test_the_commands_repair_and_doctor_say_it_in_words(host: HooklessHost) -> None:
    host.found()
    forge(host, "alice")

    def run(*argv: str, code: int) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [sys.executable, "-m", "coordledger", *argv],
            cwd=host.root / "alice",
            env=host.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran

    shown = run("list", code=0)
    assert "bad-signature" in shown.stderr
    assert "coordledger repair" in shown.stderr
    assert "bad-signature" in run("claim", "t", "--json", code=4).stdout
    assert "would end at 0:" in run("repair", "--dry-run", code=0).stdout
    refused = run("repair", code=1).stderr
    assert "coordledger: repair: needs --yes: nobody can be asked" in refused
    repaired = run("repair", "--yes", "--json", code=0)
    assert json.loads(repaired.stdout)["repaired"] is True
    assert "bad: record 1 " in repaired.stderr
    assert json.loads(run("repair", "--yes", "--json", code=0).stdout)["repaired"] is False
    assert f"enforcement: {NONE}" in run("doctor", code=0).stdout
    assert NONE in run("status", code=0).stdout
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/coordledger/main"


def test_a_forged_offer_is_taken_by_nobody_who_cannot_check_it(host: HooklessHost) -> None:
    """The giver's signature is what a task is handed over by."""
    host.found()
    with host.ledger("alice") as alice:
        secret = alice.enroll("carol").read_text().strip()
        assert alice.claim("t").won
    host.join("carol")
    forge(host, "alice", kind="handoff", task="t", rev=2, epoch=1, to="carol", note=None)
    elsewhere = {"XDG_CONFIG_HOME": str(host.root / "elsewhere"), "HOME": str(host.root / "home2")}
    env = host.env | elsewhere | {"COORDINATION_SECRET_CAROL": secret}
    with Ledger.open(host.root / "carol", "carol", environ=env) as carol:
        assert [offer.checked for offer in carol.status().offers] == ["nobody"]
        with pytest.raises(Failed) as caught:
            carol.claim("t")
        assert caught.value.code == "offer-unchecked"
        assert carol.show("t").agent == "alice"
