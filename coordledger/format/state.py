"""The state and what a record does to it (docs/format.md, sections 8 and 9, rules 6-7).

Rules of this file:
- `apply(state, record, seq)` is a pure function: it gives the changed files or raises
  `RuleBroken`, and all its checks look at the state before the record.
- A task moves by one table, `MOVES`; an illegal move is a missing row.
- Time here is the record's own `at`: no clock, no configuration, no signature.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import canonical, records, timestamps
from coordledger.hashes import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from coordledger.format.records import Record
    from coordledger.git.tree import Tree

    Changes = dict[str, bytes | None]

MAX_AGENTS = 4096
MAX_KEYS = 1024
PAGE_BYTES = 1_048_576

# (standing, verb) -> status afterwards. A claim with `reopen` is the verb "reopen", a
# release with `force` the verb "force".
MOVES = {
    ("absent", "submit"): "open",
    ("absent", "claim"): "claimed",
    ("open", "claim"): "claimed",
    ("expired", "claim"): "claimed",
    ("absent", "reopen"): "claimed",
    ("open", "reopen"): "claimed",
    ("expired", "reopen"): "claimed",
    ("done", "reopen"): "claimed",
    ("held", "renew"): "claimed",
    ("held", "complete"): "done",
    ("held", "release"): "open",
    ("held", "force"): "open",
    ("grace", "force"): "open",
    ("expired", "force"): "open",
}
# Why there is no row: the verb's own word for a standing, else the standing's.
_WHY_NOT = {
    "absent": "unknown-task",
    "open": "not-claimed",
    "held": "held",
    "grace": "expired",
    "expired": "expired",
    "done": "done",
    ("grace", "claim"): "held",
    ("grace", "reopen"): "held",
}


def standing(task: Record | None, at: int, skew: int) -> str:
    """How a task stands at a moment: absent, open, held, grace, expired or done.

    held: the lease runs; grace: it ended less than `skew` milliseconds ago, so that
    nobody may take it over yet; expired: anybody may.
    """
    if task is None:
        return "absent"
    if task["status"] != "claimed":
        return str(task["status"])
    until = timestamps.parse(task["until"])
    if at < until:
        return "held"
    return "grace" if at < until + skew else "expired"


def page_path(task: str) -> str:
    """The file in which a task's line stands."""
    a, b, *_ = digest("sha256", task.encode("ascii"))
    return f"tasks/{a & 63:02x}/{b & 63:02x}.jsonl"


def _lines(content: bytes | None) -> list[bytes]:
    return content.splitlines(keepends=True) if content else []


def _line(value: Record) -> bytes:
    return canonical.encode(value) + b"\n"


def _value(line: bytes) -> Record:
    value: Record = canonical.read(line)
    return value


