"""`guard` on the command line, and as git's hooks call it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from support.reserved_site import change, reserved_site

from coordledger.deadline import unix_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet]) -> Fleet:
    return reserved_site(founded("bob"))


def test_with_pre_commit_the_push_is_told_by_the_environment(
    site: Fleet, inside: Callable[..., Any]
) -> None:
    root = site.clone("bob")
    base = site.git("rev-parse", "HEAD", cwd=root).strip()
    change(root, "README.md")
    site.git("commit", "-qam", "theirs", cwd=root)
    tip = site.git("rev-parse", "HEAD", cwd=root).strip()
    env = {"PRE_COMMIT_REMOTE_NAME": "origin", "PRE_COMMIT_REMOTE_BRANCH": "refs/heads/x"}
    env |= {"PRE_COMMIT_LOCAL_BRANCH": "HEAD"}
    inside(site, "guard", "--push", agent="bob", env=env, check=3)
    env |= {"PRE_COMMIT_FROM_REF": base, "PRE_COMMIT_TO_REF": tip}
    inside(site, "guard", "--push", agent="bob", env=env, check=3)
    inside(site, "guard", "--push", agent="bob", env=env | {"PRE_COMMIT_FROM_REF": tip}, check=0)
    notes = {"PRE_COMMIT_REMOTE_BRANCH": "refs/notes/x"}
    inside(site, "guard", "--push", agent="bob", env=env | notes, check=0)


def test_paths_are_answered_in_json_too(site: Fleet, inside: Callable[..., Any]) -> None:
    ran = inside(site, "guard", "README.md", "free.py", "--json", agent="bob", check=3)
    told = json.loads(ran.stdout)
    [one] = told["reserved"]
    assert one["expires_at"].endswith("Z")
    assert one | {"expires_at": ""} == {
        "expires_at": "",
        "path": "README.md",
        "reserved": "README.md",
        "task": "auth",
        "agent": "alice",
        "session": "desk",
    }
    assert told["age"] < 600
    assert told["fault"] is None
    assert told.keys() == {"reserved", "seq", "as_of", "age", "fault"}
    assert ran.stderr == ""
    warned = inside(site, "guard", "README.md", "--warn", "--json", agent="bob", check=0)
    assert json.loads(warned.stdout)["reserved"] == told["reserved"]


def test_with_warn_nothing_is_refused(site: Fleet, inside: Callable[..., Any]) -> None:
    ran = inside(site, "guard", "--warn", "README.md", agent="bob", check=0)
    assert ran.stderr.startswith("warning: README.md is reserved by alice/desk for auth until ")
    assert ran.stdout == ""


def test_ones_own_other_sessions_count_unless_it_is_said_that_they_do_not(
    site: Fleet, inside: Callable[..., Any]
) -> None:
    mine = ("--as", "alice", "--session", "laptop")
    inside(site, "guard", "README.md", *mine, agent="bob", check=3)
    inside(site, "guard", "README.md", *mine, "--any-session", agent="bob", check=0)
    inside(site, "guard", "README.md", "--any-session", agent="bob", check=3)


def test_how_old_the_copy_is_is_said_when_it_is_more_than_a_minute(
    site: Fleet, inside: Callable[..., Any]
) -> None:
    looked = site.clone("bob") / ".git" / "coordledger" / "main" / "looked"
    now = unix_ms()
    for seconds, said in (
        (50, ""),
        (185, "asked of a copy that is 3 min old; coordledger paths renews it\n"),
    ):
        at = (now - seconds * 1000) * 1_000_000
        os.utime(looked, ns=(at, at))
        assert inside(site, "guard", "free.py", agent="bob", check=0).stderr == said
        assert inside(site, "guard", "README.md", agent="bob", check=3).stderr.endswith(said)
    inside(site, "paths", agent="bob", check=0)
    assert inside(site, "guard", "free.py", agent="bob", check=0).stderr == ""


def test_where_there_is_no_ledger_nothing_is_said(
    site: Fleet, tmp_path: Path, inside: Callable[..., Any]
) -> None:
    site.git("init", "-q", str(tmp_path / "new"))
    site.git("init", "-q", "--bare", str(tmp_path / "bare.git"))
    (tmp_path / "folder").mkdir()
    for where in ("new", "bare.git", "folder"):
        for words in (["x"], ["--staged"], ["--push", "origin", "url"]):
            ran = inside(site, "-C", str(tmp_path / where), "guard", *words, check=0)
            assert (ran.stdout, ran.stderr) == ("", "")
    told = json.loads(inside(site, "-C", str(tmp_path), "guard", "x", "--json", check=0).stdout)
    assert told == {"reserved": [], "seq": None, "as_of": None, "age": None, "fault": None}
    assert not (tmp_path / "home" / "cache").exists()


def test_a_fault_of_the_ledger_keeps_nobody_from_committing(
    site: Fleet, inside: Callable[..., Any]
) -> None:
    trusted = site.clone("bob") / ".git" / "coordledger" / "main" / "trusted.json"
    content = trusted.read_bytes()
    faults = {b"{": "bad-copy", content.replace(b'"commit":"', b'"commit":"0'): "bad-copy"}
    try:
        for bad, code in faults.items():
            trusted.write_bytes(bad)
            ran = inside(site, "guard", "README.md", agent="bob", check=0)
            assert ran.stderr.startswith("warning: nothing is guarded: ")
            assert f"[{code}]" in ran.stderr
            told = json.loads(inside(site, "guard", "x", "--json", agent="bob", check=0).stdout)
            assert told["fault"]["code"] == code
    finally:
        trusted.write_bytes(content)
    ran = inside(site, "guard", "x", agent="bob", env={"COORDLEDGER_AGENT": "no name"}, check=0)
    assert "[bad-agent]" in ran.stderr


def test_what_is_no_question_is_wrong_usage(site: Fleet, inside: Callable[..., Any]) -> None:
    for words in ([], ["--staged", "--push"], ["--staged", "x"]):
        inside(site, "guard", *words, agent="bob", check=2)
    inside(site, "guard", "--push", agent="bob", stdin="no such line\n", check=1)


def test_neither_paths_nor_tasks_can_write_on_the_terminal(
    site: Fleet, inside: Callable[..., Any]
) -> None:
    path = "src/auth/\x1b[2J\n\u202e"
    ran = inside(site, "guard", path, agent="bob", check=3)
    assert ran.stderr.startswith(r"coordledger: src/auth/\x1b[2J\n\u202e is reserved by ")
