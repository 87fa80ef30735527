"""Fixtures of all tests: an environment that knows no user, fleets, attackers, the command line.

Rules: nothing of the user's or the system's configuration is seen; what a whole file shares
(`shared_fleet`) is used under names of each test's own.
"""

from __future__ import annotations

import functools
import io
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import Attacker
from support.fleet import Fleet, hermetic
from support.push_gate import PushGate

from coordledger import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Pristine = Callable[..., Fleet]
    Ran = subprocess.CompletedProcess[str]

ROOM = 4 << 30  # bytes that must be free in memory


def pytest_configure() -> None:
    """Temporary folders are in memory where it has room: tests wait for the disk most of all."""
    memory = Path("/dev/shm")
    if "PYTEST_DEBUG_TEMPROOT" in os.environ or not os.access(memory, os.W_OK):
        return
    here = os.statvfs(memory)
    if here.f_bavail * here.f_frsize > ROOM and not here.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(memory)


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as cores: tests wait for locks, leases and processes of their own."""
    return len(os.sched_getaffinity(0)) * 3 // 2


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A hermetic environment, which is this process's too while the test runs."""
    made = hermetic(tmp_path)
    for name in set(os.environ) - set(made):
        monkeypatch.delenv(name)
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Pristine:
    """Fleets to be copied, one for each choice of settings: alice's ledger as it was founded, with
    clones of three agents.
    """

    @functools.cache
    def found(**kw: int) -> Fleet:
        root = tmp_path_factory.mktemp("pristine")
        fleet = Fleet(root / "fleet", hermetic(root), **kw)
        for agent in ("alice", "bob", "carol"):
            fleet.clone(agent)
        return fleet.forgetful()

    return found


@pytest.fixture
def make_fleet(
    tmp_path: Path, env: dict[str, str], pristine: Pristine
) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets: `make_fleet(max_skew=1)`; each has a directory and a ledger of its own."""
    made: list[Fleet] = []

    def make(**kw: int) -> Fleet:
        made.append(_fleet(pristine, tmp_path / f"fleet{len(made)}", env, **kw))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _fleet(
    pristine: Pristine, root: Path, env: dict[str, str], *, anew: bool = False, **kw: int
) -> Fleet:
    """A copy, unless it has to be another ledger: because a test says so, or beside a first one."""
    if anew or Path(env["XDG_CONFIG_HOME"]).exists():
        return Fleet(root, env, **kw)
    return pristine(**kw).copy(root, env)


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """Alice's ledger, nobody else enrolled yet."""
    return make_fleet()


@pytest.fixture(scope="module")
def founded(
    tmp_path_factory: pytest.TempPathFactory, pristine: Pristine
) -> Iterator[Callable[..., Fleet]]:
    """Makes fleets for a whole file: `founded("bob", "carol", max_skew=60)`."""
    made: list[Fleet] = []
    root = tmp_path_factory.mktemp("founded")
    env = hermetic(root)

    def make(*agents: str, **kw: int) -> Fleet:
        fleet = _fleet(pristine, root / f"fleet{len(made)}", env, **kw)
        made.append(fleet)
        for agent in agents:
            fleet.enroll(agent)
        return fleet

    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        yield make
    for fleet in made:
        fleet.close()


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    """Alice's ledger, with bob and carol enrolled, for a whole file."""
    return founded("bob", "carol")


@pytest.fixture
def attacker_for(tmp_path: Path) -> Iterator[Callable[[Fleet], Attacker]]:
    """Makes forges for fleets."""
    made: list[Attacker] = []

    def make(fleet: Fleet, **kw: str) -> Attacker:
        made.append(Attacker(fleet, tmp_path / f"forge{len(made)}.git", **kw))
        return made[-1]

    yield make
    for attacker in made:
        attacker.close()


@pytest.fixture
def push_gate(fleet: Fleet) -> Iterator[PushGate]:
    """Where the server's pushes can be held up."""
    push_gate = PushGate(fleet)
    yield push_gate
    push_gate.clear()


@pytest.fixture
def attacker(shared_fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    """An attacker on the file's own fleet."""
    return attacker_for(shared_fleet)


@pytest.fixture
def inside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """`inside(fleet, *argv, …)` does what `fleet.run(*argv, …)` does, in this process."""

    def run(
        fleet: Fleet,
        *argv: str | Path,
        agent: str | None = None,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        check: int | None = None,
    ) -> Ran:
        words = [str(word) for word in argv]
        typed = io.BytesIO(stdin.encode("utf-8", "surrogateescape"))
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name in set(os.environ) - set(fleet.env):
                patch.delenv(name)
            for name, value in (fleet.env | (env or {})).items():
                patch.setenv(name, value)
            patch.chdir(fleet.clone(agent) if agent else fleet.root)
            patch.setattr("sys.stdin", io.TextIOWrapper(typed))
            code = cli.main(words)
        said = capsys.readouterr()
        assert check in (None, code), f"{words}: {code}\n{said.out}{said.err}"
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return run
