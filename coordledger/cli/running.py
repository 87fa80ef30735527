"""`run`: a command that has a claim for as long as it runs.

Rules: once a command was started, stdout is its own, and what there is to say goes to stderr. What
comes before `--` is ours, what comes after it the command's.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from coordledger.errors import disk_error, own_code

from . import params
from .claims import claim_options, lost
from .common import App, Command, command, root
from .output import task_name
from .wording import epoch_of, lease_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from coordledger.client.claims import Claim, ClaimResult
    from coordledger.integrations.running import Run

_WORDS = "coordledger.command"  # in click's memory of one run
_NO_COMMAND = "what is to be run comes after --"
_FAILURES = 3  # commands in a row that fail, until --restart gives up


class RunCommand(Command):
    """Its exit codes are beside those of the program that it runs."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if parent is not None:
            parent.ensure_object(App).exit_code = own_code
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        border = args.index("--") if "--" in args else len(args)
        wants_help = {"-h", "--help"} & set(args[:border])
        if border == len(args) and not wants_help and not ctx.resilient_parsing:
            raise click.UsageError(_NO_COMMAND, ctx)
        ctx.meta[_WORDS] = tuple(args[border + 1 :])
        return super().parse_args(ctx, args[:border])


@command(
    "run",
    parent=root,
    cls=RunCommand,
    example="coordledger run task-1 --complete -- make test\n"
    "coordledger run --next --restart --complete -- sh -c 'work-on \"$COORDLEDGER_TASK\"'",
)
@click.argument("task", type=params.TASK, required=False, metavar="[TASK] -- COMMAND...")
@claim_options("Go on with what this session holds.")
@click.option("--complete", is_flag=True, help="It is done if COMMAND exits with 0.")
@click.option("--restart", is_flag=True, help="With --next: the next one, until there is none.")
@click.option("--report", metavar="FILE", help="Add a line of JSON for each COMMAND.")
def run(
    app: App,
    task: str | None,
    next_: bool,
    complete: bool,
    restart: bool,
    report: str | None,
    **given: Any,
) -> int:
    """Run COMMAND under a claim that lasts as long as it does.

    The lease is renewed, and COMMAND is ended in time if it is lost. Then the task is completed, or
    given back.

    The exit code is COMMAND's; 120: the lease was lost; 121 to 125: 120 and that of `claim`.
    """
    words: tuple[str, ...] = click.get_current_context().meta[_WORDS]
    if not words:
        raise click.UsageError(_NO_COMMAND)
    chosen = {name: given.pop(name) for name in ("labels", "any_label", "max_attempts")}
    if next_ == bool(task):
        raise click.UsageError("either TASK or --next")
    if not next_ and (restart or any(chosen.values())):
        raise click.UsageError("labels, attempts and --restart go with --next")
    from coordledger.integrations.running import Order, Runner  # noqa: PLC0415 - help needs none

    resume, wait, ttl = given.pop("resume"), given["wait"], given["ttl"]
    order = Order(
        words,
        _environ(app),
        app.options().path,
        ttl=ttl,
        complete=complete,
        resume=resume,
        waits=bool(wait),
    )
    if report is not None:
        app.file(report).open("a").close()  # what cannot be written is refused before anything runs
    with app.ledger(writes=True) as ledger:
        runner = Runner(ledger, app.screen.warn)

        def claim() -> ClaimResult:
            if next_:
                return ledger.claim_next(**given, **chosen, resume=resume)
            return ledger.claim(str(task), **given)

        def once() -> Run:
            begun = datetime.now(UTC)
            ran = runner.run(order, claim, lambda won: _started(app, won, tell=next_))
            if ran.ended is not None and report is not None:
                _report(app, report, ran, begun)
            return ran

        return _repeat(app, once) if restart else _answer(app, once())


def _environ(app: App) -> dict[str, str]:
    """The command's: what was said by flags counts for what it calls, too."""
    said = {"COORDLEDGER_REMOTE": app.remote, "COORDLEDGER_SSH_KEY": app.ssh_key}
    return dict(os.environ) | {name: value for name, value in said.items() if value}


def _started(app: App, won: Claim, *, tell: bool) -> None:
    app.screen.json = False
    if tell:
        words = (f"coordledger: running {task_name(won.task)}", epoch_of(won), lease_of(won))
        app.screen.note("  ".join(words))


def _answer(app: App, ran: Run) -> int:
    if ran.ended is None and ran.result is not None:
        lost(app.screen, ran.result, several=False)
    elif ran.error is not None:
        app.screen.error(ran.error)
    return ran.code


def _repeat(app: App, once: Callable[[], Run]) -> int:
    """One after the other, until there is none, a signal ends it, or too many have failed."""
    failures = 0
    while True:
        ran = once()
        if ran.result is not None and ran.result.code == "nothing-to-claim":
            return 0
        code = _answer(app, ran)
        failures = failures + 1 if code else 0
        if ran.ended is None or ran.was_told_to_end or failures == _FAILURES:
            if failures == _FAILURES:
                app.screen.warn(f"{failures} commands in a row have failed: no further one is run")
            return code


def _report(app: App, path: str, ran: Run, begun: datetime) -> None:
    """One line, of what has become of the command and of its claim."""
    from coordledger.client.claims import to_json  # noqa: PLC0415

    if ran.claim is None or ran.ended is None:
        return
    fault = ran.error
    row = {
        "task": ran.claim.task,
        "epoch": ran.claim.epoch,
        "agent": ran.claim.agent,
        "session": ran.claim.session,
        "status": ran.status,
        "exit_code": ran.code,
        "command": {
            "code": None if ran.ended.by_signal else ran.ended.code,
            "signal": (ran.ended.code or 0) - 128 if ran.ended.by_signal else None,
        },
        "started_at": begun,
        "ended_at": datetime.now(UTC),
        "error": {"code": fault.code, "message": fault.message} if fault else None,
    }
    import json  # noqa: PLC0415 - claims need none

    try:
        with app.file(path).open("a", encoding="ascii") as file:
            file.write(json.dumps(to_json(row)) + "\n")
    except OSError as fault:  # what has become of the command is the answer all the same
        task, why = task_name(ran.claim.task), disk_error(fault).message
        app.screen.warn(f"no line for {task} is in the report: {why}")
