"""A process that takes the server's part dies, finds no room, or meets others: nothing is lost,
doubled or blocked, and nobody is told what is not so.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.bookkeeping import check_clone, claims_of, fsck, records_of
from support.fleet import LEDGER_REF
from support.soundness import check_soundness
from support.worker_pool import WorkerPool

from coordledger import files
from coordledger.answers import Landed
from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.git import refs
from coordledger.git.process import Git
from coordledger.server import receiver, upkeep
from coordledger.setup.hooks import install_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    from .conftest import Agents

KILLED = 9


@pytest.fixture
def env(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("COORDLEDGER_DIRECT", "on")
    return env | {"COORDLEDGER_DIRECT": "on"}


def landed(fleet: Fleet, task: str) -> bool:
    """Whether a claim of the task is in the chain, as git alone tells."""
    subjects = fleet.git("log", "--format=%s", LEDGER_REF).splitlines()
    return any(subject.startswith(f"claim {task} epoch 1 ") for subject in subjects)


def left_by_server(fleet: Fleet) -> set[str]:
    """Locks of refs, and what was prepared to become one."""
    found = [*fleet.remote.glob("refs/**/*.lock"), *fleet.remote.glob("coordledger/*.ref")]
    return {path.suffix[1:] for path in found}


def test_one_that_dies_at_any_step_loses_nothing_doubles_nothing_and_stops_nobody(
    fleet: Fleet, agents: Agents
) -> None:
    """Another agent's plain push gets through after each death, or finds git's lock, which the
    next one that lands directly removes: whose it was is known to be dead.
    """
    fleet.enroll("bob")
    clone = fleet.clone("alice")
    bob = fleet.ledger("bob", environ=fleet.env | {"COORDLEDGER_DIRECT": "off"})
    bob.send("x", channel="general")
    points = agents.run(clone, "alice", ("claim", "rehearsal"))["points"]
    assert {"os.link", "os.rename", "fcntl.flock"} <= {point.split()[1] for point in points}
    starts = [point for point in points if "subprocess" in point]
    assert len(starts) == 1, "git is asked how the server is configured, and for nothing else"
    [locked] = [point for point in points if point.endswith(f"{LEDGER_REF}.lock")][-1:]
    tasks = []
    for die_at in (*range(1, len(points) + 3), locked):  # threads change the order a little
        tasks.append(f"t{len(tasks)}")
        dead = agents.run(clone, "alice", ("claim", tasks[-1]), die_at=die_at)
        before = landed(fleet, tasks[-1])
        if dead["died"] != KILLED:
            assert dead["said"][0]["outcome"] == "won"
            continue
        assert dead["said"] == [], dead
        left = left_by_server(fleet)
        if "lock" in left:
            with pytest.raises(Failed) as stale:
                bob.send("x", channel="general")
            assert stale.value.code == "stale-lock"
        assert "lock" in left or die_at != locked
        after = agents.run(clone, "alice", ("resolve",), ("claim", tasks[-1]), timeout=10)
        resolved, again = after["said"]
        outcomes = [found["outcome"] for found in resolved]
        assert outcomes in ([], ["landed" if before else "voided"]), (dead, resolved)
        assert again["outcome"] == ("lost" if before else "won"), (dead, again)
        assert again["code"] == ("already-yours" if before else ""), (dead, again)
        bob.send("x", channel="general")
    tasks.append("last")
    agents.run(clone, "alice", ("claim", "last"))
    assert left_by_server(fleet) == set()
    records = records_of(fleet.remote)
    assert [len(claims_of(records, task)) for task in tasks] == [1] * len(tasks)
    check_clone(fleet, "alice")
    fsck(fleet.remote, fleet.env)


def test_a_lock_that_git_left_is_named_and_stays(fleet: Fleet) -> None:
    alice = fleet.ledger("alice", timeout=timedelta(seconds=5))
    lock = fleet.remote / f"{LEDGER_REF}.lock"
    lock.touch()
    head = fleet.head()
    with pytest.raises(Failed) as stale:
        alice.claim("t")
    assert (stale.value.code, ".lock" in stale.value.hint) == ("stale-lock", True)
    assert (lock.exists(), fleet.head()) == (True, head)
    assert alice.connection.local.journal.intents() == []
    lock.unlink()
    assert alice.claim("t").won


def test_one_that_cannot_make_certain_says_so_and_finds_out(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails when the ref has moved, and is to be brought to it."""
    alice, moved = fleet.ledger("alice"), []
    sync = refs.PlainMover._swap

    def failing(self: refs.PlainMover, old: str) -> str | None:
        now = sync(self, old)
        moved.append(now)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(refs.PlainMover, "_swap", failing)
        alice.connection.jitter = lambda: 0.0
        assert alice.claim("t").won  # it was looked for, and found
    assert len(moved) == 1
    assert len(claims_of(records_of(fleet.remote), "t")) == 1
    check_clone(fleet, "alice")


