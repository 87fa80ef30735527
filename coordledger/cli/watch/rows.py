"""What the screen says: its tables, and the text about one task.

Rules: those of `spans`; the time is passed in. Leases are compared with it here, as they end
between two readings: "ended?" where a renewal may not have been seen.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rich.cells import cell_len

from coordledger.cli.log import note_of
from coordledger.cli.output import doubt_cell, safe, task_name
from coordledger.cli.wording import facts_of, holder_of, said_of, texts_of
from coordledger.format import timestamps

from .keys import AGENTS, HELD, NEWS, TASKS, Filter, Panel, Row, Ui
from .spans import BAD, BOLD, DIM, GOOD, LITTLE, PLAIN, WARN, Glyphs, Span, bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from coordledger.client.claims import Claim
    from coordledger.client.reports import Activity, Description, LogEntry
    from coordledger.client.watching import Watched

LOW = 0.25  # of a lease: what has less left is warned of
SILENT = 0.75  # of a lease, in which its holder has signed nothing
_SECOND = timedelta(seconds=1)
_OF_VERDICTS = {"nobody": BAD, "invalid": BAD, "unknown-key": BAD}
_OF_KINDS = {"complete": GOOD, "land": GOOD}
_TAKEN = ("took over", "forced", "withdrawn")


def panels_of(
    watched: Watched,
    ui: Ui,
    now: datetime,
    glyphs: Glyphs,
    *,
    others: Sequence[Claim] = (),
    is_stale: bool = False,
) -> dict[str, Panel]:
    """The three tables of the main page. `others`: the tasks that were asked for, where those are
    not the ones that are held. `is_stale`: what was read may not be so any more.
    """
    wanted, claims = Filter(ui.filter), others
    if ui.wanted == HELD:
        claims = sorted(watched.held, key=lambda claim: (claim.expires_at or now, claim.task))
    return {
        TASKS: _tasks(claims, ui.wanted, wanted, now, glyphs, is_stale=is_stale),
        AGENTS: _agents(watched, wanted, now),
        NEWS: _news(watched, wanted, now),
    }


# -- times


def countdown(left: timedelta) -> str:
    """`1:05:12`, `24:09`; of days and more `2 d 03 h`."""
    seconds = max(0, left // _SECOND)
    minutes, hours = seconds // 60 % 60, seconds // 3600
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02} h"
    tail = f"{minutes:02}:{seconds % 60:02}"
    return f"{hours}:{tail}" if hours else tail


def span_of(passed: timedelta) -> str:
    """`12 s`, `3 min`; `0 s` is the least."""
    return timestamps.span(max(0, passed // _SECOND) * 1000) if passed >= _SECOND else "0 s"


def lease_of(claim: Claim) -> timedelta:
    """How long the lease is, counted from what its holder has signed last about the task."""
    last, begun, until = claim.last, claim.claimed_at, claim.expires_at
    if begun is None or until is None:
        return timedelta(0)
    if last is not None and last.agent == claim.agent and begun <= last.at < until:
        begun = last.at
    return until - begun


def part_left(claim: Claim, now: datetime) -> float:
    """Which part of the lease is left, from 0 to 1."""
    whole = lease_of(claim)
    if claim.expires_at is None or not whole:
        return 0.0
    return min(1.0, max(0.0, (claim.expires_at - now) / whole))


def status_of(claim: Claim, now: datetime) -> str:
    """As `Claim.status`, at this moment."""
    over = claim.expires_at is not None and claim.expires_at <= now
    return "expired" if claim.status == "claimed" and over else claim.status


def silent_since(one: Activity, held: Sequence[Claim], now: datetime) -> datetime | None:
    """Since when an agent that has claimed the tasks `held` has signed nothing, where that is long:
    three quarters of the longest of their leases.
    """
    leases = [lease_of(claim) for claim in held]
    if not leases or one.last_seen is None:
        return None
    return one.last_seen if now - one.last_seen >= SILENT * max(leases) else None


def holders(watched: Watched) -> dict[str, list[Claim]]:
    """What each agent has claimed."""
    found: dict[str, list[Claim]] = {}
    for claim in watched.held:
        found.setdefault(claim.agent or "", []).append(claim)
    return found


# -- the tables


def _tasks(
    claims: Sequence[Claim],
    choice: str,
    wanted: Filter,
    now: datetime,
    glyphs: Glyphs,
    *,
    is_stale: bool,
) -> Panel:
    doubts = any(doubt_cell(claim.verdict, claim.checked) for claim in claims)
    rows = []
    for claim in claims:
        words = safe(" | ".join(filter(None, (said_of(claim), claim.title))))
        name = task_name(claim.task)
        agents = [safe(agent) for agent in (claim.agent, claim.offered_to) if agent]
        status = status_of(claim, now)
        if not wanted.fits([name, words, safe(" ".join(claim.labels))], agents, status):
            continue
        state = _state_of(claim, status, now, glyphs, is_stale=is_stale)
        doubt = [_doubt(claim.verdict, claim.checked)] if doubts else []
        cells = (Span(name, BOLD), Span(holder_of(claim)), *state, *doubt, Span(words))
        rows.append(Row(claim.task, cells, claim.task))
    lease = ("LEFT", "") if choice == HELD else ("", "")
    columns = ("", "HOLDER", *lease, *(["CHECKED"] if doubts else []), "NOTE")
    return Panel(choice.upper(), columns, rows, len(claims))


def _state_of(
    claim: Claim, status: str, now: datetime, glyphs: Glyphs, *, is_stale: bool
) -> tuple[Span, Span]:
    """A bar, and the same in words."""
    if status == "claimed" and claim.expires_at:
        part = part_left(claim, now)
        style, mark = (LITTLE, "! ") if part < LOW else (GOOD, "  ")
        words = Span(mark + countdown(claim.expires_at - now), WARN if part < LOW else PLAIN)
        return Span(bar(part, glyphs), style), words
    if status == "expired" and claim.expires_at:
        over = f"!! ended{'?' if is_stale else ''} {span_of(now - claim.expires_at)}"
        return Span(bar(0, glyphs)), Span(over, BAD)
    if status == "done":
        over = f"done {span_of(now - claim.last.at)}" if claim.last else "done"
        return Span(""), Span(over, GOOD)
    stands = "blocked" if claim.waits_for else safe(status)
    return Span(""), Span(f"{stands}  prio {claim.priority}" if claim.priority else stands)


def _doubt(verdict: str, checked: str) -> Span:
    cell = doubt_cell(verdict, checked)
    return Span(cell, _OF_VERDICTS.get(cell, PLAIN))


def _agents(watched: Watched, wanted: Filter, now: datetime) -> Panel:
    """First who is silent, longest first; then who holds something, who was seen last first."""
    held = holders(watched)
    found = []
    for one in watched.agents:
        since = silent_since(one, held.get(one.agent, ()), now)
        unseen = now - one.last_seen if one.last_seen else timedelta.max
        place = unseen if since is None else -unseen
        found.append(((since is None, one.agent not in held, place, one.agent), one, since))
    rows = []
    for _, one, since in sorted(found, key=lambda each: each[0]):
        names = [task_name(task) for task in one.holds]
        if wanted.fits(names, [safe(one.agent)], None):
            rows.append(_agent(one, since, names, now))
    columns = ("", "SEEN", "HOLDS", "TODAY", "UNREAD", "TASKS")
    return Panel("AGENTS", columns, rows, len(watched.agents))


def _agent(one: Activity, since: datetime | None, names: list[str], now: datetime) -> Row:
    seen = Span(f"{span_of(now - one.last_seen)} ago" if one.last_seen else "never")
    if since:
        seen = Span(f"!! SILENT {span_of(now - since)}", BAD)
    holds = str(len(names) or "") if one.active else "revoked"
    cells = (
        Span(safe(one.agent), BOLD),
        seen,
        Span(holds, PLAIN if one.active else WARN),
        Span(f"{one.done_today} done" if one.done_today else ""),
        Span(str(one.unread or ""), WARN if one.unread else PLAIN),
        Span(" ".join(names)),
    )
    return Row(one.agent, cells)


def _news(watched: Watched, wanted: Filter, now: datetime) -> Panel:
    """The newest first."""
    doubts = any(doubt_cell(one.verdict, one.checked) for one in watched.news)
    rows = []
    for one in reversed(watched.news):
        names, note = " ".join(map(task_name, one.tasks)), safe(note_of(one))
        if one.kind in ("send", "archive") and one.text:
            note += f": {safe(one.text)}"
        others = [before.agent for before in one.before]
        agents = [safe(agent) for agent in (one.agent, one.to, *others) if agent]
        if not wanted.fits([names, note, one.kind], agents, None):
            continue
        cells = (
            Span(span_of(now - one.at)),
            Span(safe(one.agent)),
            _what(one),
            Span(names, BOLD),
            *([_doubt(one.verdict, one.checked)] if doubts else []),
            Span(note),
        )
        rows.append(Row(str(one.seq), cells, one.tasks[0] if one.tasks else None))
    columns = ("AGO", "WHO", "WHAT", "TASK", *(["CHECKED"] if doubts else []), "NOTE")
    return Panel("NEWS", columns, rows, len(watched.news))


def _what(one: LogEntry) -> Span:
    """The kind of a record; or what it took from somebody who has not given it."""
    taken = [b.what for b in one.before if b.what in _TAKEN and b.agent != one.agent]
    return Span(taken[0], WARN) if taken else Span(safe(one.kind), _OF_KINDS.get(one.kind, PLAIN))


# -- one task


def text_of(
    found: Description, events: Sequence[LogEntry], now: datetime, width: int
) -> list[list[Span]]:
    """All of a task, and its records, the newest first: lines of at most `width` characters, but
    for those of a record, which are cut.
    """
    lines = [
        [Span(f"{name:<12}", DIM), Span(text, _OF_VERDICTS.get(text, PLAIN))]
        for name, text in facts_of(found, now)
        if text
    ]
    for name, text in texts_of(found):
        lines += [[Span(name, DIM)], *_wrapped(text, width)]
    lines += [[], [Span(f"HISTORY {len(events)}", BOLD), Span("  the newest first", DIM)]]
    for event in reversed(events):
        lines += _event(event, now, width)
    return lines


def _event(one: LogEntry, now: datetime, width: int) -> list[list[Span]]:
    """A record about a task; what it says in the same line, where that has the room."""
    doubt, what, note = _doubt(one.verdict, one.checked), _what(one), note_of(one)
    line = [
        Span(f"{span_of(now - one.at) + ' ago':<12}"),
        what,
        Span(" " * max(1, 10 - len(what.text))),
        Span(safe(f"{one.agent}/{one.session}")),
        Span(f"  epoch {one.epoch}" if one.epoch else "", DIM),
        *([Span("  ["), doubt, Span("]")] if doubt.text else []),
    ]
    text = f"  {safe(note)}" if note else ""
    if sum(cell_len(span.text) for span in line) + cell_len(text) <= width:
        return [[*line, Span(text)]]
    return [line, *_wrapped(note, width)]


def message_of(one: LogEntry, now: datetime, width: int) -> list[list[Span]]:
    """A record about no task: all that it says."""
    doubt = _doubt(one.verdict, one.checked)
    where = one.to or (f"#{one.channel}" if one.channel else "")
    facts = [
        ("record", str(one.seq)),
        ("kind", safe(one.kind)),
        ("by", safe(f"{one.agent}/{one.session}")),
        ("to", safe(where)),
        ("signed", f"{one.at:%Y-%m-%d %H:%M:%S}Z, {span_of(now - one.at)} ago"),
        ("says", safe(one.subject)),
    ]
    lines = [[Span(f"{name:<12}", DIM), Span(text)] for name, text in facts if text]
    lines.append([Span(f"{'checked':<12}", DIM), doubt if doubt.text else Span("here")])
    return [*lines, [], *_wrapped(one.text or "", width)]


def _wrapped(text: str, width: int) -> list[list[Span]]:
    """A text of several lines, indented, so that none can pass for a line of ours."""
    room = max(8, width - 4)
    return [
        [Span("    " + piece)]
        for line in text.rstrip("\n").split("\n")
        for piece in _pieces(safe(line), room)
    ]


def _pieces(line: str, room: int) -> list[str]:
    """Between words, where there are any; by cells, as a letter may have two."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415 - only where a task is open

    wrapped = Text(line).wrap(Console(width=room), room)
    return [piece.plain.rstrip() for piece in wrapped] or [""]
