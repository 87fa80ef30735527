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

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import clone, records, signing, times, transport, verify
from .clone import Intent
from .errors import (
    ERRORS,
    LOST,
    CoordledgerError,
    Failed,
    Integrity,
    RuleBroken,
    disk_error,
    error,
    printable,
)
from .errors import Lost as LostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .commit import Commit
    from .config import SecretFinder
    from .replica import Replica
    from .signing import Secret, Signed
    from .state import State
    from .transport import Push, Remote
    from .verify import Chain, Placed

    Fields = dict[str, Any]
    Build = Callable[[State, int], tuple[str, Fields]]  # state, now -> kind, its fields

PAUSE = 0.05  # seconds: the most that a loser waits, times its losses so far
PATIENCE = 8
STUCK_LOSSES = 6  # on one and the same head: nobody won these races


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs."""

    agent: str
    session: str
    finder: SecretFinder

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
        where, secrets = self.finder.find(self.agent)
        nonce = state.ledger["nonce"]
        for key in reversed(valid):
            if key["from"] <= seq:
                for secret in secrets:
                    if secret.fingerprint(nonce, self.agent, key["id"]) == key["fingerprint"]:
                        return key["id"], secret
        raise error("no-secret-found", agent=self.agent, where=where)


class Writer:
    """Writes for one identity through one replica."""

    def __init__(
        self,
        replica: Replica,
        identity: Identity,
        clock: Callable[[], int],
        hexadecimal: Callable[[int], str],
        jitter: Callable[[], float],
    ) -> None:
        """`hexadecimal(n)` gives n random bytes in hex, `jitter()` a float of 0 to 1."""
        self._replica, self._identity, self._clock = replica, identity, clock
        self._hexadecimal, self._jitter = hexadecimal, jitter

    # -- one write

    def write(self, what: str, build: Build, *, look: bool = False) -> Commit:
        """Land one record and return its commit.

        `look` asks the remote before the first attempt, for what depends on more than one
        object: the compare-and-swap alone would let an older choice win.

        `build(state, now)` gives the kind and its fields, or raises; it is asked again
        whenever the state has changed. Raises `Lost`, `Failed`, `OutcomeUnknown`, `Integrity`.
        """
        try:
            with self._replica.clone.lock(self._replica.git.deadline):
                chain = self._replica.position()
                self._settle_all()
                intent = self._new_intent(chain, what)
                return self._land(intent, build, look=look)
        except OSError as fault:  # before the first attempt: `_land` lets none out
            raise disk_error(fault) from None

    def _new_intent(self, chain: Chain, what: str) -> Intent:
        if chain.head is None:
            raise error("not-joined")
        base = {"digest": chain.head.digest, "seq": chain.head.seq}
        op = self._hexadecimal(16)
        return Intent(op, base, self._identity.agent, self._identity.session, what)

    def dry_run(self, build: Build) -> State:
        """All of a write but the push: the state that it would make. Raises as `write` does."""
        chain = self._replica.refresh()
        try:
            placed = chain.place(self._sign(chain, self._new_intent(chain, "dry run"), build))
        except RuleBroken as broken:
            raise broken.own() from None
        chain.advance(placed)  # the replica sees that this is not its head, and starts anew
        return chain.state

    def sample(self, chain: Chain) -> Signed:
        """A record signed with the real secret that changes nothing and is no intent:
        for trying out a server.
        """
        return self._sign(chain, self._new_intent(chain, "try"), lambda now, at: ("void", {}))

    def _land(self, intent: Intent, build: Build, *, look: bool) -> Commit:
        replica = self._replica
        chain = replica.position()
        signed: Signed | None = None
        unanswered = moved = False  # `look`: at the remote, before the next attempt
        losses = stuck = 0
        beaten = None
        while True:
            try:
                replica.git.deadline.left()
                if look:
                    chain = replica.refresh(moved=moved)
                    landed = chain.find(intent.agent, intent.op, intent.base["seq"])
                    if landed:
                        replica.clone.forget(intent)
                        return landed
                placed = self._still_good(chain, signed)
                if placed is None:
                    placed = chain.place(self._sign(chain, intent, build))
                signed = placed.commit.signed
            except (RuleBroken, CoordledgerError) as fault:
                if not look and not isinstance(fault, Integrity):
                    look = True  # a "no" is decided on the newest state
                    continue
                return self._give_up(intent, fault, unanswered=unanswered)
            except OSError as fault:
                return self._give_up(intent, disk_error(fault), unanswered=unanswered)
            look = True
            intent = intent.carrying(signed)
            try:
                replica.clone.journal(intent)
                replica.clone.store.write(placed.objects)
                push = self._push(chain, placed)
            except OSError as fault:  # of our own disk, and before anything was sent
                return self._give_up(intent, disk_error(fault), unanswered=unanswered)
            moved = push.outcome == transport.LOST and not push.locked
            if push.outcome == transport.WON:
                chain.advance(placed)
                try:
                    replica.adopt(chain, [(placed.commit.seq, placed.commit.oid)])
                    replica.clone.forget(intent)
                except OSError:  # it has landed, whatever our own disk says
                    replica.hold(chain)
                return placed.commit
            if push.outcome == transport.LOST:
                losses += 1
                stuck = stuck + 1 if placed.commit.parent == beaten else 1
                beaten = placed.commit.parent
                if stuck >= STUCK_LOSSES:
                    return self._give_up(intent, _stuck(push), unanswered=unanswered)
                self._pause(losses)
            elif push.outcome == transport.UNKNOWN:
                unanswered = True
                losses += 1
                self._pause(losses)
            else:
                return self._give_up(
                    intent, push_error(push, replica.remote), unanswered=unanswered
                )

    def _push(self, chain: Chain, placed: Placed) -> Push:
        clone = self._replica.clone
        return self._replica.remote.push(
            clone.there,
            chain.head.oid if chain.head else None,
            placed.commit.oid,
            lambda: clone.store.pack(placed.objects),
        )

    def _pause(self, losses: int) -> None:
        time.sleep(PAUSE * min(losses, PATIENCE) * self._jitter())

    def _give_up(
        self, intent: Intent, fault: RuleBroken | CoordledgerError, *, unanswered: bool
    ) -> Commit:
        """No further attempt: raise, but never call lost what may still land."""
        shown = fault.own() if isinstance(fault, RuleBroken) else fault
        if not unanswered:
            self._replica.clone.forget(intent)
            raise shown
        if isinstance(shown, LostError):
            settled = self._settle(intent)
            if settled.outcome == clone.LANDED and settled.seq is not None:
                self._replica.clone.forget(intent)
                landed = self._replica.commit_at(settled.seq)
                if landed:
                    return landed
            if settled.outcome == clone.VOIDED:
                self._replica.clone.forget(intent)
                raise shown
        raise error("unknown-outcome", why=shown.message) from None

    # -- signing

    def _sign(self, chain: Chain, intent: Intent, build: Build) -> Signed:
        now = self._clock()
        if chain.head is None:
            raise error("not-joined")
        number, secret = self._identity.key(chain.state, chain.head.seq + 1)
        kind, fields = build(chain.state, now)
        record = records.check(
            {
                "v": records.VERSION,
                "ledger": chain.state.ledger["ledger"],
                "at": times.show(now),
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

    def _still_good(self, chain: Chain, signed: Signed | None) -> Placed | None:
        """`signed` in its place, if it fits the chain as it is now and is not too old soon."""
        if signed is None:
            return None
        if self._clock() - times.parse(signed.record["at"]) > chain.state.skew // 3:
            return None
        try:
            return chain.place(signed)
        except RuleBroken:
            return None

    # -- settling what is open

    def resolve(self) -> list[Intent]:
        """Settle every open intent of this clone; what is settled leaves the journal."""
        replica = self._replica
        with replica.clone.lock(replica.git.deadline):
            found = []
            for intent in replica.clone.intents():
                settled = self._settle(intent) if intent.outcome == clone.OPEN else intent
                if settled.outcome != clone.OPEN:
                    replica.clone.forget(settled)
                found.append(settled)
            return found

    def _settle_all(self) -> None:
        """Before a new write: what this agent left open is settled, and kept for `resolve`."""
        for intent in self._replica.clone.intents():
            if intent.outcome == clone.OPEN and intent.agent == self._identity.agent:
                settled = self._settle(intent)
                if intent.base["seq"] > self._replica.trusted.seq:
                    continue  # after a reset to an older copy: nothing can land before its base
                if settled.outcome == clone.OPEN:
                    raise error(
                        "unknown-outcome", why=f"an earlier one is still open: {intent.what}"
                    )
                self._replica.clone.journal(settled)

    def _settle(self, intent: Intent) -> Intent:
        """Landed, voided, or still open because the remote gives no answer.

        An intent is dead once a record of its agent with its op is in the chain after its
        base (the void, or the intent itself), or the chain has left its base behind, or has
        another record in its base's place (after `join --reset`).
        """
        replica = self._replica
        identity = replace(self._identity, agent=intent.agent, session=intent.session)
        voider = Writer(replica, identity, self._clock, self._hexadecimal, self._jitter)
        for attempt in range(PATIENCE):
            try:
                chain = replica.refresh()
                landed = chain.find(intent.agent, intent.op, intent.base["seq"])
                if landed:
                    outcome = clone.VOIDED if landed.record["kind"] == "void" else clone.LANDED
                    return replace(intent, outcome=outcome, seq=landed.seq)
                if chain.head and chain.head.seq - intent.base["seq"] > verify.MAX_BASE_DISTANCE:
                    return replace(intent, outcome=clone.VOIDED)
                placed = chain.place(voider._sign(chain, intent, lambda state, now: ("void", {})))
                replica.clone.store.write(placed.objects)
                push = self._push(chain, placed)
            except RuleBroken as broken:
                gone = broken.code == "bad-base" and intent.base["seq"] <= replica.trusted.seq
                return replace(intent, outcome=clone.VOIDED) if gone else intent
            except OSError:
                return intent
            except CoordledgerError as fault:
                if self._key_ended(intent, fault):
                    return replace(intent, outcome=clone.VOIDED)
                if isinstance(fault, Integrity):
                    raise
                return intent
            if push.outcome == transport.REFUSED:
                return intent
            if push.outcome in (transport.LOST, transport.UNKNOWN):
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


def _stuck(push: Push) -> CoordledgerError:
    """The server says "lost" again and again, and nobody has won."""
    if push.locked:
        return error("stale-lock", why=push.why)
    return error("push-refused", why=push.why, hint="")


def push_error(push: Push, remote: Remote) -> CoordledgerError:
    """A push that did not win, as an error of ours."""
    if push.outcome == transport.UNKNOWN:
        return error("unknown-outcome", why=push.why)
    if push.outcome == transport.UNSENT:
        return error("remote-unreachable", remote=remote.shown, why=push.why)
    if push.code:
        exit_code, _, hint = ERRORS[push.code]
        kind = LostError if exit_code == LOST else Failed
        return kind(push.code, f"the server refused: {printable(push.why)}", _plain(hint))
    return error("push-refused", why=push.why, hint="")


def _plain(hint: str) -> str:
    """A hint that needs no data, or none: the server's sentence has the data already."""
    return "" if "{" in hint else hint
