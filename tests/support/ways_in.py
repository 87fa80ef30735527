"""The ways by which records get into a ledger: two hooks, each by itself or through a resident.

Rules: one fleet has all of them, so that the very same commit can be pushed by each. By the way
of a resident the hook itself cannot work: whatever passes or is refused with a reason has been
judged by the resident.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from support.fleet import LEDGER_REF
from support.sequencing import FOR_REF, landed, seq_of
from support.serve_process import hidden, without_python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.attacker import Attacker, Pushed
    from support.fleet import Fleet


class WayIn(NamedTuple):
    """Where records are pushed, which hook judges them, and whether a resident does it for it."""

    ref: str
    hook: str
    by_resident: bool

    @property
    def sequences(self) -> bool:
        return self.ref == FOR_REF

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


WAYS_IN = {
    "pre-receive": WayIn(LEDGER_REF, "pre-receive", by_resident=False),
    "pre-receive by the resident": WayIn(LEDGER_REF, "pre-receive", by_resident=True),
    "proc-receive": WayIn(FOR_REF, "proc-receive", by_resident=False),
    "proc-receive by the resident": WayIn(FOR_REF, "proc-receive", by_resident=True),
}
DIRECT = {name: way for name, way in WAYS_IN.items() if not way.sequences}
SEQUENCED = {name: way for name, way in WAYS_IN.items() if way.sequences}
# A resident leaves these to the hook: they may come from its surroundings, not from the push.
DOUBTS = ("bad-push", "hook-broken", "no-secret", "gap")


def refusals(attacker: Attacker, oid: str, slug: str, ways: dict[str, WayIn]) -> set[str]:
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
    [words] = refusals(attacker, oid, slug, WAYS_IN)
    blamed = "-" if slug == "too-many-records" else oid[:12]  # of these no single one is to blame
    assert words.startswith(f"coordledger: refused {blamed}: {slug}: ")


def accounted(attacker: Attacker, pushed: Pushed, oid: str, stands: str) -> None:
    """The server says that the record has landed as the commit `stands`, where it is."""
    assert landed(pushed) == [(oid, seq_of(attacker, stands), stands)]
    assert attacker.tip == stands
