"""A small process beside `run`: it ends the program when `run` cannot.

Rules of this file:
- It holds one end of a pipe. When the other one closes without a word, `run` was killed: the
  program's group, and what has left it, is killed at once.
- It knows the lease, too, and keeps to it: while `run` is stopped (^Z, SIGSTOP), TERM and KILL come
  from here. TERM comes a little later than `run`'s own.
- It is in a session of its own, deaf to all signals that can be blocked, and keeps no other
  file of `run` open. If it is killed itself, `run` starts another one.

It does not print, and never touches the ledger.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.integrations import lease as leases
from coordledger.integrations.lease import Lease
from coordledger.integrations.processes import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.integrations.lease import Reading

TICK = 1.0  # seconds between two looks at the clocks, which may be set, and at machines that slept
_LATER = 0.5  # of the grace that `run` gives after its TERM


class Watcher:
    """The other side: what `run` tells its watcher."""

    def __init__(self, clocks: Callable[[], Reading]) -> None:
        self._clocks = clocks
        self._told: dict[str, object] = {}
        self._pid, self._pipe, self._is_alive, self._tried = 0, -1, False, 0.0
        self._start()

    def _start(self) -> None:
        """Call it from the main thread, while there is no other one."""
        self._tried = time.monotonic()
        theirs, ours = os.pipe()
        os.set_blocking(ours, False)  # somebody may have stopped the other side
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    _become(theirs, self._clocks)
                finally:
                    os._exit(0)
        except OSError:
            os.close(ours)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(theirs)
        self._pid, self._pipe, self._is_alive = pid, ours, True

    def tell(self, lease: Lease) -> None:
        """The lease as it is now."""
        self._told["lease"] = lease
        self._send(self._told)

    def guard(self, group: int, token: str = "") -> None:
        """The group that is to be ended with the lease; 0: there is none any more."""
        self._told |= {"group": group, "token": token, "asked": False}
        self._send(self._told)

    def tell_asked(self) -> None:
        """The program has been asked to end."""
        self._told["asked"] = True
        self._send(self._told)

    def _send(self, what: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # it was killed: `revive` comes
            os.write(self._pipe, json.dumps(what).encode() + b"\n")

    def revive(self) -> bool:
        """Start another one if this one was killed, or try to, once in a while. As `_start`.
        Whether there is another one.
        """
        if not self._has_ended() or time.monotonic() - self._tried < TICK:
            return False
        self._forget()
        with contextlib.suppress(OSError):  # short of processes
            self._start()
            self._send(self._told)
        return self._pid != 0

    def _has_ended(self) -> bool:
        if self._pid and self._is_alive:
            with contextlib.suppress(ChildProcessError):
                self._is_alive = os.waitpid(self._pid, os.WNOHANG)[0] == 0
                return not self._is_alive
        return True

    def _forget(self) -> None:
        if self._pid:
            os.close(self._pipe)
        self._pid, self._pipe = 0, -1

    def close(self) -> None:
        """The program has ended; so does the watcher, even if somebody has stopped it."""
        self.guard(0)
        if not self._has_ended():
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._forget()


def _become(pipe: int, clocks: Callable[[], Reading]) -> None:
    """In the new process."""
    os.setsid()  # all signals stay blocked
    os.chdir("/")
    try:
        open_files = [int(entry.name) for entry in Path("/dev/fd").iterdir()]
    except OSError:  # no such folder
        open_files = list(range(1024))
    for number in open_files:
        with contextlib.suppress(OSError):  # that of the listing itself
            if number != pipe:
                os.close(number)
    _watch(pipe, clocks)


def _watch(pipe: int, clocks: Callable[[], Reading]) -> None:
    lease: Lease | None = None
    program: Program | None = None
    is_asked, rest = False, b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while True:
        if poll.poll(1000 * _patience(lease, clocks)):
            data = os.read(pipe, 65_536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines[-1:]:
                told = json.loads(line)
                lease = Lease(*told["lease"]) if "lease" in told else None
                group = told.get("group", 0)
                program = Program(group, told["token"]) if group else None
                is_asked = told.get("asked", False)
        if lease is None or program is None:
            continue
        left = lease.left(clocks())
        if left <= leases.margin(lease):
            program.kill()
        elif left <= _asks_at(lease) and not is_asked:
            program.terminate()
            is_asked = True
    if program is not None:
        program.kill()


def _asks_at(lease: Lease) -> float:
    return leases.margin(lease) + (1 - _LATER) * leases.grace(lease)


def _patience(lease: Lease | None, clocks: Callable[[], Reading]) -> float:
    if lease is None:
        return TICK
    left = lease.left(clocks())
    ahead = [left - at for at in (_asks_at(lease), leases.margin(lease)) if at < left]
    return min([TICK, *ahead]) + 0.001
