"""Random walks against a model of claims and facts: plain values, from docs/format.md, section 9.

Rules: the model knows no code of coordledger. At each step a record is made up, right or
wrong in one thing; model and code have to agree on whether it is valid, and then on the
task's line. The second implementation reads the same chains.
"""

from __future__ import annotations

import hashlib
import random
import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from support import memory_ledger
from support.attacker import fsck, second_opinion
from support.memory_ledger import LEGACY, SECOND, SKEW
from support.second_reader import Invalid, Reader, derived, fingerprint

from coordledger.format import timestamps
from coordledger.format.chain import AUTHENTIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

    from coordledger.format.signing import Signed

DAY = 86_400 * SECOND  # max_ttl of the default policy
TASKS = [f"task-{n}" for n in range(10)]
FACTS = [f"fact-{n}" for n in range(90)]  # on 64 pages
AGENTS = ["alice", "bob", "dave"]  # alice is the owner
SESSIONS = ["s1", "s2"]
PATHS = ["a", "a/", "a/b", "a/b/", "ab", "a/bc", "c/"]
KINDS = [
    "submit",
    "import",
    "archive",
    "edit",
    "withdraw",
    "claim",
    "renew",
    "complete",
    "release",
    "handoff",
]
KINDS += ["fact", "fact", "void"]
FITTING = {  # the kinds that a task in a status may be ready for
    "absent": ["submit", "import", "import", "claim"],
    "open": ["claim", "claim", "claim", "edit", "withdraw"],
    "claimed": ["claim", "edit", "renew", "complete", "release", "handoff", "handoff"],
    "done": ["claim", "edit"],
    "withdrawn": ["submit"],
}
ATTRIBUTES = {
    "priority": 0,
    "meta": {},
    "after": [],
    "title": None,
    "labels": [],
    "parent": None,
    "not_before": None,
}


def _page(fact: str) -> int:
    return hashlib.sha256(fact.encode()).digest()[0] % 64


