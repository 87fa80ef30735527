"""What the server's hook says that it has verified: its vouches, as this clone remembers them.

Rules of this file:
- A vouch is the word of whoever answers at one address, and is remembered with that address. At
  another one nothing of it counts.
- A vouch that fits the verified chain, whose digest is the chain's at its seq, covers every record
  up to there, for good. One of a record that the copy has not reached yet waits until it has, or
  until that record turns out bad here and is cut off.
- The digest is of records. The state that a shallow copy begins with is not in it: who reads it as
  vouched for relies on the way by which it came.
- Whether the server enforces the ledger is what its newest answer has shown, and nothing older: a
  push that lands without a vouch lowers it at once.
- The file is a cache: what is wrong with it is forgotten, and asked for again.

It raises nothing and asks nobody by itself: `tries` asks the server, and `replica` refuses a chain
that has another digest than a vouch says.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from coordledger import answers, files
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, RuleBroken
from coordledger.format import canonical, timestamps
from coordledger.format.chain import AUTHENTIC, UNVERIFIED
from coordledger.git.address import without_password
from coordledger.git.outcome import REFUSED, WON
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from coordledger.answers import Vouch
    from coordledger.client.replica import Replica
    from coordledger.git.outcome import Push

HERE, SERVER, NOBODY = "here", "server", "nobody"  # who has checked a record
_MOST_PENDING = 8


class _Memory(Value):
    """`answered`: whether the newest push or try was answered by a vouch; None: not known.
    `fitting` is the newest vouch that is known to fit the chain; of `pending` that is not known.
    """

    url: str
    answered: bool | None = None
    fitting: Vouch | None = None
    pending: tuple[Vouch, ...] = ()


class Vouches:
    """The vouches of a replica's remote."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.ask_first: Callable[[], None] = lambda: None  # before "nobody" is said
        self._path = replica.local.folder / "vouches"
        self.url = without_password(replica.remote.address.target)
        self._memory = _Memory(self.url)
        self._stamp: tuple[int, int] | None = None
        self._newest: Vouch | None = None
        self._newest_at: tuple[_Memory, str] | None = None  # what `_newest` was found for

    # -- what is known

    @property
    def enforcement(self) -> str:
        """server, while the newest push or try at this address was answered by a vouch; none, if
        it landed without one; else unknown.
        """
        return {True: "server", False: "none", None: "unknown"}[self._read().answered]

    @property
    def were_given(self) -> bool:
        """Whether a hook at this address has ever vouched for anything."""
        memory = self._read()
        return bool(memory.fitting or memory.pending)

    @property
    def pending(self) -> tuple[Vouch, ...]:
        """The vouches of which it is not known yet whether they fit the chain."""
        return self._read().pending

    @property
    def newest(self) -> Vouch | None:
        """The one that covers most of the verified chain."""
        memory, trusted = self._read(), self._replica.local.trusted
        at = (memory, trusted.commit if trusted else "")
        if self._newest_at != at:
            known = [*memory.pending, *([memory.fitting] if memory.fitting else [])]
            fitting = [vouch for vouch in known if self.fits(vouch)]
            self._newest = max(fitting, key=lambda vouch: (vouch.seq, vouch.at), default=None)
            self._newest_at = at
        return self._newest

    def who_checked(self, verdict: str, *seqs: int | None) -> str:
        """Who has checked the records `seqs` of the verified chain, on which there is this verdict:
        here, with a key that is at hand; the server, which has vouched for them; or nobody.
        """
        if verdict == AUTHENTIC:
            return HERE
        if verdict != UNVERIFIED:
            return NOBODY
        last = max(seq or 0 for seq in seqs)
        if not self._cover(last):
            self.ask_first()
        return SERVER if self._cover(last) else NOBODY

    def _cover(self, seq: int) -> bool:
        newest = self.newest
        return newest is not None and seq <= newest.seq

    def fits(self, vouch: Vouch) -> bool:
        """Whether the verified chain has the vouch's digest at its seq."""
        trusted = self._replica.local.trusted
        if trusted is None or not trusted.first <= vouch.seq <= trusted.seq:
            return False
        if vouch.seq == trusted.seq:
            return bool(vouch.digest == trusted.digest)
        with contextlib.suppress(CoordledgerError, OSError):
            commit = self._replica.commit_at(vouch.seq)
            return commit is not None and bool(commit.digest == vouch.digest)
        return False

    # -- what is learnt

    def note_landed(self, push: Push, seq: int) -> None:
        """The answer to a push whose newest record has landed as record `seq`."""
        if push.vouches is not None:
            vouch = self._ours(push.vouches)
            vouch = vouch if vouch and vouch.seq >= seq else None
            self._note(vouch, answered=vouch is not None)

    def note_try(self, push: Push) -> Vouch | None:
        """The answer to a try; its vouch. One that lands has met no hook, whatever was printed."""
        vouch = self._ours(push.vouches or ()) if push.outcome == REFUSED else None
        answered = False if push.outcome == WON else True if vouch else None
        self._note(vouch, answered=answered)
        return vouch

    def _ours(self, given: Iterable[Vouch]) -> Vouch | None:
        """The one of this ledger. Two that differ contradict each other."""
        trusted = self._replica.local.trusted
        ours = {vouch for vouch in given if trusted and vouch.ledger == trusted.ledger}
        vouch = ours.pop() if len(ours) == 1 else None
        return vouch if vouch and _is_time(vouch.at) else None

    def _note(self, vouch: Vouch | None, *, answered: bool | None) -> None:
        memory = self._read()
        waiting = {(v.seq, v.digest): v for v in (*memory.pending, *([vouch] if vouch else []))}
        fits = [v for v in waiting.values() if self.fits(v)]
        best = [v for v in (*fits, memory.fitting) if v]
        fitting = max(best, key=lambda v: (v.seq, v.at), default=None)
        pending = tuple(v for v in waiting.values() if v not in fits)[-_MOST_PENDING:]
        self._save(_Memory(self.url, answered, fitting, pending))

    def drop(self, digests: Container[str]) -> None:
        """Wait no longer for the records with these digests of the chain."""
        memory = self._read()
        kept = tuple(vouch for vouch in memory.pending if vouch.digest not in digests)
        if kept != memory.pending:
            self._save(memory._replace(pending=kept))

    # -- the file

    def _save(self, memory: _Memory) -> None:
        self._memory = memory
        facts = {
            "answered": memory.answered,
            "fitting": str(memory.fitting or ""),
            "pending": [str(vouch) for vouch in memory.pending],
            "url": memory.url,
        }
        local = self._replica.local
        try:
            with local.lock(Deadline(0)):  # what a killed process was writing is written over
                mode = files.mode_in(str(local.folder))
                fresh = f"{self._path}.new"
                files.replace(str(self._path), canonical.encode(facts), fresh, mode=mode)
        except (CoordledgerError, OSError):  # it is this process's alone, an older one is nobody's
            files.remove(str(self._path))
        self._stamp = self._stamped()

    def _stamped(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            facts = os.stat(self._path)  # noqa: PTH116 - asked for with each record that is shown
            return facts.st_ino, facts.st_mtime_ns
        return None

    def _read(self) -> _Memory:
        stamp = self._stamped()
        if stamp != self._stamp:
            self._memory, self._stamp = _Memory(self.url), stamp
            with contextlib.suppress(OSError, RuleBroken, ValueError, LookupError, TypeError):
                memory = _parse(canonical.read(self._path.read_bytes()))
                if memory.url == self.url:
                    self._memory = memory
        return self._memory


def _parse(facts: Any) -> _Memory:
    answered = facts["answered"]
    if not (answered is None or isinstance(answered, bool)):
        raise TypeError("not whether")
    fitting = answers.vouches(answers.read([facts["fitting"]]))
    pending = answers.vouches(answers.read(facts["pending"]))
    return _Memory(str(facts["url"]), answered, fitting[0] if fitting else None, pending)


def _is_time(text: str) -> bool:
    try:
        timestamps.parse(text)
    except ValueError:
        return False
    return True
