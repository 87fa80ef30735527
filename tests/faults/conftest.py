"""The faults' fixtures: agents that die on command, disks that are full, and by which way records
land: BY_EACH_WAY runs a test by all of them, others are of plain pushes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.sequencing import switch
from support.serve_process import break_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

_DYING = Path(__file__).parents[1] / "support" / "dying_agent.py"


PUSHED, IN_QUARANTINE, ON_HOST = "by a push", "in quarantine", "on the host"
BY_EACH_WAY = pytest.mark.parametrize("way", [PUSHED, IN_QUARANTINE, ON_HOST], indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """How records of a test's fleet land."""
    return str(getattr(request, "param", PUSHED))


def sequence_in_quarantine(fleet: Fleet) -> None:
    """As `init` leaves a server, but that nothing lands by proc-receive."""
    switch(fleet, sequence=True)
    break_python(fleet.remote / "hooks/proc-receive")


@pytest.fixture
def env(env: dict[str, str], way: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    direct = {"COORDLEDGER_DIRECT": "on"} if way == ON_HOST else {}
    for name, value in direct.items():
        monkeypatch.setenv(name, value)
    return env | direct


@pytest.fixture
def make_fleet(make_fleet: Callable[..., Fleet], way: str) -> Callable[..., Fleet]:
    def make(**kw: int) -> Fleet:
        fleet = make_fleet(**kw)
        if way == IN_QUARANTINE:
            sequence_in_quarantine(fleet)
        return fleet

    return make


class Agents:
    """A running `dying_agent.py`: forks an agent for each call."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_DYING)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, clone: Path, agent: str, *steps: tuple[Any, ...], **more: Any) -> dict[str, Any]:
        """What the agent said at each step, its points, and the signal that ended it.

        `die_at` is a point; `timeout` the seconds of each step. A child ends by itself.
        """
        request = {"clone": str(clone), "agent": agent, "steps": steps} | more
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "dying_agent.py itself died"
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout
            self._process.stdout.close()


@pytest.fixture
def agents(env: dict[str, str]) -> Iterator[Agents]:
    made = Agents(env)
    yield made
    made.close()


class Disk:
    """A file system of its own, some megabytes large."""

    def __init__(self, path: Path) -> None:
        self.path, self._filler = path, path / "filler"

    def fill(self, pages: int = 0) -> None:
        """Leave room for `pages` blocks of 4,096 bytes and for nothing else."""
        self.clear()
        block = bytes(65536)
        with self._filler.open("wb", buffering=0) as file:
            while True:
                try:
                    if file.write(block) < len(block):
                        break
                except OSError:
                    break
            file.truncate(max(0, file.tell() - 4096 * pages))

    def clear(self) -> None:
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    """Mounts small disks: `make_disk(megabytes=8)`."""
    made: list[Disk] = []

    def make(megabytes: int = 8) -> Disk:
        path = tmp_path / f"disk{len(made)}"
        path.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", str(path)]
        try:
            ran = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
            failed = ran.stderr.strip() if ran.returncode else ""
        except OSError as fault:
            failed = str(fault)
        if failed:
            why = f"no disk to fill: mounting needs more rights than these ({failed})"
            if CI and os.geteuid() == 0:
                pytest.fail(why, pytrace=False)
            pytest.skip(why)
        made.append(Disk(path))
        return made[-1]

    yield make
    for disk in made:
        subprocess.run(
            ["umount", "--lazy", str(disk.path)], capture_output=True, timeout=20, check=True
        )


CI = os.environ.get("CI") == "true"
