"""Sequencing: the server puts signed records on the head that the ledger has when they arrive.

Clients push a commit, or a chain of them, to refs/for/coordledger/<ledger>. The sequencer takes
the signed records out, renders them on the ledger's current head under a lock, and moves the
ref. No record loses a race to another one that it does not conflict with. A push begins above
one of the ledger's newest commits, or without a parent, as our clients send it.

Rules of this file:
- Only the signed bytes of a push count; the commits around them are rendered anew. A record
  that cannot be verified as `pre_receive` demands it is refused, with the same words.
- A pushed chain lands whole or not at all; a record that is in the ledger already, byte for
  byte, counts as landed: a client that was cut off sends the same again and gets the truth
  (from `arrival`, if nothing of it is new; here, if it has landed since).
- One push renders no more than `admission` allows, and one turn does not go on for longer than
  HOLD_SECONDS: a push of many records that takes longer is told `busy`, and those behind it in
  the same turn wait for the next. One record always gets through.
- "landed" is said after objects and ref are on the disk, "refused" only where nothing landed.
  A process that dies in between has said neither.
- A head is built on only when all below it is verified: by this process, or as `mark` knows.
- `land` is pure; it serves the hook's one push and a resident process's queue alike.
- It cannot change a record, only its neighbours: the chain is the same as one that was
  made by ordinary pushes, and so is its verification.

It does not talk with git's receive-pack (`proc_receive`) and gathers no pushes (`combiner`).
"""

from __future__ import annotations

import posix
import time

from coordledger import answers, files
from coordledger.answers import Landed, Unknown
from coordledger.deadline import unix_ms
from coordledger.errors import RuleBroken
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS
from coordledger.git import loose
from coordledger.git.refs import Mover, PlainMover
from coordledger.hashes import algorithm
from coordledger.server import upkeep
from coordledger.server.admission import (
    MAX_RECORDS,
    MAX_RENDERED,
    AdmissionContext,
    admit,
    configured_gap,
    new_commits,
)
from coordledger.server.mark import Marks, vouch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.answers import Answer
    from coordledger.format.chain import Proposal
    from coordledger.format.commit import Commit
    from coordledger.format.signing import Keyring, Signed
    from coordledger.git.loose import Reader
    from coordledger.git.tree import Objects

TURN_SECONDS = 20  # to wait for the lock; clients give up after 30
TRIES = 10  # each of which waits for git's own lock of the ref, too
# Of work with the lock, after which nothing more is begun. By the clock on the wall a machine that
# is busy with other things would refuse what it has taken an hour before.
HOLD_SECONDS = 2.0
MAY_STILL_LAND = ("busy", "hook-broken")  # of who asked a resident process before
MUCH = 64, 1_048_576  # objects, bytes: more than that goes into a pack


class PushedRecords:
    """The records of one push: `oids` are their commits as they were pushed, on the commit
    `below` or on none, of `size` bytes.
    """

    __slots__ = ("below", "brought", "oids", "signed", "size")

    def __init__(self, commits: list[tuple[Commit, bytes]]) -> None:
        self.oids = [commit.oid for commit, _ in commits]
        self.signed = [commit.signed for commit, _ in commits]
        self.below = commits[0][0].parent
        self.size = sum(len(content) for _, content in commits)
        self.brought = True  # their objects are in the repository

    @classmethod
    def of(cls, records: list[tuple[str, Signed]]) -> PushedRecords:
        """Records that come without objects, and the ids that answers call them by."""
        made = cls.__new__(cls)
        made.oids, made.signed = [oid for oid, _ in records], [signed for _, signed in records]
        made.below, made.size, made.brought = None, 0, False
        return made


class Outcome:
    """How a push ended: `code` is "" for landed; `answers` are the lines for the client.

    `old` and `new` are the ids between which its records stand in the ledger: those that are
    new there, if any is.
    """

    __slots__ = ("answers", "code", "new", "old")

    def __init__(self, code: str, answers: list[Answer], old: str = "", new: str = "") -> None:
        self.code, self.answers, self.old, self.new = code, answers, old, new


def refused(commit: str, fault: Exception) -> Outcome:
    """The outcome of a push of which nothing has landed."""
    answer = answers.refused(commit, fault)
    return Outcome(answer.code, [answer])


def read_push(new: str, chain: Chain, objects: Reader) -> PushedRecords:
    """The records of the commits up to `new`, from the ledger or from one without a parent;
    `chain` stands on a head of it. Raises `RuleBroken`.
    """

    def is_in_ledger(oid: str, seq: int) -> bool:
        commit = chain.at(seq)
        return commit is not None and commit.oid == oid

    def is_known(oid: str | None, seq: int) -> bool:
        return oid is None or is_in_ledger(oid, seq)

    commits = new_commits(objects, new, is_known)
    # A commit that lied about its seq made the walk go on below it, into the ledger.
    while len(commits) > 1 and is_in_ledger(commits[0][0].oid, commits[0][0].seq):
        del commits[0]
    return PushedRecords(commits)


