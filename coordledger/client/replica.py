"""A verified copy of the remote's ledger, that only ever moves forward.

Rules of this file:
- Everything that comes in is judged by `verify` before it is adopted; what does not
  continue the verified head moves nothing and is an `Integrity` error.
- Without a server that checks clocks, records from the future are refused here.
- A first contact verifies the whole history from the genesis record (or, if asked for
  depth 1, says that it has verified nothing below).
- All of what came in is adopted, or nothing. A verification that its deadline or a signal
  ends notes how far it has got, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from coordledger.client.local_state import Checkpoint, TrustedHead
from coordledger.errors import CoordledgerError, Integrity, RuleBroken, error
from coordledger.format import timestamps
from coordledger.format.chain import (
    INVALID,
    MAX_BASE_DISTANCE,
    UNKNOWN_KEY,
    UNVERIFIED,
    Chain,
    authenticate,
)
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS
from coordledger.format.rules.ledger import policy_problem
from coordledger.git.history import ancestors, raw_parent
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from coordledger.client.local_state import LocalState
    from coordledger.format.commit import Commit
    from coordledger.format.signing import Keyring
    from coordledger.git.history import CommitRange
    from coordledger.git.process import Git
    from coordledger.git.remote import Remote

    Progress = Callable[[str, int, int], None]  # what, how many are done, of how many (0: ?)

STEP = 2000  # records between two notes of how far a verification has got
_TOLD = 100
_HEX = frozenset("0123456789abcdef")


class Damage:
    """A remote's head below which a record is bad, why, and the last valid commit."""

    def __init__(self, head: str, fault: Integrity, last: Commit) -> None:
        self.head, self.fault, self.last = head, fault, last


