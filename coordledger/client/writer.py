"""Write records: decide, sign, push as compare-and-swap, and never guess the outcome.

Rules of this file:
- An intent (op, base) is one wish of the caller. However often it is signed and pushed
  again, it lands once or never: the chain itself refuses the second.
- The intent is journalled before its bytes leave the process. It leaves the journal when
  it is known to be unable to land, or to have landed, and that was reported.
- Known means: the remote said so completely, or the chain shows it. An attempt without an
  answer leaves the intent open.
- An open intent is sent again as long as it is wanted. Once it is not (it was lost, or its
  process has ended), the same loop lands its void: a record with the same op and base that
  changes nothing. An intent whose void has landed cannot land any more.
- Writers of one clone do not wait for each other: each settles what is its own, and the
  remote decides between them. What a living process is at is its own affair (`journal`).
- "No" is decided only on the remote's newest state; "yes" by the compare-and-swap.

One loop, `Writer._land`: an attempt is a value, and the row of its outcome in `Writer._AFTERWARDS`
says what follows. How records get to the remote is a publisher's business.
"""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any, ClassVar

from coordledger.client.journal import LANDED, OPEN, VOIDED, Intent
from coordledger.client.publish import MOST_BYTES, MOST_RECORDS, Published, push_error
from coordledger.client.signer import Signer
from coordledger.errors import (
    CoordledgerError,
    Integrity,
    Lost,
    OutcomeUnknown,
    RuleBroken,
    disk_error,
    error,
)
from coordledger.format.chain import MAX_BASE_DISTANCE
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, UNSENT, WON
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordledger.client.publish import Publication, Publisher
    from coordledger.client.replica import Replica
    from coordledger.client.signer import Build, Fields, Identity
    from coordledger.format.chain import Chain, Proposal
    from coordledger.format.signing import Signed
    from coordledger.format.state import State
    from coordledger.git.outcome import Push

    ChooseAgain = Callable[[Lost], bool]
    Wish = tuple[str, Build, ChooseAgain | None]  # as `Writer.write` has them
    # Whether a record (with its seq) that an earlier process has landed for `what` is the one that
    # is asked for now, by the newest state and at this moment.
    Stands = Callable[[str, dict[str, Any], State, int], bool]

PAUSE = 0.05  # seconds: the most that a loser waits, times its losses so far
LATER = 0.5  # seconds: the least that a server is left alone that cannot do it now; doubled
PATIENCE = 8  # losses for the longest pause; and attempts to land a void
STUCK_LOSSES = 6  # on one and the same head: nobody won these races
# The server's word that fewer records at once may land. What is "busy" may be so for that, too.
TOO_MANY = ("busy", "too-much", "too-many-records")
OVERTAKEN = "stale-rev"  # by another record, on a server's head that is ahead: as a lost race
OF_ANOTHER_CHAIN = ("bad-base", "unknown-agent", "unknown-key")
FAR_BEHIND = MAX_BASE_DISTANCE // 4  # the server reads back as far for each push

# How to look at the remote before an attempt: not at all; the copy may be the newest state, or
# is known not to be.
NOT, ASK, FETCH = "not", "ask", "fetch"


