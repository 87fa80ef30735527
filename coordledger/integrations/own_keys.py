"""A key for each session of a harness: enrolled when it begins, revoked when it has ended.

Rules of this file:
- It is what hooks leave to a process of its own: no session waits for it.
- Where it cannot be done, the session signs by its agent's key, and the log says why.
- At most `MOST` sessions of a clone have one. A session that ended without a word has its key
  revoked when another one begins, once it was silent for a day and its leases are over; where there
  are too many, for an hour.
- Only what this clone has enrolled is ever revoked, and the agent's own key does it. What is
  held is given back before that, and the files with the key are removed after it.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from coordledger.client import administration, session_keys
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Failed, error
from coordledger.format.canonical import MAX_INTEGER
from coordledger.integrations import memory
from coordledger.integrations.here import look
from coordledger.integrations.releasing import release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.client.config import Options
    from coordledger.client.session_keys import SessionKey
    from coordledger.integrations.here import Here

MOST = 32  # of a clone; the format has 256 of an agent
SILENT, SILENT_IN_A_CROWD = 86_400.0, 3_600.0  # seconds
TURN = 60.0  # seconds that are waited for another process at the same key


class OwnKeys:
    """The keys of a clone's sessions: that of the one around `place`, and what others left."""

    def __init__(
        self, place: Here, key: SessionKey, options: Options, environ: Mapping[str, str]
    ) -> None:
        self._folder, self._key = place.folder, key
        self._options, self._environ = options, environ

    def enrol(self) -> None:
        """Enrol a delegate for the session, and have it sign from now on. Raises `Failed`:
        local-lock; OSError.
        """
        key = self._key
        with key.turn(Deadline(TURN)):
            if key.name == key.delegate or not key.asked_at:
                return  # it has one, or has ended
            try:
                self._enrol()
            except (CoordledgerError, OSError) as fault:
                memory.log(self._folder, f"no key for {key.session}: {fault}")
                key.decide(key.agent)
                key.refuse()

    def end(self) -> None:
        """What the session that has ended holds is free, and its key revoked. Raises as `enrol`."""
        with self._key.turn(Deadline(TURN)):
            if self._key.has_ended:
                self._end(self._key)

    def end_silent(self, seconds: float = SILENT) -> None:
        """End the delegates of other sessions, that have ended, or say and hold nothing."""
        with self._agents() as agents:
            for one in sorted(self._others(agents), key=lambda one: one.used_at):
                is_silent = time.time() - one.used_at > seconds
                if one.has_ended or (is_silent and not self._holds(agents, one)):
                    with contextlib.suppress(OSError, Failed), one.turn(Deadline(0)):
                        if not one.has_ended:
                            one.end()
                        self._end(one)

    def _enrol(self) -> None:
        """Raises `CoordledgerError`, OSError."""
        key = self._key
        if key.name is not None:
            raise _too_late()
        if key.has_ended:  # and was resumed
            self._revoke(key)
        with self._agents() as agents:
            if len(self._others(agents)) >= MOST:
                self.end_silent(SILENT_IN_A_CROWD)
            if len(self._others(agents)) >= MOST:
                raise error("too-many-delegates", limit=MOST, who=key.agent)
            try:
                administration.delegate(agents.connection, key.delegate, ssh=False)
            except Failed as fault:
                if fault.code != "agent-exists" or not self._signs(key):
                    raise
        if key.decide(key.delegate) != key.delegate:
            raise _too_late()

    def _others(self, agents: Here) -> list[SessionKey]:
        connection = agents.connection
        kept = session_keys.kept(connection.settings, connection.local.folder)
        return [one for one in kept if one.session != self._key.session]

    def _holds(self, agents: Here, key: SessionKey) -> bool:
        held = agents.views.held_by(agents.state, key.delegate)
        return any(one.status == "claimed" for one in held)

    # -- the ledger, as the agent or a delegate of its sees it

    def _agents(self) -> contextlib.closing[Here]:
        return self._as(self._key.agent, self._key.session)

    def _as(self, name: str, session: str) -> contextlib.closing[Here]:
        """Raises as `look`; `Failed`: no-agent."""
        options = self._options._replace(agent=name, session=session)
        here = look(options, self._environ, offline=False)
        if here is None:
            raise error("no-agent")
        return contextlib.closing(here)

    def _signs(self, key: SessionKey) -> bool:
        """Whether there is such a delegate, and its key is here."""
        with self._as(key.delegate, key.session) as delegates:
            try:
                delegates.connection.identity().key(delegates.state, MAX_INTEGER)
            except Failed:
                return False
        return True

    # -- its end

    def _end(self, key: SessionKey) -> None:
        try:
            self._revoke(key)
        except (CoordledgerError, OSError) as fault:
            memory.log(self._folder, f"key of {key.session}: {fault}")

    def _revoke(self, key: SessionKey) -> None:
        """Give back what the delegate holds, revoke it, forget its key. Raises
        `CoordledgerError`, OSError.
        """
        is_one = self._signs(key)
        if is_one:
            with self._as(key.delegate, key.session) as delegates:
                release(delegates)
                if delegates.connection.local.journal.intents():
                    delegates.connection.writer().resolve()
        with self._agents() as agents:
            connection = agents.connection
            if is_one:
                administration.revoke(connection, key.delegate, None)
            connection.finder.forget(key.delegate, agents.state.ledger["ledger"])
            connection.ssh_keys.forget(key.delegate)
        key.forget()


def _too_late() -> CoordledgerError:
    """A command has waited for the key, and signed by the agent's own."""
    return error("timeout", seconds=f"{session_keys.PATIENCE:g}")
