"""Two servers with an older and a newer copy of one ledger, as after a restored backup."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.bookkeeping import claims_of, fsck, records_of
from support.fleet import LEDGER_REF, Fleet

from coordledger import Ledger
from coordledger.client.config import Options
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Integrity, RuleBroken
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit, render_commit, successor
from coordledger.format.signing import Keyring
from coordledger.git.process import Git
from coordledger.git.repository import Repository
from coordledger.setup import joining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.format.signing import Signed


class Copies:
    """`fleet.remote` is the newer copy; `older` what was restored from a backup.

    alice and bob know the newer one; carol has met the older one alone.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.older = fleet, fleet.root / "older.git"
        for agent in ("bob", "carol"):
            fleet.enroll(agent)
        self.alice, self.bob = fleet.ledger("alice"), fleet.ledger("bob")
        assert self.alice.claim("before").won
        self.common = len(records_of(fleet.remote))
        self.backup()

    def backup(self) -> None:
        shutil.copytree(self.fleet.remote, self.older)
        subprocess.run(["git", "gc", "--quiet"], cwd=self.older, env=self.fleet.env, check=True)

    def carol(self) -> Ledger:
        path = self.fleet.root / "carol"
        if not path.exists():
            self.fleet.git("clone", "--quiet", self.older, path)
            joining.join(Options(path=path, agent="carol"), self.fleet.env, "origin")
        return self.at("carol", self.older)

    def at(self, agent: str, remote: Path) -> Ledger:
        """The agent, whose clone goes to that copy now."""
        clone = self.fleet.root / agent
        self.fleet.git("remote", "set-url", "origin", remote, cwd=clone)
        return self.fleet.ledger(agent) if agent != "carol" else self._opened(clone)

    def _opened(self, clone: Path) -> Ledger:
        found = Ledger.open(clone, "carol", environ=self.fleet.env)
        self.fleet._open.append(found)
        return found


@pytest.fixture
def copies(fleet: Fleet) -> Copies:
    return Copies(fleet)


def snapshot(clone: Path, env: dict[str, str]) -> tuple[bytes, bytes]:
    """What a clone remembers: the verified head and every ref."""
    refs = subprocess.run(
        ["git", "for-each-ref"], cwd=clone, env=env, capture_output=True, check=True, timeout=20
    ).stdout
    return (clone / ".git/coordledger/main/trusted.json").read_bytes(), refs


# -- a client meets the older copy


def test_a_client_that_has_seen_more_refuses_the_older_copy_and_moves_nothing(
    copies: Copies,
) -> None:
    fleet, alice = copies.fleet, copies.alice
    assert alice.claim("newer").won
    clone = fleet.clone("alice")
    alice = copies.at("alice", copies.older)
    before, there = snapshot(clone, fleet.env), fleet.git("for-each-ref", cwd=copies.older)
    acts: list[Callable[[], object]] = [
        alice.head,
        alice.tasks,
        alice.inbox,
        alice.audit,
        lambda: alice.claim("t"),
        lambda: alice.complete("newer"),
        lambda: alice.send("x", channel="general"),
    ]
    for act in acts:
        with pytest.raises(Integrity) as refused:
            act()
        assert (refused.value.code, refused.value.exit_code) == ("remote-behind", 4)
        assert "--reset" not in refused.value.hint
        assert snapshot(clone, fleet.env) == before
    assert alice.connection.local.journal.intents() == []
    assert alice.resolve() == []
    ran = fleet.run("list", "--json", agent="alice", check=4)
    assert json.loads(ran.stdout)["error"]["code"] == "remote-behind"
    assert fleet.git("for-each-ref", cwd=copies.older) == there
    alice = copies.at("alice", fleet.remote)
    assert alice.complete("newer").status == "done"


