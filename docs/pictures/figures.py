"""What one run of `coordledger bench compare --json` says: as a picture, as tables, in words.

All figures of the comparison in README and docs/performance.md come from figures.json beside this
file, and from nowhere else; `put` writes what stands between a page's two marks. Nothing is
measured here.
"""

from __future__ import annotations

import json
import math
import textwrap
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.bench import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
RUN = HERE / "figures.json"
PICTURE = HERE / "figures.svg"
BEGIN, END = "<!-- figures: docs/pictures/make.py --figures -->", "<!-- end of figures -->"


class Way(NamedTuple):
    """One row for people: its name, and what whoever takes it gets."""

    name: str
    gets: str
    ours: bool = False


WAYS = {
    compare.FULL: Way("SQLite", "one machine; unsigned"),
    compare.NORMAL: Way("SQLite, synchronous=NORMAL", "the same, without waiting for the disk"),
    compare.PUSH: Way("git push", "no claim: what git takes for a commit"),
    compare.NAIVE: Way("fetch, commit, push, again", "any git remote; unsigned; no leases"),
    compare.HERE: Way("coordledger, one host", "signed, verified, leases", ours=True),
    compare.PUSHED: Way("coordledger, by pushes", "the same, from any host", ours=True),
    compare.RESIDENT: Way("coordledger, by pushes, serve", "with a resident process", ours=True),
}


class Figures:
    """The run: its rows by what was measured, in the order of WAYS."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.machine = found["machine"]
        suite = found["suites"]["compare"]
        self.rounds = suite["rounds"]
        rows = {row["what"]: row for row in suite["rows"]}
        self.rows = {what: rows[what] for what in WAYS if what in rows}

    @classmethod
    def kept(cls) -> Figures:
        return cls(json.loads(RUN.read_text("utf-8")))

    def times(self, column: str, of: str, beside: str) -> str:
        """How many times as much one row has of something as another."""
        return number(self.rows[of][column] / self.rows[beside][column])

    def measured_on(self) -> str:
        m = self.machine
        system = " ".join(m["system"].split()[:2])
        what = f"{system}, git {m['git']}, Python {m['python']}, {m['file_system']}"
        said = (
            f"Measured on {m['day']} on {m['cores']} cores of an {m['cpu']} ({what}), in one run "
            f"of {self.rounds} rounds, by the medians; load before: {m['load']}."
        )
        if m["load"] > 1:
            said += " Other work kept the machine busy: take the ratios, not the figures."
        return _wrapped(said)


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(
        text, 112, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )


def number(value: float) -> str:
    """Two figures at least, and no more than there are before the point."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


# -- words


