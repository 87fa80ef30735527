"""Thousands of tasks come at a pace that lets ten thousand come in a minute, and again in half."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from support import coordination_db as coord

if TYPE_CHECKING:
    from support.fleet import Fleet

COUNT = 2_500
MOST = 20.0  # seconds, on two loaded cores


def test_thousands_of_tasks(fleet: Fleet) -> None:
    db = coord.create(fleet.root / "coord.db")
    for number in range(COUNT):
        done = number % 3 == 0
        status = "completed" if done else "available"
        result = "merged" if done else None
        coord.work(db, f"task-{number}", status=status, result=result, epoch=number % 4)
    db.commit()
    db.close()
    alice = fleet.ledger("alice")
    began = time.monotonic()
    assert alice.import_from("gptme", fleet.root / "coord.db").counts == {"imported": COUNT}
    took = time.monotonic() - began
    head = alice.head()
    began = time.monotonic()
    assert alice.import_from("gptme", fleet.root / "coord.db").counts == {"exists": COUNT}
    again = time.monotonic() - began
    assert (alice.head(), took < MOST, again < MOST / 2) == (head, True, True), (took, again)
