"""Many pushes in one turn: the queue of a resident process, and the process itself."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from socket import AF_UNIX, SHUT_WR, socket
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet import LEDGER_REF
from support.forgeries import forged, good, submitted
from support.sequencing import (
    FOR_REF,
    ZERO,
    bring,
    grow,
    is_sound,
    landed,
    send,
)
from support.serve_process import without_python

from coordledger.answers import Landed, Vouch
from coordledger.git import loose, refs
from coordledger.git.loose import Reader
from coordledger.server import sequencer
from coordledger.server.admission import server_keyring
from coordledger.server.combiner import Combiner
from coordledger.server.sequencer import Sequencer
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from support.attacker import Attacker
    from support.serve_process import ServeProcess


@pytest.fixture
def combiner(own_attacker: Attacker) -> Combiner:
    """One in this process. The remote has to have the commits that it is to land: `bring`."""
    own_attacker.fleet.git("config", "core.logAllRefUpdates", "always")
    remote = str(own_attacker.fleet.remote)
    environ = own_attacker.fleet.env | {"GIT_DIR": remote}
    return Combiner(
        Sequencer("main", environ),
        threading.Lock(),
        lambda: Reader(environ),
        lambda: server_keyring(f"{remote}/coordledger"),
    )


# -- in this process


def test_pushes_that_wait_land_together(own_attacker: Attacker, combiner: Combiner) -> None:
    start = own_attacker.tip
    goods = [submitted(own_attacker, f"t{n}", on=start) for n in range(12)]
    twin = submitted(own_attacker, "t0", on=start)
    bad = forged(own_attacker)
    chain = own_attacker.propose(
        own_attacker.sign(own_attacker.record("alice", "void"), mint()), on=goods[-1]
    )
    bring(own_attacker, *goods, bad, chain, twin)
    grow(own_attacker)
    with (own_attacker.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one has the turn and waits, the others gather
        with ThreadPoolExecutor(15) as pool:
            came = [pool.submit(combiner.land, oid) for oid in (*goods, bad, chain, twin)]
            while len(combiner._waiting) < 14:
                time.sleep(0.01)
            fcntl.flock(file, fcntl.LOCK_UN)
            answers = [one.result() for one in came]
    assert all(answers)
    codes = [answer.code for answer in answers if answer]
    assert codes[:12].count("") == 12 - codes[:12].count("task-exists")
    assert sorted((codes[0], codes[-1])) == ["", "task-exists"]
    assert codes[12:14] == ["bad-signature"] * 2
    said = [line for one in answers if one and not one.code for line in one.answers]
    seqs = [line.seq for line in said if isinstance(line, Landed)]
    assert sorted(seqs) == list(range(2, 14))
    vouched = {line.seq for line in said if isinstance(line, Vouch)}
    assert max(vouched) == 13
    moves = (own_attacker.fleet.remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert len(moves) <= 1 + 2  # an ordinary push; the first, and all the others
    is_sound(own_attacker)


def test_a_push_that_takes_long_lets_others_have_the_lock(
    own_attacker: Attacker, combiner: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets its answer, in turns of their own."""
    monkeypatch.setattr(sequencer, "HOLD_SECONDS", -1.0)
    start = own_attacker.tip
    oids = [submitted(own_attacker, f"t{n}", on=start) for n in range(6)]
    chain = submitted(own_attacker, "second", on=submitted(own_attacker, "first", on=start))
    bring(own_attacker, *oids, chain)
    grow(own_attacker)
    with (own_attacker.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with ThreadPoolExecutor(7) as pool:
            came = [pool.submit(combiner.land, oid) for oid in (*oids, chain)]
            while len(combiner._waiting) < 6:
                time.sleep(0.01)
            fcntl.flock(file, fcntl.LOCK_UN)
            answers = [one.result() for one in came]
    assert [answer and answer.code for answer in answers] == [""] * 6 + ["busy"]
    moves = (own_attacker.fleet.remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert len(moves) == 1 + 6  # an ordinary push, and one for each
    is_sound(own_attacker)


def test_a_combiner_and_hooks_of_their_own_and_ordinary_pushes_share_a_ledger(
    own_attacker: Attacker, combiner: Combiner
) -> None:
    for n in range(3):
        oids = [submitted(own_attacker, f"{n}{k}") for k in "abc"]
        grow(own_attacker)
        assert len(landed(send(own_attacker, oids[0]))) == 1
        bring(own_attacker, oids[1])
        answer = combiner.land(oids[1])
        assert answer
        assert answer.code == ""
        assert answer.new == own_attacker.tip
        again = combiner.land(oids[0])
        assert again
        first, vouch = again.answers
        assert first == Landed(oids[0], 3 * n + 2, again.new)
        assert isinstance(vouch, Vouch)
        assert vouch.seq == 3 * n + 3
    assert own_attacker.push(good(own_attacker)).slug == ""


def test_a_combiner_that_cannot_land_says_so_or_says_nothing(
    own_attacker: Attacker, combiner: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = good(own_attacker)
    bring(own_attacker, oid)
    with (own_attacker.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with monkeypatch.context() as patch:
            patch.setattr(sequencer, "TURN_SECONDS", 0)
            answer = combiner.land(oid)
    assert answer
    assert answer.code == "busy"
    with monkeypatch.context() as patch:
        patch.setattr(refs, "move", lambda *_: 1 // 0)
        assert combiner.land(oid) is None  # it may have landed
    answer = combiner.land(oid)
    assert answer
    assert answer.code == ""


def test_a_push_that_comes_between_reading_and_moving_the_ref_is_built_upon(
    own_attacker: Attacker, combiner: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = submitted(own_attacker, "slow")
    bring(own_attacker, oid)
    write, others = loose.write_durably, iter([1, 1])

    def overtaken(*given: Any) -> None:
        write(*given)
        if next(others, None):
            grow(own_attacker)

    monkeypatch.setattr(loose, "write_durably", overtaken)
    answer = combiner.land(oid)
    assert answer
    assert answer.new == own_attacker.tip
    assert [(type(line), line.seq) for line in answer.answers] == [(Landed, 3), (Vouch, 3)]
    is_sound(own_attacker)


def test_a_git_that_dies_after_it_moved_the_ref_has_moved_it(
    own_attacker: Attacker, combiner: Combiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = submitted(own_attacker, "once")
    bring(own_attacker, oid)
    move = refs.move
    monkeypatch.setattr(refs, "move", lambda *given: move(*given) or "died")
    answer = combiner.land(oid)
    assert answer
    assert (answer.code, own_attacker.tip) == ("", oid)
    is_sound(own_attacker)


# -- in a resident process, asked by the hook


def test_a_resident_lands_and_refuses_as_the_hook_does(
    own_attacker: Attacker, served: ServeProcess
) -> None:
    start = own_attacker.tip
    late = submitted(own_attacker, "late")
    chain = own_attacker.voids(30)
    bad = own_attacker.propose(
        own_attacker.sign(own_attacker.record("alice", "void"), mint()), on=chain[3]
    )
    worse = own_attacker.propose(own_attacker.signed("alice", "void", on=chain[3]), on=bad)
    own_attacker.later = 60_000
    fast = own_attacker.propose(own_attacker.signed("alice", "void", on=start), on=start)
    own_attacker.later = 0
    with without_python(own_attacker.fleet, "proc-receive"):
        grow(own_attacker)
        once = landed(send(own_attacker, late))
        assert [(pushed, seq, new) for pushed, seq, new in once] == [(late, 2, own_attacker.tip)]
        assert landed(send(own_attacker, late)) == once
        assert [pushed for pushed, *_ in landed(send(own_attacker, chain[-1]))] == chain
        refused = send(own_attacker, worse)
        assert (refused.slug, refused.short) == ("bad-signature", bad[:12])
        assert send(own_attacker, fast).slug == "clock-skew"
    is_sound(own_attacker)


def test_it_reads_its_secrets_for_each_turn(own_attacker: Attacker, served: ServeProcess) -> None:
    master = own_attacker.fleet.remote / "coordledger/master"
    text, oid = master.read_text(), good(own_attacker)
    master.write_text(mint().reveal() + "\n")
    assert send(own_attacker, oid).slug == "no-secret"
    master.write_text(text)
    with without_python(own_attacker.fleet, "proc-receive"):
        assert len(landed(send(own_attacker, oid))) == 1


def test_nothing_is_landed_for_an_asker_that_has_gone(
    own_attacker: Attacker, served: ServeProcess
) -> None:
    oids = [submitted(own_attacker, task) for task in "ab"]
    bring(own_attacker, *oids)
    remote = own_attacker.fleet.remote
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
    assert own_attacker.tip == oids[1]
    assert int(own_attacker.fleet.git("rev-list", "--count", LEDGER_REF)) == 2
