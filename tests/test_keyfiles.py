"""Files that hold secrets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from coordledger import keyfiles
from coordledger.errors import Failed
from coordledger.format.signing import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_secrets_are_appended_once_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bob.secret"
    for letter in "aba":
        keyfiles.append(str(path), Secret(letter * 43))
    assert lines(path) == ["a" * 43, "b" * 43]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert [secret.reveal() for secret in keyfiles.read(str(path)) or []] == lines(path)


def test_an_exposed_file_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "bob.secret"
    path.write_text("a" * 43 + "\n")
    path.chmod(0o640)
    with pytest.raises(Failed) as refused:
        keyfiles.append(str(path), Secret("b" * 43))
    assert refused.value.code == "secret-exposed"
    assert lines(path) == ["a" * 43]


@pytest.fixture
def no_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.usefixtures("no_umask")
def test_without_a_umask_the_file_and_each_new_folder_are_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c" / "bob.secret"
    keyfiles.append(str(path), Secret("a" * 43))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in list(path.parents)[:3]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
@pytest.mark.parametrize("below", [False, True])
def test_nothing_is_written_where_others_may_write(tmp_path: Path, mode: int, below: bool) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    path = folder / "ledger" / "bob.secret" if below else folder / "bob.secret"
    with pytest.raises(Failed) as refused:
        keyfiles.append(str(path), Secret("b" * 43), 2 if below else 1)
    assert refused.value.code == "secret-exposed"
    assert refused.value.hint == f"chmod 700 {folder}"
    assert list(folder.iterdir()) == []


def test_a_file_that_was_made_beforehand_is_not_the_one_that_is_written(tmp_path: Path) -> None:
    path, planted = tmp_path / "bob.secret", tmp_path / "bob.secret.new"
    with planted.open("w+") as kept:
        keyfiles.append(str(path), Secret("b" * 43))
        assert kept.read() == ""
    assert lines(path) == ["b" * 43]


def test_nobody_who_appends_at_the_same_time_loses_a_line(tmp_path: Path) -> None:
    path = tmp_path / "bob.secret"
    code = (
        "import sys\n"
        "from coordledger import keyfiles\n"
        "from coordledger.format.signing import Secret\n"
        "for n in range(20):\n"
        "    keyfiles.append(sys.argv[1], Secret(f'{sys.argv[2]}-{n:02}' + 'x' * 43))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "abcd"
    ]
    assert [process.wait(30) for process in running] == [0] * 4
    assert len(set(lines(path))) == 80
