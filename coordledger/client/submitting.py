"""Offer a task, see that the one that is there has what was asked for; take an offer back.

Rules of this file: repeating an offer is no error, and changes nothing. A task that is there with
other attributes is not what the caller offered, and is never passed off as that: somebody else may
have been first with the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.client import operations
from coordledger.errors import Failed, error
from coordledger.format.rules.tasks import ATTRIBUTES, new_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection
    from coordledger.client.operations import Operation
    from coordledger.client.signer import Fields
    from coordledger.client.views import Views
    from coordledger.format.state import State


def submit(connection: Connection, views: Views, task: str, operation: Operation) -> Claim:
    """The task, with `created` where it was not there before. `operation` is the offer.

    Raises `Lost`: task-differs, whose data have the `claim` and the `differences`; `Failed`.
    """
    try:
        published = connection.write(operation)
    except Failed as fault:
        if fault.code != "task-exists":
            raise
    else:
        return views.claim(published.state, task, published)._replace(created=True)
    state = connection.replica.position().state
    line = state.task(task) or {}
    _, offered = operation.build(state, connection.clock())
    claim = views.claim(state, task)
    differing = differences(line, {name: offered[name] for name in ATTRIBUTES})
    if differing:
        shown = [
            f"{name} {_shown(values['there'])}, not {_shown(values['given'])}"
            for name, values in differing.items()
        ]
        data = {"claim": claim, "differences": differing}
        raise error("task-differs", task=task, how="; ".join(shown), **data)
    return claim


def withdraw(connection: Connection, views: Views, task: str, reason: str | None) -> Claim:
    """The task as it is afterwards, also where nothing of it is left in the state.

    Raises `Lost`: held, done, withdrawn, …; `Failed`: unknown-task, not-permitted.
    """
    operation = operations.withdraw(task, reason=reason)
    before: dict[str, Any] = {}

    def build(state: State, at: int) -> tuple[str, Fields]:
        before.update(state.task(task) or {})
        return operation.build(state, at)

    published = connection.write(operation._replace(build=build))
    return views.withdrawn(before or new_task(task, published.seq), published)


def differences(line: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of a task that are not as `given`: name -> both values."""
    return {
        name: {"there": line[name], "given": value}
        for name, value in given.items()
        if line[name] != value
    }


def _shown(value: Any) -> str:
    """An attribute in words."""
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in sorted(value.items())) or "none"
    if isinstance(value, list):
        return " ".join(value) or "none"
    return "none" if value is None else str(value)
