"""The fixtures that long tests share with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fleet import hermetic
from support.hook_session import session
from support.hookless_host import HooklessHost
from support.server_fixtures import crashing, own_attacker, sequenced_fleet, served

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["crashing", "own_attacker", "sequenced_fleet", "served", "session"]


@pytest.fixture
def host(tmp_path: Path) -> HooklessHost:
    """A host that runs no hooks."""
    return HooklessHost(tmp_path, hermetic(tmp_path))
