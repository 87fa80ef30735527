"""Faults that were found by looking, each kept from coming back."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.hookless_host import forge
from support.refusals import refusal

from coordledger import keyfiles
from coordledger.client import audit
from coordledger.client.config import Options
from coordledger.client.journal import VOIDED, Intent
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.format import timestamps
from coordledger.git.process import Git
from coordledger.setup import doctor, genesis, joining

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fleet import Fleet
    from support.hookless_host import HooklessHost

    from coordledger.client.replica import Replica
    from coordledger.format.commit import Commit


@pytest.mark.parametrize("file", ["ledger.json", "agents/alice.json"])
def test_damage_of_ones_own_copy_is_never_cut_off_from_the_remote(
    host: HooklessHost, file: str
) -> None:
    host.found()
    with host.ledger("alice") as alice:
        alice.submit("one")
        other = Ledger.open(host.clone("again"), "alice", environ=host.env, remote=host.url)
        other.join()
        alice.submit("two")
        tree = alice.connection.replica.position().state.tree
        blob = tree._find(file)
        assert blob
        path = other.connection.local.repository.git_dir / "objects" / blob[1][:2] / blob[1][2:]
        path.chmod(0o600)
        path.write_bytes(b"nonsense")
        other.close()
        other = Ledger.open(host.root / "again", "alice", environ=host.env, remote=host.url)
        assert refusal(other.damage) == "bad-copy"
        other.close()
        assert alice.damage() is None


def test_what_a_newer_version_has_written_is_named_and_can_be_cut_off(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        good = alice.head()
        forge(host, "alice", v=2)
        assert refusal(lambda: alice.claim("t")) == "newer-version"
        found = alice.damage()
        assert found is not None
        assert found.fault.code == "newer-version"
        assert found.fault.hint.startswith("upgrade coordledger")
        assert alice.repair(found) == good
        assert alice.claim("t").won


def test_a_first_contact_uses_the_master_that_is_at_hand(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        alice.enroll("bob")
        ledger = alice.head().ledger
    forge(host, "alice", kind="void")
    assert (
        keyfiles.read(f"{host.env['XDG_CONFIG_HOME']}/coordledger/masters/{ledger}")
    ) is not None
    secrets = host.root / "home" / "config" / "coordledger" / "secrets"
    (secrets / ledger / "alice.secret").unlink()
    fresh = Ledger.open(host.clone("fresh"), "carol", environ=host.env, remote=host.url)
    assert fresh.join().seq == 1
    stopped = fresh.status().stopped_at
    assert stopped is not None
    assert (stopped["seq"], stopped["code"]) == (2, "bad-signature")
    fresh.close()


def test_what_was_adopted_before_the_keys_came_is_repaired_too(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        good = alice.head()
    forge(host, "alice")
    config = host.root / "home" / "config" / "coordledger"
    config.rename(host.root / "keys")  # as on another host
    blind = Ledger.open(host.clone("blind"), "carol", environ=host.env, remote=host.url)
    assert blind.join().seq == good.seq + 1
    assert blind.damage() is None
    (host.root / "keys").rename(config)
    found = blind.damage()
    assert found is not None
    assert found.last.commit == good.commit
    assert blind.repair(found) == good
    blind.close()


def test_a_claim_that_was_adopted_before_the_keys_came_passes_no_gate(host: HooklessHost) -> None:
    host.found()
    until = timestamps.show(time.time_ns() // 1_000_000 + 600_000)
    wanted = {"until": until, "reopen": False, "note": None, "paths": []}
    tasks = [{"task": "stolen", "rev": 1, "epoch": 1}]
    forge(host, "alice", kind="claim", tasks=tasks, **wanted)
    config = host.root / "home" / "config" / "coordledger"
    config.rename(host.root / "keys")
    with Ledger.open(host.clone("blind"), "carol", environ=host.env, remote=host.url) as blind:
        blind.join()
        assert blind.show("stolen").verdict == "unverified"
        assert refusal(lambda: blind.require("stolen")) == "nobody-checked"
        assert refusal(lambda: blind.require("stolen", check="here")) == "no-key"
        (host.root / "keys").rename(config)
        assert blind.show("stolen").verdict == "invalid"
        assert refusal(lambda: blind.require("stolen")) == "bad-signature"
        assert refusal(lambda: blind.require("stolen", check="here")) == "bad-signature"
        audit = blind.audit(full=True)
        assert audit.verdicts == {"authentic": 1, "invalid": 1}
        [problem] = audit.problems
        assert (problem["seq"], problem["code"]) == (1, "bad-signature")


def test_a_ledger_is_not_founded_whose_owners_secret_cannot_be_kept(
    tmp_path: Path, env: dict[str, str]
) -> None:
    secrets = tmp_path / "home" / "config" / "coordledger" / "secrets"
    secrets.mkdir(parents=True)
    secrets.chmod(0o777)

    def init() -> genesis.Founded:
        return genesis.init(Options(tmp_path, agent="alice"), env, str(tmp_path / "l.git"), 30)

    assert refusal(init) == "secret-exposed"
    assert list(secrets.iterdir()) == []
    secrets.chmod(0o700)
    founded = init()
    joined = joining.join(Options(tmp_path, agent="alice"), env, founded.repository)
    assert joined.key == "ready"


@pytest.mark.parametrize("overtaken", [True, False])
def test_an_intent_of_another_history_blocks_nobody_after_a_reset(
    fleet: Fleet, overtaken: bool
) -> None:
    fleet.enroll("bob")
    bob = fleet.ledger("bob")
    backup = fleet.head()
    bob.claim("one")
    head = bob.head()
    open_ = Intent("ab" * 16, {"digest": head.digest, "seq": head.seq}, "bob", "s", "claim two")
    bob.connection.local.journal.record(open_)
    fleet.git("update-ref", "refs/coordledger/main", backup)
    if overtaken:
        alice = fleet.ledger("alice")
        joining.reset(alice, *joining.peek(alice))
        alice.submit("elsewhere")
    joining.reset(bob, *joining.peek(bob))
    assert bob.claim("three").won
    assert [one.outcome for one in bob.resolve()] == [VOIDED]
    assert bob.resolve() == []


def test_waiting_for_any_task_wakes_when_a_lease_runs_out(make_fleet) -> None:  # type: ignore[no-untyped-def]
    fleet = make_fleet(max_skew=1)
    fleet.enroll("bob")
    bob, alice = fleet.ledger("bob"), fleet.ledger("alice")
    bob.claim("t", ttl=timedelta(seconds=1))
    began = time.monotonic()
    won = alice.claim_next(wait=timedelta(seconds=30))
    assert won.won
    assert time.monotonic() - began < 8


def test_a_try_that_was_cut_off_does_not_confuse_the_next(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        tip = alice.head().commit
        host.git("update-ref", "refs/coordledger-try/main", tip)
        assert doctor.probe(alice.connection)
        assert alice.connection.enforcement == "none"
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/coordledger/main"


def test_no_child_outlives_a_call_that_ran_out_of_time(tmp_path: Path, env: dict[str, str]) -> None:
    marker = f"4{os.getpid()}"
    git = Git(env, tmp_path, Deadline(0.5))
    assert (
        refusal(lambda: git.run("-c", f"alias.hang=!sleep {marker} & exit 0", "hang")) == "timeout"
    )
    time.sleep(0.1)
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            running.append(path.read_bytes())
    assert not any(marker.encode() in line for line in running)


def test_a_missing_object_of_ones_own_copy_is_no_damage_of_the_remote(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        alice.submit("one")
        alice.submit("two")
        middle = alice.connection.replica.commit_at(1)
        assert middle
        objects = alice.connection.local.repository.git_dir / "objects"
        (objects / middle.oid[:2] / middle.oid[2:]).unlink()
    with host.ledger("alice") as again:
        assert refusal(again.damage) == "bad-copy"
        assert refusal(lambda: again.audit(full=True)) == "bad-copy"  # not clean: not judged


def test_a_missing_object_is_named_even_by_an_audit_that_outlasts_the_timeout(
    host: HooklessHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.found()
    with host.ledger("alice") as alice:
        alice.submit("one")
        alice.submit("two")
        middle = alice.connection.replica.commit_at(1)
        assert middle
        objects = alice.connection.local.repository.git_dir / "objects"
        (objects / middle.oid[:2] / middle.oid[2:]).unlink()
    commits_above = audit.commits_above

    def after_the_timeout(replica: Replica, below: Commit | None) -> Iterator[tuple[str, bytes]]:
        replica.git.work_until(Deadline(0))
        yield from commits_above(replica, below)

    monkeypatch.setattr(audit, "STEP", 1)
    monkeypatch.setattr(audit, "commits_above", after_the_timeout)
    with host.ledger("alice") as again:
        assert refusal(lambda: again.audit(full=True)) == "bad-copy"
