"""The manual page says what the help says, and roff takes nothing of it for its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from coordledger.cli.common import root
from coordledger.cli.man import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = pages()["coordledger.1"]
MACROS = {".TH", ".SH", ".SS", ".TP", ".PP", ".br", ".nf", ".fi", ".RS", ".RE"}


def commands(
    group: click.Group = root, above: str = "coordledger"
) -> Iterator[tuple[str, click.Command]]:
    for name, one in group.commands.items():
        yield f"{above} {name}", one
        if isinstance(one, click.Group):
            yield from commands(one, f"{above} {name}")


def plain(page: str) -> str:
    """The page without roff's escapes."""
    text = re.sub(r"\\f[BR]|\\&", "", page).replace("\\-", "-").replace("\\(dq", '"')
    text = re.sub(r"\\\[u([0-9A-F]+)\]", lambda found: chr(int(found[1], 16)), text)
    return text.replace("\\e", "\\")


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=str)
def test_each_command_has_its_options_and_its_example(name: str, command: click.Command) -> None:
    part = plain(PAGE).partition(f'.SS "{name} [')[2].partition('\n.SS "')[0]
    for param in command.params:
        if isinstance(param, click.Option) and not hasattr(param, "_sets"):
            assert f"\n{param.opts[0]}" in part or f", {param.opts[0]}" in part
    for line in command.example.splitlines():  # type: ignore[attr-defined]
        assert line in part


def test_roff_takes_nothing_of_it_for_its_own() -> None:
    assert PAGE.isascii()
    for line in PAGE.splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split(" ")[0] in MACROS
        assert "-" not in line.replace("\\-", "")
    escapes = set(re.findall(r"\\(f[BR]|\[u[0-9A-F]{4,}\]|\(..|.)", PAGE))
    assert {one for one in escapes if not one.startswith("[")} <= {"fB", "fR", "-", "e", "&", "(dq"}


def test_git_help_opens_the_same_page() -> None:
    assert pages()["git-coordledger.1"] == ".so man1/coordledger.1\n"


@pytest.mark.skipif(
    shutil.which("man") is None and not os.environ.get("CI"), reason="man is not installed"
)
def test_man_shows_it_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "man1").mkdir()
    for name, text in pages().items():
        (tmp_path / "man1" / name).write_text(text)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MANPATH": str(tmp_path),
        "MANWIDTH": "90",
        "LC_ALL": "C.UTF-8",
    }
    for topic in (["man", "--warnings", "coordledger"], ["git", "help", "-m", "coordledger"]):
        ran = subprocess.run(topic, env=env, capture_output=True, text=True, check=True)
        assert ran.stderr == ""
        assert "coordledger claim [OPTIONS] [TASK]..." in ran.stdout
        assert "coordledger agent add" in ran.stdout
