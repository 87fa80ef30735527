"""Tasks: submit, edit, withdraw. How a task stands, and by which moves it changes.

Rules: a task moves by one table, `MOVES`, also by the records about a claim on it (`claims`); an
illegal move is a missing row. What a row cannot say stands in the function of the kind: who may do
it, what has to fit the policy, the tasks that this one waits for.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import canonical, fields, timestamps
from coordledger.format.names import is_identifier
from coordledger.format.reservations import ended
from coordledger.format.rules.kind import Kind, need_authority, need_next_rev, need_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.format.fields import Fields
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

GROUP = 16  # tasks of one claim, tasks that one task waits for, and its labels
MAX_PRIORITY = 1_000_000
MAX_META = 16
MAX_META_VALUE = 1024
MAX_META_BYTES = 4096
MAX_TITLE = 256

# (standing, verb) -> status afterwards. A claim with `reopen` is the verb "reopen", one that takes
# an offer "take", a release with `force` the verb "force", an import of what is done "import-done".
MOVES = {
    ("absent", "submit"): "open",
    ("absent", "import"): "open",
    ("absent", "import-done"): "done",
    ("withdrawn", "submit"): "open",
    ("open", "edit"): "open",
    ("held", "edit"): "claimed",
    ("grace", "edit"): "claimed",
    ("expired", "edit"): "claimed",
    ("done", "edit"): "done",
    ("open", "withdraw"): "withdrawn",
    ("expired", "withdraw"): "withdrawn",
    ("absent", "claim"): "claimed",
    ("open", "claim"): "claimed",
    ("expired", "claim"): "claimed",
    ("absent", "reopen"): "claimed",
    ("open", "reopen"): "claimed",
    ("expired", "reopen"): "claimed",
    ("done", "reopen"): "claimed",
    ("open", "take"): "claimed",
    ("held", "take"): "claimed",
    ("held", "renew"): "claimed",
    ("held", "complete"): "done",
    ("held", "release"): "open",
    ("held", "handoff"): "claimed",
    ("held", "land"): "claimed",
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


def status_after(state: State, record: Record, task: Record | None, name: str, verb: str) -> str:
    """The status of the task `name` after `verb`, or the refusal that people understand."""
    before = standing(task, timestamps.parse(record["at"]), state.skew)
    status = MOVES.get((before, verb))
    if status is not None:
        return status
    brings = verb in ("submit", "import", "import-done")
    why = "task-exists" if brings else _WHY_NOT.get((before, verb), _WHY_NOT[before])
    if task is None:
        raise RuleBroken(why, task=name)
    if why == before == "held" and verb != "withdraw" and is_holder(task, record):
        why = "already-yours"
    claimable = timestamps.show(state.claimable_at(task)) if task["until"] else None
    raise RuleBroken(why, **facts(task), claimable_at=claimable)


def facts(task: Record) -> dict[str, Any]:
    """What a refusal says of a task."""
    return {name: task[name] for name in ("task", "agent", "session", "until", "epoch")}


def is_holder(task: Record, record: Record) -> bool:
    return bool(task["agent"] == record["agent"] and task["session"] == record["session"])


def need_over(state: State, name: str, now: int) -> None:
    """The lease on the task and the skew, if there is a lease, are over at `now`."""
    task = state.task(name)
    if task and task["status"] == "claimed" and now < state.claimable_at(task):
        at = timestamps.show(state.claimable_at(task))
        raise RuleBroken("too-early", task=name, claimable_at=at)


NOBODY: dict[str, Any] = {"agent": None, "session": None, "claimed_at": None, "until": None}
UNSUBMITTED: dict[str, Any] = {
    "by": None,
    "priority": 0,
    "meta": {},
    "after": [],
    "title": None,
    "labels": [],
    "parent": None,
    "not_before": None,
    "attempts": 0,
    "released": None,
    "offer": None,
    "legacy": None,
    "submit_seq": None,
}


def new_task(name: str, seq: int) -> Record:
    return {
        "task": name,
        "status": "open",
        "rev": 0,
        "epoch": 0,
        **NOBODY,
        **UNSUBMITTED,
        "first_seq": seq,
        "claim_seq": None,
        "last_seq": seq,
    }


def changed(task: Record, record: Record, seq: int, **changes: Any) -> Record:
    return task | {"rev": record["rev"], "last_seq": seq} | changes


# -- the attributes of a task


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


def _title(value: Any) -> str:
    good = value is None or (isinstance(value, str) and canonical.size(value) <= MAX_TITLE)
    return "" if good else f"neither null nor a text of at most {MAX_TITLE} bytes"


ATTRIBUTES: Fields = {
    "priority": fields.integer(-MAX_PRIORITY, MAX_PRIORITY, "a priority"),
    "meta": _meta,
    "after": fields.array(fields.task, 0, GROUP, lambda task: task),
    "title": _title,
    "labels": fields.array(fields.identifier, 0, GROUP, lambda label: label),
    "parent": fields.or_null(fields.task),
    "not_before": fields.or_null(fields.time),
}


def _set(value: Any) -> str:
    if not isinstance(value, dict) or not value or not value.keys() <= ATTRIBUTES.keys():
        return "not an object with attributes of a task, and nothing else"
    for name, given in value.items():
        wrong = ATTRIBUTES[name](given)
        if wrong:
            return f"{name}: {wrong}"
    return ""


def need_earlier(state: State, task: Record, given: Record) -> None:
    """What a task waits for and is a part of was there before it, so that there is no circle."""
    for other in given.get("after", ()):
        if _known(state, other)["first_seq"] >= task["first_seq"]:
            raise RuleBroken("after-newer", task=task["task"], after=other)
    parent = given.get("parent")
    if parent is not None and _known(state, parent)["first_seq"] >= task["first_seq"]:
        raise RuleBroken("parent-newer", task=task["task"], parent=parent)


def _known(state: State, name: str) -> Record:
    task = state.task(name)
    if task is None:
        raise RuleBroken("unknown-task", task=name)
    return task


# -- submit, edit, withdraw


def _submit(state: State, record: Record, seq: int) -> Changes:
    name = record["task"]
    withdrawn = state.task(name)
    status = status_after(state, record, withdrawn, name, "submit")
    task = withdrawn or new_task(name, seq)
    need_next_rev(name, task["rev"], record)
    need_size(state, record, "body", "max_body")
    given = {field: record[field] for field in ATTRIBUTES}
    need_earlier(state, task, given)
    given |= {"by": record["agent"], "submit_seq": seq, "status": status}
    return state.with_tasks([changed(task, record, seq, **given)], grows=True)


def _edit(state: State, record: Record, seq: int) -> Changes:
    name = record["task"]
    status = status_after(state, record, state.task(name), name, "edit")
    task = _known(state, name)
    held = standing(task, timestamps.parse(record["at"]), state.skew) == "held"
    if record["agent"] != task["by"] and not (held and is_holder(task, record)):
        what = f"edit {name}, which it neither offered nor holds"
        need_authority(state, record, task["by"], what)
    need_next_rev(name, task["rev"], record)
    need_earlier(state, task, record["set"])
    line = changed(task, record, seq, status=status, **record["set"])
    return state.with_tasks([line], grows=True)


def _withdraw(state: State, record: Record, seq: int) -> Changes:
    name = record["task"]
    status = status_after(state, record, state.task(name), name, "withdraw")
    task = _known(state, name)
    if record["agent"] != task["by"]:
        need_authority(state, record, task["by"], f"withdraw {name}, which it did not offer")
    need_next_rev(name, task["rev"], record)
    need_size(state, record, "reason", "max_text")
    if task["epoch"] == 0:
        return state.without_task(name)
    bare = {"status": status} | NOBODY | UNSUBMITTED
    return state.with_tasks([changed(task, record, seq, **bare)]) | ended(state, [name])


def _admit_withdrawal(state: State, record: Record, now: int) -> None:
    need_over(state, record["task"], now)


_TASK: Fields = {"task": fields.task, "rev": fields.positive}

KINDS = {
    "submit": Kind(
        {**_TASK, **ATTRIBUTES, "body": fields.or_null(fields.text)},
        apply=_submit,
        subject=lambda record: f"submit {record['task']}",
    ),
    "edit": Kind(
        {**_TASK, "set": _set},
        apply=_edit,
        subject=lambda record: f"edit {record['task']}",
    ),
    "withdraw": Kind(
        {**_TASK, "reason": fields.or_null(fields.text)},
        apply=_withdraw,
        subject=lambda record: f"withdraw {record['task']}",
        admit=_admit_withdrawal,
    ),
}
