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
from support.memory_ledger import SECOND, SKEW
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


def _page(fact: str) -> int:
    return hashlib.sha256(fact.encode()).digest()[0] % 64


class Model:
    """The claims and the facts of a ledger. A moment is a number of milliseconds."""

    def __init__(self, committed: int, skew: int, seq: int) -> None:
        """`seq`: of the walk's first record."""
        self.tasks: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.first_seq = seq
        self.ops: list[tuple[str, str]] = []  # of the records since the walk began
        self.committed, self.skew = committed, skew  # committed: seconds

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
            blank = {"after": [], "epoch": 0, "by": None, "first": len(self.ops)}
            old = self.tasks.get(item["task"], blank)
            new = {**old, "rev": item["rev"]}
            if r["kind"] == "submit":
                new |= {"status": "open", "after": r["after"], "by": r["agent"]}
            if r["kind"] == "withdraw":
                new |= {"status": "withdrawn", "after": [], "by": None}
                new |= {"who": (None, None), "until": None}
            if r["kind"] == "claim":
                new |= {"status": "claimed", "epoch": item["epoch"]}
                new |= {"who": (r["agent"], r["session"]), "until": _moment(r["until"])}
            if r["kind"] == "renew":
                new["until"] = _moment(r["until"])
            if r["kind"] == "complete":
                new |= {"status": "done", "until": None}
            if r["kind"] == "release":
                new |= {"status": "open", "who": (None, None), "until": None}
            self.tasks[item["task"]] = new
            if new["status"] == "withdrawn" and not new["epoch"]:
                del self.tasks[item["task"]]
        self.ops.append((r["agent"], r["op"]))
        self.committed = max(self.committed, at // 1000)

    def _submit(self, r: dict[str, Any], at: int) -> bool:
        old = self.tasks.get(r["task"], {"status": "withdrawn", "rev": 0, "first": len(self.ops)})
        others = [self.tasks.get(task) for task in r["after"]]
        known = all(other and other["first"] < old["first"] for other in others)
        return bool(old["status"] == "withdrawn" and r["rev"] == old["rev"] + 1 and known)

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

    def _claim(self, r: dict[str, Any], at: int) -> bool:
        if not at < _moment(r["until"]) <= at + DAY:
            return False
        for item in r["tasks"]:
            old = self.tasks.get(item["task"])
            if old is None:
                if (item["rev"], item["epoch"]) != (1, 1):
                    return False
                continue
            free = (
                old["status"] == "open"
                or (old["status"] == "claimed" and at >= old["until"] + self.skew)
                or (old["status"] == "done" and r["reopen"])
            )
            if not free or self._waits(old):
                return False
            if (item["rev"], item["epoch"]) != (old["rev"] + 1, old["epoch"] + 1):
                return False
        return True

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
        who = mine.get("who", (None, None))
        assert (line["status"], line["rev"], line["epoch"]) == (
            mine["status"],
            mine["rev"],
            mine["epoch"],
        )
        assert (line["agent"], line["session"]) == who
        assert (until, line["after"]) == (mine.get("until"), mine["after"])
        assert line["by"] == mine["by"]


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
        kinds = ["submit", "claim", "claim", "claim", "renew", "complete", "release", "void"]
        kind = dice.choice([*kinds, "withdraw", "fact"])
        task = dice.choice(TASKS)
        old = model.tasks.get(task, {"rev": 0, "epoch": 0})
        rev, epoch = old["rev"] + 1, max(1, old["epoch"])
        until = at + dice.choice([1, self.lease, self.lease, 2 * self.lease, DAY])
        if dice.random() < 0.05:
            until = at + dice.choice([-1, 0, DAY + 1])
        if kind in ("renew", "complete", "release"):
            if dice.random() < 0.85 and old.get("who", (None,))[0]:
                agent, session = old["who"]
            if dice.random() < 0.2 and old.get("until"):
                at = old["until"] + dice.choice([-1, 0])  # a lease's very end
            if dice.random() < 0.1:
                rev += dice.choice([-1, 1]) if rev > 1 else 1
            if dice.random() < 0.1:
                epoch += 1
        elif kind == "claim" and dice.random() < 0.3 and old.get("until"):
            at = old["until"] + model.skew + dice.choice([-1, 0])  # the first moment
            until = at + self.lease
        given: dict[str, Any] = {"session": session, "at": timestamps.show(at)}
        if kind in ("submit", "withdraw", "fact"):
            offer = {"task": task} | self._offer(kind, old, rev)
            given |= self._made_up_fact(at, until) if kind == "fact" else offer
        elif kind == "claim":
            group = sorted({task, *dice.sample(TASKS, dice.choice([0, 0, 0, 1, 2]))})
            given |= {"until": timestamps.show(until), "reopen": dice.random() < 0.4}
            given["tasks"] = [self._item(name) for name in group]
        elif kind != "void":
            given |= {"task": task, "rev": rev, "epoch": epoch}
            given |= {"until": timestamps.show(until)} if kind == "renew" else {}
            given |= {"force": dice.random() < 0.3} if kind == "release" else {}
        return agent, kind, given

    def _offer(self, kind: str, old: dict[str, Any], rev: int) -> dict[str, Any]:
        dice = self.dice
        if kind == "withdraw":
            return {"rev": rev + (dice.random() < 0.05), "reason": None}
        right = [rev] * 8 if old.get("status") == "withdrawn" else [1, 1, 1]
        after = sorted(dice.sample(TASKS, dice.choice([0, 1, 1, 2])))
        return {"after": after, "rev": dice.choice([1, *right, rev])}

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
    fleet = memory_ledger.MemoryLedger("bob", "dave")
    model = Model(fleet.head.committed, SKEW, len(fleet.log))
    walk = Walk(seed, model, lease=90 * SECOND, drift=20 * SECOND)
    reader = reader_of(fleet)
    signed: list[Signed] = []
    start, outcomes = len(fleet.log), {True: 0, False: 0}
    for step in range(800):
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
        else:
            with pytest.raises(Invalid):
                deepcopy(reader).step(fleet.forge(again)[1])
    assert min(outcomes.values()) > 150, outcomes
    assert {task["status"] for task in model.tasks.values()} <= {
        "open",
        "claimed",
        "done",
        "withdrawn",
    }
    assert reader.authentic == len(fleet.log)
    whole = fleet.fresh_verifier()
    assert {whole.judge(*item) for item in fleet.log} == {AUTHENTIC}


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
    for step in range(30):
        agent, kind, given = walk.fields(attacker.now - 30 * SECOND)
        signed = attacker.signed(agent, kind, **given)
        r, now = signed.record, time.time_ns() // 1_000_000
        expected = model.valid(r, 0)
        # What the server's clock adds (section 10).
        early = any(
            model.tasks.get(item["task"], {}).get("status") == "claimed"
            and now < model.tasks[item["task"]]["until"] + skew
            for item in (r["tasks"] if kind == "claim" else [r] if kind == "withdraw" else ())
        )
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
