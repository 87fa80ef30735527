"""Processes of one user on one host that write to the same ledger line up: flat combining.

Rules of this file:
- Whoever has the lock leads. Nobody waits: it pushes its own record, by itself. Others wait:
  it pushes for all of them, one chain with one push, out of a copy that they share.
- What waits is a signed record without its secret, in a folder that only this user can
  enter. The server judges it as it judges any; nobody's word is taken for anything else.
- An answer is what the remote said of that record. "Lost" sends its owner to look for itself.
- A leader may die at any point: the lock is the kernel's, the records still wait, and the
  next leader finds in the chain what has landed; a record lands once, whoever sends it.
- Everything here is a cache that can be removed at any time between two writes.

It signs nothing and decides nothing of claims.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from . import canonical, landing, times, transport
from .errors import CoordledgerError, RuleBroken, error
from .signing import Signed
from .transport import Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .commit import Commit
    from .git import Deadline
    from .landing import Landing
    from .replica import Replica
    from .verify import Chain, Placed

MOST = 256  # records that one leader takes along
GROWN = 4096  # records after which the shared copy is made anew: nobody packs it
GLANCE = 0.05  # seconds between two looks whether the leader still lives
LOSSES = 6


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One record that waits; `pushed` is the id that its owner expects it to get."""

    op: str
    pushed: str
    signed: Signed


