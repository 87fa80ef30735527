"""Many real processes for longer: tasks that change hands, messages in all directions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support.soundness import check_soundness, claims_of, records_of
from support.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

AGENTS = [f"agent{n}" for n in range(6)]


@pytest.fixture(scope="module")
def fleet(founded: Callable[..., Fleet]) -> Fleet:
    return founded(*AGENTS, "zed", "yan")


@pytest.fixture
def attacker(fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(fleet)


def _won(line: dict[str, Any]) -> bool:
    return bool(line["outcome"] == "won")


def test_tasks_that_go_from_hand_to_hand_never_lose_a_lease(
    fleet: Fleet, attacker: Attacker
) -> None:
    agents, tasks = AGENTS, ["a", "b", "c"]
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
