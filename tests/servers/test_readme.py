"""README's path with a server and two hosts, line by line, over ssh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import hosts
from support.fleet import hermetic

from .conftest import absent

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).resolve().parents[2] / "README.md"
TITLE = "On a server, with agents on other hosts"


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[hosts.Accounts]:
    env = hermetic(tmp_path / "machine")
    env = {name: value for name, value in env.items() if not name.startswith("XDG_")}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    try:
        found = hosts.ssh_accounts(tmp_path, env, "bob")
    except hosts.Absent as why:
        absent("ssh", why, os.environ)
    yield found
    found.stop()


def play(accounts: hosts.Accounts, who: str, script: str) -> str:
    """Type the lines in somebody's account."""
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=accounts.home(who),
        env=accounts.env[who],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_owner_on_the_server_and_an_agent_on_another_host(accounts: hosts.Accounts) -> None:
    text = README.read_text("utf-8").partition(f"## {TITLE}\n")[2].partition("\n## ")[0]
    making, founding, working, looking = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    play(accounts, "bob", making)
    line = (accounts.home("bob") / "bob.pub").read_text()
    assert re.fullmatch(r"ssh-ed25519 \S+ bob\n", line)
    (accounts.home("server") / "bob.pub").write_text(line)
    assert "enforcement  server" in play(accounts, "server", founding)
    said = play(accounts, "bob", working)
    assert "enforcement  server" in said
    assert "won fix-login" in said
    assert "5 records from 0 on: 5 authentic" in said
    shown = play(accounts, "server", looking)
    assert "merged as 3f2c1a" in shown
    assert "5 records from 0 on: 5 authentic" in shown
    # Whose key lies where, and that there is nothing that could sign for somebody else.
    for who, agent in (("bob", "bob"), ("server", "alice")):
        [key] = accounts.home(who).rglob(".config/coordledger/keys/*/*")
        assert (key.parent.name, key.stat().st_mode & 0o777) == (agent, 0o600)
        assert list(accounts.home(who).rglob("*.secret")) == []
        assert list(accounts.home(who).rglob("coordledger/master")) == []


def test_an_agents_key_runs_git_there_and_nothing_else(accounts: hosts.Accounts) -> None:
    play(accounts, "server", "coordledger init project.git --agent alice")
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
