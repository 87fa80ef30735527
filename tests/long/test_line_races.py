"""Eight processes of one host in line, each with many tasks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from support.fleet import LEDGER_REF
from support.soundness import check_soundness, claims_of
from support.worker_pool import WorkerPool

from coordledger.deadline import Deadline
from coordledger.git.process import Git
from coordledger.setup.hooks import install_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

AGENTS = [f"agent{n}" for n in range(8)]


def test_many_processes_land_all_their_records_with_fewer_pushes(
    founded: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = founded(*AGENTS)
    log = fleet.root / "pushes"
    (fleet.remote / "hooks/pre-receive.chained").write_text(f"#!/bin/sh\ncat >> '{log}'\n")
    (fleet.remote / "hooks/pre-receive.chained").chmod(0o755)
    worker_pool = WorkerPool(fleet)
    for agent in AGENTS:
        fleet.clone(agent)
        worker_pool.add("claim", agent, *(f"{agent}-{n}" for n in range(5)))
    said = worker_pool.run()
    assert [one["outcome"] for lines in said.values() for one in lines] == ["won"] * 40
    attacker = attacker_for(fleet)
    claims = claims_of(attacker)
    assert claims == {f"{who}-{n}": [(1, who)] for who in AGENTS for n in range(5)}
    assert log.read_text().count(LEDGER_REF) < 35
    for agent in AGENTS:
        check_soundness(fleet, agent)
    left = {path.name for path in fleet.ledger("agent0").connection.line().folder.iterdir()}
    assert left == {"lock", "seq", "copy.git"}


def test_in_line_before_a_server_that_sequences_all_land_and_nothing_twice(
    founded: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = founded(*AGENTS)
    install_hook(fleet.remote, Git(fleet.env, fleet.root, Deadline(20)), sequence=True)
    log = fleet.root / "pushes"
    (fleet.remote / "hooks/pre-receive.chained").write_text(f"#!/bin/sh\ncat >> '{log}'\n")
    (fleet.remote / "hooks/pre-receive.chained").chmod(0o755)
    worker_pool = WorkerPool(fleet)
    for agent in AGENTS:
        fleet.clone(agent)
        worker_pool.add("claim", agent, "everybodys", *(f"{agent}-{n}" for n in range(4)))
    said = worker_pool.run()
    outcomes = Counter(one["outcome"] for lines in said.values() for one in lines)
    assert outcomes == {"won": 33, "lost": 7}
    claims = claims_of(attacker_for(fleet))
    assert len(claims.pop("everybodys")) == 1
    assert claims == {f"{who}-{n}": [(1, who)] for who in AGENTS for n in range(4)}
    assert log.read_text().count("refs/for/coordledger/main") < 33
    for agent in AGENTS:
        check_soundness(fleet, agent)
