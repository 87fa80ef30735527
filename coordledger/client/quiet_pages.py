"""Find what an agent holds without reading every page of tasks again.

Rules of this file: a page's id is the hash of its content, so what is noted of a page is true of
it for ever: that none of its tasks is claimed. The note is a cache: one that cannot be read or
written costs time, and nothing else. It says of no task that somebody holds it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from coordledger import files

if TYPE_CHECKING:
    from coordledger.client.local_state import LocalState
    from coordledger.format.records import Record
    from coordledger.format.state import State

_NAME = "quiet"
_WORTH_NOTING = 16  # pages: fewer are read again sooner than noted


def busy_lines(local: LocalState, state: State) -> list[Record]:
    """The lines of the tasks that are claimed or offered to somebody."""
    pages = state.task_pages()
    quiet = _noted(local)
    unread = {path: oid for path, oid in pages.items() if oid not in quiet}
    local.repository.read_ahead(list(unread.values()))
    lines: list[Record] = []
    found = set()
    for path, oid in unread.items():
        busy = state.busy_tasks_on(path)
        if not busy:
            found.add(oid)
        lines += busy
    if len(found) >= _WORTH_NOTING:
        _note(local, found | quiet.intersection(pages.values()))
    return lines


def _noted(local: LocalState) -> set[str]:
    """The ids of pages without a claimed task, as far as they were noted."""
    try:
        return set((local.folder / _NAME).read_bytes().decode("ascii").split())
    except (OSError, ValueError):
        return set()


def _note(local: LocalState, pages: set[str]) -> None:
    content = "".join(f"{oid}\n" for oid in sorted(pages)).encode("ascii")
    folder, beside = str(local.folder), f"{_NAME}.{os.getpid()}"
    with contextlib.suppress(OSError):
        mode = files.mode_in(folder)
        files.replace(f"{folder}/{_NAME}", content, f"{folder}/{beside}", mode=mode, durable=False)
