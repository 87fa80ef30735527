"""Admission: the rules that a server adds to the verdict on a record (docs/format.md, section 10).

Rules of this file:
- A server admits authentic records only, of its own clock, within the bounds of one push.
- It reads what a push brings along raw parents, and no further than the bounds.
- Secrets, settings and the environment are read in the second half of the file and nowhere
  above; no answer is remembered from one push to the next.

It knows nothing of refs or of git's hooks: `pre_receive` and `sequencer` judge with it.
"""

from __future__ import annotations

import posix
import sys

from coordledger import keyfiles
from coordledger.errors import RuleBroken
from coordledger.format import records, timestamps
from coordledger.format.chain import AUTHENTIC
from coordledger.format.commit import MAX_COMMIT_BYTES, parse_commit
from coordledger.format.signing import Keyring, Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.state import State
    from coordledger.git.cat_file import StoredObject
    from coordledger.git.loose import Reader

# The bounds of one push: its records, their bytes, the bytes that they render (a small record may
# write a page of tasks anew), the bytes of its list of refs.
MAX_RECORDS = 1024
MAX_BYTES = 33_554_432
MAX_RENDERED = 33_554_432
MAX_INPUT = 16_777_216
NONE = ""  # of the commits is to blame: fewer of them would do
DAY = 86_400_000
DEFAULT_GAP = 30 * DAY
_LOT = 64
# A push of so many records is likely to bring more, which are asked for together.
_MILESTONES = {16, 32, *range(_LOT, MAX_RECORDS, _LOT)}


class AdmissionContext:
    """All that decides beside the chain: the objects that a push sees, secrets, clock, settings."""

    def __init__(
        self, objects: Reader, keyring: Keyring, now: int, max_gap: Callable[[], int]
    ) -> None:
        """`now` in milliseconds since 1970; `max_gap()` the milliseconds that the server may be
        ahead of the newest record.
        """
        self.objects, self.keyring, self.now, self.max_gap = objects, keyring, now, max_gap
        self.rendered = 0  # bytes, by the push that is judged

    def spend(self, size: int) -> None:
        """Count what a record of the push has rendered. Raises `RuleBroken`: too-much."""
        self.rendered += size
        if self.rendered > MAX_RENDERED:
            raise RuleBroken("too-much", limit=MAX_RENDERED, commit=NONE)


def new_commits(
    objects: Reader, new: str, known: Callable[[str | None, int], bool]
) -> list[tuple[Commit, bytes]]:
    """The commits up to `new`, each with its content, oldest first, along raw parents.

    They end above the first parent that is `known`, by its id and the seq that it has to have;
    its id is None where there is no parent. Raises `RuleBroken`.
    """
    commits: list[tuple[Commit, bytes]] = []
    total, oid = 0, new
    ahead: dict[str, StoredObject] = {}
    while True:
        if len(commits) == MAX_RECORDS:
            raise RuleBroken("too-many-records", limit=MAX_RECORDS, commit=NONE)
        if len(commits) in _MILESTONES:  # parents are a guess, for speed: only their ids count
            names = [f"{oid}~{n}" for n in range(min(len(commits), _LOT))]
            ahead = objects.find_all(names, MAX_COMMIT_BYTES)
        found = ahead.get(oid) or objects.find(oid, MAX_COMMIT_BYTES)
        if found is None or found[1] != "commit":
            raise RuleBroken("bad-push", why=f"no commit {oid[:12]}")
        total += len(found[2])
        if total > MAX_BYTES:
            raise RuleBroken("too-large", what="the push", size=total, limit=MAX_BYTES)
        commit = parse_commit(oid, found[2])
        commits.append((commit, found[2]))
        if known(commit.parent, commit.seq - 1):
            return commits[::-1]
        if commit.parent is None:
            raise RuleBroken("not-fast-forward")
        oid = commit.parent


def admit(
    verdict: str, r: Record, parent: Commit | None, state: State, context: AdmissionContext
) -> None:
    """Check what a server adds to the verdict on a record; `state` is the parent's.

    Raises `RuleBroken`.
    """
    if parent is None:
        raise RuleBroken("no-create")
    if verdict != AUTHENTIC:
        raise RuleBroken("no-secret", agent=r["agent"], key=r["key"])
    _check_clock(r, state.skew, context.now)
    _check_gap(parent, context)
    records.admit(state, r, context.now)


def _check_clock(r: Record, skew: int, now: int) -> None:
    off = timestamps.parse(r["at"]) - now
    if abs(off) > skew:
        raise RuleBroken(
            "clock-skew",
            off=timestamps.span(abs(off)),
            direction="ahead of" if off > 0 else "behind",
            limit=skew // 1000,
        )


def _check_gap(parent: Commit, context: AdmissionContext) -> None:
    gap = context.now - 1000 * parent.committed
    if gap > DAY and gap > context.max_gap():
        limit = timestamps.span(context.max_gap())
        raise RuleBroken("gap", gap=timestamps.span(gap), limit=limit, suggest=f"{gap // DAY + 1}d")


# -- the surroundings: secrets, settings, environment


def server_keyring(folder: str) -> Keyring:
    """The keyring of a repository's `coordledger` folder.

    Raises `Failed`: secret-exposed, bad-secret.
    """
    masters = keyfiles.read(f"{folder}/master")

    def secrets_of(agent: str) -> list[Secret]:
        return keyfiles.read(f"{folder}/{agent}.secret") or []

    return Keyring(masters or [], secrets_of)


def configured_gap(environ: dict[str, str]) -> int:
    """`coordledger.maxGap` of the repository, in milliseconds: `90d`, `36h`.

    Raises `RuleBroken`: hook-broken.
    """
    import subprocess  # noqa: PLC0415 - asked for once in a ledger's long pause

    asked = ["git", "config", "--get", "coordledger.maxGap"]
    ran = subprocess.run(asked, env=environ, capture_output=True, text=True, check=False)
    text = ran.stdout.strip()
    if ran.returncode == 1 and not text:
        return DEFAULT_GAP
    units = {"d": DAY, "h": DAY // 24}
    if text[:-1].isdecimal() and text[-1] in units:
        return int(text[:-1]) * units[text[-1]]
    raise RuleBroken("hook-broken", why=f"coordledger.maxGap is {text}, not like 90d or 36h")


def environment() -> dict[str, str]:
    """The same as `os.environ`, without `os`: its import takes longer than a record's check."""
    code = (sys.getfilesystemencoding(), "surrogateescape")
    return {name.decode(*code): value.decode(*code) for name, value in posix.environ.items()}
