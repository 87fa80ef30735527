"""Each operation of a ledger that stays open has the whole timeout."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger

OPERATIONS = {
    "claim": lambda ledger: ledger.claim("new"),
    "renew": lambda ledger: ledger.renew("held", ttl=timedelta(hours=2)),
    "handoff": lambda ledger: ledger.handoff("held", to="alice"),
    "submit": lambda ledger: ledger.submit("offered"),
    "edit": lambda ledger: ledger.edit("offered", title="Offered"),
    "send": lambda ledger: ledger.send("hello", to="alice"),
    "fact": lambda ledger: ledger.facts.set("image", "v1"),
    "complete": lambda ledger: ledger.complete("held"),
    "tasks": lambda ledger: ledger.tasks(),
}


@pytest.fixture(scope="module")
def bob(founded: Callable[..., Fleet]) -> Ledger:
    ledger = founded("bob").ledger("bob")
    ledger.claim("held", ttl=timedelta(hours=1))
    return ledger


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_not_late_for_the_one_before(bob: Ledger, name: str) -> None:
    bob.connection.git.deadline._end = 0.0  # the time of what was done before is long over
    OPERATIONS[name](bob)
