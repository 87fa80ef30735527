"""Fenced refs: code lands with a record under a live claim, and neither without the other.

All pushes here are plain git's, atomic or not; the one who pushes may be enrolled.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF
from support.pusher import FREE, MAIN, NOWHERE, RELEASE, Pusher, fence
from support.sequencing import FOR_REF, switch
from support.serve_process import serving
from support.ways_in import DIRECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet
    from support.ways_in import WayIn


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Iterator[Fleet]:
    fleet = founded("bob", "carol")
    fence(fleet)
    switch(fleet, sequence=True)
    for agent, task in (("bob", "work"), ("carol", "hers")):
        with fleet.ledger(agent, session="s1") as ledger:
            assert ledger.claim(task, ttl=timedelta(hours=2)).won
    with serving(fleet):
        yield fleet


@pytest.fixture
def pusher(shared_fleet: Fleet, tmp_path: Path) -> Iterator[Pusher]:
    made = Pusher(shared_fleet, tmp_path / "pusher.git")
    yield made
    made.close()


@pytest.mark.parametrize("way", DIRECT.values(), ids=DIRECT)
def test_code_lands_with_its_record_in_one_atomic_push(pusher: Pusher, way: WayIn) -> None:
    old = pusher.there(MAIN)
    new = pusher.code(f"by {way}", None if old == NOWHERE else old)
    record = pusher.lands(new, old)
    with way.alone(pusher.fleet):
        pushed = pusher.atomic(f"{record}:{LEDGER_REF}", f"{new}:{MAIN}")
    assert pushed.slug == "", pushed.err
    assert (pusher.tip, pusher.there(MAIN)) == (record, new)
    assert f"land work epoch 1 {MAIN} {old[:12]}..{new[:12]}" in pusher.fleet.git(
        "log", "-1", "--format=%s", LEDGER_REF
    )


def test_several_refs_in_one_push_each_with_its_record(pusher: Pusher) -> None:
    main, release = pusher.there(MAIN), pusher.there(RELEASE)
    one, two = pusher.code("one"), pusher.code("two")
    pusher.lands(one, main)
    record = pusher.lands(two, release, RELEASE)
    refs = (f"{one}:{MAIN}", f"{two}:{RELEASE}", f"{one}:{FREE}")
    assert pusher.atomic(f"{record}:{LEDGER_REF}", *refs).slug == ""
    assert [pusher.there(ref) for ref in (MAIN, RELEASE, FREE)] == [one, two, one]
    pusher.go_on_from(record)
    record = pusher.lands(NOWHERE, two, RELEASE)
    assert pusher.atomic(f"{record}:{LEDGER_REF}", f":{RELEASE}").slug == ""
    assert pusher.there(RELEASE) == NOWHERE


@pytest.mark.parametrize(
    "ref", [MAIN, RELEASE, "refs/heads/release/x\xe9", "refs/heads/release/a/b"]
)
def test_a_fenced_ref_does_not_move_without_a_record(pusher: Pusher, ref: str) -> None:
    new = pusher.code("alone")
    before = pusher.refs()
    for way in DIRECT.values():
        with way.alone(pusher.fleet):
            assert pusher.push(f"{new}:{ref}").slug == "fenced"
    assert pusher.refs() == before


def test_other_refs_pass_after_the_shell_alone(pusher: Pusher) -> None:
    new = pusher.code("free")
    for ref in (
        FREE,
        "refs/heads/mainly",
        "refs/heads/x/main",
        "refs/tags/main",
        "refs/heads/release",
    ):
        with DIRECT["pre-receive"].alone(pusher.fleet):
            hook = pusher.fleet.remote / "hooks/pre-receive"
            whole = hook.read_text()
            hook.write_text(whole.replace("\npython=", "\npython=/bin/false #"))
            try:
                assert pusher.push(f"{new}:{ref}").code == 0
            finally:
                hook.write_text(whole)
        pusher.push(f":{ref}")


ALONE = {
    "nothing moves": lambda p, new, old: ([p.lands(new, old)], []),
    "another ref moves": lambda p, new, old: ([p.lands(new, old)], [f"{new}:{FREE}"]),
    "to another commit": lambda p, new, old: ([p.lands(p.code("x"), old)], [f"{new}:{MAIN}"]),
    "from another commit": lambda p, new, old: ([p.lands(new, p.code("x"))], [f"{new}:{MAIN}"]),
    "twice": lambda p, new, old: ([p.lands(new, old), p.lands(new, old)], [f"{new}:{MAIN}"]),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_record_does_not_land_without_the_move_that_it_says(pusher: Pusher, case: str) -> None:
    old, new = pusher.there(MAIN), pusher.code(case)
    records, others = ALONE[case](pusher, new, old)
    before = pusher.refs()
    for way in DIRECT.values():
        with way.alone(pusher.fleet):
            pushed = pusher.atomic(f"{records[-1]}:{LEDGER_REF}", *others)
            assert pushed.slug == "land-alone", pushed.err
    assert pusher.refs() == before


def test_a_record_about_a_ref_that_is_not_fenced_is_refused(pusher: Pusher) -> None:
    new = pusher.code("free")
    old = pusher.there(FREE)
    record = pusher.lands(new, old, FREE)
    assert pusher.atomic(f"{record}:{LEDGER_REF}", f"{new}:{FREE}").slug == "not-fenced"


STALE = {
    "of another": ({"agent": "carol"}, "not-holder"),
    "of another epoch": ({"epoch": 2}, "wrong-epoch"),
    "of another session": ({"session": "s2"}, "not-holder"),
    "that nobody has": ({"task": "free"}, "unknown-task"),
}


@pytest.mark.parametrize("case", STALE)
def test_a_claim_that_is_not_the_pushers_lands_nothing(pusher: Pusher, case: str) -> None:
    given, slug = STALE[case]
    agent = given.get("agent", "bob")
    fields = {"task": "work"} | {k: v for k, v in given.items() if k != "agent"}
    old, new = pusher.there(MAIN), pusher.code(case)
    signed = pusher.signed(agent, "land", ref=MAIN, old=old, new=new, **fields)
    record = pusher.render(signed)
    before = pusher.refs()
    assert pusher.atomic(f"{record}:{LEDGER_REF}", f"{new}:{MAIN}").slug == slug
    assert pusher.refs() == before


def test_what_git_takes_apart_lands_as_a_whole_or_not_at_all(pusher: Pusher) -> None:
    """Without --atomic each ref has a transaction of its own, before git 2.50."""
    old, new = pusher.there(MAIN), pusher.code("taken apart")
    record = pusher.lands(new, old)
    before = (pusher.tip, old)
    pushed = pusher.push(f"{record}:{LEDGER_REF}", f"{new}:{MAIN}")
    after = (pusher.tip, pusher.there(MAIN))
    assert after in (before, (record, new))
    assert (after == before) == (pushed.code != 0)
    if after == before:
        assert "not-together" in pushed.err


@pytest.mark.parametrize("refused", [MAIN, LEDGER_REF])
@pytest.mark.parametrize("atomic", [True, False])
def test_what_another_hook_refuses_takes_the_rest_with_it(
    pusher: Pusher, refused: str, atomic: bool
) -> None:
    update = pusher.fleet.remote / "hooks/update"
    update.write_text(f'#!/bin/sh\n[ "$1" != {refused} ]\n')
    update.chmod(0o755)
    try:
        old, new = pusher.there(MAIN), pusher.code(f"{refused} {atomic}")
        record = pusher.lands(new, old)
        before = pusher.refs()
        specs = (f"{record}:{LEDGER_REF}", f"{new}:{MAIN}")
        pushed = pusher.atomic(*specs) if atomic else pusher.push(*specs)
        assert pushed.code != 0
        assert pusher.refs() == before
    finally:
        update.unlink()


def test_a_land_record_is_not_sequenced(pusher: Pusher) -> None:
    old, new = pusher.there(MAIN), pusher.code("sequenced")
    record = pusher.lands(new, old)
    before = pusher.refs()
    pushed = pusher.atomic(f"{record}:{FOR_REF}", f"{new}:{MAIN}")
    assert pushed.code != 0
    assert "land-not-sequenced" in pushed.err or "fenced" in pushed.err, pushed.err
    assert pusher.refs() == before