def test_an_intent_that_cannot_be_journalled_is_not_landed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, head = fleet.ledger("alice"), fleet.head()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(alice.connection.local.journal, "record", full)
        with pytest.raises(Failed) as fault:
            alice.claim("t")
    assert fault.value.code == "io"
    assert fleet.head() == head
    assert alice.claim("t").won
    check_clone(fleet, "alice")


def test_what_the_owner_installs_while_one_waits_for_its_turn_is_asked(fleet: Fleet) -> None:
    """A stopped process may have the ledger's lock for long."""
    alice, asked = fleet.ledger("alice"), threading.Event()
    assert alice.claim("a").won
    wait, hook = receiver._wait, fleet.remote / "hooks/update"

    def waiting(fd: int, deadline: Deadline, seconds: int) -> bool:
        asked.set()
        return wait(fd, deadline, seconds)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as threads:
        patch.setattr(receiver, "_wait", waiting)
        with (fleet.remote / "coordledger/main.lock").open("r+b") as lock:
            files.lock(lock.fileno())
            claiming = threads.submit(alice.claim, "b")
            assert asked.wait(20)
            hook.write_text("#!/bin/sh\necho not today >&2; exit 1\n")
            hook.chmod(0o755)
        with pytest.raises(Failed):
            claiming.result()
    assert not landed(fleet, "b")
    assert alice.connection.local.journal.intents() == []


def test_in_a_program_whose_children_nobody_waits_for_what_lands_is_told_so(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that ignores SIGCHLD; git's upkeep, which every 512th record starts, is a child."""
    alice, said = fleet.ledger("alice"), list[object]()
    assert alice.claim("a").won
    land = receiver.Receiver.land

    def heard(self: receiver.Receiver, *args: Any) -> object:
        said.append(land(self, *args))
        return said[-1]

    monkeypatch.setattr(upkeep, "EVERY", 1)
    monkeypatch.setattr(upkeep, "COMMITS", 1)
    monkeypatch.setattr(receiver.Receiver, "land", heard)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert alice.claim("b").won
    finally:
        signal.signal(signal.SIGCHLD, before)
    [[[first, *_]]] = said  # type: ignore[misc]
    assert isinstance(first, Landed)


SHAKERS = {
    "git gc": ("git", "gc", "--quiet"),
    "git repack": ("git", "repack", "-a", "-d", "-q"),
    "git pack-refs": ("git", "pack-refs", "--all"),
    "hook install": (sys.executable, "-m", "coordledger", "hook", "install", "."),
}


@pytest.mark.parametrize("sequence", [False, True], ids=["plain", "sequenced"])
def test_direct_writers_and_pushers_and_what_owners_run_meet_and_every_record_lands_once(
    make_fleet: Callable[..., Fleet], sequence: bool
) -> None:
    fleet = make_fleet()
    direct, pushing = [f"agent{n}" for n in range(4)], ["bob", "carol"]
    for agent in (*direct, *pushing):
        fleet.enroll(agent)
    install_hook(fleet.remote, Git(fleet.env, fleet.root, Deadline(20)), sequence=sequence)
    pool = WorkerPool(fleet)
    for agent in direct:
        pool.add("claim", agent, "everybodys", *(f"{agent}-{n}" for n in range(12)))
    fleet.env = fleet.env | {"COORDLEDGER_DIRECT": "off"}
    for agent in pushing:
        pool.add("claim", agent, "everybodys", *(f"{agent}-{n}" for n in range(4)))
    over, faults = threading.Event(), list[str]()

    def shake(argv: tuple[str, ...]) -> None:
        while not over.is_set():
            ran = subprocess.run(
                argv, cwd=fleet.remote, env=fleet.env, capture_output=True, text=True, check=False
            )
            if ran.returncode and argv[0] != "git":  # two of git's are in each other's way
                faults.append(f"{argv}: {ran.stderr}")

    shakers = [threading.Thread(target=shake, args=(argv,)) for argv in SHAKERS.values()]
    for one in shakers:
        one.start()
    try:
        said = pool.run()
    finally:
        over.set()
        for one in shakers:
            one.join()
    assert faults == []
    outcomes = [one["outcome"] for lines in said.values() for one in lines]
    assert (outcomes.count("won"), outcomes.count("lost")) == (1 + 48 + 8, 5)
    records = records_of(fleet.remote)
    assert len(claims_of(records, "everybodys")) == 1
    for agent, count in (*((name, 12) for name in direct), *((name, 4) for name in pushing)):
        for n in range(count):
            [claim] = claims_of(records, f"{agent}-{n}")
            assert claim["agent"] == agent
    assert left_by_server(fleet) == set()
    fsck(fleet.remote, fleet.env)
    for agent in (*direct, *pushing):
        check_soundness(fleet, agent)
