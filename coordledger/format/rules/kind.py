"""The form of a kind of record, and the checks that several kinds share."""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import canonical
from coordledger.format.names import is_below
from coordledger.format.signing import SSH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.fields import Fields
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State


class Kind:
    """One kind of record: its shape, its rule and effect, its commit's subject."""

    __slots__ = ("admit", "apply", "check", "fields", "subject")

    def __init__(
        self,
        fields: Fields,
        *,
        apply: Callable[[State, Record, int], Changes],
        subject: Callable[[Record], str],
        check: Callable[[Record], None] | None = None,
        admit: Callable[[State, Record, int], None] | None = None,
    ) -> None:
        """`fields`: those beside the common ones, or in place of a common one.

        `check(record)`: what its fields have to do with each other, where there is any such
        rule; raises `RuleBroken`: bad-record.
        `apply(state, record, seq)`: the files that it changes. All its checks look at the state
        before the record, and time is the record's own `at`; raises `RuleBroken` if the record
        does not fit the state.
        `subject(record)`: of its commit (section 6): printable ASCII.
        `admit(state, record, now)`: what a server adds for this kind (section 10), where there is
        any such rule; `now` is its clock in milliseconds; raises `RuleBroken`.
        """
        self.fields, self.check, self.apply, self.subject = fields, check, apply, subject
        self.admit = admit


def need_next_rev(what: str, current: int, record: Record) -> None:
    """Rule 6: the record is about `what` as it stands, at the revision `current`."""
    if record["rev"] != current + 1:
        raise RuleBroken("stale-rev", what=what, rev=current, got=record["rev"])


def need_admin(state: State, record: Record, what: str) -> None:
    if not state.is_admin(record["agent"]):
        raise RuleBroken("not-permitted", agent=record["agent"], what=what)


def need_authority(state: State, record: Record, over: str | None, what: str) -> None:
    """The signer is an admin, or `over` is a delegate of its own."""
    if not is_below(over, record["agent"]):
        need_admin(state, record, what)


def need_ssh(who: str, key: int, alg: str) -> None:
    """Where `require_alg` asks for it. Raises `RuleBroken`: alg-refused."""
    if alg != SSH:
        raise RuleBroken("alg-refused", who=who, key=key)


def need_size(state: State, record: Record, field: str, policy: str) -> None:
    """A text, or null, within the size that the policy has for it."""
    if record[field] is not None:
        size, limit = canonical.size(record[field]), state.policy(policy)
        if size > limit:
            raise RuleBroken("text-too-long", field=field, size=size, limit=limit)
