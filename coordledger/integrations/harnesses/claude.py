"""Claude Code: hooks that speak JSON, with the context in `hookSpecificOutput`.

Rules of this file: those of the package. An exit code of 2 would block what is going on, so none is
ever given here; only the background listener ends with one, which wakes the session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import EDIT, END, OTHER, PROMPT, START, STOP, TOOL, Event
from coordledger.integrations.harnesses.shapes import Form, is_set, paths_in, text

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {
    "SessionStart": START,
    "UserPromptSubmit": PROMPT,
    "PostToolUse": TOOL,
    "PostToolUseFailure": TOOL,
    "Stop": STOP,
    "SessionEnd": END,
}
_EDITS = ("Write", "Edit", "MultiEdit", "NotebookEdit")


def parse(said: Mapping[str, Any]) -> Event:
    name, paths = text(said, "hook_event_name"), tuple[str, ...]()
    if name == "PreToolUse" and text(said, "tool_name") in _EDITS:
        paths = paths_in(said.get("tool_input"))
    return event_of(said, KINDS, paths)


def event_of(
    said: Mapping[str, Any], kinds: Mapping[str, str], paths: tuple[str, ...] = ()
) -> Event:
    """An event with these names of the members, which other harnesses have taken over."""
    name = text(said, "hook_event_name")
    return Event(
        kind=EDIT if paths else kinds.get(name, OTHER),
        name=name,
        session=text(said, "session_id"),
        cwd=text(said, "cwd"),
        paths=paths,
        goes_on=is_set(said, "stop_hook_active"),
        nested=bool(text(said, "agent_id")),
    )


def _specific(event: Event, **said: str) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": event.name} | said}


render = Form(
    refusal=lambda event, why: _specific(
        event, permissionDecision="deny", permissionDecisionReason=why
    ),
    reason=lambda _, why: {"decision": "block", "reason": why},
    context=lambda event, said: _specific(event, additionalContext=said),
).render
