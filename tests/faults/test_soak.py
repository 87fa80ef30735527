"""Eight agents that write by different ways, a network that fails or processes that die at random,
and an owner who cannot leave the server alone: what was said is what is in the chain.

Those of one way stand in one line. COORDLEDGER_SOAK says for how many seconds (each): 10 without
it, 30 suit CI, 300 a quiet night. The faults follow a fixed seed; COORDLEDGER_SOAK_SEED gives
another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.bookkeeping import Record, fsck, litter, replay
from support.fleet import Fleet, hermetic
from support.git_daemon import daemon
from support.proxy import Fault, Proxy
from support.sequencing import switch
from support.serve_process import ServeProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = float(os.environ.get("COORDLEDGER_SOAK", "10"))
SEED = os.environ.get("COORDLEDGER_SOAK_SEED", "1")
AGENTS = 8
MAX_SKEW = 5
AFTERWARDS = 40.0  # seconds for settling and ending
UNFINISHED = ("new", "intents/new", "vouches.new")  # what a killed process may leave
# How agents write: pushes that race for the ledger's head, as clients make that know no sequencing;
# records to be sequenced; and without a push, where the server is a folder of this host.
PLAIN, SEQUENCED, ON_HOST = "plain", "sequenced", "on the host"
SETTINGS = {PLAIN: {"SOAKER_PLAIN": "1"}, SEQUENCED: {}, ON_HOST: {"COORDLEDGER_DIRECT": "on"}}
MIXED = {
    "a bad network": (PLAIN,) * 3 + (SEQUENCED,) * 5,
    "processes that die": (PLAIN,) * 3 + (SEQUENCED,) * 3 + (ON_HOST,) * 2,
}
_SOAKER = Path(__file__).parents[1] / "support" / "soaker.py"


class Trouble(threading.Thread):
    """Goes on until it is told to stop; always the same for one seed."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._dice, self._end = random.Random(SEED), threading.Event()
        self.seen: Counter[str] = Counter()

    def stop(self) -> None:
        self._end.set()
        self.join(60)


class Weather(Trouble):
    """Changes the proxy's fault every moment, until it is told to stop.

    A connection that has been in a black hole is reset, and so is every one when the delay
    changes: TCP loses no byte in the middle, and none overtakes another.
    """

    KINDS = ("cut up", "cut down", "cut later", "refuse", "hole", "mute", "reset", "delay")

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy, self._delay = proxy, 0.0

    def run(self) -> None:
        coming: list[str] = []
        while not self._end.is_set():
            if not coming:
                coming = self._dice.sample(self.KINDS, len(self.KINDS))
            name = coming.pop()
            self.seen[name] += 1
            if name == "delay":
                self._delay = self._dice.choice((0.0, 0.002, 0.01, 0.04))
            if name in ("delay", "reset"):
                self._proxy.reset()
            self._proxy.fault = self._fault(name)
            self._end.wait(self._dice.uniform(0.03, 0.15))
            if name in ("hole", "mute"):
                self._proxy.reset()
            self._proxy.fault = Fault(delay=self._delay)
            self._end.wait(self._dice.uniform(0.1, 0.6))
        self._proxy.reset()
        self._proxy.fault = Fault()

    def _fault(self, name: str) -> Fault:
        dice, delay = self._dice, self._delay
        faults = {
            "cut up": Fault(delay=delay, cut_up=dice.randrange(1, 1500)),
            "cut down": Fault(delay=delay, cut_down=dice.randrange(1, 800)),
            "cut later": Fault(delay=delay, cut_up=dice.randrange(1500, 4000)),
            "refuse": Fault(refuse=True),
            "hole": Fault(hole=True),
            "mute": Fault(mute=True),
        }
        return faults.get(name, Fault(delay=delay))


class Reaper(Trouble):
    """Kills a process every moment, and starts it again, or stops it for a while."""

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self._crew = crew

    def run(self) -> None:
        while not self._end.wait(self._dice.uniform(0.1, 0.8)):
            name = self._dice.choice(sorted(self._crew.running))
            process = self._crew.running[name]
            if self._dice.random() < 0.6:
                process.kill()
                process.wait(10)
                self._crew.start(name)
                self.seen["kill"] += 1
            else:
                process.send_signal(signal.SIGSTOP)
                self._end.wait(self._dice.uniform(0.05, 2.5))
                process.send_signal(signal.SIGCONT)
                self.seen["stop"] += 1


