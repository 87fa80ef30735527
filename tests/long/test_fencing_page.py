"""docs/fencing.md stays true: its commands run; and doctor and status say what is fenced."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.pusher import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    Inside = Callable[..., subprocess.CompletedProcess[str]]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fencing.md"


def test_the_commands_of_the_page_run_as_written(tmp_path: Path, env: dict[str, str]) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "coordledger"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m coordledger "$@"\n')
    program.chmod(0o755)
    who = {
        f"GIT_{role}_{what}": "x@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    script = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=env | who | {"PATH": f"{folder}:{env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "tried: none moves without a record: refs/heads/main refs/heads/release/*" in ran.stdout
    assert ran.stdout.count(f"landed {MAIN}") == 2
    assert "Log in again after an hour" in ran.stdout


def test_doctor_and_status_say_what_is_fenced_and_whether_that_is_in_force(
    fleet: Fleet, inside: Inside
) -> None:
    assert "fence " not in inside(fleet, "doctor", agent="alice", check=0).stdout
    assert "fenced" not in inside(fleet, "status", agent="alice", check=0).stdout
    ran = inside(fleet, "hook", "install", fleet.remote, "--fence", MAIN, check=0)
    assert f"tried: none moves without a record: {MAIN}" in ran.stdout
    assert f"ledger main: {MAIN}; tried" in inside(fleet, "doctor", agent="alice", check=0).stdout
    before = fleet.git("for-each-ref")
    for ran in (
        inside(fleet, "status", agent="alice", check=0),
        fleet.run("status", cwd=fleet.remote, check=0),
    ):
        assert [line.split() for line in ran.stdout.splitlines() if "fenced" in line] == [
            ["fenced", MAIN]
        ]
    for gone in ("pre-receive", "reference-transaction"):
        hook = fleet.remote / "hooks" / gone
        hook.chmod(0o644)
        assert inside(fleet, "doctor", agent="alice", check=1).stdout.count("fence") >= 1
        assert "NOT IN FORCE" in inside(fleet, "status", agent="alice", check=0).stdout
        hook.chmod(0o755)
    assert fleet.git("for-each-ref") == before
    inside(fleet, "doctor", agent="alice", check=0)
