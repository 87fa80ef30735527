"""The command report: all of a ledger as a page, a picture, a chart or data.

Rules: those of `log`. What is drawn is `client.reporting`'s to say; here words become a selection,
and what came out gets into its file. Where the audit has found a bad record that is exit 4, after
all is written.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from coordledger.errors import INTEGRITY, error

from . import params
from .common import command, root
from .log import moment_option, since_option, until_option
from .output import safe

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.client.ledger import Ledger
    from coordledger.client.reporting.gathering import Selection

    from .common import App

MOST = 20_000  # records, where nobody says how many


@command(
    "report",
    parent=root,
    example="coordledger report --html report.html\n"
    "coordledger report --svg timeline.svg --since '1 week ago'\n"
    "coordledger report --serve",
)
@click.option("--html", type=params.TEXT, metavar="FILE", help="One page; - is stdout.")
@click.option("--svg", type=params.TEXT, metavar="FILE", help="The timeline as a picture.")
@click.option("--mermaid", is_flag=True, help="The timeline as Mermaid's text, for issues.")
@click.option("--serve", is_flag=True, help="The page on this machine alone, as it changes.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Serve there; 0: any."
)
@since_option
@until_option
@click.option("--task", type=params.TASK, metavar="TASK", help="About TASK.")
@click.option("--agent", type=params.AGENT, metavar="AGENT", help="What concerns AGENT.")
@click.option("--full", is_flag=True, help="Audit everything first, from the first record on.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=MOST, show_default=True, metavar="N",
    help="The newest N records; 0: all.",
)  # fmt: skip
def report(
    app: App,
    html: str | None,
    svg: str | None,
    mermaid: bool,
    serve: bool,
    port: int,
    full: bool,
    since: str | None,
    until: str | None,
    task: str | None,
    agent: str | None,
    limit: int,
) -> int:
    """Show all of a ledger on one page.

    Who held what when, tasks, messages, agents, keys, what the audit found, and who has checked
    each of it. The page needs nothing but its file, and loads nothing.
    """
    from coordledger.client.reporting import (  # noqa: PLC0415 - help needs none
        drawing,
        gantt,
        gathering,
        rendering,
    )

    asked = [one for one in (html, svg, mermaid, serve) if one]
    if len(asked) != 1 and not (app.json and not asked):
        raise click.UsageError("one of --html FILE, --svg FILE, --mermaid, --serve, --json")
    if port and not serve:
        raise click.UsageError("--port goes with --serve")
    file = html or svg
    path = None if file in (None, "-") else app.file(str(file))
    if path is not None and path.exists() and not path.is_file():
        raise error("bad-value", what="--html" if html else "--svg", why=f"{path} is no file")
    with app.ledger() as ledger:
        begin = moment_option(ledger, since, "--since")
        end = moment_option(ledger, until, "--until")
        selected = gathering.Selection(begin, end, task, agent, limit or None)
        if serve:
            _serve(app, ledger, selected, port)
            return 0
        found = gathering.gather(ledger.connection, selected, full=full)
    if not asked:
        app.screen.value_of(found)
    else:
        draw = rendering.html if html else drawing.svg if svg else gantt.mermaid
        _write(app, path, draw(found))
    if not found.audit.problems:
        return 0
    if not app.screen.json:
        app.screen.error(error("bad-chain", count=len(found.audit.problems)))
    return INTEGRITY


def _write(app: App, path: Path | None, made: str) -> None:
    """Into the file, or to stdout."""
    if path is not None:
        path.write_text(made, "utf-8")
        size = len(made.encode("utf-8"))
        app.screen.value({"file": str(path), "bytes": size})
        app.screen.line(f"{size} bytes in {safe(path)}")
    else:
        app.screen.value({"text": made})
        if not app.screen.json:
            app.screen.raw(made)


def _serve(app: App, ledger: Ledger, selected: Selection, port: int) -> None:
    from coordledger.client.reporting import serving  # noqa: PLC0415 - as above

    def ready(url: str) -> None:
        app.screen.value_in_line({"url": url})
        app.screen.line(f"{url}  (Ctrl-C ends it)")

    with contextlib.suppress(KeyboardInterrupt):
        serving.serve(ledger.connection, selected, port, ready)
