"""What is pushed to refs/for/coordledger/*, judged before git lets it in.

Rules of this file:
- What proc-receive would refuse is refused here, while its objects are in git's quarantine: nothing
  of it stays on the disk. `sequencer.land` decides about the records as it will under the lock,
  on a chain that nobody keeps; nothing is written.
- A push whose records have all landed before is told their places, and goes no further: git would
  tell the next hooks, and everybody who listens to them, of a move to an older record.
- Nothing comes with the records that they do not need: their commits and the empty tree, or
  what the records make on the commits that they were pushed on. Padding does not, either.

It is imported by `pre_receive` for such a push alone.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.git import quarantine
from coordledger.git.tree import object_id
from coordledger.hashes import algorithm
from coordledger.server.admission import MAX_RECORDS
from coordledger.server.sequencer import Rendered, begin_turn, land, read_push, vouched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.answers import Answer
    from coordledger.format.commit import Commit
    from coordledger.git.loose import Reader
    from coordledger.git.tree import Objects
    from coordledger.server.admission import AdmissionContext

MAX_OBJECTS = 16 * MAX_RECORDS  # in one push
SPARE_BYTES, SPARE_FOR_EACH = 65_536, 1024  # a pack's index, headers, blocks on the disk


class Arrival:
    """The records that one push brings to the ledger whose newest commit is `head`.

    `answers` are what stops the push: why they would not land, or where all of them have.
    """

    def __init__(self, head: Commit, new: str, context: AdmissionContext) -> None:
        """Raises `RuleBroken`."""
        self._objects, self._rendered = context.objects, Rendered()
        self._algo, self._context = algorithm(head.oid), context
        chain = Chain(self._read, context.keyring, head, self._algo)
        self._push = read_push(new, chain, context.objects)
        landed, [outcome] = land([self._push], chain, context, self._rendered, begin_turn())
        if outcome is None or landed.head is None:
            raise AssertionError("the first push of a turn has an outcome, and a ledger a head")
        vouched([outcome], head, context.now)
        is_new = landed.head.oid != head.oid
        self.answers: list[Answer] = [] if is_new else outcome.answers

    def _read(self, oid: str) -> bytes:
        made = self._rendered.find(oid)
        return made[1] if made else self._objects.read(oid)

    def needs(self, brought: set[str]) -> tuple[set[str], int]:
        """The ids of `brought` that the records need, and how many bytes these may have.

        Raises `RuleBroken`: too-much.
        """
        empty = object_id("tree", b"", self._algo)
        needed, size = {*self._push.oids, empty}, self._push.size
        if not brought <= needed and self._push.below:
            objects = self._as_pushed(self._push.below)
            needed |= objects.keys()
            size += sum(len(content) for _, content in objects.values())
        return brought & needed, size

    def _as_pushed(self, below: str) -> Objects:
        """What the records make on the commit that they were pushed on: it may be another, and
        far more, than what they make on the head.
        """
        objects: Objects = {}
        self._context.rendered = 0

        def read(oid: str) -> bytes:
            return objects[oid][1] if oid in objects else self._objects.read(oid)

        chain = Chain(read, self._context.keyring, parse_commit(below, read(below)), self._algo)
        for signed in self._push.signed:
            try:
                proposal = chain.propose(signed)
            except RuleBroken:
                break  # on a ledger that has gone on it may be allowed; its objects are not
            self._context.spend(proposal.size)
            objects |= proposal.objects
            chain.advance(proposal)
        return objects


def check_brought(arrivals: list[Arrival], objects: Reader) -> None:
    """Refuse a push to refs/for/coordledger/* alone that brings what its records do not need.

    What was there before may come again: git fills a pack up with what its deltas stand on.
    Raises `RuleBroken`: unneeded.
    """
    if not objects.quarantine:
        return
    brought, size = quarantine.contents(objects.quarantine, MAX_OBJECTS)
    allowed = SPARE_BYTES + SPARE_FOR_EACH * len(brought)
    odd = brought
    for arrival in arrivals:
        needed, needs = arrival.needs(brought)
        odd = odd - needed
        allowed += 2 * needs
    if size > allowed:
        raise RuleBroken("unneeded", what=f"{size} bytes, where {allowed} would do")
    if odd:
        with objects.before_push() as before:
            for oid in sorted(odd):
                if not (before.has_loose(oid) or before.find_by_git(oid)):
                    raise RuleBroken("unneeded", what=f"object {oid[:12]}")
