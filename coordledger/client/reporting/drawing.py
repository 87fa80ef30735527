"""The timeline alone, as an SVG: a picture without scripts, for documents and issues.

Rules: pure. It follows the reader's light or dark (`prefers-color-scheme`, also where it stands in
an `<img>`), loads nothing, and each foreign text in it is escaped. Lanes, colours and signs are
those of the page's timeline (templates/report.js).
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from coordledger.client.reporting.leases import EARLIER, HELD
from coordledger.client.reporting.page import escaped, name_of, template
from coordledger.client.task_ids import decode
from coordledger.client.texts import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordledger.client.reporting.gathering import Report
    from coordledger.client.reporting.leases import Lease

WIDTH = 1200
_TASKS = 60  # as lanes; with more tasks an agent is a lane
_LANES = 80
_LEFT, _RIGHT, _TOP, _BOTTOM = 210, 24, 104, 58
_ROW, _BAR = 25, 18
_COLOURS = 10
_CHAR = 6.6  # width of a character, about
_AHEAD = timedelta(hours=2)
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 20160, 40320, 131040)
_LEAST = 64  # units between two times of the axis
_SIGNS = {
    "done": "M-3.2 .2 L-1 2.6 L3.4 -2.4",
    "gave back": "M2.6 -1.4 H-1.6 M-1.6 -1.4 L.2 -3.4 M-1.6 -1.4 L.2 .6 M2.6 -1.4 V2.6 H-1.4",
    "forced": "M0 -3.6 V.9 M0 3.2 V3.4",
    "expired": "M-2.4 -2.4 L2.4 2.4 M2.4 -2.4 L-2.4 2.4",
    "was handed": "M-3 0 H2.8 M.4 -2.6 L3 0 L.4 2.6",
    "withdrawn": "M-2.8 0 H2.8",
}
_WORDS = {
    "done": "done",
    "was handed": "handed over",
    "gave back": "given back",
    "expired": "lease expired",
    "forced": "released by force",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Lane(NamedTuple):
    name: str
    rows: list[list[Lease]]


class _Scale(NamedTuple):
    """From moments to units of the picture."""

    start: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        share = (at - self.start) / (self.end - self.start)
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, share)), 1)


def svg(report: Report) -> str:
    """The whole picture."""
    by_task = len({one.task for one in report.leases}) <= _TASKS
    lanes = _lanes(report.leases, by_task=by_task)
    shown = lanes[:_LANES]
    height = _TOP + sum(len(lane.rows) for lane in shown) * _ROW + _BOTTOM
    held_by = {one.agent for one in report.leases}
    agents = sorted(held_by | {one.agent for one in report.activity})
    colours = {name: number % _COLOURS for number, name in enumerate(agents)}
    scale = _Scale(*_span(report))
    title = f"Who held what, when: ledger {report.ledger[:12]}, up to record {report.head.seq}"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
        f'<title id="title">{escaped(title)}</title>',
        f"<style>{template('timeline.css')}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="14"/>',
        _text("head", 20, 34, "Who held what, when"),
        _text("note", 20, 54, _note(report, len(lanes) - len(shown))),
        *_axis(scale, height - _BOTTOM),
    ]
    y = _TOP
    for number, lane in enumerate(shown):
        parts += _drawn(lane, number, y, scale, colours, by_task=by_task)
        y += len(lane.rows) * _ROW
    if report.until is None or report.made_at < report.until:
        parts += _now(scale, report.made_at, height - _BOTTOM)
    if not shown:
        parts.append(_text("note", _LEFT, _TOP + 4, "Nobody has claimed anything."))
    parts += _legend(sorted(held_by), colours, height - 24)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _note(report: Report, left: int) -> str:
    first = min((one.start for one in report.leases), default=report.made_at)
    more = f"; {left} more lanes are left out" if left else ""
    span = f"{first:%Y-%m-%d %H:%M} to {report.made_at:%Y-%m-%d %H:%M} UTC"
    upto = f"{name_of(report.url)}, up to record {report.head.seq}"
    return f"{upto}; {span}; {len(report.leases)} leases{more}"


def _lanes(leases: Sequence[Lease], *, by_task: bool) -> list[_Lane]:
    groups: dict[str, list[Lease]] = {}
    for one in leases:
        groups.setdefault(one.task if by_task else one.agent, []).append(one)
    names = groups if by_task else sorted(groups)
    return [_Lane(name, _packed(groups[name])) for name in names]


def _packed(leases: Sequence[Lease]) -> list[list[Lease]]:
    """In rows, in which none covers another."""
    rows: list[list[Lease]] = []
    for one in leases:
        row = next((row for row in rows if _last(row[-1]) <= one.start), None)
        if row is None:
            rows.append([one])
        else:
            row.append(one)
    return rows


def _last(one: Lease) -> datetime:
    return max(one.end, one.until) if one.ended == HELD else one.end


def _span(report: Report) -> tuple[datetime, datetime]:
    end = min(report.made_at, report.until or report.made_at)
    first = min((one.start for one in report.leases), default=end)
    ahead = (one.until for one in report.leases if one.ended == HELD)
    last = min(max((end, *ahead)), end + _AHEAD)
    last = max((last, *(one.end for one in report.leases)))
    room = max(timedelta(minutes=1), (last - first) * 0.02)
    return first - room, last + room


def _axis(scale: _Scale, bottom: int) -> Iterator[str]:
    minutes = (scale.end - scale.start) / timedelta(minutes=1)
    unit = (WIDTH - _LEFT - _RIGHT) / minutes
    step = next((one for one in _STEPS if one * unit >= _LEAST), _STEPS[-1])
    first = -((_EPOCH - scale.start) // timedelta(minutes=step))
    day = ""
    for number in itertools.count(first):
        at = _EPOCH + number * timedelta(minutes=step)
        if at > scale.end:
            return
        if at < scale.start:
            continue
        x, is_day = scale.x(at), at.hour == at.minute == 0
        kind = "grid day" if is_day else "grid"
        yield f'<line class="{kind}" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{bottom}"/>'
        shown, day = (f"{at:%a} {at.day} {at:%b}", f"{at:%j}") if f"{at:%j}" != day else ("", day)
        if shown and step < 1440:
            yield _text("axis day", x + 3, _TOP - 22, shown)
        yield _text("axis", x + 3, _TOP - 9, f"{at:%H:%M}" if step < 1440 else f"{at.day} {at:%b}")


def _drawn(
    lane: _Lane,
    number: int,
    y: int,
    scale: _Scale,
    colours: dict[str, int],
    *,
    by_task: bool,
) -> Iterator[str]:
    height = len(lane.rows) * _ROW
    if number % 2:
        yield f'<rect class="lane" x="8" y="{y}" width="{WIDTH - 16}" height="{height}" rx="4"/>'
    yield _text("name", 20, y + _ROW / 2 + 4, _middle(decode(lane.name), int((_LEFT - 34) / _CHAR)))
    signs = []
    for row in lane.rows:
        ends: float | None = None
        for one in row:
            yield from _bar(one, y + (_ROW - _BAR) / 2, scale, colours, ends, by_task=by_task)
            ends = scale.x(one.end)
            if one.ended in _SIGNS:
                signs.append(_sign(one.ended, max(ends, scale.x(one.start) + 2), y + _ROW / 2))
        y += _ROW
    yield from signs  # above what follows in the row


def _bar(
    one: Lease,
    y: float,
    scale: _Scale,
    colours: dict[str, int],
    before: float | None,
    *,
    by_task: bool,
) -> Iterator[str]:
    left, right, middle = scale.x(one.start), scale.x(one.end), y + _BAR / 2
    width = max(2.0, round(right - left, 1))
    if by_task and before is not None and one.began == "took over" and left > before:
        yield f'<path class="passes" d="M{before} {middle} H{left}"/>'
    task = decode(one.task)
    label = f"{one.agent} held {task}: {one.start:%Y-%m-%d %H:%M} to {one.end:%Y-%m-%d %H:%M}"
    began = "" if one.began in ("claimed", EARLIER) else f"{one.began}; "
    who = "this copy" if one.checked == "here" else one.checked
    label += f" UTC; {began}{_WORDS.get(one.ended, one.ended)}; checked by {who}"
    yield f'<g class="bar c{colours[one.agent]} {one.checked}"><title>{escaped(label)}</title>'
    if one.ended == HELD:
        yield _rect("rest", right, y + 2, max(0.0, scale.x(one.until) - right), _BAR - 4)
    yield _rect("body", left, y, width, _BAR)
    name = one.agent if by_task else task
    indent = 11 if one.began == "was handed" else 6  # beside the sign of the lease before
    room = int((width - indent - 11) / _CHAR)
    if room >= min(len(name), 7):
        yield _text("", left + indent, middle + 4, _middle(name, room))
    yield "</g>"


def _sign(what: str, x: float, y: float) -> str:
    kind = what.replace(" ", "-")
    shape = f'<circle r="6.5"/><path d="{_SIGNS[what]}"/>'
    return f'<g class="sign {kind}" transform="translate({x} {y})">{shape}</g>'


def _now(scale: _Scale, at: datetime, bottom: int) -> Iterator[str]:
    x = scale.x(at)
    yield f'<line class="now" x1="{x}" x2="{x}" y1="{_TOP - 20}" y2="{bottom}"/>'
    yield f'<rect class="pill" x="{x - 16}" y="{_TOP - 35}" width="32" height="15" rx="7.5"/>'
    yield f'<text class="pill-word" x="{x}" y="{_TOP - 24}">now</text>'


def _legend(agents: Sequence[str], colours: dict[str, int], y: int) -> Iterator[str]:
    x = 20.0
    for name in agents:
        shown = _middle(name, 24)
        if x > WIDTH / 2:
            yield _text("note", x, y + 4, "…")
            break
        yield _rect(f"dot c{colours[name]}", x, y - 5, 10, 10)
        yield _text("note", x + 15, y + 4, shown)
        x += 32 + len(shown) * _CHAR
    x = WIDTH - _RIGHT
    for what, name in reversed(_WORDS.items()):
        x -= len(name) * _CHAR + 12
        yield _text("note", x, y + 4, name)
        x -= 14
        yield _sign(what, x, y)
        x -= 6


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{round(width, 1)}" height="{height}" rx="{round(min(5, width / 2), 1)}"'
    return f'<rect class="{kind}" x="{round(x, 1)}" y="{round(y, 1)}" {size}/>'


def _text(kind: str, x: float, y: float, text: str) -> str:
    named = f'class="{kind}" ' if kind else ""
    return f'<text {named}x="{round(x, 1)}" y="{round(y, 1)}">{escaped(cut(text, 200))}</text>'


def _middle(text: str, most: int) -> str:
    """Without its middle, if it is longer: ids differ at their ends."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"
