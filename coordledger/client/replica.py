"""A verified copy of the remote's ledger, that only ever moves forward.

Rules of this file:
- Everything that comes in is judged by `format.chain` before it is adopted; what does not
  continue the verified head moves nothing and is an `Integrity` error.
- Without a server that checks clocks, records from the future are refused here.
- A first contact verifies the whole history from the genesis record (or, if asked for
  depth 1, says that it has verified nothing below).
- All of what came in is adopted, or nothing. A verification that its deadline or a signal
  ends saves a checkpoint, and the next one goes on from there.
- The MAC of a record is computed once for as long as the same keys are at hand.

Records that have been adopted are judged again by `audit`.
"""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

from coordledger.client.heads import check_pin
from coordledger.client.local_state import Checkpoint, TrustedHead
from coordledger.errors import CoordledgerError, Integrity, RuleBroken, error
from coordledger.format import timestamps
from coordledger.format.chain import (
    AUTHENTIC,
    MAX_BASE_DISTANCE,
    UNVERIFIED,
    Chain,
    authenticate,
    judge_all,
    verdict_for,
)
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS
from coordledger.format.rules.ledger import policy_problem
from coordledger.git.address import without_password
from coordledger.git.history import ancestors
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordledger.client.local_state import LocalState
    from coordledger.format.chain import Judged
    from coordledger.format.commit import Commit
    from coordledger.format.signing import Keyring
    from coordledger.git.history import CommitRange
    from coordledger.git.process import Git
    from coordledger.git.remote import Remote

    Progress = Callable[[str, int, int], None]  # what, how many are done, of how many (0: ?)

