"""Objects and refs read from their files: the same answers as git's, and git where in doubt."""

from __future__ import annotations

import hashlib
import os
import posix
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import plain

from coordledger.errors import RuleBroken
from coordledger.git import cat_file, loose
from coordledger.git.cat_file import CatFile
from coordledger.git.loose import Reader
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable

REF = "refs/coordledger/main"


class Repository:
    def __init__(self, path: Path, env: dict[str, str], *options: str) -> None:
        self.path, self.env = path, env | {"GIT_DIR": str(path)}
        self.objects = path / "objects"
        plain("git", "init", "--quiet", "--bare", *options, path, cwd=path.parent, env=env)
        who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in _WHAT}
        self.env |= who
        self.blob = self.git("hash-object", "-w", "--stdin", data=b"hello")
        self.page = self.git("hash-object", "-w", "--stdin", data=os.urandom(300_000))
        self.empty = self.git("hash-object", "-w", "--stdin")
        listed = f"100644 blob {self.blob}\ta\n100644 blob {self.page}\tb\n"
        self.tree = self.git("mktree", data=listed.encode())
        self.commit = self.git("commit-tree", "-m", "x", self.tree)
        self.git("update-ref", REF, self.commit)

    def git(self, *args: str, data: bytes = b"") -> str:
        ran = plain("git", *args, cwd=self.path, env=self.env, data=data)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode().strip()

    @property
    def all(self) -> list[str]:
        return [self.blob, self.page, self.empty, self.tree, self.commit, REF]

    def file(self, oid: str) -> Path:
        path = self.objects / oid[:2] / oid[2:]
        path.chmod(0o644)
        return path


_WHAT = ("NAME", "EMAIL")