class Owner(Trouble):
    """Looks after the server all the time: its resident process, whether it sequences, whether
    others are told of pushes, how its objects and refs are kept.
    """

    UPKEEP = (
        ("gc", "--quiet"),
        ("repack", "-a", "-d", "-q"),
        ("pack-refs", "--all"),
        ("maintenance", "run", "--quiet", "--task=loose-objects", "--task=incremental-repack"),
    )

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._fleet, self._sequences = fleet, True
        self._resident: ServeProcess | None = None
        self._hook = fleet.remote / "hooks/post-receive"

    def run(self) -> None:
        acts: list[Callable[[], None]] = [self._upkeep, self._serve, self._switch, self._tell]
        coming: list[Callable[[], None]] = []
        try:
            while not self._end.wait(self._dice.uniform(0.1, 0.8)):
                if not coming:
                    coming = self._dice.sample(acts, len(acts))
                act = coming.pop()
                act()
                self.seen[act.__name__] += 1
            if not self._sequences:
                self._switch()
            self._hook.unlink(missing_ok=True)
        finally:
            if self._resident:
                self._resident.end()

    def _upkeep(self) -> None:
        argv = ["git", *self._dice.choice(self.UPKEEP)]
        where = {"cwd": self._fleet.remote, "env": self._fleet.env}
        subprocess.run(argv, **where, capture_output=True, timeout=60, check=False)

    def _serve(self) -> None:
        if self._resident is None:
            self._resident = ServeProcess(self._fleet.env, self._fleet.remote)
        elif self._dice.random() < 0.5:
            self._resident.end(self._dice.choice((signal.SIGKILL, signal.SIGTERM)))
            self._resident = None
        else:
            self._resident.send(signal.SIGSTOP)
            self._end.wait(self._dice.uniform(0.05, 2.5))
            self._resident.send(signal.SIGCONT)

    def _switch(self) -> None:
        self._sequences = not self._sequences
        switch(self._fleet, sequence=self._sequences)

    def _tell(self) -> None:
        if self._hook.exists():
            self._hook.unlink()
            return
        fresh = self._hook.with_suffix(".new")
        fresh.write_text("#!/bin/sh\ncat > /dev/null\n")
        fresh.chmod(0o755)
        fresh.rename(self._hook)


class Crew:
    """The processes, one for each clone; `settings` are more of the environment, of some."""

    def __init__(
        self,
        clones: dict[str, Path],
        env: dict[str, str],
        calm: Path,
        settings: dict[str, dict[str, str]],
    ) -> None:
        self.clones, self._env, self.calm, self._settings = clones, env, calm, settings
        self.end = time.time() + SECONDS
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in clones:
            self.start(name)

    def start(self, name: str) -> None:
        out, err = (self.calm.with_name(f"{name}.{kind}").open("ab") for kind in ("out", "err"))
        with out, err:
            seed = f"{SEED} {name} {time.time()}"
            argv = [sys.executable, str(_SOAKER), str(self.clones[name]), name, seed]
            self.running[name] = subprocess.Popen(
                [*argv, str(self.end), str(self.calm)],
                env=self._env | self._settings[name],
                stdout=out,
                stderr=err,
            )

    def said(self, name: str) -> list[dict[str, Any]]:
        """What all processes in this clone have said; who was killed said half a line."""
        found = []
        for line in self.calm.with_name(f"{name}.out").read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found


