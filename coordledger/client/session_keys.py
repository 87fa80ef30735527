"""Which name a harness's session signs as, where each has a key of its own.

With `coordledger.sessionKeys` a session of the configured agent bob signs as a delegate of his:
`bob.claude-567890ab`. The hook of the session's beginning asks for it, and a process of its own has
it enrolled (`integrations/own_keys.py`); commands go by the files that are kept here.

Rules of this file:
- A session's name is decided once, by the file that is made first, and stays: one that changed in
  the middle would not hold what it has claimed.
- A file says only which of the two names it is: the agent's own, or the delegate's, which follows
  from agent and session. So no file makes a session anybody else.
- A command waits for a decision that was asked for, and not long: then it is the agent's own name.
- What the caller says wins: an agent, a key or a session that was named.
- That the environment tells the true session, nobody can know: it and the keys are protected by
  the account of the operating system, as far as that goes.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.client.config import is_named
from coordledger.errors import error
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from coordledger.client.config import Options, Settings
    from coordledger.deadline import Deadline

FOLDER = "session-keys"  # in a ledger's private folder
PATIENCE = 10.0  # seconds from when a decision was asked for
_POLL = 0.02
_OLD = 7 * 86_400  # seconds
_ASKED, _SIGNS, _ENDED = ".asked", ".signs", ".ended"


class SessionKey(Value):
    """One session of a harness: `asked` names the delegate that may be enrolled for it, `signs`
    the name that it was decided to sign as, `ended` the delegate that is to be revoked.
    """

    folder: Path
    agent: str
    session: str
    mode: int

    @property
    def delegate(self) -> str:
        return f"{self.agent}.{self.session}"

    @property
    def name(self) -> str | None:
        """The name that it signs as; None while that is not decided."""
        said = self._read(_SIGNS)
        if said is None:
            return None
        return said if said == self.delegate else self.agent

    @property
    def asked_at(self) -> float:
        """When a decision was asked for, in seconds since 1970; 0 if it was not."""
        return _changed_at(self._path(_ASKED))

    @property
    def used_at(self) -> float:
        """When the session was last seen."""
        return max(_changed_at(self._path(_SIGNS)), self.asked_at)

    @property
    def has_ended(self) -> bool:
        return bool(self._read(_ENDED))

    @property
    def may_have_delegate(self) -> bool:
        return self.delegate in (self._read(_ASKED), self._read(_ENDED))

    def ask(self) -> bool:
        """Ask for a delegate, if that is not decided, and nobody is at it. Raises OSError."""
        files.make_folders(str(self.folder), self.mode)
        if self.name is not None:
            return False
        if self._create(_ASKED, self.delegate):
            return True
        is_left = not self._is_awaited()
        os.utime(self._path(_ASKED))
        return is_left

    def decide(self, name: str) -> str:
        """Sign as `name` from now on, if that is not decided; what is decided. Raises OSError."""
        self._create(_SIGNS, name)
        decided = self.name or self.agent
        if not self.asked_at:  # the session has ended meanwhile
            files.remove(str(self._path(_SIGNS)))
        return decided

    def use(self) -> None:
        """The session is alive."""
        with contextlib.suppress(OSError):
            os.utime(self._path(_SIGNS))

    def end(self) -> None:
        """The session ends: nothing is signed as the delegate any more. Raises OSError."""
        self.refuse()
        files.remove(str(self._path(_SIGNS)))

    def refuse(self) -> None:
        """The delegate is to be revoked, if there is one. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self._path(_ASKED).replace(self._path(_ENDED))

    def forget(self) -> None:
        """The delegate that was to be revoked is."""
        files.remove(str(self._path(_ENDED)))

    def wait(self) -> str | None:
        """The name, once it is decided; if that takes too long the agent's own; None where nobody
        has asked.
        """
        while (name := self.name) is None and self.asked_at:
            if not self._is_awaited():
                with contextlib.suppress(OSError):
                    return self.decide(self.agent)
                return None
            time.sleep(_POLL)
        return name

    @contextlib.contextmanager
    def turn(self, deadline: Deadline) -> Iterator[None]:
        """One process at a time enrols its delegate, or revokes it. Raises `Failed`: local-lock;
        OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path(".lock"), flags, files.mode_in(str(self.folder)))
        try:
            if not files.lock_by_polling(fd, deadline.over, _POLL):
                raise error(
                    "local-lock", where=f"the key of {self.session}", holder="another process"
                )
            os.utime(fd)  # it is in use: `kept` goes by that
            yield
        finally:
            os.close(fd)

    def _is_awaited(self) -> bool:
        return 0 <= time.time() - self.asked_at < PATIENCE

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.session}{suffix}"

    def _read(self, suffix: str) -> str | None:
        with contextlib.suppress(OSError, ValueError):
            return self._path(suffix).read_text("ascii").strip()
        return None

    def _create(self, suffix: str, name: str) -> bool:
        path = self._path(suffix)
        beside = f"{path}.{os.getpid()}-{os.urandom(4).hex()}.new"
        mode = files.mode_in(str(self.folder))
        return files.create(str(path), f"{name}\n".encode(), beside, mode=mode)


def _changed_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def of(settings: Settings, ledger_folder: Path) -> SessionKey | None:
    """The session around this process; None where none is told of, or none is to have a key."""
    session, agent = settings.harness_session, settings.base_agent
    if not settings.session_keys or agent is None or session is None:
        return None
    if settings.session not in (None, session):
        return None
    return SessionKey(ledger_folder / FOLDER, agent, session, settings.folder_mode)


def kept(settings: Settings, ledger_folder: Path) -> list[SessionKey]:
    """All sessions for which there may be a delegate of this agent. What was decided of others, and
    is a week old, goes.
    """
    agent, names = settings.base_agent or "", set()
    with contextlib.suppress(OSError):
        for file in (ledger_folder / FOLDER).iterdir():
            if file.suffix in (_ASKED, _ENDED):
                names.add(file.stem)
            elif time.time() - _changed_at(file) > _OLD:
                files.remove(str(file))
    folder, mode = ledger_folder / FOLDER, settings.folder_mode
    found = (SessionKey(folder, agent, name, mode) for name in sorted(names))
    return [one for one in found if one.may_have_delegate]


def applied(
    settings: Settings, ledger_folder: Path, options: Options, environ: Mapping[str, str]
) -> Settings:
    """The settings of who signs here: the agent, or the delegate of its session."""
    key = None if is_named(options, environ) else of(settings, ledger_folder)
    if key is None:
        return settings._replace(session_keys=False)
    name = key.name if settings.offline else key.wait()
    if name is not None:
        key.use()
    if name in (None, key.agent):
        return settings
    return settings._replace(agent=name, ssh_key=None)
