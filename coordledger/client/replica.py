"""A verified copy of the remote's ledger, that only ever moves forward.

Rules of this file:
- Everything that comes in is judged by `format.chain` before it is adopted; what does not
  continue the verified head moves nothing and is an `Integrity` error.
- Of what continues it, the valid records below the first bad one are adopted: they can be read
  (`follow`). Nobody builds on a remote that goes on with a bad one (`refresh`).
- A record from the future counts as bad, for as long as it is: a server's clock may be wrong, too.
- A first contact verifies the whole history from the genesis record (or, if asked for
  depth 1, says that it has verified nothing below).
- A verification that its deadline or a signal ends adopts nothing. It saves a checkpoint, and
  the next one goes on from there.
- Other processes read and write in the same clone meanwhile: the remote is asked and records are
  judged without a lock, and what came out is adopted by compare-and-swap (`adopt`). What the
  remote answers is measured by what the clone knew *before* it was asked: what another process
  learns in the meantime is no rollback.
- The MAC of a record is computed once for as long as the same keys are at hand.

Records that have been adopted are judged again by `audit`.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from coordledger import client
from coordledger.client import stops
from coordledger.client.heads import check_pin
from coordledger.client.local_state import Checkpoint, TrustedHead
from coordledger.client.promised import need_told, reset_command
from coordledger.client.roots import CheckedHere
from coordledger.client.vouches import Vouches
from coordledger.errors import CoordledgerError, Integrity, RuleBroken, error
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
from coordledger.format.signing import Keyring
from coordledger.format.state import State
from coordledger.git.history import ancestors
from coordledger.git.remote import News
from coordledger.git.tree import Tree
from coordledger.hashes import digest
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordledger.client.judging import Lot
    from coordledger.client.local_state import LocalState
    from coordledger.deadline import Deadline
    from coordledger.format.chain import Judged
    from coordledger.format.commit import Commit
    from coordledger.git.history import CommitRange
    from coordledger.git.process import Git
    from coordledger.git.remote import Remote
    from coordledger.git.repository import Repository

    Progress = Callable[[str, int, int], None]  # what, how many are done, of how many (0: ?)

STEP = 2000  # records between two checkpoints of a verification
TOLD = 100  # records between two words about how far it has come
_REMEMBERED = 4096  # verdicts


class Known(Value):
    """What a clone knew before it asked the remote: its verified head, and the told places."""

    head: TrustedHead | None
    told: list[tuple[int, str]]


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
        self.progress, self.vouches = progress, Vouches(self)
        self._keyring_for = keyring_for
        self._chain: Chain | None = None
        self._checked = CheckedHere(Keyring())
        self.reset_by = "join"  # the command that leaves the verified history for the remote's
        self.in_memory_only = False  # the position is this process's: see `adopt_in_memory`
        # Of the record that the remote has after the verified head, if it is bad; as of `follow`.
        self.stop: Integrity | None = None

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
        if trusted := self.local.trusted:
            return trusted
        raise error("not-joined")

    def keyring(self, ledger: str | None = None) -> Keyring:
        """The secrets at hand for a ledger's id; by default for that of the copy."""
        return self._keyring_for(ledger or self.trusted.ledger)

    def _chain_at(self, place: TrustedHead | Checkpoint) -> Chain:
        repository = self.local.repository
        if not repository.has(place.commit):  # somebody removed our ref, and git the objects
            with self.local.incoming_ref() as ref:
                self.remote.fetch(self.local.remote_ref, ref, None)
        try:
            head = parse_commit(place.commit, repository.read(place.commit))
        except (KeyError, RuleBroken):
            raise error("bad-copy", why=f"commit {place.commit[:12]} is missing") from None
        if (head.seq, head.digest) != (place.seq, place.digest):
            raise error("bad-copy", why="the head is not the one that was verified")
        return Chain(repository.read, self._keyring_for(place.ledger), head, repository.algo)

    # -- moving forward

    def has_seen(self, head: str | None) -> bool:
        """Whether the remote's `head` is the copy's, or one that it has stopped below."""
        stopped = self.local.stopped
        return head in (self.trusted.commit, stopped.head if stopped else "")

    def refresh(self, *, moved: bool = False) -> Chain:
        """As `follow`, for what is built on the remote's head: a bad record there raises."""
        chain = self.follow(moved=moved)
        self.need_valid_remote()
        return chain

    def need_valid_remote(self) -> None:
        """Raises `Integrity`, if `follow` has stopped below a bad record."""
        if self.stop:
            raise self.stop

    def follow(self, *, moved: bool = False) -> Chain:
        """Bring the copy up to the remote's head, verifying what is new; or to the last valid
        record, and then `stop` tells of the one that follows it.

        By commits alone if that is all there is to it; else whole objects are fetched, at once
        where to ask for the head takes a connection of its own, and where it has `moved`.
        Raises `Failed` (remote-unreachable, not-a-ledger, timeout), `Integrity`.
        """
        local, stopped, self.stop = self.local, self.local.stopped, None
        known = Known(local.trusted, local.told.all())
        if news := _news(self, known, moved=moved):
            if news.head and news.commits:
                client.by_commits.bring_up(self, news.head, news.commits, known.told)
            if news.head == self.trusted.commit and not stopped:
                return self._confirmed(known)
            if news.head and stops.stop_again(self, news.head):
                return self.position()
        with local.incoming_ref() as ref:
            try:
                return self._bring_up(self.fetch(ref), known)
            except Integrity:
                local.forget_checkpoint()
                local.forget_stop()
                raise

    def _bring_up(self, head: str, known: Known) -> Chain:
        """Bring the copy up to `head`, which the remote had after the clone had `known`."""
        while True:
            trusted = self.local.trusted
            if trusted and (head == trusted.commit or _was_overtaken(self, head, known, trusted)):
                return self._confirmed(known)
            if stops.stop_again(self, head):
                return self.position()
            try:
                chain = self.advance(*self.path_to(head), known.told)
            except Integrity:
                if self.local.trusted == trusted:
                    raise
                continue  # the clone has moved: what does not continue the one head may the other
            if chain:
                return chain

    def _confirmed(self, known: Known) -> Chain:
        """The chain at the verified head, which is the remote's. Raises `Integrity`: told-lost."""
        stops.forget(self)
        need_told(self, self.trusted.seq, {}, known.told)
        self._forget_told(known.told)
        self.local.note_look(self.clock())
        return self.position()

    def _forget_told(self, places: list[tuple[int, str]]) -> None:
        """They are in the verified chain."""
        if places:
            with self.local.lock(self.git.deadline):
                self.local.told.forget(places)

    def fetch(self, into: str, depth: int | None = None) -> str:
        """Bring the remote's history here (all of it that is new, or `depth` commits), under the
        ref `into`; its head. What is kept there of the last time is not fetched again.

        Raises `Integrity`: ledger-gone; `Failed`: not-a-ledger, remote-unreachable.
        """
        local, repository = self.local, self.local.repository
        kept = repository.ref(into) if local.checkpoint or local.stopped else None
        repository.set_ref(into, kept)  # and away with the lock of a killed process
        if local.trusted is None:
            self.progress("fetching", 0, 0)
        exists = self.remote.fetch(local.remote_ref, into, depth)
        head = repository.ref(into) if exists else None
        if head is None:
            raise _absent(self)
        return head

    def path_to(self, head: str) -> tuple[Chain, CommitRange, str | None]:
        """Where to begin, and the way to `head`: from the verified head, from the checkpoint
        beyond it, or from nothing; and the verified head that it is all to be adopted over.

        Raises `Integrity`: rewritten, remote-behind, other-ledger, bad-copy.
        """
        trusted = self.local.trusted
        chain = self.position() if trusted else None
        start = chain.head.oid if chain and chain.head else None
        checkpoint = self._chain_at_checkpoint(chain)
        starts = {c.head.oid: c for c in (chain, checkpoint) if c and c.head}
        path = self.ancestors(head, {*starts, None})
        if path.below is None and chain is None:
            return _empty_chain(self, path), path, start
        if path.below not in starts:
            raise _not_continued(self, head, trusted)
        return starts[path.below], path, start

    def _chain_at_checkpoint(self, chain: Chain | None) -> Chain | None:
        """A chain at the checkpoint, if there is one beyond `chain`."""
        checkpoint = self.local.checkpoint
        if checkpoint is None or not self.local.repository.has(checkpoint.commit):
            return None
        if chain and chain.head and checkpoint.seq <= chain.head.seq:
            return None
        return self._chain_at(checkpoint)

    def ancestors(self, head: str, known: set[str | None]) -> CommitRange:
        """The commits from above one of `known` up to `head`. Raises `Integrity`: bad-copy."""

        def told(count: int) -> None:
            self.progress("reading", count, 0)

        return ancestors(self.local.repository.read, self.git, head, known, told)

    def advance(
        self, chain: Chain, path: CommitRange, start: str | None, places: list[tuple[int, str]]
    ) -> Chain | None:
        """Judge what is on the path, which begins at the chain's head, and adopt it (of one with
        a bad record what is below that) over the verified head `start`; None if the clone has
        another one by now. `places` are those that the remote has told.

        Raises `Integrity`; `Failed`: unfinished.
        """
        trusted, bad = self.local.trusted, ""
        first = trusted.first if trusted else 0
        passed, authentic = list[tuple[int, str]](), list[str]()
        told = {seq for seq, _ in places} | {vouch.seq for vouch in self.vouches.pending}
        ids, done = dict[int, str](), 0
        lots = client.judging.lots(self, chain, len(path), path.ids, path.after, self.clock())
        try:
            for lot in lots:
                done += len(lot.judged)
                bad = _first_bad(self, chain, lot, passed)
                new = [judged for judged in lot.judged if judged.oid != bad]
                ids |= {judged.seq: judged.oid for judged in new if judged.seq in told}
                if len(path) <= _REMEMBERED:
                    authentic += [one.oid for one in new if one.verdict == AUTHENTIC]
                if bad:
                    break
                if done % TOLD or done == len(path):
                    continue
                self.progress("verifying", done, len(path))
                over = self.git.deadline.over()
                if over or done % STEP == 0:
                    self._save_checkpoint(chain, passed, first, start)
                    passed.clear()
                if over:
                    seconds = f"{self.git.deadline.seconds:g}"
                    raise error("unfinished", done=done, of=len(path), seconds=seconds)
            chain = stops.below(self, chain, bad)
            if chain.head is None:
                raise self.stop or _not_a_ledger(self)
            if bad:
                places = [place for place in places if place[0] <= chain.head.seq]
            need_told(self, chain.head.seq, ids, places)
        except BaseException:
            self._chain = None  # it may have moved; the clone has not
            raise
        finally:
            lots.close()
        if not self.adopt(chain, passed, start):
            return None
        self._forget_told(places)
        stops.note(self, path.head, bad)
        self.know_as_authentic(*authentic)
        return chain

    def judge(self, chain: Chain, commits: Iterable[tuple[str, bytes]]) -> Iterator[Judged]:
        """As `judge_all`, but no record is called bad for what our own disk has done to it.

        Raises `Integrity`: bad-copy.
        """
        try:
            for judged in judge_all(chain, commits):
                if judged.broken:
                    self.local.repository.need_whole(judged.oid, judged.content)
                yield judged
        except KeyError:  # git fetches nothing without all that it needs
            why = f"objects of record {chain.next_seq} are missing"
            raise error("bad-copy", why=why) from None

    def _save_checkpoint(
        self, chain: Chain, passed: list[tuple[int, str]], first: int, start: str | None
    ) -> None:
        """Unless the clone has moved on from `start`: the index's file counts from its `first`."""
        head = chain.head
        if head is None:
            return
        with self.local.lock(self.git.deadline):
            trusted = self.local.trusted
            if (trusted.commit if trusted else None) == start:
                checkpoint = Checkpoint(head.record["ledger"], head.oid, head.seq, head.digest)
                self.local.save_checkpoint(checkpoint, passed, first)

    def adopt(
        self,
        chain: Chain,
        passed: list[tuple[int, str]],
        start: str | None,
        deadline: Deadline | None = None,
    ) -> bool:
        """The clone moves from the verified head `start` (None: it has none) to the chain's, which
        was verified (or is our own, landed); False if the clone has another head by now.

        This is why no older view ever takes the place of a newer one. `chain` has grown from
        `start`, so its head is `start` or descends from it. That the clone still stands at `start`
        is looked up on the disk in the same hold of the lock in which it is moved, and nothing else
        moves it. So each move goes from one verified head to a descendant of that very head; a
        process that was overtaken, however long it was stopped, finds another head there, and
        moves nothing. One that is killed in here has moved all or nothing: the head's file is
        replaced last, and what was written before it is believed by nobody.
        """
        head = chain.head
        if head is None:
            raise error("not-joined")
        with self.local.lock(deadline or self.git.deadline):
            trusted = self.local.trusted
            if (trusted.commit if trusted else None) != start:
                self._chain = None
                return False
            before = trusted or TrustedHead(head.record["ledger"], "", -1, "")
            self.local.adopt(before.moved_to(head), passed)
            self.local.note_look(self.clock())
        self._chain, self.in_memory_only = chain, False
        return True

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
            with self.local.lock(self.git.deadline):
                self.local.save(self.trusted._replace(sequenced=says))

    # -- joining

    def join(self, depth: int | None, pin: str | None) -> Chain:
        """First contact, or a later visit with a pin. Raises `Integrity`: pin-mismatch."""
        first = self.local.trusted is None
        chain = self._join_shallow(depth) if depth and first else self.follow()
        try:
            if pin:
                check_pin(self, pin)
        except CoordledgerError:
            if first:  # what a pin refuses is not remembered
                with self.local.lock(self.git.deadline):
                    self.local.reset()
                self._chain = None
            raise
        return chain

    def _join_shallow(self, depth: int) -> Chain:
        self.local.forget_checkpoint()
        with self.local.incoming_ref() as ref:
            oid = self.fetch(ref, depth)
        try:
            head, chain = _chain_at_edge(self.local.repository, oid, self._keyring_for)
        except (RuleBroken, LookupError, ValueError, AttributeError, RecursionError) as fault:
            raise _not_a_ledger(self) from fault
        first = TrustedHead(head.record["ledger"], oid, head.seq, head.digest, first=head.seq)
        with self.local.lock(self.git.deadline):
            joined = self.local.trusted is None
            if joined:
                self.local.adopt(first, [(head.seq, oid)])
        if not joined:  # by another process, meanwhile
            return self.refresh()
        self._chain = chain
        return chain

    # -- looking at single records

    def commit_at(self, seq: int) -> Commit | None:
        """The verified commit at `seq`, or None if this copy does not have it."""
        commit, trusted = self.local.commit_at(seq), self.local.trusted
        if commit is None and trusted and trusted.first <= seq <= trusted.seq:
            rebuild_ids(self)  # the cache was lost or damaged; the chain was not
            commit = self.local.commit_at(seq)
        return commit

    def verdict_of(self, commit: Commit) -> str:
        """The verdict on a commit of this copy, by the keys that are at hand now.

        A record that rests on the edge of a shallow copy is unverified, even if its MAC is good
        (format, section 11): its place in the history may be made up, and the state there.
        """
        first, base = self.trusted.first, commit.record["base"] or {"seq": 0}
        if first and (commit.seq <= first or base["seq"] < first):
            return UNVERIFIED
        authentic = self._remembered().authentic
        if commit.oid not in authentic:
            try:
                state = state_with_key(self, commit)
                verdict = authenticate(state, commit.signed, commit.seq, self.keyring())
            except RuleBroken as broken:
                return verdict_for(broken)
            if verdict != AUTHENTIC:
                return verdict
            authentic.add(commit.oid)
        return AUTHENTIC if self.is_rooted(commit) else UNVERIFIED

    def is_rooted(self, commit: Commit) -> bool:
        """Whether it was checked here whose key has signed an authentic record (`roots`)."""
        state_for = functools.partial(state_with_key, self)
        return self._remembered().is_rooted(commit, state_for, self.commit_at)

    def know_as_authentic(self, *oids: str) -> None:
        """These commits are authentic: judged in here, or this process's own proposals."""
        self._remembered().authentic.update(oids)

    def _remembered(self) -> CheckedHere:
        """What is known to be checked, by the keys that are at hand now."""
        keyring, checked = self.keyring(), self._checked
        if keyring is not checked.keyring or len(checked.authentic) > _REMEMBERED:
            self._checked = CheckedHere(keyring)
        return self._checked


