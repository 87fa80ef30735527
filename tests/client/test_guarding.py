"""Which paths are somebody else's, asked of the local copy: names, holders, clocks, ages."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from coordledger import Failed, Guarded, Integrity, Ledger
from coordledger.deadline import unix_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet]) -> Fleet:
    """alice has reserved a folder, a file and one with odd letters; bob's clone knows of it."""
    fleet = founded("bob")
    alice = fleet.ledger("alice", "desk")
    alice.claim("auth", paths=["src/auth/", "README.md", "docs/a b\u00e9.md"], ttl=HOUR)
    alice.claim("deep", paths=["lib/x/y.py"], ttl=HOUR)
    fleet.ledger("bob").head()
    tree = fleet.clone("bob")
    for name in ("src/auth/login.py", "src/other.py", "lib/x/y.py", "README.md"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    return fleet


def asked(fleet: Fleet, *paths: str | Path, agent: str = "bob", **kw: object) -> list[str]:
    """The paths that are in the way, as they were given."""
    options = {"environ": fleet.env, "offline": True, "session": "s"} | kw
    with Ledger.open(fleet.clone("bob"), agent, **options) as ledger:  # type: ignore[arg-type]
        return [one.path for one in ledger.guard(paths).reserved]


def test_a_reserved_path_is_told_with_its_holder_task_and_end(site: Fleet) -> None:
    with Ledger.open(site.clone("bob"), "bob", environ=site.env, offline=True) as bob:
        found = bob.guard(["src/auth/login.py", "src/other.py"])
        [one] = found.reserved
        claim = bob.show("auth")
    assert (one.path, one.reserved, one.task) == ("src/auth/login.py", "src/auth/", "auth")
    assert (one.agent, one.session, one.expires_at) == ("alice", "desk", claim.expires_at)
    assert found.seq == claim.seq + 1
    assert timedelta(0) <= found.age < HOUR


@pytest.mark.parametrize(
    ("path", "reserved"),
    [
        ("README.md", True),
        ("README.md.orig", False),
        ("readme.md", False),
        ("src/auth", True),
        ("src/auth/", True),
        ("src/auth/deleted/long/ago.py", True),
        ("src/authentic.py", False),
        ("src", True),
        (".", True),
        ("", True),
        ("lib", True),
        ("lib/x/y.py/gone", True),
        ("lib/x/", True),
        ("lib/never/../x/y.py", True),
        ("../README.md", False),
        ("../bob/README.md", True),
        ("docs/a b\u00e9.md", True),
        ("docs/\udcff", False),
        ("src/auth/\udcff\n.py", True),
        ("README.md\0", False),
        ("/etc/passwd", False),
    ],
)
def test_paths_are_asked_for_by_their_names_in_the_work_tree(
    site: Fleet, path: str, reserved: bool
) -> None:
    assert set(asked(site, path)) == ({path} if reserved else set())
    if path and not path.startswith("/") and "\0" not in path:
        absolute = f"{site.clone('bob')}/{path}"
        assert set(asked(site, absolute)) == ({absolute} if reserved else set())


def test_one_path_stands_for_itself_and_many_are_sorted(site: Fleet) -> None:
    root = site.clone("bob")
    assert asked(site, "src", "README.md", "src/other.py", "README.md") == ["README.md", "src"]
    with Ledger.open(root, "bob", environ=site.env, offline=True) as bob:
        assert len(bob.guard("README.md").reserved) == 1
        assert len(bob.guard(root / "README.md").reserved) == 1
        assert [(one.path, one.task) for one in bob.guard(["."]).reserved] == [
            (".", "auth"),
            (".", "deep"),
        ]
        assert bob.guard([]).reserved == ()


def test_a_link_is_asked_for_by_itself_and_by_what_it_leads_to(site: Fleet, tmp_path: Path) -> None:
    root = site.clone("bob")
    (root / "shortcut").symlink_to("src/auth")
    (root / "one").symlink_to("README.md")
    (root / "loop").symlink_to("loop")
    (root / "src" / "auth" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in").symlink_to(root)
    try:
        for path in ("shortcut/login.py", "shortcut", "one", "src/auth/out"):
            assert asked(site, path) == [path]
        for name in ("README.md", "src/auth/out"):
            inside = tmp_path / "in" / name
            assert asked(site, inside) == [str(inside)]
        assert asked(site, "loop", tmp_path / "elsewhere") == []
        with Ledger.open(tmp_path / "in" / "src", "bob", environ=site.env, offline=True) as bob:
            assert len(bob.guard(["auth/login.py", "other.py"]).reserved) == 1
    finally:
        for link in (root / "shortcut", root / "one", root / "loop", root / "src/auth/out"):
            link.unlink()


def test_relative_paths_are_seen_from_where_the_ledger_was_opened(site: Fleet) -> None:
    with Ledger.open(site.clone("bob") / "src", "bob", environ=site.env, offline=True) as bob:
        assert [
            one.path for one in bob.guard(["auth/x", "src/auth/x", "../README.md"]).reserved
        ] == [
            "../README.md",
            "auth/x",
        ]


def test_where_git_folds_cases_one_file_has_one_answer(site: Fleet) -> None:
    root = site.clone("bob")
    site.git("config", "core.ignoreCase", "true", cwd=root)
    try:
        assert asked(site, "readme.MD", "SRC/Auth/x", "docs/A BE\u0301.md") == [
            "SRC/Auth/x",
            "docs/A BE\u0301.md",
            "readme.MD",
        ]
    finally:
        site.git("config", "--unset", "core.ignoreCase", cwd=root)


def test_ones_own_claim_is_not_in_the_way_but_another_sessions_is(site: Fleet) -> None:
    assert asked(site, "README.md", agent="alice", session="desk") == []
    assert asked(site, "README.md", agent="alice", session="laptop") == ["README.md"]


def test_who_is_nobody_holds_nothing(site: Fleet) -> None:
    root = site.clone("bob")
    before = site.git("config", "coordledger.agent", cwd=root).strip()
    site.git("config", "--unset", "coordledger.agent", cwd=root)
    try:
        with Ledger.open(root, environ=site.env, offline=True) as anybody:
            assert len(anybody.guard(["README.md"]).reserved) == 1
    finally:
        site.git("config", "coordledger.agent", before, cwd=root)


def test_a_reservation_counts_until_the_skew_after_the_leases_end(site: Fleet) -> None:
    with Ledger.open(site.clone("bob"), "bob", environ=site.env, offline=True) as bob:
        end = bob.show("auth").expires_at
        skew = timedelta(
            seconds=bob.connection.replica.position().state.ledger["policy"]["max_skew"]
        )
    assert end
    over = round((end + skew).timestamp() * 1000)
    assert asked(site, "README.md", clock=lambda: over - 1) == ["README.md"]
    assert asked(site, "README.md", clock=lambda: over) == []


def test_the_age_is_since_the_remote_was_last_seen_to_stand_there(site: Fleet) -> None:
    def age(at: int) -> timedelta:
        options = {"environ": site.env, "offline": True}
        with Ledger.open(site.clone("bob"), "bob", clock=lambda: at, **options) as bob:  # type: ignore[arg-type]
            found = bob.guard([])
            assert isinstance(found, Guarded)
            return found.age

    now = unix_ms()
    with Ledger.open(site.clone("bob"), "bob", environ=site.env, clock=lambda: now) as bob:
        bob.head()
        assert bob.guard([]).age == timedelta(0)
    assert age(now + 90_000) == timedelta(seconds=90)
    assert age(now - 90_000) == timedelta(0)  # a clock that was set back
    with Ledger.open(site.clone("bob"), "bob", environ=site.env, clock=lambda: now + 60_000) as bob:
        bob.tasks()  # nothing is new there
    assert age(now + 90_000) == timedelta(seconds=30)
    (site.clone("bob") / ".git/coordledger/main/looked").unlink()
    assert age(now + 90_000) < timedelta(seconds=180)  # by the head's own file


def test_nothing_is_fetched_even_where_the_copy_is_damaged(site: Fleet) -> None:
    root = site.root / "damaged"
    shutil.copytree(site.clone("bob"), root, symlinks=True)
    moved = site.remote.rename(site.root / "away.git")
    try:
        assert asked(site, "README.md") == ["README.md"]
        subprocess.run(["git", "update-ref", "-d", "refs/coordledger/main"], cwd=root, check=True)
        for folder in (root / ".git" / "objects").iterdir():
            shutil.rmtree(folder)
        with (
            Ledger.open(root, "bob", environ=site.env, offline=True) as bob,
            pytest.raises(Integrity) as caught,
        ):
            bob.guard(["README.md"])
        assert caught.value.code == "bad-copy"
    finally:
        moved.rename(site.remote)


def test_without_a_copy_there_is_no_answer(site: Fleet, tmp_path: Path) -> None:
    site.git("init", "-q", str(tmp_path / "new"))
    with (
        Ledger.open(tmp_path / "new", "bob", environ=site.env, offline=True) as bob,
        pytest.raises(Failed) as caught,
    ):
        bob.guard(["README.md"])
    assert caught.value.code == "not-joined"


def test_a_clone_that_cannot_be_written_answers_too(site: Fleet) -> None:
    folder = site.clone("bob") / ".git" / "coordledger" / "main"
    (folder / "looked").unlink(missing_ok=True)
    (folder / "looked").symlink_to(site.root / "planted")
    try:
        with Ledger.open(site.clone("bob"), "bob", environ=site.env) as bob:
            bob.head()
            assert len(bob.guard(["README.md"]).reserved) == 1
        assert not os.path.lexists(site.root / "planted")
    finally:
        (folder / "looked").unlink()
