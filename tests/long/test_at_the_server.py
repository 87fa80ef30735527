"""Where the repository lives: inside of it the remote is itself, and its owner is known."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet


def test_inside_the_bare_repository_commands_work_without_any_option(fleet: Fleet) -> None:
    fleet.run("submit", "t", agent="alice", check=0)
    added = fleet.run("agent", "add", "dora", "--json", cwd=fleet.remote, check=0)
    assert json.loads(added.stdout)["agent"] == "dora"
    assert "t" in fleet.run("list", cwd=fleet.remote, check=0).stdout
    fleet.run("policy", "max_ttl=7200", cwd=fleet.remote, check=0)
    status = json.loads(fleet.run("status", "--json", cwd=fleet.remote, check=0).stdout)
    assert status["agent"] == "alice"
    audit = json.loads(fleet.run("audit", "--json", cwd=fleet.remote, check=0).stdout)
    assert audit["verdicts"] == {"authentic": 4}
    fleet.run("claim", "t", agent="dora", check=0)
    fleet.run("list", cwd=fleet.remote / "hooks", check=0)


def test_the_servers_own_ref_is_moved_by_pushes_alone(fleet: Fleet) -> None:
    """A client remembers its verified head under the ledger's name: not in the server's refs."""
    fleet.run("submit", "one", cwd=fleet.remote, check=0)
    fleet.run("submit", "two", agent="alice", check=0)
    head = fleet.git("rev-parse", "refs/coordledger/main")
    before = sorted(path.name for path in (fleet.remote / "coordledger").iterdir())
    for argv in ("list", "--offline list", "--remote . list", f"--remote {fleet.remote} list"):
        fleet.run(*argv.split(), cwd=fleet.remote, check=0)
        assert fleet.git("rev-parse", "refs/coordledger/main") == head
    fleet.run("join", "--reset", "--yes", "--agent", "alice", cwd=fleet.remote, check=0)
    assert fleet.git("rev-parse", "refs/coordledger/main") == head
    after = sorted(path.name for path in (fleet.remote / "coordledger").iterdir())
    assert after == before


def test_whoever_says_who_they_are_is_not_the_owner(fleet: Fleet) -> None:
    fleet.enroll("bob")
    for argv, env in (("--as bob", {}), ("", {"COORDLEDGER_AGENT": "bob"})):
        ran = fleet.run(*argv.split(), "status", "--json", cwd=fleet.remote, env=env, check=0)
        assert json.loads(ran.stdout)["agent"] == "bob"


def test_a_bare_clone_of_somebodys_follows_where_it_came_from(fleet: Fleet) -> None:
    bare = fleet.root / "mirror.git"
    fleet.git("clone", "--quiet", "--bare", fleet.remote, bare)
    refused = fleet.run("submit", "t", cwd=bare, check=1)
    assert "no agent" in refused.stderr
    fleet.run("submit", "t", "--as", "alice", cwd=bare, check=0)
    assert "t" in fleet.run("list", agent="alice", check=0).stdout


def test_inside_an_empty_bare_repository_there_is_no_ledger(fleet: Fleet) -> None:
    bare = fleet.root / "empty.git"
    fleet.git("init", "--quiet", "--bare", bare)
    ran = fleet.run("list", "--json", cwd=bare, check=1)
    assert json.loads(ran.stdout)["error"]["code"] == "not-a-ledger"


# -- safe.bareRepository


@pytest.fixture
def explicit(fleet: Fleet) -> Fleet:
    """Git opens no bare repository there that is not named."""
    settings = fleet.root / "explicit"
    settings.write_text("[safe]\n\tbareRepository = explicit\n")
    fleet.env["GIT_CONFIG_GLOBAL"] = str(settings)
    ran = subprocess.run(
        ["git", "rev-parse"], cwd=fleet.remote, env=fleet.env, capture_output=True, check=False
    )
    if ran.returncode == 0:
        pytest.skip("this git knows no safe.bareRepository")
    return fleet


def test_the_servers_side_names_the_repositories_that_it_works_on(
    explicit: Fleet, tmp_path: Path
) -> None:
    doctor = json.loads(explicit.run("doctor", "--json", agent="alice", check=0).stdout)
    assert doctor["ok"]
    explicit.run("hook", "install", explicit.remote, check=0)
    explicit.run("hook", "install", explicit.remote, "--sequence", check=0)
    explicit.run("claim", "t", agent="alice", check=0)
    explicit.run("init", tmp_path / "new.git", "--agent", "alice", check=0)
    subprocess.run(
        ["git", "init", "--quiet", "--bare", tmp_path / "there.git"], env=explicit.env, check=True
    )
    explicit.run("init", tmp_path / "there.git", "--agent", "alice", check=0)


def test_inside_of_one_that_was_not_named_the_hint_names_it(explicit: Fleet) -> None:
    ran = explicit.run("list", "--json", cwd=explicit.remote, check=1)
    fault = json.loads(ran.stdout)["error"]
    assert fault["code"] == "not-named"
    assert f"GIT_DIR={explicit.remote} coordledger" in fault["hint"]
    env = {"GIT_DIR": str(explicit.remote)}
    explicit.run("agent", "add", "dora", cwd=explicit.remote, env=env, check=0)
