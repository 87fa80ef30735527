"""What a session has to know of its ledger, in at most 150 tokens.

Rules of this file:
- It is made of the local copy, at once, and says how old that is; who asks the remote is
  somebody else (`jobs`).
- It states facts and orders nothing. Where there is nothing to be said of, it is empty.
- What others wrote is quoted and cut; who has signed what nobody has checked is said to be
  UNVERIFIED.
- However many tasks, messages and agents there are, it does not get longer, and counting them takes
  no longer than `COUNTING`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from coordledger.client.choosing import is_free, urgency
from coordledger.client.texts import cut, quoted, safe
from coordledger.client.vouches import NOBODY
from coordledger.integrations.here import span, until
from coordledger.integrations.news import UNVERIFIED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordledger.client.claims import Claim
    from coordledger.client.reports import Message
    from coordledger.format.records import Record
    from coordledger.integrations.here import Here

COUNTING = 0.06  # seconds for counting what is free
_PAGES = 256  # of tasks that are read for it; a ledger of thousands of tasks has more
_CLAIMS, _OFFERS, _SENDERS = 3, 2, 3  # that are named
_NAME, _TITLE = 32, 40  # characters
COMMANDS = "coordledger claim --next | complete TASK | inbox"


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose messages are unread, how many, and who has checked the one that is checked least."""

    agent: str
    messages: int
    checked: str


@dataclass(frozen=True, slots=True)
class Free:
    """How many tasks are free (`more`: at least so many), and the one that comes next."""

    count: int
    more: bool
    task: str | None
    title: str | None
    priority: int


@dataclass(frozen=True, slots=True)
class Prime:
    """What `coordledger prime` says. `looked_at`: the remote's newest, as far as this clone knows.
    `claims` are this session's, `elsewhere` counts those of this agent's other sessions.
    """

    ledger: str
    agent: str
    session: str
    looked_at: datetime
    claims: tuple[Claim, ...]
    elsewhere: int
    offers: tuple[Message, ...]
    unread: tuple[Sender, ...]
    free: Free
    text: str


def prime(here: Here) -> Prime:
    """What this session has to know."""
    mine = here.mine()
    held = [one for one in mine if one.session == here.session]
    offers, unread, free = here.offers(), _senders(here), _free(here)
    lines = [
        _who(here),
        _held(held, len(mine) - len(held), here.now),
        _offered(offers),
        _unread(unread),
        _free_line(free),
        f"Commands: {COMMANDS}",
    ]
    return Prime(
        ledger=here.connection.replica.trusted.ledger,
        agent=here.agent,
        session=here.session,
        looked_at=datetime.now(UTC) - here.age,
        claims=tuple(held),
        elsewhere=len(mine) - len(held),
        offers=tuple(offers),
        unread=tuple(unread),
        free=free,
        text="\n".join(line for line in lines if line),
    )


def _who(here: Here) -> str:
    ledger = cut(here.connection.settings.ledger, _NAME)
    me = f"{here.agent}/{here.session}"
    return f"coordledger: this session is {me}, ledger {ledger} (local copy {span(here.age)} old)."


def _task(task: str) -> str:
    return cut(safe(task), _NAME)


def _some(words: Sequence[str], most: int) -> str:
    more = f", {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _held(held: Sequence[Claim], elsewhere: int, now: int) -> str:
    words = [f"{_task(one.task)} until {until(one, now)}" for one in held]
    beside = f" Other sessions of this agent hold {elsewhere}." if elsewhere else ""
    return f"It holds {_some(words, _CLAIMS) or 'no task'}.{beside}"


def _mark(checked: str) -> str:
    return f" ({UNVERIFIED})" if checked == NOBODY else ""


def _offered(offers: Sequence[Message]) -> str:
    words = [
        f"{_task(one.task or '')} by {cut(one.sender, _NAME)}{_mark(one.checked)}" for one in offers
    ]
    return f"Offered to this agent: {_some(words, _OFFERS)}." if words else ""


def _unread(senders: Sequence[Sender]) -> str:
    words = [f"{cut(one.agent, _NAME)} {one.messages}{_mark(one.checked)}" for one in senders]
    return f"Unread messages from: {_some(words, _SENDERS)}." if words else "No unread messages."


def _senders(here: Here) -> list[Sender]:
    """By how many messages each has sent."""
    found = dict[str, Sender]()
    for one in here.mail():
        known = found.get(one.sender, Sender(one.sender, 0, one.checked))
        checked = NOBODY if one.checked == NOBODY else known.checked
        found[one.sender] = Sender(one.sender, known.messages + 1, checked)
    return sorted(found.values(), key=lambda sender: (-sender.messages, sender.agent))


def _free_line(free: Free) -> str:
    if free.task is None:
        return "" if free.more else "No free tasks."
    title = f" {quoted(free.title, _TITLE)}" if free.title else ""
    more = "at least " if free.more else ""
    return f"Free tasks: {more}{free.count}; first {_task(free.task)}{title}."


def _free(here: Here) -> Free:
    state, at, count, best = here.state, here.now, 0, None
    for task in _lines(here, time.monotonic() + COUNTING):
        if task is None:
            break
        if is_free(state, task, at):
            count += 1
            best = task if best is None else min(best, task, key=urgency)
    else:
        return _free_of(count, best, more=False)
    return _free_of(count, best, more=True)


def _free_of(count: int, best: Record | None, *, more: bool) -> Free:
    if best is None:
        return Free(count, more, None, None, 0)
    return Free(count, more, best["task"], best["title"], best["priority"])


def _lines(here: Here, end: float) -> Iterator[Record | None]:
    """All tasks; None and no more, where that would take too long."""
    pages = here.state.unread_pages()
    if len(pages) > _PAGES:
        yield None
        return
    here.connection.local.repository.read_ahead(pages)
    for task in here.state.tasks():
        yield task if time.monotonic() < end else None
