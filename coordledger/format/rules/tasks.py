"""Tasks and their leases: submit, withdraw, claim, renew, complete, release.

Rules: a task moves by one table, `MOVES`; an illegal move is a missing row. What a row cannot
say stands in the function of the kind: who has to be the holder, what has to fit the epoch, the
policy, the tasks that this one waits for.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import canonical, fields, timestamps
from coordledger.format.names import is_identifier
from coordledger.format.rules.kind import Kind, need_authority, need_next_rev, need_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.format.fields import Fields
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

GROUP = 16  # tasks of one claim, and tasks that one task waits for
MAX_PRIORITY = 1_000_000
MAX_META = 16
MAX_META_VALUE = 1024
MAX_META_BYTES = 4096

# (standing, verb) -> status afterwards. A claim with `reopen` is the verb "reopen", a
# release with `force` the verb "force".
MOVES = {
    ("absent", "submit"): "open",
    ("withdrawn", "submit"): "open",
    ("open", "withdraw"): "withdrawn",
    ("expired", "withdraw"): "withdrawn",
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
    "withdrawn": "withdrawn",
    ("grace", "withdraw"): "held",
    ("grace", "claim"): "held",
    ("grace", "reopen"): "held",
}


def standing(task: Record | None, at: int, skew: int) -> str:
    """How a task stands at a moment: absent, open, held, grace, expired, done or withdrawn.

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


def _status_after(state: State, record: Record, task: Record | None, name: str, verb: str) -> str:
    """The status of the task `name` after `verb`, or the refusal that people understand."""
    before = standing(task, timestamps.parse(record["at"]), state.skew)
    status = MOVES.get((before, verb))
    if status is not None:
        return status
    why = "task-exists" if verb == "submit" else _WHY_NOT.get((before, verb), _WHY_NOT[before])
    if task is None:
        raise RuleBroken(why, task=name)
    if why == before == "held" and verb != "withdraw" and _is_holder(task, record):
        why = "already-yours"
    claimable = timestamps.show(state.claimable_at(task)) if task["until"] else None
    raise RuleBroken(why, **_facts(task), claimable_at=claimable)


def _facts(task: Record) -> dict[str, Any]:
    return {name: task[name] for name in ("task", "agent", "session", "until", "epoch")}


def _is_holder(task: Record, record: Record) -> bool:
    return bool(task["agent"] == record["agent"] and task["session"] == record["session"])


_NOBODY: dict[str, Any] = {"agent": None, "session": None, "claimed_at": None, "until": None}
_UNOFFERED: dict[str, Any] = {"by": None, "priority": 0, "meta": {}, "after": []}


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
        **_UNOFFERED,
        "first_seq": seq,
        "claim_seq": None,
        "last_seq": seq,
    }


# -- submit, withdraw


def _meta(value: Any) -> str:
    if not isinstance(value, dict) or len(value) > MAX_META:
        return f"not an object of at most {MAX_META} members"
    for name, text in value.items():
        if not is_identifier(name):
            return "a name that is not an identifier"
        if not isinstance(text, str) or canonical.size(text) > MAX_META_VALUE:
            return f"a value that is not a text of at most {MAX_META_VALUE} bytes"
    size = len(canonical.encode(value))
    return "" if size <= MAX_META_BYTES else f"{size} bytes, more than {MAX_META_BYTES}"


def _submit(state: State, record: Record, seq: int) -> Changes:
    name = record["task"]
    withdrawn = state.task(name)
    status = _status_after(state, record, withdrawn, name, "submit")
    task = withdrawn or _new_task(name, seq)
    need_next_rev(name, task["rev"], record)
    for other in record["after"]:
        waited_for = state.task(other)
        if waited_for is None:
            raise RuleBroken("unknown-task", task=other)
        if waited_for["first_seq"] >= task["first_seq"]:  # two could wait for each other
            raise RuleBroken("after-newer", task=name, after=other)
    given = {field: record[field] for field in ("priority", "meta", "after")}
    given |= {"by": record["agent"], "status": status}
    return state.with_tasks([_changed(task, record, seq, **given)], grows=True)


def _withdraw(state: State, record: Record, seq: int) -> Changes:
    name = record["task"]
    task = state.task(name)
    status = _status_after(state, record, task, name, "withdraw")
    if task is None:
        raise AssertionError("no absent task is withdrawn")
    if record["agent"] != task["by"]:
        need_authority(state, record, task["by"], f"withdraw {name}, which it did not offer")
    need_next_rev(name, task["rev"], record)
    need_size(state, record, "reason", "max_text")
    if task["claim_seq"] is None:
        return state.without_task(name)
    bare = {"status": status} | _NOBODY | _UNOFFERED
    return state.with_tasks([_changed(task, record, seq, **bare)])


def _admit_withdrawal(state: State, record: Record, now: int) -> None:
    _need_claimable(state, record["task"], now)


# -- claim


def _need_lease(state: State, record: Record) -> None:
    """`until` is after the record's own time, and not too long after it."""
    at, until = timestamps.parse(record["at"]), timestamps.parse(record["until"])
    limit = 1000 * state.policy("max_ttl")
    if until <= at:
        raise RuleBroken("bad-lease")
    if until > at + limit:
        ttl = timestamps.span(until - at)
        raise RuleBroken("ttl-above-policy", ttl=ttl, limit=timestamps.span(limit))


