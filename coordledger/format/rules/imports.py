"""What comes from another system: tasks, and messages that were sent there: import, archive.

Rules: the record is the importer's, an admin's, and signs in nobody else's name. Who held, did or
sent something elsewhere stands in its `legacy`, with what the importer has found about the proof
that was kept there; no rule believes any of it, and none looks at it but for its form. A task
begins at the epoch that it had there, so that fencing tokens go on. A message changes no state.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields
from coordledger.format.rules.claims import need_lease
from coordledger.format.rules.kind import Kind, need_admin, need_next_rev, need_size
from coordledger.format.rules.tasks import (
    ATTRIBUTES,
    changed,
    need_earlier,
    new_task,
    status_after,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.format.fields import Fields
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

# The next claim has the next epoch, and no number of a record is above 2^53 - 1.
MAX_EPOCH = 1_000_000_000
MAX_ATTEMPTS = 1_000_000
MAX_SOURCE, MAX_ID, MAX_AGENT, MAX_UNTIL, MAX_TAG = 256, 1024, 512, 64, 256
MAX_PLACE = 256  # of an archived message: its addressee, its channel

VALID, BAD, UNKNOWN, MISSING = "valid", "invalid", "unknown", "missing"  # what a MAC was

_LEGACY = fields.members(
    {
        "source": fields.bounded_text(MAX_SOURCE, 1),
        "id": fields.bounded_text(MAX_ID),
        "agent": fields.or_null(fields.bounded_text(MAX_AGENT)),
        "at": fields.or_null(fields.time),
        "until": fields.or_null(fields.bounded_text(MAX_UNTIL)),
        "tag": fields.or_null(fields.bounded_text(MAX_TAG)),
        "mac": fields.one_of(VALID, BAD, MISSING, UNKNOWN),
    }
)


def _legacy(value: Any) -> str:
    wrong = _LEGACY(value)
    if wrong or (value["tag"] is None) == (value["mac"] == MISSING):
        return wrong
    return "mac: missing, where there is a tag, or else where there is none"


def _check_status(record: Record) -> None:
    """An offer belongs to an open task alone, a result to one that is done."""
    done = record["status"] == "done"
    field = "offer" if done else "result"
    if record[field] is not None:
        raise RuleBroken(
            "bad-record", field=field, why=f"not null, of a task that is {record['status']}"
        )
    if done and record["attempts"]:
        raise RuleBroken("bad-record", field="attempts", why="not 0, of a task that is done")


def _import(state: State, record: Record, seq: int) -> Changes:
    need_admin(state, record, "import tasks")
    name = record["task"]
    verb = "import-done" if record["status"] == "done" else "import"
    status = status_after(state, record, state.task(name), name, verb)
    task = new_task(name, seq)
    need_next_rev(name, task["rev"], record)
    need_size(state, record, "body", "max_body")
    need_size(state, record, "result", "max_text")
    given = {field: record[field] for field in ATTRIBUTES}
    need_earlier(state, task, given)
    given |= {field: record[field] for field in ("epoch", "attempts")}
    given |= {"by": record["agent"], "submit_seq": seq, "status": status}
    legacy = {"mac": record["legacy"]["mac"], "seq": seq, "source": record["legacy"]["source"]}
    given |= {"offer": _offer(state, record, seq), "legacy": legacy}
    return state.with_tasks([changed(task, record, seq, **given)], grows=True)


def _offer(state: State, record: Record, seq: int) -> Record | None:
    """The offer of the line: to whom held it there, for no longer than a lease may be."""
    offer = record["offer"]
    if offer is None:
        return None
    if not state.has_active_key(offer["agent"]):
        raise RuleBroken("unknown-agent", who=offer["agent"])
    need_lease(state, record, offer)
    return {"agent": offer["agent"], "seq": seq, "until": offer["until"]}


def _archive(state: State, record: Record, seq: int) -> Changes:
    need_admin(state, record, "archive messages")
    need_size(state, record, "body", "max_body")
    return {}


_TASK: Fields = {"task": fields.task, "rev": fields.positive}

KINDS = {
    "import": Kind(
        {
            **_TASK,
            "status": fields.one_of("open", "done"),
            "epoch": fields.integer(0, MAX_EPOCH, "an epoch"),
            "attempts": fields.integer(0, MAX_ATTEMPTS, "a number of attempts"),
            **ATTRIBUTES,
            "body": fields.or_null(fields.text),
            "result": fields.or_null(fields.text),
            "offer": fields.or_null(fields.members({"agent": fields.agent, "until": fields.time})),
            "legacy": _legacy,
        },
        check=_check_status,
        apply=_import,
        subject=lambda record: f"import {record['task']} as {record['status']}",
    ),
    "archive": Kind(
        {
            "to": fields.or_null(fields.bounded_text(MAX_PLACE)),
            "channel": fields.or_null(fields.bounded_text(MAX_PLACE)),
            "body": fields.filled_text,
            "legacy": _legacy,
        },
        apply=_archive,
        subject=lambda record: "archive a message",
    ),
}