def _news(replica: Replica, known: Known, *, moved: bool) -> News | None:
    """Where the remote's head is, with the commits up to it if it hands them over alone; None where
    git is to fetch it at once.
    """
    local, remote = replica.local, replica.remote
    if known.head is None:
        return None
    if not (local.stopped or local.checkpoint or replica.in_memory_only):
        objects = str(local.repository.common_dir / "objects")
        return remote.news(local.remote_ref, known.head.commit, objects)
    if not moved and (remote.head_is_cheap or local.stopped):
        return News(remote.head(local.remote_ref))
    return None


def _first_bad(replica: Replica, chain: Chain, lot: Lot, passed: list[tuple[int, str]]) -> str:
    """The first commit of a lot that stops the copy (`stop` says why), or ""; those before it
    have `passed`.
    """
    for judged in lot.judged:
        replica.stop = stops.fault_of(replica, chain, judged)
        if replica.stop:
            return judged.oid
        passed.append((judged.seq, judged.oid))
    return ""


def keys_at_hand(replica: Replica) -> str:
    """A digest of the keys of the ledger whose secrets are here."""
    state, keyring = replica.position().state, replica.keyring()
    nonce = state.ledger["nonce"]
    entries = ((name, state.agent(name) or {"keys": []}) for name in state.agents())
    here = [
        f"{name}/{key['id']}\n"
        for name, entry in entries
        for key in entry["keys"]
        if keyring.find(nonce, name, key["id"], key, state.keys_above(name, key))
    ]
    return digest("sha256", "".join(here).encode("ascii")).hex()


