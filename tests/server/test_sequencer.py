"""The sequencer: real pushes to refs/for/coordledger/*, answered by the real proc-receive hook."""

from __future__ import annotations

import fcntl
import os
import posix
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket, socketpair
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import TRY_REF, Pushed, fsck, opened, packet, plain, second_opinion
from support.fleet import LEDGER_REF
from support.serve_process import serving

from coordledger.answers import Landed
from coordledger.errors import Failed
from coordledger.format.commit import envelope, parse_commit
from coordledger.format.signing import Signed
from coordledger.git import durable
from coordledger.git.loose import Reader
from coordledger.git.process import Deadline, Git
from coordledger.git.tree import object_id
from coordledger.server import proc_receive, sequencer
from coordledger.server.admission import server_keyring
from coordledger.server.combiner import Combiner
from coordledger.server.sequencer import Sequencer
from coordledger.setup.genesis import mint
from coordledger.setup.hooks import install_hook

from .test_pre_receive import FORGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.attacker import Attacker
    from support.fleet import Fleet
    from support.serve_process import ServeProcess

FOR_REF = "refs/for/coordledger/main"
ZERO = "0" * 40
PACKAGE = Path(durable.__file__).parents[2]
CRASH_WORKER = Path(__file__).parents[1] / "support" / "crash_worker.py"
_LANDED = re.compile("coordledger: landed ([0-9a-f]+) ([0-9]+) ([0-9a-f]+)")


def switch(fleet: Fleet, *, sequence: bool | None) -> list[str]:
    git = Git(fleet.env, fleet.root, Deadline(20))
    return install_hook(fleet.remote, git, sequence=sequence)


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    made = founded("bob", "carol")
    switch(made, sequence=True)
    return made


