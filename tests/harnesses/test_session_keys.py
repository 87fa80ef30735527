"""Sessions of the real harnesses that sign by a key of their own (`coordledger.sessionKeys`).

bob's harness claims a task, gets a message that was sent to bob, acknowledges it, completes the
task, claims another one, and ends.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.model_mocks import Say, Shell

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.harness_team import Team
    from support.harnesses import Harness
    from support.model_mocks import Request, Script

PATIENCE = 60  # seconds for what a hook leaves to a process of its own


def work(team: Team, answers: dict[str, Request]) -> Script:
    answers["claim"] = yield Shell("coordledger claim first --ttl 10m --json")
    team.run("alice", "send", "--to", "bob", "the build is red")
    answers["message"] = yield Shell("coordledger list")  # which reads what is new
    answers["ack"] = yield Shell("coordledger ack --all")
    answers["done"] = yield Shell("coordledger complete first --json")
    answers["second"] = yield Shell("coordledger claim second --ttl 10m --json")
    answers["stopped"] = yield Say("I have done what I could.")
    answers["again"] = yield Say("I keep it.")


def value(answer: Request) -> dict[str, Any]:
    """What a command printed to the harness's shell, as JSON."""
    found = re.search(r"\{.*\}", answer.result, re.DOTALL)
    assert found, answer.result
    said: dict[str, Any] = json.loads(found[0])
    return said


@pytest.mark.parametrize("name", ["claude", "codex", "opencode"])
def test_a_session_signs_by_a_key_of_its_own_and_leaves_none(
    name: str, harness_named: Callable[[str], Harness], make_team: Callable[..., Team]
) -> None:
    harness, team = harness_named(name), make_team("bob")
    for task in ("first", "second"):
        team.run("alice", "submit", task)
    team.run("bob", "setup", name)
    team.git("bob", "config", "coordledger.sessionKeys", "true")
    answers: dict[str, Request] = {}
    session = team.session("bob", harness, work(team, answers))
    assert session.run("Work on the backlog.") == 0, session.printed()

    claim, done = value(answers["claim"]), value(answers["done"])
    delegate = f"bob.{claim['session']}"
    assert claim["session"].startswith(f"{name}-")
    assert (claim["agent"], done["agent"], done["status"]) == (delegate, delegate, "done")
    assert value(answers["second"])["agent"] == delegate
    assert "the build is red" in f"{answers['message'].body}"
    assert "acked" in answers["ack"].result

    end = time.monotonic() + PATIENCE
    while any("." in one["agent"] for one in team.value("alice", "agent", "list")):
        assert time.monotonic() < end, (
            team.clone("bob") / ".git/coordledger/.hooks/log"
        ).read_text()
        time.sleep(0.5)
    second = team.value("alice", "show", "second")
    assert (second["status"], second["last"]["agent"]) == ("open", delegate)
    assert not list(team.home("bob").rglob(f"{delegate}*"))
    assert team.value("bob", "inbox") == []
    audit = team.value("alice", "audit", "--full")
    assert audit["verdicts"]["authentic"] == audit["records"] > 0
