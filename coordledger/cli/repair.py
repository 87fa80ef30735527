"""`repair`: cut off what a ledger must not have, from a clone, or where the repository lives.

Rules: what would be given up is shown first; nothing is cut before somebody has said yes.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from coordledger.deadline import unix_ms

from .common import NAME, command, confirm, need_somebody, root
from .output import safe

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.server.repair import Cut

    from .common import App

_SHOWN = 20  # records that are cut, in the text; JSON has all of them


@command(
    "repair",
    parent=root,
    example="coordledger repair /srv/git/project.git --dry-run",
)
@click.argument("repository", metavar="[REPO.git]", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would be cut off, and change nothing.")
@click.option("--yes", is_flag=True, help="Answer yes to what it asks.")
def repair(app: App, repository: str | None, dry_run: bool, yes: bool) -> None:
    """Cut a ledger back to its last valid record.

    With REPO.git, or inside of it: where the repository lives, as the account that owns it.
    Without: from a clone, on a remote without a hook. What is cut is the first record that is
    invalid, of a newer version or from the future, and all that follows it. Every clone that has
    verified no further goes on as if that had never been there.
    """
    if not dry_run:
        need_somebody(yes, "repair")
    path = app.file(repository).absolute() if repository else _around(app)
    if path:
        _repair_here(app, path, dry_run=dry_run, yes=yes)
    else:
        _repair_remote(app, dry_run=dry_run, yes=yes)


def _around(app: App) -> Path | None:
    """The bare repository that this runs in, if it is a ledger's own."""
    from coordledger.client.opening import surroundings  # noqa: PLC0415 - help needs none

    repository = surroundings(app.options(), os.environ).repository
    if app.remote or repository is None or not repository.is_bare:
        return None
    return repository.git_dir if (repository.git_dir / "coordledger" / "master").exists() else None


def _repair_here(app: App, path: Path, *, dry_run: bool, yes: bool) -> None:
    from coordledger.server.repair import ServerLedger  # noqa: PLC0415 - help needs none

    name, screen = app.ledger_name or os.environ.get("COORDLEDGER_LEDGER") or "main", app.screen
    ledger = ServerLedger(path, name, app.git(), os.environ)
    found = ledger.examine(unix_ms(), screen.progress)
    cut, end = found.cut, f"{found.last.seq}:{found.last.digest}"
    head = f"{found.last.record['ledger']} {end}"
    if found.unchecked:
        screen.warn(f"{found.unchecked} records are not checked: their secrets are not here")
    if cut is None:
        screen.value({"repaired": False, "head": head, "cut": None})
        screen.line("nothing to repair: every record is valid")
        return
    undo = shlex.join(ledger.undo(cut))
    facts = {"code": cut.code, "message": cut.message, "kept": cut.kept_as, "undo": undo}
    value = {"repaired": not dry_run, "head": head}
    value["cut"] = facts | {"records": [record._asdict() for record in cut.records]}
    _show(app, cut, end)
    if not dry_run:
        confirm(yes, "repair", "Cut these off?")
        ledger.apply(cut, unix_ms())
    screen.value(value)
    if dry_run:
        screen.line("nothing was changed")
        return
    screen.line(f"the ledger ends at {end}; logged in {safe(ledger.log)}")
    screen.line(f"to undo it: {safe(undo)}")
    screen.line("a clone that had taken one of these over refuses to go back by itself; there:")
    screen.line(f"  {NAME} join --reset")


def _show(app: App, cut: Cut, end: str) -> None:
    """What is going to be cut off, and why."""
    first, newest = cut.records[0], cut.records[-1]
    app.screen.note(f"bad: record {first.seq} ({first.commit[:12]}): {cut.message} [{cut.code}]")
    app.screen.note(f"cut off: records {first.seq} to {newest.seq}, as they say of themselves:")
    for record in cut.records[:_SHOWN]:
        said = f"{record.at} {record.agent}: {record.subject}" if record.at else "not a record"
        app.screen.note(f"  {record.seq} {record.commit[:12]} {said}")
    if len(cut.records) > _SHOWN:
        app.screen.note(f"  … and {len(cut.records) - _SHOWN} more, up to {newest.commit[:12]}")
    app.screen.note(f"last valid record: {end}")


def _repair_remote(app: App, *, dry_run: bool, yes: bool) -> None:
    screen = app.screen
    with app.ledger(writes=True) as ledger:
        found = ledger.damage()
        if found is None:
            screen.value({"repaired": False, "head": ledger.head(refresh=False).line()})
            screen.line("nothing to repair: every record of the remote is valid")
            return
        screen.note(f"bad: {found.fault.message}")
        screen.note(f"last valid record: {found.last.seq}:{found.last.digest}")
        if not dry_run:
            confirm(yes, "repair", "Give up everything on the remote after that?")
        head = found.last if dry_run else ledger.repair(found)
    screen.value({"repaired": not dry_run, "head": head.line()})
    screen.line(f"the remote {'would end' if dry_run else 'ends'} at {head.seq}:{head.digest}")
