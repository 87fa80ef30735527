"""Founding a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordledger.client.config import Options
from coordledger.errors import Failed
from coordledger.setup import genesis

if TYPE_CHECKING:
    from support.fleet import Fleet


def test_init_guards_the_repository_that_it_names(shared_fleet: Fleet, tmp_path: Path) -> None:
    """And not the one that a surrounding git speaks of."""
    other, target = tmp_path / "other.git", tmp_path / "guarded.git"
    shared_fleet.git("init", "--quiet", "--bare", other)
    env = shared_fleet.env | {"GIT_DIR": str(other), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    genesis.init(Options(path=tmp_path, agent="alice"), env, str(target), 30)
    assert (target / "hooks/pre-receive").exists()
    assert not (other / "hooks/pre-receive").exists()


def test_a_second_ledger_of_a_name_changes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """Not even the owner's secrets, to which a new one would have been added."""

    def files() -> dict[Path, bytes]:
        roots = (fleet.remote / "coordledger", Path(fleet.env["XDG_CONFIG_HOME"]))
        return {p: p.read_bytes() for root in roots for p in root.rglob("*") if p.is_file()}

    before, head = files(), fleet.head()
    assert before
    with pytest.raises(Failed) as refused:
        genesis.init(Options(path=tmp_path, agent="alice"), fleet.env, str(fleet.remote), 30)
    assert refused.value.code == "ledger-exists"
    assert files() == before
    assert fleet.head() == head
