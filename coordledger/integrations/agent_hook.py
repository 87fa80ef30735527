"""`coordledger agent-hook HARNESS`: the one program that a harness's hooks call.

Rules of this file:
- It fails open: whatever goes wrong, the harness gets its neutral answer and exit code 0, and the
  log a line. Nothing that is typed or read blocks a tool but a refusal, and nothing is a
  usage error, whose exit code would block, too. Only a listener with news ends with 2.
- What a harness waits for is answered from the local copy, within `PATIENCE`; what takes longer is
  left to `jobs`.
- Nothing is imported before it is needed: most events need little.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.integrations.harnesses import (
    EDIT,
    END,
    HARNESSES,
    PROMPT,
    START,
    STOP,
    TOOL,
    Answer,
    Event,
    Output,
    harness,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from coordledger.client.config import Options
    from coordledger.integrations.harnesses import Harness
    from coordledger.integrations.here import Here
    from coordledger.integrations.memory import Memory

PATIENCE = 5.0  # seconds for a whole answer
MOST_INPUT = 32 * 1024 * 1024  # bytes of an event: an edit comes with all that it writes
WAKES = 2  # a listener's exit code when there is something to be read
_SOON = 5.0  # seconds: at a session's beginning the remote is looked at, but for one just looked at
_CHUNK = 1 << 16
_SAFE_IN_A_SHELL = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Call(NamedTuple):
    """What was typed; `remembered` is what a job is about."""

    name: str = ""
    listens: bool = False
    job: str = ""
    remembered: str = ""


def main(argv: Sequence[str]) -> int:
    """Answer one event; the exit code."""
    output = answer(argv, os.environ, _stdin)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.write(output.stdout)
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(output.stderr)
        sys.stderr.flush()
    return output.code


def answer(
    argv: Sequence[str], environ: Mapping[str, str], stdin: Callable[[], bytes | None]
) -> Output:
    """What one call gives to the harness, whatever happens."""
    call = called(argv)
    place: list[Path] = []  # where the log is, once that is known
    neutral = Output()
    if call.name not in HARNESSES:
        return _told(f"a harness is one of {' '.join(HARNESSES)}")
    try:
        module = harness(call.name)
        neutral = module.render(Event(), Answer())
        if call.job:
            _do(call, environ)
            return Output()
        with _patience(PATIENCE):
            content = stdin()
        if content is None:
            return _told("an event's JSON is expected on stdin")
        event = module.parse(_value(content))
        if call.listens:
            return _listen(call, event, environ)
        with _patience(PATIENCE):
            return _Hook(call.name, module, environ, place).answer(event)
    except BaseException as fault:  # noqa: BLE001 - a harness is not to feel what is wrong here
        _note(place, f"{' '.join(argv)[:80]}: {type(fault).__name__}: {fault}")
        return neutral


def _told(what: str) -> Output:
    """For a person; a harness passes over it."""
    return Output(stderr=f"coordledger: {what}\n")


def called(argv: Sequence[str]) -> Call:
    """What was typed. Words that this version does not know are passed over."""
    call, words = Call(), iter(argv)
    for word in words:
        if word == "--listen":
            call = call._replace(listens=True)
        elif word == "--job":
            call = call._replace(job=next(words, ""))
        elif word == "--of":
            call = call._replace(remembered=next(words, ""))
        elif not word.startswith("-") and not call.name:
            call = call._replace(name=word)
    return call


class _Hook:
    """The answer to one event."""

    def __init__(
        self, name: str, module: Harness, environ: Mapping[str, str], place: list[Path]
    ) -> None:
        """`place` is told where the log is, once that is known."""
        self._name, self._module, self._environ, self._place = name, module, environ, place

    def answer(self, event: Event) -> Output:
        says = {
            START: self._start,
            PROMPT: self._news,
            TOOL: self._tool,
            EDIT: self._edit,
            STOP: self._stop,
            END: self._end,
        }.get(event.kind)
        found = self._look(event) if says else None
        if says is None or found is None:
            return self._module.render(event, Answer())
        here, memory = found
        try:
            return self._module.render(event, says(event, here, memory))
        finally:
            here.close()

    def _look(self, event: Event) -> tuple[Here, Memory] | None:
        place = os.path.join(event.cwd, event.paths[0]) if event.kind == EDIT else event.cwd  # noqa: PTH118
        if "GIT_DIR" not in self._environ and _is_elsewhere(place or os.curdir):
            return None
        from coordledger.integrations import here  # noqa: PLC0415 - not for what says nothing

        environ = here.environment(self._environ, self._name, event.session)
        options = _options(event)
        if event.kind == EDIT:
            options = options._replace(path=here.folder_of(event.paths[0], event.cwd))
        found = here.look(options, environ)
        if found is None:
            return None
        self._place.append(found.folder)
        return found, _memory(found, self._name, event)

    def _start(self, event: Event, here: Here, memory: Memory) -> Answer:
        from coordledger.integrations.prime import prime  # noqa: PLC0415

        with contextlib.suppress(OSError):  # a clone that cannot be written
            memory.begin(here.now, here.unread())
        self._tell_shells(event, here)
        self._ask_for_key(event, here)
        self._tend(event, here, _SOON)
        return Answer(context=prime(here).text)

    def _tool(self, event: Event, here: Here, memory: Memory) -> Answer:
        self._tend(event, here, None)
        return self._news(event, here, memory)

    def _news(self, event: Event, here: Here, memory: Memory) -> Answer:
        if event.nested or not (unread := here.unread()) or unread <= memory.told():
            return Answer()
        from coordledger.integrations.news import told  # noqa: PLC0415 - seldom

        fresh, all_of_it = memory.tell(unread, unread), here.mail() + here.offers()
        return Answer(context=told([one for one in all_of_it if one.seq in fresh], here.agent))

    def _edit(self, event: Event, here: Here, memory: Memory) -> Answer:
        from coordledger.integrations.edits import refusal  # noqa: PLC0415

        return Answer(refusal=refusal(here, event.paths, event.cwd))

    def _stop(self, event: Event, here: Here, memory: Memory) -> Answer:
        if event.goes_on:
            return Answer()
        held = {f"{one.task}@{one.epoch}": one for one in here.held()}
        if not held or not (asked := memory.ask(set(held))):
            return Answer()
        from coordledger.integrations.stopping import reason  # noqa: PLC0415

        still = [one for key, one in held.items() if key in asked]
        return Answer(reason=reason(still, here.agent, here.now))

    def _end(self, event: Event, here: Here, memory: Memory) -> Answer:
        from coordledger.client.config import KEEP  # noqa: PLC0415
        from coordledger.integrations import jobs  # noqa: PLC0415

        local, key = here.connection.local, here.key if here.is_of(self._name) else None
        keeps = here.connection.settings.on_session_end == KEEP
        has_any = any((here.held(), local.journal.intents(), local.told.all()))
        if key and not keeps:
            key.end()
            has_any = has_any or key.has_ended
        if keeps or not has_any:
            memory.end()
        else:
            self._have_done(jobs.RELEASE, event)
        return Answer()

    def _tend(self, event: Event, here: Here, rest: float | None) -> None:
        from coordledger.integrations import jobs  # noqa: PLC0415

        if jobs.is_due(here, time.time(), jobs.REST if rest is None else rest):
            with contextlib.suppress(OSError):
                self._have_done(jobs.TEND, event)

    def _ask_for_key(self, event: Event, here: Here) -> None:
        from coordledger.integrations import jobs  # noqa: PLC0415

        key = here.key if here.is_of(self._name) else None
        with contextlib.suppress(OSError):  # as above
            if key and key.ask():
                self._have_done(jobs.ENROL, event)

    def _have_done(self, job: str, event: Event) -> None:
        from coordledger.integrations import jobs  # noqa: PLC0415
        from coordledger.integrations.here import environment  # noqa: PLC0415

        environ = environment(self._environ, self._name, event.session)
        jobs.start(job, self._name, event.session, environ, _options(event).path)

    def _tell_shells(self, event: Event, here: Here) -> None:
        """Claude Code's shells read a file; newer versions tell them the session by themselves."""
        from coordledger.client.config import HARNESSES  # noqa: PLC0415

        file = self._environ.get("CLAUDE_ENV_FILE") if self._name == "claude" else None
        if file and _SAFE_IN_A_SHELL.fullmatch(event.session):
            variable = HARNESSES[self._name][0]
            with contextlib.suppress(OSError), open(file, "a", encoding="ascii") as shells:  # noqa: PTH123
                shells.write(f"export {variable}={event.session}\n")


