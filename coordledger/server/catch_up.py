"""Verify what lies between a ledger's mark and its head: what came while no hook was there.

Rules: it is the chain's own verification, and each record has to be authentic, as at admission;
clocks are not asked, these records are there already. It begins above the newest commit that is
marked, or at the first record. A head that lies below a marked commit, as after a restore or a
repair, was verified with it. Nothing is written here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.deadline import Deadline
from coordledger.errors import RuleBroken
from coordledger.format.chain import AUTHENTIC, Chain, judge_all
from coordledger.format.commit import parse_commit
from coordledger.git.history import ancestors
from coordledger.git.process import Git
from coordledger.hashes import algorithm
from coordledger.server.admission import MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.chain import Judged
    from coordledger.format.signing import Keyring
    from coordledger.git.tree import Read

_NO_LIMIT = 3600.0  # seconds; only objects are read, which no deadline ends


def git_in(environ: dict[str, str]) -> Git:
    """Git for the repository that a hook's environment names."""
    return Git(environ, None, Deadline(_NO_LIMIT))


def catch_up(
    read: Read,
    git: Git,
    keyring: Keyring,
    head: str,
    marked: tuple[str, ...],
    *,
    most: int | None = MAX_RECORDS,
    passed: Callable[[str, int, int], None] = lambda oid, done, of: None,
) -> int:
    """Verify the records up to `head` that are not `marked`, at most `most`: how many they are.

    `passed(oid, done, of)` is called after each record that was found good.

    Raises `RuleBroken`: unverified-below, no-secret, invalid-below; `Integrity`: bad-copy.
    """
    known: set[str | None] = set(marked)
    commits = ancestors(read, git, head, known, most=most)
    below = commits.below
    if below not in known:
        if any(_reaches(read, git, one, head, most) for one in dict.fromkeys(marked)):
            return 0
        if below is not None and len(commits) == most:
            raise RuleBroken("unverified-below", why=f"its newest {most} records, and older ones")
        if below is not None:
            raise RuleBroken("invalid-below", where=f"commit {below[:12]}", why="it is not there")
    base = parse_commit(below, read(below)) if below else None
    chain = Chain(read, keyring, base, algorithm(head))
    try:
        for done, judged in enumerate(judge_all(chain, commits), 1):
            _need_valid(judged)
            if judged.verdict != AUTHENTIC and chain.head:
                record = chain.head.record
                raise RuleBroken("no-secret", agent=record["agent"], key=record["key"])
            passed(judged.oid, done, len(commits))
    except KeyError:
        why = f"objects of record {chain.next_seq} are missing"
        raise RuleBroken("unverified-below", why=why) from None
    return len(commits)


def _reaches(read: Read, git: Git, marked: str, head: str, most: int | None) -> bool:
    return ancestors(read, git, marked, {head}, most=most).below == head


def _need_valid(judged: Judged) -> None:
    if judged.broken:
        where = f"record {judged.seq} ({judged.oid[:12]})"
        if judged.broken.code == "newer-version":  # it is not judged
            raise RuleBroken("unverified-below", why=f"{where}: {judged.broken}")
        raise RuleBroken("invalid-below", where=where, why=str(judged.broken))
