"""Push code under a claim: the code's refs and the records that say so, all or nothing.

Rules of this file: git decides what is pushed (`Remote.plan`), the rules and the server whether it
may land. Here it is put together: for each ref that moves one land record, under one claim that
this session holds; the last of them completes the task, if that is asked for.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import coordledger
from coordledger.client import operations
from coordledger.errors import CoordledgerError, error
from coordledger.format.reservations import Area
from coordledger.format.rules.tasks import standing
from coordledger.git import changes
from coordledger.git.changes import Update

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.client.opening import Connection
    from coordledger.client.publish import Published
    from coordledger.client.reports import Landing
    from coordledger.client.views import Views
    from coordledger.format.records import Record
    from coordledger.format.state import State
    from coordledger.git.outcome import Move


def push(
    connection: Connection,
    views: Views,
    refspecs: Sequence[str],
    task: str | None,
    *,
    complete: bool,
    result: str | None,
    require_paths: bool,
) -> Landing:
    """As `Ledger.push`."""
    if result is not None and not complete:
        raise error("bad-value", what="result", why="goes with complete")
    if not refspecs:
        raise error("bad-value", what="REFSPEC", why="one at least")
    state = connection.read()
    if task is not None:
        operations.need_task(task)
    name = _only_claim(connection, state) if task is None else task
    moves = connection.remote.plan(refspecs)
    if not moves:
        return _landed_before(connection, views, name, complete=complete)
    if require_paths:
        _need_own_paths(connection, state, name, moves)
    writer = connection.writer(direct=True)
    last = len(moves) - 1
    wanted = [
        operations.land(name, move, complete=complete and n == last, result=result)
        for n, move in enumerate(moves)
    ]
    published = []
    for outcome in writer.write_all([(one.what, one.build, None) for one in wanted]):
        if isinstance(outcome, CoordledgerError):
            raise outcome
        published.append(outcome)
    if not connection.remote.told:
        _need_moves(connection, name, published)
    return _landing(views, name, published)


def _landing(views: Views, name: str, published: list[Published]) -> Landing:
    moved = tuple(
        coordledger.MovedRef(r["ref"], r["old"], r["new"], one.seq, one.oid)
        for one in published
        for r in (one.here.record,)
    )
    newest = published[-1]
    return coordledger.Landing(views.claim(newest.state, name, newest), moved, newest.resumed)


def _landed_before(connection: Connection, views: Views, name: str, *, complete: bool) -> Landing:
    """The answer to the same command, whose process ended before it gave it.

    Raises `Failed`: nothing-to-land.
    """
    earlier = connection.recall(functools.partial(_is_landing, name, complete))
    if earlier is None:
        raise error("nothing-to-land", task=name)
    _need_moves(connection, name, [earlier])
    return _landing(views, name, [earlier])


def _need_moves(connection: Connection, name: str, published: list[Published]) -> None:
    """Records that were found, and of which the server has not said that their refs moved, too: it
    may have been stopped between the two. Raises `OutcomeUnknown`: not-moved.
    """
    records = {one.here.record["ref"]: one for one in published}
    values = connection.remote.values(list(records))
    for ref, one in records.items():
        new = one.here.record["new"]
        if values.get(ref, "0" * len(new)) != new:
            raise error("not-moved", ref=ref, new=new[:12], seq=one.seq, task=name)


def _is_landing(
    name: str, complete: bool, what: str, record: Record, state: State, at: int
) -> bool:
    line = state.task(name)
    same = record["kind"] == "land" and record["task"] == name and record["complete"] == complete
    return same and line is not None and line["last_seq"] == record["seq"]


def _only_claim(connection: Connection, state: State) -> str:
    """The task that this session holds, if that is one. Raises `Failed`: which-task."""
    me, now = connection.identity(), connection.clock()
    held = [
        line["task"]
        for line in state.tasks_of("agent", me.agent)
        if (line["agent"], line["session"]) == (me.agent, me.session)
        and standing(line, now, state.skew) == "held"
    ]
    if len(held) != 1:
        what = f"{len(held)} tasks: {', '.join(sorted(held)[:5])}" if held else "no task"
        raise error("which-task", why=f"session {me.session} holds {what}")
    return str(held[0])


def _need_own_paths(connection: Connection, state: State, name: str, moves: Sequence[Move]) -> None:
    """What the push changes lies within the paths of the claim. Raises `Failed`: outside-paths."""
    own = [path for line in state.reservations() if line["task"] == name for path in line["paths"]]
    area = Area(own)
    updates = [
        Update(one.new, one.old if one.old.strip("0") else "")
        for one in moves
        if one.new.strip("0")
    ]
    changed = changes.pushed(connection.repository, updates, connection.remote.address.name)
    outside = [path for path in changed if not area.overlaps(path)]
    if outside:
        more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
        raise error("outside-paths", task=name, paths=", ".join(outside[:3]) + more)
