"""Looks at the remote that serve all of a host: who looks, who reads, and who dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from coordledger.client.combining import looks
from coordledger.client.combining.looks import Look, Looks
from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = "a" * 40
HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); input()"
)


class Remote:
    def __init__(self, head: str | None = HEAD) -> None:
        self.asked, self.head = 0, head

    def ask(self) -> str | None:
        self.asked += 1
        return self.head


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "queue" / "one"


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks, and does not come to an end."""
    folder.mkdir(parents=True, mode=0o700)
    argv = [sys.executable, "-c", HOLD, str(folder / "looking")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_a_look_serves_all_who_wanted_one_that_is_as_new(folder: Path) -> None:
    one, two = Remote(), Remote("b" * 40)
    before = time.monotonic_ns()
    first = Looks(folder, one.ask).after(before)
    assert Looks(folder, two.ask).after(before) == first
    assert (one.asked, two.asked) == (1, 0)
    assert Looks(folder, two.ask).after(first.at).head == "b" * 40


@pytest.mark.parametrize("head", [None, HEAD])
def test_what_was_seen_is_told_as_it_was(folder: Path, head: str | None) -> None:
    first = Looks(folder, Remote(head).ask).after(0)
    assert first.head == head
    assert Looks(folder, Remote("b" * 40).ask).after(0) == first


def test_a_remote_that_does_not_answer_is_asked_once_too(folder: Path) -> None:
    def ask() -> str:
        raise error("remote-unreachable", remote="x", why="no route")

    first = Looks(folder, ask).after(0)
    other = Remote()
    assert Looks(folder, other.ask).after(0) == first == Look(first.at, None, answered=False)
    assert other.asked == 0


def test_who_waits_for_one_that_is_killed_looks_itself(
    folder: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "STUCK", 1e6)
    remote, found = Remote(), list[Look]()
    waits = threading.Thread(target=lambda: found.append(Looks(folder, remote.ask).after(0)))
    waits.start()
    waits.join(timeout=0.2)
    assert remote.asked == 0
    holder.kill()
    waits.join(timeout=60)
    assert [look.head for look in found] == [HEAD]


@pytest.mark.usefixtures("holder")
def test_nobody_waits_for_long_for_one_that_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "STUCK", 0.1)
    assert Looks(folder, Remote().ask).after(0).head == HEAD


@pytest.mark.parametrize("text", ["", "x y", "1", "9" * 30 + f" {HEAD}", "1 2 3", "\xff"])
def test_what_cannot_have_been_seen_is_not_believed(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, mode=0o700)
    (folder / "seen").write_text(text, "latin-1")
    remote = Remote()
    assert Looks(folder, remote.ask).after(time.monotonic_ns()).head == HEAD
    assert remote.asked == 1


def test_without_a_folder_of_its_own_each_looks_for_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (None, tmp_path / "file", tmp_path / "file" / "below"):
        assert Looks(folder, Remote().ask).after(time.monotonic_ns()).head == HEAD