def test_an_intent_that_the_older_copy_settles_is_noticed_when_the_newer_one_is_met(
    copies: Copies,
) -> None:
    """It landed on the newer one, of which this clone had not seen more than the older has."""
    fleet = copies.fleet
    hook = fleet.remote / "hooks/reference-transaction"
    away = f"mv '{fleet.remote}' '{fleet.remote}.away' && kill -9 $PPID"
    lines = ["#!/bin/sh", "grep -q refs/coordledger/ || exit 0", f'[ "$1" = committed ] && {away}']
    hook.write_text("\n".join([*lines, "exit 0\n"]))
    hook.chmod(0o755)
    with pytest.raises(CoordledgerError) as unknown:
        copies.alice.claim("t")
    assert unknown.value.code == "unknown-outcome"
    hook = fleet.root / f"{fleet.remote.name}.away/hooks/reference-transaction"
    hook.unlink()
    hook.parent.parent.rename(fleet.remote)
    assert copies.bob.claim("u").won
    # Her clone has not seen her own claim: the older copy is not behind what it has verified.
    alice = copies.at("alice", copies.older)
    [settled] = alice.resolve()
    assert settled.outcome == "voided"  # rightly, there: and the two copies are two histories now
    alice = copies.at("alice", fleet.remote)
    with pytest.raises(Integrity) as forked:
        alice.head()
    assert forked.value.code == "rewritten"
    for remote in (fleet.remote, copies.older):
        ops = [record["op"] for record in records_of(remote)]
        assert ops.count(settled.op) == 1


# -- a client of the older copy meets the newer one


def test_a_client_of_the_older_copy_that_wrote_nothing_follows_the_newer_one(
    copies: Copies,
) -> None:
    assert copies.alice.claim("newer").won
    carol = copies.carol()
    line = carol.head().line()
    copies.alice.compare(line)  # a part of the same history
    newer = copies.alice.head()
    with pytest.raises(Integrity) as ahead:
        carol.compare(newer.line())
    assert ahead.value.code == "head-differs"
    assert "not in the remote's history" in ahead.value.message
    carol = copies.at("carol", copies.fleet.remote)
    assert carol.head().line() == newer.line()
    carol.compare(line)


def test_after_writes_to_both_copies_everybody_is_told_that_there_are_two(copies: Copies) -> None:
    fleet = copies.fleet
    carol = copies.carol()
    assert carol.claim("t").won
    assert copies.alice.claim("t").won  # the same task, epoch 1, on the other server
    assert copies.bob.claim("u").won
    older, newer = carol.head(), copies.alice.head()
    for ledger, line in ((copies.alice, older.line()), (carol, newer.line())):
        with pytest.raises(Integrity) as differs:
            ledger.compare(line)
        assert (differs.value.code, differs.value.exit_code) == ("head-differs", 4)
    ran = fleet.run("head", "--compare", older.line(), agent="alice", check=4)
    assert "another history" in ran.stderr
    ran = fleet.run("head", "--compare", newer.line(), cwd=fleet.root / "carol", check=4)
    assert "another history" in ran.stderr
    for agent, remote in (("carol", fleet.remote), ("alice", copies.older)):
        clone = fleet.root / agent
        ledger = copies.at(agent, remote)
        before = snapshot(clone, fleet.env)
        for act in (ledger.head, lambda ledger=ledger: ledger.claim("v")):
            with pytest.raises(Integrity) as refused:
                act()
            assert refused.value.code == "rewritten"
            assert refused.value.hint.endswith("coordledger join origin --reset")
            assert snapshot(clone, fleet.env) == before
        assert ledger.connection.local.journal.intents() == []
    # The only way over is to be told to forget.
    carol = copies.at("carol", fleet.remote)
    carol.reset()
    carol.join()
    assert carol.head().line() == newer.line()
    assert carol.claim("t").code == "held"


# -- records of one copy on the other


