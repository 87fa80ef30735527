"""Follow a chain: the one verification behind hook, client and auditor.

Rules of this file (docs/format.md, section 9):
- `Chain.propose` holds every rule but the MAC and renders the commit; writing a record
  and judging somebody's commit both go through it, so they cannot drift apart.
- `Chain.check` = the MAC, and `propose`; `Chain.judge` = parse, check, compare the bytes;
  then the chain stands on that commit. They raise at the first broken rule, and the chain
  has then not moved.
- `judge_all` reports on many commits what `judge` raises on one.
- Objects are read through a function that is passed in; nothing is written, no clock
  is read. Who may look at which chain when, and what a server adds, is decided above.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import records, signing, timestamps
from coordledger.format.commit import parse_commit, recall_commit, render_commit, successor
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
    """AUTHENTIC or UNVERIFIED (no secret at hand) for the record at `seq`.

    `state` is the parent's, or any later one: entries of keys are never removed.
    Raises `RuleBroken`: unknown-key, bad-signature.
    """
    r = signed.record
    if r["kind"] == "genesis":  # it brings its own key
        nonce, fingerprint = r["nonce"], r["fingerprint"]
    else:
        nonce = state.ledger["nonce"]
        fingerprint = state.key(r["agent"], r["key"], seq)["fingerprint"]
    secret = keyring.find(nonce, r["agent"], r["key"], fingerprint)
    if secret is None:
        return UNVERIFIED
    if not secret.verifies(signed.payload, signed.tag):
        raise RuleBroken("bad-signature", agent=r["agent"], key=r["key"])
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
    """A record in its place: the commit, the content of the commit, all new objects."""

    __slots__ = ("commit", "complete", "content", "objects", "tree")

    def __init__(self, commit: Commit, content: bytes, tree: Tree, complete: bool) -> None:
        """`complete` is False if the base lies below the edge of a shallow copy."""
        self.commit, self.content, self.tree, self.complete = commit, content, tree, complete
        self.objects: Objects = tree.objects | {commit.oid: ("commit", content)}


class Chain:
    """One position in a chain: a head that the caller trusts, and the state there."""

    def __init__(self, read: Read, keyring: Keyring, head: Commit | None, algo: str) -> None:
        """Without a head the chain is empty. `algo` is the repository's object format."""
        self._read, self._keyring, self._algo = read, keyring, algo
        self._recent: list[Commit] = []  # a run of commits that ends at the head
        self.head: Commit | None = None
        self.state = State(Tree(read, head.tree if head else None, algo))
        if head is not None:
            self._stand_on(head, self.state.tree)

    def copy(self, keyring: Keyring | None = None) -> Chain:
        """Another chain at the same head, to try something out on: this one stays."""
        made = Chain(self._read, keyring or self._keyring, None, self._algo)
        made.head, made.state = self.head, State(self.state.tree.copy())
        made._recent = list(self._recent)
        return made

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
        r = signed.record
        self._check_belongs(r)
        complete = True
        if self.head is None:
            alg, seq = r["alg"], 0
        else:
            seq = self.head.seq + 1
            alg = self.state.key(r["agent"], r["key"], seq)["alg"]
            self._check_time(r, self.head)
            complete = self._check_base(r, self.head)
        tree = self.state.tree.update(records.apply(self.state, r, seq))
        content = render_commit(self.head, tree.root, signed, alg)
        oid = object_id("commit", content, self._algo)
        made = successor(oid, self.head, tree.root, signed)
        return Proposal(made, content, tree, complete)

    def check(self, signed: Signed) -> tuple[str, Proposal]:
        """The verdict on `signed` as the next record, and its place. The chain does not move.

        AUTHENTIC or UNVERIFIED; raises `RuleBroken`.
        """
        self._check_belongs(signed.record)
        verdict = authenticate(self.state, signed, self.next_seq, self._keyring)
        proposal = self.propose(signed)
        return verdict if proposal.complete else UNVERIFIED, proposal

    def judge(self, oid: str, content: bytes, parsed: Commit | None = None) -> str:
        """Verify the commit `oid` as the next one and step onto it; its verdict.

        `parsed` is what `commit.parse` makes of it, if the caller has that already.
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

    def _check_belongs(self, r: Record) -> None:
        """Rule 1's second half, and what a genesis record has to certify itself."""
        if self.head is not None:
            if r["kind"] == "genesis":
                raise RuleBroken("bad-genesis", why="the ledger has one already")
            ledger = self.state.ledger["ledger"]
            if r["ledger"] != ledger:
                raise RuleBroken("wrong-ledger", got=r["ledger"], expected=ledger)
        elif r["kind"] != "genesis":
            raise RuleBroken("bad-genesis", why="the first record is none")
        elif r["ledger"] != signing.ledger_id(r):
            raise RuleBroken("bad-genesis", why="the ledger's id does not certify it")
        elif r["key"] != 1:
            raise RuleBroken("bad-genesis", why="its key is not number 1")

    def _check_time(self, r: Record, parent: Commit) -> None:
        behind = 1000 * parent.committed - timestamps.parse(r["at"])
        if behind > 2 * self.state.skew:
            raise RuleBroken("time-backwards", behind=timestamps.span(behind))

    def _check_base(self, r: Record, parent: Commit) -> bool:
        """Rules 3 and 4. False if a shallow copy does not reach down to the base."""
        base = r["base"]
        distance = parent.seq - base["seq"]
        if distance < 0:
            raise RuleBroken("bad-base", why="it is newer than the parent")
        if distance > MAX_BASE_DISTANCE:
            raise RuleBroken("bad-base", why=f"more than {MAX_BASE_DISTANCE} records ago")
        if self.find(r["agent"], r["op"], base["seq"]):
            raise RuleBroken("replayed", agent=r["agent"], op=r["op"])
        lowest = self._recent[0].seq
        if lowest > base["seq"]:
            return False
        if self._recent[base["seq"] - lowest].digest != base["digest"]:
            raise RuleBroken("bad-base", why="another digest stands at that seq")
        return True

    def find(self, agent: str, op: str, above: int) -> Commit | None:
        """The record with this agent and op, of those with a seq above `above`."""
        self._reach(above)
        first = max(0, above + 1 - self._recent[0].seq)
        return next(
            (
                c
                for c in self._recent[first:]
                if c.record["op"] == op and c.record["agent"] == agent
            ),
            None,
        )

    def at(self, seq: int) -> Commit | None:
        """The commit at `seq`, up to the head and as far down as a base may lie."""
        if self.head is None or not 0 <= self.head.seq - seq <= MAX_BASE_DISTANCE:
            return None
        self._reach(seq)
        place = seq - self._recent[0].seq
        return self._recent[place] if place >= 0 else None

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
    wanted, found = expected.split(b"\n"), got.split(b"\n")
    names = ["tree", "parent", "author", "committer", "", "subject"]
    if expected.startswith(b"tree ") and b"\nparent " not in expected:
        names.remove("parent")
    for at, (a, b) in enumerate(zip(wanted, found, strict=False)):
        if a != b:
            name = names[at] if at < len(names) else ""
            return f"the {name} line differs" if name else f"line {at + 1} differs"
    return "it is longer or shorter"
