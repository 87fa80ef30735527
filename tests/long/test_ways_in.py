"""One suite for all ways in: what one refuses, each refuses, with the same words.

A hook may be a process of its own or ask a resident; a record may be pushed as a whole commit
(pre-receive) or to be sequenced (proc-receive). The very same commit goes by each way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck, second_opinion
from support.fleet import LEDGER_REF
from support.forgeries import (
    FORGED,
    LATE,
    REWRITES,
    TREES,
    UNFIT,
    commit_with_tree,
    forged,
    good,
)
from support.sequencing import bring, seq_of, switch
from support.serve_process import serving
from support.ways_in import (
    ALL,
    DIRECT,
    HANDED_ON,
    IN_QUARANTINE,
    SEQUENCED,
    WAYS_IN,
    accounted,
    refusals,
    refused_alike,
)

from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.attacker import Attacker
    from support.fleet import Fleet


@pytest.fixture(scope="module")
def shared_fleet(sequenced_fleet: Fleet) -> Iterator[Fleet]:
    with serving(sequenced_fleet):
        yield sequenced_fleet


# -- what is right passes


@pytest.mark.parametrize("name", ALL)
def test_right_records_pass(attacker: Attacker, name: str) -> None:
    way = ALL[name]
    for count in (1, 3, 70):
        *_, last = attacker.voids(count)
        assert way.push(attacker, last).slug == ""
        assert attacker.tip == last


# -- what is wrong does not


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_record_is_refused(attacker: Attacker, case: str) -> None:
    make, slug = FORGED[case]
    refused_alike(attacker, make(attacker), slug)


@pytest.mark.parametrize("case", UNFIT)
def test_what_is_no_record_or_too_much_is_refused(attacker: Attacker, case: str) -> None:
    make, slug = UNFIT[case]
    refused_alike(attacker, make(attacker), slug)


@pytest.mark.parametrize("case", LATE)
def test_a_record_at_the_wrong_time_is_refused(attacker: Attacker, case: str) -> None:
    make, slug = LATE[case]
    words = refusals(attacker, make(attacker), slug, ALL)
    assert len({re.sub(r"\d+ s ", "N s ", line) for line in words}) == 1  # the clock goes on


def test_of_several_records_the_bad_one_is_named(attacker: Attacker) -> None:
    """The client that pushed them together can send the others again."""
    first = good(attacker)
    bad = forged(attacker, on=first)
    last = good(attacker, on=bad)
    [words] = refusals(attacker, last, "bad-signature", ALL)
    assert words.startswith(f"coordledger: refused {bad[:12]}: ")


@pytest.mark.parametrize("case", LATE)
def test_each_record_of_a_push_has_to_be_of_the_right_time(attacker: Attacker, case: str) -> None:
    """Not only the last one, whose commit the ref is to name."""
    make, slug = LATE[case]
    bad = make(attacker)
    for words in refusals(attacker, good(attacker, on=bad), slug, ALL):
        assert words.startswith(f"coordledger: refused {bad[:12]}: ")


# -- what surrounds the record: whole commits are compared, a sequencer makes them anew


@pytest.mark.parametrize("case", TREES)
def test_a_tree_that_the_record_does_not_make_never_lands(attacker: Attacker, case: str) -> None:
    right, wrong = commit_with_tree(attacker, TREES[case])
    [words] = refusals(attacker, wrong, "bad-commit", DIRECT)
    assert words.startswith(f"coordledger: refused {wrong[:12]}: ")
    [words] = refusals(attacker, wrong, "unneeded", HANDED_ON)
    bring(attacker, wrong)  # with a branch: then nothing comes with the record
    for way in SEQUENCED.values():
        accounted(attacker, way.push(attacker, wrong), wrong, right)
    assert attacker.push(f":refs/heads/{wrong}").slug == ""


@pytest.mark.parametrize("way", IN_QUARANTINE)
def test_what_comes_with_a_record_in_quarantine_goes_with_it(attacker: Attacker, way: str) -> None:
    for change in TREES.values():
        right, wrong = commit_with_tree(attacker, change)
        accounted(attacker, IN_QUARANTINE[way].push(attacker, wrong), wrong, right)
        listed = "--batch-all-objects", "--batch-check=%(objectname)"
        there = attacker.fleet.git("cat-file", *listed).split()
        assert right in there
        assert wrong not in there


@pytest.mark.parametrize("case", REWRITES)
def test_history_only_grows(attacker: Attacker, case: str) -> None:
    make, slug, sequenced = REWRITES[case]
    oid, head = make(attacker), attacker.tip
    assert len(refusals(attacker, oid, slug, DIRECT)) == 1
    for way in SEQUENCED.values() if sequenced is not None else ():
        assert way.push(attacker, oid).slug == sequenced
        attacker.fleet.git("merge-base", "--is-ancestor", head, attacker.tip)
        assert seq_of(attacker, attacker.tip) - seq_of(attacker, head) <= 1


# -- a server that cannot work


def _expose_master(master: Path) -> None:
    master.chmod(0o644)


def _empty_master(master: Path) -> None:
    master.write_text("")


def _other_master(master: Path) -> None:
    master.write_text(mint().reveal() + "\n")


DAMAGED = {
    "a master that others can read": (_expose_master, "hook-broken"),
    "an empty master": (_empty_master, "hook-broken"),
    "another master": (_other_master, "no-secret"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_server_that_cannot_verify_admits_nothing(attacker: Attacker, case: str) -> None:
    damage, slug = DAMAGED[case]
    oid, master = good(attacker), attacker.fleet.remote / "coordledger/master"
    text = master.read_text()
    damage(master)
    try:
        words = refusals(attacker, oid, slug, ALL)
    finally:
        master.write_text(text)
        master.chmod(0o600)
    assert len({line.partition(f": {slug}: ")[2] for line in words}) == 1
    assert WAYS_IN["pre-receive by the resident"].push(attacker, oid).slug == ""


def test_a_server_whose_clock_jumped_admits_nothing(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    switch(fleet, sequence=True)
    attacker = attacker_for(fleet)
    attacker.found(days_ago=40)
    oid = good(attacker)
    with serving(fleet):
        refused_alike(attacker, oid, "gap")


def test_what_has_landed_is_sound(shared_fleet: Fleet) -> None:
    shared_fleet.git("prune", "--expire=now")  # what was pushed to be sequenced may be odd
    fsck(shared_fleet.remote, shared_fleet.env)
    count = int(shared_fleet.git("rev-list", "--count", LEDGER_REF))
    assert second_opinion(shared_fleet.remote) == count
    assert not shared_fleet.ledger("bob").audit(full=True).problems