def need_commit_at(replica: Replica, seq: int) -> Commit | None:
    """As `commit_at`, for what tells all that the copy has: no record is left out of that. None
    below the copy's oldest one, and of what a disk that takes nothing has not.

    Raises `Integrity`: bad-copy.
    """
    commit, trusted = replica.commit_at(seq), replica.trusted
    if commit is None and trusted.first <= seq <= trusted.seq and not replica.in_memory_only:
        raise error("bad-copy", why=f"record {seq} is missing")
    return commit


def rebuild_ids(replica: Replica) -> None:
    """Write the copy's seq -> commit anew, from the chain of the verified head."""
    trusted = replica.trusted
    path = replica.ancestors(trusted.commit, set())
    numbered = enumerate(path.ids(), trusted.seq + 1 - len(path))
    with contextlib.suppress(OSError):  # a cache
        here = ((seq, oid) for seq, oid in numbered if seq >= trusted.first)
        replica.local.save_index(here, trusted.first)


def _empty_chain(replica: Replica, path: CommitRange) -> Chain:
    """Before the first record of the ledger that the oldest one says it is: its keys are looked
    for under that name, which the record has to certify. What follows it may be bad.
    """
    repository, keyring = replica.local.repository, Keyring()
    with contextlib.suppress(StopIteration, KeyError, RuleBroken):
        oldest = next(path.ids())
        commit = parse_commit(oldest, repository.read(oldest))
        keyring = replica.keyring(commit.record["ledger"])
    return Chain(repository.read, keyring, None, repository.algo)


