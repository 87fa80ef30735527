"""A hook is tried before a server is said to enforce: every way in which it can be mute."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain

from coordledger.deadline import Deadline
from coordledger.git.process import Git
from coordledger.setup.hooks import install_hook
from coordledger.setup.trying import try_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet


@pytest.fixture
def git(shared_fleet: Fleet, tmp_path: Path) -> Git:
    return Git(shared_fleet.env, tmp_path, Deadline(30))


@pytest.fixture
def bare(shared_fleet: Fleet, tmp_path: Path, git: Git) -> Path:
    path = tmp_path / "r.git"
    shared_fleet.git("init", "--quiet", "--bare", path)
    install_hook(path, git)
    return path


def refs(fleet: Fleet, bare: Path) -> str:
    return fleet.git("for-each-ref", cwd=bare)


@pytest.mark.parametrize("how", ["fresh", "with a ledger"])
def test_a_hook_that_runs_has_the_last_word_and_nothing_is_left(
    shared_fleet: Fleet, bare: Path, git: Git, how: str
) -> None:
    path = bare if how == "fresh" else shared_fleet.remote
    before = refs(shared_fleet, path)
    assert try_hook(path, git) == ("server", "", "")
    assert refs(shared_fleet, path) == before


def not_executable(bare: Path) -> None:
    (bare / "hooks/pre-receive").chmod(0o644)


def hooks_path_elsewhere(bare: Path) -> None:
    argv = ["git", "-C", str(bare), "config", "core.hooksPath", "/nowhere"]
    subprocess.run(argv, check=True)


def without_python(bare: Path) -> None:
    hook = bare / "hooks/pre-receive"
    lines = hook.read_text().splitlines(keepends=True)
    hook.write_text("".join("python=/nowhere\n" if "python=" in one[:7] else one for one in lines))


def somebody_elses(bare: Path) -> None:
    (bare / "hooks/pre-receive").write_text("#!/bin/sh\nexit 0\n")


def another_refuses_first(bare: Path) -> None:
    (bare / "hooks/pre-receive.chained").write_text("#!/bin/sh\nexit 1\n")
    (bare / "hooks/pre-receive.chained").chmod(0o755)


def without_shell(bare: Path) -> None:
    hook = bare / "hooks/pre-receive"
    hook.write_text(hook.read_text().replace("#!/bin/sh", "#!/nowhere/sh", 1))


MUTE: dict[Callable[[Path], None], tuple[str, str, str]] = {
    not_executable: ("none", "is not executable", "chmod +x "),
    hooks_path_elsewhere: ("none", "no hook at /nowhere", "coordledger hook install "),
    somebody_elses: ("none", "is not coordledger's", "coordledger hook install "),
    without_python: ("unknown", "the hook refuses every push: ", "coordledger hook install "),
    without_shell: ("unknown", "the hook was not heard: ", "push to it by hand"),
    another_refuses_first: ("unknown", "the hook was not heard: ", "pre-receive.chained"),
}


@pytest.mark.parametrize("spoil", MUTE, ids=lambda spoil: spoil.__name__)
def test_a_hook_that_does_not_answer_is_not_called_enforcement(
    shared_fleet: Fleet, bare: Path, git: Git, spoil: Callable[[Path], None]
) -> None:
    spoil(bare)
    enforcement, why, do = MUTE[spoil]
    tried = try_hook(bare, git)
    assert tried.enforcement == enforcement
    assert why in tried.why
    assert do in tried.do
    assert refs(shared_fleet, bare) == ""


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "noexec"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only who may mount has a file system without exec")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_file_system_without_exec_init_and_hook_install_say_so(
    shared_fleet: Fleet, noexec: Path
) -> None:
    ran = shared_fleet.run("init", "r.git", "--agent", "alice", cwd=noexec)
    assert "enforcement  none: " in ran.stdout
    assert "is mounted noexec" in ran.stdout
    assert "hint: mount it with exec" in ran.stderr
    argv = [*ran.args[:3], "hook", "install", "r.git", "--json"]
    again = plain(*argv, cwd=noexec, env=shared_fleet.env)
    assert (again.returncode, b'"hook-not-run"' in again.stdout) == (1, True)
