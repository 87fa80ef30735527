"""Where the remote has said that records landed which this copy has not seen there yet.

Rules of this file:
- A place is on the disk before the write that it ends is called a success. A remote that has
  lost it has gone back, whatever else it has now.
- Places are appended, one line each. A line that a crash has cut off was told to nobody.
- They are forgotten together, once the verified chain has all of them. It has to have those that
  were told before the remote was asked: a place that another process hears of later lies beyond.

It decides nothing: `replica` compares them with the chain.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.hashes import is_digest

if TYPE_CHECKING:
    from pathlib import Path


class ToldPlaces:
    """The places of one ledger in one clone, under the clone's lock."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, seq: int, oid: str) -> None:
        """Remember durably that the record `seq` is the commit `oid`. Raises OSError."""
        is_new = not self._path.exists()
        fd = files.open_in(str(self._path.parent), self._path.name, os.O_WRONLY | os.O_APPEND)
        try:
            files.write_all(fd, f"\n{seq} {oid}\n".encode("ascii"))  # after what was cut off
            os.fsync(fd)
        finally:
            os.close(fd)
        if is_new:
            files.sync(str(self._path.parent))

    def all(self) -> list[tuple[int, str]]:
        """Seqs and ids, in the order in which they were told."""
        try:
            lines = self._path.read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return []
        pairs = (line.partition(" ") for line in lines)
        return [(int(seq), oid) for seq, _, oid in pairs if seq.isdecimal() and is_digest(oid)]

    def forget(self, places: list[tuple[int, str]]) -> None:
        """The verified chain has `places`. If others have been added since, all of them stay."""
        if set(self.all()) <= set(places):
            self._path.unlink(missing_ok=True)
