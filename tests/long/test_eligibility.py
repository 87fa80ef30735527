"""When a process may take the server's part: where a push would start nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF
from support.ways_in import receiver_of

import coordledger
from coordledger import files
from coordledger.deadline import Deadline
from coordledger.git.process import Git
from coordledger.server.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet


def patient() -> Deadline:
    return Deadline(60)


def _config(*args: str) -> Callable[[Fleet], object]:
    return lambda fleet: fleet.git("config", *args)


def _file(name: str, text: str = "x\n", mode: int = 0o755) -> Callable[[Fleet], object]:
    def make(fleet: Fleet) -> None:
        path = fleet.remote / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    return make


def _mode(name: str, mode: int) -> Callable[[Fleet], object]:
    return lambda fleet: (fleet.remote / name).chmod(mode)


def _edited(name: str, old: str, new: str) -> Callable[[Fleet], object]:
    def edit(fleet: Fleet) -> None:
        path = fleet.remote / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return edit


def _linked(fleet: Fleet) -> None:
    hooks = fleet.remote / "hooks"
    hooks.rename(fleet.root / "elsewhere")
    hooks.symlink_to(fleet.root / "elsewhere")


def _hooks_in_capitals(fleet: Fleet) -> None:
    (fleet.remote / "Hooks").mkdir()
    fleet.git("config", "core.hooksPath", "Hooks")


def _user(text: str) -> Callable[[Fleet], object]:
    return lambda fleet: (fleet.root / "user.gitconfig").write_text(text)


AGAINST = {
    # hooks
    "an update hook": (_file("hooks/update"), "there is a hook update"),
    "one that git would not run": (_file("hooks/update", mode=0o644), "there is a hook update"),
    "a post-receive hook": (_file("hooks/post-receive"), "there is a hook post-receive"),
    "a post-update hook": (_file("hooks/post-update"), "there is a hook post-update"),
    "a chained hook": (_file("hooks/pre-receive.chained"), "a hook pre-receive.chained"),
    "somebody's hook for transactions": (_file("hooks/reference-transaction"), "is not this"),
    "no hook": (lambda f: (f.remote / "hooks/pre-receive").unlink(), "there is no"),
    "a hook that git does not run": (_mode("hooks/pre-receive", 0o644), "is not this version's"),
    "a hook of another text": (
        _edited("hooks/pre-receive", "refuse()", "refuses()"),
        "is not this",
    ),
    "a hook of another package": (_edited("hooks/pre-receive", "package=", "package=/x"), "is not"),
    "hooks that are a link": (_linked, "is a link"),
    "hooks elsewhere": (_config("core.hooksPath", "/elsewhere"), "core.hookspath is /elsewhere"),
    "hooks in a folder of other letters": (_hooks_in_capitals, "core.hookspath is Hooks"),
    "hooks by git's configuration": (_config("hook.x.command", "y"), "hook.x.command is y"),
    # settings
    "upkeep after a push": (_config("receive.autogc", "true"), "receive.autogc is true"),
    "upkeep by default": (_config("--unset", "receive.autogc"), "receive.autogc is not set"),
    "objects that git checks": (_config("transfer.fsckObjects", "1"), "transfer.fsckobjects is 1"),
    "a limit": (_config("receive.maxInputSize", "1m"), "receive.maxinputsize is 1m"),
    "hidden refs": (_config("transfer.hideRefs", "refs/x"), "transfer.hiderefs is refs/x"),
    "signed pushes": (_config("receive.certNonceSeed", "x"), "receive.certnonceseed is x"),
    "what nobody knows yet": (_config("receive.x", "y"), "receive.x is y"),
    "proc-receive for the ledger": (
        _config("--add", "receive.procReceiveRefs", "refs/coordledger"),
        "receive.procreceiverefs is refs/coordledger",
    ),
    "a program for borrowed objects": (
        _config("core.alternateRefsCommand", "x"),
        "core.alternaterefscommand is x",
    ),
    "reflogs of all": (_config("core.logAllRefUpdates", "always"), "core.logallrefupdates is alw"),
    "refs kept in another way": (_config("extensions.refStorage", "x"), "extensions.refstorage"),
    "a shared repository": (_config("core.sharedRepository", "group"), "core.sharedrepository"),
    "settings of the user's": (_user("[receive]\nfsckObjects = true\n"), "receive.fsckobjects is"),
    "settings in another file": (_user("[include]\npath = x\n"), "includes other files"),
    # files
    "borrowed objects": (_file("objects/info/alternates"), "there is objects/info/alternates"),
    "grafts": (_file("info/grafts"), "there is info/grafts"),
    "a shallow repository": (_file("shallow"), "there is shallow"),
    "a part of another one": (_file("commondir"), "there is commondir"),
    "a reftable": (_file("reftable"), "there is reftable"),
    "a ledger that is checked out": (_file("HEAD", f"ref: {LEDGER_REF}\n", 0o644), "HEAD is a led"),
    # whose it is
    "a hook that others may write": (_mode("hooks/pre-receive", 0o775), "others may write"),
    "settings that others may write": (_mode("config", 0o664), "others may write"),
    "refs that others may write": (_mode("refs/coordledger", 0o777), "others may write"),
    "a repository that others may write": (_mode("", 0o775), "others may write"),
}

HARMLESS = {
    "as it was founded": lambda fleet: None,
    "a user's own settings": _user("[core]\neditor = x\nhooksPath = ~/h\n[user]\nname = x\n"),
    "more settings": _config("receive.denyDeletes", "true"),
    "a sample": _file("hooks/update.sample"),
    "a link that leads there": lambda fleet: (fleet.root / "link").symlink_to(fleet.remote),
}


@pytest.fixture
def served(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet whose user has a configuration."""
    fleet.env = fleet.env | {"GIT_CONFIG_GLOBAL": str(fleet.root / "user.gitconfig")}
    return fleet


