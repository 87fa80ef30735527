"""Cut a ledger back to its last record that is valid here and now, where the repository lives.

Rules of this file:
- The whole ledger is judged, with the server's secrets and clock. What is cut is the first record
  that is invalid, of a newer version or from the future, and all that follows it. None is cut
  because its secret is not here, nor for damage of this disk.
- A cut can be undone: a ref keeps the records that are cut off. It is logged before it is made, in
  coordledger/repairs.log in the repository, and made by compare-and-swap under the ledger's lock.
- Only the account that owns the repository cuts: what another one writes there its pushes could
  not replace.

No client takes a shorter history for the longer one that it has verified: whoever has adopted a
record that is cut off is told so, and decides.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import TYPE_CHECKING, NamedTuple

from coordledger import files
from coordledger.deadline import Deadline
from coordledger.errors import Integrity, RuleBroken, error, printable
from coordledger.format import records, timestamps
from coordledger.format.chain import UNVERIFIED, Chain, judge_all
from coordledger.format.commit import parse_commit
from coordledger.format.names import CUT, LEDGERS
from coordledger.git import refs
from coordledger.git.history import ancestors
from coordledger.git.process import child_environment
from coordledger.git.repository import open_bare
from coordledger.server.admission import server_keyring
from coordledger.server.catch_up import git_in
from coordledger.server.sequencer import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coordledger.format.commit import Commit
    from coordledger.git.history import CommitRange
    from coordledger.git.process import Git
    from coordledger.git.repository import Repository

    Progress = Callable[[str, int, int], None]  # what, how many are done, of how many (0: ?)

_TOLD = 100  # records between two words about how far it has come
_POLL = 0.01


class CutRecord(NamedTuple):
    """A record that is to be cut off. `at`, `agent` and `subject` are what it says itself, None if
    it is not readable.
    """

    seq: int
    commit: str
    at: str | None
    agent: str | None
    subject: str | None


class Cut(NamedTuple):
    """What a repair cuts off. `code` and `message` are of the first of the `records`; `last` is
    the record that the ledger ends with then, and `head` the id that it ends with now.
    """

    ledger: str
    head: str
    last: Commit
    code: str
    message: str
    records: tuple[CutRecord, ...]

    @property
    def kept_as(self) -> str:
        """The ref that keeps what is cut off."""
        return f"{CUT}{self.ledger}/{self.records[0].seq}-{self.head[:12]}"


class Findings(NamedTuple):
    """`last` is the newest valid record, `unchecked` how many there was no secret for."""

    last: Commit
    unchecked: int
    cut: Cut | None


class ServerLedger:
    """One ledger of a bare repository, on the machine where that lives."""

    def __init__(self, path: Path, name: str, git: Git, environ: Mapping[str, str]) -> None:
        """Raises `Failed`: not-owner, not-a-repository, not-trusted, …"""
        _need_owner(path)
        self.repository: Repository = open_bare(path, git)
        self.folder = self.repository.common_dir / "coordledger"
        self.log = self.folder / "repairs.log"
        self.name, self.ref = name, LEDGERS + name
        self._environ = child_environment(environ) | {"GIT_DIR": str(self.repository.common_dir)}
        self._git = git_in(self._environ)

    def examine(self, now: int, progress: Progress) -> Findings:
        """What a repair would cut off; `now` in milliseconds since 1970.

        Raises `Failed`: not-a-ledger, git-failed, secret-exposed, …; `Integrity`: bad-genesis, if
        there is nothing to cut back to.
        """
        head = self.repository.ref(self.ref)
        if head is None:
            raise error("not-a-ledger", remote=self.repository.git_dir, name=self.name, others="")
        try:
            return self._examine(head, now, progress)
        except (KeyError, Integrity) as fault:
            if isinstance(fault, Integrity) and fault.code != "bad-copy":
                raise
            why = fault.message if isinstance(fault, Integrity) else "an object is missing"
            raise error("git-failed", why=f"{why}: see git fsck; nothing is cut off") from None

    def _examine(self, head: str, now: int, progress: Progress) -> Findings:
        repository = self.repository
        path = ancestors(repository.read, self._git, head, {None})
        if path.below is not None:
            raise KeyError(path.below)
        chain = Chain(repository.read, server_keyring(str(self.folder)), None, repository.algo)
        last, unchecked = None, 0
        for judged in judge_all(chain, path):
            broken = judged.broken or _future(chain.head, chain.state.skew, now)
            if broken and last is None:
                raise broken.theirs(judged.seq, judged.oid, "coordledger init makes another ledger")
            if broken and last:
                if judged.broken:
                    repository.need_whole(judged.oid, judged.content)
                cut = Cut(self.name, head, last, broken.code, str(broken), self._after(last, path))
                return Findings(last, unchecked, cut)
            last, unchecked = chain.head, unchecked + (judged.verdict == UNVERIFIED)
            if judged.seq % _TOLD == _TOLD - 1:
                progress("verifying", judged.seq + 1, len(path))
        if last is None:
            raise KeyError(head)
        return Findings(last, unchecked, None)

    def _after(self, last: Commit, path: CommitRange) -> tuple[CutRecord, ...]:
        """All records of `path` after `last`, as they describe themselves."""
        ids = list(path.ids())[last.seq + 1 :]
        return tuple(self._described(seq, oid) for seq, oid in enumerate(ids, last.seq + 1))

    def _described(self, seq: int, oid: str) -> CutRecord:
        try:
            record = parse_commit(oid, self.repository.read(oid)).record
        except RuleBroken:
            return CutRecord(seq, oid, None, None, None)
        return CutRecord(seq, oid, record["at"], record["agent"], records.subject(record))

    def apply(self, cut: Cut, now: int) -> None:
        """Cut off what `examine` has found. Raises `Failed`: busy, push-refused, io."""
        files.make_folders(str(self.folder), 0o700)

        def wait(fd: int, seconds: int) -> bool:
            return files.lock_by_polling(fd, Deadline(seconds).over, _POLL)

        git_dir = str(self.repository.common_dir)
        try:
            with Lock(str(self.folder / f"{self.name}.lock"), wait):
                if self.repository.ref(cut.kept_as) is None:
                    nothing = "0" * len(cut.head)
                    why = refs.move(git_dir, cut.kept_as, nothing, cut.head, self._environ)
                    _need_done(why)
                self._note(now, _line(cut))
                move = (git_dir, self.ref, cut.head, cut.last.oid, self._environ)
                why = refs.move(*move, "coordledger repair")
                if why:
                    self._note(now, f"{cut.ledger}: it was not cut: {printable(why)}")
                _need_done(why)
        except RuleBroken as broken:
            raise broken.own() from None

    def undo(self, cut: Cut) -> list[str]:
        """The command that undoes a cut, as words."""
        place = f"--git-dir={self.repository.common_dir}"
        return ["git", place, "update-ref", self.ref, cut.head, cut.last.oid]

    def _note(self, now: int, line: str) -> None:
        """Append a line durably."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.log, flags, 0o600)
        try:
            files.write_all(fd, f"{timestamps.show(now)} {line}\n".encode("ascii"))
            os.fsync(fd)
        finally:
            os.close(fd)


