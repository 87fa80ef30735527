"""Events of a harness's sessions, answered in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from coordledger.integrations import agent_hook, jobs

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger.integrations.harnesses import Output

UUID = "3f2a91bc-1111-4222-8333-1234567890ab"


class Session:
    """A session of Claude Code in an agent's clone. `jobs` are those that its hooks have started,
    and that nobody does.
    """

    def __init__(self, fleet: Fleet, agent: str, session: str = UUID) -> None:
        self.fleet, self.agent, self.id = fleet, agent, session
        self.path = fleet.clone(agent)
        self.env = fleet.env | {"COORDLEDGER_AGENT": agent}
        self.jobs: list[str] = []

    def says(self, event: str, **more: Any) -> Output:
        said = {"session_id": self.id, "cwd": str(self.path), "hook_event_name": event} | more
        return self.gives(json.dumps(said).encode())

    def gives(self, content: bytes, *argv: str) -> Output:
        return agent_hook.answer(argv or ("claude",), self.env, lambda: content)

    def hears(self, event: str, **more: Any) -> str:
        """What the model is told, of whatever kind; "" if nothing is."""
        output = self.says(event, **more)
        assert (output.stderr, output.code) == ("", 0)
        if not output.stdout:
            return ""
        said = json.loads(output.stdout)
        said |= said.pop("hookSpecificOutput", {})
        words = ("additionalContext", "permissionDecisionReason", "reason")
        return next(str(said[word]) for word in words if word in said)

    def edits(self, path: str) -> str:
        return self.hears("PreToolUse", tool_name="Write", tool_input={"file_path": path})

    @property
    def folder(self) -> Path:
        return self.path / ".git/coordledger/.hooks"

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text("utf-8") if file.exists() else ""

    def looks(self) -> None:
        """Bring the copy up to date, as a job does it."""
        self.fleet.ledger(self.agent).head()


@pytest.fixture
def session(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Bob's session in alice's ledger."""
    fleet.enroll("bob")
    made = Session(fleet, "bob")
    made.looks()
    monkeypatch.setattr(jobs, "start", lambda name, *_: made.jobs.append(name))
    return made
