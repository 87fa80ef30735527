"""Installing the hooks: what is switched on, what is kept, what is told."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain
from support.sequencing import switch

from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.git.process import Git
from coordledger.server.shims import shim
from coordledger.setup import hooks
from coordledger.setup.hooks import install_hook, takes_sequenced

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet


def test_installing_the_hook_compiles_it(shared_fleet: Fleet, tmp_path: Path) -> None:
    """The account that runs it may have no right to."""
    package = tmp_path / "coordledger"
    shutil.copytree(Path(hooks.__file__).parent.parent, package, ignore=lambda *_: ["__pycache__"])
    for name in ("pre-receive", "proc-receive"):
        shutil.copy(shim(name), package)
    shared_fleet.git("init", "--quiet", "--bare", tmp_path / "r.git")

    def install() -> str:
        argv = [sys.executable, "-B", "-m", "coordledger", "hook", "install", "r.git"]
        ran = plain(*argv, cwd=tmp_path, env=shared_fleet.env | {"PYTHONPATH": str(tmp_path)})
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode()

    assert "compiles" not in install()
    assert len(list(package.glob("server/__pycache__/pre_receive.*.pyc"))) == 1
    shutil.rmtree(package / "server/__pycache__")
    (package / "server/__pycache__").touch()
    assert f"-m compileall {package}" in install()


@pytest.mark.parametrize("borrows", [False, True])
def test_pushes_do_not_list_the_refs_of_what_the_quarantine_borrows_from(
    shared_fleet: Fleet, tmp_path: Path, borrows: bool
) -> None:
    bare = tmp_path / "r.git"
    shared_fleet.git("init", "--quiet", "--bare", bare)
    if borrows:
        (bare / "objects/info/alternates").write_text(f"{shared_fleet.remote}/objects\n")
    done = install_hook(bare, Git(shared_fleet.env, tmp_path, Deadline(30)))
    assert ("set core.alternateRefsCommand=true" in done) is not borrows


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_others_are_kept_out_of_the_folder_of_secrets(
    shared_fleet: Fleet, tmp_path: Path, mode: int
) -> None:
    bare = tmp_path / "r.git"
    shared_fleet.git("init", "--quiet", "--bare", bare)
    secrets = bare / "coordledger"
    secrets.mkdir()
    secrets.chmod(mode)
    done = install_hook(bare, Git(shared_fleet.env, tmp_path, Deadline(30)))
    assert f"chmod 700 {secrets}" in done
    assert secrets.stat().st_mode & 0o777 == 0o700


# -- sequencing


def test_it_is_on_until_it_is_switched_off_and_then_off_until_it_is_switched_on(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet(sequence=True)
    remote, hook = fleet.remote, fleet.remote / "hooks/proc-receive"

    def named() -> list[str]:
        asked = ("git", "config", "--get-all", "receive.procReceiveRefs")
        return plain(*asked, cwd=remote, env=fleet.env).stdout.decode().split()

    assert named() == ["refs/for/coordledger"]  # as `init` has left it
    fleet.git("config", "--add", "receive.procReceiveRefs", "refs/for/else")
    switch(fleet, sequence=False)
    for sequence in (False, None):
        said = switch(fleet, sequence=sequence)
        assert not any("equence" in line or "proc-receive" in line for line in said)
        assert (named(), hook.exists()) == (["refs/for/else"], False)
    # Its owner works there, too, where that is a setting like others.
    assert "unknown" not in fleet.run("doctor", agent="alice", cwd=remote, check=0).stdout
    for sequence in (True, None):
        switch(fleet, sequence=sequence)
        assert named() == ["refs/for/else", "refs/for/coordledger"]
    hook.write_text(hook.read_text().replace("python=", "python=/gone"))
    assert any("proc-receive" in line for line in switch(fleet, sequence=None))
    assert "/gone" not in hook.read_text()
    assert len(named()) == 2


@pytest.mark.parametrize("name", ["update", "proc-receive"])
def test_a_hook_that_would_not_run_keeps_it_off_unless_it_is_asked_for(
    fleet: Fleet, tmp_path: Path, name: str
) -> None:
    bare = tmp_path / "other.git"
    fleet.git("init", "--quiet", "--bare", bare)
    (bare / "hooks" / name).write_text("#!/bin/sh\n")
    git = Git(fleet.env, tmp_path, Deadline(30))
    [said] = [line for line in install_hook(bare, git) if "equence" in line]
    assert said.startswith("not sequenced: ")
    assert name in said
    assert not takes_sequenced(bare, git)
    if name == "proc-receive":  # git runs one alone
        with pytest.raises(Failed, match="git runs only one"):
            install_hook(bare, git, sequence=True)
    else:
        install_hook(bare, git, sequence=True)
        hook = bare / "hooks/proc-receive"
        hook.write_text(f"{hook.read_text()}# of an older version\n")
        assert not any("not sequenced" in line for line in install_hook(bare, git))
        assert "older" not in hook.read_text()  # on as its owner has asked, and brought up to date
        assert takes_sequenced(bare, git)


def test_anothers_proc_receive_hook_is_not_touched(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks/proc-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Failed, match="git runs only one") as refused:
        switch(fleet, sequence=True)
    assert refused.value.code == "bad-value"
    switch(fleet, sequence=False)
    assert hook.read_text() == "#!/bin/sh\nexit 1\n"


def test_a_git_that_is_too_old_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    old = tmp_path / "bin/git"
    old.parent.mkdir()
    real = plain("sh", "-c", "command -v git", cwd=tmp_path, env=fleet.env).stdout.decode().strip()
    old.write_text(
        '#!/bin/sh\ncase " $* " in\n*" version "*) echo git version 2.28.1 ;;\n'
        f'*) exec {real} "$@" ;;\nesac\n'
    )
    old.chmod(0o755)
    path = {"PATH": f"{old.parent}:{fleet.env['PATH']}"}
    ran = fleet.run("hook", "install", fleet.remote, "--sequence", env=path, check=1)
    assert "2.28.1 knows no proc-receive hook" in ran.stderr
    assert not (fleet.remote / "hooks/proc-receive").exists()
