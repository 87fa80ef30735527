"""Values of the format for the properties: a strategy for records of each kind."""

from __future__ import annotations

import string

from hypothesis import strategies as st
from support.ssh_keys import SshKey

from coordledger.format import records, rules, timestamps
from coordledger.format.rules.ledger import POLICY

IDENTIFIERS = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z")
AGENTS = (
    st.lists(st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,63}\Z"), min_size=1, max_size=4)
    .map(".".join)
    .filter(lambda name: len(name) <= 128)
)
TASKS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIMES = st.integers(0, timestamps.LATEST).map(timestamps.show)
COUNTS = st.integers(0, 2**53 - 1)
POSITIVES = st.integers(1, 2**53 - 1)
BOOLEANS = st.booleans()


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.text(sorted(set(string.hexdigits.lower())), min_size=digits, max_size=digits)


def values(depth: int = 7) -> st.SearchStrategy:
    """Whatever the canonical form can say, nested at most `depth` deep."""
    plain = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS
    if depth == 0:
        return plain
    below = st.deferred(lambda: values(depth - 1))
    nested = st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3)
    return plain | nested


_WHOLE = {key: st.integers(least, most) for key, (_, least, most) in POLICY.items()}
_PATCH = {key: rule for key, rule in _WHOLE.items() if key != "max_skew"}
_CLAIMED = st.fixed_dictionaries({"epoch": POSITIVES, "rev": POSITIVES, "task": TASKS})
_KEY = {"alg": st.just("hmac-sha256"), "verifier": hexadecimal(64)}
_SSH_KEYS = st.sampled_from(
    [{"alg": "ssh-ed25519", "verifier": SshKey.of(f"{n}").public} for n in range(8)]
)
_ABOUT = {"who": AGENTS, "rev": POSITIVES, "id": POSITIVES}
_HELD = {"task": TASKS, "rev": POSITIVES, "epoch": POSITIVES}
_NOTE = st.none() | TEXTS
_LABELS = st.lists(IDENTIFIERS, max_size=16, unique=True).map(sorted)
_PARTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1)
_PATHS = st.lists(_PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4).map(
    "/".join
)
_ATTRIBUTES = {
    "priority": st.integers(-1_000_000, 1_000_000),
    "meta": st.dictionaries(IDENTIFIERS, TEXTS, max_size=16),
    "after": st.lists(TASKS, max_size=16, unique=True).map(sorted),
    "title": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "labels": _LABELS,
    "parent": st.none() | TASKS,
    "not_before": st.none() | TIMES,
}

_SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_TAGGED = {"tag": _SHORT, "mac": st.sampled_from(["valid", "invalid", "unknown"])}
_BARE = {"tag": st.none(), "mac": st.just("missing")}
_LEGACY = st.sampled_from([_TAGGED, _BARE]).flatmap(
    lambda proof: st.fixed_dictionaries(
        {
            "source": _SHORT.filter(bool),
            "id": TEXTS,
            "agent": _NOTE,
            "at": st.none() | TIMES,
            "until": st.none() | _SHORT,
        }
        | proof
    )
)

