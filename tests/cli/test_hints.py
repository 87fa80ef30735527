"""A hint is a command that works when it is copied."""

from __future__ import annotations

import re
import shlex
import shutil
import string
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from coordledger import cli, errors
from coordledger.cli.common import App
from coordledger.errors import ERRORS
from coordledger.git.process import untrusted

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

# What people fill in: any value that the option or argument takes.
EXAMPLES = {
    "NAME": "bob",
    "CHANNEL": "general",
    "URL": "host:project.git",
    "PATH": "project.git",
    "REMOTE": "origin",
    "REPO.git": "project.git",
    "TASK": "task-1",
}


def commands(hint: str) -> list[str]:
    """The commands of ours that a hint names: each ends with it, or at a comma or semicolon."""
    return [found[1].strip() for found in re.finditer(r"\b(coordledger [^,;`]*)", hint)]


def filled(code: str) -> str:
    """The hint of an error, filled in as it is where the error is raised."""
    _, message, hint = ERRORS[code]
    names = {name for _, name, _, _ in string.Formatter().parse(message + hint) if name}
    data = dict.fromkeys(names, "x") | {"command": "coordledger claim t"}
    return errors.error(code, **data).hint


def parse(argv: list[str]) -> None:
    """Parse a command line as the program does, up to calling anything."""
    command: click.Command = cli.root
    context, words = None, [word for word in argv if word != "--help"]  # which looks at no other
    while words or "--help" not in argv:
        context = command.make_context(str(command.name), words, parent=context, obj=App())
        if not isinstance(command, click.Group):
            return
        rest = [*context._protected_args, *context.args]
        _, found, words = command.resolve_command(context, rest)
        assert found is not None, argv
        command = found


HINTS = sorted(code for code in ERRORS if commands(filled(code)))


def test_many_hints_name_a_command():
    assert len(HINTS) > 20


@pytest.mark.parametrize("code", HINTS)
def test_a_hint_names_a_command_line_that_there_is(code):
    for command in commands(filled(code)):
        words = [EXAMPLES.get(word, word) for word in shlex.split(command)[1:]]
        parse(words)


@pytest.mark.parametrize("words", ["agent rotato bob", "join --rest", "resolve it", "agent add"])
def test_the_test_itself_refuses_what_is_no_command_line(words):
    with pytest.raises(click.UsageError):
        parse(words.split())


def test_a_value_gets_into_a_hint_as_one_word():
    mine = errors.error("already-yours", task="$(reboot)", until="x")
    assert mine.hint.startswith("to go on with it: coordledger renew '$(reboot)';")
    there = errors.error("ledger-exists", remote="/srv/a b's/x.git", name="main")
    words = shlex.split(commands(there.hint)[0])
    assert words == ["coordledger", "join", "/srv/a b's/x.git", "--agent", "NAME"]


def run_hint(fleet: Fleet, stderr: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Copy the command that ends the hint, and run it there."""
    hint = stderr.rpartition("hint: ")[2].strip()
    command = re.search(r"((?:\w+=\S+ )*(?:git|coordledger) .*)$", hint)
    assert command, hint
    fleet.root.joinpath("bin").mkdir(exist_ok=True)
    ours = fleet.root / "bin" / "coordledger"
    ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m coordledger "$@"\n')
    ours.chmod(0o755)
    env = fleet.env | {"PATH": f"{ours.parent}:{fleet.env['PATH']}"}
    return subprocess.run(
        ["sh", "-c", command[1]],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_an_agent_whose_key_was_revoked_is_helped_by_the_hint(fleet):
    fleet.enroll("bob")
    fleet.run("agent", "revoke", "bob", agent="alice", check=0)
    refused = fleet.run("submit", "x", agent="bob", check=1)
    ran = run_hint(fleet, refused.stderr, fleet.clone("alice"))
    assert ran.returncode == 0, ran.stderr
    fleet.run("submit", "x", agent="bob", check=0)


@pytest.mark.parametrize("others", [(), ("fork",), ("a-fork", "z-fork")])
def test_a_remote_that_was_renamed_is_found_by_the_hint(fleet, others):
    clone = fleet.clone("alice")
    fleet.git("remote", "rename", "origin", "upstream", cwd=clone)
    for name in others:
        fleet.git("remote", "add", name, "elsewhere:x.git", cwd=clone)
    refused = fleet.run("list", agent="alice", check=1)
    assert all(name in refused.stderr for name in ("upstream", *others))
    ran = run_hint(fleet, refused.stderr, clone)
    assert ran.returncode == 0, ran.stderr
    fleet.run("list", agent="alice", check=0)


def test_a_fork_is_followed_by_the_hint(fleet):
    fork = fleet.root / "fork.git"
    shutil.copytree(fleet.remote, fork)
    fleet.run("submit", "one", agent="alice", check=0)
    fleet.git("clone", "--quiet", fork, fleet.root / "other")
    fleet.run("submit", "two", "--as", "alice", cwd=fleet.root / "other", check=0)
    fleet.git("remote", "set-url", "origin", str(fork), cwd=fleet.clone("alice"))
    refused = fleet.run("list", agent="alice", check=4)
    ran = run_hint(fleet, f"{refused.stderr.strip()} --yes", fleet.clone("alice"))
    assert ran.returncode == 0, ran.stderr
    fleet.run("list", agent="alice", check=0)


def test_a_damaged_copy_is_made_anew_by_the_hint(fleet):
    clone = fleet.clone("alice")
    (clone / ".git" / "coordledger" / "main" / "trusted.json").write_text("{", "utf-8")
    refused = fleet.run("list", agent="alice", check=4)
    ran = run_hint(fleet, f"{refused.stderr.strip()} --yes", clone)
    assert ran.returncode == 0, ran.stderr
    fleet.run("list", agent="alice", check=0)


def test_somebody_elses_repository_is_named_and_so_is_what_trusts_it(fleet):
    settings = fleet.root / "gitconfig"
    settings.write_text("")
    env = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": str(settings)}
    refused = fleet.run("list", agent="alice", env=env, check=1)
    clone = fleet.clone("alice")
    assert f"{clone} belongs to somebody else" in refused.stderr
    fleet.env["GIT_CONFIG_GLOBAL"] = str(settings)
    ran = run_hint(fleet, refused.stderr, fleet.root)
    assert ran.returncode == 0, ran.stderr
    assert str(clone) in settings.read_text()


@pytest.mark.parametrize(
    "said",
    [
        "fatal: detected dubious ownership in repository at '/srv/x y.git'\nTo add an exception",
        "fatal: unsafe repository ('/srv/x y.git' is owned by someone else)",
    ],
)
def test_a_servers_git_that_opens_no_such_repository_is_understood(said):
    fault = untrusted(said)
    assert fault is not None
    assert fault.code == "not-trusted"
    assert fault.hint.endswith("git config --global --add safe.directory '/srv/x y.git'")
    assert untrusted("fatal: not a git repository: '/srv/x.git'") is None


def test_a_machine_without_file_descriptors_lacks_no_git(fleet):
    command = f'ulimit -n 7; exec "{sys.executable}" -m coordledger list'
    ran = subprocess.run(
        ["sh", "-c", command],
        cwd=fleet.clone("alice"),
        env=fleet.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, "cannot start git: Too many open files" in ran.stderr) == (1, True)
