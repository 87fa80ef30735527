"""The tasks of a state, as lines: all, those that somebody has, those that may be claimed.

Rules of this file: of a large ledger its index of lines answers (`index.pages`); of a small one,
and where there is none, the pages are read. Both give the same lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from coordledger import client
from coordledger.client.choosing import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordledger.client.index.pages import Lines
    from coordledger.client.replica import Replica
    from coordledger.format.records import Record
    from coordledger.format.state import State

T = TypeVar("T")

_LARGE = 1024  # pages of tasks: fewer are read sooner than SQLite is opened
_LOOKED_AT = 4  # folders of pages, by which the others are estimated: tasks are spread evenly


def ask(replica: Replica, state: State, question: Callable[[Lines], T]) -> T | None:
    """As `pages.ask`, of a large ledger; else None: the pages have to be read."""
    folders = list(state.task_folders())
    some = sum(len(state.task_pages(folder)) for folder in folders[:_LOOKED_AT])
    if some * len(folders) < _LARGE * _LOOKED_AT:
        return None
    return client.index.ask_of_lines(replica, state, question)


def of_all(replica: Replica, state: State) -> Iterator[Record]:
    """All tasks."""
    replica.local.repository.read_ahead(state.unread_pages())
    return state.tasks()


def of_busy(replica: Replica, state: State) -> list[Record]:
    """The tasks that are claimed, or offered to somebody."""
    found = ask(replica, state, lambda lines: lines.busy())
    if found is not None:
        return [one.task for one in found]
    replica.local.repository.read_ahead(state.unread_pages())
    return list(state.busy_tasks())


def claimable(replica: Replica, state: State, agent: str | None) -> Iterator[Record]:
    """The tasks that may be claimed by and by, the most urgent first; what this agent has given
    back itself comes after all others.
    """
    found = ask(replica, state, lambda lines: lines.claimable(agent))
    if found is not None:
        return (one.task for one in found)
    return iter(in_order(of_all(replica, state), agent))
