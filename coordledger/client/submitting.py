"""Offer a task, see that the one that is there has what was asked for; take an offer back.

Rules of this file: repeating an offer is no error, and changes nothing. A task that is there with
other attributes is not what the caller offered, and is never passed off as that: somebody else may
have been first with the name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordledger.client import operations
from coordledger.errors import Failed, error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection
    from coordledger.client.signer import Fields
    from coordledger.client.views import Views
    from coordledger.format.state import State


def submit(
    connection: Connection,
    views: Views,
    task: str,
    *,
    priority: int,
    meta: Mapping[str, str] | None,
    after: Iterable[str],
) -> Claim:
    """The task, with `created` where it was not there before.

    Raises `Lost`: task-differs, whose data have the `claim` and the `differences`; `Failed`.
    """
    waits = list(after)
    operation = operations.submit(task, priority=priority, meta=meta, after=waits)
    given = {"priority": priority, "meta": dict(meta or {}), "after": sorted(set(waits))}
    try:
        published = connection.write(operation)
    except Failed as fault:
        if fault.code != "task-exists":
            raise
    else:
        return replace(views.claim(published.state, task, published), created=True)
    claim = views.claim(connection.replica.position().state, task)
    differing = differences(claim, given)
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
    return views.withdrawn(before, published)


def differences(claim: Claim, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The attributes of a task that are not as `given`: name -> both values."""
    there = {"priority": claim.priority, "meta": claim.meta, "after": list(claim.after)}
    return {
        name: {"there": there[name], "given": value}
        for name, value in given.items()
        if there[name] != value
    }


def _shown(value: Any) -> str:
    """An attribute in words."""
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in sorted(value.items())) or "none"
    return " ".join(value) or "none" if isinstance(value, list) else str(value)
