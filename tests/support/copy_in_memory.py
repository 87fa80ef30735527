"""A verified copy whose records are those of a ledger in memory: as much of a `Replica` as an index
asks for. The index's own file is real.
"""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

from coordledger.client.local_state import TrustedHead
from coordledger.deadline import Deadline
from coordledger.format.commit import Commit, parse_commit
from coordledger.git.history import CommitRange
from coordledger.git.process import Git

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.memory_ledger import MemoryLedger


class CopyInMemory:
    """The first `length` records of a ledger, or all of them; `first` is the oldest that it has."""

    def __init__(self, ledger: MemoryLedger, folder: Path, *, first: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger, self.first = ledger, first
        self.length: int | None = None
        self.git = SimpleNamespace(deadline=Deadline(60))
        self.reads = 0
        self.in_memory_only = False
        contents = {}

        def read(oid: str) -> bytes:
            self.reads += 1
            contents.update(ledger.log)
            return contents[oid]

        repository = SimpleNamespace(read=read, read_ahead=lambda oids: None)
        self.local = SimpleNamespace(
            folder=folder,
            repository=repository,
            indexed_ids=self._ids,
            id_at=self._id_at,
            save_index=lambda passed, first: None,
        )

    @property
    def _log(self) -> list[tuple[str, bytes]]:
        return self.ledger.log[: self.length]

    @property
    def trusted(self) -> TrustedHead:
        head = parse_commit(*self._log[-1])
        ledger = str(head.record["ledger"])
        return TrustedHead(ledger, head.oid, head.seq, head.digest, first=self.first)

    def _ids(self, seq: int, last: int) -> Iterator[str]:
        yield from (oid for oid, _ in self._log[seq : last + 1])

    def _id_at(self, seq: int) -> str:
        return self._log[seq][0] if self.first <= seq < len(self._log) else ""

    def commit_at(self, seq: int) -> Commit | None:
        with suppress(IndexError):
            return parse_commit(*self._log[seq]) if seq >= self.first else None
        return None

    def ancestors(self, head: str, known: set[str | None]) -> CommitRange:
        return CommitRange(Git({}, None, Deadline(60)), 20, head)  # without any: its ids are right

    def progress(self, what: str, done: int, of: int) -> None:
        pass
