"""The hooks of a harness as processes: a real remote, two agents, and what is done behind them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet

UUID = "3f2a91bc-1111-4222-8333-1234567890ab"
SHELL = {"CLAUDE_CODE_SESSION_ID": UUID}
HOOK = (sys.executable, "-m", "coordledger", "agent-hook", "claude")
DEADLINE = 60.0  # seconds


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    fleet.enroll("bob")
    fleet.ledger("bob").head()
    return fleet


def event(fleet: Fleet, name: str, **more: Any) -> str:
    said = {"session_id": UUID, "cwd": str(fleet.clone("bob")), "hook_event_name": name}
    return json.dumps(said | more)


def hook(fleet: Fleet, name: str, **more: Any) -> str:
    env = {"COORDLEDGER_AGENT": "bob"}
    ran = fleet.run("agent-hook", "claude", stdin=event(fleet, name, **more), env=env, check=0)
    assert ran.stderr == ""
    return ran.stdout


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def status(fleet: Fleet, task: str) -> str:
    return fleet.ledger("alice").show(task).status


def grown_old(fleet: Fleet) -> Path:
    """The copy was looked at an hour ago; the file whose time says when."""
    looked = fleet.clone("bob") / ".git/coordledger/main/looked"
    os.utime(looked, (time.time() - 3600,) * 2)
    (fleet.clone("bob") / ".git/coordledger/.hooks/tended").unlink(missing_ok=True)
    return looked


def test_a_session_from_its_beginning_to_its_end(two: Fleet) -> None:
    assert "It holds no task." in hook(two, "SessionStart", source="startup")
    two.run("claim", "t", "--path", "mine/", agent="bob", env=SHELL, check=0)
    alice = two.ledger("alice", "s1")
    alice.claim("hers", paths=["src/"])
    alice.send("please rebase", to="bob")
    looked = grown_old(two)
    hook(two, "PostToolUse", tool_name="Bash")  # which has the copy brought up to date
    until(lambda: time.time() - looked.stat().st_mtime < 600)
    assert "please rebase" in hook(two, "PostToolUse", tool_name="Bash")
    given = {"file_path": str(two.clone("bob") / "src/file.py")}
    refused = hook(two, "PreToolUse", tool_name="Write", tool_input=given)
    assert "reserved by alice/s1" in refused
    assert "You" not in hook(two, "Stop", stop_hook_active=True)
    assert '"decision": "block"' in hook(two, "Stop", stop_hook_active=False)
    assert hook(two, "Stop", stop_hook_active=False) == ""
    assert hook(two, "SessionEnd", reason="other") == ""
    until(lambda: status(two, "t") == "open")
    assert status(two, "hers") == "claimed"


def test_a_release_outlives_the_harness_and_loads_nothing_from_the_work_tree(two: Fleet) -> None:
    clone = two.clone("bob")
    two.run("claim", "t", agent="bob", env=SHELL, check=0)
    (clone / "coordledger").mkdir()
    (clone / "coordledger/__init__.py").write_text("raise SystemExit('not this one')\n")
    harness = subprocess.Popen(
        ["/bin/sh", "-c", '"$@"; kill -9 0', "sh", *HOOK],  # its whole process group
        stdin=subprocess.PIPE,
        cwd=two.root,
        env=two.env | {"COORDLEDGER_AGENT": "bob"},
        start_new_session=True,
        text=True,
    )
    harness.communicate(event(two, "SessionEnd", reason="other"), timeout=DEADLINE)
    assert harness.returncode == -signal.SIGKILL
    until(lambda: status(two, "t") == "open")


@contextlib.contextmanager
def listener(fleet: Fleet, *before: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*before, *HOOK, "--listen"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=fleet.root,
        env=fleet.env | {"COORDLEDGER_AGENT": "bob"} | env,
        start_new_session=True,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(event(fleet, "Stop"))
    process.stdin.close()
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def is_listening(fleet: Fleet) -> bool:
    """Somebody has the lock of a listener."""
    folder = fleet.clone("bob") / ".git/coordledger/.hooks"
    with open("/proc/locks", encoding="ascii") as file:  # noqa: PTH123
        locks = re.findall(r"FLOCK .*?:(\d+) 0 EOF", file.read())
    return any(str(file.stat().st_ino) in locks for file in folder.glob("*.listener"))


def test_a_listener_ends_with_what_has_come_and_there_is_one(two: Fleet) -> None:
    two.ledger("alice").send("of before", to="bob")
    two.ledger("bob").head()
    with listener(two) as first:
        until(lambda: is_listening(two))
        with listener(two) as second:
            assert second.wait(DEADLINE) == 0
            assert second.stderr is not None
            assert second.stderr.read() == ""
        two.ledger("alice", "s1").send("wake up", to="bob")
        assert first.wait(DEADLINE) == 2
        assert first.stderr is not None
        assert first.stdout is not None
        told = first.stderr.read()
        assert 'from alice/s1: "wake up"' in told
        assert "of before" not in told
        assert first.stdout.read() == ""
    told = hook(two, "PostToolUse")
    assert "of before" in told
    assert "wake up" not in told


def test_a_listener_ends_when_its_harness_has(two: Fleet) -> None:
    with listener(two, "/bin/sh", "-c", 'exec 3<&0; "$@" <&3 & wait', "sh") as harness:
        until(lambda: is_listening(two))
        harness.kill()
        harness.wait(DEADLINE)
        until(lambda: not is_listening(two))
        assert harness.stderr is not None
        assert harness.stderr.read() == ""


def test_a_listener_ends_when_nobody_reads_it(two: Fleet) -> None:
    with listener(two) as process:
        until(lambda: is_listening(two))
        assert process.stderr is not None
        process.stderr.close()
        assert process.wait(DEADLINE) == 0


def test_none_listens_where_claude_code_waits_for_its_background_hooks(two: Fleet) -> None:
    with listener(two, CLAUDE_CODE_ENTRYPOINT="sdk-cli") as process:
        assert process.wait(DEADLINE) == 0
    with listener(two, CLAUDE_CODE_ENTRYPOINT="cli"):
        until(lambda: is_listening(two))


def test_nobody_waits_for_a_remote_that_does_not_answer(two: Fleet) -> None:
    clone = two.clone("bob")
    two.git("config", "core.sshCommand", "sleep 600;", cwd=clone)
    two.git("remote", "set-url", "origin", "ssh://nowhere/ledger.git", cwd=clone)
    folder = clone / ".git/coordledger/.hooks"
    folder.mkdir()
    (folder / "tended").touch()  # nothing is begun in the background
    os.utime(clone / ".git/coordledger/main/looked", (1000, 1000))
    begun = time.monotonic()
    assert "It holds no task." in hook(two, "SessionStart", source="startup")
    assert "this session is bob/" in two.run("prime", agent="bob", check=0).stdout
    assert time.monotonic() - begun < 20