class Queue:
    """The line before one ledger of one remote."""

    def __init__(
        self, folder: Path, open_copy: Callable[[Path, Deadline], Replica], clock: Callable[[], int]
    ) -> None:
        """`open_copy(path, deadline)` opens the shared copy, made if need be. `clock()`: ms."""
        self._folder, self._open_copy, self._clock = folder, open_copy, clock
        self._lock: int | None = None
        self._copy: Replica | None = None

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        if self._copy is not None:
            self._copy.clone.store.close()
        self._lock = self._copy = None

    def send(self, replica: Replica, tip: Chain, run: list[Placed]) -> tuple[Push, list[Landing]]:
        """As `landing.send`, in turn. A single record may travel with its neighbours'.

        Raises `Failed`: timeout, if it left the line before anybody sent it.
        """
        deadline = replica.git.deadline
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._lock = os.open(self._folder / "lock", flags, 0o600)
            mine = _Waiting(run[0].commit.record["op"], run[0].commit.oid, run[0].commit.signed)
            if len(run) > 1:
                with self._my_turn(deadline):
                    return landing.send(replica, tip, run)
            if self._take_lock():
                with self._led():
                    if not self._in_line() and not self._is_ahead(replica):
                        return landing.send(replica, tip, run)
            push = self._stand(mine, deadline)
        except OSError:  # no place to line up
            return landing.send(replica, tip, run)
        landings = landing.moved(landing.planned(tip, run), push)
        return push, landings if landings and push.outcome == transport.WON else []

    # -- the lock

    def _take_lock(self) -> bool:
        try:
            fcntl.flock(self._lock or 0, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def _led(self) -> Iterator[None]:
        """Lead, then wake the next in line."""
        try:
            yield
        finally:
            fcntl.flock(self._lock or 0, fcntl.LOCK_UN)
            with contextlib.suppress(OSError):
                for path in self._in_line()[:1]:
                    _ring(path)

    @contextlib.contextmanager
    def _my_turn(self, deadline: Deadline) -> Iterator[None]:
        while not self._take_lock():
            select.select([], [], [], min(GLANCE / 10, deadline.left()))
        with self._led():
            yield

    # -- the line: OP.json waits, OP.taken may have been sent, OP.answer is for its owner,
    #    OP.bell wakes it, and has a reader as long as the owner lives

    def _in_line(self) -> list[Path]:
        found = [*self._folder.glob("*.json"), *self._folder.glob("*.taken")]
        answered = {path.stem for path in self._folder.glob("*.answer")}
        return sorted((p for p in found if p.stem not in answered), key=_since)[:MOST]

    def _stand(self, mine: _Waiting, deadline: Deadline) -> Push:
        """Wait for the answer, or lead."""
        place = self._folder / f"{mine.op}.json"
        bell = place.with_suffix(".bell")
        os.mkfifo(bell, 0o600)
        ear = os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _put(
                place,
                {
                    "pushed": mine.pushed,
                    "payload": mine.signed.payload.decode("ascii"),
                    "tag": b64encode(mine.signed.tag).decode("ascii"),
                },
            )
            while (answer := _answer(place)) is None:
                if deadline.over():
                    return self._leave(place, deadline)
                if self._take_lock():
                    with self._led():
                        if _answer(place) is None:
                            self._serve(deadline)
                else:
                    select.select([ear], [], [], GLANCE)
                    with contextlib.suppress(BlockingIOError):
                        os.read(ear, 4096)
            return answer
        finally:
            os.close(ear)
            _clear(place)

    def _leave(self, place: Path, deadline: Deadline) -> Push:
        """The time is over: what nobody has taken was not sent."""
        try:
            place.unlink()
        except FileNotFoundError:
            return Push(transport.UNKNOWN, f"no answer within {deadline.seconds:g} s")
        raise error("timeout", seconds=f"{deadline.seconds:g}")

    # -- the leader

    def _serve(self, deadline: Deadline) -> None:
        """Push for all that wait, until each has an answer. Raises OSError of our own disk."""
        for left in self._folder.glob("*.answer"):  # by an owner that was killed
            if not _ring(left):
                _clear(left)
        waiting = [w for w in map(self._take, self._in_line()) if w]
        try:
            copy = self._shared(deadline)
            for _ in range(LOSSES):
                waiting = self._push(copy, waiting)
                if not waiting:
                    return
        except (CoordledgerError, OSError) as fault:
            self._forget_copy()
            self._answer(waiting, Push(transport.LOST, str(fault)))
            if isinstance(fault, OSError):
                raise
        self._answer(waiting, Push(transport.LOST, "it went on and on"))

    def _push(self, copy: Replica, waiting: list[_Waiting]) -> list[_Waiting]:
        """One attempt. Those who have no answer yet."""
        if any(one.signed.record["base"]["seq"] > copy.trusted.seq for one in waiting):
            copy.refresh(moved=True)  # its owner has seen more of the chain than we have
        tip = copy.position().fork()
        run: list[tuple[_Waiting, Placed]] = []
        for one in waiting:
            found = _found(tip, one)
            if found and found.signed.payload == one.signed.payload:
                self._answer(
                    [one], Push(transport.WON, landed={one.pushed: (found.seq, found.oid)})
                )
            elif found or not self._place(tip, one, run):
                self._answer([one], Push(transport.LOST, "it does not fit any more"))
        if not run:
            return []
        push, landings = landing.send(copy, tip, [placed for _, placed in run])
        if push.outcome == transport.WON:
            for (one, _), at in zip(run, landings, strict=True):
                self._answer([one], Push(transport.WON, landed={one.pushed: (at.seq, at.oid)}))
            _put(self._folder / "seq", landings[-1].seq)
            return []
        if push.outcome == transport.LOST and not push.locked:
            copy.refresh(moved=True)
            return [one for one, _ in run]
        blamed = [
            one for one, placed in run if push.blamed and placed.commit.oid.startswith(push.blamed)
        ]
        self._answer(blamed or [one for one, _ in run], push)
        return [one for one, _ in run if one not in blamed] if blamed else []

    def _place(self, tip: Chain, one: _Waiting, run: list[tuple[_Waiting, Placed]]) -> bool:
        age = self._clock() - times.parse(one.signed.record["at"])
        if age > tip.state.skew // 2:
            return False
        try:
            placed = tip.place(one.signed)
        except RuleBroken:
            return False
        tip.advance(placed)
        run.append((one, placed))
        return True

    def _take(self, place: Path) -> _Waiting | None:
        """What waits there, from now on ours to answer; None if its owner has gone."""
        if not _ring(place):
            _clear(place)
            return None
        taken = place.with_suffix(".taken")
        try:
            place.rename(taken)
            facts = json.loads(taken.read_bytes())
            payload = facts["payload"].encode("ascii")
            signed = Signed(payload, canonical.decode(payload), b64decode(facts["tag"]))
            return _Waiting(place.stem, facts["pushed"], signed)
        except (FileNotFoundError, ValueError, LookupError, RuleBroken):
            return None

    def _answer(self, waiting: list[_Waiting], push: Push) -> None:
        for one in waiting:
            place = self._folder / f"{one.op}.json"
            _put(place.with_suffix(".answer"), asdict(push))
            if not _ring(place):
                _clear(place)

    # -- the shared copy

    @property
    def _copy_path(self) -> Path:
        return self._folder / "copy.git"

    def _is_ahead(self, replica: Replica) -> bool:
        """Whether the shared copy has seen more of the chain than `replica`."""
        try:
            return int((self._folder / "seq").read_bytes()) > replica.trusted.seq
        except (FileNotFoundError, ValueError):
            return False

    def _shared(self, deadline: Deadline) -> Replica:
        """The copy, joined at depth 1: it renders, and decides nothing."""
        if self._copy is None or not self._copy_path.exists():
            self._copy = self._open_copy(self._copy_path, deadline)
        self._copy.git.deadline = deadline
        trusted = self._copy.clone.trusted
        if trusted and trusted.seq - trusted.first > GROWN:
            self._forget_copy()
            return self._shared(deadline)
        if trusted is None:
            self._copy.join(1, None)
        return self._copy

    def _forget_copy(self) -> None:
        if self._copy is not None:
            self._copy.clone.store.close()
        self._copy = None
        (self._folder / "seq").unlink(missing_ok=True)
        shutil.rmtree(self._copy_path, ignore_errors=True)


def _clear(place: Path) -> None:
    for suffix in (".json", ".taken", ".answer", ".bell"):
        place.with_suffix(suffix).unlink(missing_ok=True)


def _found(tip: Chain, one: _Waiting) -> Commit | None:
    record = one.signed.record
    return tip.find(record["agent"], record["op"], record["base"]["seq"])


def _since(path: Path) -> tuple[int, str]:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns, path.stem
    return 0, path.stem


def _put(path: Path, facts: object) -> None:
    fresh = path.with_suffix(f"{path.suffix}.new")
    fresh.write_text(json.dumps(facts), "ascii")
    fresh.rename(path)


def _answer(place: Path) -> Push | None:
    try:
        facts = json.loads(place.with_suffix(".answer").read_bytes())
    except FileNotFoundError:
        return None
    landed = facts.pop("landed")
    return Push(**facts, landed=landed and {oid: tuple(at) for oid, at in landed.items()})


def _ring(place: Path) -> bool:
    """Wake the owner; False if nobody listens any more."""
    try:
        bell = os.open(place.with_suffix(".bell"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with contextlib.suppress(BlockingIOError):
        os.write(bell, b"!")
    os.close(bell)
    return True
