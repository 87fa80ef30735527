"""The commands of the import: those of its page as they stand there, and files of hostile words."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from support import coordination_db as coord
from support import pages

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

PAGE = "docs/migrating.md"
HOSTILE = "\x1b]0;x\x07\x1b[2J\u202egnp\x00\n\x9b1m\r won t"


def commands() -> list[str]:
    """The lines of the page's blocks for a shell."""
    return "".join(pages.blocks(PAGE)).splitlines()


@pytest.fixture
def desk(fleet: Fleet) -> Path:
    """Alice's clone, with the files that the page names."""
    fleet.enroll("bob")
    path = fleet.clone("alice")
    (path / "old-secrets").mkdir()
    (path / "old-secrets" / "alice.secret").write_text(coord.SECRETS["alice"])
    db = coord.create(path / "coord.db")
    held = {"claimer": "bob-7", "epoch": 2, "expires_at": coord.LATER, "status": "claimed"}
    coord.work(db, "t", **held)
    coord.message(db, "hello", signed=True)
    db.commit()
    db.close()
    (path / "issues.jsonl").write_text(json.dumps({"id": "bd-1", "title": "T", "priority": 1}))
    (path / "issues.json").write_text(json.dumps([{"number": 1, "title": "T", "state": "OPEN"}]))
    return path


def test_the_commands_of_the_page_work_as_they_stand_there(fleet: Fleet, desk: Path) -> None:
    lines = [line for line in commands() if "import coordledger" not in line]
    assert len(lines) == 9
    for line in lines:
        words = line.replace("'", "").split()
        ran = fleet.run(*words[1:], cwd=desk)
        assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
    listed = json.loads(fleet.run("list", "--json", cwd=desk).stdout)
    assert {task["task"] for task in listed} == {"t", "bd-1", "github:OWNER/REPO#1"}
    (held,) = (task for task in listed if task["task"] == "t")
    assert (held["offered_to"], held["legacy"]["mac"]) == ("bob", "missing")
    assert (desk / "tasks.csv").read_text().startswith("task,status,")
    again = fleet.run("import", "beads", "issues.jsonl", "--source", "ours", cwd=desk)
    assert again.returncode == 3  # what the page's own export has is there


def test_a_pipe_is_refused_at_once(fleet: Fleet, desk: Path) -> None:
    os.mkfifo(desk / "fifo")
    for form in ("gptme", "beads", "github", "coordledger"):
        ran = fleet.run("import", form, "fifo", cwd=desk, check=1)
        assert ran.stderr.startswith("coordledger: ")
        assert "no regular file" in ran.stderr


def test_hostile_words_are_harmless_on_each_way_to_a_terminal(fleet: Fleet, desk: Path) -> None:
    db = coord.create(desk / "evil.db")
    given = {"claimer": HOSTILE, "metadata": HOSTILE, "result": HOSTILE, "hmac": HOSTILE}
    for number, status in enumerate(("available", "claimed", "completed", "abandoned", HOSTILE)):
        end = coord.LATER if status == "claimed" else HOSTILE
        coord.work(db, f"t{number}", status=status, epoch=1, expires_at=end, **given)
    coord.work(db, HOSTILE)
    coord.message(db, HOSTILE, sender=HOSTILE, recipient=HOSTILE, channel=HOSTILE, hmac=HOSTILE)
    event = dict.fromkeys(("trigger_type", "source", "thread_key", "title", "url"), HOSTILE)
    coord.insert(db, "events", **event, payload_json=HOSTILE)
    fact = {"fact_key": "k", "value": HOSTILE, "created_at": 0.0, "expires_at": 4e9}
    coord.insert(db, "fact_bus", **fact)
    coord.insert(db, "leases", path=HOSTILE, expires_at=HOSTILE)
    db.commit()
    db.close()
    for words in (
        ["import", "gptme", "evil.db", "--dry-run"],
        ["import", "gptme", "evil.db"],
        ["import", "gptme", "evil.db", "--json"],
        ["list"],
        *(["show", f"t{number}"] for number in range(4)),
        ["show", "event-1"],
        ["history", "t1"],
        ["messages"],
        ["fact", "list"],
        ["export", "--format", "csv"],
        ["export"],
        ["export", "--format", "beads"],
    ):
        ran = fleet.run(*words, cwd=desk)
        assert ran.returncode == 0, (words, ran.stdout, ran.stderr)
        odd = {char for char in ran.stdout.replace("\r\n", "\n") + ran.stderr if char != "\n"}
        assert [char for char in odd if not char.isprintable() or char == "\u202e"] == [], words