def _is_elsewhere(place: str) -> bool:
    """Whether the clone around a place has no copy of any ledger, as far as that is plain to see: a
    user's hooks are called in every project.
    """
    at = os.path.realpath(place)
    while True:
        git = f"{at}/.git"
        if os.path.exists(f"{git}/HEAD"):  # noqa: PTH110
            return not os.path.lexists(f"{git}/coordledger")
        if os.path.lexists(git) or at == (above := os.path.dirname(at)):  # noqa: PTH120
            return False
        at = above


def _options(event: Event) -> Options:
    from coordledger.client.config import Options  # noqa: PLC0415
    from coordledger.integrations.here import TIMEOUT  # noqa: PLC0415

    path = Path(event.cwd) if event.cwd and os.path.isdir(event.cwd) else Path()  # noqa: PTH112
    return Options(path=path, timeout=TIMEOUT)


def _memory(here: Here, name: str, event: Event) -> Memory:
    from coordledger.integrations.memory import Memory  # noqa: PLC0415

    return Memory(here.folder, name, event.session)


def _listen(call: Call, event: Event, environ: Mapping[str, str]) -> Output:
    from coordledger.integrations import listening  # noqa: PLC0415
    from coordledger.integrations.here import environment  # noqa: PLC0415

    environ = environment(environ, call.name, event.session)
    text = listening.listen(
        _options(event),
        environ,
        lambda here: _memory(here, call.name, event),
        listening.parents_gone(),
    )
    return Output(stderr=f"{text}\n", code=WAKES) if text else Output()


