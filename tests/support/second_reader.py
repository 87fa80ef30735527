"""A second implementation of docs/format.md, written from the page alone.

It imports nothing of coordledger and is used as an oracle: it keeps the whole state in plain
dictionaries, and derives every commit and every tree of a chain again, from scratch.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

Line = dict[str, Any]
Check = Callable[[Any], bool]
SecretOf = Callable[[str, str, int, str], bytes | None]
Point = tuple[int, int, int, int]

SSH = "ssh-ed25519"
MAX_INT = 2**53 - 1
MAX_PAYLOAD = 131_072
MAX_PAGE = 131_072
MAX_PATHS_FILE = 131_072
MAX_INBOX = 524_288
INBOX_RESERVE = 65_536
MAX_META = 4_096
MAX_DEPTH = 8
MAX_BASE = 1_024
MAX_AGENTS = 4_096
MAX_DELEGATES = 256
MAX_KEYS = 1_024
SSH = "ssh-ed25519"
POLICY = {
    "max_skew": (1, 3_600),
    "max_ttl": (60, 2_592_000),
    "max_body": (1, 65_536),
    "max_text": (1, 4_096),
    "max_fact": (1, 16_384),
    "inbox_messages": (1, 256),
    "inbox_reserve": (0, 128),
    "sender_messages": (1, 64),
    "sender_bytes": (1_024, 131_072),
    "channels": (1, 256),
    "channel_messages": (1, 200),
    "channel_bytes": (66_560, 262_144),
    "require_alg": (0, 1),
    "max_attempts": (1, 1_000),
    "reopen": (0, 2),
}


class Invalid(Exception):
    """The named rule is broken."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def need(holds: bool, rule: str) -> None:
    if not holds:
        raise Invalid(rule)


# Section 2: canonical form


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def size(text: str) -> int:
    return len(canonical(text)) - 2


def parse(data: bytes) -> Any:
    def refuse(_: str) -> None:
        raise ValueError

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError
        return dict(pairs)

    def walk(value: Any, depth: int) -> None:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, int):
            if abs(value) > MAX_INT:
                raise ValueError
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise ValueError
            for child in [*value, *value.values()] if isinstance(value, dict) else value:
                walk(child, depth + 1)

    need(len(data) <= MAX_PAYLOAD, "canonical")
    try:
        hooks: Any = {"parse_float": refuse, "parse_constant": refuse, "object_pairs_hook": unique}
        value = json.loads(data.decode("ascii"), **hooks)
        walk(value, 1)
    except (ValueError, RecursionError):
        raise Invalid("canonical") from None
    need(canonical(value) == data, "canonical")
    return value


# Section 3: kinds of value


def pattern(expression: str) -> Check:
    compiled = re.compile(expression)
    return lambda v: isinstance(v, str) and compiled.fullmatch(v) is not None


def integer(least: int, most: int = MAX_INT) -> Check:
    return lambda v: type(v) is int and least <= v <= most


def word(*words: str) -> Check:
    return lambda v: isinstance(v, str) and v in words


def nullable(check: Check) -> Check:
    return lambda v: v is None or check(v)


def members(fields: dict[str, Check]) -> Check:
    return lambda v: (
        isinstance(v, dict) and v.keys() == fields.keys() and all(fields[k](v[k]) for k in v)
    )


def array(check: Check, least: int, most: int, order: Callable[[Any], Any] = lambda v: v) -> Check:
    def holds(value: Any) -> bool:
        if not (isinstance(value, list) and least <= len(value) <= most):
            return False
        return all(map(check, value)) and all(order(a) < order(b) for a, b in pairwise(value))

    return holds


def text(value: Any) -> bool:
    return isinstance(value, str)


def boolean(value: Any) -> bool:
    return isinstance(value, bool)


