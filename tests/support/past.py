"""A fleet with a past: its records are dated hours back, on a host that runs no hooks."""

from __future__ import annotations

import time
from datetime import timedelta
from unittest import mock

from support.fleet import Fleet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MINUTE = timedelta(minutes=1)


def ago(span: timedelta) -> Callable[[], int]:
    """A clock that is behind."""
    return lambda: time.time_ns() // 1_000_000 - span // timedelta(milliseconds=1)


def with_a_past(root: Path, env: dict[str, str]) -> Fleet:
    """alice's lease on `slow` ran out, bob took over, and offered it to carol, who completed it;
    `other` was taken from bob by force; alice holds `odd`.
    """
    with mock.patch("coordledger.setup.genesis.unix_ms", ago(90 * MINUTE)):
        fleet = Fleet(root, env)
    (fleet.remote / "hooks" / "pre-receive").unlink()
    first = fleet.ledger("alice", "s1", clock=ago(80 * MINUTE))
    for agent in ("bob", "carol"):
        first.enroll(agent)
    alice = fleet.ledger("alice", "s1", clock=ago(60 * MINUTE))
    alice.submit("slow", title="It takes long")
    alice.claim("slow", ttl=10 * MINUTE)
    alice.claim("odd", ttl=30 * MINUTE)
    bob = fleet.ledger("bob", "s2", clock=ago(20 * MINUTE))
    bob.claim("slow")
    bob.handoff("slow", to="carol")
    bob.claim("other")
    fleet.ledger("carol", "s3", clock=ago(15 * MINUTE)).claim("slow")
    fleet.ledger("alice", "s1").release("other", force=True, reason="bob is gone")
    carol = fleet.ledger("carol", "s3")
    carol.complete("slow", result="merged")
    carol.send("it is done", to="bob")
    return fleet
