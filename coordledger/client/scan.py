"""The records of a verified copy, the newest first; and those of one task.

Rules of this file: it reads no further than its caller takes, a lot at a time, and by the index
of the copy. Only records of the kinds that are asked for are taken apart. Whether what they say
was verified is `Replica.verdict_of`'s.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from coordledger import client
from coordledger.client.replica import need_commit_at
from coordledger.errors import RuleBroken
from coordledger.format.commit import recall_commit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordledger.client.replica import Replica
    from coordledger.format.commit import Commit

_LOT = 500
_MANY = 200  # records that are looked through sooner than an index is opened
_MORE = 2000  # and these, sooner than one is made


def newest_first(replica: Replica, kinds: tuple[str, ...], first: int = 0) -> Iterator[Commit]:
    """The records of these `kinds`, down to the one at `first`. Raises `Failed`: timeout;
    `Integrity`: bad-copy.
    """
    local, repository = replica.local, replica.local.repository
    # In a record's canonical form no text can imitate this: there quotation marks are escaped.
    marks = [f'"kind":"{kind}"'.encode("ascii") for kind in kinds]
    newest, first = replica.trusted.seq, max(first, replica.trusted.first)
    for last in range(newest, first - 1, -_LOT):
        replica.git.deadline.left()
        replica.progress("reading", newest - last, newest - first + 1)
        seqs = range(max(first, last - _LOT + 1), last + 1)
        oids = list(local.indexed_ids(seqs[0], last))
        if len(oids) < len(seqs):
            need_commit_at(replica, seqs[len(oids)])  # rebuilds the index
            oids = list(local.indexed_ids(seqs[0], last))
        repository.read_ahead(oids)
        for seq, oid in reversed([*zip(seqs, oids, strict=False)]):
            try:
                content = repository.read(oid)
            except KeyError:
                need_commit_at(replica, seq)
                continue
            if any(mark in content for mark in marks):
                commit = _recalled(oid, content) or need_commit_at(replica, seq)
                if commit and commit.seq == seq and commit.record["kind"] in kinds:
                    yield commit


def _recalled(oid: str, content: bytes) -> Commit | None:
    """The record of a commit under an id of the index, which may be another's."""
    with contextlib.suppress(ValueError, RuleBroken):
        return recall_commit(oid, content)
    return None


def of_task(replica: Replica, task: str, first: int, last: int) -> Iterator[Commit]:
    """The records that may be about a task, oldest first: from `first` to `last`, or by the index,
    which is made where these are very many. Raises `Failed`: timeout; `Integrity`: bad-copy.
    """
    seqs = range(first, last + 1)
    if len(seqs) > _MANY:
        found = client.index.ask_if_there(
            replica, lambda one: one.read(one.places_of(task)), make=len(seqs) > _MORE
        )
        if found is not None:
            yield from found
            return
    for seq in seqs:
        commit = need_commit_at(replica, seq)
        if commit:
            yield commit
