"""A program in a process group of its own: started, signalled, stopped with its terminal, ended.

Rules of this file:
- The program is started by `fork` from the main thread, while there is no other thread. It runs
  only once `before` was called with its group. If this process is killed, the program is (Linux:
  PR_SET_PDEATHSIG, which a thread that ends would set off; elsewhere `watcher` does it alone).
- All signals and the terminal are the group's. Dispositions are those that this process was
  started with.
- What leaves the group (setsid) is found by a token in its environment where there is a /proc. It
  is not found elsewhere, nor if it has cleared its environment. Where one `run` runs another, what
  the inner one starts has both tokens: the inner one may be killed before it has ended anything.

It knows no ledger and no lease.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TOKEN = "COORDLEDGER_RUN"  # noqa: S105 - the variable that marks all that a program starts
LEFTOVERS = 2.0  # seconds that the rest of a group gets to end after its program
_GLANCE = 0.02  # seconds between two looks at whether a group is empty
_SWEEPS = 20  # passes over all processes, until none is found
_PR_SET_PDEATHSIG = 1
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
# Python ignores these, programs expect them to have their default.
_OF_PYTHON = ("SIGPIPE", "SIGXFZ", "SIGXFSZ")


class Event(NamedTuple):
    """The program has ended, with `code` (128 + n for signal n); or `stopped` by that signal."""

    code: int | None = None
    stopped: int | None = None
    by_signal: bool = False

    def __str__(self) -> str:
        code = self.code or 0
        return f"signal {code - 128}" if self.by_signal else f"exit {code}"


def find(command: str, environ: Mapping[str, str], folder: Path) -> str:
    """The file of a command, as shells find it from `folder`.

    Raises `CoordledgerError`: command-not-found, command-not-executable.
    """
    if "/" in command:
        candidates = [folder / command]
    else:
        places = environ.get("PATH", os.defpath).split(os.pathsep)
        candidates = [folder / (place or ".") / command for place in places]
    files = [one.absolute() for one in candidates if command and one.exists()]
    for one in files:
        if one.is_file() and os.access(one, os.X_OK):
            return str(one)
    if files:
        raise error("command-not-executable", command=command)
    raise error("command-not-found", command=command)


class Program:
    """A running program, and the group that it leads."""

    def __init__(self, pid: int, token: str) -> None:
        self.pid, self.token = pid, token

    def signal(self, number: int) -> None:
        """Send a signal to the whole group."""
        signal_group(self.pid, number)

    def poll(self) -> Event | None:
        """What has become of it since the last time; it is not waited for."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # somebody else has reaped it
            return Event(code=_NOT_FOUND)
        if pid == 0:
            return None
        if os.WIFSTOPPED(status):
            return Event(stopped=os.WSTOPSIG(status))
        if os.WIFSIGNALED(status):
            return Event(code=128 + os.WTERMSIG(status), by_signal=True)
        return Event(code=os.WEXITSTATUS(status))

    def terminate(self) -> None:
        """Ask the group, and what has left it, to end; what is stopped has to hear of it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            signal_group(self.pid, number)
            for pid in strays(self.token):
                if _group_of(pid) != self.pid:
                    _signal(pid, number)

    def kill(self) -> None:
        kill_all(self.pid, self.token)

    def end_leftovers(self) -> None:
        """The rest of the group when its program has ended gets TERM, and KILL after a while."""
        signal_group(self.pid, signal.SIGTERM)
        end = time.monotonic() + LEFTOVERS
        while is_group(self.pid) and time.monotonic() < end:
            time.sleep(_GLANCE)
        signal_group(self.pid, signal.SIGKILL)


def start(
    command: Sequence[str],
    file: str,
    environ: Mapping[str, str],
    folder: Path,
    *,
    before: Callable[[int, str], None],
    terminal: Terminal,
) -> Program:
    """Start `file` with the words of `command`, in `folder`. `before(group, token)` is called when
    the group is there and before anything runs in it.

    Raises `CoordledgerError`: command-not-found, command-not-executable, no-process.
    """
    token = os.urandom(8).hex()
    around = environ.get(TOKEN)
    env = dict(environ) | {TOKEN: f"{around}:{token}" if around else token}
    die_with = _dying_with(os.getpid())
    go, told = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, file, env, folder, go, told, mask, die_with, terminal)
    except OSError as fault:
        raise error("no-process", why=fault.strerror) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(go[0])
        os.close(told[1])
    try:
        with contextlib.suppress(OSError):  # it has done so itself, and may run already
            os.setpgid(pid, pid)
        before(pid, token)
        if os.isatty(1):  # else a pager of the same job may need it, and the program may not
            terminal.give(pid)
        os.write(go[1], b"g")
    finally:
        os.close(go[1])
    fault_number = os.read(told[0], 1)
    os.close(told[0])
    if fault_number:
        os.waitpid(pid, 0)
        terminal.take_back(pid)
        missing = fault_number[0] in (errno.ENOENT, errno.ENOTDIR)
        raise error(
            "command-not-found" if missing else "command-not-executable", command=command[0]
        )
    return Program(pid, token)


def _become(
    command: Sequence[str],
    file: str,
    environ: Mapping[str, str],
    folder: Path,
    go: tuple[int, int],
    told: tuple[int, int],
    mask: set[int | signal.Signals],
    die_with: Callable[[], bool],
    terminal: Terminal,
) -> None:
    """In the new process: wait for the word, and become the program. It does not return."""
    try:
        os.close(go[1])
        signal.set_wakeup_fd(-1)  # the pipe is the parent's
        os.setpgid(0, 0)
        for number in signal.valid_signals():
            is_ours = callable(signal.getsignal(number))
            if is_ours or number in {getattr(signal, name, None) for name in _OF_PYTHON}:
                signal.signal(number, signal.SIG_DFL)
        if not die_with() or not os.read(go[0], 1):
            os._exit(_NOT_FOUND)
        os.chdir(folder)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.execve(file, list(command), environ)  # noqa: S606 - no shell is wanted
        except OSError as fault:
            if fault.errno != errno.ENOEXEC:
                raise
            # as execvp does
            os.execve("/bin/sh", ["sh", file, *command[1:]], environ)  # noqa: S606
    except OSError as fault:
        os.write(told[1], bytes([fault.errno or errno.EIO]))
    finally:
        os._exit(_NOT_FOUND)


def _dying_with(parent: int) -> Callable[[], bool]:
    """For a child to call: from then on it is killed when its parent ends. False if that has
    ended already. Where the system has no such thing, only the latter.
    """
    prctl = None
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # noqa: PLC0415 - 10 ms

            prctl = ctypes.CDLL(None).prctl

    def call() -> bool:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        return os.getppid() == parent

    return call


# -- groups, and what has left them


def signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def is_group(group: int) -> bool:
    """Whether there is a process in it."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def strays(token: str) -> Iterator[int]:
    """The processes whose environment, when they were started, had the token."""
    name, wanted = f"{TOKEN}=".encode(), token.encode()
    try:
        found = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return
    for entry in found:
        with contextlib.suppress(OSError):  # somebody else's, or gone
            content = (entry / "environ").read_bytes()
            if wanted not in content:
                continue
            said = [one for one in content.split(b"\0") if one.startswith(name)]
            if any(wanted in one.removeprefix(name).split(b":") for one in said):
                yield int(entry.name)


