"""Commands about trust: where this copy stands, and whether what it has holds.

Rules: a bad record is told as an integrity failure (exit 4), an unknown outcome as one (5),
each after everything that is known has been printed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from coordledger.errors import LOST, UNKNOWN, Integrity, error

from .common import command, leave_history, root
from .output import CHECKED_BY, NOT_ENFORCED, safe, when
from .proofs import read_secrets, trust_option
from .wording import claims_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordledger.client.ledger import Ledger
    from coordledger.client.reports import Audit, Status
    from coordledger.errors import CoordledgerError
    from coordledger.setup.trying import TriedFence

    from .common import App
    from .output import Screen

_ENFORCEMENT = {
    "server": "server: its hook refuses forged records",
    "none": NOT_ENFORCED,
    "unknown": "unknown; coordledger doctor tries it",
}


@command("status", parent=root, example="coordledger status")
def status(app: App) -> None:
    """Where the ledger stands, what I hold, what is unread."""
    with app.ledger() as ledger:
        found = ledger.status()
        fenced = _fenced(app, ledger)
    app.screen.value_of(
        found,
        fenced=None
        if fenced is None
        else [
            {"ref": ref, "paths": one.paths, "fault": one.why or None}
            for one in fenced
            for ref in one.patterns
        ],
    )
    vouched = found.vouched
    at = when(vouched.at, datetime.now(UTC)) if vouched else ""
    app.screen.fields(
        ("ledger", f"{found.ledger} ({safe(found.ref)})"),
        ("remote", safe(found.remote)),
        ("head", f"{found.seq} {found.head}"),
        ("stopped at", safe(found.stopped_at["message"]) if found.stopped_at else ""),
        ("agent", f"{found.agent}/{found.session}" if found.agent else "none configured"),
        ("enforcement", _ENFORCEMENT.get(found.enforcement, found.enforcement)),
        ("vouched", f"up to record {vouched.seq}, {at}, by {safe(vouched.url)}" if vouched else ""),
        ("fenced", _fences(fenced or [])),
        ("writes", _writes(ledger, found)),
        ("unread", str(found.unread)),
        ("offers", str(len(found.offers) or "")),
        ("claims", "" if found.claims else "none"),
    )
    if found.claims:
        app.screen.line()
    claims_table(app.screen, found.claims)
    if found.offers:
        app.screen.line()
        app.screen.line("offered to me; coordledger claim takes one over:")
    claims_table(app.screen, found.offers)


def _writes(ledger: Ledger, found: Status) -> str:
    """How records get there, where that is a folder of this machine."""
    settings = ledger.connection.settings
    if not (settings.direct and settings.remote.folder):
        return ""
    if found.writes == "direct":
        return "directly: without a push, as the server on this host would"
    return f"by pushes: {safe(found.pushes_because or '')}"


def _fenced(app: App, ledger: Ledger) -> list[TriedFence] | None:
    """What the ledger fences where it lives, and whether a try shows that this is in force; None
    where nobody on this machine knows: it lives elsewhere, or in a folder that is another user's.
    """
    from pathlib import Path  # noqa: PLC0415 - help needs none

    folder = ledger.connection.settings.remote.folder
    if not folder or not Path(folder, "HEAD").exists():
        return None
    secret = Path(folder, "coordledger")
    if not os.access(secret, os.R_OK | os.X_OK):
        return None if secret.exists() else []
    if next(secret.glob("*.fence"), None) is None:
        return []
    from coordledger.setup import trying  # noqa: PLC0415 - others need none

    name = ledger.connection.local.name
    return [one for one in trying.try_fences(Path(folder), app.git()) if one.ledger == name]


def _fences(found: list[TriedFence]) -> str:
    """What is fenced, in words."""
    return "; ".join(
        safe(f"{one.shown}: NOT IN FORCE: {one.why}" if one.why else one.shown) for one in found
    )


@command(
    "audit",
    parent=root,
    example="coordledger audit --full --json\n"
    "coordledger audit https://host/project.git --trust alice.pub",
)
@click.argument("remote", required=False)
@click.option("--full", is_flag=True, help="From the first record on.")
@click.option("--resume", is_flag=True, help="With --full: go on where one was interrupted.")
@click.option("--since", type=click.IntRange(min=0), metavar="SEQ", help="From this record on.")
@trust_option
@click.option("--secret-file", metavar="FILE", help="The master, or agents' secrets.")
@click.option("--report", metavar="FILE", help="A report to sign: FILE.html or FILE.md.")
@click.option("--branch", metavar="NAME", help="With REMOTE: the branch that has the ledger.")
@click.option("--allow-unverified", is_flag=True, help="Exit 0 though nobody has checked some.")
@click.option("--reset", is_flag=True, help="With REMOTE: forget what was verified of it before.")
@click.option("--yes", is_flag=True, help="Answer yes to what --reset asks.")
def audit(
    app: App,
    remote: str | None,
    full: bool,
    resume: bool,
    since: int | None,
    trust: tuple[str, ...],
    secret_file: str | None,
    report: str | None,
    branch: str | None,
    allow_unverified: bool,
    reset: bool,
    yes: bool,
) -> int:
    """Verify what was not audited here yet, or everything.

    REMOTE, a remote's name, a path or a URL, is fetched into a copy apart, and audited from the
    first record on; so is the clone's own remote, where it has joined no ledger. Exit 0: every
    record was checked, here or by the server's hook. 1: some by nobody. 4: one is bad, or history
    was rewritten.
    """
    if full and since is not None:
        raise click.UsageError("either --full or --since")
    if resume and report:
        raise click.UsageError("--report needs all of an audit: not --resume")
    app.branch = branch
    secrets = read_secrets(app.file(secret_file)) if secret_file else []
    with _to_audit(app, remote, reset=reset, yes=yes) as ledger:
        apart = ledger.connection.is_apart
        full = full or ((apart or report is not None) and since is None)
        if resume and not full:
            raise click.UsageError(
                "--resume goes with --full; without it audit begins there anyway"
            )
        try:
            found = ledger.audit(
                full=full,
                since=since,
                resume=resume,
                trust=trust,
                secrets=secrets,
                report=app.file(report) if report else None,
            )
        except KeyboardInterrupt:
            if since is None:
                _say_how_to_go_on(app, ledger, full=full)
            raise
        oldest = ledger.connection.oldest
    more: dict[str, Any] = {"report": report} if report else {}
    app.screen.value_of(found, **more)
    _tell(app.screen, found, oldest)
    if apart and not found.compared:
        app.screen.line("not compared with anything that you trust: --trust KEY, the owner's")
    if report:
        app.screen.line(f"the report is in {safe(report)}")
    fault = _fault(found, allow_unverified=allow_unverified)
    if fault and not app.screen.json:
        app.screen.error(fault)
    return fault.exit_code if fault else 0


@contextlib.contextmanager
def _to_audit(app: App, remote: str | None, *, reset: bool, yes: bool) -> Iterator[Ledger]:
    """The ledger, by the clone's own copy or by one apart."""
    from coordledger.client import auditing  # noqa: PLC0415 - help needs none

    if reset and remote is None:
        raise click.UsageError(
            "--reset goes with REMOTE; a clone's own copy: coordledger join --reset"
        )
    if remote is None and not auditing.is_unjoined(app.options(), os.environ):
        with app.ledger() as ledger:
            yield ledger
        return
    if app.offline:
        raise error("bad-value", what="--offline", why="it has to be fetched")
    if remote is None:
        app.screen.note("no ledger is joined here: the remote's is audited, in a copy apart")
    with app.ledger_apart(remote) as ledger:
        if reset:
            leave_history(app, ledger, yes=yes)
        try:
            yield ledger
        except Integrity as fault:
            if fault.code == "bad-copy":
                fault.hint = shlex.join([*_again(ledger), "--reset"])
            raise


