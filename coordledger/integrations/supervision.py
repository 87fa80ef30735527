"""One program under one lease: what is passed on, renewed and ended while it runs.

Rules of this file:
- The main thread waits: for signals, for the program, for the clocks. Attempts to renew are made by
  one thread at a time, each bounded, so that no network keeps the program from being ended in time.
- Every signal is passed on to the program's group. A program that stops, stops this process's group
  too, so that the shell sees it.
- The program is ended when the lease is lost, or would be over before it was renewed. Which of the
  phases it is in is decided by `lease`.

How a claim is made, completed or given back is `running`'s.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from coordledger.errors import CoordledgerError, disk_error, error
from coordledger.integrations import lease as leases
from coordledger.integrations.lease import KILL, RENEW, TERMINATE
from coordledger.integrations.watcher import TICK

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from coordledger.integrations.lease import Lease, Reading
    from coordledger.integrations.processes import Event, Program, Terminal
    from coordledger.integrations.watcher import Watcher

_PASSED_ON = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH", "TSTP")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_TOO_LATE = "it was not renewed in time"
_WAKE = b"\0"  # no signal has this number


def _noted(number: int, frame: FrameType | None) -> None:
    """The wake-up pipe has it."""


class Signals:
    """What is sent to this process, as a list that can be waited for."""

    def __init__(self) -> None:
        self.was_ended = False  # whether one of them asked to end
        self.was_ended_again = False  # one that came when the program was gone
        self.is_alone = False  # whether the program is gone
        self._before: dict[int, Any] = {}
        self._reads, self._writes = os.pipe()
        self._fd_before = -1

    def __enter__(self) -> Self:
        os.set_blocking(self._reads, False)
        os.set_blocking(self._writes, False)
        self._fd_before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        for name in (*_PASSED_ON, "CHLD"):
            number = getattr(signal, f"SIG{name}")
            if signal.getsignal(number) is not signal.SIG_IGN or name == "CHLD":  # nohup
                self._before[number] = signal.signal(number, _noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        os.close(self._reads)
        os.close(self._writes)

    def wake(self) -> None:
        """From another thread: something is to be looked at."""
        with contextlib.suppress(OSError):  # full is as good, closed is late
            os.write(self._writes, _WAKE)

    def wait(self, seconds: float) -> list[int]:
        """The signals that came meanwhile; it may return early, and without any."""
        select.select([self._reads], [], [], max(0.0, seconds))
        heard: list[int] = []
        with contextlib.suppress(BlockingIOError):
            heard = [number for number in os.read(self._reads, 4096) if number != _WAKE[0]]
        self.was_ended |= any(number in _ENDING for number in heard)
        self.was_ended_again |= self.is_alone and any(number in _ENDING for number in heard)
        return heard


class Attempt:
    """A call in a thread of its own. `result` is what it returned, or the error that it raised."""

    def __init__(self, call: Callable[[], Any], done: Callable[[], None]) -> None:
        self.result: Any = None
        self._call, self._done = call, done
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except CoordledgerError as fault:
            self.result = fault
        except OSError as fault:
            self.result = disk_error(fault)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the program has to be ended in time
            self.result = error("internal", why=f"{type(fault).__name__}: {fault}")
        self._done()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive() or self.result is not None

    def join(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)


class Held:
    """The claim is held by this session: the lease that it has."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease


class Finished:
    """The program itself has completed the task: there is no lease any more, and none is needed."""


class Gone:
    """The claim is not this session's any more; `why` says so."""

    def __init__(self, why: str) -> None:
        self.why = why


