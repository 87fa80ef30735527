"""opencode: its plugin is a few lines of JavaScript, which ask this program.

The plugin gives one JSON object on stdin, and reads one from stdout:

    {"event": "session.start",       before the first prompt of a session, and after compaction
              "prompt"               each prompt of its user
              "tool.execute.before"  and after: with "tool" and "args" as opencode has them
              "tool.execute.after"
              "session.idle"         the end of a turn; "continued": true if the last one was
                                     held up
              "session.end",
     "sessionID": "ses_...", "directory": "/home/bob/project"}

    {"context": "..."}   to be given to the model: appended to the system prompt, or to the output
    {"refuse": "..."}    to be thrown as an Error by tool.execute.before
    {"continue": "..."}  to be prompted, so that the session goes on
    {}                   nothing

In `shell.env` it sets OPENCODE_SESSION_ID to the sessionID, so that commands act as that session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.integrations.harnesses import EDIT, END, OTHER, PROMPT, START, STOP, TOOL, Event
from coordledger.integrations.harnesses.shapes import (
    Form,
    is_set,
    members,
    one_object,
    patched,
    paths_in,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = {
    "session.start": START,
    "prompt": PROMPT,
    "tool.execute.after": TOOL,
    "session.idle": STOP,
    "session.end": END,
}
_EDITS = ("write", "edit", "multiedit", "patch", "apply_patch")


def parse(said: Mapping[str, Any]) -> Event:
    name, paths = text(said, "event"), tuple[str, ...]()
    if name == "tool.execute.before" and text(said, "tool") in _EDITS:
        args = members(said.get("args"))
        paths = paths_in(args) + patched(args.get("patchText"))
    return Event(
        kind=EDIT if paths else _KINDS.get(name, OTHER),
        name=name,
        session=text(said, "sessionID"),
        cwd=text(said, "directory"),
        paths=paths,
        goes_on=is_set(said, "continued"),
    )


render = Form(
    refusal=lambda _, why: {"refuse": why},
    reason=lambda _, why: {"continue": why},
    context=lambda _, said: {"context": said},
    neutral=one_object(),
).render
