"""Write a record: decide, sign, push as compare-and-swap, and never guess the outcome.

Rules of this file:
- An intent (op, base) is one wish of the caller. However often it is signed and pushed
  again, it lands once or never: the chain itself refuses the second.
- The intent is journalled before its bytes leave the process. It leaves the journal when
  it is known to have landed, or to be unable to land.
- Known means: the remote said so completely, or the chain shows it. An attempt without
  an answer stays open; who still waits sends again, who gave up is voided by `resolve` or
  by the next write of this clone.
- "No" is decided only on the remote's newest state; "yes" by the compare-and-swap.
"""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.client import publish
from coordledger.client.journal import LANDED, OPEN, VOIDED, Intent
from coordledger.client.publish import MOST_BYTES, MOST_RECORDS, Published
from coordledger.errors import (
    ERRORS,
    CoordledgerError,
    Failed,
    Integrity,
    RuleBroken,
    disk_error,
    error,
    printable,
)
from coordledger.errors import LOST as EXIT_LOST
from coordledger.errors import Lost as LostError
from coordledger.format import records, signing, timestamps
from coordledger.format.chain import MAX_BASE_DISTANCE
from coordledger.git.remote import LOST, REFUSED, UNKNOWN, UNSENT, WON

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain, Proposal
    from coordledger.format.signing import Secret, Signed
    from coordledger.format.state import State
    from coordledger.git.remote import Push, Remote

    Fields = dict[str, Any]
    Build = Callable[[State, int], tuple[str, Fields]]  # state, now -> kind, its fields

PAUSE = 0.05  # seconds: the most that a loser waits, times its losses so far
PATIENCE = 8
STUCK_LOSSES = 6  # on one and the same head: nobody won these races
FAR_BEHIND = MAX_BASE_DISTANCE // 4  # the server reads back as far for each push


class Identity(NamedTuple):
    """Who signs."""

    agent: str
    session: str
    find: Callable[[str], tuple[str, list[Secret]]]  # as `SecretFinder.find`

    def key(self, state: State, seq: int) -> tuple[int, Secret]:
        """The newest valid key that we have the secret of. Raises `Failed`:
        unknown-agent, no-secret-found, secret-exposed, bad-secret.
        """
        entry = state.agent(self.agent)
        if entry is None:
            raise error("unknown-agent", who=self.agent)
        valid = [key for key in entry["keys"] if key["until"] is None]
        if not valid:
            last = entry["keys"][-1]
            raise error("key-revoked", agent=self.agent, key=last["id"], seq=last["until"])
        where, secrets = self.find(self.agent)
        nonce = state.ledger["nonce"]
        for key in reversed(valid):
            if key["from"] <= seq:
                for secret in secrets:
                    if secret.fingerprint(nonce, self.agent, key["id"]) == key["fingerprint"]:
                        return key["id"], secret
        raise error("no-secret-found", agent=self.agent, where=where)


class PendingWrite:
    """One record that somebody wants, on its way."""

    __slots__ = ("build", "intent", "outcome", "proposal", "unanswered")

    def __init__(self, intent: Intent, build: Build) -> None:
        self.intent, self.build = intent, build
        self.proposal: Proposal | None = None
        self.unanswered = False  # it was sent, and may land
        self.outcome: Published | CoordledgerError | None = None


