"""Files that hold secrets and private keys: only their user reads them, and makes them.

Rules: a file is a regular file, owned by this user, mode 0600 or stricter, not a
symlink; anything else is refused, never repaired in silence. Platforms mount secrets as links,
readable by all, of another owner: in a folder that the user names as trusted only the content
counts. A file is written only into
a folder that no other user may write to, and made exclusively: another user who makes it first
would keep it open, and read what comes into it. Each line is one secret
(the newest last), blank lines and surrounding white space are ignored. Which secret
fits which key is decided by fingerprints, not here.
"""

from __future__ import annotations

import posix
from _stat import S_IMODE, S_ISREG  # `stat` around it takes the hook 0.1 ms

from coordledger.errors import error
from coordledger.format.signing import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 65_536
TRUSTED = "COORDLEDGER_SECRETS_TRUSTED"  # the environment's name of the trusted folder


def read(path: str, trusted: str | None = None) -> list[Secret] | None:
    """The secrets in the file, or None if there is no file.

    As `read_private`. Raises `Failed`: secret-exposed, bad-secret.
    """
    content = read_private(path, trusted)
    return None if content is None else parse(content, path)


def read_private(path: str, trusted: str | None = None) -> bytes | None:
    """The content of the file, a byte more than `MAX_BYTES` at most; None if there is no file.

    In the folder `trusted` and below it, links to files in there are followed, whoever owns them
    and may read them. Raises `Failed`: secret-exposed.
    """
    mounted = _resolved(path, trusted) if trusted else None
    try:
        fd = posix.open(
            mounted or path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK
        )
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as fault:
        import errno  # noqa: PLC0415 - a file that can be read needs none

        why = "it is a symlink" if fault.errno == errno.ELOOP else fault.strerror
        fix = f"use a file of your own; {_opt_in(path)}"
        raise error("secret-exposed", path=path, why=why, fix=fix) from None
    facts = posix.fstat(fd)
    if not S_ISREG(facts.st_mode):
        posix.close(fd)
        raise error("secret-exposed", path=path, why="it is no file", fix="use a file")
    with open(fd, "rb") as file:  # noqa: PTH123
        if facts.st_uid != posix.geteuid() and not mounted:
            fix = f"chown it; {_opt_in(path)}"
            raise error("secret-exposed", path=path, why="it is another user's", fix=fix)
        if facts.st_mode & 0o077 and not mounted:
            mode = f"mode {S_IMODE(facts.st_mode):04o} lets others read it"
            fix = f"chmod 600 {path}"
            if not facts.st_mode & 0o200:
                fix += f"; {_opt_in(path)}"
            raise error("secret-exposed", path=path, why=mode, fix=fix)
        content: bytes = file.read(MAX_BYTES + 1)
    return content


def _resolved(path: str, trusted: str) -> str | None:
    """Where the file is, if both its name and that place are in the folder."""
    import os  # noqa: PLC0415 - a hook trusts no folder

    folder, place = os.path.realpath(trusted), os.path.realpath(path)
    named = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))  # noqa: PTH118, PTH119, PTH120
    inside = all(one.startswith(folder.rstrip("/") + "/") for one in (named, place))
    return place if inside else None


def _opt_in(path: str) -> str:
    folder = path.rpartition("/")[0] or "."
    return f"if a platform mounts it: export {TRUSTED}={folder}"


def parse(content: bytes, where: str) -> list[Secret]:
    """The secrets in `content`, one a line. Raises `Failed`: bad-secret."""
    if len(content) > MAX_BYTES:
        raise error("bad-secret", where=where, why="it is too large")
    secrets = []
    for line in content.split(b"\n"):
        text = line.decode("ascii", "replace").strip()
        if text:
            try:
                secrets.append(Secret(text))
            except ValueError as fault:
                raise error("bad-secret", where=where, why=fault) from None
    if not secrets:
        raise error("bad-secret", where=where, why="it is empty")
    return secrets


def append(path: str, secret: Secret, folders: int = 1) -> None:
    """Add `secret` as the last line of a 0600 file, durably; the file appears whole.

    The `folders` above it are made with mode 0700 where they are missing, and are refused where
    others may write to them. Two that append at the same time queue on the folder, so that
    neither line is lost. Raises `Failed`: secret-exposed, bad-secret.
    """

    def appended() -> bytes | None:
        lines = [old.reveal() for old in read(path) or []]
        if secret.reveal() in lines:
            return None
        return ("\n".join([*lines, secret.reveal()]) + "\n").encode("ascii")

    _write(path, appended, folders)


def create(path: str, content: bytes, folders: int = 1) -> bool:
    """Write a new 0600 file, as `append` does; False if it is there already."""
    return _write(path, lambda: None if posix.access(path, posix.F_OK) else content, folders)


def _write(path: str, make: Callable[[], bytes | None], folders: int) -> bool:
    """Write what `make` gives once the folder is locked, if it gives anything."""
    import os  # noqa: PLC0415 - here and below: the hook reads only, and has no time for it

    from coordledger import files  # noqa: PLC0415

    folder = os.path.dirname(path) or "."  # noqa: PTH120
    above = [folder]
    while len(above) < folders:
        above.append(os.path.dirname(above[-1]))  # noqa: PTH120
    for one in reversed(above):  # nothing is made below a folder that is refused
        files.make_folders(one, 0o700)
        _need_private(one)
    queue = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files.lock(queue)
        content = make()
        if content is None:
            return False
        beside = f"{path}.new"
        files.remove(beside)  # what a crash has left: the folder is ours, and the lock too
        files.replace(path, content, beside, mode=0o600, exclusive=True, durable=True)
    finally:
        os.close(queue)
    return True


def _need_private(folder: str) -> None:
    """Raises `Failed`: secret-exposed, if another user may write into the folder."""
    facts = posix.stat(folder)
    if facts.st_uid != posix.geteuid():
        raise error("secret-exposed", path=folder, why="it is another user's", fix="chown it")
    if facts.st_mode & 0o022:
        mode = f"mode {S_IMODE(facts.st_mode):04o} lets others write into it"
        raise error("secret-exposed", path=folder, why=mode, fix=f"chmod 700 {folder}")
