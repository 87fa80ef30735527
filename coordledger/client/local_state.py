"""One clone's memory of one ledger, beside git's own objects and refs.

Writes whose outcome is unknown are in the journal: see `journal`.

Rules of this file:
- `trusted.json` names the newest head that this clone has verified; it only ever moves
  forward (`adopt`), but for an explicit `reset`. The ref of the same name mirrors it, so
  that people can read it and git keeps the objects; it is never believed.
- `verified.json` says how far the verification of what came in has got, for a later one to
  go on from: it is no head, and nothing but that uses it.
- `stopped.json` names a record that is not valid, which continues the head on the remote, so that
  nobody fetches and walks all of what follows it again. That it is bad is found out each time.
- `told` has the places that the remote has told of and that are beyond the head: see `told`;
  `vouches` what its hook says that it has verified: see `vouches`.
- `index` maps seq (from the copy's oldest one on) to commit id, fixed width: a cache, checked
  wherever it is used.
- `records.db` and `tasks.db` are what records and tasks are looked up by: caches with locks of
  their own, see `index`.
- One lock per clone and ledger is held to change these files, and for no longer: never while the
  remote or another program is waited for, or records are judged. So the head that a change
  begins from is compared under the lock (`Replica.adopt`).
- What is fetched gets a ref of its own for each process that fetches (`incoming_ref`).
- Files are replaced whole; a crash at any point loses no verified head.

It verifies nothing and talks to no remote.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordledger import files
from coordledger.client import holder
from coordledger.client.journal import Journal
from coordledger.client.told import ToldPlaces
from coordledger.deadline import Deadline
from coordledger.errors import RuleBroken, disk_error, error
from coordledger.format import canonical
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS
from coordledger.hashes import LENGTHS, digest, is_hex
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordledger.format.commit import Commit
    from coordledger.git.repository import Repository

_POLL = 0.01
_PATIENCE = 1.0  # seconds that the lock is waited for even after the deadline: it is held for
# moments, and what has landed is to be remembered
_PRIVATE = 0o700  # of folders, and so of the files in them


class TrustedHead(Value):
    """The verified head. `first` is the oldest seq that this copy has (0 if whole),
    `audited` the newest one that an audit has covered; `unverified` a seq below which it left
    none without a verdict for want of a key (-1: nowhere), `keys` tells which ones it had.
    """

    ledger: str
    commit: str
    seq: int
    digest: str
    first: int = 0
    audited: int = -1
    unverified: int = -1
    keys: str = ""
    auditing: dict[str, Any] | None = None  # how far an audit of everything has got
    sequenced: bool = False  # whether the server puts records into their places
    read: dict[str, list[int]] = {}  # noqa: RUF012 - never changed in place; agent/channel -> seqs read

    def moved_to(self, head: Commit) -> TrustedHead:
        return self._replace(commit=head.oid, seq=head.seq, digest=head.digest)

    def read_in(self, agent: str, channel: str) -> set[int]:
        """The messages of a channel that an agent has marked as read."""
        return set(self.read.get(f"{agent}/{channel}", ()))

    def with_read(self, agent: str, channel: str, seqs: set[int]) -> TrustedHead:
        marks = {f"{agent}/{channel}": sorted(seqs)} if seqs else {}
        return self._replace(read=self.read | marks)


class Checkpoint(Value):
    """A commit beyond the head whose chain is verified up to there, and no further."""

    ledger: str
    commit: str
    seq: int
    digest: str


class Stop(Value):
    """The remote's `head` leads over `commit`, which follows the verified head and is not valid."""

    head: str
    commit: str