class Writer:
    """Writes for one identity through one replica."""

    def __init__(
        self,
        replica: Replica,
        identity: Identity,
        clock: Callable[[], int],
        hexadecimal: Callable[[int], str],
        jitter: Callable[[], float],
        send: publish.Send = publish.send,
    ) -> None:
        """`hexadecimal(n)` gives n random bytes in hex, `jitter()` a float of 0 to 1; `send`
        is how a run of records gets to the remote.
        """
        # All records of one write are signed with the secrets that it has found.
        identity = identity._replace(find=functools.cache(identity.find))
        self._replica, self._identity, self._clock = replica, identity, clock
        self._hexadecimal, self._jitter, self._send = hexadecimal, jitter, send

    # -- one write, or several that go together

    def write(self, what: str, build: Build, *, look: bool = False) -> Published:
        """Land one record.

        `look` asks the remote before the first attempt, for what depends on more than one
        object: the compare-and-swap alone would let an older choice win.

        `build(state, now)` gives the kind and its fields, or raises; it is asked again
        whenever the state has changed. Raises `Lost`, `Failed`, `OutcomeUnknown`, `Integrity`.
        """
        [outcome] = self.write_all([(what, build)], look=look)
        if isinstance(outcome, CoordledgerError):
            raise outcome
        return outcome

    def write_all(
        self, wanted: list[tuple[str, Build]], *, look: bool = False
    ) -> list[Published | CoordledgerError]:
        """Land several records with as few pushes as it takes; what became of each.

        Each is decided on the state that those before it make. One that does not fit is left
        out. Raises what has nothing to do with a single one, before anything was sent.
        """
        try:
            with self._replica.local.lock(self._replica.git.deadline):
                chain = self._replica.position()
                self._settle_all()
                wishes = [
                    PendingWrite(self._new_intent(chain, what), build) for what, build in wanted
                ]
                self._land(wishes, look=look)
        except OSError as fault:  # before the first attempt: `_land` lets none out
            raise disk_error(fault) from None
        return [wish.outcome for wish in wishes if wish.outcome is not None]

    def _new_intent(self, chain: Chain, what: str) -> Intent:
        me = self._identity
        return Intent(self._hexadecimal(16), _base(chain), me.agent, me.session, what)

    def dry_run(self, build: Build) -> State:
        """All of a write but the push: the state that it would make. Raises as `write` does."""
        tip = self._replica.refresh().copy()
        wish = PendingWrite(self._new_intent(tip, "dry run"), build)
        try:
            tip.advance(tip.propose(self._sign(tip, wish)))
        except RuleBroken as broken:
            raise broken.own() from None
        return tip.state

    def sample(self, chain: Chain) -> Signed:
        """A record signed with the real secret that changes nothing and is no intent:
        for trying out a server.
        """
        return self._sign(chain, PendingWrite(self._new_intent(chain, "try"), _void))

    def _land(self, wishes: list[PendingWrite], *, look: bool) -> None:
        """Until each wish has its outcome."""
        replica = self._replica
        moved = False  # `look`: at the remote, before the next attempt
        losses = stuck = 0
        beaten = None
        while left := [wish for wish in wishes if wish.outcome is None]:
            try:
                replica.git.deadline.left()
                if look:
                    self._find(left, replica.refresh(moved=moved))
                    left = [wish for wish in left if wish.outcome is None]
                before = replica.trusted
                head = before.commit
                tip = replica.position().copy()
                run = self._place(left, tip, decided=look)
                if run is None:
                    look = True  # a "no" is decided on the newest state
                    continue
                if not run:
                    continue
                intents = [wish.intent for wish in run]
                proposal = [wish.proposal for wish in run if wish.proposal]
                push, landings = self._send(
                    replica,
                    tip,
                    proposal,
                    functools.partial(replica.local.journal.record, *intents),
                )
            except (CoordledgerError, OSError) as fault:  # of our own disk, and nothing was sent
                shown = disk_error(fault) if isinstance(fault, OSError) else fault
                for wish in left:
                    if wish.outcome is None:
                        self._give_up(wish, shown)
                continue
            hasty, look = not look, True
            sequenced = before.sequenced and hasty  # decided there on a newer state than here
            moved = (push.outcome == LOST and not push.locked) or sequenced
            if push.outcome == WON:
                for wish, landed in zip(run, landings, strict=True):
                    wish.outcome = landed
                self._forget(*run)
                self._catch_up(landings[-1].seq)
            elif push.outcome == LOST:
                losses += 1
                stuck = stuck + 1 if head == beaten else 1
                beaten = head
                for wish in run if stuck >= STUCK_LOSSES else ():
                    self._give_up(wish, _stuck(push))
                self._pause(losses)
            elif push.outcome == UNKNOWN:
                losses += 1
                for wish in run:
                    wish.unanswered = True
                self._pause(losses)
            elif not sequenced:  # else decided again, here
                for wish in _blamed(run, push):
                    self._give_up(wish, push_error(push, replica.remote))

    def _catch_up(self, seq: int) -> None:
        """A copy that stays far behind could not sign any more. What has landed has landed.

        Neighbours, who are as far behind, do not all stop for it at the same moment.
        """
        with contextlib.suppress(CoordledgerError, OSError):
            if seq - self._replica.trusted.seq > FAR_BEHIND * (1 + self._jitter() * 0.8):
                self._replica.refresh(moved=True)

    def _find(self, left: list[PendingWrite], chain: Chain) -> None:
        """What has landed, after an attempt without an answer or by somebody else's push."""
        for wish in left:
            found = chain.find(wish.intent.agent, wish.intent.op, wish.intent.base["seq"])
            if found:
                wish.outcome = Published(found, chain.state, found.seq, found.oid)
                self._forget(wish)

    def _place(
        self, left: list[PendingWrite], tip: Chain, *, decided: bool
    ) -> list[PendingWrite] | None:
        """Sign and place what fits, one after the other; `tip` stands on the last.

        The others have their outcome if this is `decided` on the newest state; else None.
        """
        run, size = [], 0
        for wish in left:
            try:
                wish.proposal = self._still_good(tip, wish.intent) or tip.propose(
                    self._sign(tip, wish)
                )
            except (RuleBroken, CoordledgerError) as fault:
                if not decided and not isinstance(fault, Integrity):
                    return None
                self._give_up(wish, fault)
                continue
            wish.intent = wish.intent.carrying(wish.proposal.commit.signed)
            tip.advance(wish.proposal)
            run.append(wish)
            size += sum(len(content) for _, content in wish.proposal.objects.values())
            if len(run) == MOST_RECORDS or size > MOST_BYTES:
                break
        return run

    def _forget(self, *wishes: PendingWrite) -> None:
        with contextlib.suppress(OSError):  # it is settled; the next write finds that out again
            self._replica.local.journal.forget(*(wish.intent for wish in wishes))

    def _pause(self, losses: int) -> None:
        time.sleep(PAUSE * min(losses, PATIENCE) * self._jitter())

    def _give_up(self, wish: PendingWrite, fault: RuleBroken | CoordledgerError) -> None:
        """No further attempt; but never call lost what may still land."""
        shown = fault.own() if isinstance(fault, RuleBroken) else fault
        wish.outcome = shown
        if not wish.unanswered:
            self._forget(wish)
            return
        if isinstance(shown, LostError):
            with contextlib.suppress(CoordledgerError, OSError):  # then it stays unknown
                settled = self._settle(wish.intent)
                if settled.outcome == LANDED and settled.seq is not None:
                    self._find([wish], self._replica.position())
                    if isinstance(wish.outcome, Published):
                        return
                if settled.outcome == VOIDED:
                    self._forget(wish)
                    return
        wish.outcome = error("unknown-outcome", why=shown.message)

    # -- signing

    def _sign(self, chain: Chain, wish: PendingWrite) -> Signed:
        """Afresh. What was not sent, or refused for certain, need not cling to its base."""
        if chain.head is None:
            raise error("not-joined")
        if not wish.unanswered:
            wish.intent = wish.intent._replace(base=_base(self._replica.position()))
        intent, now = wish.intent, self._clock()
        number, secret = self._identity.key(chain.state, chain.head.seq + 1)
        kind, fields = wish.build(chain.state, now)
        record = records.check(
            {
                "v": records.VERSION,
                "ledger": chain.state.ledger["ledger"],
                "at": timestamps.show(now),
                "agent": intent.agent,
                "key": number,
                "session": intent.session,
                "op": intent.op,
                "base": intent.base,
                "kind": kind,
            }
            | fields
        )
        return signing.sign(record, secret)

    def _still_good(self, chain: Chain, intent: Intent) -> Proposal | None:
        """What was signed, in its place, if it fits the chain now and is not too old soon."""
        if not intent.payload:
            return None
        signed = intent.signed
        if self._clock() - timestamps.parse(signed.record["at"]) > chain.state.skew // 3:
            return None
        try:
            return chain.propose(signed)
        except RuleBroken:
            return None

    # -- settling what is open

    def resolve(self) -> list[Intent]:
        """Settle every open intent of this clone; what is settled leaves the journal."""
        replica = self._replica
        with replica.local.lock(replica.git.deadline):
            found = []
            for intent in replica.local.journal.intents():
                settled = self._settle(intent) if intent.outcome == OPEN else intent
                if settled.outcome != OPEN:
                    replica.local.journal.forget(settled)
                found.append(settled)
            return found

    def _settle_all(self) -> None:
        """Before a new write: what this agent left open is settled, and kept for `resolve`."""
        for intent in self._replica.local.journal.intents():
            if intent.outcome == OPEN and intent.agent == self._identity.agent:
                settled = self._settle(intent)
                if intent.base["seq"] > self._replica.trusted.seq:
                    continue  # after a reset to an older copy: nothing can land before its base
                if settled.outcome == OPEN:
                    raise error(
                        "unknown-outcome", why=f"an earlier one is still open: {intent.what}"
                    )
                self._replica.local.journal.record(settled)

    def _settle(self, intent: Intent) -> Intent:
        """Landed, voided, or still open because the remote gives no answer.

        An intent is dead once a record of its agent with its op is in the chain after its
        base (the void, or the intent itself), or the chain has left its base behind, or has
        another record in its base's place (after `join --reset`).
        """
        replica = self._replica
        identity = self._identity._replace(agent=intent.agent, session=intent.session)
        voider = Writer(replica, identity, self._clock, self._hexadecimal, self._jitter)
        for attempt in range(PATIENCE):
            try:
                chain = replica.refresh()
                landed = chain.find(intent.agent, intent.op, intent.base["seq"])
                if landed:
                    outcome = VOIDED if landed.record["kind"] == "void" else LANDED
                    return intent._replace(outcome=outcome, seq=landed.seq)
                if chain.head and chain.head.seq - intent.base["seq"] > MAX_BASE_DISTANCE:
                    return intent._replace(outcome=VOIDED)
                tip = chain.copy()
                wish = PendingWrite(intent, _void)
                wish.unanswered = True
                proposal = tip.propose(voider._sign(tip, wish))
                tip.advance(proposal)
                push, _ = publish.send(replica, tip, [proposal])
            except RuleBroken as broken:
                gone = broken.code == "bad-base" and intent.base["seq"] <= replica.trusted.seq
                return intent._replace(outcome=VOIDED) if gone else intent
            except OSError:
                return intent
            except CoordledgerError as fault:
                if self._key_ended(intent, fault):
                    return intent._replace(outcome=VOIDED)
                if isinstance(fault, Integrity):
                    raise
                return intent
            if push.outcome == REFUSED:
                return intent
            if push.outcome in (LOST, UNKNOWN):
                self._pause(attempt + 1)
        return intent

    def _key_ended(self, intent: Intent, fault: CoordledgerError) -> bool:
        """Whether the very key of the intent's bytes can sign nothing any more."""
        if (
            fault.code not in ("no-secret-found", "key-revoked", "unknown-agent")
            or not intent.payload
        ):
            return False
        chain = self._replica.position()
        key = intent.signed.record["key"]
        try:
            chain.state.key(intent.agent, key, chain.head.seq + 1 if chain.head else 0)
        except RuleBroken:
            return True
        return False


