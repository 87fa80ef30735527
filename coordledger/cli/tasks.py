"""Commands about tasks: offer, claim, keep, finish, give back, look.

Rules: a command says what it wants of the ledger and prints what came back; whether it may
is the ledger's decision. Losing a claim prints who is in the way and exits with 3.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from coordledger.errors import LOST, Lost

from . import params
from .common import command, root
from .output import block, doubt_cell, safe, when

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from typing import Any

    from coordledger.client.claims import Claim, ClaimResult, Last

    from .common import App
    from .output import Screen

MAX_BATCH = 16_777_216  # bytes

task_argument = click.argument("task", type=params.TASK)
ttl_option = click.option(
    "--ttl",
    type=params.LEASE,
    metavar="DURATION",
    help="The lease: 60m, or what the policy allows.",
)


# -- in words


def _holder(claim: Claim) -> str:
    return safe(f"{claim.agent}/{claim.session}") if claim.agent else ""


def _said(screen: Screen, done: str, claim: Claim, *facts: str) -> None:
    shown = "".join(f"  {fact}" for fact in facts if fact)
    screen.line(f"{screen.styled(done)} {safe(claim.task)}{shown}")


def _epoch(claim: Claim) -> str:
    return safe(f"epoch {claim.epoch}")


def _lease(claim: Claim) -> str:
    return f"until {when(claim.expires_at, datetime.now(UTC))}" if claim.expires_at else ""


def claims_table(screen: Screen, claims: Sequence[Claim]) -> None:
    """A line each; who has checked it only where that is not this reader of all."""
    now = datetime.now(UTC)
    doubts = [doubt_cell(claim.verdict, claim.checked) for claim in claims]
    header = [
        "TASK",
        "STATUS",
        "PRIO",
        "HOLDER",
        "UNTIL",
        *(["CHECKED"] if any(doubts) else ""),
        "NOTE",
    ]
    rows = []
    for claim, doubt in zip(claims, doubts, strict=True):
        until = when(claim.expires_at, now) if claim.expires_at else ""
        words = claim.result if claim.status == "done" else claim.note
        if claim.status in ("open", "withdrawn") and claim.last and claim.last.text:
            words = f"{claim.last.kind} by {claim.last.agent}: {claim.last.text}"
        if claim.waits_for:
            words = f"waits for {' '.join(claim.waits_for)}"
        row = [claim.task, claim.status, str(claim.priority or ""), _holder(claim), until]
        rows.append([*row, *([doubt] if any(doubts) else ""), words or ""])
    screen.table(header, rows)
    screen.footer(claim.checked for claim in claims)


def print_claim(screen: Screen, claim: Claim, page: str) -> None:
    """All of one task."""
    now = datetime.now(UTC)
    screen.fields(
        ("task", safe(claim.task)),
        ("status", screen.styled(claim.status)),
        ("holder", _holder(claim)),
        ("epoch", safe(claim.epoch)),
        ("claimed", when(claim.claimed_at, now) if claim.claimed_at else ""),
        ("until", when(claim.expires_at, now) if claim.expires_at else ""),
        ("free from", when(claim.claimable_at, now) if claim.claimable_at else ""),
        ("offered by", safe(claim.by or "")),
        ("priority", safe(claim.priority or "")),
        ("after", safe(" ".join(claim.after))),
        ("waits for", safe(" ".join(claim.waits_for))),
        ("meta", safe(" ".join(f"{key}={value}" for key, value in claim.meta.items()))),
        ("last", _last(screen, claim.last) if claim.last else ""),
        ("record", safe(f"{claim.seq} {claim.commit or '(not in this copy)'}")),
        ("page", page),
        ("verdict", screen.styled(claim.verdict)),
        ("checked", screen.styled(claim.checked)),
    )
    free = claim.status in ("open", "withdrawn")
    reason = claim.last.text if claim.last and free else None
    for name, text in (("note", claim.note), ("result", claim.result), ("reason", reason)):
        if text:
            screen.line(name)
            screen.line(block(text))
    screen.footer([claim.checked])


# -- commands


@command("submit", parent=root, section="Tasks", example="coordledger submit task-1 --priority 5")
@task_argument
@click.option("--priority", type=int, default=0, metavar="N", help="Higher is claimed first.")
@click.option("--meta", type=params.Pair(), multiple=True, metavar="KEY=VALUE", help="A fact.")
@click.option("--after", type=params.TASK, multiple=True, metavar="TASK", help="Wait for TASK.")
def submit(
    app: App, task: str, priority: int, meta: tuple[tuple[str, str], ...], after: tuple[str, ...]
) -> int:
    """Offer a task. Repeating it changes nothing; what is there with other attributes is lost."""
    screen = app.screen
    with app.ledger(writes=True) as ledger:
        try:
            claim = ledger.submit(task, priority=priority, meta=dict(meta), after=after)
        except Lost as lost:
            if lost.code != "task-differs":
                raise
            return _differs(screen, lost)
    screen.value_of(claim, outcome="created" if claim.created else "exists")
    facts = [f"priority {claim.priority}"] if claim.priority else []
    facts += [f"waits for {safe(' '.join(claim.waits_for))}"] if claim.waits_for else []
    facts += [] if claim.created else ["(it was there already)"]
    screen.line("  ".join([f"{safe(task)} is {screen.styled(claim.status)}", *facts]))
    return 0


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
    section="Tasks",
    example="coordledger withdraw task-1 --reason 'not needed any more'",
)
@task_argument
@click.option("--reason", type=params.TEXT, metavar="TEXT", help="Why.")
def withdraw(app: App, task: str, reason: str | None) -> None:
    """Take back an offer that nobody holds. Tasks that wait for it wait no longer."""
    with app.ledger(writes=True) as ledger:
        claim = ledger.withdraw(task, reason=reason)
    app.screen.value_of(claim)
    _said(app.screen, "withdrawn", claim)


@command(
    "claim",
    parent=root,
    section="Tasks",
    example="coordledger claim task-1 --ttl 30m --note 'on branch fix-7'\n"
    "coordledger claim --next --wait 10m",
)
@click.argument("tasks", type=params.TASK, nargs=-1, metavar="[TASK]...")
@click.option("--next", "next_", is_flag=True, help="The most urgent claimable task.")
@ttl_option
@click.option("--wait", type=params.SPAN, metavar="DURATION", help="Wait for it to be free.")
@click.option("--reopen", is_flag=True, help="Even if it is done.")
@click.option("--note", type=params.TEXT, metavar="TEXT", help="Said to everybody.")
@click.option("--dry-run", is_flag=True, help="Only tell how it would end now.")
def claim(
    app: App,
    tasks: tuple[str, ...],
    next_: bool,
    ttl: timedelta | None,
    wait: timedelta | None,
    reopen: bool,
    note: str | None,
    dry_run: bool,
) -> int:
    """Claim tasks: first writer wins. Several are won together or not at all."""
    if next_ == bool(tasks):
        raise click.UsageError("either TASK... or --next")
    if next_ and reopen:
        raise click.UsageError("--next takes no task that is done: no --reopen")
    with app.ledger(writes=True) as ledger:
        if next_:
            result = ledger.claim_next(ttl=ttl, wait=wait, note=note, dry_run=dry_run)
        else:
            result = ledger.claim(
                *tasks, ttl=ttl, wait=wait, reopen=reopen, note=note, dry_run=dry_run
            )
    if result.won:
        _claimed(app.screen, result, several=len(tasks) > 1, dry_run=dry_run)
        return 0
    _lost(app.screen, result, several=len(tasks) > 1)
    return LOST


def _claimed(screen: Screen, result: ClaimResult, *, several: bool, dry_run: bool) -> None:
    created: list[dict[str, object]] = [{"created": one.created} for one in result.claims]
    told = {"outcome": result.outcome, "resumed": result.resumed}
    screen.value_of(result.claims, several=several, each=created, **told)
    for one in result.claims:
        done = "would be won:" if dry_run else result.outcome
        new = "(a new task)" if one.created else ""
        new = "(by an earlier command, which did not say so)" if result.resumed else new
        _said(screen, done, one, _epoch(one), _lease(one), new)
        if result.outcome == "won" and one.last and one.last.kind != "submit":
            _tell_last(screen, one.last)


def _last(screen: Screen, last: Last) -> str:
    """Who did what last, and when."""
    what = safe(f"{last.kind} by {last.agent}, {when(last.at, datetime.now(UTC))}")
    return what + screen.doubt(last.verdict, last.checked)


def _tell_last(screen: Screen, last: Last) -> None:
    """What the next one should know; the text on lines of its own."""
    screen.line(f"before: {_last(screen, last)}")
    if last.text:
        screen.line(block(last.text))


def _lost(screen: Screen, result: ClaimResult, *, several: bool) -> None:
    if screen.json and result.claims:
        screen.value_of(
            result.claims, several=several, outcome="lost", code=result.code, created=False
        )
    else:
        screen.error(Lost(result.code, result.message, result.hint))


@command("renew", parent=root, section="Tasks", example="coordledger renew task-1 --ttl 2h")
@task_argument
@ttl_option
def renew(app: App, task: str, ttl: timedelta | None) -> None:
    """Extend the lease that this session holds. One that lasts as long already is kept."""
    with app.ledger(writes=True) as ledger:
        result = ledger.renewal(task, ttl=ttl)
    [claim] = result.claims
    app.screen.value_of(claim, outcome=result.outcome)
    _said(app.screen, result.outcome, claim, _lease(claim))


@command(
    "complete",
    parent=root,
    section="Tasks",
    example="coordledger complete task-1 --result 'merged as 3f2c1a'",
)
@task_argument
@click.option("--result", type=params.TEXT, metavar="TEXT", help="What came of it.")
def complete(app: App, task: str, result: str | None) -> None:
    """Finish a task that this session holds. Repeating it is no error."""
    with app.ledger(writes=True) as ledger:
        claim = ledger.complete(task, result=result)
    app.screen.value_of(claim)
    _said(app.screen, "done", claim)


@command(
    "release",
    parent=root,
    section="Tasks",
    example="coordledger release task-1 --reason 'needs a GPU'",
)
@task_argument
@click.option("--reason", type=params.TEXT, metavar="TEXT", help="Why.")
@click.option("--force", is_flag=True, help="Anybody's claim, as an admin.")
def release(app: App, task: str, reason: str | None, force: bool) -> None:
    """Give a task back: it is open again."""
    with app.ledger(writes=True) as ledger:
        claim = ledger.release(task, reason=reason, force=force)
    app.screen.value_of(claim)
    _said(app.screen, "released", claim)


@command(
    "batch",
    parent=root,
    section="Tasks",
    example="""printf '%s\\n' '{"do": "submit", "task": "task-1"}' \\
  '{"do": "claim", "task": "task-1", "ttl": "30m"}' | coordledger batch""",
)
def batch(app: App) -> int:
    """Land many operations with one push: a JSON object a line, on stdin.

    {"do": "submit", "task", "priority", "meta", "after"}, {"do": "claim", "task" or "tasks",
    "ttl", "note", "reopen"}, and so on for withdraw, renew, complete, release and send, with the
    names of their options; {"do": "set_fact", "key", "value", "ttl", "if_rev"}, and remove_fact.
    Each stands for itself; the exit code is the highest of them all.
    """
    lines = [line for line in params.read_stdin("the batch", MAX_BATCH).split("\n") if line.strip()]
    with app.ledger(writes=True) as ledger, ledger.batch() as wanted:
        for line in lines:
            wanted.line(line, lambda text: params.LEASE.convert(text, None, None))
    app.screen.value_of(wanted.outcomes)
    for one in wanted.outcomes:
        facts = [f"record {one.seq}"] if one.landed else [safe(one.message)]
        facts += [f"epoch {one.epoch}"] if one.epoch else []
        app.screen.line("  ".join([app.screen.styled(one.outcome), safe(one.what), *facts]))
    return max((one.error.exit_code for one in wanted.outcomes if one.error), default=0)


@command("list", parent=root, section="Tasks", example="coordledger list --open --limit 10")
@click.option("--open", is_flag=True, help="Nobody has it.")
@click.option("--claimed", is_flag=True, help="Its lease runs.")
@click.option("--expired", is_flag=True, help="Its lease is over.")
@click.option("--done", is_flag=True, help="Completed.")
@click.option("--withdrawn", is_flag=True, help="Not offered any more.")
@click.option("--mine", is_flag=True, help="Claimed or completed by this agent.")
@click.option(
    "--checked",
    type=click.Choice(["here", "server", "nobody"]),
    help="By whom: with a key here, by the server's hook, or by nobody.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N.")
def list_(app: App, mine: bool, checked: str | None, limit: int | None, **wanted: bool) -> None:
    """List tasks: the highest priority first, then the oldest.

    Several statuses mean any of them; --mine and --checked narrow them down.
    """
    statuses = [status for status, asked in wanted.items() if asked]
    with app.ledger() as ledger:
        me = ledger.connection.settings.need_agent if mine else None
        shown, count = ledger.some_tasks(statuses, me, limit, checked)
    app.screen.value_of(shown)
    claims_table(app.screen, shown)
    if len(shown) < count:
        app.screen.line(f"and {count - len(shown)} more")
    if not count:
        app.screen.line("no tasks")


@command("show", parent=root, section="Tasks", example="coordledger show task-1")
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
        claim = ledger.show(task)
    page = page_path(task)
    app.screen.value_of(claim, page=page)
    print_claim(app.screen, claim, page)


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


@command("history", parent=root, section="Tasks", example="coordledger history task-1")
@task_argument
def history(app: App, task: str) -> None:
    """Every record about a task that this copy has, oldest first."""
    with app.ledger() as ledger:
        events = ledger.history(task)
    app.screen.value_of(events)
    now = datetime.now(UTC)
    rows = [
        [
            str(event.seq),
            when(event.at, now),
            event.kind,
            f"{event.agent}/{event.session}",
            str(event.epoch or ""),
            doubt_cell(event.verdict, event.checked),
            event.text or "",
        ]
        for event in events
    ]
    app.screen.table(["SEQ", "AT", "WHAT", "BY", "EPOCH", "CHECKED", "NOTE"], rows)
    app.screen.footer(event.checked for event in events)


@command("wait", parent=root, section="Tasks", example="coordledger wait task-1 --timeout 2h")
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
        _said(app.screen, one.status, one, _holder(one), _epoch(one), _lease(one))


@command(
    "require",
    parent=root,
    section="Trust",
    example="coordledger require task-1 --by alice && ./deploy",
)
@task_argument
@click.option("--by", type=params.AGENT, metavar="AGENT", help="Held by this agent.")
@click.option("--epoch", type=int, metavar="N", help="In this epoch; without --by: mine.")
@click.option(
    "--check", type=click.Choice(["here"]), help="Checked with a key here: the hook is not enough."
)
def require(app: App, task: str, by: str | None, epoch: int | None, check: str | None) -> None:
    """A gate: exit 0 only if the claim is live by the server's time, and checked.

    Checked here, where there is a key for it, or by the server's hook, which is asked to vouch.
    """
    with app.ledger() as ledger:
        claim = ledger.require(task, by=by, epoch=epoch, check=check)
    app.screen.value_of(claim)
    doubt = app.screen.doubt(claim.verdict, claim.checked)
    _said(app.screen, "ok", claim, _holder(claim), _epoch(claim), _lease(claim) + doubt)
