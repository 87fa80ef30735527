"""Gemini CLI: one JSON object on stdout, always.

Rules of this file: those of the package. It tells no shell which session that is: the commands in
it act as the work tree's session, and so do its hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import (
    EDIT,
    END,
    PROMPT,
    START,
    STOP,
    TOOL,
    Answer,
    Event,
    Output,
)
from coordledger.integrations.harnesses.claude import event_of
from coordledger.integrations.harnesses.shapes import one_object, paths_in, text

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def render(event: Event, answer: Answer) -> Output:
    denied = {EDIT: answer.refusal, STOP: answer.reason}.get(event.kind)
    if denied:
        return one_object(decision="deny", reason=denied)
    if event.kind in (START, PROMPT, TOOL) and answer.context:
        more = {"hookEventName": event.name, "additionalContext": answer.context}
        return one_object(hookSpecificOutput=more)
    return one_object()
