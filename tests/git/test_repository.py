"""A repository's objects and refs, beside what git says of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordledger.deadline import Deadline
from coordledger.errors import Failed, Integrity
from coordledger.git import refs
from coordledger.git.process import Git
from coordledger.git.repository import MANY, Repository
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordledger.git.tree import Objects

REF, OTHER = "refs/coordledger/main", "refs/coordledger/other"


class Sample:
    """A bare repository, for git and as a `Store`."""

    def __init__(self, path: Path, env: dict[str, str], algo: str) -> None:
        self.path, self.env, self.algo = path, env, algo
        self.git("init", "--quiet", "--bare", f"--object-format={algo}", str(path), at=path.parent)
        self.store = Repository.open(Git(env, path, Deadline(20)), path)

    def git(self, *argv: str, at: Path | None = None) -> str:
        ran = subprocess.run(
            ["git", *argv], cwd=at or self.path, env=self.env, check=True, capture_output=True
        )
        return ran.stdout.decode().strip()

    def blobs(self, first: int, count: int) -> Objects:
        contents = [b"%d " % n * 400 for n in range(first, first + count)]
        return {object_id("blob", c, self.algo): ("blob", c) for c in contents}

    def commit(self, message: str) -> str:
        who = {
            f"GIT_{role}_{what}": "x"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        tree = self.git("mktree", "--missing", "-z")
        self.env = self.env | who
        return self.git("commit-tree", "-m", message, tree)


@pytest.fixture(params=["sha1", "sha256"])
def here(request: pytest.FixtureRequest, tmp_path: Path, env: dict[str, str]) -> Iterator[Sample]:
    made = Sample(tmp_path / "here.git", env, request.param)
    yield made
    made.store.close()


@pytest.mark.parametrize("count", [1, MANY, MANY + 1], ids=["one", "few", "many"])
def test_git_has_what_was_written_and_it_is_read_back(here: Sample, count: int) -> None:
    objects = here.blobs(0, count)
    here.store.write(objects)
    here.store.write(objects)
    for oid, (kind, content) in objects.items():
        assert here.store.read(oid) == content
        assert here.git("cat-file", "-t", oid) == kind
    assert here.git("fsck", "--strict").count("dangling blob") == count
    assert here.git("count-objects", "-v").startswith(f"count: {count if count <= MANY else 0}\n")
    assert not list(here.path.glob("objects/*/tmp_*"))


def test_what_is_read_ahead_is_what_is_there(here: Sample) -> None:
    objects = here.blobs(0, 600)
    loose = here.blobs(600, 3)
    for some in (objects, loose):
        here.store.write(some)
    absent = next(iter(here.blobs(700, 1)))
    bad, *_ = loose
    path = here.path / "objects" / bad[:2] / bad[2:]
    path.chmod(0o600)
    path.write_bytes(b"nonsense")
    here.store.read_ahead([absent, *objects, *loose])
    for oid, (_, content) in (objects | loose).items():
        if oid != bad:
            assert here.store.read(oid) == content
            assert here.store.read(oid) == content  # and again, when it is not at hand any more
    with pytest.raises(KeyError):
        here.store.read(absent)
    with pytest.raises(Integrity, match=bad[:12]):
        here.store.read(bad)


def test_what_is_read_ahead_is_hashed_as_well(here: Sample) -> None:
    """What git gives from a pack of somebody's is not always what the id says."""
    one, other = here.blobs(0, 2).items()
    here.store.write(dict([one, other]))
    here.store.read_ahead([one[0]])
    here.store._ahead[one[0]] = (one[0], *other[1])
    with pytest.raises(Integrity, match=one[0][:12]):
        here.store.read(one[0])


def test_a_pack_of_objects_is_git_s(here: Sample) -> None:
    objects = here.blobs(0, 9) | {object_id("tree", b"", here.algo): ("tree", b"")}
    pack = here.store.pack(objects)
    subprocess.run(
        ["git", "index-pack", "--stdin", "--strict"],
        cwd=here.path,
        env=here.env,
        input=pack,
        check=True,
        capture_output=True,
    )
    assert all(here.store.read(oid) == content for oid, (_, content) in objects.items())