class Soak:
    """What the processes said, line by line, and what is in the chain."""

    def __init__(
        self, fleet: Fleet, said: dict[str, list[dict[str, Any]]], ways: dict[str, str]
    ) -> None:
        self.fleet, self.ways = fleet, ways
        self.said = {agent: list(_with_killed(lines)) for agent, lines in said.items()}
        self.records, self.reader = replay(fleet.remote)
        self.by_op: dict[str, Record] = {record["op"]: record for record in self.records}

    def lines(self, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for agent, said in self.said.items():
            for line in said:
                if line["kind"] in kinds:
                    yield agent, line

    def operations(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Agent, line and op of every intent."""
        kinds = ("claim", "renew", "complete", "release", "send", "ack")
        for agent, line in self.lines(*kinds):
            for op in line["ops"]:
                yield agent, line, op

    def answered(self) -> Iterator[str]:
        """The ops whose outcome was unknown, until the same command, called again, was told that
        they had won: such a command mints none.
        """
        kinds = ("claim", "renew", "complete", "release")
        unknown: dict[tuple[str, str, str], str] = {}
        for agent, line in self.lines(*kinds):
            command = agent, line["kind"], line["task"]
            if line["outcome"] == "unknown" and line["ops"]:
                unknown[command] = line["ops"][-1]
            elif line["outcome"] == "won" and not line["ops"] and command in unknown:
                yield unknown.pop(command)


def _with_killed(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines, and one for each operation that began and never ended."""
    begun: dict[str, Any] | None = None
    for line in [*lines, {"kind": "begun"}]:
        if line["kind"] == "begun" and begun:
            yield begun | {"kind": begun["of"], "outcome": "killed", "code": ""}
        if line["kind"] == "begun":
            begun = line | {"ops": []}
        elif line["kind"] == "minted" and begun:
            begun["ops"].append(line["op"])
        elif begun and line["kind"] == begun.get("of"):
            begun = None
        yield line


@pytest.fixture(scope="module", params=MIXED)
def soak(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Soak]:
    root = tmp_path_factory.mktemp("soak")
    env = hermetic(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        fleet = Fleet(root / "fleet", env, max_skew=MAX_SKEW, sequence=True)
        names = [f"agent{number}" for number in range(AGENTS)]
        for name in names:
            fleet.enroll(name)
        clones = {name: fleet.clone(name) for name in names}
        ways = dict(zip(names, MIXED[request.param], strict=True))
        settings = {
            name: SETTINGS[way] | {"XDG_CACHE_HOME": str(root / "cache" / way)}
            for name, way in ways.items()
        }
        owner = Owner(fleet)
        if request.param == "processes that die":
            crew = Crew(clones, env, root / "calm", settings)
            said = _soak(crew, Reaper(crew), owner)
        else:
            with daemon(fleet.root, env, writable=True) as port, Proxy(port) as proxy:
                for clone in clones.values():
                    url = f"git://127.0.0.1:{proxy.port}/{fleet.remote.name}"
                    fleet.git("remote", "set-url", "origin", url, cwd=clone)
                weather = Weather(proxy)
                said = _soak(Crew(clones, env, root / "calm", settings), weather, owner)
                assert weather.seen.keys() == set(weather.KINDS), weather.seen
        yield Soak(fleet, said, ways)
        fleet.close()


def _soak(crew: Crew, *troubles: Trouble) -> dict[str, list[dict[str, Any]]]:
    for trouble in troubles:
        trouble.start()
    try:
        time.sleep(max(0.0, crew.end - time.time()))
        for trouble in troubles:
            trouble.stop()
        crew.calm.touch()
        end = time.monotonic() + AFTERWARDS
        for name, process in crew.running.items():
            code = process.wait(max(1.0, end - time.monotonic()))
            assert code == 0, crew.calm.with_name(f"{name}.err").read_text()
    finally:
        for trouble in troubles:
            trouble.stop()
        for process in crew.running.values():
            process.kill()
            process.wait(10)
    print(*(dict(trouble.seen) for trouble in troubles))
    return {name: crew.said(name) for name in crew.clones}


def test_there_was_trouble_and_work_went_on(soak: Soak) -> None:
    outcomes = Counter(line["outcome"] for _, line, _ in soak.operations())
    said = dict(outcomes), Counter(line["code"] for _, line, _ in soak.operations())
    won = Counter(
        soak.ways[agent] for agent, line, _ in soak.operations() if line["outcome"] == "won"
    )
    print(*said, dict(won))
    assert won.keys() == set(soak.ways.values()), won
    assert outcomes["won"] > SECONDS / 3, said  # on a machine that has much else to do
    assert outcomes["failed"] + outcomes["unknown"] + outcomes["killed"] > 0, said
    assert outcomes["integrity"] == 0, said


def test_what_was_acknowledged_is_in_the_chain_once(soak: Soak) -> None:
    """`replay` has seen that no op is there twice."""
    for agent, line, op in soak.operations():
        if line["outcome"] == "won":
            record = soak.by_op[op]
            assert (record["kind"], record["agent"]) == (line["kind"], agent)
            if line["kind"] == "send":
                assert record["body"] == line["body"]
            if line["kind"] == "claim":
                assert [item["task"] for item in record["tasks"]] == [line["task"]]


def test_what_was_lost_or_failed_is_not_in_the_chain(soak: Soak) -> None:
    for _, line, op in soak.operations():
        if line["outcome"] in ("lost", "failed"):
            record = soak.by_op.get(op)
            assert record is None or record["kind"] == "void", (line, record)


def test_what_was_unknown_is_what_resolve_said_in_the_end(soak: Soak) -> None:
    settled = {line["op"]: line for _, line in soak.lines("settled")}
    assert len(settled) == len(list(soak.lines("settled"))), "one was settled twice"
    unknown = {op: line for _, line, op in soak.operations() if line["outcome"] == "unknown"}
    answered = set(soak.answered())
    assert unknown.keys() <= settled.keys() | answered
    assert all(soak.by_op[op]["kind"] == unknown[op]["kind"] for op in answered)
    unknown |= {op: line for _, line, op in soak.operations() if line["outcome"] == "killed"}
    for op, line in settled.items():
        record = soak.by_op.get(op)
        assert op in unknown, line
        if line["outcome"] == "landed":
            assert record
            assert (record["seq"], record["kind"]) == (line["seq"], unknown[op]["kind"])
        else:
            assert record is None or record["kind"] == "void"


def test_nothing_is_in_the_chain_that_nobody_asked_for(soak: Soak) -> None:
    asked = {op for _, _, op in soak.operations()}
    for record in soak.records:
        assert record["op"] in asked or record["kind"] in ("genesis", "enroll"), record


def test_nobody_lost_a_lease_that_ran(soak: Soak) -> None:
    assert list(soak.lines("violation")) == []
    # By our own books: who holds what until when, from the records alone.
    held: dict[str, tuple[str, str]] = {}
    for record in soak.records:
        agent, kind = record["agent"], record["kind"]
        for item in record.get("tasks", ()):
            holder = held.get(item["task"])
            if holder:
                free = _milliseconds(holder[1]) + 1000 * MAX_SKEW
                assert _milliseconds(record["at"]) >= free, (record, holder)
            held[item["task"]] = (agent, record["until"])
        if kind in ("renew", "complete", "release"):
            assert held[record["task"]][0] == agent, record
            assert record["at"] < held[record["task"]][1], record
        if kind == "renew":
            held[record["task"]] = (agent, record["until"])
        if kind in ("complete", "release"):
            del held[record["task"]]


def _milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def test_messages_are_neither_lost_nor_doubled(soak: Soak) -> None:
    bodies = Counter(record["body"] for record in soak.records if record["kind"] == "send")
    assert set(bodies.values()) <= {1}
    landed = {line["op"] for _, line in soak.lines("settled") if line["outcome"] == "landed"}
    wanted = {
        line["body"]
        for _, line, op in soak.operations()
        if line["kind"] == "send" and (line["outcome"] == "won" or op in landed)
    }
    killed = {line["body"] for _, line in soak.lines("send") if line["outcome"] == "killed"}
    assert wanted <= set(bodies) <= wanted | killed
    # What is in the mailboxes now: everything that was sent and not acknowledged.
    inboxes: dict[str, set[int]] = {f"agent{number}": set() for number in range(AGENTS)}
    for record in soak.records:
        if record["kind"] == "send" and record["to"]:
            inboxes[record["to"]].add(record["seq"])
        if record["kind"] == "ack":
            inboxes[record["agent"]] -= set(record["messages"])
    for agent, seqs in inboxes.items():
        found = soak.fleet.git("show", f"refs/coordledger/main:inbox/{agent}.jsonl") if seqs else ""
        assert {json.loads(line)["seq"] for line in found.splitlines()} == seqs


def test_every_clone_and_the_server_are_sound_afterwards(soak: Soak) -> None:
    fsck(soak.fleet.remote, soak.fleet.env)
    assert not list(soak.fleet.remote.glob("refs/**/*.lock"))
    for agent in soak.said:
        clone = soak.fleet.root / agent
        soak.fleet.git("remote", "set-url", "origin", soak.fleet.remote, cwd=clone)
        ledger = soak.fleet.ledger(agent)
        assert ledger.head().seq == len(soak.records) - 1
        assert ledger.connection.local.journal.intents() == []
        # What a killed process was writing is written over by the next.
        assert {*litter(clone)} <= {f"coordledger/main/{name}" for name in UNFINISHED}
    audit = soak.fleet.ledger("agent0").audit(full=True)
    assert (audit.problems, audit.verdicts) == ((), {"authentic": len(soak.records)})
