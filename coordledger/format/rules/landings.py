"""Code that lands under a claim: land.

Rules: a record says which ref moved, from where to where, and under whose claim. That the ref moves
with it, together or not at all, is the server's to see to; here it is a statement of the holder's.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields
from coordledger.format.names import is_code_ref
from coordledger.format.reservations import ended
from coordledger.format.rules.claims import DONE, HELD, held
from coordledger.format.rules.kind import Kind, need_size
from coordledger.format.rules.tasks import changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

_SHA1, _SHA256 = fields.hexadecimal(40), fields.hexadecimal(64)


def _object_id(value: Any) -> str:
    return "" if not _SHA1(value) or not _SHA256(value) else "not an object id"


def _ref(value: Any) -> str:
    return "" if is_code_ref(value) else "not a ref that code may have"


def _check_land(record: Record) -> None:
    if len(record["old"]) != len(record["new"]):
        raise RuleBroken("bad-record", field="new", why="of another length than old")
    if record["old"] == record["new"]:
        raise RuleBroken("bad-record", field="new", why="the same as old")
    if record["result"] is not None and not record["complete"]:
        raise RuleBroken("bad-record", field="result", why="without complete")


def _land(state: State, record: Record, seq: int) -> Changes:
    task, status = held(state, record, "complete" if record["complete"] else "land")
    need_size(state, record, "result", "max_text")
    if record["complete"]:
        line = changed(task, record, seq, **DONE)
        return state.with_tasks([line]) | ended(state, [task["task"]])
    return state.with_tasks([changed(task, record, seq, status=status, offer=None)])


def _land_subject(record: Record) -> str:
    done = " complete" if record["complete"] else ""
    moved = f"{record['ref']} {record['old'][:12]}..{record['new'][:12]}"
    return f"land {record['task']} epoch {record['epoch']}{done} {moved}"


KINDS = {
    "land": Kind(
        HELD
        | {
            "ref": _ref,
            "old": _object_id,
            "new": _object_id,
            "complete": fields.boolean,
            "result": fields.or_null(fields.text),
        },
        check=_check_land,
        apply=_land,
        subject=_land_subject,
    ),
}