class State:
    """What the ledger says at one commit, read from its tree as it is asked for."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._files: dict[str, Record | None] = {}
        # A claim of 16 tasks that each wait for 16 looks 272 times, maybe all into one page.
        self._pages: dict[str, list[bytes]] = {}
        self._names: dict[bytes, str] = {}

    def _file(self, path: str) -> Record | None:
        if path not in self._files:
            self._files[path] = self.tree.value(path, _value)
        return self._files[path]

    @property
    def ledger(self) -> Record:
        return self._file("ledger.json") or {}

    def policy(self, key: str) -> int:
        return int(self.ledger["policy"][key])

    @property
    def skew(self) -> int:
        """`max_skew` in milliseconds."""
        return 1000 * self.policy("max_skew")

    def agent(self, name: str) -> Record | None:
        return self._file(f"agents/{name}.json")

    def agents(self) -> list[str]:
        return [name.removesuffix(".json") for name in self.tree.names("agents")]

    def key(self, agent: str, number: int, seq: int) -> Record:
        """The entry of the key with which `agent` may sign the record at `seq` (rule 2)."""
        entry = self.agent(agent)
        if entry and number <= len(entry["keys"]):
            key: Record = entry["keys"][number - 1]
            if key["from"] <= seq and (key["until"] is None or seq <= key["until"]):
                return key
        raise RuleBroken("unknown-key", agent=agent, key=number)

    def is_admin(self, name: str) -> bool:
        entry = self.agent(name)
        if entry is None:
            return False
        return bool(name == self.ledger["owner"] or entry["role"] == "admin")

    def page(self, path: str) -> list[bytes]:
        """The lines of a page of tasks."""
        if path not in self._pages:
            self._pages[path] = _lines(self.tree.get(path))
        return self._pages[path]

    def name_of(self, line: bytes) -> str:
        """The id of the task that a line is about."""
        if line not in self._names:
            self._names[line] = str(_value(line)["task"])
        return self._names[line]

    def index_of(self, lines: list[bytes], name: str) -> int:
        """Where among `lines` the task's line is, or would have to be."""
        low, high = 0, len(lines)
        while low < high:
            middle = (low + high) // 2
            if self.name_of(lines[middle]) < name:
                low = middle + 1
            else:
                high = middle
        return low

    def task(self, name: str) -> Record | None:
        lines = self.page(page_path(name))
        at = self.index_of(lines, name)
        task = _value(lines[at]) if at < len(lines) else None
        return task if task and task["task"] == name else None

    def tasks(self) -> Iterator[Record]:
        """All tasks, page by page."""
        for folder in self.tree.names("tasks"):
            for page in self.tree.names(f"tasks/{folder}"):
                yield from map(_value, _lines(self.tree.get(f"tasks/{folder}/{page}")))

    def unread_pages(self) -> list[str]:
        """The ids of the pages that `tasks` would have to read."""
        return self.tree.missing("tasks")

    def inbox(self, agent: str) -> list[Record]:
        """The messages to `agent` that are not acknowledged, by seq."""
        return [_value(line) for line in _lines(self.tree.get(f"inbox/{agent}.jsonl"))]

    def channel(self, name: str) -> list[Record]:
        """The messages that the channel keeps, by seq."""
        return [_value(line) for line in _lines(self.tree.get(f"channels/{name}.jsonl"))]

    def channels(self) -> list[str]:
        return [name.removesuffix(".jsonl") for name in self.tree.names("channels")]

    def claimable_at(self, task: Record) -> int:
        """The moment from which a claimed task can be taken over."""
        return min(timestamps.parse(task["until"]) + self.skew, timestamps.LATEST)

    def waits_for(self, task: Record | None) -> list[str]:
        """The ids in the task's `after` that are not done."""
        after = task["after"] if task else ()
        found = ((name, self.task(name)) for name in after)
        return [name for name, other in found if not other or other["status"] != "done"]


def apply(state: State, record: Record, seq: int) -> Changes:
    """The files that `record` at `seq` changes: path -> new content, None removes.

    Raises `RuleBroken` if it does not fit the state.
    """
    return _APPLY[record["kind"]](state, record, seq)


def _rev(what: str, current: int, record: Record) -> None:
    if record["rev"] != current + 1:
        raise RuleBroken("stale-rev", what=what, rev=current, got=record["rev"])


def _need_admin(state: State, record: Record, what: str) -> None:
    if not state.is_admin(record["agent"]):
        raise RuleBroken("not-permitted", agent=record["agent"], what=what)


def _need_size(state: State, record: Record, field: str, policy: str) -> None:
    if record[field] is not None:
        size, limit = canonical.size(record[field]), state.policy(policy)
        if size > limit:
            raise RuleBroken("text-too-long", field=field, size=size, limit=limit)


# -- the ledger, its agents and its policy


