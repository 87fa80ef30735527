"""Sequencing: the server puts signed records on the head that the ledger has when they arrive.

Clients push a commit, or a chain of them, to refs/for/coordledger/<ledger>; git hands it
to the proc-receive hook (githooks(5)), which takes the signed records out, renders them on
the ledger's current head under a lock, and moves the ref. Nobody loses a race to a record
that his own does not conflict with. What is pushed begins above one of the ledger's newest
commits, or without a parent, as our clients send it (`landing`).

Rules of this file:
- Only the signed bytes of what is pushed count; the commits around them are rendered anew.
  A record that cannot be verified as `hook` demands it is refused, with the same words.
- A pushed chain lands whole or not at all; a record that is in the ledger already, byte for
  byte, counts as landed: who was cut off sends the same again and gets the truth.
- "landed" is said after objects and ref are on the disk, "refused" only where nothing landed.
  Whoever dies in between has said neither.
- `land` is pure; it serves the hook's one push and a resident process's queue alike.
- It cannot change a record, only its neighbours: the chain is the same as one that was
  made by ordinary pushes, and so is its verification.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would import enum: 4 ms
import fcntl
import posix
import sys
import time

from coordledger.errors import CoordledgerError, RuleBroken, printable
from coordledger.format import records
from coordledger.format.chain import Chain
from coordledger.format.commit import MAX_COMMIT_BYTES, parse_commit
from coordledger.format.records import FOR, LEDGERS
from coordledger.git import durable
from coordledger.git.loose import Reader
from coordledger.git.tree import algorithm
from coordledger.server.pre_receive import (
    MAX_INPUT,
    AdmissionContext,
    admit,
    configured_gap,
    environment,
    new_commits,
    refusal,
    server_keyring,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import IO, NoReturn

    from coordledger.format.commit import Commit
    from coordledger.format.signing import Keyring, Signed
    from coordledger.git.tree import Objects

TURN_SECONDS = 20  # to wait for the lock; clients give up after 30
TRIES = 10  # each of which waits for git's own lock of the ref, too
PENDING_BYTES = 16_777_216  # rendered, and not yet written
_HEX = frozenset(b"0123456789abcdef")


class Push:
    """What one command brings: the records of `oids`, the commits as they were pushed."""

    __slots__ = ("new", "oids", "signed")

    def __init__(self, new: str, oids: list[str], signed: list[Signed]) -> None:
        self.new, self.oids, self.signed = new, oids, signed


class Answer:
    """How it ended: `code` is "" for landed; `said` are the lines for the client."""

    __slots__ = ("code", "new", "old", "said")

    def __init__(self, code: str, said: list[str], old: str = "", new: str = "") -> None:
        self.code, self.said, self.old, self.new = code, said, old, new


def refused(oid: str, broken: RuleBroken) -> Answer:
    return Answer(broken.code, [refusal(oid[:12], broken.code, str(broken))])


class Blame(Exception):
    """The commit, as it was pushed, whose record breaks a rule."""

    def __init__(self, oid: str, broken: RuleBroken) -> None:
        super().__init__(oid)
        self.oid, self.broken = oid, broken


def read_push(new: str, chain: Chain, objects: Reader) -> Push:
    """The records of the commits up to `new`, from the ledger or from one without a parent;
    `chain` stands on a head of it.
    """

    def stands(oid: str, seq: int) -> bool:
        there = chain.at(seq)
        return there is not None and there.oid == oid

    def known(oid: str | None, seq: int) -> bool:
        return oid is None or stands(oid, seq)

    found = [one for one, _ in new_commits(objects, new, known)]
    # Below one that lied about its seq.
    while len(found) > 1 and stands(found[0].oid, found[0].seq):
        del found[0]
    return Push(new, [one.oid for one in found], [one.signed for one in found])


def land(
    pushes: list[Push], chain: Chain, server: AdmissionContext, keep: Callable[[str, Objects], None]
) -> tuple[Chain, list[Answer]]:
    """Put on the chain what may be there; where it stands then, and an answer for each push.

    `keep` takes what is rendered, with the id of the commit as it was pushed.
    """
    answers = []
    for push in pushes:
        on = chain if len(push.signed) == 1 else chain.copy()
        try:
            answers.append(_land(push, on, server, keep))
            chain = on
        except Blame as blame:
            answers.append(refused(blame.oid, blame.broken))
    return chain, answers


def _land(
    push: Push, chain: Chain, server: AdmissionContext, keep: Callable[[str, Objects], None]
) -> Answer:
    said, first, last = [], None, None
    for oid, signed in zip(push.oids, push.signed, strict=True):
        try:
            there = _landed(signed, chain)
            if there is None:
                parent, before = chain.head, chain.state
                verdict, proposal = chain.check(signed)
                admit(verdict, signed.record, parent, before, server)
                keep(oid, proposal.objects)
                chain.advance(proposal)
                there = proposal.commit
        except RuleBroken as broken:
            raise Blame(oid, broken) from None
        first, last = first or there, there
        said.append(f"coordledger: landed {oid} {there.seq} {there.oid}")
    if first is None or last is None or first.parent is None:
        raise AssertionError("a push has a record, and a ledger a first one that no push made")
    return Answer("", said, first.parent, last.oid)


def _landed(signed: Signed, chain: Chain) -> Commit | None:
    """The commit that has this record in the ledger already, to the byte."""
    r = signed.record
    base = r["base"]
    if base is None or chain.at(base["seq"]) is None:
        return None
    there = chain.find(r["agent"], r["op"], base["seq"])
    if there and (there.signed.payload, there.signed.tag) == (signed.payload, signed.tag):
        return there
    return None


# -- the surroundings: repository, lock, clock, environment


class Sequencer:
    """One ledger of the repository at `git_dir`."""

    def __init__(
        self,
        name: str,
        environ: dict[str, str],
        max_gap: Callable[[dict[str, str]], int] = configured_gap,
    ) -> None:
        """`environ` names the repository, for git and here."""
        self.git_dir = environ.get("GIT_DIR", ".")
        self.name, self.ref = name, LEDGERS + name
        self._environ, self._asked_gap = environ, max_gap
        self._chain: Chain | None = None
        self._forget()

    def look(self, objects: Reader, keyring: Keyring) -> Sequencer:
        """Go on with these: secrets, and what is packed, may change between two turns."""
        self._objects, self._keyring = objects, keyring
        return self

    def _max_gap(self) -> int:
        return self._asked_gap(self._environ)

    def _forget(self) -> None:
        self._pending: Objects = {}
        self._pending_bytes = 0
        self._arrived: set[str] = set()

    def read_push(self, new: str) -> Push:
        """What a command brings. Raises `RuleBroken`."""
        return read_push(new, self._at_head(), self._objects)

    def lock(self, wait: Callable[[int, int], None]) -> Lock:
        return Lock(f"{self.git_dir}/coordledger/{self.name}.lock", wait)

    def _at_head(self) -> Chain:
        found = self._objects.find(self.ref, MAX_COMMIT_BYTES)
        if found is None:
            raise RuleBroken("no-create")
        if self._chain is None or self._chain.head is None or self._chain.head.oid != found[0]:
            head = parse_commit(found[0], found[2])
            if self._chain is None or not self._chain.follow(head):
                self._chain = Chain(self._read, self._keyring, head, algorithm(head.oid))
        return self._chain

    def _read(self, oid: str) -> bytes:
        pending = self._pending.get(oid)
        return pending[1] if pending else self._objects.read(oid)

    def run(self, pushes: list[Push]) -> list[Answer]:
        """Land what may land: answers that are on the disk. Needs the ledger's lock.

        Raises `RuleBroken` if nothing has landed, `Unsure` if something may have.
        """
        why, tries = "", 0
        while True:
            self._forget()
            chain = self._at_head()
            now = time.time_ns() // 1_000_000
            server = AdmissionContext(self._objects, self._keyring, now, self._max_gap)
            twin, answers = land(pushes, chain.copy(self._keyring), server, self._keep)
            if chain.head is None or twin.head is None or twin.head.oid == chain.head.oid:
                return answers
            if tries == TRIES:
                break
            self._flush()
            try:
                old, new = chain.head.oid, twin.head.oid
                why = durable.move(self.git_dir, self.ref, old, new, self._environ)
            except Exception as fault:
                raise Unsure(f"{type(fault).__name__}: {fault}") from fault
            if not why:
                self._chain = twin
                return answers
            tries += 1  # another push was faster; or git died after it had moved the ref
        if posix.access(f"{self.git_dir}/{self.ref}.lock", posix.F_OK):
            raise RuleBroken("stale-lock", why=f"{self.ref}.lock exists")
        raise RuleBroken("busy", why=why.splitlines()[-1])

    def _keep(self, pushed: str, objects: Objects) -> None:
        """Remember what has to be written; what was pushed just so is there already."""
        if pushed in objects:
            self._arrived.update(objects)
            return
        self._pending |= objects
        self._pending_bytes += sum(len(content) for _, content in objects.values())
        if self._pending_bytes > PENDING_BYTES:
            self._flush()

    def _flush(self) -> None:
        try:
            durable.write(f"{self.git_dir}/objects", self._pending, self._arrived)
        except OSError as fault:
            why = f"cannot write objects: {fault.strerror}"
            raise RuleBroken("hook-broken", why=why) from fault
        self._forget()


class Unsure(Exception):
    """Something may have landed, and nobody could make certain."""


def in_line(fd: int, seconds: int) -> None:
    """Wait for a lock as the kernel lines them up; for the one thread of a process."""

    def too_late(*_: object) -> None:
        raise RuleBroken("busy", why=f"no turn within {seconds} s")

    _signal.signal(_signal.SIGALRM, too_late)
    _signal.alarm(seconds)
    fcntl.flock(fd, fcntl.LOCK_EX)
    _signal.alarm(0)


def now_and_then(fd: int, seconds: int) -> None:
    """Wait for a lock by asking again; for any thread."""
    end = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise RuleBroken("busy", why=f"no turn within {seconds} s") from None
            time.sleep(0.002)


class Lock:
    """A ledger's lock, among processes. The kernel takes it from whoever dies."""

    def __init__(self, path: str, wait: Callable[[int, int], None]) -> None:
        self._path, self._wait = path, wait

    def __enter__(self) -> None:
        self._fd = posix.open(self._path, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        try:
            self._wait(self._fd, TURN_SECONDS)
        except BaseException:
            posix.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        posix.close(self._fd)


class Combiner:
    """One ledger's place in a resident process: whatever waits is landed together.

    The first thread that gets the turn lands for all that have come by then: objects are
    brought to the disk in one round, and the ref moves once.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        turn: AbstractContextManager[object],
        reader: Callable[[], Reader],
        keyring: Callable[[], Keyring],
    ) -> None:
        """`turn` is a lock among threads; the others are called for each turn."""
        self._sequencer, self._turn = sequencer, turn
        self._reader, self._keyring = reader, keyring
        self._waiting: list[Waiting] = []

    def land(self, new: str, waits: Callable[[], bool] = lambda: True) -> Answer | None:
        """As `answer_one`, for any thread.

        Nothing is landed for somebody who does not wait any more when the turn has come: the
        hook that works in his place comes after that turn, and nothing may follow its answer.
        """
        mine = Waiting(new, waits)
        self._waiting.append(mine)
        with self._turn:
            if not mine.over:
                together = []
                while self._waiting:
                    together.append(self._waiting.pop(0))
                self._land(together)
        return mine.answer

    def _land(self, together: list[Waiting]) -> None:
        try:
            with self._reader() as objects:
                self._land_from(together, self._sequencer.look(objects, self._keyring()))
        except RuleBroken as broken:
            for one in together:
                one.answer = one.answer or refused(one.new, broken)
        except Exception:  # noqa: BLE001 - whoever gets no answer asks the hook by itself
            return
        finally:
            for one in together:
                one.over = True

    def _land_from(self, together: list[Waiting], sequencer: Sequencer) -> None:
        pushes = []
        for one in together:
            try:
                pushes.append((one, sequencer.read_push(one.new)))
            except RuleBroken as broken:
                one.answer = refused(one.new, broken)
        if pushes:
            with sequencer.lock(now_and_then):
                pushes = [(one, push) for one, push in pushes if one.waits()]
                answers = sequencer.run([push for _, push in pushes])
            for (one, _), answer in zip(pushes, answers, strict=True):
                one.answer = answer


class Waiting:
    """A push that waits at a desk."""

    __slots__ = ("answer", "new", "over", "waits")

    def __init__(self, new: str, waits: Callable[[], bool]) -> None:
        self.new, self.waits, self.over = new, waits, False
        self.answer: Answer | None = None


# -- git's side: pkt-lines (gitprotocol-common(5)) and the proc-receive protocol (githooks(5))


def read_packets(read: Callable[[int], bytes]) -> list[bytes]:
    """The packets up to the next flush."""
    found: list[bytes] = []
    total = 0
    while True:
        head = read(4)
        size = int(head, 16) if len(head) == 4 and _HEX.issuperset(head) else -1
        if size == 0:
            return found
        body = read(size - 4) if size > 4 else b""
        total += size
        if size < 4 or len(body) != size - 4 or total > MAX_INPUT:
            raise RuleBroken("bad-push", why="the list of refs is cut off")
        found.append(body.removesuffix(b"\n"))


def packet(line: str) -> bytes:
    body = line.encode("utf-8", "surrogateescape")
    return b"%04x%s" % (len(body) + 4, body)


def command(line: bytes) -> tuple[str, str]:
    """The new id and the ref of a command. Raises `RuleBroken`."""
    parts = line.decode("utf-8", "surrogateescape").split(" ", 2)
    if len(parts) != 3:
        raise RuleBroken("bad-push", why="a line of the list is not: old new ref")
    return parts[1], parts[2]


def ledger_of(ref: str) -> str:
    """The ledger that a ref for records names. Raises `RuleBroken`: bad-ref."""
    name = ref.removeprefix(FOR)
    if name == ref or not records.is_identifier(name):
        raise RuleBroken("bad-ref", ref=ref)
    return name


def report(ref: str, answer: Answer) -> bytes:
    """What receive-pack is told about one command."""
    if answer.code:
        return packet(f"ng {ref} {answer.code}")
    lines = [f"ok {ref}", f"option refname {LEDGERS}{ref.removeprefix(FOR)}"]
    lines += [f"option old-oid {answer.old}", f"option new-oid {answer.new}"]
    return b"".join(map(packet, lines))


def answer_one(
    ref: str, new: str, make: Callable[[str], Sequencer], *, asked: bool
) -> Answer | None:
    """Land what one command brings, in its turn. None if its outcome is not known.

    `asked`: a resident process was, and may have stopped in the middle of its turn.
    """
    try:
        name = ledger_of(ref)
        if not new.strip("0"):
            raise RuleBroken("no-delete")
        sequencer = make(name)
        push = sequencer.read_push(new)  # all that can be done before the turn comes
        with sequencer.lock(in_line):
            return sequencer.run([push])[0]
    except RuleBroken as found:
        broken, sure = found, not (asked and found.code in ("busy", "hook-broken"))
    except Unsure as fault:
        broken, sure = RuleBroken("hook-broken", why=str(fault)), False
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        ours = isinstance(fault, CoordledgerError)
        why = str(fault) if ours else f"{type(fault).__name__}: {fault}"
        broken, sure = RuleBroken("hook-broken", why=why), not asked
    if sure:
        return refused(new, broken)
    sys.stderr.write(f"coordledger: unknown {printable(new, 12)}: {broken}\n")
    return None


def negotiate(ask: IO[bytes], out: IO[bytes]) -> tuple[bool, list[tuple[str, str]]]:
    """Whether the push is atomic; the new id and the ref of each command."""
    first = b"".join(read_packets(ask.read)[:1])
    out.write(packet("version=1") + b"0000")
    out.flush()
    return is_atomic(first), [command(line) for line in read_packets(ask.read)]


def go_on(ask: IO[bytes], version: bytes, given: bytes) -> tuple[bool, list[tuple[str, str]]]:
    """As `negotiate`, where the shell has answered git, and read the version's line.

    And maybe the flush after it, with the first command and the four bytes that follow; a
    shell leaves out bytes of zero.
    """

    def read(size: int) -> bytes:
        nonlocal given
        part, given = given[:size], given[size:]
        return part + ask.read(size - len(part))

    read_packets(read)
    return is_atomic(version), [command(line) for line in read_packets(read)]


def is_atomic(version: bytes) -> bool:
    """Whether the line with the version names that feature."""
    return b"atomic" in version.partition(b"version=1")[2].replace(b"\0", b"").split()


def serve(
    commands: list[tuple[str, str]],
    out: IO[bytes],
    err: IO[str],
    make: Callable[[str], Sequencer],
    *,
    atomic: bool,
    asked: bool,
) -> None:
    """Answer receive-pack."""
    refs = [ref for _, ref in commands]
    for new, ref in commands:
        why = ""
        if atomic:  # git could take the other refs back, and not what has landed here
            why = "an atomic push cannot be sequenced"
        elif refs.count(ref) > 1:
            why = "a ref stands twice in the list"
        if why:
            answer: Answer | None = refused(new, RuleBroken("bad-push", why=why))
        else:
            answer = answer_one(ref, new, make, asked=asked)
        if answer:
            err.write("".join(f"{line}\n" for line in answer.said))
            err.flush()
            out.write(report(ref, answer))
            out.flush()
    out.write(b"0000")
    out.flush()


def main(environ: dict[str, str], version: bytes = b"", given: bytes = b"") -> int:
    """What `coordledger hook proc-receive` runs: 0 if every command has an answer.

    `version` and `given` are what the shell has read of git's words.
    """
    sure, ask = not given, sys.stdin.buffer  # else a resident process may be at it
    try:
        keyring = server_keyring(f"{environ.get('GIT_DIR', '.')}/coordledger")
        talked = go_on(ask, version, given) if version else negotiate(ask, sys.stdout.buffer)
        atomic, commands = talked
        sure = False
        with Reader(environ) as objects:

            def make(name: str) -> Sequencer:
                return Sequencer(name, environ).look(objects, keyring)

            serve(commands, sys.stdout.buffer, sys.stderr, make, atomic=atomic, asked=bool(given))
    except RuleBroken as broken:
        code, why = broken.code, str(broken)
    except CoordledgerError as fault:
        code, why = "hook-broken", fault.message
    except Exception as fault:  # noqa: BLE001 - fail closed, whatever it is
        code, why = "hook-broken", f"{type(fault).__name__}: {fault}"
    else:
        return 0
    line = refusal("-", code, why) if sure else f"coordledger: unknown -: {printable(why)}"
    sys.stderr.write(line + "\n")
    return 1


def start() -> NoReturn:
    """What the hook's shell script runs: `main`, without `os` and without tidying up."""
    code = (sys.getfilesystemencoding(), "surrogateescape")
    answer = main(environment(), *(text.encode(*code) for text in sys.argv[2:]))
    sys.stderr.flush()
    posix._exit(answer)  # noqa: SLF001 - its public name is in os
