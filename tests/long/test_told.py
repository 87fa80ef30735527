"""What a remote has said to have landed counts as seen: a remote that has lost it has gone back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.sequencing import switch

from coordledger.client.told import ToldPlaces
from coordledger.errors import Integrity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

OID = "ab" * 20


@pytest.fixture
def sequenced(make_fleet: Callable[..., Fleet]) -> Fleet:
    """bob knows that the server sequences; alice has been ahead of him since."""
    fleet = make_fleet()
    fleet.enroll("bob")
    switch(fleet, sequence=True)
    bob = fleet.ledger("bob")
    bob.tasks()
    bob.submit("warm")
    for task in ("a1", "a2"):
        fleet.ledger("alice").submit(task)
    return fleet


def roll_back(fleet: Fleet, backup: Path) -> None:
    shutil.rmtree(fleet.remote)
    shutil.copytree(backup, fleet.remote)


@pytest.mark.parametrize("queue", ["on", "off"])
def test_a_win_that_the_server_has_lost_is_noticed(
    sequenced: Fleet, tmp_path: Path, queue: str
) -> None:
    fleet, backup = sequenced, tmp_path / "backup.git"
    shutil.copytree(fleet.remote, backup)
    bob = fleet.ledger("bob", environ=fleet.env | {"COORDLEDGER_QUEUE": queue})
    assert bob.claim("secret").won
    told = bob.connection.local.told.all()
    assert [oid for _, oid in told] == [fleet.head()]
    roll_back(fleet, backup)
    for act in (bob.tasks, lambda: bob.require("secret", epoch=1)):
        with pytest.raises(Integrity) as lost:
            act()
        assert lost.value.code == "told-lost"
    alice = fleet.ledger("alice", environ=fleet.env | {"COORDLEDGER_QUEUE": "off"})
    assert alice.claim("secret").won  # the same task and epoch, at the same place
    alice.submit("more")
    with pytest.raises(Integrity) as lost:  # another process of bob's clone
        fleet.ledger("bob").require("secret", epoch=1)
    assert lost.value.code == "told-lost"
    bob.reset()
    assert bob.show("secret").agent == "alice"


def test_a_server_that_is_back_at_the_very_head_of_the_copy_has_lost_what_it_told(
    sequenced: Fleet,
) -> None:
    bob = sequenced.ledger("bob")
    bob.connection.local.told.add(bob.head().seq + 1, OID)
    with pytest.raises(Integrity) as lost:
        bob.tasks()
    assert lost.value.code == "told-lost"


def test_what_is_there_as_it_was_told_is_not_asked_about_again(sequenced: Fleet) -> None:
    bob = sequenced.ledger("bob", environ=sequenced.env | {"COORDLEDGER_QUEUE": "off"})
    for task in ("one", "two", "three"):
        assert bob.claim(task).won
    assert len(bob.connection.local.told.all()) == 3
    sequenced.ledger("alice").submit("more")
    assert {claim.task for claim in bob.tasks()} >= {"one", "two", "three", "more"}
    assert bob.connection.local.told.all() == []
    assert bob.claim("more").won


def test_places_outlive_the_process_and_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "told"
    ToldPlaces(path).add(7, OID)
    with path.open("a") as file:
        file.write("\n8 abab")  # the disk was full, or the power went
    ToldPlaces(path).add(9, OID)
    assert ToldPlaces(path).all() == [(7, OID), (9, OID)]
    ToldPlaces(path).forget([(7, OID)])  # the other one was told after the remote was asked
    assert ToldPlaces(path).all() == [(7, OID), (9, OID)]
    ToldPlaces(path).forget([(7, OID), (9, OID)])
    assert ToldPlaces(path).all() == []
