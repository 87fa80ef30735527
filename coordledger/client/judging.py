"""Judge a long stretch of a chain in several processes, side by side.

Rules of this file:
- A chain is valid if each stretch of it is, judged from the last commit of the one before: what
  that commit says of state, seq and digest is what the stretch before has to come to, byte by byte.
  So stretches are judged at the same time, by the same `format.chain`, and count in their order:
  what comes out above a record that is not valid is never looked at.
- Only what is plain comes out of here: records that are valid, and not from the future. At the
  first lot that is anything else, or where a process fails, it ends, and the caller judges the rest
  itself. So every refusal, and every word about it, comes from the one walk in one process.
- A worker (`judging_worker`) is a Python of its own: it inherits no threads, no locks and none of
  the caller's main module. Secrets go to it through its input only. It ends when that is closed, so
  also when this process is killed; and it is killed when the caller ends, fails or is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import coordledger
from coordledger.errors import Integrity
from coordledger.format import canonical
from coordledger.format.chain import AUTHENTIC, UNVERIFIED, Judged
from coordledger.format.commit import parse_commit
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from coordledger.client.replica import Replica
    from coordledger.format.chain import Chain
    from coordledger.format.signing import Keyring

UNCHECKED, CHECKED, BY_SSH = 0, 1, 2  # marks of records; from the last one on: by which SSH key
WORTH = 6000  # records: fewer are judged sooner than processes are started
_MOST = 4  # processes
_LEAST_STRETCH, _MOST_STRETCH = 2000, 16_384  # records
_AHEAD = 3  # stretches of each worker that are begun before the oldest one is through
_SILENCE = 60.0  # seconds without a word of any worker: none of them works any more
_START = """import sys
sys.path[:] = sys.argv[1:]
from coordledger.client.judging_worker import main
main()
"""


class Lot(Value):
    """Verdicts on commits that follow each other; of each the seq of one that the same key has
    signed, or None where a secret is the key.
    """

    judged: list[Judged]
    alike: list[int | None]


class _Plain(Value):
    """Records that are valid: the verdict on each, and the seq of one that the same SSH key has
    signed, where it was one.
    """

    verdicts: list[str]
    alike: list[int | None]


def processes() -> int:
    """How many there would be: 1 where it is done in this one."""
    if not sys.executable or getattr(sys, "frozen", False):
        return 1
    if hasattr(os, "sched_getaffinity"):  # not every system has it
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)


def lots(
    replica: Replica,
    chain: Chain,
    many: int,
    ids: Callable[[], Iterator[str]],
    commits: Callable[[int], Iterable[tuple[str, bytes]]],
    now: int | None,
) -> Generator[Lot, None, None]:
    """As `Replica.judge`, of the `many` commits with these `ids`, which are to continue the chain;
    `commits(done)` are those after the first `done`. What is from the future at the moment
    `now` comes in a lot of its own. When a lot comes out the chain stands at its end.

    Many are judged in several processes, as far as all is plain; the rest is judged here. Both
    is `format.chain`'s doing, and gives the same verdicts. Raises `Integrity`: bad-copy.
    """
    done, before = 0, None
    if many >= WORTH and processes() > 1:
        before = chain.copy()
        for lot in _side_by_side(replica, chain, many, ids, now):
            done += len(lot.judged)
            yield lot
    try:
        for judged in replica.judge(chain, commits(done)):
            done += 1
            yield Lot([judged], [judged.seq])
    except Integrity as fault:
        if before is None or fault.code != "bad-copy":
            raise
        # Not every object of the states between is here; all follow from the first one.
        chain.stand_where(before)
        skipped = done
        for count, judged in enumerate(replica.judge(chain, commits(0))):
            if count >= skipped:
                yield Lot([judged], [judged.seq])


def _side_by_side(
    replica: Replica, chain: Chain, many: int, ids: Callable[[], Iterator[str]], now: int | None
) -> Iterator[Lot]:
    repository, start = replica.local.repository, chain.head.oid if chain.head else None
    left, seq = ids(), chain.next_seq
    plain = _in_order(replica, chain.keyring, start, ids(), many, now)
    with contextlib.closing(plain):
        for lot in plain:
            # The verdicts first: then it takes no id too many.
            pairs = enumerate(zip(lot.verdicts, left, strict=False), seq)
            judged = [Judged(oid, b"", number, verdict) for number, (verdict, oid) in pairs]
            seq += len(judged)
            head = judged[-1].oid
            chain.stand_at(parse_commit(head, repository.read(head)))
            yield Lot(judged, lot.alike)


def _in_order(
    replica: Replica,
    keyring: Keyring,
    start: str | None,
    ids: Iterator[str],
    many: int,
    now: int | None,
) -> Generator[_Plain, None, None]:
    """What is plain of the `many` commits `ids`, which follow the valid commit `start`, a lot at a
    time; nothing that is from the future at the moment `now`.
    """
    count = processes()
    size = min(_MOST_STRETCH, many // (4 * count)) // _LEAST_STRETCH * _LEAST_STRETCH
    stretches = _stretches(start, ids, max(size, _LEAST_STRETCH))
    with contextlib.suppress(OSError, ValueError), _Pool(replica, keyring, count) as pool:
        for answer in pool.answers(stretches):
            if now is not None and answer["ahead"] > now:
                return
            yield _Plain(
                [UNVERIFIED if mark == UNCHECKED else AUTHENTIC for mark in answer["marks"]],
                [answer["keys"][m - BY_SSH] if m >= BY_SSH else None for m in answer["marks"]],
            )


def _stretches(start: str | None, ids: Iterator[str], size: int) -> Iterator[dict[str, Any]]:
    while some := list(islice(ids, size)):
        yield {"start": start, "ids": some}
        start = some[-1]


class _Pool:
    """Some workers, each with at most one stretch at a time."""

    def __init__(self, replica: Replica, keyring: Keyring, count: int) -> None:
        self._keyring, repository = keyring, replica.local.repository
        told = {
            "algo": repository.algo,
            "git_dir": str(repository.git_dir),
            "masters": [secret.reveal() for secret in keyring.masters],
        }
        self._workers: list[_Worker] = []
        try:
            for _ in range(count):
                self._workers.append(_Worker(replica))
                self._workers[-1].say(told)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    def answers(self, stretches: Iterator[Any]) -> Iterator[Any]:
        """The lots of all stretches, in order; they end before the first one that is not plain.
        Raises OSError, ValueError: a worker has ended.
        """
        lots: dict[int, deque[Any]] = {}
        ended: dict[int, str] = {}
        at: dict[_Worker, int] = {}  # who is at which stretch
        number = begun = 0
        while True:
            for worker in self._workers:
                ahead = begun - number < _AHEAD * len(self._workers)
                if worker not in at and ahead and (stretch := next(stretches, None)):
                    at[worker], lots[begun] = begun, deque()
                    worker.say(stretch)
                    begun += 1
            if number == begun:
                return
            while lots[number]:
                yield lots[number].popleft()
            if number in ended:
                if ended[number] != "done":
                    return
                del lots[number]
                number += 1
                continue
            for worker in _speaking(list(at)):
                self._hear(worker, lots, ended, at)

    def _hear(
        self,
        worker: _Worker,
        lots: dict[int, deque[Any]],
        ended: dict[int, str],
        at: dict[_Worker, int],
    ) -> None:
        answer = worker.hear()
        if "ask" in answer:
            secrets = [one.reveal() for one in self._keyring.secrets_of(answer["ask"])]
            worker.say({"secrets": secrets})
        elif "end" in answer:
            ended[at.pop(worker)] = answer["end"]
        else:
            lots[at[worker]].append(answer)


def _speaking(workers: list[_Worker]) -> list[_Worker]:
    """Those that have said something. Raises TimeoutError: none does."""
    if heard := [worker for worker in workers if worker.has_line()]:
        return heard
    poll = select.poll()
    by_number = {worker.number: worker for worker in workers}
    for number in by_number:
        poll.register(number, select.POLLIN)
    found = poll.poll(1000 * _SILENCE)
    if not found:
        raise TimeoutError
    for number, _ in found:
        by_number[number].read()
    return [worker for worker in workers if worker.has_line()]


class _Worker:
    """One process, and what it has said."""

    def __init__(self, replica: Replica) -> None:
        git = replica.git
        home = str(Path(coordledger.__file__).resolve().parent.parent)
        paths = [home, *(path for path in sys.path if Path(path).is_absolute())]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, *paths],
            cwd=git.cwd,
            env=git.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C is this process's
        )
        self._said = b""

    @property
    def number(self) -> int:
        """Of the file that it speaks through."""
        out = self._process.stdout
        if out is None:
            raise ValueError("no pipe")
        return out.fileno()

    def say(self, words: Any) -> None:
        """It listens: it has said all that it had to say."""
        if self._process.stdin:
            left = memoryview(canonical.encode(words) + b"\n")
            while left:
                left = left[self._process.stdin.write(left) :]

    def read(self) -> None:
        """Raises BrokenPipeError: it has ended."""
        content = os.read(self.number, 65_536)
        if not content:
            raise BrokenPipeError
        self._said += content

    def has_line(self) -> bool:
        return b"\n" in self._said

    def hear(self) -> Any:
        line, _, self._said = self._said.partition(b"\n")
        return canonical.read(line)

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
