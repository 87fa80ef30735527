"""Commands about claims: claim, keep, hand over, finish, give back.

Rules: a command says what it wants of the ledger and prints what came back; whether it may
is the ledger's decision. Losing a claim prints who is in the way and exits with 3.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from coordledger.errors import LOST, Lost

from . import params
from .common import command, root
from .output import block, safe, when
from .wording import epoch_of, last_of, lease_of, not_before_of, said, task_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from coordledger.client.claims import ClaimResult, Last

    from .common import App
    from .output import Screen

_Function = TypeVar("_Function", bound="Callable[..., object]")

ttl_option = click.option(
    "--ttl",
    type=params.LEASE,
    metavar="DURATION",
    help="The lease: 60m, or what the policy allows.",
)


def claim_options(resume: str) -> Callable[[_Function], _Function]:
    """What says which claim is wanted; `resume`: what --resume does."""
    options = (
        click.option("--next", "next_", is_flag=True, help="The most urgent claimable task."),
        click.option(
            "--label", "labels", type=params.LABEL, multiple=True, help="With --next: it has LABEL."
        ),
        click.option("--any-label", is_flag=True, help="One of the labels is enough."),
        click.option(
            "--max-attempts",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --next: not after N claims in vain.",
        ),
        click.option("--resume", is_flag=True, help=resume),
        ttl_option,
        click.option(
            "--wait", type=params.SPAN, metavar="DURATION", help="Wait for it to be free."
        ),
        click.option("--note", type=params.TEXT, metavar="TEXT", help="Said to everybody."),
        click.option(
            "--path",
            "paths",
            type=params.TEXT,
            multiple=True,
            help="Reserve it; a folder ends in /.",
        ),
    )

    def decorated(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


@command(
    "claim",
    parent=root,
    example="coordledger claim task-1 --ttl 30m --note 'on branch fix-7' --path src/auth/\n"
    "coordledger claim --next --label backend --wait 10m",
)
@click.argument("tasks", type=params.TASK, nargs=-1, metavar="[TASK]...")
@claim_options("With --next: first what this session holds.")
@click.option("--reopen", is_flag=True, help="Even if it is done.")
@click.option("--dry-run", is_flag=True, help="Only tell how it would end now.")
def claim(app: App, tasks: tuple[str, ...], next_: bool, reopen: bool, **given: Any) -> int:
    """Claim tasks: first writer wins. Several are won together or not at all.

    A task that is offered to me (inbox, status) is taken over from its holder at once.
    """
    if next_ == bool(tasks):
        raise click.UsageError("either TASK... or --next")
    if next_ and reopen:
        raise click.UsageError("--next takes no task that is done: no --reopen")
    chosen = {name: given.pop(name) for name in ("labels", "any_label", "max_attempts", "resume")}
    if not next_ and any(chosen.values()):
        raise click.UsageError("labels, attempts and --resume go with --next")
    with app.ledger(writes=True) as ledger:
        if next_:
            result = ledger.claim_next(**given, **chosen)
        else:
            result = ledger.claim(*tasks, reopen=reopen, **given)
    if result.won:
        _claimed(app.screen, result, several=len(tasks) > 1, dry_run=given["dry_run"])
        return 0
    lost(app.screen, result, several=len(tasks) > 1)
    return LOST


def _claimed(screen: Screen, result: ClaimResult, *, several: bool, dry_run: bool) -> None:
    created: list[dict[str, object]] = [{"created": one.created} for one in result.claims]
    told = {"outcome": result.outcome, "resumed": result.resumed}
    screen.value_of(result.claims, several=several, each=created, **told)
    for one in result.claims:
        done = "would be won:" if dry_run else result.outcome
        new = "(a new task)" if one.created else ""
        new = "(by an earlier command, which did not say so)" if result.resumed else new
        title = safe(one.title or "")
        said(screen, done, one, epoch_of(one), lease_of(one), new, title)
        if one.handed_over_by:
            screen.line(f"handed over by {safe(one.handed_over_by)}")
        if result.outcome == "won" and one.last and one.last.kind not in ("submit", "edit"):
            _tell_last(screen, one.last)


def _tell_last(screen: Screen, last: Last) -> None:
    """What the next one should know; the text on lines of its own."""
    if last.kind == "complete":
        ago = when(last.at, datetime.now(UTC))
        screen.warn(f"{last.agent} finished that: {ago}")
    screen.line(f"before: {last_of(screen, last)}")
    if last.text:
        screen.line(block(last.text))


def lost(screen: Screen, result: ClaimResult, *, several: bool) -> None:
    """Say who is in the way."""
    if screen.json and result.claims:
        screen.value_of(
            result.claims, several=several, outcome="lost", code=result.code, created=False
        )
    else:
        screen.error(Lost(result.code, result.message, result.hint))


@command("renew", parent=root, example="coordledger renew task-1 --ttl 2h")
@task_argument
@ttl_option
@click.option("--note", type=params.TEXT, metavar="TEXT", help="How it goes.")
def renew(app: App, task: str, ttl: timedelta | None, note: str | None) -> None:
    """Extend the lease that this session holds. One that lasts as long already is kept."""
    with app.ledger(writes=True) as ledger:
        result = ledger.renewal(task, ttl=ttl, note=note)
    [claim] = result.claims
    app.screen.value_of(claim, outcome=result.outcome)
    said(app.screen, result.outcome, claim, lease_of(claim))


@command(
    "complete",
    parent=root,
    example="coordledger complete task-1 --result 'merged as 3f2c1a'",
)
@task_argument
@click.option("--result", type=params.TEXT, metavar="TEXT", help="What came of it.")
def complete(app: App, task: str, result: str | None) -> None:
    """Finish a task that this session holds. Repeating it is no error."""
    with app.ledger(writes=True) as ledger:
        claim = ledger.complete(task, result=result)
    app.screen.value_of(claim)
    said(app.screen, "done", claim)


@command(
    "release",
    parent=root,
    example="coordledger release task-1 --reason 'needs a GPU'",
)
@task_argument
@click.option("--reason", type=params.TEXT, metavar="TEXT", help="Why.")
@click.option("--force", is_flag=True, help="Anybody's claim, as an admin.")
@click.option(
    "--not-before", type=params.MOMENT, metavar="WHEN", help="Nobody claims it before: 10m, a time."
)
def release(
    app: App, task: str, reason: str | None, force: bool, not_before: datetime | None
) -> None:
    """Give a task back: it is open again, at once or later."""
    with app.ledger(writes=True) as ledger:
        claim = ledger.release(task, reason=reason, force=force, not_before=not_before)
    app.screen.value_of(claim)
    said(app.screen, "released", claim, not_before_of(claim))


@command(
    "handoff",
    parent=root,
    example="coordledger handoff task-1 --to bob --note 'the tests are red'",
)
@task_argument
@click.option("--to", type=params.AGENT, required=True, metavar="AGENT", help="Who takes it.")
@click.option("--note", type=params.TEXT, metavar="TEXT", help="What they should know.")
def handoff(app: App, task: str, to: str, note: str | None) -> None:
    """Pass a task on: AGENT takes it over by claiming it.

    This session holds it. Nobody else can claim it until the lease ends; renewing, completing or
    releasing it withdraws the offer.
    """
    with app.ledger(writes=True) as ledger:
        claim = ledger.handoff(task, to=to, note=note)
    app.screen.value_of(claim)
    said(app.screen, "offered", claim, f"to {safe(to)}", lease_of(claim))
