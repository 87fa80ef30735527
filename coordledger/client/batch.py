"""Operations that go together: collected here, landed by `Ledger.batch`.

Rules: collecting sends nothing and looks at nothing. The names are those of `Ledger`'s methods,
the arguments those of `operations`: one that waits, or only looks, does not go with others.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import coordledger  # what is made of its names is imported when it is made
from coordledger.client import operations
from coordledger.errors import LOST, UNKNOWN, CoordledgerError, error
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from coordledger.client.operations import Operation
    from coordledger.client.publish import Published
    from coordledger.client.reports import Outcome
    from coordledger.client.writer import Writer


class _Form(Value):
    """How an operation is written as a line: the field of its first argument, and the others."""

    make: Callable[..., Operation]
    first: str
    type_of_first: type
    others: dict[str, type]


_DESCRIBED = {
    "priority": int,
    "meta": dict,
    "after": list,
    "title": str,
    "labels": list,
    "parent": str,
    "not_before": str,
}
_FORMS = {
    "submit": _Form(operations.submit, "task", str, _DESCRIBED | {"body": str}),
    "edit": _Form(operations.edit, "task", str, _DESCRIBED),
    "withdraw": _Form(operations.withdraw, "task", str, {"reason": str}),
    "claim": _Form(
        operations.claim, "tasks", list, {"ttl": str, "reopen": bool, "note": str, "paths": list}
    ),
    "renew": _Form(operations.renew, "task", str, {"ttl": str, "note": str}),
    "complete": _Form(operations.complete, "task", str, {"result": str}),
    "release": _Form(
        operations.release, "task", str, {"reason": str, "force": bool, "not_before": str}
    ),
    "handoff": _Form(operations.handoff, "task", str, {"to": str, "note": str}),
    "send": _Form(
        operations.send,
        "body",
        str,
        {"to": str, "channel": str, "thread": int, "importance": str},
    ),
    "set_fact": _Form(operations.set_fact, "key", str, {"value": str, "ttl": str, "if_rev": int}),
    "remove_fact": _Form(operations.remove_fact, "key", str, {"if_rev": int}),
}


class Batch:
    """Operations, and, once they have been landed, an outcome for each.

    The methods are those of `Ledger` of the same names: they take its arguments (`task`, `tasks`,
    `body`, and what else is `given` by name), raise what it raises for arguments that cannot be
    right, and send nothing. `operations` and `outcomes` are lists in the order of the calls.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.outcomes: list[Outcome] = []

    def submit(self, task: str, **given: Any) -> None:
        """As `Ledger.submit`."""
        self.operations.append(operations.submit(task, **given))

    def edit(self, task: str, **given: Any) -> None:
        """As `Ledger.edit`."""
        self.operations.append(operations.edit(task, **given))

    def handoff(self, task: str, **given: Any) -> None:
        """As `Ledger.handoff`."""
        self.operations.append(operations.handoff(task, **given))

    def withdraw(self, task: str, **given: Any) -> None:
        """As `Ledger.withdraw`."""
        self.operations.append(operations.withdraw(task, **given))

    def claim(self, *tasks: str, **given: Any) -> None:
        """As `Ledger.claim`; `wait` and `dry_run` do not go with others."""
        self.operations.append(operations.claim(tasks, **given))

    def renew(self, task: str, **given: Any) -> None:
        """As `Ledger.renew`."""
        self.operations.append(operations.renew(task, **given))

    def complete(self, task: str, **given: Any) -> None:
        """As `Ledger.complete`."""
        self.operations.append(operations.complete(task, **given))

    def release(self, task: str, **given: Any) -> None:
        """As `Ledger.release`."""
        self.operations.append(operations.release(task, **given))

    def send(self, body: str, **given: Any) -> None:
        """As `Ledger.send`."""
        self.operations.append(operations.send(body, **given))

    def set_fact(self, key: str, value: str, **given: Any) -> None:
        """As `Facts.set`, with its `key`, `value` and what else is `given`."""
        self.operations.append(operations.set_fact(key, value, **given))

    def remove_fact(self, key: str, **given: Any) -> None:
        """As `Facts.remove`, with its `key` and what else is `given`."""
        self.operations.append(operations.remove_fact(key, **given))

    def line(
        self,
        text: str,
        duration: Callable[[str], timedelta],
        moment: Callable[[str], datetime] = datetime.fromisoformat,
    ) -> None:
        """An operation as one JSON object: `{"do": "claim", "task": "task-1", "ttl": "30m"}`.

        `text` is the object; `duration` reads a ttl, `moment` a time (by default one as in
        ISO 8601). Raises `Failed`: bad-value, and what the operation itself raises.
        """
        try:
            make, first, others = _read(text, {"ttl": duration, "not_before": moment})
        except (ValueError, TypeError, LookupError, RecursionError) as fault:
            lacks = "it lacks, or has an unknown, " if isinstance(fault, LookupError) else ""
            why = f"not an operation: {lacks}{fault or type(fault).__name__}"
            raise error("bad-value", what=text.strip()[:60], why=why) from None
        self.operations.append(make(first, **others))


