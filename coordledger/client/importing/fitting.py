"""What the rows of another system would be in this ledger: each within the format's bounds.

Rules: nothing is written and nothing is asked here: limits, enrolled agents, tasks that are there
and earlier imports are given. Whatever is changed, moved or cut about a row stands in its notes.
Dependencies may come in any order, go round in circles or lead nowhere: tasks are sorted so that
each comes after those that it names, and what cannot be is cut.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.client.importing.rows import FactRow, MessageRow, Origin, TaskRow, Unfit
from coordledger.client.importing.texts import cut, identifier, shown
from coordledger.client.task_ids import encode
from coordledger.format import canonical, timestamps
from coordledger.format.names import is_task
from coordledger.format.rules import imports
from coordledger.format.rules.tasks import (
    GROUP,
    MAX_META,
    MAX_META_BYTES,
    MAX_META_VALUE,
    MAX_TITLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordledger.client.importing.rows import Legacy, Row
    from coordledger.format.records import Record

NEW, EXISTS, CONFLICT, SKIPPED = "new", "exists", "conflict", "skipped"
IMPORTED, FAILED = "imported", "failed"  # what becomes of what is new


class Ground(NamedTuple):
    """What the ledger is like: its limits, who may be offered something, what is there."""

    policy: Mapping[str, int]
    is_active: Callable[[str], bool]
    task: Callable[[str], Record | None]
    fact: Callable[[str], Record | None]
    earlier: Mapping[tuple[str, str, str], Record]  # kind, source, id -> an import's record
    now: int


class Plan:
    """What would become of one row. `fields` are those of its record, but for an offer's end."""

    def __init__(self, origin: Origin, kind: str, name: str | None = None) -> None:
        self.origin, self.kind, self.name = origin, kind, name
        self.outcome = NEW
        self.notes: list[str] = []
        self.fields: dict[str, Any] = {}
        self.holder: str | None = None  # the agent that it is offered to
        self.until: int | None = None
        self.seq: int | None = None

    def end(self, outcome: str, why: str) -> Plan:
        """It comes to nothing."""
        self.outcome = outcome
        self.notes.append(why)
        return self


def fit(rows: list[Row], ground: Ground, source: str, agents: list[tuple[str, str]]) -> list[Plan]:
    """A plan for each row, in the order in which they can be written.

    `source` names the store; `agents` are patterns of names there, each with its agent here.
    """
    return _Fitting(ground, source, agents).all(rows)


