"""Publish a run of proposed records: the interface, and its plain form, one push.

Rules of this file:
- All of a run lands, or nothing. Where it has landed is the remote's word.
- The copy moves forward over records that stand where they were proposed. Where the remote
  has put a record further up, the copy stays behind, remembers the place, and catches up when it
  has to.
- Where no hook vouches for what a push brings, success is said only once the ref was looked at
  again: not every server compares before it swaps.
- An error of `ready` or of our own disk is raised before anything is sent, and never
  afterwards.

`DirectPublisher` moves the ledger's ref from the head that the run was proposed on, or loses
to another push; and with it the code's refs that land records in the run name. Other ways to the
remote are publishers in `combining`; nothing here knows them. No outcome of a write is decided
here: `writer` does that.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Protocol

from coordledger.deadline import Deadline
from coordledger.errors import ERRORS, CoordledgerError, Failed, Integrity, Lost, error, printable
from coordledger.errors import LOST as EXIT_LOST
from coordledger.git.outcome import LOST, UNKNOWN, UNSENT, WON, Move, PushPayload
from coordledger.git.process import untrusted
from coordledger.values import Value

# What is said of a ref of the code by git, and by no hook of ours.
OF_THE_CODE = ("code-moved", "code-refused")
# What a server says of its own chain, rather than of the record that it refuses.
_OF_THE_CHAIN = {"invalid-below": Integrity}

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.local_state import TrustedHead
    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain, Proposal
    from coordledger.format.commit import Commit
    from coordledger.format.state import State
    from coordledger.git.outcome import Push
    from coordledger.git.tree import Objects

MOST_RECORDS, MOST_BYTES = 1024, 16_777_216  # that go with one push


class Published(Value):
    """A record that the remote has. `here` and `state` are the record as it was proposed on
    this copy, and the state after it; `seq` and `oid` where it stands in the ledger.

    `resumed`: an earlier process has landed it, and had told nobody; `state` is the newest then.
    """

    here: Commit
    state: State
    seq: int
    oid: str
    resumed: bool = False


class Publication(Value):
    """How a run ended. `published` has its records if it won.

    `ahead`: the remote decided on a head of its own, which may be ahead of this copy's.
    """

    push: Push
    published: list[Published] = []  # noqa: RUF012 - never changed in place
    ahead: bool = False


class Publisher(Protocol):
    """One way of getting records to the remote."""

    @property
    def alone(self) -> Publisher:
        """The same without other processes' help."""

    def publish(
        self, replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None]
    ) -> Publication:
        """Publish `run`, which `tip` (a copy of the replica's position) has advanced over.

        `ready()` is called before its bytes leave this process. Raises the errors of `ready`,
        `Failed`: timeout, and OSError; nothing was sent then.
        """


class DirectPublisher:
    """Pushes the commits to the ledger's ref: a compare-and-swap of its head."""

    @property
    def alone(self) -> Publisher:
        return self

    def publish(
        self, replica: Replica, tip: Chain, run: list[Proposal], ready: Callable[[], None]
    ) -> Publication:
        before, repository = replica.trusted, replica.local.repository
        objects = new_objects(run)
        pack = functools.cache(lambda: repository.pack(objects))
        stored = False

        def store() -> None:
            nonlocal stored
            repository.write(objects, pack)
            stored = True

        def meanwhile() -> None:
            with contextlib.suppress(Exception):
                store()

        push = replica.remote.push(
            replica.local.remote_ref,
            run[0].commit.parent,  # the copy may have moved meanwhile
            run[-1].commit.oid,
            PushPayload(pack, ready, store, meanwhile),
            moves_of(run),
        )
        if push.sequenced:
            note_sequenced(replica, says=True)
        push = push._replace(landed=None)  # the ref's new head is ours: nobody has put it elsewhere
        if push.outcome == WON and not push.vouches:
            push = _looked_at(push, replica, run[-1].commit.oid)
        return conclude(push, replica, tip, run, before, stored=stored)


def _looked_at(push: Push, replica: Replica, oid: str) -> Push:
    """The success of a push, if the ref is where it says; else it is to be looked for."""
    try:
        head = replica.remote.head(replica.local.remote_ref)
    except CoordledgerError as fault:
        return push._replace(outcome=UNKNOWN, why=fault.message)
    if head == oid:
        return push
    return push._replace(outcome=UNKNOWN, why="the remote said yes, and has another head")


def moves_of(run: list[Proposal]) -> list[Move]:
    """What the code's refs do, of which land records in the run say that they do it with them."""
    said = (proposal.commit.record for proposal in run)
    return [Move(r["ref"], r["old"], r["new"]) for r in said if r["kind"] == "land"]


def new_objects(run: list[Proposal]) -> Objects:
    return {oid: content for proposal in run for oid, content in proposal.objects.items()}


