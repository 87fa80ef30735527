"""Where `join` remembers who commands are: for each work tree by itself where there are several."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from coordledger.client.config import Options, config_dir
from coordledger.client.ledger import Ledger
from coordledger.client.opening import surroundings
from coordledger.setup import joining

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

COMMIT = (
    *("-c", "user.name=x", "-c", "user.email=x@example.com"),
    *("commit", "--quiet", "--allow-empty", "--message", "code"),
)


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """Alice's ledger with bob in it, and code in alice's clone."""
    fleet.enroll("bob")
    fleet.git(*COMMIT, cwd=fleet.clone("alice"))
    return fleet


def add_worktree(fleet: Fleet, of: Path, name: str) -> Path:
    path = fleet.root / name
    fleet.git("worktree", "add", "--quiet", "--detach", path, cwd=of)
    return path


def join(fleet: Fleet, path: Path, agent: str) -> tuple[str, list[str]]:
    """Where it is remembered, and what it warns of."""
    warnings: list[str] = []
    options = Options(path=path, agent=agent)
    joined = joining.join(options, fleet.env, "origin", warn=warnings.append)
    return joined.configured, warnings


def agent_in(fleet: Fleet, path: Path) -> str | None:
    return surroundings(Options(path=path), fleet.env).settings.agent


def test_an_only_work_tree_is_remembered_in_the_clones_configuration(two: Fleet) -> None:
    path = two.root / "only"
    two.git("clone", "--quiet", two.remote, path)
    assert join(two, path, "bob") == (str(path / ".git"), [])
    assert join(two, path, "bob") == (str(path / ".git"), [])
    assert not (path / ".git" / "config.worktree").exists()
    assert "worktreeconfig" not in two.git("config", "--list", cwd=path)


def test_each_of_several_work_trees_is_somebodys_own(two: Fleet) -> None:
    first = two.clone("alice")
    second, third = (add_worktree(two, first, name) for name in ("second", "third"))
    place, warnings = join(two, second, "bob")
    assert warnings == []
    assert two.git("config", "--file", place, "coordledger.agent").strip() == "bob"
    assert [agent_in(two, path) for path in (first, second, third)] == ["alice", "bob", "alice"]
    claims = {}
    for path in (first, second):
        with Ledger.open(path, environ=two.env) as ledger:
            claims[path] = ledger.claim(f"of-{path.name}").claim
    assert [claim and claim.agent for claim in claims.values()] == ["alice", "bob"]
    place, warnings = join(two, third, "bob")
    assert warnings == []
    assert [agent_in(two, path) for path in (first, second, third)] == ["alice", "bob", "bob"]


def test_the_first_work_tree_that_joins_speaks_for_itself_alone(two: Fleet) -> None:
    first = two.root / "first"
    two.git("clone", "--quiet", two.remote, first)
    two.git(*COMMIT, cwd=first)
    second = add_worktree(two, first, "second")
    join(two, first, "alice")
    assert [agent_in(two, path) for path in (first, second)] == ["alice", None]
    join(two, second, "bob")
    assert [agent_in(two, path) for path in (first, second)] == ["alice", "bob"]


def test_no_name_is_replaced_in_silence(two: Fleet) -> None:
    first = two.clone("alice")
    second = add_worktree(two, first, "second")
    join(two, second, "bob")
    place, warnings = join(two, second, "alice")
    assert ["bob" in warning and "alice" in warning for warning in warnings] == [True]
    assert agent_in(two, second) == "alice"
    place, warnings = join(two, first, "bob")
    assert len(warnings) == 1
    assert two.git("config", "--file", place, "coordledger.agent").strip() == "bob"
    assert [agent_in(two, path) for path in (first, second)] == ["bob", "alice"]
    assert join(two, first, "bob") == (place, [])


def test_an_only_work_tree_that_another_agent_joins_says_so(two: Fleet) -> None:
    first = two.clone("alice")
    place, warnings = join(two, first, "bob")
    assert len(warnings) == 1
    assert two.git("config", "--file", place, "coordledger.agent").strip() == "bob"
    assert agent_in(two, first) == "bob"
    shared = str(first / ".git" / "config")
    assert two.git("config", "--file", shared, "coordledger.agent").strip() == "alice"


def test_outside_of_any_clone_no_name_is_replaced_in_silence(two: Fleet, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    warnings: list[str] = []
    for agent, count in (("alice", 0), ("alice", 0), ("bob", 1)):
        options = Options(path=outside, agent=agent)
        joining.join(options, two.env, str(two.remote), warn=warnings.append)
        assert len(warnings) == count
    file = config_dir(two.env) / "config"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_bare_repository_with_work_trees_stays_what_it_is(two: Fleet) -> None:
    bare = two.root / "bare.git"
    two.git("clone", "--quiet", "--bare", two.clone("alice"), bare)
    two.git("remote", "set-url", "origin", two.remote, cwd=bare)
    trees = [add_worktree(two, bare, name) for name in ("one", "two")]
    for path, agent in zip(trees, ("alice", "bob"), strict=True):
        join(two, path, agent)
    assert [agent_in(two, path) for path in trees] == ["alice", "bob"]
    asked = ("rev-parse", "--is-bare-repository")
    assert two.git(*asked, cwd=bare).strip() == "true"
    assert [two.git(*asked, cwd=path).strip() for path in trees] == ["false", "false"]
    assert two.git("status", "--porcelain", cwd=trees[0]) == ""
