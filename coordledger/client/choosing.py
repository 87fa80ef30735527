"""Which tasks are meant: those that a list shows, and the one that comes next.

Rules of this file: it reads lines of the state, and no record. A task is left out of "the next one"
for what its line says; what only the server's clock says is learned by asking, and another one is
chosen meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import Lost, error
from coordledger.format import timestamps
from coordledger.format.rules.tasks import standing
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from coordledger.format.records import Record
    from coordledger.format.state import State

_PASSED_OVER = 1000  # milliseconds: the server's clock had not come to a lease's end
_TOO_EARLY = ("too-early", "not-yet", "offered")  # what a server says by its clock


class Wanted(Value):
    """What has to be true of a task: each of these that is given."""

    statuses: Collection[str] = ()
    agent: str | None = None  # the holder
    labels: Collection[str] = ()
    any_label: bool = False  # one of these is enough
    parent: str | None = None
    blocked: bool = False
    stuck: bool = False

    def fits(self, state: State, task: Record, at: int) -> bool:
        return (
            (not self.statuses or status_of(task, at, state.skew) in self.statuses)
            and self.agent in (None, task["agent"])
            and (self.parent is None or self.parent == state.parent_of(task))
            and self.has_labels(task)
            and not (self.blocked and not is_blocked(state, task))
            and not (self.stuck and not is_stuck(state, task, at))
        )

    def has_labels(self, task: Record) -> bool:
        found = [label in task["labels"] for label in self.labels]
        return (any(found) if self.any_label else all(found)) if found else True


def status_of(task: Record, at: int, skew: int) -> str:
    """How a task stands at a moment, as people are told: its holder's lease runs, or is over."""
    stands = standing(task, at, skew)
    return {"held": "claimed", "grace": "expired"}.get(stands, stands)


def is_blocked(state: State, task: Record) -> bool:
    """Whether it would be claimed, but for what it waits for."""
    return task["status"] == "open" and bool(state.waits_for(task))


def is_free(state: State, task: Record, at: int) -> bool:
    """Whether anybody may claim it: it is open or its lease has run out, its time has come, it is
    offered to nobody, and it waits for none.
    """
    later = task["not_before"] is not None and at < timestamps.parse(task["not_before"])
    offer = task["offer"]
    offered = offer is not None and at < timestamps.parse(offer["until"]) + state.skew
    free = standing(task, at, state.skew) in ("open", "expired")
    return free and not later and not offered and not state.waits_for(task)


def is_stuck(state: State, task: Record, at: int) -> bool:
    """Whether nobody holds it, and it was claimed as often as the policy has it, in vain."""
    free = status_of(task, at, state.skew) in ("open", "expired")
    return free and task["attempts"] >= state.policy("max_attempts")


def urgency(task: Record) -> tuple[int, int, str]:
    """The order in which tasks are shown and claimed."""
    return -task["priority"], task["first_seq"], task["task"]


def in_order(tasks: Iterable[Record], agent: str | None) -> list[Record]:
    """Those of `tasks` that are not ended, in the order in which `agent` claims them: what it has
    given back itself comes after all others.
    """

    def rank(task: Record) -> tuple[bool, int, int, str]:
        given_back = task["released"] is not None and task["released"]["agent"] == agent
        return given_back, *urgency(task)

    return sorted((task for task in tasks if task["status"] in ("open", "claimed")), key=rank)


class Choice:
    """The first task that may be claimed. The server's answer about one task is no answer to "the
    next one": another is chosen until there is none.
    """

    def __init__(
        self,
        lines: Callable[[State], Iterator[Record]],
        wanted: Wanted,
        max_attempts: int | None,
    ) -> None:
        """`lines(state)`: the tasks that are not ended, in the order in which they are claimed.
        `max_attempts` is the policy's, if it is None.
        """
        self._lines, self._wanted, self._max_attempts = lines, wanted, max_attempts
        self.tasks: list[str] = []  # the one that was chosen last
        self._too_early: dict[str, tuple[int, Lost]] = {}  # when that was said of a task
        self._chosen_at = 0

    def make(self, state: State, at: int) -> list[str]:
        """As `operations.claim_of` has it. Raises `Lost`: nothing-to-claim, too-early, …"""
        recently = {
            task: lost
            for task, (moment, lost) in self._too_early.items()
            if moment <= at < moment + _PASSED_OVER
        }
        most = self._max_attempts or state.policy("max_attempts")
        beyond = 0
        for task in self._lines(state):
            fits = self._wanted.has_labels(task) and is_free(state, task, at)
            if task["task"] in recently or not fits:
                continue
            if task["attempts"] < most:
                if state.task(task["task"]) != task:  # an index says so, and it is spoilt
                    continue
                self.tasks[:] = [str(task["task"])]
                self._chosen_at = at
                return self.tasks
            beyond += 1
        for lost in recently.values():
            raise lost
        beside = f", but {beyond} that {most} attempts or more could not end" if beyond else ""
        raise error("nothing-to-claim", beside=beside)

    def is_refused(self, lost: Lost) -> bool:
        if lost.code in _TOO_EARLY:
            self._too_early |= dict.fromkeys(self.tasks, (self._chosen_at, lost))
        return lost.code != "reserved"  # that is said of the paths, whatever the task
