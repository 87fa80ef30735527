"""Agents and their keys: enroll, revoke.

An agent's entry keeps every key that it ever had, with the seqs between which it may
sign: a key that was revoked still vouches for what it signed before.

A delegate's key stands under one key of the name above, and ends with it. That is an effect of
the record that revokes, so whether a key is valid stands in its own entry. A delegate without a
valid key leaves the state; all keys below one identifier are numbered in its file, so that no
number, and no derived secret, comes again with a name.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields
from coordledger.format.names import first_name, is_below, name_above
from coordledger.format.rules.kind import Kind, need_authority, need_next_rev, need_ssh
from coordledger.format.signing import HMAC, SSH
from coordledger.format.state import agent_path, inbox_path, line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

MAX_AGENTS = 4096
MAX_DELEGATES = 256  # below one name without a dot
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
    return key | {"from": first, "under": record.get("under"), "until": None}


def _check_enrolment(record: Record) -> None:
    check_verifier(record)
    delegate = "." in record["who"]
    if delegate == (record["under"] is None):
        raise RuleBroken("bad-record", field="under", why="a number for a delegate, else null")
    if delegate and record["role"] != "agent":
        raise RuleBroken("bad-record", field="role", why="a delegate is no admin")


def active_keys(state: State, agent: str) -> dict[int, str]:
    """The algs of the agent's keys that are not revoked, by their numbers."""
    keys = (state.agent(agent) or {"keys": []})["keys"]
    return {key["id"]: key["alg"] for key in keys if key["until"] is None}


def _entry_to_change(state: State, record: Record) -> Record:
    """The entry that an enroll or revoke changes, after the checks that both share."""
    who, signer = record["who"], record["agent"]
    need_authority(state, record, who, f"{record['kind']} agents")
    if who == state.ledger["owner"] != signer:
        raise RuleBroken("not-permitted", agent=signer, what="change the owner's keys")
    blank: Record = {"agent": who, "role": "agent", "rev": 0, "issued": 0, "keys": []}
    entry = state.agent(who) or blank
    need_next_rev(f"agent {who}", entry["rev"], record)
    return entry


def _enroll(state: State, record: Record, seq: int) -> Changes:
    entry = _entry_to_change(state, record)
    who, number, role = record["who"], record["id"], record["role"]
    if who == state.ledger["owner"] and role != "admin":
        what = "make the owner less than admin"
        raise RuleBroken("not-permitted", agent=record["agent"], what=what)
    if is_below(who, state.ledger["owner"]) and not is_below(who, record["agent"]):
        what = "enroll the owner's delegates"
        raise RuleBroken("not-permitted", agent=record["agent"], what=what)
    if state.requires_ssh:
        need_ssh(who, number, record["alg"])
    above = _counting(state, record) if "." in who else {}
    if not above and number != len(entry["keys"]) + 1:
        raise RuleBroken("bad-key", id=number, who=who, why="not the next number")
    if len(entry["keys"]) >= MAX_KEYS:
        raise RuleBroken("bad-key", id=number, who=who, why=f"it has had {MAX_KEYS} keys")
    if not entry["keys"]:
        _need_room(state, who)
    keys = [*entry["keys"], key_entry(record, number=number, first=seq + 1)]
    changed = entry | {"role": role, "rev": record["rev"], "keys": keys}
    return above | {agent_path(who): line_of(changed)}


def _need_room(state: State, who: str) -> None:
    """For one agent more."""
    if len(state.agents()) >= MAX_AGENTS:
        raise RuleBroken("too-many-agents", limit=MAX_AGENTS)
    first = first_name(who)
    if first != who and len(state.delegates(first)) >= MAX_DELEGATES:
        raise RuleBroken("too-many-delegates", who=first, limit=MAX_DELEGATES)


def _counting(state: State, record: Record) -> Changes:
    """The file that counts one key more, if a key of the name above may vouch for this one."""
    who, number, under = record["who"], record["id"], record["under"]
    above = name_above(who)
    entry = state.agent(above)
    key = next((key for key in entry["keys"] if key["id"] == under), None) if entry else None
    if entry is None or key is None or key["until"] is not None:
        raise RuleBroken("bad-key", id=under, who=above, why="no valid key to stand under")
    line = [(above, key), *state.keys_above(above, key)]
    signer = record["agent"]
    if is_below(who, signer) and (signer, record["key"]) not in [(a, k["id"]) for a, k in line]:
        raise RuleBroken("bad-key", id=number, who=who, why="not under the key that signs")
    first = first_name(who)
    counting = state.agent(first) or {}
    if number != counting["issued"] + 1:
        what, rev = f"the delegates' keys of {first}", counting["issued"]
        raise RuleBroken("stale-rev", what=what, rev=rev, got=number)
    return {agent_path(first): line_of(counting | {"issued": number})}


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
    return _ending(state, entry | {"rev": record["rev"]}, number, seq)


def _ending(state: State, revoked: Record, number: int, seq: int) -> Changes:
    """The files once a key has ended, and each that stands under one that ends."""
    changes: Changes = {}
    ended = {(revoked["agent"], number)}
    inboxes = state.inboxes()
    for name in (revoked["agent"], *state.delegates(revoked["agent"])):
        entry = revoked if name == revoked["agent"] else state.agent(name) or {}
        above = name_above(name)
        keys = []
        for key in entry["keys"]:
            ends = (name, key["id"]) in ended or (above, key["under"]) in ended
            if ends and key["until"] is None:
                ended.add((name, key["id"]))
                key = key | {"until": seq}  # noqa: PLW2901
            keys.append(key)
        if "." in name and all(key["until"] is not None for key in keys):
            changes[agent_path(name)] = None
            if name in inboxes:
                changes[inbox_path(name)] = None
        elif keys != entry["keys"]:
            changes[agent_path(name)] = line_of(entry | {"keys": keys})
    return changes


KINDS = {
    "enroll": Kind(
        {
            "who": fields.agent,
            "rev": fields.positive,
            "id": fields.positive,
            **KEY,
            "role": fields.one_of("agent", "admin"),
            "under": fields.or_null(fields.positive),
        },
        check=_check_enrolment,
        apply=_enroll,
        subject=lambda record: f"enroll {record['who']} key {record['id']} as {record['role']}",
    ),
    "revoke": Kind(
        {"who": fields.agent, "rev": fields.positive, "id": fields.positive},
        apply=_revoke,
        subject=lambda record: f"revoke {record['who']} key {record['id']}",
    ),
}
