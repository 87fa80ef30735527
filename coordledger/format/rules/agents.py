"""Agents and their keys: enroll, revoke.

An agent's entry keeps every key that it ever had, with the seqs between which it may
sign: a key that was revoked still vouches for what it signed before.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields
from coordledger.format.rules.kind import Kind, need_admin, need_next_rev, need_ssh
from coordledger.format.signing import HMAC, SSH
from coordledger.format.state import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

MAX_AGENTS = 4096
MAX_KEYS = 1024  # of one agent, revoked ones included


# The fields of a record that brings a key.
KEY = {"alg": fields.one_of(HMAC, SSH), "verifier": fields.text}
_fingerprint = fields.hexadecimal(64)


def check_verifier(record: Record) -> None:
    """The verifier has the form of its algorithm. Raises `RuleBroken`: bad-record."""
    verifier, wrong = record["verifier"], ""
    if record["alg"] == HMAC:
        wrong = _fingerprint(verifier)
    else:
        from coordledger.format.sshsig import decode_key  # noqa: PLC0415 - a ledger may have none

        try:
            decode_key(verifier)
        except ValueError as fault:
            wrong = str(fault)
    if wrong:
        raise RuleBroken("bad-record", field="verifier", why=wrong)


def key_entry(record: Record, *, number: int, first: int) -> Record:
    """How the key that a record brings stands in the state; `first` is the seq from which on."""
    key = {"id": number, "alg": record["alg"], "verifier": record["verifier"]}
    return key | {"from": first, "until": None}


def active_keys(state: State, agent: str) -> dict[int, str]:
    """The algs of the agent's keys that are not revoked, by their numbers."""
    keys = (state.agent(agent) or {"keys": []})["keys"]
    return {key["id"]: key["alg"] for key in keys if key["until"] is None}


def _entry_to_change(state: State, record: Record) -> Record:
    """The entry that an enroll or revoke changes, after the checks that both share."""
    who, signer = record["who"], record["agent"]
    need_admin(state, record, f"{record['kind']} agents")
    if who == state.ledger["owner"] != signer:
        raise RuleBroken("not-permitted", agent=signer, what="change the owner's keys")
    blank: Record = {"agent": who, "role": "agent", "rev": 0, "keys": []}
    entry = state.agent(who) or blank
    need_next_rev(f"agent {who}", entry["rev"], record)
    return entry


def _enroll(state: State, record: Record, seq: int) -> Changes:
    entry = _entry_to_change(state, record)
    who, number, role = record["who"], record["id"], record["role"]
    if who == state.ledger["owner"] and role != "admin":
        what = "make the owner less than admin"
        raise RuleBroken("not-permitted", agent=record["agent"], what=what)
    if state.requires_ssh:
        need_ssh(who, number, record["alg"])
    if number != len(entry["keys"]) + 1 or number > MAX_KEYS:
        raise RuleBroken("bad-key", id=number, who=who, why="not the next number")
    if not entry["keys"] and len(state.agents()) >= MAX_AGENTS:
        raise RuleBroken("too-many-agents", limit=MAX_AGENTS)
    keys = [*entry["keys"], key_entry(record, number=number, first=seq + 1)]
    changed = entry | {"role": role, "rev": record["rev"], "keys": keys}
    return {f"agents/{who}.json": line_of(changed)}


def _revoke(state: State, record: Record, seq: int) -> Changes:
    entry = _entry_to_change(state, record)
    who, number = record["who"], record["id"]
    active = active_keys(state, who)
    if number not in active:
        raise RuleBroken("bad-key", id=number, who=who, why="not active")
    left = [alg for other, alg in active.items() if other != number]
    if state.requires_ssh:
        left = [alg for alg in left if alg == SSH]
    if who == state.ledger["owner"] and not left:
        raise RuleBroken("last-key", id=number)
    keys = [key | {"until": seq} if key["id"] == number else key for key in entry["keys"]]
    return {f"agents/{who}.json": line_of(entry | {"rev": record["rev"], "keys": keys})}


KINDS = {
    "enroll": Kind(
        {
            "who": fields.identifier,
            "rev": fields.positive,
            "id": fields.positive,
            **KEY,
            "role": fields.one_of("agent", "admin"),
        },
        check=check_verifier,
        apply=_enroll,
        subject=lambda record: f"enroll {record['who']} key {record['id']} as {record['role']}",
    ),
    "revoke": Kind(
        {"who": fields.identifier, "rev": fields.positive, "id": fields.positive},
        apply=_revoke,
        subject=lambda record: f"revoke {record['who']} key {record['id']}",
    ),
}
