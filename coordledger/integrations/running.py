"""`run`: a claim that lasts as long as a command does.

Rules of this file:
- A command that is not there burns no claim; one that cannot be started gives it back.
- At the end the task is completed (exit 0, where that is asked for) or given back, with how the
  command ended as the reason. The command's own exit code is the answer; only where that is 0,
  a task that could not be completed or given back has a say.
- One claim has one command on one host: a lock says so, since a session may hold a claim already.

What happens while the command runs is `supervision`'s.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from coordledger.client.claims import ClaimResult, to_json
from coordledger.errors import LOST, CoordledgerError, error, own_code
from coordledger.files import make_folders, try_lock
from coordledger.hashes import digest
from coordledger.integrations import lease as leases
from coordledger.integrations import processes
from coordledger.integrations.holding import Holding
from coordledger.integrations.processes import Terminal
from coordledger.integrations.supervision import Signals, Supervision
from coordledger.integrations.watcher import Watcher
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

    from coordledger.client.claims import Claim
    from coordledger.client.ledger import Ledger
    from coordledger.integrations.lease import Reading
    from coordledger.integrations.processes import Event, Program

_INTERRUPTED = (130, 131)  # how a command ends by ^C and ^\, which only it has heard


class Order(Value):
    """What is to be run, and how. `environ` and `folder` are the command's."""

    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    ttl: timedelta | None = None
    complete: bool = False
    resume: bool = False
    waits: bool = False  # whether the claim is waited for


class Run(Value):
    """How it went. `code` is the exit code of `run`; `ended` is None where nothing was started.
    `status` of the task: done, released, lost, or held where that could not be settled.
    """

    code: int
    status: str
    claim: Claim | None = None
    ended: Event | None = None
    error: CoordledgerError | None = None
    result: ClaimResult | None = None
    was_told_to_end: bool = False  # by a signal


