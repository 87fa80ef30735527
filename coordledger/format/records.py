"""The record: one flat object per commit (docs/format.md, sections 3 and 4).

Rules: `KINDS` is the whole shape of every kind, as data; `check` parses once at the
boundary, and what has passed is trusted inside. A record stays the mapping that its
bytes parse to, so there is no second form that could drift from what was signed.
It decides no rule of claims (`state`) and no signature (`signing`).
"""

from __future__ import annotations

from itertools import pairwise

from coordledger.errors import RuleBroken
from coordledger.format import canonical, timestamps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Record = dict[str, Any]
    Rule = Callable[[Any], str]  # what is wrong with a value, or ""

VERSION = 1
# A remote has its ledgers here, tries a push out there, and puts it into its place in the third.
LEDGERS, TRIES, FOR = "refs/coordledger/", "refs/coordledger-try/", "refs/for/coordledger/"
ALG = "hmac-sha256"
GROUP = 16
MAX_PRIORITY = 1_000_000
MAX_META_VALUE = 1024
MAX_ACK = 256

# key: (default, least, most) -- section 7
POLICY: dict[str, tuple[int, int, int]] = {
    "max_skew": (30, 1, 3600),
    "max_ttl": (86_400, 60, 2_592_000),
    "max_body": (65_536, 1, 65_536),
    "max_text": (4096, 1, 4096),
    "inbox_messages": (256, 1, 256),
    "sender_messages": (64, 1, 64),
    "sender_bytes": (262_144, 1024, 262_144),
    "channels": (256, 1, 256),
    "channel_messages": (200, 1, 200),
    "channel_bytes": (1_048_576, 131_072, 1_048_576),
}

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | {"_", "-"}
_HEX = frozenset("0123456789abcdef")


def is_identifier(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 64
        and value[0] in _FIRST
        and _REST.issuperset(value)
    )


