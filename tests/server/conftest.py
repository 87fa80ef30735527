"""Fixtures of the server's tests: sequencing fleets, residents, hooks that die."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.sequencing import switch
from support.server_fixtures import crashing, own_attacker, served

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

__all__ = ["crashing", "own_attacker", "served"]


@pytest.fixture(scope="module")
def sequenced_fleet(founded: Callable[..., Fleet]) -> Fleet:
    """A sequencing ledger with alice, bob and carol, for a whole file."""
    made = founded("bob", "carol")
    switch(made, sequence=True)
    return made
