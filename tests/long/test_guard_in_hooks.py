"""`guard` where git and pre-commit call it: hooks as the page has them, real commits and pushes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import pages
from support.reserved_site import change, git, reserved_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
PAGE = pages.text("docs/guard.md")
LINE = re.compile(
    r"coordledger: (\S+) is reserved by alice/desk for auth until \d\d:\d\d:\d\dZ \(in \d+ min\)"
)


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """`coordledger` is a program there, as it is installed."""
    fleet = reserved_site(founded("bob"))
    programs = tmp_path_factory.mktemp("programs")
    (programs / "coordledger").write_text(f'#!/bin/sh\nexec {sys.executable} -m coordledger "$@"\n')
    (programs / "coordledger").chmod(0o755)
    fleet.env["PATH"] = f"{programs}:{fleet.env['PATH']}"
    return fleet


@pytest.fixture
def clone(site: Fleet) -> Iterator[Path]:
    """bob's, without hooks before and after."""
    yield site.clone("bob")
    shutil.rmtree(site.clone("bob") / ".git" / "hooks", ignore_errors=True)
    site.git("reset", "-q", "--hard", "origin/main", cwd=site.clone("bob"))


@pytest.fixture
def hooked(clone: Path) -> Path:
    """bob's clone with the hooks of the page."""
    hooks = clone / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    scripts = re.findall(r"`\.git/hooks/(\S+)`.*?```sh\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in scripts] == ["pre-commit", "pre-push"]
    for name, script in scripts:
        (hooks / name).write_text(script)
        (hooks / name).chmod(0o755)
    return clone


def test_a_commit_of_what_others_have_reserved_is_refused_and_says_who_has_it(
    site: Fleet, hooked: Path
) -> None:
    change(hooked, "free.py")
    assert git(site, "commit", "-qam", "free") == (0, "")
    change(hooked, "README.md", "free.py")
    code, said = git(site, "commit", "-qam", "all of it")
    assert code == 1
    line, hint = said.splitlines()
    found = LINE.fullmatch(line)
    assert found
    assert found[1] == "README.md"
    assert hint.startswith("hint: to ask for it: coordledger send --to alice TEXT;")
    assert git(site, "commit", "-qm", "this file only", "free.py") == (0, "")
    git(site, "mv", "README.md", "READYOU.md")
    code, said = git(site, "commit", "-qm", "renamed")
    assert code == 1
    assert LINE.findall(said) == ["README.md"]


def test_the_pages_first_command_answers(site: Fleet, clone: Path) -> None:
    [command] = re.findall(r"```sh\n(coordledger .*?)\n```", PAGE)
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=clone,
        env=site.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (3, "")
    assert LINE.findall(ran.stderr) == ["src/auth/login.py"]


def test_in_a_linked_work_tree_git_names_the_repository_itself(site: Fleet, hooked: Path) -> None:
    other = site.root / "linked"
    site.git("worktree", "add", "-q", "-b", "linked", other, cwd=hooked)
    try:
        for name, expected in (("free.py", 0), ("src/auth/login.py", 1)):
            change(other, name)
            code, said = git(site, "-C", other, "commit", "-qam", "x")
            assert code == expected, said
        (other / "src" / "auth").mkdir(exist_ok=True)
        assert git(site, "-C", other / "src/auth", "commit", "-qam", "x")[0] == 1
        code, said = git(site, "-C", other, "push", "-q", "origin", "HEAD:refs/heads/linked")
        assert code == 0, said
    finally:
        site.git("worktree", "remove", "--force", other, cwd=hooked)
        site.git("branch", "-q", "-D", "linked", cwd=hooked)


def test_a_push_of_what_others_have_reserved_is_refused(site: Fleet, hooked: Path) -> None:
    change(hooked, "free.py")
    git(site, "commit", "-qam", "free")
    assert git(site, "push", "-q", "origin", "HEAD:refs/heads/bob") == (0, "")
    change(hooked, "src/auth/login.py", "README.md")
    git(site, "commit", "-qam", "theirs", "--no-verify")
    code, said = git(site, "push", "-q", "origin", "HEAD:refs/heads/bob", "HEAD:refs/heads/new")
    assert code == 1
    assert LINE.findall(said) == ["README.md", "src/auth/login.py"]
    assert said.count("hint:") == 1
    assert git(site, "push", "-q", "origin", ":refs/heads/bob") == (0, "")
    assert git(site, "push", "-q", site.remote, "HEAD:refs/heads/url")[0] == 1
    holder = {"COORDLEDGER_AGENT": "alice", "COORDLEDGER_SESSION": "desk"}
    assert git(site, "push", "-q", "origin", "HEAD:refs/heads/x", env=holder) == (0, "")


def test_the_hooks_for_pre_commit_refuse_the_same(site: Fleet, clone: Path, tmp_path: Path) -> None:
    """The real framework, with the installed program in the place of one that it would install."""
    hooks = tmp_path / "hooks"
    site.git("init", "-q", hooks)
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", hooks)
    who = ("-c", "user.name=x", "-c", "user.email=x@y")
    site.git("add", "-A", cwd=hooks)
    site.git(*who, "commit", "-qm", "x", cwd=hooks)
    rev = site.git("rev-parse", "HEAD", cwd=hooks).strip()
    written = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    config = re.sub("repo: .*", f"repo: {hooks}", written).replace("v1.0.0rc1", rev)
    config = re.sub(r"( +)- id: \S+", r"\g<0>\n\1  language: system", config)
    (clone / ".pre-commit-config.yaml").write_text(config)
    (clone / ".git" / "info" / "exclude").write_text(".pre-commit-config.yaml\n")
    env = site.env | {"PRE_COMMIT_HOME": str(tmp_path / "cache")}
    install = re.findall(r"`pre-commit (install .*?)`", PAGE)[0].split()
    command = [sys.executable, "-m", "pre_commit", *install]
    subprocess.run(command, cwd=clone, env=env, capture_output=True, check=True, timeout=60)
    change(clone, "free.py")
    assert git(site, "commit", "-qam", "free", env=env)[0] == 0
    assert git(site, "push", "-q", "origin", "HEAD:refs/heads/pc", env=env)[0] == 0
    (clone / "README.md").unlink()
    code, said = git(site, "commit", "-qam", "theirs", env=env)
    assert code == 1
    assert LINE.findall(said) == ["README.md"]
    site.git("commit", "-qam", "theirs", "--no-verify", cwd=clone)
    for ref in ("pc", "new"):
        code, said = git(site, "push", "-q", "origin", f"HEAD:refs/heads/{ref}", env=env)
        assert code == 1
        assert LINE.findall(said) == ["README.md"]
    assert git(site, "push", "-q", "origin", ":refs/heads/pc", env=env)[0] == 0
