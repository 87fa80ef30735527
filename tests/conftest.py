"""Fixtures of all tests: an environment without a user, and fleets in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fleet import Fleet, hermetic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A hermetic environment, which is this process's too while the test runs."""
    made = hermetic(tmp_path)
    for name in set(os.environ) - set(made):
        monkeypatch.delenv(name)
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def make_fleet(tmp_path: Path, env: dict[str, str]) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets: `make_fleet(max_skew=1)`; each has a directory of its own."""
    made: list[Fleet] = []

    def make(**kw: int) -> Fleet:
        made.append(Fleet(tmp_path / f"fleet{len(made)}", env, **kw))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """Alice's ledger, nobody else enrolled yet."""
    return make_fleet()
