"""What the Python interface gives back: frozen values, the same that `--json` prints.

Times are datetimes in UTC here and `YYYY-MM-DDTHH:MM:SS.mmmZ` in JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from . import times

if TYPE_CHECKING:
    from .errors import CoordledgerError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def to_json(value: Any) -> Any:
    """A result as JSON's values."""
    if isinstance(value, datetime):
        return times.show((value - _EPOCH) // timedelta(milliseconds=1))
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        named = ((item.metadata.get("json", item.name), item.name) for item in fields(value))
        return {shown: to_json(getattr(value, name)) for shown, name in named if shown}
    return value


@dataclass(frozen=True, slots=True)
class Claim:
    """A task and who holds it. `status`: open, claimed, expired or done.

    `waits_for` are those in `after` that are not done: nobody can claim it before.
    """

    task: str
    status: str
    agent: str | None
    session: str | None
    epoch: int
    rev: int
    claimed_at: datetime | None
    expires_at: datetime | None
    claimable_at: datetime | None
    note: str | None
    result: str | None
    priority: int
    meta: dict[str, str]
    after: tuple[str, ...]
    waits_for: tuple[str, ...]
    seq: int
    commit: str | None
    verdict: str


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """How a claim ended: won, renewed or lost; lost with the claims in the way.

    An unknown outcome is an exception, `OutcomeUnknown`. `code` and `message` say why it was lost.
    """

    outcome: str
    claims: tuple[Claim, ...]
    code: str = ""
    message: str = ""
    hint: str = ""

    @property
    def won(self) -> bool:
        return self.outcome in ("won", "renewed")

    @property
    def claim(self) -> Claim | None:
        """The claim, where one task was asked for."""
        return self.claims[0] if self.claims else None


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `sender` is checked on every read: see `verdict`. JSON calls it `from`."""

    seq: int
    sender: str = field(metadata={"json": "from"})
    session: str
    to: str | None
    channel: str | None
    thread: int | None
    importance: str
    body: str
    sent_at: datetime
    commit: str | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Key:
    id: int
    alg: str
    fingerprint: str
    from_seq: int
    until_seq: int | None


@dataclass(frozen=True, slots=True)
class Agent:
    """An enrolled agent. `role`: owner, admin or agent."""

    agent: str
    role: str
    rev: int
    active: bool
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """One record about a task, as `history` tells it."""

    seq: int
    at: datetime
    kind: str
    agent: str
    session: str
    epoch: int | None
    text: str | None
    subject: str
    commit: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Audit:
    """`verdicts` counts the records from `since` on; `problems` is empty if all is well.

    Those below `resumed` (None: none) were counted by an audit that was interrupted, and which
    this one went on with.
    """

    ledger: str
    head: str
    records: int
    verdicts: dict[str, int]
    problems: tuple[dict[str, Any], ...]
    since: int
    resumed: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    ledger: str
    seq: int
    digest: str
    commit: str

    def line(self) -> str:
        return f"{self.ledger} {self.seq}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Status:
    ledger: str
    ref: str
    remote: str
    head: str
    seq: int
    agent: str | None
    session: str | None
    enforcement: str
    claims: tuple[Claim, ...]
    unread: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request of a batch. `outcome`: landed, lost, failed or unknown.

    `seq`, `commit` and (of what is about one task) `epoch` if it has landed; else `code`,
    `message` and `hint`, and `error`, what the same request would have raised by itself.
    """

    what: str
    outcome: str
    seq: int | None
    commit: str | None
    epoch: int | None
    code: str = ""
    message: str = ""
    hint: str = ""
    error: CoordledgerError | None = field(default=None, repr=False, metadata={"json": ""})

    @property
    def landed(self) -> bool:
        return self.outcome == "landed"


@dataclass(frozen=True, slots=True)
class Settled:
    """An intent whose outcome was open. `outcome`: landed, voided or open."""

    what: str
    op: str
    outcome: str
    seq: int | None
