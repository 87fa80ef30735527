"""`repair REPO.git`: cut back to the last record that is valid, where the repository lives."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck, opened, second_opinion
from support.fleet import LEDGER_REF
from support.refusals import refusal
from support.sequencing import switch
from support.serve_process import serving

from coordledger.deadline import Deadline, unix_ms
from coordledger.errors import CoordledgerError, Integrity
from coordledger.git.history import SHORT
from coordledger.git.process import Git
from coordledger.server.repair import ServerLedger
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

    from coordledger.server.repair import Findings

DAY = 86_400_000


@pytest.fixture
def guarded(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet()
    fleet.enroll("bob")
    fleet.ledger("bob").claim("before")
    return fleet


@pytest.fixture
def forge(guarded: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(guarded)


def let_in(fleet: Fleet, forge: Attacker, oid: str) -> str:
    """What the hook would have refused: it was gone for a moment, or its clock was wrong."""
    hook = fleet.remote / "hooks/pre-receive"
    away = hook.rename(f"{hook}.away")
    assert forge.push(oid).slug == ""
    away.rename(hook)
    return oid


def _invalid(forge: Attacker) -> str:
    return forge.propose(forge.sign(forge.record("bob", "void"), mint()))


def _newer(forge: Attacker) -> str:
    return forge.render(forge.signed("bob", "void", v=2))


def _future(forge: Attacker) -> str:
    forge.later = 20 * DAY
    oid = forge.propose(forge.signed("bob", "submit", task="ahead"))
    forge.later = 0
    return oid


KINDS = {"bad-signature": _invalid, "newer-version": _newer, "from-future": _future}


@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("code", KINDS)
def test_each_kind_is_shown_cut_off_and_kept_and_people_go_on(
    guarded: Fleet, forge: Attacker, code: str, sequence: bool
) -> None:
    fleet = guarded
    switch(fleet, sequence=sequence)
    good = fleet.head()
    with serving(fleet) if sequence else nullcontext():
        fleet.ledger("alice").submit("warm")  # what answers for the hook has seen the chain
        fleet.git("update-ref", LEDGER_REF, good)
        bad = let_in(fleet, forge, KINDS[code](forge))
        alice = fleet.ledger("alice")
        alice.reset()
        with pytest.raises(Integrity) as blocked:
            alice.claim("t")
        assert blocked.value.code == code
        command = blocked.value.hint.rpartition(": coordledger ")[2]
        assert command == f"repair {fleet.remote}"

        seen = json.loads(fleet.run(*command.split(), "--dry-run", "--json", check=0).stdout)
        assert seen["repaired"] is False
        assert [one["commit"] for one in seen["cut"]["records"]] == [bad]
        assert seen["cut"]["code"] == code
        assert fleet.head() == bad  # nothing was changed
        assert "needs --yes" in fleet.run(*command.split(), check=1).stderr
        assert fleet.head() == bad

        ran = fleet.run(*command.split(), "--yes", check=0)
        assert f"record {seen['cut']['records'][0]['seq']} ({bad[:12]})" in ran.stderr
        assert fleet.head() == good
        assert fleet.git("rev-parse", seen["cut"]["kept"]).strip() == bad
        log = (fleet.remote / "coordledger/repairs.log").read_text()
        for said in (code, bad, good, seen["cut"]["kept"], f"(uid {os.getuid()})"):
            assert said in log
        assert alice.claim("t").won
        assert fleet.ledger("bob").claim("u").won
    fsck(fleet.remote, fleet.env)
    assert second_opinion(fleet.remote) == int(fleet.git("rev-list", "--count", LEDGER_REF))
    assert "nothing to repair" in fleet.run(*command.split(), "--yes", check=0).stdout


def test_a_cut_can_be_undone_and_made_again(guarded: Fleet, forge: Attacker) -> None:
    good, bad = guarded.head(), let_in(guarded, forge, _invalid(forge))
    seen = json.loads(guarded.run("repair", guarded.remote, "--yes", "--json", check=0).stdout)
    guarded.git(*seen["cut"]["undo"].split()[1:])
    assert guarded.head() == bad
    guarded.run("repair", guarded.remote, "--yes", check=0)
    assert guarded.head() == good
    assert len((guarded.remote / "coordledger/repairs.log").read_text().splitlines()) == 2


def test_what_is_kept_of_a_cut_is_moved_by_no_push(guarded: Fleet, forge: Attacker) -> None:
    let_in(guarded, forge, _invalid(forge))
    seen = json.loads(guarded.run("repair", guarded.remote, "--yes", "--json", check=0).stdout)
    for refspec in (f":{seen['cut']['kept']}", f"{forge.tip}:refs/coordledger-cut/main/x"):
        assert forge.push(refspec).slug in ("bad-ref", "no-delete")


def test_inside_of_the_repository_no_name_is_needed(guarded: Fleet, forge: Attacker) -> None:
    good, _ = guarded.head(), let_in(guarded, forge, _invalid(forge))
    guarded.run("repair", "--yes", cwd=guarded.remote, check=0)
    assert guarded.head() == good


def test_a_clone_is_told_where_to_repair_what_a_hook_guards(
    guarded: Fleet, forge: Attacker
) -> None:
    bad = let_in(guarded, forge, _invalid(forge))
    ran = guarded.run("repair", "--yes", agent="alice", check=4)
    assert "coordledger repair REPO.git" in ran.stderr
    assert guarded.head() == bad


def test_all_that_follows_a_bad_record_goes_with_it(guarded: Fleet, forge: Attacker) -> None:
    good, tip = guarded.head(), _invalid(forge)
    seq = guarded.ledger("alice").head().seq
    for _ in range(SHORT + 10):  # more than are read one by one
        tip = forge.propose(forge.signed("bob", "void", on=tip), on=tip)
    let_in(guarded, forge, tip)
    ran = guarded.run("repair", guarded.remote, "--yes", check=0)
    assert f"cut off: records {seq + 1} to {seq + SHORT + 11}" in ran.stderr
    assert f"and {SHORT - 9} more" in ran.stderr
    assert guarded.head() == good


def examined(fleet: Fleet, name: str = "main") -> tuple[ServerLedger, Findings]:
    ledger = ServerLedger(fleet.remote, name, Git(fleet.env, None, Deadline(20)), fleet.env)
    return ledger, ledger.examine(unix_ms(), lambda *_: None)


def test_what_cannot_be_checked_is_not_cut(guarded: Fleet, forge: Attacker) -> None:
    let_in(guarded, forge, _invalid(forge))
    (guarded.remote / "coordledger/master").rename(guarded.root / "master")
    _, found = examined(guarded)
    assert found.cut is None
    assert found.unchecked == int(guarded.git("rev-list", "--count", LEDGER_REF))
    ran = guarded.run("repair", guarded.remote, "--yes", check=0)
    assert "not checked: their secrets are not here" in ran.stderr
    let_in(guarded, forge, _newer(forge))  # which needs no secret
    assert examined(guarded)[1].cut is not None


def test_damage_of_the_disk_is_not_cut(guarded: Fleet, forge: Attacker) -> None:
    head = guarded.head()
    middle = guarded.git("rev-parse", f"{LEDGER_REF}~1").strip()
    path = guarded.remote / "objects" / middle[:2] / middle[2:]
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(b"nonsense")
    assert refusal(lambda: examined(guarded)) == "git-failed"
    path.unlink()
    assert refusal(lambda: examined(guarded)) == "git-failed"
    path.write_bytes(content)
    assert examined(guarded)[1].cut is None
    assert guarded.head() == head


def test_a_push_that_came_in_between_is_not_cut(guarded: Fleet, forge: Attacker) -> None:
    good = guarded.head()
    let_in(guarded, forge, _invalid(forge))
    ledger, found = examined(guarded)
    assert found.cut is not None
    guarded.git("update-ref", LEDGER_REF, good)  # somebody else was faster
    assert guarded.ledger("bob").claim("more").won
    head = guarded.head()
    cut = found.cut
    assert refusal(lambda: ledger.apply(cut, unix_ms())) == "busy"
    assert guarded.head() == head
    assert "it was not cut" in (guarded.remote / "coordledger/repairs.log").read_text()


def test_another_account_is_told_whose_repository_it_is(
    guarded: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(CoordledgerError) as caught:
        examined(guarded)
    assert caught.value.code == "not-owner"
    assert "sudo -u " in caught.value.hint


def test_one_ledger_of_several_is_repaired(
    guarded: Fleet, attacker_for: Callable[..., Attacker]
) -> None:
    guarded.run("init", guarded.remote, "--agent", "alice", "--ledger", "side", check=0)
    main, side = guarded.head(), "refs/coordledger/side"
    before = guarded.git("rev-parse", side).strip()
    forge = attacker_for(guarded, ref=side)
    bad = forge.propose(forge.sign(forge.record("alice", "void"), mint()))
    hook = guarded.remote / "hooks/pre-receive"
    away = hook.rename(f"{hook}.away")
    guarded.git("fetch", "--quiet", forge.folder, bad)
    guarded.git("update-ref", side, bad)
    away.rename(hook)
    guarded.run("repair", guarded.remote, "--yes", "--ledger", "side", check=0)
    assert guarded.git("rev-parse", side).strip() == before
    assert guarded.head() == main
    assert refusal(lambda: examined(guarded, "other")) == "not-a-ledger"


def test_a_repository_of_sha256_is_repaired(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    path = fleet.root / "long.git"
    fleet.git("init", "--quiet", "--bare", "--object-format=sha256", path)
    fleet.run("init", path, "--agent", "alice", check=0)
    good = fleet.git("rev-parse", LEDGER_REF, cwd=path).strip()
    assert len(good) == 64
    lie = fleet.git("cat-file", "commit", good, cwd=path).replace("genesis", "Genesis", 1)
    lie = lie.replace("\nauthor", f"\nparent {good}\nauthor", 1)
    (fleet.root / "lie").write_text(lie)
    bad = fleet.git("hash-object", "-t", "commit", "-w", fleet.root / "lie", cwd=path)
    fleet.git("update-ref", LEDGER_REF, bad.strip(), cwd=path)
    fleet.run("repair", path, "--yes", check=0)
    assert fleet.git("rev-parse", LEDGER_REF, cwd=path).strip() == good


def test_who_had_taken_it_over_is_told_and_decides(guarded: Fleet, forge: Attacker) -> None:
    """A rollback is never taken for a repair: there is a message, and one command."""
    good = guarded.head()
    let_in(guarded, forge, _future(forge))
    ahead = opened(guarded, guarded.clone("alice"), "alice", clock=lambda: unix_ms() + 20 * DAY)
    assert "ahead" in [claim.task for claim in ahead.tasks()]
    guarded.run("repair", guarded.remote, "--yes", check=0)
    alice = guarded.ledger("alice")
    for act in (alice.tasks, lambda: alice.claim("t")):
        with pytest.raises(Integrity) as gone:
            act()
        assert gone.value.code == "remote-behind"
        assert "if its owner has cut it off: coordledger join" in gone.value.hint
    assert guarded.ledger("bob").claim("t").won
    with pytest.raises(Integrity) as gone:
        alice.tasks()
    assert gone.value.code == "rewritten"
    command = gone.value.hint.rpartition(": coordledger ")[2]
    guarded.run(*command.split(), "--yes", agent="alice", check=0)
    assert guarded.ledger("alice").claim("u").won
    assert good != guarded.head()
