"""Where a session is: the clone around it, its ledger's local copy, and whose session that is.

Rules of this file: the remote is not asked, so that an answer comes at once, and says how old the
copy is that it is from. Where there is no ledger, no copy or no agent, nothing is said. A bare
repository is one only to who names it: a project may bring such a folder as files of its own, with
settings that name programs, and git goes by them wherever a session happens to look.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.client.config import HARNESSES, Options
from coordledger.client.place import begin
from coordledger.errors import Failed
from coordledger.format import timestamps
from coordledger.integrations.memory import FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection, Surroundings
    from coordledger.client.reports import Message
    from coordledger.client.session_keys import SessionKey
    from coordledger.client.views import Views
    from coordledger.format.state import State

TIMEOUT = 2.0  # seconds for what is read locally
_SLACK = 60_000  # milliseconds by which another host's file system may be ahead
_ABSENT = ("not-a-repository", "no-remote", "not-joined", "no-agent")


class Here:
    """A session at the copy of a ledger."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.agent = connection, connection.settings.need_agent
        from coordledger.client.views import Views  # noqa: PLC0415 - as in `look`

        self.views: Views = Views(connection.replica, connection.clock)
        self.session = connection.identity().session
        self.folder = connection.repository.git_dir / "coordledger" / FOLDER
        self._state: State | None = None

    @property
    def state(self) -> State:
        """As it was read last. Raises as `Connection.read`."""
        return self._state or self.read()

    def read(self) -> State:
        self._state = self.connection.read()
        return self._state

    def close(self) -> None:
        self.connection.close()

    def is_of(self, harness: str) -> bool:
        """Whether the session is the harness's own. Else it has other users: it is what somebody
        has given, or the work tree's, or that of another harness around this one.
        """
        return self.connection.settings.session is None and harness in HARNESSES

    @property
    def now(self) -> int:
        return self.connection.clock()

    @property
    def age(self) -> timedelta:
        """How long ago the copy stood at the remote's head, as far as is known here."""
        return timedelta(milliseconds=max(0, self.now - self.connection.local.looked_at))

    @property
    def is_ahead(self) -> bool:
        """Whether nobody knows how old the copy is: the clock was set back since."""
        return self.connection.local.looked_at - self.now > _SLACK

    @property
    def is_behind(self) -> bool:
        """Whether something has landed beyond the copy, as the server has told this clone."""
        last = self.connection.replica.trusted.seq
        return any(seq > last for seq, _ in self.connection.local.told.all())

    @property
    def key(self) -> SessionKey | None:
        """The session's own key, where it is to have one."""
        settings = self.connection.settings
        if not settings.session_keys:
            return None
        from coordledger.client import session_keys  # noqa: PLC0415 - few have them

        return session_keys.of(settings, self.connection.local.folder)

    def mine(self) -> list[Claim]:
        """What this agent holds: where sessions have keys of their own, as all of them."""
        settings = self.connection.settings
        agent = settings.names[-1]
        held = self.views.held_by(self.state, agent, below=settings.session_keys)
        return [one for one in held if one.status == "claimed"]

    def held(self) -> list[Claim]:
        """What this session holds, by its own key or its agent's."""
        names = self.connection.settings.names
        return [one for one in self.mine() if one.session == self.session and one.agent in names]

    def unread(self) -> set[int]:
        """The numbers of the messages and offers that are not dealt with yet."""
        settings = self.connection.settings
        lines = self.views.unread(self.state, settings.names, settings.channels)
        return lines | {one.seq for one in self.offers()}

    def mail(self) -> list[Message]:
        """The unread messages."""
        settings = self.connection.settings
        return self.views.inbox(self.state, settings.names, settings.channels)

    def offers(self) -> list[Message]:
        names = self.connection.settings.names
        return [one for name in names for one in self.views.offers.messages(self.state, name)]


def environment(environ: Mapping[str, str], harness: str, session: str) -> dict[str, str]:
    """What the harness's shells have: the same variable says which session that is."""
    if not session or harness not in HARNESSES:
        return dict(environ)
    variables = HARNESSES[harness]
    return {k: v for k, v in environ.items() if k not in variables} | {variables[0]: session}


def look(options: Options, environ: Mapping[str, str], *, offline: bool = True) -> Here | None:
    """The place around a path, with its copy as it is; None if there is none. Without `offline` the
    copy is brought up to date. Raises as `Connection.read`.
    """
    options = options._replace(offline=offline)
    try:
        with begin(options, environ) as git:  # it looks around, while this is imported
            from coordledger.client.opening import connect, surroundings  # noqa: PLC0415

            around = surroundings(options, environ, git)
        if around.settings.agent is None or _is_among_files(around, options.path, environ):
            return None
        connection = connect(options, environ, around=around)
        if connection.local.trusted is None:
            return None
        here = Here(connection)
        if not offline:
            here.read()
    except Failed as fault:
        if fault.code in _ABSENT:
            return None
        raise
    return here


def _is_among_files(around: Surroundings, path: Path, environ: Mapping[str, str]) -> bool:
    """Whether git has taken a folder around the path for a repository, not a `.git` in one."""
    if around.repository is None or "GIT_DIR" in environ:
        return False
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(around.repository.git_dir))


def folder_of(path: str, cwd: str) -> Path:
    """The folder in which to look for the clone of a file, which need not be there yet."""
    place = Path(os.path.join(cwd or ".", path)).parent  # noqa: PTH118 - `path` may be absolute
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def until(claim: Claim, now: int) -> str:
    """When a lease ends."""
    return clock_time(claim.expires_at, now) if claim.expires_at else "?"


def clock_time(moment: datetime, now: int) -> str:
    """`14:46Z`, with the date if that is not today's."""
    is_today = f"{moment:%Y-%m-%d}" == timestamps.show(now)[:10]
    return f"{moment:%H:%MZ}" if is_today else f"{moment:%Y-%m-%d %H:%MZ}"


def span(length: timedelta) -> str:
    """In whole seconds at least: `12 s`, `3 min`."""
    return timestamps.span(1000 * max(1, int(length.total_seconds())))
