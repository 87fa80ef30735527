"""guard: what is to be written, committed or pushed is not what others have reserved.

Rules: the local copy answers, so that this can stand before every commit. It is a comfort and no
boundary: where there is no ledger it says nothing, and a fault of the ledger is a warning and keeps
nobody from committing. What is refused is told a line each: who has it, for what and until when.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from coordledger.errors import LOST, CoordledgerError, Lost, disk_error, error

from .common import command, root
from .output import task_name, when

if TYPE_CHECKING:
    from coordledger.client.opening import Connection
    from coordledger.client.reports import Guarded, Reserved
    from coordledger.git.changes import Update

    from .common import App
    from .output import Screen

_FRESH = timedelta(minutes=1)
_NONE = {"reserved": (), "seq": None, "as_of": None}
_TOLD_BY_PRE_COMMIT = ("LOCAL_BRANCH", "TO_REF", "REMOTE_BRANCH", "FROM_REF")


@command(
    "guard",
    parent=root,
    example="coordledger guard src/login.py\n"
    "coordledger guard --staged          # in .git/hooks/pre-commit\n"
    'coordledger guard --push "$@"       # in .git/hooks/pre-push',
)
@click.option("--staged", is_flag=True, help="What is staged, for a pre-commit hook.")
@click.option("--push", is_flag=True, help="What is pushed, for a pre-push hook: see below.")
@click.option(
    "--any-session", is_flag=True, help="My other sessions' claims, and my delegates', are mine."
)
@click.option("--warn", "warns", is_flag=True, help="Only say it: exit 0.")
@click.argument("paths", nargs=-1, type=click.UNPROCESSED, metavar="PATH...")
def guard(
    app: App, staged: bool, push: bool, any_session: bool, warns: bool, paths: tuple[str, ...]
) -> int:
    """Refuse files that somebody else has reserved: exit 3.

    What live claims reserve is shown by `paths`. Asks the local copy, and says how old it is. Where
    no ledger is joined, and where the copy cannot be read, nothing is refused. With --push, give it
    the hook's arguments (REMOTE URL) and its standard input.
    """
    if staged + push + bool(paths and not push) != 1:
        raise click.UsageError("give paths, or --staged, or --push")
    updates = _updates() if push else []
    found, fault = None, None
    try:
        found = _ask(app, staged, updates if push else None, paths, any_session=any_session)
    except (CoordledgerError, OSError) as failed:
        fault = disk_error(failed) if isinstance(failed, OSError) else failed
    if app.json:
        told = {"code": fault.code, "message": fault.message} if fault else None
        age = found.age // timedelta(seconds=1) if found else None
        app.screen.value_of(found or _NONE, age=age, fault=told)
    elif fault:
        app.screen.warn(f"nothing is guarded: {fault.message} [{fault.code}]")
    elif found:
        _tell(app.screen, found, warns=warns)
    return LOST if found and found.reserved and not warns else 0


def _ask(
    app: App,
    staged: bool,
    updates: list[Update] | None,
    paths: tuple[str, ...],
    *,
    any_session: bool,
) -> Guarded | None:
    """What is in the way; None where there is no ledger."""
    from coordledger.client import guarding  # noqa: PLC0415 - help needs none

    connection = _open(app)
    if connection is None:
        return None
    with connection:
        if staged:
            return guarding.guard_staged(connection, any_session=any_session)
        if updates is not None:
            remote = _pushed_to(paths)
            return guarding.guard_push(connection, updates, remote, any_session=any_session)
        return guarding.guard(connection, paths, any_session=any_session)


def _open(app: App) -> Connection | None:
    from coordledger.client.copies import open_here  # noqa: PLC0415 - as above

    return open_here(app.options(), os.environ, warn=app.screen.warn)


def _updates() -> list[Update]:
    """What git tells a pre-push hook; or what pre-commit tells, which has read that itself."""
    from coordledger.format.names import CODELESS_PUSHES  # noqa: PLC0415 - as above
    from coordledger.git.changes import updates_in, updates_of  # noqa: PLC0415

    if "PRE_COMMIT_REMOTE_NAME" in os.environ:
        local, new, ref, old = (
            os.environ.get(f"PRE_COMMIT_{name}") or "" for name in _TOLD_BY_PRE_COMMIT
        )
        return updates_of(new or local, ref, old, CODELESS_PUSHES)
    if sys.stdin.isatty():
        raise click.UsageError("--push reads what git tells a pre-push hook on its standard input")
    return updates_in(sys.stdin.buffer.read(), CODELESS_PUSHES)


def _pushed_to(paths: tuple[str, ...]) -> str | None:
    return os.environ.get("PRE_COMMIT_REMOTE_NAME") or (paths[0] if paths else None)


def _tell(screen: Screen, found: Guarded, *, warns: bool) -> None:
    now = datetime.now(UTC)
    for number, one in enumerate(found.reserved, 1):
        fault = _fault_of(one, now)
        last = number == len(found.reserved)
        if warns:
            screen.warn(fault.message)
        else:
            screen.error(Lost(fault.code, fault.message, fault.hint if last else ""))
    if found.age > _FRESH:
        screen.note(f"asked of a copy that is {_span(found.age)} old; coordledger paths renews it")


def _fault_of(one: Reserved, now: datetime) -> CoordledgerError:
    until = when(one.expires_at, now)
    who = {"agent": one.agent, "session": one.session, "task": task_name(one.task)}
    return error("reserved", path=one.path, until=until, **who)


def _span(age: timedelta) -> str:
    from coordledger.format import timestamps  # noqa: PLC0415 - as above

    return timestamps.span(age // timedelta(milliseconds=1))
