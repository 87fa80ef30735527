"""Processes of one host in line: what the shared copy has to cope with."""

from __future__ import annotations

import fcntl
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.fleet import Fleet

    from coordledger import Ledger


def claim_in_line(ledger: Ledger, task: str) -> bool:
    """Claim while somebody else leads, so that the record has to wait in the line."""
    folder = ledger.connection.line().folder
    folder.mkdir(parents=True, exist_ok=True)
    won = []
    claiming = threading.Thread(target=lambda: won.append(ledger.claim(task).won))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        claiming.start()
        end = time.monotonic() + 20
        while not list(folder.glob("*.json")):
            assert time.monotonic() < end
            time.sleep(0.01)
    claiming.join(20)
    return won == [True]


def test_the_shared_copy_catches_up_with_those_who_have_seen_more(fleet: Fleet) -> None:
    fleet.enroll("bob")
    alice = fleet.ledger("alice")
    bob = fleet.ledger("bob", environ=fleet.env | {"COORDLEDGER_QUEUE": "off"})
    assert claim_in_line(alice, "first")
    assert bob.claim("elsewhere").won
    alice.tasks()
    assert claim_in_line(alice, "second")
    # It landed through the line: nobody had to leave it and push alone.
    seen = (alice.connection.line().folder / "seq").read_text("ascii")
    assert int(seen) == alice.head().seq
