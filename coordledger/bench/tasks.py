"""What descriptions of tasks cost: the hook alone, a warm claim, the choice of the next task.

Rules of this file: two ledgers of as many open tasks, of which one says nothing of them but their
ids, and the other title, labels, parent and body, take turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.bench import generate
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.deadline import Deadline, unix_ms
from coordledger.git.process import Git
from coordledger.setup import joining

from .figures import in_turn, median, milliseconds, timed
from .workspace import PATIENCE
from .write import claim, hook_alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .figures import Report, Rows, Took
    from .workspace import Workspace

ROUNDS = 15
WARM_UP = 2
TASKS = 10_000
SHAPES = {"bare": "bare tasks", "described": "tasks with title, labels, parent, body"}


class _Acts(NamedTuple):
    """One ledger, and what is timed there."""

    workspace: Workspace
    ledger: Ledger
    remote: Path

    def claim(self, number: int) -> Took:
        return claim(self.ledger, number)

    def hook(self, number: int) -> Took:
        return hook_alone(self.workspace, self.ledger, self.remote)

    def next(self, number: int) -> Took:
        return timed(self.ledger.claim_next)


def run(workspace: Workspace, rounds: int, report: Report, *, tasks: int = TASKS) -> Rows:
    """Rows, and what is left out."""
    acts: dict[str, Callable[[int], Took]] = {}
    opened = []
    for mix in SHAPES:
        one = _Acts(workspace, *_grown(workspace, mix, tasks))
        acts |= {f"claim {mix}": one.claim, f"hook {mix}": one.hook, f"next {mix}": one.next}
        opened.append(one.ledger)
    times = in_turn(acts, rounds, WARM_UP, report)
    rows = []
    for mix, what in SHAPES.items():
        claims, hooks, chosen = (times[f"{act} {mix}"] for act in ("claim", "hook", "next"))
        rows.append(
            {
                "what": f"{tasks} {what}",
                "claim_ms": milliseconds(median([took.wall for took in claims])),
                "claim_cpu_ms": milliseconds(median([took.cpu for took in claims])),
                "hook_ms": milliseconds(median([took.wall for took in hooks])),
                "hook_cpu_ms": milliseconds(median([took.cpu for took in hooks])),
                "next_ms": milliseconds(median([took.wall for took in chosen])),
            }
        )
    for ledger in opened:
        ledger.close()
    return rows, {}


def _grown(workspace: Workspace, mix: str, tasks: int) -> tuple[Ledger, Path]:
    """A ledger of so many tasks, and its repository."""
    remote = workspace.root / f"{mix}.git"
    git = Git(workspace.environ, workspace.root, Deadline(PATIENCE))
    agents = 1
    count = tasks + agents + 1
    grown = generate.grow(remote, git, count, now=unix_ms(), mix=mix, agents=agents)
    generate.settle(remote, git)
    path, key = workspace.root / mix, workspace.root / f"{mix}.key"
    workspace.git(workspace.root, "init", "--quiet", str(path))
    options = Options(path, agent=generate.OWNER, timeout=PATIENCE)
    grown.put_down(generate.OWNER, key)
    joining.join(options, workspace.environ, str(remote), secret_file=key)
    return Ledger(connect(options, workspace.environ)), remote
