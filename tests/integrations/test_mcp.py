"""The ledger's tools over the Model Context Protocol: the SDK's own client asks, git is real."""

from __future__ import annotations

import json
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from coordledger.cli import params
from coordledger.client.config import Options
from coordledger.integrations.mcp_server import INSTRUCTIONS, TOOLS, AtWork, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

HOUR = timedelta(hours=1)


def span(text: str) -> timedelta:
    return params.LEASE.convert(text, None, None)


@pytest.fixture
def asked(shared_fleet: Fleet) -> Callable[..., list[Any]]:
    """Calls tools, one after the other, as an agent's session: each one's result."""

    def ask(
        *calls: tuple[str, dict[str, Any]], agent: str = "bob", session: str = "s1"
    ) -> list[Any]:
        options = Options(path=shared_fleet.clone(agent), agent=agent, session=session)
        server = Service(options, shared_fleet.env, span, AtWork()).server()

        async def main() -> list[Any]:
            async with Client(server) as client:
                return [await client.call_tool(*call) for call in calls]

        return anyio.run(main)

    return ask


def test_a_task_is_offered_claimed_kept_and_completed(
    shared_fleet: Fleet, asked: Callable[..., list[Any]]
) -> None:
    offered, won, kept, seen, done = asked(
        ("submit", {"task": "work", "title": "Mend it", "labels": ["auth"], "priority": 3}),
        ("claim", {"labels": ["auth"], "ttl": "60m", "paths": ["src/"]}),
        ("renew", {"task": "work", "ttl": "90m", "note": "half done"}),
        ("tasks", {"mine": True}),
        ("complete", {"task": "work", "result": "merged"}),
    )
    assert offered.structured_content["title"] == "Mend it"
    assert won.structured_content.items() >= {"outcome": "won", "task": "work", "epoch": 1}.items()
    assert kept.structured_content["expires_at"] > won.structured_content["expires_at"]
    assert [one["task"] for one in seen.structured_content["tasks"]] == ["work"]
    assert json.loads(done.content[0].text) == done.structured_content
    with shared_fleet.ledger("carol") as ledger:
        claim = ledger.show("work")
    assert (claim.status, claim.agent, claim.session, claim.result) == (
        "done",
        "bob",
        "s1",
        "merged",
    )


def test_a_call_is_of_the_session_that_its_harness_says_in_it(shared_fleet: Fleet) -> None:
    options = Options(path=shared_fleet.clone("bob"), agent="bob")
    server = Service(options, shared_fleet.env, span, AtWork()).server()

    async def main() -> list[Any]:
        async with Client(server) as client:
            meta: Any = {"threadId": "01a227b5-271f-76f2-9076-7b912ab9f04a"}
            of_codex = await client.call_tool("claim", {"task": "c"}, meta=meta)
            of_opencode = await client.call_tool("claim", {"task": "o", "session": "ses_1"})
            odd = await client.call_tool(
                "claim", {"task": "p", "session": 7}, meta={"threadId": []}
            )
            return [of_codex, of_opencode, odd]

    codex, opencode, odd = (one.structured_content["session"] for one in anyio.run(main))
    assert codex == "codex-2ab9f04a"
    assert opencode.startswith("opencode-")
    assert "-" not in odd


def test_a_lost_claim_is_an_answer_and_a_lost_lease_an_error_with_its_code(
    shared_fleet: Fleet, asked: Callable[..., list[Any]]
) -> None:
    with shared_fleet.ledger("carol") as ledger:
        assert ledger.claim("taken", ttl=HOUR).won
    lost, renewed = asked(("claim", {"task": "taken"}), ("renew", {"task": "taken"}))
    assert not lost.is_error
    assert lost.structured_content["outcome"] == "lost"
    assert lost.structured_content["in_the_way"][0]["agent"] == "carol"
    assert renewed.is_error
    assert renewed.structured_content["error"]["code"] == "not-holder"


@pytest.mark.parametrize(
    ("name", "given", "code"),
    [
        ("claim", {"task": 7}, "bad-value"),
        ("claim", {"task": "a task"}, "bad-task"),
        ("claim", {"tsk": "t"}, "bad-value"),
        ("claim", {"ttl": "soon"}, "bad-ttl"),
        ("complete", {}, "bad-value"),
        ("tasks", {"task": "nowhere"}, "unknown-task"),
        ("send", {"body": "hi"}, "bad-value"),
        ("drop_everything", {}, "bad-value"),
    ],
)
def test_what_cannot_be_meant_is_a_result_with_a_stable_code(
    asked: Callable[..., list[Any]], name: str, given: dict[str, Any], code: str
) -> None:
    [answer] = asked((name, given))
    assert answer.is_error
    assert answer.structured_content["error"]["code"] == code


