"""Files that are replaced whole, and outlive a power cut."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_durably(path: Path, content: bytes) -> None:
    """Replace `path`: after a crash it has the old content or the new.

    For a folder with one writer at a time, so that one name beside it does: what a crash
    leaves behind is written over by the next.
    """
    fresh = path.with_name("new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
