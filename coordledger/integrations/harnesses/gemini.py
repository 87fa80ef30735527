"""Gemini CLI: one JSON object on stdout, always.

Rules of this file: those of the package. It tells no shell which session that is: the commands in
it act as the work tree's session, and so do its hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import END, PROMPT, START, STOP, TOOL
from coordledger.integrations.harnesses.claude import event_of
from coordledger.integrations.harnesses.shapes import Form, one_object, paths_in, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.integrations.harnesses import Event

_KINDS = {
    "SessionStart": START,
    "BeforeAgent": PROMPT,
    "AfterTool": TOOL,
    "AfterAgent": STOP,
    "SessionEnd": END,
}
_EDITS = ("write_file", "replace")


def parse(said: Mapping[str, Any]) -> Event:
    paths: tuple[str, ...] = ()
    if text(said, "hook_event_name") == "BeforeTool" and text(said, "tool_name") in _EDITS:
        paths = paths_in(said.get("tool_input"))
    return event_of(said, _KINDS, paths)


render = Form(
    refusal=lambda _, why: {"decision": "deny", "reason": why},
    reason=lambda _, why: {"decision": "deny", "reason": why},
    context=lambda event, said: {
        "hookSpecificOutput": {"hookEventName": event.name, "additionalContext": said}
    },
    neutral=one_object(),
).render
