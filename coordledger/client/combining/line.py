"""Processes of one user on one host that write to the same ledger line up: flat combining.

Rules of this file:
- The process that has the lock leads (`leader`). It pushes its own records by itself where no
  other waits, and else for all that wait, one chain with one push.
- Signed records wait, without their secret, in a folder that only this user can enter. The
  server judges them as it judges any; nothing else in there is believed.
- An answer is what the remote said of these very records. "Lost" sends their owner to look
  for itself, "unsent" to push by itself.
- A record that no leader has renamed to .taken was never sent. One that is taken may have been:
  where the leader's answer does not come (it died, it is stopped, the folder has gone), the
  outcome is unknown.
- A leader may die at any point: the lock is the kernel's, the records still wait, and the
  next leader finds in the chain what has landed; a record lands once, whoever sends it.
- Everything here is a cache that can be removed at any time. Whatever is wrong with it, each
  process goes alone, as if from another host.

It signs nothing and decides nothing of claims.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from binascii import b2a_base64  # base64 around it imports re
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.client import holder
from coordledger.client.combining import slots
from coordledger.client.publish import (
    Publication,
    Publisher,
    as_planned,
    note_vouch,
    relocated,
    remember_told,
)
from coordledger.errors import error
from coordledger.git.outcome import UNKNOWN, UNSENT, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.client.combining.leader import Leader, OpenCopy
    from coordledger.client.combining.on_host import HostPublisher
    from coordledger.client.replica import Replica
    from coordledger.deadline import Deadline
    from coordledger.format.chain import Chain, Proposal

GLANCE = 0.05  # seconds between two looks whether the leader still lives
STUCK = 10.0  # seconds without a sign of the leader after which nobody waits for it


class Line:
    """The line before one ledger of one remote, as a publisher."""

    def __init__(
        self,
        folder: Path,
        open_copy: OpenCopy,
        clock: Callable[[], int],
        alone: Publisher,
        here: Path,
        host: HostPublisher | None = None,
    ) -> None:
        """`open_copy(path, deadline)` opens the shared copy, made if need be. `clock()`: ms.
        `alone` publishes without the line, and what a leader has collected. `here` is the work
        tree, or another folder, that those who wait are told of. `host`: what lands records
        without a push.
        """
        self.folder, self._alone, self._here, self._host = folder, alone, here, host
        self._open_copy, self._clock = open_copy, clock
        self._leader: Leader | None = None
        self._lock: int | None = None
        self._waits = 0

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None
        if self._leader is not None:
            self._leader.close()

    @property
    def leader(self) -> Leader:
        """The leader that this process is: imported and made when it leads others."""
        if self._leader is None:
            from coordledger.client.combining.leader import Leader  # noqa: PLC0415

            self._leader = Leader(
                self.folder, self._open_copy, self._clock, self._alone, self._host
            )
        return self._leader

    def _is_ahead_of(self, replica: Replica) -> bool:
        """Whether it matters that the leaders' copy has seen more of the chain than `replica`."""
        try:
            return int((self.folder / "seq").read_bytes()) > replica.trusted.seq
        except (FileNotFoundError, ValueError):
            return False

    def _is_put_in_place(self, replica: Replica) -> bool:
        """Whether records go on the head that is there, whatever this copy has seen."""
        on_host = self._host and not self._host.why_not(replica.git.deadline)
        return bool(on_host or replica.trusted.sequenced)

    @property
    def alone(self) -> Publisher:
        return self._alone

    def publish(
        self, replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None]
    ) -> Publication:
        """As `Publisher.publish`, in turn, and perhaps together with others' records.

        Raises `Failed`: timeout, if it left the line before anybody sent them.
        """
        ahead = False
        try:
            slots.enter(self.folder)
            if self._take_lock():
                with self._leading():
                    fits = not self._is_ahead_of(replica) or self._is_put_in_place(replica)
                    if fits and not slots.waiting(self.folder):
                        return self._alone.publish(replica, tip, run, ready)
            ahead = self._is_put_in_place(replica)
            ready()
            push = self._wait_in_line(run, replica.git.deadline)
        except OSError as fault:  # no place to line up, or no journal: nothing was sent
            push = Push(UNSENT, str(fault))
        if push.outcome == UNSENT:
            return self._alone.publish(replica, tip, run, ready)
        published = relocated(as_planned(tip, run), push) if push.landed else None
        if push.outcome == WON and published is None:
            push = Push(UNKNOWN, "the answer does not say where it is")
        if published:
            remember_told(replica, published)
            note_vouch(replica, push, published)
        return Publication(push, published or [], ahead)

    # -- the lock; its file's time is the leader's last sign of life

    def _take_lock(self) -> bool:
        if self._lock is not None and os.fstat(self._lock).st_nlink == 0:  # the folder was removed
            os.close(self._lock)
            self._lock = None
        if self._lock is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(self.folder / "lock", flags, 0o600)
        if not files.try_lock(self._lock):
            return False
        holder.write(self._lock, self._here)
        return True

    @property
    def _leads(self) -> str:
        """The leader, for people."""
        return holder.read(self._lock) if self._lock is not None else "none"

    def _is_stuck(self, deadline: Deadline) -> bool:
        """Whether the leader is stopped, or waits for a remote that does not answer."""
        quiet = time.time() - os.fstat(self._lock or 0).st_mtime
        return quiet > min(STUCK, deadline.seconds / 2)

    def _give_sign_of_life(self) -> None:
        now = time.time()  # this host's, whatever the clock of its file system
        os.utime(self._lock or 0, (now, now))

    @contextlib.contextmanager
    def _leading(self) -> Iterator[None]:
        """Lead, then wake the next in line."""
        try:
            self._give_sign_of_life()
            yield
        finally:
            files.unlock(self._lock or 0)
            with contextlib.suppress(OSError):
                next((path for path in slots.waiting(self.folder) if slots.wake(path)), None)

    # -- waiting

    def _wait_in_line(self, run: list[Proposal], deadline: Deadline) -> Push:
        """Wait for the answer, or lead. Raises OSError if there is no place to wait."""
        self._waits += 1
        slot = self.folder / f"{run[0].commit.record['op']}-{self._waits}"
        try:
            wakeup = slots.open_wakeup(slot)
            try:
                slots.write(slot, ".json", _request(run))
                try:
                    return self._await_answer(slot, wakeup, deadline)
                except OSError:
                    return self._leave(slot, deadline)
            finally:
                os.close(wakeup)
        finally:
            with contextlib.suppress(OSError):
                slots.clear(slot)

    def _await_answer(self, slot: Path, wakeup: int, deadline: Deadline) -> Push:
        woken = select.poll()
        woken.register(wakeup, select.POLLIN)
        while (answer := slots.read_answer(slot)) is None:
            if deadline.over() or not slots.exists(slot):
                return self._leave(slot, deadline)
            if self._take_lock():
                with self._leading():
                    if slots.read_answer(slot) is None:
                        self.leader.serve(deadline, self._give_sign_of_life)
            elif self._is_stuck(deadline):
                return self._leave(slot, deadline)
            elif woken.poll(1000 * GLANCE):
                os.read(wakeup, 4096)
        return answer

    def _leave(self, slot: Path, deadline: Deadline) -> Push:
        """Without an answer. A record that no leader has taken was never sent."""
        try:
            slot.with_suffix(".json").unlink()
        except OSError:
            return Push(UNKNOWN, f"no answer from the one that pushed it: {self._leads}")
        if deadline.over():
            raise error("local-lock", where="the line to this ledger", holder=self._leads)
        return Push(UNSENT, f"the process that pushes for this one is silent: {self._leads}")


def _request(run: list[Proposal]) -> dict[str, list[str]]:
    """A slot's records: the ids that they have here, and their signed bytes."""
    return {
        "pushed": [p.commit.oid for p in run],
        "payloads": [p.commit.signed.payload.decode("ascii") for p in run],
        "tags": [b2a_base64(p.commit.signed.tag, newline=False).decode("ascii") for p in run],
    }
