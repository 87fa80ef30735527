"""How copies, claims and audits grow with the ledger.

Rules of this file: the ledgers are grown by `generate`, real records of a fleet, and packed
as `git gc` leaves them; claims and hooks take turns between the sizes, what takes
long is done once. Shown for each size: bytes per record (pack and index), the first join of a
clone (everything fetched and verified, and at depth 1), what an audit of everything
does in a second, and a warm claim and the hook alone, on the clock and of all cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.bench import generate
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.deadline import Deadline, unix_ms
from coordledger.git.process import Git
from coordledger.setup import joining

from .figures import Took, in_turn, median, milliseconds, timed
from .write import claim, hook_alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .figures import Report, Rows
    from .workspace import Workspace

ROUNDS = 10
WARM_UP = 2
SIZES = (1_000, 20_000)
PATIENCE = 600.0  # seconds: a full join verifies everything


@dataclass(frozen=True, slots=True)
class _Sized:
    """A ledger of so many records, and what was measured once."""

    workspace: Workspace
    records: int
    remote: Path
    ledger: Ledger
    bytes: int
    join: Took
    shallow: Took
    audit: Took

    def claim(self, number: int) -> Took:
        return claim(self.ledger, number)

    def hook(self, number: int) -> Took:
        return hook_alone(self.workspace, self.ledger, self.remote)


def run(
    workspace: Workspace, rounds: int, report: Report, *, sizes: tuple[int, ...] = SIZES
) -> Rows:
    """Rows, and what is left out."""
    steps = len(sizes) + rounds + WARM_UP
    found = []
    for number, records in enumerate(sizes):
        found.append(_grown(workspace, records))
        report(number + 1, steps)
    acts: dict[str, Callable[[int], Took]] = {}
    for one in found:
        acts |= {f"claim {one.records}": one.claim, f"hook {one.records}": one.hook}
    times = in_turn(acts, rounds, WARM_UP, lambda done, of: report(len(sizes) + done, steps))
    rows = []
    for one in found:
        one.ledger.close()
        claims, hooks = times[f"claim {one.records}"], times[f"hook {one.records}"]
        rows.append(
            {
                "what": f"{one.records} records",
                "bytes_per_record": round(one.bytes / one.records),
                "join_ms": milliseconds(one.join.wall),
                "shallow_ms": milliseconds(one.shallow.wall),
                "audit_per_s": round(one.records / one.audit.cpu),
                "claim_ms": milliseconds(median([took.wall for took in claims])),
                "claim_cpu_ms": milliseconds(median([took.cpu for took in claims])),
                "hook_ms": milliseconds(median([took.wall for took in hooks])),
                "hook_cpu_ms": milliseconds(median([took.cpu for took in hooks])),
            }
        )
    return rows, {}


def _grown(workspace: Workspace, records: int) -> _Sized:
    remote = workspace.root / f"grown{records}.git"
    git = Git(workspace.environ, workspace.root, Deadline(PATIENCE))
    now = unix_ms()
    grown = generate.grow(remote, git, records, now=now, mix="claims")
    generate.settle(remote, git)
    size = sum(path.stat().st_size for path in remote.glob("objects/pack/*"))
    secret = workspace.root / f"grown{records}.secret"
    keyfiles.append(str(secret), grown.secret_of(generate.OWNER))

    def join(name: str, depth: int | None) -> tuple[Path, Took]:
        path = workspace.root / f"grown{records}.{name}"
        workspace.git(workspace.root, "init", "--quiet", str(path))
        options = Options(path, agent=generate.OWNER, timeout=PATIENCE)
        return path, timed(
            lambda: joining.join(
                options, workspace.environ, str(remote), secret_file=secret, depth=depth
            )
        )

    _, shallow = join("shallow", 1)
    path, whole = join("whole", None)
    options = Options(path, agent=generate.OWNER, timeout=PATIENCE)
    ledger = Ledger(connect(options, workspace.environ))
    audit = timed(lambda: ledger.audit(full=True))
    return _Sized(workspace, records, remote, ledger, size, whole, shallow, audit)
