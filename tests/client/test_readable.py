"""What people see who have git and nothing else."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck
from support.fleet import LEDGER_REF

from coordledger.format.state import page_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

TASK = "github:example/app#23"


@pytest.fixture(scope="module")
def told(founded: Callable[..., Fleet]) -> Fleet:
    """A short story: alice enrols bob, bob does a task."""
    fleet = founded("bob")
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob", session="s1")
    alice.submit(TASK, priority=5, meta={"size": "small"})
    bob.claim(TASK, ttl=timedelta(minutes=30), note="\x1b[2J\u202eevil \U0001f600")
    bob.renew(TASK, ttl=timedelta(minutes=50))
    bob.send("done soon\nreally", to="alice")
    bob.complete(TASK, result="merged")
    return fleet


def log(fleet: Fleet, *options: str) -> list[str]:
    return fleet.git("log", *options, LEDGER_REF).splitlines()


def test_one_line_a_record_says_what_happened(told: Fleet) -> None:
    lines = [line.split(" ", 1)[1] for line in log(told, "--oneline", "--no-decorate")]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    wanted = [
        re.escape(f"complete {TASK} epoch 1"),
        "send to alice",
        re.escape(f"renew {TASK} epoch 1 until ") + time,
        re.escape(f"claim {TASK} epoch 1 until ") + time,
        re.escape(f"submit {TASK}"),
        "enroll bob key 1 as agent",
        "genesis alice",
    ]
    assert len(lines) == len(wanted)
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line)


def test_the_log_has_nothing_that_a_terminal_would_obey(told: Fleet) -> None:
    text = told.git("log", "--format=raw", LEDGER_REF)
    assert set(text) <= set(map(chr, range(32, 127))) | {"\n"}
    assert "\\u202e" in text


def test_the_log_finds_records_by_agent_and_by_task(told: Fleet) -> None:
    assert len(log(told, "--oneline", "--author=bob")) == 4
    assert len(log(told, "--oneline", "--author=alice/")) == 3
    assert len(log(told, "--oneline", "--author=^bob/s1 <bob@")) == 4
    assert len(log(told, "--oneline", "-F", f"--grep=claim {TASK}")) == 1
    paged = told.git("log", "--format=%s", LEDGER_REF, "--", page_path(TASK)).splitlines()
    assert [line.split()[0] for line in paged] == ["complete", "renew", "claim", "submit"]
    people = told.git("log", "--format=%s", LEDGER_REF, "--", "agents").splitlines()
    assert [line.split()[0] for line in people] == ["enroll", "genesis"]
    mail = told.git("log", "--format=%s", LEDGER_REF, "--", "inbox/alice.jsonl").splitlines()
    assert mail == ["send to alice"]


def test_authors_and_dates_are_the_records_own(told: Fleet) -> None:
    [line] = log(told, "-1", "--format=%an|%ae|%cn|%ce|%at|%b")[:1]
    name, address, committer, mail, at, body = line.split("|", 5)
    record = json.loads(body)
    assert (name, committer) == ("bob/s1", "bob/s1")
    assert address == mail == f"bob@{record['ledger']}"
    when = datetime.fromisoformat(record["at"])
    assert datetime.fromtimestamp(int(at), UTC) == when.replace(microsecond=0)


def test_trailers_are_trailers(told: Fleet) -> None:
    form = "%(trailers:key=Coordledger-Signature,valueonly,separator=%x20)"
    for line in log(told, f"--format={form}"):
        assert re.fullmatch(r"hmac-sha256 (alice|bob)/1 [A-Za-z0-9+/]{43}=", line)
    seqs = log(told, "--format=%(trailers:key=Coordledger-Seq,valueonly,separator=%x20)")
    assert seqs == [str(seq) for seq in range(6, -1, -1)]
    digests = log(told, "--format=%(trailers:key=Coordledger-Digest,valueonly,separator=)")
    assert digests[0] == told.ledger("bob").head().digest
    assert len(set(digests)) == 7


def test_the_state_is_a_file_to_be_shown(told: Fleet) -> None:
    [line] = told.git("show", f"{LEDGER_REF}:{page_path(TASK)}").splitlines()
    task = json.loads(line)
    assert (task["task"], task["status"], task["agent"]) == (TASK, "done", "bob")
    assert (task["priority"], task["meta"], task["epoch"]) == (5, {"size": "small"}, 1)
    before = json.loads(told.git("show", f"{LEDGER_REF}~1:{page_path(TASK)}"))
    assert before["status"] == "claimed"
    ledger = json.loads(told.git("show", f"{LEDGER_REF}:ledger.json"))
    assert (ledger["v"], ledger["owner"]) == (1, "alice")
    assert json.loads(told.git("show", f"{LEDGER_REF}:agents/bob.json"))["role"] == "agent"
    [mail] = told.git("show", f"{LEDGER_REF}:inbox/alice.jsonl").splitlines()
    assert json.loads(mail)["body"] == "done soon\nreally"
    names = told.git("ls-tree", "-r", "--name-only", LEDGER_REF).splitlines()
    assert names == ["agents/alice.json", "agents/bob.json", "inbox/alice.jsonl", "ledger.json",
                     page_path(TASK)]  # fmt: skip


def test_a_clone_shows_the_same_as_the_remote(told: Fleet) -> None:
    path = told.clone("bob")
    told.ledger("bob").tasks()
    assert told.git("log", LEDGER_REF, cwd=path) == told.git("log", LEDGER_REF)


def test_git_finds_no_fault_in_it(told: Fleet) -> None:
    fsck(told.remote, told.env)
    fsck(told.clone("bob"), told.env)
    assert "merge" not in told.git("rev-list", "--merges", LEDGER_REF)
    assert told.git("rev-list", "--max-parents=0", "--count", LEDGER_REF).strip() == "1"