def kill_all(group: int, token: str) -> None:
    """KILL the group and what has left it, until nothing of it is found."""
    for _ in range(_SWEEPS):
        signal_group(group, signal.SIGKILL)
        found = [pid for pid in strays(token) if _group_of(pid) != group]
        for pid in found:
            _signal(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(_GLANCE)


# -- the terminal


class Terminal:
    """The terminal on stdin, if this process is in its foreground: it is lent to the program."""

    def __init__(self, fd: int = 0) -> None:
        self._fd: int | None = None
        self._ours: list[object] | None = None  # modes
        self._theirs: list[object] | None = None
        with contextlib.suppress(OSError, termios.error):
            if os.isatty(fd):
                self._fd, self._ours = fd, termios.tcgetattr(fd)

    @property
    def is_there(self) -> bool:
        return self._fd is not None

    def is_with(self, group: int) -> bool:
        """Whether `group` is in the foreground."""
        return self._foreground() == group

    @property
    def is_ours(self) -> bool:
        """Whether this process's group is in the foreground."""
        return self.is_with(os.getpgrp())

    def _foreground(self) -> int | None:
        if self._fd is None:
            return None
        try:
            return os.tcgetpgrp(self._fd)
        except OSError:
            return None

    def give(self, group: int) -> None:
        """To the foreground with `group`, with the modes that it had when it was stopped."""
        if self.is_ours:
            self._set(group, self._theirs)

    def take_back(self, group: int, *, modes: bool = False) -> None:
        """From `group`, if it has the terminal; with `modes` also those that were there before."""
        if self.is_with(group):
            if modes and self._fd is not None:
                with contextlib.suppress(termios.error):
                    self._theirs = termios.tcgetattr(self._fd)
            self._set(os.getpgrp(), self._ours if modes else None)

    def _set(self, group: int, modes: list[object] | None) -> None:
        """From the background this is allowed to who blocks SIGTTOU."""
        if self._fd is None:
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            with contextlib.suppress(OSError, termios.error):
                os.tcsetpgrp(self._fd, group)
                if modes is not None:
                    termios.tcsetattr(self._fd, termios.TCSADRAIN, modes)  # type: ignore[arg-type]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
