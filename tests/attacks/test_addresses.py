"""A folder that somebody has committed never takes a remote's place, whatever its name is.

Rules: the trap is a whole repository with the ledger in it, whose configuration and hooks
name commands; ssh leads to the real server, and writes down what it was asked.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.attacker import opened
from support.fleet import LEDGER_REF, OWNER

from coordledger.client import secrets
from coordledger.client.config import Options
from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.setup import doctor, joining

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger

SCP = {
    "host and path": "host:ledger.git",
    "with a user": "git@host:ledger.git",
    "nested": "host:team/ledger.git",
    "nested, with a user": "git@host:team/ledger.git",
    "a port in brackets": "[host]:ledger.git",
    "ssh's scheme": "ssh://host/~/ledger.git",
    "a host named file": "file:ledger.git",
}
UNREACHABLE = {
    "a helper": "nothing::ledger.git",
    "http": "http://127.0.0.1:9/ledger.git",
    "an unknown scheme": "nothing://host/ledger.git",
    "git's own protocol": "git://127.0.0.1:9/ledger.git",
}
HOOKS = ("pre-receive", "update", "post-receive", "post-update", "proc-receive")


class Trap:
    """A clone of bob's with a hostile folder in its work tree."""

    def __init__(self, fleet: Fleet, path: Path) -> None:
        self.fleet, self.path = fleet, path
        self.canary, self.asked = path.with_name("canary"), path.with_name("asked")
        self.env = fleet.env | self._ssh()
        shutil.copytree(fleet.clone("bob"), path, symlinks=True)
        self._folders: list[Path] = []

    def _ssh(self) -> dict[str, str]:
        """An ssh that leads to the real server, whose home has it, alone and below `team`."""
        home, script = self.path.with_name("server"), self.path.with_name("ssh")
        (home / "team").mkdir(parents=True)
        for link in (home / "ledger.git", home / "team/ledger.git"):
            link.symlink_to(self.fleet.remote)
        script.write_text(
            f'#!/bin/sh\nshift\necho "$*" >> {self.asked}\ncd {home}\nHOME=$PWD exec sh -c "$*"\n'
        )
        script.chmod(0o755)
        return {"GIT_SSH_COMMAND": str(script), "GIT_SSH_VARIANT": "simple"}

    def plant(self, name: str) -> Path:
        """The hostile folder of that name at the work tree's top."""
        folder = self.path / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.fleet.remote, folder)
        spring = folder / "spring"
        spring.write_text(f'#!/bin/sh\n: > {self.canary}\n[ "$1" = aborted ]\n')
        spring.chmod(0o755)
        for hook in HOOKS:
            (folder / "hooks" / hook).unlink(missing_ok=True)
            shutil.copy(spring, folder / "hooks" / hook)
        settings = {
            "core.sshCommand": spring,
            "core.fsmonitor": spring,
            "core.pager": spring,
            "core.editor": spring,
            "core.hooksPath": folder / "hooks",
            "core.alternateRefsCommand": spring,
            "uploadpack.packObjectsHook": spring,
            "receive.procReceiveRefs": "refs",
            "alias.upload-pack": f"!{spring}",
            "gc.auto": "1",
        }
        for key, value in settings.items():
            self.fleet.git("config", key, str(value), cwd=folder)
        (folder / "objects/info/alternates").write_text(f"{self.fleet.remote}/objects\n")
        self._folders.append(folder)
        return folder

    def configure(self, **settings: str) -> None:
        for key, value in settings.items():
            self.fleet.git("config", key, value, cwd=self.path)

    def url_of_origin(self, url: str) -> None:
        self.fleet.git("remote", "set-url", "origin", url, cwd=self.path)

    def ledger(self, **kw: object) -> Ledger:
        environ: Mapping[str, str] = kw.pop("environ", self.env)  # type: ignore[assignment]
        return opened(self.fleet, self.path, "bob", environ=environ, **kw)  # type: ignore[arg-type]

    def run(self, *argv: str, code: int | None = 0) -> str:
        """What the command prints; it is started in the work tree."""
        ran = self.fleet.run(*argv, cwd=self.path, env=self.env, check=code)
        return ran.stdout + ran.stderr

    def need_unsprung(self, *, asked: bool = True) -> None:
        """Nothing ran, nothing arrived in the hostile folders, and the server was asked."""
        assert not self.canary.exists()
        real = self.fleet.git("rev-list", LEDGER_REF).split()
        for folder in self._folders:
            assert self.fleet.git("rev-parse", LEDGER_REF, cwd=folder).strip() in real
        assert self.asked.exists() is asked


