"""Commands about tasks: offer, edit, withdraw; many operations at once.

Rules: a command says what it wants of the ledger and prints what came back; whether it may
is the ledger's decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from coordledger.errors import Lost

from . import params
from .common import command, root
from .output import safe, task_name
from .wording import not_before_of, said, task_argument

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .common import App
    from .output import Screen

MAX_BATCH = 16_777_216  # bytes


def attributes(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that describe a task."""
    options = (
        click.option("--title", type=params.TEXT, metavar="TEXT", help="What it is, in a line."),
        click.option("--priority", type=int, metavar="N", help="Higher is claimed first."),
        click.option(
            "--label", "labels", type=params.LABEL, multiple=True, help="A word to find it by."
        ),
        click.option(
            "--meta", type=params.Pair(), multiple=True, metavar="KEY=VALUE", help="A fact."
        ),
        click.option("--after", type=params.TASK, multiple=True, metavar="TASK", help="It waits."),
        click.option("--parent", type=params.TASK, metavar="TASK", help="It is a part of TASK."),
        click.option(
            "--not-before", type=params.MOMENT, metavar="WHEN", help="Nobody claims it before."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _given(**options: Any) -> dict[str, Any]:
    """Of the options that describe a task those that were given."""
    found: dict[str, Any] = {
        name: value for name, value in options.items() if value not in (None, ())
    }
    if "meta" in found:
        found["meta"] = dict(found["meta"])
    return found


@command(
    "submit",
    parent=root,
    example="coordledger submit task-1 --title 'Mend the login' --label auth --priority 5\n"
    "coordledger submit task-2 --parent task-1 --body - < notes.md",
)
@task_argument
@attributes
@click.option("--body", type=params.TEXT, metavar="TEXT", help="All there is to say; - is stdin.")
def submit(app: App, task: str, body: str | None, **options: Any) -> int:
    """Offer a task. Repeating it changes nothing; what is there with other attributes is lost."""
    screen = app.screen
    text = None if body is None else params.read_body(body)
    with app.ledger(writes=True) as ledger:
        try:
            claim = ledger.submit(task, body=text, **_given(**options))
        except Lost as lost:
            if lost.code != "task-differs":
                raise
            return _differs(screen, lost)
    screen.value_of(claim, outcome="created" if claim.created else "exists")
    facts = [f"priority {claim.priority}"] if claim.priority else []
    facts += [f"waits for {' '.join(map(task_name, claim.waits_for))}"] if claim.waits_for else []
    facts += [not_before_of(claim)] if not_before_of(claim) else []
    facts += [] if claim.created else ["(it was there already)"]
    screen.line("  ".join([f"{task_name(task)} is {screen.styled(claim.status)}", *facts]))
    return 0


_EMPTY: dict[str, Any] = {
    "title": None,
    "labels": [],
    "meta": {},
    "after": [],
    "parent": None,
    "not-before": None,
}


@command(
    "edit",
    parent=root,
    example="coordledger edit task-1 --title 'Mend the login again' --clear labels",
)
@task_argument
@attributes
@click.option("--clear", type=click.Choice(list(_EMPTY)), multiple=True, help="Empty it.")
def edit(app: App, task: str, clear: tuple[str, ...], **options: Any) -> None:
    """Change a task's title, priority, labels, and so on.

    Who has offered it, who holds it and admins may do so. What is given replaces what was there:
    all labels, all of --meta, all of --after.
    """
    changes = _given(**options)
    emptied: dict[str, Any] = {name.replace("-", "_"): _EMPTY[name] for name in clear}
    if emptied.keys() & changes.keys():
        raise click.UsageError("--clear, or a value: not both of one attribute")
    changes |= emptied
    if not changes:
        raise click.UsageError("nothing to change")
    with app.ledger(writes=True) as ledger:
        claim = ledger.edit(task, **changes)
    app.screen.value_of(claim)
    said(app.screen, "edited", claim)


def _differs(screen: Screen, lost: Lost) -> int:
    differences: dict[str, dict[str, Any]] = lost.data["differences"]
    if screen.json:
        screen.value_of(
            lost.data["claim"],
            outcome="exists",
            code=lost.code,
            message=lost.message,
            differences=differences,
        )
        return lost.exit_code
    screen.error(lost)
    return lost.exit_code


@command(
    "withdraw",
    parent=root,
    example="coordledger withdraw task-1 --reason 'not needed any more'",
)
@task_argument
@click.option("--reason", type=params.TEXT, metavar="TEXT", help="Why.")
def withdraw(app: App, task: str, reason: str | None) -> None:
    """Take back an offer that nobody holds. Tasks that wait for it wait no longer."""
    with app.ledger(writes=True) as ledger:
        claim = ledger.withdraw(task, reason=reason)
    app.screen.value_of(claim)
    said(app.screen, "withdrawn", claim)


@command(
    "batch",
    parent=root,
    example="""printf '%s\\n' '{"do": "submit", "task": "task-1"}' \\
  '{"do": "claim", "task": "task-1", "ttl": "30m"}' | coordledger batch""",
)
def batch(app: App) -> int:
    """Land many operations with one push: JSON lines on stdin.

    {"do": "submit", "task", "title", "priority", "labels", "meta", "after", "parent", "body",
    "not_before"}, {"do": "claim", "task" or "tasks", "ttl", "note", "reopen", "paths"}, and so
    on for edit, withdraw, renew, complete, release, handoff and send, with the names of their
    options; {"do": "set_fact", "key", "value", "ttl", "if_rev"}, and remove_fact. Each stands for
    itself; the exit code is the highest of them all.
    """
    lines = [line for line in params.read_stdin("the batch", MAX_BATCH).split("\n") if line.strip()]
    with app.ledger(writes=True) as ledger, ledger.batch() as wanted:
        for line in lines:
            wanted.line(
                line,
                lambda text: params.LEASE.convert(text, None, None),
                lambda text: params.MOMENT.convert(text, None, None),
            )
    app.screen.value_of(wanted.outcomes)
    for one in wanted.outcomes:
        facts = [f"record {one.seq}"] if one.landed else [safe(one.message)]
        facts += [f"epoch {one.epoch}"] if one.epoch else []
        app.screen.line("  ".join([app.screen.styled(one.outcome), safe(one.what), *facts]))
    return max((one.error.exit_code for one in wanted.outcomes if one.error), default=0)
