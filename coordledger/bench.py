"""Time the main job beside a bare `git push`: `coordledger bench`.

Rules: everything runs on this machine, in one run, in turn (A B C, A B C, …), so that a
machine whose speed drifts slows all of them; medians and p95 are shown, and ratios to the
floor. FLOOR is one `git push` of an empty commit to a bare repository without any hook.
Nothing is asserted here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import onboard
from .config import Options
from .ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 20
WARM_UP = 2


class _Ground:
    """A guarded ledger and an unguarded bare repository, each with a clone."""

    def __init__(self, root: Path) -> None:
        # Without cached bytecode each start would time the compiler.
        ours = ("COORDLEDGER_", "COORDINATION_", "GIT_", "XDG_", "PYTHONDONTWRITEBYTECODE")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {
            "HOME": str(root),
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.bare, self.clone = root / "bare.git", root / "bare"
        self.guarded, self.work = root / "ledger.git", root / "work"
        for remote, clone in ((self.bare, self.clone), (self.guarded, self.work)):
            self.git(root, "init", "--quiet", "--bare", str(remote))
            self.git(root, "clone", "--quiet", str(remote), str(clone))
        self._commit()
        self.git(self.clone, "push", "--quiet", "origin", "HEAD:refs/heads/main")
        options = Options(self.work, agent="alice")
        onboard.init(options, self.environ, str(self.guarded), 30)
        onboard.join(options, self.environ, str(self.guarded))
        self.ledger = Ledger.from_options(options, self.environ)
        self._count = 0

    def git(self, cwd: Path, *argv: str) -> None:
        subprocess.run(["git", *argv], cwd=cwd, env=self.environ, check=True, capture_output=True)

    def _commit(self) -> None:
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
        self.git(self.clone, *who, "commit", "--quiet", "--allow-empty", "-m", "empty")

    def task(self) -> str:
        self._count += 1
        return f"bench-{self._count}"

    # -- what is timed; each prepares itself and returns the seconds of its last step

    def floor(self) -> float:
        self._commit()
        return _timed(lambda: self.git(self.clone, "push", "--quiet", "origin", "HEAD:main"))

    def warm_claim(self) -> float:
        task = self.task()
        return _timed(lambda: self.ledger.claim(task, ttl=timedelta(minutes=5)))

    def cold_claim(self) -> float:
        argv = [sys.executable, "-m", "coordledger", "claim", self.task()]
        return _timed(lambda: self.python(*argv))

    def hook(self) -> float:
        """The hook alone, on a record whose objects the server has."""
        writer, replica = self.ledger.writer(), self.ledger.replica
        chain = replica.refresh()
        placed = chain.place(writer.sample(chain))
        store = Ledger.from_options(Options(self.guarded, agent="alice", remote="."), self.environ)
        store.clone.store.write(placed.objects)
        store.close()
        line = f"{chain.head.oid if chain.head else ''} {placed.commit.oid} {replica.clone.ref}\n"
        hook = self.guarded / "hooks" / "pre-receive"
        return _timed(
            lambda: subprocess.run(
                [str(hook)],
                cwd=self.guarded,
                env=self.environ | {"GIT_DIR": "."},
                input=line.encode(),
                check=True,
                capture_output=True,
            )
        )

    def imports(self) -> float:
        code = "import click, dulwich.client, dulwich.repo"
        return _timed(lambda: self.python(sys.executable, "-c", code))

    def click(self) -> float:
        return _timed(lambda: self.python(sys.executable, "-c", "import click"))

    def help(self) -> float:
        return _timed(lambda: self.python(sys.executable, "-m", "coordledger", "--help"))

    def python(self, *argv: str) -> None:
        subprocess.run(argv, cwd=self.work, env=self.environ, check=True, capture_output=True)


def _timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Milliseconds and ratios, by what was timed."""
    with tempfile.TemporaryDirectory(prefix="coordledger-bench-") as folder:
        ground = _Ground(Path(folder))
        acts: dict[str, Callable[[], float]] = {
            "git push, no hook (FLOOR)": ground.floor,
            "warm claim, Python interface": ground.warm_claim,
            "cold claim, command line": ground.cold_claim,
            "hook alone": ground.hook,
            "python: import click": ground.click,
            "coordledger --help": ground.help,
            "python: import click, dulwich.client, dulwich.repo": ground.imports,
        }
        times: dict[str, list[float]] = {name: [] for name in acts}
        for number in range(rounds + WARM_UP):
            for name, act in acts.items():
                seconds = act()
                if number >= WARM_UP:
                    times[name].append(seconds)
        ground.ledger.close()
    floor = _quantile(times["git push, no hook (FLOOR)"], 0.5)
    return {
        name: {
            "median_ms": round(1000 * _quantile(found, 0.5), 1),
            "p95_ms": round(1000 * _quantile(found, 0.95), 1),
            "of_floor": round(_quantile(found, 0.5) / floor, 2),
        }
        for name, found in times.items()
    }


def _quantile(found: list[float], share: float) -> float:
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main(*, as_json: bool = False) -> int:
    """Measure and print. Returns the exit code."""
    found = measure()
    if as_json:
        print(json.dumps(found))  # noqa: T201 - this module is a command
        return 0
    width = max(map(len, found))
    print(f"{'':<{width}}  median ms   p95 ms  x FLOOR")  # noqa: T201
    for name, row in found.items():
        figures = f"{row['median_ms']:>9} {row['p95_ms']:>8} {row['of_floor']:>8}"
        print(f"{name:<{width}}  {figures}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(as_json="--json" in sys.argv[1:]))
