"""What commands do that no transcript shows: secrets, files, signals, and how long a lease is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """Alice and bob, both joined."""
    fleet.enroll("bob")
    return fleet


@pytest.fixture
def told(two: Fleet, inside: Callable[..., Any]) -> Callable[..., Any]:
    """`told("bob", "list", code=0)`: the one JSON value that a command prints.

    `real` starts a process for it.
    """

    def run(agent: str, *argv: str | Path, code: int = 0, real: bool = False, **kw: Any) -> Any:
        act = two.run if real else partial(inside, two)
        ran = act(*argv, "--json", agent=agent, check=code, **kw)
        assert ran.stdout.isascii()
        assert ran.stderr == ""
        return json.loads(ran.stdout)

    return run


def test_a_secret_is_written_to_its_file_and_nowhere_else(two: Fleet) -> None:
    for argv in (("agent", "add", "carol"), ("agent", "rotate", "bob", "--json")):
        ran = two.run(*argv, agent="alice", check=0)
        home = two.root.parent / "home/config/coordledger/secrets"
        for file in home.glob("*/*.secret"):
            for secret in file.read_text("ascii").split():
                assert secret not in ran.stdout + ran.stderr


def test_a_lease_ends_when_it_was_asked_to(told: Callable[..., Any]) -> None:
    won = told("bob", "claim", "t", "--ttl", "30m")
    begun, end, free = (
        datetime.fromisoformat(won[name]) for name in ("claimed_at", "expires_at", "claimable_at")
    )
    assert end - begun == timedelta(minutes=30)
    assert free - end == timedelta(seconds=30)  # the skew that the policy allows
    assert told("bob", "renew", "t", "--ttl", "2h")["expires_at"] > won["expires_at"]


def test_a_dry_run_writes_nothing(two: Fleet, told: Callable[..., Any]) -> None:
    before = two.head()
    assert told("bob", "claim", "t", "--dry-run")["outcome"] == "won"
    assert two.head() == before


def test_a_body_that_would_move_the_cursor_is_kept_and_shown_harmless(
    two: Fleet, told: Callable[..., Any]
) -> None:
    body = "first line\nsecond \u202eline\x1b[31m"
    sent = told("bob", "send", "--to", "alice", "-", stdin=body, real=True)
    assert sent["body"] == body
    shown = two.run("inbox", agent="alice", check=0).stdout.splitlines()
    assert shown[0].startswith(f"{sent['seq']}  bob/")
    assert shown[1:] == ["    first line", r"    second \u202eline\x1b[31m"]


def test_heads_are_compared(two: Fleet, told: Callable[..., Any]) -> None:
    head = told("alice", "head")
    assert head["line"] == two.run("head", agent="bob", check=0).stdout.strip()
    assert told("bob", "head", "--compare", head["line"])["line"] == head["line"]
    other = head["line"][:-1] + ("0" if head["line"][-1] != "0" else "1")
    assert told("bob", "head", "--compare", other, code=4)["error"]["code"] == "head-differs"


def test_the_hook_is_installed_beside_one_that_was_there(two: Fleet, tmp_path: Path) -> None:
    other = tmp_path / "other.git"
    two.git("init", "--quiet", "--bare", other)
    own = other / "hooks" / "pre-receive"
    own.write_text("#!/bin/sh\nexit 0\n")
    own.chmod(0o755)
    ran = two.run("hook", "install", other, check=0)
    assert "kept the hook that was there" in ran.stdout
    assert os.access(own, os.X_OK)
    ran = two.run("hook", "pre-receive", stdin="", cwd=two.remote, check=1)
    assert ran.stderr.startswith("coordledger: refused ")


@pytest.mark.parametrize(("number", "idle"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_write_is_unknown_and_an_interrupted_wait_is_not(
    two: Fleet, told: Callable[..., Any], number: int, idle: int
) -> None:
    """The hook holds the push up, so that the signal comes in the middle of it. Who waits has
    looked at the remote a second time.
    """
    clone, trace = two.clone("bob"), two.root / "trace"
    chained = two.remote / "hooks" / "pre-receive.chained"
    mark = two.root / "in-the-hook"
    chained.write_text(f'#!/bin/sh\ncat > /dev/null\n: > "{mark}"\nsleep 6\nexit 1\n')
    chained.chmod(0o755)

    def interrupted(*argv: str, ready: Callable[[], bool]) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordledger", *argv],
            cwd=clone,
            env=two.env | {"GIT_TRACE": str(trace)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that were started in the background ignore ^C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
        )
        while not ready():
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
        return process.returncode, said.splitlines()[0]

    code, said = interrupted("claim", "t", ready=mark.exists)
    assert (code, said) == (5, "coordledger: the push may or may not have landed: interrupted")
    chained.unlink()
    assert [one["outcome"] for one in told("bob", "resolve", code=3)] == ["voided"]

    trace.write_text("")
    looked = "built-in: git upload-pack"
    code, said = interrupted(
        "inbox", "--wait", "1m", ready=lambda: trace.read_text().count(looked) > 1
    )
    assert (code, said) == (idle, "coordledger: interrupted")


def test_an_unknown_outcome_stays_open_while_nobody_answers(
    two: Fleet, told: Callable[..., Any]
) -> None:
    told("bob", "claim", "before")
    journal = two.clone("bob") / ".git" / "coordledger" / "main" / "intents"
    ledger = two.ledger("bob")
    head = ledger.head()
    intent = {
        "op": "ab" * 16,
        "base": {"digest": head.digest, "seq": head.seq},
        "agent": "bob",
        "session": "s",
        "what": "claim t",
    }
    journal.mkdir(exist_ok=True)
    (journal / "left.json").write_text(json.dumps([intent]))
    away = two.remote.rename(two.remote.with_suffix(".away"))
    assert [one["outcome"] for one in told("bob", "resolve", code=5)] == ["open"]
    away.rename(two.remote)
