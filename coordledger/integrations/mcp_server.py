"""The ledger as tools for a model, over the Model Context Protocol on stdin and stdout.

Rules of this file:
- Few tools and few words: each session of a model pays for them. What a tool does is one method of
  `Ledger`; nothing is decided here.
- The protocol is the official SDK's, an extra of the package, imported when the server starts.
- Nothing is opened before the first call, and each call opens the ledger for itself, in a thread:
  calls run side by side, and a configuration that was changed holds for the next call.
- An error is a tool's result that says so, with the stable code of the command line, never a fault
  of the protocol. Losing a claim is an answer.
- A call is its harness's session's, as commands in that harness's shells are. Claude Code says it
  in the server's environment, Codex in each call's `_meta`, opencode's plugin in an argument.
- A call that is cancelled ends its wait; what it wrote is answered to the same call, called again,
  which waits for the cancelled one to come to its end.
- An answer leaves out what is null or empty. Texts of others are values of JSON, in ASCII.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from coordledger import __version__
from coordledger.client.claims import to_json
from coordledger.client.config import harness_session
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.errors import CoordledgerError, disk_error, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from datetime import timedelta
    from typing import Any

    from anyio import AsyncFile, CapacityLimiter
    from mcp import types
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    from coordledger.client.config import Options

    Arguments = Mapping[str, Any]
    Context = ServerRequestContext[Any, Any]

MOST_TASKS = 20  # that are listed
MOST_CALLS = 200  # at the same time: most of them wait
TOLD_EVERY = 5.0  # seconds between two words of progress
SESSION = "session"  # an argument of every tool that no model is told of
_SAID_BY_META = {"threadId": "CODEX_THREAD_ID"}

INSTRUCTIONS = (
    "Other agents work on the same backlog. A task is yours from a claim that was won until "
    "expires_at, no longer: claim before work starts, renew at half of the lease, complete or "
    "release at the end. On lost: stop that work. ttl, wait: like 30m, 2h. What else there is: "
    "`coordledger --help`. Text in titles, notes and messages is from other agents; "
    "`checked: nobody` means that no signature was verified."
)

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_TEXTS = {"type": "array", "items": _TEXT}


class Call(NamedTuple):
    """One call at work: its ledger, what it was given, and whether its client still waits."""

    ledger: Ledger
    given: Arguments
    span: Callable[[str], timedelta]
    cancel: threading.Event

    def spans(self, *names: str) -> dict[str, Any]:
        return {name: self.span(self.given[name]) for name in names if name in self.given}

    def values(self, *names: str) -> dict[str, Any]:
        return {name: self.given[name] for name in names if name in self.given}


class Tool(NamedTuple):
    """What a model is told of a tool, and what it does. `writes`: it may have a record written."""

    description: str
    properties: dict[str, object]
    required: tuple[str, ...]
    does: Callable[[Call], object]
    writes: bool = True

    @property
    def schema(self) -> dict[str, Any]:
        """What a model is told; what is `required` is plain from the names."""
        return {"type": "object", "properties": self.properties}

    @property
    def rules(self) -> dict[str, Any]:
        """What arguments have to keep to."""
        return self.schema | {"required": list(self.required), "additionalProperties": False}


def _claim(call: Call) -> object:
    ledger, given = call.ledger, call.given
    options = call.spans("ttl", "wait") | call.values("paths")
    options["cancel"] = call.cancel
    if "task" in given:
        result = ledger.claim(given["task"], **options)
    else:
        result = ledger.claim_next(**options, **call.values("labels"))
    if result.won:
        resumed = {"resumed": True} if result.resumed else {}
        return {"outcome": result.outcome, **resumed, **_object(result.claims[0])}
    why = {"code": result.code, "message": result.message, "hint": result.hint}
    return {"outcome": "lost", **why, "in_the_way": result.claims}


def _release(call: Call) -> object:
    if "to" in call.given:
        note = {"note": call.given["reason"]} if "reason" in call.given else {}
        return call.ledger.handoff(call.given["task"], to=call.given["to"], **note)
    return call.ledger.release(**call.given)


def _tasks(call: Call) -> object:
    ledger, given = call.ledger, call.given
    if "task" in given:
        return {
            "described": ledger.describe(given["task"]),
            "history": ledger.history(given["task"]),
        }
    listing = ledger.some_tasks(
        [given["status"]] if "status" in given else (),
        ledger.connection.settings.need_agent if given.get("mine") else None,
        MOST_TASKS,
        labels=given.get("labels", ()),
    )
    return {"tasks": listing.tasks, "of": listing.count}


def _inbox(call: Call) -> object:
    if "ack" in call.given:
        return {"acknowledged": call.ledger.ack(*call.given["ack"])}
    messages = call.ledger.inbox(**call.spans("wait"), cancel=call.cancel)
    return {"messages": messages, "count": len(messages)}


TOOLS: dict[str, Tool] = {
    "claim": Tool(
        "Take a task, or the most urgent free one; reserve paths.",
        {
            "task": _TEXT,
            "labels": _TEXTS,
            "paths": _TEXTS,
            "ttl": _TEXT,
            "wait": _TEXT,
        },
        (),
        _claim,
    ),
    "renew": Tool(
        "Extend the lease that you hold.",
        {"task": _TEXT, "ttl": _TEXT, "note": _TEXT},
        ("task",),
        lambda call: call.ledger.renew(**call.values("task", "note"), **call.spans("ttl")),
    ),
    "complete": Tool(
        "Finish a task that you hold.",
        {"task": _TEXT, "result": _TEXT},
        ("task",),
        lambda call: call.ledger.complete(**call.given),
    ),
    "release": Tool(
        "Give a task back, or hand it over to an agent.",
        {"task": _TEXT, "reason": _TEXT, "to": _TEXT},
        ("task",),
        _release,
    ),
    "submit": Tool(
        "Offer a task.",
        {
            "task": _TEXT,
            "title": _TEXT,
            "body": _TEXT,
            "priority": _NUMBER,
            "labels": _TEXTS,
            "after": _TEXTS,
        },
        ("task",),
        lambda call: call.ledger.submit(**call.given),
    ),
    "tasks": Tool(
        "List tasks, or show one with its history.",
        {
            "task": _TEXT,
            "status": {"enum": ["open", "claimed", "expired", "done"]},
            "mine": {"type": "boolean"},
            "labels": _TEXTS,
        },
        (),
        _tasks,
        writes=False,
    ),
    "send": Tool(
        "Message an agent (to) or a channel.",
        {
            "body": _TEXT,
            "to": _TEXT,
            "channel": _TEXT,
            "thread": _NUMBER,
        },
        ("body",),
        lambda call: call.ledger.send(**call.given),
    ),
    "inbox": Tool(
        "Unread messages; ack those dealt with.",
        {"wait": _TEXT, "ack": {"type": "array", "items": _NUMBER}},
        (),
        _inbox,
    ),
}


class AtWork:
    """The calls under way. One that was cancelled may still write: the same call, called again,
    would meet its own claim, and be told that it has the task already.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[threading.Event, tuple[str, threading.Event]] = {}  # by what ends one

    @contextlib.contextmanager
    def turn(self, call: str, cancel: threading.Event) -> Iterator[None]:
        """Wait until the calls like this one have ended that were cancelled (`cancel` is set)."""
        ends = threading.Event()
        with self._lock:
            before = [
                end for end, (what, gone) in self._calls.items() if what == call and gone.is_set()
            ]
            self._calls[ends] = call, cancel
        try:
            for end in before:
                end.wait()
            yield
        finally:
            with self._lock:
                del self._calls[ends]
            ends.set()


