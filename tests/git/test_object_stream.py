"""Many objects in turn: as git has them, in whatever sizes, and whatever happens to git."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordledger.errors import RuleBroken
from coordledger.git import object_stream
from coordledger.git.object_stream import ObjectStream
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    Stored = tuple[dict[str, str], list[tuple[str, bytes]]]


@pytest.fixture
def stored(tmp_path: Path, env: dict[str, str]) -> Stored:
    """A repository's environment, and objects in it: empty ones, larger than a pipe, many small."""
    at = tmp_path / "some.git"
    environ = env | {"GIT_DIR": str(at)}
    subprocess.run(["git", "init", "--quiet", "--bare", str(at)], env=env, check=True)
    contents = [b"", b"\n", b"x" * 65_536, b"y\n" * 200_000, b"\n\n"]
    contents += [b"%d\n" % number * (number % 97) for number in range(3000)]
    feed = b"".join(b"blob\ndata %d\n%s\n" % (len(each), each) for each in contents)
    subprocess.run(["git", "fast-import", "--quiet"], env=environ, input=feed, check=True)
    return environ, [(object_id("blob", each, "sha1"), each) for each in contents]


def test_objects_come_in_turn_as_they_are(stored: Stored) -> None:
    environ, objects = stored
    with closing(ObjectStream((oid for oid, _ in objects), environ)) as stream:
        assert list(stream) == [(oid, "blob", content) for oid, content in objects]
    with closing(ObjectStream([], environ)) as stream:
        assert list(stream) == []


def test_a_pipe_that_is_full_is_read_before_git_is_asked_on(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More questions at once than a pipe holds, while answers fill the other one."""
    monkeypatch.setattr(object_stream, "_LOT", 100_000)
    environ, objects = stored
    wanted = objects[2:4] * 4 + objects
    with closing(ObjectStream((oid for oid, _ in wanted), environ)) as stream:
        assert [content for _, _, content in stream] == [content for _, content in wanted]


def test_what_is_missing_is_told_in_its_turn(stored: Stored) -> None:
    environ, objects = stored
    oids = [oid for oid, _ in objects[:9]]
    with closing(ObjectStream([*oids, "0" * 40, *oids], environ)) as stream:
        found = iter(stream)
        assert [next(found)[0] for _ in oids] == oids
        with pytest.raises(KeyError, match="0" * 40):
            next(found)


def test_an_object_that_is_too_large_is_not_read(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, objects = stored
    monkeypatch.setattr(object_stream, "MAX_OBJECT", 65_536)
    with closing(ObjectStream([objects[2][0], objects[3][0]], environ)) as stream:
        found = iter(stream)
        assert next(found)[2] == objects[2][1]
        with pytest.raises(RuleBroken) as caught:
            next(found)
    assert caught.value.code == "too-large"


def test_git_that_is_killed_is_no_end_of_the_objects(stored: Stored) -> None:
    environ, objects = stored
    with closing(ObjectStream([oid for oid, _ in objects[2:4]] * 9, environ)) as stream:
        found = iter(stream)
        next(found)
        os.killpg(stream._process.pid, signal.SIGKILL)
        with pytest.raises(RuleBroken, match="git cat-file stopped"):
            list(found)


@pytest.mark.parametrize("taken", [0, 1, 40])
def test_who_stops_reading_leaves_no_process(stored: Stored, taken: int) -> None:
    environ, objects = stored
    before = len(list(Path("/proc/self/fd").iterdir()))
    with closing(ObjectStream([oid for oid, _ in objects] * 20, environ)) as stream:
        for _ in zip(range(taken), stream, strict=False):
            pass
    assert stream._process.poll() is not None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