def time(value: Any) -> bool:
    if not pattern(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")(value):
        return False
    try:
        return milliseconds(value) >= 0
    except ValueError:
        return False


def milliseconds(at: str) -> int:
    moment = datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


identifier = pattern("[a-z0-9][a-z0-9_-]{0,63}")
names = pattern("[a-z0-9][a-z0-9_-]{0,63}([.][a-z0-9][a-z0-9_-]{0,63}){0,3}")
task_id = pattern("[!-~]{1,200}")
hex32 = pattern("[0-9a-f]{32}")
hex64 = pattern("[0-9a-f]{64}")


def agent_name(value: Any) -> bool:
    return names(value) and len(value) <= 128


def name_above(agent: str) -> str:
    return agent.rpartition(".")[0]


count = integer(0)
positive = integer(1)


def path(value: Any) -> bool:
    if not text(value) or not 1 <= size(value) <= 1_024 or re.search(r"[\0-\x1f\x7f-\x9f]", value):
        return False
    return not {"", ".", ".."} & set(re.sub("/$", "", value).split("/"))


object_id = pattern("[0-9a-f]{40}|[0-9a-f]{64}")


def code_ref(value: Any) -> bool:
    if not pattern(r"refs/[^\0-\x20~^:?*[\\\x7f-\U0010ffff]+")(value) or len(value) > 255:
        return False
    if value.startswith(("refs/coordledger", "refs/for/")) or value.endswith("."):
        return False
    odd = ("..", "@{", "//", "/.", ".lock/")
    return not any(one in value for one in odd) and not value.endswith(("/", ".lock"))


P = 2**255 - 19
ROOT = 2707385501144840649318225287225658788936804267575313519463743609750303402022
SMALL_ORDER = (0, 1, P - 1, ROOT, P - ROOT)
PUBLIC_KEY_HEAD = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"


def public_key(value: Any) -> bool:
    if not pattern("[A-Za-z0-9+/]{68}")(value):
        return False
    wire = base64.b64decode(value)
    y = int.from_bytes(wire[-32:], "little") & (2**255 - 1)
    good = wire.startswith(PUBLIC_KEY_HEAD) and y < P and y not in SMALL_ORDER
    return good and decode_point(wire[-32:]) is not None


# Section 4: records


def meta(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(identifier(name) for name in value)
        and all(text(v) and size(v) <= 1_024 for v in value.values())
        and len(canonical(value)) <= MAX_META
    )


def some_attributes(value: Any) -> bool:
    return isinstance(value, dict) and 0 < len(value) == sum(
        k in ATTRIBUTES and ATTRIBUTES[k](value[k]) for k in value
    )


def policy_values(value: Any) -> bool:
    return isinstance(value, dict) and all(
        k in POLICY and integer(*POLICY[k])(value[k]) for k in value
    )


COMMON: dict[str, Check] = {
    "v": integer(1, 1),
    "ledger": hex32,
    "at": time,
    "agent": agent_name,
    "key": positive,
    "session": identifier,
    "op": hex32,
    "base": nullable(members({"digest": hex64, "seq": count})),
    "kind": text,
}
VERIFIERS = {"hmac-sha256": hex64, SSH: public_key}
ALG: dict[str, Check] = {"alg": word(*VERIFIERS), "verifier": text}
ON_AGENT: dict[str, Check] = {"who": agent_name, "rev": positive, "id": positive}
ON_TASK: dict[str, Check] = {"task": task_id, "rev": positive, "epoch": positive}
ATTRIBUTES: dict[str, Check] = {
    "priority": integer(-1_000_000, 1_000_000),
    "meta": meta,
    "after": array(task_id, 0, 16),
    "title": nullable(lambda v: text(v) and size(v) <= 256),
    "labels": array(identifier, 0, 16),
    "parent": nullable(task_id),
    "not_before": nullable(time),
}
LEGACY = members(
    {
        "source": lambda v: text(v) and 1 <= size(v) <= 256,
        "id": lambda v: text(v) and size(v) <= 1_024,
        "agent": nullable(lambda v: text(v) and size(v) <= 512),
        "at": nullable(time),
        "until": nullable(lambda v: text(v) and size(v) <= 64),
        "tag": nullable(lambda v: text(v) and size(v) <= 256),
        "mac": word("valid", "invalid", "missing", "unknown"),
    }
)


def legacy(value: Any) -> bool:
    return LEGACY(value) and (value["tag"] is None) == (value["mac"] == "missing")


KINDS: dict[str, dict[str, Check]] = {
    "genesis": {
        **ALG,
        "agent": identifier,
        "nonce": hex64,
        "policy": lambda v: policy_values(v) and v.keys() == POLICY.keys(),
    },
    "enroll": {
        **ON_AGENT,
        **ALG,
        "role": word("agent", "admin"),
        "under": nullable(positive),
    },
    "revoke": ON_AGENT,
    "policy": {
        "rev": positive,
        "set": lambda v: policy_values(v) and len(v) > 0 and "max_skew" not in v,
    },
    "submit": {"task": task_id, "rev": positive, **ATTRIBUTES, "body": nullable(text)},
    "edit": {"task": task_id, "rev": positive, "set": some_attributes},
    "withdraw": {"task": task_id, "rev": positive, "reason": nullable(text)},
    "import": {
        "task": task_id,
        "rev": positive,
        "status": word("open", "done"),
        "epoch": integer(0, 1_000_000_000),
        "attempts": integer(0, 1_000_000),
        **ATTRIBUTES,
        "body": nullable(text),
        "result": nullable(text),
        "offer": nullable(members({"agent": agent_name, "until": time})),
        "legacy": legacy,
    },
    "claim": {
        "tasks": array(members(ON_TASK), 1, 16, lambda v: v["task"]),
        "until": time,
        "reopen": boolean,
        "note": nullable(text),
        "paths": array(path, 0, 32),
    },
    "renew": {**ON_TASK, "until": time, "note": nullable(text)},
    "complete": {**ON_TASK, "result": nullable(text)},
    "release": {
        **ON_TASK,
        "reason": nullable(text),
        "force": boolean,
        "not_before": nullable(time),
    },
    "handoff": {**ON_TASK, "to": agent_name, "note": nullable(text)},
    "land": {
        **ON_TASK,
        "ref": code_ref,
        "old": object_id,
        "new": object_id,
        "complete": boolean,
        "result": nullable(text),
    },
    "send": {
        "to": nullable(agent_name),
        "channel": nullable(identifier),
        "thread": nullable(count),
        "importance": word("low", "normal", "high"),
        "body": lambda v: text(v) and v != "",
    },
    "ack": {"messages": array(count, 1, 256)},
    "drop": {"channel": identifier},
    "archive": {
        "to": nullable(lambda v: text(v) and size(v) <= 256),
        "channel": nullable(lambda v: text(v) and size(v) <= 256),
        "body": lambda v: text(v) and v != "",
        "legacy": legacy,
    },
    "fact": {"fact": task_id, "was": count, "value": nullable(text), "until": nullable(time)},
    "void": {},
}


def parse_record(payload: bytes) -> Line:
    record = parse(payload)
    if not isinstance(record, dict):
        raise Invalid("shape")
    kind = record.get("kind")
    newer = integer(2)(record.get("v"))
    need(not newer and not (text(kind) and kind not in KINDS), "newer")
    need(text(kind) and members(COMMON | KINDS[str(kind)])(record), "shape")
    need((record["base"] is None) == (kind == "genesis"), "shape")
    if "alg" in record:
        need(VERIFIERS[record["alg"]](record["verifier"]), "shape")
    if kind == "enroll":
        delegate = "." in record["who"]
        need(delegate == (record["under"] is not None), "shape")
        need(not delegate or record["role"] == "agent", "shape")
    if kind == "send":
        need((record["to"] is None) != (record["channel"] is None), "shape")
    if kind == "import":
        need(record["result"] is None or record["status"] == "done", "shape")
        need(record["status"] == "open" or not (record["offer"] or record["attempts"]), "shape")
    if kind == "fact" and record["value"] is None:
        need(record["was"] > 0 and record["until"] is None, "shape")
    return record


# Section 5: keys, signature


def pae(kind: str, body: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode("ascii"), len(body), body)


def mac(secret: bytes, kind: str, body: bytes) -> bytes:
    return hmac.digest(secret, pae(kind, body), "sha256")


def fingerprint(secret: bytes, nonce: str, agent: str, key: int) -> str:
    return mac(secret, "coordledger.fingerprint.v1", canonical([nonce, agent, key])).hex()


def derived(master: bytes, nonce: str, agent: str, key: int) -> bytes:
    return base64.b64encode(mac(master, "coordledger.key.v1", canonical([nonce, agent, key])))


def ledger_id(genesis: Line) -> str:
    body = canonical({k: v for k, v in genesis.items() if k != "ledger"})
    return hashlib.sha256(pae("coordledger.genesis.v1", body)).hexdigest()[:32]


# Section 5: ssh-ed25519, by the formulas of RFC 8032 (5.1.2 to 5.1.7, extended coordinates)

L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
TAG_BYTES = {"hmac-sha256": 32, SSH: 64}


def decode_point(encoded: bytes) -> Point | None:
    number = int.from_bytes(encoded, "little")
    y, sign = number & (2**255 - 1), number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = f - e, h - g, h + g, f + e
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number: int, point: Point) -> Point:
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def encode_point(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = decode_point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def ssh_string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def verify_ssh(verifier: str, payload: bytes, tag: bytes) -> bool:
    key = base64.b64decode(verifier)[-32:]
    a, r, s = decode_point(key), tag[:32], int.from_bytes(tag[32:], "little")
    assert a
    assert BASE
    if s >= L or int.from_bytes(r, "little") & (2**255 - 1) in SMALL_ORDER:
        return False
    hashed = hashlib.sha512(payload).digest()
    parts = (b"coordledger.record.v1", b"", b"sha512", hashed)
    message = b"SSHSIG" + b"".join(map(ssh_string, parts))
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    minus_a: Point = (P - a[0], a[1], 1, P - a[3])
    return encode_point(add(times(s, BASE), times(k, minus_a))) == r


# Section 6: commit

PAYLOAD = re.compile(rb"tree ([0-9a-f]{64}|[0-9a-f]{40})\n(?:[^\n]+\n)+\n[^\n]+\n\n([^\n]+)\n\n")
TAG = re.compile(
    rb"Coordledger-Signature: [^ \n]+ [^ \n]+ ([A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{86}==)\n"
)


def landed(r: Line) -> str:
    more = " complete" if r["complete"] else ""
    return f"{more} {r['ref']} {r['old'][:12]}..{r['new'][:12]}"


def subject(r: Line) -> str:
    match r["kind"]:
        case "genesis":
            return f"genesis {r['agent']}"
        case "enroll":
            return f"enroll {r['who']} key {r['id']} as {r['role']}"
        case "revoke":
            return f"revoke {r['who']} key {r['id']}"
        case "policy":
            return " ".join(["policy", *(f"{k}={v}" for k, v in sorted(r["set"].items()))])
        case "submit" | "edit" | "withdraw" | "import" | "fact" as kind:
            more = f" as {r['status']}" if kind == "import" else ""
            more += " removed" if r.get("value", "") is None else ""
            return f"{kind} {r.get('fact') or r['task']}{more}"
        case "drop" | "archive" as kind:
            return f"drop channel {r['channel']}" if kind == "drop" else "archive a message"
        case "claim":
            first, more = r["tasks"][0], len(r["tasks"]) - 1
            rest = f"and {more} more" if more else f"epoch {first['epoch']}"
            return f"claim {first['task']} {rest} until {r['until']}"
        case "renew":
            return f"renew {r['task']} epoch {r['epoch']} until {r['until']}"
        case "complete" | "release" | "handoff" | "land" as kind:
            more = f" to {r['to']}" if "to" in r else " by force" if r.get("force") else ""
            more = landed(r) if "ref" in r else more
            return f"{kind} {r['task']} epoch {r['epoch']}{more}"
        case "send":
            return f"send to {r['to']}" if r["to"] else f"send to channel {r['channel']}"
        case "ack":
            more = len(r["messages"]) - 1
            return f"ack {r['messages'][0]}" + (f" and {more} more" if more else "")
        case _:
            return f"void {r['op']}"


# Section 8: state


@dataclass(frozen=True)
class State:
    ledger: Line
    agents: dict[str, Line]
    tasks: dict[str, Line] = dataclasses.field(default_factory=dict)
    paths: dict[str, Line] = dataclasses.field(default_factory=dict)
    inbox: dict[str, list[Line]] = dataclasses.field(default_factory=dict)
    channels: dict[str, list[Line]] = dataclasses.field(default_factory=dict)
    facts: dict[str, Line] = dataclasses.field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        files = {"ledger.json": lines([self.ledger])}
        files |= {f"agents/{name}.json": lines([a]) for name, a in self.agents.items()}
        files |= {f"inbox/{name}.jsonl": lines(box) for name, box in self.inbox.items() if box}
        files |= {f"channels/{name}.jsonl": lines(c) for name, c in self.channels.items()}
        if self.paths:
            files["paths.jsonl"] = lines(self.paths[task] for task in sorted(self.paths))
        pages: dict[str, list[Line]] = {}
        for task in sorted(self.tasks):
            pages.setdefault(page(task), []).append(self.tasks[task])
        for fact in sorted(self.facts.values(), key=lambda fact: fact["rev"]):
            pages.setdefault(facts_page(fact["fact"]), []).append(fact)
        return files | {path: lines(inside) for path, inside in pages.items()}

    def without_paths(self, task: str) -> State:
        return replace(self, paths={name: p for name, p in self.paths.items() if name != task})


def overlap(a: str, b: str) -> bool:
    if a.rstrip("/") == b.rstrip("/"):
        return True
    return (a.endswith("/") and b.startswith(a)) or (b.endswith("/") and a.startswith(b))


def lines(objects: Iterable[Line]) -> bytes:
    return b"".join(canonical(o) + b"\n" for o in objects)


def page(task: str) -> str:
    h = hashlib.sha256(task.encode("ascii")).digest()
    return f"tasks/{h[0] % 64:02x}/{h[1] % 64:02x}.jsonl"


def facts_page(key: str) -> str:
    return f"facts/{hashlib.sha256(key.encode('ascii')).digest()[0] % 64:02x}.jsonl"


def object_id(algorithm: str, kind: bytes, data: bytes) -> str:
    return hashlib.new(algorithm, b"%s %d\x00%s" % (kind, len(data), data)).hexdigest()


def tree_id(algorithm: str, files: dict[str, bytes]) -> str:
    entries: list[tuple[bytes, bytes, str]] = []
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in files.items():
        head, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(head, {})[rest] = data
        else:
            entries.append((head.encode(), b"100644", object_id(algorithm, b"blob", data)))
    for name, inside in folders.items():
        entries.append((name.encode() + b"/", b"40000", tree_id(algorithm, inside)))
    rows = (
        b"%s %s\x00%s" % (mode, name.removesuffix(b"/"), bytes.fromhex(oid))
        for name, mode, oid in sorted(entries)
    )
    return object_id(algorithm, b"tree", b"".join(rows))


# Section 9: valid records


@dataclass(frozen=True)
class Step:
    """The rule of each kind, and the state that it leads to."""

    state: State
    record: Line
    seq: int

    @property
    def now(self) -> int:
        return milliseconds(self.record["at"])

    @property
    def policy(self) -> Line:
        policy: Line = self.state.ledger["policy"]
        return policy

    def check(self, holds: bool) -> None:
        need(holds, self.record["kind"])

    def check_rev(self, item: Line, old: Line | None) -> None:
        need(item["rev"] == (old["rev"] if old else 0) + 1, "rev")

    def check_text(self, value: str | None) -> None:
        self.check(value is None or size(value) <= self.policy["max_text"])

    def is_admin(self) -> bool:
        me = self.record["agent"]
        return bool(me == self.state.ledger["owner"] or self.state.agents[me]["role"] == "admin")

    def with_tasks(self, changed: list[Line]) -> State:
        state = replace(self.state, tasks=self.state.tasks | {t["task"]: t for t in changed})
        submits = self.record["kind"] in ("submit", "edit")
        grown = {page(t["task"]) for t in changed if submits or t["task"] not in self.state.tasks}
        files = state.files() if grown else {}
        need(all(len(files[path]) <= MAX_PAGE for path in grown), "page")
        return state

    def may_for(self, other: str | None) -> bool:
        return other == self.record["agent"] or self.is_above(other) or self.is_admin()

    def is_above(self, other: str | None) -> bool:
        return other is not None and other.startswith(self.record["agent"] + ".")

    def enroll(self) -> State:
        r, state = self.record, self.state
        old = state.agents.get(r["who"])
        self.check_rev(r, old)
        self.check(self.is_admin() or self.is_above(r["who"]))
        owner = state.ledger["owner"]
        self.check(r["who"] != owner or (r["agent"] == owner and r["role"] == "admin"))
        self.check(not r["who"].startswith(f"{owner}.") or self.is_above(r["who"]))
        keys = old["keys"] if old else []
        self.check(not self.policy["require_alg"] or r["alg"] == SSH)
        self.check(len(keys) < MAX_KEYS)
        self.check(old is not None or len(state.agents) < MAX_AGENTS)
        agents = dict(state.agents)
        if "." in r["who"]:
            first = r["who"].partition(".")[0]
            below = [name for name in state.agents if name.startswith(f"{first}.")]
            self.check(old is not None or len(below) < MAX_DELEGATES)
            above = name_above(r["who"])
            self.check(above in agents)
            live = [k["id"] for k in agents[above]["keys"] if k["until"] is None]
            need(r["id"] == agents[first]["issued"] + 1, "rev")
            self.check(r["under"] in live)
            if self.is_above(r["who"]):
                name, number = above, r["under"]
                while name != r["agent"]:
                    number = next(k for k in agents[name]["keys"] if k["id"] == number)["under"]
                    name = name_above(name)
                self.check(number == r["key"])
            agents[first] = agents[first] | {"issued": r["id"]}
        else:
            self.check(r["id"] == len(keys) + 1)
        key = {"alg": r["alg"], "verifier": r["verifier"], "id": r["id"], "under": r["under"]}
        key |= {"from": self.seq + 1, "until": None}
        agent = {"agent": r["who"], "role": r["role"], "rev": r["rev"], "keys": [*keys, key]}
        agent["issued"] = old["issued"] if old else 0
        return replace(state, agents=agents | {r["who"]: agent})

    def revoke(self) -> State:
        r, old = self.record, self.state.agents.get(self.record["who"])
        self.check_rev(r, old)
        self.check(self.is_admin() or self.is_above(r["who"]))
        owner = self.state.ledger["owner"]
        self.check(r["who"] != owner or r["agent"] == owner)
        live = {k["id"]: k["alg"] for k in old["keys"] if k["until"] is None} if old else {}
        self.check(r["id"] in live)
        left = [alg for number, alg in live.items() if number != r["id"]]
        self.check(r["who"] != owner or len(left) > 0)
        self.check(r["who"] != owner or not self.policy["require_alg"] or SSH in left)
        agents, inbox = dict(self.state.agents), dict(self.state.inbox)
        agents[r["who"]] = agents[r["who"]] | {"rev": r["rev"]}
        self.end(agents, r["who"], r["id"])
        for name, agent in list(agents.items()):
            if "." in name and all(k["until"] is not None for k in agent["keys"]):
                del agents[name]
                inbox.pop(name, None)
        return replace(self.state, agents=agents, inbox=inbox)

    def end(self, agents: dict[str, Line], name: str, number: int) -> None:
        """End a key, and each that stands under it."""
        keys = agents[name]["keys"]
        ended = [k | {"until": self.seq} if k["id"] == number else k for k in keys]
        agents[name] = agents[name] | {"keys": ended}
        for other, agent in list(agents.items()):
            for key in agent["keys"] if name_above(other) == name else ():
                if key["under"] == number and key["until"] is None:
                    self.end(agents, other, key["id"])

    def set_policy(self) -> State:
        r, ledger = self.record, self.state.ledger
        need(r["rev"] == ledger["policy_rev"] + 1, "rev")
        self.check(self.is_admin())
        changed = {"policy": ledger["policy"] | r["set"], "policy_rev": r["rev"]}
        if changed["policy"]["require_alg"]:
            self.check(self.state.agents[r["agent"]]["keys"][r["key"] - 1]["alg"] == SSH)
            owners = self.state.agents[ledger["owner"]]["keys"]
            self.check(any(k["until"] is None and k["alg"] == SSH for k in owners))
        return replace(self.state, ledger=ledger | changed)

    def new_task(self, task: str) -> Line:
        nobody = dict.fromkeys(("agent", "session", "claimed_at", "until", "claim_seq"))
        line = {
            "task": task,
            "status": "open",
            "rev": 0,
            "epoch": 0,
            **nobody,
            **self.unsubmitted(),
        }
        return line | {"first_seq": self.seq, "last_seq": self.seq}

    def unsubmitted(self) -> Line:
        nothing = dict.fromkeys(("by", "title", "parent", "not_before", "released", "offer"))
        nothing["legacy"] = None
        nothing["submit_seq"] = None
        return nothing | {"priority": 0, "meta": {}, "after": [], "labels": [], "attempts": 0}

    def check_earlier(self, given: Line, old: Line | None) -> None:
        parent = given.get("parent")
        for name in [*given.get("after", []), *([] if parent is None else [parent])]:
            known = self.state.tasks.get(name)
            self.check(known is not None and (not old or known["first_seq"] < old["first_seq"]))

    def submit(self) -> State:
        r, old = self.record, self.state.tasks.get(self.record["task"])
        self.check(old is None or old["status"] == "withdrawn")
        self.check_rev(r, old)
        self.check(r["body"] is None or size(r["body"]) <= self.policy["max_body"])
        given = {k: r[k] for k in ATTRIBUTES}
        self.check_earlier(given, old)
        given |= {"by": r["agent"], "status": "open", "rev": r["rev"]}
        given |= {"submit_seq": self.seq, "last_seq": self.seq}
        return self.with_tasks([(old or self.new_task(r["task"])) | given])

    def edit(self) -> State:
        r, old = self.record, self.state.tasks.get(self.record["task"])
        self.check_rev(r, old)
        if old is None or old["status"] == "withdrawn":
            raise Invalid(r["kind"])
        holds = old["status"] == "claimed" and self.now < milliseconds(old["until"])
        holds = holds and (old["agent"], old["session"]) == (r["agent"], r["session"])
        self.check(holds or self.may_for(old["by"]))
        self.check_earlier(r["set"], old)
        return self.with_tasks([old | r["set"] | {"rev": r["rev"], "last_seq": self.seq}])

    def bring(self) -> State:
        r = self.record
        self.check(self.is_admin() and r["task"] not in self.state.tasks)
        self.check_rev(r, None)
        self.check_text(r["result"])
        self.check(r["body"] is None or size(r["body"]) <= self.policy["max_body"])
        given = {k: r[k] for k in (*ATTRIBUTES, "status", "epoch", "attempts", "rev")}
        self.check_earlier(given, None)
        if r["offer"]:
            agent = self.state.agents.get(r["offer"]["agent"])
            self.check(agent is not None and any(k["until"] is None for k in agent["keys"]))
            longest = self.now + 1_000 * self.policy["max_ttl"]
            self.check(self.now < milliseconds(r["offer"]["until"]) <= longest)
            given["offer"] = r["offer"] | {"seq": self.seq}
        given |= {"by": r["agent"], "submit_seq": self.seq}
        given["legacy"] = {k: r["legacy"][k] for k in ("mac", "source")} | {"seq": self.seq}
        return self.with_tasks([self.new_task(r["task"]) | given])

    def archive(self) -> State:
        self.check(self.is_admin() and size(self.record["body"]) <= self.policy["max_body"])
        return self.state

    def waits(self, task: Line) -> bool:
        others = [self.state.tasks[name] for name in task["after"] if name in self.state.tasks]
        earlier = [other for other in others if other["first_seq"] < task["first_seq"]]
        return any(other["status"] not in ("done", "withdrawn") for other in earlier)

    def withdraw(self) -> State:
        r, old = self.record, self.state.tasks.get(self.record["task"])
        self.check_rev(r, old)
        if old is None:
            raise Invalid(r["kind"])
        self.check(self.may_for(old["by"]))
        skew = 1_000 * self.policy["max_skew"]
        over = old["until"] is not None and self.now >= milliseconds(old["until"]) + skew
        self.check(old["status"] == "open" or (old["status"] == "claimed" and over))
        self.check_text(r["reason"])
        tasks = {name: line for name, line in self.state.tasks.items() if name != r["task"]}
        if old["epoch"] == 0:
            return replace(self.state, tasks=tasks)
        nobody = dict.fromkeys(("agent", "session", "claimed_at", "until"))
        seqs = {"status": "withdrawn", "rev": r["rev"], "last_seq": self.seq}
        return self.with_tasks([old | nobody | self.unsubmitted() | seqs]).without_paths(r["task"])

    def drop(self) -> State:
        name, channels = self.record["channel"], dict(self.state.channels)
        self.check(self.is_admin() and bool(channels.pop(name, None)))
        return replace(self.state, channels=channels)

    def takes(self, task: Line) -> bool:
        offer = task["offer"] or {"agent": None, "until": task["offer"]}
        mine = offer["agent"] == self.record["agent"]
        return mine and self.now < milliseconds(offer["until"])

    def check_free(self, task: Line, skew: int) -> None:
        r, status = self.record, task["status"]
        self.check(status != "withdrawn")
        if status == "claimed":
            self.check(self.now >= milliseconds(task["until"]) + skew)
        if status == "done":
            who = [True, self.may_for(task["by"]), self.is_admin()]
            self.check(r["reopen"] and who[self.policy["reopen"]])
        self.check(not self.waits(task))
        self.check(task["not_before"] is None or milliseconds(task["not_before"]) <= self.now)
        offer = task["offer"]
        self.check(offer is None or self.now >= milliseconds(offer["until"]) + skew)

    def claim(self) -> State:
        r, tasks = self.record, self.state.tasks
        self.check(self.now < milliseconds(r["until"]) <= self.now + 1_000 * self.policy["max_ttl"])
        self.check_text(r["note"])
        skew = 1_000 * self.policy["max_skew"]
        changed = []
        for item in r["tasks"]:
            self.check_rev(item, tasks.get(item["task"]))
            old = tasks.get(item["task"], self.new_task(item["task"]))
            self.check(item["epoch"] == old["epoch"] + 1)
            taken = self.takes(old)
            if not taken:
                self.check_free(old, skew)
            holder = {"agent": r["agent"], "session": r["session"], "claimed_at": r["at"]}
            holder |= {"attempts": old["attempts"] + (0 if taken else 1), "offer": None}
            holder["legacy"] = None
            seqs = {"claim_seq": self.seq, "last_seq": self.seq}
            changed.append(old | item | holder | seqs | {"status": "claimed", "until": r["until"]})
        return self.with_paths(self.with_tasks(changed), [t["task"] for t in changed], skew)

    def with_paths(self, state: State, claimed: list[str], skew: int) -> State:
        """After a claim of these tasks."""
        r = self.record
        paths = {name: line for name, line in state.paths.items() if name not in claimed}
        if not r["paths"]:
            return replace(state, paths=paths)
        for line in paths.values():
            same = all(line[k] == r[k] for k in ("agent", "session"))
            if not same and self.now < milliseconds(line["until"]) + skew:
                self.check(not any(overlap(a, b) for a in r["paths"] for b in line["paths"]))
        over = self.now - 2 * skew
        paths = {name: line for name, line in paths.items() if milliseconds(line["until"]) > over}
        mine = {k: r[k] for k in ("agent", "session", "paths", "until")}
        paths |= {name: mine | {"task": name} for name in claimed}
        state = replace(state, paths=paths)
        self.check(len(state.files()["paths.jsonl"]) <= MAX_PATHS_FILE)
        return state

    def on_task(self, change: Line, *, force: bool = False) -> State:
        r, old = self.record, self.state.tasks.get(self.record["task"])
        self.check_rev(r, old)
        if old is None or old["status"] != "claimed" or old["epoch"] != r["epoch"]:
            raise Invalid(r["kind"])
        if force:
            self.check(self.is_admin() or self.is_above(old["agent"]))
        else:
            self.check(all(old[k] == r[k] for k in ("agent", "session")))
            self.check(self.now < milliseconds(old["until"]))
        if "until" in r:
            longest = self.now + 1_000 * self.policy["max_ttl"]
            self.check(milliseconds(old["until"]) < milliseconds(r["until"]) <= longest)
        seqs = {"rev": r["rev"], "last_seq": self.seq}
        return self.with_tasks([old | {"offer": None} | change | seqs])

    def renew(self) -> State:
        task, until = self.record["task"], self.record["until"]
        self.check_text(self.record["note"])
        state = self.on_task({"until": until})
        if task not in state.paths:
            return state
        return replace(state, paths=state.paths | {task: state.paths[task] | {"until": until}})

    def complete(self) -> State:
        self.check_text(self.record["result"])
        end = {"status": "done", "until": None, "attempts": 0, "released": None}
        return self.on_task(end).without_paths(self.record["task"])

    def release(self) -> State:
        r = self.record
        self.check_text(r["reason"])
        end: Line = dict.fromkeys(("agent", "session", "claimed_at", "until"))
        end |= {"status": "open", "not_before": r["not_before"]}
        holder = self.state.tasks.get(r["task"], {}).get("agent")
        end["released"] = {"agent": holder, "seq": self.seq}
        return self.on_task(end, force=r["force"]).without_paths(r["task"])

    def handoff(self) -> State:
        r = self.record
        self.check_text(r["note"])
        agent = self.state.agents.get(r["to"])
        self.check(agent is not None and any(k["until"] is None for k in agent["keys"]))
        self.check(r["to"] != r["agent"])
        until = self.state.tasks.get(r["task"], {}).get("until")
        return self.on_task({"offer": {"agent": r["to"], "seq": self.seq, "until": until}})

    def land(self) -> State:
        r = self.record
        self.check_text(r["result"])
        self.check(len(r["old"]) == len(r["new"]) and r["old"] != r["new"])
        self.check(r["complete"] or r["result"] is None)
        if not r["complete"]:
            return self.on_task({})
        end = {"status": "done", "until": None, "attempts": 0, "released": None}
        return self.on_task(end).without_paths(r["task"])

    def send(self) -> State:
        r, policy, state = self.record, self.policy, self.state
        self.check(size(r["body"]) <= policy["max_body"])
        self.check(r["thread"] is None or r["thread"] <= r["base"]["seq"])
        copied = ("agent", "session", "at", "thread", "importance", "body")
        message = {k: r[k] for k in copied} | {"seq": self.seq}
        if r["to"] is not None:
            agent = state.agents.get(r["to"])
            self.check(agent is not None and any(k["until"] is None for k in agent["keys"]))
            box = state.inbox.get(r["to"], [])
            mine = [m for m in box if m["agent"] == r["agent"]]
            self.check(len(box) < policy["inbox_messages"])
            self.check(len(mine) < policy["sender_messages"])
            self.check(len(lines([*mine, message])) <= policy["sender_bytes"])
            self.check(len(lines([*box, message])) <= MAX_INBOX)
            self.may_use_reserve([*box, message])
            return replace(state, inbox=state.inbox | {r["to"]: [*box, message]})
        known = r["channel"] in state.channels
        self.check(known or len(state.channels) < policy["channels"])
        kept = [*state.channels.get(r["channel"], []), message]
        kept = kept[-policy["channel_messages"] :]
        while len(lines(kept)) > policy["channel_bytes"]:
            kept = kept[1:]
        return replace(state, channels=state.channels | {r["channel"]: kept})

    def may_use_reserve(self, box: list[Line]) -> None:
        most = self.policy["inbox_messages"]
        reserve = min(self.policy["inbox_reserve"], most // 2)
        few = len(box) <= most - reserve and len(lines(box)) <= MAX_INBOX - INBOX_RESERVE
        if few or reserve == 0:
            return
        self.check(box[-1]["importance"] == "high")
        first = self.record["agent"].split(".")[0]
        mine = [m for m in box if m["agent"].split(".")[0] == first and m["importance"] == "high"]
        self.check(len(mine) <= max(1, reserve // 4))
        self.check(len(lines(mine)) <= INBOX_RESERVE // 4)

    def ack(self) -> State:
        me, read = self.record["agent"], set(self.record["messages"])
        box = self.state.inbox.get(me, [])
        self.check(read <= {m["seq"] for m in box})
        left = [m for m in box if m["seq"] not in read]
        return replace(self.state, inbox=self.state.inbox | {me: left})

    def fact(self) -> State:
        r, skew = self.record, 1_000 * self.policy["max_skew"]
        path = facts_page(r["fact"])
        ended = {
            key
            for key, line in self.state.facts.items()
            if line["until"] is not None and self.now >= milliseconds(line["until"]) + 2 * skew
        }
        old = self.state.facts.get(r["fact"])
        free = old is None or r["fact"] in ended
        self.check((r["was"] == 0 and free) or (old is not None and old["rev"] == r["was"]))
        self.check(r["until"] is None or self.now < milliseconds(r["until"]))
        gone = {key for key in ended if facts_page(key) == path} | {r["fact"]}
        facts = {key: line for key, line in self.state.facts.items() if key not in gone}
        if r["value"] is None:
            return replace(self.state, facts=facts)
        self.check(size(r["value"]) <= self.policy["max_fact"])
        names = ("fact", "value", "until", "agent", "session", "at")
        line = {name: r[name] for name in names} | {"rev": self.seq}
        state = replace(self.state, facts=facts | {r["fact"]: line})
        need(len(state.files()[path]) <= MAX_PAGE, "page")
        return state

    def void(self) -> State:
        return self.state


def genesis_state(r: Line) -> State:
    ledger = {"ledger": r["ledger"], "nonce": r["nonce"], "owner": r["agent"], "v": 1}
    ledger |= {"policy": r["policy"], "policy_rev": 1}
    key = {"alg": r["alg"], "verifier": r["verifier"], "from": 0, "id": 1, "until": None}
    key["under"] = None
    agent = {"agent": r["agent"], "role": "admin", "rev": 1, "issued": 0, "keys": [key]}
    return State(ledger, {r["agent"]: agent})


class Reader:
    """Reads a chain, genesis first. A refused commit leaves the reader as it was."""

    def __init__(self, secret_of: SecretOf) -> None:
        self.secret_of = secret_of
        self.authentic = 0
        self.unverified = 0
        self.head = ""
        self.committed = 0
        self.state: State | None = None
        self.digests: list[bytes] = []
        self.signed: list[tuple[str, str]] = []

    def step(self, raw: bytes) -> None:
        found = PAYLOAD.match(raw)
        if found is None:
            raise Invalid("commit")
        record = parse_record(found[2])
        signature = TAG.match(raw, found.end())
        if signature is None:
            raise Invalid("commit")
        tag = base64.b64decode(signature[1])
        seq = len(self.digests)
        if self.state is None:
            need(record["kind"] == "genesis", "genesis")
            need(record["ledger"] == ledger_id(record) and record["key"] == 1, "genesis")
            parent = state = genesis_state(record)
        else:
            need(record["kind"] != "genesis", "genesis")
            need(record["ledger"] == self.state.ledger["ledger"], "shape")
            parent = self.state
        key = self.find_key(parent, record, seq)
        need(not parent.ledger["policy"]["require_alg"] or key["alg"] == SSH, "key")
        checked = self.check_tag(parent, record, key, found[2], tag)
        if self.state is not None:
            self.check_place(self.state, record, seq)
            step = Step(self.state, record, seq)
            names = {"policy": "set_policy", "import": "bring"}
            state = getattr(step, names.get(record["kind"], record["kind"]))()
        algorithm = "sha1" if len(self.head or found[1]) == 40 else "sha256"
        tree = tree_id(algorithm, state.files())
        author = milliseconds(record["at"]) // 1_000
        committed = max(author, self.committed)
        previous = self.digests[-1] if self.digests else bytes(32)
        digest = hashlib.sha256(previous + found[2] + b"\n" + tag).digest()
        who = f"{record['agent']}/{record['session']} <{record['agent']}@{record['ledger']}>"
        signer = f"{key['alg']} {record['agent']}/{record['key']}"
        expected = [
            f"tree {tree}",
            *([f"parent {self.head}"] if self.head else []),
            f"author {who} {author} +0000",
            f"committer {who} {committed} +0000",
            "",
            subject(record),
            "",
            found[2].decode("ascii"),
            "",
            f"Coordledger-Signature: {signer} {base64.b64encode(tag).decode('ascii')}",
            f"Coordledger-Seq: {seq}",
            f"Coordledger-Digest: {digest.hex()}",
        ]
        need(found[1].decode("ascii") == tree, "state")
        need(raw == "".join(line + "\n" for line in expected).encode("ascii"), "commit")

        self.state, self.committed = state, committed
        self.head = object_id(algorithm, b"commit", raw)
        self.digests.append(digest)
        self.signed.append((record["agent"], record["op"]))
        self.authentic += checked
        self.unverified += not checked

    def find_key(self, state: State, record: Line, seq: int) -> Line:
        keys: list[Line] = state.agents.get(record["agent"], {"keys": []})["keys"]
        for key in keys:
            ended = key["until"] is not None and key["until"] < seq
            if key["id"] == record["key"] and key["from"] <= seq and not ended:
                return key
        raise Invalid("key")

    def check_tag(self, state: State, record: Line, key: Line, payload: bytes, tag: bytes) -> bool:
        need(len(tag) == TAG_BYTES[key["alg"]], "tag")
        if key["alg"] == SSH:
            need(verify_ssh(key["verifier"], payload, tag), "tag")
            return True
        secret = self.find_secret(state, record["agent"], key)
        if secret is None:
            return False
        need(hmac.compare_digest(tag, mac(secret, "coordledger.record.v1", payload)), "tag")
        return True

    def find_secret(self, state: State, agent: str, key: Line) -> bytes | None:
        name = (state.ledger["nonce"], agent, key["id"])
        found = [self.secret_of(*name, key["verifier"])]
        if "." in agent:
            above = name_above(agent)
            keys = state.agents[above]["keys"]
            entry = next(k for k in keys if k["id"] == key["under"])
            secret = self.find_secret(state, above, entry) if entry["alg"] != SSH else None
            found.append(derived(secret, *name) if secret else None)
        return next((s for s in found if s and fingerprint(s, *name) == key["verifier"]), None)

    def check_place(self, state: State, record: Line, seq: int) -> None:
        base = record["base"]
        need(base["seq"] <= seq - 1 <= base["seq"] + MAX_BASE, "base")
        need(base["digest"] == self.digests[base["seq"]].hex(), "base")
        need((record["agent"], record["op"]) not in self.signed[base["seq"] + 1 :], "once")
        skew = 1_000 * state.ledger["policy"]["max_skew"]
        need(milliseconds(record["at"]) >= 1_000 * self.committed - 2 * skew, "time")


def read_chain(repo: Path, ref: str) -> list[tuple[str, bytes]]:
    """Every commit of the chain, genesis first, by the raw parent lines."""
    git = ["git", "-C", str(repo)]
    env = os.environ | {"GIT_NO_REPLACE_OBJECTS": "1"}
    command = [*git, "rev-parse", "--verify", "--end-of-options", ref]
    oid = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    oid = oid.strip()
    chain: list[tuple[str, bytes]] = []
    batch = [*git, "cat-file", "--batch"]
    with subprocess.Popen(batch, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        while oid:
            process.stdin.write(oid.encode("ascii") + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline().split()
            need(len(answer) == 3 and answer[1] == b"commit", "missing")
            data = process.stdout.read(int(answer[2]) + 1)[:-1]
            algorithm = "sha1" if len(oid) == 40 else "sha256"
            need(object_id(algorithm, b"commit", data) == oid, "missing")
            chain.append((oid, data))
            header = data.partition(b"\n\n")[0]
            parent = re.search(rb"^parent ([0-9a-f]{64}|[0-9a-f]{40})$", header, re.MULTILINE)
            oid = parent[1].decode("ascii") if parent else ""
    return chain[::-1]


def secrets_of(master: bytes | None) -> SecretOf:
    return lambda nonce, agent, key, _: derived(master, nonce, agent, key) if master else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo", type=Path)
    parser.add_argument("ref")
    parser.add_argument("--master-file", type=Path)
    options = parser.parse_args(arguments)
    master = None
    if options.master_file:
        master = options.master_file.read_bytes().removesuffix(b"\n")
        if not re.fullmatch(rb"[!-~]{43,512}", master):
            parser.error("the master file holds no secret")
    reader = Reader(secrets_of(master))
    head, problem = None, None
    try:
        chain = read_chain(options.repo, options.ref)
        head = chain[-1][0]
        for _, data in chain:
            reader.step(data)
    except Invalid as error:
        problem = {"seq": len(reader.digests) if head else None, "rule": error.rule}
    counts = {"authentic": reader.authentic, "unverified": reader.unverified}
    report = {"records": len(reader.digests), **counts, "head": head, "problem": problem}
    print(json.dumps(report))
    return 4 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
