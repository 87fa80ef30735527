"""The write-ahead log of one ledger's writes in one clone.

Rules of this file:
- An intent is durable here before its bytes leave the process; it leaves the journal when its
  outcome is known and was reported. A process that ends in between has told nobody: the same
  command, called again, is answered from here.
- The process in charge of a file has it locked, from before others can see it, until the operation
  is over and its outcome reported. So processes of one clone write at the same time, and each sees
  which intents are another's that lives. What a process has left behind is taken by the first one
  that looks (`take`); whoever looks does so under the clone's lock, so that no look is taken for
  an owner.
- Intents that go together are one file, named after the first of them: they are durable
  together or not at all. An intent stands in one file only.
- Files are replaced whole, by the process in charge.

It decides no outcome: `writer` does.
"""

from __future__ import annotations

import contextlib
import os
from binascii import a2b_base64, b2a_base64  # base64 around them imports re
from typing import TYPE_CHECKING, Any

from coordledger import files
from coordledger.errors import CoordledgerError, error
from coordledger.format import canonical
from coordledger.format.signing import Signed
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LANDED, VOIDED, OPEN = "landed", "voided", "open"


class Intent(Value):
    """One write on its way: who, what for people, and the bytes that may land."""

    op: str
    base: dict[str, Any]
    agent: str
    session: str
    what: str
    payload: str = ""
    tag: str = ""
    outcome: str = OPEN
    seq: int | None = None

    @property
    def signed(self) -> Signed:
        payload = self.payload.encode("ascii")
        return Signed(payload, canonical.decode(payload), a2b_base64(self.tag))

    def carrying(self, signed: Signed) -> Intent:
        tag = b2a_base64(signed.tag, newline=False).decode("ascii")
        return self._replace(payload=signed.payload.decode("ascii"), tag=tag)


