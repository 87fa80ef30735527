"""Issues of beads: a JSON object a line, as `bd export` writes them, as rows.

Rules: fields that are not known are left behind; a line that is no issue is told of. What
`coordledger export --format beads` has put into `metadata` is taken up again, as long as it does
not say something else than the issue's own fields, which people edit.
"""

from __future__ import annotations

import json
from typing import Any

from coordledger.client.importing.rows import FactRow, Legacy, Origin, Row, TaskRow, Unfit
from coordledger.client.importing.texts import as_text, moment, parsed, shown
from coordledger.format.fields import is_integer
from coordledger.format.rules.imports import MAX_ATTEMPTS, MAX_EPOCH
from coordledger.format.rules.tasks import MAX_PRIORITY

NAME = "beads"
OURS = "coordledger"  # the name in `metadata` of what an export of ours says
MAX_LINE = 16 * 1024 * 1024
LEAST_URGENT = 4

_BLOCKING = ("blocks", "waits-for", "conditional-blocks")
_PARENT = "parent-child"
_SECTIONS = ("design", "acceptance_criteria", "notes")
_KEPT = ("issue_type", "owner", "created_by", "created_at", "external_ref", "due_at", "spec_id")


def read(content: bytes) -> list[Row]:
    """A row for each line with something in it."""
    return [
        _line(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()
    ]


def _line(number: int, line: bytes) -> Row:
    origin = Origin("issues", f"line {number}")
    try:
        if len(line) > MAX_LINE:
            raise ValueError(f"more than {MAX_LINE} bytes")
        found = parsed(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")  # noqa: TRY004 - all of these are one refusal
        if found.get("_type") == "memory":
            return _memory(origin, found)
        return _issue(found)
    except (ValueError, LookupError, RecursionError) as fault:
        return Unfit(origin, f"no issue: {fault}")


def _memory(origin: Origin, found: dict[str, Any]) -> Row:
    notes: list[str] = []
    key, value = (as_text(found.get(name), notes, name) for name in ("key", "value"))
    if key is None or value is None:
        return Unfit(origin, "a memory without a key or a value")
    return FactRow(Origin("memories", key), key, value, None, notes)


def _issue(found: dict[str, Any]) -> Row:
    notes: list[str] = []

    def text(name: str) -> str | None:
        value = found.get(name)
        value = json.dumps(value) if isinstance(value, list | dict) else value
        return as_text(value, notes, name) or None

    name = text("id")
    if name is None:
        raise ValueError("it has no id")
    origin = Origin("issues", name)
    status = text("status") or "open"
    ours = _said_by_us(found)
    if status == "tombstone" or ours.get("status") == "withdrawn":
        return Unfit(origin, "it was deleted or withdrawn there")
    done = status == "closed"
    times = [moment(found.get(n), [], n) for n in ("closed_at", "started_at", "updated_at")]
    at = next((one for one in times if one is not None), None)
    row = TaskRow(origin, name, Legacy(text("assignee"), at), notes=notes)
    row.status, row.title, row.body = "done" if done else "open", text("title"), text("description")
    row.result = text("close_reason") if done else None
    row.priority = _priority(found.get("priority"), notes)
    row.labels = [str(label) for label in _list(found, "labels")]
    row.not_before = moment(found.get("defer_until"), notes, "defer_until")
    row.sections = [(n, said) for n in _SECTIONS if (said := text(n))]
    row.meta = {n.replace("_", "-"): said for n in _KEPT if (said := text(n))}
    if status not in ("open", "closed"):
        row.meta["legacy-status"] = status
    if status in ("in_progress", "hooked"):
        notes.append(f"{status} there without a lease: it is open here")
    _depend(row, _list(found, "dependencies"))
    comments = _list(found, "comments")
    if comments:
        notes.append(f"{len(comments)} comments are left behind")
    if ours:
        _take_up(row, ours)
    return row


def _depend(row: TaskRow, dependencies: list[Any]) -> None:
    left = 0
    for one in dependencies:
        whole = isinstance(one, dict) and isinstance(one.get("depends_on_id"), str)
        if not whole or one.get("issue_id") not in (None, row.name):
            left += 1
        elif one.get("type", "blocks") in _BLOCKING:
            row.after.append(one["depends_on_id"])
        elif one.get("type") == _PARENT and row.parent is None:
            row.parent = one["depends_on_id"]
        else:
            left += 1
    if left:
        row.notes.append(f"{left} links that make nobody wait are left behind")


def _priority(value: Any, notes: list[str]) -> int:
    """Theirs is 0 for what is most urgent; ours is higher then."""
    if value is None:
        return LEAST_URGENT - 2
    if not is_integer(value, 0, 1_000):
        notes.append(f"priority {shown(value)}: taken as the middle one")
        return LEAST_URGENT - 2
    return LEAST_URGENT - int(value)


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    return value if isinstance(value, list) else []


# -- what an export of ours has said


def theirs(priority: int) -> int:
    """The priority of a task as beads has it."""
    return min(max(LEAST_URGENT - priority, 0), LEAST_URGENT)


def _said_by_us(found: dict[str, Any]) -> dict[str, Any]:
    metadata = found.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = parsed(metadata)
        except (ValueError, RecursionError):
            return {}
    ours = metadata.get(OURS) if isinstance(metadata, dict) else None
    return ours if isinstance(ours, dict) else {}


def _take_up(row: TaskRow, ours: dict[str, Any]) -> None:
    """What beads has no place for, or writes in another way."""
    for field, most in (("epoch", MAX_EPOCH), ("attempts", MAX_ATTEMPTS)):
        if is_integer(ours.get(field), 0, most):
            setattr(row, field, ours[field])
    priority: Any = ours.get("priority")
    exact = is_integer(priority, -MAX_PRIORITY, MAX_PRIORITY)
    if exact and theirs(priority) == LEAST_URGENT - row.priority:
        row.priority = int(priority)
    meta = ours.get("meta")
    if isinstance(meta, dict) and all(isinstance(value, str) for value in meta.values()):
        row.meta = dict(meta)
    if "title" in ours and ours["title"] is None and row.title == row.name:
        row.title = None
    if row.status == "done":
        row.attempts = 0
