"""The README stays true: its commands run, in its order, and show what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
AUDITING = README.parent / "docs" / "auditing.md"


def section(title: str, page: Path) -> str:
    text = page.read_text("utf-8")
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str, language: str, page: Path = README) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", section(title, page), re.DOTALL)
    assert found, title
    return "".join(found)


def play(script: str, folder: Path, env: dict[str, str], *argv: str) -> str:
    """Run a script as a user would type it."""
    ran = subprocess.run(
        argv or ("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_five_minutes_and_plain_git_work_as_written(tmp_path, env):
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / ".venv").symlink_to(sys.prefix)  # as the commands of "Try it" leave it
    plain = env | {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    shown = play(blocks("Two agents on one remote, in five minutes", "sh"), clone, plain)
    assert list(clone.iterdir()) == [clone / ".venv"]
    for words in (
        "enrolled bob",
        "won fix-login",
        "found the cause, one more test to write",
        "the server admits this key and refuses a forged record",
        "merged as 3f2c1a",
    ):
        assert words in shown
    assert "FAIL" not in shown

    root = tmp_path / "two-agents"
    env |= {"PATH": f"{clone}/.venv/bin:{env['PATH']}"}  # what the first block has done
    script = blocks("What an agent needs", "python")
    play("", root, env, sys.executable, "-c", script)

    who = {"GIT_AUTHOR_EMAIL": "bob@example.org", "GIT_COMMITTER_EMAIL": "bob@example.org"}
    landed = play(blocks("Push code under a claim", "sh"), root, env | who)
    assert "tried: none moves without a record: refs/heads/main" in landed
    assert "landed refs/heads/main  000000000000.." in landed

    read = play(blocks("Read it with plain git", "sh"), root, env)
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

    checked = play(blocks("Check a record with OpenSSH alone", "sh", AUDITING), root, env)
    assert 'Good "coordledger.record.v1" signature for bob' in checked

    page = play("cd alice && coordledger show fix-login", root, env)
    path = re.search(r"tasks/\S+", page)
    assert path
    changes = play(f"cd alice && git log --oneline refs/coordledger/main -- {path[0]}", root, env)
    assert "complete fix-login" in changes
    assert "enroll" not in changes


def test_a_harness_is_connected_as_written(tmp_path, env):
    play("git init --quiet bob && cd bob && git config user.name b", tmp_path, env)
    path = f"{Path(sys.executable).parent}:{env['PATH']}"
    identity = {"GIT_AUTHOR_EMAIL": "bob@example.org", "GIT_COMMITTER_EMAIL": "bob@example.org"}
    script = blocks("Connect a harness, in two minutes", "sh")
    shown = play(script, tmp_path, env | identity | {"PATH": path})
    assert "claude (.claude): connected already" in shown
    files = play("git ls-files", tmp_path / "bob", env).split()
    assert {".claude/settings.json", ".opencode/plugins/coordledger.js", "AGENTS.md"} <= {*files}


def test_each_link_of_the_pages_leads_somewhere():
    for page in (README, *sorted((README.parent / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:`]+)[^):]*\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_every_page():
    text = README.read_text("utf-8")
    for page in (README.parent / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in text, page.name


def test_the_two_commands_are_one_line_each_and_complete():
    lines = blocks("Try it", "sh").splitlines()
    assert len(lines) == 2
    for line, ends in zip(lines, ("coordledger demo", "pytest"), strict=True):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install --quiet ")
        assert line.endswith(f".venv/bin/{ends}")
