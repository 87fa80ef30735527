"""Landing many pushes in one turn: what a resident process adds to the sequencer.

Rules of this file:
- The first thread that gets the turn lands the pushes of all threads that have come by then:
  objects are brought to the disk in one round, and the ref moves once. What a turn has no time for
  waits for the next one, and the ledger's lock is free in between.
- Each push has an outcome of its own, or None: then its hook asks again by itself, and finds
  what has landed.
- Nothing is landed for an asker that does not wait any more when its turn has come: the hook
  that works in its place comes after that turn, and nothing may follow its answer.

It decides nothing: `sequencer` does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from coordledger import files
from coordledger.errors import RuleBroken
from coordledger.server.sequencer import HandedOn, refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from coordledger.format.signing import Keyring
    from coordledger.git.loose import Reader
    from coordledger.server.eligibility import Finding
    from coordledger.server.sequencer import Outcome, Sequencer


class Quarantined(NamedTuple):
    """A push that git has not let in: `objects` sees it. It may land as long as the `finding` holds
    that git would start nothing but proc-receive.
    """

    objects: Reader
    finding: Finding


class WaitingPush:
    """A push of `new` that waits for its turn, in the repository or `quarantined`; `waits()`: its
    asker is still there.
    """

    __slots__ = ("new", "outcome", "over", "quarantined", "waits")

    def __init__(
        self, new: str, waits: Callable[[], bool], quarantined: Quarantined | None = None
    ) -> None:
        self.new, self.waits, self.quarantined, self.over = new, waits, quarantined, False
        self.outcome: Outcome | None = None


class Combiner:
    """The pushes to one ledger that wait in a resident process."""

    def __init__(
        self,
        sequencer: Sequencer,
        turn: AbstractContextManager[object],
        reader: Callable[[], Reader],
        keyring: Callable[[], Keyring],
    ) -> None:
        """`turn` is a lock among threads; `reader` and `keyring` are called for each turn."""
        self._sequencer, self._turn = sequencer, turn
        self._reader, self._keyring = reader, keyring
        self._waiting: list[WaitingPush] = []

    def land(
        self,
        new: str,
        waits: Callable[[], bool] = lambda: True,
        quarantined: Quarantined | None = None,
    ) -> Outcome | None:
        """Land the records up to `new`, from any thread. None: the outcome is not known."""
        mine = WaitingPush(new, waits, quarantined)
        self._waiting.append(mine)
        while not mine.over:
            with self._turn:
                if not mine.over:
                    together = []
                    while self._waiting:
                        together.append(self._waiting.pop(0))
                    self._waiting[:0] = self._land_together(together)
        return mine.outcome

    def _land_together(self, together: list[WaitingPush]) -> list[WaitingPush]:
        """Give each its outcome, but for those that wait for another turn: these come back."""
        left: list[WaitingPush] = []
        try:
            with self._reader() as objects:
                plain = all(one.quarantined for one in together)
                sequencer = self._sequencer.use(objects, self._keyring(), plain=plain)
                left = self._land(together, sequencer)
        except RuleBroken as broken:
            for one in together:
                one.outcome = one.outcome or refused(one.new, broken)
        except Exception:  # noqa: BLE001 - a hook that gets no answer does it by itself
            return []
        finally:
            for one in together:
                one.over = one not in left
        return left

    def _land(self, together: list[WaitingPush], sequencer: Sequencer) -> list[WaitingPush]:
        pushes = []
        for one in together:
            try:
                pushed = one.quarantined and one.quarantined.objects
                pushes.append((one, sequencer.read_push(one.new, pushed)))
            except RuleBroken as broken:
                one.outcome = refused(one.new, broken)
        if not pushes:
            return []
        with sequencer.lock(_poll):
            pushes = [(one, push) for one, push in pushes if one.waits()]
            found = [one.quarantined.finding for one, _ in pushes if one.quarantined]
            outcomes = sequencer.run([push for _, push in pushes], lambda: _need_all(found))
        for (one, _), outcome in zip(pushes, outcomes, strict=True):
            one.outcome = outcome
        return [one for one, _ in pushes if one.outcome is None]


def _need_all(findings: list[Finding]) -> None:
    """Raises `HandedOn` where one of them does not hold any more; most are one and the same."""
    if not all(finding.holds for finding in {id(one): one for one in findings}.values()):
        raise HandedOn


def _poll(fd: int, seconds: int) -> bool:
    """Wait for a lock as any thread may."""
    end = time.monotonic() + seconds
    return files.lock_by_polling(fd, lambda: time.monotonic() > end, 0.002)
