"""Processes that all start at once, claim tasks of their own, and say how long that took.

Rules of this file: the processes live through all rounds, so that no start is timed; each
claims the same number of tasks in each round; a round is over when the slowest is done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

ENDING = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Round:
    """What one round took: wall clock, CPU of workers and what they waited for, and the
    seconds of each claim by process.
    """

    wall: float
    cpu: float
    seconds: tuple[tuple[float, ...], ...]

    @property
    def records(self) -> int:
        return sum(map(len, self.seconds))


class WorkerPool:
    """`workers` are the arguments of `worker`, one list for each process."""

    def __init__(self, environ: dict[str, str], workers: Sequence[Sequence[str]]) -> None:
        self._name, self._rounds = os.urandom(4).hex(), 0
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "coordledger.bench.worker", *arguments],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for arguments in workers
        ]

    def __enter__(self) -> Self:
        try:
            for process in self._processes:
                self._line(process)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for process in self._processes:
            _pipe(process.stdin).close()
        for process in self._processes:
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _pipe(process.stdout).close()

    def round(self, each: int) -> Round:
        """Every process claims so many tasks that nobody else wants."""
        self._rounds += 1
        orders = [
            json.dumps([f"{self._name}-{self._rounds}-{who}-{n}" for n in range(each)]) + "\n"
            for who in range(len(self._processes))
        ]
        start = time.perf_counter()
        for process, order in zip(self._processes, orders, strict=True):
            _pipe(process.stdin).write(order)
            _pipe(process.stdin).flush()
        said = [json.loads(self._line(process)) for process in self._processes]
        wall = time.perf_counter() - start
        cpu = sum(answer["cpu"] for answer in said)
        return Round(wall, cpu, tuple(tuple(answer["seconds"]) for answer in said))

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        line = _pipe(process.stdout).readline()
        if not line:
            raise RuntimeError("a process of the pool has failed")
        return line


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise ValueError
    return stream


class Resident:
    """`coordledger serve` for one repository, while the block lasts."""

    def __init__(self, environ: dict[str, str], repository: Path) -> None:
        self._environ, self._repository = environ, repository

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coordledger", "serve", str(self._repository)],
            env=self._environ,
            cwd=self._repository,
            stdout=subprocess.PIPE,
            text=True,
        )
        if not _pipe(self._process.stdout).readline():  # it says what it serves
            raise RuntimeError("coordledger serve does not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def cpu(self) -> float:
        """Its seconds of CPU so far, with its children's; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text("ascii")
        except OSError:
            return 0.0
        ticks = fields.rpartition(")")[2].split()[11:15]  # utime, stime and the children's
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
