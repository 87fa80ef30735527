"""The hooks of agents' harnesses: what each says on stdin, and what it wants to read.

Rules: one module for each harness, with `parse`, from the JSON value of one event to an `Event`,
and `render`, from an `Answer` to what that harness reads. Both are pure and take whatever comes:
what is not understood is an `Event` of the kind OTHER, and an `Answer` that says nothing is the
harness's neutral one. No module ever allows what its user has not: an answer refuses, or says
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a session begins with; a prompt of its user; before an edit, after a tool; the end of a turn,
# and of the session.
START, PROMPT, EDIT, TOOL, STOP, END, OTHER = (
    *("start", "prompt", "edit", "tool", "stop", "end"),
    "other",
)
HARNESSES = ("claude", "codex", "gemini", "opencode", "cursor", "copilot")


class Event(NamedTuple):
    """One event. `name` is the harness's, `session` its id of the session, `paths` what an edit
    writes to, as the tool was given them.
    """

    kind: str = OTHER
    name: str = ""
    session: str = ""
    cwd: str = ""
    paths: tuple[str, ...] = ()
    goes_on: bool = False  # a stop that a hook has held up already, or that is not to be held up
    nested: bool = (
        False  # in an agent that the session has started: what it hears, its parent doesn't
    )


class Answer(NamedTuple):
    """What is to be said: `context` for the model, why an edit is refused (`refusal`), or why the
    session goes on (`reason`). One that says nothing is neutral.
    """

    context: str = ""
    refusal: str = ""
    reason: str = ""


class Output(NamedTuple):
    """What the process gives to the harness."""

    stdout: str = ""
    stderr: str = ""
    code: int = 0


class Harness(Protocol):
    """A module of this package."""

    def parse(self, said: Mapping[str, Any]) -> Event: ...

    def render(self, event: Event, answer: Answer) -> Output: ...


def harness(name: str) -> Harness:
    """The module of a harness. Raises LookupError."""
    if name not in HARNESSES:
        raise LookupError(name)
    from importlib import import_module  # noqa: PLC0415 - one is needed

    module: Any = import_module(f"{__name__}.{name}")
    return module  # type: ignore[no-any-return]
