"""The page of figures: each way to claim, by one process alone and by many, in one run.

Rules of this file: each way is as whoever takes it gets it without switching anything on: a ledger
as `init` leaves it, SQLite as it is; the rows say which one has a resident process or another
setting. One process alone and the many have a repository, or a file, each of their own, and take
turns, as in `contention`, whose ways of counting these are.

All runs on this one machine. "By pushes" is what separate hosts do, without a network between them,
and with server and clients on the same cores.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from . import sqlite
from .contention import EACH, NAIVE, PROCESSES, Variant, counted, in_sqlite, row, server
from .figures import median, milliseconds
from .worker_pool import WorkerPool
from .workspace import APART, DIRECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .figures import Report, Row, Rows
    from .worker_pool import Round
    from .workspace import Workspace

    Rounds = Sequence[Round]

ROUNDS = 5
ALONE = 10  # claims of the process alone in each round

FULL = f"SQLite, synchronous={sqlite.FULL}"
NORMAL = f"SQLite, synchronous={sqlite.NORMAL}"
PUSH = "git push, no hook, a branch each"
HERE = "coordledger, on the server's host"
PUSHED = "coordledger, by pushes"
RESIDENT = "coordledger, by pushes, resident process"


def ways(workspace: Workspace, processes: int) -> tuple[list[Variant], dict[str, str]]:
    """All of them for so many processes, and what is left out with the reason why."""
    agents = [f"agent{n}" for n in range(processes)]
    environ = workspace.environ

    def git(kind: str, name: str) -> Variant:
        bare = workspace.bare(f"{kind}.{processes}")
        places = {agent: workspace.root / f"{bare.stem}.{agent}" for agent in agents}
        for place in places.values():
            workspace.local(str(bare), place)
        workers = tuple((kind, str(place), agent) for agent, place in places.items())
        return Variant(name, workers, environ, bare)

    def ledger(name: str, more: dict[str, str], *, resident: bool = False) -> Variant:
        fleet = workspace.fleet(f"ledger{len(found)}.{processes}", agents)
        if more == DIRECT:
            with fleet.open(agents[0], None, **DIRECT) as first:
                missing[name] = first.connection.why_pushed()
        workers = tuple(("ledger", str(fleet.clones[agent]), agent) for agent in agents)
        return Variant(name, workers, environ | more, fleet.remote, resident)

    missing: dict[str, str] = {}
    found = [in_sqlite(workspace, setting, agents) for setting in (sqlite.FULL, sqlite.NORMAL)]
    found += [git("push", PUSH), git("naive", NAIVE)]
    found.append(ledger(HERE, DIRECT))
    found.append(ledger(PUSHED, APART))
    found.append(ledger(RESIDENT, APART, resident=True))
    missing = {name: why for name, why in missing.items() if why}
    return [way for way in found if way.name not in missing], missing


def run(
    workspace: Workspace,
    rounds: int,
    report: Report,
    *,
    processes: int = PROCESSES,
    each: int = EACH,
    alone: int = ALONE,
) -> Rows:
    """Rows, and what is left out."""
    (by_one, _), (by_many, missing) = ways(workspace, 1), ways(workspace, processes)
    pairs = list(zip(by_one, by_many, strict=True))
    turns = [turn for one, many in pairs for turn in ((one, alone), (many, each))]
    measured: list[list[Round]] = [[] for _ in turns]
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(WorkerPool(way.environ, way.workers)) for way, _ in turns]
        for number in range(rounds + 1):
            for place, ((way, claims), pool) in enumerate(zip(turns, pools, strict=True)):
                with server(way) as cpu:
                    if number == 0:
                        pool.round(1)  # each knows the head, and what its remote can do
                    else:
                        measured[place].append(counted(pool, claims * way.times, cpu))
                report(number * len(turns) + place + 1, (rounds + 1) * len(turns))
    return rows([one.name for one, _ in pairs], measured[::2], measured[1::2]), missing


def rows(names: Sequence[str], alone: Sequence[Rounds], many: Sequence[Rounds]) -> list[Row]:
    """A row for each way: one process's claims, and what `contention` says of many."""
    claims = {
        name: median([seconds for round_ in rounds for seconds in round_.seconds[0]])
        for name, rounds in zip(names, alone, strict=True)
    }
    crowds = {name: row(name, rounds) for name, rounds in zip(names, many, strict=True)}
    return [
        {
            "what": name,
            "alone_ms": milliseconds(claims[name]),
            "of_floor": float(f"{claims[name] / claims[PUSH]:.3g}"),  # SQLite's is a thousandth
            **crowds[name],
            "of_naive": round(crowds[name]["records_per_s"] / crowds[NAIVE]["records_per_s"], 2),
        }
        for name in names
    ]
