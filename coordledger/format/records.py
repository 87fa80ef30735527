"""The record: one flat object per commit (docs/format.md, sections 4, 6, 9 and 10).

Rules: the table of a kind in `rules` is the whole shape of a record, as data; `check`
parses once at the boundary, and what has passed is trusted inside. A record stays the
mapping that its bytes parse to, so there is no second form that could drift from what was
signed. It knows no single kind (`rules`) and no signature (`signing`).
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields
from coordledger.format.rules import MODULES, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.format.fields import Fields
    from coordledger.format.state import Changes, State

    Record = dict[str, Any]

VERSION = 1

COMMON: Fields = {
    "v": fields.integer(VERSION, VERSION, "1"),
    "ledger": fields.hexadecimal(32),
    "at": fields.time,
    "agent": fields.agent,
    "key": fields.positive,
    "session": fields.identifier,
    "op": fields.hexadecimal(32),
    "base": fields.members({"digest": fields.hexadecimal(64), "seq": fields.count}),
    "kind": fields.text,
}

_shapes: dict[str, Fields] = {}  # of the kinds that have come so far


def check(record: Any) -> Record:
    """`record` if it has the shape of its kind.

    Raises `RuleBroken`: newer-version, bad-record.
    """
    if not isinstance(record, dict):
        raise RuleBroken("bad-record", field="record", why="not an object")
    if fields.is_integer(record.get("v"), VERSION + 1):
        raise RuleBroken("newer-version", what=f"version {record['v']}")
    name = record.get("kind")
    if not isinstance(name, str):
        raise RuleBroken("bad-record", field="kind", why="missing, or not a text")
    if name not in MODULES:
        raise RuleBroken("newer-version", what=f"kind {name}")
    kind = kind_of(name)
    if name not in _shapes:
        _shapes[name] = COMMON | kind.fields
    _check_fields(record, _shapes[name])
    if kind.check is not None:
        kind.check(record)
    return record


def _check_fields(record: Record, shape: Fields) -> None:
    odd = sorted(shape.keys() ^ record.keys())
    if odd:
        why = "missing" if odd[0] in shape else "unknown field"
        raise RuleBroken("bad-record", field=odd[0], why=why)
    for field, rule in shape.items():
        wrong = rule(record[field])
        if wrong:
            raise RuleBroken("bad-record", field=field, why=wrong)


def apply(state: State, record: Record, seq: int) -> Changes:
    """The files that `record` at `seq` changes: path -> new content, None removes.

    Raises `RuleBroken` if it does not fit the state.
    """
    return kind_of(record["kind"]).apply(state, record, seq)


def admit(state: State, record: Record, now: int) -> None:
    """Check what a server adds for a record of this kind (section 10), in the state before it.

    `now` is the server's clock in milliseconds. Raises `RuleBroken`.
    """
    kind = kind_of(record["kind"])
    if kind.admit is not None:
        kind.admit(state, record, now)


def subject(record: Record) -> str:
    """The commit's subject (section 6): printable ASCII, derived from the record alone."""
    return kind_of(record["kind"]).subject(record)
