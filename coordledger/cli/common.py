"""Shared by all commands: the common options, the way to a ledger, the form of help.

Rules of this file:
- A common option is accepted before the command and after it; the last one counts.
- Nothing is opened, and nothing heavy imported, before a command asks for its ledger; and no other
  command's module is imported than that of the one that was typed (`table` has all of them).
- Help ends with an example.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import MutableMapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from coordledger.errors import error

from . import params
from .output import Screen, safe
from .table import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from coordledger.client.config import Options
    from coordledger.client.ledger import Ledger
    from coordledger.client.local_state import LocalState
    from coordledger.client.opening import Connection
    from coordledger.git.process import Git

NAME = "coordledger"
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 96}


class App:
    """One run: what the common options said, and the screen it speaks to."""

    def __init__(self) -> None:
        self.screen = Screen()
        self.json = False
        self.path = "."
        self.ledger_name: str | None = None
        self.remote: str | None = None
        self.agent: str | None = None
        self.session: str | None = None
        self.branch: str | None = None
        self.ssh_key: str | None = None
        self.timeout = timedelta(seconds=30)
        self.offline = False
        self.joins_on_trust = False
        self.exit_code: Callable[[int], int] = int  # of ours to the process's
        self._copies: list[LocalState] = []

    def options(self) -> Options:
        from pathlib import Path  # noqa: PLC0415 - help needs none

        from coordledger.client.config import Options  # noqa: PLC0415

        return Options(
            path=Path(self.path),
            agent=self.agent,
            session=self.session,
            remote=self.remote,
            ledger=self.ledger_name,
            branch=self.branch,
            timeout=self.timeout.total_seconds(),
            offline=self.offline,
            ssh_key=self.ssh_key,
        )

    def file(self, path: str) -> Path:
        """A path that was typed: relative to `-C`, as git has it."""
        return self.options().path / path

    @contextlib.contextmanager
    def ledger(self, *, writes: bool = False, remote: str | None = None) -> Iterator[Ledger]:
        """The ledger that the options, the environment and the configuration name."""
        from coordledger.client import place  # noqa: PLC0415

        if writes and self.offline:
            raise error("bad-value", what="--offline", why="writing needs the remote")
        options = self.options()
        if remote is not None:
            options = options._replace(remote=remote)
        with place.begin(options, os.environ) as git:  # which looks around, while this is imported
            from coordledger.client.opening import connect  # noqa: PLC0415

            connection = connect(options, os.environ, git=git, **self._told())
        with self._opened(connection) as ledger:
            yield ledger

    @contextlib.contextmanager
    def ledger_apart(self, remote: str | None) -> Iterator[Ledger]:
        """The ledger at `remote`, or at the configured one, by a copy apart from every clone."""
        from coordledger.client.auditing import open_apart  # noqa: PLC0415

        apart = open_apart(self.options(), os.environ, remote, **self._told())
        with self._opened(apart) as ledger:
            yield ledger

    def _told(self) -> dict[str, Any]:
        """Who hears what a connection has to say."""
        screen = self.screen
        return {"progress": screen.progress, "warn": screen.warn, "passphrase": ask_passphrase}

    @contextlib.contextmanager
    def _opened(self, connection: Connection) -> Iterator[Ledger]:
        from coordledger.client.ledger import Ledger  # noqa: PLC0415

        connection.local.journal.waits_for_report = True
        self._copies.append(connection.local)
        with Ledger(connection) as ledger:
            for key in ledger.connection.settings.unknown_keys:
                self.screen.warn(f"unknown configuration key coordledger.{key}")
            try:
                yield ledger
            except KeyboardInterrupt:
                if ledger.connection.open_writes() or self.is_unreported:
                    raise error("unknown-outcome", why="interrupted") from None
                raise

    @property
    def is_unreported(self) -> bool:
        """Whether something has landed that the user may not have been told of."""
        return any(copy.journal.is_unreported for copy in self._copies)

    @property
    def is_on_trust(self) -> bool:
        """Whether what was read may be no ledger's state: a shallow copy has not verified it."""
        return self.joins_on_trust or any(copy.is_on_trust for copy in self._copies)

    def reported(self) -> None:
        """All that was to be printed is printed."""
        for copy in self._copies:
            copy.journal.reported()

    def git(self) -> Git:
        """Git, for what is done to a repository named on the command line."""
        from coordledger.client.place import git_at  # noqa: PLC0415

        return git_at(self.options(), os.environ)


