"""Fleets that all tests of one file share, where tests only use names of their own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fleet import Fleet, hermetic

from .forge import Forge
from .gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets for a whole file: `founded("bob", "carol", max_skew=60)`."""
    made: list[Fleet] = []
    root = tmp_path_factory.mktemp("founded")
    env = hermetic(root)

    def make(*agents: str, **kw: int) -> Fleet:
        fleet = Fleet(root / f"fleet{len(made)}", env, **kw)
        made.append(fleet)
        for agent in agents:
            fleet.enroll(agent)
        return fleet

    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        yield make
    for fleet in made:
        fleet.close()


@pytest.fixture(scope="module")
def town(founded: Callable[..., Fleet]) -> Fleet:
    """Alice's ledger, with bob and carol enrolled, for a whole file."""
    return founded("bob", "carol")


@pytest.fixture
def forge_for(tmp_path: Path) -> Iterator[Callable[[Fleet], Forge]]:
    """Makes forges for fleets."""
    made: list[Forge] = []

    def make(fleet: Fleet, **kw: str) -> Forge:
        made.append(Forge(fleet, tmp_path / f"forge{len(made)}.git", **kw))
        return made[-1]

    yield make
    for forge in made:
        forge.close()


@pytest.fixture
def gate(fleet: Fleet) -> Iterator[Gate]:
    """Where the server's pushes can be held up."""
    gate = Gate(fleet)
    yield gate
    gate.clear()


@pytest.fixture
def forge(town: Fleet, forge_for: Callable[[Fleet], Forge]) -> Forge:
    """An attacker on the file's own fleet."""
    return forge_for(town)