def _claimed(state: State, record: Record, item: Record, seq: int) -> Record:
    """The line of one task of a claim, afterwards."""
    name = item["task"]
    found = state.task(name)
    status = _status_after(state, record, found, name, "reopen" if record["reopen"] else "claim")
    waits = state.waits_for(found)
    if waits:
        raise RuleBroken("blocked", task=name, after=" ".join(waits))
    task = found or _new_task(name, seq)
    if item["epoch"] != task["epoch"] + 1:
        raise RuleBroken("wrong-epoch", task=name, epoch=task["epoch"], got=item["epoch"])
    need_next_rev(name, task["rev"], item)
    return task | {
        "status": status,
        "rev": item["rev"],
        "epoch": item["epoch"],
        "agent": record["agent"],
        "session": record["session"],
        "claimed_at": record["at"],
        "until": record["until"],
        "claim_seq": seq,
        "last_seq": seq,
    }


def _claim(state: State, record: Record, seq: int) -> Changes:
    _need_lease(state, record)
    need_size(state, record, "note", "max_text")
    return state.with_tasks([_claimed(state, record, item, seq) for item in record["tasks"]])


def _admit_claim(state: State, record: Record, now: int) -> None:
    """No task is taken over before its lease and the skew are over by the server's clock."""
    for item in record["tasks"]:
        _need_claimable(state, item["task"], now)


def _need_claimable(state: State, name: str, now: int) -> None:
    """The lease on the task and the skew, if there is a lease, are over at `now`."""
    task = state.task(name)
    if task and task["status"] == "claimed" and now < state.claimable_at(task):
        at = timestamps.show(state.claimable_at(task))
        raise RuleBroken("too-early", task=name, claimable_at=at)


def _claim_subject(record: Record) -> str:
    first, *others = record["tasks"]
    what = f"and {len(others)} more" if others else f"epoch {first['epoch']}"
    return f"claim {first['task']} {what} until {record['until']}"


# -- what a holder does, or by force an admin: renew, complete, release


def _held(state: State, record: Record, verb: str) -> tuple[Record, str]:
    """The task that the signer holds, and its status after `verb`."""
    name = record["task"]
    task = state.task(name)
    if task and task["status"] == "claimed" and verb != "force" and not _is_holder(task, record):
        raise RuleBroken("not-holder", **_facts(task))
    status = _status_after(state, record, task, name, verb)
    if task is None:
        raise AssertionError("no move begins at an absent task here")
    if task["epoch"] != record["epoch"]:
        raise RuleBroken("wrong-epoch", task=name, epoch=task["epoch"], got=record["epoch"])
    need_next_rev(name, task["rev"], record)
    return task, status


def _changed(task: Record, record: Record, seq: int, **changes: Any) -> Record:
    return task | {"rev": record["rev"], "last_seq": seq} | changes


def _renew(state: State, record: Record, seq: int) -> Changes:
    task, status = _held(state, record, "renew")
    _need_lease(state, record)
    until = record["until"]
    if timestamps.parse(until) <= timestamps.parse(task["until"]):
        raise RuleBroken("not-later", task=task["task"], until=task["until"])
    return state.with_tasks([_changed(task, record, seq, status=status, until=until)])


def _complete(state: State, record: Record, seq: int) -> Changes:
    task, status = _held(state, record, "complete")
    need_size(state, record, "result", "max_text")
    return state.with_tasks([_changed(task, record, seq, status=status, until=None)])


def _release(state: State, record: Record, seq: int) -> Changes:
    if record["force"]:
        holder = (state.task(record["task"]) or _NOBODY)["agent"]
        need_authority(state, record, holder, "release by force")
    task, status = _held(state, record, "force" if record["force"] else "release")
    need_size(state, record, "reason", "max_text")
    return state.with_tasks([_changed(task, record, seq, status=status, **_NOBODY)])


def _release_subject(record: Record) -> str:
    by_force = " by force" if record["force"] else ""
    return f"release {record['task']} epoch {record['epoch']}{by_force}"


_TEXT = fields.or_null(fields.text)
_HELD: Fields = {"task": fields.task, "rev": fields.positive, "epoch": fields.positive}
_CLAIMED: Fields = {"epoch": fields.positive, "rev": fields.positive, "task": fields.task}

KINDS = {
    "submit": Kind(
        {
            "task": fields.task,
            "rev": fields.positive,
            "priority": fields.integer(-MAX_PRIORITY, MAX_PRIORITY, "a priority"),
            "meta": _meta,
            "after": fields.array(fields.task, 0, GROUP, lambda task: task),
        },
        apply=_submit,
        subject=lambda record: f"submit {record['task']}",
    ),
    "withdraw": Kind(
        {"task": fields.task, "rev": fields.positive, "reason": _TEXT},
        apply=_withdraw,
        subject=lambda record: f"withdraw {record['task']}",
        admit=_admit_withdrawal,
    ),
    "claim": Kind(
        {
            "tasks": fields.array(fields.members(_CLAIMED), 1, GROUP, lambda item: item["task"]),
            "until": fields.time,
            "reopen": fields.boolean,
            "note": _TEXT,
        },
        apply=_claim,
        subject=_claim_subject,
        admit=_admit_claim,
    ),
    "renew": Kind(
        _HELD | {"until": fields.time},
        apply=_renew,
        subject=lambda record: (
            f"renew {record['task']} epoch {record['epoch']} until {record['until']}"
        ),
    ),
    "complete": Kind(
        _HELD | {"result": _TEXT},
        apply=_complete,
        subject=lambda record: f"complete {record['task']} epoch {record['epoch']}",
    ),
    "release": Kind(
        _HELD | {"reason": _TEXT, "force": fields.boolean},
        apply=_release,
        subject=_release_subject,
    ),
}