def _genesis(state: State, r: Record, seq: int) -> Changes:
    return {
        "ledger.json": _line(
            {
                "v": records.VERSION,
                "ledger": r["ledger"],
                "nonce": r["nonce"],
                "owner": r["agent"],
                "policy": r["policy"],
                "policy_rev": 1,
            }
        ),
        f"agents/{r['agent']}.json": _line(
            {"agent": r["agent"], "role": "admin", "rev": 1, "keys": [_key(r, 1, 0)]}
        ),
    }


def _key(r: Record, number: int, first: int) -> Record:
    key = {"id": number, "alg": r["alg"], "fingerprint": r["fingerprint"]}
    return key | {"from": first, "until": None}


def _about_agent(state: State, r: Record) -> Record:
    """The entry that an enroll or revoke changes, after the checks that both share."""
    _need_admin(state, r, f"{r['kind']} agents")
    if r["who"] == state.ledger["owner"] != r["agent"]:
        raise RuleBroken("not-permitted", agent=r["agent"], what="change the owner's keys")
    blank: Record = {"agent": r["who"], "role": "agent", "rev": 0, "keys": []}
    entry = state.agent(r["who"]) or blank
    _rev(f"agent {r['who']}", entry["rev"], r)
    return entry


def _enroll(state: State, r: Record, seq: int) -> Changes:
    entry = _about_agent(state, r)
    if r["who"] == state.ledger["owner"] and r["role"] != "admin":
        raise RuleBroken("not-permitted", agent=r["agent"], what="make the owner less than admin")
    if r["id"] != len(entry["keys"]) + 1 or r["id"] > MAX_KEYS:
        raise RuleBroken("bad-key", id=r["id"], who=r["who"], why="not the next number")
    if not entry["keys"] and len(state.agents()) >= MAX_AGENTS:
        raise RuleBroken("too-many-agents", limit=MAX_AGENTS)
    keys = [*entry["keys"], _key(r, r["id"], seq + 1)]
    changed = entry | {"role": r["role"], "rev": r["rev"], "keys": keys}
    return {f"agents/{r['who']}.json": _line(changed)}


def _revoke(state: State, r: Record, seq: int) -> Changes:
    entry = _about_agent(state, r)
    active = [key["id"] for key in entry["keys"] if key["until"] is None]
    if r["id"] not in active:
        raise RuleBroken("bad-key", id=r["id"], who=r["who"], why="not active")
    if r["who"] == state.ledger["owner"] and len(active) == 1:
        raise RuleBroken("last-key", id=r["id"])
    keys = [key | {"until": seq} if key["id"] == r["id"] else key for key in entry["keys"]]
    return {f"agents/{r['who']}.json": _line(entry | {"rev": r["rev"], "keys": keys})}


def _policy(state: State, r: Record, seq: int) -> Changes:
    _need_admin(state, r, "change the policy")
    _rev("the policy", state.ledger["policy_rev"], r)
    policy = state.ledger["policy"] | r["set"]
    changed = state.ledger | {"policy": policy, "policy_rev": r["rev"]}
    return {"ledger.json": _line(changed)}


# -- tasks


def _move(state: State, r: Record, task: Record | None, name: str, verb: str) -> str:
    """The status after `verb`, or the refusal that people understand."""
    now = standing(task, timestamps.parse(r["at"]), state.skew)
    status = MOVES.get((now, verb))
    if status is not None:
        return status
    why = "task-exists" if verb == "submit" else _WHY_NOT.get((now, verb), _WHY_NOT[now])
    if task is None:
        raise RuleBroken(why, task=name)
    if why == "held" and now == "held" and _same_session(task, r):
        why = "already-yours"
    claimable = timestamps.show(state.claimable_at(task)) if task["until"] else None
    raise RuleBroken(why, **_facts(task), claimable_at=claimable)


def _facts(task: Record) -> dict[str, Any]:
    return {name: task[name] for name in ("task", "agent", "session", "until", "epoch")}


def _same_session(task: Record, r: Record) -> bool:
    return bool(task["agent"] == r["agent"] and task["session"] == r["session"])