class PendingWrite:
    """One record on its way, until its `outcome` is known.

    `intent` is what the journal has of it, or will have; `signed` what was pushed last;
    `unanswered` says that it was sent and may land. Where it is not wanted any more, `reason`
    says why, and its void is on its way instead. `choose_again`, if there is one, is told that the
    server says "lost", and says whether another choice is to be made. `recovered`: an earlier
    process journalled it. `settled`: it is known for good whether the intent has landed.
    `held_up` is why it was sent again, for when the time is over.
    """

    __slots__ = (
        "build",
        "choose_again",
        "held_up",
        "intent",
        "outcome",
        "proposal",
        "reason",
        "recovered",
        "settled",
        "signed",
        "unanswered",
        "void_attempts",
    )

    def __init__(
        self, intent: Intent, build: Build, choose_again: ChooseAgain | None = None
    ) -> None:
        self.intent, self.build, self.choose_again = intent, build, choose_again
        self.signed: Signed | None = None
        self.proposal: Proposal | None = None
        self.unanswered = self.recovered = self.settled = False
        self.reason: CoordledgerError | None = None
        self.held_up: CoordledgerError | None = None
        self.void_attempts = 0
        self.outcome: Published | CoordledgerError | None = None

    @classmethod
    def recover(cls, intent: Intent) -> PendingWrite:
        """A write that an earlier process left open: it is to be voided, unless it has landed."""
        write = cls(intent, _void)
        write.unanswered = write.recovered = True
        why = f"an earlier one is still open: {intent.what}"
        write.reason = error("unknown-outcome", why=why)
        return write

    @property
    def is_voiding(self) -> bool:
        return self.reason is not None

    def begin_void(self, reason: CoordledgerError) -> None:
        self.reason, self.build, self.signed = reason, _void, None

    def settle(
        self, outcome: Published | CoordledgerError | None, how: str = OPEN, seq: int | None = None
    ) -> None:
        """`how`: LANDED or VOIDED, where the intent was sent; `seq` of the record that shows it."""
        self.intent = self.intent._replace(outcome=how, seq=seq)
        self.outcome, self.settled = outcome, True

    def leave_open(self, why: CoordledgerError | None) -> None:
        """It may have landed, or land yet."""
        unknown = isinstance(why, OutcomeUnknown)
        self.outcome = why if unknown else error("unknown-outcome", why=why.message if why else "")


class Attempt(Value):
    """One push: what went with it, on which head, how it ended, and after how many `seconds`.

    `newest`: the remote was looked at just before.
    """

    run: list[PendingWrite]
    head: str
    newest: bool
    publication: Publication
    seconds: float

    @property
    def push(self) -> Push:
        return self.publication.push

    @property
    def is_final(self) -> bool:
        """Whether a "no" counts: it was not decided on a state that this copy has not seen."""
        return self.newest or not self.publication.ahead

    @property
    def look(self) -> str:
        """How to look before the next attempt."""
        beaten = self.push.outcome == LOST and not self.push.locked
        return FETCH if beaten or not self.is_final else ASK

    def blamed(self) -> list[PendingWrite]:
        """The writes that a refusal means; all of them if it names none."""
        prefix = self.push.blamed
        named = [
            write
            for write in self.run
            if prefix and write.proposal and write.proposal.commit.oid.startswith(prefix)
        ]
        return named or self.run


class Losses:
    """How often the writes of one loop had to be sent again, and how often on one head; and the
    `most` records that the server takes in one push, as far as it has said.
    """

    def __init__(self) -> None:
        self.count = self.on_one_head = 0
        self.most = MOST_RECORDS
        self.ahead = 0  # how many are to land before those after them are made, if any
        self._head = ""

    def add(self, attempt: Attempt) -> None:
        self.count += 1
        if attempt.push.outcome == LOST:
            self.on_one_head = self.on_one_head + 1 if attempt.head == self._head else 1
            self._head = attempt.head

    def next_most(self) -> int:
        """How many records go with the next push."""
        most, self.ahead = min(self.most, self.ahead or self.most), 0
        return most

    def pause(self, later: int | None, jitter: float) -> float:
        """Seconds until the next attempt; `later` is the last push's, `jitter` from 0 to 1."""
        if later is None:
            return PAUSE * min(self.count, PATIENCE) * jitter
        return float(max(later, LATER * 2 ** min(self.count - 1, PATIENCE)) * (1 + jitter / 4))


