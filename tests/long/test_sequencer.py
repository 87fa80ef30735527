"""The sequencer: what lands of real pushes to refs/for/coordledger/*, and where."""

from __future__ import annotations

import fcntl
import posix
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import opened, plain
from support.fleet import LEDGER_REF
from support.forgeries import forged, good, submitted
from support.sequencing import (
    ANSWERED_REF,
    FOR_REF,
    bring,
    enveloped,
    grow,
    is_sound,
    landed,
    landed_lines,
    lying,
    send,
    seq_of,
    switch,
)

from coordledger import files
from coordledger.answers import Unknown
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Signed
from coordledger.git.loose import Reader
from coordledger.server.admission import server_keyring
from coordledger.server.sequencer import Sequencer, land_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet


@pytest.fixture(scope="module")
def shared_fleet(sequenced_fleet: Fleet) -> Fleet:
    return sequenced_fleet


# -- what lands, and where


def test_a_record_on_the_head_lands_as_it_was_pushed(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid, before = good(attacker), attacker.tip
    pushed = attacker.push("--porcelain", f"{oid}:{FOR_REF}")
    assert landed(pushed) == [(oid, seq_of(attacker, oid), oid)]
    assert attacker.tip == oid
    # What git tells its user is the truth, too.
    assert f"{oid}:{LEDGER_REF}\t{before[:7]}..{oid[:7]}" in pushed.out
    oid = good(attacker)
    pushed = attacker.push("--porcelain", f"{oid}:{ANSWERED_REF}")
    assert landed(pushed) == [(oid, seq_of(attacker, oid), oid)]
    assert attacker.tip == oid
    assert f"{oid}:{ANSWERED_REF}\t[remote rejected]" in pushed.out  # that ref is not to be there
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
    bad = forged(attacker, on=oids[-1])
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
    first = good(attacker)
    bad = forged(attacker, on=first)
    last = attacker.propose(attacker.signed("bob", "void"), on=bad)
    grow(attacker)
    head = attacker.tip
    pushed = send(attacker, last)
    assert (pushed.slug, pushed.short) == ("bad-signature", bad[:12])
    assert (attacker.tip, landed_lines(pushed.err)) == (head, [])
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


# -- what others are told of


@pytest.fixture
def heard(own_attacker: Attacker) -> Callable[[], list[list[str]]]:
    """What post-receive has been told so far: old id, new id, ref."""
    switch(own_attacker.fleet, sequence=True)
    log = own_attacker.fleet.root / "heard"
    log.touch()
    hook = own_attacker.fleet.remote / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\ncat >> '{log}'\n")
    hook.chmod(0o755)
    return lambda: [line.split(" ") for line in log.read_text().splitlines()]


def test_nobody_hears_of_a_move_to_an_older_record(
    own_attacker: Attacker, heard: Callable[[], list[list[str]]]
) -> None:
    oids = own_attacker.voids(4)
    grow(own_attacker)
    assert len(landed(send(own_attacker, oids[-1]))) == 4
    grow(own_attacker)
    before, old = heard(), enveloped(own_attacker, oids[2], oids[0])
    for oid in (own_attacker.tip, *oids, *enveloped(own_attacker, *oids), *old):
        pushed = send(own_attacker, oid)
        assert (pushed.code, bool(landed(pushed))) == (1, True)
    assert heard() == before
    # With a new one before or behind them: of that one alone.
    for n, order in enumerate(((0, 1, 2), (2, 1, 0))):
        mixed = [submitted(own_attacker, f"mixed-{n}"), oids[3], oids[1]]
        sent = enveloped(own_attacker, *(mixed[place] for place in order))
        head = own_attacker.tip
        assert len(landed(send(own_attacker, sent[-1]))) == 3
        assert heard()[len(before) + n :] == [[head, own_attacker.tip, LEDGER_REF]]


def test_of_two_that_send_the_same_at_once_each_is_told_its_place(own_attacker: Attacker) -> None:
    """The second one passes pre-receive before the first one's record is there."""
    switch(own_attacker.fleet, sequence=True)
    oid = good(own_attacker)
    with (own_attacker.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(send, own_attacker, oid) for _ in range(2)]
            time.sleep(2)
            fcntl.flock(file, fcntl.LOCK_UN)
            first, second = (landed(one.result()) for one in both)
    assert first == second
    assert own_attacker.tip == oid


# -- death and other accidents


def test_a_lock_that_git_left_behind_is_named(own_attacker: Attacker) -> None:
    oid = good(own_attacker)
    lock = own_attacker.fleet.remote / f"{LEDGER_REF}.lock"
    lock.touch()
    pushed = send(own_attacker, oid)
    assert pushed.slug == "stale-lock"
    assert "refs/coordledger/main.lock" in pushed.said[0]
    lock.unlink()
    assert len(landed(send(own_attacker, oid))) == 1


def test_a_push_that_gets_no_turn_is_told_so(
    own_attacker: Attacker, crashing: Callable[..., list[str]]
) -> None:
    oid = good(own_attacker)
    for hook in ("pre-receive", "proc-receive"):
        crashing(0, seconds=1, hook=hook)
    with (own_attacker.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert send(own_attacker, oid).slug == "busy"
        assert send(own_attacker, oid, ANSWERED_REF).slug == "busy"
    assert len(landed(send(own_attacker, oid))) == 1


def test_what_has_arrived_and_lands_as_it_is_is_brought_to_the_disk(
    own_attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git has written it, as it writes loose objects, and not brought it to the disk."""
    remote, head = own_attacker.fleet.remote, own_attacker.tip
    oid = submitted(own_attacker, "arrived")
    bring(own_attacker, oid)
    synced, sync = set(), posix.fsync

    def record(fd: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        sync(fd)

    environ = {"GIT_DIR": str(remote)}
    keyring = server_keyring(f"{remote}/coordledger")
    sequencer = Sequencer("main", environ).use(Reader(environ), keyring)
    push = sequencer.read_push(oid)
    with monkeypatch.context() as patch, sequencer.lock(files.lock_in_line):
        patch.setattr(posix, "fsync", record)
        [outcome] = sequencer.run([push])
    assert (outcome.code, own_attacker.tip) == ("", oid)
    new = own_attacker.fleet.git("rev-list", "--objects", "--no-object-names", oid, f"^{head}")
    assert len(new.split()) > 2
    for one in new.split():
        assert str(remote / "objects" / one[:2] / one[2:]) in synced


def test_the_ref_moves_as_git_moves_it(own_attacker: Attacker) -> None:
    remote = own_attacker.fleet.remote
    own_attacker.fleet.git("config", "core.logAllRefUpdates", "always")
    first = good(own_attacker)
    assert len(landed(send(own_attacker, first))) == 1
    log = (remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert log[-1].split()[1] == first
    assert log[-1].endswith("\tpush")
    own_attacker.fleet.git("pack-refs", "--all")
    own_attacker.fleet.git("gc", "--quiet", "--prune=now")
    second = submitted(own_attacker, "packed")
    grow(own_attacker)
    assert len(landed(send(own_attacker, second))) == 1
    is_sound(own_attacker)


# -- how much one push may be


def _at(attacker: Attacker) -> Sequencer:
    """A sequencer in this process."""
    remote = attacker.fleet.remote
    environ = attacker.fleet.env | {"GIT_DIR": str(remote)}
    return Sequencer("main", environ).use(Reader(environ), server_keyring(f"{remote}/coordledger"))


def test_where_git_dies_after_it_has_moved_the_ref_nothing_is_called_refused(
    own_attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the ledger cannot be read any more, from which this would show."""
    fleet, oid = own_attacker.fleet, good(own_attacker)
    bring(own_attacker, oid)
    ref, programs = fleet.remote / LEDGER_REF, fleet.root / "programs"
    programs.mkdir()
    (programs / "git").write_text(
        f"#!/bin/sh\nPATH='{fleet.env['PATH']}'\n[ $1 = update-ref ] || exec git \"$@\"\n"
        f"git \"$@\" && mv '{ref}' '{fleet.root}/away'\nkill -9 $$\n"
    )
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{fleet.env['PATH']}")
    environ = fleet.env | {"GIT_DIR": str(fleet.remote)}
    with Reader(environ) as objects:
        keyring = server_keyring(f"{fleet.remote}/coordledger")
        sequencer = Sequencer("main", environ).use(objects, keyring)
        assert isinstance(land_alone(oid, lambda: sequencer), Unknown)
    assert (fleet.root / "away").read_text() == f"{oid}\n"


def test_many_objects_come_as_one_pack(own_attacker: Attacker) -> None:
    remote, oids = own_attacker.fleet.remote, own_attacker.voids(100)
    newest = enveloped(own_attacker, *oids)[-1]
    grow(own_attacker)
    before = set(remote.glob("objects/pack/*.idx"))
    assert len(landed(send(own_attacker, newest))) == 100
    packs = set(remote.glob("objects/pack/*.idx")) - before
    found = [own_attacker.fleet.git("verify-pack", "-v", str(pack)) for pack in packs]
    assert any(own_attacker.tip in listed for listed in found)
    assert not list(remote.glob("objects/pack/*.keep"))
    is_sound(own_attacker)


def test_a_push_of_many_records_that_takes_too_long_is_busy_and_one_record_is_not(
    own_attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordledger.server.sequencer.HOLD_SECONDS", -1.0)
    head, many = own_attacker.tip, own_attacker.voids(3)
    bring(own_attacker, many[-1])
    grow(own_attacker)
    head, sequencer = own_attacker.tip, _at(own_attacker)
    with sequencer.lock(files.lock_in_line):
        refused = sequencer.run_alone(sequencer.read_push(many[-1]))
        assert (refused.code, own_attacker.tip) == ("busy", head)
        assert "3 records take longer than" in str(refused.answers[0])
        assert str(refused.answers[0]).startswith("coordledger: refused -: busy")  # no one's fault
        assert sequencer.run_alone(sequencer.read_push(many[0])).code == ""
    is_sound(own_attacker)


def test_what_a_turn_has_no_time_for_waits_for_the_next(
    own_attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordledger.server.sequencer.HOLD_SECONDS", -1.0)
    start = own_attacker.tip
    oids = [submitted(own_attacker, f"t{n}", on=start) for n in range(3)]
    bring(own_attacker, *oids)
    sequencer = _at(own_attacker)
    with sequencer.lock(files.lock_in_line):
        outcomes = sequencer.run([sequencer.read_push(oid) for oid in oids])
    assert [outcome and outcome.code for outcome in outcomes] == ["", None, None]


def test_a_turn_lands_no_more_records_than_the_hook_verifies_by_itself(
    own_attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they are written, a push that then loses may set the mark back below all of them."""
    monkeypatch.setattr("coordledger.server.sequencer.MAX_RECORDS", 4)
    chains = [enveloped(own_attacker, *own_attacker.voids(n)) for n in (3, 2, 1)]
    bring(own_attacker, *(oids[-1] for oids in chains))
    before, sequencer = own_attacker.tip, _at(own_attacker)
    with sequencer.lock(files.lock_in_line):
        first, second, third = sequencer.run([sequencer.read_push(oids[-1]) for oids in chains])
    assert first
    assert third
    assert (first.code, second, third.code) == ("", None, "")
    landed = own_attacker.fleet.git("rev-list", "--count", f"{before}..{own_attacker.tip}")
    assert int(landed) == 4


def test_what_one_push_renders_is_not_counted_against_the_next_of_its_turn(
    own_attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = [own_attacker.signed("alice", "submit", task=f"t{n}") for n in range(2)]
    most = max(own_attacker.chain.propose(one).size for one in signed) * 3 // 2
    monkeypatch.setattr("coordledger.server.admission.MAX_RENDERED", most)
    oids = [own_attacker.propose(one) for one in signed]
    bring(own_attacker, *oids)
    sequencer = _at(own_attacker)
    with sequencer.lock(files.lock_in_line):
        outcomes = sequencer.run([sequencer.read_push(oid) for oid in oids])
    assert [outcome and outcome.code for outcome in outcomes] == ["", ""]


def test_of_a_push_that_is_refused_nothing_is_written(own_attacker: Attacker) -> None:
    """Where another one lands in the same turn, too."""
    fleet, start = own_attacker.fleet, own_attacker.tip
    gone = forged(own_attacker, on=submitted(own_attacker, "gone", on=start))
    lands = submitted(own_attacker, "lands", on=start)
    bring(own_attacker, gone, lands)
    grow(own_attacker)

    def stored() -> set[str]:
        asked = ("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
        return set(fleet.git(*asked).split())

    before, head, sequencer = stored(), own_attacker.tip, _at(own_attacker)
    with sequencer.lock(files.lock_in_line):
        outcomes = sequencer.run([sequencer.read_push(oid) for oid in (gone, lands)])
    assert [outcome and outcome.code for outcome in outcomes] == ["bad-signature", ""]
    new = fleet.git("rev-list", "--objects", "--no-object-names", LEDGER_REF, f"^{head}")
    assert stored() - before <= set(new.split())
