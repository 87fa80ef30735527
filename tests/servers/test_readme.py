"""README's ways, line by line: a server and two hosts, over ssh, and a host without hooks."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import hosts, pages
from support.fleet import hermetic
from support.pages import play

from .conftest import absent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = "README.md"
AGENTS = ("bob", "carol")


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[hosts.Accounts]:
    env = hermetic(tmp_path / "machine")
    env = {name: value for name, value in env.items() if not name.startswith("XDG_")}
    try:
        found = hosts.ssh_accounts(tmp_path, env, *AGENTS)
    except hosts.Absent as why:
        absent("ssh", why, os.environ)
    yield found
    found.stop()


def at(accounts: hosts.Accounts, who: str, script: str, folder: str = ".") -> str:
    """Type the lines in somebody's account; bob's are carol's, too, with her name."""
    home = accounts.home(who)
    return play(
        script.replace("bob", who) if who in AGENTS else script, home / folder, accounts.env[who]
    )


def test_the_owner_on_the_server_and_two_agents_on_other_hosts(accounts: hosts.Accounts) -> None:
    making, founding, working, looking, finishing = pages.blocks(README, "Two agents on two hosts")
    for who in AGENTS:
        at(accounts, who, making)
        line = (accounts.home(who) / f"{who}.pub").read_text()
        assert re.fullmatch(rf"ssh-ed25519 \S+ {who}\n", line)
        (accounts.home("server") / f"{who}.pub").write_text(line)
    assert "enforcement  server" in at(accounts, "server", founding)
    for who, task in zip(AGENTS, ("fix-login", "write-docs"), strict=True):
        said = at(accounts, who, working)
        assert "enforcement  server" in said
        assert f"won {task}" in said
    seen = at(accounts, "carol", looking, "project")
    assert re.search(r"fix-login +claimed +5 +bob/", seen)
    assert "7 records from 0 on: 7 authentic" in seen
    at(accounts, "bob", finishing, "project")
    shown = at(accounts, "server", "cd project.git && coordledger history fix-login")
    assert "merged as 3f2c1a" in shown
    # Whose key lies where, and that there is nothing that could sign for somebody else.
    for who, agent in (("bob", "bob"), ("carol", "carol"), ("server", "alice")):
        [key] = accounts.home(who).rglob(".config/coordledger/keys/*/*")
        assert (key.parent.name, key.stat().st_mode & 0o777) == (agent, 0o600)
        assert list(accounts.home(who).rglob("*.secret")) == []
        assert list(accounts.home(who).rglob("coordledger/master")) == []


def test_an_agents_key_runs_git_there_and_nothing_else(accounts: hosts.Accounts) -> None:
    at(accounts, "server", "coordledger init project.git --agent alice")
    for line in (
        "ssh server cat project.git/coordledger/master",
        "scp -q server:project.git/HEAD .",
    ):
        ran = subprocess.run(
            ["bash", "-c", line],
            cwd=accounts.home("bob"),
            env=accounts.env["bob"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode != 0, line
        assert ran.stdout == b""


def test_a_host_without_hooks_and_the_harnesses(tmp_path: Path) -> None:
    """git takes a repository here for GitHub's, and it has no hook."""
    env = hermetic(tmp_path)
    host = f"file://{tmp_path}/host.git"
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{host}.insteadOf"}
    env |= git | {"GIT_CONFIG_VALUE_0": "git@github.com:OWNER/REPO.git"}
    play("git init --quiet --bare host.git", tmp_path, env)
    (founding,) = pages.blocks(README, "My remote is GitHub")
    said = play(founding, tmp_path, env)
    assert said.count("enforcement  none; forged records are detected") == 2
    (connecting,) = pages.blocks(README, "Connect agents")
    assert "claude: connected" in play(connecting, tmp_path / "REPO", env)
