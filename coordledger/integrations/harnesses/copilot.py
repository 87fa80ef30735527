"""GitHub Copilot CLI, and Copilot in VS Code, by their documents.

Rules of this file: those of the package. An event whose name is registered in PascalCase comes with
its name, in snake_case, and is answered as VS Code reads it; one in camelCase comes without a name,
and is known by its members. It tells no shell which session that is: see `gemini`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import (
    EDIT,
    END,
    OTHER,
    PROMPT,
    START,
    STOP,
    TOOL,
    Event,
    claude,
)
from coordledger.integrations.harnesses.shapes import Form, patched, paths_in, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.integrations.harnesses import Answer, Output

_EDITS = (
    *("create", "edit", "write", "str_replace_editor", "apply_patch", "str_replace", "insert"),
    *("editFiles", "createFile", "create_file", "replace_string_in_file", "insert_edit_into_file"),
    *("multi_replace_string_in_file", "edit_notebook_file"),
)
# By the first of these members that is there: what a camelCase event is.
_BY_MEMBER = (
    ("agentName", OTHER),  # of an agent that the session has started
    ("toolResult", TOOL),
    ("error", TOOL),
    ("toolName", OTHER),
    ("stopReason", STOP),
    ("trigger", OTHER),
    ("prompt", PROMPT),
    ("source", START),
    ("reason", END),
)


def parse(said: Mapping[str, Any]) -> Event:
    if text(said, "hook_event_name"):
        paths = _paths(said, "tool_name", "tool_input")
        paths = paths if text(said, "hook_event_name") == "PreToolUse" else ()
        return claude.event_of(said, claude.KINDS, paths)
    kind = next((kind for member, kind in _BY_MEMBER if member in said), OTHER)
    before = kind == OTHER and "toolName" in said
    paths = _paths(said, "toolName", "toolArgs") if before else ()
    return Event(
        kind=EDIT if paths else kind,
        session=text(said, "sessionId"),
        cwd=text(said, "cwd"),
        paths=paths,
    )


def _paths(said: Mapping[str, Any], tool: str, given: str) -> tuple[str, ...]:
    if text(said, tool) not in _EDITS:
        return ()
    value = said.get(given)
    return paths_in(value) + patched(value)


_WITHOUT_NAME = Form(
    refusal=lambda _, why: {"permissionDecision": "deny", "permissionDecisionReason": why},
    reason=lambda _, why: {"decision": "block", "reason": why},
    context=lambda _, said: {"additionalContext": said},
)


def render(event: Event, answer: Answer) -> Output:
    return claude.render(event, answer) if event.name else _WITHOUT_NAME.render(event, answer)
