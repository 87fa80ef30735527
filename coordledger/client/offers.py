"""Offers to take a task over, beside the records that made them.

Rules of this file: a task is handed over by its giver's signature. So that record is looked up, and
the taker relies on nothing that nobody has checked.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger.client import lines
from coordledger.client.claims import time_of
from coordledger.client.vouches import NOBODY
from coordledger.errors import error
from coordledger.format import timestamps
from coordledger.format.chain import UNVERIFIED
from coordledger.format.rules.claims import is_offered_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.replica import Replica
    from coordledger.client.reports import Message
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.state import State


class Offers:
    """Those of one verified copy; `clock()` in milliseconds."""

    def __init__(self, replica: Replica, clock: Callable[[], int]) -> None:
        self._replica, self._clock = replica, clock
        self._who_checked = replica.vouches.who_checked

    def messages(self, state: State, agent: str) -> list[Message]:
        """The tasks that an agent may take over, as messages to it, by seq: of one giver the
        newest, and not more than an inbox takes of one sender.
        """
        at = self._clock()
        busy = lines.of_busy(self._replica, state)
        offered = [task for task in busy if is_offered_to(task, agent, at)]
        givers: Counter[str] = Counter()
        found = []
        for task in sorted(offered, key=lambda task: -int(task["offer"]["seq"])):
            giver = task["agent"] or task["by"]
            givers[giver] += 1
            if givers[giver] <= state.policy("sender_messages"):
                found.append(self._offer(task))
        return found[::-1]

    def _offer(self, task: Record) -> Message:
        seq, to = task["offer"]["seq"], task["offer"]["agent"]
        commit = self._handoff(task)
        at_least = {"agent": task["agent"] or task["by"], "session": task["session"] or "unknown"}
        at_least["at"] = task["claimed_at"] or timestamps.show(self._clock())
        record: Record = commit.record if commit else at_least
        verdict = self._replica.verdict_of(commit) if commit else UNVERIFIED
        return coordledger.Message(
            seq=seq,
            sender=record["agent"],
            session=record["session"],
            to=to,
            channel=None,
            thread=None,
            importance="high",
            body=_note_of(record),
            sent_at=time_of(record["at"]),
            commit=commit.oid if commit else None,
            verdict=verdict,
            checked=self._who_checked(verdict, seq),
            task=task["task"],
        )

    def _handoff(self, task: Record) -> Commit | None:
        """The record that made the offer of this line, where the copy has it."""
        commit = self._replica.commit_at(task["offer"]["seq"])
        if commit is None or commit.record["kind"] not in ("handoff", "import"):
            return None
        record = commit.record
        to = record["to"] if record["kind"] == "handoff" else (record["offer"] or {}).get("agent")
        same = (record["task"], to) == (task["task"], task["offer"]["agent"])
        return commit if same else None

    def giver(self, task: Record) -> str | None:
        """The agent that has made the offer of this line."""
        commit = self._handoff(task)
        giver: str | None = commit.record["agent"] if commit else task["agent"] or task["by"]
        return giver

    def need_checked(self, task: Record) -> None:
        """The record that made the offer is the giver's: checked here, or by the server. Raises
        `Failed`: offer-unchecked.
        """
        commit, seq = self._handoff(task), task["offer"]["seq"]
        verdict = self._replica.verdict_of(commit) if commit else UNVERIFIED
        if self._who_checked(verdict, seq) == NOBODY:
            raise error("offer-unchecked", agent=self.giver(task), task=task["task"], seq=seq)


def _note_of(record: Record) -> str:
    """What its giver says of an offer."""
    if record.get("kind") != "import":
        return record.get("note") or ""
    legacy = record["legacy"]
    return f"held in {legacy['source']} by {legacy['agent']} until {legacy['until']}"