def note_sequenced(replica: Replica, *, says: bool) -> None:
    """Remember whether the server says that it sequences: a publisher may go by it."""
    with contextlib.suppress(OSError, CoordledgerError):  # it has landed or not, all the same
        replica.note_sequenced(says=says)


def conclude(
    push: Push,
    replica: Replica,
    tip: Chain,
    run: list[Proposal],
    before: TrustedHead,
    *,
    stored: bool,
) -> Publication:
    """The end of a push. Where it won as planned, the copy moves from `before` to `tip`."""
    if push.outcome != WON:
        return Publication(push)
    published = relocated(as_planned(tip, run), push)
    if published is None:
        return Publication(push._replace(outcome=UNKNOWN, why="it does not say where"))
    if all(one.oid == one.here.oid for one in published):
        if not _move_forward(replica, tip, run, before, stored=stored):
            remember_told(replica, published)
    else:
        remember_told(replica, published)
    note_vouch(replica, push, published)
    return Publication(push, published)


def note_vouch(replica: Replica, push: Push, published: list[Published]) -> None:
    """Remember whether the server has vouched for what has landed."""
    with contextlib.suppress(OSError, CoordledgerError):  # as below
        replica.vouches.note_landed(push, max(one.seq for one in published))


def remember_told(replica: Replica, published: list[Published]) -> None:
    """Remember the newest place, where the copy stays behind what the remote has told."""
    newest = max(published, key=lambda one: one.seq)
    with contextlib.ExitStack() as held, contextlib.suppress(OSError):  # as below
        with contextlib.suppress(CoordledgerError):  # its holder is stopped, and appends nothing
            held.enter_context(replica.local.lock(Deadline(0)))
        replica.local.told.add(newest.seq, newest.oid)


def _move_forward(
    replica: Replica, tip: Chain, run: list[Proposal], before: TrustedHead, *, stored: bool
) -> bool:
    """Move the copy to `tip`; False if another process has moved the clone, or keeps its lock.

    The run has landed, whatever our own disk says: then this process alone goes on from it. Nor is
    a lock that a stopped process holds a reason to say so late.
    """
    with contextlib.suppress(Exception):
        if not replica.in_memory_only:
            if not stored:
                replica.local.repository.write(new_objects(run))
            passed = [(proposal.commit.seq, proposal.commit.oid) for proposal in run]
            try:
                return replica.adopt(tip, passed, run[0].commit.parent, Deadline(0))
            except Failed:
                return False
    replica.adopt_in_memory(tip, before)
    return True


def as_planned(tip: Chain, run: list[Proposal]) -> list[Published]:
    """`run` where it was proposed; `tip` stands on its last record."""
    return [Published(p.commit, tip.state, p.commit.seq, p.commit.oid) for p in run]


def relocated(planned: list[Published], push: Push) -> list[Published] | None:
    """`planned` where the server says that the records are; None if it leaves one out."""
    if push.landed is None:
        return planned
    places = [push.landed.get(one.oid) for one in planned]
    if None in places:
        return None
    return [
        one._replace(seq=place[0], oid=place[1])
        for one, place in zip(planned, places, strict=True)
        if place
    ]


def push_error(push: Push, shown_remote: str) -> CoordledgerError:
    """A push that did not win, as the error that ends a write."""
    if push.outcome == UNKNOWN:
        return error("unknown-outcome", why=push.why)
    if push.outcome == UNSENT:
        return untrusted(push.why) or error("remote-unreachable", remote=shown_remote, why=push.why)
    if push.outcome == LOST and push.locked:
        return error("stale-lock", why=push.why)
    if push.code in OF_THE_CODE:
        return error(push.code, why=push.why)
    if push.code and push.outcome != LOST:
        kind = _OF_THE_CHAIN.get(push.code, Lost if ERRORS[push.code][0] == EXIT_LOST else Failed)
        why = f"the server refused: {printable(push.why)}"
        return kind(push.code, why, _hint(push.code, push.why))
    return error("push-refused", why=push.why, hint="")


def _hint(code: str, message: str) -> str:
    """The table's hint, filled in with what the server's sentence says; "" if that lacks any.

    The sentence is the server's word, and a hint may be copied into a shell: only plain words
    get from the one into the other.
    """
    import re  # noqa: PLC0415 - writes that land need none
    from string import Formatter  # noqa: PLC0415

    _, sentence, hint = ERRORS[code]
    needed = {name for _, name, _, _ in Formatter().parse(hint) if name}
    pattern, seen = "", set[str]()
    for text, name, _, _ in Formatter().parse(sentence):
        pattern += re.escape(text)
        if name:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
            seen.add(name)
    said = re.fullmatch(pattern, message)
    values = {name: said[name] for name in needed & seen} if said else {}
    plain = all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", value) for value in values.values())
    return hint.format(**values) if plain and needed == values.keys() else ""
