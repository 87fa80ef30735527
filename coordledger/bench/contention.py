"""Many processes, each with a clone of its own, one ref, and no two want the same task.

"One host": its processes line up, as they do by themselves. "Separate hosts": they do not, and
know of each other by the remote alone.

Rules of this file: each process of a variant claims the same number of tasks in each round; rounds
take turns between the variants. SQLite's are MANY times as many, as a round would else be over
before all have begun. Shown for each: records per second, the latency of single
claims, the slowest process beside the fastest (by the sum of its claims' times, over all
rounds), CPU per record (workers, all that they started, and the resident process), and
how many pushes a record takes. Pushes are counted at the server, as starts of
`git receive-pack`, in a further short round that is not timed: to trace git's programs
costs a tenth of them.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import sqlite
from .figures import median, milliseconds, quantile
from .worker_pool import Resident, Round, WorkerPool
from .workspace import APART, DIRECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .figures import Report, Row, Rows
    from .workspace import Workspace

ROUNDS = 2
PROCESSES, EACH = 16, 4
MANY = 50
COUNTED = 3  # claims of each process in the round that counts pushes

NAIVE = "naive loop: fetch, commit, push, again"
RESIDENT = "sequenced, separate hosts, resident process"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to write, with a place for its processes."""

    name: str
    workers: tuple[tuple[str, ...], ...]
    environ: dict[str, str]
    repository: Path
    resident: bool = False
    times: int = 1  # as many claims as the others make


def variants(workspace: Workspace, processes: int) -> list[Variant]:
    """The loop first, which the others are compared with."""
    agents = [f"agent{n}" for n in range(processes)]
    environ, apart = workspace.environ, workspace.environ | APART
    bare = workspace.bare("naive")
    clones = [workspace.local(str(bare), workspace.root / f"naive.{agent}") for agent in agents]
    loops = tuple(("naive", str(path), who) for path, who in zip(clones, agents, strict=True))
    plain, sequenced = (workspace.fleet(name, agents) for name in ("plain", "sequenced"))
    argv = ("-m", "coordledger", "hook", "install", str(plain.remote), "--no-sequence")
    workspace.python(workspace.root, *argv)
    racing, in_turn = (
        tuple(("ledger", str(fleet.clones[who]), who) for who in agents)
        for fleet in (plain, sequenced)
    )
    here = environ | DIRECT
    return [
        Variant(NAIVE, loops, environ, bare),
        Variant("fast-forward, one host", racing, environ, plain.remote),
        Variant("without pushes, on the server's host", racing, here, plain.remote),
        Variant("fast-forward, separate hosts", racing, apart, plain.remote),
        Variant("sequenced, separate hosts", in_turn, apart, sequenced.remote),
        Variant(RESIDENT, in_turn, apart, sequenced.remote, resident=True),
        in_sqlite(workspace, sqlite.FULL, agents),
    ]


def in_sqlite(workspace: Workspace, synchronous: str, agents: Sequence[str]) -> Variant:
    """One file for all of them, which is there before they open it side by side."""
    path = workspace.root / f"{synchronous}.{len(agents)}.db"
    sqlite.Table(path, "first").close()
    workers = tuple(("sqlite", str(path), agent, synchronous) for agent in agents)
    name = f"SQLite, synchronous={synchronous}"
    return Variant(name, workers, workspace.environ, path, times=MANY)


def run(
    workspace: Workspace,
    rounds: int,
    report: Report,
    *,
    processes: int = PROCESSES,
    each: int = EACH,
) -> Rows:
    """Rows; nothing is left out."""
    found = variants(workspace, processes)
    done, steps = 0, len(found) * (rounds + 2)
    measured: dict[str, list[Round]] = {variant.name: [] for variant in found}
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(WorkerPool(v.environ, v.workers)) for v in found]
        for number in range(rounds + 1):
            for variant, pool in zip(found, pools, strict=True):
                with server(variant) as cpu:
                    if number == 0:
                        pool.round(1)  # each knows the head, and what its remote can do
                    else:
                        took = counted(pool, each * variant.times, cpu)
                        measured[variant.name].append(took)
                done += 1
                report(done, steps)
    rows = [row(variant.name, measured[variant.name]) for variant in found]
    for variant, shown in zip(found, rows, strict=True):
        shown["of_naive"] = round(shown["records_per_s"] / rows[0]["records_per_s"], 2)
        shown["pushes"] = pushes(workspace, variant)
        done += 1
        report(done, steps)
    return rows, {}


@contextlib.contextmanager
def server(variant: Variant) -> Iterator[Callable[[], float]]:
    """The resident process, if the variant has one; how to ask for its CPU."""
    if not variant.resident:
        yield lambda: 0.0
        return
    with Resident(variant.environ, variant.repository) as resident:
        yield resident.cpu


def counted(pool: WorkerPool, each: int, cpu: Callable[[], float]) -> Round:
    """A round, with the CPU of the server's resident process."""
    before = cpu()
    took = pool.round(each)
    return Round(took.wall, took.cpu + cpu() - before, took.seconds)


def row(what: str, rounds: Sequence[Round]) -> Row:
    claims = [seconds for each in rounds for process in each.seconds for seconds in process]
    totals = [sum(map(sum, process)) for process in zip(*(r.seconds for r in rounds), strict=True)]
    records = sum(r.records for r in rounds)
    return {
        "what": what,
        "records_per_s": round(records / sum(r.wall for r in rounds), 1),
        "p50_ms": milliseconds(median(claims)),
        "p95_ms": milliseconds(quantile(claims, 0.95)),
        "max_ms": milliseconds(max(claims)),
        "slowest_to_fastest": round(max(totals) / min(totals), 2),
        "cpu_ms": milliseconds(sum(r.cpu for r in rounds) / records),
    }


def pushes(workspace: Workspace, variant: Variant) -> float:
    """`git receive-pack`s per record, in a round of their own."""
    trace = workspace.root / "trace"
    trace.unlink(missing_ok=True)
    traced = variant.environ | {"GIT_TRACE2_EVENT": str(trace)}
    with server(variant), WorkerPool(traced, variant.workers) as pool:
        pool.round(1)
        before = _receive_packs(trace)
        records = pool.round(COUNTED).records
        return round((_receive_packs(trace) - before) / records, 2)


def _receive_packs(trace: Path) -> int:
    """How many of them a trace of git's programs shows so far."""
    if not trace.exists():  # no git has run
        return 0
    with trace.open(encoding="utf-8") as lines:
        starts = (json.loads(line) for line in lines if '"event":"cmd_name"' in line)
        return sum(event["name"] == "receive-pack" for event in starts)