def _pages(state: State, changed: list[Record]) -> Changes:
    """The pages with the changed or new lines of tasks in their places."""
    pages: dict[str, list[bytes]] = {}
    grown = {}
    for task in changed:
        path = page_path(task["task"])
        if path not in pages:
            pages[path] = list(state.page(path))
        lines = pages[path]
        at = state.index_of(lines, task["task"])
        if at < len(lines) and state.name_of(lines[at]) == task["task"]:
            lines[at] = _line(task)
        else:
            lines.insert(at, _line(task))
            grown[path] = task["task"]
    contents = {path: b"".join(lines) for path, lines in pages.items()}
    for path, name in grown.items():
        if len(contents[path]) > PAGE_BYTES:
            raise RuleBroken("page-full", task=name)
    return dict(contents)


def _new_task(name: str, seq: int) -> Record:
    return {
        "task": name,
        "status": "open",
        "rev": 0,
        "epoch": 0,
        "agent": None,
        "session": None,
        "claimed_at": None,
        "until": None,
        "priority": 0,
        "meta": {},
        "after": [],
        "first_seq": seq,
        "claim_seq": None,
        "last_seq": seq,
    }


def _submit(state: State, r: Record, seq: int) -> Changes:
    _move(state, r, state.task(r["task"]), r["task"], "submit")
    _rev(r["task"], 0, r)
    for name in r["after"]:
        if state.task(name) is None:
            raise RuleBroken("unknown-task", task=name)
    given = {name: r[name] for name in ("rev", "priority", "meta", "after")}
    return _pages(state, [_new_task(r["task"], seq) | given])


def _lease(state: State, r: Record) -> None:
    at, until = timestamps.parse(r["at"]), timestamps.parse(r["until"])
    limit = state.policy("max_ttl")
    if until <= at:
        raise RuleBroken("bad-lease")
    if until > at + 1000 * limit:
        raise RuleBroken(
            "ttl-above-policy", ttl=timestamps.span(until - at), limit=timestamps.span(1000 * limit)
        )


def _claim(state: State, r: Record, seq: int) -> Changes:
    _lease(state, r)
    _need_size(state, r, "note", "max_text")
    changed = []
    for item in r["tasks"]:
        name = item["task"]
        found = state.task(name)
        status = _move(state, r, found, name, "reopen" if r["reopen"] else "claim")
        waits = state.waits_for(found)
        if waits:
            raise RuleBroken("blocked", task=name, after=" ".join(waits))
        task = found or _new_task(name, seq)
        if item["epoch"] != task["epoch"] + 1:
            raise RuleBroken("wrong-epoch", task=name, epoch=task["epoch"], got=item["epoch"])
        _rev(name, task["rev"], item)
        changed.append(
            task
            | {
                "status": status,
                "rev": item["rev"],
                "epoch": item["epoch"],
                "agent": r["agent"],
                "session": r["session"],
                "claimed_at": r["at"],
                "until": r["until"],
                "claim_seq": seq,
                "last_seq": seq,
            }
        )
    return _pages(state, changed)


def _by_holder(state: State, r: Record, verb: str) -> tuple[Record, str]:
    """The task that r's signer holds, and its status after `verb`."""
    task = state.task(r["task"])
    if task and task["status"] == "claimed" and verb != "force" and not _same_session(task, r):
        raise RuleBroken("not-holder", **_facts(task))
    status = _move(state, r, task, r["task"], verb)
    if task is None:
        raise AssertionError("no move begins at an absent task here")
    if task["epoch"] != r["epoch"]:
        raise RuleBroken("wrong-epoch", task=r["task"], epoch=task["epoch"], got=r["epoch"])
    _rev(r["task"], task["rev"], r)
    return task, status


def _renew(state: State, r: Record, seq: int) -> Changes:
    task, status = _by_holder(state, r, "renew")
    _lease(state, r)
    if timestamps.parse(r["until"]) <= timestamps.parse(task["until"]):
        raise RuleBroken("not-later", task=r["task"], until=task["until"])
    change = {"status": status, "rev": r["rev"], "until": r["until"], "last_seq": seq}
    return _pages(state, [task | change])


