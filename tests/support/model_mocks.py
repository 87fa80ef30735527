"""A model on loopback that says what a script says, in the words of four interfaces.

Rules: the script decides what the model does, the harness what comes of it; every request is
kept, read into the same form whatever interface it came by (`Request`), so that tests ask what
reached the model. A script is a generator: it yields a turn and gets the request that answers it.
When it has ended the model says "done". Requests beside the conversation (titles, token counts)
get an answer and no turn.

    def script():
        answer = yield Shell("coordledger claim --next --json")
        if "won" in answer.results[-1]:
            yield Say("It is mine.")

It knows no harness: which interface is spoken is told by the request's path, and what a harness
calls its tools is in `support.harnesses`.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


# -- what a script says


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Shell:
    """A command, by whatever tool the harness has for that."""

    command: str


@dataclass(frozen=True, slots=True)
class Write:
    """A new file; `path` is relative to the harness's folder."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool by the harness's own name for it; `text` is what a tool without JSON gets."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    text: str | None = None


Turn = Say | Shell | Write | Tool
Script = Generator[Turn, "Request", None]


# -- what reached the model


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a turn.

    `system` is what the harness says by itself: the system text and developer messages; `user` what
    stands as the user's, in which some harnesses put what hooks add; `results` those of tools,
    oldest first; `tools` the tools' names.
    """

    path: str
    body: dict[str, Any]
    system: str
    user: tuple[str, ...]
    results: tuple[str, ...]
    tools: tuple[str, ...]

    @property
    def result(self) -> str:
        """What the newest call of a tool gave."""
        return self.results[-1] if self.results else ""


def _text(content: Any) -> str:
    """The text in what is a string, a list of blocks, or a block."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_text(block) for block in content)
    if isinstance(content, dict):
        for name in ("text", "content", "parts", "output"):
            if name in content:
                return _text(content[name])
        return json.dumps(content, ensure_ascii=False)
    return ""


# -- the interfaces: how a request is read, how a turn is written


class Interface:
    """One company's: all methods are pure."""

    suffixes: tuple[str, ...]

    def read(self, path: str, body: dict[str, Any]) -> Request:
        raise NotImplementedError

    def events(self, number: int, turn: Say | Tool, body: dict[str, Any]) -> Iterator[bytes]:
        """The stream that says `turn`."""
        raise NotImplementedError


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n".encode()


