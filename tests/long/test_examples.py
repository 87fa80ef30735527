"""The examples run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from support.runs import wait_until

if TYPE_CHECKING:
    from support.fleet import Fleet

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def path_with_coordledger(folder: Path, env: dict[str, str]) -> dict[str, str]:
    folder.mkdir()
    (folder / "coordledger").write_text(f'#!/bin/sh\nexec {sys.executable} -m coordledger "$@"\n')
    (folder / "coordledger").chmod(0o755)
    return env | {"PATH": f"{folder}:{env['PATH']}"}


def test_a_fleet_of_shell_workers_does_every_task_once(fleet: Fleet, tmp_path: Path) -> None:
    env = path_with_coordledger(tmp_path / "bin", fleet.env) | {"SEEN": str(tmp_path / "seen")}
    tasks = [f"task-{number}" for number in range(7)]
    for task in tasks:
        fleet.ledger("alice").submit(task)
    script = 'echo "$COORDLEDGER_TASK $COORDLEDGER_SESSION" >> "$SEEN"'
    ran = subprocess.run(
        [EXAMPLES / "fleet.sh", "3", "sh", "-c", script],
        cwd=fleet.clone("alice"),
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert sorted(task for task, _ in seen) == tasks
    assert {claim.status for claim in fleet.ledger("alice").tasks()} == {"done"}
    reports = fleet.clone("alice").glob("fleet-*.jsonl")
    rows = [json.loads(line) for path in reports for line in path.read_text().splitlines()]
    assert sorted((row["task"], row["session"]) for row in rows) == sorted(map(tuple, seen))


def test_who_ends_the_fleet_gets_all_tasks_back(fleet: Fleet, tmp_path: Path) -> None:
    env = path_with_coordledger(tmp_path / "bin", fleet.env)
    for task in ("one", "two", "three"):
        fleet.ledger("alice").submit(task)
    process = subprocess.Popen(
        [EXAMPLES / "fleet.sh", "2", "sleep", "1000"], cwd=fleet.clone("alice"), env=env
    )

    def statuses() -> list[str]:
        return sorted(claim.status for claim in fleet.ledger("alice").tasks())

    wait_until(lambda: statuses() == ["claimed", "claimed", "open"], "not claimed")
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    wait_until(lambda: statuses() == ["open"] * 3, "not given back")


def test_the_supervisor_says_what_came_of_each_task(fleet: Fleet) -> None:
    names = ("build", "test", "lint")
    tasks = [word for name in names for word in ("--task", name)]
    script = '[ "$COORDLEDGER_TASK" != test ] || exit 3'
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "supervisor.py", *tasks, "--", "sh", "-c", script],
        cwd=fleet.clone("alice"),
        env=fleet.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.splitlines() == [
        "build: done, done by the supervisor",
        "test: open, exit 3",
        "lint: done, done by the supervisor",
    ]
