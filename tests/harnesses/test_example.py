"""The example does what it says: its commands as they stand there, with the real harnesses."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from support.harness_team import work_off
from support.harnesses import bare_environment, prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.harnesses import Harness

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "two-harnesses.sh"
DEADLINE = 240  # seconds; it takes 20 on an idle machine


def test_two_harnesses_work_off_the_backlog_of_the_example(
    harness_named: Callable[[str], Harness], tmp_path: Path
) -> None:
    root, home, programs = (tmp_path / name for name in ("example", "home", "bin"))
    root.mkdir()
    programs.mkdir()
    env = bare_environment(home)
    sessions = []
    for agent, name in (("bob", "claude"), ("dave", "codex")):
        harness = harness_named(name)
        session = prepared(harness, home, root / agent, work_off("10m"), tmp_path / agent)
        sessions.append(session)
        env |= harness.environment(home, session.mock.url)
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(harness.program))} "$@"\n')
        program.chmod(0o755)
    env["PATH"] = f"{programs}{os.pathsep}{env['PATH']}"
    ran = subprocess.run(
        ["/bin/sh", SCRIPT], cwd=root, env=env, stdin=subprocess.DEVNULL, text=True,
        capture_output=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    for session in sessions:
        session.mock.close()
        assert session.mock.faults == []
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "4 tasks: 4 done" in ran.stdout, ran.stdout
    written = [page for agent in ("bob", "dave") for page in (root / agent / "done").glob("*")]
    assert sorted(page.stem for page in written) == ["lexer", "parser", "printer", "tests"]
