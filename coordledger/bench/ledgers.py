"""Several ledgers on one remote, sixteen processes: what they share is the server alone.

Rules of this file: the processes are spread evenly over the ledgers, each has a clone of
its own and queues with no other; else as in `contention`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .contention import row
from .worker_pool import WorkerPool
from .workspace import APART

if TYPE_CHECKING:
    from .figures import Report, Rows
    from .worker_pool import Round
    from .workspace import Workspace

ROUNDS = 3
PROCESSES, EACH = 16, 4
LEDGERS = (1, 4, 16)


def run(
    workspace: Workspace,
    rounds: int,
    report: Report,
    *,
    ledgers: tuple[int, ...] = LEDGERS,
    processes: int = PROCESSES,
    each: int = EACH,
) -> Rows:
    """Rows, and what is left out."""
    names = {count: f"{count} ledger{'s' if count > 1 else ''}" for count in ledgers}
    measured: dict[int, list[Round]] = {count: [] for count in ledgers}
    with contextlib.ExitStack() as stack:
        pools = {
            count: stack.enter_context(
                WorkerPool(
                    workspace.environ | APART,
                    _workers(workspace, f"remote{count}", count, processes),
                )
            )
            for count in ledgers
        }
        for number in range(rounds + 1):
            for count, pool in pools.items():
                round_ = pool.round(each if number else 1)
                if number:
                    measured[count].append(round_)
            report(number + 1, rounds + 1)
    return [row(names[count], found) for count, found in measured.items()], {}


def _workers(
    workspace: Workspace, remote: str, ledgers: int, processes: int
) -> list[tuple[str, ...]]:
    """Arguments of the workers: process n writes to ledger n modulo their number."""
    found: list[tuple[str, ...]] = []
    for number in range(ledgers):
        agents = [f"agent{n}" for n in range(number, processes, ledgers)]
        name = f"ledger{number}"
        fleet = workspace.fleet(remote, agents, name)
        found += [("ledger", str(fleet.clones[agent]), agent, name) for agent in agents]
    return found
