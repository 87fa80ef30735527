"""Follow the remote by its commits alone: their trees are rendered here.

Rules of this file:
- A tree is a function of the records: whoever judges a chain renders each of its trees, and the
  commit's id says whether it is the one that the signer made. So a copy with a verified head
  needs nothing of the remote but the commits above it, which cost the server less than half of
  what whole objects do as long as they are loose.
- Only what is plain comes out of here: a straight line of valid records from the verified head to
  the remote's, none from the future. Whatever else the remote has, says or sends, nothing is
  written, and the caller has git fetch it whole, and judges that. So every refusal, and every
  word about it, comes from the one walk over whole objects.
- Nothing is written before it is judged, PORTION records at a time; then commits, trees and files
  are, in one go, before the copy names them. So the clone has no commit without its tree, and no
  ref that leads to one; a process that dies in here leaves objects that no ref leads to, if any.
- No first contact, and none of a copy that has a checkpoint or a stop beyond its head, or whose
  head is not on the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger import files
from coordledger.client import stops
from coordledger.client.promised import need_told
from coordledger.errors import Integrity
from coordledger.format.chain import AUTHENTIC, judge_all
from coordledger.git.history import raw_parent
from coordledger.values import Value

if TYPE_CHECKING:
    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain
    from coordledger.git.tree import Objects, Tree

PORTION = 1000  # records that are judged before they are written, and the copy moves over them
MOST_RENDERED = 67_108_864  # bytes: they are held in memory until they are written
TOLD = 100  # records between two words about how far it has come


def bring_up(
    replica: Replica, head: str, commits: dict[str, bytes], places: list[tuple[int, str]]
) -> None:
    """Bring the copy up to `head` by the `commits` above the verified one, as far as all of it is
    plain, and has the `places` that the remote has told.
    """
    verified = replica.position().head
    above = _above(verified.oid if verified else None, head, commits)
    if len(above) > PORTION and (places or replica.vouches.pending):
        return  # these are compared before anything is adopted
    for at in range(0, len(above), PORTION):
        if not _adopted(replica, above[at : at + PORTION], places):
            return


def _adopted(
    replica: Replica, above: list[tuple[str, bytes]], places: list[tuple[int, str]]
) -> bool:
    """Whether the copy has moved over these commits."""
    repository, new = replica.local.repository, _Rendered()
    with repository.holding(new.objects):
        line = _judged(replica, above, new)
        if line is None or not _has_promised(replica, line, places):
            return False
        try:
            kept = repository.write_until_named(new.objects, new.like)
        except OSError:  # git says it
            return False
    try:
        if not replica.adopt(line.chain, line.passed, line.start):
            return False
        replica.know_as_authentic(*line.authentic)
    finally:
        if kept:
            files.remove(kept)
    return True


class _Line(Value):
    """Records that are valid, above the verified head `start`: the `chain` at the last one, their
    places (seq, id), and the ids of those that are authentic.
    """

    start: str | None
    chain: Chain
    passed: list[tuple[int, str]]
    authentic: list[str]


class _Rendered:
    """All that is new with some records: objects, their `size`, and which of them differ little
    from which: each from what stood in its place before.
    """

    def __init__(self) -> None:
        self.objects: Objects = {}
        self.like: dict[str, str] = {}
        self.size = 0
        self._newest: dict[str, str] = {}  # path -> id

    def add(self, tree: Tree, oid: str, commit: bytes) -> None:
        """The commit `oid`, and what is new in its tree."""
        for path, new in tree.ids.items():
            old = self._newest.get(path)
            if old and new not in self.objects:
                self.like[new] = old
        self._newest |= tree.ids
        objects = tree.objects | {oid: ("commit", commit)}
        self.size += sum(len(content) for _, content in objects.values())
        self.objects |= objects


def _judged(replica: Replica, above: list[tuple[str, bytes]], rendered: _Rendered) -> _Line | None:
    """The commits `above` the verified head, if they are plain; what is new with them is
    `rendered`, and the repository is holding it.
    """
    chain = replica.position().copy()
    line = _Line(chain.head.oid if chain.head else None, chain, [], [])
    try:
        for one in judge_all(chain, above):
            if stops.fault_of(replica, chain, one):
                return None
            rendered.add(chain.state.tree, one.oid, one.content)
            line.passed.append((one.seq, one.oid))
            if one.verdict == AUTHENTIC:
                line.authentic.append(one.oid)
            if rendered.size > MOST_RENDERED or replica.git.deadline.over():
                return None
            done = len(line.passed)
            if done % TOLD == 0 and done != len(above):
                replica.progress("verifying", done, len(above))
    except (KeyError, Integrity):  # something of the copy is missing, or damaged
        return None
    return line


def _has_promised(replica: Replica, line: _Line, places: list[tuple[int, str]]) -> bool:
    head = line.chain.head
    try:
        need_told(replica, head.seq if head else 0, dict(line.passed), places)
    except Integrity:
        return False
    return True


def _above(start: str | None, head: str, commits: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """The way from `start` up to `head`; none if the commits do not lead there."""
    way: list[tuple[str, bytes]] = []
    oid: str | None = head
    while oid != start:
        content = commits.get(oid) if oid else None
        if content is None or len(way) > len(commits):
            return []
        way.append((oid or "", content))
        oid = raw_parent(content)
    return way[::-1]