@pytest.fixture
def trap(shared_fleet: Fleet, tmp_path: Path) -> Trap:
    return Trap(shared_fleet, tmp_path / "work")


def by_name(trap: Trap, url: str) -> Ledger:
    trap.url_of_origin(url)
    return trap.ledger()


def by_option(trap: Trap, url: str) -> Ledger:
    return trap.ledger(remote=url)


def by_environment(trap: Trap, url: str) -> Ledger:
    return trap.ledger(environ=trap.env | {"COORDLEDGER_REMOTE": url})


def by_configuration(trap: Trap, url: str) -> Ledger:
    trap.configure(**{"coordledger.remote": url})
    return trap.ledger()


def by_rule(trap: Trap, url: str) -> Ledger:
    trap.configure(**{f"url.{url[:5]}.insteadOf": "short/"})
    return trap.ledger(remote=f"short/{url[5:]}")


def by_rule_of_a_remote(trap: Trap, url: str) -> Ledger:
    trap.configure(**{f"url.{url[:5]}.insteadOf": "x:"})
    return by_name(trap, f"x:{url[5:]}")


WAYS = [by_name, by_option, by_environment, by_configuration, by_rule, by_rule_of_a_remote]


def test_the_trap_springs_when_somebody_pushes_there(trap: Trap) -> None:
    folder = trap.plant("git@host:ledger.git")
    there = f"./{folder.name}"
    with pytest.raises(AssertionError):  # it refuses, too
        trap.fleet.git("push", "--quiet", there, f"{LEDGER_REF}:refs/heads/x", cwd=trap.path)
    assert trap.canary.exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("url", SCP.values(), ids=SCP)
