"""The results of the Python interface beside claims: frozen values, as in `claims`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.values import Value

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from coordledger.client.claims import Claim, Legacy
    from coordledger.errors import CoordledgerError, Integrity


class Acked(Value):
    """The record by which an addressee has acknowledged a message."""

    seq: int
    at: datetime
    verdict: str
    checked: str


class Message(Value):
    """One message. `sender` is checked on every read: see `verdict`. JSON calls it `from`.
    `acked` is for `messages`, of those to an agent: None, as long as it has not.

    One with a `task` is the offer to take that over, with its note as `body`; it is no message to
    be acknowledged, and goes with the offer.

    One with `legacy` was sent in another system: `sender` has imported it, and has signed no more
    than that. Who wrote it there, to whom and when, is in `legacy`.
    """

    seq: int
    sender: str
    session: str
    to: str | None
    channel: str | None
    thread: int | None
    importance: str
    body: str
    sent_at: datetime
    commit: str | None
    verdict: str
    checked: str
    acked: Acked | None = None
    task: str | None = None
    legacy: Legacy | None = None
    _in_json = (("sender", "from"),)


class Description(Value):
    """All of one task: its `claim`, its `body`, and its parts, the tasks whose parent it is: how
    many have each status. `body` is None where there is none, or where the copy has not the
    record with it; `body_checked`: who has checked that.
    """

    claim: Claim
    body: str | None
    body_checked: str
    parts: dict[str, int]


class Reservation(Value):
    """The paths that the claim of one task reserves, until its lease ends."""

    task: str
    agent: str
    session: str
    paths: tuple[str, ...]
    expires_at: datetime


class Reserved(Value):
    """A path that was asked for, and the live claim of somebody else that it collides with:
    `reserved` is the path of the claim that it is, or that lies below or above it.
    """

    path: str
    reserved: str
    task: str
    agent: str
    session: str
    expires_at: datetime


class Guarded(Value):
    """What `guard` found, by path and task. It was asked of the local copy, which ends with the
    record `seq`, and stood at the remote's head at `as_of`, `age` before it was asked.
    """

    reserved: tuple[Reserved, ...]
    seq: int
    as_of: datetime
    age: timedelta
    _in_json = (("age", ""),)


class Listing(Value):
    """Some tasks: `tasks` are the first of them, and `statuses` says how many of all have each
    status.
    """

    tasks: tuple[Claim, ...]
    statuses: dict[str, int]

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


class Key(Value):
    """An agent's key. `under`: of a delegate, the number of the key above that it ends with."""

    id: int
    alg: str
    verifier: str
    from_seq: int
    until_seq: int | None
    under: int | None


class Agent(Value):
    """An enrolled agent. `role`: owner, admin or agent."""

    agent: str
    role: str
    rev: int
    active: bool
    keys: tuple[Key, ...]


class Delegate(Value):
    """A delegate that was enrolled: its name, its key's algorithm, and the file with the key."""

    agent: str
    alg: str
    where: str


class Purged(Value):
    """What a purge of an agent did: its keys that were revoked, the delegates that ended with them,
    the tasks that it or one of these held and that were released, and those that they had offered
    and that were withdrawn. `left` are others that were offered: somebody else holds them. `facts`
    are those that they had set, now removed. `freed`: tasks that they had given back for later.
    """

    agent: str
    revoked: tuple[int, ...]
    ended: tuple[str, ...]
    released: tuple[str, ...]
    withdrawn: tuple[str, ...]
    left: tuple[str, ...]
    facts: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()


class Channel(Value):
    """A channel: how many messages it keeps, of how many bytes, and its newest one's number."""

    channel: str
    messages: int
    bytes: int
    seq: int


class Fact(Value):
    """A shared fact: the `value` that `agent` has set for `key` at `at`, until `expires_at` or, if
    that is None, for good. `rev` is the number of its record; `verdict` and `checked` are on it.
    """

    key: str
    value: str
    rev: int
    agent: str
    session: str
    at: datetime
    expires_at: datetime | None
    commit: str | None
    verdict: str
    checked: str


class Event(Value):
    """One record about a task, as `history` tells it. `legacy` is an import's."""

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
    checked: str
    legacy: Legacy | None = None


class Before(Value):
    """How a `task` stood before a record that has moved it: claimed by `agent`, at `claimed_at`,
    until `expires_at`. `what` the record did: took over (that lease had ended), was handed (it was
    offered), done, gave back, forced (an admin has released it), withdrawn.
    """

    task: str
    what: str
    agent: str
    claimed_at: datetime
    expires_at: datetime


