"""A process that judges stretches of a chain for another one: see `judging`.

Rules of this file: it hears and says lines of JSON, on its standard input and output. It has no
secret but those that it is told there, and asks for an agent's when it needs them. It judges with
`format.chain` from the commit on that it is told, and says what came out as long as all is plain;
whatever is not, it gives back, and the other process judges it. It ends with its input, and when
nobody reads what it says.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordledger.client.judging import BY_SSH, CHECKED, UNCHECKED
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, RuleBroken
from coordledger.format import canonical, timestamps
from coordledger.format.chain import AUTHENTIC, Chain, judge_all
from coordledger.format.commit import parse_commit
from coordledger.format.signing import SSH, Keyring, Secret
from coordledger.git.process import Git
from coordledger.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordledger.format.chain import Judged
    from coordledger.format.state import State

LOT = 500  # records between two answers
_WAITS_FOR_NOBODY = Deadline(1e6)  # seconds: `poll` takes 24 days at most


class NotPlain(Exception):
    """Something that the other process has to look at itself."""


def main() -> None:
    """Work until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whose work it is ends it
    gc.disable()  # nothing here makes cycles, and it takes a twelfth of the time to find that out
    told = _hear()
    git = Git(os.environ, Path.cwd(), _WAITS_FOR_NOBODY)
    repository = Repository(git, Path(told["git_dir"]), None, told["algo"])
    masters = [Secret(line) for line in told["masters"]]

    def secrets_of(agent: str) -> list[Secret]:
        _say({"ask": agent})
        return [Secret(line) for line in _hear()["secrets"]]

    keyring = Keyring(masters, secrets_of)
    while True:
        stretch = _hear()
        try:
            for answer in _judged(repository, keyring, stretch["start"], stretch["ids"]):
                _say(answer)
            _say({"end": "done"})
        except (NotPlain, CoordledgerError, RuleBroken, KeyError, ValueError, OSError):
            _say({"end": "not plain"})


def _judged(
    repository: Repository, keyring: Keyring, start: str | None, ids: list[str]
) -> Iterator[Any]:
    head = parse_commit(start, repository.read(start)) if start else None
    chain = Chain(repository.read, keyring, head, repository.algo)
    with contextlib.closing(repository.git.stream(ids)) as commits:
        _read_pages(repository, chain.state)
        judged = judge_all(chain, commits)
        while lot := list(_marked(chain, islice(judged, LOT))):
            first = {by: seq for seq, _, by in reversed(lot) if by}  # SSH key -> what it has signed
            marks: dict[str | None, int] = {None: UNCHECKED, "": CHECKED}
            marks |= {by: BY_SSH + number for number, by in enumerate(first)}
            yield {
                "marks": [marks[by] for _, _, by in lot],
                "keys": list(first.values()),
                "ahead": max(at for _, at, _ in lot) - 2 * chain.state.skew,
            }


def _read_pages(repository: Repository, state: State) -> None:
    """Bring the tasks of the state that a stretch begins with here, a folder at a time: git answers
    for many objects sooner than for one after the other.
    """
    for folder in state.task_folders():
        pages = state.task_pages(folder)
        repository.read_ahead(list(pages.values()))
        for path in pages:
            state.tree.get(path)
    repository.read_ahead([])


def _marked(chain: Chain, judged: Iterator[Judged]) -> Iterator[tuple[int, int, str | None]]:
    """Seq and time of each record, and by which SSH key it is authentic; "" by a secret, None: it
    is unverified. Raises `NotPlain`.
    """
    for one in judged:
        if one.broken or chain.head is None:
            raise NotPlain
        record, by = chain.head.record, None
        if one.verdict == AUTHENTIC:
            agent, number = record["agent"], record["key"]
            if not chain.state.has_key(agent, number):  # the record itself has removed it
                raise NotPlain
            key = chain.state.key(agent, number, one.seq)
            by = f"{agent}/{number}/{key['from']}" if key["alg"] == SSH else ""
        yield one.seq, timestamps.parse(record["at"]), by


def _hear() -> Any:
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit()
    return canonical.read(line)


def _say(answer: Any) -> None:
    try:
        sys.stdout.buffer.write(canonical.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    except OSError:  # nobody listens any more
        os._exit(0)