def land(batch: Batch, writer: Writer) -> None:
    """Land what was collected, with as few pushes as it takes."""
    ends: list[Published | CoordledgerError | None] = [
        writer.recall(one.stands) if one.stands else None for one in batch.operations
    ]
    wanted = [n for n, end in enumerate(ends) if end is None]
    written = writer.write_all(
        [
            (one.what, one.build, one.choose_again)
            for one in map(batch.operations.__getitem__, wanted)
        ]
    )
    for n, end in zip(wanted, written, strict=True):
        ends[n] = end
    pairs = zip(batch.operations, ends, strict=True)
    batch.outcomes = [_outcome(operation.what, end) for operation, end in pairs if end]


def _outcome(what: str, end: Published | CoordledgerError) -> Outcome:
    if isinstance(end, CoordledgerError) and end.code == "not-later":
        return coordledger.Outcome(what, "kept", None, None, None, message=end.message)
    if isinstance(end, CoordledgerError):
        how = {LOST: "lost", UNKNOWN: "unknown"}.get(end.exit_code, "failed")
        return coordledger.Outcome(
            what, how, None, None, None, end.code, end.message, end.hint, end
        )
    record = end.here.record
    tasks = record.get("tasks", ())
    epoch = tasks[0]["epoch"] if len(tasks) == 1 else record.get("epoch")
    return coordledger.Outcome(what, "landed", end.seq, end.oid, epoch)


def _read(
    text: str, readers: dict[str, Callable[[str], object]]
) -> tuple[Callable[..., Operation], Any, dict[str, Any]]:
    """A function to call, its first argument and the others. Raises ValueError, LookupError, …"""
    import json  # noqa: PLC0415 - claims need none

    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("not an object")  # noqa: TRY004 - all of these are one refusal
    form = _FORMS[fields.pop("do")]
    if type(fields.get("ttl")) is int and fields["ttl"] >= 0:
        fields["ttl"] = str(fields["ttl"])  # `duration` says what a number lacks
    if form.first == "tasks" and "task" in fields and "tasks" not in fields:
        fields["tasks"] = [fields.pop("task")]
    types = form.others | {form.first: form.type_of_first}
    odd = [name for name, value in fields.items() if type(value) is not types.get(name)]
    if odd:
        raise ValueError(f"{odd[0]} has no place in it, or is of another type")
    lists = [value for value in fields.values() if isinstance(value, list)]
    if any(not isinstance(name, str) for names in lists for name in names):
        raise ValueError("a list of something else than texts")
    first = fields.pop(form.first)
    fields |= {name: read(fields[name]) for name, read in readers.items() if name in fields}
    return form.make, first, fields
