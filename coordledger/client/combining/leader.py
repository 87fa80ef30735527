"""The process at the head of the line (`line`): it pushes for all that wait, with one push.

Rules of this file:
- Records are taken (renamed to .taken) before anything of them is sent, and rendered out of a
  copy that all leaders share. The copy is a cache: what is wrong with it is forgotten with it.
- Each owner gets the remote's answer to its very records, and never one that was meant for a
  neighbour's. A refusal that names no record is none: each then pushes by itself.
- Records that an earlier leader had taken may have been sent by it: about these only "landed"
  is certain, and anything else is told as unknown.
"""

from __future__ import annotations

import contextlib
from binascii import a2b_base64  # base64 around it imports re
from typing import TYPE_CHECKING

from coordledger.client.combining import slots
from coordledger.client.publish import MOST_BYTES, MOST_RECORDS
from coordledger.errors import RuleBroken
from coordledger.format import canonical, records, timestamps
from coordledger.format.signing import Signed
from coordledger.git.outcome import AGAIN, LOST, REFUSED, UNKNOWN, UNSENT, WON, Push
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordledger.client.combining.on_host import HostPublisher
    from coordledger.client.publish import Publication, Publisher
    from coordledger.client.replica import Replica
    from coordledger.deadline import Deadline
    from coordledger.format.chain import Chain, Proposal

    OpenCopy = Callable[[Path, Deadline], Replica]
    Answers = dict[str, Push]  # by the name of the slot

MOST_OWNERS = 256  # that one leader takes along
DEEP = 256  # records that the shared copy begins with; an older base is out of its sight
GROWN = 2048  # records after which the shared copy is made anew: nobody packs it
LOSSES = 6
_PASSING = {"timeout", "unfinished"}  # faults that are not the copy's


class Waiting(Value):
    """Records of one owner that wait, and the ids that it expects them to get."""

    name: str  # of its slot
    pushed: tuple[str, ...]
    signed: tuple[Signed, ...]
    taken_over: bool = False  # from a leader that may have sent them

    @property
    def base(self) -> int:
        return max(int(signed.record["base"]["seq"]) for signed in self.signed)

    @property
    def at(self) -> int:
        return min(timestamps.parse(signed.record["at"]) for signed in self.signed)


class JointPush:
    """One push for several owners: their records, proposed one after the other."""

    def __init__(self, tip: Chain) -> None:
        """`tip` is a chain to propose on; it moves."""
        self.tip = tip
        self.run: list[tuple[Waiting, list[Proposal]]] = []
        self._count = self._bytes = 0

    @property
    def proposals(self) -> list[Proposal]:
        return [proposal for _, proposals in self.run for proposal in proposals]

    def has_room_for(self, waiting: Waiting) -> bool:
        return self._count + len(waiting.signed) <= MOST_RECORDS and self._bytes <= MOST_BYTES

    def add(self, waiting: Waiting) -> bool:
        """All of an owner's records, or none. False if a base is out of the copy's sight, so
        that nobody could say whether it has landed already. Raises `RuleBroken`.
        """
        tip = self.tip.copy() if len(waiting.signed) > 1 else self.tip
        proposals = []
        for signed in waiting.signed:
            proposal = tip.propose(signed)
            if not proposal.complete:
                return False
            tip.advance(proposal)
            proposals.append(proposal)
        self.tip = tip
        self.run.append((waiting, proposals))
        self._count += len(proposals)
        self._bytes += sum(proposal.size for proposal in proposals)
        return True


