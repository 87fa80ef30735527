"""What agents of one machine use without git: claims in a table of one SQLite file.

Written anew after the way of a coordination package for agents (docs/migrating.md imports from it),
as `naive` is after the loops that people write:

- one transaction that takes the write lock at once: look at the task's row; put in a claim, or
  take over one that has ended, with the next epoch; read the row that is the answer;
- its table, without the columns that a claim leaves empty, and its two indexes; a log in WAL
  mode. It sets no `synchronous`, so SQLite's own holds: FULL, each commit waits for the disk.
  With NORMAL, which many programs set, a claim that was won can be gone after a loss of power;
- a connection that is kept. Its own gives up after five seconds behind other writers; this one
  waits as long as all that it is compared with.

No signature, no history that others could check, nobody on another machine: whoever can write the
file can write anything into it.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FULL, NORMAL = "FULL", "NORMAL"  # `synchronous`
_PATIENCE = 120.0  # seconds
_TABLE = """
CREATE TABLE IF NOT EXISTS work (
    task_id TEXT PRIMARY KEY, claimer TEXT, epoch INTEGER NOT NULL,
    claimed_at TEXT, expires_at TEXT, status TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS work_by_claimer ON work (claimer);
CREATE INDEX IF NOT EXISTS work_by_status ON work (status);
"""
_LOOK = "SELECT claimer, epoch, status, expires_at >= datetime('now') FROM work WHERE task_id = ?"
_FIRST = """INSERT INTO work (claimer, task_id, epoch, claimed_at, expires_at, status)
    VALUES (?, ?, 1, datetime('now'), datetime('now', '30 minutes'), 'claimed')"""
_NEXT = """UPDATE work SET claimer = ?, epoch = epoch + 1, claimed_at = datetime('now'),
    expires_at = datetime('now', '30 minutes'), status = 'claimed' WHERE task_id = ?"""


class Table:
    """One process's connection to the file."""

    def __init__(self, path: Path, agent: str, synchronous: str = FULL) -> None:
        self._agent = agent
        self._db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {synchronous}")
        self._db.executescript(_TABLE)

    def claim(self, task: str) -> int:
        """The claim's epoch, once it is committed. Raises `RuntimeError` if it is another's."""
        self._db.execute("BEGIN IMMEDIATE")
        row = self._db.execute(_LOOK, (task,)).fetchone()
        if row and row[2] == "claimed" and row[3]:
            self._db.execute("ROLLBACK")
            raise RuntimeError(f"{task} is held by {row[0]}")
        self._db.execute(_NEXT if row else _FIRST, (self._agent, task))
        _, epoch, *_ = self._db.execute(_LOOK, (task,)).fetchone()
        self._db.execute("COMMIT")
        return int(epoch)

    def close(self) -> None:
        self._db.close()
