"""A host that runs no hooks: it works, and says what that means."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet import hermetic

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.errors import Integrity
from coordledger.format.chain import Chain
from coordledger.format.signing import Signed, sign
from coordledger.setup import joining

if TYPE_CHECKING:
    from pathlib import Path

NONE = "none; forged records are detected where the keys are, not prevented"


class Host:
    """A bare repository behind an ssh that is none: a URL, and no hook."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self.path = root, root / "host.git"
        ssh = root / "ssh"
        ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
        ssh.chmod(0o700)
        self.env = env | {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "simple"}
        self.url = f"somewhere:{self.path}"
        self.git("init", "--quiet", "--bare", str(self.path), cwd=root)

    def git(self, *argv: str, cwd: Path | None = None) -> str:
        ran = subprocess.run(
            ["git", *argv],
            cwd=cwd or self.path,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def clone(self, agent: str) -> Path:
        path = self.root / agent
        self.git("init", "--quiet", str(path), cwd=self.root)
        return path

    def ledger(self, agent: str) -> Ledger:
        return Ledger.open(self.root / agent, agent, environ=self.env)

    def found(self, branch: str | None = None) -> joining.Founded:
        options = Options(self.clone("alice"), agent="alice", branch=branch)
        return joining.init(options, self.env, self.url, 30)

    def join(self, agent: str, **kw: Any) -> joining.Joined:
        return joining.join(Options(self.clone(agent), agent=agent, **kw), self.env, self.url)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, hermetic(tmp_path))


def forge(host: Host, agent: str, **changes: Any) -> str:
    """Put a commit with a changed record, but for the MAC all right, on the host's ledger."""
    ledger = host.ledger(agent)
    chain = ledger.replica.refresh()
    signed = ledger.writer().sample(chain)
    record = signed.record | changes
    _, secret = ledger.identity().key(chain.state, chain.head.seq + 1 if chain.head else 0)
    tag = sign(record, secret).tag
    proposal = Chain(
        ledger.local.repository.read, ledger.replica.keyring(), chain.head, "sha1"
    ).propose(Signed(sign(record, secret).payload, record, bytes(byte ^ 255 for byte in tag)))
    ledger.local.repository.write(proposal.objects)
    ledger.close()
    oid = proposal.commit.oid
    host.git("push", "--quiet", host.url, f"{oid}:{ledger.local.there}", cwd=host.root / agent)
    return oid


def test_a_ledger_without_a_hook_works_and_says_so_everywhere(host: Host) -> None:
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


def test_a_forged_record_stops_who_has_the_key_until_an_operator_repairs(host: Host) -> None:
    host.found()
    with host.ledger("alice") as alice:
        claim = alice.claim("task").claim
        assert claim is not None
        good = alice.head()
        bad = forge(host, "alice")
        for attempt in (alice.tasks, lambda: alice.claim("other"), alice.audit):
            with pytest.raises(Integrity) as caught:
                attempt()
            assert caught.value.code == "bad-signature"
            assert f"record {good.seq + 1} ({bad[:12]})" in caught.value.message
        assert alice.head(refresh=False) == good

        found = alice.damage()
        assert found is not None
        assert (found.head, found.last.oid) == (bad, good.commit)
        assert alice.repair(found) == good
        assert alice.damage() is None
        assert alice.claim("other").won
        log = (alice.local.folder / "log").read_text()
        assert f"repair: from {bad} to {good.seq}:{good.digest}" in log


def test_a_repair_that_somebody_overtakes_gives_nothing_up(host: Host) -> None:
    host.found()
    with host.ledger("alice") as alice:
        alice.claim("task")
        forge(host, "alice")
        found = alice.damage()
        assert found is not None
        host.git("update-ref", alice.local.there, found.last.oid)  # somebody else repaired
        with host.ledger("alice") as other:
            assert other.claim("elsewhere").won
        head = host.git("rev-parse", alice.local.there)
        with pytest.raises(Exception, match="stale info") as caught:
            alice.repair(found)
        assert caught.value.code == "push-refused"  # type: ignore[attr-defined]
        assert host.git("rev-parse", alice.local.there) == head


def test_a_ledger_can_live_on_a_branch(host: Host) -> None:
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
def test_a_branch_that_git_would_not_have_is_refused(host: Host, branch: str) -> None:
    with pytest.raises(Exception, match="--branch") as caught:
        host.found(branch=branch)
    assert caught.value.code == "bad-value"  # type: ignore[attr-defined]


def test_the_commands_repair_and_doctor_say_it_in_words(host: Host) -> None:
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

    assert "bad-signature" in run("list", "--json", code=4).stdout
    refused = run("repair", code=1).stderr
    assert "coordledger: repair: needs --yes: nobody can be asked" in refused
    repaired = run("repair", "--yes", "--json", code=0)
    assert json.loads(repaired.stdout)["repaired"] is True
    assert "bad: record 1 " in repaired.stderr
    assert json.loads(run("repair", "--yes", "--json", code=0).stdout)["repaired"] is False
    assert f"enforcement: {NONE}" in run("doctor", code=0).stdout
    assert NONE in run("status", code=0).stdout
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/coordledger/main"
