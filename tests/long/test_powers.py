"""Random walks over who may do what: agents, delegates of delegates and admins, and what they do to
each other's tasks, keys, messages and policy.

Rules: nothing here says what is right. At each step a record is made up, often by somebody who may
not, or about what is gone. Both implementations have to agree on whether it is valid, and on the
state then; a few things that must never be are looked at beside that.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from support import memory_ledger
from support.memory_ledger import POLICY, SECOND, SKEW
from support.second_reader import Invalid, Reader, derived, fingerprint

from coordledger.format import records, timestamps
from coordledger.format.chain import AUTHENTIC
from coordledger.format.names import first_name, name_above

if TYPE_CHECKING:
    from coordledger.format.signing import Signed

NAMES = ["alice", "bob", "carol", "bob.a", "bob.b", "bob.a.x", "bob.a.x.y", "bob-a", "alice.a"]
TASKS = ["t1", "t2", "t3", "t4"]
CHANNELS = ["general", "c2", "c3"]
PATHS = [
    "a",
    "a/",
    "A/",
    "a/b",
    "a/b/",
    "a/bc",
    "a\\b",
    "\u00e9/",
    "e\u0301/",
    "\u200b",
    "..a/",
    "b",
]
STEPS = 2000
SMALL = {"inbox_messages": 5, "sender_messages": 3, "channels": 2, "channel_messages": 3}
POLICIES = [
    *({"reopen": 0}, {"reopen": 1}, {"reopen": 2}, {"max_text": 4}, {"max_text": 4096}),
    *({"max_body": 4}, {"max_body": 65_536}, {"max_fact": 4}, {"max_fact": 4096}, SMALL),
    *({"inbox_messages": 8, "inbox_reserve": 128, "sender_messages": 9}, {"inbox_reserve": 0}),
]
KINDS = {
    "enroll": 8,
    "revoke": 4,
    "policy": 3,
    "submit": 6,
    "edit": 6,
    "withdraw": 4,
    "claim": 16,
    "renew": 12,
    "complete": 4,
    "release": 6,
    "handoff": 8,
    "send": 10,
    "ack": 6,
    "drop": 2,
    "fact": 6,
}


class Walk:
    """Makes up records on a ledger in memory."""

    def __init__(self, seed: int, fleet: memory_ledger.MemoryLedger) -> None:
        self.dice, self.fleet = random.Random(seed), fleet

    def signed(self) -> Signed:
        dice, fleet = self.dice, self.fleet
        kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
        agent = dice.choice(NAMES if dice.random() < 0.2 else ["alice", *fleet.state.agents()])
        given = getattr(self, "_" + kind)()
        if "task" in given and dice.random() < 0.6:  # somebody who may
            line = fleet.state.task(given["task"]) or {}
            agent = dice.choice([line.get("by"), line.get("agent")]) or agent
            given["session"] = line.get("session") or "s1"
        if "messages" in given and dice.random() < 0.6:
            agent = dice.choice(sorted(fleet.state.inboxes()) or NAMES)
        if kind == "enroll" and dice.random() < 0.6:
            agent = dice.choice(["alice", name_above(given["who"]) or "alice"])
        entry = fleet.state.agent(agent)
        keys = entry["keys"] if entry else []
        valid = [key["id"] for key in keys if key["until"] is None]
        wanted = valid if valid and dice.random() < 0.9 else [1, *(key["id"] for key in keys)]
        given = {"session": dice.choice(["s1", "s1", "s2"]), "key": dice.choice(wanted)} | given
        given["at"] = timestamps.show(fleet.now + self._off(given.get("task")))
        unders = dict(fleet.unders)
        record = records.check(fleet.record(agent, kind, **given))
        after, fleet.unders = fleet.unders, unders  # what it enrols does not sign it
        signed = fleet.sign(record)
        fleet.unders = after
        return signed

    def _off(self, task: str | None) -> int:
        line = self.fleet.state.task(task) if task else None
        until = timestamps.parse(line["until"]) - self.fleet.now if line and line["until"] else 0
        edge = until + self.dice.choice([-1, 0, SKEW - 1, SKEW])
        return self.dice.choice([edge, 0, 0, 0, -2 * SKEW, -2 * SKEW - SECOND])

    def _task(self) -> dict[str, Any]:
        return {"task": self.dice.choice(TASKS)}

    def _text(self) -> str | None:
        return self.dice.choice([None, None, "", "abcd", "abcde", "\u00e9"])

    def _enroll(self) -> dict[str, Any]:
        dice, who = self.dice, self.dice.choice([*NAMES[1:], "bob.c.d", "alice"])
        given: dict[str, Any] = {"who": who}
        if name_above(who):
            above = self.fleet.state.agent(name_above(who)) or {"keys": [{"id": 1}]}
            given["under"] = dice.choice(above["keys"])["id"]
        elif who != "alice" and dice.random() < 0.3:
            given["role"] = "admin"
        if dice.random() < 0.05:
            given["id"] = dice.randint(1, 9)
        return given

    def _revoke(self) -> dict[str, Any]:
        who = self.dice.choice(NAMES[1:] if self.dice.random() < 0.95 else NAMES)
        keys = (self.fleet.state.agent(who) or {"keys": []})["keys"]
        return {"who": who, "id": self.dice.choice([key["id"] for key in keys] or [1])}

    def _policy(self) -> dict[str, Any]:
        return {"set": self.dice.choice(POLICIES)}

    def _submit(self) -> dict[str, Any]:
        return self._task() | self._described() | {"body": self._text()}

    def _edit(self) -> dict[str, Any]:
        described = self._described() | {"priority": self.dice.randint(-3, 3)}
        names = self.dice.sample(sorted(described), self.dice.randint(1, 2))
        return self._task() | {"set": {name: described[name] for name in names}}

    def _described(self) -> dict[str, Any]:
        dice = self.dice
        after = sorted(dice.sample(TASKS, dice.choice([0, 0, 0, 1, 2])))
        far = ["1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"]
        near = timestamps.show(self.fleet.now + dice.choice([-1, 0, 1]) * SECOND)
        return {
            "after": after,
            "parent": dice.choice([None, None, *TASKS]),
            "not_before": dice.choice([*[None] * 6, near, *(far if dice.random() < 0.2 else [])]),
        }

    def _withdraw(self) -> dict[str, Any]:
        return self._task() | {"reason": self._text()}

    def _claim(self) -> dict[str, Any]:
        dice = self.dice
        lease = dice.choice([1, SECOND, 40 * SECOND, 600 * SECOND, 86_400 * SECOND])
        return {
            "tasks": sorted(dice.sample(TASKS, dice.choice([1, 1, 1, 2]))),
            "until": timestamps.show(self.fleet.now + lease),
            "reopen": dice.random() < 0.5,
            "note": self._text(),
            "paths": sorted(dice.sample(PATHS, dice.choice([0, 0, 1, 2]))),
        }

    def _renew(self) -> dict[str, Any]:
        until = timestamps.show(self.fleet.now + self.dice.choice([600, 86_400]) * SECOND)
        return self._task() | {"until": until, "note": self._text()}

    def _complete(self) -> dict[str, Any]:
        return self._task() | {"result": self._text()}

    def _release(self) -> dict[str, Any]:
        force, later = self.dice.random() < 0.5, self._described()["not_before"]
        return self._task() | {"reason": self._text(), "force": force, "not_before": later}

    def _handoff(self) -> dict[str, Any]:
        return self._task() | {"to": self.dice.choice([*NAMES, "nobody"]), "note": self._text()}

    def _send(self) -> dict[str, Any]:
        to = self.dice.choice([None, *NAMES, "alice", "alice"])
        thread = self.dice.choice([None, None, 0, self.fleet.head.seq, self.fleet.head.seq + 1])
        return {
            "to": to,
            "channel": None if to else self.dice.choice(CHANNELS),
            "thread": thread,
            "importance": self.dice.choice(["low", "normal", "high", "high"]),
            "body": self._text() or "x",
        }

    def _ack(self) -> dict[str, Any]:
        some = [line["seq"] for name in NAMES for line in self.fleet.state.inbox(name)]
        wanted = self.dice.sample(some, min(len(some), self.dice.choice([1, 1, 2])))
        return {"messages": sorted(wanted or [self.fleet.head.seq])}

    def _drop(self) -> dict[str, Any]:
        return {"channel": self.dice.choice(CHANNELS)}

    def _fact(self) -> dict[str, Any]:
        fact = self.dice.choice(["k1", "k2", 'k","fact":"k1","rev":'])
        line = self.fleet.state.fact(fact)
        rev = line["rev"] if line else 0
        was = self.dice.choice([rev, rev, 0, self.fleet.head.seq])
        if was and self.dice.random() < 0.3:
            return {"fact": fact, "was": was, "value": None}
        lease = self.dice.choice([None, 0, 1, 60 * SECOND])
        until = None if lease is None else timestamps.show(self.fleet.now + lease)
        return {"fact": fact, "was": was, "value": self._text() or "", "until": until}


def must_be(fleet: memory_ledger.MemoryLedger) -> None:
    """What holds for each state, whoever wrote it."""
    state = fleet.state
    held: list[tuple[str, list[str]]] = []
    for line in state.reservations():
        task = state.task(line["task"])
        assert task
        assert (task["status"], task["agent"], task["until"]) == (
            *("claimed", line["agent"]),
            line["until"],
        )
        held.append((line["task"], line["paths"]))
    for name in state.agents():
        entry = state.agent(name) or {}
        for key in entry["keys"]:
            if key["until"] is None:  # so is each key above it
                assert all(above["until"] is None for _, above in state.keys_above(name, key))
        if "." in name:
            assert state.has_active_key(name)
            assert entry["issued"] == 0
            most = (state.agent(first_name(name)) or {})["issued"]
            assert all(key["id"] <= most for key in entry["keys"])
    for name in state.inboxes():
        assert state.agent(name)
    for task in state.tasks():
        assert (task["until"] is not None) == (task["status"] == "claimed")
        if task["offer"]:
            assert (task["status"], task["offer"]["until"]) == ("claimed", task["until"])
            assert task["offer"]["agent"] != task["agent"]


@pytest.mark.parametrize("seed", range(4))
def test_both_implementations_agree_on_who_may_do_what(seed: int) -> None:
    fleet = memory_ledger.MemoryLedger("bob", "bob-a", "dave", policy=POLICY | {"reopen": seed % 3})
    master = memory_ledger.MASTER.reveal().encode()

    def secret_of(nonce: str, agent: str, key: int, wanted: str) -> bytes | None:
        if (agent, key) == ("carol", 1):
            return memory_ledger.OWN.reveal().encode()
        found = derived(master, nonce, agent, key)
        return found if fingerprint(found, nonce, agent, key) == wanted else None

    reader, walk = Reader(secret_of), Walk(seed, fleet)
    for _, content in fleet.log:
        reader.step(content)
    landed, refused = dict[str, int](), dict[str, set[str]]()
    for _ in range(STEPS):
        fleet.now += walk.dice.choice([0, 1, 1, 5, 40]) * SECOND
        unders = dict(fleet.unders)
        signed = walk.signed()
        kind = signed.record["kind"]
        why = fleet.refusal_of(signed)
        if why:
            fleet.unders = unders  # nobody has a key by a record that was refused
            refused.setdefault(kind, set()).add(why)
            with pytest.raises(Invalid):
                reader.step(fleet.forge(signed)[1])
            continue
        reader.step(fleet.land(signed).content)
        fleet.now = max(fleet.now, 1000 * fleet.head.committed)
        landed[kind] = landed.get(kind, 0) + 1
        must_be(fleet)
    assert landed.keys() == KINDS.keys()
    assert {"not-permitted", "bad-key"} <= refused["enroll"] & refused["revoke"]
    assert {"not-holder", "unknown-agent"} <= refused["handoff"]
    assert {"mailbox-full", "unknown-agent"} <= refused["send"]
    assert reader.authentic + reader.unverified == len(fleet.log)
    whole = fleet.fresh_verifier()
    assert {whole.judge(*item) for item in fleet.log} == {AUTHENTIC}