class LogEntry(Value):
    """One record, as `log` tells it. `tasks` are those that it is about; `before` says how those of
    them stood that somebody had claimed and that it has moved. `text` is what its signer says to
    people: a note, result, reason, title or body. `to` and `channel` are a message's (`to` a
    handoff's, too), `ref`, `old` and `new` a land record's, `legacy` is an import's.
    """

    seq: int
    at: datetime
    kind: str
    agent: str
    session: str
    tasks: tuple[str, ...]
    epoch: int | None
    text: str | None
    to: str | None
    channel: str | None
    ref: str | None
    old: str | None
    new: str | None
    before: tuple[Before, ...]
    subject: str
    commit: str
    verdict: str
    checked: str
    legacy: Legacy | None = None


class Spread(Value):
    """How long something has taken, `count` times: the `median`, the 95th percentile (each the time
    that so many of a hundred did not exceed), and all together. JSON has seconds.
    """

    count: int
    median: timedelta | None
    p95: timedelta | None
    total: timedelta


class AgentStats(Value):
    """What an `agent` did, or None all of them.

    `claimed` counts all claims that it won; `taken_over` those that began when another's lease had
    ended. `lost`: claims of its own whose lease ended so; `forced`: those that an admin released.
    `duration` is from a claim to its completion, `waiting` from a task's submission to its first
    claim. `per_hour` and `per_day`: how much was done.
    """

    agent: str | None
    claimed: int
    taken_over: int
    done: int
    given_back: int
    lost: int
    forced: int
    duration: Spread
    waiting: Spread
    per_hour: float
    per_day: float


class Stats(Value):
    """What was done from `since` until `until`, by each of the `agents` and in all."""

    since: datetime
    until: datetime
    agents: tuple[AgentStats, ...]
    total: AgentStats


class Activity(Value):
    """An agent, and what is seen of it: when its newest record was signed, what it holds, what it
    has done since midnight (UTC), how many messages to it are not acknowledged, the algorithms of
    its valid keys, and its delegates. `active`: it has a valid key.
    """

    agent: str
    role: str
    active: bool
    last_seen: datetime | None
    holds: tuple[str, ...]
    done_today: int
    unread: int
    keys: tuple[str, ...]
    delegates: tuple[str, ...]


class Audit(Value):
    """`verdicts` counts the records from `since` on, and `checked` who has checked them: here, the
    server, nobody. `problems` is empty if all is well.

    Those below `resumed` (None: none) were counted by an audit that was interrupted, and which
    this one went on with. `compared`: what of the ledger was compared with what its reader trusts,
    the owner's key (owner), the ledger's id (ledger), a head; else anybody may have made it.
    """

    ledger: str
    head: str
    records: int
    verdicts: dict[str, int]
    checked: dict[str, int]
    problems: tuple[dict[str, Any], ...]
    since: int
    resumed: int | None = None
    compared: tuple[str, ...] = ()

    @property
    def unchecked(self) -> int:
        """How many records nobody has checked: there is no key here, and the server's hook has not
        vouched for them. Bad ones were checked.
        """
        bad = sum(self.verdicts.get(name, 0) for name in ("invalid", "unknown-key"))
        return self.checked.get("nobody", 0) - bad


class LandRecord(Value):
    """A land record: `ref` moved from `old` to `new` (all 0: it did not exist, or does no more)
    under `agent`'s claim on `task`, in this `epoch`. `seq` and `commit` are the record's.
    """

    ref: str
    old: str
    new: str
    task: str
    epoch: int
    agent: str
    session: str
    at: datetime
    seq: int
    commit: str
    verdict: str
    checked: str


class Blame(Value):
    """By which `landings` a `commit` of the code came to each ref, the oldest first. `unseen`: how
    many older land records name commits that this clone has not got, and may have brought it.
    """

    commit: str
    landings: tuple[LandRecord, ...]
    unseen: int


class Authority(Value):
    """A key that a proof rests on, and the `seq` of the record that brought it into the ledger."""

    agent: str
    key: int
    alg: str
    verifier: str
    seq: int


