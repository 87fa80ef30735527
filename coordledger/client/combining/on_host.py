"""Publish as the server would, where that is a folder of this account's on this machine.

Rules of this file:
- Records are handed to a `Receiver`, which takes the server's part in this process: no program is
  started, and the ledger's ref moves once for all that it is given.
- It puts them on the head that it has itself, so they lose no race; "no" is the last word
  where that is the head on which they were made.
- Where the receiver says why a push has to do it, or has done nothing, it is done by a push.

What the server's part is, and when it may be taken, is not known here: see `server.receiver`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from coordledger.client.publish import Publication, Publisher, conclude, moves_of
from coordledger.git.outcome import from_answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.answers import Answer
    from coordledger.client.replica import Replica
    from coordledger.deadline import Deadline
    from coordledger.format.chain import Chain, Proposal
    from coordledger.format.signing import Signed
    from coordledger.git.outcome import Push

    Run = list[tuple[str, Signed]]  # records that go together, and the ids they are called by


class Receiver(Protocol):
    """The server's part for one ledger: `server.receiver.Receiver`."""

    @property
    def head(self) -> str: ...

    def ask(self, deadline: Deadline) -> None: ...

    def why_not(self, deadline: Deadline) -> str: ...

    def close(self) -> None: ...

    def land(
        self, runs: list[Run], ready: Callable[[], None], deadline: Deadline
    ) -> list[list[Answer]] | None: ...


class HostPublisher:
    """Lands records without a push, where that may be."""

    def __init__(self, pushing: Publisher, open_receiver: Callable[[], Receiver]) -> None:
        """`pushing` publishes by pushes; `open_receiver` is called when it is first needed."""
        self._pushing, self._open = pushing, open_receiver
        self._receiver: Receiver | None = None

    @property
    def alone(self) -> Publisher:
        return self

    def ask(self, deadline: Deadline) -> None:
        """A write begins: what `why_not` says is found out meanwhile."""
        self._opened().ask(deadline)

    def why_not(self, deadline: Deadline) -> str:
        """Why records go by pushes, now; "" where they do not. Raises `Failed`: no-git, timeout."""
        return self._opened().why_not(deadline)

    def _opened(self) -> Receiver:
        if self._receiver is None:
            self._receiver = self._open()
        return self._receiver

    def close(self) -> None:
        if self._receiver is not None:
            self._receiver.close()

    def publish(
        self, replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None]
    ) -> Publication:
        """As `Publisher.publish`."""
        before, records = replica.trusted, [(p.commit.oid, p.commit.signed) for p in run]
        pushes = None
        if not moves_of(run):  # git moves those
            pushes = self.land([records], ready, replica.git.deadline)
        if pushes is None or self._receiver is None:
            return self._pushing.publish(replica, tip, run, ready)
        done = conclude(pushes[0], replica, tip, run, before, stored=False)
        return done._replace(ahead=self._receiver.head != run[0].commit.parent)

    def land(
        self, runs: list[Run], ready: Callable[[], None], deadline: Deadline
    ) -> list[Push] | None:
        """Land runs of several owners in one turn: how each ended. None: nothing was done. Raises
        what `ready` does, and `Failed`: no-git, timeout; nothing has landed then.
        """
        if self.why_not(deadline) or self._receiver is None:
            return None
        given = self._receiver.land(runs, ready, deadline)
        return None if given is None else list(map(from_answers, given))
