"""A server that sequences, when many push at once, and when what answers them dies or stops."""

from __future__ import annotations

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF
from support.forgeries import submitted
from support.sequencing import ANSWERED_REF, FOR_REF, grow, is_sound, landed, landed_lines, send
from support.serve_process import hidden, without_python

from coordledger.format.state import page_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.serve_process import ServeProcess

    from coordledger.format.signing import Signed


def test_sixteen_pushers_need_one_push_for_each_record(own_attacker: Attacker) -> None:
    """Some of them for the same task: one wins."""
    oids = {}
    for n in range(48):
        task = f"t{n}" if n % 6 else "wanted"
        oids[
            own_attacker.propose(
                own_attacker.signed("alice", "claim", session=f"s{n}", tasks=[task])
            )
        ] = task
    with ThreadPoolExecutor(16) as pool:
        pushes = dict(zip(oids, pool.map(lambda oid: send(own_attacker, oid), oids), strict=True))
    lost = {oid for oid, pushed in pushes.items() if pushed.slug}
    assert {pushes[oid].slug for oid in lost} == {"held"}
    assert Counter(oids[oid] for oid in lost) == {"wanted": 7}
    seqs = [seq for oid in set(oids) - lost for _, seq, _ in landed(pushes[oid])]
    assert sorted(seqs) == list(range(1, 42))
    assert int(own_attacker.fleet.git("rev-list", "--count", LEDGER_REF)) == 42
    is_sound(own_attacker)


def test_ordinary_pushes_at_the_same_time_lose_a_race_and_nothing_else(
    own_attacker: Attacker,
) -> None:
    start = own_attacker.tip
    sequenced = [submitted(own_attacker, f"s{n}", on=start) for n in range(12)]
    ordinary = [own_attacker.signed("alice", "submit", on=start, task=f"o{n}") for n in range(8)]

    def press(signed: Signed) -> int:
        for tries in range(1, 200):
            if own_attacker.push(own_attacker.propose(signed)).code == 0:
                return tries
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        tries = pool.map(press, ordinary)
        pushes = list(pool.map(lambda oid: send(own_attacker, oid), sequenced))
        assert all(len(landed(pushed)) == 1 for pushed in pushes)
        assert min(tries) >= 1
    assert int(own_attacker.fleet.git("rev-list", "--count", LEDGER_REF)) == 21
    is_sound(own_attacker)


STEPS = {"open", "fcntl.flock", "os.rename"}
# The step after which the ref has moved, and whether one that dies just after it may still go on.
MOVES = {
    "proc-receive": ("os.posix_spawn", True),  # git does it
    "pre-receive": (f"os.rename ./{LEDGER_REF}.lock", False),
}


@pytest.mark.parametrize("hook", MOVES)
def test_a_hook_that_dies_at_any_step_loses_nothing_and_doubles_nothing(
    own_attacker: Attacker, crashing: Callable[..., list[str]], hook: str
) -> None:
    base, (move, goes_on) = own_attacker.tip, MOVES[hook]
    ref = FOR_REF if hook == "proc-receive" else ANSWERED_REF
    grow(own_attacker)
    for number in range(256):  # so that every run has the same steps
        (own_attacker.fleet.remote / f"objects/{number:02x}").mkdir(exist_ok=True)

    def count() -> int:
        return int(own_attacker.fleet.git("rev-list", "--count", LEDGER_REF))

    # Likewise each task's page is in a folder of its own, which is not there before.
    names = map("t{}".format, range(999))
    tasks = list({page_path(name).split("/")[1]: name for name in names}.values())
    crashing(hook=hook)
    kinds: set[str] = set()
    fresh, lives = iter(tasks), 0
    while lives < 3:  # a step more or less than the time before, and one of them is passed over
        for point in range(1, 100):
            before, task = count(), next(fresh)
            signed = own_attacker.signed("alice", "submit", on=base, task=task)
            oid = own_attacker.propose(signed, on=base)
            crashing(point, hook=hook)
            pushed = send(own_attacker, oid, ref)
            assert pushed.said == []  # nobody said that it was refused
            after, came_by = count(), crashing(hook=hook)
            steps = [step.split()[0] for step in came_by]
            lived = bool(landed_lines(pushed.err))
            moved = [number for number, step in enumerate(came_by[:-1]) if step.startswith(move)]
            if lived or not (goes_on and moved == [len(came_by) - 2]):
                assert after - before == (lived or bool(moved)), came_by
            assert len(landed(send(own_attacker, oid, ref))) == 1  # the same bytes again: the truth
            assert count() == before + 1
            kinds |= set(steps[-1:])
            if lived:
                break
        assert lived
        lives = 3 if kinds >= STEPS else lives + 1
    assert kinds >= STEPS | {move.split()[0]}
    is_sound(own_attacker)


def test_sixteen_pushers_are_landed_by_the_resident(
    own_attacker: Attacker, served: ServeProcess
) -> None:
    own_attacker.fleet.git("config", "core.logAllRefUpdates", "always")
    start = own_attacker.tip
    oids = [submitted(own_attacker, f"t{n}", on=start) for n in range(48)]
    with without_python(own_attacker.fleet, "proc-receive"), ThreadPoolExecutor(14) as pool:
        found = [landed(pushed) for pushed in pool.map(lambda oid: send(own_attacker, oid), oids)]
    assert sorted(seq for [(_, seq, _)] in found for seq in [seq]) == list(range(1, 49))
    moves = (own_attacker.fleet.remote / "logs" / LEDGER_REF).read_text().splitlines()
    assert len(moves) < 48  # some together
    is_sound(own_attacker)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_whatever_becomes_of_the_resident_every_record_lands_once(
    own_attacker: Attacker, served: ServeProcess, number: int
) -> None:
    start = own_attacker.tip
    oids = [submitted(own_attacker, f"t{n}", on=start) for n in range(20)]
    with ThreadPoolExecutor(10) as pool:
        coming = [pool.submit(send, own_attacker, oid) for oid in oids]
        coming[4].result()
        served.send(number)
        pushes = [one.result() for one in coming]
    assert all(len(landed(pushed)) == 1 for pushed in pushes)
    assert sorted(landed(pushed)[0][1] for pushed in pushes) == list(range(1, 21))
    assert int(own_attacker.fleet.git("rev-list", "--count", LEDGER_REF)) == 21
    is_sound(own_attacker)


def test_a_resident_that_stops_is_left_alone_and_lands_nothing_when_it_goes_on(
    own_attacker: Attacker, served: ServeProcess
) -> None:
    """What was refused in its place stays refused."""
    base = own_attacker.tip
    good, bad = (submitted(own_attacker, task, on=base) for task in ("good", "bad"))
    served.send(signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        coming = [pool.submit(send, own_attacker, oid) for oid in (good, bad)]
        time.sleep(1)  # its asker has asked
        mine = submitted(own_attacker, "bad")
        with hidden(own_attacker.fleet, "coordledger/socket"):
            assert own_attacker.push(mine).slug == ""
        pushes = [one.result() for one in coming]
    assert len(landed(pushes[0])) == 1
    assert pushes[1].slug == "task-exists"
    head = own_attacker.tip
    served.send(signal.SIGCONT)
    time.sleep(0.5)
    assert own_attacker.tip == head
    is_sound(own_attacker)
