"""A record as what it is looked up by, and how the tasks that it is about stood before it.

Rules: all of it follows from the records alone, in their order, from a copy's oldest one on; that
they are valid was judged before. No I/O. What a shallow copy does not know, it leaves out: a task
that was claimed below its edge counts as nobody's until its next claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.format import timestamps

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.records import Record

CLAIMED, TOOK_OVER, WAS_HANDED, DONE, GAVE_BACK, FORCED, WITHDRAWN, OTHER = (
    "claimed", "took over", "was handed", "done", "gave back", "forced", "withdrawn", "",
)  # fmt: skip


class Row(NamedTuple):
    """A record. `sender`, `recipient`, `channel` and `thread` are a message's: `thread` is the
    message that its thread begins with.
    """

    seq: int
    oid: str
    at: int
    kind: str
    agent: str
    sender: str | None
    recipient: str | None
    channel: str | None
    thread: int | None


class Standing(NamedTuple):
    """How a task stands: who has claimed it, until when, since when; when it was submitted, as long
    as nobody has claimed it; to whom its holder offers it. Times in milliseconds since 1970.
    """

    agent: str | None = None
    until: int | None = None
    since: int | None = None
    submitted: int | None = None
    offered: str | None = None


class Turn(NamedTuple):
    """What a record did to a task, and how that stood `before`."""

    task: str
    seq: int
    what: str
    before: Standing


def row_of(seq: int, oid: str, r: Record, thread_of: Callable[[int], int | None]) -> Row:
    """`thread_of(seq)` is the `thread` of an earlier row."""
    kind, sender = r["kind"], None
    where: tuple[str | None, str | None] = (None, None)
    thread = None
    if kind in ("send", "archive"):
        sender = r["agent"] if kind == "send" else r["legacy"]["agent"]
        where = (r["to"], r["channel"])
    if kind == "send":
        above = r["thread"]
        thread = seq if above is None or above >= seq else thread_of(above) or above
    at = timestamps.recall(r["at"])
    return Row(seq, oid, at, kind, r["agent"], sender, *where, thread)


def tasks_of(r: Record) -> list[str]:
    """The tasks that a record is about."""
    if r["kind"] == "claim":
        return [item["task"] for item in r["tasks"]]
    return [r["task"]] if "task" in r else []


def step(r: Record, before: Standing) -> tuple[str, Standing]:
    """What a record does to one of its tasks, which stood so `before`; and how it stands then."""
    kind, at = r["kind"], timestamps.recall(r["at"])
    if kind == "claim":
        took = _took(before, r["agent"], at)
        return took, Standing(r["agent"], timestamps.recall(r["until"]), at)
    if kind in ("submit", "import"):
        waits = kind == "submit" or r["status"] == "open"
        return OTHER, Standing(submitted=at if waits else None)
    if kind == "complete" or (kind == "land" and r["complete"]):
        return DONE, Standing()
    if kind == "release":
        return FORCED if r["force"] else GAVE_BACK, Standing()
    if kind == "withdraw":
        return WITHDRAWN, Standing()
    if kind == "renew":
        return OTHER, before._replace(until=timestamps.recall(r["until"]), offered=None)
    if kind in ("handoff", "land"):
        return OTHER, before._replace(offered=r.get("to"))
    return OTHER, before


def _took(before: Standing, agent: str, at: int) -> str:
    if before.agent is None:
        return CLAIMED
    offered = before.offered == agent and before.until is not None and at < before.until
    return WAS_HANDED if offered else TOOK_OVER