class Replica:
    """The ledger as this clone has verified it."""

    def __init__(
        self,
        local: LocalState,
        remote: Remote,
        git: Git,
        keyring_for: Callable[[str | None], Keyring],
        clock: Callable[[], int],
        progress: Progress,
    ) -> None:
        """`keyring_for(ledger id)` gives the secrets at hand; `clock()` milliseconds."""
        self.local, self.remote, self.git, self.clock = local, remote, git, clock
        self._keyring_for, self._progress = keyring_for, progress
        self._chain: Chain | None = None
        self.in_memory_only = False  # the position is this process's alone: see `adopt_in_memory`

    def close(self) -> None:
        self.remote.close()
        self.local.repository.close()

    # -- where we stand

    def position(self) -> Chain:
        """The chain at the verified head. Joins the ledger if there is none yet."""
        trusted = self.local.trusted
        if trusted is None:
            return self.refresh()
        if (
            self._chain is None
            or self._chain.head is None
            or (self._chain.head.oid != trusted.commit)
        ):
            self._chain = self._chain_at(trusted)
            self.in_memory_only = False
        return self._chain

    @property
    def trusted(self) -> TrustedHead:
        found = self.local.trusted
        if found is None:
            raise error("not-joined")
        return found

    def keyring(self) -> Keyring:
        return self._keyring_for(self.trusted.ledger)

    def _chain_at(self, trusted: TrustedHead | Checkpoint) -> Chain:
        repository = self.local.repository
        if not repository.has(trusted.commit):  # somebody removed our ref, and git the objects
            with self.local.lock(self.git.deadline):
                self.remote.fetch(self.local.remote_ref, self.local.incoming, None)
                self.local.repository.set_ref(self.local.incoming, None)
        try:
            head = parse_commit(trusted.commit, repository.read(trusted.commit))
        except (KeyError, RuleBroken):
            raise error("bad-copy", why=f"commit {trusted.commit[:12]} is missing") from None
        if (head.seq, head.digest) != (trusted.seq, trusted.digest):
            raise error("bad-copy", why="the head is not the one that was verified")
        return Chain(repository.read, self._keyring_for(trusted.ledger), head, repository.algo)

    # -- moving forward

    def refresh(self, *, moved: bool = False) -> Chain:
        """Bring the copy up to the remote's head, verifying what is new.

        It is asked for first, and fetched if it is another one; only fetched where either
        takes a connection of its own, and where the caller knows that it has `moved`. Raises
        `Failed` (remote-unreachable, not-a-ledger, timeout), `Integrity`.
        """
        with self.local.lock(self.git.deadline):
            trusted = self.local.trusted
            known = trusted and trusted.commit
            ask = known and not moved and self.remote.head_is_cheap
            if ask and self.remote.head(self.local.remote_ref) == known:
                return self.position()
            try:
                there = self._fetch(None)
                if there == known:
                    return self.position()
                return self._advance(*self._start(there, trusted), trusted)
            except Integrity:
                self.local.forget_checkpoint()
                raise
            finally:
                if not self.local.checkpoint:
                    self.local.repository.set_ref(self.local.incoming, None)

    def _start(self, head: str, trusted: TrustedHead | None) -> tuple[Chain, CommitRange]:
        """Where to begin, and the way to `head`: from the verified head, from what is noted
        to be verified beyond it, or from nothing.
        """
        chain = self.position() if trusted else self._empty_chain(head)
        noted = self._noted(chain)
        starts = {(c.head.oid if c.head else None): c for c in (chain, noted) if c}
        path = self._back(head, set(starts))
        if path.below not in starts:
            raise self._not_continued(head, trusted)
        return starts[path.below], path

    def _noted(self, chain: Chain) -> Chain | None:
        """The chain at the place that `_advance` noted, if it is beyond this one."""
        note = self.local.checkpoint
        if note is None or not self.local.repository.has(note.commit):
            return None
        if chain.head and note.seq <= chain.head.seq:
            return None
        return self._chain_at(note)

    def _back(self, head: str, known: set[str | None]) -> CommitRange:
        def told(count: int) -> None:
            self._progress("reading", count, 0)

        return ancestors(self.local.repository, self.git, head, known, told)

    def _empty_chain(self, head: str) -> Chain:
        """Before the first record of the ledger that `head` says it is: its keys are looked
        for under that name, and the genesis record has to certify it.
        """
        repository = self.local.repository
        try:
            ledger = parse_commit(head, repository.read(head)).record["ledger"]
        except (KeyError, RuleBroken):
            ledger = None
        return Chain(repository.read, self._keyring_for(ledger), None, repository.algo)

    def _fetch(self, depth: int | None) -> str:
        repository, incoming = self.local.repository, self.local.incoming
        kept = repository.ref(incoming) if self.local.checkpoint else None  # not fetched twice
        repository.set_ref(incoming, kept)  # and away with the lock of a killed process
        if self.local.trusted is None:
            self._progress("fetching", 0, 0)
        found = self.remote.fetch(self.local.remote_ref, self.local.incoming, depth)
        oid = self.local.repository.ref(self.local.incoming) if found else None
        if oid is None:
            trusted = self.local.trusted
            if trusted:
                raise error("rewritten", head=f"{trusted.seq}:{trusted.digest[:16]}")
            names = self.remote.names(LEDGERS)
            others = f"; it has {', '.join(names)}" if names else ""
            raise self._not_a_ledger(others)
        return oid

    def _not_a_ledger(self, others: str = "") -> CoordledgerError:
        name = self.local.name if self.local.remote_ref == self.local.ref else self.local.remote_ref
        return error("not-a-ledger", remote=self.remote.shown, name=name, others=others)

    def _advance(self, chain: Chain, path: CommitRange, trusted: TrustedHead | None) -> Chain:
        """Judge what is on the path, which begins at the chain's head, and adopt all of it.

        Raises `Integrity`; `Failed`: unfinished.
        """
        checks_clock = trusted is None or trusted.enforcement != "server"
        first = trusted.first if trusted else 0
        passed = []
        try:
            for done, (oid, content) in enumerate(path, 1):
                self._judge(chain, oid, content, from_future_is_bad=checks_clock)
                passed.append((chain.head.seq if chain.head else 0, oid))
                if done % _TOLD or done == len(path):
                    continue
                self._progress("verifying", done, len(path))
                over = self.git.deadline.over()
                if over or done % STEP == 0:
                    self._note(chain, passed, first)
                    passed.clear()
                if over:
                    seconds = f"{self.git.deadline.seconds:g}"
                    raise error("unfinished", done=done, of=len(path), seconds=seconds)
        except BaseException:
            self._chain = None  # it may have moved; the clone has not
            raise
        if chain.head is None:
            raise self._not_a_ledger()
        self.adopt(chain, passed)
        return chain

    def _note(self, chain: Chain, passed: list[tuple[int, str]], first: int) -> None:
        head = chain.head
        if head is not None:
            ledger = head.record["ledger"]
            self.local.save_checkpoint(
                Checkpoint(ledger, head.oid, head.seq, head.digest), passed, first
            )

    def _not_continued(self, head: str, trusted: TrustedHead | None) -> CoordledgerError:
        """Another ledger altogether, or another history of ours."""
        if trusted is None:
            return self._not_a_ledger()
        try:
            theirs = parse_commit(head, self.local.repository.read(head)).record["ledger"]
        except (KeyError, RuleBroken):
            theirs = trusted.ledger
        if theirs != trusted.ledger:
            names = {"ours": trusted.ledger, "theirs": theirs, "remote": self.remote.shown}
            return error("other-ledger", **names)
        return error("rewritten", head=f"{trusted.seq}:{trusted.digest[:16]}")

    def _judge(self, chain: Chain, oid: str, content: bytes, *, from_future_is_bad: bool) -> str:
        seq = chain.head.seq + 1 if chain.head else 0
        try:
            verdict = chain.judge(oid, content)
        except RuleBroken as broken:
            self._need_whole(oid, content)
            raise broken.theirs(seq, oid) from None
        except KeyError:
            # git fetches nothing without all that it needs.
            raise error("bad-copy", why=f"objects of record {seq} are missing") from None
        except ValueError:
            why = "its state is not one of a ledger"
            raise RuleBroken("bad-commit", why=why).theirs(seq, oid) from None
        if from_future_is_bad and chain.head:
            ahead = timestamps.parse(chain.head.record["at"]) - self.clock()
            if ahead > chain.state.skew:
                raise error("from-future", seq=seq, ahead=timestamps.span(ahead), commit=oid)
        return verdict

    def _need_whole(self, oid: str, content: bytes) -> None:
        """No record is called bad for what our own disk has done to it.

        Raises `Integrity`: bad-copy.
        """
        kinds = ("commit", "tag", "tree", "blob")
        if all(object_id(kind, content, self.local.repository.algo) != oid for kind in kinds):
            raise error("bad-copy", why=f"object {oid[:12]} is not what its id says")

    def adopt(self, chain: Chain, passed: list[tuple[int, str]]) -> None:
        """The clone moves to the chain's head, which was verified (or is our own, landed)."""
        head = chain.head
        if head is None:
            raise error("not-joined")
        self.local.adopt(self._trusted_at(head), passed)
        self._chain, self.in_memory_only = chain, False

    def adopt_in_memory(self, chain: Chain, before: TrustedHead) -> None:
        """As `adopt`, for this process alone: the clone's disk takes nothing, and is not asked.

        Until it is brought up from the remote, nothing that builds on this may be adopted: the
        clone would name commits whose parents it has not got.
        """
        head = chain.head
        if head is not None:
            self.local.adopt_in_memory(
                before._replace(commit=head.oid, seq=head.seq, digest=head.digest)
            )
        self._chain, self.in_memory_only = chain, True

    def note_sequenced(self, *, says: bool) -> None:
        """Remember whether the server puts records into their places."""
        if self.trusted.sequenced != says:
            self.local.save(self.trusted._replace(sequenced=says))

    def _trusted_at(self, head: Commit) -> TrustedHead:
        before = self.local.trusted or TrustedHead(head.record["ledger"], "", -1, "")
        return before._replace(commit=head.oid, seq=head.seq, digest=head.digest)

    # -- when somebody let a bad record in

    def damage(self) -> Damage | None:
        """Where the remote's chain stops being valid, or None if all of it is.

        Raises `Integrity`: rewritten, where there is nothing to cut back to.
        """
        with self.local.lock(self.git.deadline):
            trusted = self.local.trusted
            self.local.forget_checkpoint()
            there = self._fetch(None)
            chain, path = self._start(there, trusted)
            try:
                self._advance(chain, path, trusted)
            except Integrity as fault:
                last = chain.head
                # Only what somebody wrote is cut off; our own copy's damage is not theirs.
                if last is None or "commit" not in fault.data or fault.code == "newer-version":
                    raise
                if fault.code == "from-future" and last.parent:  # it was judged, and is valid
                    last = parse_commit(last.parent, self.local.repository.read(last.parent))
                return Damage(there, fault, last)
            finally:
                self.local.forget_checkpoint()
            return None

    def damage_adopted(self) -> Damage | None:
        """The same, in what this copy has adopted: judged again with the keys at hand now."""
        trusted = self.trusted
        _, problems, last = self.audit(trusted.first)
        good = self.commit_at(last) if problems else None
        if good is None:
            return None
        fault = Integrity("bad-chain", f"record {last + 1}: {problems[0]['message']}")
        return Damage(trusted.commit, fault, good)

    # -- joining

    def join(self, depth: int | None, pin: str | None) -> Chain:
        """First contact, or a later visit with a pin. Raises `Integrity`: pin-mismatch."""
        with self.local.lock(self.git.deadline):
            first = self.local.trusted is None
            chain = self._join_shallow(depth) if depth and first else self.refresh()
            try:
                if pin:
                    self.check_pin(pin)
            except CoordledgerError:
                if first:  # what a pin refuses is not remembered
                    self.local.reset()
                    self._chain = None
                raise
            return chain

    def _join_shallow(self, depth: int) -> Chain:
        repository = self.local.repository
        self.local.forget_checkpoint()
        try:
            oid = self._fetch(depth)
            head = parse_commit(oid, repository.read(oid))
            chain = Chain(
                repository.read, self._keyring_for(head.record["ledger"]), head, repository.algo
            )
            if chain.state.ledger.get("ledger") != head.record["ledger"]:
                raise RuleBroken("bad-commit", why="its state is another ledger's")
            if wrong := policy_problem(chain.state.ledger.get("policy"), whole=True):
                raise RuleBroken("bad-record", field="policy", why=wrong)
            base = head.record["base"] or {"seq": -1}
            if not 0 <= head.seq - 1 - base["seq"] <= MAX_BASE_DISTANCE:
                raise RuleBroken("bad-base", why="it does not fit the record's seq")
        except (RuleBroken, LookupError, ValueError, AttributeError, RecursionError) as fault:
            raise self._not_a_ledger() from fault
        finally:
            repository.set_ref(self.local.incoming, None)
        first = TrustedHead(head.record["ledger"], oid, head.seq, head.digest, first=head.seq)
        self.local.adopt(first, [(head.seq, oid)])
        self._chain = chain
        return chain

    def check_pin(self, pin: str) -> None:
        """`pin` as `parse_place` reads it.

        Raises `Integrity`: pin-mismatch, `Failed`: bad-value.
        """
        ledger, seq, digest = parse_place(pin, "--pin")
        if self.trusted.first:  # its oldest record says of itself what its digest is
            why = "a shallow copy cannot check it: join without --depth"
            raise error("bad-value", what="--pin", why=why)
        if ledger not in (None, self.trusted.ledger):
            raise error("pin-mismatch", why=f"it is {self.trusted.ledger}")
        if seq is None:
            return
        found = self.commit_at(seq)
        if found is None:
            raise error("pin-mismatch", why=f"this copy has no record {seq}")
        if not found.digest.startswith(digest):
            raise error("pin-mismatch", why=f"record {seq} has the digest {found.digest}")

    # -- looking at single records

    def commit_at(self, seq: int) -> Commit | None:
        """The verified commit at `seq`, or None if this copy does not have it."""
        found = self.local.commit_at(seq)
        trusted = self.local.trusted
        if found is None and trusted and trusted.first <= seq <= trusted.seq:
            self._rebuild_index()  # the cache was lost or damaged; the chain was not
            found = self.local.commit_at(seq)
        return found

    def _rebuild_index(self) -> None:
        trusted = self.trusted
        path = self._back(trusted.commit, set())
        numbered = enumerate(path.ids(), trusted.seq + 1 - len(path))
        with contextlib.suppress(OSError):  # a cache
            here = ((seq, oid) for seq, oid in numbered if seq >= trusted.first)
            self.local.save_index(here, trusted.first)

    def _commits_above(self, below: Commit | None) -> Iterator[tuple[str, bytes]]:
        """A copy's commits, up to its head: as the index has them for as long as each names
        the one before as its parent, and from there on as the commits themselves have it.

        Raises `Integrity`: bad-copy.
        """
        at, start = (below.oid, below.seq + 1) if below else (None, 0)
        head = self.trusted.commit
        for oid, content in self._indexed(start, self.trusted.seq):
            if raw_parent(content) != at:
                break
            yield oid, content
            at = oid
        if at == head:
            return
        path = self._back(head, {at})
        if path.below != at:
            raise error("bad-copy", why="commits of its history are missing")
        yield from path

    def _indexed(self, first: int, last: int) -> Iterator[tuple[str, bytes]]:
        """What stands under the ids of the index: maybe less, maybe something else."""
        with contextlib.suppress(KeyError, RuleBroken), self.git.objects() as objects:
            yield from objects.stream(self.local.indexed_ids(first, last))

    def verdict_of(self, found: Commit) -> str:
        """Check the MAC with the keys at hand, now.

        What rests on the edge of a shallow copy is unverified, whoever signed it (format,
        section 11): its place in the history may be made up, and the state there.
        """
        chain, first = self.position(), self.trusted.first
        base = found.record["base"] or {"seq": 0}
        if first and (found.seq <= first or base["seq"] < first):
            return UNVERIFIED
        try:
            return authenticate(chain.state, found.signed, found.seq, self.keyring())
        except RuleBroken as broken:
            return UNKNOWN_KEY if broken.code == "unknown-key" else INVALID

    def auditing(self) -> dict[str, Any] | None:
        """How far an audit of everything had got when it was interrupted: seq, commit, verdicts."""
        noted = self.trusted.auditing
        found = self.commit_at(noted["seq"]) if noted else None
        return noted if noted and found and found.oid == noted["commit"] else None

    def audit(
        self,
        since: int,
        before: dict[str, int] | None = None,
        note: Callable[[Commit, dict[str, int]], None] = lambda head, counts: None,
    ) -> tuple[dict[str, int], list[dict[str, object]], int]:
        """Judge the copy's records from `since` on again: counts, problems, last good seq.

        `before` are the counts of those below `since` that are to be counted too. `note` is
        told now and then of the newest good record, and the counts up to it.
        """
        trusted, repository = self.trusted, self.local.repository
        start = max(since, trusted.first)
        below = self.commit_at(start - 1) if start > trusted.first else None
        counts = dict(before or {})
        problems: list[dict[str, object]] = []
        if start == trusted.first and start > 0:
            # The edge of a shallow copy: nothing is known about what it builds on.
            below = self.commit_at(start)
            counts[UNVERIFIED] = 1
        chain = Chain(repository.read, self.keyring(), below, repository.algo)
        many = trusted.seq - (below.seq if below else -1)
        for done, (oid, content) in enumerate(self._commits_above(below), 1):
            seq = chain.head.seq + 1 if chain.head else 0
            try:
                verdict = chain.judge(oid, content)
            except KeyError:  # our own copy's fault, and no record's
                raise error("bad-copy", why=f"objects of record {seq} are missing") from None
            except (RuleBroken, ValueError) as fault:
                self._need_whole(oid, content)
                broken = (
                    fault
                    if isinstance(fault, RuleBroken)
                    else RuleBroken("bad-commit", why="its state is not one of a ledger")
                )
                bad = UNKNOWN_KEY if broken.code == "unknown-key" else INVALID
                counts[bad] = counts.get(bad, 0) + 1
                problems.append(
                    {"seq": seq, "commit": oid, "code": broken.code, "message": str(broken)}
                )
                break
            counts[verdict] = counts.get(verdict, 0) + 1
            if done % _TOLD == 0:
                self._progress("auditing", done, many)
            if done % STEP == 0 and chain.head:
                note(chain.head, counts)
        last = chain.head.seq if chain.head else -1
        return counts, problems, last


def parse_place(text: str, what: str) -> tuple[str | None, int | None, str]:
    """Ledger id, seq and digest out of `LEDGER SEQ:DIGEST` (as `head` prints it), or of either
    half alone. At least 16 digits of the digest. Raises `Failed`: bad-value.
    """
    words = text.split()
    ledger = words.pop(0) if words and ":" not in words[0] else None
    seq, _, digest = (words.pop(0) if words else "").partition(":")
    good = ledger is None or (len(ledger) == 32 and _HEX.issuperset(ledger))
    if ledger is None or seq or digest:
        good = good and seq.isdecimal() and len(seq) <= 16
        good = good and 16 <= len(digest) <= 64 and _HEX.issuperset(digest)
    if words or not good:
        raise error(
            "bad-value", what=what, why="LEDGER-ID, SEQ:DIGEST, or both as head prints them"
        )
    return ledger, int(seq) if seq else None, digest
