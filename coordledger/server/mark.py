"""The mark: how far the hooks of this repository have verified a ledger without a gap.

`coordledger/<ledger>.verified`, in the folder of the secrets, is one line: two commits and a
checksum. They are the ledger's head and the new one of the push that was admitted last: it may
still lose, so each of the two counts, and so does every record below them.

Rules of this file:
- A mark is a memory, never an authority for more: what it does not cover is verified again,
  `catch_up`. So it may be lost, stale or another ledger's. What is torn, or not this account's
  alone, reads as lost.
- It is written before the push is let through. It is written over in its place, which costs no
  wait for the disk, and a crash leaves the old line or the new; every `SYNCED` records it is
  brought to the disk, so that a crash sets it back by less than the hook verifies by itself.
- It is not written where the ledger has moved on meanwhile: a slow push would set a fast one back.
- The hooks import this at every push: the rare case is imported late.
"""

from __future__ import annotations

import posix
from _stat import S_ISREG
from zlib import crc32

from coordledger.answers import Vouch
from coordledger.errors import RuleBroken
from coordledger.format import timestamps
from coordledger.format.names import LEDGERS
from coordledger.git.refs import read_plain
from coordledger.hashes import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.commit import Commit
    from coordledger.format.signing import Keyring
    from coordledger.git.loose import Reader

SYNCED = 512  # records: a longer push is synced itself; twice as many are admission.MAX_RECORDS
_LONGEST = 256
_READS = 3
_FLAGS = posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK


class Marks:
    """The marks in the repository that `environ` names; `objects` and `keyring` are its own."""

    def __init__(self, environ: dict[str, str], objects: Reader, keyring: Keyring) -> None:
        self._environ, self._objects, self._keyring = environ, objects, keyring
        self._git_dir = environ.get("GIT_DIR", ".")

    def need(self, name: str, oid: str) -> None:
        """See to it that the ledger's head `oid` is verified, and all below it.

        Raises `RuleBroken`: unverified-below, no-secret, invalid-below.
        """
        marked = read(path_in(self._git_dir, name))
        if oid in marked:
            return
        from coordledger.server.catch_up import catch_up, git_in  # noqa: PLC0415

        catch_up(self._objects.read, git_in(self._environ), self._keyring, oid, marked)
        self._keep(name, oid, oid, durable=True)

    def keep(self, name: str, old: Commit, new: Commit) -> None:
        """Remember that all is verified up to `old`, the ledger's head, and to `new` above it.

        Raises `RuleBroken`: hook-broken.
        """
        durable = old.seq // SYNCED != new.seq // SYNCED
        self._keep(name, old.oid, new.oid, durable=durable)

    def _keep(self, name: str, old: str, new: str, *, durable: bool) -> None:
        now = read_plain(self._git_dir, LEDGERS + name)
        if not now or now == old:
            write(path_in(self._git_dir, name), old, new, durable=durable)


def vouch(head: Commit, now: int) -> Vouch:
    """What is said of a head that is verified; `now` in milliseconds since 1970."""
    return Vouch(head.record["ledger"], head.seq, head.digest, timestamps.show(now))


def path_in(git_dir: str, name: str) -> str:
    """Where the mark of a ledger is."""
    return f"{git_dir}/coordledger/{name}.verified"


def read(path: str) -> tuple[str, ...]:
    """The commits that are verified with all below them; () where there is no mark."""
    try:
        fd = posix.open(path, posix.O_RDONLY | _FLAGS)
    except OSError:
        return ()
    try:
        for _ in range(_READS if _is_ours(fd) else 0):  # it may be written right now
            marked = _parse(posix.pread(fd, _LONGEST, 0))
            if marked:
                return marked
    except OSError:  # a folder
        pass
    finally:
        posix.close(fd)
    return ()


def write(path: str, old: str, new: str, *, durable: bool) -> None:
    """Put the mark there. Raises `RuleBroken`: hook-broken."""
    content = _render(old, new)
    try:
        if not _write_over(path, content, durable=durable):
            from coordledger import files  # noqa: PLC0415 - once for each ledger

            beside = f"{path}.{posix.urandom(4).hex()}.new"
            files.replace(path, content, beside, mode=0o600, exclusive=True, durable=True)
    except OSError as fault:
        why = f"cannot write {path}: {fault.strerror}"
        raise RuleBroken("hook-broken", why=why) from fault


def _write_over(path: str, content: bytes, *, durable: bool) -> bool:
    """Write into the file that is there; False if it is not just what it ought to be."""
    try:
        fd = posix.open(path, posix.O_WRONLY | _FLAGS)
    except OSError:
        return False
    try:
        facts = posix.fstat(fd)
        if not _is_ours(fd) or facts.st_size != len(content) or facts.st_nlink != 1:
            return False
        if posix.pwrite(fd, content, 0) != len(content):
            return False
        if durable:
            posix.fsync(fd)
    finally:
        posix.close(fd)
    return True


def _is_ours(fd: int) -> bool:
    """Whether it is a file that no other account could have written."""
    facts = posix.fstat(fd)
    alone = facts.st_uid == posix.geteuid() and not facts.st_mode & 0o022
    return alone and S_ISREG(facts.st_mode)


def _render(old: str, new: str) -> bytes:
    ids = f"{old} {new}".encode("ascii")
    return b"%s %08x\n" % (ids, crc32(ids))


def _parse(content: bytes) -> tuple[str, ...]:
    words = content.decode("latin-1").rstrip("\n").split(" ")
    if len(words) != 3 or not (is_digest(words[0]) and is_digest(words[1])):
        return ()
    old, new, _ = words
    return (old, new) if _render(old, new) == content else ()
