"""The manual page, made from the help of all commands: what `--help` says, in roff.

Rules: a wheel's build makes it, so that it is never older than the commands (`hatch_build.py`). It
is one page with all commands, in plain `man` macros; what roff would take for its own is escaped.
It says nothing that no help says, but for the exit codes.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from coordledger import __version__

from .common import NAME, App, Command, Common, Group, root
from .table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT_CODES = (
    ("0", "done"),
    ("1", "failed, nothing was written"),
    ("2", "wrong usage"),
    ("3", "lost: somebody else has it, or it is done, expired, blocked"),
    ("4", "integrity: a record does not verify, or history was rewritten"),
    ("5", "outcome unknown, or it landed and was not told: run coordledger resolve"),
)


def pages() -> dict[str, str]:
    """The pages of section 1, by file name. The second one is what `git help coordledger` opens."""
    return {f"{NAME}.1": _page(), f"git-{NAME}.1": f".so man1/{NAME}.1\n"}


def _page() -> str:
    lines = [
        f'.TH "{NAME.upper()}" "1" "" "{NAME} {__version__}" "{NAME}"',
        '.SH "NAME"',
        f"{NAME}, git\\-{NAME} \\- {_text(_first_line(root))}",
        '.SH "SYNOPSIS"',
        f"\\fB{NAME}\\fR [OPTIONS] COMMAND [ARGS]...",
        ".br",
        f"\\fBgit {NAME}\\fR [OPTIONS] COMMAND [ARGS]...",
        '.SH "OPTIONS OF EVERY COMMAND"',
        *_options(_context(root), common=True),
    ]
    for section, rows in TABLE.items():
        lines.append(f'.SH "{_text(section).upper()}"')
        for name in rows:
            lines += _command(_context(root.commands[name], _context(root)))
    lines.append('.SH "EXIT STATUS"')
    for code, meaning in _EXIT_CODES:
        lines += [".TP", f"\\fB{code}\\fR", _text(meaning)]
    lines += ['.SH "SEE ALSO"', "\\fBgit\\fR(1)"]
    return "\n".join(lines) + "\n"


def _context(command: click.Command, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, info_name=command.name, parent=parent, obj=App())


def _command(ctx: click.Context) -> Iterator[str]:
    """A command, and after a group its commands."""
    command = ctx.command
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f'.SS "{_text(ctx.command_path)} {_text(usage)}"'
    for number, paragraph in enumerate(inspect.cleandoc(command.help or "").split("\n\n")):
        yield from [".PP"] if number else []
        yield _text(" ".join(paragraph.replace("\b", "").split()))
    yield from _options(ctx, common=False)
    if isinstance(command, Command | Group):
        yield from (".PP", ".nf", ".RS 4")
        yield from map(_text, command.example.splitlines())
        yield from (".RE", ".fi")
    if isinstance(command, click.Group):
        for part in command.commands.values():
            yield from _command(_context(part, ctx))


def _options(ctx: click.Context, *, common: bool) -> Iterator[str]:
    for param in ctx.command.get_params(ctx):
        record = param.get_help_record(ctx)
        if not isinstance(param, click.Option) or record is None or param.name == "help":
            continue
        if isinstance(param, Common) == common:
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]) or "\\&")


def _first_line(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\n")[0].rstrip(".")


def _text(text: str) -> str:
    """Text that roff prints as it is, on one line."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    shown = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in shown)
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown
