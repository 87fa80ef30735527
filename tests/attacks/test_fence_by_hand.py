"""Pushes to fenced refs that no git client makes, or that the repository's settings bend."""

from __future__ import annotations

import contextlib
import itertools
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain
from support.fleet import LEDGER_REF, Fleet
from support.pusher import FREE, MAIN, NOWHERE, RELEASE, Pusher, fence

from coordledger.deadline import Deadline
from coordledger.git.process import Git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


VERSION = Git({"PATH": os.environ["PATH"]}, Path("/"), Deadline(10)).version()[0]
TOGETHER = VERSION >= (2, 50)  # git keeps a push together that is not atomic


@pytest.fixture(scope="module", params=["files", "tables"])
def shared_fleet(founded: Callable[..., Fleet], request: pytest.FixtureRequest) -> Fleet:
    """Whose remote keeps its refs so."""
    fleet = founded("bob", "carol")
    if request.param == "tables":
        if VERSION < (2, 46):
            pytest.skip("this git has no reftable")
        fleet.git("refs", "migrate", "--ref-format=reftable")
    fence(fleet, MAIN, "refs/heads/release/*", "refs/tags/v*")
    with fleet.ledger("bob", session="s1") as ledger:
        assert ledger.claim("work", ttl=timedelta(hours=2)).won
    return fleet


@pytest.fixture
def pusher(shared_fleet: Fleet, tmp_path: Path) -> Iterator[Pusher]:
    made = Pusher(shared_fleet, tmp_path / "pusher.git")
    yield made
    made.close()


def no_half(pusher: Pusher, *commands: tuple[str, str, str], atomic: bool) -> bool:
    """Push by hand: all of it happens or nothing. Whether it did."""
    before = pusher.fleet.git("for-each-ref")
    wanted = {ref: new for _, new, ref in commands}
    pushed = pusher.by_hand(*commands, atomic=atomic)
    if pusher.fleet.git("for-each-ref") == before:
        return False
    assert {ref: pusher.there(ref) for ref in wanted} == wanted, pushed
    return True


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_ledger_comes_first_as_git_push_has_it(
    pusher: Pusher, order: tuple[int, ...], atomic: bool
) -> None:
    """git writes refs in this order: one that is killed leaves no code without a record."""
    main, release = pusher.there(MAIN), pusher.there(RELEASE)
    one, two = pusher.code(f"{order} {atomic} one"), pusher.code(f"{order} {atomic} two")
    pusher.lands(one, main)
    ledger, record = pusher.tip, pusher.lands(two, release, RELEASE)
    commands = ((ledger, record, LEDGER_REF), (main, one, MAIN), (release, two, RELEASE))
    landed = no_half(pusher, *(commands[n] for n in order), atomic=atomic)
    assert landed is (order[0] == 0 and (atomic or TOGETHER))


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_ref_that_stands_twice_in_a_push_moves_nothing(
    pusher: Pusher, atomic: bool, first: bool
) -> None:
    old, new, other = pusher.there(MAIN), pusher.code(f"it {atomic}"), pusher.code("another")
    record = pusher.lands(new, old)
    twice = [(old, new, MAIN), (old, other, MAIN)]
    commands = [(pusher.tip, record, LEDGER_REF), *(twice if first else twice[::-1])]
    before = pusher.fleet.git("for-each-ref")
    assert pusher.by_hand(*commands, atomic=atomic).slug == "bad-push"
    assert pusher.fleet.git("for-each-ref") == before


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("target", [MAIN, "refs/heads/release/new"])
def test_a_symbolic_ref_leads_to_no_fenced_ref(pusher: Pusher, atomic: bool, target: str) -> None:
    alias = "refs/heads/alias"
    pusher.fleet.git("symbolic-ref", alias, target)
    try:
        new, old = pusher.code(f"by alias {atomic}{target}"), pusher.there(target)
        assert not no_half(pusher, (pusher.there(alias), new, alias), atomic=atomic)
        record = pusher.lands(new, old, target)
        ledger, direct = (pusher.tip, record, LEDGER_REF), (old, new, target)
        assert not no_half(pusher, ledger, (old, new, alias), atomic=atomic)
        both = no_half(pusher, ledger, (old, new, alias), direct, atomic=atomic)
        assert both is (atomic or TOGETHER)
    finally:
        pusher.fleet.git("symbolic-ref", "--delete", alias)


@contextlib.contextmanager
def meanwhile(pusher: Pusher, what: str) -> Iterator[None]:
    """Between pre-receive and git's transaction somebody is faster."""
    aside = f"env -u GIT_QUARANTINE_PATH git -c core.hooksPath=/x {what}"
    receive = pusher.fleet.remote / "hooks/pre-receive"
    whole = receive.read_text()
    receive.with_name("pre-receive.whole").write_text(whole)
    receive.with_name("pre-receive.whole").chmod(0o755)
    receive.write_text(f'#!/bin/sh\n"$0.whole" || exit\n{aside}\n')
    try:
        yield
    finally:
        receive.write_text(whole)
        receive.with_name("pre-receive.whole").unlink()


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("loser", [LEDGER_REF, MAIN, RELEASE])
def test_one_ref_loses_the_race(pusher: Pusher, loser: str, atomic: bool) -> None:
    """Where nobody has asked for an atomic push, git may leave that one out alone."""
    main, release, ledger = pusher.there(MAIN), pusher.there(RELEASE), pusher.tip
    [other] = pusher.voids(1)
    raced = other if loser == LEDGER_REF else pusher.code("faster")
    assert pusher.push(f"{raced}:refs/keep/{raced}").code == 0
    pusher.go_on_from(ledger)
    one, two = pusher.code(f"{loser} {atomic}"), pusher.code(f"{loser} {atomic}, too")
    pusher.lands(one, main)
    record = pusher.lands(two, release, RELEASE)
    commands = ((ledger, record, LEDGER_REF), (main, one, MAIN), (release, two, RELEASE))
    before = {LEDGER_REF: ledger, MAIN: main, RELEASE: release}
    with meanwhile(pusher, f"update-ref {loser} {raced}"):
        pusher.by_hand(*commands, atomic=atomic)
    assert {ref: pusher.there(ref) for ref in before} == before | {loser: raced}
    back = (
        ("update-ref", loser, before[loser])
        if before[loser] != NOWHERE
        else ("update-ref", "-d", loser)
    )
    pusher.fleet.git("-c", "core.hooksPath=/x", *back)


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("in_the_way", ["above", "below", "a file"])
def test_one_ref_cannot_be_made(pusher: Pusher, in_the_way: str, atomic: bool) -> None:
    ref = f"refs/heads/release/{in_the_way[:1]}/{atomic}/x"
    new = pusher.code(f"made {ref}")
    others = {"above": ref.rpartition("/")[0], "below": f"{ref}/y"}
    if in_the_way == "a file":
        new = pusher.add("blob", b"no commit")
    elif in_the_way in others:
        other = others[in_the_way]
        record = pusher.lands(new, NOWHERE, other)
        first = ((pusher.tip, record, LEDGER_REF), (NOWHERE, new, other))
        assert no_half(pusher, *first, atomic=True)
        pusher.go_on_from(pusher.tip)
    record = pusher.lands(new, NOWHERE, ref)
    commands = ((pusher.tip, record, LEDGER_REF), (NOWHERE, new, ref))
    assert not no_half(pusher, *commands, atomic=atomic)


@pytest.mark.parametrize("atomic", [True, False])
def test_two_refs_of_a_push_are_in_each_others_way(pusher: Pusher, atomic: bool) -> None:
    above, below = f"refs/heads/release/{atomic}", f"refs/heads/release/{atomic}/below"
    new = pusher.code("both")
    for fenced, other in ((above, below), (below, above)):
        pusher.go_on_from(pusher.tip)
        pusher.lands(new, NOWHERE, fenced)
        record = pusher.lands(new, NOWHERE, other)
        rest = ((NOWHERE, new, fenced), (NOWHERE, new, other))
        assert not no_half(pusher, (pusher.tip, record, LEDGER_REF), *rest, atomic=atomic)


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_tags_come_and_go_under_a_claim(pusher: Pusher, atomic: bool, packed: bool) -> None:
    ref = f"refs/tags/v{atomic}{packed}"
    commit = pusher.code("tagged")
    text = f"object {commit}\ntype commit\ntag v\ntagger B <b@example.com> 1790000000 +0000\n\nx\n"
    tag = pusher.add("tag", text.encode())
    record = pusher.lands(tag, NOWHERE, ref)
    assert no_half(pusher, (pusher.tip, record, LEDGER_REF), (NOWHERE, tag, ref), atomic=True)
    if packed:
        pusher.fleet.git("pack-refs", "--all")
    pusher.go_on_from(pusher.tip)
    assert not no_half(pusher, (tag, NOWHERE, ref), atomic=atomic)
    record = pusher.lands(NOWHERE, tag, ref)
    commands = (pusher.tip, record, LEDGER_REF), (tag, NOWHERE, ref)
    assert no_half(pusher, *commands, atomic=atomic) is atomic
    assert (pusher.there(ref) == tag) is not atomic


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("claimed", ["0", "d"])
def test_what_is_removed_had_the_value_that_the_record_says(
    pusher: Pusher, packed: bool, claimed: str
) -> None:
    """git does not look at a value that is no object of its."""
    alias, ref = "refs/heads/alias", f"refs/heads/release/{packed}{claimed}"
    new, lie = pusher.code("there"), claimed * 40
    record = pusher.lands(new, NOWHERE, ref)
    assert no_half(pusher, (pusher.tip, record, LEDGER_REF), (NOWHERE, new, ref), atomic=True)
    pusher.go_on_from(pusher.tip)
    pusher.fleet.git("symbolic-ref", alias, ref)
    try:
        if packed:
            pusher.fleet.git("pack-refs", "--all")
        before = pusher.fleet.git("for-each-ref")
        for name in (alias, ref):
            pusher.by_hand((lie, NOWHERE, name))
            assert pusher.fleet.git("for-each-ref") == before
        if lie != NOWHERE:
            record = pusher.lands(NOWHERE, lie, ref)
            commands = (pusher.tip, record, LEDGER_REF), (lie, NOWHERE, ref)
            assert pusher.by_hand(*commands, atomic=True).slug == "code-moved"
            assert pusher.fleet.git("for-each-ref") == before
    finally:
        pusher.fleet.git("symbolic-ref", "--delete", alias)


