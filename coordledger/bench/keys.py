"""What SSH keys cost beside secrets: the hook alone, a warm claim, an audit.

Rules of this file: two ledgers, grown alike, whose records differ in their signatures alone, take
turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.bench import generate
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.deadline import Deadline, unix_ms
from coordledger.format.signing import HMAC, SSH
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
RECORDS = 2_000


class _Acts(NamedTuple):
    """One ledger, and what is timed there."""

    workspace: Workspace
    ledger: Ledger
    remote: Path

    def claim(self, number: int) -> Took:
        return claim(self.ledger, number)

    def hook(self, number: int) -> Took:
        return hook_alone(self.workspace, self.ledger, self.remote)

    def audit(self, number: int) -> Took:
        return timed(lambda: self.ledger.audit(full=True))


def run(workspace: Workspace, rounds: int, report: Report, *, records: int = RECORDS) -> Rows:
    """Rows, and what is left out."""
    acts: dict[str, Callable[[int], Took]] = {}
    opened = []
    for alg in (HMAC, SSH):
        one = _Acts(workspace, *_grown(workspace, alg, records))
        acts |= {f"claim {alg}": one.claim, f"hook {alg}": one.hook, f"audit {alg}": one.audit}
        opened.append(one.ledger)
    times = in_turn(acts, rounds, WARM_UP, report)
    rows = []
    for alg in (HMAC, SSH):
        claims, hooks, audits = (times[f"{what} {alg}"] for what in ("claim", "hook", "audit"))
        rows.append(
            {
                "what": alg,
                "claim_ms": milliseconds(median([took.wall for took in claims])),
                "claim_cpu_ms": milliseconds(median([took.cpu for took in claims])),
                "hook_ms": milliseconds(median([took.wall for took in hooks])),
                "hook_cpu_ms": milliseconds(median([took.cpu for took in hooks])),
                "audit_per_s": round(records / median([took.cpu for took in audits])),
            }
        )
    for ledger in opened:
        ledger.close()
    return rows, {}


def _grown(workspace: Workspace, alg: str, records: int) -> tuple[Ledger, Path]:
    """A ledger whose keys are all of this kind, and its repository."""
    remote = workspace.root / f"{alg}.git"
    git = Git(workspace.environ, workspace.root, Deadline(PATIENCE))
    grown = generate.grow(remote, git, records, now=unix_ms(), mix="claims", ssh=alg == SSH)
    generate.settle(remote, git)
    path = workspace.root / alg
    workspace.git(workspace.root, "init", "--quiet", str(path))
    key = workspace.root / f"{alg}.key"
    options = Options(path, agent=generate.OWNER, timeout=PATIENCE)
    if alg == SSH:
        options = options._replace(ssh_key=str(key))
    grown.put_down(generate.OWNER, key)
    secret_file = None if alg == SSH else key
    joining.join(options, workspace.environ, str(remote), secret_file=secret_file)
    return Ledger(connect(options, workspace.environ)), remote