class Service(NamedTuple):
    """What calls have in common: how a ledger is opened, how a duration is read, and which are
    under way.
    """

    options: Options
    environ: Mapping[str, str]
    span: Callable[[str], timedelta]
    at_work: AtWork

    def serve(self) -> None:
        """Serve on stdin and stdout until stdin ends. Raises `Failed`: no-extra."""
        gc.disable()  # what is imported stays: looking through it takes a fifth of the start
        try:
            import anyio  # noqa: PLC0415 - half a second
            from mcp.server.stdio import stdio_server  # noqa: PLC0415
        except ImportError as fault:
            raise error("no-extra", what="the MCP server", extra="mcp") from fault
        server = self.server()
        gc.freeze()
        gc.enable()

        async def serve() -> None:
            async with stdio_server(stdin=_messages()) as (read, write):
                await server.run(read, write, server.create_initialization_options())

        try:
            anyio.run(serve)
        except* OSError:  # the client has gone, without a last word
            pass

    def server(self) -> Server[Any]:
        """The server, for any transport of the SDK."""
        import anyio  # noqa: PLC0415 - half a second
        from mcp import types  # noqa: PLC0415
        from mcp.server.lowlevel import Server  # noqa: PLC0415

        calls = anyio.CapacityLimiter(MOST_CALLS)  # the transport has threads of its own

        async def list_tools(_: Context, __: object) -> types.ListToolsResult:
            return types.ListToolsResult(tools=[_described(*tool) for tool in TOOLS.items()])

        async def call_tool(
            context: Context, asked: types.CallToolRequestParams
        ) -> types.CallToolResult:
            given = asked.arguments or {}
            environ = dict(self.environ) | _said_of_session(asked.meta or {}, given)
            service = self._replace(environ=environ)
            given = {name: value for name, value in given.items() if name != SESSION}
            answer, is_error = await service.call(context, asked.name, given, calls)
            text = json.dumps(answer, separators=(",", ":"))
            content = [types.TextContent(type="text", text=text)]
            return types.CallToolResult(
                content=list(content), structured_content=answer, is_error=is_error
            )

        return Server(
            "coordledger",
            version=__version__,
            instructions=INSTRUCTIONS,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )

    async def call(
        self, context: Context, name: str, given: Arguments, calls: CapacityLimiter
    ) -> tuple[dict[str, Any], bool]:
        """The answer as JSON's values, and whether it is an error."""
        import anyio  # noqa: PLC0415

        cancel = threading.Event()
        work = partial(self._work, name, given, cancel)
        async with anyio.create_task_group() as group:
            group.start_soon(_tell, context, name)
            try:
                answer = await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=calls)
            finally:
                cancel.set()
                group.cancel_scope.cancel()
        return answer

    def _work(
        self, name: str, given: Arguments, cancel: threading.Event
    ) -> tuple[dict[str, Any], bool]:
        session = self.options.session or harness_session(self.environ)
        call = json.dumps([name, dict(given), session], sort_keys=True)
        try:
            with self.at_work.turn(call, cancel):
                return self._done(name, given, cancel), False
        except CoordledgerError as fault:
            return _refusal(fault), True
        except OSError as fault:
            return _refusal(disk_error(fault)), True
        except Exception as fault:  # noqa: BLE001 - whatever it is, the server goes on
            return _refusal(error("internal", why=f"{type(fault).__name__}: {fault}")), True

    def _done(self, name: str, given: Arguments, cancel: threading.Event) -> dict[str, Any]:
        _check(name, given)
        connection = connect(self.options, self.environ)
        journal = connection.local.journal
        journal.waits_for_report = True
        try:
            with Ledger(connection) as ledger:
                answer = _object(TOOLS[name].does(Call(ledger, given, self.span, cancel)))
            if not cancel.is_set():
                journal.reported()
            return answer
        finally:
            journal.unheard()


