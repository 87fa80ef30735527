"""Packs that are written into a repository, beside what git says of them."""

from __future__ import annotations

import posix
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordledger.git import pack
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from coordledger.git.tree import Objects


def git(*argv: str | Path, cwd: Path, env: dict[str, str], say: bytes = b"") -> bytes:
    ran = subprocess.run(
        ["git", *argv], cwd=cwd, env=env, input=say, check=True, capture_output=True
    )
    return ran.stdout


def blobs(contents: list[bytes], algo: str) -> Objects:
    return {object_id("blob", content, algo): ("blob", content) for content in contents}


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_git_reads_every_object_of_it_and_finds_no_fault(
    tmp_path: Path, env: dict[str, str], algo: str
) -> None:
    here = tmp_path / "here.git"
    git("init", "--quiet", "--bare", f"--object-format={algo}", here, cwd=tmp_path, env=env)
    contents = [b"", b"x", b"x" * 15, b"x" * 16, b"y" * 3000, b"z" * 300_000]
    contents += [b"%d" % n for n in range(600)]
    objects = blobs(contents, algo)
    keep = pack.write_durably(f"{here}/objects", objects, algo)
    [index] = (here / "objects/pack").glob("*.idx")
    assert keep == str(index.with_suffix(".keep"))
    assert git("verify-pack", "-v", index, cwd=here, env=env).count(b" blob ") == len(objects)
    said = git("cat-file", "--batch", cwd=here, env=env, say="\n".join(objects).encode())
    parts = [b"%s blob %d\n%s\n" % (o.encode(), len(c), c) for o, (_, c) in objects.items()]
    assert said == b"".join(parts)
    git("fsck", "--strict", cwd=here, env=env)


def test_it_is_on_the_disk_and_is_kept_before_git_can_see_it(
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

    folder = tmp_path / "objects"
    (folder / "pack").mkdir(parents=True)
    folder.chmod(0o2770)
    monkeypatch.setattr(posix, "fsync", synced)
    monkeypatch.setattr(posix, "rename", renamed)
    pack.write_durably(str(folder), blobs([b"x", b"y"], "sha1"), "sha1")
    moves = [(old, new) for old, new in seen if old != "sync"]
    assert [Path(new).suffix for _, new in moves] == [".keep", ".pack", ".idx"]
    for old, new in moves:
        assert seen.index(("sync", old)) < seen.index((old, new))
        assert Path(new).stat().st_mode & 0o777 == 0o440  # as git shares it among a group
    assert seen[-1] == ("sync", str(folder / "pack"))


def test_where_there_is_no_room_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pack").mkdir()
    rename = posix.rename

    def full(old: str, new: str) -> None:
        if new.endswith(".idx"):
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(posix, "rename", full)
    with pytest.raises(OSError, match="No space"):
        pack.write_durably(str(tmp_path), blobs([b"x"], "sha1"), "sha1")
    assert list((tmp_path / "pack").iterdir()) == []


def versions(count: int) -> list[bytes]:
    """A text that changes in one place each time, at its beginning and its end as well."""
    lines = [b"line %d of it, which is long enough\n" % n for n in range(80)]
    found = []
    for n in range(count):
        lines[(n * 37) % len(lines)] = b"changed for the %dth time\n" % n * (n % 3)
        found.append(b"".join(lines))
    return found


ODD = {
    "the same twice over": (b"abab" * 50, b"abab" * 51),
    "shorter": (b"x" * 400 + b"yz", b"x" * 399),
    "emptied": (b"something", b""),
    "out of nothing": (b"", b"something"),
    "one byte more than a step takes": (
        b"a" * 70_000 + b"b" * 70_000,
        b"a" * 70_000 + b"c" * 70_000,
    ),
    "new in the middle": (b"a" * 900 + b"b" * 900, b"a" * 900 + bytes(range(256)) + b"b" * 900),
    "much new": (b"a" * 10, b"b" * 4000),
}


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
@pytest.mark.parametrize("case", ["versions", *ODD])
def test_git_reads_what_differs_little_from_what_was_before(
    tmp_path: Path, env: dict[str, str], algo: str, case: str
) -> None:
    here = tmp_path / "here.git"
    git("init", "--quiet", "--bare", f"--object-format={algo}", here, cwd=tmp_path, env=env)
    contents = versions(60) if case == "versions" else list(ODD[case])
    objects = blobs(contents, algo)
    ids = list(objects)
    pack.write_durably(f"{here}/objects", objects, algo, dict(zip(ids[1:], ids, strict=False)))
    for oid, (_, content) in objects.items():
        assert git("cat-file", "blob", oid, cwd=here, env=env) == content
    git("fsck", "--strict", "--full", cwd=here, env=env)
    if case == "versions":
        [written] = (here / "objects/pack").glob("*.pack")
        assert written.stat().st_size < sum(map(len, contents)) / 20
        verified = git("verify-pack", "-v", str(written.with_suffix(".idx")), cwd=here, env=env)
        assert b"chain length = 16" in verified
        assert b"chain length = 17" not in verified
