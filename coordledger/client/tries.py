"""A try: a push to `refs/coordledger-try/<ledger>`. A hook of ours answers and always refuses it.

Rules of this file:
- Where a try lands there is no hook: it is deleted again at once.
- Any object will do for one that only asks: no key is needed, and the smallest one goes.
- What the hook answers is remembered by `vouches`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.publish import push_error
from coordledger.errors import error
from coordledger.format.names import TRIES
from coordledger.git.outcome import LOST, UNKNOWN, UNSENT, WON, PushPayload
from coordledger.git.process import untrusted
from coordledger.git.tree import object_id
from coordledger.values import Value

if TYPE_CHECKING:
    from coordledger.answers import Vouch
    from coordledger.client.opening import Connection
    from coordledger.errors import CoordledgerError
    from coordledger.git.outcome import Push
    from coordledger.git.repository import Repository
    from coordledger.git.tree import Objects

ATTEMPTS = 8  # pushes until one meets no other that came between
_BLOBS = (b"", b"try\n")  # one is left where another try was cut off
_TRY_CODES = ("try-ok", "bad-push")  # how a try that brings no record is refused in any case


class Asked(Value):
    """The answer to a try that only asks, and the server's vouch, if it gives one. `at` is this
    machine's clock before it was sent. `refusal`: why a hook of ours does not vouch.
    """

    push: Push
    vouch: Vouch | None
    at: int
    refusal: CoordledgerError | None = None

    def vouches_below(self, seq: int) -> bool:
        """Whether there is a vouch that ends below the record `seq`."""
        return self.vouch is not None and self.vouch.seq < seq


def attempt(
    connection: Connection, oid: str, payload: PushPayload, there: str | None = None
) -> Push:
    """One push of `oid` to the try ref, which is `there` now; deleted where it lands.

    Raises `Failed`: two-addresses.
    """
    remote, ref = connection.remote, TRIES + connection.local.name
    push = remote.push(ref, there, oid, payload)
    if push.outcome == WON and remote.push(ref, oid, None).code == "no-delete":
        push = push._replace(outcome=LOST)  # a hook is there: the very same lay there before it
    return push


def ask(connection: Connection) -> Asked:
    """Ask the server what it vouches for now, and remember the answer.

    Raises `Failed`: remote-unreachable, two-addresses.
    """
    remote, repository, at = connection.remote, connection.repository, connection.clock()
    there = None
    for _ in range(ATTEMPTS):
        for blob in _BLOBS:
            oid = object_id("blob", blob, repository.algo)
            if oid != there:
                break
        push = attempt(connection, oid, payload(repository, {oid: ("blob", blob)}), there)
        if push.outcome != LOST:
            break
        there = left_over(connection)
    vouch = connection.replica.vouches.note_try(push)
    if push.outcome in (UNSENT, UNKNOWN):
        raise untrusted(push.why) or error("remote-unreachable", remote=remote.shown, why=push.why)
    is_refused = push.code not in ("", *_TRY_CODES) and vouch is None
    return Asked(push, vouch, at, push_error(push, remote.shown) if is_refused else None)


def left_over(connection: Connection) -> str | None:
    """The try that was cut off before it was deleted, where there was no hook."""
    return connection.remote.head(TRIES + connection.local.name)


def payload(repository: Repository, objects: Objects) -> PushPayload:
    """Objects for a try; the clone keeps nothing of them but for git's own push."""
    return PushPayload(
        lambda: repository.pack(objects),
        lambda: None,
        lambda: repository.write(objects),
        lambda: None,
    )
