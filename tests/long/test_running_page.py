"""docs/running.md stays true: its commands run, and its table has the codes of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger import errors

if TYPE_CHECKING:
    from support.fleet import Fleet

PAGE = Path(__file__).resolve().parents[2] / "docs" / "running.md"


def test_the_commands_of_the_page_run_as_written(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("make", "exit 0"),
        ("coordledger", f'exec {sys.executable} -m coordledger "$@"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    fleet.ledger("alice").submit("fix-login", priority=9)
    for name in ("one", "two", "three"):
        fleet.ledger("alice").submit(name)
    script = "".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=fleet.clone("alice"),
        env=fleet.env | {"PATH": f"{folder}:{fleet.env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [f"working on {name}" for name in ("one", "two", "three")]
    assert {claim.status for claim in fleet.ledger("alice").tasks()} == {"done"}


def test_the_table_names_the_codes_that_there_are() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    named = {int(code) for row in rows for code in row.split(",")}
    own = {errors.own_code(code) for code in range(1, 6)} | {errors.RUN}
    assert named == own | {errors.NOT_EXECUTABLE, errors.NOT_FOUND, errors.INTERRUPTED, 143}