class Smuggler:
    """Takes signed records out of one copy and pushes them to the other, without any secret."""

    def __init__(self, copies: Copies, folder: Path) -> None:
        self.env = copies.fleet.env
        copies.fleet.git("init", "--quiet", "--bare", folder)
        both = (copies.fleet.remote, copies.older)
        lines = "".join(f"{remote / 'objects'}\n" for remote in both)
        (folder / "objects/info/alternates").write_text(lines)
        self.folder = folder
        self.store = Repository.open(Git(self.env, folder, Deadline(60)), folder)

    def ids(self, remote: Path) -> list[str]:
        argv = ["git", "rev-list", "--reverse", LEDGER_REF]
        ran = subprocess.run(argv, cwd=remote, env=self.env, capture_output=True, check=True)
        return ran.stdout.decode().split()

    def signed(self, oid: str) -> Signed:
        return parse_commit(oid, self.store.read(oid)).signed

    def replay(self, signed: Signed, remote: Path) -> str:
        """Render it on that copy's head as it is, rules or not, and push it; "" if it landed."""
        tip = self.ids(remote)[-1]
        head = parse_commit(tip, self.store.read(tip))
        chain = Chain(self.store.read, Keyring(), head, self.store.algo)
        try:
            proposal = chain.propose(signed)
            self.store.write(proposal.objects)
            oid = proposal.commit.oid
        except RuleBroken:
            content = render_commit(successor(head, head.tree, signed), "hmac-sha256")
            oid = self._git("hash-object", "-t", "commit", "-w", "--stdin", data=content).strip()
        return self.push(oid, remote)

    def push(self, oid: str, remote: Path) -> str:
        argv = ["git", "push", "--force", str(remote), f"{oid}:{LEDGER_REF}"]
        ran = subprocess.run(
            argv, cwd=self.folder, env=self.env, capture_output=True, timeout=30, check=False
        )
        if ran.returncode == 0:
            return ""
        [line] = [
            line for line in ran.stderr.decode().splitlines() if "coordledger: refused" in line
        ]
        return line.split(": ")[3]

    def _git(self, *argv: str, data: bytes) -> str:
        ran = subprocess.run(
            ["git", *argv],
            cwd=self.folder,
            env=self.env,
            input=data,
            capture_output=True,
            timeout=30,
            check=True,
        )
        return ran.stdout.decode()


@pytest.fixture
def smuggler(copies: Copies, tmp_path: Path) -> Iterator[Smuggler]:
    made = Smuggler(copies, tmp_path / "smuggler.git")
    yield made
    made.store.close()


def test_the_newer_records_land_on_the_older_copy_as_they_are_or_once_or_never(
    copies: Copies, smuggler: Smuggler
) -> None:
    fleet, older = copies.fleet, copies.older
    assert copies.alice.claim("a").won
    copies.alice.send("one", channel="general")
    copies.alice.complete("a")
    newer = smuggler.ids(fleet.remote)[copies.common :]
    # In another order than theirs: nothing fits.
    for oid in newer[1:]:
        assert smuggler.replay(smuggler.signed(oid), older) in ("bad-base", "stale-rev")
    assert len(smuggler.ids(older)) == copies.common
    # As they are: the older copy becomes the newer one.
    assert smuggler.push(newer[-1], older) == ""
    assert smuggler.ids(older) == smuggler.ids(fleet.remote)
    for oid in newer:
        for remote in (older, fleet.remote):
            assert smuggler.replay(smuggler.signed(oid), remote) == "replayed"
    records_of(older)


def test_records_made_on_both_copies_land_once_or_never_on_the_other(
    copies: Copies, smuggler: Smuggler
) -> None:
    fleet, older = copies.fleet, copies.older
    carol = copies.carol()
    carol.send("from carol", to="bob")  # its base is in both histories
    assert carol.claim("t").won  # its base is carol's own message: in one history only
    assert copies.alice.claim("t").won
    copies.bob.head()
    copies.bob.send("from bob", to="alice")  # and this one's is alice's claim
    mine = [smuggler.signed(oid) for oid in smuggler.ids(older)[copies.common :]]
    theirs = [smuggler.signed(oid) for oid in smuggler.ids(fleet.remote)[copies.common :]]
    assert [signed.record["agent"] for signed in mine] == ["carol", "carol"]

    # A record whose base both histories share is movable: it lands once, whoever sends it.
    assert smuggler.replay(mine[0], fleet.remote) == ""
    assert smuggler.replay(mine[0], fleet.remote) == "replayed"
    # One that knew of this history alone never does.
    assert smuggler.replay(mine[1], fleet.remote) == "bad-base"
    # And back: alice's claim has its base in both, but the task is carol's there.
    assert smuggler.replay(theirs[0], older) == "held"
    assert smuggler.replay(theirs[1], older) == "bad-base"
    carol.release("t")
    # The older copy's task has a revision that she did not mean: not even now.
    assert smuggler.replay(theirs[0], older) in ("stale-rev", "wrong-epoch")

    for remote in (fleet.remote, older):
        records = records_of(remote)  # replays every rule, once and epochs among them
        assert len(claims_of(records, "t")) == 1
        sent = [record["body"] for record in records if record["kind"] == "send"]
        assert sent.count("from carol") == 1
        fsck(remote, fleet.env)
    assert [message.body for message in copies.bob.inbox()] == ["from carol"]
