"""opencode at a terminal, where it goes on after an answer, unlike `opencode run`.

A session that stops is asked once about what it holds; what it held is free when the program is
closed.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from support.model_mocks import Say, Shell

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.harness_team import Team
    from support.harnesses import Harness

PATIENCE = 180  # seconds; on an idle machine all takes 10
CTRL_C = b"\x03"


def status(team: Team, task: str) -> str:
    return str(json.loads(team.run("alice", "show", task, "--json").stdout)["status"])


def test_opencode_is_asked_once_about_what_it_holds_and_releases_it_when_it_is_closed(
    harness_named: Callable[[str], Harness], make_team: Callable[..., Team]
) -> None:
    team = make_team("bob")
    team.run("alice", "submit", "fix-login")
    team.run("bob", "list")
    team.run("bob", "setup", "opencode")
    script = [Shell("coordledger claim fix-login --ttl 10m"), Say("I stop."), Say("I keep it.")]
    session = team.session("bob", harness_named("opencode"), script)
    session.start_at_terminal("Work on fix-login.")
    asked = session.mock.wait_for(lambda request: "still holds" in f"{request.user}", PATIENCE)
    assert "still holds task fix-login" in asked.user[-1]
    assert status(team, "fix-login") == "claimed"

    end = time.monotonic() + PATIENCE
    while status(team, "fix-login") == "claimed":
        assert time.monotonic() < end
        session.type(CTRL_C)  # the first one interrupts an answer, or clears the line
    # The claim, its answer, what it was asked: that it said so was the end of it.
    assert len(session.mock.requests) == 3
