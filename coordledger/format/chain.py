"""Follow a chain: the one verification behind hook, client and auditor.

Rules (docs/format.md, sections 9 and 11):
- `Chain._place` holds every rule but the MAC, and renders the commit. `propose`, for a record
  that is to be written, and `check`, for one that somebody has written, both go through it, so they
  cannot drift apart. `check` compares the MAC before.
- `Chain.judge` = parse, check, compare the bytes; then the chain stands on that commit. It raises
  at the first broken rule, and the chain has then not moved.
- `judge_all` reports on many commits what `judge` raises on one.
- Objects are read through a function that is passed in; nothing is written, no clock
  is read. Which chain is looked at when, and what a server adds, is not decided here.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import records, signing, timestamps
from coordledger.format.commit import parse_commit, recall_commit, render_commit, successor
from coordledger.format.rules.kind import need_ssh
from coordledger.format.signing import TAG_BYTES
from coordledger.format.state import State
from coordledger.git.tree import Tree, object_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.signing import Keyring, Signed
    from coordledger.git.tree import Objects, Read

AUTHENTIC, UNVERIFIED = "authentic", "unverified"
UNKNOWN_KEY, INVALID = "unknown-key", "invalid"

MAX_BASE_DISTANCE = 1024


def authenticate(state: State, signed: Signed, seq: int, keyring: Keyring) -> str:
    """AUTHENTIC or UNVERIFIED (the key is a secret, not at hand) for the record at `seq`.

    `state` is the parent's, or a later one in which the agent has the key: entries of keys are
    never removed, but with a delegate's file.
    Raises `RuleBroken`: unknown-key, bad-signature.
    """
    record = signed.record
    agent, key = record["agent"], record["key"]
    if record["kind"] == "genesis":  # it brings its own key
        nonce, entry, above = record["nonce"], record, []
    else:
        nonce, entry = state.ledger["nonce"], state.key(agent, key, seq)
        above = state.keys_above(agent, entry)
    if len(signed.tag) != TAG_BYTES[entry["alg"]]:  # a reader without the secret sees that much
        raise RuleBroken("bad-signature", agent=agent, key=key)
    verifying = keyring.find(nonce, agent, key, entry, above)
    if verifying is None:
        return UNVERIFIED
    if not verifying.verifies(signed.payload, signed.tag):
        raise RuleBroken("bad-signature", agent=agent, key=key)
    return AUTHENTIC


def verdict_for(broken: RuleBroken) -> str:
    """The verdict (section 11) on a record that breaks this rule: UNKNOWN_KEY or INVALID."""
    return UNKNOWN_KEY if broken.code == "unknown-key" else INVALID


class Judged:
    """The verdict on one commit, in its place in a chain."""

    __slots__ = ("broken", "content", "oid", "seq", "verdict")

    def __init__(
        self, oid: str, content: bytes, seq: int, verdict: str, broken: RuleBroken | None = None
    ) -> None:
        """`seq` is that of its place, whatever it says itself; `broken`: the rule that it
        breaks, if it is UNKNOWN_KEY or INVALID.
        """
        self.oid, self.content, self.seq = oid, content, seq
        self.verdict, self.broken = verdict, broken


def judge_all(chain: Chain, commits: Iterable[tuple[str, bytes]]) -> Iterator[Judged]:
    """Verify `commits` (id and content, oldest first) as those that continue `chain`.

    When a verdict comes out the chain stands on that commit; a commit that breaks a rule is
    the last one, and the chain stands below it. Raises `KeyError`: an object is missing, so
    that no verdict is possible; and what reading `commits` raises.
    """
    for oid, content in commits:
        seq = chain.next_seq
        try:
            judged = Judged(oid, content, seq, chain.judge(oid, content))
        except RuleBroken as broken:
            judged = Judged(oid, content, seq, verdict_for(broken), broken)
        except ValueError:  # the tree that it builds on, or a line there, has no such form
            why = RuleBroken("bad-commit", why="its state is not one of a ledger")
            judged = Judged(oid, content, seq, INVALID, why)
        yield judged
        if judged.broken:
            return


class Proposal:
    """A signed record in its place, on one head: what would be written to put it there.

    `commit` and its bytes `content`; `tree`, the state after it; `objects`, everything that is
    new (id -> kind, content). It becomes a record of the chain where somebody writes the objects
    and moves the ref, and void where the ref has moved before.
    """

    __slots__ = ("commit", "complete", "content", "objects", "tree")

    def __init__(self, commit: Commit, content: bytes, tree: Tree, complete: bool) -> None:
        """`complete` is False if the base lies below the edge of a shallow copy."""
        self.commit, self.content, self.tree, self.complete = commit, content, tree, complete
        self.objects: Objects = tree.objects | {commit.oid: ("commit", content)}

    @property
    def size(self) -> int:
        """The bytes of what is new: files, trees and the commit, as they are, not compressed."""
        return sum(len(content) for _, content in self.objects.values())


class Chain:
    """One position in a chain: a head that the caller trusts, and the state there."""

    def __init__(self, read: Read, keyring: Keyring, head: Commit | None, algo: str) -> None:
        """Without a head the chain is empty. `algo` is the repository's object format."""
        self._read, self._keyring, self._algo = read, keyring, algo
        self._recent: list[Commit] = []  # a run of commits that ends at the head
        self.rendered = 0  # bytes, for the record that it has stepped onto last
        self.head: Commit | None = None
        self.state = State(Tree(read, head.tree if head else None, algo))
        if head is not None:
            self._stand_on(head, self.state.tree)

    def copy(self, keyring: Keyring | None = None) -> Chain:
        """Another chain at the same head, to try something out on: this one stays."""
        other = Chain(self._read, keyring or self._keyring, None, self._algo)
        other.stand_where(self)
        return other

    @property
    def keyring(self) -> Keyring:
        """What it judges with."""
        return self._keyring

    def use(self, keyring: Keyring) -> None:
        """Judge what comes next with these keys."""
        self._keyring = keyring

    def stand_where(self, other: Chain) -> None:
        """Stand where another chain over the same objects does."""
        self.head, self.state = other.head, State(other.state.tree.copy())
        self._recent = list(other._recent)

    def stand_at(self, head: Commit) -> None:
        """Stand at a commit that the caller has had judged elsewhere, from this chain on."""
        self._recent = []
        self._stand_on(head, Tree(self._read, head.tree, self._algo))

    @property
    def next_seq(self) -> int:
        """The seq of the record that comes next."""
        return self.head.seq + 1 if self.head else 0

    def _stand_on(self, head: Commit, tree: Tree) -> None:
        self.head, self.state = head, State(tree)
        self._recent.append(head)
        if len(self._recent) > 2 * MAX_BASE_DISTANCE:
            del self._recent[: -MAX_BASE_DISTANCE - 1]

    def propose(self, signed: Signed) -> Proposal:
        """`signed` on this head: every rule but the MAC. The chain does not move.

        Raises `RuleBroken`.
        """
        self._check_belongs(signed.record)
        return self._place(signed)

    def check(self, signed: Signed) -> tuple[str, Proposal]:
        """The verdict on `signed` as the next record, and its place. The chain does not move.

        AUTHENTIC or UNVERIFIED; raises `RuleBroken`.
        """
        self._check_belongs(signed.record)
        verdict = authenticate(self.state, signed, self.next_seq, self._keyring)
        proposal = self._place(signed)
        return verdict if proposal.complete else UNVERIFIED, proposal

    def _place(self, signed: Signed) -> Proposal:
        record, seq, complete = signed.record, self.next_seq, True
        if self.head is None:
            alg = record["alg"]
        else:
            agent, key = record["agent"], record["key"]
            alg = self.state.key(agent, key, seq)["alg"]
            if self.state.requires_ssh:
                need_ssh(agent, key, alg)
            self._check_time(record, self.head)
            complete = self._check_base(record, self.head)
        tree = self.state.tree.update(records.apply(self.state, record, seq))
        commit = successor(self.head, tree.root, signed)
        content = render_commit(commit, alg)
        commit.oid = object_id("commit", content, self._algo)
        return Proposal(commit, content, tree, complete)

    def judge(self, oid: str, content: bytes, parsed: Commit | None = None) -> str:
        """Verify the commit `oid` as the next one and step onto it; its verdict.

        `parsed` is what `parse_commit` makes of it, if the caller has that already.
        AUTHENTIC or UNVERIFIED; raises `RuleBroken`.
        """
        parsed = parsed or parse_commit(oid, content)
        verdict, proposal = self.check(parsed.signed)
        if proposal.content != content:
            raise RuleBroken("bad-commit", why=_difference(proposal.content, content))
        if proposal.commit.oid != oid:
            raise RuleBroken("bad-commit", why="its bytes are not those of its id")
        self.advance(proposal)
        return verdict

    def advance(self, proposal: Proposal) -> None:
        """Step onto what `propose` gave."""
        self.rendered = proposal.size
        proposal.tree.stand()
        self._stand_on(proposal.commit, proposal.tree)

    def follow(self, head: Commit) -> bool:
        """Step onto a later head that the caller trusts; False if it is not within reach."""
        newer, below = [], head
        while self.head is None or below.oid != self.head.oid:
            newer.append(below)
            if below.parent is None or len(newer) > MAX_BASE_DISTANCE:
                return False
            try:
                below = recall_commit(below.parent, self._read(below.parent))
            except KeyError:
                return False
        self._recent += newer[:0:-1]
        if newer:
            self._stand_on(head, Tree(self._read, head.tree, self._algo))
        return True

    # -- the rules that look at the chain rather than at the state

    def _check_belongs(self, record: Record) -> None:
        """Rule 1's second half, and what a genesis record has to certify itself."""
        if self.head is None:
            self._check_first(record)
        elif record["kind"] == "genesis":
            raise RuleBroken("bad-genesis", why="the ledger has one already")
        elif record["ledger"] != self.state.ledger["ledger"]:
            expected = self.state.ledger["ledger"]
            raise RuleBroken("wrong-ledger", got=record["ledger"], expected=expected)

    def _check_first(self, record: Record) -> None:
        if record["kind"] != "genesis":
            raise RuleBroken("bad-genesis", why="the first record is none")
        if record["ledger"] != signing.ledger_id(record):
            raise RuleBroken("bad-genesis", why="the ledger's id does not certify it")
        if record["key"] != 1:
            raise RuleBroken("bad-genesis", why="its key is not number 1")

    def _check_time(self, record: Record, parent: Commit) -> None:
        """Rule 5."""
        behind = 1000 * parent.committed - timestamps.parse(record["at"])
        if behind > 2 * self.state.skew:
            at = timestamps.show(1000 * parent.committed)
            facts = {"seq": parent.seq, "agent": parent.record["agent"], "at": at}
            raise RuleBroken("time-backwards", behind=timestamps.span(behind), **facts)

    def _check_base(self, record: Record, parent: Commit) -> bool:
        """Rules 3 and 4. False if a shallow copy does not reach down to the base."""
        base, agent, op = record["base"], record["agent"], record["op"]
        distance = parent.seq - base["seq"]
        if distance < 0:
            raise RuleBroken("bad-base", why="it is newer than the parent")
        if distance > MAX_BASE_DISTANCE:
            raise RuleBroken("bad-base", why=f"more than {MAX_BASE_DISTANCE} records ago")
        if self.find(agent, op, base["seq"]):
            raise RuleBroken("replayed", agent=agent, op=op)
        lowest = self._recent[0].seq
        if lowest > base["seq"]:
            return False
        if self._recent[base["seq"] - lowest].digest != base["digest"]:
            raise RuleBroken("bad-base", why="another digest stands at that seq")
        return True

    # -- commits below the head

    def find(self, agent: str, op: str, above: int) -> Commit | None:
        """The record with this agent and op, of those with a seq above `above`."""
        self._reach(above)
        first = max(0, above + 1 - self._recent[0].seq)
        for commit in self._recent[first:]:
            record = commit.record
            if record["op"] == op and record["agent"] == agent:
                return commit
        return None

    def at(self, seq: int) -> Commit | None:
        """The commit at `seq`, up to the head and as far down as a base may lie."""
        if self.head is None or not 0 <= self.head.seq - seq <= MAX_BASE_DISTANCE:
            return None
        self._reach(seq)
        index = seq - self._recent[0].seq
        return self._recent[index] if index >= 0 else None

    def _reach(self, seq: int) -> None:
        """Read older commits until the one at `seq` is in `_recent`, as far as they are here."""
        older = []
        below = self._recent[0]
        while below.seq > seq and below.parent is not None:
            try:
                content = self._read(below.parent)
            except KeyError:
                break
            below = recall_commit(below.parent, content)
            older.append(below)
        self._recent[:0] = reversed(older)


def _difference(expected: bytes, got: bytes) -> str:
    """Where two commits differ first: for people, once they are known to differ."""
    names = ["tree", "parent", "author", "committer", "", "subject"]
    if b"\nparent " not in expected:
        names.remove("parent")
    pairs = zip(expected.split(b"\n"), got.split(b"\n"), strict=False)
    for index, (wanted, found) in enumerate(pairs):
        if wanted != found:
            name = names[index] if index < len(names) else ""
            return f"the {name} line differs" if name else f"line {index + 1} differs"
    return "it is longer or shorter"