def test_what_is_packed_or_borrowed_or_comes_later_is_found(here: Sample, tmp_path: Path) -> None:
    neighbour = Sample(tmp_path / "next.git", here.env, here.algo)
    (here.path / "objects/info/alternates").write_text(f"{neighbour.path}/objects\n")
    packed, borrowed, later = here.blobs(0, 1), here.blobs(1, 1), here.blobs(2, MANY + 1)
    neighbour.store.write(borrowed)
    for oid in packed:
        assert not here.store.has(oid)
        with pytest.raises(KeyError):
            here.store.read(oid)
        here.store.write(packed)
        here.git("update-ref", "refs/tags/x", oid)
    here.git("repack", "-a", "-d", "-q")
    for objects in (packed, borrowed, later):
        here.store.write(later)  # as one pack, behind the back of whoever reads
        for oid, (_, content) in objects.items():
            assert here.store.read(oid) == content
    for odd in ("", "x" * len(oid), oid.upper(), oid[:-1], "HEAD", "../../HEAD"):
        assert not here.store.has(odd)


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "another"])
def test_a_damaged_object_is_named_and_no_other_suffers(
    here: Sample, content: bytes | None
) -> None:
    objects = here.blobs(0, 3)
    here.store.write(objects)
    bad, good, other = objects
    place, there = (here.path / "objects" / oid[:2] / oid[2:] for oid in (bad, other))
    place.chmod(0o600)
    place.write_bytes(there.read_bytes() if content is None else content)
    with pytest.raises(Integrity, match=bad[:12]) as damaged:
        here.store.read(bad)
    assert damaged.value.code == "bad-copy"
    assert here.store.has(bad)
    assert here.store.read(good) == objects[good][1]


def test_what_is_borrowed_has_to_be_what_its_id_says(here: Sample, tmp_path: Path) -> None:
    neighbour = Sample(tmp_path / "next.git", here.env, here.algo)
    (here.path / "objects/info/alternates").write_text(f"{neighbour.path}/objects\n")
    objects = here.blobs(0, 2)
    neighbour.store.write(objects)
    bad, good = ((neighbour.path / "objects" / oid[:2] / oid[2:]) for oid in objects)
    bad.chmod(0o600)
    bad.write_bytes(good.read_bytes())
    with pytest.raises(Integrity):
        here.store.read(next(iter(objects)))


def test_a_ref_is_set_read_and_removed_whatever_its_form(here: Sample) -> None:
    store = here.store
    one, two = here.commit("one"), here.commit("two")
    assert store.ref(REF) is None
    store.set_ref(REF, None)
    store.set_ref(REF, one)
    assert (store.ref(REF), here.git("rev-parse", REF)) == (one, one)
    here.git("pack-refs", "--all")
    assert store.ref(REF) == one
    store.set_ref(REF, two)
    assert (store.ref(REF), here.git("rev-parse", REF)) == (two, two)
    store.set_ref(REF, None)
    assert (store.ref(REF), here.git("for-each-ref")) == (None, "")
    here.git("symbolic-ref", REF, OTHER)
    assert store.ref(REF) is None
    store.set_ref(REF, one)
    assert (here.git("rev-parse", OTHER), here.git("symbolic-ref", REF)) == (one, OTHER)
    assert store.ref(REF) == one
    store.set_ref(REF, None)
    assert here.git("rev-parse", OTHER) == one
    (here.path / OTHER).write_text("")  # as a power cut may leave it
    store.set_ref(OTHER, two)
    assert here.git("rev-parse", OTHER) == two
    assert store.add_ref(REF, one)
    assert not store.add_ref(REF, two)
    assert store.ref(REF) == one


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("to", ["one", "two", None])
def test_the_lock_of_a_dead_process_is_waited_for_and_broken(
    here: Sample, monkeypatch: pytest.MonkeyPatch, to: str | None, packed: bool
) -> None:
    monkeypatch.setattr(refs, "LOCK_SECONDS", 0.2)
    new = here.commit(to) if to else None
    here.store.set_ref(REF, here.commit("one"))
    if packed:
        here.git("pack-refs", "--all")
    lock = here.path / f"{REF}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("")
    start = time.monotonic()
    here.store.set_ref(REF, new)
    assert time.monotonic() - start > 0.2
    assert here.store.ref(REF) == new
    assert not lock.exists()
    here.store.set_ref(REF, None)
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("")
    here.store.set_ref(REF, None)
    assert not lock.exists()


