"""Land a run of placed records with one push, through a verified copy.

Rules: what has landed is told as the remote told it. The copy moves forward with what
stands in the places that were planned for it; where a server or a neighbour has put a
record further up, the copy stays behind, and catches up when it has to.

To a server that sequences, records go in envelopes: commits with an empty tree, the first
without a parent. On a head that the server has left behind they would bring five objects
each that nobody will ever need; and git, which does not know the server's new head, would
send the whole history along.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import CoordledgerError
from coordledger.format.commit import envelope
from coordledger.format.names import FOR
from coordledger.git.remote import LOST, REFUSED, UNKNOWN, WON, PushPayload
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain, Proposal
    from coordledger.format.commit import Commit
    from coordledger.format.state import State
    from coordledger.git.remote import Push
    from coordledger.git.tree import Objects

    Send = Callable[
        [Replica, Chain, list[Proposal], Callable[[], None]], tuple[Push, "list[Published]"]
    ]

MOST_RECORDS, MOST_BYTES = 1024, 16_777_216  # that go with one push


class Published(NamedTuple):
    """A record that the remote has. `here` and `state` are the record in the place that it
    has in this copy, and the state after it; `seq` and `oid` where it stands in the chain.
    """

    here: Commit
    state: State
    seq: int
    oid: str


def as_planned(tip: Chain, run: list[Proposal]) -> list[Published]:
    """`run` in the places that it was rendered for; `tip` stands on the last one."""
    return [Published(p.commit, tip.state, p.commit.seq, p.commit.oid) for p in run]


def send(
    replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None] = lambda: None
) -> tuple[Push, list[Published]]:
    """Push `run`, which `tip` (a fork of the replica's position) has advanced over.

    All of it lands, or nothing; the landings if it did. `ready()` is called before the bytes of
    it leave this process. What that raises, and an OSError of our own disk, is raised before
    anything is sent, and never afterwards.
    """
    local, repository = replica.local, replica.local.repository
    objects = {oid: made for proposal in run for oid, made in proposal.objects.items()}
    before = replica.trusted
    sequenced = before.sequenced
    old, new = run[0].commit.parent, run[-1].commit.oid  # the copy may have moved meanwhile
    ref, sent, envelopes = local.remote_ref, objects, list[str]()
    if sequenced:
        ref, old = FOR + local.name, None
        sent, envelopes = _enveloped(run, repository.algo)
        new = envelopes[-1]
    pack = functools.cache(lambda: repository.pack(sent))
    stored = False

    def keep() -> None:
        nonlocal stored
        repository.write(sent, pack)
        stored = not sequenced  # envelopes are no part of the copy

    def meanwhile() -> None:
        if not sequenced:  # else it may land elsewhere
            with contextlib.suppress(Exception):
                keep()

    push = replica.remote.push(ref, old, new, PushPayload(pack, ready, keep, meanwhile))
    if sequenced:
        push = _opened(push, dict(zip(envelopes, run, strict=True)))
    if sequenced and push.code == "not-sequenced":  # it did once
        _note_sequenced(replica, says=False)
        return push._replace(outcome=LOST), []
    unsaid = push.outcome == REFUSED and not push.code
    if sequenced and (unsaid or (push.outcome == WON and not push.landed)):
        # Only the hook's own word is certain; the next attempt goes to the ledger's ref.
        _note_sequenced(replica, says=False)
        return push._replace(outcome=UNKNOWN, why=push.why or "it says nothing"), []
    if push.sequenced and not sequenced:
        _note_sequenced(replica, says=True)
    if push.outcome != WON:
        return push, []
    landings = moved(as_planned(tip, run), push)
    if landings is None:
        return push._replace(outcome=UNKNOWN, why="it does not say where"), []
    if all(landing.oid == landing.here.oid for landing in landings):
        adopted = False
        with contextlib.suppress(Exception):  # it has landed, whatever our own disk says
            if not replica.in_memory_only:
                if not stored:
                    repository.write(objects)
                replica.adopt(tip, [(proposal.commit.seq, proposal.commit.oid) for proposal in run])
                adopted = True
        if not adopted:
            replica.adopt_in_memory(tip, before)
    return push, landings


def _enveloped(run: list[Proposal], algo: str) -> tuple[Objects, list[str]]:
    """The objects to send, and the id of each record's envelope."""
    tree = object_id("tree", b"", algo)
    objects: Objects = {tree: ("tree", b"")}
    oids: list[str] = []
    for proposal in run:
        content = envelope(proposal.content, oids[-1] if oids else None, tree)
        oids.append(object_id("commit", content, algo))
        objects[oids[-1]] = ("commit", content)
    return objects, oids


def _opened(push: Push, envelopes: dict[str, Proposal]) -> Push:
    """The answer, with the ids that the records have here in place of their envelopes'."""
    names = {oid: proposal.commit.oid for oid, proposal in envelopes.items()}
    landed = push.landed and {names.get(oid, oid): at for oid, at in push.landed.items()}
    meant = (name for oid, name in names.items() if push.blamed and oid.startswith(push.blamed))
    return push._replace(landed=landed, blamed=next(meant, ""))


def _note_sequenced(replica: Replica, *, says: bool) -> None:
    with contextlib.suppress(OSError, CoordledgerError):  # it has landed or not, all the same
        replica.note_sequenced(says=says)


def moved(landings: list[Published], push: Push) -> list[Published] | None:
    """`landings` where the server says that they are; None if it leaves one out."""
    if push.landed is None:
        return landings
    places = [push.landed.get(landing.oid) for landing in landings]
    if None in places:
        return None
    return [
        landing._replace(seq=place[0], oid=place[1])
        for landing, place in zip(landings, places, strict=True)
        if place
    ]
