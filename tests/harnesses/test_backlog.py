"""Two real harnesses work off one backlog, connected by `coordledger setup` and nothing else.

dave's Codex is killed while it holds a task; bob's Claude Code does all that is free, stops, and is
woken by a message when the dead session's lease has ended: it takes that task over.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from support.harness_team import work_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.harness_team import Team
    from support.harnesses import Harness

TASKS = [f"task-{number:02}" for number in range(1, 11)]
TTL = "40s"
PATIENCE = 180  # seconds for each step; on an idle machine all take 60
MESSAGE = "dave is gone, and what it held is free"


def asked(team: Team, *argv: str) -> Any:
    return json.loads(team.run("alice", *argv, "--json").stdout)


def test_two_harnesses_do_ten_tasks_though_one_is_killed_and_one_sleeps(
    harness_named: Callable[[str], Harness], make_team: Callable[..., Team]
) -> None:
    claude, codex = harness_named("claude"), harness_named("codex")
    team = make_team("bob", "dave", max_skew="1s")
    for task in TASKS:
        team.run("alice", "submit", task)
    team.run("bob", "setup", "claude")
    team.run("dave", "setup", "codex")

    third, forever = threading.Event(), threading.Event()

    def dave_holds(number: int) -> None:
        if number == 3:
            third.set()
            forever.wait(PATIENCE)

    dave = team.session("dave", codex, work_off(TTL, dave_holds))
    bob = team.session("bob", claude, work_off(TTL))
    dave.start("Work off the backlog.")
    bob.start_at_terminal("Work off the backlog.")
    assert third.wait(PATIENCE)
    dave.kill()
    forever.set()
    held = [task for task in asked(team, "list", "--claimed") if task["agent"] == "dave"]
    [orphan] = [task["task"] for task in held]

    others = [task for task in TASKS if task != orphan]
    team.run("alice", "wait", *others, "--timeout", f"{PATIENCE}s")
    bob.mock.wait_for(lambda request: "nothing-to-claim" in request.result, PATIENCE)
    team.run("alice", "wait", orphan, "--for", "free", "--timeout", f"{PATIENCE}s")
    team.run("alice", "send", "--to", "bob", MESSAGE)
    woken = bob.mock.wait_for(lambda request: MESSAGE in json.dumps(request.user), PATIENCE)
    assert any(MESSAGE in text and "from alice/" in text for text in woken.user)
    team.run("alice", "wait", orphan, "--timeout", f"{PATIENCE}s")

    tasks = {task["task"]: task for task in asked(team, "list")}
    assert {name: task["status"] for name, task in tasks.items()} == dict.fromkeys(TASKS, "done")
    assert (tasks[orphan]["agent"], tasks[orphan]["epoch"]) == ("bob", 2)
    assert {tasks[task]["epoch"] for task in others} == {1}
    assert sum(task["agent"] == "dave" for task in tasks.values()) == 2
    assert all(task["session"].startswith(("claude-", "codex-")) for task in tasks.values())
    written = {file.stem for agent in ("bob", "dave") for file in team.clone(agent).glob("done/*")}
    assert written == set(TASKS)
    audit = asked(team, "audit", "--full")
    assert audit["verdicts"]["authentic"] == audit["records"] > 30
    assert audit["problems"] == []
    assert bob.mock.faults == dave.mock.faults == []
