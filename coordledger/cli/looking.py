"""Commands that look at tasks: list, show, history, paths, require.

Rules: those of `tasks`; and what is shown says who has checked it, where that is not this reader.
"""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from . import params
from .common import command, root
from .output import about, doubt_cell, safe, task_name, when
from .wording import (
    claims_table,
    epoch_of,
    holder_of,
    lease_of,
    mac_of,
    print_description,
    said,
    task_argument,
)

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

    from coordledger.client.reports import Event, Listing

    from .common import App

STATUSES = ("open", "claimed", "expired", "done", "withdrawn")


@command("list", parent=root, example="coordledger list --open --limit 10")
@click.option("--open", is_flag=True, help="Nobody has it.")
@click.option("--claimed", is_flag=True, help="Its lease runs.")
@click.option("--expired", is_flag=True, help="Its lease is over.")
@click.option("--done", is_flag=True, help="Completed.")
@click.option("--withdrawn", is_flag=True, help="Not offered any more.")
@click.option("--mine", is_flag=True, help="Claimed or completed by this agent.")
@click.option("--agent", type=params.AGENT, metavar="AGENT", help="Claimed or completed by AGENT.")
@click.option(
    "--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Its status."
)
@click.option("--label", "labels", type=params.LABEL, multiple=True, help="It has LABEL.")
@click.option("--any-label", is_flag=True, help="One of the labels is enough.")
@click.option("--parent", type=params.TASK, metavar="TASK", help="A part of TASK.")
@click.option("--blocked", is_flag=True, help="It waits for another.")
@click.option("--stuck", is_flag=True, help="Free, and claimed in vain too often.")
@click.option(
    "--checked",
    type=click.Choice(["here", "server", "nobody"]),
    help="By whom: with a key here, by the server's hook, or by nobody.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N.")
def list_(
    app: App,
    mine: bool,
    agent: str | None,
    statuses: tuple[str, ...],
    **given: Any,
) -> None:
    """List tasks: the highest priority first, then the oldest.

    Several statuses mean any of them; what else is said narrows them down.
    """
    if mine and agent:
        raise click.UsageError("either --mine or --agent")
    asked = {status for status in STATUSES if given.pop(status, False)}
    gc.disable()  # all that is made is kept to the end: a quarter of the time went into that search
    with app.ledger() as ledger:
        agent = ledger.connection.settings.need_agent if mine else agent
        found = ledger.some_tasks({*statuses, *asked}, agent, **given)
    app.screen.value_of(found.tasks)
    with app.screen.paged():
        claims_table(app.screen, found.tasks)
        app.screen.line(_total(found))


def _total(found: Listing) -> str:
    if not found.count:
        return "no tasks"
    counted = [f"{found.statuses[name]} {name}" for name in STATUSES if name in found.statuses]
    shown = f"; these are the first {len(found.tasks)}" if len(found.tasks) < found.count else ""
    return f"{found.count} {'task' if found.count == 1 else 'tasks'}: {', '.join(counted)}{shown}"


@command("paths", parent=root, example="coordledger paths")
def paths(app: App) -> None:
    """The paths that live claims have reserved.

    They are reserved by `claim TASK --path PATH`, and kept by `guard`.
    """
    with app.ledger() as ledger:
        found = ledger.paths()
    app.screen.value_of(found)
    now, tell = datetime.now(UTC), about if app.screen.is_narrow else when
    rows = [
        [
            path,
            task_name(one.task),
            safe(f"{one.agent}/{one.session}"),
            tell(one.expires_at, now),
        ]
        for one in found
        for path in one.paths
    ]
    app.screen.table(["PATH", "TASK", "HOLDER", "UNTIL"], rows, elastic=(0, 1, 2))
    if not found:
        app.screen.line("no reserved paths")