class _Fitting:
    def __init__(self, ground: Ground, source: str, agents: list[tuple[str, str]]) -> None:
        self._ground, self._source, self._agents = ground, source, agents
        self._taken: dict[str, Origin] = {}  # task, or fact's key -> who is first
        self._tasks: dict[str, str] = {}  # name there -> task

    def all(self, rows: list[Row]) -> list[Plan]:
        plans = [self._named(row) for row in rows]
        tasks = {
            plan.name: (row, plan)
            for row, plan in zip(rows, plans, strict=True)
            if isinstance(row, TaskRow) and plan.name and plan.outcome == NEW
        }
        for task, plan in tasks.values():
            self._link(task, plan, tasks)
        order = _sorted({name: _links(plan) for name, (_, plan) in tasks.items()})
        for name, gone in order:
            _unlink(tasks[name][1], gone)
        for row, plan in zip(rows, plans, strict=True):
            if plan.outcome == NEW:
                self._fill(row, plan)
        first = [tasks[name][1] for name, _ in order]
        return [*first, *(plan for plan in plans if plan.name not in tasks or plan.kind != "task")]

    def _named(self, row: Row) -> Plan:
        """A plan with its name here, or why it has none."""
        if isinstance(row, Unfit):
            return Plan(row.origin, "none").end(SKIPPED, row.why)
        kinds = {TaskRow: "task", MessageRow: "message", FactRow: "fact"}
        plan = Plan(row.origin, kinds[type(row)])
        plan.notes = row.notes
        if isinstance(row, MessageRow):
            return plan
        what = "task" if isinstance(row, TaskRow) else "fact"
        there = row.name if isinstance(row, TaskRow) else row.key
        try:
            name = encode(there)
        except ValueError as fault:
            return plan.end(SKIPPED, f"its name has {fault}")
        if not is_task(name):
            return plan.end(SKIPPED, f"its name is {'empty' if not name else 'too long'}")
        first = self._taken.setdefault(f"{what} {name}", row.origin)
        if first is not row.origin:
            return plan.end(SKIPPED, f"{first.table} {shown(first.id)} has the name {name} already")
        plan.name = name
        if name != there:
            plan.notes.append(f"it is {name} here")
        if isinstance(row, TaskRow):
            self._tasks[there] = name
        return plan

    # -- what a task waits for and is a part of

    def _link(self, row: TaskRow, plan: Plan, tasks: Mapping[str, Any]) -> None:
        after = sorted({name for one in row.after if (name := self._known(one, plan, tasks))})
        if len(after) > GROUP:
            plan.notes.append(f"it waits for {len(after)}, of which {GROUP} are kept")
        parent = self._known(row.parent, plan, tasks) if row.parent is not None else None
        plan.fields |= {"after": after[:GROUP], "parent": parent}

    def _known(self, there: str, plan: Plan, tasks: Mapping[str, Any]) -> str | None:
        """The task that a name there means, if it comes or is here."""
        try:
            name = self._tasks.get(there) or encode(there)
        except ValueError:
            name = ""
        if name in tasks or (is_task(name) and self._ground.task(name) is not None):
            return name
        plan.notes.append(f"{shown(there)}, which it names, does not come: the link is cut")
        return None

    # -- the fields of its record

    def _fill(self, row: Row, plan: Plan) -> None:
        if isinstance(row, TaskRow):
            self._fill_task(row, plan)
            self._compare(plan, "import", ("task", "status", "epoch", "title"))
            if plan.outcome == NEW and self._ground.task(str(plan.name)) is not None:
                plan.end(CONFLICT, "a task of that name is here, which comes from elsewhere")
        elif isinstance(row, MessageRow):
            legacy = self._legacy(row.origin, row.legacy, plan)
            body = cut(row.body, self._ground.policy["max_body"], plan.notes, "body")
            to, channel = (
                None if text is None else cut(text, imports.MAX_PLACE, plan.notes, what)
                for text, what in ((row.to, "recipient"), (row.channel, "channel"))
            )
            plan.fields = {"to": to, "channel": channel, "body": body, "legacy": legacy}
            self._compare(plan, "archive", ("to", "channel", "body"))
        elif isinstance(row, FactRow):
            self._fill_fact(row, plan)

    def _fill_fact(self, row: FactRow, plan: Plan) -> None:
        size, most = canonical.size(row.value), self._ground.policy["max_fact"]
        if size > most:
            plan.end(SKIPPED, f"its value has {size} bytes, more than {most}: half of it is none")
            return
        until = None if row.until is None else timestamps.show(row.until)
        plan.fields = {"fact": plan.name, "value": row.value, "until": until}
        line = self._ground.fact(str(plan.name))
        ended = line and line["until"] and timestamps.parse(line["until"]) <= self._ground.now
        if line and not ended:
            same = (line["value"], line["until"]) == (row.value, until)
            plan.seq = line["rev"]
            plan.outcome = EXISTS if same else CONFLICT
            plan.notes += [] if same else ["a fact of that key is here, with another value or end"]

    def _compare(self, plan: Plan, kind: str, fields: tuple[str, ...]) -> None:
        """With what an earlier import has brought from the same place, if one has."""
        legacy = plan.fields["legacy"]
        earlier = self._ground.earlier.get((kind, legacy["source"], legacy["id"]))
        if earlier is None:
            return
        plan.seq = earlier["seq"]
        told = {name: value for name, value in legacy.items() if name != "mac"}
        same = told.items() <= earlier["legacy"].items()
        if same and all(earlier[name] == plan.fields[name] for name in fields):
            plan.outcome, plan.notes = EXISTS, []
        else:
            why = (
                f"record {plan.seq} has brought it otherwise: it has changed there since, or it is"
            )
            plan.end(CONFLICT, f"{why} of another store, which --source tells apart")

    def _fill_task(self, row: TaskRow, plan: Plan) -> None:
        policy, notes, sections = self._ground.policy, plan.notes, list(row.sections)
        title, result = row.title, row.result
        if title and canonical.size(title) > MAX_TITLE:
            sections.insert(0, ("title", title))
            title = cut(title, MAX_TITLE, notes, "title")
        if result and canonical.size(result) > policy["max_text"]:
            sections.append(("result", result))
            result = cut(result, policy["max_text"], notes, "result")
        labels = _labels(row.labels, sections, notes)
        meta = _meta(row.meta, sections, notes)
        body = "\n\n".join(
            [*([row.body] if row.body else []), *(f"{name}:\n{text}" for name, text in sections)]
        )
        attempts = row.attempts
        if row.is_dead and row.status == "open":
            attempts = max(attempts, policy["max_attempts"])
            notes.append(
                f"it was given up there: {attempts} attempts, so that --next leaves it out"
            )
        not_before = None if row.not_before is None else timestamps.show(row.not_before)
        plan.fields |= {
            "task": plan.name,
            "status": row.status,
            "epoch": row.epoch,
            "attempts": attempts,
            "priority": row.priority,
            "meta": meta,
            "title": title,
            "labels": labels,
            "not_before": not_before,
            "body": cut(body, policy["max_body"], notes, "body") if body else None,
            "result": result,
            "legacy": self._legacy(row.origin, row.legacy, plan),
        }
        self._offer(row, plan)

    def _offer(self, row: TaskRow, plan: Plan) -> None:
        """To whom held it there, for as long as that lease runs and a lease here may."""
        if row.until is None or row.holder is None:
            return
        agent = self._agent(row.holder)
        if agent is None or not self._ground.is_active(agent):
            why = f"{shown(row.holder)} held it and is no agent here: --map OLD=AGENT; it is open"
            plan.notes.append(why)
            return
        plan.holder, plan.until = agent, row.until
        plan.notes.append(f"offered to {agent}, who held it")
        if row.until > self._ground.now + 1000 * self._ground.policy["max_ttl"]:
            span = timestamps.span(1000 * self._ground.policy["max_ttl"])
            plan.notes.append(f"for {span}, as the policy has it: its lease there is longer")

    def _agent(self, there: str) -> str | None:
        """The agent that a name there stands for."""
        for pattern, agent in self._agents:
            if fnmatchcase(there, pattern):
                return agent
        return there

    def _legacy(self, origin: Origin, legacy: Legacy, plan: Plan) -> dict[str, Any]:
        notes = plan.notes

        def within(text: str | None, most: int, what: str) -> str | None:
            return None if text is None else cut(text, most, notes, what)

        at = None if legacy.at is None else timestamps.show(legacy.at)
        tag = within(legacy.tag, imports.MAX_TAG, "MAC")
        return {
            "source": f"{self._source}/{origin.table}",
            "id": cut(origin.id, imports.MAX_ID, notes, "id"),
            "agent": within(legacy.agent, imports.MAX_AGENT, "agent"),
            "at": at,
            "until": within(legacy.until, imports.MAX_UNTIL, "lease's end"),
            "tag": tag,
            "mac": legacy.mac,
        }


