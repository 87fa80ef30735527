"""The results of the Python interface: frozen values, the same that `--json` prints.

Times are datetimes in UTC here and `YYYY-MM-DDTHH:MM:SS.mmmZ` in JSON. Results that a
claim does not need are in `reports`, and imported when they are first used: to make a dataclass
takes a millisecond.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

from coordledger.format import timestamps
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def time_of(text: str) -> datetime:
    at = moment(timestamps.parse(text))
    if at is None:
        raise AssertionError("a record has its time")
    return at


def recall_time(text: str) -> datetime:
    """As `time_of`, of a text that was parsed before: it stands in a verified record or state."""
    return datetime.fromisoformat(text)


def to_json(value: Any, said: Callable[[str], str] = str) -> Any:
    """A result as JSON's values; each text, and each member's name, as `said` has it."""
    if isinstance(value, str):
        return said(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return timestamps.show((value - _EPOCH) // timedelta(milliseconds=1))
    if isinstance(value, timedelta):
        return value / timedelta(seconds=1)
    if isinstance(value, tuple | list):
        return [to_json(item, said) for item in value]
    if isinstance(value, dict):
        return {said(name): to_json(item, said) for name, item in value.items()}
    if not isinstance(value, Value):
        return value
    members = _members(type(value))
    return {shown: to_json(getattr(value, name), said) for shown, name in members}


@cache
def _members(result: type[Value]) -> list[tuple[str, str]]:
    """The names of a result's members: in JSON, as its `_in_json` has them, and here."""
    shown = dict(getattr(result, "_in_json", ()))
    return [(shown.get(name, name), name) for name in result._fields if shown.get(name, name)]


class Changes(TypedDict, total=False):
    """Attributes of a task that are to be changed."""

    priority: int
    meta: Mapping[str, str]
    after: Iterable[str]
    title: str | None
    labels: Iterable[str]
    parent: str | None
    not_before: datetime | None


class Last(Value):
    """The newest record on a task. `text`: its note, result or reason; of a renewal without a note,
    that of the claim that it renews.
    """

    kind: str
    agent: str
    at: datetime
    text: str | None
    verdict: str
    checked: str


class Legacy(Value):
    """Where an imported task or message comes from, by the word of the importer, who has signed the
    record `seq`: `agent` has held, done or sent it there, at `at`. `mac`: whether the proof of that
    which was kept there was valid, invalid, missing, or unknown as it could not be checked.

    `id` and what follows it are None where this copy has not the record. `to` and `channel` are a
    message's.
    """

    mac: str
    source: str
    seq: int
    id: str | None = None
    agent: str | None = None
    at: datetime | None = None
    until: str | None = None
    to: str | None = None
    channel: str | None = None


class Claim(Value):
    """A task and who holds it. `status`: open, claimed, expired, done or withdrawn.

    `waits_for` are those in `after` that are not done: nobody can claim it before. `by` has
    offered it; None where nobody did. `last` is the newest record on the task that is no edit; in
    the answer to a claim that was won, the newest one before that claim: what the last holder
    said. `created`: the call that this answers brought the task.
    `checked`: who has checked the records that this stands on: here, server or nobody.

    `attempts`: how often it was claimed since it was completed. `offered_to`: who may take it over
    from its holder at once. `paths` are those that the claim reserves. `handed_over_by`: in the
    answer to a claim that was won, who had offered the task. `legacy`: the task is as it was
    imported, and nobody has claimed it here since.
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
    checked: str
    by: str | None = None
    last: Last | None = None
    title: str | None = None
    labels: tuple[str, ...] = ()
    parent: str | None = None
    not_before: datetime | None = None
    attempts: int = 0
    offered_to: str | None = None
    paths: tuple[str, ...] = ()
    handed_over_by: str | None = None
    legacy: Legacy | None = None
    created: bool = False
    _in_json = (("created", ""),)


class ClaimResult(Value):
    """How a claim ended: won, renewed, kept (the lease lasts as long already, and nothing was
    written) or lost; lost with the claims in the way.

    An unknown outcome is an exception, `OutcomeUnknown`. `code` and `message` say why it was lost.
    `resumed`: an earlier call of this session had won, and its process ended before it said so.
    """

    outcome: str
    claims: tuple[Claim, ...]
    code: str = ""
    message: str = ""
    hint: str = ""
    resumed: bool = False

    @property
    def won(self) -> bool:
        """Whether the tasks are this session's now."""
        return self.outcome in ("won", "renewed", "kept")

    @property
    def claim(self) -> Claim | None:
        """The claim, where one task was asked for."""
        return self.claims[0] if self.claims else None