def _data(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


class Messages(Interface):
    """Anthropic's Messages."""

    suffixes = ("/v1/messages",)

    def read(self, path: str, body: dict[str, Any]) -> Request:
        system, user, results = [_text(body.get("system", ""))], [], []
        for message in body.get("messages", []):
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for block in blocks:
                if block.get("type") == "tool_result":
                    results.append(_text(block.get("content", "")))
                elif message["role"] == "user" and "text" in block:
                    user.append(block["text"])
                elif message["role"] == "system":
                    system.append(_text(block))
        tools = tuple(tool.get("name", "") for tool in body.get("tools", []))
        return Request(path, body, "\n".join(system), tuple(user), tuple(results), tools)

    def events(self, number: int, turn: Say | Tool, body: dict[str, Any]) -> Iterator[bytes]:
        usage = {"input_tokens": 10, "output_tokens": 1}
        message = {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "content": [],
            "model": body.get("model", "mock"), "stop_reason": None, "stop_sequence": None,
            "usage": usage,
        }  # fmt: skip
        yield _event("message_start", {"message": message})
        if isinstance(turn, Say):
            block: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": turn.text}
            reason = "end_turn"
        else:
            block = {"type": "tool_use", "id": f"toolu_{number}", "name": turn.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(turn.arguments)}
            reason = "tool_use"
        yield _event("content_block_start", {"index": 0, "content_block": block})
        yield _event("content_block_delta", {"index": 0, "delta": delta})
        yield _event("content_block_stop", {"index": 0})
        ended = {"stop_reason": reason, "stop_sequence": None}
        yield _event("message_delta", {"delta": ended, "usage": {"output_tokens": 5}})
        yield _event("message_stop", {})


class Responses(Interface):
    """OpenAI's Responses."""

    suffixes = ("/responses",)

    def read(self, path: str, body: dict[str, Any]) -> Request:
        system, user, results = [body.get("instructions") or ""], [], []
        for item in body.get("input", []):
            kind = item.get("type", "message")
            if kind.endswith("_call_output"):
                results.append(_text(item.get("output", "")))
            elif kind == "message" and item["role"] in ("system", "developer"):
                system.append(_text(item["content"]))
            elif kind == "message" and item["role"] == "user":
                user.append(_text(item["content"]))
        tools = tuple(tool.get("name", "") for tool in body.get("tools", []))
        return Request(path, body, "\n".join(system), tuple(user), tuple(results), tools)

    def events(self, number: int, turn: Say | Tool, body: dict[str, Any]) -> Iterator[bytes]:
        call = {"call_id": f"call_{number}", "status": "completed"}
        if isinstance(turn, Say):
            content = [{"type": "output_text", "text": turn.text, "annotations": []}]
            item: dict[str, Any] = {
                "type": "message", "id": f"msg_{number}", "role": "assistant",
                "status": "completed", "content": content,
            }  # fmt: skip
        elif turn.text is not None:
            said = {"id": f"ct_{number}", "name": turn.name, "input": turn.text}
            item = {"type": "custom_tool_call"} | call | said
        else:
            # A tool in a namespace, as those of MCP servers are, is called with both of its names.
            space, _, name = turn.name.rpartition("/")
            said = {"id": f"fc_{number}", "name": name, "arguments": json.dumps(turn.arguments)}
            item = {"type": "function_call"} | call | said | ({"namespace": space} if space else {})
        response = {"id": f"resp_{number}", "object": "response", "output": []}
        yield _event("response.created", {"response": response | {"status": "in_progress"}})
        yield _event("response.output_item.added", {"output_index": 0, "item": item})
        yield _event("response.output_item.done", {"output_index": 0, "item": item})
        usage = {
            "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 2,
        }  # fmt: skip
        ended = {"status": "completed", "output": [item], "usage": usage}
        yield _event("response.completed", {"response": response | ended})


class ChatCompletions(Interface):
    """OpenAI's chat completions, as many others speak them."""

    suffixes = ("/chat/completions",)

    def read(self, path: str, body: dict[str, Any]) -> Request:
        said: dict[str, list[str]] = {"system": [], "user": [], "tool": [], "assistant": []}
        for message in body.get("messages", []):
            said[message["role"]].append(_text(message.get("content")))
        tools = tuple(tool["function"]["name"] for tool in body.get("tools", []))
        system = "\n".join(said["system"])
        return Request(path, body, system, tuple(said["user"]), tuple(said["tool"]), tools)

    def events(self, number: int, turn: Say | Tool, body: dict[str, Any]) -> Iterator[bytes]:
        if isinstance(turn, Say):
            delta: dict[str, Any] = {"content": turn.text}
            reason = "stop"
        else:
            function = {"name": turn.name, "arguments": json.dumps(turn.arguments)}
            call = {"index": 0, "id": f"call_{number}", "type": "function", "function": function}
            delta, reason = {"tool_calls": [call]}, "tool_calls"
        head = {"id": f"chat_{number}", "object": "chat.completion.chunk", "model": "m1"}
        first = {"index": 0, "delta": {"role": "assistant"} | delta, "finish_reason": None}
        yield _data(head | {"choices": [first]})
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        last = {"index": 0, "delta": {}, "finish_reason": reason}
        yield _data(head | {"choices": [last], "usage": usage})
        yield b"data: [DONE]\n\n"


class GenerateContent(Interface):
    """Google's streamGenerateContent."""

    suffixes = (":streamGenerateContent", ":generateContent")

    def read(self, path: str, body: dict[str, Any]) -> Request:
        user, results = [], []
        for content in body.get("contents", []):
            for part in content.get("parts", []):
                if "functionResponse" in part:
                    response = part["functionResponse"]["response"]
                    results.append(_text(response.get("output", response.get("error", response))))
                elif content.get("role") == "user" and "text" in part:
                    user.append(part["text"])
        tools = tuple(
            function["name"]
            for tool in body.get("tools", [])
            for function in tool.get("functionDeclarations", [])
        )
        system = _text(body.get("systemInstruction", ""))
        return Request(path, body, system, tuple(user), tuple(results), tools)

    def events(self, number: int, turn: Say | Tool, body: dict[str, Any]) -> Iterator[bytes]:
        if isinstance(turn, Say):
            part: dict[str, Any] = {"text": turn.text}
        else:
            part = {"functionCall": {"name": turn.name, "args": turn.arguments}}
        content = {"role": "model", "parts": [part]}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        yield _data({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "mock"})


INTERFACES = (Messages(), Responses(), ChatCompletions(), GenerateContent())


# -- the server


class ModelMock:
    """A server for one conversation; `url` is where it is.

    `translate` turns `Shell` and `Write` into the harness's own tools. `requests` has those of the
    conversation, in order; `wait_for` waits until one is as wanted. `record` is a file that gets
    every request, one JSON value a line.
    """

    def __init__(
        self, script: Iterable[Turn] | Script, translate: Callable[[Shell | Write], Tool],
        record: Path,
    ) -> None:  # fmt: skip
        self._script = script if isinstance(script, Generator) else _listed(list(script))
        self._translate = translate
        self._record = record
        self._begun = False
        self._number = 0
        self._arrived, self._turn = threading.Condition(), threading.Lock()
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, wanted: Callable[[Request], object], timeout: float) -> Request:
        """The first request, gone or to come, that is as wanted."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: any(map(wanted, self.requests)), timeout), (
                f"no such request among {len(self.requests)} within {timeout} s"
            )
            return next(filter(wanted, self.requests))

    def answer(self, path: str, body: dict[str, Any]) -> tuple[Interface, list[bytes]] | None:
        """The stream for one request, or None where no turn is asked for."""
        plain = path.partition("?")[0]
        interface = next((one for one in INTERFACES if plain.endswith(one.suffixes)), None)
        request = interface.read(path, body) if interface else None
        with self._arrived:
            with self._record.open("a") as file:
                file.write(json.dumps({"path": path, "body": body}) + "\n")
            self._number += 1
            number = self._number
            if request and request.tools:
                self.requests.append(request)
                self._arrived.notify_all()
        if interface is None or request is None:
            return None
        if not request.tools:  # a title, a summary: no turn of this conversation
            return interface, list(interface.events(number, Say("A title"), body))
        with self._turn:  # in which a script may wait as long as it likes
            turn = self._next(request)
        if isinstance(turn, Shell | Write):
            turn = self._translate(turn)
        return interface, list(interface.events(number, turn, body))

    def _next(self, request: Request) -> Turn:
        try:
            if self._begun:
                return self._script.send(request)
            self._begun = True
            return next(self._script)
        except StopIteration:
            return Say("done")
        except Exception as fault:  # noqa: BLE001 - the test has to see it, not the harness
            self.faults.append(repr(fault))
            return Say("the script has failed")


def _listed(turns: list[Turn]) -> Script:
    for turn in turns:  # noqa: UP028 - a list's own iterator takes no answers
        yield turn


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, mock: ModelMock) -> None:
        self.mock = mock
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A harness that is killed in the middle of an answer is no fault of the mock's."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Requests are recorded by the mock."""

    def do_GET(self) -> None:
        self._send("application/json", b'{"models": [], "data": []}')

    def do_HEAD(self) -> None:
        self._send("application/json", b"")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        body: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            body = json.loads(raw or b"{}")
        said = self.server.mock.answer(self.path, body)
        if said is None:
            counted = {"input_tokens": 10, "totalTokens": 10}
            self._send("application/json", json.dumps(counted).encode())
            return
        interface, events = said
        if isinstance(interface, GenerateContent) and "stream" not in self.path:
            whole = events[0].removeprefix(b"data: ")
            self._send("application/json", whole)
            return
        self._send("text/event-stream", b"".join(events))

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
