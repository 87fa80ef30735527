"""Tasks that `coordledger export` has written, a JSON object a line, as rows.

Rules: it reads what the export says, and believes none of it: an agent that completed a task in
another ledger has signed nothing here. A claim whose lease runs is offered to its holder.
"""

from __future__ import annotations

from typing import Any

from coordledger.client.importing.rows import Legacy, Origin, Row, TaskRow, Unfit
from coordledger.client.importing.texts import as_text, moment, parsed, shown
from coordledger.format.fields import is_integer
from coordledger.format.rules.imports import MAX_ATTEMPTS, MAX_EPOCH
from coordledger.format.rules.tasks import MAX_PRIORITY

NAME = "coordledger"
MAX_LINE = 16 * 1024 * 1024


def read(content: bytes, now: int) -> list[Row]:
    """A row for each line with something in it. `now`: milliseconds since 1970."""
    return [
        _line(number, line, now)
        for number, line in enumerate(content.split(b"\n"), 1)
        if line.strip()
    ]


def _line(number: int, line: bytes, now: int) -> Row:
    origin = Origin("tasks", f"line {number}")
    try:
        if len(line) > MAX_LINE:
            raise ValueError(f"more than {MAX_LINE} bytes")
        found = parsed(line)
        if not isinstance(found, dict):
            raise ValueError("not an object")  # noqa: TRY004 - all of these are one refusal
        return _task(found, now)
    except (ValueError, LookupError, RecursionError) as fault:
        return Unfit(origin, f"no task: {fault}")


def _task(found: dict[str, Any], now: int) -> Row:
    notes: list[str] = []

    def text(name: str) -> str | None:
        return as_text(found.get(name), notes, name)

    def number(name: str, least: int, most: int) -> int:
        value = found.get(name, 0)
        if not is_integer(value, least, most):
            raise ValueError(f"{name} {shown(value)} is none")
        return int(value)

    def texts(name: str) -> list[str]:
        value = found.get(name, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{name} is no list of texts")
        return list(value)

    name = text("task")
    if not name:
        raise ValueError("it has no task")
    origin, status = Origin("tasks", name), text("status")
    if status == "withdrawn":
        return Unfit(origin, "it was withdrawn there")
    if status not in ("open", "claimed", "expired", "done"):
        raise ValueError(f"status {shown(status)} is unknown")
    end = moment(found.get("expires_at"), notes, "expires_at")
    at = moment(found.get("claimed_at"), notes, "claimed_at")
    row = TaskRow(origin, name, Legacy(text("agent"), at, text("expires_at")), notes=notes)
    row.status = "done" if status == "done" else "open"
    row.epoch, row.attempts = number("epoch", 0, MAX_EPOCH), number("attempts", 0, MAX_ATTEMPTS)
    row.attempts = 0 if row.status == "done" else row.attempts
    row.priority = number("priority", -MAX_PRIORITY, MAX_PRIORITY)
    meta = found.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise ValueError("meta is no object of texts")
    row.meta, row.after, row.labels = dict(meta), texts("after"), texts("labels")
    row.title, row.parent, row.body = text("title"), text("parent"), text("body")
    row.not_before = moment(found.get("not_before"), notes, "not_before")
    row.result = text("result") if row.status == "done" else None
    if status == "claimed" and end is not None and end > now:
        row.holder, row.until = row.legacy.agent, end
    return row
