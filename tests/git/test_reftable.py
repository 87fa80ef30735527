"""Repositories that keep their refs in tables, as git does from 2.45 on where it is told to.

Ours keep them as files, whatever the user's default is; the users' own work on both sides.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF, OWNER, Fleet
from support.sequencing import switch
from support.serve_process import serving

from coordledger.deadline import Deadline
from coordledger.git.process import Git
from coordledger.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

GIT = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.strip()
pytestmark = pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", GIT)[:2])) < (2, 45), reason=f"{GIT} has no reftable"
)
REF = "refs/coordledger/main"
DEFAULTS = {
    "the environment": {"GIT_DEFAULT_REF_FORMAT": "reftable"},
    "the configuration": {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "init.defaultRefFormat",
        "GIT_CONFIG_VALUE_0": "reftable",
    },
}


def has_tables(path: Path) -> bool:
    return (path / "reftable").exists()


# -- one repository


@pytest.fixture
def tables(tmp_path: Path, env: dict[str, str]) -> Repository:
    path = tmp_path / "tables.git"
    git = Git(env, tmp_path, Deadline(20))
    git.output("init", "--quiet", "--bare", "--ref-format=reftable", str(path))
    return Repository.open(git, path)


def commit(repository: Repository, message: str) -> str:
    who = {
        f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    here = f"--git-dir={repository.git_dir}"
    tree = repository.git.run(here, "mktree", stdin="").out.strip()
    return repository.git.run(here, "commit-tree", "-m", message, tree, **who).out.strip()


def test_refs_are_read_and_moved_as_git_sees_them(tables: Repository) -> None:
    one, two = commit(tables, "one"), commit(tables, "two")
    assert tables.ref(REF) is None
    tables.set_ref(REF, None)  # as it is
    tables.set_ref(REF, one)
    assert tables.ref(REF) == one
    tables.set_ref(REF, two)
    assert tables.git.output(f"--git-dir={tables.git_dir}", "rev-parse", REF).strip() == two
    assert tables.ref("refs/coordledger") is None  # which others begin with
    tables.set_ref(REF, None)
    assert tables.ref(REF) is None


def test_a_ref_is_added_once(tables: Repository) -> None:
    one, two = commit(tables, "one"), commit(tables, "two")
    assert tables.add_ref(REF, one)
    assert not tables.add_ref(REF, two)
    assert not tables.add_ref(REF, one)
    assert tables.ref(REF) == one


# -- ours


@pytest.mark.parametrize("how", DEFAULTS)
def test_repositories_that_we_make_keep_refs_as_files(
    tmp_path: Path, fleet: Fleet, how: str
) -> None:
    default = DEFAULTS[how]
    server = tmp_path / "new.git"
    fleet.run("init", server, "--as", OWNER, env=default, check=0)
    assert not has_tables(server)
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    remote = ("--as", OWNER, "--remote", fleet.remote)
    fleet.run(*remote, "claim", "task-1", cwd=nowhere, env=default, check=0)
    caches = Path(fleet.env["XDG_CACHE_HOME"])
    made = [head.parent for head in caches.rglob("HEAD")]
    assert made
    assert not any(map(has_tables, made))


# -- theirs


@pytest.fixture(params=["the clones", "the server", "both"])
def mixed(request: pytest.FixtureRequest, tmp_path: Path, env: dict[str, str]) -> Iterator[Fleet]:
    """Alice's ledger and her clone, and bob's; who is named keeps refs in tables."""
    root = tmp_path / "fleet"
    server, clones = root / "ledger.git", "files" if request.param == "the server" else "reftable"
    form = "files" if request.param == "the clones" else "reftable"
    root.mkdir()
    subprocess.run(
        ["git", "init", "--quiet", "--bare", f"--ref-format={form}", server], env=env, check=True
    )
    fleet = Fleet(root, env | {"GIT_DEFAULT_REF_FORMAT": clones})
    assert has_tables(server) is (form == "reftable")
    for agent in (OWNER, "bob"):
        assert has_tables(fleet.clone(agent) / ".git") is (clones == "reftable")
    fleet.enroll("bob")
    yield fleet
    fleet.close()


@pytest.mark.parametrize("way", ["direct", "sequenced", "served"])
def test_an_agent_works_whichever_side_keeps_its_refs_in_tables(mixed: Fleet, way: str) -> None:
    switch(mixed, sequence=way != "direct")
    with serving(mixed) if way == "served" else nullcontext():
        mixed.run("claim", "task-1", agent="bob", check=0)
        mixed.run("claim", "task-1", agent=OWNER, check=3)
        mixed.run("renew", "task-1", agent="bob", check=0)
        mixed.run("claim", "task-2", agent=OWNER, check=0)
        mixed.git("pack-refs", "--all", cwd=mixed.remote)
        mixed.git("gc", "--quiet", cwd=mixed.clone("bob"))
        mixed.run("complete", "task-1", agent="bob", check=0)
        mixed.run("audit", "--full", agent=OWNER, check=0)
    assert "status   done" in mixed.run("show", "task-1", agent=OWNER, check=0).stdout
    head = mixed.git("for-each-ref", "--format=%(objectname)", LEDGER_REF, cwd=mixed.remote)
    for agent in (OWNER, "bob"):
        mixed.run("list", agent=agent, check=0)
        assert mixed.ledger(agent).head().commit == head.strip()


def test_the_server_refuses_what_is_no_record(mixed: Fleet) -> None:
    bob = mixed.clone("bob")
    who = ("-c", "user.name=bob", "-c", "user.email=bob")
    mixed.git(*who, "commit", "--quiet", "--allow-empty", "-m", "forged", cwd=bob)
    before = mixed.git("for-each-ref", cwd=mixed.remote)
    for forced in (f"+HEAD:{LEDGER_REF}", f":{LEDGER_REF}"):
        pushed = subprocess.run(
            ["git", "push", "origin", forced],
            check=False,
            cwd=bob,
            env=mixed.env,
            capture_output=True,
            text=True,
        )
        assert pushed.returncode == 1
        assert "coordledger: refused" in pushed.stderr
    assert mixed.git("for-each-ref", cwd=mixed.remote) == before


def test_worktrees_and_doctor_work_too(mixed: Fleet) -> None:
    bob = mixed.clone("bob")
    who = ("-c", "user.name=bob", "-c", "user.email=bob")
    mixed.git(*who, "commit", "--quiet", "--allow-empty", "-m", "code", cwd=bob)
    mixed.git("worktree", "add", "--quiet", mixed.root / "second", cwd=bob)
    mixed.run("--as", "bob", "claim", "task-1", cwd=mixed.root / "second", check=0)
    mixed.run("doctor", agent="bob", check=0)
    mixed.run("doctor", cwd=mixed.remote, check=0)


def test_a_fence_holds_where_refs_are_in_tables(mixed: Fleet) -> None:
    """There git moves all refs of a transaction at once."""
    bob, main = mixed.clone("bob"), "refs/heads/main"
    mixed.run("hook", "install", mixed.remote, "--fence", main, check=0)
    who = ("-c", "user.name=bob", "-c", "user.email=bob")
    for number in range(2):
        mixed.git(*who, "commit", "--quiet", "--allow-empty", "-m", f"{number}", cwd=bob)
        ran = subprocess.run(
            ["git", "push", "origin", f"HEAD:{main}"],
            check=False,
            cwd=bob,
            env=mixed.env,
            capture_output=True,
            text=True,
        )
        assert "fenced: refs/heads/main is fenced" in ran.stderr
        mixed.run("claim", f"task-{number}", agent="bob", check=0)
        mixed.run("push", "origin", f"HEAD:{main}", "--complete", agent="bob", check=0)
        new = mixed.git("rev-parse", "HEAD", cwd=bob)
        assert mixed.git("rev-parse", main, cwd=mixed.remote) == new
        mixed.git("pack-refs", "--all", cwd=mixed.remote)
    mixed.run("claim", "task-2", agent="bob", check=0)
    mixed.run("push", "origin", f":{main}", "--complete", agent="bob", check=0)
    assert not mixed.git("for-each-ref", main, cwd=mixed.remote)
    mixed.run("doctor", cwd=mixed.remote, check=0)
