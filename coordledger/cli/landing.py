"""The command that pushes code under a claim."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from coordledger.errors import error

from . import params
from .common import command, root
from .output import safe, task_name
from .wording import epoch_of

if TYPE_CHECKING:
    from coordledger.client.ledger import Ledger

    from .common import App

PATIENCE = timedelta(minutes=10)  # code may be large


@command(
    "push",
    parent=root,
    example="coordledger push origin HEAD:main --task task-1 --complete",
)
@click.argument("words", nargs=-1, required=True, metavar="[REMOTE] REFSPEC...")
@click.option("--task", type=params.TASK, metavar="TASK", help="Under whose claim; my only one.")
@click.option("--complete", is_flag=True, help="The task is done with it.")
@click.option("--result", type=params.TEXT, metavar="TEXT", help="What came of it.")
@click.option(
    "--require-paths", is_flag=True, help="Only if all changes lie within the claim's paths."
)
def push(
    app: App,
    words: tuple[str, ...],
    task: str | None,
    complete: bool,
    result: str | None,
    require_paths: bool,
) -> None:
    """Push code to fenced refs under a claim: both or neither.

    A record says under whose claim it landed. REMOTE is the ledger's own. It may take ten minutes,
    unless --timeout says more.
    """
    app.timeout = max(app.timeout, PATIENCE)
    with app.ledger(writes=True) as ledger:
        done = ledger.push(
            *_refspecs(ledger, words),
            task=task,
            complete=complete,
            result=result,
            require_paths=require_paths,
        )
    app.screen.value_of(done)
    for one in done.refs:
        moved = safe(f"{one.ref}  {one.old[:12]}..{one.new[:12]}  record {one.seq}")
        app.screen.line(f"{app.screen.styled('landed')} {moved}")
    facts = f"{task_name(done.claim.task)}  {epoch_of(done.claim)}"
    app.screen.line(f"under {facts}  {app.screen.styled(done.claim.status)}")


def _refspecs(ledger: Ledger, words: tuple[str, ...]) -> tuple[str, ...]:
    """The refspecs; a REMOTE before them has to be the ledger's, or one push could not have both.

    Raises `Failed`: bad-value.
    """
    remote = ledger.connection.remote.address
    if words[0] in (remote.given, remote.name, remote.url):
        return words[1:]
    if words[0] in remote.others:
        raise error("bad-value", what=words[0], why=f"the ledger is at {remote.shown}")
    return words