class _RecordRefused(Exception):
    """The commit, as it was pushed, whose record breaks a rule."""

    def __init__(self, oid: str, broken: RuleBroken) -> None:
        super().__init__(oid)
        self.oid, self.broken = oid, broken


class Rendered:
    """What the pushes of one turn have rendered, until it is on the disk.

    What a push renders is on trial until the whole of it may land.
    """

    def __init__(self) -> None:
        self.objects: Objects = {}
        self.arrived: set[str] = set()  # by a push, just so: they are there already
        self.size = 0
        self._trial: Objects = {}
        self._trial_arrived: set[str] = set()

    def find(self, oid: str) -> tuple[str, bytes] | None:
        return self._trial.get(oid) or self.objects.get(oid)

    def keep(self, pushed: str, proposal: Proposal) -> None:
        """On trial; `pushed` is the id of the record's commit as it was pushed, if it was."""
        if pushed in proposal.objects:
            self._trial_arrived.update(proposal.objects)
        else:
            self._trial |= proposal.objects

    def end_trial(self, *, lands: bool) -> None:
        if lands:
            self.objects |= self._trial
            self.arrived |= self._trial_arrived
            self.size += sum(len(content) for _, content in self._trial.values())
        self._trial, self._trial_arrived = {}, set()


def begin_turn() -> Callable[[], bool]:
    """Whether the turn that begins now is over."""
    end = time.thread_time() + HOLD_SECONDS
    return lambda: time.thread_time() > end


def land(
    pushes: list[PushedRecords],
    chain: Chain,
    context: AdmissionContext,
    rendered: Rendered,
    is_over: Callable[[], bool],
) -> tuple[Chain, list[Outcome | None]]:
    """Put on the chain what may be there: the chain after it, and an outcome for each push.

    None for those that wait for another turn, because this one `is_over()`, has rendered enough,
    or would land more records than the hook verifies by itself if their mark were lost: never for
    the first. `rendered` gets what is to be written.
    """
    outcomes: list[Outcome | None] = []
    end = chain.next_seq + MAX_RECORDS
    for push in pushes:
        is_full = rendered.size > MAX_RENDERED or chain.next_seq + len(push.signed) > end
        if outcomes and (is_full or is_over()):
            outcomes.append(None)
            continue
        # A chain of records is tried on a copy: the first ones do not stay if a later one fails.
        target = chain if len(push.signed) == 1 else chain.copy()
        context.rendered = 0
        try:
            outcome = _land_push(push, target, context, rendered, is_over)
            chain = target
        except _RecordRefused as refusal:
            outcome = refused(refusal.oid, refusal.broken)
        except RuleBroken as broken:
            outcome = refused("", broken)
        rendered.end_trial(lands=not outcome.code)
        outcomes.append(outcome)
    return chain, outcomes


def _land_push(
    push: PushedRecords,
    chain: Chain,
    context: AdmissionContext,
    rendered: Rendered,
    is_over: Callable[[], bool],
) -> Outcome:
    """Raises `_RecordRefused`, and `RuleBroken` for what is no single record's fault."""
    commits: list[Commit] = []
    above = chain.next_seq
    for oid, signed in zip(push.oids, push.signed, strict=True):
        if commits and is_over():
            why = f"{len(push.oids)} records take longer than {HOLD_SECONDS:g} s: send fewer"
            raise RuleBroken("busy", why=why)
        commit = _landed_before(signed, chain)
        if commit is None:
            proposal = _place(oid, signed, chain, context)
            context.spend(proposal.size)
            rendered.keep(oid if push.brought else "", proposal)
            chain.advance(proposal)
            commit = proposal.commit
        commits.append(commit)
    # What git tells others of must never be a move to an older record.
    moved = [commit for commit in commits if commit.seq >= above] or commits
    first, last = (edge(moved, key=lambda commit: commit.seq) for edge in (min, max))
    if first.parent is None:
        raise AssertionError("a ledger has a first record that no push made")
    landed: list[Answer] = [
        Landed(oid, commit.seq, commit.oid) for oid, commit in zip(push.oids, commits, strict=True)
    ]
    return Outcome("", landed, first.parent, last.oid)