def test_a_repository_that_is_fenced_is_tidied_up_as_ever(pusher: Pusher) -> None:
    """Packing refs is a transaction, too, and so is the removal of what was packed."""
    for count in range(2):
        for ref in (MAIN, RELEASE, FREE):
            old, new = pusher.there(ref), pusher.code(f"{ref} {count}")
            record = pusher.lands(new, old, ref) if ref != FREE else ""
            ledger = [(pusher.tip, record, LEDGER_REF)] if record else []
            assert no_half(pusher, *ledger, (old, new, ref), atomic=True)
            pusher.go_on_from(pusher.tip)
        before = pusher.fleet.git("for-each-ref")
        pusher.fleet.git("gc", "--quiet")
        assert pusher.fleet.git("for-each-ref") == before
        assert not (pusher.fleet.remote / MAIN).exists()
        assert not (pusher.fleet.remote / RELEASE).exists()


def test_a_removal_is_not_taken_for_packing(pusher: Pusher) -> None:
    """It looks the same, but for the lock that git has then."""
    old, new = pusher.there(MAIN), pusher.code("to be removed")
    record = pusher.lands(new, old)
    assert no_half(pusher, (pusher.tip, record, LEDGER_REF), (old, new, MAIN), atomic=True)
    pusher.fleet.git("pack-refs", "--all", "--no-prune")
    before = pusher.fleet.git("for-each-ref")
    ran = pusher.fleet.remote / "hooks/pre-receive"
    whole = ran.read_text()
    ran.write_text("#!/bin/sh\n")  # what is left is the hook that is asked here
    try:
        pushed = pusher.push(f":{MAIN}")
    finally:
        ran.write_text(whole)
    assert "not-together" in pushed.err
    assert pusher.fleet.git("for-each-ref") == before


def test_it_holds_where_ids_are_longer(tmp_path: Path, env: dict[str, str]) -> None:
    server = tmp_path / "fleet/ledger.git"
    server.parent.mkdir()
    made = ("git", "init", "--quiet", "--bare", "--object-format=sha256", server)
    assert plain(*made, cwd=tmp_path, env=env).returncode == 0
    fleet = Fleet(tmp_path / "fleet", env | {"GIT_DEFAULT_HASH": "sha256"})
    fence(fleet)
    clone = fleet.clone("alice")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    for number in range(2):
        fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", f"{number}", cwd=clone)
        alone = plain("git", "push", "origin", f"HEAD:{MAIN}", cwd=clone, env=fleet.env)
        assert b"coordledger: refused -: fenced: " in alone.stderr
        with fleet.ledger("alice", session="s1") as ledger:
            ledger.claim(f"task-{number}", ttl=timedelta(hours=1))
            ledger.push("HEAD:main", complete=True)
        assert fleet.git("rev-parse", MAIN) == fleet.git("rev-parse", "HEAD", cwd=clone)
        fleet.git("gc", "--quiet")
    with fleet.ledger("alice", session="s1") as ledger:
        ledger.claim("last", ttl=timedelta(hours=1))
        ledger.push(f":{MAIN}", complete=True)
    assert not fleet.git("for-each-ref", MAIN)
    fleet.close()
