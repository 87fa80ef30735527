"""Who held what when: leases, out of records in their order and of what each did to its tasks.

Rules: pure. A lease begins with a claim and lasts until the end that its holder has named last, or
until something ends it before. What stood before the first record that is given is taken from how
its task stood then (`Turn.before`), so a part of a history gives the part of its leases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.client.index.rows import (
    CLAIMED,
    DONE,
    FORCED,
    GAVE_BACK,
    TOOK_OVER,
    WAS_HANDED,
    WITHDRAWN,
)
from coordledger.client.looking import at_ms, in_ms
from coordledger.client.vouches import HERE, NOBODY, SERVER
from coordledger.format import timestamps
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from coordledger.client.claims import Claim
    from coordledger.client.index.rows import Standing, Turn
    from coordledger.format.records import Record

EXPIRED, HELD, EARLIER = "expired", "held", "earlier"
_BEGINS = (CLAIMED, TOOK_OVER, WAS_HANDED)
_ENDS = (DONE, GAVE_BACK, FORCED, WITHDRAWN, WAS_HANDED)
_DOUBT = {HERE: 0, SERVER: 1, NOBODY: 2}


class Told(NamedTuple):
    """A record, what it did to its tasks, and who has checked it."""

    seq: int
    record: Record
    turns: tuple[Turn, ...]
    checked: str


class Lease(Value):
    """`agent` held `task` from `start` to `end`, in that `epoch` (0: not known), and had it for
    itself until `until`.

    `began`: claimed, took over, was handed, or earlier than what was read. `ended`: done, gave
    back, forced, withdrawn, was handed (to `by`), expired (`by` has taken it over; None: nobody
    has), or held: it lasts. `by` is who signed the record `end_seq` that ended it or came after it.
    `seq` is the claim's. `renewals` counts. `checked` is the weakest of those records' checks.
    """

    task: str
    agent: str
    session: str | None
    epoch: int
    start: datetime
    end: datetime
    until: datetime
    began: str
    ended: str
    by: str | None
    seq: int | None
    end_seq: int | None
    renewals: int
    checked: str


class _Open:
    """A lease that has not ended yet."""

    def __init__(self, task: str, stood: Standing, checked: str) -> None:
        self.task, self.agent = task, stood.agent or ""
        self.session: str | None = None
        self.epoch, self.renewals = 0, 0
        self.start, self.until = stood.since or 0, stood.until or 0
        self.began, self.seq, self.checked = EARLIER, None, checked

    seq: int | None

    def doubt(self, checked: str) -> None:
        self.checked = max(self.checked, checked, key=_DOUBT.__getitem__)

    def ends(self, how: str, at: int, by: str | None, seq: int | None) -> Lease:
        return Lease(
            self.task,
            self.agent,
            self.session,
            self.epoch,
            at_ms(self.start),
            at_ms(max(self.start, at)),
            at_ms(self.until),
            self.began,
            how,
            by,
            self.seq,
            seq,
            self.renewals,
            self.checked,
        )


def lease_of(claim: Claim, end: datetime) -> Lease:
    """The lease of a task that is claimed, and of which no record is given; `end` is now."""
    since, until = claim.claimed_at or end, claim.expires_at or end
    ended, last = (EXPIRED, until) if until <= end else (HELD, end)
    who = (claim.task, claim.agent or "", claim.session, claim.epoch)
    return Lease(*who, since, last, until, EARLIER, ended, None, None, None, 0, claim.checked)


def leases(told: Iterable[Told], end: datetime) -> list[Lease]:
    """All leases of which `told` says something, as they stand at its `end`; by their start."""
    now = in_ms(end)
    running: dict[str, _Open] = {}
    found: list[Lease] = []
    for one in told:
        for turn in one.turns:
            begun = _before(running, turn, one)
            if begun:
                found += _ended(begun, turn, one)
            _after(running, turn, one)
    for left in running.values():
        over = left.until <= now
        found.append(left.ends(EXPIRED if over else HELD, min(left.until, now), None, None))
    found.sort(key=lambda lease: (lease.start, lease.task))
    return found


def _before(running: dict[str, _Open], turn: Turn, one: Told) -> _Open | None:
    """The lease that ran on the task before the record."""
    if turn.task not in running and turn.before.agent is not None:
        running[turn.task] = _Open(turn.task, turn.before, one.checked)
    return running.get(turn.task)


def _ended(lease: _Open, turn: Turn, one: Told) -> list[Lease]:
    """The lease, if the record ends it or shows that it had ended."""
    r, what = one.record, turn.what
    at = timestamps.recall(r["at"])
    if what not in _ENDS and what not in _BEGINS:
        return []
    lease.doubt(one.checked)
    over = lease.until <= at
    how = EXPIRED if what == TOOK_OVER or (over and what != DONE) else what
    return [lease.ends(how, min(at, lease.until) if over else at, r["agent"], one.seq)]


def _after(running: dict[str, _Open], turn: Turn, one: Told) -> None:
    """What runs on the task after the record."""
    r, what = one.record, turn.what
    if what in _BEGINS:
        lease = _Open(turn.task, turn.before, one.checked)
        lease.agent, lease.session, lease.seq = r["agent"], r["session"], one.seq
        lease.start, lease.until = timestamps.recall(r["at"]), timestamps.recall(r["until"])
        lease.epoch = next(i["epoch"] for i in r["tasks"] if i["task"] == turn.task)
        lease.began = what
        running[turn.task] = lease
    elif what in _ENDS or r["kind"] in ("submit", "import"):
        running.pop(turn.task, None)
    elif turn.task in running:
        _goes_on(running[turn.task], one)


def _goes_on(lease: _Open, one: Told) -> None:
    r = one.record
    if r["kind"] == "renew":
        lease.until, lease.renewals = timestamps.recall(r["until"]), lease.renewals + 1
        lease.doubt(one.checked)
    if r["kind"] in ("renew", "handoff", "land"):
        lease.epoch, lease.session = r["epoch"], r["session"]
