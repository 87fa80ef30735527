"""What the events of several harnesses have in common: texts, paths, one JSON object as an answer.

Rules of this file: nothing in an event has the type that it should have, until it was looked at.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.integrations.harnesses import EDIT, PROMPT, START, STOP, TOOL, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from coordledger.integrations.harnesses import Answer, Event

    Says = Callable[[Event, str], dict[str, Any]]  # a text, as the members of one object

# The members of a tool's input that name what it writes to.
PATH_MEMBERS = ("file_path", "filePath", "notebook_path", "path", "target_file", "files", "paths")
MOST_PATHS = 1000
MOST_PATH = 4096  # characters
_PATCH = ("*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: ")


def text(said: Mapping[str, Any], *names: str) -> str:
    """The first of these members that is a text; "" if none is."""
    return next((said[name] for name in names if isinstance(said.get(name), str)), "")


def members(value: object) -> Mapping[str, Any]:
    """An object, which some harnesses give as JSON in a text; empty if it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def paths_in(value: object) -> tuple[str, ...]:
    """What a tool with this input writes to."""
    said = members(value)
    found: list[object] = []
    for name in PATH_MEMBERS:
        one = said.get(name)
        found += one if isinstance(one, list) else [one]
    return _some(one for one in found if isinstance(one, str))


def patched(value: object) -> tuple[str, ...]:
    """The files that a patch of the `*** Begin Patch` form adds, changes, deletes and moves to."""
    if not isinstance(value, str) or "*** " not in value:
        return ()
    lines = (line.strip() for line in value.splitlines())
    return _some(
        line[len(mark) :].strip() for line in lines for mark in _PATCH if line.startswith(mark)
    )


def _some(paths: Iterable[str]) -> tuple[str, ...]:
    """Each once."""
    wanted = (path for path in paths if path and len(path) <= MOST_PATH and "\0" not in path)
    return tuple(dict.fromkeys(wanted))[:MOST_PATHS]


def is_set(said: Mapping[str, Any], *names: str) -> bool:
    return any(said.get(name) is True for name in names)


def one_object(**said: Any) -> Output:
    """One JSON object, in ASCII, on one line."""
    return Output(stdout=json.dumps(said) + "\n")


class Form(NamedTuple):
    """How a harness reads an answer: each of its parts as the members of one object, and to which
    kinds of events it takes `context`.
    """

    refusal: Says
    reason: Says
    context: Says
    told_in: tuple[str, ...] = (START, PROMPT, TOOL)
    neutral: Output = Output()

    def render(self, event: Event, answer: Answer) -> Output:
        if event.kind == EDIT and answer.refusal:
            return one_object(**self.refusal(event, answer.refusal))
        if event.kind == STOP and answer.reason:
            return one_object(**self.reason(event, answer.reason))
        if event.kind in self.told_in and answer.context:
            return one_object(**self.context(event, answer.context))
        return self.neutral
