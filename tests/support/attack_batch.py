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
    """A forge whose records stand on each other; nothing is pushed before `send`."""

    _moving: Chain | None = None

    @property
    def chain(self) -> Chain:
        if self._moving is None:
            self._moving = super().chain
        return self._moving

    def put(self, agent: str, kind: str, **given: Any) -> str:
        """A good record on the one before; its commit's id."""
        proposal = self.chain.propose(self.sign(records.check(self.record(agent, kind, **given))))
        self.write(proposal)
        self.chain.advance(proposal)
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
