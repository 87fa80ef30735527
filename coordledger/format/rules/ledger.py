"""The ledger itself: its first record, and its policy (sections 7 and 9).

A genesis record comes first and certifies itself: the rules that follow from that are the
chain's.
"""

from __future__ import annotations

from coordledger.format import fields
from coordledger.format.rules.agents import KEY, active_keys, check_verifier, key_entry
from coordledger.format.rules.kind import Kind, need_admin, need_next_rev, need_ssh
from coordledger.format.signing import SSH
from coordledger.format.state import agent_path, line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

# key: (default, least, most)
POLICY: dict[str, tuple[int, int, int]] = {
    "max_skew": (30, 1, 3600),
    "max_ttl": (86_400, 60, 2_592_000),
    "max_body": (65_536, 1, 65_536),
    "max_text": (4096, 1, 4096),
    "max_fact": (4096, 1, 16_384),
    "inbox_messages": (256, 1, 256),
    "inbox_reserve": (32, 0, 128),
    "sender_messages": (64, 1, 64),
    "sender_bytes": (131_072, 1024, 131_072),
    "channels": (256, 1, 256),
    "channel_messages": (200, 1, 200),
    "channel_bytes": (131_072, 66_560, 262_144),  # the largest line has room
    "require_alg": (0, 0, 1),  # 0: none, 1: ssh-ed25519
    "max_attempts": (5, 1, 1000),
    "reopen": (0, 0, 2),
}


def policy_problem(value: Any, *, whole: bool) -> str:
    """What is wrong with a policy, or "": `whole` has every key, else it is a patch."""
    if not isinstance(value, dict) or not value:
        return "not an object with members"
    wanted = set(POLICY) if whole else set(POLICY) - {"max_skew"}
    if whole and set(value) != wanted:
        return "not exactly the keys of a policy"
    if not set(value) <= wanted:
        return "a key that cannot be set"
    for key, number in value.items():
        _, least, most = POLICY[key]
        if not fields.is_integer(number, least, most):
            return f"{key} is not within {least} to {most}"
    return ""


def _no_base(value: Any) -> str:
    return "" if value is None else "not null, in a genesis record"


def _found(state: State, record: Record, seq: int) -> Changes:
    if record["policy"]["require_alg"]:
        need_ssh(record["agent"], 1, record["alg"])
    ledger = {
        "v": record["v"],
        "ledger": record["ledger"],
        "nonce": record["nonce"],
        "owner": record["agent"],
        "policy": record["policy"],
        "policy_rev": 1,
    }
    key = key_entry(record, number=1, first=0)
    owner = {"agent": record["agent"], "role": "admin", "rev": 1, "issued": 0, "keys": [key]}
    return {"ledger.json": line_of(ledger), agent_path(record["agent"]): line_of(owner)}


def _set_policy(state: State, record: Record, seq: int) -> Changes:
    need_admin(state, record, "change the policy")
    need_next_rev("the policy", state.ledger["policy_rev"], record)
    policy = state.ledger["policy"] | record["set"]
    if policy["require_alg"]:  # who sets it can take it back, and the owner is not shut out
        signer, number, owner = record["agent"], record["key"], state.ledger["owner"]
        need_ssh(signer, number, state.key(signer, number, seq)["alg"])
        active = active_keys(state, owner)
        if SSH not in active.values():
            need_ssh(owner, max(active), active[max(active)])
    changed = state.ledger | {"policy": policy, "policy_rev": record["rev"]}
    return {"ledger.json": line_of(changed)}


def _policy_subject(record: Record) -> str:
    return "policy " + " ".join(f"{key}={value}" for key, value in sorted(record["set"].items()))


KINDS = {
    "genesis": Kind(
        {
            "base": _no_base,
            "agent": fields.identifier,  # no delegate: there is nobody above
            "nonce": fields.hexadecimal(64),
            "policy": lambda value: policy_problem(value, whole=True),
            **KEY,
        },
        check=check_verifier,
        apply=_found,
        subject=lambda record: f"genesis {record['agent']}",
    ),
    "policy": Kind(
        {
            "rev": fields.positive,
            "set": lambda value: policy_problem(value, whole=False),
        },
        apply=_set_policy,
        subject=_policy_subject,
    ),
}
