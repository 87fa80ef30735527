"""The command line: what is typed in, one exit code out.

Rules: no input gives a traceback; every "no" is one line and at most one hint on stderr, or
one JSON value on stdout; the exit code is the error table's. What has landed is forgotten by the
journal only after its answer is printed; if it cannot be, that is `output-lost`. Only this
package imports click, and rich only where a table is drawn. It decides nothing about ledgers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from coordledger import __version__
from coordledger.errors import CoordledgerError, disk_error, error

from .common import NAME, App, root

if TYPE_CHECKING:
    from types import FrameType

TERMINATED = 143  # as shells count it
COMPLETE = "_COORDLEDGER_COMPLETE"

click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")(root)


class _Terminated(KeyboardInterrupt):
    """SIGTERM: who stops us learns as much as who presses ^C."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = sys.argv[1:] if argv is None else argv
    if COMPLETE in os.environ:
        return _complete(os.environ[COMPLETE])
    app = App()
    # What cannot be parsed is refused in the form that was meant, as far as that can be told.
    app.screen.json = "--json" in (args[: args.index("--")] if "--" in args else args)
    try:
        with contextlib.suppress(ValueError):  # not the main thread: no signals there
            signal.signal(signal.SIGTERM, _terminate)
        return _run(app, args)
    except CoordledgerError as fault:
        return _complain(app, fault)
    except click.ClickException as fault:
        ctx = getattr(fault, "ctx", None)
        where = ctx.command_path if ctx else NAME
        return _complain(app, error("usage", why=fault.format_message(), command=where))
    except (KeyboardInterrupt, click.Abort) as fault:
        if app.is_unreported:
            return _complain(app, error("output-lost", why="interrupted"))
        stopped = _complain(app, error("interrupted"))
        return TERMINATED if isinstance(fault, _Terminated) else stopped
    except OSError as fault:
        shown = disk_error(fault)
        if app.is_unreported:
            shown = error("output-lost", why=shown.message)
        return _complain(app, shown)
    except Exception as fault:  # noqa: BLE001 - whatever it is, no traceback
        why = f"{type(fault).__name__}: {fault}"
        return _complain(app, error(_code_of_fault(app), why=why))


def _complete(instruction: str) -> int:
    """Answer a shell, which shows nothing of what goes wrong."""
    from click.shell_completion import shell_complete  # noqa: PLC0415

    from .completing import register  # noqa: PLC0415

    register()
    try:
        return shell_complete(root, {"obj": App()}, NAME, COMPLETE, instruction)
    except Exception:
        if os.environ.get("COORDLEDGER_DEBUG") == "1":
            raise
        return 1


def _code_of_fault(app: App) -> str:
    if app.is_unreported:
        return "output-lost"
    with contextlib.suppress(CoordledgerError, OSError):
        if app.is_on_trust:
            return "bad-state"
    return "internal"


def _run(app: App, args: list[str]) -> int:
    try:
        with root.make_context(NAME, list(args), obj=app) as ctx:
            code = root.invoke(ctx)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    if app.screen.is_cut_off and app.is_unreported:
        app.screen.json = False
        raise error("output-lost", why="nobody reads it")
    app.reported()
    return code if isinstance(code, int) else 0


def _complain(app: App, fault: CoordledgerError) -> int:
    if os.environ.get("COORDLEDGER_DEBUG") == "1":
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    app.screen.error(fault)
    return app.exit_code(fault.exit_code)