STEP = 2000  # records between two checkpoints of a verification
TOLD = 100  # records between two words about how far it has come
_REMEMBERED = 4096  # verdicts


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
        self.progress = progress
        self._keyring_for = keyring_for
        self._chain: Chain | None = None
        self._authentic: set[str] = set()  # commits whose MACs were computed, with the keys of
        self._authentic_by: Keyring | None = None
        self.in_memory_only = False  # the position is this process's: see `adopt_in_memory`

    def close(self) -> None:
        self.remote.close()
        self.local.repository.close()

    # -- where we stand

    def position(self) -> Chain:
        """The chain at the verified head. Joins the ledger if there is none yet."""
        trusted = self.local.trusted
        if trusted is None:
            return self.refresh()
        chain = self._chain
        if chain is None or chain.head is None or chain.head.oid != trusted.commit:
            chain = self._chain = self._chain_at(trusted)
            self.in_memory_only = False
        chain.use(self.keyring())
        return chain

    @property
    def trusted(self) -> TrustedHead:
        """The verified head. Raises `Failed`: not-joined."""
        trusted = self.local.trusted
        if trusted is None:
            raise error("not-joined")
        return trusted

    def keyring(self) -> Keyring:
        return self._keyring_for(self.trusted.ledger)

    def _chain_at(self, place: TrustedHead | Checkpoint) -> Chain:
        repository = self.local.repository
        if not repository.has(place.commit):  # somebody removed our ref, and git the objects
            with self.local.lock(self.git.deadline):
                self.remote.fetch(self.local.remote_ref, self.local.incoming, None)
                repository.set_ref(self.local.incoming, None)
        try:
            head = parse_commit(place.commit, repository.read(place.commit))
        except (KeyError, RuleBroken):
            raise error("bad-copy", why=f"commit {place.commit[:12]} is missing") from None
        if (head.seq, head.digest) != (place.seq, place.digest):
            raise error("bad-copy", why="the head is not the one that was verified")
        return Chain(repository.read, self._keyring_for(place.ledger), head, repository.algo)

    # -- moving forward

    def is_behind(self) -> bool:
        """Whether the remote has another head; it is asked for no more than that."""
        return self.remote.head(self.local.remote_ref) != self.trusted.commit

    def refresh(self, *, moved: bool = False) -> Chain:
        """Bring the copy up to the remote's head, verifying what is new.

        It is asked for first, and fetched if it is another one; only fetched where either
        takes a connection of its own, and where the caller knows that it has `moved`. Raises
        `Failed` (remote-unreachable, not-a-ledger, timeout), `Integrity`.
        """
        with self.local.lock(self.git.deadline):
            trusted = self.local.trusted
            ask = trusted and not moved and self.remote.head_is_cheap
            if ask and not self.is_behind():
                return self._confirmed()
            try:
                head = self.fetch()
                if trusted and head == trusted.commit:
                    return self._confirmed()
                return self.advance(*self.path_to(head))
            except Integrity:
                self.local.forget_checkpoint()
                raise
            finally:
                if not self.local.checkpoint:
                    self.local.repository.set_ref(self.local.incoming, None)

    def _confirmed(self) -> Chain:
        """The chain at the verified head, which is the remote's. Raises `Integrity`: told-lost."""
        _need_told(self, self.trusted.seq, {})
        self.local.told.clear()
        return self.position()

    def fetch(self, depth: int | None = None) -> str:
        """Bring the remote's history here (all of it that is new, or `depth` commits); its head.

        Raises `Integrity`: ledger-gone; `Failed`: not-a-ledger, remote-unreachable.
        """
        local, repository = self.local, self.local.repository
        kept = repository.ref(local.incoming) if local.checkpoint else None  # not fetched twice
        repository.set_ref(local.incoming, kept)  # and away with the lock of a killed process
        if local.trusted is None:
            self.progress("fetching", 0, 0)
        exists = self.remote.fetch(local.remote_ref, local.incoming, depth)
        head = repository.ref(local.incoming) if exists else None
        if head is None:
            raise self._absent()
        return head

    def _absent(self) -> CoordledgerError:
        """The remote has no such ref. One that lists nothing at all may be no git server."""
        self.remote.need_listing()
        trusted = self.local.trusted
        if trusted is None:
            names = self.remote.names(LEDGERS)
            return self._not_a_ledger(f"; it has {', '.join(names)}" if names else "")
        remotes = " ".join(self.remote.address.others)
        others = f"; the other remotes here: {remotes}" if remotes else ""
        facts = {"remote": self.remote.shown, "name": self._name, "head": _shown(trusted)}
        return error("ledger-gone", others=others, **facts)

    @property
    def _name(self) -> str:
        """What the ledger is called on the remote, for people."""
        local = self.local
        return local.name if local.remote_ref == local.ref else local.remote_ref

    def path_to(self, head: str) -> tuple[Chain, CommitRange]:
        """Where to begin, and the way to `head`: from the verified head, from the checkpoint
        beyond it, or from nothing.

        Raises `Integrity`: rewritten, remote-behind, other-ledger, bad-copy.
        """
        trusted = self.local.trusted
        chain = self.position() if trusted else self._empty_chain(head)
        checkpoint = self._chain_at_checkpoint(chain)
        starts = {(c.head.oid if c.head else None): c for c in (chain, checkpoint) if c}
        path = self.ancestors(head, set(starts))
        if path.below not in starts:
            raise self._not_continued(head, trusted)
        return starts[path.below], path

    def _chain_at_checkpoint(self, chain: Chain) -> Chain | None:
        """A chain at the checkpoint, if there is one beyond `chain`."""
        checkpoint = self.local.checkpoint
        if checkpoint is None or not self.local.repository.has(checkpoint.commit):
            return None
        if chain.head and checkpoint.seq <= chain.head.seq:
            return None
        return self._chain_at(checkpoint)

    def ancestors(self, head: str, known: set[str | None]) -> CommitRange:
        """The commits from above one of `known` up to `head`. Raises `Integrity`: bad-copy."""

        def told(count: int) -> None:
            self.progress("reading", count, 0)

        return ancestors(self.local.repository.read, self.git, head, known, told)

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

    def advance(self, chain: Chain, path: CommitRange) -> Chain:
        """Judge what is on the path, which begins at the chain's head, and adopt all of it.

        Raises `Integrity`; `Failed`: unfinished.
        """
        trusted = self.local.trusted
        checks_clock = trusted is None or trusted.enforcement != "server"
        first = trusted.first if trusted else 0
        passed: list[tuple[int, str]] = []
        authentic: list[str] = []
        told = {seq for seq, _ in self.local.told.all()}
        ids: dict[int, str] = {}
        try:
            for done, judged in enumerate(self.judge(chain, path), 1):
                if judged.broken:
                    raise judged.broken.theirs(judged.seq, judged.oid)
                if checks_clock:
                    self._need_no_future(chain)
                passed.append((judged.seq, judged.oid))
                if judged.seq in told:
                    ids[judged.seq] = judged.oid
                if judged.verdict == AUTHENTIC and len(path) <= _REMEMBERED:
                    authentic.append(judged.oid)
                if done % TOLD or done == len(path):
                    continue
                self.progress("verifying", done, len(path))
                over = self.git.deadline.over()
                if over or done % STEP == 0:
                    self._save_checkpoint(chain, passed, first)
                    passed.clear()
                if over:
                    seconds = f"{self.git.deadline.seconds:g}"
                    raise error("unfinished", done=done, of=len(path), seconds=seconds)
        except BaseException:
            self._chain = None  # it may have moved; the clone has not
            raise
        if chain.head is None:
            raise self._not_a_ledger()
        try:
            _need_told(self, chain.head.seq, ids)
        except Integrity:
            self._chain = None  # as above
            raise
        self.adopt(chain, passed)
        self.local.told.clear()
        self._remembered().update(authentic)
        return chain

    def judge(self, chain: Chain, commits: Iterable[tuple[str, bytes]]) -> Iterator[Judged]:
        """As `judge_all`, but no record is called bad for what our own disk has done to it.

        Raises `Integrity`: bad-copy.
        """
        try:
            for judged in judge_all(chain, commits):
                if judged.broken:
                    self._need_whole(judged.oid, judged.content)
                yield judged
        except KeyError:  # git fetches nothing without all that it needs
            why = f"objects of record {chain.next_seq} are missing"
            raise error("bad-copy", why=why) from None

    def _need_whole(self, oid: str, content: bytes) -> None:
        kinds = ("commit", "tag", "tree", "blob")
        if all(object_id(kind, content, self.local.repository.algo) != oid for kind in kinds):
            raise error("bad-copy", why=f"object {oid[:12]} is not what its id says")

    def _need_no_future(self, chain: Chain) -> None:
        head = chain.head
        ahead = timestamps.parse(head.record["at"]) - self.clock() if head else 0
        if head and ahead > chain.state.skew:
            facts = {"seq": head.seq, "at": head.record["at"], "commit": head.oid}
            raise error("from-future", ahead=timestamps.span(ahead), **facts)

    def _save_checkpoint(self, chain: Chain, passed: list[tuple[int, str]], first: int) -> None:
        head = chain.head
        if head is not None:
            checkpoint = Checkpoint(head.record["ledger"], head.oid, head.seq, head.digest)
            self.local.save_checkpoint(checkpoint, passed, first)

    def _not_a_ledger(self, others: str = "") -> CoordledgerError:
        return error("not-a-ledger", remote=self.remote.shown, name=self._name, others=others)

    def _not_continued(self, head: str, trusted: TrustedHead | None) -> CoordledgerError:
        """Another ledger altogether, an older copy of ours, or another history of it."""
        if trusted is None:
            return self._not_a_ledger()
        try:
            commit = parse_commit(head, self.local.repository.read(head))
        except (KeyError, RuleBroken):
            commit = None
        remote = self.remote.shown
        if commit and commit.record["ledger"] != trusted.ledger:
            theirs = commit.record["ledger"]
            return error("other-ledger", ours=trusted.ledger, theirs=theirs, remote=remote)
        if commit and _is_older(self, commit, trusted):
            return error("remote-behind", remote=remote, seq=commit.seq, head=_shown(trusted))
        return error("rewritten", head=_shown(trusted), command=_reset_command(self))

    def adopt(self, chain: Chain, passed: list[tuple[int, str]]) -> None:
        """The clone moves to the chain's head, which was verified (or is our own, landed)."""
        head = chain.head
        if head is None:
            raise error("not-joined")
        before = self.local.trusted or TrustedHead(head.record["ledger"], "", -1, "")
        self.local.adopt(before.moved_to(head), passed)
        self._chain, self.in_memory_only = chain, False

    def adopt_in_memory(self, chain: Chain, before: TrustedHead) -> None:
        """As `adopt`, for this process alone: the clone's disk takes nothing, and is not asked.

        Until it is brought up from the remote, nothing that builds on this may be adopted: the
        clone would name commits whose parents it has not got.
        """
        if chain.head is not None:
            self.local.adopt_in_memory(before.moved_to(chain.head))
        self._chain, self.in_memory_only = chain, True

    def note_sequenced(self, *, says: bool) -> None:
        """Remember whether the server puts records into their places."""
        if self.trusted.sequenced != says:
            self.local.save(self.trusted._replace(sequenced=says))

    def note_enforcement(self, enforcement: str) -> None:
        """Remember what a try of the server has shown: server, none or unknown."""
        with self.local.lock(self.git.deadline):
            trusted = self.trusted
            guarded = trusted.guarded or enforcement == "server"
            self.local.save(trusted._replace(enforcement=enforcement, guarded=guarded))

    # -- joining

    def join(self, depth: int | None, pin: str | None) -> Chain:
        """First contact, or a later visit with a pin. Raises `Integrity`: pin-mismatch."""
        with self.local.lock(self.git.deadline):
            first = self.local.trusted is None
            chain = self._join_shallow(depth) if depth and first else self.refresh()
            try:
                if pin:
                    check_pin(self, pin)
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
            oid = self.fetch(depth)
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

    # -- looking at single records

    def commit_at(self, seq: int) -> Commit | None:
        """The verified commit at `seq`, or None if this copy does not have it."""
        commit, trusted = self.local.commit_at(seq), self.local.trusted
        if commit is None and trusted and trusted.first <= seq <= trusted.seq:
            self._rebuild_index()  # the cache was lost or damaged; the chain was not
            commit = self.local.commit_at(seq)
        return commit

    def _rebuild_index(self) -> None:
        trusted = self.trusted
        path = self.ancestors(trusted.commit, set())
        numbered = enumerate(path.ids(), trusted.seq + 1 - len(path))
        with contextlib.suppress(OSError):  # a cache
            here = ((seq, oid) for seq, oid in numbered if seq >= trusted.first)
            self.local.save_index(here, trusted.first)

    def verdict_of(self, commit: Commit) -> str:
        """The verdict on a commit of this copy, by the keys that are at hand now.

        A record that rests on the edge of a shallow copy is unverified, even if its MAC is good
        (format, section 11): its place in the history may be made up, and the state there.
        """
        chain, first = self.position(), self.trusted.first
        base = commit.record["base"] or {"seq": 0}
        if first and (commit.seq <= first or base["seq"] < first):
            return UNVERIFIED
        authentic = self._remembered()
        if commit.oid in authentic:
            return AUTHENTIC
        try:
            verdict = authenticate(chain.state, commit.signed, commit.seq, self.keyring())
        except RuleBroken as broken:
            return verdict_for(broken)
        if verdict == AUTHENTIC:
            authentic.add(commit.oid)
        return verdict

    def know_as_authentic(self, commit: Commit) -> None:
        """The commit is this process's own proposal: it has signed the record itself."""
        self._remembered().add(commit.oid)

    def _remembered(self) -> set[str]:
        """The commits that are known to be authentic, by the keys that are at hand now."""
        keyring = self.keyring()
        if keyring is not self._authentic_by or len(self._authentic) > _REMEMBERED:
            self._authentic, self._authentic_by = set(), keyring
        return self._authentic


