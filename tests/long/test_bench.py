"""The benchmarks run, and give what docs/json.md says; what they measure is no test's business."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from coordledger.bench import (
    DEFAULT,
    SUITES,
    TITLES,
    batch,
    compare,
    contention,
    fence,
    follow,
    http,
    keys,
    ledgers,
    pages,
    parts,
    scale,
    sqlite,
    tasks,
    write,
)
from coordledger.bench.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

DOCS = Path(__file__).parents[2] / "docs" / "json.md"
TIMES = {"what", "median_ms", "p95_ms", "cpu_ms", "of_floor"}
CROWD = {"what", "records_per_s", "p50_ms", "p95_ms", "max_ms", "slowest_to_fastest", "cpu_ms"}
SIZES = {"what", "bytes_per_record", "join_ms", "shallow_ms", "audit_per_s"}
SIZES |= {"claim_ms", "claim_cpu_ms", "hook_ms", "hook_cpu_ms"}
FOLLOWED = {"what", "cpu_ms", "server_ms", "cpu_per_record_ms", "server_per_record_ms"}
KEYS = {"what", "claim_ms", "claim_cpu_ms", "hook_ms", "hook_cpu_ms", "audit_per_s"}
SMALL: dict[str, tuple[Callable[..., Any], dict[str, Any], set[str]]] = {
    "http": (http.run, {}, TIMES),
    "scale": (scale.run, {"sizes": (12, 24)}, SIZES),
    "parts": (parts.run, {}, TIMES),
    "fence": (fence.run, {}, TIMES),
    "follow": (follow.run, {"records": 60, "gaps": (1, 20)}, FOLLOWED),
    "contention": (
        contention.run,
        {"processes": 2, "each": 2},
        CROWD | {"of_naive", "pushes"},
    ),
    "compare": (
        compare.run,
        {"processes": 2, "each": 1, "alone": 1},
        CROWD | {"alone_ms", "of_floor", "of_naive"},
    ),
    "batch": (batch.run, {"operations": 3}, {"what", "median_ms", "record_ms", "cpu_ms", "faster"}),
    "pages": (
        pages.run,
        {"filling": 1, "claims": 2},
        {"what", "median_ms", "record_ms", "neighbour_ms", "bytes_per_record"},
    ),
    "keys": (keys.run, {"records": 12}, KEYS),
    "tasks": (tasks.run, {"tasks": 12}, KEYS - {"audit_per_s"} | {"next_ms"}),
    "ledgers": (ledgers.run, {"ledgers": (1, 2), "processes": 2, "each": 2}, CROWD),
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def bench(env: dict[str, str], *argv: str) -> str:
    """What `coordledger bench ARGV` prints to stdout."""
    command = [sys.executable, "-m", "coordledger", "bench", *argv]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("suite", SMALL)
def test_a_small_suite_gives_the_rows_that_are_documented(suite: str, workspace: Workspace) -> None:
    run, sizes, columns = SMALL[suite]
    steps: list[tuple[int, int]] = []
    rows, missing = run(workspace, 1, lambda done, of: steps.append((done, of)), **sizes)
    assert rows
    for row in rows:
        assert set(row) == columns
        assert all(figure > 0 for name, figure in row.items() if name not in ("what", "pushes"))
    names = [row["what"] for row in rows]
    assert len(set(names)) == len(names)
    assert not set(names) & set(missing)
    assert steps[-1][0] == steps[-1][1] == len(steps)


def test_what_is_compared_with_on_sqlite_has_one_winner_and_takes_over_what_has_ended(
    tmp_path: Path,
) -> None:
    first, second = (sqlite.Table(tmp_path / "work.db", agent) for agent in ("bob", "carol"))
    assert first.claim("t") == 1
    with pytest.raises(RuntimeError, match="t is held by bob"):
        second.claim("t")
    with contextlib.closing(sqlite3.connect(tmp_path / "work.db")) as file, file:
        file.execute("UPDATE work SET expires_at = datetime('now', '-1 second')")
    assert second.claim("t") == 2
    with pytest.raises(RuntimeError, match="t is held by carol"):
        first.claim("t")
    first.close()
    second.close()


def test_the_command_prints_one_value_and_its_progress_elsewhere(env: dict[str, str]) -> None:
    found = json.loads(bench(env, "write", "--rounds", "1", "--json"))
    assert set(found) == {"machine", "suites", "left_out"}
    assert set(found["suites"]) == {"write"}
    assert found["suites"]["write"]["rounds"] == 1
    rows = found["suites"]["write"]["rows"]
    assert rows[0]["of_floor"] == 1.0
    assert all(set(row) == TIMES for row in rows)
    assert {"cores", "git", "python", "file_system"} <= set(found["machine"])
    for out in found["left_out"]:
        assert set(out) == {"suite", "what", "why"}


def test_people_see_a_table_for_each_suite(env: dict[str, str]) -> None:
    said = bench(env, "http", "--rounds", "1")
    assert "x FLOOR" in said
    assert "\nhttp, rounds: 1\n" in said


def test_every_suite_and_every_column_is_known_and_documented() -> None:
    documented = DOCS.read_text("utf-8")
    columns = TIMES | CROWD | set.union(*(columns for _, _, columns in SMALL.values()))
    assert columns <= set(TITLES)
    assert all(f"`{column}`" in documented for column in TITLES)
    assert set(DEFAULT) <= set(SUITES)
    assert {"write", *SMALL} == set(SUITES)
    assert all(
        module.ROUNDS > 0
        for module in (write, scale, http, contention, compare, batch, pages, keys, ledgers)
    )