@pytest.fixture
def repository(tmp_path: Path, env: dict[str, str]) -> Repository:
    return Repository(tmp_path / "r.git", env)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What git was asked for."""
    names: list[str] = []
    real = CatFile.find

    def find(self: CatFile, name: str, limit: int = cat_file.MAX_OBJECT) -> Any:
        names.append(name)
        return real(self, name, limit)

    monkeypatch.setattr(CatFile, "find", find)
    return names


def answers(environ: dict[str, str], names: list[str], limit: int = cat_file.MAX_OBJECT) -> Any:
    """What both readers say; they have to agree."""

    def of(objects: Reader | CatFile) -> list[Any]:
        said: list[Any] = []
        for name in names:
            try:
                said.append(objects.find(name, limit))
            except RuleBroken as broken:
                said.append((broken.code, str(broken)))
        return said

    with CatFile(environ) as git:
        expected = of(git)
    with Reader(environ) as ours:
        assert of(ours) == expected
    return expected


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",)], ids=["sha1", "sha256"])
def test_what_is_loose_is_read_without_git(
    tmp_path: Path, env: dict[str, str], options: tuple[str, ...], asked: list[str]
) -> None:
    repository = Repository(tmp_path / "x.git", env, *options)
    found = answers(repository.env, repository.all)
    assert [kind for _, kind, _ in found] == ["blob", "blob", "blob", "tree", "commit", "commit"]
    assert len(asked) == len(found)  # by the first of the two readers


def _pack(r: Repository) -> None:
    r.git("repack", "-a", "-d", "-q")
    r.git("prune-packed")


def _pack_refs(r: Repository) -> None:
    r.git("pack-refs", "--all")


def _symref(r: Repository) -> None:
    r.git("update-ref", "refs/coordledger/other", r.commit)
    r.git("symbolic-ref", REF, "refs/coordledger/other")


def _linked_ref(r: Repository) -> None:
    (r.path / REF).rename(r.path / "refs/coordledger/other")
    (r.path / REF).symlink_to(r.path / "refs/coordledger/other")


def _no_line_end(r: Repository) -> None:
    (r.path / REF).write_text(r.commit)


def _common_dir(r: Repository) -> None:
    r.env["GIT_COMMON_DIR"] = str(r.path)


def _away(r: Repository) -> Path:
    there = r.path.parent / 'the "other" store'
    there.mkdir()
    for folder in r.objects.iterdir():
        if len(folder.name) == 2:
            folder.rename(there / folder.name)
    return there


def _alternate(r: Repository) -> None:
    (r.objects / "info/alternates").write_text(f"{_away(r)}\n")


def _quoted(r: Repository) -> None:
    there = str(_away(r)).replace('"', '\\"')
    r.env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f'"{there}"'


@pytest.mark.parametrize(
    "change",
    [
        *(_pack, _pack_refs, _symref, _linked_ref, _no_line_end, _common_dir),
        *(_alternate, _quoted),
    ],
)
def test_what_has_not_the_plain_form_is_gits_to_read(
    repository: Repository, asked: list[str], change: Callable[[Repository], None]
) -> None:
    change(repository)
    found = answers(repository.env, repository.all)
    assert all(found)
    assert len(asked) > len(found)


@pytest.mark.parametrize("odd", ["reftable/x", "commondir"])
def test_a_worktrees_and_a_reftables_refs_are_gits_to_read(
    repository: Repository, asked: list[str], odd: str
) -> None:
    (repository.path / odd).parent.mkdir(exist_ok=True)
    (repository.path / odd).write_text(".\n")
    with Reader(repository.env) as objects:
        objects.find(REF)
    assert asked == [REF]


def test_the_folders_of_a_quarantine_are_searched_in_their_order(
    repository: Repository, asked: list[str]
) -> None:
    quarantine = repository.objects / "incoming"
    quarantine.mkdir()
    repository.env |= {
        "GIT_OBJECT_DIRECTORY": str(quarantine),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"/nowhere:{repository.objects}",
    }
    fresh = repository.git("hash-object", "-w", "--stdin", data=b"fresh")
    assert (quarantine / fresh[:2]).is_dir()
    assert all(answers(repository.env, [*repository.all, fresh]))
    assert len(asked) == 7


@pytest.mark.parametrize(
    "name",
    [
        "0" * 40,
        "refs/coordledger/none",
        "refs/heads/none",
        "../../config",
        "..",
        "a" * 39,
        "HEAD:x",
    ],
)
def test_what_is_not_there_is_not_found(repository: Repository, name: str) -> None:
    (repository.objects / "aa").mkdir(exist_ok=True)
    assert answers(repository.env, [name]) == [None]


def test_a_name_is_no_path(repository: Repository) -> None:
    """A commit of a stranger's names its parent: 40 characters, not all of them hexadecimal."""
    name = "../" + "x" * 37
    planted = repository.path / name[3:]  # objects/../xxx
    planted.write_bytes(repository.file(repository.blob).read_bytes())
    assert answers(repository.env, [name]) == [None]


@pytest.mark.parametrize("limit", [4, 5, 100, 299_999, 300_000])
def test_a_size_above_the_limit_is_refused_before_the_content_is_read(
    repository: Repository, limit: int, asked: list[str]
) -> None:
    for oid, size in ((repository.blob, 5), (repository.page, 300_000)):
        [said] = answers(repository.env, [oid], limit)
        assert said[0] == (oid if size <= limit else "too-large")
    assert len(asked) == 2


