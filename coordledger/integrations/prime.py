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

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from coordledger.client.choosing import is_free, urgency
from coordledger.client.scan import newest_first
from coordledger.client.texts import cut, quoted, word
from coordledger.client.vouches import NOBODY
from coordledger.errors import RuleBroken
from coordledger.integrations.here import span, until
from coordledger.integrations.news import UNVERIFIED
from coordledger.server.fence import read_fences
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from coordledger.client.claims import Claim
    from coordledger.client.reports import Message
    from coordledger.format.records import Record
    from coordledger.integrations.here import Here

COUNTING = 0.06  # seconds for counting what is free
_MAIN = "refs/heads/main"
_PAGES = 256  # of tasks that are read for it; a ledger of thousands of tasks has more
MOST = 150  # tokens
COMMANDS = "coordledger claim --next | complete TASK | inbox"
_LOOKED_AT = 64  # records, for one that has landed code
# Words of a single token, as far as they are used here.
_PLAIN = re.findall(
    "[A-Za-z]+",
    "this session is ledger local copy min s h d old It holds no task until Other sessions of agent"
    " hold Offered to by Unread No unread messages from Free free tasks at least first more"
    " Commands claim next complete TASK inbox push origin HEAD main",
)


class Sender(Value):
    """Whose messages are unread, how many, and who has checked the one that is checked least."""

    agent: str
    messages: int
    checked: str


class Free(Value):
    """How many tasks are free (`more`: at least so many), and the one that comes next."""

    count: int
    more: bool
    task: str | None
    title: str | None
    priority: int


class Prime(Value):
    """What `coordledger prime` says. `looked_at`: the remote's newest, as far as this clone knows.
    `claims` are this session's, `elsewhere` counts those of this agent's other sessions.
    `fenced`: a ref that moves only under a claim, as far as that is known here.
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
    fenced: str | None
    text: str


class _Room(NamedTuple):
    """How many claims, offers and senders are named, and how long names and titles may be."""

    claims: int
    offers: int
    senders: int
    name: int
    title: int


# The first that fits is taken.
_ROOMS = (
    _Room(3, 2, 3, 40, 50),
    _Room(3, 2, 2, 24, 30),
    _Room(2, 1, 2, 20, 24),
    _Room(1, 1, 1, 14, 0),
    _Room(0, 0, 0, 8, 0),
)


def prime(here: Here) -> Prime:
    """What this session has to know."""
    mine = here.mine()
    held = [one for one in mine if one.session == here.session]
    said = Prime(
        ledger=here.connection.replica.trusted.ledger,
        agent=here.agent,
        session=here.session,
        looked_at=datetime.now(UTC) - here.age,
        claims=tuple(held),
        elsewhere=len(mine) - len(held),
        offers=tuple(here.offers()),
        unread=tuple(_senders(here)),
        free=_free(here),
        fenced=_fenced(here),
        text="",
    )
    return said._replace(text=told(said, here.connection.settings.ledger, here.age, here.now))


def told(said: Prime, name: str, age: timedelta, now: int) -> str:
    """What is said, in words: of the ledger with this name, by a copy of this age."""
    texts = (_told(said, name, age, now, room) for room in _ROOMS)
    return next((text for text in texts if weight(text) <= MOST), "")


def weight(text: str) -> int:
    """How many tokens a text has, at most: models split names without a meaning every two
    letters, and what is neither letter nor digit at each character.
    """
    words = re.findall(r"[A-Za-z]+|[0-9]+|[.]{3}|[^\x00-\x7f]|[^A-Za-z0-9\s]", text)
    return sum(map(_tokens, words))


def _tokens(word: str) -> int:
    if not word.isascii():
        return 3
    if word in _PLAIN or word == "...":
        return 1
    return -(-len(word) // (3 if word.isdigit() else 2))


def _told(said: Prime, name: str, age: timedelta, now: int, room: _Room) -> str:
    lines = [
        _who(said, name, age, room),
        _held(said, now, room),
        _offered(said.offers, room),
        _unread(said.unread, room),
        _free_line(said.free, room),
        f"Commands: {COMMANDS}{_push(said.fenced, room)}",
    ]
    return "\n".join(line for line in lines if line)


def _who(said: Prime, name: str, age: timedelta, room: _Room) -> str:
    me = f"{cut(said.agent, room.name)}/{cut(said.session, room.name)}"
    ledger = cut(name, room.name)
    return f"coordledger: this session is {me}, ledger {ledger} (local copy {span(age)} old)."


def _some(words: Sequence[str], most: int) -> str:
    if not most and words:
        return str(len(words))
    more = f", {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def _held(said: Prime, now: int, room: _Room) -> str:
    words = [f"{word(one.task or '', room.name)} until {until(one, now)}" for one in said.claims]
    beside = f" Other sessions of this agent hold {said.elsewhere}." if said.elsewhere else ""
    return f"It holds {_some(words, room.claims) or 'no task'}.{beside}"


def _mark(checked: str) -> str:
    return f" ({UNVERIFIED})" if checked == NOBODY else ""


def _offered(offers: Sequence[Message], room: _Room) -> str:
    words = [
        f"{word(one.task or '', room.name)} by {cut(one.sender, room.name)}{_mark(one.checked)}"
        for one in offers
    ]
    return f"Offered to this agent: {_some(words, room.offers)}." if words else ""


def _unread(senders: Sequence[Sender], room: _Room) -> str:
    words = [f"{cut(one.agent, room.name)} {one.messages}{_mark(one.checked)}" for one in senders]
    return (
        f"Unread messages from: {_some(words, room.senders)}." if words else "No unread messages."
    )


def _senders(here: Here) -> list[Sender]:
    """By how many messages each has sent."""
    found = dict[str, Sender]()
    for one in here.mail():
        known = found.get(one.sender, Sender(one.sender, 0, one.checked))
        checked = NOBODY if one.checked == NOBODY else known.checked
        found[one.sender] = Sender(one.sender, known.messages + 1, checked)
    return sorted(found.values(), key=lambda sender: (-sender.messages, sender.agent))


def _fenced(here: Here) -> str | None:
    """A ref that is fenced: where the repository is a folder of this machine, one of those that its
    fence names; elsewhere the one to which one of the newest records has landed code.
    """
    connection = here.connection
    if folder := connection.settings.remote.folder:
        try:
            fences = read_fences(f"{folder}/coordledger")
        except (OSError, RuleBroken):
            return None
        refs = fences.patterns.get(connection.local.name, [])
        return next((ref for ref in refs if ref == _MAIN), refs[0] if refs else None)
    replica = connection.replica
    first = replica.trusted.seq - _LOOKED_AT
    landing = next(newest_first(replica, ("land",), first), None)
    return str(landing.record["ref"]) if landing else None


def _push(ref: str | None, room: _Room) -> str:
    name = (ref or "").removeprefix("refs/heads/")
    if not name or len(name) > room.name or not re.fullmatch("[a-zA-Z0-9/._-]+[*]?", name):
        return ""
    return f" | push origin HEAD:{name} (fenced)"


def _free_line(free: Free, room: _Room) -> str:
    if free.task is None:
        return "" if free.more else "No free tasks."
    title = f" {quoted(free.title, room.title)}" if free.title and room.title else ""
    more = "at least " if free.more else ""
    return f"Free tasks: {more}{free.count}; first {word(free.task, room.name)}{title}."


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