class Proof(Value):
    """What a proof has shown: `commit` came to `ref` when that moved from `old` to `new`, of which
    it is the parent `distance` times over, under `agent`'s claim on `task`.

    The land record is `seq`, the one that claimed the task `claim_seq`. `keys`: the one that has
    signed the landing, then each time the one that has enrolled the one before, down to the owner's
    first. Of the `records` in the proof `unchecked` were signed with secrets that were not given.
    `head` is the newest one. `compared`: what of it was compared with what is trusted: owner,
    ledger, head, or older-head, which is from before the landing.
    """

    commit: str
    ref: str
    old: str
    new: str
    distance: int
    task: str
    epoch: int
    agent: str
    session: str
    at: datetime
    seq: int
    claim_seq: int
    claimed_at: datetime
    expires_at: datetime
    owner: str
    keys: tuple[Authority, ...]
    records: int
    unchecked: int
    head: Head
    compared: tuple[str, ...]


class Head(Value):
    """Where a verified chain stands: its ledger, and the number, digest and commit of the newest
    record.
    """

    ledger: str
    seq: int
    digest: str
    commit: str

    def line(self) -> str:
        """For another copy to compare with: `LEDGER SEQ:DIGEST`."""
        return f"{self.ledger} {self.seq}:{self.digest}"


class Damage(Value):
    """A remote's head below which a record is bad, why, and the last valid record."""

    head: str
    fault: Integrity
    last: Head


class Vouched(Value):
    """The hook of the server at `url` has verified every record up to `seq`: it said so at `at`, by
    its own clock.
    """

    seq: int
    at: datetime
    url: str


class Status(Value):
    """`enforcement`: server, while the newest push or try was answered by a vouch; none, if that
    landed without one; else unknown. `stopped_at` is the first bad record that the remote has
    after `seq`: seq, commit, code, message. None if there is none. `offers` are tasks that this
    agent can take over. `writes`: direct, where records land without a push, as on the server's own
    host; else push, and `pushes_because` says why. None where nobody has looked.
    """

    ledger: str
    ref: str
    remote: str
    head: str
    seq: int
    agent: str | None
    session: str | None
    enforcement: str
    vouched: Vouched | None
    stopped_at: dict[str, Any] | None
    claims: tuple[Claim, ...]
    unread: int
    offers: tuple[Claim, ...] = ()
    writes: str | None = None
    pushes_because: str | None = None


class ImportedRow(Value):
    """What became of one row of an import, or would become in a dry run.

    `table` and `id` say where it stands there, `kind` what it is here: task, message, fact, or
    None; `name` is the task's id or the fact's key. `outcome`: new (a dry run's), imported, exists
    (an earlier import brought it), conflict (something else is here in its place), skipped (it
    cannot come) or failed. `mac`: valid, invalid, missing, unknown. `notes`: what was changed, cut
    or left behind, and why something cannot come.
    """

    table: str
    id: str
    kind: str | None
    name: str | None
    outcome: str
    mac: str | None
    offered_to: str | None
    seq: int | None
    notes: tuple[str, ...]


class Imported(Value):
    """An import from a `source` in a `format`: its `rows`, tasks in the order of their records."""

    format: str
    source: str
    dry_run: bool
    rows: tuple[ImportedRow, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows had each outcome."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.outcome] = counts.get(row.outcome, 0) + 1
        return counts


class MovedRef(Value):
    """A ref of the code that has moved from the object `old` to `new` (zeros: there is none), and
    the record that says so: its `seq` and `commit`.
    """

    ref: str
    old: str
    new: str
    seq: int
    commit: str


class Landing(Value):
    """Code that has landed under a `claim`: the `refs` that have moved. `resumed`: an earlier call
    had landed it, and its process ended before it said so.
    """

    claim: Claim
    refs: tuple[MovedRef, ...]
    resumed: bool = False


class Outcome(Value):
    """How one operation of a batch ended. `outcome`: landed, kept (a lease that lasts as long
    already: nothing was written), lost, failed or unknown.

    `seq`, `commit` and (of what is about one task) `epoch` if it has landed; else `code`,
    `message` and `hint`, and `error`, what the same operation would have raised by itself.
    """

    what: str
    outcome: str
    seq: int | None
    commit: str | None
    epoch: int | None
    code: str = ""
    message: str = ""
    hint: str = ""
    error: CoordledgerError | None = None
    _in_json = (("error", ""),)

    @property
    def landed(self) -> bool:
        """Whether the record is in the ledger."""
        return self.outcome == "landed"


class Settled(Value):
    """An intent whose outcome was open. `outcome`: landed, voided or open.

    `task` and `epoch` are what it was about, if that is a task; a claim of several gives one each.
    """

    what: str
    op: str
    outcome: str
    seq: int | None
    task: str | None = None
    epoch: int | None = None
