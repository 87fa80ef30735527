"""Many records in one push; and servers that made their state up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.attacker import Attacker
from support.fleet import LEDGER_REF

from coordledger.format import records
from coordledger.format.commit import parse_commit

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger.format.chain import Chain


class Batch(Attacker):
    """A forge whose records stand on each other, and come from one base: they may be sequenced.

    Nothing is pushed before `send`.
    """

    _moving: Chain | None = None
    _base: dict[str, Any]

    @property
    def chain(self) -> Chain:
        if self._moving is None:
            self.go_on_from(self.tip)
        assert self._moving
        return self._moving

    def go_on_from(self, oid: str) -> None:
        """Put what comes next on this commit."""
        self._moving = self.stand(oid)
        self._base = {"seq": self.head.seq, "digest": self.head.digest}

    def put(self, agent: str, kind: str, **given: Any) -> str:
        """A good record on the one before; its commit's id."""
        chain = self.chain
        record = self.record(agent, kind, **{"base": self._base} | given)
        proposal = chain.propose(self.sign(records.check(record)))
        self.write(proposal)
        chain.advance(proposal)
        return proposal.commit.oid

    def send(self) -> None:
        assert self.push(self.head.oid).slug == ""
        self._moving = None


def evil_server(
    fleet: Fleet,
    attacker: Attacker,
    name: str,
    changes: dict[str, bytes | None],
    stolen: str | None = None,
) -> Path:
    """A server whose newest state is made up, for who joins with --depth 1.

    The record of its newest commit is a void of bob's, or what the commit `stolen` has.
    """
    folder = fleet.root / f"{name}.git"
    fleet.git("init", "--quiet", "--bare", folder)
    alternates = f"{attacker.folder / 'objects'}\n{fleet.remote / 'objects'}\n"
    (folder / "objects/info/alternates").write_text(alternates)
    made = attacker.stand(stolen or attacker.tip).state.tree.update(changes)
    attacker._store.write(made.objects)
    if stolen:
        honest = parse_commit(stolen, attacker.raw(stolen))
        head = attacker.changed(stolen, honest.tree.encode(), made.root.encode())
    else:
        head = attacker.render(attacker.signed("bob", "void"), tree=made.root)
    fleet.git("update-ref", LEDGER_REF, head, cwd=folder)
    return folder
