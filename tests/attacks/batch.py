"""Many records in one push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git.forge import Forge

from coordledger import records

if TYPE_CHECKING:
    from coordledger.verify import Chain


class Batch(Forge):
    """A forge whose records stand on each other; nothing is pushed before `send`."""

    _moving: Chain | None = None

    @property
    def chain(self) -> Chain:
        if self._moving is None:
            self._moving = super().chain
        return self._moving

    def put(self, agent: str, kind: str, **given: Any) -> str:
        """A good record on the one before; its commit's id."""
        placed = self.chain.place(self.sign(records.check(self.record(agent, kind, **given))))
        self.write(placed)
        self.chain.advance(placed)
        return placed.commit.oid

    def send(self) -> None:
        assert self.push(self.head.oid).slug == ""
        self._moving = None
