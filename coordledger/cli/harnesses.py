"""Commands for agents' harnesses: `prime`, `agent-hook`."""

from __future__ import annotations

import os
import sys

import click

from coordledger.errors import CoordledgerError

from .common import App, command, root


@command("prime", parent=root, example="coordledger prime")
def prime(app: App) -> None:
    """What a session has to know, in a few lines.

    From the local copy, at once. Where there is no ledger, or anything is wrong: nothing, exit 0.
    """
    from coordledger.integrations import here  # noqa: PLC0415 - help needs none

    try:
        options = app.options()._replace(timeout=here.TIMEOUT)
        found = here.look(options, os.environ)
        from coordledger.integrations import prime as primes  # noqa: PLC0415 - after git has begun

        said = primes.prime(found) if found else None
        if found:
            found.close()
    except (CoordledgerError, OSError):
        said = None
    if said is None:
        if sys.stdout.isatty():  # somebody has typed it, and would guess
            app.screen.warn("no ledger can be read here: coordledger status says why")
        app.screen.value(None)
        return
    app.screen.value_of(said)
    for line in said.text.splitlines():
        app.screen.line(line)


@command(
    "agent-hook",
    parent=root,
    example="coordledger agent-hook claude < event.json",
)
@click.argument("harness", metavar="HARNESS")
@click.option("--listen", is_flag=True, help="Wait, and end with 2 when there is news.")
def agent_hook(app: App, harness: str, listen: bool) -> int:
    """Answer a harness's hook: the event as JSON on stdin.

    HARNESS is claude, codex, gemini, opencode, cursor or copilot; `coordledger setup` enters this
    in their hooks. Whatever goes wrong is logged, and blocks nothing.
    """
    from coordledger.integrations.agent_hook import main  # noqa: PLC0415 - help needs none

    return main([harness, *(["--listen"] if listen else [])])