def _future(head: Commit | None, skew: int, now: int) -> RuleBroken | None:
    """Whether a record that is valid is from the future."""
    ahead = timestamps.parse(head.record["at"]) - now if head else 0
    if head is None or ahead <= skew:
        return None
    facts = {"agent": head.record["agent"], "at": head.record["at"]}
    return RuleBroken("from-future", ahead=timestamps.span(ahead), **facts)


def _line(cut: Cut) -> str:
    """What the log has of a cut."""
    first, newest = cut.records[0], cut.records[-1]
    return (
        f"{cut.ledger}: cuts records {first.seq} to {newest.seq} off"
        f" ({cut.code}: {printable(cut.message)}); by {_user()}; from {cut.head} to"
        f" {cut.last.oid} ({cut.last.seq}:{cut.last.digest}); kept as {cut.kept_as}"
    )


def _user() -> str:
    """Who runs this: the account, and who has become it."""
    uid, name = os.getuid(), "?"
    with contextlib.suppress(KeyError):  # a container
        name = printable(pwd.getpwuid(uid).pw_name)
    return f"{name} (uid {uid})"


def _need_done(why: str) -> None:
    if why:
        raise error("busy", why=why.splitlines()[-1])


def _need_owner(path: Path) -> None:
    """Raises `Failed`: not-owner."""
    try:
        uid = path.stat().st_uid
    except OSError:
        raise error("not-a-repository", path=path) from None
    if uid == os.geteuid():
        return
    owner = f"#{uid}"  # as sudo has it
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(uid).pw_name
    raise error("not-owner", path=path, owner=owner)