def table(figures: Figures, columns: dict[str, str], *, gets: bool = False) -> str:
    """Rows of ways, with what each gets; `columns` are fields of the run and their titles."""
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * len(columns)]
    for what, row in figures.rows.items():
        way = WAYS[what]
        name = f"**{way.name}**" if way.ours else way.name
        cells = [number(row[column]) for column in columns]
        lines.append(f"| {f'{name} ({way.gets})' if gets else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def short(figures: Figures) -> str:
    """What README has."""
    columns = {
        "alone_ms": "one process: ms a claim",
        "records_per_s": "16 at once: claims/s",
        "p95_ms": "p95, ms",
        "slowest_to_fastest": "slowest : fastest",
    }
    items = (_wrapped(" ".join(said), "- ", "  ") for said in _sentences(figures))
    return "\n".join([table(figures, columns, gets=True), "", figures.measured_on(), "", *items])


def _sentences(figures: Figures) -> list[tuple[str, ...]]:
    """What each way is good for, for whoever has to choose."""
    rows, times = figures.rows, figures.times
    full, here, naive = compare.FULL, compare.HERE, compare.NAIVE
    one, all_ = times("alone_ms", here, full), times("records_per_s", full, here)
    place, pushed, served = (
        times("records_per_s", way, naive) for way in (here, compare.PUSHED, compare.RESIDENT)
    )
    waited, late = rows[full]["max_ms"] / 1000, rows[naive]["p95_ms"] / 1000
    return [
        (
            "If all your agents share one machine, trust each other and need no signatures,",
            f"**SQLite** is faster: {one} times for one process, and sixteen",
            f"land {all_} times as many claims. It has no turns: one of those had",
            f"to wait for {number(waited)} seconds.",
        ),
        (
            "**`git push`** alone is no claim. It is what git takes to store a commit, and so what",
            "each claim in git is measured by.",
        ),
        (
            "**A loop** of fetch, commit and push needs nothing installed. With sixteen writers,",
            f"one claim in twenty takes more than {number(late)} seconds; none is signed, and none",
            "ends by itself.",
        ),
        (
            "**coordledger** signs, verifies, leases, and waits for the disk. Sixteen processes",
            f"land {place} times as many claims as by the loop where the ledger is",
            "a folder of the agents' own machine and account,",
            f"{pushed} times as many by pushes, as from other hosts",
            "(here without a network between them), and",
            f"{served} times with `coordledger serve` at the server.",
            "That has to be started; the others are what `init` leaves.",
        ),
    ]


def long(figures: Figures) -> str:
    """What docs/performance.md has."""
    columns = {
        "alone_ms": "one: ms",
        "records_per_s": "16: claims/s",
        "p95_ms": "p95 ms",
        "slowest_to_fastest": "slowest : fastest",
        "max_ms": "max ms",
        "cpu_ms": "CPU ms",
        "of_floor": "one: × `FLOOR`",
        "of_naive": "16: × naive",
    }
    return "\n\n".join([table(figures, columns), figures.measured_on(), _goals(figures)])


class Goal(NamedTuple):
    """What one row was to reach; `limit` is a most, or with `least` a least."""

    what: str
    column: str
    over: str  # the column that it is a multiple of, or ""
    limit: float
    said: str
    least: bool = False


GOALS = (
    Goal(compare.HERE, "of_floor", "", 0.5, "one process: × `FLOOR`"),
    Goal(compare.HERE, "of_naive", "", 15, "16 at once: × naive", least=True),
    Goal(compare.HERE, "slowest_to_fastest", "", 1.3, "slowest : fastest"),
    Goal(compare.HERE, "p95_ms", "p50_ms", 2, "p95 : p50"),
    Goal(compare.PUSHED, "of_naive", "", 3, "16 at once: × naive", least=True),
    Goal(compare.RESIDENT, "of_naive", "", 8, "16 at once: × naive", least=True),
)


def _goals(figures: Figures) -> str:
    """What was wanted of these rows, and whether they have reached it."""
    lines = ["| goals of this page | | goal | measured |", "|---|---|---:|---:|"]
    for goal in GOALS:
        if row := figures.rows.get(goal.what):
            value = row[goal.column] / (row[goal.over] if goal.over else 1)
            reached = value >= goal.limit if goal.least else value <= goal.limit
            shown = number(value) if reached else f"**{number(value)}**: not reached"
            limit = f"{'≥' if goal.least else '≤'} {goal.limit:g}"
            lines.append(f"| {WAYS[goal.what].name} | {goal.said} | {limit} | {shown} |")
    return "\n".join(lines)


PAGES: dict[str, Callable[[Figures], str]] = {"README.md": short, "docs/performance.md": long}


def put(page: str, block: str) -> str:
    """The page's text with the block between its marks. Raises `ValueError` without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


# -- the picture

WIDTH, NAMES, LEFT, RIGHT, TOP, ROW = 880, 20, (280, 540), (596, 846), 104, 42
STYLE = """
text { font: 13px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; fill: #1b1d22; }
.ground { fill: #fff; stroke: #e3e2dc; } .head { font-size: 17px; font-weight: 650; } .panel { font-weight: 600; }
.note, .axis { font-size: 12px; fill: #565a63; } .axis { text-anchor: middle; } .grid { stroke: #e6e5df; } .lane { fill: #000; fill-opacity: .035; }
.dot { fill: #8b909b; } .ours .dot { fill: #4f46e5; } .value { font-weight: 600; } .ours .name { font-weight: 650; } .before { text-anchor: end; }
@media (prefers-color-scheme: dark) {
  text { fill: #e8eaee; } .ground { fill: #151a21; stroke: #2a323d; } .note, .axis { fill: #a6adb8; } .grid { stroke: #2a323d; }
  .lane { fill: #fff; fill-opacity: .04; } .dot { fill: #8a93a0; } .ours .dot { fill: #9ba0ff; }
}
"""  # noqa: E501


class Scale:
    """A logarithmic axis between two places, from one power of ten to another."""

    def __init__(self, values: Sequence[float], ends: tuple[int, int]) -> None:
        self.first = math.floor(math.log10(min(values)))
        self.last = math.ceil(math.log10(max(values)))
        self.ends = ends

    def x(self, value: float) -> float:
        share = (math.log10(value) - self.first) / (self.last - self.first)
        return round(self.ends[0] + share * (self.ends[1] - self.ends[0]), 1)

    def marks(self) -> list[tuple[float, str]]:
        """Where the powers of ten are, and what stands there."""
        powers = [10.0**power for power in range(self.first, self.last + 1)]
        return [(self.x(power), f"{power:,g}") for power in powers]


def svg(figures: Figures) -> str:
    """A dot for each way, by one process alone and by sixteen."""
    bottom = TOP + ROW * len(figures.rows)
    height = bottom + 64
    size, role = f'width="{WIDTH}" height="{height}"', 'role="img" aria-labelledby="title"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size} {role}>',
        '<title id="title">What a claim takes one process, and how many sixteen land</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="14"/>',
        _text(NAMES, 34, "What a claim takes, and how many land", "head"),
        _text(
            NAMES,
            54,
            "Both scales are logarithmic: each line is ten times the one before it.",
            "note",
        ),
    ]
    for n in range(0, len(figures.rows), 2):
        x, y = NAMES - 10, TOP + ROW * n
        out.append(f'<rect class="lane" x="{x}" y="{y}" width="{WIDTH - 2 * x}" height="{ROW}"/>')
    panels = (
        ("alone_ms", LEFT, "One process: ms a claim", "← less is better"),
        ("records_per_s", RIGHT, "Sixteen at once: claims a second", "more is better →"),
    )
    rows = [[f'<g class="{"ours" if WAYS[what].ours else "other"}">'] for what in figures.rows]
    for row, what, y in zip(rows, figures.rows, range(TOP, bottom, ROW), strict=True):
        row.append(_text(NAMES, y + 18, WAYS[what].name, "name"))
        row.append(_text(NAMES, y + 34, WAYS[what].gets, "note"))
    for column, ends, title, better in panels:
        scale = Scale([row[column] for row in figures.rows.values()], ends)
        out.append(_text(ends[0], 86, title, "panel"))
        out.append(_text((ends[0] + ends[1]) // 2, bottom + 38, better, "axis"))
        for x, label in scale.marks():
            out.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{bottom + 4}"/>')
            out.append(_text(x, bottom + 20, label, "axis"))
        for row, shown, y in zip(rows, figures.rows.values(), range(TOP, bottom, ROW), strict=True):
            row.extend(_dot(scale.x(shown[column]), y + ROW // 2, number(shown[column]), ends[1]))
    out += ["".join([*row, "</g>"]) for row in rows]
    m = figures.machine
    made = f"coordledger bench compare, {m['day']}, {m['cores']} cores, load before: {m['load']}"
    return "\n".join([*out, _text(NAMES, height - 8, made, "note"), "</svg>"]) + "\n"


def _dot(x: float, y: int, value: str, end: int) -> list[str]:
    """A dot, and its value where there is room for it."""
    dot = f'<circle class="dot" cx="{x}" cy="{y}" r="6"/>'
    if x > end - 46:
        return [dot, _text(x - 11, y + 5, value, "value before")]
    return [dot, _text(x + 11, y + 5, value, "value")]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y}">{escape(text)}</text>'
