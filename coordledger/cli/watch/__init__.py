"""`watch`: a live screen of who holds what, what has just happened, and who is silent.

Rules: one process reads, once in every interval, and never while the one before is under way; what
it shows has its age beside it. It writes nothing to the ledger. `rows` says what is shown, `frame`
where, `keys` what a key does, and `terminal` draws.
"""

from __future__ import annotations

import contextlib
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from coordledger.cli import params
from coordledger.cli.common import command, root
from coordledger.errors import CoordledgerError, Failed, disk_error, error

if TYPE_CHECKING:
    from typing import Any

    from coordledger.cli.common import App
    from coordledger.client.watching import Watched, Watching

    from .frame import Fetch

_LEAST = 1  # seconds
_STYLES: dict[str, dict[str, Any]] = {
    "bold": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "little": {"fg": "yellow"},
    "warn": {"fg": "black", "bg": "yellow"},
    "bad": {"fg": "white", "bg": "red", "bold": True},
    "head": {"reverse": True},
}
_SIZE = (100, 40)  # of what is printed where there is no terminal


@command(
    "watch",
    parent=root,
    example="coordledger watch --interval 10s\ncoordledger watch --once",
)
@click.option(
    "--interval", type=params.SPAN, default="5s", show_default=True, metavar="DURATION",
    help="Between two questions to the remote.",
)  # fmt: skip
@click.option("--filter", "filter_", metavar="TEXT", help="Words, agent:NAME, status:WORD.")
@click.option("--once", is_flag=True, help="Print it once, as wide and high as the terminal is.")
def watch(app: App, interval: timedelta, filter_: str | None, once: bool) -> None:
    """A live screen: who holds what, and what happens.

    For how long still, who is silent, what is unread, who has checked it, and how old that is. Its
    keys: press ?. Exit 0 when it was quit (q, ^C); 143 by SIGTERM.
    """
    seconds = interval / timedelta(seconds=1)
    if app.json:
        raise click.UsageError("no --json: log --follow --json tells what comes")
    if seconds < _LEAST:
        raise click.UsageError(f"--interval: at least {_LEAST}s")
    if once:
        _print(app, seconds, filter_ or "")
        return
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
        raise error("no-terminal")
    _watch(app, seconds, filter_ or "")


def _is_terminal(stream: object) -> bool:
    return bool(stream and stream.isatty() and os.environ.get("TERM") != "dumb")  # type: ignore[attr-defined]


def _print(app: App, interval: float, filter_: str) -> None:
    from shutil import get_terminal_size  # noqa: PLC0415 - help needs none of these

    from coordledger.client.watching import Watching  # noqa: PLC0415

    from .frame import Fetch, frame, is_stale  # noqa: PLC0415
    from .keys import Ui  # noqa: PLC0415
    from .rows import panels_of  # noqa: PLC0415
    from .spans import glyphs_for  # noqa: PLC0415

    with app.ledger() as ledger:
        watched = Watching(ledger.connection).read()
        fetch = Fetch(interval, ledger.connection.settings.offline)
    now, ui, glyphs = datetime.now(UTC), Ui(filter=filter_), glyphs_for(sys.stdout)
    panels = panels_of(watched, ui, now, glyphs, is_stale=is_stale(watched, fetch, now))
    size = get_terminal_size(_SIZE)
    lines = frame(watched, panels, ui, fetch, now, (size.columns, size.lines), glyphs)
    texts = ["".join(_styled(app, *span) for span in line).rstrip() for line in lines]
    for text in texts[:-1]:  # the last one says what the keys do
        app.screen.line(text)


def _styled(app: App, text: str, style: str) -> str:
    how = _STYLES.get(style)
    return click.style(text, **how) if how and app.screen.colourful else text


def _watch(app: App, interval: float, filter_: str) -> None:
    try:
        from .terminal import Terminal  # noqa: PLC0415 - not every Python was built with curses
    except ImportError:
        raise error("no-curses") from None
    from coordledger.client.opening import connect  # noqa: PLC0415
    from coordledger.client.watching import Watching  # noqa: PLC0415

    from .frame import Fetch  # noqa: PLC0415
    from .keys import Ui  # noqa: PLC0415

    with app.ledger() as ledger, connect(app.options(), os.environ) as beside:
        watching, warnings = Watching(ledger.connection), list[str]()
        offline = ledger.connection.settings.offline
        watched, fetch = _first(watching, Fetch(interval, offline))
        screen = Terminal(
            watched,
            fetch,
            Ui(filter=filter_),
            Watching(beside),
            colours=app.screen.colourful,
        )
        with app.screen.heard_by(warnings.append), screen.running():
            while screen.wait(interval):
                with screen.reading():
                    screen.show(watched, fetch._replace(since=datetime.now(UTC)))
                    watched, fetch = _next(watching, watched, fetch)
                fetch = fetch._replace(warnings=tuple(warnings[-1:]))
                screen.show(watched, fetch)


def _first(watching: Watching, fetch: Fetch) -> tuple[Watched, Fetch]:
    """A reading; of the copy, if there is one and the remote is away."""
    try:
        return watching.read(), fetch
    except Failed as fault:
        try:
            return watching.recall(), _failed(fetch, fault)
        except Failed:
            raise fault from None


def _next(watching: Watching, watched: Watched, fetch: Fetch) -> tuple[Watched, Fetch]:
    """The next reading; if there is none, what the copy has, and why."""
    try:
        return watching.read(), fetch._replace(fault="", failed=None)
    except (CoordledgerError, OSError) as fault:
        with contextlib.suppress(CoordledgerError, OSError):  # others may bring the copy on
            watched = watching.recall()
        return watched, _failed(fetch, fault)


def _failed(fetch: Fetch, fault: Exception) -> Fetch:
    shown = disk_error(fault) if isinstance(fault, OSError) else fault
    why = f"{shown.message} [{shown.code}]" if isinstance(shown, CoordledgerError) else str(shown)
    return fetch._replace(fault=why, failed=fetch.failed or datetime.now(UTC))