def _again(ledger: Ledger) -> list[str]:
    """The command that audits it, as words."""
    connection, words = ledger.connection, ["coordledger", "audit"]
    if connection.is_apart:
        words.append(connection.settings.remote.shown)
        words += ["--ledger", connection.local.name] if connection.local.name != "main" else []
    return words


def _tell(screen: Screen, found: Audit, oldest: int) -> None:
    for problem in found.problems:
        place = f"{problem['seq']} {problem['commit'][:12]}"
        screen.line(f"{screen.styled('invalid')}  {place}  {safe(problem['message'])}")
    counts = _counts(screen, found)
    many = "1 record" if found.records == 1 else f"{found.records} records"
    if counts:
        screen.line(f"{many} from {found.since} on: {counts}")
    else:
        screen.line(f"nothing new since record {found.since - 1}; --full verifies everything")
    if found.resumed is not None:
        screen.line(f"records before {found.resumed} were verified by an interrupted audit")
    if oldest:
        screen.line(f"records before {oldest} are not in this copy (a shallow join)")
    screen.footer(found.checked)
    if found.records and found.unchecked == found.records:
        screen.line("only the chain was checked: that each record follows from the one before it")


def _fault(found: Audit, *, allow_unverified: bool) -> CoordledgerError | None:
    """Why an audit does not end well, if it does not."""
    if found.problems:
        return error("bad-chain", count=len(found.problems))
    if found.unchecked and not allow_unverified:
        return error("audit-unchecked", count=found.unchecked, records=found.records)
    return None


