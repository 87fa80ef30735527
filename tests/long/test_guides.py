"""The guides stay true: their commands run, in the order of the page, and show what they say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support import pages
from support.pages import play

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

GUIDE = "docs/guide.md"
WHO = {"GIT_AUTHOR_EMAIL": "bob@example.org", "GIT_COMMITTER_EMAIL": "bob@example.org"}


def test_the_first_hour_works_as_written(tmp_path: Path, env: dict[str, str]) -> None:
    env |= WHO | {"GIT_AUTHOR_NAME": "bob", "GIT_COMMITTER_NAME": "bob"}
    shown = play("".join(pages.blocks(GUIDE, "Two agents")), tmp_path, env)
    for words in (
        "enrolled bob",
        "won fix-login",
        "found the cause, one more test to write",
        "the server admits this key and refuses a forged record",
        "merged as 3f2c1a",
    ):
        assert words in shown
    assert "FAIL" not in shown

    (script,) = pages.blocks(GUIDE, "From Python", "python")
    play(f"python3 -c '{script}'", tmp_path, env)

    connected = play("".join(pages.blocks(GUIDE, "Connect a real agent")), tmp_path, env)
    assert "claude (.claude): connected already" in connected
    files = play("git ls-files", tmp_path / "bob", env).split()
    assert {".claude/settings.json", ".opencode/plugins/coordledger.js", "AGENTS.md"} <= {*files}

    landed = play("".join(pages.blocks(GUIDE, "Push code under a claim")), tmp_path, env)
    assert "tried: none moves without a record: refs/heads/main" in landed
    assert "landed refs/heads/main  000000000000.." in landed

    read = play("".join(pages.blocks(GUIDE, "Read it with plain git")), tmp_path, env)
    for words in (
        "complete write-docs epoch 1",
        "claim fix-login epoch 1 until ",
        "genesis alice",
        "bob/",
        "Coordledger-Signature: ssh-ed25519 bob/1 ",
        '"owner":"alice"',
        "agents/bob.json",
        "tasks/",
    ):
        assert words in read

    checked = play("".join(pages.blocks("docs/auditing.md")), tmp_path, env)
    assert 'Good "coordledger.record.v1" signature for bob' in checked
    assert " authentic\nthe report is in audit.html" in checked
    assert "CHECKED BY NOBODY" not in checked
    assert "compared with nothing" not in (tmp_path / "audit.md").read_text()

    page = play("cd alice && coordledger show fix-login", tmp_path, env)
    path = re.search(r"tasks/\S+", page)
    assert path
    changes = play(
        f"cd alice && git log --oneline refs/coordledger/main -- {path[0]}", tmp_path, env
    )
    assert "complete fix-login" in changes
    assert "enroll" not in changes


@pytest.fixture
def desk(fleet: Fleet) -> Path:
    """bob's clone, where alice has offered the tasks that the pages name."""
    fleet.enroll("bob")
    fleet.enroll("carol")
    with fleet.ledger("alice") as alice:
        alice.submit("login", priority=5)
        for task in ("docs", "odd"):
            alice.submit(task)
    return fleet.clone("bob")


def test_the_agents_guide_works_as_written(fleet: Fleet, desk: Path) -> None:
    said = play("".join(pages.blocks("docs/agents.md")), desk, fleet.env)
    assert '"epoch": 1' in said
    assert "runs out of memory while it loads the model" in said
    assert "tests/login/" in said
    claims = {claim.task: claim for claim in fleet.ledger("carol").tasks()}
    assert (claims["login"].status, claims["docs"].offered_to) == ("done", "carol")
    assert (claims["odd"].status, claims["odd"].attempts) == ("open", 1)
    taken = fleet.ledger("carol").claim("docs")
    assert (taken.won, taken.claims[0].epoch) == (True, 2)


def test_messages_and_facts_work_as_written(fleet: Fleet, desk: Path) -> None:
    said = play("".join(pages.blocks("docs/channels.md")), desk, fleet.env)
    assert "git version" in said
    assert "1.4 is out" in said
    assert [message.body for message in fleet.ledger("alice").inbox() if message.to] == [
        "the tests of login are red since 3f2c1a"
    ]
