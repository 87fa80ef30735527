"""Every command explains itself, quickly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from coordledger import cli
from coordledger.cli.common import root
from coordledger.cli.table import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

HEAVY = ("dulwich", "rich", "platformdirs", "subprocess")


def commands(group: click.Group = root, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as it is typed."""
    yield above
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from commands(one, (*above, name))
        else:
            yield (*above, name)


@pytest.mark.parametrize("argv", list(commands()), ids=" ".join)
def test_help_ends_with_an_example(argv, capsys):
    assert cli.main([*argv, "--help"]) == 0
    said = capsys.readouterr().out
    *_, last = said.strip().split("\n\n")
    assert last.startswith("Example:\n  ")
    assert f"coordledger {' '.join(argv)}".strip() in last
    assert max(map(len, said.splitlines())) <= 96


@pytest.mark.parametrize("argv", list(commands()), ids=" ".join)
def test_each_option_says_what_it_is_for(argv):
    options = [param for param in found(argv).params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help and not option.hidden] == []


GROUPS = ("", *(name for name, one in root.commands.items() if isinstance(one, click.Group)))


@pytest.mark.parametrize("group", GROUPS)
def test_each_line_of_a_groups_help_is_whole_at_80_columns(group, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*group.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines[1:] if line.endswith("...")] == []


ROWS = [(name, *row) for rows in TABLE.values() for name, row in rows.items()]


@pytest.mark.parametrize(("name", "module", "line"), ROWS, ids=[name for name, *_ in ROWS])
def test_a_line_of_the_table_is_the_first_sentence_of_the_commands_own_help(name, module, line):
    command = root.commands[name]
    text = " ".join((command.help or "").split())
    assert text == line or text.startswith(f"{line} ")
    assert ". " not in line
    made = next(iter(command.commands.values())) if isinstance(command, click.Group) else command
    assert made.callback.__module__ == f"coordledger.cli.{module}"


def test_the_table_has_every_command_that_the_modules_make():
    code = """if True:
        import pkgutil
        from coordledger import cli
        from coordledger.cli.common import root
        for module in pkgutil.walk_packages(cli.__path__, "coordledger.cli."):
            __import__(module.name)
        print(len(root.commands), len(root.commands._made))
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(len(ROWS))] * 2


def test_the_page_of_json_names_every_command():
    page = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text("utf-8")
    leaves = [argv for argv in commands() if argv and argv[0] != "import"]
    named = {word for quoted in re.findall(r"`([^`]+)`|\*\*(\w+)\*\*", page) for word in quoted}
    missing = {
        " ".join(argv)
        for argv in leaves
        if " ".join(argv) not in named and not isinstance(found(argv), click.Group)
    }
    assert missing == set()


def found(argv: tuple[str, ...]) -> click.Command:
    one: click.Command = root
    for name in argv:
        assert isinstance(one, click.Group)
        one = one.commands[name]
    return one


def test_the_first_help_says_what_an_exit_code_means(capsys):
    assert cli.main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for meaning in ("0 done", "3 lost", "5 outcome unknown"):
        assert meaning in said


def test_the_common_options_are_everywhere(capsys):
    for argv in commands():
        assert cli.main([*argv, "--json", "-C", "/", "--as", "x", "--offline", "--help"]) == 0, argv
    capsys.readouterr()


def test_the_first_help_imports_no_commands_module():
    code = """if True:
        import sys
        from coordledger import cli
        for argv in (["--help"], ["--version"], ["no-such-command"]):
            cli.main(argv)
        print([name for name in sys.modules if name.startswith("coordledger.")])
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = ran.stdout.splitlines()[-1]
    assert "coordledger.cli.table" in imported
    assert [module for _, module, _ in ROWS if f"'coordledger.cli.{module}'" in imported] == []
    assert "'coordledger.client." not in imported.replace("'coordledger.client.texts'", "")


def test_help_and_completion_import_nothing_heavy():
    lines = [
        "import os, sys",
        "from coordledger import cli",
        f"for argv in {list(commands())!r}:",
        "    assert cli.main([*argv, '--help']) == 0",
        "assert cli.main(['completion', 'zsh']) == 0",
        "os.environ.update(_COORDLEDGER_COMPLETE='zsh_complete', COMP_WORDS='', COMP_CWORD='0')",
        "assert cli.main([]) == 0",
        f"print({HEAVY!r} and [m for m in {HEAVY!r} if m in sys.modules])",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "[]"


def test_a_group_alone_shows_its_help_and_is_a_usage_error(capsys):
    for argv in ([], ["agent"], ["hook"]):
        assert cli.main(argv) == 2
        assert capsys.readouterr().out.startswith(f"Usage: {' '.join(['coordledger', *argv])}")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "_COORDLEDGER_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_and_options(capsys, monkeypatch):
    monkeypatch.setenv("_COORDLEDGER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_LINE", "coordledger claim --dr")
    assert cli.main([]) == 0
    assert "--dry-run" in capsys.readouterr().out
