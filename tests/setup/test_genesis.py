"""Founding a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.config import Options
from coordledger.setup import genesis

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet


def test_init_guards_the_repository_that_it_names(shared_fleet: Fleet, tmp_path: Path) -> None:
    """And not the one that a surrounding git speaks of."""
    other, target = tmp_path / "other.git", tmp_path / "guarded.git"
    shared_fleet.git("init", "--quiet", "--bare", other)
    env = shared_fleet.env | {"GIT_DIR": str(other), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    genesis.init(Options(path=tmp_path, agent="alice"), env, str(target), 30)
    assert (target / "hooks/pre-receive").exists()
    assert not (other / "hooks/pre-receive").exists()