class Leader:
    """Serves all that wait, while its process has the line's lock."""

    def __init__(
        self,
        folder: Path,
        open_copy: OpenCopy,
        clock: Callable[[], int],
        publisher: Publisher,
        host: HostPublisher | None = None,
    ) -> None:
        """As `Line`; `publisher` publishes what was collected."""
        self._folder, self._open_copy, self._host = folder, open_copy, host
        self._clock, self._publisher = clock, publisher
        self._copy: Replica | None = None

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
        self._copy = None

    def serve(self, deadline: Deadline, give_sign_of_life: Callable[[], None]) -> None:
        """Push for all that wait, until each has an answer. Raises OSError if one cannot have
        it: nothing is sent after that, and the next leader takes over.
        """
        left = self.take_all()
        for _ in range(LOSSES):
            if not left:
                return
            give_sign_of_life()
            answers = self._attempt(left, deadline)
            for waiting in left:
                if waiting.name in answers:
                    self._answer(waiting, answers[waiting.name])
            left = [
                waiting
                for waiting in left
                if waiting.name not in answers and slots.is_alive(self._folder / waiting.name)
            ]
        for waiting in left:
            self._answer(waiting, Push(LOST, "others came first, again and again"))

    # -- taking and answering

    def take_all(self) -> list[Waiting]:
        """Take the records that wait: they are ours to answer. Slots of the dead are removed."""
        slots.clear_dead(self._folder)
        taken = map(self._take, slots.waiting(self._folder)[:MOST_OWNERS])
        return [waiting for waiting in taken if waiting]

    def _take(self, path: Path) -> Waiting | None:
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
        except (RuleBroken, *slots.UNREADABLE) as fault:
            self._answer(Waiting(path.stem, (), (), over), Push(LOST, f"not readable: {fault}"))
            return None
        return Waiting(path.stem, pushed, signed, over)

    def _answer(self, waiting: Waiting, push: Push) -> None:
        if waiting.taken_over and push.outcome != WON:
            push = Push(UNKNOWN, f"the process that pushed it has ended; then: {push.why}")
        slot = self._folder / waiting.name
        slots.write_answer(slot, push)
        if not slots.wake(slot):
            slots.clear(slot)

    # -- one push

    def _attempt(self, left: list[Waiting], deadline: Deadline) -> Answers:
        """One push. The answers that it has brought; the others wait for another one."""
        try:
            if answers := self._land_on_host(left, deadline):
                return answers
            copy = self._shared_copy(deadline)
            if max(waiting.base for waiting in left) > copy.trusted.seq:
                copy.refresh(moved=True)  # its owner has seen more of the chain
            return self._push(copy, left)
        except Exception as fault:  # noqa: BLE001 - a damaged copy makes anything raise anything
            # Before anything was sent: a publisher raises nothing later.
            if getattr(fault, "code", "") not in _PASSING:
                self._forget_copy()
            return {waiting.name: Push(UNSENT, str(fault)) for waiting in left}

    def _land_on_host(self, left: list[Waiting], deadline: Deadline) -> Answers:
        """The answers where this process takes the server's part, which knows of each owner's
        records whether they have landed before, and refuses none for a neighbour's.
        """
        runs = [list(zip(waiting.pushed, waiting.signed, strict=True)) for waiting in left]
        pushes = self._host.land(runs, lambda: None, deadline) if self._host else None
        pairs = zip(left, pushes or [], strict=False)
        return {waiting.name: push for waiting, push in pairs if push.why != AGAIN}

    def _push(self, copy: Replica, left: list[Waiting]) -> Answers:
        joint = JointPush(copy.position().copy())
        answers, misfits = self._collect(copy.position(), left, joint)
        push = Push(WON)
        if joint.run:
            publication = self._publisher.publish(copy, joint.tip, joint.proposals, lambda: None)
            push = publication.push
            answers |= _answers(joint.run, publication)
            if publication.published:
                with contextlib.suppress(OSError):
                    slots.write(self._folder / "seq", "", publication.published[-1].seq)
        if push.outcome == LOST and not push.locked:
            copy.refresh(moved=True)
        elif push.outcome != REFUSED:  # else they may fit the next time
            answers |= dict.fromkeys(misfits, Push(LOST, "it does not fit any more"))
        return answers

    def _collect(
        self, head: Chain, left: list[Waiting], joint: JointPush
    ) -> tuple[Answers, list[str]]:
        """Fill `joint`: what can be answered without a push, and what does not fit here."""
        answers: Answers = {}
        misfits: list[str] = []
        for waiting in left:
            if not joint.has_room_for(waiting):
                break
            if answer := self._already_decided(head, waiting):
                answers[waiting.name] = answer
                continue
            try:
                if not joint.add(waiting):
                    answers[waiting.name] = Push(UNSENT, "its base is out of sight")
            except RuleBroken:
                misfits.append(waiting.name)
        return answers, misfits

    def _already_decided(self, head: Chain, waiting: Waiting) -> Push | None:
        """The answer to what has landed already, or is too old to be sent now."""
        commits = [
            head.find(r["agent"], r["op"], r["base"]["seq"])
            for r in (signed.record for signed in waiting.signed)
        ]
        if any(commits):
            pairs = zip(waiting.signed, commits, strict=True)
            if all(commit and commit.signed.payload == signed.payload for signed, commit in pairs):
                places = [(commit.seq, commit.oid) for commit in commits if commit]
                return Push(WON, landed=dict(zip(waiting.pushed, places, strict=True)))
            return Push(LOST, "its intent is in the chain already")
        if self._clock() - waiting.at > head.state.skew // 2:
            return Push(LOST, "it waited for too long")
        return None

    # -- the shared copy

    @property
    def _copy_path(self) -> Path:
        return self._folder / "copy.git"

    def _shared_copy(self, deadline: Deadline) -> Replica:
        """The copy, joined at its end: it renders, and decides nothing."""
        if self._copy is not None and not self._copy_path.exists():
            self._forget_copy()
        if self._copy is None:
            self._copy = self._open_copy(self._copy_path, deadline)
        self._copy.git.work_until(deadline)
        trusted = self._copy.local.trusted
        if trusted and trusted.seq - trusted.first > GROWN:
            self._forget_copy()
            return self._shared_copy(deadline)
        if trusted is None:
            self._copy.join(DEEP, None)
        return self._copy

    def _forget_copy(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            (self._folder / "seq").unlink()
        import shutil  # noqa: PLC0415 - which imports much, and is hardly needed

        shutil.rmtree(self._copy_path, ignore_errors=True)


def _answers(run: list[tuple[Waiting, list[Proposal]]], publication: Publication) -> Answers:
    """The answers to the owners whose records went with one push, where it is the last word."""
    push = publication.push
    if push.outcome == WON:
        places = iter((one.seq, one.oid) for one in publication.published)
        return {
            waiting.name: Push(
                WON,
                landed=dict(zip(waiting.pushed, places, strict=False)),
                vouches=push.vouches,
            )
            for waiting, _ in run
        }
    if push.outcome == LOST and not push.locked:
        return {}
    for waiting, proposals in run:
        for oid, proposal in zip(waiting.pushed, proposals, strict=True):
            if push.blamed and proposal.commit.oid.startswith(push.blamed):
                return {waiting.name: push._replace(blamed=oid)}
    if push.outcome == REFUSED and len(run) > 1:  # none is to suffer for a neighbour
        push = Push(UNSENT, push.why)
    return {waiting.name: push for waiting, _ in run}


def _parse(payload: str, tag: str) -> Signed:
    """Raises `RuleBroken`, ValueError, …"""
    data = payload.encode("ascii")
    record = records.check(canonical.decode(data))
    if record["base"] is None:
        raise ValueError("a first record waits for nobody")
    return Signed(data, record, a2b_base64(tag))
