"""What has come from another system, as the records of its importers tell.

Rules: whatever stands in a `legacy` is the word of who signed the import: it is shown as that, and
is nobody's verdict here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger.client.claims import time_of

if TYPE_CHECKING:
    from coordledger.client.claims import Legacy
    from coordledger.client.replica import Replica
    from coordledger.client.reports import Message
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record


def import_of(replica: Replica, task: Record, newest: Commit | None) -> Commit | None:
    """The record that has imported a task which still stands so, where the copy has it; `newest`
    is the newest one on the task.
    """
    if task["legacy"] is None:
        return None
    seq = task["legacy"]["seq"]
    return newest if newest and newest.seq == seq else replica.commit_at(seq)


def has_imported(r: Record, task: Record) -> bool:
    """Whether a record is the import that a task's line speaks of."""
    same = r["kind"] == "import" and (r["task"], r["status"]) == (task["task"], task["status"])
    said = {name: r["legacy"][name] for name in ("mac", "source")} if same else {}
    return same and said.items() <= task["legacy"].items() and r["epoch"] == task["epoch"]


def legacy_of(commit: Commit) -> Legacy:
    """What an import's or an archive's record says of where something comes from."""
    said = commit.record["legacy"]
    return coordledger.Legacy(
        mac=said["mac"],
        source=said["source"],
        seq=commit.seq,
        id=said["id"],
        agent=said["agent"],
        at=time_of(said["at"]) if said["at"] else None,
        until=said["until"],
        to=commit.record.get("to"),
        channel=commit.record.get("channel"),
    )


def legacy_of_task(task: Record, commit: Commit | None) -> Legacy | None:
    """The same of a task's line, `commit` being its import; less, where the copy has not that."""
    line = task["legacy"]
    if line is None or commit is not None:
        return legacy_of(commit) if commit else None
    return coordledger.Legacy(line["mac"], line["source"], line["seq"])


def archived(replica: Replica, commit: Commit) -> Message:
    """A message from elsewhere, by the record that has archived it: that is its importer's."""
    r, verdict = commit.record, replica.verdict_of(commit)
    return coordledger.Message(
        seq=commit.seq,
        sender=r["agent"],
        session=r["session"],
        to=None,
        channel=None,
        thread=None,
        importance="normal",
        body=r["body"],
        sent_at=time_of(r["at"]),
        commit=commit.oid,
        verdict=verdict,
        checked=replica.vouches.who_checked(verdict, commit.seq),
        legacy=legacy_of(commit),
    )
