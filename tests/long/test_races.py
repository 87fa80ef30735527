"""Many real processes at once: one winner, gapless epochs, nothing lost or doubled."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support.sequencing import switch
from support.soundness import check_soundness, claims_of, records_of
from support.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

AGENTS = [f"agent{n}" for n in range(8)]


@pytest.fixture(scope="module")
def fleet(founded: Callable[..., Fleet]) -> Fleet:
    return founded(*AGENTS)


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


@pytest.mark.parametrize("sequence", [True, False], ids=["sequenced", "by compare-and-swap"])
def test_as_many_agents_get_the_next_task_as_there_are_tasks(
    make_fleet: Callable[..., Fleet], *, sequence: bool
) -> None:
    """Each from a host of its own, at the same moment: nobody hears of "nothing to do"."""
    fleet = make_fleet()
    agents = ("alice", "bob", "carol")
    for agent in agents[1:]:
        fleet.enroll(agent)
    switch(fleet, sequence=sequence)
    environ = fleet.env | {"COORDLEDGER_QUEUE": "off"}
    ledgers = [fleet.ledger(agent, environ=environ) for agent in agents]
    for n, ledger in enumerate(ledgers):
        ledger.submit(f"warm{n}", priority=-9)  # each knows that the server sequences
    for turn in range(3):
        for n in range(len(agents)):
            ledgers[0].submit(f"job{turn}-{n}")
        with ThreadPoolExecutor(len(agents)) as pool:
            results = list(pool.map(lambda ledger: ledger.claim_next(), ledgers))
        won = sorted(result.claim.task for result in results if result.won and result.claim)
        assert won == [f"job{turn}-{n}" for n in range(len(agents))]


SEQUENCE = pytest.mark.parametrize(
    "sequence", [True, False], ids=["sequenced", "by compare-and-swap"]
)


@pytest.fixture
def racing(make_fleet: Callable[..., Fleet]) -> Callable[[bool], Fleet]:
    def make(sequence: bool) -> Fleet:
        fleet = make_fleet()
        for agent in AGENTS:
            fleet.enroll(agent)
        switch(fleet, sequence=sequence)
        return fleet

    return make


@SEQUENCE
def test_of_eight_that_count_with_one_fact_each_number_is_ones(
    racing: Callable[[bool], Fleet], *, sequence: bool
) -> None:
    fleet, times = racing(sequence), 4
    pool = WorkerPool(fleet)
    for agent in AGENTS:
        pool.add("count", agent, "n", str(times))
    said = [line for lines in pool.run().values() for line in lines]
    assert {line["code"] for line in said if "code" in line} <= {"fact-changed"}
    done = sorted((line for line in said if "code" not in line), key=lambda line: line["number"])
    assert [line["number"] for line in done] == list(range(1, times * len(AGENTS) + 1))
    assert [line["was"] for line in done] == [0, *(line["rev"] for line in done[:-1])]
    assert fleet.ledger("alice").facts.get("n").value == str(times * len(AGENTS))
    check_soundness(fleet, "alice")


@SEQUENCE
def test_a_task_that_is_handed_on_has_one_holder_at_a_time(
    racing: Callable[[bool], Fleet],
    attacker_for: Callable[[Fleet], Attacker],
    *,
    sequence: bool,
) -> None:
    """Claims, edits, offers, and takers that race with each other and with who gives back."""
    fleet, names = racing(sequence), AGENTS[:5]
    for task in ("a", "b", "c"):
        fleet.ledger("alice").submit(task)
    pool = WorkerPool(fleet)
    for agent in names:
        pool.add("juggle", agent, agent, "8", *names)
    said = pool.run()
    claims = claims_of(attacker_for(fleet))
    won = {
        (line["task"], line["epoch"]): (agent, line)
        for agent, lines in said.items()
        for line in lines
        if line["outcome"] == "won"
    }
    assert {(task, epoch): agent for task in claims for epoch, agent in claims[task]} == {
        claim: agent for claim, (agent, _) in won.items()
    }
    for (task, epoch), (agent, line) in won.items():
        assert epoch == 1 or (task, epoch - 1) in won
        if line["by"]:  # it was given by who held it, and to this one
            giver, gave = won[task, epoch - 1]
            assert (giver, gave["given"]) == (line["by"], agent)
        if line["done"] not in ("complete", "release"):  # then who it was given to has taken it
            assert (task, epoch + 1) in won, (agent, line)
            assert won[task, epoch + 1][1]["by"] == agent
    assert any(line["by"] for _, line in won.values())
    check_soundness(fleet, "alice")