class Model:
    """The claims and the facts of a ledger. A moment is a number of milliseconds."""

    def __init__(self, committed: int, skew: int, seq: int, reopen: int = 0) -> None:
        """`seq`: of the walk's first record; `reopen`: that policy."""
        self.tasks: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.first_seq = seq
        self.paths: dict[str, tuple[tuple[str, str], list[str], int]] = {}  # holder, paths, end
        self.ops: list[tuple[str, str]] = []  # of the records since the walk began
        self.committed, self.skew, self.reopen = committed, skew, reopen  # committed: seconds

    def valid(self, r: dict[str, Any], above_base: int) -> bool:
        """`above_base`: how many records there are between the base and this one."""
        at = _moment(r["at"])
        if at < 1000 * self.committed - 2 * self.skew:
            return False
        if above_base > 1024:
            return False
        if (r["agent"], r["op"]) in self.ops[len(self.ops) - above_base :]:
            return False
        return bool(getattr(self, "_" + r["kind"])(r, at))

    def land(self, r: dict[str, Any]) -> None:
        at = _moment(r["at"])
        if r["kind"] == "fact":
            self._set_fact(r, at)
        for item in r["tasks"] if r["kind"] == "claim" else [r] if "task" in r else []:
            name = item["task"]
            blank = {"epoch": 0, "who": NOBODY, "first": len(self.ops), **UNSUBMITTED}
            old = self.tasks.get(name, blank)
            effect = getattr(self, "_after_" + r["kind"])(r, old, at)
            self.tasks[name] = {**old, "rev": item["rev"], **effect}
            if r["kind"] in ("complete", "release", "withdraw"):
                self.paths.pop(name, None)
            if self.tasks[name]["status"] == "withdrawn" and not self.tasks[name]["epoch"]:
                del self.tasks[name]
        if r["kind"] == "claim":
            self._reserve(r, at)
        self.ops.append((r["agent"], r["op"]))
        self.committed = max(self.committed, at // 1000)

    def _reserve(self, r: dict[str, Any], at: int) -> None:
        names = [item["task"] for item in r["tasks"]]
        for name in names:
            self.paths.pop(name, None)
        if r["paths"]:
            over = at - 2 * self.skew
            self.paths = {name: line for name, line in self.paths.items() if line[2] > over}
            line = ((r["agent"], r["session"]), r["paths"], _moment(r["until"]))
            self.paths |= dict.fromkeys(names, line)

    def _after_submit(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        return {"status": "open", "by": r["agent"]} | {name: r[name] for name in ATTRIBUTES}

    def _after_import(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        new = {name: r[name] for name in (*ATTRIBUTES, "status", "epoch", "attempts")}
        offer = r["offer"] and (r["offer"]["agent"], _moment(r["offer"]["until"]))
        return new | {"by": r["agent"], "offer": offer, "legacy": r["legacy"]["mac"]}

    def _after_edit(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        return dict(r["set"])

    def _after_withdraw(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        return {"status": "withdrawn", "who": NOBODY, "until": None, **UNSUBMITTED}

    def _after_claim(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        who, until = (r["agent"], r["session"]), _moment(r["until"])
        attempts = old["attempts"] + (0 if self._takes(r, old, at) else 1)
        new = {"status": "claimed", "epoch": old["epoch"] + 1, "who": who, "until": until}
        return new | {"attempts": attempts, "offer": None, "legacy": None}

    def _after_renew(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        until = _moment(r["until"])
        if r["task"] in self.paths:
            self.paths[r["task"]] = (*self.paths[r["task"]][:2], until)
        return {"until": until, "offer": None}

    def _after_complete(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        end = {"status": "done", "until": None, "offer": None}
        return end | {"attempts": 0, "released": None}

    def _after_release(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        free = {"status": "open", "who": NOBODY, "until": None, "offer": None}
        return free | {"released": old["who"][0], "not_before": r["not_before"]}

    def _after_handoff(self, r: dict[str, Any], old: dict[str, Any], at: int) -> dict[str, Any]:
        return {"offer": (r["to"], old["until"])}

    def _earlier(self, given: dict[str, Any], first: int) -> bool:
        parent = given.get("parent")
        wanted = [*given.get("after", []), *([parent] if parent else [])]
        others = [self.tasks.get(task) for task in wanted]
        return all(other and other["first"] < first for other in others)

    def _submit(self, r: dict[str, Any], at: int) -> bool:
        old = self.tasks.get(r["task"], {"status": "withdrawn", "rev": 0, "first": len(self.ops)})
        right = old["status"] == "withdrawn" and r["rev"] == old["rev"] + 1
        return right and self._earlier(r, old["first"])

    def _import(self, r: dict[str, Any], at: int) -> bool:
        right = r["agent"] == "alice" and r["task"] not in self.tasks and r["rev"] == 1
        if right and r["offer"]:
            until = _moment(r["offer"]["until"])
            right = r["offer"]["agent"] in AGENTS and at < until <= at + DAY
        return right and self._earlier(r, len(self.ops))

    def _archive(self, r: dict[str, Any], at: int) -> bool:
        return bool(r["agent"] == "alice")

    def _edit(self, r: dict[str, Any], at: int) -> bool:
        old = self.tasks.get(r["task"])
        if old is None or r["rev"] != old["rev"] + 1 or old["status"] == "withdrawn":
            return False
        holds = old["status"] == "claimed" and at < old["until"]
        holds = holds and old["who"] == (r["agent"], r["session"])
        return (holds or r["agent"] in (old["by"], "alice")) and self._earlier(
            r["set"], old["first"]
        )

    def _withdraw(self, r: dict[str, Any], at: int) -> bool:
        old = self.tasks.get(r["task"])
        if old is None or r["rev"] != old["rev"] + 1 or r["agent"] not in (old["by"], "alice"):
            return False
        over = old["status"] == "claimed" and at >= old["until"] + self.skew
        return bool(old["status"] == "open" or over)

    def _waits(self, old: dict[str, Any]) -> bool:
        others = [self.tasks[task] for task in old["after"] if task in self.tasks]
        return any(
            other["first"] < old["first"] and other["status"] in ("open", "claimed")
            for other in others
        )

    def takes(self, r: dict[str, Any], task: str) -> bool:
        return self._takes(r, self.tasks[task], _moment(r["at"]))

    def _takes(self, r: dict[str, Any], old: dict[str, Any], at: int) -> bool:
        return bool(old["offer"] and old["offer"][0] == r["agent"] and at < old["offer"][1])

    def _free(self, r: dict[str, Any], old: dict[str, Any], at: int) -> bool:
        may = [True, r["agent"] in (old["by"], "alice"), r["agent"] == "alice"][self.reopen]
        free = (
            old["status"] == "open"
            or (old["status"] == "claimed" and at >= old["until"] + self.skew)
            or (old["status"] == "done" and r["reopen"] and may)
        )
        offered = old["offer"] and at < old["offer"][1] + self.skew
        early = old["not_before"] and at < _moment(old["not_before"])
        return free and not (self._waits(old) or offered or early)

    def _claim(self, r: dict[str, Any], at: int) -> bool:
        if not at < _moment(r["until"]) <= at + DAY:
            return False
        for item in r["tasks"]:
            old = self.tasks.get(item["task"])
            if old is None:
                if (item["rev"], item["epoch"]) != (1, 1):
                    return False
                continue
            if not self._takes(r, old, at) and not self._free(r, old, at):
                return False
            if (item["rev"], item["epoch"]) != (old["rev"] + 1, old["epoch"] + 1):
                return False
        return not self.blocked_by_paths(r, at)

    def blocked_by_paths(self, r: dict[str, Any], at: int) -> bool:
        names = [item["task"] for item in r["tasks"]]
        return any(
            overlap(a, b)
            for name, (who, paths, until) in self.paths.items()
            if name not in names and who != (r["agent"], r["session"]) and at < until + self.skew
            for a in paths
            for b in r["paths"]
        )

    def _held(self, r: dict[str, Any], at: int) -> bool:
        old = self.tasks.get(r["task"])
        return (
            old is not None
            and old["status"] == "claimed"
            and old["who"] == (r["agent"], r["session"])
            and (old["epoch"], old["rev"] + 1) == (r["epoch"], r["rev"])
            and at < old["until"]
        )

    def _renew(self, r: dict[str, Any], at: int) -> bool:
        if not self._held(r, at):
            return False
        return self.tasks[r["task"]]["until"] < _moment(r["until"]) <= at + DAY

    def _complete(self, r: dict[str, Any], at: int) -> bool:
        return self._held(r, at)

    def _handoff(self, r: dict[str, Any], at: int) -> bool:
        return self._held(r, at) and r["to"] in AGENTS and r["to"] != r["agent"]

    def _release(self, r: dict[str, Any], at: int) -> bool:
        if not r["force"]:
            return self._held(r, at)
        old = self.tasks.get(r["task"])
        return (
            r["agent"] == "alice"
            and old is not None
            and old["status"] == "claimed"
            and (old["epoch"], old["rev"] + 1) == (r["epoch"], r["rev"])
        )

    def _has_ended(self, fact: dict[str, Any], at: int) -> bool:
        return fact["until"] is not None and at >= fact["until"] + 2 * self.skew

    def _fact(self, r: dict[str, Any], at: int) -> bool:
        old = self.facts.get(r["fact"])
        if r["until"] is not None and at >= _moment(r["until"]):
            return False
        if r["was"] == 0:
            return r["value"] is not None and (old is None or self._has_ended(old, at))
        return old is not None and old["rev"] == r["was"]

    def _set_fact(self, r: dict[str, Any], at: int) -> None:
        page = _page(r["fact"])
        for name, fact in list(self.facts.items()):
            if name == r["fact"] or (_page(name) == page and self._has_ended(fact, at)):
                del self.facts[name]
        if r["value"] is not None:
            until = _moment(r["until"]) if r["until"] else None
            seq = self.first_seq + len(self.ops)
            self.facts[r["fact"]] = {"rev": seq, "until": until, "value": r["value"]}

    def check_facts(self, lines: list[dict[str, Any]]) -> None:
        found = {
            line["fact"]: {
                "rev": line["rev"],
                "until": _moment(line["until"]) if line["until"] else None,
                "value": line["value"],
            }
            for line in lines
        }
        assert found == self.facts

    def _void(self, r: dict[str, Any], at: int) -> bool:
        return True

    def check(self, line: dict[str, Any] | None, task: str) -> None:
        """The task's line says what the model says."""
        mine = self.tasks.get(task)
        if mine is None:
            assert line is None
            return
        assert line
        until = _moment(line["until"]) if line["until"] else None
        offer = line["offer"] and (line["offer"]["agent"], _moment(line["offer"]["until"]))
        said = {name: line[name] for name in ("status", "rev", "epoch", "by", "attempts")}
        said |= {name: line[name] for name in ATTRIBUTES}
        said |= {"who": (line["agent"], line["session"]), "until": until, "offer": offer}
        said |= {"legacy": line["legacy"] and line["legacy"]["mac"]}
        said |= {"released": line["released"] and line["released"]["agent"]}
        mine = {"until": None, **mine}
        assert said == {name: mine[name] for name in said}

    def check_paths(self, lines: list[dict[str, Any]]) -> None:
        """The reserved paths are what the model says."""
        assert self.paths == {
            line["task"]: ((line["agent"], line["session"]), line["paths"], _moment(line["until"]))
            for line in lines
        }


NOBODY = (None, None)
UNSUBMITTED = {**ATTRIBUTES, "by": None, "attempts": 0, "released": None, "offer": None}
UNSUBMITTED["legacy"] = None


def overlap(a: str, b: str) -> bool:
    one, other = a.strip("/").split("/"), b.strip("/").split("/")
    shorter = min(len(one), len(other))
    if one[:shorter] != other[:shorter]:
        return False
    return len(one) == len(other) or (a if len(one) < len(other) else b).endswith("/")


def _moment(text: str) -> int:
    return timestamps.parse(text)


class Walk:
    """Makes up records: mostly what could be right, often wrong in one thing."""

    def __init__(self, seed: int, model: Model, lease: int, drift: int) -> None:
        """`lease`: about how long claims are; `drift`: how far clocks are apart."""
        self.dice, self.model, self.lease, self.drift = random.Random(seed), model, lease, drift

    def fields(self, now: int) -> tuple[str, str, dict[str, Any]]:
        """Agent, kind and given fields of a record at about `now`."""
        dice, model = self.dice, self.model
        agent, session = dice.choice(AGENTS), dice.choice(SESSIONS)
        at = now + dice.randint(-self.drift, self.drift)
        if dice.random() < 0.04:
            at -= 2 * model.skew + dice.randint(-2, 2) * SECOND
        task = dice.choice(TASKS)
        old: dict[str, Any] = model.tasks.get(task, {"rev": 0, "epoch": 0, "offer": None})
        kind = dice.choice(KINDS if dice.random() < 0.4 else FITTING[old.get("status", "absent")])
        if old["offer"] and dice.random() < 0.6:
            kind = "claim"
        rev, epoch = old["rev"] + 1, max(1, old["epoch"])
        until = at + dice.choice([1, self.lease, self.lease, 2 * self.lease, DAY])
        if dice.random() < 0.05:
            until = at + dice.choice([-1, 0, DAY + 1])
        if kind in ("renew", "complete", "release", "handoff"):
            if dice.random() < 0.85 and old.get("who", (None,))[0]:
                agent, session = old["who"]
            if dice.random() < 0.2 and old.get("until"):
                at = old["until"] + dice.choice([-1, 0])  # a lease's very end
            if dice.random() < 0.1:
                rev += dice.choice([-1, 1]) if rev > 1 else 1
            if dice.random() < 0.1:
                epoch += 1
        elif kind in ("import", "archive", "edit", "withdraw"):
            brings = kind in ("import", "archive") and dice.random() < 0.8
            by = "alice" if brings else old.get("by")
            agent = by if by and dice.random() < 0.6 else agent
        elif kind == "claim" and dice.random() < 0.7:
            agent, at = self._moment_of_a_claim(old, agent, at)
            until = max(until, at + self.lease)
        given: dict[str, Any] = {"session": session, "at": timestamps.show(at)}
        if kind == "fact":
            return agent, kind, given | self._made_up_fact(at, until)
        return agent, kind, given | self._given(kind, task, rev, epoch, until, now)

    def _moment_of_a_claim(self, old: dict[str, Any], agent: str, at: int) -> tuple[str, int]:
        """Who claims, and when: as an offer has it, or at the very moment when the task is free."""
        dice = self.dice
        if old["offer"]:
            last = old["offer"][1] + dice.choice([-1, 0])  # an offer's very end
            return old["offer"][0], last if dice.random() < 0.3 else at
        if old.get("until") and dice.random() < 0.4:
            return agent, old["until"] + self.model.skew + dice.choice([-1, 0])
        return agent, at

    def _given(
        self, kind: str, task: str, rev: int, epoch: int, until: int, now: int
    ) -> dict[str, Any]:
        dice, given = self.dice, dict[str, Any]()
        old = self.model.tasks.get(task, {})
        if kind in ("submit", "import", "edit", "withdraw"):
            given |= {"task": task} | self._offer(kind, old, rev, now)
            given |= self._brought(until) if kind == "import" else {}
        elif kind == "claim":
            group = sorted({task, *dice.sample(TASKS, dice.choice([0, 0, 0, 1, 2]))})
            given |= {"until": timestamps.show(until), "reopen": dice.random() < 0.4}
            given["tasks"] = [self._item(name) for name in group]
            given["paths"] = sorted(dice.sample(PATHS, dice.choice([0, 0, 0, 0, 1, 2])))
        elif kind not in ("void", "archive"):
            given |= {"task": task, "rev": rev, "epoch": epoch}
            given |= {"until": timestamps.show(until)} if kind == "renew" else {}
            given |= {"to": dice.choice([*AGENTS, "erin"])} if kind == "handoff" else {}
            if kind == "release":
                given |= {"force": dice.random() < 0.3, "not_before": self._not_before(now)}
        return given

    def _brought(self, until: int) -> dict[str, Any]:
        dice = self.dice
        given: dict[str, Any] = {"epoch": dice.choice([0, 0, 1, 7])}
        given["legacy"] = LEGACY | {"mac": dice.choice(["valid", "invalid", "unknown"])}
        if dice.random() < 0.3:
            return given | {"status": "done", "result": dice.choice([None, "done"])}
        if dice.random() < 0.6:
            to = dice.choice([*AGENTS, *AGENTS, "erin"])
            given["offer"] = {"agent": to, "until": timestamps.show(until)}
        return given | {"attempts": dice.choice([0, 3])}

    def _not_before(self, now: int) -> str | None:
        some = now + self.dice.choice([1, self.lease])
        return timestamps.show(some) if self.dice.random() < 0.2 else None

    def _offer(self, kind: str, old: dict[str, Any], rev: int, now: int) -> dict[str, Any]:
        dice = self.dice
        if kind == "withdraw":
            return {"rev": rev + (dice.random() < 0.05), "reason": None}
        parent = dice.choice(TASKS) if dice.random() < 0.2 else None
        described = {
            "priority": dice.choice([0, 7]),
            "meta": {"x": "1"} if dice.random() < 0.1 else {},
            "after": sorted(dice.sample(TASKS, dice.choice([0, 1, 1, 2]))),
            "title": dice.choice([None, "Some title"]),
            "labels": sorted(dice.sample(["a", "b"], dice.choice([0, 1]))),
            "parent": parent,
            "not_before": self._not_before(now),
        }
        if kind == "edit":
            some = dice.sample(sorted(described), dice.choice([1, 2]))
            changed = {name: described[name] for name in some}
            return {"set": changed, "rev": rev + (dice.random() < 0.05)}
        right = [rev] * 8 if old.get("status") == "withdrawn" else [1, 1, 1]
        return described | {"rev": dice.choice([1, *right, rev])}

    def _made_up_fact(self, at: int, until: int) -> dict[str, Any]:
        dice, facts = self.dice, self.model.facts
        name = dice.choice(sorted(facts)) if facts and dice.random() < 0.6 else dice.choice(FACTS)
        was = facts.get(name, {"rev": 0})["rev"]
        given: dict[str, Any] = {"fact": name, "was": was, "value": str(dice.random())}
        if dice.random() < 0.3:
            others = [0, was + 1, self.model.first_seq + len(self.model.ops) - 1]
            given["was"] = max(0, dice.choice([*others, was - 1]))
        if dice.random() < 0.2 and given["was"]:
            return given | {"value": None, "until": None}
        end = timestamps.show(max(0, until)) if dice.random() < 0.6 else None
        if dice.random() < 0.3 and was and facts[name]["until"]:
            moment = facts[name]["until"] + 2 * self.model.skew + dice.choice([-1, 0])
            return given | {"was": 0, "until": None, "at": timestamps.show(moment)}
        return given | {"until": end}

    def _item(self, task: str) -> dict[str, Any]:
        old = self.model.tasks.get(task, {"rev": 0, "epoch": 0})
        wrong = self.dice.random()
        return {
            "task": task,
            "rev": old["rev"] + (1 if wrong > 0.04 else 2),
            "epoch": old["epoch"] + (1 if wrong < 0.96 else 2),
        }


def reader_of(fleet: memory_ledger.MemoryLedger) -> Reader:
    master = memory_ledger.MASTER.reveal().encode()

    def secret_of(nonce: str, agent: str, key: int, wanted: str) -> bytes | None:
        secret = derived(master, nonce, agent, key)
        return secret if fingerprint(secret, nonce, agent, key) == wanted else None

    reader = Reader(secret_of)
    for _, content in fleet.log:
        reader.step(content)
    return reader


@pytest.mark.parametrize("seed", range(3))
def test_model_code_and_second_implementation_agree_on_every_step(seed: int) -> None:
    fleet = memory_ledger.MemoryLedger("bob", "dave", policy={"reopen": seed})
    model = Model(fleet.head.committed, SKEW, len(fleet.log), reopen=seed)
    walk = Walk(seed, model, lease=300 * SECOND, drift=20 * SECOND)
    reader = reader_of(fleet)
    signed: list[Signed] = []
    start, outcomes, landed, taken = len(fleet.log), {True: 0, False: 0}, dict[str, int](), 0
    for step in range(1600):
        fleet.now += walk.dice.choice([0, 1, 1, 5, 40]) * SECOND
        if walk.dice.random() < 0.1 and signed:
            record = walk.dice.choice(signed).record  # again, as it was or signed afresh
            if walk.dice.random() < 0.5:
                record = {**record, "at": timestamps.show(fleet.now)}
        else:
            agent, kind, given = walk.fields(fleet.now)
            record = fleet.record(agent, kind, **given)
            if walk.dice.random() < 0.2 and signed:
                record["base"] = walk.dice.choice(signed[-9:]).record["base"]
        again = fleet.sign(record)
        above = len(fleet.log) - 1 - record["base"]["seq"]
        expected = model.valid(record, min(above, len(fleet.log) - start))
        expected_to_take = record["kind"] == "claim" and any(
            item["task"] in model.tasks and model.takes(record, item["task"])
            for item in record["tasks"]
        )
        why = (seed, step, record)
        refused = fleet.refusal_of(again)
        assert (refused == "") == expected, (refused, why)
        outcomes[expected] += 1
        if expected:
            proposal = fleet.land(again)
            reader.step(proposal.content)
            model.land(record)
            fleet.now = max(fleet.now, 1000 * model.committed)
            signed.append(again)
            for task in TASKS:
                model.check(fleet.state.task(task), task)
            model.check_facts(list(fleet.state.facts()))
            model.check_paths(fleet.state.reservations())
            landed[again.record["kind"]] = landed.get(again.record["kind"], 0) + 1
            taken += expected_to_take
        else:
            with pytest.raises(Invalid):
                deepcopy(reader).step(fleet.forge(again)[1])
    assert min(outcomes.values()) > 250, outcomes
    assert landed.keys() == set(KINDS)
    assert min(landed.values()) > 2, landed
    assert taken > 3
    assert {task["status"] for task in model.tasks.values()} <= {
        "open",
        "claimed",
        "done",
        "withdrawn",
    }
    assert reader.authentic == len(fleet.log)
    whole = fleet.fresh_verifier()
    assert {whole.judge(*item) for item in fleet.log} == {AUTHENTIC}


def _is_early(model: Model, r: dict[str, Any], now: int) -> bool:
    """What the server's clock adds (section 10)."""
    if r["kind"] not in ("claim", "withdraw"):
        return False
    for item in r["tasks"] if r["kind"] == "claim" else [r]:
        old = model.tasks.get(item["task"])
        if old is None or (r["kind"] == "claim" and model.takes(r, item["task"])):
            continue
        if old["status"] == "claimed" and now < old["until"] + model.skew:
            return True
        if r["kind"] == "claim" and old["not_before"] and now < _moment(old["not_before"]):
            return True
    return r["kind"] == "claim" and model.blocked_by_paths(r, now)


def test_the_server_agrees_with_the_model_and_its_clock(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    """The same walk by real pushes. A push judges the bytes of a writer without rules."""
    fleet = make_fleet(max_skew=60)
    for agent in ("bob", "dave"):
        fleet.enroll(agent)
    attacker = attacker_for(fleet)
    skew = 60 * SECOND
    model = Model(attacker.head.committed, skew, attacker.head.seq + 1)
    walk = Walk(7, model, lease=2 * SECOND, drift=3 * SECOND)
    start, outcomes, landed = attacker.head.seq, {True: 0, False: 0}, 0
    for step in range(60):
        agent, kind, given = walk.fields(attacker.now - 30 * SECOND)
        signed = attacker.signed(agent, kind, **given)
        r, now = signed.record, time.time_ns() // 1_000_000
        expected = model.valid(r, 0)
        early = _is_early(model, r, now)
        admitted = expected and abs(_moment(r["at"]) - now) <= skew and not early
        if expected and abs(abs(_moment(r["at"]) - now) - skew) < SECOND:
            continue  # too close to call
        oid = attacker.propose(signed) if expected else attacker.render(signed)
        if not admitted:
            assert attacker.refusal(oid) != "", (step, r)
        else:
            assert attacker.push(oid).slug == "", (step, r)
            model.land(r)
            landed += 1
            for task in TASKS:
                model.check(attacker.state.task(task), task)
            model.check_facts(list(attacker.state.facts()))
        outcomes[admitted] += 1
    assert min(outcomes.values()) > 5, outcomes
    assert attacker.head.seq == start + landed
    assert second_opinion(fleet.remote) == attacker.head.seq + 1
    fsck(fleet.remote, fleet.env)
    assert not fleet.ledger("bob").audit(full=True).problems
