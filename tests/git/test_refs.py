"""What a ref's own file says, and what git's hooks are told of one. (Moving: test_repository.)"""

from __future__ import annotations

import os
import posix
from typing import TYPE_CHECKING

import pytest

from coordledger.errors import RuleBroken
from coordledger.git.refs import PlainMover, parse_update, read_plain

if TYPE_CHECKING:
    from pathlib import Path

REF = "refs/coordledger/main"
ONE, TWO, NONE = "1" * 40, "a" * 40, "0" * 40
LONG = "b" * 64


@pytest.mark.parametrize("ref", [REF, "refs/heads/with a space", "x"])
@pytest.mark.parametrize(("old", "new"), [(ONE, TWO), (NONE, ONE), (LONG, "0" * 64)])
def test_a_line_of_git_is_read_as_it_is_meant(old: str, new: str, ref: str) -> None:
    assert parse_update(f"{old} {new} {ref}") == (old, new, ref)


@pytest.mark.parametrize(
    "line",
    [
        "",
        REF,
        f"{ONE} {TWO}",
        f"{ONE} {TWO} ",
        f"{ONE}  {TWO} {REF}",
        f" {ONE} {TWO} {REF}",
        f"{ONE} {LONG} {REF}",
        f"{ONE[:-1]} {TWO[:-1]} {REF}",
        f"{ONE} {TWO.upper()} {REF}",
        f"{ONE} {'g' * 40} {REF}",
        f"{ONE}\t{TWO}\t{REF}",
    ],
)
def test_any_other_line_is_refused(line: str) -> None:
    with pytest.raises(RuleBroken) as broken:
        parse_update(line)
    assert broken.value.code == "bad-push"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{ONE}\n", ONE),
        (f"{LONG}\n", LONG),
        (ONE, None),
        (f"{ONE}\n\n", None),
        (f"{ONE} \n", None),
        (f"{TWO.upper()}\n", None),
        (f"{LONG}b\n", None),
        ("ref: refs/heads/main\n", None),
        ("", None),
    ],
)
def test_only_a_file_with_one_id_has_the_plain_form(
    tmp_path: Path, content: str, says: str | None
) -> None:
    (tmp_path / "ref").write_text(content)
    assert read_plain(str(tmp_path), "ref") == says


def test_what_is_no_file_has_no_plain_form(tmp_path: Path) -> None:
    (tmp_path / "there").write_text(f"{ONE}\n")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "folder").mkdir()
    assert read_plain(str(tmp_path), "link") is None
    assert read_plain(str(tmp_path), "folder") is None
    assert read_plain(str(tmp_path), "there/below") is None
    assert read_plain(str(tmp_path), "nothing") == ""


def test_an_interrupt_while_a_prepared_move_is_closed_closes_no_other_file_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number is given to the file that is opened next: that may be somebody's lock."""
    (tmp_path / "coordledger").mkdir()
    mover, close = PlainMover(str(tmp_path), REF, {}), posix.close
    mover.prepare(ONE)

    def interrupted(fd: int) -> None:
        close(fd)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(posix, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mover.close()
    with (tmp_path / "another").open("w") as another:
        mover.close()
        assert os.fstat(another.fileno())
    assert list((tmp_path / "coordledger").iterdir()) == []
