"""Many objects of a repository in turn, through one `git cat-file --batch --buffer`.

Rules: git is asked for all of them and does not wait for the next question after each answer, so
that it writes, and this process reads, many objects at a time. It is asked whenever it can take a
question, and what it has printed is read meanwhile: neither waits for the other for ever. An
object's size is looked at before its content. What git sees is what is read; replace refs and
grafts change nothing. That an object is the one of its id is not looked at here.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from coordledger.errors import RuleBroken
from coordledger.git.cat_file import MAX_OBJECT, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from coordledger.git.cat_file import StoredObject

_LOT = 1000  # questions that are put together
_CHUNK = 65_536  # bytes: what a pipe holds


class ObjectStream:
    """A running git, and what it is asked for."""

    def __init__(self, oids: Iterable[str], environ: dict[str, str]) -> None:
        """Of the repository that the environment names. Raises OSError: git cannot be started."""
        self._left = iter(oids)
        self._asked: deque[str] = deque()  # and not answered
        self._process = subprocess.Popen(
            ["git", "cat-file", "--batch", "--buffer"],
            env=environ | {"GIT_NO_REPLACE_OBJECTS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C is this process's
        )

    def close(self) -> None:
        """End git."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def __iter__(self) -> Iterator[StoredObject]:
        """Raises `KeyError`: one is missing; `RuleBroken`: too-large, bad-push."""
        chunks = self._chunks()
        data, at = b"", 0

        def more() -> bytes:
            chunk = next(chunks, b"")
            if not chunk:
                raise RuleBroken("bad-push", why="git cat-file stopped")
            return chunk

        for chunk in chunks:
            data, at = data[at:] + chunk, 0
            while (end := data.find(b"\n", at)) >= 0:
                oid, stored = self._asked.popleft(), parse_header(data[at:end], MAX_OBJECT)
                if stored is None:
                    raise KeyError(oid)
                at, (_, kind, size) = end + 1, stored
                if len(data) - at <= size:
                    parts = [data[at:]]
                    left = size + 1 - len(parts[0])
                    while left > 0:
                        parts.append(more())
                        left -= len(parts[-1])
                    data, at = b"".join(parts), 0
                yield oid, kind, data[at : at + size]
                at += size + 1
        if self._asked or at < len(data):
            raise RuleBroken("bad-push", why="git cat-file stopped")

    def _chunks(self) -> Iterator[bytes]:
        """What git prints, as it comes; meanwhile it is asked for the rest."""
        questions, answers = self._process.stdin, self._process.stdout
        if questions is None or answers is None:
            return
        os.set_blocking(questions.fileno(), False)
        poll, waiting = select.poll(), self._next_questions()
        poll.register(answers, select.POLLIN)
        poll.register(questions, select.POLLOUT)
        while True:
            ready = {number for number, _ in poll.poll()}
            if not questions.closed and questions.fileno() in ready:
                with contextlib.suppress(BrokenPipeError):  # its silence tells
                    waiting = waiting[questions.write(waiting) or 0 :] or self._next_questions()
                if not waiting:
                    poll.unregister(questions)
                    questions.close()
            if answers.fileno() in ready:
                chunk = os.read(answers.fileno(), _CHUNK)
                if not chunk:
                    return
                yield chunk

    def _next_questions(self) -> bytes:
        lot = list(islice(self._left, _LOT))
        self._asked.extend(lot)
        return "".join(f"{oid}\n" for oid in lot).encode("ascii")
