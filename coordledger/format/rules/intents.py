"""An intent given up: void. It takes an `op`, and does nothing else.

The client whose write ended as unknown sends it with that write's `op`: by rule 4 only one
of the two can be in the chain, so the one that is says how the write ended.
"""

from __future__ import annotations

from coordledger.format.rules.kind import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State


def _void(state: State, record: Record, seq: int) -> Changes:
    return {}


KINDS = {"void": Kind({}, apply=_void, subject=lambda record: f"void {record['op']}")}