def test_a_folder_named_like_the_url_is_not_the_remote(
    trap: Trap, url: str, way: Callable[[Trap, str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    trap.plant(url)
    monkeypatch.chdir(trap.path)
    ledger = way(trap, url)
    assert ledger.connection.settings.remote.folder is None
    assert ledger.connection.settings.remote.url == url
    task = trap.path.parent.name
    assert ledger.claim(task).won
    assert trap.fleet.ledger("carol").show(task).agent == "bob"
    trap.need_unsprung()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("url", UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_folder_named_like_a_url_that_leads_nowhere_is_not_opened(
    trap: Trap, url: str, way: Callable[[Trap, str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    trap.plant(url)
    monkeypatch.chdir(trap.path)
    ledger = way(trap, url)
    with pytest.raises(Failed) as failed:
        ledger.claim("nowhere")
    assert failed.value.code == "remote-unreachable"
    trap.need_unsprung(asked=False)


@pytest.mark.parametrize("url", SCP.values(), ids=SCP)
def test_commands_in_a_work_tree_go_to_the_server(trap: Trap, url: str) -> None:
    trap.plant(url)
    trap.url_of_origin(url)
    found = trap.run("join", url, "--agent", "bob")
    assert f"at           {url}" in found
    trap.run("join", url, "--agent", "bob", "--reset", "--yes")
    trap.run("list")
    trap.run("audit")
    said = trap.run("doctor", code=None)
    assert "server's files" not in said
    trap.need_unsprung()


def test_a_ledger_is_not_founded_in_a_folder_named_like_the_url(trap: Trap) -> None:
    trap.plant("git@host:ledger.git")
    options = ("init", "git@host:ledger.git", "--agent", OWNER, "--ledger", "second")
    trap.run(*options, code=None)
    assert not (trap.path / "git@host:ledger.git/refs/coordledger/second").exists()
    trap.need_unsprung()


# -- names


@pytest.mark.parametrize("name", ["team/x", "team:x", "a.b/c", "ssh://host/x", "./x"])
def test_a_remotes_name_comes_before_a_folder(
    trap: Trap, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap.plant(name)
    monkeypatch.chdir(trap.path)
    trap.configure(**{f"remote.{name}.url": "git@host:ledger.git"})
    task = trap.path.parent.name
    assert trap.ledger(remote=name).claim(task).won
    assert trap.fleet.ledger("carol").show(task).agent == "bob"
    trap.run("--remote", name, "list")
    trap.need_unsprung()


@pytest.mark.parametrize("url", ["git@host:ledger.git", "{remote}", "file://{remote}"])
def test_a_remote_with_a_slash_in_its_name_is_joined_claimed_at_and_examined(
    trap: Trap, url: str
) -> None:
    url = url.format(remote=trap.fleet.remote)
    trap.plant("team/x")
    trap.fleet.git("remote", "add", "team/x", url, cwd=trap.path)
    assert "key          ready" in trap.run("join", "team/x", "--agent", "bob")
    assert trap.fleet.git("config", "coordledger.remote", cwd=trap.path) == "team/x\n"
    task = trap.path.parent.name
    trap.run("claim", task)
    assert trap.fleet.ledger("carol").show(task).agent == "bob"
    checks = doctor.examine(Options(path=trap.path, agent="bob"), trap.env)
    assert {check.name for check in checks if check.ok is False} == set()
    assert ("server's files" in {check.name for check in checks}) == ("@" not in url)
    trap.need_unsprung(asked="@" in url)


@pytest.mark.parametrize("name", ["origin", "ledger.git", "elsewhere"])
def test_a_word_that_is_no_remotes_name_is_no_folder(
    trap: Trap, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody has removed the remote that a clone has joined."""
    trap.plant(name)
    trap.fleet.git("remote", "remove", "origin", cwd=trap.path)
    monkeypatch.chdir(trap.path)
    with pytest.raises(Failed) as failed:
        trap.ledger(remote=name)
    assert failed.value.code == "no-remote"
    with pytest.raises(Failed) as failed:
        joining.join(Options(path=trap.path, agent="bob"), trap.env, name)
    assert failed.value.code == "no-remote"
    with pytest.raises(Failed):
        trap.ledger(remote=name, offline=True).claim("x")
    trap.need_unsprung(asked=False)


def by_the_environment(trap: Trap, name: str) -> dict[str, str]:
    return {"COORDLEDGER_REMOTE": name}


def by_the_configuration(trap: Trap, name: str) -> dict[str, str]:
    trap.configure(**{"coordledger.remote": name})
    return {}


@pytest.mark.parametrize("way", [by_the_environment, by_the_configuration])
@pytest.mark.parametrize("name", ["team/x", ".hidden/x", "...", "a/../b"])
def test_a_remembered_name_is_no_folder_where_the_remote_is_missing(
    trap: Trap, way: Callable[[Trap, str], dict[str, str]], name: str
) -> None:
    """As where somebody has removed that remote, or in a clone that never had it."""
    (trap.path / "a").mkdir()
    trap.plant(name)
    environ = trap.env | way(trap, name)
    with pytest.raises(Failed) as failed:
        trap.ledger(environ=environ)
    assert failed.value.code == "no-remote"
    trap.need_unsprung(asked=False)
    name = f"./{name}"
    environ = trap.env | way(trap, name)
    assert trap.ledger(environ=environ).connection.settings.remote.folder


@pytest.mark.parametrize("name", ["origin", "team/x"])
def test_a_ledger_is_not_founded_in_a_folder_named_like_a_remote(trap: Trap, name: str) -> None:
    folder = trap.plant(name)
    trap.configure(**{f"remote.{name}.url": "git@host:ledger.git"})
    options = ("--agent", OWNER, "--ledger", "second")
    assert f"./{name}" in trap.run("init", name, *options, code=1)
    assert not (folder / "refs/coordledger/second").exists()
    trap.need_unsprung(asked=False)


def test_an_empty_url_is_not_the_work_tree(trap: Trap) -> None:
    trap.configure(**{"remote.origin.url": ""})
    with pytest.raises(Failed) as failed:
        trap.ledger()
    assert failed.value.code == "no-remote"


# -- what is looked up beside the remote


@pytest.mark.parametrize("way", WAYS)
def test_no_master_and_no_line_comes_from_a_folder_named_like_the_url(
    trap: Trap, way: Callable[[Trap, str], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trap.path)
    url = "git@host:ledger.git"
    before = way(trap, url).connection.line().folder
    assert (trap.plant(url) / "coordledger/master").exists()
    ledger = way(trap, url)
    assert secrets.masters(ledger.connection.settings, None) == []
    assert ledger.connection.line().folder == before


@pytest.mark.parametrize("allowed", [None, "ssh:file"], ids=["", "protocols allowed"])
@pytest.mark.parametrize("url", ["git@host:ledger.git", "{remote}"])
def test_the_shared_copy_never_takes_the_remotes_name_for_a_folder(
    trap: Trap, tmp_path: Path, url: str, allowed: str | None
) -> None:
    """It sees the clone's common configuration, and not that of one work tree."""
    trap.plant("origin")
    url = url.format(remote=trap.fleet.remote)
    trap.configure(**{"extensions.worktreeConfig": "true"})
    trap.fleet.git("config", "--unset-all", "remote.origin.url", cwd=trap.path)
    for key in ("url", "pushurl"):
        trap.fleet.git("config", "--worktree", f"remote.origin.{key}", url, cwd=trap.path)
    ledger = trap.ledger(environ=trap.env | ({"GIT_ALLOW_PROTOCOL": allowed} if allowed else {}))
    assert ledger.claim(trap.path.parent.name).won
    with pytest.raises(Failed) as failed:
        ledger.connection._shared_copy(tmp_path / "copy", Deadline(20))
    assert failed.value.code == "bad-config"
    trap.need_unsprung(asked="@" in url)


@pytest.mark.parametrize(
    "rule",
    [
        {"url.elsewhere:.insteadOf": "host:"},
        {"url.elsewhere:.pushInsteadOf": "host:"},
        {"remote.origin.pushurl": "elsewhere:ledger.git"},
        {"remote.origin.url": "elsewhere:ledger.git"},
        {"remote.origin.receivepack": "elsewhere"},
        {"core.sshCommand": "elsewhere"},
    ],
    ids="".join,
)
def test_the_shared_copy_goes_the_clones_way_or_none(
    trap: Trap, tmp_path: Path, rule: dict[str, str]
) -> None:
    """A rule for one clone's place holds for no other repository."""
    trap.url_of_origin("host:ledger.git")
    trap.ledger().connection._shared_copy(tmp_path / "copy", Deadline(20))
    here = tmp_path / "gitconfig"
    for key, value in rule.items():
        trap.fleet.git("config", "--file", here.with_name("rule"), key, value)
    trap.fleet.git("config", "--file", here, f"includeIf.gitdir:{trap.path}/.path", "rule")
    env = {name: value for name, value in trap.env.items() if name != "GIT_CONFIG_NOSYSTEM"}
    ledger = trap.ledger(environ=env | {"GIT_CONFIG_GLOBAL": str(here)})
    with pytest.raises(Failed) as failed:
        ledger.connection._shared_copy(tmp_path / "copy", Deadline(20))
    assert failed.value.code == "bad-config"


# -- what is a path is one


def test_a_path_that_was_typed_is_that_path(trap: Trap, tmp_path: Path) -> None:
    """As with git: a folder of the work tree is a remote for whoever names it as a path."""
    inside = trap.path / "sub/copy.git"
    trap.fleet.git("clone", "--quiet", "--mirror", trap.fleet.remote, inside)
    elsewhere = trap.path / "sub"
    for typed in ("./copy.git", "../sub/copy.git", f"file://{inside}", str(inside)):
        options = Options(path=elsewhere, agent="bob")
        joined = joining.join(options, trap.env, typed)
        assert joined.remote == (typed if "://" in typed else str(inside))
    assert trap.ledger(remote="sub/copy.git").connection.settings.remote.folder == str(inside)
    assert trap.ledger(remote="./sub/copy.git").head() == trap.ledger().head()
