"""Publish through a server that sequences: it puts records on the head that it has itself.

Rules of this file:
- Records go in envelopes: commits with an empty tree, the first without a parent. On a head
  that the server has left behind, the commits as they were proposed would bring five objects
  each that nobody will ever need; and git, which does not know the server's new head, would
  send the whole history along.
- The server's own word is certain, and nothing else: "ok" without places, and a refusal or a
  lost race without a slug, may come from a server that has no such hook any more; but for a
  refusal of what no hook could have landed.
- A server that has stopped sequencing is noticed by its answer; the next attempt goes to the
  ledger's ref.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from coordledger.client.publish import Publication, Publisher, conclude, note_sequenced
from coordledger.format.commit import envelope
from coordledger.format.names import ANSWERED, FOR
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, WON, PushPayload
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain, Proposal
    from coordledger.git.outcome import Push
    from coordledger.git.tree import Objects


class SequencedPublisher:
    """Pushes where records are sequenced, if the server has said that it does that."""

    def __init__(self, direct: Publisher) -> None:
        """`direct` publishes to a server that does not sequence."""
        self._direct = direct

    @property
    def alone(self) -> Publisher:
        return self

    def publish(
        self, replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None]
    ) -> Publication:
        before, repository = replica.trusted, replica.local.repository
        if not before.sequenced:
            return self._direct.publish(replica, tip, run, ready)
        objects, envelopes = _enveloped(run, repository.algo)
        pack = functools.cache(lambda: repository.pack(objects))
        payload = PushPayload(
            pack, ready, lambda: repository.write(objects, pack), meanwhile=lambda: None
        )
        ref = FOR + replica.local.name + ANSWERED
        push = replica.remote.push(ref, None, envelopes[-1], payload)
        push = _certain(_opened(push, dict(zip(envelopes, run, strict=True))), replica)
        # Envelopes are no part of the copy: what was proposed is not stored yet.
        done = conclude(push, replica, tip, run, before, stored=False)
        return done._replace(ahead=True)


def _certain(push: Push, replica: Replica) -> Push:
    """The answer as far as it is the sequencer's own; else the server is not known to sequence."""
    if push.code in ("not-sequenced", "bad-ref"):  # it did once, or is older than that ref
        note_sequenced(replica, says=False)
        return push._replace(outcome=LOST)
    if push.outcome == LOST and not push.code:  # another client has made a ref of that name
        note_sequenced(replica, says=False)
    if push.outcome == REFUSED and push.landed and not push.code:  # its answer to what has landed
        push = push._replace(outcome=WON)
    without_places = push.outcome == WON and not push.landed
    without_slug = push.outcome == REFUSED and not (push.code or push.kept_out)
    if without_places or without_slug:
        note_sequenced(replica, says=False)
        return push._replace(outcome=UNKNOWN, why=push.why or "it says nothing")
    return push


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
    landed = push.landed and {names.get(oid, oid): place for oid, place in push.landed.items()}
    blamed = (name for oid, name in names.items() if push.blamed and oid.startswith(push.blamed))
    return push._replace(landed=landed, blamed=next(blamed, ""))