class Writer:
    """Writes for one identity through one replica."""

    def __init__(
        self,
        replica: Replica,
        identity: Identity,
        clock: Callable[[], int],
        hexadecimal: Callable[[int], str],
        jitter: Callable[[], float],
        publisher: Publisher,
    ) -> None:
        """`clock()` gives milliseconds since 1970, `hexadecimal(n)` n random bytes in hex,
        `jitter()` a float of 0 to 1.
        """
        self._replica, self._identity, self._publisher = replica, identity, publisher
        self._signer = Signer(identity, clock)
        self._hexadecimal, self._jitter = hexadecimal, jitter

    # -- one write, or several that go together

    def write(
        self,
        what: str,
        build: Build,
        *,
        look: bool = False,
        choose_again: ChooseAgain | None = None,
    ) -> Published:
        """Land one record.

        `look` asks the remote before the first attempt, for what depends on more than one
        object: the compare-and-swap alone would let an older choice win. Where the server says
        "lost" of the one that was chosen, `choose_again` tells whether `build` is asked again.

        `build(state, now)` gives the kind and its fields, or raises; it is asked again
        whenever the state has changed. Raises `Lost`, `Failed`, `OutcomeUnknown`, `Integrity`.
        """
        [outcome] = self.write_all([(what, build, choose_again)], look=look)
        if isinstance(outcome, CoordledgerError):
            raise outcome
        return outcome

    def write_all(
        self, wanted: list[Wish], *, look: bool = False
    ) -> list[Published | CoordledgerError]:
        """Land several records with as few pushes as it takes; what became of each.

        Each is decided on the state that those before it make. One that does not fit is left
        out. Raises what has nothing to do with a single one, before anything was sent.
        """
        try:
            chain = self._replica.position()
            self._settle_own()
            writes = [
                PendingWrite(self._new_intent(chain, what), build, choose_again)
                for what, build, choose_again in wanted
            ]
            self._land(writes, self._publisher, look=ASK if look else NOT)
            self._answer(writes)
        except OSError as fault:  # before the first attempt: `_land` lets none out
            raise disk_error(fault) from None
        finally:
            self._replica.local.journal.release()
        return [write.outcome for write in writes if write.outcome is not None]

    def recall(self, stands: Stands) -> Published | None:
        """The record that an earlier process of this session has landed, and of which it told
        nobody, if it is the one that is asked for. Raises as `write` does, and OSError.
        """
        replica, journal = self._replica, self._replica.local.journal
        is_mine = functools.partial(_is_of, self._identity)
        try:
            if not _take(replica, is_mine):
                return None
            replica.position()
            self._settle_own()
            chain = replica.refresh()
            for intent in filter(is_mine, reversed(journal.intents())):
                commit = chain.find(intent.agent, intent.op, intent.base["seq"])
                if not commit or intent.outcome != LANDED:
                    continue
                record = commit.record | {"seq": commit.seq}
                if not stands(intent.what, record, chain.state, replica.clock()):
                    continue
                if _take(replica, functools.partial(_has_op, intent.op)):  # nobody else has
                    journal.answer(intent)
                    return Published(commit, chain.state, commit.seq, commit.oid, resumed=True)
            return None
        finally:
            journal.release()

    def _new_intent(self, chain: Chain, what: str) -> Intent:
        me = self._identity
        return Intent(self._hexadecimal(16), _base(chain), me.agent, me.session, what)

    def dry_run(self, build: Build) -> State:
        """All of a write but the push: the state that it would make. Raises as `write` does."""
        tip = self._replica.refresh().copy()
        intent = self._new_intent(tip, "dry run")
        try:
            tip.advance(tip.propose(self._signer.sign(tip, intent, build)))
        except RuleBroken as broken:
            raise broken.own() from None
        return tip.state

    def sample(self, chain: Chain) -> Signed:
        """A record signed with the real secret that changes nothing and is no intent:
        for trying out a server.
        """
        return self._signer.sign(chain, self._new_intent(chain, "try"), _void)

    # -- settling what is open

    def resolve(self) -> list[Intent]:
        """Settle every open intent of this clone; what is settled leaves the journal once that is
        reported.

        Raises `Integrity`.
        """
        journal = self._replica.local.journal
        try:
            writes = [PendingWrite.recover(intent) for intent in _take(self._replica, _any)]
            self._settle([write for write in writes if write.intent.outcome == OPEN])
            intents = [write.intent for write in writes]
            journal.answer(*(intent for intent in intents if intent.outcome != OPEN))
            return intents
        finally:
            journal.release()

    def _settle_own(self) -> None:
        """Before a new write: what this agent left open is settled, and kept for the same command,
        called again, or `resolve`. No longer than that takes it is this process that is in charge.

        Raises `OutcomeUnknown` if something stays open, `Integrity`.
        """
        journal, is_open = self._replica.local.journal, functools.partial(_is_open, self._identity)
        left = [PendingWrite.recover(intent) for intent in _take(self._replica, is_open)]
        self._settle(left)
        for write in left:
            if write.intent.base["seq"] > self._replica.trusted.seq:
                continue  # after a reset to an older copy: nothing can land before its base
            if write.intent.outcome == OPEN and isinstance(write.outcome, CoordledgerError):
                raise write.outcome
            journal.record(write.intent)
        journal.release()

    def _settle(self, left: list[PendingWrite]) -> None:
        """Raises `Integrity`. The journal is not touched.

        They go alone: a place in line may still have the name of an earlier process's intent.
        """
        self._land(left, self._publisher.alone, look=ASK)
        for write in left:
            if isinstance(write.outcome, Integrity):
                raise write.outcome

    # -- the loop

    def _land(self, writes: list[PendingWrite], publisher: Publisher, *, look: str) -> None:
        """Until each of them has its outcome."""
        losses = Losses()
        while left := [write for write in writes if write.outcome is None]:
            left = left[: losses.next_most()]
            try:
                attempt = self._attempt(left, publisher, look)
            except (CoordledgerError, OSError) as fault:  # of our own disk, and nothing was sent
                self._give_up(left, disk_error(fault) if isinstance(fault, OSError) else fault)
                continue
            if attempt is None:
                look = ASK
                continue
            self._AFTERWARDS[attempt.push.outcome](self, attempt, losses)
            look = attempt.look

    def _attempt(self, left: list[PendingWrite], publisher: Publisher, look: str) -> Attempt | None:
        """Decide, sign and push what is left; None where nothing was sent, so that the remote
        is to be looked at. Raises `CoordledgerError` and OSError if nothing was sent, for all.
        """
        replica = self._replica
        replica.git.deadline.left()
        if look != NOT or replica.local.stopped:
            self._find_landed(left, replica.follow(moved=look == FETCH))
            left = [write for write in left if write.outcome is None]
            replica.need_valid_remote()
        chain = replica.position()
        base, tip = _base(chain), chain.copy()
        head = tip.head.oid if tip.head else ""
        run = self._propose_all(left, tip, base, newest=look != NOT)
        if not run:
            return None
        proposals = [write.proposal for write in run if write.proposal]
        began = time.monotonic()
        record = functools.partial(self._record, run)
        publication = publisher.publish(replica, tip, proposals, record)
        return Attempt(run, head, look != NOT, publication, time.monotonic() - began)

    def _record(self, run: list[PendingWrite]) -> None:
        """Journal what is about to be sent. The journal keeps a void's intent as it was sent."""
        intents = [write.intent for write in run if not write.is_voiding]
        if intents:
            self._replica.local.journal.record(*intents)

    def _find_landed(self, left: list[PendingWrite], chain: Chain) -> None:
        """Settle the writes that have landed: without an answer, or by another process's push."""
        for write in left:
            intent = write.intent
            commit = chain.find(intent.agent, intent.op, intent.base["seq"])
            if commit:
                _settle_by(write, Published(commit, chain.state, commit.seq, commit.oid))
            elif write.is_voiding and chain.head and _is_left_behind(intent, chain.head.seq):
                write.settle(write.reason, VOIDED)
        self._forget(left)

    def _propose_all(
        self, left: list[PendingWrite], tip: Chain, base: dict[str, Any], *, newest: bool
    ) -> list[PendingWrite]:
        """Sign and propose what fits, one after the other, the first on the record `base`; `tip`
        stands on the last.

        The others are given up if this is the `newest` state. Nothing is proposed if a "no" is
        to be decided on a newer one, or if a void has taken the place of one that was given up.
        """
        run, size = [], 0
        for write in left:
            try:
                proposal = self._propose_again(write, tip) or self._propose(write, tip, base)
            except (RuleBroken, CoordledgerError) as fault:
                if not newest and not isinstance(fault, Integrity):
                    return []
                self._give_up([write], fault)
                if write.outcome is None:
                    return []
                continue
            write.proposal, write.signed = proposal, proposal.commit.signed
            if not write.is_voiding:
                write.intent = write.intent.carrying(write.signed)
            tip.advance(proposal)
            run.append(write)
            size += proposal.size
            if len(run) == MOST_RECORDS or size > MOST_BYTES:
                break
        return run

    def _propose(self, write: PendingWrite, tip: Chain, base: dict[str, Any]) -> Proposal:
        """Signed afresh; on the newest `base`, if no earlier one may have been sent."""
        if not write.unanswered:
            write.intent = write.intent._replace(base=base)
        return tip.propose(self._signer.sign(tip, write.intent, write.build))

    def _propose_again(self, write: PendingWrite, tip: Chain) -> Proposal | None:
        """The same bytes again, if they fit now and will not be too old soon."""
        if write.signed is None or not self._signer.is_fresh(write.signed, tip.state.skew):
            return None
        try:
            return tip.propose(write.signed)
        except RuleBroken:
            return None

    # -- what follows an attempt

    def _after_won(self, attempt: Attempt, losses: Losses) -> None:
        published = attempt.publication.published
        for write, one in zip(attempt.run, published, strict=True):
            _settle_by(write, one)
        self._forget(attempt.run)
        with contextlib.suppress(CoordledgerError, OSError):  # it has landed, even if this fails
            for one in published:
                self._replica.know_as_authentic(one.here.oid)
        _catch_up(self._replica, published[-1].seq, self._jitter())

    def _after_lost(self, attempt: Attempt, losses: Losses) -> None:
        losses.add(attempt)
        if attempt.push.locked:
            for write in attempt.run:
                write.held_up = push_error(attempt.push, self._replica.remote.shown)
        if losses.on_one_head >= STUCK_LOSSES:
            self._give_up(attempt.run, push_error(attempt.push, self._replica.remote.shown))
        self._try_again(attempt, attempt.run, losses)

    def _after_unknown(self, attempt: Attempt, losses: Losses) -> None:
        losses.add(attempt)
        for write in attempt.run:
            write.unanswered = True
        self._try_again(attempt, attempt.run, losses)

    def _after_refused(self, attempt: Attempt, losses: Losses) -> None:
        push, records = attempt.push, len(attempt.run)
        if push.later is not None or (push.code in TOO_MANY and records > 1):
            losses.add(attempt)
            losses.most = max(1, records // 2)
            self._try_again(attempt, attempt.run, losses)
            return
        if push.code == OVERTAKEN:
            self._after_lost(attempt, losses)
            return
        if not attempt.is_final:
            return  # it is decided again, here
        fault = _rewritten(self._replica, push) or push_error(push, self._replica.remote.shown)
        blamed = attempt.blamed()
        skew = self._replica.position().state.skew
        aged = [write for write in blamed if _has_aged(write, fault, self._signer, skew)]
        other = [write for write in blamed if _chooses_again(write, fault)]
        for write in other:
            write.signed = None
        if other:  # what those before it make may be numbered by the server only
            losses.ahead = attempt.run.index(other[0])
        again = [*aged, *other]
        self._give_up((write for write in blamed if write not in again), fault)
        if again:
            losses.add(attempt)
            self._try_again(attempt, again, losses)

    def _after_unsent(self, attempt: Attempt, losses: Losses) -> None:
        if attempt.push.later is not None:
            losses.add(attempt)
            self._try_again(attempt, attempt.run, losses)
            return
        if not attempt.is_final:
            return
        voids = [write for write in attempt.run if write.is_voiding]
        wanted = [write for write in attempt.run if not write.is_voiding]
        self._give_up(wanted, push_error(attempt.push, self._replica.remote.shown))
        if voids:
            self._try_again(attempt, voids, losses)

    def _try_again(self, attempt: Attempt, run: list[PendingWrite], losses: Losses) -> None:
        """After a pause, if there is time for it. Voids are not tried for ever: `resolve` can be
        called again.
        """
        for write in run:
            write.void_attempts += write.is_voiding
            if write.void_attempts == PATIENCE and write.outcome is None:
                write.leave_open(write.reason)
        pause, replica = losses.pause(attempt.push.later, self._jitter()), self._replica
        if attempt.push.later is not None:
            fault = push_error(attempt.push, replica.remote.shown)
            for write in run:
                write.held_up = fault
            # One more that waits as long in vain would leave its outcome unknown.
            if not replica.git.deadline.allows(pause + attempt.seconds):
                self._give_up(run, fault)
                return
        time.sleep(pause)

    _AFTERWARDS: ClassVar[dict[str, Callable[[Writer, Attempt, Losses], None]]] = {
        WON: _after_won,
        LOST: _after_lost,
        UNKNOWN: _after_unknown,
        REFUSED: _after_refused,
        UNSENT: _after_unsent,
    }

    # -- how a write ends

    def _give_up(
        self, writes: Iterable[PendingWrite], fault: RuleBroken | CoordledgerError
    ) -> None:
        """No further attempt; but what may still land is never called lost before it is void."""
        shown = fault.own() if isinstance(fault, RuleBroken) else fault
        given_up = [write for write in writes if write.outcome is None]
        for write in given_up:
            if write.held_up and (shown.code == "timeout" or self._replica.git.deadline.over()):
                shown = write.held_up
            if write.is_voiding:
                self._give_up_void(write, fault)
            elif not write.unanswered:
                write.settle(shown)
            elif isinstance(shown, Lost):
                write.begin_void(shown)
            else:
                write.leave_open(shown)
        self._forget(given_up)

    def _give_up_void(self, write: PendingWrite, fault: RuleBroken | CoordledgerError) -> None:
        """It cannot land; which matters little where its intent cannot land either."""
        if _is_dead(self._replica, write.intent, fault):
            write.settle(write.reason, VOIDED)
        elif write.recovered and isinstance(fault, Integrity):
            write.outcome = fault
        else:
            write.leave_open(write.reason)

    def _forget(self, writes: list[PendingWrite]) -> None:
        """Take intents that cannot land out of the journal; an earlier process's are told first."""
        settled = [write for write in writes if write.settled and not write.recovered]
        dead = [write.intent for write in settled if write.intent.outcome != LANDED]
        if dead:
            with contextlib.suppress(CoordledgerError, OSError):  # the next write finds out again
                self._replica.local.journal.forget(*dead)

    def _answer(self, writes: list[PendingWrite]) -> None:
        """The caller gets to know what has landed."""
        landed = [write.intent for write in writes if write.intent.outcome == LANDED]
        if landed:
            with contextlib.suppress(CoordledgerError, OSError):  # as above
                self._replica.local.journal.answer(*landed)


def _take(replica: Replica, wanted: Callable[[Intent], bool]) -> list[Intent]:
    """What other processes, or operations of this one, have left in the journal."""
    local = replica.local
    if not any(map(wanted, local.journal.intents())):
        return []
    with local.lock(replica.git.deadline):
        return local.journal.take(wanted)


def _any(intent: Intent) -> bool:
    return True


def _has_op(op: str, intent: Intent) -> bool:
    return intent.op == op


def _is_open(me: Identity, intent: Intent) -> bool:
    return intent.agent == me.agent and intent.outcome == OPEN


def _is_of(me: Identity, intent: Intent) -> bool:
    return (intent.agent, intent.session) == (me.agent, me.session)


def _catch_up(replica: Replica, seq: int, jitter: float) -> None:
    """A copy that stays far behind could not sign any more. It has landed, even if this fails.

    Neighbours that are as far behind do not all stop for it at the same moment.
    """
    with contextlib.suppress(CoordledgerError, OSError):
        if seq - replica.trusted.seq > FAR_BEHIND * (1 + jitter * 0.8):
            replica.refresh(moved=True)


def _rewritten(replica: Replica, push: Push) -> CoordledgerError | None:
    """That the remote has another history, if that is why it does not know what was signed on ours:
    where it sequences, no compare-and-swap of its head has told us.
    """
    if push.code in OF_ANOTHER_CHAIN:
        try:
            replica.refresh(moved=True)
        except Integrity as found:
            return found
        except (CoordledgerError, OSError):  # its refusal stands
            pass
    return None


def _base(chain: Chain) -> dict[str, Any]:
    """The newest record that one that is signed on this chain knows."""
    if chain.head is None:
        raise error("not-joined")
    return {"digest": chain.head.digest, "seq": chain.head.seq}


def _is_dead(replica: Replica, intent: Intent, fault: RuleBroken | CoordledgerError) -> bool:
    """Whether `fault`, which an intent's void has met, says that the intent cannot land.

    It cannot once the chain has another record in its base's place (after `join --reset`), or
    the key that has signed it can sign nothing more.
    """
    with contextlib.suppress(CoordledgerError, OSError):  # of our own copy: then it is not known
        if isinstance(fault, RuleBroken):
            return fault.code == "bad-base" and bool(intent.base["seq"] <= replica.trusted.seq)
        return _key_has_ended(replica.position(), intent, fault)
    return False


def _key_has_ended(chain: Chain, intent: Intent, fault: CoordledgerError) -> bool:
    """Whether the very key of the intent's bytes can sign nothing any more."""
    ended = ("no-secret-found", "key-revoked", "unknown-agent")
    if fault.code not in ended or not intent.payload:
        return False
    key = intent.signed.record["key"]
    try:
        chain.state.key(intent.agent, key, chain.head.seq + 1 if chain.head else 0)
    except RuleBroken:
        return True
    return False


def _void(state: State, now: int) -> tuple[str, Fields]:
    return "void", {}


def _has_aged(write: PendingWrite, fault: CoordledgerError, signer: Signer, skew: int) -> bool:
    """Whether the server refuses for its age what was fresh when it was signed: the way was slow,
    and no clock is at fault. It is signed afresh.
    """
    if fault.code != "clock-skew" or not write.signed or signer.is_fresh(write.signed, skew):
        return False
    write.held_up = error("record-aged", limit=skew // 1000)
    return True


def _chooses_again(write: PendingWrite, fault: CoordledgerError) -> bool:
    """Whether the server's "no" to one choice leaves others."""
    if write.is_voiding or write.choose_again is None or not isinstance(fault, Lost):
        return False
    return write.choose_again(fault)


def _settle_by(write: PendingWrite, published: Published) -> None:
    """The chain has a record of this intent: itself, or its void."""
    record = published.here.record
    if record["kind"] != "void":
        write.settle(published, LANDED, published.seq)
        return
    # Without a reason of ours, somebody else with the same secret has voided it.
    replayed = RuleBroken("replayed", agent=record["agent"], op=record["op"]).own()
    write.settle(write.reason or replayed, VOIDED, published.seq)


def _is_left_behind(intent: Intent, head: int) -> bool:
    """Whether no chain takes a record on this base any more."""
    return bool(head - intent.base["seq"] > MAX_BASE_DISTANCE)
