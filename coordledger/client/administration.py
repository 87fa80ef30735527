"""An admin's operations: agents, their keys, and the policy.

Rules of this file: whether it is permitted is decided by `format.state`, when the record is
made and again by the server; a secret is in its file before a record names it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.client.operations import Operation
from coordledger.errors import error
from coordledger.format.names import is_identifier
from coordledger.format.rules.ledger import POLICY
from coordledger.format.signing import ALG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coordledger.client.opening import Connection
    from coordledger.client.signer import Fields
    from coordledger.format.signing import Secret
    from coordledger.format.state import State


def enroll(connection: Connection, who: str, *, admin: bool, secret: Secret | None) -> Path:
    """Enrol an agent, or another key of one; the file with its secret.

    Raises `Failed`: no-master, not-permitted, bad-agent.
    """
    _need_agent(who)
    ledger = connection.read().ledger
    masters = connection.masters(ledger["ledger"])
    if not masters and secret is None:
        where = connection.settings.config_dir / "masters" / ledger["ledger"]
        raise error("no-master", where=where)

    def build(state: State, at: int) -> tuple[str, Fields]:
        entry = state.agent(who) or {"rev": 0, "keys": [], "role": "agent"}
        number = len(entry["keys"]) + 1
        chosen = secret or masters[-1].derive(ledger["nonce"], who, number)
        connection.finder.keep(who, ledger["ledger"], chosen)  # before a record names it
        if secret is not None:
            _put_on_server(connection, who, chosen)
        return "enroll", {
            "who": who,
            "rev": entry["rev"] + 1,
            "id": number,
            "alg": ALG,
            "fingerprint": chosen.fingerprint(ledger["nonce"], who, number),
            "role": "admin" if admin else entry["role"],
        }

    connection.write(Operation(f"enroll {who}", build))
    return connection.finder.home(who, ledger["ledger"])


def _put_on_server(connection: Connection, who: str, secret: Secret) -> None:
    """A secret that no master gives has to be where records are checked, if that is here."""
    server = connection.settings.remote.folder
    if server and os.path.isdir(f"{server}/coordledger"):  # noqa: PTH112
        keyfiles.append(f"{server}/coordledger/{who}.secret", secret)


def revoke(connection: Connection, who: str, key: int | None) -> list[int]:
    """Revoke one key, or (without a number) every active one; their numbers.

    Raises `Failed`: bad-agent, unknown-agent, not-permitted, bad-key, last-key.
    """
    _need_agent(who)
    entry = connection.read().agent(who)
    if entry is None:
        raise error("unknown-agent", who=who)
    active = [item["id"] for item in entry["keys"] if item["until"] is None]
    wanted = [key] if key is not None else active
    for number in wanted:
        connection.write(_revocation(who, number))
    return wanted


def _revocation(who: str, number: int) -> Operation:
    def build(state: State, at: int) -> tuple[str, Fields]:
        entry = state.agent(who) or {"rev": 0}
        return "revoke", {"who": who, "rev": entry["rev"] + 1, "id": number}

    return Operation(f"revoke {who}/{number}", build)


def change_policy(connection: Connection, changes: Mapping[str, int]) -> dict[str, int]:
    """The policy after the changes. Raises `Failed`: bad-value, bad-policy, not-permitted."""
    for key, value in changes.items():
        if key not in POLICY:
            raise error("bad-value", what=key, why="no such key of the policy")
        if key == "max_skew":
            raise error("bad-value", what=key, why="it is fixed when the ledger is made")
        _, least, most = POLICY[key]
        if not least <= value <= most:
            raise error("bad-policy", key=key, value=value, least=least, most=most)

    def build(state: State, at: int) -> tuple[str, Fields]:
        return "policy", {"rev": state.ledger["policy_rev"] + 1, "set": dict(changes)}

    connection.write(Operation("policy", build))
    return dict(connection.replica.position().state.ledger["policy"])


def _need_agent(who: str) -> None:
    if not is_identifier(who):
        raise error("bad-agent", value=who)
