"""What the user has chosen, and what a key does to that.

Rules: pure. A line stays chosen while others come and go, so it is known by its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.client.watching import CHOICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .spans import Span

HELD = "held"
WANTED = (HELD, *CHOICES)
TASKS, AGENTS, NEWS = PANELS = ("tasks", "agents", "news")
MAIN, TASK, RECORD, HELP = "main", "task", "record", "help"
QUIT, REFRESH, NOTHING = "quit", "refresh", ""  # what a key asks of others
_FAR = 10**9
_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "home": -_FAR, "g": -_FAR, "end": _FAR, "G": _FAR}
_BACK = ("escape", "backspace", "left", "h", "enter")


class Row(NamedTuple):
    """A line of a panel; `key` stays its own while lines come and go. `task`: the one to open."""

    key: str
    cells: tuple[Span, ...]
    task: str | None = None


class Panel(NamedTuple):
    """A table of the screen. `columns` are its headings; over the first one stands the `title`.
    `of`: how many rows there are without the filter.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    of: int


class Ui(NamedTuple):
    """What is on the screen. `chosen`: of each panel the key of a row, and where that was.
    `is_typing`: the filter is being typed. `opened`: the task, or the record's seq. `top`: the
    first line that is shown of a text.
    """

    page: str = MAIN
    focus: str = TASKS
    wanted: str = HELD
    filter: str = ""
    is_typing: bool = False
    chosen: tuple[tuple[str, str, int], ...] = ()
    opened: str = ""
    top: int = 0


def press(
    ui: Ui, key: str, panels: Mapping[str, Panel], height: int, last: int = 0
) -> tuple[Ui, str]:
    """The same after a key, and what that asks for: QUIT, REFRESH, NOTHING.

    `key`: a character, or up, down, left, right, home, end, page-up, page-down, enter, escape,
    backspace, tab, back-tab. `height`: how many lines are turned over; `last`: of a page of text
    the greatest `top`.
    """
    if ui.is_typing:
        return _typed(ui, key), NOTHING
    if key in ("q", "r"):
        return ui, QUIT if key == "q" else REFRESH
    if key == "?":
        return ui._replace(page=MAIN if ui.page == HELP else HELP, top=0), NOTHING
    step = {"page-up": -height, "page-down": height, " ": height, **_STEPS}.get(key)
    if step is not None:
        return _stepped(ui, step, panels, last), NOTHING
    if ui.page != MAIN:
        return (ui._replace(page=MAIN, top=0) if key in _BACK else ui), NOTHING
    return _pressed(ui, key, panels), NOTHING


def _pressed(ui: Ui, key: str, panels: Mapping[str, Panel]) -> Ui:
    """A key of the main page."""
    if key == "/":
        return ui._replace(is_typing=True)
    if key == "escape":
        return ui._replace(filter="", wanted=HELD, chosen=())
    if key in ("tab", "back-tab"):
        return ui._replace(focus=_next(PANELS, ui.focus, 1 if key == "tab" else -1))
    if key in ("s", "S"):
        wanted = _next(WANTED, ui.wanted, 1 if key == "s" else -1)
        return ui._replace(wanted=wanted, focus=TASKS)
    if key in ("enter", "right", "l"):
        return _opened(ui, panels[ui.focus].rows)
    return ui


def _next(names: Sequence[str], name: str, step: int) -> str:
    return names[(names.index(name) + step) % len(names)]


def _typed(ui: Ui, key: str) -> Ui:
    if key in ("enter", "escape"):
        return ui._replace(is_typing=False, filter=ui.filter if key == "enter" else "")
    if key == "backspace":
        return ui._replace(filter=ui.filter[:-1])
    is_text = len(key) == 1 and key.isprintable()
    return ui._replace(filter=ui.filter + key) if is_text else ui


def _stepped(ui: Ui, step: int, panels: Mapping[str, Panel], last: int) -> Ui:
    if ui.page != MAIN:
        return ui._replace(top=max(0, min(ui.top + step, last)))
    rows = panels[ui.focus].rows
    if not rows:
        return ui
    at = min(max(0, place_of(ui, ui.focus, rows) + step), len(rows) - 1)
    others = tuple(one for one in ui.chosen if one[0] != ui.focus)
    return ui._replace(chosen=(*others, (ui.focus, rows[at].key, at)))


def _opened(ui: Ui, rows: Sequence[Row]) -> Ui:
    if not rows:
        return ui
    row = rows[place_of(ui, ui.focus, rows)]
    if ui.focus == AGENTS:
        return ui._replace(filter=f"agent:{row.key}", focus=TASKS)
    if row.task is None:
        return ui._replace(page=RECORD, opened=row.key, top=0)
    return ui._replace(page=TASK, opened=row.task, top=0)


def place_of(ui: Ui, panel: str, rows: Sequence[Row]) -> int:
    """Where the row is that was chosen; where it was, if it has gone."""
    _, key, at = next((one for one in ui.chosen if one[0] == panel), ("", "", 0))
    found = next((i for i, row in enumerate(rows) if row.key == key), None)
    return found if found is not None else max(0, min(at, len(rows) - 1))


class Filter:
    """Words that all have to fit: `agent:NAME`, `status:WORD`, or a part of any text."""

    def __init__(self, text: str) -> None:
        words = text.casefold().split()
        self._agents = [word[6:] for word in words if word.startswith("agent:")]
        self._statuses = [word[7:] for word in words if word.startswith("status:")]
        self._words = [word for word in words if not word.startswith(("agent:", "status:"))]

    def fits(self, texts: Sequence[str], agents: Sequence[str], status: str | None) -> bool:
        """Of one row: all its texts, the agents that it is about, its status if it has one."""
        names = [agent.casefold() for agent in agents]
        whole = " ".join([*texts, *agents]).casefold()
        return (
            all(word in whole for word in self._words)
            and all(any(wanted in name for name in names) for wanted in self._agents)
            and (status is None or all(wanted in status for wanted in self._statuses))
        )
