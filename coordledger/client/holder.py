"""Who holds a lock, for the message of a process that waits for it in vain.

Rules of this file: the holder writes one line into the lock's file; the kernel's lock is what
counts, and the line is no more than a hint: a full disk stops nobody who has the lock. What is read
there may be anybody's: it is shown as printable ASCII, and cut.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from coordledger.errors import printable

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 400  # characters
_COMMAND = 120  # of the command: a message can be part of it


def write(fd: int, where: Path) -> None:
    """Say that this process holds the lock, for the work tree or folder `where`."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    name = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - it may be anything
    command = printable(" ".join([name, *sys.argv[1:]]), _COMMAND)
    who = f"process {os.getpid()} on {os.uname().nodename}, since {since}"
    line = printable(f"{who}, in {where}: {command}", _MOST).encode("ascii")
    with contextlib.suppress(OSError):
        os.pwrite(fd, line, 0)
        os.ftruncate(fd, len(line))


def read(fd: int) -> str:
    """The newest holder of the lock."""
    line = b""
    with contextlib.suppress(OSError):  # it is no file
        line = os.pread(fd, _MOST, 0)
    return printable(line.decode("utf-8", "replace"), _MOST) or "a process that has not said which"
