"""What an audit sees of a ledger's records, one after the other: for its report.

Rules: all of it follows from the records and the verdicts that are handed in, in their order. What
stood before the first of them is not known, and is left out. Sums are kept of what there is much
of, and single records of what an auditor asks for one by one. No I/O.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from coordledger.client.index import rows
from coordledger.format import timestamps

if TYPE_CHECKING:
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record

K = TypeVar("K")

GAP = 86_400_000  # milliseconds without a record from which on that is a gap
_GAPS = 100  # the longest ones are kept


class KeyChange(NamedTuple):
    """`what` became of a key of `who` (enrolled, another key, delegate, revoked, ended), by whose
    record. `verifier` is None where the record that brought the key was not seen.
    """

    seq: int
    at: str
    what: str
    who: str
    key: int
    alg: str
    verifier: str | None
    by: str


class Forced(NamedTuple):
    """A release by force; `holder` is None where the claim was not seen."""

    seq: int
    at: str
    task: str
    holder: str | None
    by: str
    reason: str | None


class Change(NamedTuple):
    """What an admin has changed for all: a policy, a channel that was dropped."""

    seq: int
    at: str
    what: str
    by: str


class Gap(NamedTuple):
    """So many milliseconds lie between the record `seq` and the one before."""

    length: int
    seq: int
    begin: str
    end: str


@dataclass(slots=True)
class Span:
    """How many records there are of something, and the first and last of them."""

    first: int
    first_at: str
    last: int = 0
    last_at: str = ""
    count: int = 0

    def add(self, seq: int, at: str) -> None:
        self.last, self.last_at, self.count = seq, at, self.count + 1


@dataclass(slots=True)
class Seen:
    """`keys`: what each key (agent, number) has signed, by who has checked it; `imports` by what
    it was (import, archive), its source, what the importer said of its MAC, and the importer;
    `steps_back`: records dated before the one before, and the longest such step.
    """

    whole: Span | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    keys: dict[tuple[str, int, str], Span] = field(default_factory=dict)
    brought: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    key_changes: list[KeyChange] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    forced: list[Forced] = field(default_factory=list)
    imports: dict[tuple[str, str, str, str], Span] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)  # a heap
    many_gaps: int = 0
    steps_back: int = 0
    longest_back: int = 0
    _standing: dict[str, rows.Standing] = field(default_factory=dict)
    _under: dict[tuple[str, int], tuple[str, int] | None] = field(default_factory=dict)

    def add(self, commit: Commit, checked: str) -> None:
        """The next record, and who has checked it."""
        r, seq = commit.record, commit.seq
        self._note_time(seq, r["at"])
        self.kinds[r["kind"]] += 1
        _span(self.keys, (r["agent"], r["key"], checked), seq, r["at"])
        note = getattr(self, f"_note_{r['kind']}", None)
        if note:
            note(seq, r)
        for task in rows.tasks_of(r):
            before = self._standing.get(task, rows.Standing())
            what, self._standing[task] = rows.step(r, before)
            if what == rows.FORCED:
                by, reason = r["agent"], r["reason"]
                self.forced.append(Forced(seq, r["at"], task, before.agent, by, reason))

    def _note_time(self, seq: int, at: str) -> None:
        if self.whole is None:
            self.whole = Span(seq, at)
        else:
            length = timestamps.recall(at) - timestamps.recall(self.whole.last_at)
            if length < 0:
                self.steps_back += 1
                self.longest_back = max(self.longest_back, -length)
            if length > GAP:
                self.many_gaps += 1
                gap = Gap(length, seq, self.whole.last_at, at)
                push = heapq.heappush if len(self.gaps) < _GAPS else heapq.heappushpop
                push(self.gaps, gap)
        self.whole.add(seq, at)

    # -- by kind of record

    def _note_genesis(self, seq: int, r: Record) -> None:
        self._brings(seq, r, r["agent"], 1, "founded")

    def _note_enroll(self, seq: int, r: Record) -> None:
        who = r["who"]
        if any(agent == who for agent, _ in self.brought):
            what = "another key"
        else:
            what = "delegate" if "." in who else "enrolled"
        what += " as admin" if r["role"] == "admin" else ""
        self._brings(seq, r, who, r["id"], what)

    def _brings(self, seq: int, r: Record, who: str, key: int, what: str) -> None:
        self.brought[who, key] = (r["alg"], r["verifier"])
        above = who.rpartition(".")[0]
        self._under[who, key] = (above, r["under"]) if above else None
        self._changed(seq, r, what, who, key)

    def _note_revoke(self, seq: int, r: Record) -> None:
        ended = [(r["who"], r["id"])]
        self._changed(seq, r, "revoked", *ended[0])
        for one in ended:  # it grows: a delegate's key ends with the one that it stands under
            below = [key for key, above in self._under.items() if above == one]
            ended += below
            for who, key in below:
                self._changed(seq, r, "ended", who, key)
        for one in ended:
            self._under.pop(one, None)

    def _changed(self, seq: int, r: Record, what: str, who: str, key: int) -> None:
        alg, verifier = self.brought.get((who, key), ("", None))
        by = f"{r['agent']}/{r['key']}"
        self.key_changes.append(KeyChange(seq, r["at"], what, who, key, alg, verifier, by))

    def _note_policy(self, seq: int, r: Record) -> None:
        words = ", ".join(f"{name}={value}" for name, value in sorted(r["set"].items()))
        self.changes.append(Change(seq, r["at"], f"policy {words}", r["agent"]))

    def _note_drop(self, seq: int, r: Record) -> None:
        self.changes.append(Change(seq, r["at"], f"drop channel {r['channel']}", r["agent"]))

    def _note_import(self, seq: int, r: Record) -> None:
        said = r["legacy"]
        _span(self.imports, (r["kind"], said["source"], said["mac"], r["agent"]), seq, r["at"])

    _note_archive = _note_import


def _span(spans: dict[K, Span], of: K, seq: int, at: str) -> None:
    spans.setdefault(of, Span(seq, at)).add(seq, at)