@pytest.mark.parametrize("case", AGAINST)
def test_what_a_push_would_start_or_ask_stands_against_it(fleet: Fleet, case: str) -> None:
    """Also if it comes while the process lives: what was found before does not hold then."""
    make, why = AGAINST[case]
    fleet.env = fleet.env | {"GIT_CONFIG_GLOBAL": str(fleet.root / "user.gitconfig")}
    receiver = receiver_of(fleet)
    assert receiver.why_not(patient()) == ""
    make(fleet)
    assert why in receiver.why_not(patient())
    assert why in receiver_of(fleet).why_not(patient())


@pytest.mark.parametrize("case", HARMLESS)
def test_what_changes_no_push_does_not(fleet: Fleet, case: str) -> None:
    fleet.env = fleet.env | {"GIT_CONFIG_GLOBAL": str(fleet.root / "user.gitconfig")}
    HARMLESS[case](fleet)
    assert receiver_of(fleet).why_not(patient()) == ""


def test_what_stood_against_it_is_gone_again(fleet: Fleet) -> None:
    receiver, hook = receiver_of(fleet), fleet.remote / "hooks/update"
    hook.touch()
    assert receiver.why_not(patient())
    hook.unlink()
    assert receiver.why_not(patient()) == ""


def test_settings_behind_a_link_are_looked_at_when_they_change(fleet: Fleet) -> None:
    """Many keep the files of their home in a repository, and links to them there."""
    user, kept = fleet.root / "user.gitconfig", fleet.root / "kept"
    kept.touch()
    user.symlink_to(kept)
    fleet.env = fleet.env | {"GIT_CONFIG_GLOBAL": str(user)}
    receiver = receiver_of(fleet)
    assert receiver.why_not(patient()) == ""
    kept.write_text("[receive]\nfsckObjects = true\n")
    assert "receive.fsckobjects" in receiver.why_not(patient())


def test_a_variable_that_only_git_config_reads_hides_no_setting(fleet: Fleet) -> None:
    """`git receive-pack` would go by the repository's own."""
    other = fleet.root / "other.gitconfig"
    other.write_text("[core]\nbare = true\n[receive]\nautogc = false\n")
    fleet.git("config", "receive.fsckObjects", "true")
    fleet.env = fleet.env | {"GIT_CONFIG": str(other)}
    assert "receive.fsckobjects" in receiver_of(fleet).why_not(patient())


def test_git_is_asked_once_as_long_as_nothing_changes(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, asked = receiver_of(fleet), []
    begin = Git.begin

    def counted(git: Git, *args: str, **kw: str | None) -> None:
        asked.append(args)
        begin(git, *args, **kw)

    monkeypatch.setattr(Git, "begin", counted)
    for number in range(3):
        assert receiver.why_not(patient()) == ""
        (fleet.remote / f"refs/heads/x{number}").write_text(f"{fleet.head()}\n")
        (fleet.remote / f"objects/{number}{number}").mkdir(exist_ok=True)
    assert len(asked) == 1


def test_what_was_found_out_ahead_does_not_hold_for_what_changed_since(fleet: Fleet) -> None:
    receiver = receiver_of(fleet)
    receiver.ask(patient())
    fleet.git("config", "receive.fsckObjects", "true")
    assert "receive.fsckobjects" in receiver.why_not(patient())


def test_a_question_that_nobody_wants_answered_leaves_no_program(fleet: Fleet) -> None:
    receiver, before = receiver_of(fleet), _children()
    receiver.ask(patient())
    assert _children() > before
    receiver.close()
    assert _children() <= before  # another test's may have ended
    assert receiver.why_not(patient()) == ""


def _children() -> set[str]:
    """The programs that this process has started, and has not waited for."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


def test_a_version_that_has_been_replaced_takes_no_part(fleet: Fleet) -> None:
    loaded = files.facts(coordledger.__file__)
    assert loaded
    before = (*loaded[:-1], loaded[-1] - 1)
    receiver = Receiver(str(fleet.remote), "main", fleet.env, before)
    assert "updated since" in receiver.why_not(patient())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "coordledger", "config", "hooks/pre-receive", "objects"])
def test_what_is_another_accounts_is_pushed_to(fleet: Fleet, name: str) -> None:
    """Root, too, does there what a push does, and git says whether it trusts the owner."""
    shutil.chown(fleet.remote / name, 65534)
    assert "another account's" in receiver_of(fleet).why_not(patient())


def test_where_it_may_not_be_the_same_command_pushes(fleet: Fleet, tmp_path: Path) -> None:
    told = tmp_path / "told"
    hook = fleet.remote / "hooks/post-receive"
    environ = fleet.env | {"COORDLEDGER_DIRECT": "on"}
    alice = fleet.ledger("alice", environ=environ)
    assert alice.claim("a").won
    assert alice.status().writes == "direct"
    hook.write_text(f"#!/bin/sh\ncat >>{told}\n")
    hook.chmod(0o755)
    assert alice.claim("b").won
    found = alice.status()
    assert (found.writes, found.pushes_because) == ("push", "there is a hook post-receive")
    assert told.read_text().endswith(f"{fleet.head()} {LEDGER_REF}\n")
    hook.unlink()
    assert alice.claim("c").won
    assert told.read_text().count("\n") == 1
