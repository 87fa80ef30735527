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
from coordledger.format import commit
from coordledger.format.records import FOR
from coordledger.git import transport
from coordledger.git.transport import Cargo
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.replica import Replica
    from coordledger.format.commit import Commit
    from coordledger.format.state import State
    from coordledger.format.verify import Chain, Placed
    from coordledger.git.transport import Push
    from coordledger.git.tree import Objects

    Send = Callable[
        [Replica, Chain, list[Placed], Callable[[], None]], tuple[Push, "list[Landing]"]
    ]

MOST_RECORDS, MOST_BYTES = 1024, 16_777_216  # that go with one push


class Landing(NamedTuple):
    """A record that the remote has. `here` and `state` are the record in the place that it
    has in this copy, and the state after it; `seq` and `oid` where it stands in the chain.
    """

    here: Commit
    state: State
    seq: int
    oid: str


def planned(tip: Chain, run: list[Placed]) -> list[Landing]:
    """`run` in the places that it was rendered for; `tip` stands on the last one."""
    return [Landing(p.commit, tip.state, p.commit.seq, p.commit.oid) for p in run]


def send(
    replica: Replica, tip: Chain, run: list[Placed], ready: Callable[[], None] = lambda: None
) -> tuple[Push, list[Landing]]:
    """Push `run`, which `tip` (a fork of the replica's position) has advanced over.

    All of it lands, or nothing; the landings if it did. `ready()` is called before the bytes of
    it leave this process. What that raises, and an OSError of our own disk, is raised before
    anything is sent, and never afterwards.
    """
    clone, store = replica.clone, replica.clone.store
    objects = {oid: made for placed in run for oid, made in placed.objects.items()}
    before = replica.trusted
    sequenced = before.sequenced
    old, new = run[0].commit.parent, run[-1].commit.oid  # the copy may have moved meanwhile
    ref, sent, envelopes = clone.there, objects, list[str]()
    if sequenced:
        ref, old = FOR + clone.name, None
        sent, envelopes = _enveloped(run, store.algo)
        new = envelopes[-1]
    pack = functools.cache(lambda: store.pack(sent))
    stored = False

    def keep() -> None:
        nonlocal stored
        store.write(sent, pack)
        stored = not sequenced  # envelopes are no part of the copy

    def meanwhile() -> None:
        if not sequenced:  # else it may land elsewhere
            with contextlib.suppress(Exception):
                keep()

    push = replica.remote.push(ref, old, new, Cargo(pack, ready, keep, meanwhile))
    if sequenced:
        push = _opened(push, dict(zip(envelopes, run, strict=True)))
    if sequenced and push.code == "not-sequenced":  # it did once
        _note_sequenced(replica, says=False)
        return push._replace(outcome=transport.LOST), []
    unsaid = push.outcome == transport.REFUSED and not push.code
    if sequenced and (unsaid or (push.outcome == transport.WON and not push.landed)):
        # Only the hook's own word is certain; the next attempt goes to the ledger's ref.
        _note_sequenced(replica, says=False)
        return push._replace(outcome=transport.UNKNOWN, why=push.why or "it says nothing"), []
    if push.sequenced and not sequenced:
        _note_sequenced(replica, says=True)
    if push.outcome != transport.WON:
        return push, []
    landings = moved(planned(tip, run), push)
    if landings is None:
        return push._replace(outcome=transport.UNKNOWN, why="it does not say where"), []
    if all(landing.oid == landing.here.oid for landing in landings):
        adopted = False
        with contextlib.suppress(Exception):  # it has landed, whatever our own disk says
            if not replica.held:
                if not stored:
                    store.write(objects)
                replica.adopt(tip, [(placed.commit.seq, placed.commit.oid) for placed in run])
                adopted = True
        if not adopted:
            replica.hold(tip, before)
    return push, landings


def _enveloped(run: list[Placed], algo: str) -> tuple[Objects, list[str]]:
    """The objects to send, and the id of each record's envelope."""
    tree = object_id("tree", b"", algo)
    objects: Objects = {tree: ("tree", b"")}
    oids: list[str] = []
    for placed in run:
        content = commit.envelope(placed.content, oids[-1] if oids else None, tree)
        oids.append(object_id("commit", content, algo))
        objects[oids[-1]] = ("commit", content)
    return objects, oids


def _opened(push: Push, envelopes: dict[str, Placed]) -> Push:
    """The answer, with the ids that the records have here in place of their envelopes'."""
    names = {oid: placed.commit.oid for oid, placed in envelopes.items()}
    landed = push.landed and {names.get(oid, oid): at for oid, at in push.landed.items()}
    meant = (name for oid, name in names.items() if push.blamed and oid.startswith(push.blamed))
    return push._replace(landed=landed, blamed=next(meant, ""))


def _note_sequenced(replica: Replica, *, says: bool) -> None:
    with contextlib.suppress(OSError, CoordledgerError):  # it has landed or not, all the same
        replica.note_sequenced(says=says)


def moved(landings: list[Landing], push: Push) -> list[Landing] | None:
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
