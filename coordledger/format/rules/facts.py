"""Shared facts: a value under a key, set or removed by one kind of record, `fact`.

Rules: anybody enrolled may change any fact, and nobody by accident: a record names what it takes
the place of. That is the seq of a record, which no other value of the key ever had: what was
removed and set again in between is another. A fact is no lock; its end is for its readers, and
makes room in its page later than any reader's clock says so.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields, timestamps
from coordledger.format.rules.kind import Kind, need_size
from coordledger.format.state import (
    PAGE_BYTES,
    fact_ended,
    fact_mark,
    fact_path,
    line_of,
    lines_in,
    value_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State


def _check_removal(record: Record) -> None:
    if record["value"] is None and (record["was"] == 0 or record["until"] is not None):
        field = "until" if record["was"] else "was"
        raise RuleBroken("bad-record", field=field, why="not that of a removal")


def _fact(state: State, record: Record, seq: int) -> Changes:
    key, path = record["fact"], fact_path(record["fact"])
    over = timestamps.show(max(0, timestamps.parse(record["at"]) - 2 * state.skew))
    mark, old, kept = fact_mark(key), None, []
    for line in lines_in(state.tree.get(path)):
        if mark in line:
            old = line
        elif not fact_ended(line, over):
            kept.append(line)
    _need_read(record, old, over)
    if record["value"] is None:
        return {path: b"".join(kept) or None}
    need_size(state, record, "value", "max_fact")
    if record["until"] is not None and record["until"] <= record["at"]:
        raise RuleBroken("fact-ends-at-once", key=key)
    said = {name: record[name] for name in ("fact", "value", "until", "agent", "session", "at")}
    content = b"".join([*kept, line_of(said | {"rev": seq})])
    if len(content) > PAGE_BYTES:
        raise RuleBroken("facts-full", key=key)
    return {path: content}


def _need_read(record: Record, old: bytes | None, over: str) -> None:
    """The record takes the place of what its signer had read: of the line `old`, or of none."""
    rev = value_of(old)["rev"] if old else 0
    free = old is None or fact_ended(old, over)
    if record["was"] != rev and not (record["was"] == 0 and free):
        raise RuleBroken("fact-changed", key=record["fact"], rev=rev, was=record["was"])


def _subject(record: Record) -> str:
    return f"fact {record['fact']}" + (" removed" if record["value"] is None else "")


KINDS = {
    "fact": Kind(
        {
            "fact": fields.task,
            "was": fields.count,
            "value": fields.or_null(fields.text),
            "until": fields.or_null(fields.time),
        },
        check=_check_removal,
        apply=_fact,
        subject=_subject,
    ),
}
