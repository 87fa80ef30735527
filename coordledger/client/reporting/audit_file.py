"""The report of an audit as a file: Markdown or HTML, by its name.

Rules: where it goes is looked at before the audit, which may take long; it is put in its place
whole. It describes the audit that it was made with, and no other.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import coordledger
from coordledger.client.reporting import audited, document
from coordledger.client.reporting.seen import Seen
from coordledger.errors import CoordledgerError, error
from coordledger.format import timestamps
from coordledger.format.names import CUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordledger.client.opening import Connection
    from coordledger.client.reports import Audit

_FORMS = {
    ".html": document.html,
    ".htm": document.html,
    ".md": document.markdown,
    ".markdown": document.markdown,
}
_MOST_NOTES = 65_536  # bytes of a log


class AuditFile:
    """A report that is going to be written. `seen` is handed what the audit sees."""

    def __init__(self, path: Path) -> None:
        """Raises `Failed`: bad-value."""
        self.path, self.seen = path, Seen()
        self._form = _FORMS.get(path.suffix.lower())
        if self._form is None:
            raise error("bad-value", what="--report", why="a file that ends in .html or .md")
        if not path.parent.is_dir() or (path.exists() and not path.is_file()):
            raise error("bad-value", what="--report", why=f"{path} cannot be written as a file")

    def write(self, connection: Connection, audit: Audit, trust: Iterable[str]) -> None:
        """Raises OSError."""
        form: Callable[[document.Document], str] = self._form or document.markdown
        told = _circumstances(connection, tuple(trust))
        text = form(audited.describe(audit, self.seen, told))
        fresh = self.path.with_name(f".{self.path.name}.{os.urandom(4).hex()}")
        try:
            with fresh.open("x", encoding="utf-8") as file:  # no link that somebody has put there
                file.write(text)
            fresh.replace(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def _circumstances(connection: Connection, trust: tuple[str, ...]) -> audited.Circumstances:
    replica, local = connection.replica, connection.local
    trusted, state = replica.trusted, replica.position().state
    entries = ((name, state.agent(name) or {"keys": []}) for name in state.agents())
    return audited.Circumstances(
        head=coordledger.Head(trusted.ledger, trusted.seq, trusted.digest, trusted.commit),
        ref=local.remote_ref,
        remote=_where(connection),
        oldest=trusted.first,
        keys={
            (name, key["id"]): (key["alg"], key["verifier"])
            for name, entry in entries
            for key in entry["keys"]
        },
        trust=trust,
        cuts=_cuts(connection),
        notes=tuple(_notes(connection)),
        enforcement=connection.enforcement,
        by=_who(connection),
        at=timestamps.show(connection.clock()),
        versions=(
            f"coordledger {coordledger.__version__}",
            f"Python {sys.version.partition(' ')[0]}",
            connection.git.version()[1],
        ),
    )


def _where(connection: Connection) -> str:
    """The remote, and where that leads."""
    shown, url = connection.settings.remote.shown, connection.replica.vouches.url
    return shown if shown == url else f"{shown}, {url}"


def _cuts(connection: Connection) -> tuple[str, ...] | None:
    """What the remote keeps of records that were cut off; None where it does not say."""
    if connection.settings.offline:
        return None
    with contextlib.suppress(CoordledgerError):
        return tuple(sorted(connection.remote.listing(f"{CUT}{connection.local.name}/")))
    return None


def _notes(connection: Connection) -> list[str]:
    """The lines in which repairs and resets were noted: of this copy, and of the remote's folder
    where that can be read.
    """
    name, folder = connection.local.name, connection.remote.folder
    noted = _lines(connection.local.folder / "log")
    if folder:
        lines = _lines(Path(folder, "coordledger", "repairs.log"))
        noted += [line for line in lines if f" {name}: " in line]
    return noted


def _lines(path: Path) -> list[str]:
    # The remote's folder may be somebody else's: no link is followed, and no pipe waited for.
    def opened(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with contextlib.suppress(OSError), open(path, "rb", opener=opened) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _MOST_NOTES))
        return file.read(_MOST_NOTES).decode("utf-8", "replace").splitlines()
    return []


def _who(connection: Connection) -> str:
    """The agent, if one is configured, the account and the host."""
    import pwd  # noqa: PLC0415 - for a report only

    uid, agent = os.geteuid(), connection.settings.agent
    account = f"uid {uid}"
    with contextlib.suppress(KeyError):  # a container
        account = pwd.getpwuid(uid).pw_name
    return f"{f'agent {agent}, ' if agent else ''}{account} on {os.uname().nodename}"
