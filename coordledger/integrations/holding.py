"""A claim that a command runs under: looked at, renewed, and at the end completed or given back.

Rules of this file:
- Whether the claim is still this session's is read from the verified ledger, never guessed from
  an error; a remote that is away says nothing.
- What is tried at the end is tried again while the lease lasts, and no longer than a bound: the
  same operation again settles what an earlier attempt has left open.

It knows no process. Each attempt is made in a thread, so that signals are heard meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import CoordledgerError, Failed, Lost, error
from coordledger.integrations import lease as leases
from coordledger.integrations.supervision import Attempt, Finished, Gone, Held

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from coordledger.client.claims import Claim
    from coordledger.client.ledger import Ledger
    from coordledger.integrations.lease import Lease, Reading
    from coordledger.integrations.supervision import Signals

GIVING_BACK = 30.0  # seconds at most for giving a task back: it comes back by itself


class Holding:
    """The claim of this session on one task, at one epoch."""

    def __init__(
        self,
        ledger: Ledger,
        claim: Claim,
        asked: Reading,
        *,
        ttl: timedelta | None,
        clocks: Callable[[], Reading],
        signals: Signals,
    ) -> None:
        """`asked`: the clocks before the claim was made."""
        self.claim, self.signals = claim, signals
        self._ledger, self._connection, self._clocks = ledger, ledger.connection, clocks
        self._ttl, self._timeout = ttl, ledger.connection.settings.timeout
        self._expires = claim.expires_at
        self.lease = self._lease_until(claim, asked)

    def _lease_until(self, claim: Claim, asked: Reading) -> Lease:
        expires = claim.expires_at.timestamp() if claim.expires_at else 0.0
        skew = self._connection.replica.position().state.skew / 1000
        return leases.granted(asked, expires, skew)

    # -- while the command runs

    def tend(self, renew: bool, timeout: float) -> Held | Finished | Gone:
        """Look at the claim, and renew it if it is to be. What was offered to another agent is
        not: that would withdraw the offer.

        Raises `CoordledgerError`, if neither could be done within `timeout`.
        """
        self._limit(timeout)
        asked = self._clocks()
        try:
            claim = self._ledger.show(self.claim.task)
            standing = self._standing(claim)
            if standing is not None:
                return standing
            if renew and not claim.offered_to:
                asked = self._clocks()
                claim = self._ledger.renew(self.claim.task, ttl=self._ttl)
        except Lost as lost:
            return Gone(lost.message)
        except Failed as fault:
            if fault.code == "unknown-task":
                return Gone(fault.message)
            raise
        if claim.expires_at != self._expires:
            self._expires, self.lease = claim.expires_at, self._lease_until(claim, asked)
        return Held(self.lease)

    def _standing(self, claim: Claim) -> Finished | Gone | None:
        """None while the claim is this session's."""
        ours = self.claim
        is_ours = (claim.agent, claim.session, claim.epoch) == (
            ours.agent,
            ours.session,
            ours.epoch,
        )
        if is_ours and claim.status == "claimed":
            return None
        if is_ours and claim.status == "done":
            return Finished()
        if claim.last is not None and claim.last.kind == "release":
            return Gone(f"it was released by {claim.last.agent}")
        if claim.agent is not None and not is_ours:
            return Gone(f"it is {claim.agent}'s now, epoch {claim.epoch}")
        return Gone(f"the task is {claim.status}")

    def _limit(self, timeout: float) -> None:
        """What is done next has so many seconds for each operation."""
        settings = self._connection.settings
        self._connection.settings = settings._replace(timeout=min(self._timeout, timeout))

    # -- when it has ended

    def complete(self) -> CoordledgerError | None:
        """Complete the task; the error if that failed while the lease lasted."""
        return self._insist(lambda: self._ledger.complete(self.claim.task), most=float("inf"))

    def give_back(self, reason: str) -> CoordledgerError | None:
        """Release the task, if the command has not; the error if that failed."""

        def release() -> object:
            try:
                return self._ledger.release(self.claim.task, reason=reason)
            except Lost:
                claim = self._ledger.show(self.claim.task)
                last = claim.last
                by_me = last is not None and (last.kind, last.agent) == (
                    "release",
                    self.claim.agent,
                )
                if by_me or isinstance(self._standing(claim), Finished):
                    return claim
                raise

        return self._insist(release, most=GIVING_BACK)

    def _insist(self, call: Callable[[], object], most: float) -> CoordledgerError | None:
        """Until it has an answer, the lease is over, `most` seconds have passed, or a signal asks
        to end.
        """
        begun = self._clocks()
        while True:
            now = self._clocks()
            left = min(self.lease.left(now), begun.steady + most - now.steady)
            self._limit(max(1.0, left))
            attempt = Attempt(call, self.signals.wake)
            while not attempt.is_over:
                self.signals.wait(1.0)
            attempt.join()
            fault = attempt.result
            if not isinstance(fault, CoordledgerError):
                return None
            if isinstance(fault, Lost):
                return error("lease-lost", task=self.claim.task, why=fault.message)
            now = self._clocks()
            left = min(self.lease.left(now), begun.steady + most - now.steady)
            if left <= 0 or self.signals.was_ended_again:
                return fault
            pause = now.steady + min(left, leases.until_retry(self.lease, now, 1.0))
            while self._clocks().steady < pause and not self.signals.was_ended_again:
                self.signals.wait(pause - self._clocks().steady)
