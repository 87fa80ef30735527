"""The names that a shell completes: tasks, agents, channels, labels, keys of facts.

Rules: the local copy answers, as it was verified last; nothing is fetched or written, and nothing
is said of what goes wrong: then there are no names. Of a ledger with very many tasks those are
offered that are read in time. What the format does not allow is no name, whatever a copy has that
was joined at a depth. How a name is written for a shell is not decided here.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from coordledger.client.copies import open_here, state_here
from coordledger.errors import CoordledgerError
from coordledger.format.names import is_agent, is_identifier, is_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coordledger.client.config import Options
    from coordledger.format.state import State

    # Of a state, those that begin so, at least; for an agent.
    Names = Callable[[State, str, str | None], Iterable[str]]

PATIENCE = 0.1  # seconds for reading names


def _tasks(*statuses: str) -> Names:
    return lambda state, prefix, me: (
        task["task"]
        for task in state.tasks_named(prefix)
        if task["status"] in statuses or (not statuses and task["status"] != "withdrawn")
    )


def _mine(state: State, prefix: str, me: str | None) -> Iterator[str]:
    for task in state.tasks_named(prefix):
        if task["status"] == "claimed" and me in (None, task["agent"]):
            yield task["task"]


def _labels(state: State, prefix: str, me: str | None) -> Iterator[str]:
    return (label for task in state.tasks() for label in task["labels"])


NAMES: dict[str, tuple[Names, Callable[[object], bool]]] = {
    "task": (_tasks(), is_task),
    "task-to-claim": (_tasks("open", "claimed"), is_task),
    "task-held": (_mine, is_task),
    "agent": (lambda state, prefix, me: state.agents(), is_agent),
    "channel": (lambda state, prefix, me: state.channels(), is_identifier),
    "label": (_labels, is_identifier),
    "fact": (lambda state, prefix, me: (line["fact"] for line in state.facts()), is_task),
}


def names(kind: str, prefix: str, options: Options, environ: Mapping[str, str]) -> list[str]:
    """The names of a kind, of those in `NAMES`, that begin with `prefix`; sorted."""
    found: set[str] = set()
    find, is_good = NAMES[kind]
    try:
        connection = open_here(options, environ)
        if connection is None:
            return []
        with connection:
            end = monotonic() + PATIENCE
            for name in find(state_here(connection), prefix, connection.settings.agent):
                if is_good(name) and name.startswith(prefix):
                    found.add(name)
                if monotonic() > end:
                    break
    except (CoordledgerError, OSError, KeyError, ValueError, TypeError):
        pass
    return sorted(found)
