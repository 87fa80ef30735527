"""What a copy is looked up and counted by: two caches in SQLite, of its records and of its tasks.

Rules: a hook loads none of it, and of claims only `--next` on a large ledger; SQLite is imported
when it is first asked.

- `store` (`rows` computes, it keeps) says which records fit a question, and how a task stood before
  a record; what a record says is read from the record.
- `pages` has the lines of all tasks as the state has them, each of which is proved by the verified
  tree before it is shown; and beside each what was made of the verified records that it names.

Neither is believed over the chain, and nothing hangs on either: one that is missing, damaged, of
another chain or in use is made anew, or what it would tell is read from the chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.index.pages import Filed, Lines
    from coordledger.client.index.store import Index
    from coordledger.client.replica import Replica
    from coordledger.format.state import State

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


def ask_if_there(
    replica: Replica, question: Callable[[Index], T], *, make: bool = False
) -> T | None:
    """As `store.ask_if_there`, or with `make` as `store.ask`: None, where the records have to be
    walked.
    """
    try:
        from coordledger.client.index import store  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return store.ask(replica, question) if make else store.ask_if_there(replica, question)


class Basis(NamedTuple):
    """What is kept beside the lines of tasks counts for: a chain, by its ledger, the copy's oldest
    seq and a later record; and the keys at hand, by a digest.
    """

    ledger: str
    first: int
    seq: int
    oid: str
    keys: str


def ask_of_lines(replica: Replica, state: State, question: Callable[[Lines], T]) -> T | None:
    """As `pages.ask`: None, where the pages have to be read."""
    try:
        from coordledger.client.index import pages  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return pages.ask(replica, state, question)


def note_told(replica: Replica, state: State, basis: Basis, told: list[tuple[Filed, Any]]) -> None:
    """As `pages.note`."""
    from coordledger.client.index import pages  # noqa: PLC0415 - what is filed comes from there

    pages.note(replica, state, basis, told)