FIELDS: dict[str, dict[str, st.SearchStrategy]] = {
    "genesis": {"nonce": hexadecimal(64), "policy": st.fixed_dictionaries(_WHOLE), **_KEY},
    "enroll": {**_ABOUT, **_KEY, "role": st.sampled_from(["agent", "admin"]), "under": POSITIVES},
    "revoke": _ABOUT,
    "policy": {
        "rev": POSITIVES,
        "set": st.fixed_dictionaries({}, optional=_PATCH).filter(bool),
    },
    "submit": {"task": TASKS, "rev": POSITIVES, **_ATTRIBUTES, "body": _NOTE},
    "edit": {
        "task": TASKS,
        "rev": POSITIVES,
        "set": st.fixed_dictionaries({}, optional=_ATTRIBUTES).filter(bool),
    },
    "withdraw": {"task": TASKS, "rev": POSITIVES, "reason": _NOTE},
    "import": {
        "task": TASKS,
        "rev": POSITIVES,
        "status": st.sampled_from(["open", "done"]),
        "epoch": st.integers(0, 10**9),
        "attempts": st.integers(0, 10**6),
        **_ATTRIBUTES,
        "body": _NOTE,
        "result": _NOTE,
        "offer": st.none() | st.fixed_dictionaries({"agent": AGENTS, "until": TIMES}),
        "legacy": _LEGACY,
    },
    "claim": {
        "tasks": st.lists(_CLAIMED, min_size=1, max_size=16, unique_by=lambda c: c["task"]).map(
            lambda tasks: sorted(tasks, key=lambda c: c["task"])
        ),
        "until": TIMES,
        "reopen": BOOLEANS,
        "note": _NOTE,
        "paths": st.lists(_PATHS | _PATHS.map("{}/".format), max_size=8, unique=True).map(sorted),
    },
    "renew": {**_HELD, "until": TIMES, "note": _NOTE},
    "complete": {**_HELD, "result": _NOTE},
    "release": {**_HELD, "reason": _NOTE, "force": BOOLEANS, "not_before": st.none() | TIMES},
    "handoff": {**_HELD, "to": AGENTS, "note": _NOTE},
    "land": {
        **_HELD,
        "ref": st.sampled_from(["refs/heads/main", "refs/heads/release/2.1", "refs/tags/v1"]),
        "old": hexadecimal(40),
        "new": hexadecimal(40),
        "complete": BOOLEANS,
        "result": _NOTE,
    },
    "send": {
        "to": st.none() | AGENTS,
        "channel": IDENTIFIERS,
        "thread": st.none() | COUNTS,
        "importance": st.sampled_from(["low", "normal", "high"]),
        "body": TEXTS.filter(bool),
    },
    "ack": {"messages": st.lists(COUNTS, min_size=1, max_size=256, unique=True).map(sorted)},
    "drop": {"channel": IDENTIFIERS},
    "archive": {
        "to": _NOTE,
        "channel": _NOTE,
        "body": TEXTS.filter(bool),
        "legacy": _LEGACY,
    },
    "fact": {
        "fact": TASKS,
        "was": POSITIVES,
        "value": TEXTS,
        "until": st.none() | TIMES,
    },
    "void": {},
}


def of_kind(kind: str) -> st.SearchStrategy[records.Record]:
    """Records of one kind: of a valid shape, whatever a chain would say to them."""
    base = st.fixed_dictionaries({"digest": hexadecimal(64), "seq": COUNTS})
    common = {
        "v": st.just(1),
        "ledger": hexadecimal(32),
        "at": TIMES,
        "agent": IDENTIFIERS if kind == "genesis" else AGENTS,
        "key": POSITIVES,
        "session": IDENTIFIERS,
        "op": hexadecimal(32),
        "base": st.none() if kind == "genesis" else base,
        "kind": st.just(kind),
    }
    found = st.fixed_dictionaries(common | FIELDS[kind])
    if "alg" in FIELDS[kind]:
        found = found | st.builds(lambda record, key: record | key, found, _SSH_KEYS)
    changes = {"send": _one_addressee, "enroll": _under_one_or_none, "import": _open_or_done}
    changes["land"] = _moves
    change = changes.get(kind)
    return found.map(change) if change else found


def _under_one_or_none(record: records.Record) -> records.Record:
    delegate = "." in record["who"]
    return record | ({"role": "agent"} if delegate else {"under": None})


def _open_or_done(record: records.Record) -> records.Record:
    done = record["status"] == "done"
    return record | ({"offer": None, "attempts": 0} if done else {"result": None})


def _moves(record: records.Record) -> records.Record:
    if record["old"] == record["new"]:
        record |= {"new": "".join("1" if digit == "0" else "0" for digit in record["new"])}
    return record if record["complete"] else record | {"result": None}


def _one_addressee(record: records.Record) -> records.Record:
    return record | {"channel": None} if record["to"] is not None else record


RECORDS = st.sampled_from(sorted(rules.MODULES)).flatmap(of_kind)