@command("show", parent=root, example="coordledger show task-1")
@task_argument
@click.option("--sshsig", is_flag=True, help="TASK is a record's seq: give it to OpenSSH.")
def show(app: App, task: str, sshsig: bool) -> None:
    """Show one task, and its page in the ledger's tree.

    With --sshsig: the payload of a record, one line, and after it its signature, as
    `ssh-keygen -Y verify` takes them.
    """
    from coordledger.format.state import page_path  # noqa: PLC0415 - help needs none

    if sshsig:
        _show_signature(app, task)
        return
    with app.ledger() as ledger:
        found = ledger.describe(task)
    page = page_path(task)
    more: dict[str, Any] = {
        "body": found.body,
        "body_checked": found.body_checked,
        "parts": found.parts,
    }
    app.screen.value_of(found.claim, **more, page=page)
    print_description(app.screen, found, page)


def _show_signature(app: App, seq: str) -> None:
    from coordledger.client import openssh  # noqa: PLC0415 - help needs none

    if not (seq.isascii() and seq.isdecimal()):
        raise click.UsageError(f"--sshsig: a record's seq, not {safe(seq)}")
    with app.ledger() as ledger:
        found = openssh.signature(ledger.connection, int(seq))
    app.screen.value_of(found)
    app.screen.line(found.payload)
    app.screen.line(found.signature.removesuffix("\n"))
    app.screen.note(f"signed by {found.agent}/{found.key}, committed {found.time}")


def _note_of(event: Event) -> str:
    words = [mac_of(event.legacy)] if event.legacy else []
    return "; ".join([*words, *([event.text] if event.text else [])])


@command("history", parent=root, example="coordledger history task-1")
@task_argument
def history(app: App, task: str) -> None:
    """Every record about a task, oldest first.

    Those that this copy has: a shallow one has the newest.
    """
    with app.ledger() as ledger:
        events = ledger.history(task)
    app.screen.value_of(events)
    now, tell = datetime.now(UTC), about if app.screen.is_narrow else when
    rows = [
        [
            str(event.seq),
            tell(event.at, now),
            event.kind,
            f"{event.agent}/{event.session}",
            str(event.epoch or ""),
            doubt_cell(event.verdict, event.checked),
            _note_of(event),
        ]
        for event in events
    ]
    app.screen.table(["SEQ", "AT", "WHAT", "BY", "EPOCH", "CHECKED", "NOTE"], rows, elastic=(3,))
    app.screen.footer(event.checked for event in events)


@command("wait", parent=root, example="coordledger wait task-1 --timeout 2h")
@click.argument("tasks", type=params.TASK, nargs=-1, required=True, metavar="TASK...")
@click.option(
    "--for",
    "until",
    type=click.Choice(["done", "free", "claimed"]),
    default="done",
    show_default=True,
    help="What is waited for; free: to be claimed.",
)
@click.option("--timeout", type=params.SPAN, metavar="DURATION", help="At most so long; 1d.")
def wait(app: App, tasks: tuple[str, ...], until: str, timeout: timedelta | None) -> None:
    """Wait until all of the tasks are done, free or claimed.

    Exit 3: one cannot become so, as it is withdrawn, done, or not there. Exit 1: waited in vain.
    """
    with app.ledger() as ledger:
        claims = ledger.wait(*tasks, until=until, timeout=timeout)
    app.screen.value_of(claims, several=len(tasks) > 1)
    for one in claims:
        said(app.screen, one.status, one, holder_of(one), epoch_of(one), lease_of(one))


@command(
    "require",
    parent=root,
    example="coordledger require task-1 --by alice && ./deploy",
)
@task_argument
@click.option("--by", type=params.AGENT, metavar="AGENT", help="Held by this agent.")
@click.option("--epoch", type=int, metavar="N", help="In this epoch; without --by: mine.")
@click.option(
    "--check", type=click.Choice(["here"]), help="Checked with a key here: the hook is not enough."
)
def require(app: App, task: str, by: str | None, epoch: int | None, check: str | None) -> None:
    """A gate: exit 0 only if the claim is live, and checked.

    Live by the server's time; checked here, where there is a key for it, or by the server's hook,
    which is asked to vouch.
    """
    with app.ledger() as ledger:
        claim = ledger.require(task, by=by, epoch=epoch, check=check)
    app.screen.value_of(claim)
    doubt = app.screen.doubt(claim.verdict, claim.checked)
    said(app.screen, "ok", claim, holder_of(claim), epoch_of(claim), lease_of(claim) + doubt)
