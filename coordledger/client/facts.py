"""Shared facts: small values under a key, which every agent of the ledger reads and sets.

Rules of this file: a fact that has run out by this machine's clock is not shown. What takes whose
place is decided by the format's rules: a record names the revision that it follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client import operations
from coordledger.errors import error
from coordledger.format import timestamps

if TYPE_CHECKING:
    from datetime import timedelta

    from coordledger.client.opening import Connection
    from coordledger.client.reports import Fact
    from coordledger.client.views import Views
    from coordledger.format.records import Record


class Facts:
    """The shared facts of a ledger, as `Ledger.facts` gives them.

    `key` has the form of a task's id. A fact's `rev` is the number of the record that set it: no
    other value of the key ever has the same, not even where it was removed in between. With
    `if_rev` something is written only if the fact is at that revision (0 to set it: there is none);
    else `Lost`: fact-changed. One that ran out counts as there for 2 `max_skew` more.
    """

    def __init__(self, connection: Connection, views: Views) -> None:
        """`Ledger.facts` makes one."""
        self._connection, self._views = connection, views

    def set(
        self, key: str, value: str, *, ttl: timedelta | None = None, if_rev: int | None = None
    ) -> Fact:
        """Set a fact to the text `value`, for `ttl` or until it is removed. Raises `Failed`:
        bad-fact, text-too-long, facts-full; `Lost`.
        """
        operation = operations.set_fact(key, value, ttl=ttl, if_rev=if_rev)
        published = self._connection.write(operation)
        line = published.here.record | {"rev": published.seq}
        return self._views.fact(line, published)

    def get(self, key: str) -> Fact:
        """One fact. Raises `Failed`: unknown-fact, bad-fact."""
        operations.need_fact(key)
        line = self._connection.read().fact(key)
        if line is None or not self._is_live(line):
            raise error("unknown-fact", key=key)
        return self._views.fact(line)

    def list(self, prefix: str = "") -> list[Fact]:
        """The facts whose keys begin with `prefix`, sorted by key."""
        lines = self._views.fact_lines(self._connection.read())
        wanted = [one for one in lines if one["fact"].startswith(prefix) and self._is_live(one)]
        return self._views.facts(sorted(wanted, key=lambda line: str(line["fact"])))

    def remove(self, key: str, *, if_rev: int | None = None) -> None:
        """Remove a fact. Raises `Failed`: unknown-fact, bad-fact; `Lost`."""
        self._connection.write(operations.remove_fact(key, if_rev=if_rev))

    def _is_live(self, line: Record) -> bool:
        until = line["until"]
        return until is None or self._connection.clock() < timestamps.parse(until)