def _shown(trusted: TrustedHead) -> str:
    return f"{trusted.seq}:{trusted.digest[:16]}"


def _is_older(replica: Replica, commit: Commit, trusted: TrustedHead) -> bool:
    """Whether it is one of the records of the copy, or may be one below its edge."""
    if commit.seq < trusted.first:
        return True
    known = replica.commit_at(commit.seq)
    return known is not None and known.oid == commit.oid


def _need_told(replica: Replica, head: int, ids: dict[int, str]) -> None:
    """What the remote has told as landed has to be in the chain that ends at record `head`;
    `ids` has those of them that are not adopted yet. Raises `Integrity`: told-lost.
    """
    local = replica.local
    for seq, oid in local.told.all():
        known = replica.commit_at(seq) if seq not in ids else None
        at_checkpoint = next(local.indexed_ids(seq, seq), None) if seq <= head else None
        if oid != ids.get(seq, known.oid if known else at_checkpoint):
            facts = {"remote": replica.remote.shown, "seq": seq, "commit": oid[:12]}
            raise error("told-lost", command=_reset_command(replica), **facts)


def _reset_command(replica: Replica) -> str:
    """The command that leaves the verified history for the remote's, to be copied."""
    local, given = replica.local, replica.remote.address.given
    options = ["--ledger", local.name] if local.name != "main" else []
    if local.remote_ref != local.ref:
        options += ["--branch", local.remote_ref.removeprefix("refs/heads/")]
    return shlex.join(["coordledger", "join", without_password(given), *options, "--reset"])
