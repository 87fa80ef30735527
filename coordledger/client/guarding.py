"""Which of these paths are reserved by somebody else's live claim?

Rules of this file:
- The local copy answers, as it was verified last: no network, no key, no record is judged. How old
  the copy is stands beside the answer, which is a comfort for who wrote the paths, and no boundary:
  whoever is to be stopped is stopped where records are verified.
- What counts, and what overlaps, is decided by `format.reservations`. A reservation counts until
  `max_skew` after the lease's end, as it does for a claim.
- A path of the machine is asked for by every name that it has in the work tree: as it is written,
  and behind its links. One outside of the work tree is nobody's. What is no file there may have
  been a folder, so what is reserved below it counts.
- Where git folds cases (`core.ignoreCase`), so does the question: there it is one file.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import coordledger
from coordledger.client.claims import time_of
from coordledger.client.copies import state_here
from coordledger.errors import Failed, error
from coordledger.format import timestamps
from coordledger.format.names import is_below
from coordledger.format.reservations import Area, as_folder, folded, of_others
from coordledger.git import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordledger.client.opening import Connection
    from coordledger.client.reports import Guarded, Reserved
    from coordledger.format.records import Record
    from coordledger.git.changes import Update

    Fold = Callable[[str], str]


def guard_staged(connection: Connection, *, any_session: bool = False) -> Guarded:
    """What is staged to be committed. Raises as `guard` does, and `Failed`: git-failed."""
    index = connection.settings.environ.get("GIT_INDEX_FILE")
    names = changes.staged(connection.repository, index)
    return guard_names(connection, _with_names_below(names), any_session=any_session)


def guard_push(
    connection: Connection, updates: list[Update], remote: str | None, *, any_session: bool = False
) -> Guarded:
    """What a push to the remote of that name changes. Raises as `guard_staged` does."""
    names = changes.pushed(connection.repository, updates, remote)
    return guard_names(connection, _with_names_below(names), any_session=any_session)


def _with_names_below(names: list[str]) -> list[tuple[str, str]]:
    """What git names may be a submodule, or take a folder's place: what is below it counts."""
    return [(name, f"{name}/") for name in names]


def guard(
    connection: Connection, paths: Iterable[str | Path], *, any_session: bool = False
) -> Guarded:
    """Paths of the machine; relative ones are seen from where the ledger was opened.

    Raises `Failed`: not-joined; `Integrity`: bad-copy.
    """
    root, base = connection.repository.root, Path(connection.settings.path).absolute()
    given = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    return guard_names(
        connection,
        [(path, name) for path in given if root for name in names_in(root, base, path)],
        any_session=any_session,
    )


def guard_names(
    connection: Connection, names: Iterable[tuple[str, str]], *, any_session: bool = False
) -> Guarded:
    """As `guard`, for paths with their names in the repository. A folder's ends in `/`; "" is the
    whole of it. With `any_session`, what this agent's sessions and delegates have reserved is free.
    """
    now, local = connection.clock(), connection.local
    as_of = min(local.looked_at, now)
    seq, others = _others_here(connection, now)
    me = connection.settings.agent
    if any_session and me:
        others = [one for one in others if one["agent"] != me and not is_below(one["agent"], me)]
    fold = folded if connection.settings.folds_case else str
    return coordledger.Guarded(
        reserved=tuple(_in_the_way(others, [(path, fold(name)) for path, name in names], fold)),
        seq=seq,
        as_of=time_of(timestamps.show(as_of)),
        age=timedelta(milliseconds=now - as_of),
    )


def names_in(root: Path, base: Path, path: str) -> list[str]:
    """The names that a path of the machine has in the work tree at `root`, which is no link;
    none if it is outside.
    """
    if "\0" in path:
        return []
    written = os.path.join(os.path.realpath(base), path)  # noqa: PTH118 - a Path drops `/` and `.`
    folder, last = os.path.split(written.rstrip("/"))
    places = [os.path.normpath(written), os.path.realpath(written)]
    if last not in ("", ".", ".."):
        places.append(f"{os.path.realpath(folder)}/{last}")
    is_file = os.path.lexists(written) and not os.path.isdir(written)  # noqa: PTH112
    names = {_name_in(os.fspath(root), place) for place in places}
    return sorted(
        f"{name}/" if name and not is_file else name for name in names if name is not None
    )


def _name_in(root: str, place: str) -> str | None:
    """The name of a place in the work tree; None if it is outside."""
    if place == root:
        return ""
    above = root.rstrip("/") + "/"
    return place.removeprefix(above) if place.startswith(above) else None


def _in_the_way(others: list[Record], names: list[tuple[str, str]], fold: Fold) -> list[Reserved]:
    """For each path, and each claim that is in its way, the first of the reserved paths."""
    asked = Area(name for _, name in names)
    is_whole = any(not name for _, name in names)
    found: dict[tuple[str, str], Reserved] = {}
    for line in others:
        # A folder of a reserved name would leave no place for a file.
        reserved = [as_folder(fold(path)) for path in line["paths"]]
        if not is_whole and not any(map(asked.overlaps, reserved)):
            continue
        area = Area(reserved)
        for path, name in names:
            if not name or area.overlaps(name):
                one = Area([name])
                first = next(i for i, at in enumerate(reserved) if not name or one.overlaps(at))
                found.setdefault((path, line["task"]), _reserved(path, line, line["paths"][first]))
    return [found[at] for at in sorted(found)]


def _reserved(path: str, line: Record, reserved: str) -> Reserved:
    until = time_of(line["until"])
    return coordledger.Reserved(path, reserved, line["task"], line["agent"], line["session"], until)


def _others_here(connection: Connection, now: int) -> tuple[int, list[Record]]:
    """What others reserve in the verified state as the copy has it, and its seq."""
    trusted, holder = connection.replica.trusted, _holder(connection)
    try:
        return trusted.seq, list(of_others(state_here(connection), holder, now))
    except (KeyError, ValueError):
        why = f"the state of commit {trusted.commit[:12]} is not there"
        raise error("bad-copy", why=why) from None


def _holder(connection: Connection) -> tuple[str, str] | None:
    """Who asks; None where nobody is named, to whom everything is somebody else's."""
    try:
        me = connection.identity()
    except Failed as fault:
        if fault.code != "no-agent":
            raise
        return None
    return me.agent, me.session