def _do(call: Call, environ: Mapping[str, str]) -> None:
    from coordledger.integrations import jobs  # noqa: PLC0415

    with _patience(jobs.MOST):
        jobs.do(call.job, _options(Event()), environ, f"{call.name} {call.remembered}")


def _value(content: bytes) -> dict[str, Any]:
    """An event's JSON. Raises ValueError, RecursionError."""
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("an event is an object")  # noqa: TRY004 - so is all that is no JSON
    return value


def _stdin() -> bytes | None:
    """All of stdin; None if that is a person's terminal. Raises ValueError, if it is too much;
    OSError.
    """
    if os.isatty(0):
        return None
    chunks, size = [], 0
    while chunk := os.read(0, _CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MOST_INPUT:
            raise ValueError(f"an event of more than {MOST_INPUT} bytes")
    return b"".join(chunks)


class _TooLate(BaseException):
    """Not an `OSError`, as TimeoutError is: what passes over those would pass over this one."""


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Raises `_TooLate` in what takes longer, where there are signals: in the main thread."""

    def too_late(number: int, frame: FrameType | None) -> None:
        raise _TooLate(f"not within {seconds:g} s")

    try:
        before = signal.signal(signal.SIGALRM, too_late)
    except ValueError:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _note(place: list[Path], line: str) -> None:
    with contextlib.suppress(Exception):
        from coordledger.client.config import cache_dir  # noqa: PLC0415
        from coordledger.integrations.memory import log  # noqa: PLC0415

        log(place[0] if place else cache_dir(os.environ) / "agent-hook", line)
