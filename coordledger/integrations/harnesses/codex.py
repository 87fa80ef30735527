"""Codex: the events and answers of Claude Code, and its own way to edit, a patch.

Rules of this file: those of the package. A member that Codex does not know makes it drop the whole
answer, so only those are given that both have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import claude
from coordledger.integrations.harnesses.shapes import members, patched, paths_in, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.integrations.harnesses import Event

render = claude.render
_EDITS = ("apply_patch", "Write", "Edit")


def parse(said: Mapping[str, Any]) -> Event:
    return claude.event_of(said, claude.KINDS, _paths(said))


def _paths(said: Mapping[str, Any]) -> tuple[str, ...]:
    if text(said, "hook_event_name") != "PreToolUse":
        return ()
    tool, given = text(said, "tool_name"), said.get("tool_input")
    given = {"command": given} if isinstance(given, str) else members(given)
    command = given.get("command", given.get("input"))
    words = command if isinstance(command, list) else [command]
    if tool in _EDITS:
        found = paths_in(given)
        return found + tuple(path for word in words for path in patched(word))
    # The patch can be given to the shell, which hands it to the same tool.
    if any(isinstance(word, str) and word.lstrip().startswith("apply_patch") for word in words):
        return tuple(path for word in words for path in patched(word))
    return ()
