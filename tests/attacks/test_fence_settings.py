"""A fence and what else git can be told: settings, other hooks, other ledgers, odd clones."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF
from support.pusher import MAIN, NOWHERE, Pusher, fence

from coordledger.client.config import Options
from coordledger.setup import genesis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    fleet = founded("bob", "carol")
    fence(fleet)
    with fleet.ledger("bob", session="s1") as ledger:
        assert ledger.claim("work", ttl=timedelta(hours=2)).won
    return fleet


@pytest.fixture
def pusher(shared_fleet: Fleet, tmp_path: Path) -> Iterator[Pusher]:
    made = Pusher(shared_fleet, tmp_path / "pusher.git")
    yield made
    made.close()


@contextlib.contextmanager
def configured(pusher: Pusher, name: str, value: str) -> Iterator[None]:
    pusher.fleet.git("config", "--add", name, value)
    try:
        yield
    finally:
        pusher.fleet.git("config", "--unset-all", name)


def lands(pusher: Pusher, *flags: str) -> bool:
    """Push a commit on what main has, with its record; both land or none. Whether they did."""
    old = pusher.there(MAIN)
    new = pusher.code(f"code {pusher.tip}", None if old == NOWHERE else old)
    record = pusher.lands(new, old)
    before = pusher.fleet.git("for-each-ref")
    pusher.push(*flags, f"{record}:{LEDGER_REF}", f"{new}:{MAIN}")
    pusher.go_on_from(pusher.tip)
    if pusher.fleet.git("for-each-ref") == before:
        return False
    assert (pusher.tip, pusher.there(MAIN)) == (record, new)
    return True


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("hidden", [LEDGER_REF, MAIN])
def test_a_ref_that_the_server_hides(pusher: Pusher, hidden: str, atomic: bool) -> None:
    with configured(pusher, "receive.hideRefs", hidden):
        assert not lands(pusher, *(["--atomic"] if atomic else []))


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("when", ["pre-receive", "prepared"])
def test_a_hook_that_was_there_before_refuses(pusher: Pusher, when: str, atomic: bool) -> None:
    name = "pre-receive" if when == "pre-receive" else "reference-transaction"
    hook = pusher.fleet.remote / f"hooks/{name}.chained"
    script = "exit 1" if when == "pre-receive" else '[ "$1" != prepared ]'
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)
    try:
        assert not lands(pusher, *(["--atomic"] if atomic else []))
    finally:
        hook.unlink()
    assert lands(pusher, "--atomic")


def test_options_of_a_push_change_nothing(pusher: Pusher) -> None:
    with configured(pusher, "receive.advertisePushOptions", "true"):
        assert lands(pusher, "--atomic", "--push-option=no-fence", "--push-option=ci.skip")
        new = pusher.code("alone")
        assert pusher.push("--push-option=no-fence", f"{new}:{MAIN}").slug == "fenced"


@pytest.mark.parametrize("atomic", [True, False])
def test_a_rewind_that_the_server_does_not_take(pusher: Pusher, atomic: bool) -> None:
    assert lands(pusher, "--atomic")
    old = pusher.there(MAIN)
    new = pusher.code(f"another root {atomic}")
    record = pusher.lands(new, old)
    before = pusher.fleet.git("for-each-ref")
    with configured(pusher, "receive.denyNonFastForwards", "true"):
        flags = ["--atomic"] if atomic else []
        pushed = pusher.push(*flags, f"{record}:{LEDGER_REF}", f"{new}:{MAIN}")
    assert pushed.code != 0
    assert pusher.fleet.git("for-each-ref") == before


def test_what_git_shows_in_place_of_a_commit_is_not_believed(pusher: Pusher) -> None:
    """A replaced head of the ledger has another subject."""
    old = pusher.there(MAIN)
    new = pusher.code("replaced", None if old == NOWHERE else old)
    record = pusher.lands(new, old)
    lie = pusher.changed(record, b"land work", b"xxxx work")
    assert pusher.push(f"{lie}:refs/replace/{record}").code == 0
    pusher.go_on_from(pusher.tip)
    [other] = pusher.voids(1)
    subject = pusher.raw(record).partition(b"\n\n")[2].partition(b"\n")[0]
    mine = pusher.raw(other).partition(b"\n\n")[2].partition(b"\n")[0]
    pretends = pusher.changed(other, mine, subject)
    assert pusher.push(f"{pretends}:refs/replace/{other}").code == 0
    try:
        before = pusher.fleet.git("for-each-ref")
        for flags in ([], ["--atomic"]):
            assert pusher.push(*flags, f"{other}:{LEDGER_REF}", f"{new}:{MAIN}").code != 0
            assert pusher.fleet.git("for-each-ref") == before
        assert pusher.push("--atomic", f"{record}:{LEDGER_REF}", f"{new}:{MAIN}").code == 0
    finally:
        for oid in (record, other):
            pusher.push(f":refs/replace/{oid}")


@pytest.mark.parametrize("flags", [("--depth=1",), ("--filter=blob:none",), ("--filter=tree:0",)])
def test_a_clone_that_has_not_got_everything_lands_code(
    pusher: Pusher, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert lands(pusher, "--atomic")
    assert lands(pusher, "--atomic")
    fleet, clone = pusher.fleet, tmp_path / "clone"
    with configured(pusher, "uploadpack.allowFilter", "true"):
        origin = f"file://{fleet.remote}"
        fleet.git("clone", "--quiet", *flags, "--branch", "main", origin, clone)
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "more", cwd=clone)
        new = fleet.git("rev-parse", "HEAD", cwd=clone).strip()
        task = f"from{flags[0]}"
        for words in (("join", "origin"), ("claim", task), ("push", "HEAD:main", "--complete")):
            fleet.run("--as", "bob", *words, cwd=clone, check=0)
    assert pusher.there(MAIN) == new


def test_two_ledgers_that_fence_the_same_ref_both_have_a_record(
    pusher: Pusher, tmp_path: Path
) -> None:
    """And a record of another ledger than the one that fences a ref moves nothing."""
    fleet = pusher.fleet
    options = Options(path=fleet.root, agent="alice", ledger="second")
    genesis.init(options, fleet.env, str(fleet.remote), 30)
    second = "refs/coordledger/second"
    clone = fleet.clone("alice")
    fleet.run("--ledger", "second", "join", "origin", cwd=clone, check=0)
    fleet.run("--ledger", "second", "claim", "theirs", cwd=clone, check=0)
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    fleet.git("fetch", "--quiet", "origin", cwd=clone)
    fleet.git("checkout", "--quiet", "--detach", "origin/main", cwd=clone)
    fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "second", cwd=clone)
    before = fleet.git("for-each-ref")
    words = ("--ledger", "second", "push", "HEAD:main", "--task", "theirs")
    ran = fleet.run(*words, cwd=clone)
    assert (ran.returncode, fleet.git("for-each-ref")) == (1, before)
    fleet.run("--ledger", "second", "hook", "install", fleet.remote, "--fence", MAIN, check=0)
    try:
        for agent, ledger in (("alice", "second"), ("bob", "main")):
            where = clone if agent == "alice" else fleet.clone("bob")
            head = fleet.git("rev-parse", "HEAD", cwd=clone).strip()
            fleet.git("fetch", "--quiet", str(clone), head, cwd=where)
            task = "theirs" if agent == "alice" else "work"
            session = () if agent == "alice" else ("--session", "s1")
            words = ("--ledger", ledger, *session, "push", f"{head}:main", "--task", task)
            ran = fleet.run(*words, cwd=where)
            assert (ran.returncode, fleet.git("for-each-ref")) == (1, before)
            assert "is fenced by ledger" in ran.stderr
    finally:
        fleet.run("--ledger", "second", "hook", "install", fleet.remote, "--no-fence", check=0)
    assert second in fleet.git("for-each-ref")
