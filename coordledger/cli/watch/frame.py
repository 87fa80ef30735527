"""The screen as lines: what `rows` says, in the room that there is.

Rules: pure. No line is wider than the screen, in cells of a terminal; what does not fit is cut, ids
in their middle. How old what is shown is stands on each page, in words.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size

from coordledger.cli.output import safe, shorten

from .keys import AGENTS, HELP, MAIN, NEWS, PANELS, RECORD, TASKS, Panel, Ui, place_of
from .rows import LOW, holders, message_of, part_left, silent_since, span_of, status_of, text_of
from .spans import BAD, BOLD, CHOSEN, DIM, GOOD, HEAD, WARN, Glyphs, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from coordledger.client.reports import Description, LogEntry
    from coordledger.client.watching import Watched

Line = list[Span]
SMALLEST = (40, 10)
_WIDE = 140  # cells: agents stand beside the tasks
_LATE = timedelta(seconds=5)  # beyond two intervals
_LEAST = {TASKS: 5, AGENTS: 4, NEWS: 5}  # lines, with the heading
_NOBODY = "nobody: there is no key for it here, and no vouch of the server's hook"
_KEYS = "q quit  ? help  / filter  s status  Tab panel  Enter open  r refresh"
_KEYS_OF_TEXT = "Esc back  up/down scroll  r refresh  ? help  q quit"
_HELP = """\
HELD      what somebody has claimed; the next lease to end comes first
LEFT      counts down from what the holder has signed last about the task;
          ! less than a quarter is left; !! it is over, and anybody may take
          the task soon; ended? while the remote does not answer, so that a
          renewal may not have been seen
AGENTS    !! SILENT: holds something, and has signed nothing for three
          quarters of its longest lease
NEWS      every record, the newest first; takeovers name the one before
CHECKED   server: its hook has vouched for it; nobody: neither has it, nor is
          there a key here; where there is no such column, all was checked here

