"""Lists of tasks.

Rules of this file:
- Of a large ledger, `index.pages` says which tasks a list has and in which order; each line that is
  shown is proved there to be the state's. What the line does not say comes from the records that it
  names (`Told`). It was kept beside the line once those had been verified, and is read from there
  for as long as chain and keys are the same ones; who has checked a record is found out each time.
- What an import's records have told is not kept: it is read from them.
- Of a small ledger, and where there is no index, pages and records are read. Both ways give the
  same list.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import coordledger  # what is made of its names is imported when it is made
from coordledger import client
from coordledger.client import lines
from coordledger.client.choosing import Wanted, status_of, urgency
from coordledger.client.replica import keys_at_hand
from coordledger.client.views import Said, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coordledger.client.claims import Claim
    from coordledger.client.index import Basis
    from coordledger.client.index.pages import Filed, Lines
    from coordledger.client.replica import Replica
    from coordledger.client.reports import Listing
    from coordledger.client.views import Views
    from coordledger.format.records import Record
    from coordledger.format.state import State

_LOT = 500  # tasks whose records are read together


class _Listed(NamedTuple):
    """A task's line, where it is filed, and what its records have told, if that is known."""

    task: Record
    filed: Filed | None = None
    told: Told | None = None


def listing(
    views: Views,
    replica: Replica,
    state: State,
    wanted: Wanted,
    limit: int | None,
    checked: str | None,
    at: int,
) -> Listing:
    """The first `limit` of the tasks that are `wanted` and were `checked` by that one, as they
    stand at a moment: by priority, then by age, ended ones last.
    """
    first = limit if checked is None else None
    tasks, counts = _chosen(replica, state, wanted, first, at)
    with replica.local.held_head():
        claims = list(_claims(views, replica, state, tasks, at))
    if checked is None:
        return coordledger.Listing(tuple(claims), counts)
    found = [claim for claim in claims if claim.checked == checked]
    return coordledger.Listing(tuple(found[:limit]), dict(Counter(claim.status for claim in found)))


def _chosen(
    replica: Replica, state: State, wanted: Wanted, limit: int | None, at: int
) -> tuple[list[_Listed], dict[str, int]]:
    """The first `limit` of the wanted tasks, and how many there are of each status."""
    statuses, agent = wanted.statuses, wanted.agent
    by_columns = wanted == Wanted(statuses, agent, wanted.labels) and not wanted.labels

    def question(index: Lines) -> tuple[list[Filed], dict[str, int], bool]:
        rows = index.listed(at, statuses, agent, limit if by_columns else None)
        return rows, index.counts(at, statuses, agent), index.has_facts_for(_basis(replica))

    found = lines.ask(replica, state, question)
    if found is None:
        every = [_Listed(task) for task in lines.of_all(replica, state)]
    else:
        rows, counts, has_facts = found
        every = [_Listed(one.task, one, _recalled(one) if has_facts else None) for one in rows]
        if by_columns:
            return every, counts
    fitting = [one for one in every if wanted.fits(state, one.task, at)]
    if found is None:
        fitting.sort(
            key=lambda one: (one.task["status"] in ("done", "withdrawn"), urgency(one.task))
        )
    counted = Counter(status_of(one.task, at, state.skew) for one in fitting)
    return fitting[:limit], dict(counted)


def _claims(
    views: Views, replica: Replica, state: State, tasks: list[_Listed], at: int
) -> Iterator[Claim]:
    fresh = []
    for start in range(0, len(tasks), _LOT):
        lot = tasks[start : start + _LOT]
        if unread := [one.task for one in lot if one.told is None]:
            views.read_ahead(unread)
        for task, filed, known in lot:
            told = known or views.told_of(task)
            if filed and known is None and told.legacy is None:
                fresh.append((filed, told[:-1]))
            yield views.shown(state, task, told, at)
    if fresh:
        client.index.note_told(replica, state, _basis(replica), fresh)


def _basis(replica: Replica) -> Basis:
    trusted, keys = replica.trusted, keys_at_hand(replica)
    return client.index.Basis(trusted.ledger, trusted.first, trusted.seq, trusted.commit, keys)


def _recalled(one: Filed) -> Told | None:
    facts = one.told
    if facts is None:
        return None
    said: list[Any] = [*facts[:-1], Said(*facts[-1]) if facts[-1] else None]
    return Told._make([*said, None])