def ask_passphrase(file: str) -> str | None:
    """Ask on the terminal, whatever stdin and stdout are; None if there is none."""
    from getpass import getpass  # noqa: PLC0415 - few keys have a passphrase

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return None
    return getpass(f"passphrase of {safe(file)}: ")


class Common(click.Option):
    """An option of every command: it sets the `App`, wherever it stands."""

    def __init__(self, *names: str, sets: str, **kw: Any) -> None:
        self._sets = sets
        unique = f"common_{sets}"  # `join` has an argument named remote, too
        super().__init__(
            [*names, unique], expose_value=False, is_eager=True, callback=self._set, **kw
        )

    def _set(self, ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is None or value is False:
            return
        setattr(ctx.ensure_object(App), self._sets, value)


_COMMON: tuple[click.Parameter, ...] = (
    Common("--json", sets="json", is_flag=True, help="One JSON value on stdout."),
    Common("-C", sets="path", metavar="DIR", help="Work as if started in DIR."),
    Common("--ledger", sets="ledger_name", type=params.LEDGER, help="Which ledger."),
    Common("--remote", sets="remote", metavar="NAME-OR-URL", help="Where the ledger lives."),
    Common("--timeout", sets="timeout", type=params.TIMEOUT, help="How long it may take; 30s."),
    Common("--as", sets="agent", type=params.AGENT, help="Who I am."),
    Common("--session", sets="session", type=params.SESSION, help="Which run of mine."),
    Common(
        "--ssh-key", sets="ssh_key", metavar="KEY", help="A file; or git: the key it signs with."
    ),
    Common("--offline", sets="offline", is_flag=True, help="Answer from the local copy."),
)


class _Formatter(click.HelpFormatter):
    """As click's, which imports shutil to learn how wide a terminal is: a tenth of `--help`."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        if width is None:
            width = max(min(_columns(), max_width or 80) - 2, 50)
        super().__init__(indent_increment, width, max_width)


def _columns() -> int:
    """Of the terminal, as `shutil.get_terminal_size` has it."""
    columns = 0
    with contextlib.suppress(ValueError):
        columns = int(os.environ.get("COLUMNS", ""))
    if columns <= 0 and sys.__stdout__:
        with contextlib.suppress(OSError, ValueError):
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns
    return columns if columns > 0 else 80


class _Context(click.Context):
    formatter_class = _Formatter


class _Helpful(click.Command):
    """Help: the own options, one line about the common ones, an example at the end."""

    context_class = _Context

    def __init__(self, name: str | None = None, *, example: str = "", **kw: Any) -> None:
        super().__init__(name, **kw)
        self.example = example
        own = {name for param in self.params for name in param.opts}
        self.params.extend(param for param in _COMMON if own.isdisjoint(param.opts))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        outermost = ctx.parent is None
        shown = [
            param.get_help_record(ctx)
            for param in self.get_params(ctx)
            if isinstance(param, click.Option) and (outermost or not isinstance(param, Common))
        ]
        with formatter.section("Options of every command" if outermost else "Options"):
            formatter.write_dl([record for record in shown if record])
        if not outermost:
            names = " ".join(param.opts[0] for param in _COMMON)
            formatter.write_paragraph()
            formatter.write_text(f"Everywhere: {names} (see {NAME} --help).")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("\nExample:\n")
        for line in self.example.splitlines():
            formatter.write(f"  {line}\n")


class Command(_Helpful):
    """A command with the common options."""


class Group(_Helpful, click.Group):
    """A group of commands; alone it shows its help, which is a usage error nonetheless."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing and not ctx.ensure_object(App).screen.json:
            ctx.ensure_object(App).screen.raw(ctx.get_help() + "\n")
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._list(formatter, {"Commands": list(self.commands.values())})

    def _list(
        self, formatter: click.HelpFormatter, sections: Mapping[str, list[click.Command]]
    ) -> None:
        width = max(len(str(one.name)) for commands in sections.values() for one in commands)
        room = formatter.width - width - 6
        for section, commands in sections.items():
            with formatter.section(section):
                formatter.write_dl(
                    [(f"{one.name!s:<{width}}", one.get_short_help_str(room)) for one in commands]
                )


class _Commands(MutableMapping[str, click.Command]):
    """The commands of the table, in its order; each is made when it is asked for."""

    def __init__(self) -> None:
        self._modules = {
            name: module for rows in TABLE.values() for name, (module, _) in rows.items()
        }
        self._made: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._made:
            importlib.import_module(f"{__package__}.{self._modules[name]}")  # which enters it
        return self._made[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        if name not in self._modules:
            raise AssertionError(f"{name} is not in the table")
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


class _Root(Group):
    """All commands. Their list is made of the table's lines, without any of their modules."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = {
            section: [click.Command(name, help=line) for name, (_, line) in rows.items()]
            for section, rows in TABLE.items()
        }
        self._list(formatter, lines)


def group(name: str, *, parent: click.Group, example: str, doc: str) -> Group:
    """An empty group below `parent`."""
    made = Group(
        name,
        example=example,
        help=doc,
        no_args_is_help=False,
        context_settings=_HELP,
    )
    parent.add_command(made)
    return made


def command(
    name: str,
    *,
    parent: click.Group,
    example: str,
    cls: type[Command] = Command,
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function that takes the `App` a command of `parent`; its docstring is the help."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(**given: Any) -> Any:
            app = click.get_current_context().find_object(App) or App()
            app.screen.json = app.json  # all is parsed: no longer a guess
            return function(app, **given)

        made = click.command(name, cls=cls, example=example, context_settings=_HELP)(run)
        parent.add_command(made)
        return made

    return decorate


def need_somebody(yes: bool, option: str) -> None:
    """Before any work: what is going to be asked can be answered."""
    if not yes and not (sys.stdin and sys.stdin.isatty()):
        raise error("bad-value", what=option, why="needs --yes: nobody can be asked")


def confirm(yes: bool, option: str, question: str) -> None:
    if not yes and not click.confirm(question, err=True):
        raise error("bad-value", what=option, why="not confirmed")


def leave_history(app: App, ledger: Ledger, *, yes: bool) -> None:
    """Show the head that was verified and the remote's, ask, and forget the old one."""
    from coordledger.setup import joining  # noqa: PLC0415 - help needs none

    need_somebody(yes, "--reset")
    old, new = joining.peek(ledger)
    app.screen.note(f"verified here: {old.line() if old else 'nothing readable'}")
    app.screen.note(f"remote's head: {new.line()}")
    confirm(yes, "--reset", "Give up the verified history for the remote's?")
    joining.reset(ledger, old, new)


root = _Root(
    NAME,
    commands=_Commands(),
    help="Claim tasks without colliding: a ledger of signed records in git.\n\n"
    "Exit codes: 0 done; 1 failed, nothing was written; 2 wrong usage; 3 lost: somebody else has "
    "it, or it is done, expired, blocked; 4 integrity; 5 outcome unknown: the same command again "
    "tells it.",
    example=f"{NAME} claim --next --ttl 30m --json    # the most urgent free task\n"
    f"{NAME} claim task-1 --ttl 30m && {NAME} complete task-1",
    no_args_is_help=False,
    context_settings=_HELP,
)
