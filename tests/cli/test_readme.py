"""The README stays true: its commands run, in its order, and show what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def section(title: str) -> str:
    text = README.read_text("utf-8")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str, language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)
    assert found, title
    return "".join(found)


def play(script: str, root: Path, env: dict[str, str], *argv: str) -> str:
    """Run a script as a user would, with `coordledger` on the PATH."""
    tools = root / "tools"
    if not tools.exists():
        tools.mkdir()
        tool = tools / "coordledger"
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m coordledger "$@"\n')
        tool.chmod(0o755)
    ran = subprocess.run(
        argv or ("bash", "-euo", "pipefail", "-c", script),
        cwd=root,
        env=env | {"PATH": f"{tools}{os.pathsep}{env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_five_minutes_and_plain_git_work_as_written(tmp_path, env):
    root = tmp_path / "somewhere"
    root.mkdir()
    shown = play(blocks("Two agents on one remote, in five minutes", "sh"), root, env)
    for words in (
        "enrolled bob",
        "won fix-login",
        "found the cause, one more test to write",
        "the server admits this key and refuses a forged record",
        "merged as 3f2c1a",
    ):
        assert words in shown
    assert "FAIL" not in shown

    script = blocks("Two agents on one remote, in five minutes", "python")
    play("", root, env, sys.executable, "-c", script)

    read = play(blocks("Read it with plain git", "sh"), root, env)
    for words in (
        "complete write-docs epoch 1",
        "claim fix-login epoch 1 until ",
        "genesis alice",
        "bob/",
        "Coordledger-Signature: hmac-sha256 bob/1 ",
        '"owner":"alice"',
        "agents/bob.json",
        "tasks/",
    ):
        assert words in read

    page = play("cd alice && coordledger show fix-login", root, env)
    path = re.search(r"tasks/\S+", page)
    assert path
    changes = play(f"cd alice && git log --oneline refs/coordledger/main -- {path[0]}", root, env)
    assert "complete fix-login" in changes
    assert "enroll" not in changes


def test_each_promise_names_what_is_there():
    text = README.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (README.parent / target).exists(), target


def test_the_two_commands_are_one_line_each_and_complete():
    lines = blocks("Try it", "sh").splitlines()
    assert len(lines) == 2
    for line, ends in zip(lines, ("coordledger demo", "pytest"), strict=True):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install --quiet ")
        assert line.endswith(f".venv/bin/{ends}")
