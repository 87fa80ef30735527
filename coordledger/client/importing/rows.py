"""What is read from another system, before anything is known of the ledger that it goes to.

Rules: texts are as they stand there, of any size; names are those of that system. A row says in
`notes` what its reader had to leave behind. A reader raises only where it can read nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from coordledger.format.rules.imports import MISSING


class Origin(NamedTuple):
    """Where a row stands: a table, or a kind of thing, and its key there."""

    table: str
    id: str


@dataclass(slots=True)
class Legacy:
    """Who has held, done or sent it there, and when (milliseconds); `until` and `tag` verbatim."""

    agent: str | None = None
    at: int | None = None
    until: str | None = None
    tag: str | None = None
    mac: str = MISSING


@dataclass(slots=True)
class TaskRow:
    """A task. `holder` has a lease on it there that ends at the moment `until`.

    `sections` are texts for its body, each under its heading. `is_dead`: it was tried often enough.
    """

    origin: Origin
    name: str
    legacy: Legacy
    status: str = "open"
    epoch: int = 0
    attempts: int = 0
    priority: int = 0
    meta: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    title: str | None = None
    labels: list[str] = field(default_factory=list)
    parent: str | None = None
    not_before: int | None = None
    body: str | None = None
    result: str | None = None
    holder: str | None = None
    until: int | None = None
    is_dead: bool = False
    sections: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class MessageRow:
    """A message, `to` somebody or to everybody on a `channel`."""

    origin: Origin
    to: str | None
    channel: str | None
    body: str
    legacy: Legacy
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class FactRow:
    """A shared value, until a moment or for good."""

    origin: Origin
    key: str
    value: str
    until: int | None
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Unfit:
    """A row that cannot come, and why."""

    origin: Origin
    why: str


Row = TaskRow | MessageRow | FactRow | Unfit