def _place(oid: str, signed: Signed, chain: Chain, context: AdmissionContext) -> Proposal:
    """The place of a record that may land; `oid` is its commit as it was pushed."""
    try:
        verdict, proposal = chain.check(signed)
        admit(verdict, signed.record, chain.head, chain.state, context)
        if signed.record["kind"] == "land":  # git moves its ref in another transaction, if at all
            raise RuleBroken("land-not-sequenced", ref=signed.record["ref"])
    except RuleBroken as broken:
        raise _RecordRefused(oid, broken) from None
    return proposal


def _landed_before(signed: Signed, chain: Chain) -> Commit | None:
    """The commit that has this record in the ledger already, to the byte."""
    r = signed.record
    base = r["base"]
    if base is None or chain.at(base["seq"]) is None:
        return None
    commit = chain.find(r["agent"], r["op"], base["seq"])
    if commit and (commit.signed.payload, commit.signed.tag) == (signed.payload, signed.tag):
        return commit
    return None


def vouched(outcomes: list[Outcome | None], head: Commit, now: int) -> list[Outcome | None]:
    """Those that landed, with how far the ledger is verified now."""
    for outcome in outcomes:
        if outcome and not outcome.code:
            outcome.answers.append(vouch(head, now))
    return outcomes


# -- the surroundings: repository, lock, clock


class Unsure(Exception):
    """Something may have landed, and the sequencer could not make certain."""


class HandedOn(Exception):
    """Nothing has landed: the push is to go another way. Raised by what is called before that."""


class Sequencer:
    """One ledger of the repository that an environment names."""

    def __init__(
        self,
        name: str,
        environ: dict[str, str],
        max_gap: Callable[[dict[str, str]], int] = configured_gap,
    ) -> None:
        self.git_dir = environ.get("GIT_DIR", ".")
        self.name, self.ref = name, LEDGERS + name
        self._movers = [kind(self.git_dir, self.ref, environ) for kind in (Mover, PlainMover)]
        self._environ, self._configured_gap = environ, max_gap
        self._chain: Chain | None = None
        self._rendered = Rendered()

    def use(self, objects: Reader, keyring: Keyring, *, plain: bool = False) -> Sequencer:
        """Go on with these: secrets, and which objects are packed, may change between turns.
        `plain`: no hook and no setting wants the ref to be moved by git itself.
        """
        self._objects, self._keyring, self._mover = objects, keyring, self._movers[plain]
        return self

    def _max_gap(self) -> int:
        return self._configured_gap(self._environ)

    @property
    def head(self) -> str:
        """The ledger's head at the last turn; "" before."""
        return self._chain.head.oid if self._chain and self._chain.head else ""

    def read_push(self, new: str, pushed: Reader | None = None) -> PushedRecords:
        """The records that a push of `new` brings: to the repository, or to where `pushed` reads.

        Raises `RuleBroken`.
        """
        push = read_push(new, self._at_head(), pushed or self._objects)
        push.brought = pushed is None
        return push

    def lock(self, wait: Callable[[int, int], bool]) -> Lock:
        """The ledger's lock among processes."""
        return Lock(_lock_path(self.git_dir, self.name), wait)

    def run(
        self, pushes: list[PushedRecords], ready: Callable[[], None] = lambda: None
    ) -> list[Outcome | None]:
        """Land what may land: outcomes that are on the disk. Needs the ledger's lock.

        None for a push that has to wait for another turn, never for the first. `ready()` is called
        before the ref moves. Raises `RuleBroken` and what `ready` does if nothing has landed,
        `Unsure` if something may have.
        """
        why, is_over = "", begin_turn()
        for attempt in range(TRIES + 1):
            rendered = self._rendered = Rendered()
            chain = self._at_head_again(why) if attempt else self._at_head()
            now = unix_ms()
            context = AdmissionContext(self._objects, self._keyring, now, self._max_gap)
            longer, outcomes = land(
                pushes,
                chain.copy(self._keyring),
                context,
                rendered,
                is_over,
            )
            old, new = chain.head, longer.head
            if old is None or new is None:
                raise AssertionError("a ledger has a first record, that no push made")
            if new.oid == old.oid:
                return vouched(outcomes, old, now)  # refused, or in the ledger already
            if attempt == TRIES:
                break
            self._marks().keep(self.name, old, new)
            why = self._bring_to_disk(rendered, old.oid, new.oid, ready)
            if not why:
                self._chain = longer
                upkeep.start_if_due(old.seq, new.seq, new.oid, self._environ)
                return vouched(outcomes, new, now)
            # Another push was faster; or git died after it had moved the ref.
        if posix.access(f"{self.git_dir}/{self.ref}.lock", posix.F_OK):
            raise RuleBroken("stale-lock", why=f"{self.ref}.lock exists")
        raise RuleBroken("busy", why=why.splitlines()[-1])

    def run_alone(self, push: PushedRecords, ready: Callable[[], None] = lambda: None) -> Outcome:
        """As `run`, of one push."""
        [outcome] = self.run([push], ready)
        if outcome is None:
            raise AssertionError("the first push of a turn does not wait for another")
        return outcome

    def _bring_to_disk(
        self, rendered: Rendered, old: str, new: str, ready: Callable[[], None]
    ) -> str:
        """What is rendered, and then the ref: "", or why it did not move. Raises as `run`."""
        folder, much = f"{self.git_dir}/objects", rendered.objects
        few = len(much) <= MUCH[0] and rendered.size <= MUCH[1]
        kept = None
        try:
            try:
                also = self._mover.prepare(new)
                loose.write_durably(folder, much if few else {}, rendered.arrived, also)
                if not few:
                    from coordledger.git import pack  # noqa: PLC0415 - most pushes are small

                    kept = pack.write_durably(folder, much, algorithm(new))
            except OSError as fault:
                why = f"cannot write objects: {fault.strerror}"
                raise RuleBroken("hook-broken", why=why) from fault
            ready()
            return self._move(old, new)
        finally:
            self._mover.close()
            self._rendered = Rendered()
            if kept:
                files.remove(kept)

    def _move(self, old: str, new: str) -> str:
        """Move the ledger's ref: "", or why it did not move. Raises `Unsure`."""
        try:
            return self._mover.move(old, new)
        except Exception as fault:
            raise Unsure(answers.reason(fault)) from fault

    def _at_head(self) -> Chain:
        found = self._objects.find(self.ref)
        if found is None:
            raise RuleBroken("no-create")
        if self._chain is None or self._chain.head is None or self._chain.head.oid != found[0]:
            self._marks().need(self.name, found[0])
            head = parse_commit(found[0], found[2])
            if self._chain is None or not self._chain.follow(head):
                self._chain = Chain(self._read, self._keyring, head, algorithm(head.oid))
        return self._chain

    def _at_head_again(self, why: str) -> Chain:
        """Where the ref did not move, as far as git has said, and `why`. Raises `Unsure`."""
        try:
            return self._at_head()
        except Exception as fault:
            raise Unsure(f"{why.splitlines()[-1]}; {answers.reason(fault)}") from fault

    def _marks(self) -> Marks:
        return Marks(self._environ, self._objects, self._keyring)

    def _read(self, oid: str) -> bytes:
        rendered = self._rendered.find(oid)
        return rendered[1] if rendered else self._objects.read(oid)


