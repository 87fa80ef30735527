"""Cursor: one JSON object on stdout, by its documents.

Rules of this file: those of the package. Context can be given at a session's start and after a
tool. It tells no shell which session that is: see `gemini`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import EDIT, END, OTHER, START, STOP, TOOL, Event
from coordledger.integrations.harnesses.shapes import Form, one_object, paths_in, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = {
    "sessionStart": START,
    "postToolUse": TOOL,
    "postToolUseFailure": TOOL,
    "stop": STOP,
    "sessionEnd": END,
}
_EDITS = ("Write", "Edit", "StrReplace", "MultiEdit", "Delete", "EditNotebook")


def parse(said: Mapping[str, Any]) -> Event:
    name, paths = text(said, "hook_event_name"), tuple[str, ...]()
    if name == "preToolUse" and text(said, "tool_name") in _EDITS:
        paths = paths_in(said.get("tool_input"))
    roots = said.get("workspace_roots")
    root = roots[0] if isinstance(roots, list) and roots and isinstance(roots[0], str) else ""
    looped = said.get("loop_count")
    return Event(
        kind=EDIT if paths else _KINDS.get(name, OTHER),
        name=name,
        session=text(said, "conversation_id", "session_id"),
        cwd=text(said, "cwd") or root,
        paths=paths,
        # One that the user has broken off stays so.
        goes_on=text(said, "status") not in ("", "completed")
        or (isinstance(looped, int) and looped > 0),
    )


render = Form(
    refusal=lambda _, why: {"permission": "deny", "user_message": why, "agent_message": why},
    reason=lambda _, why: {"followup_message": why},
    context=lambda _, said: {"additional_context": said},
    told_in=(START, TOOL),
    neutral=one_object(),
).render
