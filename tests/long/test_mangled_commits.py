"""A commit with any one thing changed is refused alike by all ways into a ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.forgeries import MANGLED_AROUND, MANGLED_RECORD, mangled
from support.sequencing import switch
from support.serve_process import serving
from support.ways_in import DIRECT, SEQUENCED, accounted, refusals, refused_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.attacker import Attacker
    from support.fleet import Fleet


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Iterator[Fleet]:
    fleet = founded("bob", "carol")
    switch(fleet, sequence=True)
    with serving(fleet):
        yield fleet


def message(attacker: Attacker) -> str:
    return attacker.propose(attacker.signed("bob", "send", channel="general", body="hello"))


def test_a_commit_with_one_thing_changed_around_the_record_never_lands(attacker: Attacker) -> None:
    right = message(attacker)
    commits = {case: mangled(attacker, right, *how) for case, how in MANGLED_AROUND.items()}
    for case, wrong in commits.items():
        assert len(refusals(attacker, wrong, "bad-commit", DIRECT)) == 1, case
    for wrong in commits.values():
        for way in SEQUENCED.values():
            accounted(attacker, way.push(attacker, wrong), wrong, right)


def test_a_commit_whose_record_cannot_be_read_is_refused(attacker: Attacker) -> None:
    right = message(attacker)
    for pattern, new, slug in MANGLED_RECORD.values():
        refused_alike(attacker, mangled(attacker, right, pattern, new), slug)
    assert attacker.push(right).slug == ""  # nothing else was wrong with it
