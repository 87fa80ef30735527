"""The command line as people see it: sessions in transcripts/*.txt, played and compared.

A transcript's lines:

    # prose, for the reader
    bob$ coordledger claim t          a command, in bob's clone; `$` alone: where the clones lie
    < text                            its standard input, a line each
    won t  epoch 1  until TIME        what it prints
    ! coordledger: ...                what it prints to stderr
    ? 3                               its exit code, unless that is 0

Words in capitals stand for what differs between runs (`_VARIES`), and any number of blanks
within a line for two, because columns are as wide as what differs. Each transcript has a fleet
of its own: alice's ledger, bob enrolled. coordledger runs in this process, other programs by
the shell; first-steps.txt is real processes, in an empty folder.

COORDLEDGER_TRANSCRIPTS=write puts what is said now into the files: read the difference.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Ran = subprocess.CompletedProcess[str]

TRANSCRIPTS = Path(__file__).parent / "transcripts"
REAL = "first-steps"
WRITE = os.environ.get("COORDLEDGER_TRANSCRIPTS") == "write"

_PROMPT = re.compile(r"(?P<agent>[a-z]*)\$ (?P<command>.+)")
_VARIES = [
    (re.compile(varies), word)
    for varies, word in (
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
        (r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\dZ \((in [0-9a-z ]+|[0-9a-z ]+ ago|now)\)", "TIME"),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\b[0-9a-f]{40}\b", "COMMIT"),
        (r"\b[0-9a-f]{32}\b", "LEDGER"),
        (r"\b[0-9a-f]{16}\b", "SHORT"),
        (r"\b[0-9a-f]{8}\b", "SESSION"),
        (r"\bAAAAC3[A-Za-z0-9+/]{62}", "PUBLIC"),
        (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256"),
        (r"(?m)^[A-Za-z0-9+/]{70}$", "BASE64"),
        (r"(?m)^[A-Za-z0-9+/]+==?$", "BASE64"),
        (r"\b\d{14}Z", "TIME"),
        (r"(?<=git version )[0-9.]+", "NUMBER"),
        (r"(?<=, run by )\S+", "PYTHON"),
        (r"(?<=\S)  +", "  "),
    )
]


class Step:
    """A command of a transcript, its input, and what is expected of it."""

    def __init__(self, agent: str, command: str) -> None:
        self.agent, self.command = agent, command
        self.stdin: list[str] = []
        self.expected: list[str] = []


def parsed(text: str) -> list[Step | str]:
    """Steps, and the prose and the empty lines between them as they are."""
    parts: list[Step | str] = []
    for line in text.splitlines():
        last = parts[-1] if parts else None
        if prompt := _PROMPT.fullmatch(line):
            parts.append(Step(prompt["agent"], prompt["command"]))
        elif line.startswith("#") or not line:
            parts.append(line)
        elif not isinstance(last, Step):
            raise AssertionError(f"this belongs to no command: {line}")
        elif line.startswith("< "):
            last.stdin.append(line[2:])
        else:
            last.expected.append(line)
    return parts


def shown(ran: Ran, places: dict[str, str]) -> list[str]:
    """What a command printed, and its exit code, as a transcript has it."""
    lines = [line or "." for line in ran.stdout.splitlines()]
    lines += [f"! {line}" for line in ran.stderr.splitlines()]
    if ran.returncode:
        lines.append(f"? {ran.returncode}")
    text = "\n".join(lines)
    for place, word in places.items():
        text = text.replace(place, word)
    for varies, word in _VARIES:
        text = varies.sub(word, text)
    return text.splitlines()


@pytest.fixture
def play(
    request: pytest.FixtureRequest, inside: Callable[..., Ran], tmp_path: Path, env: dict[str, str]
) -> Callable[[Step], list[str]]:
    """`play(step)`: do what a step says; what it showed."""
    if request.getfixturevalue("path").stem == REAL:
        tool = tmp_path / "tools" / "coordledger"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m coordledger "$@"\n')
        tool.chmod(0o755)
        real = env | {"PATH": f"{tool.parent}{os.pathsep}{env['PATH']}"}
        places = {env["HOME"]: "HOME", str(tmp_path): "FOLDER"}

        def run(step: Step) -> list[str]:
            return shown(_shell(step, tmp_path / step.agent, real), places)

    else:
        fleet = request.getfixturevalue("fleet")
        fleet.enroll("bob")
        places = {env["HOME"]: "HOME", str(fleet.root): "FOLDER"}

        def run(step: Step) -> list[str]:
            where = fleet.clone(step.agent) if step.agent else fleet.root
            program, *argv = shlex.split(step.command)
            if program != "coordledger":
                return shown(_shell(step, where, fleet.env), places)
            stdin = "\n".join(step.stdin)
            return shown(inside(fleet, *argv, agent=step.agent or None, stdin=stdin), places)

    return run


def _shell(step: Step, where: Path, env: dict[str, str]) -> Ran:
    return subprocess.run(
        ["sh", "-c", step.command],
        cwd=where,
        env=env,
        input="\n".join(step.stdin),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_it_goes_as_the_transcript_says(path: Path, play: Callable[[Step], list[str]]) -> None:
    lines: list[str] = []
    for part in parsed(path.read_text("utf-8")):
        if isinstance(part, str):
            lines.append(part)
            continue
        said = play(part)
        assert WRITE or said == part.expected, f"{part.agent}$ {part.command}"
        lines += [f"{part.agent}$ {part.command}", *(f"< {line}" for line in part.stdin), *said]
    if WRITE:
        path.write_text("\n".join(lines) + "\n", "utf-8")
