"""docs/cookbook.md: each command, and the answer that the page shows for it.

COORDLEDGER_TRANSCRIPTS=write puts the answers of now into the page: read the difference.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from support.past import with_a_past

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

PAGE = Path(__file__).parents[2] / "docs" / "cookbook.md"
WRITE = os.environ.get("COORDLEDGER_TRANSCRIPTS") == "write"
BLOCK = re.compile(r"(?<=^```console\n)\$ (.*)\n((?:.*\n)*?)(?=^```$)", re.MULTILINE)
VARIES = (
    (r"\b[0-9a-f]{12,40}\b", "ID"),
    (r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\dZ", "TIME"),
    (r"\b\d+ (ms|s|min|h|d)\b( ago)?|\bnow\b", "SPAN"),
    (r"\b\d+\.\d+\b", "RATE"),
    (r"-{2,}| {2,}", "  "),
)


def alike(text: str) -> str:
    """What of an answer does not depend on when it was given."""
    for varies, word in VARIES:
        text = re.sub(varies, word, text)
    return text


def test_the_answers_are_those_that_the_page_shows(
    tmp_path: Path, env: dict[str, str], inside: Callable[..., CompletedProcess[str]]
) -> None:
    fleet = with_a_past(tmp_path / "fleet", env)
    alice = fleet.ledger("alice", "s1")
    alice.submit("publish", after=["odd"], title="When all is done")
    alice.submit("next")
    fleet.ledger("bob", "s4").claim("review")
    bob, who = fleet.clone("bob"), ("-c", "user.name=bob", "-c", "user.email=bob@example.org")
    fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "Check the reviews", cwd=bob)
    push = ("push", "--session", "s4", "origin", "HEAD:refs/heads/main", "--task", "review")
    inside(fleet, *push, agent="bob", check=0)
    fleet.git("fetch", "--quiet", "origin", cwd=fleet.clone("alice"))
    text = PAGE.read_text("utf-8")

    def answered(found: re.Match[str]) -> str:
        ran = inside(fleet, *shlex.split(found[1])[1:], agent="alice")
        assert ran.returncode == 0, ran.stderr
        answer = ran.stdout + ran.stderr
        assert WRITE or alike(answer) == alike(found[2]), found[1]
        return f"$ {found[1]}\n{answer}"

    made = BLOCK.sub(answered, text)
    assert made.count("$ coordledger") >= 11
    if WRITE:
        PAGE.write_text(made, "utf-8")
    fleet.close()
