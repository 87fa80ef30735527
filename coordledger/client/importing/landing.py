"""Bring a file from another system into the ledger: read it, plan all of it, write what is new.

Rules: the whole plan is made before the first record is written, and is the same in a dry run.
Written are an admin's own records, in lots, each with the whole timeout. What an earlier run has
brought is found in the verified records, by its place there, and left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import coordledger  # what is made of its names is imported when it is made
from coordledger.client import batch as batches
from coordledger.client import scan
from coordledger.client.importing import beads, exported, github, gptme, sources
from coordledger.client.importing.fitting import CONFLICT, FAILED, IMPORTED, NEW, Ground, fit
from coordledger.client.importing.macs import Secrets
from coordledger.client.operations import Operation
from coordledger.errors import error
from coordledger.format import timestamps
from coordledger.format.names import is_agent, is_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coordledger.client.importing.fitting import Plan
    from coordledger.client.importing.rows import Row
    from coordledger.client.opening import Connection
    from coordledger.client.reports import Imported, Outcome
    from coordledger.client.signer import Fields
    from coordledger.format.records import Record
    from coordledger.format.state import State

FORMATS = (gptme.NAME, beads.NAME, github.NAME, exported.NAME)
_LOT = 1000  # records that are written with one timeout
_MAX_SOURCE = 64


def bring(
    connection: Connection,
    form: str,
    file: Path,
    *,
    agents: Mapping[str, str],
    secrets: Path | None,
    source: str | None,
    repository: str | None,
    dry_run: bool,
    before: Callable[[Imported], None] | None,
) -> Imported:
    """What came, or would come, of each row of `file`. Raises `Failed`: bad-import, bad-value, …"""
    name = form if source is None else source
    if not 1 <= len(name) <= _MAX_SOURCE or not name.isascii() or not name.isprintable():
        why = f"1 to {_MAX_SOURCE} printable ASCII characters"
        raise error("bad-value", what="a source's name", why=why)
    mapped = [(pattern, _agent(agent)) for pattern, agent in agents.items()]
    old = Secrets(connection.settings.environ, secrets)
    rows = _read(form, file, old, repository, connection.clock())
    state = connection.read()
    if not state.is_admin(connection.settings.need_agent):
        agent = connection.settings.need_agent
        raise error("not-permitted", agent=agent, what="import tasks: it takes an admin")
    if connection.replica.trusted.first > 0:
        why = "this copy is shallow, and what came before may lie below it: join without --depth"
        raise error("bad-value", what="import", why=why)
    plans = fit(rows, _ground(connection, state), name, mapped)
    if not dry_run:
        if before is not None:
            before(coordledger.Imported(form, name, dry_run, tuple(map(_told, plans))))
        _write(connection, [plan for plan in plans if plan.outcome == NEW])
    return coordledger.Imported(form, name, dry_run, tuple(map(_told, plans)))


def _agent(given: str) -> str:
    """An agent; the session that may stand behind it is no part of an offer."""
    agent, slash, session = given.partition("/")
    if not is_agent(agent) or (slash and not is_identifier(session)):
        raise error("bad-agent", value=ascii(given))
    return agent


def _read(form: str, file: Path, secrets: Secrets, repository: str | None, now: int) -> list[Row]:
    if form == gptme.NAME:
        return gptme.read(file, secrets, now)
    if form not in FORMATS:
        raise error("bad-value", what="a format", why=f"one of {', '.join(FORMATS)}")
    content = sources.read(file)
    if form == beads.NAME:
        return beads.read(content)
    if form == github.NAME:
        return github.read(content, file, repository)
    return exported.read(content, now)


def _ground(connection: Connection, state: State) -> Ground:
    earlier: dict[tuple[str, str, str], Record] = {}
    for commit in scan.newest_first(connection.replica, ("import", "archive")):
        record, legacy = commit.record, commit.record["legacy"]
        earlier.setdefault(
            (record["kind"], legacy["source"], legacy["id"]), record | {"seq": commit.seq}
        )
    return Ground(
        policy=state.ledger["policy"],
        is_active=state.has_active_key,
        task=state.task,
        fact=state.fact,
        earlier=earlier,
        now=connection.clock(),
    )


def _write(connection: Connection, plans: list[Plan]) -> None:
    for start in range(0, len(plans), _LOT):
        connection.replica.progress("importing", start, len(plans))
        lot = plans[start : start + _LOT]
        batch = batches.Batch()
        batch.operations = [Operation(f"import {plan.name}", _Build(plan)) for plan in lot]
        connection.begin()
        batches.land(batch, connection.writer())
        for plan, outcome in zip(lot, batch.outcomes, strict=True):
            _conclude(plan, outcome)
    if plans:
        connection.replica.progress("importing", len(plans), len(plans))


def _conclude(plan: Plan, outcome: Outcome) -> None:
    plan.seq = outcome.seq
    if outcome.landed:
        plan.outcome = IMPORTED
    else:
        plan.end(CONFLICT if outcome.code == "task-exists" else FAILED, outcome.message)


class _Build:
    """The record of one plan, for the state and the moment that it is written for."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, state: State, at: int) -> tuple[str, Fields]:
        plan = self._plan
        if plan.kind == "message":
            return "archive", plan.fields
        if plan.kind == "fact":
            line = state.fact(str(plan.name))
            return "fact", plan.fields | {"was": line["rev"] if line else 0}
        return "import", plan.fields | {"rev": 1, "offer": self._offer(state, at)}

    def _offer(self, state: State, at: int) -> dict[str, Any] | None:
        plan = self._plan
        if plan.holder is None or plan.until is None or plan.until <= at:
            return None
        until = min(plan.until, at + 1000 * state.policy("max_ttl"))
        return {"agent": plan.holder, "until": timestamps.show(until)}


def _told(plan: Plan) -> coordledger.ImportedRow:
    legacy = plan.fields.get("legacy")
    return coordledger.ImportedRow(
        table=plan.origin.table,
        id=plan.origin.id,
        kind=None if plan.kind == "none" else plan.kind,
        name=plan.name,
        outcome=plan.outcome,
        mac=legacy["mac"] if legacy else None,
        offered_to=plan.holder,
        seq=plan.seq,
        notes=tuple(plan.notes),
    )
