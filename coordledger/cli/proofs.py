"""Commands about code that has landed: blame-claim.

Rules: who landed it is shown with who has checked that; nothing is written to the ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from . import params
from .common import command, root
from .output import safe, task_name, when

if TYPE_CHECKING:
    from coordledger.client.reports import LandRecord

    from .common import App
    from .output import Screen


@command("blame-claim", parent=root, section="Trust", example="coordledger blame-claim HEAD")
@click.argument("commit", type=params.TEXT)
def blame_claim(app: App, commit: str) -> None:
    """Under whose claim COMMIT of the code came to which fenced ref.

    COMMIT is whatever git takes for one: an id, a branch, HEAD~3.
    """
    with app.ledger() as ledger:
        found = ledger.blame(commit)
    app.screen.value_of(found)
    for one in found.landings:
        _show(app.screen, one)
    if found.unseen:
        app.screen.warn(
            f"{found.unseen} land records name commits that are not in this clone, and may have"
            " brought it before"
        )
    app.screen.footer(one.checked for one in found.landings)


def _show(screen: Screen, one: LandRecord) -> None:
    doubt = screen.doubt(one.verdict, one.checked)
    screen.line(f"{safe(one.ref)}  {moved(one.old, one.new)}{doubt}")
    screen.fields(
        ("  by", safe(f"{one.agent}/{one.session}")),
        ("  task", f"{task_name(one.task)}, epoch {one.epoch}"),
        ("  at", when(one.at, datetime.now(UTC))),
        ("  record", f"{one.seq} {one.commit}"),
    )


def moved(old: str, new: str) -> str:
    """`3f2c1a000000..9a8b7c000000`"""
    return f"{old[:12]}..{new[:12]}"
