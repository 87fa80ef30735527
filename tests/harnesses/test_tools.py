"""The MCP server through each real harness, and the plugin in Claude Code.

bob's harness claims by the tool and completes in its shell: both are one session. Claude Code
gets its tools once by `setup --mcp` and once by the plugin, without any settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.model_mocks import Shell, Tool

from coordledger.integrations.mcp_server import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.harness_team import Team
    from support.harnesses import Harness, Session
    from support.model_mocks import Script

PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "coordledger"
TRIES = 30  # turns until a server has to be there that is started in the background


def work(prefix: str) -> Script:
    """Claim by the tool as soon as it is there, complete in the shell."""
    for _ in range(TRIES):
        answer = yield Tool(f"{prefix}claim", {"task": "fix-login", "ttl": "10m"})
        if '"outcome"' in answer.result.replace("\\", ""):
            break
        yield Shell("sleep 1")
    yield Tool(f"{prefix}send", {"to": "alice", "body": "half of it is done"})
    yield Shell("coordledger complete fix-login --result merged")


def shown(team: Team) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(team.run("alice", "show", "fix-login", "--json").stdout)
    return value


def ready(make_team: Callable[..., Team]) -> Team:
    team = make_team("bob")
    team.run("alice", "submit", "fix-login")
    team.run("bob", "list")
    return team


def has_worked(team: Team, session: Session) -> None:
    task = shown(team)
    assert (task["status"], task["agent"], task["result"]) == ("done", "bob", "merged")
    assert "half of it is done" in team.run("alice", "inbox").stdout
    # What the server says of itself, or its tools, is there before it is called.
    said = json.dumps(session.mock.requests[-1].body)
    assert "Other agents work on the same backlog" in said or TOOLS["claim"].description in said


def test_a_tool_claims_for_the_session_whose_shell_completes(
    harness: Harness, make_team: Callable[..., Team]
) -> None:
    team = ready(make_team)
    team.run("bob", "setup", harness.name, "--mcp")
    session = team.session("bob", harness, work(harness.tools))
    assert session.run() == 0, session.printed()
    has_worked(team, session)
    if harness.name != "gemini":
        assert shown(team)["session"].startswith(f"{harness.name}-")


@pytest.mark.parametrize("harness", ["claude"], indirect=True)
def test_the_plugin_alone_connects_claude_code(
    harness: Harness, make_team: Callable[..., Team]
) -> None:
    team = ready(make_team)
    session = team.session("bob", harness, work("mcp__plugin_coordledger_coordledger__"))
    session.options = ["--plugin-dir", str(PLUGIN)]
    assert session.run() == 0, session.printed()
    has_worked(team, session)
    assert "this session is bob/claude-" in json.dumps(session.mock.requests[0].body)
    assert "coordledger:coordledger" in json.dumps(session.mock.requests[0].body)
