"""The operations of an agent on a ledger, as records to be.

Rules: arguments are checked when an operation is made (`Failed`: bad-task, bad-ttl, …); the
fields of its record are decided when it is built, for a state and a moment. The format's rules
decide whether the record may be there. No I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from coordledger.errors import RuleBroken, error
from coordledger.format import timestamps
from coordledger.format.fields import is_integer
from coordledger.format.names import is_agent, is_identifier, is_task
from coordledger.format.reservations import MAX_PATHS, path_problem
from coordledger.format.rules.tasks import GROUP, standing
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from coordledger.client.signer import Build, Fields
    from coordledger.client.writer import Stands
    from coordledger.errors import Lost
    from coordledger.format.records import Record
    from coordledger.format.state import State
    from coordledger.git.outcome import Move

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULT_TTL = timedelta(minutes=60)
RESENT = timedelta(minutes=10)  # within which the same message is the same command, called again


class Operation(Value):
    """`what` for people; `build(state, now)` gives the kind and the fields, or raises.

    `choose_again`: of what chooses among several objects, which it does on the newest state; told
    of the server's "lost" of one, it says whether to choose again. `stands`, as `Writer.recall` has
    it: whether a record that has landed already, and was told to nobody, is what this asks for.
    """

    what: str
    build: Build
    ttl: timedelta | None = None
    choose_again: Callable[[Lost], bool] | None = None
    stands: Stands | None = None


def submit(
    task: str,
    *,
    priority: int = 0,
    meta: Mapping[str, str] | None = None,
    after: Iterable[str] = (),
    title: str | None = None,
    labels: Iterable[str] = (),
    parent: str | None = None,
    not_before: datetime | None = None,
    body: str | None = None,
) -> Operation:
    """Offer a task."""
    need_task(task)
    given = attributes(
        priority=priority,
        meta=dict(meta or {}),
        after=after,
        title=title,
        labels=labels,
        parent=parent,
        not_before=not_before,
    )

    def build(state: State, at: int) -> tuple[str, Fields]:
        line = state.task(task)
        rev = line["rev"] + 1 if line and line["status"] == "withdrawn" else 1
        return "submit", {"task": task, "rev": rev, "body": body} | given

    return Operation(f"submit {task}", build)


def edit(task: str, **changes: Any) -> Operation:
    """Change attributes of a task: those of `submit`, but for its body."""
    need_task(task)
    given = attributes(**changes)
    if not given:
        raise error("bad-value", what="edit", why="nothing to change")

    def build(state: State, at: int) -> tuple[str, Fields]:
        return "edit", {"task": task, "rev": _known(state, task)["rev"] + 1, "set": given}

    return Operation(f"edit {task}", build)


def attributes(**given: Any) -> Fields:
    """Attributes of a task as a record has them. Raises `Failed`: bad-task, bad-label, …"""
    if "after" in given:
        given["after"] = _sorted(given["after"], need_task)
    if "labels" in given:
        given["labels"] = _sorted(given["labels"], need_label)
    if "meta" in given:
        given["meta"] = dict(given["meta"])
    if given.get("parent") is not None:
        need_task(given["parent"])
    if given.get("not_before") is not None:
        given["not_before"] = show_moment(given["not_before"])
    return given


def _sorted(values: Iterable[str], need: Callable[[str], None]) -> list[str]:
    """The values, each of which `need` has let pass, as a record has them."""
    values = list(values)
    for value in values:
        need(value)
    return sorted(set(values))


def withdraw(task: str, *, reason: str | None = None) -> Operation:
    """Take back the offer of a task that nobody holds."""
    need_task(task)

    def build(state: State, at: int) -> tuple[str, Fields]:
        rev = _known(state, task)["rev"] + 1
        return "withdraw", {"task": task, "rev": rev, "reason": reason}

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        line = state.task(task)  # none, where nobody had ever claimed it
        same = record["kind"] == "withdraw" and record["task"] == task
        return same and (line is None or line["last_seq"] == record["seq"])

    return Operation(f"withdraw {task}", build, stands=stands)


def claim(
    names: Sequence[str],
    *,
    ttl: timedelta | None = None,
    reopen: bool = False,
    note: str | None = None,
    paths: Iterable[str] = (),
) -> Operation:
    """Claim the tasks, all or none, and reserve the paths."""
    for name in names:
        need_task(name)
    wanted = sorted(set(names))
    if not 1 <= len(wanted) <= GROUP:
        raise error("bad-value", what="TASK", why=f"1 to {GROUP} tasks")
    return claim_of(
        f"claim {' '.join(wanted)}",
        lambda state, at: wanted,
        ttl=ttl,
        reopen=reopen,
        note=note,
        paths=paths,
        names=wanted,
    )


def claim_of(
    what: str,
    choose: Callable[[State, int], Sequence[str]],
    *,
    ttl: timedelta | None,
    reopen: bool,
    note: str | None,
    paths: Iterable[str] = (),
    names: Sequence[str] = (),
) -> Operation:
    """Claim what `choose(state, now)` says. `names` are the tasks, where they are known before."""
    need_ttl(ttl)
    given: Fields = {"reopen": reopen, "note": note, "paths": need_paths(paths)}

    def build(state: State, at: int) -> tuple[str, Fields]:
        items = []
        for name in choose(state, at):
            task = state.task(name) or {"rev": 0, "epoch": 0}
            items.append({"task": name, "rev": task["rev"] + 1, "epoch": task["epoch"] + 1})
        until = _until(state, at, ttl)
        return "claim", {"tasks": items, "until": until} | given

    def stands(earlier: str, record: Record, state: State, at: int) -> bool:
        if record["kind"] != "claim":
            return False
        if earlier != what and [item["task"] for item in record["tasks"]] != list(names):
            return False
        return all(_is_held(state, record, item, at) for item in record["tasks"])

    return Operation(what, build, ttl, stands=stands)


def _is_held(state: State, claim: Record, item: Record, at: int) -> bool:
    """Whether one task of a claim is still held by it."""
    task = state.task(item["task"])
    if task is None or standing(task, at, state.skew) != "held":
        return False
    holder = (task["agent"], task["session"], task["epoch"])
    return holder == (claim["agent"], claim["session"], item["epoch"])


def renew(task: str, *, ttl: timedelta | None = None, note: str | None = None) -> Operation:
    """Extend the lease that this session holds."""
    need_task(task)
    need_ttl(ttl)

    def build(state: State, at: int) -> tuple[str, Fields]:
        return "renew", _held(state, task) | {"until": _until(state, at, ttl), "note": note}

    return Operation(f"renew {task}", build)


def complete(task: str, *, result: str | None = None) -> Operation:
    """Finish a task that this session holds."""
    need_task(task)
    return Operation(
        f"complete {task}", lambda state, at: ("complete", _held(state, task) | {"result": result})
    )


def release(
    task: str,
    *,
    reason: str | None = None,
    force: bool = False,
    not_before: datetime | None = None,
) -> Operation:
    """Give a task back, for others from `not_before` on; by `force` an admin does, with any."""
    need_task(task)
    moment = None if not_before is None else show_moment(not_before)
    more = {"reason": reason, "force": force, "not_before": moment}

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        line = state.task(task)
        same = record["kind"] == "release" and record["task"] == task
        return same and line is not None and line["last_seq"] == record["seq"]

    return Operation(
        f"release {task}",
        lambda state, at: ("release", _held(state, task) | more),
        stands=stands,
    )


def handoff(task: str, *, to: str, note: str | None = None) -> Operation:
    """Offer a task that this session holds to another agent."""
    need_task(task)
    if not is_agent(to):
        raise error("bad-agent", value=to)
    return Operation(
        f"handoff {task}",
        lambda state, at: ("handoff", _held(state, task) | {"to": to, "note": note}),
    )


def land(task: str, move: Move, *, complete: bool, result: str | None) -> Operation:
    """Say that a ref of the code moves under the claim on a task, which may be complete then."""
    end = {"complete": complete, "result": result if complete else None}
    return Operation(
        f"land {move.ref} for {task}",
        lambda state, at: ("land", _held(state, task) | move._asdict() | end),
    )


def send(
    body: str,
    *,
    to: str | None = None,
    channel: str | None = None,
    thread: int | None = None,
    importance: str = "normal",
) -> Operation:
    """Send to one agent or to one channel."""
    if (to is None) == (channel is None):
        raise error("bad-value", what="send", why="either to an agent or to a channel")
    if to is not None and not is_agent(to):
        raise error("bad-agent", value=to)
    if channel is not None:
        need_channel(channel)
    if not body:
        raise error("bad-value", what="BODY", why="it is empty")
    fields: Fields = {"to": to, "channel": channel, "thread": thread}
    fields |= {"importance": importance, "body": body}

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        same = record["kind"] == "send" and fields.items() <= record.items()
        return same and 0 <= at - timestamps.parse(record["at"]) < milliseconds(RESENT)

    return Operation(f"send to {to or channel}", lambda state, at: ("send", fields), stands=stands)


def ack(agent: str, messages: Sequence[int], *, leaves_out: bool = False) -> Operation:
    """Acknowledge messages to `agent`; `leaves_out` those that are in its inbox no more."""

    def build(state: State, at: int) -> tuple[str, Fields]:
        there = {line["seq"] for line in state.inbox(agent)} if leaves_out else set(messages)
        left = [seq for seq in messages if seq in there]
        return "ack", {"messages": left or list(messages)}

    return Operation("ack", build, stands=acks(messages))


def acks(messages: Sequence[int]) -> Stands:
    """Whether a record acknowledges these."""

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        return bool(record["kind"] == "ack" and record["messages"] == list(messages))

    return stands


def drop(channel: str) -> Operation:
    """Drop a channel; its messages stay in the history."""
    need_channel(channel)

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        same = record["kind"] == "drop" and record["channel"] == channel
        return same and channel not in state.channels()

    return Operation(
        f"drop channel {channel}",
        lambda state, at: ("drop", {"channel": channel}),
        stands=stands,
    )


def set_fact(
    key: str, value: str, *, ttl: timedelta | None = None, if_rev: int | None = None
) -> Operation:
    """Set the fact `key`, whatever it says now, or only where it is at the revision `if_rev`."""
    need_ttl(ttl)
    if not isinstance(value, str):
        raise error("bad-value", what="VALUE", why="a text is needed")
    return _fact(f"set fact {key}", key, value, ttl, if_rev)


def remove_fact(key: str, *, if_rev: int | None = None) -> Operation:
    """Remove the fact `key`, as `set_fact` has it."""
    return _fact(f"remove fact {key}", key, None, None, if_rev)


def _fact(
    what: str, key: str, value: str | None, ttl: timedelta | None, if_rev: int | None
) -> Operation:
    need_fact(key)
    if not (if_rev is None or is_integer(if_rev, 1 if value is None else 0)):
        why = "the number of a record" if value is None else "the number of a record, or 0 for none"
        raise error("bad-value", what="a fact's revision", why=why)

    def build(state: State, at: int) -> tuple[str, Fields]:
        line = state.fact(key)
        if value is None and line is None:
            raise error("unknown-fact", key=key)
        was = line["rev"] if line and if_rev is None else if_rev or 0
        until = None if ttl is None else _end(at, ttl)
        return "fact", {"fact": key, "was": was, "value": value, "until": until}

    def stands(earlier: str, record: Record, state: State, at: int) -> bool:
        if record["kind"] != "fact" or (record["fact"], record["value"]) != (key, value):
            return False
        line = state.fact(key)
        same = if_rev in (None, record["was"]) and (ttl is None) == (record["until"] is None)
        return same and (line["rev"] == record["seq"] if line else value is None)

    # Without a condition it is the newest value, whatever others have set meanwhile.
    again = None if if_rev is not None else lambda lost: lost.code == "fact-changed"
    return Operation(what, build, ttl, choose_again=again, stands=stands)


def need_fact(value: str) -> None:
    if not is_task(value):
        raise error("bad-fact", value=ascii(value))


def need_task(value: str) -> None:
    if not is_task(value):
        raise error("bad-task", value=ascii(value))


def need_paths(values: Iterable[str]) -> list[str]:
    """Paths as a claim has them."""
    paths = _sorted(values, need_path)
    if len(paths) > MAX_PATHS:
        raise error("bad-value", what="paths", why=f"at most {MAX_PATHS}")
    return paths


def show_moment(value: datetime) -> str:
    """A moment as records have it. One without a time zone is refused: it is another elsewhere."""
    if value.tzinfo is None:
        raise error("bad-value", what="not_before", why="a moment without a time zone")
    return timestamps.show((value - EPOCH) // timedelta(milliseconds=1))


def need_path(value: str) -> None:
    wrong = path_problem(value)
    if wrong:
        raise error("bad-value", what=f"path {value!a}", why=wrong)


def need_label(value: str) -> None:
    if not is_identifier(value):
        raise error("bad-label", value=ascii(value))


def need_channel(value: str) -> None:
    if not is_identifier(value):
        raise error("bad-channel", value=ascii(value))


def need_ttl(value: timedelta | None) -> None:
    if value is not None and not (isinstance(value, timedelta) and value > timedelta(0)):
        raise error("bad-ttl", value=value)


def seconds(span: timedelta) -> float:
    if not isinstance(span, timedelta):
        raise error("bad-value", what="timeout", why="a timedelta is needed")
    return span.total_seconds()


def milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _until(state: State, at: int, ttl: timedelta | None) -> str:
    """The end of a lease that begins at `at`; by default an hour, or what the policy allows."""
    default = min(milliseconds(DEFAULT_TTL), 1000 * state.policy("max_ttl"))
    return _end(at, timedelta(milliseconds=default) if ttl is None else ttl)


def _end(at: int, ttl: timedelta) -> str:
    until = at + milliseconds(ttl)
    if until > timestamps.LATEST:
        raise error("bad-ttl", value=ttl)
    return timestamps.show(until)


def _held(state: State, name: str) -> Fields:
    """The fields of a holder's record about a task as it stands; the rules judge it."""
    task = _known(state, name)
    return {"task": name, "rev": task["rev"] + 1, "epoch": max(1, task["epoch"])}


def _known(state: State, name: str) -> Record:
    task = state.task(name)
    if task is None:
        raise RuleBroken("unknown-task", task=name)
    return task
