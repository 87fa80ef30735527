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
    founding, working, looking = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert "enforcement  server" in play(accounts, "server", founding)
    carried = accounts.home("bob") / "bob.secret"
    assert carried.stat().st_mode & 0o777 == 0o600
    said = play(accounts, "bob", working)
    assert "enforcement  server" in said
    assert "won fix-login" in said
    assert not carried.exists()
    shown = play(accounts, "server", looking)
    assert "merged as 3f2c1a" in shown
    # Whose secret lies where: bob's host has his, and neither the owner's nor the master.
    at_bobs = [path.name for path in accounts.home("bob").rglob("*.secret")]
    assert at_bobs == ["bob.secret"]
    assert list(accounts.home("bob").rglob("master*")) == []
    [master] = accounts.home("server").rglob("coordledger/master")
    assert master.stat().st_mode & 0o777 == 0o600
    at_servers = {path.name for path in accounts.home("server").rglob("*.secret")}
    assert at_servers == {"alice.secret", "bob.secret"}


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