class LocalState:
    """The private side of one ledger in one repository."""

    def __init__(
        self,
        repository: Repository,
        name: str,
        branch: str | None = None,
        folder_mode: int = _PRIVATE,
    ) -> None:
        """`branch`: where the remote keeps the ledger if it cannot be a ref of its own;
        `folder_mode`: of the folders that are made, and so of the files in them.
        """
        self._folder_mode = folder_mode
        self.repository, self.name = repository, name
        self.ref = LEDGERS + name
        self.remote_ref = f"refs/heads/{branch}" if branch else self.ref
        self.incoming = f"refs/coordledger-incoming/{name}"
        self.folder = repository.common_dir / "coordledger" / name
        self.journal = Journal(self.folder / "intents")
        self.told = ToldPlaces(self.folder / "told")
        self._index = self.folder / "index"
        self._trusted_path = self.folder / "trusted.json"
        self._width = LENGTHS[repository.algo] + 1
        self._trusted: TrustedHead | None = None
        self._stamp: tuple[int, int] | None = None
        self._locked = self._is_in_memory = self._is_held = False
        self._session = ""  # where none can be kept

    # -- the verified head

    @property
    def is_on_trust(self) -> bool:
        """Whether the state goes back to one that nobody has verified here: a shallow copy's."""
        return bool(self.trusted and self.trusted.first)

    @property
    def trusted(self) -> TrustedHead | None:
        """The verified head, or None before the first one. Raises `Integrity`: bad-copy."""
        if self._is_held and self._stamp is not None:
            return self._trusted
        path = self._trusted_path
        try:
            facts = os.stat(path)  # noqa: PTH116 - asked for at every turn
        except FileNotFoundError:
            return None
        stamp = (facts.st_ino, facts.st_mtime_ns)
        if stamp != self._stamp:
            try:
                self._trusted = TrustedHead(**canonical.read(path.read_bytes()))
            except (ValueError, TypeError):
                raise error("bad-copy", why=f"{path} is not readable") from None
            self._stamp, self._is_in_memory = stamp, False
        return self._trusted

    @contextlib.contextmanager
    def held_head(self) -> Iterator[None]:
        """Meanwhile the verified head is the one that it is now, unless this process moves it: what
        looks at thousands of records would look at its file for each of them several times.
        """
        before, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = before

    def save(self, trusted: TrustedHead) -> None:
        """Remember `trusted` (under the lock)."""
        self._make_folder()
        self._stamp = None
        before = _changed_at(self._trusted_path)
        self._replace("trusted.json", trusted)
        if before and _changed_at(self._trusted_path) <= before:  # the clock's step is coarser
            os.utime(self._trusted_path, ns=(before + 1, before + 1))  # the stamp tells them apart

    def _replace(self, name: str, facts: TrustedHead | Checkpoint | Stop) -> None:
        content = canonical.encode(facts._asdict())
        mode = files.mode_in(str(self.folder))
        files.replace(
            f"{self.folder}/{name}", content, f"{self.folder}/new", mode=mode, durable=True
        )

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            files.make_folders(str(self.folder), self._folder_mode)

    def adopt(self, trusted: TrustedHead, passed: list[tuple[int, str]]) -> None:
        """Move forward to `trusted`, over the verified commits `passed` (seq, id)."""
        self._make_folder()
        self.save_index(passed, trusted.first)
        self.repository.set_ref(self.ref, trusted.commit)
        self.save(trusted)
        if self.checkpoint:
            self.forget_checkpoint()

    def note_look(self, at: int) -> None:
        """The verified head was the remote's at that moment: the time of a file, which nothing but
        the age of the copy is read from.
        """
        with contextlib.suppress(OSError):  # a clone that cannot be written grows old
            fd = files.open_in(str(self.folder), "looked", os.O_WRONLY | os.O_NOFOLLOW)
            try:
                os.utime(fd, ns=(at * 1_000_000, at * 1_000_000))
            except PermissionError:  # another user's file, in a shared clone
                os.utime(fd)  # who may write it may set it to this moment, and to no other
            finally:
                os.close(fd)

    @property
    def looked_at(self) -> int:
        """When that was, in milliseconds since 1970; 0 where there is no copy."""
        known = _changed_at(self.folder / "looked") or _changed_at(self._trusted_path)
        return known // 1_000_000

    # -- how far a long verification has got

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The saved checkpoint. It is a hint: one that cannot be read counts as none."""
        try:
            return Checkpoint(**canonical.read((self.folder / "verified.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def save_checkpoint(
        self, checkpoint: Checkpoint, passed: list[tuple[int, str]], first: int
    ) -> None:
        """Under the lock: verified up to there, over the commits `passed`."""
        self._make_folder()
        self.save_index(passed, first)
        self._replace("verified.json", checkpoint)

    def forget_checkpoint(self) -> None:
        """The checkpoint goes; what was fetched with it goes with the `incoming_ref`."""
        (self.folder / "verified.json").unlink(missing_ok=True)

    # -- what comes in

    @contextlib.contextmanager
    def incoming_ref(self) -> Iterator[str]:
        """A ref that is this process's alone, for what it fetches. It goes in the end, unless a
        checkpoint says that the verification is to be gone on with, or a stop that nobody is to
        fetch it again.

        The first one that is free: so a killed process's is used again, and cleared, before
        there is another.
        """
        self._make_folder()
        number = 0
        while True:
            fd = files.open_in(str(self.folder), f"fetch.{number}", os.O_RDWR | os.O_NOFOLLOW)
            if files.try_lock(fd):
                break
            os.close(fd)
            number += 1
        ref = f"{self.incoming}.{number}" if number else self.incoming  # no name has a dot
        try:
            yield ref
        finally:
            try:
                if not (self.checkpoint or self.stopped):
                    self.repository.set_ref(ref, None)
            finally:
                os.close(fd)

    # -- where the remote stops being valid

    @property
    def stopped(self) -> Stop | None:
        """What was noted. It is a hint: one that cannot be read counts as none."""
        try:
            return Stop(**canonical.read((self.folder / "stopped.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def save_stop(self, stop: Stop) -> None:
        """Under the lock. What was fetched stays: it is not to be fetched again."""
        self._make_folder()
        self._replace("stopped.json", stop)

    def forget_stop(self) -> None:
        """The stop goes; what was fetched with it goes with the `incoming_ref`."""
        (self.folder / "stopped.json").unlink(missing_ok=True)

    def adopt_in_memory(self, trusted: TrustedHead) -> None:
        """`trusted` could not be written down: this process goes on from it all the same."""
        self._trusted, self._is_in_memory = trusted, True

    def reset(self) -> None:
        """Forget the head and what the remote has said. The journal stays: its intents may still
        land.
        """
        self._forget("told", "vouches")
        self.forget_head()

    def forget_head(self) -> None:
        """Forget the head and what is counted from it."""
        self._forget("trusted.json", "verified.json", "stopped.json", "index", "looked")
        self.repository.set_ref(self.ref, None)
        self._trusted = self._stamp = None

    def _forget(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    # -- seq -> commit

    def save_index(self, passed: Iterable[tuple[int, str]], first: int) -> None:
        """Index the ids of verified commits; `first` is the copy's oldest seq."""
        fd = files.open_in(str(self.folder), self._index.name, os.O_WRONLY)
        try:
            for seq, oid in passed:
                os.pwrite(fd, oid.encode("ascii") + b"\n", (seq - first) * self._width)
        finally:
            os.close(fd)

    def indexed_ids(self, seq: int, last: int) -> Iterator[str]:
        """The ids from `seq` to `last`, as far as there are any. They are not checked."""
        trusted = self.trusted
        if trusted is None or seq < trusted.first or not self._index.exists():
            return
        with self._index.open("rb") as index:
            index.seek((seq - trusted.first) * self._width)
            for _ in range(seq, last + 1):
                oid = index.read(self._width)[:-1].decode("ascii", "replace")
                if not is_hex(oid, self._width - 1):
                    return
                yield oid

    def id_at(self, seq: int) -> str:
        """The id that the index has for `seq`, "" if none. It is not checked."""
        trusted = self.trusted
        if trusted is None or not trusted.first <= seq <= trusted.seq:
            return ""
        try:
            fd = os.open(self._index, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        try:
            line = os.pread(fd, self._width, (seq - trusted.first) * self._width)
        finally:
            os.close(fd)
        oid = line[:-1].decode("ascii", "replace")
        return oid if is_hex(oid, self._width - 1) else ""

    def commit_at(self, seq: int) -> Commit | None:
        """The commit at `seq` of the verified chain, or None if this copy lacks it."""
        with contextlib.suppress(KeyError, ValueError, RuleBroken):
            oid = self.id_at(seq)
            commit = parse_commit(oid, self.repository.read(oid)) if oid else None
            return commit if commit and commit.seq == seq else None
        return None

    def log(self, line: str) -> None:
        """Note what an operator did to this copy or through it."""
        self._make_folder()
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        fd = files.open_in(str(self.folder), "log", os.O_WRONLY | os.O_APPEND)
        with open(fd, "a", encoding="utf-8") as log:  # noqa: PTH123 - a descriptor
            log.write(f"{when} {line}\n")

    # -- the lock

    @contextlib.contextmanager
    def lock(self, deadline: Deadline) -> Iterator[None]:
        """Hold the clone's lock. Re-entrant within one object. Raises `Failed`: local-lock."""
        if self._locked:
            yield
            return
        self._make_folder()
        try:
            fd = files.open_in(str(self.folder), "lock", os.O_RDWR | os.O_NOFOLLOW)
        except OSError as fault:
            if fault.errno == errno.ELOOP:  # a link: its holder's name would be written elsewhere
                raise disk_error(fault) from None
            raise
        patience = Deadline(_PATIENCE)
        try:
            if not files.lock_by_polling(fd, lambda: deadline.over() and patience.over(), _POLL):
                raise error("local-lock", where="this clone", holder=holder.read(fd))
            holder.write(fd, self.repository.root or self.repository.git_dir)
            self._locked = True
            if not self._is_in_memory:  # what is decided in here goes by the disk, not by a stamp
                self._stamp = None
            yield
        finally:
            self._locked = False
            os.close(fd)

    # -- the session of a work tree

    def session(self, mint: Callable[[], str], copied: Callable[[str], None]) -> str:
        """The token of this work tree, minted once: at this place, on this host.

        It is kept under the place's name, so that it stays where the work tree is moved, and a copy
        finds none of its own; then `copied(the new one)` is told. Where nothing can be written it
        is this process's.
        """
        # Beside the ledgers' folders: no ledger has this name.
        folder = self.repository.git_dir / "coordledger" / ".sessions"
        path = folder / _place(self.repository)
        if token := _token_in(path):
            return token
        token = mint()
        fresh = folder / f"{token}.new"  # no two have it: process ids repeat among containers
        try:
            files.make_folders(str(folder), self._folder_mode)
            others = any(_is_of_another_place(file, path) for file in folder.iterdir())
            mode = files.mode_in(str(folder))
            files.create(str(path), f"{token}\n".encode(), str(fresh), mode=mode)
        except OSError:
            self._session = self._session or token
            return self._session
        minted = _token_in(path)
        if others:
            copied(minted)
        return minted


def _token_in(path: Path) -> str:
    """The session that a file has; "" if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes().decode("ascii").strip()  # a text file would import a codec
    return ""


def _is_of_another_place(file: Path, path: Path) -> bool:
    """Whether a file has this user's session of another place than `path`."""
    if file.name == path.name or file.suffix == ".new":  # a neighbour's that mints it just now
        return False
    return file.stat().st_uid == os.geteuid()


def _changed_at(path: Path) -> int:
    """When a file was changed, in nanoseconds; 0 if there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - as above
    except FileNotFoundError:
        return 0


def _place(repository: Repository) -> str:
    """The name of a work tree's place: a move within a file system keeps it, a copy has another.

    It is made of the host, the user, and the folder's device and inode. A linked work tree that is
    copied leads to the first one's git folder, so its own folder counts, too.
    """
    linked = repository.git_dir != repository.common_dir
    folders = [repository.git_dir, repository.root if linked else None]
    facts = [os.stat(folder) for folder in folders if folder]  # noqa: PTH116 - as above
    words = [os.uname().nodename, str(os.geteuid()), *(f"{f.st_dev}:{f.st_ino}" for f in facts)]
    with contextlib.suppress(OSError):
        words.append(
            Path("/etc/machine-id").read_bytes().decode("ascii")
        )  # hosts can have one name
    return digest("sha256", "\n".join(words).encode()).hex()[:24]
