"""Processes of one user on one host that write to the same ledger line up: flat combining.

Rules of this file:
- Whoever has the lock leads. Nobody waits: it pushes its own records, by itself. Others
  wait: it pushes for all of them, one chain with one push, out of a copy that they share.
- What waits are signed records without their secret, in a folder that only this user can
  enter. The server judges them as it judges any; nobody's word is taken for anything else.
- An answer is what the remote said of these very records. "Lost" sends their owner to look
  for itself, "unsent" to push by itself.
- What nobody has taken was not sent. What a leader has taken may have been: where its
  answer does not come (it died, it is stopped, the folder has gone), the outcome is unknown;
  and whoever takes it over knows only where it has landed.
- A leader may die at any point: the lock is the kernel's, the records still wait, and the
  next leader finds in the chain what has landed; a record lands once, whoever sends it.
- Everything here is a cache that can be removed at any time. Whatever is wrong with it,
  everybody goes alone, as if from another host.

It signs nothing and decides nothing of claims.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import time
from binascii import a2b_base64, b2a_base64  # base64 around them imports re
from typing import TYPE_CHECKING, NamedTuple

from coordledger.client import publish
from coordledger.client.combining import slots
from coordledger.client.publish import MOST_BYTES, MOST_RECORDS
from coordledger.errors import RuleBroken, error
from coordledger.format import canonical, records, timestamps
from coordledger.format.signing import Signed
from coordledger.git.remote import LOST, REFUSED, UNKNOWN, UNSENT, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.client.publish import Published
    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain, Proposal
    from coordledger.git.process import Deadline

MOST = 256  # owners that one leader takes along
DEEP = 256  # records that the shared copy begins with; an older base is out of its sight
GROWN = 2048  # records after which the shared copy is made anew: nobody packs it
GLANCE = 0.05  # seconds between two looks whether the leader still lives
STUCK = 10.0  # seconds without a sign of the leader after which nobody waits for it
LOSSES = 6
_PASSING = {"timeout", "unfinished"}  # faults that are not the copy's


class _Waiting(NamedTuple):
    """Records of one owner that wait, and the ids that it expects them to get."""

    name: str  # of its files
    pushed: tuple[str, ...]
    signed: tuple[Signed, ...]
    taken_over: bool = False  # from a leader that may have sent them

    @property
    def base(self) -> int:
        return max(int(signed.record["base"]["seq"]) for signed in self.signed)

    @property
    def at(self) -> int:
        return min(timestamps.parse(signed.record["at"]) for signed in self.signed)


class Queue:
    """The line before one ledger of one remote."""

    def __init__(
        self, folder: Path, open_copy: Callable[[Path, Deadline], Replica], clock: Callable[[], int]
    ) -> None:
        """`open_copy(path, deadline)` opens the shared copy, made if need be. `clock()`: ms."""
        self._folder, self._open_copy, self._clock = folder, open_copy, clock
        self._lock: int | None = None
        self._copy: Replica | None = None
        self._stood = 0

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        if self._copy is not None:
            self._copy.close()
        self._lock = self._copy = None

    def send(
        self, replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None]
    ) -> tuple[Push, list[Published]]:
        """As `landing.send`, in turn, and perhaps together with others' records.

        Raises `Failed`: timeout, if it left the line before anybody sent them.
        """
        try:
            self._enter()
            if self._take_lock():
                with self._led():
                    if not self._in_line() and not self._is_ahead(replica):
                        return publish.send(replica, tip, run, ready)
            ready()
            push = self._stand(run, replica.git.deadline)
        except OSError as fault:  # no place to line up, or no journal: nothing was sent
            push = Push(UNSENT, str(fault))
        if push.outcome == UNSENT:
            return publish.send(replica, tip, run, ready)
        landings = publish.moved(publish.as_planned(tip, run), push) if push.landed else None
        if push.outcome == WON and landings is None:
            push = Push(UNKNOWN, "the answer does not say where it is")
        return push, landings or []

    def _enter(self) -> None:
        """Raises OSError if there is no folder of ours, and of nobody else."""
        try:
            facts = self._folder.lstat()
        except FileNotFoundError:
            self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            facts = self._folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
            raise PermissionError(f"{self._folder} is not a folder of this user's")
        if facts.st_mode & 0o077:
            self._folder.chmod(0o700)

    # -- the lock; its file's time is the leader's last sign of life

    def _take_lock(self) -> bool:
        if self._lock is not None and os.fstat(self._lock).st_nlink == 0:  # the folder was removed
            os.close(self._lock)
            self._lock = None
        if self._lock is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.open(self._folder / "lock", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_stuck(self, deadline: Deadline) -> bool:
        """Whether who leads is stopped, or waits for a remote that does not answer."""
        quiet = time.time() - os.fstat(self._lock or 0).st_mtime
        return quiet > min(STUCK, deadline.seconds / 2)

    def _live(self) -> None:
        now = time.time()  # this host's, whatever the clock of its file system
        os.utime(self._lock or 0, (now, now))

    @contextlib.contextmanager
    def _led(self) -> Iterator[None]:
        """Lead, then wake the next in line."""
        try:
            self._live()
            yield
        finally:
            fcntl.flock(self._lock or 0, fcntl.LOCK_UN)
            with contextlib.suppress(OSError):
                next((path for path in self._in_line() if slots.ring(path)), None)

    # -- the line

    def _files(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()]

    def _in_line(self) -> list[Path]:
        """The files of those who have no answer, in the order of their coming."""
        files = self._files()
        answered = {file.partition(".")[0] for file in files if file.endswith(".answer")}
        found = [self._folder / file for file in files if file.endswith((".json", ".taken"))]
        found = [path for path in found if path.stem not in answered]
        return sorted(found, key=_since) if len(found) > 1 else found

    def _stand(self, run: list[Proposal], deadline: Deadline) -> Push:
        """Wait for the answer, or lead. Raises OSError if there is no place to wait."""
        self._stood += 1
        place = self._folder / f"{run[0].commit.record['op']}-{self._stood}"
        try:
            ear = slots.listen(place)
            try:
                tags = [b2a_base64(p.commit.signed.tag, newline=False).decode("ascii") for p in run]
                payloads = [p.commit.signed.payload.decode("ascii") for p in run]
                pushed = [p.commit.oid for p in run]
                slots.put(place, ".json", {"pushed": pushed, "payloads": payloads, "tags": tags})
                try:
                    return self._wait(place, ear, deadline)
                except OSError:
                    return self._leave(place, deadline)
            finally:
                os.close(ear)
        finally:
            with contextlib.suppress(OSError):
                slots.clear(place)

    def _wait(self, place: Path, ear: int, deadline: Deadline) -> Push:
        bell = select.poll()
        bell.register(ear, select.POLLIN)
        while (answer := slots.heard(place)) is None:
            if deadline.over() or not slots.stands(place):
                return self._leave(place, deadline)
            if self._take_lock():
                with self._led():
                    if slots.heard(place) is None:
                        self._serve(deadline)
            elif self._is_stuck(deadline):
                return self._leave(place, deadline)
            elif bell.poll(1000 * GLANCE):
                os.read(ear, 4096)
        return answer

    def _leave(self, place: Path, deadline: Deadline) -> Push:
        """Without an answer. What nobody has taken was not sent."""
        try:
            place.with_suffix(".json").unlink()
        except OSError:
            return Push(UNKNOWN, "the process that pushed it gave no answer")
        if deadline.over():
            raise error("timeout", seconds=f"{deadline.seconds:g}")
        return Push(UNSENT, "the process that pushes for this one gives no sign of life")

    # -- the leader

    def _serve(self, deadline: Deadline) -> None:
        """Push for all that wait, until each has an answer. Raises OSError if it cannot have
        it: nothing is sent after that, and the next leader takes over.
        """
        waiting = self._take_all()
        for _ in range(LOSSES):
            if not waiting:
                return
            self._live()
            said = self._attempt(waiting, deadline)
            for one in waiting:
                if one.name in said:
                    self._answer(one, said[one.name])
            left = (one for one in waiting if one.name not in said)
            waiting = [one for one in left if slots.listens(self._folder / one.name)]
        for one in waiting:
            self._answer(one, Push(LOST, "others came first, again and again"))

    def _attempt(self, waiting: list[_Waiting], deadline: Deadline) -> dict[str, Push]:
        """One push. What is to be said to whom; the others wait for another one."""
        try:
            copy = self._shared(deadline)
            if max(one.base for one in waiting) > copy.trusted.seq:
                copy.refresh(moved=True)  # its owner has seen more of the chain
            return self._push(copy, waiting)
        except Exception as fault:  # noqa: BLE001 - a damaged copy makes anything raise anything
            # Before anything was sent: `landing.send` raises nothing later.
            if getattr(fault, "code", "") not in _PASSING:
                self._forget_copy()
            return {one.name: Push(UNSENT, str(fault)) for one in waiting}

    def _push(self, copy: Replica, waiting: list[_Waiting]) -> dict[str, Push]:
        tip = copy.position().copy()
        said: dict[str, Push] = {}
        run: list[tuple[_Waiting, list[Proposal]]] = []
        misfits: list[_Waiting] = []
        count = size = 0
        for one in waiting:
            if count + len(one.signed) > MOST_RECORDS or size > MOST_BYTES:
                break
            if answer := self._known(copy.position(), one):
                said[one.name] = answer
                continue
            here = tip.copy() if len(one.signed) > 1 else tip
            try:
                proposal = _place(here, one)
            except RuleBroken:
                misfits.append(one)
                continue
            if proposal is None:
                said[one.name] = Push(UNSENT, "its base is out of sight")
                continue
            tip = here
            run.append((one, proposal))
            count += len(proposal)
            size += sum(len(made) for p in proposal for _, made in p.objects.values())
        push = Push(WON)
        landings: list[Published] = []
        if run:
            push, landings = publish.send(copy, tip, [p for _, proposal in run for p in proposal])
            said |= _told(run, push, landings)
        if landings:
            with contextlib.suppress(OSError):
                slots.put(self._folder / "seq", "", landings[-1].seq)
        if push.outcome == LOST and not push.locked:
            copy.refresh(moved=True)
        elif push.outcome != REFUSED:  # else they may fit the next time
            said |= {one.name: Push(LOST, "it does not fit any more") for one in misfits}
        return said

    def _known(self, tip: Chain, one: _Waiting) -> Push | None:
        """The answer to what has landed already, or is too old to be sent now."""
        found = [
            tip.find(r["agent"], r["op"], r["base"]["seq"])
            for r in (signed.record for signed in one.signed)
        ]
        if any(found):
            pairs = zip(one.signed, found, strict=True)
            if all(there and there.signed.payload == signed.payload for signed, there in pairs):
                landed = [(there.seq, there.oid) for there in found if there]
                return Push(WON, landed=dict(zip(one.pushed, landed, strict=True)))
            return Push(LOST, "its intent is in the chain already")
        if self._clock() - one.at > tip.state.skew // 2:
            return Push(LOST, "it waited for too long")
        return None

    def _take_all(self) -> list[_Waiting]:
        """Those who wait: from now on ours to answer. What the dead have left is removed."""
        for name in {
            file.partition(".")[0] for file in self._files() if file.endswith(slots.KINDS)
        }:
            if not slots.listens(self._folder / name):
                slots.clear(self._folder / name)
        return [one for one in map(self._take, self._in_line()[:MOST]) if one]

    def _take(self, path: Path) -> _Waiting | None:
        taken, over = path.with_suffix(".taken"), path.suffix == ".taken"
        try:
            path.rename(taken)
            facts = canonical.read(taken.read_bytes())
            signed = tuple(map(_parse, facts["payloads"], facts["tags"]))
            pushed = tuple(facts["pushed"])
            if not 0 < len(signed) == len(pushed) == len(facts["payloads"]):
                raise ValueError("it has not as many ids as records")
        except FileNotFoundError:  # its owner has just left
            return None
        except (RuleBroken, *slots.NONSENSE) as fault:
            self._answer(_Waiting(path.stem, (), (), over), Push(LOST, f"not readable: {fault}"))
            return None
        return _Waiting(path.stem, pushed, signed, over)

    def _answer(self, one: _Waiting, push: Push) -> None:
        if one.taken_over and push.outcome != WON:
            push = Push(UNKNOWN, f"the process that pushed it has ended; then: {push.why}")
        place = self._folder / one.name
        slots.put(place, ".answer", push._asdict())
        if not slots.ring(place):
            slots.clear(place)

    # -- the shared copy

    @property
    def _copy_path(self) -> Path:
        return self._folder / "copy.git"

    def _is_ahead(self, replica: Replica) -> bool:
        """Whether it matters that the shared copy has seen more of the chain than `replica`."""
        if replica.trusted.sequenced:
            return False
        try:
            return int((self._folder / "seq").read_bytes()) > replica.trusted.seq
        except (FileNotFoundError, ValueError):
            return False

    def _shared(self, deadline: Deadline) -> Replica:
        """The copy, joined at its end: it renders, and decides nothing."""
        if self._copy is not None and not self._copy_path.exists():
            self._forget_copy()
        if self._copy is None:
            self._copy = self._open_copy(self._copy_path, deadline)
        self._copy.git.deadline = deadline
        trusted = self._copy.local.trusted
        if trusted and trusted.seq - trusted.first > GROWN:
            self._forget_copy()
            return self._shared(deadline)
        if trusted is None:
            self._copy.join(DEEP, None)
        return self._copy

    def _forget_copy(self) -> None:
        if self._copy is not None:
            self._copy.close()
        self._copy = None
        with contextlib.suppress(OSError):
            (self._folder / "seq").unlink()
        import shutil  # noqa: PLC0415 - which imports much, and is hardly needed

        shutil.rmtree(self._copy_path, ignore_errors=True)


def _place(tip: Chain, one: _Waiting) -> list[Proposal] | None:
    """Its records on `tip`, which moves; None if the base is out of sight. Raises `RuleBroken`."""
    proposal = []
    for signed in one.signed:
        made = tip.propose(signed)
        if not made.complete:  # nobody could say whether it has landed already
            return None
        tip.advance(made)
        proposal.append(made)
    return proposal


def _told(
    run: list[tuple[_Waiting, list[Proposal]]], push: Push, landings: list[Published]
) -> dict[str, Push]:
    """What one push means to each whose records went with it, where it is the last word."""
    if push.outcome == WON:
        at = iter((landing.seq, landing.oid) for landing in landings)
        return {
            one.name: Push(WON, landed=dict(zip(one.pushed, at, strict=False))) for one, _ in run
        }
    if push.outcome == LOST and not push.locked:
        return {}
    for one, proposal in run:
        for oid, made in zip(one.pushed, proposal, strict=True):
            if push.blamed and made.commit.oid.startswith(push.blamed):
                return {one.name: push._replace(blamed=oid)}
    if push.outcome == REFUSED and len(run) > 1:  # nobody is to suffer for a neighbour
        push = Push(UNSENT, push.why)
    return {one.name: push for one, _ in run}


def _parse(payload: str, tag: str) -> Signed:
    """Raises `RuleBroken`, ValueError, …"""
    data = payload.encode("ascii")
    record = records.check(canonical.decode(data))
    if record["base"] is None:
        raise ValueError("a first record waits for nobody")
    return Signed(data, record, a2b_base64(tag))


def _since(path: Path) -> tuple[int, str]:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns, path.stem
    return 0, path.stem