def test_what_is_no_repository_of_a_known_form_is_refused(
    here: Sample, tmp_path: Path, env: dict[str, str]
) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(Failed) as refused:
            Repository.open(Git(env, path, Deadline(20)), path)
        return refused.value.code

    assert refusal(tmp_path) == "not-a-repository"
    here.git("config", "core.repositoryFormatVersion", "1")
    here.git("config", "extensions.fromTheFuture", "true")
    assert refusal(here.path) == "object-format"


def test_a_linked_work_tree_shares_objects_and_refs(here: Sample, tmp_path: Path) -> None:
    one = here.commit("one")
    here.git("update-ref", "refs/heads/main", one)
    here.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"), one)
    store = Repository.open(Git(here.env, tmp_path / "linked", Deadline(20)))
    assert (store.common_dir, store.root) == (here.store.git_dir, tmp_path / "linked")
    assert store.git_dir.parent == here.path / "worktrees"
    objects = here.blobs(0, 1)
    store.write(objects)
    store.set_ref(REF, one)
    assert all(map(here.store.has, objects))
    assert here.git("rev-parse", REF) == one
    store.close()


def test_a_reader_that_was_killed_is_started_again(here: Sample) -> None:
    objects = here.blobs(0, MANY + 1)
    here.store.write(objects)
    first, second, *_ = objects
    assert here.store.read(first) == objects[first][1]
    reader = here.store._reader
    assert reader
    assert reader._git
    os.kill(reader._git._pid, signal.SIGKILL)
    assert here.store.read(second) == objects[second][1]
    assert not here.store.has("0" * len(first))


def test_a_terminal_s_interrupt_is_not_for_the_reader(here: Sample) -> None:
    objects = here.blobs(0, MANY + 1)
    here.store.write(objects)
    here.store.read(next(iter(objects)))
    assert here.store._reader
    assert here.store._reader._git
    assert os.getpgid(here.store._reader._git._pid) != os.getpgid(0)


def test_what_a_promisor_has_is_not_here_and_nobody_is_asked(here: Sample, tmp_path: Path) -> None:
    here.git("config", "core.repositoryFormatVersion", "1")
    here.git("config", "extensions.partialClone", "origin")
    here.git("config", "remote.origin.promisor", "true")
    theirs = Sample(tmp_path / "theirs.git", here.env, here.algo)
    theirs.git("config", "uploadpack.allowAnySHA1InWant", "true")
    here.git("config", "remote.origin.url", str(theirs.path))
    theirs.store.write(here.blobs(0, 1))
    oid = next(iter(here.blobs(0, 1)))
    assert not here.store.has(oid)
    with pytest.raises(KeyError):
        here.store.read(oid)


def test_where_nobody_may_wait_for_children_nothing_fails(here: Sample) -> None:
    objects = here.blobs(0, MANY + 1)
    here.store.write(objects)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        here.store.read(next(iter(objects)))
        here.store.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_path_may_be_any_bytes(tmp_path: Path, env: dict[str, str]) -> None:
    folder = os.fsencode(tmp_path) + b"/jos\xe9 \xc2\x85\xe2\x80\xa8"
    os.mkdir(folder)  # noqa: PTH102
    made = Sample(Path(os.fsdecode(folder)) / "here.git", env, "sha1")
    assert made.store.git_dir.is_dir()
    made.store.set_ref(REF, made.commit("one"))
    assert made.store.ref(REF)
    made.store.close()


def test_a_named_folder_s_work_tree_is_the_configured_one(
    tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["git", "init", "-q", "work"], cwd=tmp_path, env=env, check=True)
    folder = tmp_path / "work/.git"

    def root() -> Path | None:
        store = Repository.open(Git(env, tmp_path, Deadline(20)), folder)
        store.close()
        return store.root

    assert root() == tmp_path / "work"
    argv = ["git", "config", "core.worktree", str(tmp_path / "elsewhere")]
    subprocess.run(argv, cwd=tmp_path / "work", env=env, check=True)
    assert root() == tmp_path / "elsewhere"