def test_messages_are_sent_read_and_acknowledged(asked: Callable[..., list[Any]]) -> None:
    [sent] = asked(("send", {"body": "hello", "to": "carol"}))
    number = sent.structured_content["seq"]
    [unread, acked, left] = asked(
        ("inbox", {}), ("inbox", {"ack": [number]}), ("inbox", {}), agent="carol"
    )
    assert [one["body"] for one in unread.structured_content["messages"]] == ["hello"]
    assert acked.structured_content == {"acknowledged": [number]}
    assert left.structured_content == {"count": 0}


def test_without_a_ledger_it_starts_and_each_call_says_what_is_missing(
    tmp_path: Any, env: Any
) -> None:
    server = Service(Options(path=tmp_path), env, span, AtWork()).server()

    async def main() -> Any:
        async with Client(server) as client:
            return await client.list_tools(), await client.call_tool("inbox", {})

    listed, answer = anyio.run(main)
    assert [tool.name for tool in listed.tools] == list(TOOLS)
    assert answer.structured_content["error"]["code"] == "no-remote"


def test_calls_at_the_same_time_do_not_disturb_each_other(shared_fleet: Fleet) -> None:
    options = Options(path=shared_fleet.clone("bob"), agent="bob", session="many")
    server = Service(options, shared_fleet.env, span, AtWork()).server()
    won: list[str] = []

    async def main() -> None:
        async with Client(server) as client, anyio.create_task_group() as group:

            async def claim(task: str) -> None:
                answer = await client.call_tool("claim", {"task": task})
                won.append(answer.structured_content["task"])

            for number in range(6):
                group.start_soon(claim, f"beside-{number}")

    anyio.run(main)
    assert sorted(won) == [f"beside-{number}" for number in range(6)]


def test_a_wait_tells_that_it_goes_on_and_ends_when_the_call_is_cancelled(
    shared_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordledger.integrations.mcp_server.TOLD_EVERY", 0.2)
    with shared_fleet.ledger("carol") as ledger:
        assert ledger.claim("long", ttl=HOUR).won
    options = Options(path=shared_fleet.clone("bob"), agent="bob", session="patient")
    server = Service(options, shared_fleet.env, span, AtWork()).server()

    async def waiting(threads: int) -> None:
        with anyio.fail_after(20):
            while sum(map(_is_waiting, threading.enumerate())) != threads:  # noqa: ASYNC110
                await anyio.sleep(0.05)  # no thread of the ledger's sets an event of anyio's

    async def main() -> None:
        told = anyio.Event()

        async def tell(*_: object) -> None:
            told.set()

        async with Client(server) as client:
            async with anyio.create_task_group() as group:
                call = {"task": "long", "wait": "10m"}
                group.start_soon(lambda: client.call_tool("claim", call, progress_callback=tell))
                await waiting(1)
                with anyio.fail_after(20):
                    await told.wait()
                group.cancel_scope.cancel()
            await waiting(0)
            with shared_fleet.ledger("carol") as ledger:
                ledger.release("long")
            answer = await client.call_tool("tasks", {"task": "long"})
            assert answer.structured_content["described"]["claim"]["status"] == "open"

    anyio.run(main)


def _is_waiting(thread: threading.Thread) -> bool:
    """Whether a thread is somewhere in a wait of the ledger's."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "until_changed":
            return True
        frame = frame.f_back
    return False


def test_the_tools_are_few_and_say_little() -> None:
    """A model reads them in every session. These are 449 tokens (o200k_base)."""
    told = [[name, tool.description, tool.schema] for name, tool in TOOLS.items()]
    assert len(TOOLS) <= 8
    assert len(json.dumps(told, separators=(",", ":"))) <= 1_600
    assert len(INSTRUCTIONS) < 600


def test_the_command_serves_on_stdin_and_stdout(shared_fleet: Fleet) -> None:
    argv = ["-m", "coordledger", "-C", str(shared_fleet.clone("bob")), "--as", "bob", "mcp"]
    process = StdioServerParameters(command=sys.executable, args=argv, env=dict(shared_fleet.env))

    async def main() -> Any:
        async with Client(process) as client:
            assert client.instructions == INSTRUCTIONS
            return await client.call_tool("claim", {"task": "by-process", "ttl": "30m"})

    answer = anyio.run(main)
    assert answer.structured_content["outcome"] == "won"
    assert answer.structured_content["checked"] == "here"