class _Messages:
    """The lines of stdin, as the SDK reads them, without a thread that waits for them: a signal
    ends the server at once, and no number of calls under way keeps it from hearing of more.

    A surrogate without its other half, which is left of a sign that a model was cut off in, is
    replaced: the SDK would pass over the whole call, and the model would wait for its answer.
    """

    async def __aiter__(self) -> AsyncIterator[str]:
        rest = bytearray()
        while data := await _some(0):
            rest += data
            if b"\n" in data:
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    yield _ESCAPES.sub(_whole, line.decode("utf-8", "replace"))


async def _some(fd: int) -> bytes:
    import anyio  # noqa: PLC0415 - half a second

    while True:
        with contextlib.suppress(PermissionError):  # a file is always ready, and is not waited for
            await anyio.wait_readable(fd)
        with contextlib.suppress(BlockingIOError):
            return os.read(fd, 65_536)


def _messages() -> AsyncFile[str]:
    lines: Any = _Messages()  # the SDK does nothing but iterate
    return lines  # type: ignore[no-any-return]


# In JSON: a backslash that is escaped, a pair of surrogates, one alone.
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def _whole(found: re.Match[str]) -> str:
    return "\\ufffd" if len(found[0]) == len("\\ud800") else found[0]


def _said_of_session(meta: Mapping[str, Any], given: Arguments) -> dict[str, str]:
    """The variables that the harness's shells have for it."""
    said = {variable: meta.get(name) for name, variable in _SAID_BY_META.items()}
    said["OPENCODE_SESSION_ID"] = given.get(SESSION)
    return {name: value for name, value in said.items() if value and isinstance(value, str)}


async def _tell(context: Context, name: str) -> None:
    """Say from time to time that a call goes on, to a client that has asked for it."""
    import anyio  # noqa: PLC0415

    passed = 0.0
    while True:
        await anyio.sleep(TOLD_EVERY)
        passed += TOLD_EVERY
        await context.session.report_progress(passed, message=f"{name}: {passed:.0f} s")


def _check(name: str, given: Arguments) -> None:
    """Raise `Failed`: bad-value, unless the tool exists and takes these arguments."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - comes with the SDK
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    if name not in TOOLS:
        raise error("bad-value", what=name, why=f"the tools are {', '.join(TOOLS)}")
    wrong = best_match(Draft202012Validator(TOOLS[name].rules).iter_errors(dict(given)))
    if wrong is not None:
        where = ".".join(map(str, wrong.absolute_path))
        raise error("bad-value", what=where or name, why=wrong.message)


def _described(name: str, tool: Tool) -> types.Tool:
    from mcp import types  # noqa: PLC0415

    hints = types.ToolAnnotations(
        read_only_hint=not tool.writes,
        destructive_hint=False,
        idempotent_hint=True,
        open_world_hint=False,
    )
    return types.Tool(
        name=name, description=tool.description, input_schema=tool.schema, annotations=hints
    )


def _refusal(fault: CoordledgerError) -> dict[str, Any]:
    return {"error": _kept({"code": fault.code, "message": fault.message, "hint": fault.hint})}


def _object(value: object) -> dict[str, Any]:
    """A result as one JSON object, without what is null or empty."""
    shown: dict[str, Any] = _kept(to_json(value))
    return shown


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _kept(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, "", {}, [])}
    return [_kept(item) for item in value] if isinstance(value, list) else value
