"""What a commit or a push changes, asked of real repositories."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.format.names import CODELESS_PUSHES
from coordledger.git.changes import Update, pushed, staged, updates_in, updates_of
from coordledger.git.process import Git, child_environment
from coordledger.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

ZERO = "0" * 40


class Tree:
    """A work tree with a remote of the name origin."""

    def __init__(self, root: Path, env: dict[str, str], *form: str) -> None:
        self.env = env | dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "a")
        self.env |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "a@b")
        self.root, self.remote = root / "tree", root / "remote.git"
        root.mkdir(exist_ok=True)
        self.git("init", "-q", "--bare", *form, self.remote, cwd=root)
        self.git("init", "-q", "-b", "main", *form, self.root, cwd=root)
        self.git("remote", "add", "origin", self.remote)

    def git(self, *args: str | Path, cwd: Path | None = None) -> str:
        command = ["git", *map(str, args)]
        where = cwd or self.root
        ran = subprocess.run(command, cwd=where, env=self.env, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return os.fsdecode(ran.stdout).strip()

    def write(self, **files: str | None) -> None:
        for name, text in files.items():
            path = self.root / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text) if text is not None else path.unlink()
        self.git("add", "-A")

    def commit(self, **files: str | None) -> str:
        self.write(**files)
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    @property
    def repository(self) -> Repository:
        git = Git(child_environment(self.env), self.root, Deadline(20))
        return Repository.open(git)

    def pushed(self, *updates: tuple[str, str], remote: str | None = "origin") -> list[str]:
        return pushed(self.repository, [Update(*one) for one in updates], remote)


@pytest.fixture
def tree(tmp_path: Path, env: dict[str, str]) -> Tree:
    return Tree(tmp_path / "t", env)


# -- what is staged


def test_both_names_of_a_rename_and_whatever_was_removed_are_staged(tree: Tree) -> None:
    tree.write(a="1\n" * 50, b="2", c="3")
    assert staged(tree.repository) == ["a", "b", "c"]  # nothing is committed yet
    tree.commit()
    assert staged(tree.repository) == []
    tree.git("config", "diff.renames", "copies")
    tree.git("mv", "a", "z")
    tree.write(b=None)
    (tree.root / "unstaged").write_text("x")
    assert staged(tree.repository) == ["a", "b", "z"]


def test_names_are_whole_whatever_bytes_they_have(tree: Tree) -> None:
    odd = [b"line\nfeed", b'quo"te', b"\xff\xfe", "\u00e9".encode(), b" -x", b"tab\t"]
    for name in odd:
        with open(os.fsencode(tree.root) + b"/" + name, "w") as file:  # noqa: PTH123 - bytes
            file.write("x")
    tree.git("add", "-A")
    assert [os.fsencode(name) for name in staged(tree.repository)] == sorted(odd)
    commit = tree.commit()
    names = [os.fsencode(name) for name in tree.pushed((commit, ""))]
    assert sorted(names) == sorted(odd)


def test_users_own_settings_for_diffs_change_nothing(tree: Tree) -> None:
    tree.commit(a="1", sub__b="1")
    settings = {"diff.relative": "true", "diff.external": "false", "diff.noprefix": "true"}
    for name, value in (settings | {"color.ui": "always", "diff.submodule": "log"}).items():
        tree.git("config", name, value)
    tree.write(a="2", sub__b="2")
    assert staged(tree.repository) == ["a", "sub/b"]


def test_the_index_that_git_makes_ready_is_the_one_that_counts(tree: Tree) -> None:
    tree.commit(a="1", b="1")
    tree.write(b="2")
    (tree.root / "a").write_text("2")
    hook = tree.root / ".git/hooks/pre-commit"
    hook.write_text(
        f"#!/bin/sh\necho $GIT_INDEX_FILE > {tree.root}/.git/told\ncp $GIT_INDEX_FILE .git/kept\n"
    )
    hook.chmod(0o755)
    tree.git("commit", "-qm", "only a", "a")
    kept = (tree.root / ".git/told").read_text()
    assert "index" in kept
    tree.git("reset", "-q", "--soft", "HEAD~")
    assert staged(tree.repository, str(tree.root / ".git/kept")) == ["a"]


def test_of_a_merge_counts_what_it_has_from_neither_side(tree: Tree) -> None:
    tree.commit(mine="1", theirs="1", both="1\n2\n")
    tree.git("checkout", "-q", "-b", "other")
    tree.commit(theirs="2", both="1\n2\nother\n", new__x="1")
    tree.git("checkout", "-q", "main")
    tree.commit(mine="2", both="1\n2\nmain\n")
    merge = ["git", "merge", "-q", "other"]
    ran = subprocess.run(merge, cwd=tree.root, env=tree.env, capture_output=True, check=False)
    assert ran.returncode == 1
    tree.write(both="1\n2\nsolved\n")
    assert staged(tree.repository) == ["both"]


# -- what is pushed


def test_a_pushed_branch_changes_what_its_new_commits_have_changed(tree: Tree) -> None:
    first = tree.commit(a="1", b="1", c="1")
    assert tree.pushed((first, "")) == ["a", "b", "c"]  # the remote has nothing
    tree.git("push", "-q", "origin", "main")
    assert tree.pushed((first, first)) == []
    tree.commit(a="2", d="1")
    tree.git("mv", "c", "e")
    tip = tree.commit(d=None, b="2")
    assert tree.pushed((tip, first)) == ["a", "b", "c", "e"]  # d came and went
    assert tree.pushed((tip, "")) == ["a", "b", "c", "e"]  # as a new branch
    back = tree.commit(a="1", b="1")
    assert tree.pushed((back, first)) == ["c", "e"]


def test_what_others_have_pushed_and_was_merged_is_not_changed_by_the_merge(tree: Tree) -> None:
    first = tree.commit(mine="1", theirs="1", both="1\n2\n3\n4\n5\n")
    tree.git("checkout", "-q", "-b", "other")
    theirs = tree.commit(theirs="2", both="0\n1\n2\n3\n4\n5\n", from__them="x")
    tree.git("push", "-q", "origin", "main", "other")
    tree.git("checkout", "-q", "main")
    tree.commit(mine="2")
    tree.git("merge", "-q", "-m", "x", "other")
    tip = tree.git("rev-parse", "HEAD")
    assert tree.pushed((tip, first)) == ["mine"]
    tip = tree.commit(both="0\n1\n2\n3\n4\n5\n6\n", theirs=None)
    assert tree.pushed((tip, first)) == ["both", "mine", "theirs"]
    tree.git("push", "-q", "origin", f"{theirs}:refs/heads/main", "-f")
    assert tree.pushed((tip, theirs)) == ["both", "mine", "theirs"]


def test_deletions_tags_and_objects_that_are_no_commits_change_no_more_than_they_do(
    tree: Tree,
) -> None:
    first = tree.commit(a="1", b="1")
    tree.git("push", "-q", "origin", "main")
    tip = tree.commit(a="2")
    tree.git("tag", "-a", "-m", "x", "v1")
    tree.git("tag", "-a", "-m", "x", "v0", first)
    blob, folder = tree.git("rev-parse", "HEAD:a"), tree.git("rev-parse", "HEAD^{tree}")
    tag = tree.git("rev-parse", "v1")
    assert tag != tip
    assert tree.pushed((tag, "")) == ["a"]
    assert tree.pushed((tree.git("rev-parse", "v0"), "")) == []
    assert tree.pushed((blob, ""), (folder, "")) == []
    assert tree.pushed((first, tip)) == []  # a rewind


def test_a_remote_that_has_what_is_not_known_here_is_asked_for_what_is(tree: Tree) -> None:
    tree.commit(a="1", b="1")
    tree.git("push", "-q", "origin", "main")
    tip = tree.commit(a="2")
    assert tree.pushed((tip, "1" * 40)) == ["a"]
    assert tree.pushed((tip, ""), remote=None) == ["a"]
    for address in ("https://example.org/x?y=[1]", "../remote.git", "--all", "a b"):
        assert tree.pushed((tip, ""), remote=address) == ["a"]


def test_what_another_remote_has_is_new_to_this_one(tree: Tree) -> None:
    tree.commit(a="1", b="1")
    tree.git("push", "-q", "origin", "main")
    tip = tree.commit(a="2")
    tree.git("update-ref", "refs/remotes/fork/main", tip)
    assert tree.pushed((tip, "")) == ["a"]
    assert tree.pushed((tip, ""), remote="fork") == []


def test_histories_without_a_common_root_are_compared_as_a_whole(tree: Tree) -> None:
    tree.commit(a="1")
    tree.git("push", "-q", "origin", "main")
    tree.git("checkout", "-q", "--orphan", "pages")
    tip = tree.commit(a="1", page="1")
    assert tree.pushed((tip, "")) == ["a", "page"]


def test_a_repository_of_the_other_object_format_is_read_alike(
    tmp_path: Path, env: dict[str, str]
) -> None:
    tree = Tree(tmp_path / "t", env, "--object-format=sha256")
    tree.write(a="1")
    assert staged(tree.repository) == ["a"]
    first = tree.commit()
    tree.git("push", "-q", "origin", "main")
    line = f"refs/heads/main {tree.commit(b='1')} refs/heads/main {first}\n"
    assert pushed(tree.repository, updates_in(line.encode(), ()), "origin") == ["b"]


# -- git's own lines


def test_gits_lines_are_taken_apart() -> None:
    one, two = "1" * 40, "2" * 40
    told = (
        f"refs/heads/main {one} refs/heads/main {two}\n"
        f"HEAD~1 {one} refs/heads/new {ZERO}\n"
        f"(delete) {ZERO} refs/heads/old {two}\n"
        f"a b {two} refs/tags/x {ZERO}\n"
        f"refs/notes/x {one} refs/notes/x {ZERO}\n"
        f"refs/coordledger/main {one} refs/coordledger/main {two}\n"
    ).encode()
    assert updates_in(told, CODELESS_PUSHES) == [Update(one, two), Update(one, ""), Update(two, "")]
    assert updates_in(b"", CODELESS_PUSHES) == []
    assert updates_of("HEAD", "refs/heads/x", "", CODELESS_PUSHES) == [Update("HEAD", "")]


@pytest.mark.parametrize(
    "told",
    [
        b"x\n",
        b"a b c d\n",
        b"\xff\n",
        f"a {'1' * 40} refs/x\n".encode(),
        f"a {'1' * 40} b 2".encode(),
    ],
)
def test_what_git_does_not_say_is_refused(told: bytes) -> None:
    assert _refused(lambda: updates_in(told, CODELESS_PUSHES)) == "bad-value"


@pytest.mark.parametrize("new", ["", "--all"])
def test_what_is_no_name_of_an_object_is_refused(new: str) -> None:
    assert _refused(lambda: updates_of(new, "refs/heads/x", "", CODELESS_PUSHES)) == "bad-value"


def _refused(act: Callable[[], Iterable[Update]]) -> str:
    with pytest.raises(Failed) as caught:
        act()
    return caught.value.code
