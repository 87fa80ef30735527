"""`coordledger mcp` as a process: what comes in as bytes, its end, and many calls at once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

PATIENCE = 60  # seconds, on loaded machines
_INFO = {"name": "a client", "version": "1"}


class Server:
    """The process, and a client that knows lines."""

    def __init__(self, fleet: Fleet) -> None:
        argv = ["-m", "coordledger", "-C", str(fleet.clone("bob")), "--as", "bob", "mcp"]
        self.process = subprocess.Popen(
            [sys.executable, *argv],
            env=fleet.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answers: Queue[dict[str, Any]] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _INFO}
        self.says({"id": 0, "method": "initialize", "params": hello})
        self.answer()
        self.says({"method": "notifications/initialized"})

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._answers.put(json.loads(line))

    def says(self, message: dict[str, Any]) -> None:
        self.writes(json.dumps({"jsonrpc": "2.0"} | message))

    def writes(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def calls(self, number: int, tool: str, **given: Any) -> None:
        params = {"name": tool, "arguments": given}
        self.says({"id": number, "method": "tools/call", "params": params})

    def answer(self) -> dict[str, Any]:
        return self._answers.get(timeout=PATIENCE)

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it says of it."""
        assert self.process.stderr
        return self.process.wait(PATIENCE), self.process.stderr.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


@pytest.fixture
def server(fleet: Fleet) -> Iterator[Server]:
    fleet.enroll("bob")
    made = Server(fleet)
    yield made
    made.close()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_half_of_a_sign_in_an_argument_is_answered_too(server: Server) -> None:
    """A model was cut off in an emoji: what the harness passes on is JSON, and no text."""
    title = r"\ud83d \ud83d\ude00 \\ud83d \uDE00\u00e4"
    call = f'{{"name":"submit","arguments":{{"task":"half-a-sign","title":"{title}"}}}}'
    server.writes(f'{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{call}}}')
    answer = server.answer()
    assert answer["id"] == 2
    shown = answer["result"]["structuredContent"]["title"]
    assert shown == "\ufffd \U0001f600 \\ud83d \ufffd\u00e4"


def terminated(server: Server) -> None:
    server.process.terminate()


def interrupted(server: Server) -> None:
    server.process.send_signal(signal.SIGINT)


def left(server: Server) -> None:
    assert server.process.stdin
    server.process.stdin.close()


@pytest.mark.parametrize(("ends", "code"), [(terminated, 143), (interrupted, 130), (left, 0)])
def test_it_ends_at_once_with_calls_that_wait(
    server: Server, ends: Callable[[Server], None], code: int
) -> None:
    server.calls(1, "inbox", wait="1h")
    server.calls(2, "tasks")
    assert server.answer()["id"] == 2
    ends(server)
    assert server.end() == (code, "coordledger: interrupted\n" if code else "")


def test_it_ends_without_a_word_when_nobody_reads_its_answers(fleet: Fleet) -> None:
    fleet.enroll("bob")
    argv = [sys.executable, "-m", "coordledger", "-C", str(fleet.clone("bob")), "mcp"]
    with subprocess.Popen(
        argv, env=fleet.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _INFO}
        said = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        process.stdin.write(json.dumps(said).encode() + b"\n")
        process.stdin.flush()
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")


def test_calls_that_wait_are_in_no_other_ones_way(server: Server) -> None:
    """Nor in that of the word that ends one of them."""
    for number in range(1, 51):
        server.calls(number, "inbox", wait="1h")
    server.calls(100, "tasks")
    assert server.answer()["id"] == 100


def test_a_claim_that_is_called_again_while_the_cancelled_one_is_at_work_gets_its_answer(
    server: Server, fleet: Fleet
) -> None:
    """The harness has given up on a call whose push takes long, and the model tries again."""
    hook, entered, hold = (fleet.root / name for name in ("hook", "entered", "hold"))
    installed = fleet.remote / "hooks/pre-receive"
    installed.rename(hook)
    held = (
        f"#!/bin/sh\ntouch '{entered}'\nwhile [ -e '{hold}' ]; do sleep 0.05; done\nexec '{hook}'\n"
    )
    installed.write_text(held)
    installed.chmod(0o755)
    hold.touch()
    server.calls(1, "claim", task="t")
    until(entered.exists)
    server.says({"method": "notifications/cancelled", "params": {"requestId": 1}})
    server.calls(2, "claim", task="t")
    server.calls(3, "tasks")
    assert server.answer()["id"] == 3  # so the second one has begun
    hold.unlink()
    answer = server.answer()
    won = answer["result"]["structuredContent"]
    assert (answer["id"], won.get("outcome"), won.get("resumed")) == (2, "won", True), won
    assert fleet.ledger("alice").show("t").epoch == 1
    server.calls(
        4, "claim", task="t"
    )  # somebody else in this session: not the one who was answered
    assert server.answer()["result"]["structuredContent"]["code"] == "already-yours"
