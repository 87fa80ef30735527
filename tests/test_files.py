"""Files that are replaced whole, and locks among processes."""

from __future__ import annotations

import fcntl
import os
import posix
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordledger import files

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def test_a_file_is_replaced_and_nothing_is_left_beside_it(path: Path) -> None:
    beside = path.with_name("new")
    beside.write_text("what a crash has left, and longer than all")
    files.replace(str(path), b"content", str(beside))
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    fresh = path.with_name("fresh")
    files.replace(str(fresh), b"", str(beside))
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o666 & ~umask


def test_a_mode_counts_whatever_was_there(path: Path) -> None:
    beside = path.with_name("new")
    beside.write_text("x")
    beside.chmod(0o666)
    files.replace(str(path), b"secret", str(beside), mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_stands_beside_is_not_followed(path: Path) -> None:
    (path.parent / "new").symlink_to(path)
    with pytest.raises(OSError):
        files.replace(str(path), b"content", f"{path.parent}/new")
    assert path.read_text() == "old"


def test_an_exclusive_file_beside_is_somebody_elses(path: Path) -> None:
    lock = path.with_name("file.lock")
    lock.write_text("theirs")
    with pytest.raises(FileExistsError) as held:
        files.replace(str(path), b"content", str(lock), exclusive=True)
    assert held.value.filename == str(lock)
    assert (path.read_text(), lock.read_text()) == ("old", "theirs")


@pytest.mark.parametrize("at", ["write", "fsync", "rename"])
def test_where_it_cannot_be_replaced_the_old_file_stays_alone(
    path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(posix, at, full)
        files.replace(str(path), b"content", f"{path.parent}/new", durable=True)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("locked", [False, True])
def test_what_is_durable_is_on_the_disk_before_and_after_its_name(
    path: Path, locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    sync, rename = posix.fsync, posix.rename

    def synced(fd: int) -> None:
        seen.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        sync(fd)

    def renamed(old: str, new: str) -> None:
        seen.append("rename")
        rename(old, new)

    monkeypatch.setattr(posix, "fsync", synced)
    monkeypatch.setattr(posix, "rename", renamed)
    if locked:
        os.close(files.replace_locked(str(path), b"content", f"{path.parent}/new", mode=0o600))
    else:
        files.replace(str(path), b"content", f"{path.parent}/new", durable=True)
    assert seen == [f"{path.parent}/new", "rename", str(path.parent)]


def test_a_file_that_was_taken_for_a_stray_before_it_was_locked_is_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, lock = path.with_name("new"), files.lock

    def removed_meanwhile(fd: int) -> None:
        monkeypatch.undo()
        beside.unlink()
        lock(fd)

    monkeypatch.setattr(files, "lock", removed_meanwhile)
    fd = files.replace_locked(str(path), b"content", str(beside), mode=0o600)
    assert path.read_bytes() == b"content"
    assert files.is_at(fd, str(path))
    os.close(fd)


def test_folders_are_made_where_they_are_not_there(tmp_path: Path) -> None:
    for _ in range(2):
        files.make_folders(f"{tmp_path}/a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert not files.sync(f"{tmp_path}/nothing")


# -- locks


@pytest.fixture
def held(path: Path) -> Iterator[int]:
    """The descriptor of a lock that is held."""
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield fd
    os.close(fd)


def test_a_lock_that_is_held_is_not_taken(path: Path, held: int) -> None:
    fd = os.open(path, os.O_RDWR)
    assert not files.try_lock(fd)
    end = time.monotonic() + 0.1
    assert not files.lock_by_polling(fd, lambda: time.monotonic() > end, 0.01)
    assert time.monotonic() > end
    files.unlock(held)
    assert files.try_lock(fd)
    os.close(fd)


def test_a_lock_is_waited_for(path: Path, held: int) -> None:
    for wait in (files.lock, lambda fd: files.lock_by_polling(fd, lambda: False, 0.01)):
        fd = os.open(path, os.O_RDWR)
        assert files.try_lock(held)
        timer = threading.Timer(0.1, files.unlock, [held])
        timer.start()
        wait(fd)
        timer.join()
        assert not files.try_lock(held)
        os.close(fd)


@pytest.mark.parametrize(("seconds", "taken"), [(1, False), (20, True)])
def test_a_process_stands_in_the_kernels_line(
    path: Path, held: int, seconds: int, taken: bool
) -> None:
    code = "import posix, sys; from coordledger import files\n"
    code += f"fd = posix.open({str(path)!r}, posix.O_RDWR)\nprint('ready', flush=True)\n"
    code += f"print(files.lock_in_line(fd, {seconds}))"
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        if taken:
            time.sleep(0.1)
            files.unlock(held)
        assert process.stdout.read() == f"{taken}\n"


def test_what_the_hooks_import_of_it_is_little() -> None:
    root = Path(files.__file__).parent.parent
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import coordledger\n"
    code += "before = set(sys.modules)\nimport coordledger.files\n"
    code += "print(*sorted(set(sys.modules) - before))"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-E", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["coordledger.files"]
