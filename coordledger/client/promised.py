"""What a remote's chain has to have: what the remote itself has told of, and its hook has verified.

Rules: it is compared before anything is adopted. What is missing there is a rollback that the
clone's own chain does not show: the remote has said another thing before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import error
from coordledger.format.commit import parse_commit
from coordledger.git.address import without_password

if TYPE_CHECKING:
    from coordledger.client.replica import Replica


def need_told(
    replica: Replica, head: int, ids: dict[int, str], places: list[tuple[int, str]]
) -> None:
    """The `places` that the remote has told have to be in the chain that ends at record `head`, and
    what its hook has verified up to there has to be this chain; `ids` has those of these records
    that are not adopted yet. Raises `Integrity`: told-lost, vouch-differs.
    """
    local, remote = replica.local, replica.remote.shown

    def id_at(seq: int) -> str | None:
        known = replica.commit_at(seq) if seq not in ids else None
        at_checkpoint = next(local.indexed_ids(seq, seq), None) if seq <= head else None
        return ids.get(seq, known.oid if known else at_checkpoint)

    for seq, oid in places:
        if oid != id_at(seq):
            facts = {"remote": remote, "seq": seq, "commit": oid[:12]}
            raise error("told-lost", command=reset_command(replica), **facts)
    for vouch in replica.vouches.pending:
        known = id_at(vouch.seq) if vouch.seq <= head else None
        if known and parse_commit(known, local.repository.read(known)).digest != vouch.digest:
            facts = {"remote": remote, "seq": vouch.seq}
            raise error("vouch-differs", command=reset_command(replica), **facts)


def reset_command(replica: Replica) -> str:
    """The command that leaves the verified history for the remote's, to be copied."""
    local, given = replica.local, replica.remote.address.given
    options = ["--ledger", local.name] if local.name != "main" else []
    if local.remote_ref != local.ref:
        options += ["--branch", local.remote_ref.removeprefix("refs/heads/")]
    import shlex  # noqa: PLC0415 - for the hint of an error

    return shlex.join(
        ["coordledger", replica.reset_by, without_password(given), *options, "--reset"]
    )
