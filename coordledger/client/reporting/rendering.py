"""A report as the values that its page shows, and as that page.

Rules: what somebody wrote becomes harmless here (`client.texts`): what does not print, and what
turns the direction of writing, is seen as what it is. Long lists become a table: the names once,
then rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import coordledger
from coordledger.client.claims import to_json
from coordledger.client.reporting.page import assemble, name_of, template
from coordledger.client.task_ids import decode
from coordledger.client.texts import cut, safe

if TYPE_CHECKING:
    from coordledger.client.reporting.gathering import Report

MOST_TEXT = 20_000  # characters of one text; `show` and `messages` print all of it
_TAB = 4
_LISTS = ("tasks", "leases", "records", "messages", "keys")


def html(report: Report) -> str:
    """The whole page, with its data."""
    return page(report, page_data(report))


def page(report: Report, data: dict[str, Any], *, live: bool = False) -> str:
    """The page with this `data`; a `live` one asks for newer data."""
    return assemble(
        title=f"{name_of(report.url)}: coordledger report",
        body=template("report.html"),
        styles=("page.css", "report.css"),
        scripts=("theme.js", "report.js"),
        data=data,
        live=live,
    )


def page_data(report: Report, *, live: bool = False) -> dict[str, Any]:
    """What the page's script reads."""
    made: dict[str, Any] = to_json(report, _text)
    for name in _LISTS:
        made[name] = _table(made[name])
    names = {one.task for one in report.tasks} | {one.task for one in report.leases}
    names |= {task for record in report.records for task in record.tasks}
    made["names"] = {task: _text(decode(task)) for task in names if decode(task) != task}
    return made | {
        "name": _text(name_of(report.url)),
        "live": live,
        "version": coordledger.__version__,
    }


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = list(rows[0]) if rows else []
    return {"columns": columns, "rows": [list(row.values()) for row in rows]}


def _text(text: str) -> str:
    """Its lines, each made safe."""
    if text.isascii() and text.isprintable():
        return cut(text, MOST_TEXT)
    return "\n".join(map(safe, cut(text, MOST_TEXT).expandtabs(_TAB).split("\n")))
