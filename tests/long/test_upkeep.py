"""What pushes leave loose is packed by git, beside them, without anybody's cron."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck, second_opinion
from support.runs import wait_until

from coordledger.server.upkeep import COMMITS, EVERY, start_if_due

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet


def is_packed(repository: Path) -> bool:
    """Whether that upkeep has made a pack of what was loose."""
    return any((repository / "objects/pack").glob("loose-*.pack"))


def is_at_rest(repository: Path) -> bool:
    return not (repository / "objects/maintenance.lock").exists()


@pytest.mark.parametrize("wanted", [True, False])
def test_so_many_records_start_it_unless_the_owner_does_not_want_it(
    make_fleet: Callable[..., Fleet], wanted: bool
) -> None:
    fleet = make_fleet(sequence=True)
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


def commit_packs(fleet: Fleet) -> list[list[str]]:
    """What is in each pack, the smallest first: kinds and ids."""
    found = []
    for index in sorted((fleet.remote / "objects/pack").glob("*.idx")):
        lines = fleet.git("verify-pack", "-v", index).splitlines()
        objects = [line.split() for line in lines if " commit " in line or " tree " in line]
        found.append([f"{kind} {oid}" for oid, kind, *_ in objects])
    return sorted(found, key=len)


@pytest.mark.parametrize("wanted", [True, False])
def test_commits_become_a_pack_sooner_unless_the_owner_does_not_want_it(
    make_fleet: Callable[..., Fleet], wanted: bool
) -> None:
    fleet = make_fleet(sequence=True)
    if not wanted:
        fleet.git("config", "maintenance.auto", "false")
    with fleet.ledger("alice") as alice:
        alice.claim("first")
        with alice.batch() as batch:
            for number in range(COMMITS - 3):
                batch.submit(f"s{number}")
        assert alice.head().seq == COMMITS - 2
        before = commit_packs(fleet)
        alice.claim("not-yet")
        assert commit_packs(fleet) == before
        alice.claim("now")
        landed = fleet.git("rev-list", fleet.head()).split()[:COMMITS]
        end = time.monotonic() + (60 if wanted else 1)
        while commit_packs(fleet) == before and time.monotonic() < end:
            time.sleep(0.02)
    wait_until(lambda: not list((fleet.remote / "objects/pack").glob("tmp_*")), "it is whole")
    new = [pack for pack in commit_packs(fleet) if pack not in before]
    assert [sorted(pack) for pack in new] == (
        [sorted(f"commit {oid}" for oid in landed)] if wanted else []
    )
    fsck(fleet.remote, fleet.env)


def test_what_the_pusher_has_open_does_not_stay_open_for_as_long(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Such as the lock of a script, `flock 9`, under which it pushes."""
    slow, begun, over = tmp_path / "nice", tmp_path / "begun", tmp_path / "over"
    slow.write_text(f"#!/bin/sh\n: > {begun}\nuntil [ -e {over} ]; do sleep 0.05; done\n")
    slow.chmod(0o755)
    environ = fleet.env | {"GIT_DIR": str(fleet.remote)}
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)
    try:
        assert start_if_due(
            0, EVERY, fleet.head(), environ | {"PATH": f"{tmp_path}:{environ['PATH']}"}
        )
        os.close(writes)
        wait_until(begun.exists, "upkeep begins")
        assert select.select([reads], [], [], 0)[0], "the upkeep has the pipe open"
    finally:
        over.touch()
        os.close(reads)
