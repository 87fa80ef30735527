"""Requests that go together: collected here, landed by `Ledger.batch`.

Rules: collecting sends nothing and looks at nothing. The names are those of `Ledger`'s methods,
the arguments those of `requests`: one that waits, or only looks, does not go with others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.client import operations
from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from coordledger.client.operations import Request
    from coordledger.client.reports import Outcome

# What a line may do: its main field, the request, and the other fields with their types.
_DOES: dict[str, tuple[str, Callable[..., Request], dict[str, type]]] = {
    "submit": ("task", operations.submit, {"priority": int, "meta": dict, "after": list}),
    "claim": ("tasks", operations.claim, {"ttl": str, "reopen": bool, "note": str}),
    "renew": ("task", operations.renew, {"ttl": str}),
    "complete": ("task", operations.complete, {"result": str}),
    "release": ("task", operations.release, {"reason": str, "force": bool}),
    "send": (
        "body",
        operations.send,
        {"to": str, "channel": str, "thread": int, "importance": str},
    ),
}


class Batch:
    """What was asked for, and, when it has been landed, what became of each."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.outcomes: list[Outcome] = []

    def submit(self, task: str, **given: Any) -> None:
        self.requests.append(operations.submit(task, **given))

    def claim(self, *tasks: str, **given: Any) -> None:
        self.requests.append(operations.claim(tasks, **given))

    def renew(self, task: str, **given: Any) -> None:
        self.requests.append(operations.renew(task, **given))

    def complete(self, task: str, **given: Any) -> None:
        self.requests.append(operations.complete(task, **given))

    def release(self, task: str, **given: Any) -> None:
        self.requests.append(operations.release(task, **given))

    def send(self, body: str, **given: Any) -> None:
        self.requests.append(operations.send(body, **given))

    def line(self, text: str, duration: Callable[[str], timedelta]) -> None:
        """A request as one JSON object: `{"do": "claim", "task": "task-1", "ttl": "30m"}`.

        `duration` reads a ttl. Raises `Failed`: bad-value, and what the request itself raises.
        """
        import json  # noqa: PLC0415 - claims need none

        try:
            given = json.loads(text)
            if not isinstance(given, dict):
                raise ValueError("not an object")  # noqa: TRY004 - all of these are one refusal
            main, make, others = _DOES[given.pop("do")]
            if main == "tasks" and "task" in given and "tasks" not in given:
                given["tasks"] = [given.pop("task")]
            types = others | {main: list if main == "tasks" else str}
            odd = [k for k, v in given.items() if k not in types or type(v) is not types[k]]
            if odd:
                raise ValueError(f"{odd[0]} has no place in it, or is of another type")
            lists = [value for value in given.values() if isinstance(value, list)]
            if any(not isinstance(name, str) for names in lists for name in names):
                raise ValueError("a list of something else than texts")
            first = given.pop(main)
            if "ttl" in given:
                given["ttl"] = duration(given["ttl"])
        except (ValueError, TypeError, LookupError, RecursionError) as fault:
            lacks = "it lacks, or has an unknown, " if isinstance(fault, LookupError) else ""
            why = f"not a request: {lacks}{fault or type(fault).__name__}"
            raise error("bad-value", what=text.strip()[:60], why=why) from None
        self.requests.append(make(first, **given))
