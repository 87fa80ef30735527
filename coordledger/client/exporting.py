"""All tasks of a ledger, as a text for another program.

Rules: it is what this copy shows, with who has checked it; nothing of it is signed. Each task is a
line, by age, so that what a task waits for comes first. `jsonl` has all that `list --json` has, and
the body; `beads` what beads has a place for, the rest in `metadata`; `csv` is for people: no cell
of it is a formula, and it is not read again.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from coordledger.client.choosing import Wanted
from coordledger.client.claims import to_json
from coordledger.client.importing import beads
from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection
    from coordledger.client.views import Views
    from coordledger.format.records import Record

    Line = dict[str, Any]

_COLUMNS = (
    "task", "status", "title", "priority", "labels", "agent", "session", "epoch", "attempts",
    "parent", "after", "not_before", "claimed_at", "expires_at", "note", "result", "by", "meta",
    "body", "legacy", "verdict", "checked",
)  # fmt: skip
_LOT = 500  # records that are read together
_FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # what a spreadsheet takes the beginning of one for


def export(connection: Connection, views: Views, form: str) -> str:
    """The tasks in this form. Raises `Failed`: bad-value."""
    forms: dict[str, Callable[[Iterable[Line]], str]] = {
        "jsonl": _jsonl,
        "csv": _csv,
        "beads": _beads,
    }
    if form not in forms:
        raise error("bad-value", what="a format", why=f"one of {', '.join(forms)}")
    state = connection.read()
    lines = {line["task"]: line for line in views.lines(state)}
    found = views.listing(state, Wanted(), None, None).tasks
    claims = sorted(found, key=lambda claim: int(lines[claim.task]["first_seq"]))
    submits = _submits(connection, [lines[claim.task] for claim in claims])
    return forms[form](_line(*one) for one in zip(claims, submits, strict=True))


def _submits(connection: Connection, lines: list[Record]) -> Iterator[Record | None]:
    """The record that has brought each task, where its body is, if this copy has it."""
    local = connection.replica.local
    for start in range(0, len(lines), _LOT):
        lot = lines[start : start + _LOT]
        seqs = [line["submit_seq"] for line in lot if line["submit_seq"] is not None]
        local.repository.read_ahead([oid for oid in map(local.id_at, seqs) if oid])
        for line in lot:
            seq = line["submit_seq"]
            commit = None if seq is None else connection.replica.commit_at(seq)
            yield commit.record if commit and commit.record.get("task") == line["task"] else None


def _line(claim: Claim, submit: Record | None) -> Line:
    line: Line = to_json(claim)
    said = submit or {}
    return line | {"body": said.get("body"), "submitted_at": said.get("at")}


def _jsonl(lines: Iterable[Line]) -> str:
    return "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)


# -- beads


def _beads(lines: Iterable[Line]) -> str:
    return _jsonl(map(_issue, lines))


def _issue(line: Line) -> Line:
    status = {"open": "open", "expired": "open", "claimed": "in_progress"}.get(
        line["status"], "closed"
    )
    last = (line["last"] or {}).get("at")
    created = line["submitted_at"] or line["claimed_at"] or last
    issue = {
        "_type": "issue",
        "id": line["task"],
        "title": line["title"] or line["task"],
        "description": line["body"],
        "status": status,
        "priority": beads.theirs(line["priority"]),
        "issue_type": "task",
        "assignee": line["agent"],
        "created_at": created,
        "created_by": line["by"],
        "updated_at": last or created,
        "closed_at": (last or created) if status == "closed" else None,
        "close_reason": "withdrawn" if line["status"] == "withdrawn" else line["result"],
        "defer_until": line["not_before"],
        "labels": line["labels"],
        "dependencies": _dependencies(line),
    }
    ours = {
        name: line[name] for name in ("status", "epoch", "attempts", "priority", "meta", "title")
    }
    kept = {name: value for name, value in issue.items() if value not in (None, [])}
    return kept | {"metadata": {beads.OURS: ours}}


def _dependencies(line: Line) -> list[Line]:
    links = [(name, "blocks") for name in line["after"]]
    links += [(line["parent"], "parent-child")] if line["parent"] else []
    return [{"issue_id": line["task"], "depends_on_id": name, "type": kind} for name, kind in links]


# -- spreadsheets


def _csv(lines: Iterable[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([_cell(name, line[name]) for name in _COLUMNS] for line in lines)
    return text.getvalue()


def _cell(name: str, value: Any) -> object:
    """A number as it is; a text so that no spreadsheet computes it, without control characters."""
    if value is None or isinstance(value, int):
        return value
    if name == "legacy":
        value = f"{value['source']} {value['id']}: {value['mac']}"
    elif isinstance(value, list):
        value = " ".join(value)
    elif isinstance(value, dict):
        value = " ".join(f"{key}={text}" for key, text in value.items())
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(value))
    return f"'{shown}" if shown[:1] and shown.lstrip(" ")[:1] in _FORMULA else shown
