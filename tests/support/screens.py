"""A program on a terminal of its own, of which the screen is seen as a person sees it.

Rules: nothing is waited for by time: a test says what has to be seen, or gone. What the program has
sent is kept too, as bytes.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyte
from support.runs import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet


class Screen:
    """`coordledger ARGV` in an agent's clone, on a terminal of that size."""

    def __init__(
        self, fleet: Fleet, agent: str, *argv: str, size: tuple[int, int] = (80, 24), **env: str
    ) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.sent = b""
        self.display = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.display)
        self.resize(*size)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coordledger", *argv],
            cwd=fleet.clone(agent),
            env=fleet.env | {"TERM": "xterm-256color", "PYTHONUTF8": "1"} | env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
        )
        self._slave = slave  # kept open: what was sent last is read after the end, too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self.master)

    def resize(self, columns: int, lines: int) -> None:
        """0, 0: the terminal does not know its size; what is seen has the one before."""
        if columns and lines:
            self.display.resize(lines, columns)
        packed = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, packed)

    def is_stopped(self) -> bool:
        state = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2]
        return state.split()[0] == "T"

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.display.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, happened: Callable[[], object]) -> str:
        """Wait until it is so; what is seen then."""
        end = time.monotonic() + PATIENCE
        while not happened():
            left = end - time.monotonic()
            has_ended = self.process.poll() is not None and not self._read(0)
            assert left > 0 and not has_ended, f"in vain; what is seen:\n{self.text}"
            self._read(min(left, 0.2))
        return self.text

    def see(self, *words: str, without: str = "") -> str:
        """Wait until all of that is on the screen, and nothing `without`; all that is seen. What is
        sent comes in pieces, so a part of it says nothing of the rest.
        """
        return self.until(
            lambda: (
                all(word in self.text for word in words) and not (without and without in self.text)
            )
        )

    def end(self) -> int:
        """Wait for the end of the program; its exit code."""
        self.until(lambda: self.process.poll() is not None)
        while self._read(0):
            pass
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether the terminal is as it was, the cursor is seen, and the shell's screen is back."""
        shown = self.sent.rfind(b"\x1b[?25h") > self.sent.rfind(b"\x1b[?25l")
        back = self.sent.rfind(b"\x1b[?1049l") > self.sent.rfind(b"\x1b[?1049h")
        return shown and back and termios.tcgetattr(self._slave) == self.before

    def _read(self, seconds: float) -> bytes:
        if not select.select([self.master], [], [], seconds)[0]:
            return b""
        piece = os.read(self.master, 65_536)
        self.sent += piece
        self._stream.feed(piece)
        return piece
