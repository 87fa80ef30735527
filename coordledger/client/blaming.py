"""Under whose claim a commit of the code came to which ref, as the land records say.

Rules of this file: of each ref the oldest record counts whose `new` contains the commit and whose
`old` does not. What a record names that is not in this clone can contain anything: it counts as
containing nothing, and how many records that leaves out is told. That the ref has moved so is the
server's word, whose fence admits no record without its move; here it is the holder's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import coordledger
from coordledger.client.claims import time_of
from coordledger.client.scan import newest_first
from coordledger.errors import error
from coordledger.git import ancestry

if TYPE_CHECKING:
    from coordledger.client.opening import Connection
    from coordledger.client.reports import Blame, LandRecord
    from coordledger.format.commit import Commit
    from coordledger.git.process import Git


def code_of(connection: Connection) -> Git:
    """Git where the code is, under the deadline of the operation that runs."""
    git = connection.code.git
    git.work_until(connection.git.deadline)
    return git


def need_commit(git: Git, name: str) -> str:
    """The id of the commit that is named so. Raises `Failed`: unknown-commit."""
    oid = ancestry.commit_named(git, name)
    if oid is None:
        raise error("unknown-commit", commit=name)
    return oid


def blame(connection: Connection, name: str) -> Blame:
    """As `Ledger.blame`."""
    connection.read()
    oid = need_commit(code_of(connection), name)
    landings, unseen = landings_of(connection, oid)
    if not landings:
        left = f"; {unseen} land records name commits that are not here" if unseen else ""
        raise error("never-landed", commit=oid[:12], left=left)
    return coordledger.Blame(oid, tuple(_landed(connection, one) for one in landings), unseen)


def landings_of(connection: Connection, oid: str) -> tuple[list[Commit], int]:
    """The records by which the commit came to each ref, the oldest first; and how many older ones
    name a commit that is not here.
    """
    records = [*newest_first(connection.replica, ("land",))][::-1]
    git = code_of(connection)
    named = ancestry.commits_of(git, (one.record[at] for one in records for at in ("old", "new")))
    tips = ancestry.containing(git, oid, set(named.values())) if named else set()
    found: dict[str, Commit] = {}
    for one in records:
        record = one.record
        came = named.get(record["new"]) in tips and named.get(record["old"]) not in tips
        if came and record["ref"] not in found:
            found[record["ref"]] = one
    unseen = [one for one in records if _may_contain(one, named) and _is_before(one, found)]
    return list(found.values()), len(unseen)


def _may_contain(landing: Commit, named: dict[str, str]) -> bool:
    """Whether it moved a ref to what is not here; it may have removed the ref."""
    new = landing.record["new"]
    return new not in named and bool(new.strip("0"))


def _is_before(landing: Commit, found: dict[str, Commit]) -> bool:
    """Whether it is older than what is known to have brought the commit to that ref."""
    known = found.get(landing.record["ref"])
    return known is None or landing.seq < known.seq


def _landed(connection: Connection, landing: Commit) -> LandRecord:
    record, replica = landing.record, connection.replica
    verdict = replica.verdict_of(landing)
    return coordledger.LandRecord(
        ref=record["ref"],
        old=record["old"],
        new=record["new"],
        task=record["task"],
        epoch=record["epoch"],
        agent=record["agent"],
        session=record["session"],
        at=time_of(record["at"]),
        seq=landing.seq,
        commit=landing.oid,
        verdict=verdict,
        checked=replica.vouches.who_checked(verdict, landing.seq),
    )