class Supervision:
    """A program that runs, and its lease."""

    def __init__(
        self,
        program: Program,
        lease: Lease,
        *,
        tend: Callable[[bool, float], Held | Finished | Gone],
        signals: Signals,
        watcher: Watcher,
        terminal: Terminal,
        clocks: Callable[[], Reading],
        jitter: Callable[[], float],
        say: Callable[[str], None],
        timeout: float,
    ) -> None:
        """`tend(renew, timeout)` looks at the claim, and renews it if it is to; it raises
        `CoordledgerError`. `timeout` is the most that it gets. `say` prints a line for people.
        """
        self.lease, self.is_finished = lease, False
        self.lost = ""  # why the command had to end
        self.is_taken = False  # whether the claim is not this session's any more
        self._program, self._tend, self._timeout = program, tend, timeout
        self._signals, self._watcher, self._terminal = signals, watcher, terminal
        self._clocks, self._jitter, self._say = clocks, jitter, say
        self._attempt: Attempt | None = None
        self._is_stopping = False  # whether the shell wants this process's group to stop
        self._is_tried = False  # whether a renewal of this very lease was attempted
        self._failures = 0
        now = clocks()
        self._due = now.steady + leases.until_look(lease)
        self._kill_at = float("inf")  # on the steady clock, once it was asked to end

    def run(self) -> Event:
        """Until the program has ended. `lost` says then why it had to, or is empty."""
        while True:
            event = self._program.poll()
            if event is not None and event.code is not None:
                self._signals.is_alone = True
                due = leases.phase(self.lease, self._clocks())
                if due in (TERMINATE, KILL) and not self.is_finished:
                    self.lost = self.lost or _TOO_LATE  # this process was stopped: the watcher did
                return event
            if event is not None and event.stopped is not None:
                self._follow_stop(event.stopped)
                continue
            now = self._clocks()
            self._take_result(now)
            self._enforce(now)
            self._next_attempt(now)
            if self._attempt is None and self._watcher.revive():
                self._say("the process that watches over the command was killed: another one does")
            for number in self._signals.wait(self._patience(now)):
                if number != signal.SIGCHLD:
                    self._program.signal(number)
                self._is_stopping |= number == signal.SIGTSTP

    def settle(self) -> bool:
        """The program has ended: what was under way is brought to its end, and nothing is said of
        it. False if it does not come to one. A claim that it found gone may have been given back by
        the program: what is done next tells.
        """
        if self._attempt is None:
            return True
        self._attempt.join(2 * self._timeout + TICK)
        self.is_finished |= isinstance(self._attempt.result, Finished)
        return self._attempt.is_over

    # -- the lease

    def _enforce(self, now: Reading) -> None:
        """End the program when it is time to."""
        if self.is_finished:
            return
        due = leases.phase(self.lease, now)
        if due in (TERMINATE, KILL) and not self.lost:
            self._end(now, _TOO_LATE)
        if due == KILL or now.steady >= self._kill_at:
            self._program.kill()

    def _end(self, now: Reading, why: str) -> None:
        self.lost = why
        self._kill_at = now.steady + leases.grace(self.lease)
        self._say(f"the lease is lost: {why}; the command is ended")
        self._watcher.tell_asked()
        self._program.terminate()

    def _next_attempt(self, now: Reading) -> None:
        if self._attempt is not None or self.is_finished or self.lost:
            return
        renew = leases.phase(self.lease, now) == RENEW
        if now.steady < self._due and not (renew and not self._is_tried):
            return
        self._is_tried |= renew
        timeout = leases.attempt_timeout(self.lease, now, self._timeout)
        self._attempt = Attempt(lambda: self._tend(renew, timeout), self._signals.wake)

    def _take_result(self, now: Reading) -> None:
        if self._attempt is None or not self._attempt.is_over:
            return
        self._attempt.join()
        result, self._attempt = self._attempt.result, None
        if isinstance(result, Finished):
            self.is_finished = True
            self._watcher.tell(leases.ENDLESS)
        elif isinstance(result, Gone):
            self.is_taken = True
            if not self.lost:
                self._end(now, result.why)
        elif isinstance(result, Held):
            self._hold(result.lease, now)
        else:
            self._fail(result, now)

    def _hold(self, lease: Lease, now: Reading) -> None:
        if self._failures:
            self._say("the lease could be renewed again")
        self._failures = 0
        if lease != self.lease:
            self.lease, self._is_tried = lease, False
            self._watcher.tell(lease)
        if leases.phase(lease, now) == RENEW:  # it was renewed, and is no longer for that
            self._due = now.steady + leases.until_retry(lease, now, self._jitter())
        else:
            self._due = now.steady + leases.until_look(lease)

    def _fail(self, fault: CoordledgerError, now: Reading) -> None:
        """Only a renewal that fails is worth a line, and that only once."""
        if self._is_tried and not self._failures and not self.lost:
            left = self.lease.left(now) - leases.margin(self.lease) - leases.grace(self.lease)
            self._say(
                f"the lease could not be renewed: {fault.message};"
                f" the command is ended in {max(0.0, left):.0f} s unless it can be"
            )
        self._failures += self._is_tried
        self._due = now.steady + leases.until_retry(self.lease, now, self._jitter())

    def _patience(self, now: Reading) -> float:
        """How long to wait, if nothing happens."""
        ahead = [TICK]
        if self.lost:
            ahead.append(self._kill_at - now.steady)
        elif self._attempt is None and not self.is_finished:
            ahead.append(max(0.001, self._due - now.steady))
        if not self.is_finished:
            ahead.append(leases.until_next(self.lease, now))
        return min(seconds for seconds in ahead if seconds > 0)

    # -- the terminal

    def _follow_stop(self, number: int) -> None:
        """The program was stopped. Where it only waits for the terminal that this process has, it
        gets it; else this process's group stops too, until the shell lets it go on. Where there
        is no terminal, somebody has meant the program alone.
        """
        if not (self._terminal.is_there or self._is_stopping):
            return
        self._is_stopping = False
        wants_terminal = number in (signal.SIGTTIN, signal.SIGTTOU)
        had_terminal = self._terminal.is_with(self._program.pid)
        if not (wants_terminal and self._terminal.is_ours):
            self._terminal.take_back(self._program.pid, modes=True)
            before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.killpg(os.getpgrp(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, before)
        if wants_terminal or had_terminal:
            self._terminal.give(self._program.pid)
        self._program.signal(signal.SIGCONT)
