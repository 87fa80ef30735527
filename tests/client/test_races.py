"""Many real processes at once: one winner, gapless epochs, nothing lost or doubled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import fsck, second_opinion
from support.fleet import LEDGER_REF

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

WORKER = Path(__file__).parents[1] / "support" / "worker.py"
TIMEOUT = 60


class WorkerPool:
    """Processes that start together."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.go = fleet, fleet.root / "go"
        self.go.unlink(missing_ok=True)
        self._running: list[tuple[str, subprocess.Popen[str]]] = []

    def add(self, task: str, agent: str, *arguments: str, session: str = "") -> None:
        argv = [sys.executable, str(WORKER), task, str(self.clone(agent)), agent, session]
        process = subprocess.Popen(
            [*argv, str(self.go), *arguments],
            env=self.fleet.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append((f"{agent}/{session}" if session else agent, process))

    def clone(self, agent: str) -> Path:
        """A clone that has not joined yet: its first contact is a part of the race."""
        path = self.fleet.root / f"clone of {agent}"
        if not path.exists():
            self.fleet.git("init", "--quiet", path)
            self.fleet.git("remote", "add", "origin", self.fleet.remote, cwd=path)
        return path

    def run(self) -> dict[str, list[dict[str, Any]]]:
        """Let them go; what each said."""
        self.go.touch()
        said = {}
        for name, process in self._running:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            finally:
                process.kill()
            assert process.returncode == 0, err
            said[name] = [json.loads(line) for line in out.splitlines()]
        return said


def records_of(attacker: Attacker) -> list[dict[str, Any]]:
    oids = attacker.fleet.git("rev-list", "--reverse", LEDGER_REF).split()
    return [attacker.stolen(oid).record | {"seq": seq} for seq, oid in enumerate(oids)]


def claims_of(attacker: Attacker) -> dict[str, list[tuple[int, str]]]:
    """Task -> (epoch, agent) of each claim in the chain, in order."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for record in records_of(attacker):
        for item in record["tasks"] if record["kind"] == "claim" else ():
            found[item["task"]].append((item["epoch"], record["agent"]))
    return found


def check_soundness(fleet: Fleet, agent: str) -> None:
    count = int(fleet.git("rev-list", "--count", LEDGER_REF))
    audit = fleet.ledger(agent).audit(full=True)
    assert (audit.problems, audit.verdicts) == ((), {"authentic": count})
    assert second_opinion(fleet.remote) == count
    fsck(fleet.remote, fleet.env)
    assert not list(fleet.remote.glob("refs/**/*.lock"))
    assert fleet.ledger(agent).local.intents() == []


AGENTS = [f"agent{n}" for n in range(8)]


@pytest.fixture(scope="module")
def fleet(founded: Callable[..., Fleet]) -> Fleet:
    return founded(*AGENTS, "zed", "yan")


@pytest.fixture
def attacker(fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(fleet)


def test_eight_agents_want_the_same_tasks_and_each_has_one_winner(
    fleet: Fleet, attacker: Attacker
) -> None:
    agents, tasks = AGENTS, [f"task{n}" for n in range(3)]
    worker_pool = WorkerPool(fleet)
    for agent in agents:
        worker_pool.add("compete", agent, agent, *tasks)
    said = worker_pool.run()
    won = {(line["task"], agent) for agent in agents for line in said[agent] if _won(line)}
    assert Counter(task for task, _ in won) == dict.fromkeys(tasks, 1)
    claims = claims_of(attacker)
    assert {(task, agent) for task in tasks for _, agent in claims[task]} == won
    assert {line["code"] for agent in agents for line in said[agent]} <= {"", "held"}
    assert all(len(said[agent]) == len(tasks) for agent in agents)
    check_soundness(fleet, "agent0")


def _won(line: dict[str, Any]) -> bool:
    return bool(line["outcome"] == "won")


def test_tasks_that_go_from_hand_to_hand_never_lose_a_lease(
    fleet: Fleet, attacker: Attacker
) -> None:
    agents, tasks = AGENTS[:6], ["a", "b", "c"]
    worker_pool = WorkerPool(fleet)
    for agent in agents:
        worker_pool.add("churn", agent, agent, "2", *tasks)
    said = worker_pool.run()
    claims = claims_of(attacker)
    for task in tasks:
        epochs = [epoch for epoch, _ in claims[task]]
        assert epochs == list(range(1, len(epochs) + 1))
    won = Counter(
        (line["task"], line["epoch"], agent)
        for agent in agents
        for line in said[agent]
        if _won(line)
    )
    assert set(won.values()) == {1}
    assert len(won) > len(tasks)  # so that they did change hands
    assert set(won) == {(t, epoch, a) for t in tasks for epoch, a in claims[t]}
    assert {line["done"] for agent in agents for line in said[agent] if _won(line)} == {
        "complete",
        "release",
    }
    check_soundness(fleet, "agent0")


def test_messages_of_many_senders_all_arrive_once_where_they_should(
    fleet: Fleet, attacker: Attacker
) -> None:
    """Two of the senders are two processes in one clone."""
    senders = [("agent0", "one"), ("agent0", "two"), ("agent1", "one"), ("agent2", "one")]
    worker_pool = WorkerPool(fleet)
    for agent, session in senders:
        to = "yan" if agent == "agent2" else "zed"
        worker_pool.add("send", agent, "4", to, "general", session=session)
    said = worker_pool.run()
    records = [record for record in records_of(attacker) if record["kind"] == "send"]
    for agent, session in senders:
        sent = {line["seq"]: line["body"] for line in said[f"{agent}/{session}"]}
        mine = [r for r in records if (r["agent"], r["session"]) == (agent, session)]
        assert {record["seq"]: record["body"] for record in mine} == sent
        assert len(sent) == len(mine) == 4
    wanted: dict[str, list[str]] = {"zed": [], "yan": [], "agent0": []}
    for agent, session in senders:
        bodies = [f"{agent}/{session} {number}" for number in (1, 3)]
        wanted["yan" if agent == "agent2" else "zed"] += bodies
    for agent, bodies in wanted.items():
        direct = [message for message in fleet.ledger(agent).inbox() if message.to]
        assert sorted(message.body for message in direct) == sorted(bodies)
        for message in direct:
            assert (message.verdict, message.to) == ("authentic", agent)
            assert message.body.startswith(f"{message.sender}/{message.session} ")
    general = [message.body for message in fleet.ledger("zed").messages("general")]
    assert sorted(general) == sorted(f"{who} {n}" for who in said for n in (0, 2))
    check_soundness(fleet, "zed")


def test_processes_in_one_clone_take_turns(fleet: Fleet, attacker: Attacker) -> None:
    worker_pool, tasks = WorkerPool(fleet), ["shared-a", "shared-b", "shared-c"]
    sessions = ("one", "two", "three")
    for session in sessions:
        worker_pool.add("compete", "alice", session, *tasks, session=session)
    said = worker_pool.run()
    outcomes = Counter((line["task"], line["outcome"]) for lines in said.values() for line in lines)
    for task in tasks:
        assert (outcomes[task, "won"], outcomes[task, "lost"]) == (1, 2)
    winners = {
        (record["tasks"][0]["task"], f"alice/{record['session']}")
        for record in records_of(attacker)
        if record["kind"] == "claim" and record["tasks"][0]["task"] in tasks
    }
    assert winners == {(line["task"], who) for who in said for line in said[who] if _won(line)}
    check_soundness(fleet, "alice")