def _base(chain: Chain) -> dict[str, Any]:
    """What a record that is signed on this chain names as the newest that it knows."""
    if chain.head is None:
        raise error("not-joined")
    return {"digest": chain.head.digest, "seq": chain.head.seq}


def _void(state: State, now: int) -> tuple[str, Fields]:
    return "void", {}


def _blamed(run: list[PendingWrite], push: Push) -> list[PendingWrite]:
    """Whom a refusal means; all of them if it names none."""
    named = [
        w
        for w in run
        if push.blamed and w.proposal and w.proposal.commit.oid.startswith(push.blamed)
    ]
    return named or run


def _stuck(push: Push) -> CoordledgerError:
    """The server says "lost" again and again, and nobody has won."""
    if push.locked:
        return error("stale-lock", why=push.why)
    return error("push-refused", why=push.why, hint="")


def push_error(push: Push, remote: Remote) -> CoordledgerError:
    """A push that did not win, as an error of ours."""
    if push.outcome == UNKNOWN:
        return error("unknown-outcome", why=push.why)
    if push.outcome == UNSENT:
        return error("remote-unreachable", remote=remote.shown, why=push.why)
    if push.code:
        exit_code, _, hint = ERRORS[push.code]
        kind = LostError if exit_code == EXIT_LOST else Failed
        return kind(push.code, f"the server refused: {printable(push.why)}", _plain(hint))
    return error("push-refused", why=push.why, hint="")


def _plain(hint: str) -> str:
    """A hint that needs no data, or none: the server's sentence has the data already."""
    return "" if "{" in hint else hint