def state_with_key(replica: Replica, commit: Commit) -> State:
    """A state that has the key that signed this commit of the copy: the newest, but for a delegate
    that has left it.
    """
    state, record = replica.position().state, commit.record
    if "." not in record["agent"] or state.has_key(record["agent"], record["key"]):
        return state
    repository = replica.local.repository
    return State(Tree(repository.read, commit.tree, repository.algo))


def _was_overtaken(replica: Replica, head: str, known: Known, trusted: TrustedHead) -> bool:
    """Whether another process has brought the clone beyond `head` since the remote was asked.

    A head below what was `known` then is an older one: the remote has gone back.
    """
    if known.head and trusted.commit == known.head.commit:
        return False
    with contextlib.suppress(KeyError, RuleBroken):
        commit = parse_commit(head, replica.local.repository.read(head))
        adopted = replica.commit_at(commit.seq)
        least = known.head.seq if known.head else 0
        return bool(adopted and adopted.oid == head and commit.seq >= least)
    return False


def _chain_at_edge(
    repository: Repository, oid: str, keyring_for: Callable[[str | None], Keyring]
) -> tuple[Commit, Chain]:
    """The head of a shallow copy and the chain there, which is what the head says of itself.

    Raises `RuleBroken` and others: it is no ledger's.
    """
    head = parse_commit(oid, repository.read(oid))
    chain = Chain(repository.read, keyring_for(head.record["ledger"]), head, repository.algo)
    if chain.state.ledger.get("ledger") != head.record["ledger"]:
        raise RuleBroken("bad-commit", why="its state is another ledger's")
    if wrong := policy_problem(chain.state.ledger.get("policy"), whole=True):
        raise RuleBroken("bad-record", field="policy", why=wrong)
    base = head.record["base"] or {"seq": -1}
    if not 0 <= head.seq - 1 - base["seq"] <= MAX_BASE_DISTANCE:
        raise RuleBroken("bad-base", why="it does not fit the record's seq")
    return head, chain


