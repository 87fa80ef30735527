"""docs/running.md stays true: its commands run, and its table has the codes of the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from support import pages

from coordledger import errors

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

PAGE = "docs/running.md"


def test_the_commands_of_the_page_run_as_written(fleet: Fleet, tmp_path: Path) -> None:
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\n")
    make.chmod(0o755)
    fleet.ledger("alice").submit("fix-login", priority=9)
    for name in ("one", "two", "three"):
        fleet.ledger("alice").submit(name)
    env = fleet.env | {"PATH": f"{tmp_path}:{fleet.env['PATH']}"}
    said = pages.play("".join(pages.blocks(PAGE)), fleet.clone("alice"), env)
    assert said.splitlines() == [f"working on {name}" for name in ("one", "two", "three")]
    assert {claim.status for claim in fleet.ledger("alice").tasks()} == {"done"}


def test_the_table_names_the_codes_that_there_are() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", pages.text(PAGE), re.MULTILINE)
    named = {int(code) for row in rows for code in row.split(",")}
    own = {errors.own_code(code) for code in range(1, 6)} | {errors.RUN}
    assert named == own | {errors.NOT_EXECUTABLE, errors.NOT_FOUND, errors.INTERRUPTED, 143}