class Journal:
    """The intents in one folder, which is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.waits_for_report = False  # whether the caller says when it has `reported`
        self._ours: dict[Path, int] = {}  # the files that this process is in charge of: their locks
        self._unreported: dict[Path, tuple[int, set[str]]] = {}  # the lock's descriptor, the ops

    def record(self, *intents: Intent) -> None:
        """Make `intents`, which go together, durable before their bytes leave the process."""
        path = self._folder / f"{intents[0].op}.json"
        if not self._folder.is_dir():
            above = self._folder.parent  # its mode is decided by who made it
            mode = above.stat().st_mode & 0o7777 if above.is_dir() else 0o700
            files.make_folders(str(self._folder), mode)
        self._remove_strays()
        ours = {intent.op for intent in intents}
        before = _read(path) if path.exists() else []  # what once went with the first
        self._write(path, [*intents, *(intent for intent in before if intent.op not in ours)])
        self._remove(ours, but=path)  # as they were, with others, at an earlier attempt

    def forget(self, *intents: Intent) -> None:
        """`intents` are settled. Intents that were recorded with them stay."""
        self._remove({intent.op for intent in intents})

    def answer(self, *intents: Intent) -> None:
        """The caller gets the outcomes of `intents`: they are forgotten, at once or when that is
        `reported`.
        """
        if not self.waits_for_report:
            self.forget(*intents)
            return
        ops = {intent.op for intent in intents}
        for path in self._files() if ops else []:
            recorded = _read(path)
            told = [intent for intent in recorded if intent.op in ops]
            others = [intent for intent in recorded if intent.op not in ops]
            if told and others:  # those that are still open get a file of their own
                self.record(*(others if path.stem == told[0].op else told))
            if told:
                self._hold(self._folder / f"{told[0].op}.json" if others else path, ops)

    def _hold(self, path: Path, ops: set[str]) -> None:
        if path in self._unreported:
            self._unreported[path][1].update(ops)
            return
        self._unreported[path] = self._ours.pop(path), set(ops)

    @property
    def is_unreported(self) -> bool:
        """Whether the caller has an answer that it has not reported."""
        return bool(self._unreported)

    def reported(self) -> None:
        """What `answer` gave has reached the user."""
        for path, (fd, ops) in list(self._unreported.items()):
            with contextlib.suppress(OSError, CoordledgerError):  # then it is told again
                if ops.issuperset(intent.op for intent in _read(path)):
                    path.unlink(missing_ok=True)
            del self._unreported[path]  # before it is closed: see `release`
            os.close(fd)

    def unheard(self) -> None:
        """What `answer` gave has reached nobody, unless it is `reported`: the same command, called
        again, gets it.
        """
        while self._unreported:
            os.close(self._unreported.popitem()[1][0])

    def intents(self) -> list[Intent]:
        """The intents in the journal, oldest first. Raises `Integrity`: bad-copy."""
        return [intent for path in self._files() for intent in _read(path)]

    def left_behind(self) -> list[Intent]:
        """Those of them that no process is in charge of: theirs have ended, or could not settle
        them. Under the clone's lock. Raises `Integrity`: bad-copy.
        """
        free = []
        for path in self._files():
            fd = _lock_if_free(path)
            if fd is not None:
                free += _read(path)
                os.close(fd)
        return free

    def take(self, wanted: Callable[[Intent], bool]) -> list[Intent]:
        """As `left_behind`, those that are `wanted`; and this process is in charge of them from now
        on, as of those that it is in charge of already. Under the clone's lock. Others are left
        alone: somebody may come for their answer. Raises `Integrity`: bad-copy.
        """
        taken: list[Intent] = []
        for path in self._files():
            if not any(map(wanted, _read(path))):
                continue
            if path not in self._ours:
                fd = _lock_if_free(path)
                if fd is None:
                    continue
                self._ours[path] = fd
            taken += filter(wanted, _read(path))
        return taken

    def release(self) -> None:
        """The operation is over: what it has left open may be taken, also by the next one here."""
        # Each is forgotten before it is closed: after an interrupt it is not closed once more,
        # when its number is another file's.
        while self._ours:
            os.close(self._ours.popitem()[1])

    def _remove(self, ops: set[str], but: Path | None = None) -> None:
        for path in self._files():
            if path == but:
                continue
            intents = _read(path)
            left = [intent for intent in intents if intent.op not in ops]
            if not left and intents:
                path.unlink(missing_ok=True)
            elif len(left) < len(intents):
                self._write(path, left)

    def _remove_strays(self) -> None:
        """What processes have left that were killed while they wrote."""
        for path in self._folder.glob("*.new"):
            fd = _lock_if_free(path)
            if fd is not None:
                files.remove(str(path))
                os.close(fd)

    def _write(self, path: Path, intents: list[Intent]) -> None:
        content = canonical.encode([intent._asdict() for intent in intents])
        mode = files.mode_in(str(path.parent))
        fd = files.replace_locked(str(path), content, str(path.with_suffix(".new")), mode=mode)
        before = self._ours.pop(path, None)
        self._ours[path] = fd
        if before is not None:
            os.close(before)

    def _files(self) -> list[Path]:
        try:
            paths = [path for path in self._folder.iterdir() if path.suffix == ".json"]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(paths, key=_changed_at)


def _changed_at(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # another process has just reported it
        return path.stat().st_mtime_ns
    return 0


def _lock_if_free(path: Path) -> int | None:
    """The descriptor of the file, locked; None if a process is in charge of it, or it has gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)  # NFS locks no other
    except FileNotFoundError:
        return None
    # Where its owner has just replaced or removed it, the lock of the old file says nothing.
    if files.try_lock(fd) and files.is_at(fd, str(path)):
        return fd
    os.close(fd)
    return None


def _read(path: Path) -> list[Intent]:
    """What is in the file; nothing if its owner has just removed it."""
    try:
        return [Intent(**facts) for facts in canonical.read(path.read_bytes())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        raise error("bad-copy", why=f"{path} is not readable") from None
