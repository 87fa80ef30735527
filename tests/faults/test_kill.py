"""SIGKILL at every step of a write, on either side: nothing is lost, doubled or blocked."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.bookkeeping import check_clone, claims_of, fsck, litter, records_of
from support.fleet import LEDGER_REF, Fleet

from coordledger import Ledger
from coordledger.errors import Failed, OutcomeUnknown

from .conftest import IN_QUARANTINE, PUSHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Agents

KILLED = 9


@pytest.fixture
def env(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Temporary files in a folder that can be looked at."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    return env | {"TMPDIR": str(scratch)}


def landed(fleet: Fleet, task: str) -> bool:
    """Whether a claim of the task is in the chain, as git alone tells."""
    subjects = fleet.git("log", "--format=%s", LEDGER_REF).splitlines()
    return any(subject.startswith(f"claim {task} epoch 1 ") for subject in subjects)


# -- the client


def chosen(points: list[str]) -> list[str]:
    """The points of a rehearsal that differ in what they leave behind."""
    same = ("os.rmdir ", " fan", " opened", " scratch", " sent", "pre-push")
    found = dict.fromkeys(point for point in points if not any(part in point for part in same))
    return list(found)


# Where records are sequenced the first push wins, and nothing is done between journal and answer.
STEPS = [(PUSHED, 20, {"landed", "voided"}), (IN_QUARANTINE, 8, {"landed"})]


@pytest.mark.parametrize(("way", "least", "ends"), STEPS, indirect=["way"])
def test_an_agent_that_dies_at_any_step_of_a_claim_leaves_a_ledger_that_works(
    fleet: Fleet, agents: Agents, env: dict[str, str], least: int, ends: set[str]
) -> None:
    fleet.enroll("bob")
    bob, clone = fleet.ledger("bob"), fleet.clone("alice")

    def overtaken() -> None:
        # So that a claim loses its first race, and has to fetch and to push again.
        bob.send("x", channel="general")

    overtaken()
    rehearsal = agents.run(clone, "alice", ("claim", "rehearsal"))
    assert rehearsal["said"][0]["outcome"] == "won"
    points = chosen(rehearsal["points"])
    assert len(points) > least, points
    settled = {}
    journalled = points.index("1 os.rename intents/OP.new")  # git has started
    forgotten = next(at for at, point in enumerate(points) if "os.remove intents/OP" in point)
    for number, point in enumerate(points):
        task, other = f"t{number}", f"next{number}"
        overtaken()
        dead = agents.run(clone, "alice", ("claim", task), die_at=point)
        assert (dead["died"], dead["said"]) == (KILLED, []), point
        for _ in range(500 if "object" in point else 0):  # it is sent, and the server at it
            if landed(fleet, task):
                break
            time.sleep(0.02)
        before = landed(fleet, task)
        steps = [("resolve",), ("claim", task), *([("claim", other)] if before else [])]
        after = agents.run(clone, "alice", *steps, timeout=10)
        assert len(after["said"]) == len(steps), (point, after)
        resolved, again, *_ = after["said"]
        assert isinstance(resolved, list), (point, resolved)
        is_open = journalled < number <= forgotten
        outcomes = ["landed" if before else "voided"] if is_open else []
        assert [found["outcome"] for found in resolved] == outcomes, (point, resolved)
        assert after["said"][-1]["outcome"] == "won", (point, after)
        assert again["outcome"] == ("lost" if before else "won"), (point, again)
        assert again["code"] == ("already-yours" if before else ""), (point, again)
        settled |= {found["op"]: found | {"task": task} for found in resolved}
        overtaken()
        fleet.ledger("alice").head()  # a fetch clears what an earlier one has left
        assert litter(clone) == [], point
    records = records_of(fleet.remote)
    for number in range(len(points)):
        assert len(claims_of(records, f"t{number}")) == 1
        assert len(claims_of(records, f"next{number}")) <= 1
    by_op = {record["op"]: record for record in records}
    assert {found["outcome"] for found in settled.values()} == ends
    for op, found in settled.items():
        record = by_op[op]
        assert record["seq"] == found["seq"]
        assert record["kind"] == ("claim" if found["outcome"] == "landed" else "void")
        assert found["what"] == f"claim {found['task']}"
    voids = [record["op"] for record in records if record["kind"] == "void"]
    assert set(voids) <= settled.keys()
    check_clone(fleet, "alice")
    fsck(fleet.remote, env)
    # What a dead process cannot take with it: no more than one thing for each.
    left = [*(clone / ".git/objects").rglob("*.lock"), *Path(env["TMPDIR"]).iterdir()]
    assert len(left) <= len(points)


def test_an_agent_that_dies_at_any_step_of_its_first_contact_can_come_again(
    fleet: Fleet, agents: Agents
) -> None:
    for task in ("a", "b"):
        fleet.ledger("alice").submit(task)
    rehearsal = agents.run(_fresh(fleet, "rehearsal"), "alice", ("head",))
    points = chosen(rehearsal["points"])
    assert len(points) > 8, points
    for number, point in enumerate(points):
        clone = _fresh(fleet, f"clone{number}")
        dead = agents.run(clone, "alice", ("head",), die_at=point)
        assert (dead["died"], dead["said"]) == (KILLED, []), point
        after = agents.run(clone, "alice", ("claim", f"t{number}"), ("tasks",), timeout=10)
        claimed, tasks = after["said"]
        assert claimed["outcome"] == "won", (point, claimed)
        assert len(tasks) == 3 + number, (point, tasks)
        # One that the next fetch removes, before it is in anybody's way.
        assert set(litter(clone)) <= {"refs/coordledger-incoming/main.lock"}, point
    records_of(fleet.remote)


def _fresh(fleet: Fleet, name: str) -> Path:
    """A clone that has not met the ledger yet."""
    path = fleet.root / name
    fleet.git("clone", "--quiet", fleet.remote, path)
    return path


def test_a_lock_that_git_itself_left_in_the_clone_is_waited_for_and_then_removed(
    fleet: Fleet,
) -> None:
    """With the time limit that users have."""
    fleet.enroll("bob")
    fleet.git("config", "uploadpack.allowFilter", "false")  # commits alone come without a ref
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    for name in ("refs/coordledger/main.lock", "refs/coordledger-incoming/main.lock"):
        bob.send("x", channel="general")
        lock = fleet.clone("alice") / ".git" / name
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
        assert alice.claim(f"after-{lock.parent.name}").outcome == "won"
        assert not lock.exists()
    check_clone(fleet, "alice")


# -- the server


class Sniper:
    """Kills receive-pack at one stage of every push, until it is told to stop; with the ref locked
    only once: some gits run the hook even where the lock was not to be had.
    """

    HOOKS = {  # noqa: RUF012
        # Its parent is our own hook, whose parent is receive-pack.
        "arrived": ("pre-receive.chained", "true", "$(ps -o ppid= -p $PPID)"),
        "prepared": ("reference-transaction", '[ "$1" = prepared ] && ! [ -e "$shots" ]', "$PPID"),
        "committed": ("reference-transaction", '[ "$1" = committed ]', "$PPID"),
    }

    def __init__(self, fleet: Fleet, stage: str) -> None:
        name, when, whom = self.HOOKS[stage]
        self.shots = fleet.root / "shots"
        self._hook = fleet.remote / "hooks" / name
        self._hook.write_text(
            f"#!/bin/sh\nshots='{self.shots}'\ngrep -q refs/coordledger/ || exit 0\n"
            f'if {when}; then echo x >> "$shots"; kill -9 {whom}; fi\nexit 0\n'
        )
        self._hook.chmod(0o755)
        self.lock = fleet.remote / f"{LEDGER_REF}.lock"

    def stop(self) -> None:
        assert self.shots.exists()
        self._hook.unlink()


@pytest.fixture
def hasty(fleet: Fleet) -> Iterator[Ledger]:
    """Alice, with little patience."""
    path = fleet.clone("alice")
    with Ledger.open(path, "alice", timeout=timedelta(seconds=3), environ=fleet.env) as ledger:
        yield ledger


def test_a_server_that_dies_on_every_push_leaves_the_outcome_unknown_and_nothing_landed(
    fleet: Fleet, hasty: Ledger
) -> None:
    sniper = Sniper(fleet, "arrived")
    with pytest.raises(OutcomeUnknown) as unknown:
        hasty.claim("t")
    assert unknown.value.code == "unknown-outcome"
    assert not landed(fleet, "t")
    sniper.stop()
    [settled] = hasty.resolve()
    assert settled.outcome == "voided"
    assert hasty.claim("t").outcome == "won"
    void, claim = _tail(fleet, 2)
    assert (void["kind"], void["op"], claim["kind"]) == ("void", settled.op, "claim")
    check_clone(fleet, "alice")


def test_a_server_that_dies_with_the_ref_locked_blocks_nobody_without_saying_why(
    fleet: Fleet, hasty: Ledger
) -> None:
    fleet.enroll("bob")
    bob = fleet.ledger("bob")
    head = fleet.head()
    sniper = Sniper(fleet, "prepared")
    with pytest.raises(OutcomeUnknown) as unknown:
        hasty.claim("t")
    assert sniper.lock.exists()
    assert "lock" in unknown.value.message
    sniper.stop()
    with pytest.raises(Failed) as stale:
        bob.claim("t")
    assert (stale.value.code, ".lock" in stale.value.hint) == ("stale-lock", True)
    assert bob.connection.local.journal.intents() == []
    assert fleet.head() == head
    assert [found.outcome for found in hasty.resolve()] == ["open"]
    sniper.lock.unlink()  # as the hint says
    [settled] = hasty.resolve()
    assert settled.outcome == "voided"
    assert bob.claim("t").outcome == "won"
    assert hasty.claim("other").outcome == "won"
    records = records_of(fleet.remote)
    assert [record["op"] for record in records].count(settled.op) == 1
    assert [record["agent"] for record in claims_of(records, "t")] == ["bob"]
    check_clone(fleet, "alice")


def test_a_server_that_dies_after_every_push_landed_makes_each_write_won_once(
    fleet: Fleet, hasty: Ledger
) -> None:
    sniper = Sniper(fleet, "committed")
    assert hasty.claim("t").outcome == "won"
    assert hasty.complete("t").status == "done"
    assert hasty.send("done", channel="general").seq == 3
    sniper.stop()
    assert [record["kind"] for record in _tail(fleet, 3)] == ["claim", "complete", "send"]
    assert hasty.resolve() == []
    check_clone(fleet, "alice")


def _tail(fleet: Fleet, count: int) -> list[dict]:
    return records_of(fleet.remote)[-count:]
