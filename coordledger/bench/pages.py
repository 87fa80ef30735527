"""What small records cost that make the server write much: claims of sixteen tasks on full pages.

Rules of this file: a claim writes each page of tasks that it changes anew, whoever else has filled
it. The server sequences; the claims of a batch go in as few pushes as it takes, and a neighbour who
claims one task of its own meanwhile waits for its turn: the longest wait is shown. Bytes are those
by which the server's repository grows, before `git gc`.
"""

from __future__ import annotations

from binascii import b2a_base64
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from hashlib import sha512
from typing import TYPE_CHECKING, NamedTuple

from coordledger.format.state import page_path

from .figures import Took, median, milliseconds, timed
from .workspace import OWNER
from .write import claim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordledger.client.ledger import Ledger
    from coordledger.client.reports import Outcome

    from .figures import Report, Row, Rows
    from .workspace import Workspace

ROUNDS = 3
PAGES, FILLING, CLAIMS = 16, 26, 12  # pages; tasks on each; claims of a batch
TTL = timedelta(minutes=30)
NEIGHBOUR = "neighbour"


class _Measured(NamedTuple):
    """What the claims took, a neighbour's claim meanwhile, and the bytes that came of both."""

    took: Took
    meanwhile: Took
    grown: int


def run(
    workspace: Workspace,
    rounds: int,
    report: Report,
    *,
    filling: int = FILLING,
    claims: int = CLAIMS,
) -> Rows:
    """Rows, and what is left out."""
    fleet = workspace.fleet("pages", [NEIGHBOUR])
    argv = ("-m", "coordledger", "hook", "install", str(fleet.remote), "--sequence")
    workspace.python(workspace.root, *argv)
    tasks = _on_the_same_pages(filling + rounds * (1 + claims))
    shapes = {f"one claim of {PAGES} tasks": 1, f"{claims} such claims, one batch": claims}
    found: dict[str, list[_Measured]] = {what: [] for what in shapes}
    with (
        fleet.open(OWNER) as ledger,
        fleet.open(NEIGHBOUR) as neighbour,
        ThreadPoolExecutor(1) as pool,
    ):
        _fill(ledger, [next(tasks) for _ in range(filling)])
        claim(neighbour, -1)
        report(1, rounds + 1)
        for number in range(rounds):
            for what, count in shapes.items():
                groups = [next(tasks) for _ in range(count)]
                before = _size(fleet.remote)
                waits = pool.submit(claim, neighbour, number * 10 + count)
                took = timed(partial(_claim, ledger, groups))
                meanwhile = waits.result()
                found[what].append(_Measured(took, meanwhile, _size(fleet.remote) - before))
            report(number + 2, rounds + 1)
    return [_row(what, shapes[what], measured) for what, measured in found.items()], {}


def _on_the_same_pages(count: int) -> Iterator[list[str]]:
    """So many groups of tasks, each with one task for each of the same pages."""
    found: dict[str, list[str]] = {}
    number = 0
    while len(found) < PAGES or min(map(len, found.values())) < count:
        path = page_path(f"t{number}")
        if path in found or len(found) < PAGES:
            found.setdefault(path, []).append(f"t{number}")
        number += 1
    return (list(group) for group in zip(*found.values(), strict=False))


def _fill(ledger: Ledger, groups: list[list[str]]) -> None:
    with ledger.batch() as batch:
        for n, task in enumerate(task for group in groups for task in group):
            noise = {name: _noise(f"{n}{name}") for name in "abcd"}
            batch.submit(task, meta=noise)
    _need_landed(batch.outcomes)


def _noise(seed: str) -> str:
    """A thousand characters that hardly deflate."""
    digests = (sha512(f"{seed}{n}".encode()).digest() for n in range(12))
    return b2a_base64(b"".join(digests), newline=False).decode("ascii")[:1000]


def _claim(ledger: Ledger, groups: list[list[str]]) -> None:
    with ledger.batch() as batch:
        for group in groups:
            batch.claim(*group, ttl=TTL)
    _need_landed(batch.outcomes)


def _need_landed(outcomes: list[Outcome]) -> None:
    if not all(outcome.landed for outcome in outcomes):
        raise RuntimeError("not all of the batch has landed")


def _size(remote: Path) -> int:
    return sum(path.stat().st_size for path in remote.glob("objects/*/*"))


def _row(what: str, records: int, found: list[_Measured]) -> Row:
    took = median([one.took.wall for one in found])
    return {
        "what": what,
        "median_ms": milliseconds(took),
        "record_ms": milliseconds(took / records),
        "neighbour_ms": milliseconds(max(one.meanwhile.wall for one in found)),
        "bytes_per_record": round(sum(one.grown for one in found) / records / len(found)),
    }
