"""Claims on tasks: claim, renew, complete, release, handoff.

Rules: a claim is a lease: it ends by itself. What its holder does about it carries its epoch; an
offer that the holder has made ends with the next thing that the holder does.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields, reservations, timestamps
from coordledger.format.rules.kind import Kind, need_admin, need_authority, need_next_rev, need_size
from coordledger.format.rules.tasks import (
    GROUP,
    NOBODY,
    changed,
    facts,
    is_holder,
    need_over,
    new_task,
    status_after,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.fields import Fields
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State


def need_lease(state: State, record: Record, given: Record) -> None:
    """The `until` of `given` is after the record's own time, and not too long after it."""
    at, until = timestamps.parse(record["at"]), timestamps.parse(given["until"])
    limit = 1000 * state.policy("max_ttl")
    if until <= at:
        raise RuleBroken("bad-lease")
    if until > at + limit:
        ttl = timestamps.span(until - at)
        raise RuleBroken("ttl-above-policy", ttl=ttl, limit=timestamps.span(limit))


def is_offered_to(task: Record, agent: str, at: int) -> bool:
    """Whether `agent` may take the task over at a moment."""
    offer = task["offer"]
    return offer is not None and offer["agent"] == agent and at < timestamps.parse(offer["until"])


def _takes(task: Record | None, record: Record) -> bool:
    """Whether the claim takes what it was offered: work that has begun goes on."""
    at = timestamps.parse(record["at"])
    return task is not None and is_offered_to(task, record["agent"], at)


def _need_open_to_all(task: Record, moment: int, skew: int) -> None:
    """Its time has come, and nobody else has been offered it."""
    if task["not_before"] is not None and moment < timestamps.parse(task["not_before"]):
        raise RuleBroken("not-yet", task=task["task"], not_before=task["not_before"])
    if task["offer"] is not None:
        until = timestamps.parse(task["offer"]["until"]) + skew
        if moment < until:
            at = timestamps.show(min(until, timestamps.LATEST))
            raise RuleBroken("offered", **task["offer"] | {"task": task["task"]}, claimable_at=at)


def _need_may_reopen(state: State, record: Record, task: Record) -> None:
    what = f"reopen {task['task']}, which is done"
    if state.policy("reopen") == 2:
        need_admin(state, record, what)
    elif state.policy("reopen") == 1 and record["agent"] != task["by"]:
        need_authority(state, record, task["by"], what)


def _claimed(state: State, record: Record, item: Record, seq: int) -> Record:
    """The line of one task of a claim, afterwards."""
    name = item["task"]
    found = state.task(name)
    takes = _takes(found, record)
    verb = "take" if takes else "reopen" if record["reopen"] else "claim"
    status = status_after(state, record, found, name, verb)
    if found and not takes:
        _need_open_to_all(found, timestamps.parse(record["at"]), state.skew)
        waits = state.waits_for(found)
        if waits:
            raise RuleBroken("blocked", task=name, after=" ".join(waits))
        if found["status"] == "done":
            _need_may_reopen(state, record, found)
    task = found or new_task(name, seq)
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
        "attempts": task["attempts"] + (not takes),
        "offer": None,
        "legacy": None,
        "claim_seq": seq,
        "last_seq": seq,
    }


def _claim(state: State, record: Record, seq: int) -> Changes:
    need_lease(state, record, record)
    need_size(state, record, "note", "max_text")
    lines = [_claimed(state, record, item, seq) for item in record["tasks"]]
    reservations.need_free(state, record, timestamps.parse(record["at"]))
    return state.with_tasks(lines) | reservations.claimed(state, record)


def _admit_claim(state: State, record: Record, now: int) -> None:
    """By the server's clock, too, nothing that a claim has to wait for lies ahead."""
    for item in record["tasks"]:
        task = state.task(item["task"])
        if task and not _takes(task, record):
            need_over(state, item["task"], now)
            _need_open_to_all(task, now, state.skew)
    reservations.need_free(state, record, now)


def _claim_subject(record: Record) -> str:
    first, *others = record["tasks"]
    what = f"and {len(others)} more" if others else f"epoch {first['epoch']}"
    return f"claim {first['task']} {what} until {record['until']}"


# -- what a holder does, or by force an admin: renew, complete, release, handoff