up down PgUp PgDn g G   choose a line (or j k)
Tab                     the next table
Enter                   open the task, or show one agent's only
/                       filter: words, agent:NAME, status:WORD (Enter keeps it)
s S                     held, open, blocked, stuck, done
Esc                     back; on this page: no filter, what is held
r                       ask the remote now
q or ^C                 quit"""


class Fetch(NamedTuple):
    """How the newest reading came about, every `interval` seconds. `since`: when the one that is
    under way has begun. `fault`: why the last one failed, and `failed`: since when all have.
    """

    interval: float
    is_offline: bool = False
    since: datetime | None = None
    fault: str = ""
    failed: datetime | None = None
    warnings: tuple[str, ...] = ()


class Opened(NamedTuple):
    """A task that is open: all of it, or why there is nothing."""

    found: Description | None
    events: Sequence[LogEntry] = ()
    fault: str = ""


def is_stale(watched: Watched, fetch: Fetch, now: datetime) -> bool:
    """Whether the ledger may be another by now."""
    late = timedelta(seconds=2 * fetch.interval) + _LATE
    as_of = watched.as_of
    return bool(fetch.is_offline or fetch.fault or as_of is None or now - as_of > late)


def frame(
    watched: Watched,
    panels: Mapping[str, Panel],
    ui: Ui,
    fetch: Fetch,
    now: datetime,
    size: tuple[int, int],
    glyphs: Glyphs,
    opened: Opened | None = None,
) -> list[Line]:
    """At most as many lines as the screen has, each at most as wide; `size`: columns, lines."""
    width, height = size
    if width < SMALLEST[0] or height < SMALLEST[1]:
        small = [Span(f"too small: {SMALLEST[0]}x{SMALLEST[1]}", WARN)], [Span("q quits")]
        return [_cut(line, width, glyphs) for line in small][:height]
    head = [_title(watched, width, glyphs), *_news_of_fetch(watched, fetch, now, width)]
    if ui.page == MAIN:
        head += [_counts(watched, now), *_alerts(watched, panels)]
        room = height - len(head) - 1
        body = _tables(panels, ui, width, room, glyphs)
    else:
        body = text_lines(watched, ui, now, width, opened)[ui.top :]
    lines = [_cut(line, width, glyphs) for line in (*head, *body)][: height - 1]
    lines += [[]] * (height - 1 - len(lines))
    return [*lines, _cut(_foot(ui, width), width - 1, glyphs)]


# -- above and below


def _title(watched: Watched, width: int, glyphs: Glyphs) -> Line:
    status = watched.status
    who = f"{status.agent}/{status.session}" if status.agent else "nobody's clone"
    left = f" coordledger {status.ref.rpartition('/')[2]}"
    right = f"{who}  record {status.seq:,} "
    room = width - cell_len(left) - cell_len(safe(right)) - 4
    remote = shorten(safe(status.remote), max(0, room))
    middle = f"  {remote}" if room > 8 else ""
    gap = max(2, width - cell_len(safe(left)) - cell_len(middle) - cell_len(safe(right)))
    return [Span(f"{safe(left)}{middle}{' ' * gap}{safe(right)}", HEAD)]


def _news_of_fetch(watched: Watched, fetch: Fetch, now: datetime, width: int) -> list[Line]:
    """How old what is shown is, and what is wrong."""
    as_of = watched.as_of
    age = f"{span_of(now - as_of)} ago" if as_of else "never"
    shown = f"shown is how it stood at {as_of:%H:%M:%S}Z, {age}" if as_of else "nothing is known"
    if fetch.is_offline:
        lines = [[Span(f"OFFLINE: {shown}", WARN)]]
    elif fetch.fault:
        since = f" for {span_of(now - fetch.failed)}" if fetch.failed else ""
        lines = [
            [Span(f"CANNOT READ the remote{since}: {shown}", BAD)],
            [Span(safe(fetch.fault), BAD)],
        ]
    elif is_stale(watched, fetch, now):
        since = f" for {span_of(now - fetch.since)}" if fetch.since else ""
        lines = [[Span(f"ASKING the remote{since}: {shown}", WARN)]]
    else:
        enforced = {
            "server": Span("the server's hook enforces the rules"),
            "none": Span("NOT ENFORCED: the server has no hook", WARN),
        }.get(watched.status.enforcement, Span("whether a hook enforces: unknown", DIM))
        every = f"every {fetch.interval:g} s"
        lines = [[Span(f"as it stood {age}", GOOD), Span(f", asked {every}  ", DIM), enforced]]
    stop = watched.status.stopped_at
    if stop:
        words = f"BAD RECORD behind this [{stop['code']}]: {stop['message']}"
        lines.append([Span(safe(words), BAD)])
    return lines + [[Span(safe(text), WARN)] for text in fetch.warnings[-1:] if not stop]


def _counts(watched: Watched, now: datetime) -> Line:
    ended = sum(status_of(claim, now) == "expired" for claim in watched.held)
    low = sum(0 < part_left(claim, now) < LOW for claim in watched.held)
    held = holders(watched)
    silent = sum(
        silent_since(one, held.get(one.agent, ()), now) is not None for one in watched.agents
    )
    unread, counts = watched.status.unread, watched.counts
    parts = [
        Span(f"{len(watched.held) - ended:,} held", BOLD),
        *([Span(f"{low} end soon", WARN)] if low else []),
        *([Span(f"{ended} ended", BAD)] if ended else []),
        *([Span(f"{silent} silent", BAD)] if silent else []),
        *([Span(f"{unread} unread", WARN)] if unread else []),
        *([Span(f"{watched.stuck} stuck", WARN)] if watched.stuck else []),
        Span(f"{counts.get('open', 0):,} open"),
        Span(f"{counts.get('done', 0):,} done"),
    ]
    return [span for part in parts for span in (part, Span("  "))][:-1]


def _alerts(watched: Watched, panels: Mapping[str, Panel]) -> list[Line]:
    cells = (cell for panel in panels.values() for row in panel.rows for cell in row.cells)
    return [[Span(_NOBODY, DIM)]] if Span("nobody", BAD) in cells else []


def _foot(ui: Ui, width: int) -> Line:
    if ui.is_typing:
        return [Span("filter: ", BOLD), Span(safe(ui.filter)), Span(" ", CHOSEN)]
    keys = _KEYS if ui.page == MAIN else _KEYS_OF_TEXT
    kept = [Span(f"filter: {safe(ui.filter)}  ", WARN)] if ui.filter and ui.page == MAIN else []
    return [*kept, Span(keys, DIM)]


# -- the tables


def _tables(
    panels: Mapping[str, Panel], ui: Ui, width: int, room: int, glyphs: Glyphs
) -> list[Line]:
    needed = {name: len(panels[name].rows) + 1 for name in PANELS}
    if width < _WIDE:
        given = _shared(needed, room)
        return [
            line
            for name in PANELS
            for line in _table(panels[name], name, ui, width, given[name], glyphs)
        ]
    top = max(needed[TASKS], needed[AGENTS])
    given = _shared({TASKS: top, NEWS: needed[NEWS]}, room)
    right = width * 9 // 20
    left = width - right - 2
    tasks = _table(panels[TASKS], TASKS, ui, left, given[TASKS], glyphs)
    agents = _table(panels[AGENTS], AGENTS, ui, right, given[TASKS], glyphs)
    both = [
        [*_padded(one, left), Span("  "), *other] for one, other in zip(tasks, agents, strict=True)
    ]
    return both + _table(panels[NEWS], NEWS, ui, width, given[NEWS], glyphs)


def _shared(needed: Mapping[str, int], room: int) -> dict[str, int]:
    """How many lines each table gets: what it needs, if there is room for that, and its least
    before another gets more. The last one gets what is left.
    """
    given = {name: min(needed[name], _LEAST[name]) for name in needed}
    while sum(given.values()) > max(room, 0):
        most = max(given, key=lambda name: given[name])
        given[most] -= 1
    *others, last = needed
    for name in (TASKS, *others):
        # What is held comes first, but the news move.
        kept = min(needed[last], room // 3) if name != last else 0
        free = room - sum(given.values()) - max(0, kept - given[last])
        given[name] += max(0, min(needed[name] - given[name], free))
    given[last] += room - sum(given.values())
    return given


def _table(panel: Panel, name: str, ui: Ui, width: int, room: int, glyphs: Glyphs) -> list[Line]:
    """A heading and as many rows as there is room for: those around the one that is chosen."""
    if room <= 0:
        return []
    rows, focused = panel.rows, ui.focus == name
    at, shown = place_of(ui, name, rows), room - 1
    first = max(0, min(at - shown // 2, len(rows) - shown))
    visible = rows[first : first + shown]
    count = f"{len(rows)}" if len(rows) == panel.of else f"{len(rows)} of {panel.of}"
    heading = [f"{panel.title} {count}", *panel.columns[1:]]
    widths = _widths(name, [heading, *([c.text for c in row.cells] for row in visible)], width - 2)
    mark = Span("> " if focused else "  ", BOLD)
    lines = [[mark, *_fitted([Span(h, BOLD) for h in heading], widths, glyphs)]]
    for number, row in enumerate(visible, first):
        chosen = focused and number == at
        cells = _fitted(row.cells, widths, glyphs)
        if chosen:
            cells = [span._replace(style=CHOSEN) for span in cells]
        lines.append([Span("> " if chosen else "  "), *cells])
    if not rows:
        lines.append([Span("  none", DIM)])
    return (lines + [[]] * room)[:room]


# Columns that are cut where the last one would not get the room; and how far, in cells.
_ELASTIC = {TASKS: {0: 12, 1: 8}, AGENTS: {0: 8}, NEWS: {3: 10, 1: 6}}
_LAST = 16


def _widths(name: str, texts: Sequence[Sequence[str]], room: int) -> list[int]:
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    last = len(widths) - 1
    elastic = dict(_ELASTIC[name])
    widths[last] = min(widths[last], max(_LAST, room - sum(widths[:last]) - 2 * last))
    while sum(widths) + 2 * last > room:
        wide = {i: widths[i] - least for i, least in elastic.items() if widths[i] > least}
        if not wide:
            break
        widths[max(wide, key=lambda i: wide[i])] -= 1
    widths[last] = max(0, room - sum(widths[:last]) - 2 * last)
    return widths


def _fitted(cells: Sequence[Span], widths: Sequence[int], glyphs: Glyphs) -> Line:
    line: Line = []
    last = len(cells) - 1
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = cell.text
        if cell_len(text) > width:
            text = _end_cut(text, width, glyphs) if number == last else shorten(text, width)
        gap = width - cell_len(text) + (2 if number < last else 0)
        line += [cell._replace(text=text), Span(" " * gap)]
    return line


def _end_cut(text: str, width: int, glyphs: Glyphs) -> str:
    return set_cell_size(text, width - 1) + glyphs.cut if width > 0 else ""


def _padded(line: Iterable[Span], width: int) -> Line:
    spans = list(line)
    return [*spans, Span(" " * (width - sum(cell_len(span.text) for span in spans)))]


def _cut(line: Line, width: int, glyphs: Glyphs) -> Line:
    """The line in at most so many cells."""
    cut: Line = []
    for span in line:
        room = width - sum(cell_len(one.text) for one in cut)
        if cell_len(span.text) > room:
            cut.append(span._replace(text=_end_cut(span.text, room, glyphs)))
            break
        cut.append(span)
    return [span for span in cut if span.text]


# -- pages of text


def text_lines(
    watched: Watched, ui: Ui, now: datetime, width: int, opened: Opened | None
) -> list[Line]:
    """All lines of a page that is no table."""
    if ui.page == HELP:
        return [[Span(line)] for line in _HELP.splitlines()]
    if ui.page == RECORD:
        found = [one for one in watched.news if str(one.seq) == ui.opened]
        return message_of(found[0], now, width) if found else [[Span("not among the news", DIM)]]
    if opened is None:
        return []
    if opened.found is None:
        return [[Span(safe(opened.fault), BAD)]]
    return text_of(opened.found, opened.events, now, width)
