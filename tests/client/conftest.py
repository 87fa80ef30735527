"""Fixtures of the client's tests: a host that runs no hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fleet import hermetic
from support.hookless_host import HooklessHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> HooklessHost:
    return HooklessHost(tmp_path, hermetic(tmp_path))
