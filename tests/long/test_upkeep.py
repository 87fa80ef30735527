"""What pushes leave loose is packed by git, beside them, without anybody's cron."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck, second_opinion

from coordledger.server.upkeep import EVERY

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet


def is_packed(repository: Path) -> bool:
    """Whether that upkeep has made a pack of what was loose."""
    return any((repository / "objects/pack").glob("loose-*.pack"))


def is_at_rest(repository: Path) -> bool:
    return not (repository / "objects/maintenance.lock").exists()


@pytest.mark.parametrize("wanted", [True, False])
def test_so_many_records_start_it_unless_the_owner_does_not_want_it(
    fleet: Fleet, wanted: bool
) -> None:
    if not wanted:
        fleet.git("config", "maintenance.auto", "false")
    with fleet.ledger("alice") as alice:
        for number in range(3):
            alice.claim(f"t{number}")  # these are loose
        with alice.batch() as batch:
            for number in range(EVERY):
                batch.submit(f"s{number}")
        end = time.monotonic() + (60 if wanted else 1)
        while not is_packed(fleet.remote) and time.monotonic() < end:
            alice.send("meanwhile", channel="general")
            time.sleep(0.02)
    while not is_at_rest(fleet.remote):
        time.sleep(0.02)
    fsck(fleet.remote, fleet.env)
    assert second_opinion(fleet.remote) > EVERY
    assert is_packed(fleet.remote) is wanted
