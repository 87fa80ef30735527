"""Code that is pushed under a claim by the client: real remotes, real code."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.sequencing import switch

from coordledger.errors import CoordledgerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

MAIN = "refs/heads/main"
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    fleet = founded("bob", "carol")
    fenced = ("--fence", MAIN, "--fence", "refs/heads/release/*")
    fleet.run("hook", "install", fleet.remote, *fenced, check=0)
    switch(fleet, sequence=True)
    return fleet


def commit(fleet: Fleet, agent: str, name: str, text: str = "x") -> str:
    """A commit on what main has there; its id."""
    clone = fleet.clone(agent)
    fleet.git("fetch", "--quiet", "origin", cwd=clone)
    if fleet.git("for-each-ref", MAIN):
        fleet.git("checkout", "--quiet", "--detach", "origin/main", cwd=clone)
    path = clone / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    fleet.git("add", name, cwd=clone)
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    fleet.git(*who, "commit", "--quiet", "-m", f"change {name}", cwd=clone)
    return fleet.git("rev-parse", "HEAD", cwd=clone).strip()


def there(fleet: Fleet, ref: str = MAIN) -> str:
    return fleet.git("for-each-ref", "--format=%(objectname)", ref).strip()


def refused(
    fleet: Fleet, agent: str, *refspecs: str, session: str | None = None, **given: object
) -> str:
    """The code with which a push ends; nothing has moved. Each task has a session of its name."""
    before, session = fleet.git("for-each-ref"), session or str(given.get("task"))
    with fleet.ledger(agent, session=session) as ledger, pytest.raises(CoordledgerError) as caught:
        ledger.push(*refspecs, **given)
    assert fleet.git("for-each-ref") == before
    return caught.value.code


def test_code_lands_and_the_task_is_done_with_one_command(shared_fleet: Fleet) -> None:
    new = commit(shared_fleet, "bob", "first")
    claim = ("--session", "s1", "claim", "first")
    shared_fleet.run(*claim, agent="bob", check=0)
    words = ("--session", "s1", "push", "origin", "HEAD:refs/heads/main", "--complete")
    ran = shared_fleet.run(*words, "--result", "merged", agent="bob", check=0)
    assert there(shared_fleet) == new
    assert ran.stdout.splitlines()[0].startswith(
        f"landed {MAIN}  000000000000..{new[:12]}  record "
    )
    with shared_fleet.ledger("carol") as ledger:
        done = ledger.show("first")
        assert (done.status, done.result, done.checked) == ("done", "merged", "here")
        assert [event.kind for event in ledger.history("first")] == ["claim", "land"]
    again = shared_fleet.run(*words, agent="bob", check=2)
    assert "holds no task" in again.stderr


def test_it_is_tried_again_where_only_the_ledger_has_moved(
    shared_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = commit(shared_fleet, "bob", "again")
    with shared_fleet.ledger("bob", session="again") as bob:
        assert bob.claim("again", ttl=HOUR).won
        plan = bob.connection.remote.plan

        def planned(refspecs: list[str]) -> object:
            found = plan(refspecs)
            with shared_fleet.ledger("carol") as carol:
                carol.send("meanwhile", channel="general")
            return found

        monkeypatch.setattr(bob.connection.remote, "plan", planned)
        landed = bob.push("HEAD:main", complete=True)
    assert [one.new for one in landed.refs] == [new]
    assert there(shared_fleet) == new


def test_code_that_has_moved_is_told_in_gits_words(
    shared_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = commit(shared_fleet, "bob", "mine"), commit(shared_fleet, "carol", "theirs")
    with shared_fleet.ledger("bob", session="mine") as bob:
        assert bob.claim("mine", ttl=HOUR).won
        with shared_fleet.ledger("carol", session="s1") as carol:
            assert carol.claim("theirs", ttl=HOUR).won
            plan = bob.connection.remote.plan

            def planned(refspecs: list[str]) -> object:
                found = plan(refspecs)
                carol.push("HEAD:main", complete=True)
                return found

            with monkeypatch.context() as patch:
                patch.setattr(bob.connection.remote, "plan", planned)
                with pytest.raises(CoordledgerError, match="stale info") as caught:
                    bob.push("HEAD:main")
            assert caught.value.code == "code-moved", caught.value.message
        assert there(shared_fleet) == theirs
        assert bob.show("mine").status == "claimed"
        with pytest.raises(CoordledgerError, match=r"fetch first|non-fast-forward") as caught:
            bob.push(f"{mine}:main")
        assert caught.value.code == "code-moved", caught.value.message
        bob.push(f"+{mine}:main", complete=True)  # who says so moves it back
    assert there(shared_fleet) == mine


def test_a_claim_that_is_lost_lands_nothing(shared_fleet: Fleet) -> None:
    commit(shared_fleet, "bob", "lost")
    with shared_fleet.ledger("bob", session="lost") as bob:
        bob.claim("lost", ttl=HOUR)
    commit(shared_fleet, "carol", "not hers")
    assert refused(shared_fleet, "carol", "HEAD:main", task="lost") == "not-holder"
    with shared_fleet.ledger("alice") as alice:
        alice.release("lost", force=True)
    assert refused(shared_fleet, "bob", "HEAD:main", task="lost") == "not-claimed"
    assert (
        refused(shared_fleet, "bob", "HEAD:main", task="nowhere", session="lost") == "unknown-task"
    )
    assert refused(shared_fleet, "bob", "HEAD:main", session="lost") == "which-task"
    assert refused(shared_fleet, "bob", "HEAD:free", task="lost") == "code-refused"


def test_a_ref_that_is_not_fenced_is_left_to_git_push(shared_fleet: Fleet) -> None:
    commit(shared_fleet, "bob", "free")
    with shared_fleet.ledger("bob", session="free") as bob:
        bob.claim("free", ttl=HOUR)
        assert refused(shared_fleet, "bob", "HEAD:refs/heads/free", task="free") == "not-fenced"
        assert refused(shared_fleet, "bob", "nowhere:main", task="free") == "code-refused"
        bob.release("free")


def test_only_what_lies_within_the_paths_of_the_claim(shared_fleet: Fleet) -> None:
    commit(shared_fleet, "bob", "src/auth/a")
    with shared_fleet.ledger("bob", session="paths") as bob:
        bob.claim("paths", ttl=HOUR, paths=["src/auth/"])
        bob.push("HEAD:main", require_paths=True)
        commit(shared_fleet, "bob", "docs/b")
        assert (
            refused(shared_fleet, "bob", "HEAD:main", session="paths", require_paths=True)
            == "outside-paths"
        )
        bob.push("HEAD:main", complete=True)


@pytest.mark.parametrize("url", ["path", "file"])
def test_what_follows_the_remote_here_is_brought_forward_as_by_git(
    shared_fleet: Fleet, url: str
) -> None:
    clone = shared_fleet.clone("carol")
    where = f"{shared_fleet.remote}" if url == "path" else f"file://{shared_fleet.remote}"
    shared_fleet.git("remote", "set-url", "origin", where, cwd=clone)
    new, session = commit(shared_fleet, "carol", url), f"follows-{url}"
    with shared_fleet.ledger("carol", session=session) as ledger:
        ledger.claim(session, ttl=HOUR)
        ledger.push(f"HEAD:{MAIN}", "HEAD:refs/heads/release/seen", task=session)
        for ref in ("main", "release/seen"):
            ran = shared_fleet.git("rev-parse", f"refs/remotes/origin/{ref}", cwd=clone)
            assert ran.strip() == new
        ledger.push(":release/seen", task=session, complete=True)
    gone = shared_fleet.git("for-each-ref", "refs/remotes/origin/release/seen", cwd=clone)
    assert gone == ""


def test_several_refs_and_a_deletion(shared_fleet: Fleet) -> None:
    new = commit(shared_fleet, "bob", "several")
    with shared_fleet.ledger("bob", session="several") as bob:
        bob.claim("several", ttl=HOUR)
        landed = bob.push("HEAD:main", "HEAD:refs/heads/release/1")
        assert [one.ref for one in landed.refs] == [MAIN, "refs/heads/release/1"]
        assert there(shared_fleet, "refs/heads/release/1") == new
        bob.push(":release/1", complete=True)
        assert there(shared_fleet, "refs/heads/release/1") == ""


def test_the_users_pre_push_hook_has_its_say(shared_fleet: Fleet) -> None:
    commit(shared_fleet, "bob", "hooked")
    hook = shared_fleet.clone("bob") / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with shared_fleet.ledger("bob", session="hooked") as bob:
        bob.claim("hooked", ttl=HOUR)
        assert refused(shared_fleet, "bob", "HEAD:main", session="hooked") == "code-refused"
        hook.unlink()
        bob.push("HEAD:main", complete=True)


def test_a_plain_push_is_told_the_command_that_helps(shared_fleet: Fleet) -> None:
    commit(shared_fleet, "bob", "plain")
    (shared_fleet.clone("bob") / ".git/hooks/pre-push").unlink(missing_ok=True)
    ran = subprocess.run(
        ["git", "push", "origin", "HEAD:main"],
        cwd=shared_fleet.clone("bob"),
        env=shared_fleet.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert "coordledger: refused -: fenced: refs/heads/main is fenced" in ran.stderr
    assert "coordledger push origin" in ran.stderr


def test_another_remote_is_no_place_for_it(shared_fleet: Fleet, tmp_path: Path) -> None:
    shared_fleet.git("remote", "add", "fork", str(tmp_path), cwd=shared_fleet.clone("carol"))
    ran = shared_fleet.run("push", "fork", "HEAD:main", agent="carol", check=1)
    assert "the ledger is at" in ran.stderr


def test_nobodys_code_is_lost_that_lands_while_git_plans_a_push(
    shared_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What git has let pass as a fast-forward is never forced on another commit."""
    commit(shared_fleet, "bob", "base")
    with shared_fleet.ledger("bob", session="base") as bob:
        bob.claim("base", ttl=HOUR)
        bob.push("HEAD:main", complete=True)
    mine, theirs = commit(shared_fleet, "bob", "late"), commit(shared_fleet, "carol", "early")
    with (
        shared_fleet.ledger("bob", session="late") as bob,
        shared_fleet.ledger("carol", session="early") as carol,
    ):
        assert bob.claim("late", ttl=HOUR).won
        assert carol.claim("early", ttl=HOUR).won
        remote = bob.connection.remote
        values = remote.values

        def moved_before(refs: list[str]) -> dict[str, str]:
            if there(shared_fleet) != theirs:
                carol.push("HEAD:main", complete=True)
            return values(refs)

        monkeypatch.setattr(remote, "values", moved_before)
        with pytest.raises(CoordledgerError) as caught:
            bob.push(f"{mine}:main", complete=True)
        assert caught.value.code == "code-moved", caught.value.message
    assert there(shared_fleet) == theirs
