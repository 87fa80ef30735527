"""What the hooks of a harness remember of its sessions, in the clone's private folder.

Rules of this file:
- One small file for each of a harness's sessions: what was told in it, so that nothing is told
  twice, whichever hooks run beside each other. Files of sessions that ended without a word are
  removed after a week.
- The log has what went wrong, for people: at most two files of `MOST_LOG` bytes.
- Nothing here is believed in a matter of a ledger.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from coordledger import files
from coordledger.deadline import Deadline
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MOST_LOG = 32_768
_PATIENCE, _POLL = 1.0, 0.01  # seconds for a neighbour that writes
_KEPT = 7 * 86_400  # seconds
_LIVE = 86_400  # seconds after which a session that says nothing is taken for ended
FOLDER = ".hooks"  # beside the ledgers' folders: no ledger has this name


class Memory:
    """What is remembered of one session of a harness; `folder` is made when it is needed."""

    def __init__(self, folder: Path, harness: str, session: str) -> None:
        self.folder = folder
        self._harness = "".join(filter(str.isalnum, harness))
        name = digest("sha256", session.encode("utf-8", "replace")).hex()[:16]
        self._key = f"{self._harness}-{name}"
        self._file = folder / f"{self._key}.json"

    # -- what was told

    def begin(self, now: int, unread: Iterable[int]) -> None:
        """The session begins or goes on; it is told that there are these `unread` messages."""
        self._prune()
        with self._changed() as facts:
            facts.setdefault("started", now)
            facts["counted"] = sorted(unread)

    @property
    def started(self) -> int:
        """When the session began, in milliseconds; 0 if nobody knows."""
        started = self._read().get("started", 0)
        return started if isinstance(started, int) else 0

    def counted(self) -> set[int]:
        """The messages that the session knows of: it was told them, or how many they are."""
        facts = self._read()
        return _numbers(facts, "told") | _numbers(facts, "counted")

    def told(self) -> set[int]:
        return _numbers(self._read(), "told")

    def tell(self, wanted: set[int], unread: set[int]) -> set[int]:
        """Those of the messages `wanted` that the session was not told yet; it is told them now.
        `unread` are all that it may be told yet: of others it need not be remembered.
        """
        with self._changed() as facts:
            told = _numbers(facts, "told")
            facts["told"] = sorted((told & unread) | wanted)
            return wanted - told

    def ask(self, held: set[str]) -> set[str]:
        """Those of the claims for which the session was not held up yet; it is now."""
        with self._changed() as facts:
            asked = {one for one in facts.get("asked", ()) if isinstance(one, str)}
            facts["asked"] = sorted(held | asked)[-100:]
            return held - asked

    def end(self) -> None:
        files.remove(str(self._file))

    def is_alone(self) -> bool:
        """Whether no other session of the harness in this work tree has said anything for a day."""
        now = time.time()
        of_it = self.folder.glob(f"{self._harness}-*.json")
        others = (file for file in of_it if file != self._file)
        return not any(now - file.stat().st_mtime < _LIVE for file in others)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The session's facts, to be changed. Raises OSError."""
        files.make_folders(str(self.folder), 0o700)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not files.lock_by_polling(fd, Deadline(_PATIENCE).over, _POLL):
                raise TimeoutError("another hook has the memory's lock")
            facts = self._read()
            yield facts
            import json  # noqa: PLC0415 - what only looks where a session is needs none

            content = json.dumps(facts).encode("ascii")
            files.replace(str(self._file), content, f"{self._file}.new", mode=0o600)
        finally:
            os.close(fd)

    def _read(self) -> dict[str, Any]:
        import json  # noqa: PLC0415 - as above

        with contextlib.suppress(OSError, ValueError, RecursionError):
            facts = json.loads(self._file.read_bytes())
            if isinstance(facts, dict):
                return facts
        return {}

    def _prune(self) -> None:
        with contextlib.suppress(OSError):
            old = time.time() - _KEPT
            for file in self.folder.iterdir():
                if file.suffix in (".json", ".listener") and file.stat().st_mtime < old:
                    files.remove(str(file))

    # -- one at a time

    def alone(self, what: str) -> int | None:
        """The lock for `what` of this session, until the descriptor is closed; None if another
        process has it. Raises OSError.
        """
        return take(self.folder, f"{self._key}.{what}")


def take(folder: Path, name: str) -> int | None:
    """A lock, until the descriptor is closed; None if another process has it. Raises OSError."""
    files.make_folders(str(folder), 0o700)
    fd = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if files.try_lock(fd):
        os.utime(fd)  # it is in use: `_prune` goes by that
        return fd
    os.close(fd)
    return None


def _numbers(facts: dict[str, Any], name: str) -> set[int]:
    value = facts.get(name)
    return {one for one in value if isinstance(one, int)} if isinstance(value, list) else set()


def log(folder: Path, line: str) -> None:
    """Note what went wrong, if that can be."""
    with contextlib.suppress(OSError):
        files.make_folders(str(folder), 0o700)
        path = folder / "log"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > MOST_LOG:
                path.replace(folder / "log.old")
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            shown = "".join(char if char.isprintable() else "?" for char in line)[:500]
            files.write_all(fd, f"{when} {shown}\n".encode("utf-8", "replace"))
        finally:
            os.close(fd)