class Runner:
    """Runs commands under claims of one ledger."""

    def __init__(
        self,
        ledger: Ledger,
        say: Callable[[str], None],
        clocks: Callable[[], Reading] = leases.read_clocks,
    ) -> None:
        """`say` prints a line for people; `clocks()` reads both clocks."""
        self._ledger, self._say, self._clocks = ledger, say, clocks
        self._connection = ledger.connection
        self._timeout = ledger.connection.settings.timeout

    def run(
        self, order: Order, claim: Callable[[], ClaimResult], started: Callable[[Claim], None]
    ) -> Run:
        """One command under the claim that `claim` makes; `started` hears of it when it runs.

        Raises `CoordledgerError`, where nothing was started.
        """
        file = processes.find(order.command[0], order.environ, order.folder)
        settings = self._connection.settings
        self._connection.local.journal.waits_for_report = True
        try:
            self._need_usable(order.ttl)
            return self._claim_and_run(order, file, claim, started)
        finally:
            self._connection.settings = settings  # each step has had a timeout of its own

    def _claim_and_run(
        self,
        order: Order,
        file: str,
        claim: Callable[[], ClaimResult],
        started: Callable[[Claim], None],
    ) -> Run:
        asked = self._clocks()
        result = self._win(order, claim)
        if not result.won or result.claim is None:
            return Run(own_code(LOST), "lost", result=result)
        if order.waits:  # for how long nobody knows: the lease began just now
            asked = self._clocks()
        with self._lock(result.claim), Signals() as signals:
            holding = Holding(
                self._ledger,
                result.claim,
                asked,
                ttl=order.ttl,
                clocks=self._clocks,
                signals=signals,
            )
            try:
                self._need_length(result.claim.task, holding.lease.length)
                program, watcher, terminal = self._start(order, file, holding)
            except (CoordledgerError, OSError):
                self._told()
                holding.give_back("nothing was started")
                raise
            self._told()
            started(result.claim)
            return self._attend(order, holding, program, watcher, terminal)

    def _need_usable(self, ttl: timedelta | None) -> None:
        """Before anything is claimed, as far as this clone knows the ledger's policy."""
        if ttl is not None and self._connection.local.trusted is not None:
            skew = self._connection.replica.position().state.skew / 1000
            self._need_length("the task", ttl.total_seconds() - skew)

    @staticmethod
    def _need_length(task: str, seconds: float) -> None:
        """Raises `Failed`: lease-too-short."""
        if seconds < leases.LEAST:
            raise error("lease-too-short", task=task, left=f"{max(0.0, seconds):.1f}")

    def _win(self, order: Order, claim: Callable[[], ClaimResult]) -> ClaimResult:
        """What this session holds already is gone on with only if that was asked for: a command
        may be running under it.
        """
        result = claim()
        held = result.claim
        if held is None or result.outcome == "won":
            return result
        if order.resume and result.code == "already-yours":
            return self._ledger.renewal(held.task, ttl=order.ttl)
        if not order.resume and result.won:
            lost = error("already-yours", task=held.task, until=_shown(held))
            hint = "to run the command under that claim: --resume"
            return ClaimResult("lost", (held,), lost.code, lost.message, hint)
        return result

    @contextlib.contextmanager
    def _lock(self, claim: Claim) -> Iterator[None]:
        """Raises `Lost`: already-run."""
        settings = self._connection.settings
        what = f"{settings.remote.target}\n{self._connection.local.remote_ref}\n{claim.task}"
        folder = settings.cache_dir / "run"
        make_folders(str(folder), 0o700)
        path = folder / f"{digest('sha256', what.encode()).hex()[:24]}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not try_lock(fd):
                raise error("already-run", task=claim.task)
            yield
        finally:
            os.close(fd)

    def _start(
        self, order: Order, file: str, holding: Holding
    ) -> tuple[Program, Watcher, Terminal]:
        watcher, terminal = Watcher(self._clocks), Terminal()
        watcher.tell(holding.lease)
        environ = dict(order.environ) | self._environ(holding.claim)
        try:
            program = processes.start(
                order.command,
                file,
                environ,
                order.folder,
                before=watcher.guard,
                terminal=terminal,
            )
        except CoordledgerError:
            watcher.close()
            raise
        return program, watcher, terminal

    def _attend(
        self,
        order: Order,
        holding: Holding,
        program: Program,
        watcher: Watcher,
        terminal: Terminal,
    ) -> Run:
        """From the start of the program to the end of its claim."""
        supervision = Supervision(
            program,
            holding.lease,
            tend=holding.tend,
            signals=holding.signals,
            watcher=watcher,
            terminal=terminal,
            clocks=self._clocks,
            jitter=self._connection.jitter,
            say=self._say,
            timeout=self._timeout,
        )
        try:
            ended = supervision.run()
            terminal.take_back(program.pid, modes=ended.by_signal or bool(supervision.lost))
            if supervision.lost:
                program.kill()
            else:
                program.end_leftovers()
        except BaseException:
            program.kill()  # nobody would end it in time
            raise
        finally:
            watcher.close()
        if not supervision.settle():
            fault: CoordledgerError | None = error("timeout", seconds=f"{self._timeout:g}")
            return self._run(holding, ended, "held", fault)
        if supervision.lost:
            if not supervision.is_taken:
                holding.give_back("the lease could not be renewed in time")
            lost = error("lease-lost", task=holding.claim.task, why=supervision.lost)
            return self._run(holding, ended, "lost", lost)._replace(code=lost.exit_code)
        if supervision.is_finished:
            return self._run(holding, ended, "done", None)
        if order.complete and ended.code == 0:
            fault, status = holding.complete(), "done"
        else:
            fault, status = holding.give_back(str(ended)), "released"
        if fault is not None:
            status = "lost" if fault.code == "lease-lost" else "held"
        return self._run(holding, ended, status, fault)

    def _run(
        self, holding: Holding, ended: Event, status: str, fault: CoordledgerError | None
    ) -> Run:
        code = ended.code or (own_code(fault.exit_code) if fault else 0)
        return Run(
            code,
            status,
            holding.claim,
            ended,
            fault,
            was_told_to_end=holding.signals.was_ended or code in _INTERRUPTED,
        )

    def _told(self) -> None:
        """From here on what lands needs no report: the exit code tells."""
        journal = self._connection.local.journal
        journal.reported()
        journal.waits_for_report = False

    def _environ(self, won: Claim) -> dict[str, str]:
        """By what the command knows its claim, and acts as the same session."""
        me = self._connection.identity()
        return {
            "COORDLEDGER_TASK": won.task,
            "COORDLEDGER_EPOCH": str(won.epoch),
            "COORDLEDGER_UNTIL": _shown(won),
            "COORDLEDGER_AGENT": me.agent,
            "COORDLEDGER_SESSION": me.session,
            "COORDLEDGER_LEDGER": self._connection.settings.ledger,
        }


def _shown(claim: Claim) -> str:
    """When its lease ends, as JSON has it."""
    return str(to_json(claim.expires_at))