def land_alone(
    new: str,
    make: Callable[[], Sequencer],
    *,
    asked: bool = False,
    pushed: Reader | None = None,
    ready: Callable[[], None] = lambda: None,
) -> Outcome | Unknown:
    """Land one push of `new`, in its turn, in a process that does nothing else.

    `make()` gives its ledger's sequencer, and may raise; `pushed` as `Sequencer.read_push` has it,
    `ready` as `Sequencer.run`. `asked`: a resident process was, and may still land the push, or
    have stopped in the middle of its turn. Raises `HandedOn` where `ready` does.
    """
    try:
        sequencer = make()
        push = sequencer.read_push(new, pushed)  # all that can be done before the turn comes
        with sequencer.lock(files.lock_in_line):
            return sequencer.run_alone(push, ready)
    except HandedOn:
        raise
    except Unsure as unsure:
        return Unknown(new, str(unsure))
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        outcome = refused(new, fault)
        if asked and outcome.code in MAY_STILL_LAND:
            return Unknown(new, answers.reason(fault))
        return outcome


# -- whose turn it is


def _lock_path(git_dir: str, name: str) -> str:
    return f"{git_dir}/coordledger/{name}.lock"


def wait_for_turn(git_dir: str, name: str) -> None:
    """Wait until the turns that others have now, or wait for, are over. Raises as `Lock`."""
    path = _lock_path(git_dir, name)
    if posix.access(path, posix.F_OK):  # else nobody has had one: there may be no such ledger
        with Lock(path, files.lock_in_line):
            pass


class Lock:
    """A ledger's lock among processes. The kernel takes it from a process that dies."""

    def __init__(self, path: str, wait: Callable[[int, int], bool]) -> None:
        """`wait(fd, seconds)` is False if the lock was not to be had in that time."""
        self._path, self._wait = path, wait

    def __enter__(self) -> None:
        """Raises `RuleBroken`: busy."""
        self._fd = posix.open(self._path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        try:
            if not self._wait(self._fd, TURN_SECONDS):
                raise RuleBroken("busy", why=f"no turn within {TURN_SECONDS} s")
        except BaseException:
            posix.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)
