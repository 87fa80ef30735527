"""Land records in a repository of this machine as its server would, in the process that sends them.

`git receive-pack`, which a push to a folder starts, and the hooks that it starts run as this very
account, on this machine, and with this package. Where they would do nothing else (`eligibility`)
this does what they do: the ledger's lock, the verification and admission of `sequencer`, the mark,
the objects and the ref on the disk, git's lock of the ref, the words of the answer.

Rules of this file:
- Secrets, fences and the repository's settings are looked at in each turn, with the ledger's lock.
- Nothing is remembered but the chain at a head that was verified here.
- An outcome is certain: None only where nothing was done, so that the records may be pushed.

It decides nothing about records; and whether it may be used, `eligibility` does.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from coordledger import files
from coordledger.answers import Unknown
from coordledger.errors import CoordledgerError
from coordledger.git.loose import Reader
from coordledger.git.process import NO_REMOTE, Git, server_environment
from coordledger.server.admission import server_keyring
from coordledger.server.eligibility import Question
from coordledger.server.fence import read_fences
from coordledger.server.sequencer import PushedRecords, Sequencer, Unsure, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordledger.answers import Answer
    from coordledger.deadline import Deadline
    from coordledger.format.signing import Keyring, Signed
    from coordledger.server.eligibility import Facts, Finding

POLL = 0.002  # seconds between two looks at the ledger's lock


class Receiver:
    """Takes the records of one ledger of the repository at `git_dir`."""

    def __init__(
        self, git_dir: str, ledger: str, environ: Mapping[str, str], loaded: Facts
    ) -> None:
        """`environ` is that of git's programs; `loaded` as `eligibility.find` has it."""
        self._git_dir, self._loaded = git_dir, loaded
        self._environ = server_environment(environ) | NO_REMOTE | {"GIT_DIR": git_dir}
        self._sequencer = Sequencer(ledger, self._environ)
        self._finding: Finding | None = None
        self._question: Question | None = None

    def ask(self, deadline: Deadline) -> None:
        """Begin to ask what `why_not` answers, if that was never asked."""
        if self._finding is None and self._question is None:
            self._question = self._new_question(deadline)

    def why_not(self, deadline: Deadline) -> str:
        """Why a push has to do it; "" if it need not. Raises `Failed`: no-git, timeout."""
        question, self._question = self._question, None
        if question:
            self._finding = question.answer(deadline)
        if self._finding is None or not self._finding.holds:  # also where it was begun long ago
            self._finding = self._new_question(deadline).answer(deadline)
        return self._finding.why

    def _new_question(self, deadline: Deadline) -> Question:
        git = Git(server_environment(self._environ), Path(self._git_dir), deadline)
        return Question(self._git_dir, self._environ, git, self._loaded)

    def close(self) -> None:
        question, self._question = self._question, None
        if question:
            question.close()

    @property
    def head(self) -> str:
        """The ledger's head when it was looked at last; "" before."""
        return self._sequencer.head

    def land(
        self,
        runs: list[list[tuple[str, Signed]]],
        ready: Callable[[], None],
        deadline: Deadline,
    ) -> list[list[Answer]] | None:
        """Land runs of records, each whole or not at all: the server's answers to each of them, []
        for one that has to come again. None if nothing was done, and they are to be pushed.

        A record comes with the id that answers call it by. `ready()` is called before anything can
        be seen; what it raises is raised, and nothing has landed.
        """
        lock = self._sequencer.lock(lambda fd, seconds: _wait(fd, deadline, seconds))
        given: list[list[Answer]] | None = None
        with _Meanwhile(ready) as before:
            try:
                with lock, Reader(self._environ, quiet=True) as objects:
                    keyring = self._look_again()  # others may have had the lock for long
                    if keyring is not None:
                        sequencer = self._sequencer.use(objects, keyring, plain=True)
                        pushes = [PushedRecords.of(run) for run in runs]
                        outcomes = sequencer.run(pushes, before.need)
                        given = [outcome.answers if outcome else [] for outcome in outcomes]
            except Unsure as unsure:
                return [[Unknown("", str(unsure))] for _ in runs]
            except Exception as fault:
                if fault is before.fault:
                    raise
                # Fail closed, whatever it is; what failed after the outcomes changes none of them.
                return given or [refused("", fault).answers for _ in runs]
        return given

    def _look_again(self) -> Keyring | None:
        """With the lock: the server's secrets; None where a push would start or ask more by now,
        or where its hook had better say what is wrong. Raises what a broken fence does: it stops
        every push.
        """
        if self._finding is None or not self._finding.holds:
            return None
        folder = f"{self._git_dir}/coordledger"
        read_fences(folder)
        try:
            return server_keyring(folder)
        except (OSError, CoordledgerError):
            return None


class _Meanwhile:
    """Does something in a thread of its own: the disk is waited for once, and not twice. `fault` is
    what it has raised.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self.fault: BaseException | None = None
        self._act, self._thread = act, threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as fault:  # noqa: BLE001 - raised by `need`
            self.fault = fault

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def need(self) -> None:
        """Wait for it. Raises what it has raised."""
        self._thread.join()
        if self.fault:
            raise self.fault


def _wait(fd: int, deadline: Deadline, seconds: int) -> bool:
    """Wait for the lock as any thread may."""
    end = time.monotonic() + seconds
    return files.lock_by_polling(fd, lambda: deadline.over() or time.monotonic() > end, POLL)
