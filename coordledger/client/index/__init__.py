"""What the records of a copy are looked up and counted by: an index in SQLite.

Rules: a claim and a hook load none of it; SQLite is imported when the index is first asked. It says
which records fit a question, and how a task stood before a record; what a record says is read from
the record. `rows` computes, `store` keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.index.store import Index
    from coordledger.client.replica import Replica

T = TypeVar("T")


class Asked(NamedTuple):
    """What has to be true of a record: each of these that is given. Times in milliseconds."""

    since: int | None = None
    until: int | None = None
    task: str | None = None
    agent: str | None = None
    kinds: tuple[str, ...] = ()
    after: int | None = None  # the seq of a record


def ask(replica: Replica, question: Callable[[Index], T]) -> T:
    """As `store.ask`. Raises `Failed`: no-sqlite, timeout; `Integrity`: bad-copy."""
    try:
        from coordledger.client.index import store  # noqa: PLC0415 - see above
    except ImportError:  # not every Python was built with it
        raise error("no-sqlite") from None
    return store.ask(replica, question)


def ask_if_there(replica: Replica, question: Callable[[Index], T]) -> T | None:
    """As `store.ask_if_there`: None, where the records have to be walked."""
    try:
        from coordledger.client.index import store  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return store.ask_if_there(replica, question)