def is_task(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 200
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _is_integer(value: object, least: int, most: int = canonical.MAX_INTEGER) -> bool:
    return type(value) is int and least <= value <= most


# -- rules of one field: each says what is wrong, or ""


def _identifier(value: Any) -> str:
    return "" if is_identifier(value) else "not an identifier"


def _task(value: Any) -> str:
    return "" if is_task(value) else "not a task id"


def _boolean(value: Any) -> str:
    return "" if type(value) is bool else "neither true nor false"


def _count(value: Any) -> str:
    return "" if _is_integer(value, 0) else "not a count"


def _positive(value: Any) -> str:
    return "" if _is_integer(value, 1) else "not a positive integer"


def _text(value: Any) -> str:
    return "" if isinstance(value, str) else "not a text"


def _body(value: Any) -> str:
    return "" if isinstance(value, str) and value else "not a text, or empty"


def _time(value: Any) -> str:
    if not isinstance(value, str):
        return "not a time"
    try:
        timestamps.parse(value)
    except ValueError:
        return "not a time"
    return ""


def _priority(value: Any) -> str:
    return "" if _is_integer(value, -MAX_PRIORITY, MAX_PRIORITY) else "not a priority"


def _hex(digits: int) -> Rule:
    def rule(value: Any) -> str:
        good = isinstance(value, str) and len(value) == digits and _HEX.issuperset(value)
        return "" if good else f"not {digits} hexadecimal digits"

    return rule


def _one_of(*values: str) -> Rule:
    def rule(value: Any) -> str:
        return "" if isinstance(value, str) and value in values else f"not {' or '.join(values)}"

    return rule


def _or_null(rule: Rule) -> Rule:
    return lambda value: "" if value is None else rule(value)


def _ascending(values: list[Any]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _array(item: Rule, least: int, most: int, sort_key: Callable[[Any], Any]) -> Rule:
    def rule(value: Any) -> str:
        if not isinstance(value, list) or not least <= len(value) <= most:
            return f"not an array of {least} to {most}"
        wrong = next(filter(None, map(item, value)), "")
        if wrong:
            return wrong
        return "" if _ascending([sort_key(v) for v in value]) else "not sorted, or twice the same"

    return rule


def _base(value: Any) -> str:
    return _fields(value, {"digest": _hex(64), "seq": _count})


def _claimed(value: Any) -> str:
    return _fields(value, {"epoch": _positive, "rev": _positive, "task": _task})


def _meta(value: Any) -> str:
    if not isinstance(value, dict) or len(value) > 16:
        return "not an object of at most 16 members"
    for name, text in value.items():
        if not is_identifier(name):
            return "a name that is not an identifier"
        if not isinstance(text, str) or canonical.size(text) > MAX_META_VALUE:
            return f"a value that is not a text of at most {MAX_META_VALUE} bytes"
    return ""


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
        if not _is_integer(number, *POLICY[key][1:]):
            return f"{key} is not within {POLICY[key][1]} to {POLICY[key][2]}"
    return ""


_TEXT = _or_null(_text)
_HELD: dict[str, Rule] = {"task": _task, "rev": _positive, "epoch": _positive}

COMMON: dict[str, Rule] = {
    "v": lambda value: "" if _is_integer(value, 1, 1) else "not 1",
    "ledger": _hex(32),
    "at": _time,
    "agent": _identifier,
    "key": _positive,
    "session": _identifier,
    "op": _hex(32),
    "base": _or_null(_base),
    "kind": _text,
}

KINDS: dict[str, dict[str, Rule]] = {
    "genesis": {
        "nonce": _hex(64),
        "policy": lambda value: policy_problem(value, whole=True),
        "alg": _one_of(ALG),
        "fingerprint": _hex(64),
    },
    "enroll": {
        "who": _identifier,
        "rev": _positive,
        "id": _positive,
        "alg": _one_of(ALG),
        "fingerprint": _hex(64),
        "role": _one_of("agent", "admin"),
    },
    "revoke": {"who": _identifier, "rev": _positive, "id": _positive},
    "policy": {"rev": _positive, "set": lambda value: policy_problem(value, whole=False)},
    "submit": {
        "task": _task,
        "rev": _positive,
        "priority": _priority,
        "meta": _meta,
        "after": _array(_task, 0, 16, lambda task: task),
    },
    "claim": {
        "tasks": _array(_claimed, 1, GROUP, lambda item: item["task"]),
        "until": _time,
        "reopen": _boolean,
        "note": _TEXT,
    },
    "renew": _HELD | {"until": _time},
    "complete": _HELD | {"result": _TEXT},
    "release": _HELD | {"reason": _TEXT, "force": _boolean},
    "send": {
        "to": _or_null(_identifier),
        "channel": _or_null(_identifier),
        "thread": _or_null(_count),
        "importance": _one_of("low", "normal", "high"),
        "body": _body,
    },
    "ack": {"messages": _array(_count, 1, MAX_ACK, lambda seq: seq)},
    "void": {},
}


def _fields(value: Any, rules: dict[str, Rule]) -> str:
    """What is wrong with the members of an object, or ""."""
    if not isinstance(value, dict) or value.keys() != rules.keys():
        return f"not an object of exactly {', '.join(sorted(rules))}"
    for name, rule in rules.items():
        wrong = rule(value[name])
        if wrong:
            return f"{name}: {wrong}"
    return ""


_SHAPES = {kind: COMMON | fields for kind, fields in KINDS.items()}


def check(record: Any) -> Record:
    """`record` if it has the shape of its kind.

    Raises `RuleBroken`: newer-version, bad-record.
    """
    if not isinstance(record, dict):
        raise RuleBroken("bad-record", field="record", why="not an object")
    if _is_integer(record.get("v"), VERSION + 1):
        raise RuleBroken("newer-version", what=f"version {record['v']}")
    kind = record.get("kind")
    if isinstance(kind, str) and kind not in KINDS:
        raise RuleBroken("newer-version", what=f"kind {kind}")
    shape = _SHAPES[kind] if isinstance(kind, str) else COMMON
    odd = sorted(shape.keys() ^ record.keys())
    if odd:
        why = "missing" if odd[0] in shape else "unknown field"
        raise RuleBroken("bad-record", field=odd[0], why=why)
    for name, rule in shape.items():
        wrong = rule(record[name])
        if wrong:
            raise RuleBroken("bad-record", field=name, why=wrong)
    if (record["base"] is None) != (kind == "genesis"):
        raise RuleBroken("bad-record", field="base", why="null in the genesis record alone")
    if kind == "send" and (record["to"] is None) == (record["channel"] is None):
        raise RuleBroken("bad-record", field="to", why="exactly one of to and channel is null")
    return record


def subject(record: Record) -> str:
    """The commit's subject (section 6): printable ASCII, derived from the record alone."""
    return _SUBJECTS[record["kind"]](record)


def _and_more(items: list[Any]) -> str:
    return f"{items[0]} and {len(items) - 1} more" if len(items) > 1 else f"{items[0]}"


def _claim_subject(r: Record) -> str:
    tasks = _and_more([item["task"] for item in r["tasks"]])
    epoch = f" epoch {r['tasks'][0]['epoch']}" if len(r["tasks"]) == 1 else ""
    return f"claim {tasks}{epoch} until {r['until']}"


_SUBJECTS: dict[str, Callable[[Record], str]] = {
    "genesis": lambda r: f"genesis {r['agent']}",
    "enroll": lambda r: f"enroll {r['who']} key {r['id']} as {r['role']}",
    "revoke": lambda r: f"revoke {r['who']} key {r['id']}",
    "policy": lambda r: "policy " + " ".join(f"{k}={v}" for k, v in sorted(r["set"].items())),
    "submit": lambda r: f"submit {r['task']}",
    "claim": _claim_subject,
    "renew": lambda r: f"renew {r['task']} epoch {r['epoch']} until {r['until']}",
    "complete": lambda r: f"complete {r['task']} epoch {r['epoch']}",
    "release": lambda r: (
        f"release {r['task']} epoch {r['epoch']}" + (" by force" if r["force"] else "")
    ),
    "send": lambda r: f"send to {r['to']}" if r["to"] else f"send to channel {r['channel']}",
    "ack": lambda r: f"ack {_and_more(r['messages'])}",
    "void": lambda r: f"void {r['op']}",
}
