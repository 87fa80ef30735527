"""In which files two commits differ: as git says it, without git; and no more than is asked for."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from coordledger.git.differences import Trees
from coordledger.git.loose import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAMES = ("a", "b", "a.c", "a-c", "a0", "\xe9", "x\n")
MODES = ("100644", "100755", "120000", "160000")


class Place:
    def __init__(self, path: Path, env: dict[str, str], form: str) -> None:
        self.path, self.env = path, env | {"GIT_DIR": str(path)}
        for name in ("AUTHOR", "COMMITTER"):
            self.env |= {f"GIT_{name}_NAME": "x", f"GIT_{name}_EMAIL": "x@example.com"}
        self.git("init", "-q", "--bare", f"--object-format={form}", path)
        self.blobs = [self.git("hash-object", "-w", "--stdin", stdin=text) for text in "12"]

    def git(self, *args: str | Path, stdin: str = "") -> str:
        ran = subprocess.run(
            ["git", *map(str, args)],
            env=self.env,
            cwd=self.path.parent,
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode().strip()

    def commit(self, files: dict[str, str]) -> str:
        index = str(self.path / "index")
        self.env["GIT_INDEX_FILE"] = index
        self.git("read-tree", "--empty")
        lines = "".join(f"{mode} {self.blobs[n % 2]}\t{name}\0" for name, mode, n in _rows(files))
        self.git("update-index", "-z", "--index-info", stdin=lines)
        return self.git("commit-tree", "-m", "x", self.git("write-tree"))

    def differing(self, old: str, new: str, *folders: str) -> list[str]:
        with Reader(self.env) as objects:
            trees = Trees(objects, 1_000_000)
            return sorted(
                trees.differing(old, new, lambda name: not folders or name.startswith(folders))
            )


def _rows(files: dict[str, str]) -> Iterable[tuple[str, str, int]]:
    return [(name, text.split()[0], int(text.split()[1])) for name, text in files.items()]


def some_files(rng: random.Random) -> dict[str, str]:
    """No file is a folder, too."""
    files: dict[str, str] = {}
    for _ in range(rng.randrange(12)):
        name = "/".join(rng.choices(NAMES, k=rng.randint(1, 3)))
        taken = any(
            f"{one}/".startswith(f"{name}/") or f"{name}/".startswith(f"{one}/") for one in files
        )
        if not taken:
            files[name] = f"{rng.choice(MODES)} {rng.randrange(2)}"
    return files


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_files_differ_where_git_says_so(tmp_path: Path, env: dict[str, str], form: str) -> None:
    place, rng = Place(tmp_path / "x.git", env, form), random.Random(form)
    for turn in range(8):
        old, new = place.commit(some_files(rng)), place.commit(some_files(rng))
        if turn == 4:
            for oid in (old, new):
                place.git("update-ref", f"refs/heads/{oid}", oid)
            place.git("gc", "-q", "--prune=now")
        asked = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new)
        names = sorted(name for name in place.git(*asked).split("\0") if name)
        assert place.differing(old, new) == names
        inside = [name for name in names if "/" not in name or name.startswith("a/")]
        assert place.differing(old, new, "a/") == inside
    with Reader(place.env) as objects, pytest.raises(ValueError, match="too much"):
        list(Trees(objects, 1000).differing(old, new, lambda _: True))