def test_a_bomb_is_not_inflated(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its header says 5 bytes, and far more follows."""
    inflated, make = [], zlib.decompressobj

    class Watched:
        def __init__(self) -> None:
            self.real = make()

        def decompress(self, data: bytes, most: int) -> bytes:
            assert most > 0
            found = self.real.decompress(data, most)
            inflated.append(len(found))
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    bomb = zlib.compressobj()
    data = bomb.compress(b"blob 5\0") + b"".join(bomb.compress(bytes(1 << 20)) for _ in range(8))
    repository.file(repository.blob).write_bytes(data + bomb.flush())
    monkeypatch.setattr(loose.zlib, "decompressobj", Watched)
    with Reader(repository.env) as objects, pytest.raises(RuleBroken) as refused:
        objects.find(repository.blob)
    assert refused.value.code == "bad-push"
    assert sum(inflated) < 100


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:-1],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "no zlib": lambda data: b"x" + data,
    "another kind": lambda data: zlib.compress(b"glob 5\0hello"),
    "no size": lambda data: zlib.compress(b"blob \0hello"),
    "a size that is too large": lambda data: zlib.compress(b"blob 6\0hello"),
    "a size that is too small": lambda data: zlib.compress(b"blob 4\0hello"),
    "a negative size": lambda data: zlib.compress(b"blob -5\0hello"),
    "no header": lambda data: zlib.compress(b"x" * 50),
    "nothing inside": lambda data: zlib.compress(b""),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_object_is_refused_as_git_does(repository: Repository, case: str) -> None:
    file = repository.file(repository.blob)
    file.write_bytes(DAMAGE[case](file.read_bytes()))
    with Reader(repository.env) as objects:
        try:
            assert objects.find(repository.blob) is None
        except RuleBroken as broken:
            assert broken.code == "bad-push"


def test_an_object_that_is_not_what_its_id_says_is_refused(repository: Repository) -> None:
    repository.file(repository.blob).write_bytes(zlib.compress(b"blob 5\0jello"))
    assert hashlib.sha1(b"blob 5\0jello").hexdigest() != repository.blob
    with Reader(repository.env) as objects, pytest.raises(RuleBroken) as refused:
        objects.find(repository.blob)
    assert refused.value.code == "bad-push"


@pytest.mark.parametrize("ask", ["find", "find_all"])
def test_what_is_left_of_a_refused_object_answers_no_later_question(
    repository: Repository, ask: str
) -> None:
    """The bytes are a pusher's: he would tell the server what its refs and objects are."""
    forged = b"%s commit 5\nlies!\n" % (b"e" * 40)
    large = repository.git("hash-object", "-w", "--stdin", data=forged * 200)
    repository.git("update-ref", "refs/tags/large", large)
    repository.git("repack", "-a", "-d", "-q")
    repository.git("pack-refs", "--all")
    with Reader(repository.env) as reader:
        with pytest.raises(RuleBroken, match="more than 1000"):
            if ask == "find":
                reader.find(large, 1000)
            else:
                reader.find_all([repository.blob, large, repository.tree], 1000)
        for name in (REF, repository.commit):
            found = reader.find(name)
            assert found
            assert found[:2] == (repository.commit, "commit")
    with CatFile(repository.env) as git:  # whoever does not close it hears nothing false either
        with pytest.raises(RuleBroken, match="more than 1000"):
            git.find(large, 1000)
        with pytest.raises(RuleBroken):
            git.find(repository.tree)


# -- what outlives a power cut


def test_objects_are_on_the_disk_before_they_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    sync, rename = posix.fsync, posix.rename

    def synced(fd: int) -> None:
        seen.append(("sync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        sync(fd)

    def renamed(old: str, new: str) -> None:
        seen.append((old, new))
        rename(old, new)

    monkeypatch.setattr(posix, "fsync", synced)
    monkeypatch.setattr(posix, "rename", renamed)
    tmp_path.chmod(0o2770)
    contents = [b"%d" % n * 5000 for n in range(3)]
    objects = {object_id("blob", content, "sha1"): ("blob", content) for content in contents}
    loose.write_durably(str(tmp_path), objects)
    for oid in objects:
        path = f"{tmp_path}/{oid[:2]}/{oid[2:]}"
        [at] = [n for n, (_, new) in enumerate(seen) if new == path]
        before, after = seen[:at], seen[at:]
        assert ("sync", seen[at][0]) in before
        assert ("sync", str(Path(path).parent)) in after
        assert ("sync", str(tmp_path)) in after
        # As git shares a repository among the users of a group.
        assert Path(path).stat().st_mode & 0o777 == 0o440
        assert Path(path).parent.stat().st_mode & 0o7777 == 0o2770
    seen.clear()
    loose.write_durably(str(tmp_path), objects)  # there already, maybe by somebody who did not sync
    assert {what for what, _ in seen} == {"sync"}
    assert len(seen) >= 2 * len(objects)