def _absent(replica: Replica) -> CoordledgerError:
    """The remote has no such ref. One that lists nothing at all may be no git server."""
    replica.remote.need_listing()
    trusted = replica.local.trusted
    if trusted is None:
        names = sorted(replica.remote.listing(LEDGERS))
        if replica.local.remote_ref == replica.local.ref and replica.local.name in names:
            why = "it lists the ledger, and does not hand it over: a shallow repository does so"
            raise error("remote-unreachable", remote=replica.remote.shown, why=why)
        return _not_a_ledger(replica, f"; it has {', '.join(names)}" if names else "")
    remotes = " ".join(replica.remote.address.others)
    others = f"; the other remotes here: {remotes}" if remotes else ""
    facts = {"remote": replica.remote.shown, "name": _name(replica), "head": _shown(trusted)}
    return error("ledger-gone", others=others, **facts)


def _not_a_ledger(replica: Replica, others: str = "") -> CoordledgerError:
    return error("not-a-ledger", remote=replica.remote.shown, name=_name(replica), others=others)


def _name(replica: Replica) -> str:
    """What the ledger is called on the remote, for people."""
    local = replica.local
    return local.name if local.remote_ref == local.ref else local.remote_ref


def _not_continued(replica: Replica, head: str, trusted: TrustedHead | None) -> CoordledgerError:
    """Another ledger altogether, an older copy of ours, or another history of it."""
    if trusted is None:
        return _not_a_ledger(replica)
    try:
        commit = parse_commit(head, replica.local.repository.read(head))
    except (KeyError, RuleBroken):
        commit = None
    remote = replica.remote.shown
    if commit and commit.record["ledger"] != trusted.ledger:
        theirs = commit.record["ledger"]
        return error("other-ledger", ours=trusted.ledger, theirs=theirs, remote=remote)
    if commit and _is_older(replica, commit, trusted):
        behind = error("remote-behind", remote=remote, seq=commit.seq, head=_shown(trusted))
        chain = replica.position()
        if chain.head and stops.is_from_future(replica, chain, chain.head):
            # This clock was wrong, too. A remote that has cut the record off is no old replica.
            dated = f"record {trusted.seq} of this copy is dated {chain.head.record['at']}"
            behind.hint = f"{dated}: if its owner has cut it off: {reset_command(replica)}"
        return behind
    return error("rewritten", head=_shown(trusted), command=reset_command(replica))


def _shown(trusted: TrustedHead) -> str:
    return f"{trusted.seq}:{trusted.digest[:16]}"


def _is_older(replica: Replica, commit: Commit, trusted: TrustedHead) -> bool:
    """Whether it is one of the records of the copy, or may be one below its edge."""
    if commit.seq < trusted.first:
        return True
    known = replica.commit_at(commit.seq)
    return known is not None and known.oid == commit.oid
