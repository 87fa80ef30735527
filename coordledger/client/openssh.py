"""What a stranger with OpenSSH alone needs to check records: a record's payload and signature in
OpenSSH's form, and the ledger's keys as an allowed_signers file.

Rules: only what this copy has verified is given out, and nothing is verified here. OpenSSH goes by
times where the ledger goes by positions: a key's time begins and ends with the dates of the commits
that enrolled and revoked it, which never fall along the chain. So whoever checks a record names its
commit's date to OpenSSH, and two records of one second cannot be told apart by that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from coordledger.client.replica import state_with_key
from coordledger.client.ssh_keys import armored
from coordledger.errors import error
from coordledger.format.signing import SSH
from coordledger.format.sshsig import NAMESPACE
from coordledger.values import Value

if TYPE_CHECKING:
    from coordledger.client.opening import Connection
    from coordledger.format.records import Record


class Signature(Value):
    """A record for OpenSSH. `payload` is what was signed, `time` its commit's date as
    `ssh-keygen -Overify-time` has it, `signer` the line of its key in an allowed_signers file.
    """

    seq: int
    agent: str
    key: int
    payload: str
    signature: str
    time: str
    signer: str


def signature(connection: Connection, seq: int) -> Signature:
    """The record at `seq`. Raises `Failed`: gone, not-ssh; and as a read."""
    connection.read()
    commit = connection.replica.commit_at(seq)
    if commit is None:
        raise error("gone", seq=seq)
    record = commit.record
    agent, number = record["agent"], record["key"]
    entry = state_with_key(connection.replica, commit).key(agent, number, seq)
    if entry["alg"] != SSH:
        raise error("not-ssh", seq=seq, agent=agent, key=number)
    return Signature(
        seq=seq,
        agent=agent,
        key=number,
        payload=commit.signed.payload.decode("ascii"),
        signature=armored(entry["verifier"], commit.signed.tag),
        time=_time(commit.committed),
        signer=_line(connection, agent, entry),
    )


def allowed_signers(connection: Connection) -> list[str]:
    """A line for each SSH key that the ledger ever had, but of delegates that have ended: with
    their records `signature` gives it. Raises as a read.
    """
    state = connection.read()
    entries = ((name, state.agent(name) or {"keys": []}) for name in state.agents())
    return [
        _line(connection, name, key)
        for name, entry in entries
        for key in entry["keys"]
        if key["alg"] == SSH
    ]


def _line(connection: Connection, agent: str, key: Record) -> str:
    """Dates that lie below the edge of a shallow copy are left out."""
    options = [f'namespaces="{NAMESPACE}"']
    began = connection.replica.commit_at(max(key["from"] - 1, 0))
    ended = None if key["until"] is None else connection.replica.commit_at(key["until"])
    if began is not None:
        options.append(f'valid-after="{_time(began.committed)}"')
    if ended is not None:  # OpenSSH takes no span without a second in it
        least = began.committed + 1 if began is not None else 0
        options.append(f'valid-before="{_time(max(ended.committed, least))}"')
    return f"{agent} {','.join(options)} {SSH} {key['verifier']} {agent}/{key['id']}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%SZ")