@pytest.fixture
def village(fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    """A forge on a sequencing fleet of the test's own; only alice is there."""
    switch(fleet, sequence=True)
    return attacker_for(fleet)


def landed(pushed: Pushed) -> list[tuple[str, int, str]]:
    """Pushed id, seq and id of what landed; the push must say nothing else."""
    assert pushed.slug == ""
    return [(old, int(seq), new) for old, seq, new in _LANDED.findall(pushed.err)]


def send(attacker: Attacker, oid: str, ref: str = FOR_REF) -> Pushed:
    return attacker.push(f"{oid}:{ref}")


def grow(attacker: Attacker, count: int = 1) -> None:
    """Other people's records, by ordinary pushes."""
    assert attacker.push(attacker.voids(count)[-1]).slug == ""


def seq_of(attacker: Attacker, oid: str) -> int:
    return parse_commit(oid, attacker.raw(oid)).seq


def is_sound(attacker: Attacker) -> None:
    """Everybody agrees that the chain is good, and nothing lies about."""
    fleet = attacker.fleet
    count = int(fleet.git("rev-list", "--count", LEDGER_REF))
    audit = fleet.ledger("alice").audit(full=True)
    assert (audit.problems, audit.verdicts) == ((), {"authentic": count})
    assert second_opinion(fleet.remote) == count
    fsck(fleet.remote, fleet.env)
    assert not list(fleet.remote.glob("refs/**/*.lock"))
    assert not (fleet.remote / "refs/for").exists()


# -- what lands, and where


def test_a_record_on_the_head_lands_as_it_was_pushed(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid, before = attacker.propose(attacker.signed("bob", "void")), attacker.tip
    pushed = attacker.push("--porcelain", f"{oid}:{FOR_REF}")
    assert landed(pushed) == [(oid, seq_of(attacker, oid), oid)]
    assert attacker.tip == oid
    # What git tells its user is the truth, too.
    assert f"{oid}:{LEDGER_REF}\t{before[:7]}..{oid[:7]}" in pushed.out
    is_sound(attacker)


def test_a_record_on_an_old_head_is_rendered_on_the_new_one(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    signed = attacker.signed("bob", "submit", task="late")
    oid = attacker.propose(signed)
    grow(attacker, 3)
    head = attacker.tip
    [(pushed, seq, new)] = landed(send(attacker, oid))
    assert (pushed, new, seq) == (oid, attacker.tip, seq_of(attacker, head) + 1)
    assert new != oid
    found = parse_commit(new, attacker.raw(new))
    assert (found.parent, found.signed.payload) == (head, signed.payload)
    assert found.signed.tag == signed.tag
    is_sound(attacker)


def test_the_chain_is_the_one_that_an_ordinary_push_makes(
    shared_fleet: Fleet, attacker: Attacker, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    signed = attacker.signed("bob", "submit", task="twin")
    oid = attacker.propose(signed)
    grow(attacker)
    wanted = attacker.propose(signed)  # by hand, on the new head
    assert [new for *_, new in landed(send(attacker, oid))] == [wanted]


def test_what_surrounds_the_signed_bytes_does_not_matter(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    """A lying subject, tree, seq, date: the record is right, and lands as it should look."""
    good = attacker.propose(attacker.signed("bob", "submit", task="dressed-up"))
    odd = attacker.changed(good, b"submit dressed-up", b"claim everything")
    odd = attacker.changed(odd, b"author bob", b"author eve")
    odd = attacker.changed(odd, b"Coordledger-Seq: ", b"Coordledger-Seq: 7")
    raw = attacker.raw(odd)
    odd = attacker.add("commit", b"tree %s" % attacker.tree().encode() + raw[raw.index(b"\n") :])
    assert landed(send(attacker, odd)) == [(odd, seq_of(attacker, good), good)]
    is_sound(attacker)


def enveloped(attacker: Attacker, *oids: str) -> list[str]:
    """The records of some commits, as our clients send them."""
    found: list[str] = []
    for oid in oids:
        above = found[-1] if found else None
        content = envelope(attacker.raw(oid), above, attacker.add("tree", b""))
        found.append(attacker.add("commit", content))
    return found


def lying(attacker: Attacker, oid: str, seq: int) -> str:
    """A commit with another seq."""
    line = b"Coordledger-Seq: %d" % seq
    return attacker.add("commit", re.sub(rb"(?m)^Coordledger-Seq: .*", line, attacker.raw(oid)))


def test_a_record_in_an_envelope_lands_where_the_head_is(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    proposal = attacker.propose(attacker.signed("bob", "submit", task="posted"))
    [sent] = enveloped(attacker, proposal)
    assert landed(send(attacker, sent)) == [(sent, seq_of(attacker, proposal), proposal)]
    assert attacker.tip == proposal
    again = landed(send(attacker, sent))
    assert again == [(sent, seq_of(attacker, proposal), proposal)]
    is_sound(attacker)


def test_a_chain_of_envelopes_lands_whole_or_not_at_all(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oids = attacker.voids(4)
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), mint()), on=oids[-1])
    sent = enveloped(attacker, *oids, bad)
    grow(attacker, 2)
    head = attacker.tip
    refused = send(attacker, sent[-1])
    assert (refused.slug, refused.short, attacker.tip) == ("bad-signature", sent[-1][:12], head)
    found = landed(send(attacker, sent[-2]))
    assert [pushed for pushed, *_ in found] == sent[:-1]
    assert [seq for _, seq, _ in found] == [seq_of(attacker, head) + n for n in (1, 2, 3, 4)]
    is_sound(attacker)


def test_an_envelope_that_lies_about_its_seq_changes_nothing(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    """Wherever it says that it stands, of a chain each record lands once, and none is left out."""
    first, second = attacker.voids(2)
    for lie in (0, 1, seq_of(attacker, attacker.tip), 10**9):
        sent = enveloped(attacker, *(lying(attacker, oid, lie) for oid in (first, second)))
        assert [pushed for pushed, *_ in landed(send(attacker, sent[-1]))] == sent
    is_sound(attacker)


def test_a_genesis_record_lands_nowhere_a_second_time(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    head = attacker.tip
    first = attacker.git("rev-list", "--max-parents=0", head).strip()
    for oid in (first, *enveloped(attacker, first)):
        assert send(attacker, oid).slug == "bad-genesis"
    assert attacker.tip == head


def test_two_on_one_head_both_land(shared_fleet: Fleet, attacker: Attacker) -> None:
    oids = [
        attacker.propose(attacker.signed(agent, "claim", tasks=[agent]))
        for agent in ("bob", "carol")
    ]
    [[first], [second]] = [landed(send(attacker, oid)) for oid in oids]
    assert first[1] + 1 == second[1]
    is_sound(attacker)


def test_of_two_who_want_the_same_the_first_has_it(shared_fleet: Fleet, attacker: Attacker) -> None:
    oids = [
        attacker.propose(attacker.signed(agent, "claim", tasks=["one"]))
        for agent in ("bob", "carol")
    ]
    assert len(landed(send(attacker, oids[0]))) == 1
    head = attacker.tip
    refused = send(attacker, oids[1])
    assert (refused.slug, refused.short) == ("held", oids[1][:12])
    assert "bob/s1" in refused.said[0]
    assert "(held)" in refused.err  # git's own line has the code
    assert attacker.tip == head


def test_a_chain_of_100_lands_in_one_push(shared_fleet: Fleet, attacker: Attacker) -> None:
    oids = attacker.voids(100)
    grow(attacker, 2)
    head = attacker.tip
    found = landed(send(attacker, oids[-1]))
    assert [pushed for pushed, *_ in found] == oids
    assert [seq for _, seq, _ in found] == list(range(found[0][1], found[0][1] + 100))
    assert attacker.tip == found[-1][2]
    assert parse_commit(found[0][2], attacker.raw(found[0][2])).parent == head
    is_sound(attacker)


def test_of_a_chain_with_a_bad_record_nothing_lands_and_the_bad_one_is_named(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    first = attacker.propose(attacker.signed("bob", "void"))
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), mint()), on=first)
    last = attacker.propose(attacker.signed("bob", "void"), on=bad)
    grow(attacker)
    head = attacker.tip
    pushed = send(attacker, last)
    assert (pushed.slug, pushed.short) == ("bad-signature", bad[:12])
    assert (attacker.tip, _LANDED.findall(pushed.err)) == (head, [])
    assert len(landed(send(attacker, first))) == 1


def test_a_chain_whose_beginning_has_landed_goes_on_from_there(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oids = attacker.voids(5)
    grow(attacker)
    first = landed(send(attacker, oids[1]))
    grow(attacker)
    whole = landed(send(attacker, oids[-1]))
    assert whole[:2] == first
    assert [pushed for pushed, *_ in whole] == oids
    assert len({seq for _, seq, _ in whole}) == 5
    is_sound(attacker)


def test_1025_records_are_too_many_and_so_are_1025_between(village: Attacker) -> None:
    head = village.tip
    oids = village.voids(1025)
    stale = village.propose(village.signed("alice", "submit", task="stale"))
    assert send(village, oids[-1]).slug == "too-many-records"
    assert village.tip == head
    assert len(landed(send(village, oids[-2]))) == 1024
    assert len(landed(send(village, stale))) == 1  # 1,024 have landed since
    late = village.propose(village.signed("alice", "void", on=oids[0]), on=oids[0])
    grow(village, 2)
    assert send(village, late).slug == "bad-genesis"  # what is below is out of reach: all comes
    assert send(village, *enveloped(village, late)).slug == "bad-base"
    # However far down an envelope says that it stands, none is left out.
    pair = village.voids(2)
    sent = enveloped(village, *(lying(village, oid, 0) for oid in pair))
    assert [pushed for pushed, *_ in landed(send(village, sent[-1]))] == sent


# -- what is refused


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_record_is_refused_as_pre_receive_does(attacker: Attacker, case: str) -> None:
    make, slug = FORGED[case]
    oid, head = make(attacker), attacker.tip
    pushed = send(attacker, oid)
    assert (pushed.slug, pushed.short) == (slug, oid[:12])
    assert f"({slug})" in pushed.err
    assert attacker.tip == head


def _huge(attacker: Attacker) -> str:
    return attacker.add("commit", attacker.raw(attacker.tip) + b"x" * 262_144)


def _no_commit(attacker: Attacker) -> str:
    return attacker.add("blob", b"x")


def _foreign(attacker: Attacker) -> str:
    who = "x <x@x> 1 +0000"
    text = f"tree {attacker.tree()}\nauthor {who}\ncommitter {who}\n\nx\n"
    return attacker.add("commit", text.encode())


@pytest.mark.parametrize(
    ("make", "slug"),
    [
        (_huge, "too-large"),
        (_no_commit, "bad-push"),
        (_foreign, "bad-commit"),
    ],
)
def test_what_is_no_record_is_refused(
    shared_fleet: Fleet, attacker: Attacker, make: Callable[[Attacker], str], slug: str
) -> None:
    head = attacker.tip
    assert send(attacker, make(attacker)).slug == slug
    assert attacker.tip == head


@pytest.mark.parametrize("later", [-40_000, 40_000])
def test_a_wrong_clock_is_refused(shared_fleet: Fleet, attacker: Attacker, later: int) -> None:
    attacker.later = later
    oid = attacker.propose(attacker.signed("bob", "void"))
    assert send(attacker, oid).slug == "clock-skew"


def test_a_takeover_waits_for_the_servers_clock(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = make_fleet(max_skew=1)
    switch(fleet, sequence=True)
    fleet.enroll("bob")
    attacker = attacker_for(fleet)
    claim = fleet.ledger("alice").claim("t", ttl=timedelta(milliseconds=100)).claim
    assert claim
    assert claim.claimable_at
    attacker.later = 1000
    while attacker.now < claim.claimable_at.timestamp() * 1000:
        time.sleep(0.02)
    assert (
        send(attacker, attacker.propose(attacker.signed("bob", "claim", tasks=["t"]))).slug
        == "too-early"
    )


def test_without_the_agents_secret_nothing_is_admitted(village: Attacker) -> None:
    oid = village.propose(village.signed("alice", "void"))
    (village.fleet.remote / "coordledger/master").write_text(mint().reveal() + "\n")
    assert send(village, oid).slug == "no-secret"


def test_a_ledger_is_neither_made_nor_deleted_nor_misnamed(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid, head = attacker.propose(attacker.signed("bob", "void")), attacker.tip
    assert send(attacker, oid, "refs/for/coordledger/other").slug == "no-create"
    for name in ("UPPER", "a.b", "a/b", "-x", "x" * 65):
        assert send(attacker, oid, f"refs/for/coordledger/{name}").slug == "bad-ref"
    assert send(attacker, oid, "refs/for/coordledger").code != 0
    zero = attacker.raw_push(oid, ZERO, FOR_REF)
    assert "no-delete" in zero.out
    assert attacker.tip == head
    assert not (shared_fleet.remote / "refs/for").exists()


@pytest.mark.parametrize("ref", ["refs/For/coordledger/main", "refs/for/Coordledger/main"])
@pytest.mark.parametrize("below", ["", "refs/heads/"])
def test_no_ref_is_made_that_looks_like_it(
    shared_fleet: Fleet, attacker: Attacker, ref: str, below: str
) -> None:
    oid = attacker.propose(attacker.signed("bob", "void"))
    assert attacker.refusal(f"{oid}:{below}{ref}") == "bad-ref"


def test_a_branch_with_the_refs_full_name_cannot_take_its_pushes(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    """`git push` would take it for what is meant."""
    oid = attacker.propose(attacker.signed("bob", "void"))
    assert attacker.refusal(f"{oid}:refs/heads/{FOR_REF}") == "bad-ref"
    assert len(landed(send(attacker, oid))) == 1


# -- what is sent again


def test_what_has_landed_is_answered_with_its_place_however_often(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid = attacker.propose(attacker.signed("bob", "submit", task="again"))
    grow(attacker)
    once = landed(send(attacker, oid))
    grow(attacker)
    head = attacker.tip
    assert landed(send(attacker, oid)) == once
    assert landed(send(attacker, once[0][2]))[0][1:] == once[0][1:]  # as it stands there
    assert attacker.tip == head


def test_it_has_landed_even_if_its_key_has_ended_since(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    shared_fleet.enroll("dave")
    oid = attacker.propose(attacker.signed("dave", "void"))
    once = landed(send(attacker, oid))
    shared_fleet.ledger("alice").revoke("dave")
    assert landed(send(attacker, oid)) == once


def test_another_record_of_the_same_intent_is_a_replay(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    record = attacker.record("bob", "submit", task="intent-a")
    other = record | {"task": "intent-b"}
    on = attacker.tip
    oids = [attacker.propose(attacker.sign(one), on=on) for one in (record, other)]
    stolen = attacker.stolen(oids[0])
    tagless = attacker.render(Signed(stolen.payload, stolen.record, bytes(32)), on=on)
    assert len(landed(send(attacker, oids[0]))) == 1
    assert send(attacker, oids[1]).slug == "replayed"
    assert send(attacker, tagless).slug == "bad-signature"


# -- many at once


def test_sixteen_pushers_need_one_push_for_each_record(village: Attacker) -> None:
    """Some of them for the same task: one wins."""
    oids = {}
    for n in range(48):
        task = f"t{n}" if n % 6 else "wanted"
        oids[village.propose(village.signed("alice", "claim", session=f"s{n}", tasks=[task]))] = (
            task
        )
    with ThreadPoolExecutor(16) as pool:
        pushes = dict(zip(oids, pool.map(lambda oid: send(village, oid), oids), strict=True))
    lost = {oid for oid, pushed in pushes.items() if pushed.slug}
    assert {pushes[oid].slug for oid in lost} == {"held"}
    assert Counter(oids[oid] for oid in lost) == {"wanted": 7}
    seqs = [seq for oid in set(oids) - lost for _, seq, _ in landed(pushes[oid])]
    assert sorted(seqs) == list(range(1, 42))
    assert int(village.fleet.git("rev-list", "--count", LEDGER_REF)) == 42
    is_sound(village)


def test_ordinary_pushes_at_the_same_time_lose_a_race_and_nothing_else(village: Attacker) -> None:
    start = village.tip
    sequenced = [
        village.propose(village.signed("alice", "submit", on=start, task=f"s{n}"), on=start)
        for n in range(12)
    ]
    ordinary = [village.signed("alice", "submit", on=start, task=f"o{n}") for n in range(8)]

    def press(signed: Signed) -> int:
        for tries in range(1, 200):
            if village.push(village.propose(signed)).code == 0:
                return tries
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        tries = pool.map(press, ordinary)
        pushes = list(pool.map(lambda oid: send(village, oid), sequenced))
        assert all(len(landed(pushed)) == 1 for pushed in pushes)
        assert min(tries) >= 1
    assert int(village.fleet.git("rev-list", "--count", LEDGER_REF)) == 21
    is_sound(village)


def test_refs_of_one_push_are_answered_each_on_its_own(village: Attacker) -> None:
    fleet = village.fleet
    fleet.git("update-ref", "refs/coordledger/twin", village.tip)
    good, code = village.propose(village.signed("alice", "void")), _foreign(village)
    bad = village.propose(village.sign(village.record("alice", "void"), mint()))
    pushed = village.push(
        f"{good}:{FOR_REF}", f"{bad}:refs/for/coordledger/twin", f"{code}:refs/heads/x"
    )
    assert (pushed.slug, pushed.short) == ("bad-signature", bad[:12])
    assert [new for *_, new in _LANDED.findall(pushed.err)] == [good] == [village.tip]
    assert fleet.head("refs/heads/x") == code
    # The same ledger by both ways: the ordinary one is too late.
    both = [village.propose(village.signed("alice", "submit", task=task)) for task in "ab"]
    pushed = village.push(f"{both[0]}:{FOR_REF}", f"{both[1]}:{LEDGER_REF}")
    assert (village.tip, pushed.code) == (both[0], 1)


def test_the_rest_of_a_refused_commit_does_not_speak_for_the_next_ledger(village: Attacker) -> None:
    """What is above the limit stays in git's pipe, behind which the next answers come."""
    fleet, lie = village.fleet, b"no record"
    for name in ("aaa", "bbb"):
        fleet.git("update-ref", f"refs/coordledger/{name}", village.tip)
    fleet.git("config", "receive.unpackLimit", "1")
    fleet.git("pack-refs", "--all")
    forged = f"{village.tip} commit {len(lie)}\n".encode() + lie + b"\n"
    large = village.add("commit", f"tree {village.tree()}\n".encode() + forged * 4500)
    good = village.propose(village.signed("alice", "void"))
    others = [f"{large}:refs/for/coordledger/{name}" for name in ("aaa", "bbb")]
    pushed = village.push(*others, f"{good}:{FOR_REF}")
    assert pushed.err.count("too-large") >= 2
    assert [new for *_, new in _LANDED.findall(pushed.err)] == [good] == [village.tip]


def test_an_atomic_push_is_refused_as_a_whole(shared_fleet: Fleet, attacker: Attacker) -> None:
    """git could take back the others, and never what the hook has landed."""
    oid, head = attacker.propose(attacker.signed("bob", "void")), attacker.tip
    branch = f"{_foreign(attacker)}:refs/heads/atomic"
    pushed = attacker.push("--atomic", f"{oid}:{FOR_REF}", branch)
    assert pushed.slug == "bad-push"
    assert "atomic" in pushed.said[0]
    assert attacker.tip == head
    assert not plain(
        "git", "show-ref", "refs/heads/atomic", cwd=shared_fleet.remote, env=shared_fleet.env
    ).stdout


def test_push_options_and_a_namespace_change_nothing(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    shared_fleet.git("config", "receive.advertisePushOptions", "true")
    oid = attacker.propose(attacker.signed("bob", "void"))
    assert len(landed(attacker.push("-o", "coordledger=off", f"{oid}:{FOR_REF}"))) == 1
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), mint()))
    pushed = attacker.push(f"{bad}:{FOR_REF}", env={"GIT_NAMESPACE": "elsewhere"})
    assert pushed.slug == "bad-signature"


# -- a resident process


@pytest.fixture
def desk(village: Attacker) -> Combiner:
    """A desk in this process. What it is to land has to be in the remote already: `bring`."""
    village.fleet.git("config", "core.logAllRefUpdates", "always")
    remote = str(village.fleet.remote)
    environ = village.fleet.env | {"GIT_DIR": remote}
    return Combiner(
        Sequencer("main", environ),
        threading.Lock(),
        lambda: Reader(environ),
        lambda: server_keyring(f"{remote}/coordledger"),
    )


def bring(attacker: Attacker, *oids: str) -> None:
    assert attacker.push(*(f"{oid}:refs/heads/{oid}" for oid in oids)).slug == ""


def test_what_waits_at_a_desk_lands_together(village: Attacker, desk: Combiner) -> None:
    start = village.tip
    goods = [
        village.propose(village.signed("alice", "submit", on=start, task=f"t{n}"), on=start)
        for n in range(12)
    ]
    twin = village.propose(village.signed("alice", "submit", on=start, task="t0"), on=start)
    bad = village.propose(village.sign(village.record("alice", "void"), mint()))
    chain = village.propose(village.sign(village.record("alice", "void"), mint()), on=goods[-1])
    bring(village, *goods, bad, chain, twin)
    grow(village)
    with (village.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one has the turn and waits, the others gather
        with ThreadPoolExecutor(15) as pool:
            came = [pool.submit(desk.land, oid) for oid in (*goods, bad, chain, twin)]
            while len(desk._waiting) < 14:
                time.sleep(0.01)
            fcntl.flock(file, fcntl.LOCK_UN)
            answers = [one.result() for one in came]
    assert all(answers)
    codes = [answer.code for answer in answers if answer]
    assert codes[:12].count("") == 12 - codes[:12].count("task-exists")
    assert sorted((codes[0], codes[-1])) == ["", "task-exists"]
    assert codes[12:14] == ["bad-signature"] * 2
    seqs = [line.seq for one in answers if one and not one.code for line in one.answers]
    assert sorted(seqs) == list(range(2, 14))
    moves = (village.fleet.remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert len(moves) <= 1 + 2  # an ordinary push; the first, and all the others
    is_sound(village)


def test_a_desk_and_hooks_of_their_own_and_ordinary_pushes_share_a_ledger(
    village: Attacker, desk: Combiner
) -> None:
    for n in range(3):
        oids = [village.propose(village.signed("alice", "submit", task=f"{n}{k}")) for k in "abc"]
        grow(village)
        assert len(landed(send(village, oids[0]))) == 1
        bring(village, oids[1])
        answer = desk.land(oids[1])
        assert answer
        assert answer.code == ""
        assert answer.new == village.tip
        again = desk.land(oids[0])
        assert again
        assert again.answers == [Landed(oids[0], 3 * n + 2, again.new)]
    assert village.push(village.propose(village.signed("alice", "void"))).slug == ""


def test_a_desk_that_cannot_land_says_so_or_says_nothing(
    village: Attacker, desk: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = village.propose(village.signed("alice", "void"))
    bring(village, oid)
    with (village.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with monkeypatch.context() as patch:
            patch.setattr(sequencer, "TURN_SECONDS", 0)
            answer = desk.land(oid)
    assert answer
    assert answer.code == "busy"
    with monkeypatch.context() as patch:
        patch.setattr(durable, "move", lambda *_: 1 // 0)
        assert desk.land(oid) is None  # it may have landed
    answer = desk.land(oid)
    assert answer
    assert answer.code == ""


def test_a_push_that_comes_between_reading_and_moving_the_ref_is_built_upon(
    village: Attacker, desk: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = village.propose(village.signed("alice", "submit", task="slow"))
    bring(village, oid)
    write, others = durable.write, iter([1, 1])

    def overtaken(*given: Any) -> None:
        write(*given)
        if next(others, None):
            grow(village)

    monkeypatch.setattr(durable, "write", overtaken)
    answer = desk.land(oid)
    assert answer
    assert answer.new == village.tip
    assert [line.seq for line in answer.answers] == [3]
    is_sound(village)


def test_a_git_that_dies_after_it_moved_the_ref_has_moved_it(
    village: Attacker, desk: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = village.propose(village.signed("alice", "submit", task="once"))
    bring(village, oid)
    move = durable.move
    monkeypatch.setattr(durable, "move", lambda *given: move(*given) or "died")
    answer = desk.land(oid)
    assert answer
    assert (answer.code, village.tip) == ("", oid)
    is_sound(village)


# -- a resident process, asked by the hook


@contextmanager
def without_python(fleet: Fleet, instead: str = "/bin/false") -> Iterator[None]:
    """The hook cannot land anything: whatever lands, somebody else has landed."""
    hook = fleet.remote / "hooks/proc-receive"
    whole = hook.read_text()
    hook.write_text(re.sub("(?m)^python=.*", f"python={instead}", whole))
    try:
        yield
    finally:
        hook.write_text(whole)


@pytest.fixture
def served(village: Attacker) -> Iterator[ServeProcess]:
    with serving(village.fleet) as made:
        yield made


def test_a_resident_lands_and_refuses_as_the_hook_does(
    village: Attacker, served: ServeProcess
) -> None:
    start = village.tip
    late = village.propose(village.signed("alice", "submit", task="late"))
    chain = village.voids(30)
    bad = village.propose(village.sign(village.record("alice", "void"), mint()), on=chain[3])
    worse = village.propose(village.signed("alice", "void", on=chain[3]), on=bad)
    village.later = 60_000
    fast = village.propose(village.signed("alice", "void", on=start), on=start)
    village.later = 0
    with without_python(village.fleet):
        grow(village)
        once = landed(send(village, late))
        assert [(pushed, seq, new) for pushed, seq, new in once] == [(late, 2, village.tip)]
        assert landed(send(village, late)) == once
        assert [pushed for pushed, *_ in landed(send(village, chain[-1]))] == chain
        refused = send(village, worse)
        assert (refused.slug, refused.short) == ("bad-signature", bad[:12])
        assert send(village, fast).slug == "clock-skew"
        assert "(clock-skew)" in send(village, fast).err
    is_sound(village)


@pytest.mark.parametrize("case", list(FORGED)[::3])
def test_a_resident_refuses_what_is_forged(
    founded: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker], case: str
) -> None:
    fleet = founded("bob", "carol")
    switch(fleet, sequence=True)
    attacker = attacker_for(fleet)
    make, slug = FORGED[case]
    with serving(fleet):
        pushed = send(attacker, make(attacker))
    assert pushed.slug == slug


def test_it_reads_its_secrets_for_each_turn(village: Attacker, served: ServeProcess) -> None:
    master = village.fleet.remote / "coordledger/master"
    text, oid = master.read_text(), village.propose(village.signed("alice", "void"))
    master.write_text(mint().reveal() + "\n")
    assert send(village, oid).slug == "no-secret"
    master.write_text(text)
    with without_python(village.fleet):
        assert len(landed(send(village, oid))) == 1


def test_sixteen_pushers_are_landed_by_the_resident(
    village: Attacker, served: ServeProcess
) -> None:
    village.fleet.git("config", "core.logAllRefUpdates", "always")
    start = village.tip
    oids = [
        village.propose(village.signed("alice", "submit", on=start, task=f"t{n}"), on=start)
        for n in range(48)
    ]
    with without_python(village.fleet), ThreadPoolExecutor(14) as pool:
        found = [landed(pushed) for pushed in pool.map(lambda oid: send(village, oid), oids)]
    assert sorted(seq for [(_, seq, _)] in found for seq in [seq]) == list(range(1, 49))
    moves = (village.fleet.remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert len(moves) < 48  # some together
    is_sound(village)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whatever_becomes_of_the_resident_every_record_lands_once(
    village: Attacker, served: ServeProcess, number: int
) -> None:
    start = village.tip
    oids = [
        village.propose(village.signed("alice", "submit", on=start, task=f"t{n}"), on=start)
        for n in range(20)
    ]
    with ThreadPoolExecutor(10) as pool:
        coming = [pool.submit(send, village, oid) for oid in oids]
        coming[4].result()
        served.send(number)
        pushes = [one.result() for one in coming]
    assert all(len(landed(pushed)) == 1 for pushed in pushes)
    assert sorted(landed(pushed)[0][1] for pushed in pushes) == list(range(1, 21))
    assert int(village.fleet.git("rev-list", "--count", LEDGER_REF)) == 21
    is_sound(village)


def test_a_resident_that_stops_is_left_alone_and_lands_nothing_when_it_goes_on(
    village: Attacker, served: ServeProcess
) -> None:
    """What was refused in its place stays refused."""
    base = village.tip
    good, bad = (
        village.propose(village.signed("alice", "submit", on=base, task=task), on=base)
        for task in ("good", "bad")
    )
    served.send(signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        coming = [pool.submit(send, village, oid) for oid in (good, bad)]
        time.sleep(1)  # its asker has asked
        mine = village.propose(village.signed("alice", "submit", task="bad"))
        with without(village.fleet, "coordledger/socket"):
            assert village.push(mine).slug == ""
        pushes = [one.result() for one in coming]
    assert len(landed(pushes[0])) == 1
    assert pushes[1].slug == "task-exists"
    head = village.tip
    served.send(signal.SIGCONT)
    time.sleep(0.5)
    assert village.tip == head
    is_sound(village)


@contextmanager
def without(fleet: Fleet, name: str) -> Iterator[None]:
    """The file is away."""
    away = fleet.remote / f"{name}.away"
    (fleet.remote / name).rename(away)
    try:
        yield
    finally:
        away.rename(fleet.remote / name)


def test_nothing_is_landed_for_who_has_gone(village: Attacker, served: ServeProcess) -> None:
    oids = [village.propose(village.signed("alice", "submit", task=task)) for task in "ab"]
    bring(village, *oids)
    remote = village.fleet.remote
    with (remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        asking = []
        for oid in oids:
            command = f"{ZERO} {oid} {FOR_REF}"
            title = f"action=get\ntimeout=900\ncoordledger 1 proc-receive\ndir={remote}"
            asking.append(socket(AF_UNIX))
            folder = os.open(remote / "coordledger", os.O_RDONLY)
            asking[-1].connect(f"/proc/self/fd/{folder}/socket")
            os.close(folder)
            asking[-1].sendall(f"{title}\n\n{command}\nend\n".encode())
            asking[-1].shutdown(SHUT_WR)
        time.sleep(0.5)
        asking[0].close()
        fcntl.flock(file, fcntl.LOCK_UN)
    with asking[1]:
        asking[1].settimeout(10)
        answer = asking[1].recv(65_536)
    assert answer.startswith(b"coordledger 1 reported ")
    assert village.tip == oids[1]
    assert int(village.fleet.git("rev-list", "--count", LEDGER_REF)) == 2


def test_who_asked_a_resident_and_gets_no_turn_does_not_know(
    village: Attacker, served: ServeProcess, crashing: Callable[..., list[str]]
) -> None:
    """It may have stopped in the middle of its own turn."""
    oid = village.propose(village.signed("alice", "void"))
    line = f"{ZERO} {oid} {FOR_REF}"
    bring(village, oid)
    crashing(0, seconds=1)
    with (village.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        argv = (village.fleet.remote / "hooks/proc-receive").read_text().splitlines()[-1]
        given = f"0000{packet(line.encode()).decode()}0000"
        ran = plain(
            *("sh", "-c", f"{argv} 000eversion=1 {shlex.quote(given)}"),
            cwd=village.fleet.remote,
            env=village.fleet.env | {"GIT_DIR": "."},
        )
    assert ran.stdout == b"0000"
    assert ran.stderr.startswith(b"coordledger: unknown ")


def test_what_is_not_one_plain_command_goes_to_python(
    village: Attacker, served: ServeProcess
) -> None:
    fleet = village.fleet
    fleet.git("update-ref", "refs/coordledger/twin", village.tip)
    fleet.git("config", "receive.advertisePushOptions", "true")
    oid = village.propose(village.signed("alice", "void"))
    both = village.push(f"{oid}:{FOR_REF}", f"{oid}:refs/for/coordledger/twin")
    assert len(landed(both)) == 2
    other = village.propose(village.signed("alice", "submit", task="t"))
    assert len(landed(village.push("-o", "x", f"{other}:{FOR_REF}"))) == 1
    assert village.push("--atomic", f"{other}:{FOR_REF}").slug == "bad-push"
    assert landed(village.push("-o", "x", f"{other}:{FOR_REF}"))[0][2] == village.tip


SHELLS = [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_any_shell_speaks_with_git_and_hands_over_the_rest(
    village: Attacker, served: ServeProcess, shell: list[str]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    oid = village.propose(village.signed("alice", "void"))
    assert len(landed(send(village, oid))) == 1
    one = packet(f"{ZERO} {oid} {FOR_REF}".encode())
    two = packet(f"{ZERO} {oid} refs/for/coordledger/none".encode())
    odd = packet(f"{ZERO} {oid} refs/for/coordledger/".encode() + b"\xff\xe3")
    for version, commands, answers in [
        (b"version=1\n", one, [b"ok refs/for/coordledger/main"]),
        (b"version=1\0push-options\n", one, [b"ok refs/for/coordledger/main"]),
        (b"version=1\0atomic\n", one, [b"ng refs/for/coordledger/main bad-push"]),
        (b"version=1\0push-options atomic\n", one, [b"ng refs/for/coordledger/main bad-push"]),
        (b"version=1\n", two, [b"ng refs/for/coordledger/none no-create"]),
        (b"version=1\n", odd, [b"ng refs/for/coordledger/\xff\xe3 bad-ref"]),
        (b"version=1\n", one + two, [b"ok refs/for/coordledger/main", b"none no-create"]),
        (b"version=1\n", two + odd + one, [b"none no-create", b"\xff\xe3 bad-ref", b"ok refs"]),
    ]:
        ours, theirs = socketpair()
        with ours, theirs, ours.makefile("rb") as answer:
            process = subprocess.Popen(
                [*shell, village.fleet.remote / "hooks/proc-receive"],
                cwd=village.fleet.remote,
                env=village.fleet.env | {"GIT_DIR": "."},
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
            )
            # As git does it: the pipe stays open, and nothing comes before the version's answer.
            ours.settimeout(20)
            ours.sendall(packet(version) + b"0000")
            assert proc_receive.read_packets(answer.read) == [b"version=1"]
            ours.sendall(commands + b"0000")
            said = b"\n".join(proc_receive.read_packets(answer.read))
            process.communicate(timeout=20)
        assert process.returncode == 0
        assert all(text in said for text in answers), said
        assert said.count(b"ok ") + said.count(b"ng ") == len(answers)


# -- death and other accidents


@pytest.fixture
def crashing(village: Attacker) -> Iterator[Callable[..., list[str]]]:
    """`mortal(3)`: from now on the hook dies at its 3rd point; gives what the last one came by."""
    hook = village.fleet.remote / "hooks/proc-receive"
    text, log = hook.read_text(), village.fleet.root / "came-by"

    def fate(point: int = 0, seconds: int = 0) -> list[str]:
        argv = (
            f"'{sys.executable}' -I -S -E '{CRASH_WORKER}' '{PACKAGE}' "
            f"{point} '{log}' '{seconds or ''}'"
        )
        hook.write_text(f"#!/bin/sh\n# coordledger proc-receive:\nexec {argv}\n")
        seen = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return seen

    yield fate
    hook.write_text(text)


def test_a_hook_that_dies_at_any_step_loses_nothing_and_doubles_nothing(
    village: Attacker, crashing: Callable[..., list[str]]
) -> None:
    base = village.tip
    grow(village)
    for number in range(256):  # so that every run has the same steps
        (village.fleet.remote / f"objects/{number:02x}").mkdir(exist_ok=True)

    def count() -> int:
        return int(village.fleet.git("rev-list", "--count", LEDGER_REF))

    crashing()
    kinds: set[str] = set()
    for point in range(1, 100):
        before, signed = count(), village.signed("alice", "submit", on=base, task=f"t{point}")
        oid = village.propose(signed, on=base)
        crashing(point)
        pushed = send(village, oid)
        assert pushed.said == []  # nobody said that it was refused
        after, came_by = count(), crashing()
        steps = [step.split()[0] for step in came_by]
        lived = pushed.code == 0
        if lived or steps[-2:-1] != ["os.posix_spawn"]:  # just after that git is still at it
            assert after - before == (lived or "os.posix_spawn" in steps[:-1]), came_by
        assert len(landed(send(village, oid))) == 1  # the same bytes again: the truth
        assert count() == before + 1
        kinds |= set(steps[-1:])
        if lived:
            break
    assert lived
    assert kinds >= {"open", "fcntl.flock", "os.rename", "os.posix_spawn"}
    is_sound(village)


def test_a_lock_that_git_left_behind_is_named(village: Attacker) -> None:
    oid = village.propose(village.signed("alice", "void"))
    lock = village.fleet.remote / f"{LEDGER_REF}.lock"
    lock.touch()
    pushed = send(village, oid)
    assert pushed.slug == "stale-lock"
    assert "refs/coordledger/main.lock" in pushed.said[0]
    lock.unlink()
    assert len(landed(send(village, oid))) == 1


def test_who_gets_no_turn_is_told_so(village: Attacker, crashing: Callable[..., list[str]]) -> None:
    oid = village.propose(village.signed("alice", "void"))
    crashing(0, seconds=1)
    with (village.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert send(village, oid).slug == "busy"
    assert len(landed(send(village, oid))) == 1


@pytest.mark.parametrize("line", ["python=/nowhere/python3", "package=/nowhere"])
def test_a_hook_that_cannot_start_refuses_records_and_nothing_else(
    village: Attacker, line: str
) -> None:
    hook = village.fleet.remote / "hooks/proc-receive"
    hook.write_text(re.sub(f"(?m)^{line.partition('=')[0]}=.*", line, hook.read_text()))
    oid, head = village.propose(village.signed("alice", "void")), village.tip
    pushed = village.push(f"{oid}:{FOR_REF}", f"{_foreign(village)}:refs/heads/x")
    assert pushed.slug == "hook-broken"
    assert village.tip == head
    assert village.fleet.head("refs/heads/x")


def test_an_exposed_master_and_a_full_disk_land_nothing(village: Attacker) -> None:
    remote, oid, head = (
        village.fleet.remote,
        village.propose(village.signed("alice", "void")),
        village.tip,
    )
    (remote / "coordledger/master").chmod(0o644)
    assert send(village, oid).slug == "hook-broken"
    (remote / "coordledger/master").chmod(0o600)
    assert village.tip == head


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"00",
        b"zzzz",
        b"0003",
        b"000eversion=1\n",
        b"000eversion=1\n0000",
        b"000eversion=1\n00000009x y z",
        b"000eversion=1\n0000000chello0000",
        packet(b"version=1\n") + b"0000" + packet(b"x" * 65_000) + b"0000",
        b"000eversion=1\n0000" + packet(b"\xff\xfe refs/for/coordledger/\xff x") + b"0000",
    ],
)
def test_odd_input_is_answered_with_a_line_or_a_no(shared_fleet: Fleet, given: bytes) -> None:
    ran = plain(
        *(shared_fleet.remote / "hooks/proc-receive",),
        cwd=shared_fleet.remote,
        env=shared_fleet.env | {"GIT_DIR": "."},
        data=given,
    )
    assert b"ok " not in ran.stdout
    lines = ran.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("coordledger: refused ")
    assert lines[0].isascii()
    assert lines[0].isprintable()


def test_a_ref_that_stands_in_the_list_twice_is_refused(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid, head = attacker.propose(attacker.signed("bob", "void")), attacker.tip
    line = packet(f"{ZERO} {oid} {FOR_REF}".encode())
    ran = plain(
        *(shared_fleet.remote / "hooks/proc-receive",),
        cwd=shared_fleet.remote,
        env=shared_fleet.env
        | {"GIT_DIR": ".", "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(attacker.folder / "objects")},
        data=b"000eversion=1\n0000" + line * 2 + b"0000",
    )
    assert ran.stdout.count(b"ng refs/for/coordledger/main bad-push") == 2
    assert attacker.tip == head


# -- on the disk


def test_objects_are_on_the_disk_before_they_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    sync, rename = posix.fsync, posix.rename

    def synced(fd: int) -> None:
        seen.append(("sync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        sync(fd)

    def renamed(old: str, new: str) -> None:
        seen.append((old, new))
        rename(old, new)

    monkeypatch.setattr(posix, "fsync", synced)
    monkeypatch.setattr(posix, "rename", renamed)
    tmp_path.chmod(0o2770)
    contents = [b"%d" % n * 5000 for n in range(3)]
    objects = {object_id("blob", content, "sha1"): ("blob", content) for content in contents}
    durable.write(str(tmp_path), objects)
    for oid in objects:
        path = f"{tmp_path}/{oid[:2]}/{oid[2:]}"
        [at] = [n for n, (_, new) in enumerate(seen) if new == path]
        before, after = seen[:at], seen[at:]
        assert ("sync", seen[at][0]) in before
        assert ("sync", str(Path(path).parent)) in after
        assert ("sync", str(tmp_path)) in after
        # As git shares a repository among the users of a group.
        assert Path(path).stat().st_mode & 0o777 == 0o440
        assert Path(path).parent.stat().st_mode & 0o7777 == 0o2770
    seen.clear()
    durable.write(str(tmp_path), objects)  # there already, maybe by somebody who did not sync
    assert {what for what, _ in seen} == {"sync"}
    assert len(seen) >= 2 * len(objects)


def test_the_ref_moves_as_git_moves_it(village: Attacker) -> None:
    remote = village.fleet.remote
    village.fleet.git("config", "core.logAllRefUpdates", "always")
    first = village.propose(village.signed("alice", "void"))
    assert len(landed(send(village, first))) == 1
    log = (remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert log[-1].split()[1] == first
    assert log[-1].endswith("\tpush")
    village.fleet.git("pack-refs", "--all")
    village.fleet.git("gc", "--quiet", "--prune=now")
    second = village.propose(village.signed("alice", "submit", task="packed"))
    grow(village)
    assert len(landed(send(village, second))) == 1
    is_sound(village)


def test_a_sha_256_repository_is_sequenced_too(fleet: Fleet, tmp_path: Path) -> None:
    server, clone = tmp_path / "server.git", tmp_path / "clone"
    fleet.git("init", "--quiet", "--bare", "--object-format=sha256", server)
    fleet.run("init", server, "--agent", "alice", check=0)
    fleet.run("hook", "install", server, "--sequence", check=0)
    fleet.git("init", "--quiet", "--object-format=sha256", clone)
    fleet.git("remote", "add", "origin", server, cwd=clone)
    fleet.run("join", "origin", "--agent", "alice", cwd=clone, check=0)
    ledger = opened(fleet, clone, "alice")
    ledger.submit("x")
    mine = ledger.head().commit
    # Another record on the same parent, taken out of the ledger again by its owner.
    fleet.git("update-ref", LEDGER_REF, f"{mine}~", cwd=server)
    push = ("git", "push", "--quiet", server, f"{mine}:{FOR_REF}")
    ran = plain(*push, cwd=clone, env=fleet.env)
    assert f"coordledger: landed {mine} 1 {mine}" in ran.stderr.decode()
    assert fleet.git("rev-parse", LEDGER_REF, cwd=server).strip() == mine
    assert f"landed {mine} 1 {mine}" in plain(*push, cwd=clone, env=fleet.env).stderr.decode()


# -- on and off


def test_who_pushes_to_a_ledger_learns_that_it_is_sequenced(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    said = "remote: coordledger: sequenced"
    for ref in (LEDGER_REF, TRY_REF):
        oid = attacker.propose(attacker.signed("bob", "void"))
        assert attacker.push(f"{oid}:{ref}").err.count(said) == 1
    assert said not in attacker.push(f"{_foreign(attacker)}:refs/heads/y").err
    switch(shared_fleet, sequence=False)
    oid = attacker.propose(attacker.signed("bob", "void"))
    assert said not in attacker.push(f"{oid}:{TRY_REF}").err
    switch(shared_fleet, sequence=True)


def test_where_it_is_off_pushes_are_refused_and_make_no_ref(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    oid = attacker.propose(attacker.signed("alice", "void"))
    assert attacker.refusal(f"{oid}:{FOR_REF}") == "not-sequenced"
    assert attacker.refusal(f"{oid}:refs/For/coordledger/main") == "bad-ref"
    assert attacker.push(f"{_foreign(attacker)}:refs/for/master").slug == ""  # nobody's of ours
    switch(fleet, sequence=True)
    config = fleet.remote / "config"
    hook = fleet.remote / "hooks/proc-receive"
    assert len(landed(send(attacker, oid))) == 1
    # Half of it taken away by hand is off, too.
    text = config.read_text()
    for broken in (
        text.replace("procReceiveRefs", "xprocReceiveRefs"),
        text.replace("[receive]", "[x]"),
    ):
        config.write_text(broken)
        assert attacker.refusal(f"{oid}:{FOR_REF}") == "not-sequenced"
    config.write_text(text)
    hook.chmod(0o644)
    assert attacker.refusal(f"{oid}:{FOR_REF}") == "not-sequenced"
    hook.chmod(0o755)
    assert len(landed(send(attacker, oid))) == 1


def test_it_is_switched_on_and_off_and_otherwise_left_alone(fleet: Fleet) -> None:
    remote, hook = fleet.remote, fleet.remote / "hooks/proc-receive"

    def named() -> list[str]:
        asked = ("git", "config", "--get-all", "receive.procReceiveRefs")
        return plain(*asked, cwd=remote, env=fleet.env).stdout.decode().split()

    fleet.git("config", "receive.procReceiveRefs", "refs/for/else")
    switch(fleet, sequence=None)
    assert (named(), hook.exists()) == (["refs/for/else"], False)
    for _ in range(2):
        switch(fleet, sequence=True)
        assert named() == ["refs/for/else", "refs/for/coordledger"]
    hook.write_text(hook.read_text().replace("python=", "python=/gone"))
    assert any("proc-receive" in line for line in switch(fleet, sequence=None))
    assert "/gone" not in hook.read_text()
    assert len(named()) == 2
    switch(fleet, sequence=False)
    assert (named(), hook.exists()) == (["refs/for/else"], False)
    assert switch(fleet, sequence=False) == switch(fleet, sequence=None)


def test_anothers_proc_receive_hook_is_not_touched(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks/proc-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Failed, match="git runs only one") as refused:
        switch(fleet, sequence=True)
    assert refused.value.code == "bad-value"
    switch(fleet, sequence=False)
    assert hook.read_text() == "#!/bin/sh\nexit 1\n"


def test_a_git_that_is_too_old_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    old = tmp_path / "bin/git"
    old.parent.mkdir()
    real = plain("sh", "-c", "command -v git", cwd=tmp_path, env=fleet.env).stdout.decode().strip()
    old.write_text(
        '#!/bin/sh\ncase " $* " in\n*" version "*) echo git version 2.28.1 ;;\n'
        f'*) exec {real} "$@" ;;\nesac\n'
    )
    old.chmod(0o755)
    path = {"PATH": f"{old.parent}:{fleet.env['PATH']}"}
    ran = fleet.run("hook", "install", fleet.remote, "--sequence", env=path, check=1)
    assert "2.28.1 knows no proc-receive hook" in ran.stderr
    assert not (fleet.remote / "hooks/proc-receive").exists()