def _counts(screen: Screen, found: Audit) -> str:
    """How many of which verdict; those without one by who has checked them."""
    counts = [
        f"{count} {screen.styled(name)}"
        for name, count in found.verdicts.items()
        if name != "unverified"
    ]
    for who, count in (("server", found.checked.get("server", 0)), ("nobody", found.unchecked)):
        if count:
            counts.append(f"{count} {screen.styled(who, CHECKED_BY[who])}")
    return ", ".join(counts)


def _say_how_to_go_on(app: App, ledger: Ledger, *, full: bool) -> None:
    """After an interruption, in one line on stderr."""
    from coordledger.client.audit import verified_up_to  # noqa: PLC0415 - help needs none

    place = verified_up_to(ledger.connection, full=full)
    if place:
        seq, resume = place
        how = shlex.join([*_again(ledger), *(("--full", "--resume") if resume else ())])
        app.screen.note(f"verified up to record {seq}; {how} goes on")


@command(
    "head",
    parent=root,
    example="coordledger head\n"
    'coordledger head --compare "$(ssh other-host coordledger -C clone head)"',
)
@click.option("--compare", metavar="LINE", help="What `coordledger head` printed elsewhere.")
def head(app: App, compare: str | None) -> None:
    """The verified head in one line, to compare with another's."""
    from coordledger.client.claims import to_json  # noqa: PLC0415 - help needs none

    with app.ledger() as ledger:
        found = ledger.head() if compare is None else ledger.compare(compare)
    app.screen.value(to_json(found) | {"line": found.line()})
    app.screen.line(found.line() if compare is None else f"same history, up to {found.seq} here")


@command("resolve", parent=root, example="coordledger resolve")
def resolve(app: App) -> int:
    """Settle writes whose outcome is unknown.

    Each has landed (0), or is voided so that it never will (3), or is still open (5).
    """
    with app.ledger(writes=True) as ledger:
        found = ledger.resolve()
    screen = app.screen
    screen.value_of(found)
    for one in found:
        at = f"  as record {one.seq}" if one.seq is not None and one.outcome == "landed" else ""
        word = "still open" if one.outcome == "open" else one.outcome
        about = f"  {safe(one.task)}" if one.task and one.task not in one.what.split() else ""
        epoch = f" epoch {one.epoch}" if one.epoch else ""
        screen.line(f"{screen.styled(one.outcome, word)}  {safe(one.what)}{about}{epoch}{at}")
    if not found:
        screen.line("nothing is open")
    outcomes = {one.outcome for one in found}
    return UNKNOWN if "open" in outcomes else LOST if "voided" in outcomes else 0