def held(state: State, record: Record, verb: str) -> tuple[Record, str]:
    """The task that the signer holds, and its status after `verb`."""
    name = record["task"]
    task = state.task(name)
    if task and task["status"] == "claimed" and verb != "force" and not is_holder(task, record):
        raise RuleBroken("not-holder", **facts(task))
    status = status_after(state, record, task, name, verb)
    if task is None:
        raise AssertionError("no move begins at an absent task here")
    if task["epoch"] != record["epoch"]:
        raise RuleBroken("wrong-epoch", task=name, epoch=task["epoch"], got=record["epoch"])
    need_next_rev(name, task["rev"], record)
    return task, status


def _renew(state: State, record: Record, seq: int) -> Changes:
    task, status = held(state, record, "renew")
    need_lease(state, record, record)
    need_size(state, record, "note", "max_text")
    until = record["until"]
    if timestamps.parse(until) <= timestamps.parse(task["until"]):
        raise RuleBroken("not-later", task=task["task"], until=task["until"])
    line = changed(task, record, seq, status=status, until=until, offer=None)
    return state.with_tasks([line]) | reservations.renewed(state, task["task"], until)


def _complete(state: State, record: Record, seq: int) -> Changes:
    task, _ = held(state, record, "complete")
    need_size(state, record, "result", "max_text")
    line = changed(task, record, seq, **DONE)
    return state.with_tasks([line]) | reservations.ended(state, [task["task"]])


def _release(state: State, record: Record, seq: int) -> Changes:
    if record["force"]:
        holder = (state.task(record["task"]) or NOBODY)["agent"]
        need_authority(state, record, holder, "release by force")
    task, status = held(state, record, "force" if record["force"] else "release")
    need_size(state, record, "reason", "max_text")
    end = {"status": status, "not_before": record["not_before"], "offer": None} | NOBODY
    end["released"] = {"agent": task["agent"], "seq": seq}
    line = changed(task, record, seq, **end)
    return state.with_tasks([line]) | reservations.ended(state, [task["task"]])


def _release_subject(record: Record) -> str:
    by_force = " by force" if record["force"] else ""
    return f"release {record['task']} epoch {record['epoch']}{by_force}"


def _hand_over(state: State, record: Record, seq: int) -> Changes:
    task, status = held(state, record, "handoff")
    to = record["to"]
    if to == record["agent"]:
        raise RuleBroken("to-oneself", task=task["task"], agent=to)
    if not state.has_active_key(to):
        raise RuleBroken("unknown-agent", who=to)
    need_size(state, record, "note", "max_text")
    offer = {"agent": to, "seq": seq, "until": task["until"]}
    return state.with_tasks([changed(task, record, seq, status=status, offer=offer)])


# What a task becomes that is completed.
DONE = {"status": "done", "until": None, "attempts": 0, "released": None, "offer": None}

_TEXT = fields.or_null(fields.text)
HELD: Fields = {"task": fields.task, "rev": fields.positive, "epoch": fields.positive}
_CLAIMED: Fields = {"epoch": fields.positive, "rev": fields.positive, "task": fields.task}

KINDS = {
    "claim": Kind(
        {
            "tasks": fields.array(fields.members(_CLAIMED), 1, GROUP, lambda item: item["task"]),
            "until": fields.time,
            "reopen": fields.boolean,
            "note": _TEXT,
            "paths": fields.array(
                reservations.path_problem, 0, reservations.MAX_PATHS, lambda path: path
            ),
        },
        apply=_claim,
        subject=_claim_subject,
        admit=_admit_claim,
    ),
    "renew": Kind(
        HELD | {"until": fields.time, "note": _TEXT},
        apply=_renew,
        subject=lambda record: (
            f"renew {record['task']} epoch {record['epoch']} until {record['until']}"
        ),
    ),
    "complete": Kind(
        HELD | {"result": _TEXT},
        apply=_complete,
        subject=lambda record: f"complete {record['task']} epoch {record['epoch']}",
    ),
    "release": Kind(
        HELD
        | {"reason": _TEXT, "force": fields.boolean, "not_before": fields.or_null(fields.time)},
        apply=_release,
        subject=_release_subject,
    ),
    "handoff": Kind(
        HELD | {"to": fields.agent, "note": _TEXT},
        apply=_hand_over,
        subject=lambda record: (
            f"handoff {record['task']} epoch {record['epoch']} to {record['to']}"
        ),
    ),
}