def _complete(state: State, r: Record, seq: int) -> Changes:
    task, status = _by_holder(state, r, "complete")
    _need_size(state, r, "result", "max_text")
    change = {"status": status, "rev": r["rev"], "until": None, "last_seq": seq}
    return _pages(state, [task | change])


def _release(state: State, r: Record, seq: int) -> Changes:
    if r["force"]:
        _need_admin(state, r, "release by force")
    task, status = _by_holder(state, r, "force" if r["force"] else "release")
    _need_size(state, r, "reason", "max_text")
    nobody = {"agent": None, "session": None, "claimed_at": None, "until": None}
    change = {"status": status, "rev": r["rev"], "last_seq": seq}
    return _pages(state, [task | nobody | change])


# -- messages


def _send(state: State, r: Record, seq: int) -> Changes:
    _need_size(state, r, "body", "max_body")
    if r["thread"] is not None and r["thread"] > r["base"]["seq"]:
        raise RuleBroken("bad-thread", thread=r["thread"])
    kept = ("agent", "session", "at", "thread", "importance", "body")
    line = _line({name: r[name] for name in kept} | {"seq": seq})
    if r["to"] is not None:
        return _send_to_agent(state, r, line)
    return _send_to_channel(state, r["channel"], line)


def _send_to_agent(state: State, r: Record, line: bytes) -> Changes:
    entry = state.agent(r["to"])
    if entry is None or all(key["until"] is not None for key in entry["keys"]):
        raise RuleBroken("unknown-agent", who=r["to"])
    path = f"inbox/{r['to']}.jsonl"
    lines = _lines(state.tree.get(path))
    sender = b'{"agent":"%s",' % r["agent"].encode("ascii")  # how a line begins
    mine = [old for old in lines if old.startswith(sender)]
    if len(lines) >= state.policy("inbox_messages"):
        raise RuleBroken("mailbox-full", who=r["to"], why=f"{len(lines)} messages")
    if len(mine) >= state.policy("sender_messages"):
        raise RuleBroken("mailbox-full", who=r["to"], why=f"{len(mine)} from {r['agent']}")
    if sum(map(len, mine)) + len(line) > state.policy("sender_bytes"):
        raise RuleBroken("mailbox-full", who=r["to"], why=f"too many bytes from {r['agent']}")
    return {path: b"".join([*lines, line])}


def _send_to_channel(state: State, channel: str, line: bytes) -> Changes:
    path = f"channels/{channel}.jsonl"
    lines = _lines(state.tree.get(path))
    if not lines and len(state.channels()) >= state.policy("channels"):
        raise RuleBroken("too-many-channels", limit=state.policy("channels"))
    lines = [*lines, line][-state.policy("channel_messages") :]
    total, limit = sum(map(len, lines)), state.policy("channel_bytes")
    while total > limit:
        total -= len(lines.pop(0))
    return {path: b"".join(lines)}


def _ack(state: State, r: Record, seq: int) -> Changes:
    path = f"inbox/{r['agent']}.jsonl"
    lines = {_value(line)["seq"]: line for line in _lines(state.tree.get(path))}
    for number in r["messages"]:
        if lines.pop(number, None) is None:
            raise RuleBroken("not-in-inbox", seq=number)
    return {path: b"".join(lines.values()) or None}


_APPLY: dict[str, Callable[[State, Record, int], Changes]] = {
    "genesis": _genesis,
    "enroll": _enroll,
    "revoke": _revoke,
    "policy": _policy,
    "submit": _submit,
    "claim": _claim,
    "renew": _renew,
    "complete": _complete,
    "release": _release,
    "send": _send,
    "ack": _ack,
    "void": lambda state, r, seq: {},
}
