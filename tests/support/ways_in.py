"""The ways by which records get into a ledger: two hooks, each by itself or through a resident
(what is sequenced lands by the first of them for who reads the answer, else by the second); and a
process of the server's own account, which needs no push.

Rules: one fleet has all of them, so that the very same commit can be pushed by each. By the way
of a resident the hook itself cannot work: whatever passes or is refused with a reason has been
judged by the resident.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from support.attacker import Pushed
from support.fleet import LEDGER_REF
from support.sequencing import ANSWERED_REF, FOR_REF, landed, seq_of
from support.serve_process import hidden, without_python

import coordledger
from coordledger import files
from coordledger.answers import Refused
from coordledger.deadline import Deadline
from coordledger.errors import RuleBroken
from coordledger.git.loose import Reader
from coordledger.server.receiver import Receiver
from coordledger.server.sequencer import read_push, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.attacker import Attacker
    from support.fleet import Fleet


class WayIn(NamedTuple):
    """Where records are pushed, which hook judges them, and whether a resident does it for it."""

    ref: str
    hook: str
    by_resident: bool

    @property
    def sequences(self) -> bool:
        return self.ref != LEDGER_REF

    @contextmanager
    def alone(self, fleet: Fleet, *, with_python: bool = False) -> Iterator[None]:
        """No other way is open; the hook of a resident may have its Python, too."""
        with ExitStack() as stack:
            if not self.by_resident:
                stack.enter_context(hidden(fleet, "coordledger/socket"))
            elif not with_python:
                stack.enter_context(without_python(fleet, self.hook))
            yield

    def push(self, attacker: Attacker, oid: str, *, with_python: bool = False) -> Pushed:
        with self.alone(attacker.fleet, with_python=with_python):
            return attacker.push(f"{oid}:{self.ref}")


def hand_on(fleet: Fleet) -> None:
    """From now on what is to be sequenced lands by proc-receive: git has a reflog to keep."""
    fleet.git("config", "core.logAllRefUpdates", "always")


@contextmanager
def something_after(fleet: Fleet) -> Iterator[None]:
    """A hook that git starts after a push: then records do not land before proc-receive."""
    hook = fleet.remote / "hooks/post-update"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    yield
    hook.unlink()


class OnHost:
    """The records of commits are handed to a `Receiver`: what surrounds them gets nowhere."""

    def push(self, attacker: Attacker, oid: str, *, with_python: bool = False) -> Pushed:
        """A push, where the receiver wants that. `with_python` means nothing here."""
        receiver = receiver_of(attacker.fleet)
        assert receiver.why_not(Deadline(20)) == ""
        environ = attacker.fleet.env | {"GIT_DIR": str(attacker.folder)}
        try:
            with Reader(environ) as objects:
                pushed = read_push(oid, attacker.stand(attacker.tip), objects)
            run = list(zip(pushed.oids, pushed.signed, strict=True))
            given = receiver.land([run], lambda: None, Deadline(20))
        except RuleBroken as broken:  # it is no chain of records
            given = [refused(oid, broken).answers]
        if given is None:
            return WAYS_IN["pre-receive"].push(attacker, oid)
        [said] = given
        is_refused = any(isinstance(one, Refused) for one in said)
        return Pushed(int(is_refused), "", "".join(f"{one}\n" for one in said))


def receiver_of(fleet: Fleet) -> Receiver:
    """What takes the server's part for the fleet's ledger in this process."""
    return Receiver(str(fleet.remote), "main", fleet.env, files.facts(coordledger.__file__))


WAYS_IN = {
    "pre-receive": WayIn(LEDGER_REF, "pre-receive", by_resident=False),
    "pre-receive by the resident": WayIn(LEDGER_REF, "pre-receive", by_resident=True),
    "in quarantine": WayIn(ANSWERED_REF, "pre-receive", by_resident=False),
    "in quarantine by the resident": WayIn(ANSWERED_REF, "pre-receive", by_resident=True),
    "proc-receive": WayIn(FOR_REF, "proc-receive", by_resident=False),
    "proc-receive by the resident": WayIn(FOR_REF, "proc-receive", by_resident=True),
}
ALL = WAYS_IN | {"on the server's host": OnHost()}
DIRECT = {name: way for name, way in WAYS_IN.items() if not way.sequences}
SEQUENCED = {name: way for name, way in WAYS_IN.items() if way.sequences}
IN_QUARANTINE = {name: way for name, way in SEQUENCED.items() if way.hook == "pre-receive"}
HANDED_ON = {name: way for name, way in SEQUENCED.items() if way.hook == "proc-receive"}
# A resident leaves these to the hook: they may come from its surroundings, not from the push.
DOUBTS = ("bad-push", "hook-broken", "no-secret", "gap")


def refusals(
    attacker: Attacker, oid: str, slug: str, ways: Mapping[str, WayIn | OnHost]
) -> set[str]:
    """The words with which a commit is refused by each way. Nothing may move."""
    words, before = set(), attacker.refs()
    for name, way in ways.items():
        pushed = way.push(attacker, oid, with_python=slug in DOUBTS)
        assert pushed.code != 0, name
        assert pushed.slug == slug, name
        assert attacker.refs() == before, name
        words.add(pushed.said[0])
    return words


def refused_alike(attacker: Attacker, oid: str, slug: str) -> None:
    [words] = refusals(attacker, oid, slug, ALL)
    blamed = "-" if slug == "too-many-records" else oid[:12]  # of these no single one is to blame
    assert words.startswith(f"coordledger: refused {blamed}: {slug}: ")


def accounted(attacker: Attacker, pushed: Pushed, oid: str, stands: str) -> None:
    """The server says that the record has landed as the commit `stands`, where it is."""
    assert landed(pushed) == [(oid, seq_of(attacker, stands), stands)]
    assert attacker.tip == stands