def _labels(given: list[str], sections: list[tuple[str, str]], notes: list[str]) -> list[str]:
    labels, odd = set(), []
    for one in given:
        label = identifier(one)
        labels |= {label} if label else set()
        if label != one:
            odd.append(one)
    if odd:
        notes.append(f"labels in another form here: {', '.join(map(shown, odd[:GROUP]))}")
    if odd or len(labels) > GROUP:
        sections.append(("labels", ", ".join(given)))
    if len(labels) > GROUP:
        notes.append(f"{len(labels)} labels, of which {GROUP} are kept")
    return sorted(labels)[:GROUP]


def _meta(
    given: dict[str, str], sections: list[tuple[str, str]], notes: list[str]
) -> dict[str, str]:
    """What has room there; the rest goes into the body."""
    meta: dict[str, str] = {}
    for there, value in given.items():
        name = identifier(there)
        wider = meta | {name: value}
        fits = name and name not in meta and len(wider) <= MAX_META
        fits = fits and canonical.size(value) <= MAX_META_VALUE
        if fits and len(canonical.encode(wider)) <= MAX_META_BYTES:
            meta = wider
            if name != there:
                notes.append(f"{shown(there)} is {name} in meta here")
        else:
            sections.append((there, value))
            notes.append(f"{shown(there)}: no room in meta, it is in the body")
    return meta


# -- the order


def _links(plan: Plan) -> list[str]:
    parent = plan.fields["parent"]
    return [*plan.fields["after"], *([parent] if parent else [])]


def _unlink(plan: Plan, names: set[str]) -> None:
    for name in sorted(names):
        plan.notes.append(f"{name} waits for it in turn, or is a part of it: the link is cut")
    fields = plan.fields
    fields["after"] = [name for name in fields["after"] if name not in names]
    fields["parent"] = None if fields["parent"] in names else fields["parent"]


def _sorted(links: Mapping[str, list[str]]) -> list[tuple[str, set[str]]]:
    """Each name after those that it links to, and those of its links that close a circle.

    Names that are no keys are there already. Otherwise the order is that of `links`.
    """
    order: list[tuple[str, set[str]]] = []
    begun: set[str] = set()
    ended: set[str] = set()
    for root in links:
        if root in begun:
            continue
        begun.add(root)
        way = [(root, iter(links[root]), set[str]())]
        while way:
            name, left, gone = way[-1]
            for other in left:
                if other in begun and other not in ended:
                    gone.add(other)
                elif other in links and other not in begun:
                    begun.add(other)
                    way.append((other, iter(links[other]), set()))
                    break
            else:
                ended.add(name)
                order.append((name, gone))
                way.pop()
    return order
