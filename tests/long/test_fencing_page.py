"""docs/fencing.md stays true: its commands run; and doctor and status say what is fenced."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support import pages
from support.pusher import MAIN

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

    Inside = Callable[..., subprocess.CompletedProcess[str]]

PAGE = "docs/fencing.md"


def test_the_commands_of_the_page_run_as_written(tmp_path: Path, env: dict[str, str]) -> None:
    who = {
        f"GIT_{role}_{what}": "x@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    said = pages.play("".join(pages.blocks(PAGE)), tmp_path, env | who)
    assert "tried: none moves without a record: refs/heads/main refs/heads/release/*" in said
    assert said.count(f"landed {MAIN}") == 2
    assert "Log in again after an hour" in said


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

    def told() -> object:
        return json.loads(inside(fleet, "status", "--json", agent="alice", check=0).stdout)[
            "fenced"
        ]

    assert told() == [{"ref": MAIN, "paths": False, "fault": None}]
    inside(fleet, "hook", "install", fleet.remote, "--fence-paths", check=0)
    assert told() == [{"ref": MAIN, "paths": True, "fault": None}]
    doctor = inside(fleet, "doctor", agent="alice", check=0).stdout
    assert f"ledger main: {MAIN} and paths of others; tried" in doctor
    for gone in ("pre-receive", "reference-transaction"):
        hook = fleet.remote / "hooks" / gone
        hook.chmod(0o644)
        assert inside(fleet, "doctor", agent="alice", check=1).stdout.count("fence") >= 1
        assert "NOT IN FORCE" in inside(fleet, "status", agent="alice", check=0).stdout
        assert "git does not run the hook" in str(told()) or "not refused" in str(told())
        hook.chmod(0o755)
    assert fleet.git("for-each-ref") == before
    inside(fleet, "doctor", agent="alice", check=0)
