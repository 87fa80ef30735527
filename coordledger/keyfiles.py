"""Files that hold secrets: read only if no other user can, written so that none can.

Rules: a file is a regular file, owned by this user, mode 0600 or stricter, not a
symlink; anything else is refused, never repaired in silence. Each line is one secret
(the newest last), blank lines and surrounding white space are ignored. Which secret
fits which key is decided by fingerprints, not here.
"""

from __future__ import annotations

import posix
from _stat import S_IMODE, S_ISREG  # `stat` around it takes the hook 0.1 ms

from coordledger.errors import error
from coordledger.format.signing import Secret

MAX_BYTES = 65_536


def read(path: str) -> list[Secret] | None:
    """The secrets in the file, or None if there is no file.

    Raises `Failed`: secret-exposed, bad-secret.
    """
    try:
        fd = posix.open(
            path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK
        )
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as fault:
        import errno  # noqa: PLC0415 - a file that can be read needs none

        why = "it is a symlink" if fault.errno == errno.ELOOP else fault.strerror
        raise error("secret-exposed", path=path, why=why, fix="use a file of your own") from None
    facts = posix.fstat(fd)
    if not S_ISREG(facts.st_mode):
        posix.close(fd)
        raise error("secret-exposed", path=path, why="it is no file", fix="use a file")
    with open(fd, "rb") as file:  # noqa: PTH123
        if facts.st_uid != posix.geteuid():
            raise error("secret-exposed", path=path, why="it is another user's", fix="chown it")
        if facts.st_mode & 0o077:
            mode = f"mode {S_IMODE(facts.st_mode):04o} lets others read it"
            raise error("secret-exposed", path=path, why=mode, fix=f"chmod 600 {path}")
        content = file.read(MAX_BYTES + 1)
    return parse(content, path)


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


def append(path: str, secret: Secret) -> None:
    """Add `secret` as the last line of a 0600 file, durably; the file appears whole.

    Two that append at the same time queue on the folder, so that neither line is lost.
    """
    import os  # noqa: PLC0415 - here and below: the hook reads only, and has no time for it

    from coordledger import files  # noqa: PLC0415

    folder = os.path.dirname(path) or "."  # noqa: PTH120
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    queue = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        files.lock(queue)
        lines = [old.reveal() for old in read(path) or []]
        if secret.reveal() in lines:
            return
        content = "\n".join([*lines, secret.reveal()]) + "\n"
        files.replace(path, content.encode("ascii"), f"{path}.new", mode=0o600, durable=True)
    finally:
        os.close(queue)
