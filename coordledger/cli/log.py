"""Commands that look at all that has happened: log, stats, agents.

Rules: those of `looking`; times are typed as git reads them. What has a line for each record, and
what follows, is printed as it comes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from coordledger.format.rules import MODULES

from . import params
from .common import command, root
from .output import about, doubt_cell, safe, task_name, when
from .wording import legacy_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.client.ledger import Ledger
    from coordledger.client.reports import Activity, AgentStats, Before, LogEntry, Spread, Stats

    from .common import App
    from .output import Screen

MOST = 200  # records that are shown, where nobody says how many
_WHEN = "yesterday, '2 hours ago', 2026-05-04 10:00: as git reads it."
_HEADER = ["AT", "WHO", "WHAT", "TASK", "CHECKED", "NOTE"]
_NARROW = {"CLAIMED": "WON", "GAVE BACK": "BACK", "TOOK OVER": "OVER", "DONE/DAY": "/DAY"}
_COLUMNS = (
    "agent", "claimed", "taken_over", "done", "given_back", "lost", "forced", "duration_median",
    "duration_p95", "waiting_median", "waiting_p95", "per_hour", "per_day",
)  # fmt: skip

since_option = click.option("--since", metavar="WHEN", help=f"From then on: {_WHEN}")
until_option = click.option("--until", metavar="WHEN", help="Before that.")


def moment_option(ledger: Ledger, text: str | None, option: str) -> datetime | None:
    from coordledger.git.dates import parse_date  # noqa: PLC0415 - help needs none

    if text is None:
        return None
    connection = ledger.connection
    connection.begin()
    found = parse_date(connection.git, text, option)
    at = connection.clock() if found is None else found
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)


# -- log


@command(
    "log",
    parent=root,
    example="coordledger log --since yesterday --agent bob\ncoordledger log --follow",
)
@since_option
@until_option
@click.option("--task", type=params.TASK, metavar="TASK", help="About TASK.")
@click.option("--agent", type=params.AGENT, metavar="AGENT", help="Signed by AGENT.")
@click.option(
    "--kind", "kinds", type=click.Choice(sorted(MODULES)), multiple=True, metavar="KIND",
    help="Of that kind: claim, complete, send, ...",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=0), default=MOST, show_default=True, metavar="N",
    help="The newest N; 0: all.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="And then each one that comes.")
def log(
    app: App,
    since: str | None,
    until: str | None,
    task: str | None,
    agent: str | None,
    kinds: tuple[str, ...],
    limit: int,
    follow: bool,
) -> None:
    """What has happened, a line for each record.

    The newest stands last. Who took over from whom, and when that lease had ended; what was
    released by force; what landed.
    """
    if follow and until:
        raise click.UsageError("either --follow or --until")
    screen = app.screen
    with app.ledger() as ledger:
        begin, end = (
            moment_option(ledger, since, "--since"),
            moment_option(ledger, until, "--until"),
        )
        most = limit + 1 if limit else None
        found = ledger.log(since=begin, until=end, task=task, agent=agent, kinds=kinds, limit=most)
        more, found = bool(limit) and len(found) > limit, found[-limit:]
        if not follow:
            screen.value_of(found)
            with screen.paged():
                _print_log(screen, found)
            if more and not screen.json:
                screen.note(f"these are the newest {limit}; --limit N shows more")
            return
        last = ledger.head(refresh=False).seq
        after = max([last, *(one.seq for one in found[-1:])])
        for entry in found:
            _follow(screen, entry)
        for entry in ledger.follow(task=task, agent=agent, kinds=kinds, after=after):
            _follow(screen, entry)


def _print_log(screen: Screen, found: list[LogEntry]) -> None:
    now = datetime.now(UTC)
    doubts = any(doubt_cell(one.verdict, one.checked) for one in found)
    shown = [name for name in _HEADER if doubts or name != "CHECKED"]
    rows = []
    for one in found:
        tell = about(one.at, now) if screen.is_narrow else when(one.at, now)
        row = dict(zip(_HEADER, _cells(one, tell), strict=True))
        rows.append([row[name] for name in shown])
    screen.table(shown, rows, elastic=(1, 3))
    screen.footer(one.checked for one in found)
    if not found:
        screen.line("no records")


def _follow(screen: Screen, entry: LogEntry) -> None:
    """A line at once: with --json an object."""
    screen.value_in_line(entry)
    at, *cells = _cells(entry, f"{entry.at:%Y-%m-%d %H:%M:%S}Z")
    screen.line(f"{at}  " + "  ".join(safe(cell) for cell in cells if cell))


def _cells(one: LogEntry, at: str) -> list[str]:
    names = " ".join(map(task_name, one.tasks))
    doubt = doubt_cell(one.verdict, one.checked)
    return [at, f"{one.agent}/{one.session}", one.kind, names, doubt, note_of(one)]


def note_of(one: LogEntry) -> str:
    """What there is to say of a record beside who, what and which task."""
    words = []
    for before in one.before:
        name = f"{task_name(before.task)}: " if len(one.tasks) > 1 else ""
        words.append(name + _moved(one, before))
    if one.ref:
        words.append(f"{one.ref} {(one.old or '')[:12]}..{(one.new or '')[:12]}")
    if one.legacy:
        words.append(legacy_of(one.legacy))
    if one.kind == "handoff":
        words.append(f"to {one.to}")
    if one.kind in ("send", "archive"):
        words.append(f"to {one.to}" if one.to else f"to #{one.channel}" if one.channel else "")
    elif not one.tasks:
        words.append(one.subject)
    elif one.text and not one.ref:
        words.append(one.text)
    return "; ".join(word for word in words if word)


def _moved(one: LogEntry, before: Before) -> str:
    ended = _span(one.at - before.expires_at)
    whose = "its own" if before.agent == one.agent else f"{before.agent}'s"
    return {
        "took over": f"took over from {before.agent}, whose lease ended {ended} earlier"
        if before.agent != one.agent
        else f"claimed again: its own lease ended {ended} earlier",
        "was handed": f"took over from {before.agent}, who had offered it",
        "forced": f"by force from {before.agent}",
        "done": f"after {_span(one.at - before.claimed_at)}",
        "withdrawn": f"{whose} lease ended {ended} earlier",
    }.get(before.what, "")


def _span(span: timedelta) -> str:
    from coordledger.format import timestamps  # noqa: PLC0415 - only where a time is shown

    return timestamps.span(max(0, span // timedelta(milliseconds=1)))


# -- stats


@command(
    "stats",
    parent=root,
    example="coordledger stats --since '1 week ago'\ncoordledger stats --metrics",
)
@since_option
@until_option
@click.option("--csv", "as_csv", is_flag=True, help="For a spreadsheet; times in seconds.")
@click.option("--metrics", is_flag=True, help="As Prometheus reads it.")
def stats(app: App, since: str | None, until: str | None, as_csv: bool, metrics: bool) -> None:
    """What each agent did and in all, and how long it took.

    DURATION is from a claim to its completion, WAITING from a task's submission to its first claim:
    the median, and what 95 of 100 did not exceed.
    """
    if metrics and (since or until or as_csv or app.json):
        raise click.UsageError("--metrics counts everything, and has one form")
    if as_csv and app.json:
        raise click.UsageError("either --csv or --json")
    with app.ledger() as ledger:
        begin, end = (
            moment_option(ledger, since, "--since"),
            moment_option(ledger, until, "--until"),
        )
        found = ledger.stats(since=begin, until=end)
        if metrics:
            from .metrics import exposition  # noqa: PLC0415 - few ask for it

            app.screen.raw(exposition(ledger, found))
            return
    app.screen.value_of(found)
    if as_csv:
        app.screen.raw(_csv([*found.agents, found.total]))
    else:
        print_stats(app.screen, found)


def _seconds(span: timedelta | None) -> str:
    return "" if span is None else f"{span / timedelta(seconds=1):.3f}"


def _csv(lines: Iterable[AgentStats]) -> str:
    import csv  # noqa: PLC0415 - few ask for it
    import io  # noqa: PLC0415

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for one in lines:
        times = [one.duration.median, one.duration.p95, one.waiting.median, one.waiting.p95]
        counts = [one.claimed, one.taken_over, one.done, one.given_back, one.lost, one.forced]
        rates = [one.per_hour, one.per_day]
        writer.writerow([one.agent or "", *counts, *map(_seconds, times), *rates])
    return text.getvalue()


def print_stats(screen: Screen, found: Stats) -> None:
    header = ["AGENT", "CLAIMED", "DONE", "GAVE BACK", "TOOK OVER", "LOST", "FORCED"]
    header += ["DURATION", "P95", "WAITING", "P95", "DONE/H", "DONE/DAY"]
    rows = [
        [
            one.agent or "all",
            *(str(n or "") for n in (one.claimed, one.done, one.given_back)),
            *(str(n or "") for n in (one.taken_over, one.lost, one.forced)),
            *_shown(one.duration),
            *_shown(one.waiting),
            f"{one.per_hour:.1f}",
            f"{one.per_day:.1f}",
        ]
        for one in (*found.agents, found.total)
    ]
    if screen.is_narrow:
        header, rows = _narrowed(header, rows)
    screen.table(header, rows, elastic=(0,))
    now = datetime.now(UTC)
    screen.line(f"from {when(found.since, now)} until {when(found.until, now)}")


def _narrowed(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Without what is said elsewhere, or nowhere: 80 columns are enough, then."""
    kept = [
        number
        for number, name in enumerate(header)
        if name != "DONE/H" and (number == 0 or any(row[number] for row in rows))
    ]
    names = [_NARROW.get(header[number], header[number]) for number in kept]
    return names, [[row[number] for number in kept] for row in rows]


def _shown(spread: Spread) -> tuple[str, str]:
    return tuple("" if one is None else _span(one) for one in (spread.median, spread.p95))  # type: ignore[return-value]


# -- agents


@command("agents", parent=root, example="coordledger agents")
def agents(app: App) -> None:
    """Who was last seen when, and holds and has done what.

    TODAY is since midnight, UTC.
    KEYS: what each signs with, hmac-sha256 (a secret) or ssh-ed25519; each key: agent list.
    """
    with app.ledger() as ledger:
        found = ledger.activity()
    app.screen.value_of(found)
    now = datetime.now(UTC)
    app.screen.table(
        ["AGENT", "LAST SEEN", "DONE TODAY", "UNREAD", "KEYS", "DELEGATES", "HOLDS"],
        [_activity_cells(one, now) for one in found],
        elastic=(0,),
    )


def _activity_cells(one: Activity, now: datetime) -> list[str]:
    seen = about(one.last_seen, now) if one.last_seen else "never"
    return [
        "  " * one.agent.count(".") + one.agent,
        seen,
        str(one.done_today or ""),
        str(one.unread or ""),
        " ".join(one.keys) if one.active else "revoked",
        str(len(one.delegates) or ""),
        " ".join(map(task_name, one.holds)),
    ]
