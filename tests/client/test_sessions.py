"""The session of a work tree: minted once at a place, kept by a move, and not by a copy."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from coordledger.client import local_state
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """Alice's ledger, and bob in it."""
    fleet.enroll("bob")
    return fleet


@pytest.fixture
def warnings() -> list[str]:
    return []


def session(fleet: Fleet, path: Path, warnings: list[str]) -> str:
    options = Options(path, agent="bob")
    with Ledger(connect(options, fleet.env, warn=warnings.append)) as bob:
        return bob.connection.identity().session


def test_a_place_has_one_session(two: Fleet, warnings: list[str]) -> None:
    path = two.clone("bob")
    first = session(two, path, warnings)
    (path / "below").mkdir()
    assert session(two, path / "below", warnings) == first
    assert warnings == []


def test_a_moved_work_tree_keeps_its_session(two: Fleet, warnings: list[str]) -> None:
    path = two.clone("bob")
    first = session(two, path, warnings)
    moved = path.rename(two.root / "moved")
    assert session(two, moved, warnings) == first
    assert warnings == []
    moved.rename(path)


@pytest.mark.parametrize("original", ["stays", "is moved", "is gone"])
def test_a_copy_gets_another_session_and_says_so(
    two: Fleet, warnings: list[str], original: str
) -> None:
    path = two.root / "image"
    shutil.copytree(two.clone("bob"), path, symlinks=True)
    first = session(two, path, [])
    copies = [two.root / "one", two.root / "two"]
    for copy in copies:
        shutil.copytree(path, copy, symlinks=True)
    if original == "is moved":
        path.rename(two.root / "elsewhere")
    elif original == "is gone":
        shutil.rmtree(path)
    sessions = [session(two, copy, warnings) for copy in copies]
    assert len({first, *sessions}) == 3
    assert [each in warning for each, warning in zip(sessions, warnings, strict=True)] == [True] * 2
    assert [session(two, copy, warnings) for copy in copies] == sessions
    assert len(warnings) == 2


def test_a_copy_holds_nothing_of_what_the_first_one_claimed(two: Fleet) -> None:
    path = two.clone("bob")
    assert two.run("claim", "t", agent="bob").returncode == 0
    copy = two.root / "copy"
    shutil.copytree(path, copy, symlinks=True)
    for argv in (("renew", "t"), ("complete", "t"), ("require", "t", "--epoch", "1")):
        assert two.run(*argv, agent="bob", cwd=copy).returncode == 3
    assert two.run("complete", "t", agent="bob").returncode == 0


def test_a_copied_linked_work_tree_is_another_place(two: Fleet, warnings: list[str]) -> None:
    path = two.clone("bob")
    two.git(*COMMIT, cwd=path)
    linked, copy = two.root / "linked", two.root / "linked-copy"
    two.git("worktree", "add", "--quiet", "--detach", linked, cwd=path)
    sessions = {session(two, path, warnings), session(two, linked, warnings)}
    assert len(sessions) == 2
    assert warnings == []
    shutil.copytree(linked, copy, symlinks=True)
    assert session(two, copy, warnings) not in sessions
    assert len(warnings) == 1
    two.git("worktree", "move", linked, two.root / "moved", cwd=path)
    assert session(two, two.root / "moved", warnings) in sessions


def test_another_host_mints_another_and_the_first_finds_its_own_again(
    two: Fleet, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared file system: the same folder, device and inode."""
    path = two.clone("bob")
    first = session(two, path, warnings)
    real = local_state.os.uname()

    class Elsewhere:
        nodename = real.nodename + "-2"

    with monkeypatch.context() as patched:
        patched.setattr(local_state.os, "uname", Elsewhere)
        second = session(two, path, warnings)
    assert second != first
    assert len(warnings) == 1
    assert session(two, path, warnings) == first


def test_a_neighbour_that_mints_at_the_same_moment_is_no_other_place(
    two: Fleet, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, others = two.clone("bob"), list[str]()
    real = local_state.files.make_folders

    def first_another_process(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        monkeypatch.undo()
        others.append(session(two, path, warnings))
        (path / ".git/coordledger/.sessions/of-a-killed-process.new").touch()

    monkeypatch.setattr(local_state.files, "make_folders", first_another_process)
    assert [session(two, path, warnings)] == others
    assert warnings == []


def test_processes_of_two_containers_that_have_one_id_mint_two_sessions(
    two: Fleet, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own numbers; and the first one is killed at the worst moment."""
    path = two.clone("bob")
    with monkeypatch.context() as patched:
        patched.setattr(local_state.Path, "unlink", lambda *_, **__: None)
        first = session(two, path, warnings)
    with monkeypatch.context() as patched:
        patched.setattr(local_state, "_place", lambda _: "of-the-other")
        second = session(two, path, warnings)
    assert second != first
    assert session(two, path, warnings) == first


COMMIT = (
    *("-c", "user.name=x", "-c", "user.email=x@example.com"),
    *("commit", "--quiet", "--allow-empty", "--message", "code"),
)


@pytest.mark.parametrize("name", ["session", "sessions"])
def test_a_ledger_of_this_name_is_in_no_sessions_way(
    two: Fleet, warnings: list[str], name: str
) -> None:
    two.run("init", two.remote, "--agent", "alice", "--ledger", name)
    path = two.clone("named")
    shutil.rmtree(path / ".git/coordledger")
    options = Options(path, agent="alice", ledger=name, remote=str(two.remote), session="given")
    with Ledger(connect(options, two.env, warn=warnings.append)) as ledger:
        assert ledger.claim("task").won
    kept = session(two, path, warnings)
    assert session(two, path, warnings) == kept
    assert warnings == []
