"""Processes of one host in line: one leads, others wait, any may die in the middle of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import fsck, opened, second_opinion
from support.fleet import LEDGER_REF
from support.push_gate import PushGate, ended, eventually, kill, start
from support.soundness import claims_of, records_of

from coordledger.client.combining import leader as leader_module
from coordledger.client.combining import line as line_module
from coordledger.client.combining import slots
from coordledger.errors import CoordledgerError, Failed
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, UNSENT, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.attacker import Attacker
    from support.fleet import Fleet
    from support.hookless_host import HooklessHost

    from coordledger import Ledger
    from coordledger.format.signing import Signed

AGENTS = [f"agent{n}" for n in range(8)]


class Line:
    """A ledger's line as it lies on the disk, and a leader who does nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.folder = ledger, ledger.connection.line().folder

    def wait_for(self, count: int, kind: str = "json") -> list[Path]:
        eventually(lambda: len(list(self.folder.glob(f"*.{kind}"))) == count)
        return sorted(self.folder.glob(f"*.{kind}"))

    @property
    def litter(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"lock", "seq", "copy.git"}

    @contextlib.contextmanager
    def led(self, *, alive: bool = True) -> Iterator[None]:
        """Nobody else leads meanwhile; unless `alive`, as if the leader had been stopped."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        over = threading.Event()
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not alive:
                os.utime(lock.fileno(), (0, 0))

            def live() -> None:
                while alive and not over.wait(0.05):
                    os.utime(lock.fileno())

            living = threading.Thread(target=live)
            living.start()
            try:
                yield
            finally:
                over.set()
                living.join()

    def add(self, *signed: Signed, **facts: Any) -> Slot:
        return Slot(self.folder, *signed, **facts)


class Slot:
    """A slot in line, with records that the test chooses."""

    count = 0

    def __init__(self, folder: Path, *signed: Signed, raw: bytes | None = None) -> None:
        Slot.count += 1
        self._path = folder / f"{Slot.count:032x}-1"
        self.ids = [f"{Slot.count:020x}{n:020x}" for n in range(len(signed))]
        self._wakeup = slots.open_wakeup(self._path)
        tags = [b64encode(one.tag).decode() for one in signed]
        payloads = [one.payload.decode() for one in signed]
        facts = {"pushed": self.ids, "payloads": payloads, "tags": tags}
        slots.write(self._path, ".json", facts)
        if raw is not None:
            self._path.with_suffix(".json").write_bytes(raw)

    @property
    def answer(self) -> Push | None:
        return slots.read_answer(self._path)

    def leave(self) -> None:
        os.close(self._wakeup)


class Claiming(threading.Thread):
    """A claim on its way, and how it ended."""

    def __init__(self, ledger: Ledger, task: str) -> None:
        super().__init__(daemon=True)
        self.ledger, self.task, self.outcome = ledger, task, "under way"
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.ledger.claim(self.task).outcome
        except CoordledgerError as fault:
            self.outcome = fault.code

    def ended(self) -> str:
        self.join(30)
        return self.outcome


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    """Alice, bob and carol, each with a clone, and the gate before the server."""
    fleet = founded("bob", "carol")
    for agent in ("bob", "carol"):
        fleet.clone(agent)
    PushGate(fleet)
    return fleet


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    yield shared_fleet
    for who in ("alice", "bob", "carol"):
        assert shared_fleet.ledger(who).connection.local.journal.intents() == []


@pytest.fixture
def line(fleet: Fleet) -> Iterator[Line]:
    found = Line(fleet.ledger("alice"))
    yield found
    assert found.litter == set()


@pytest.fixture
def t(request: pytest.FixtureRequest) -> str:
    """A task of the test's own."""
    return request.node.name.replace(" ", "-")


def hasty(fleet: Fleet, agent: str, seconds: float) -> Ledger:
    return opened(fleet, fleet.clone(agent), agent, timeout=timedelta(seconds=seconds))


def agent_of(ledger: Ledger) -> str | None:
    return ledger.connection.settings.agent


def submit(attacker: Attacker, task: str) -> Signed:
    return attacker.signed("alice", "submit", task=task)


def tasks_of(attacker: Attacker) -> Counter[str]:
    """How often each task was claimed or submitted."""
    found = Counter({task: len(claims) for task, claims in claims_of(attacker).items()})
    return found + Counter(r["task"] for r in records_of(attacker) if r["kind"] == "submit")


# -- many at once


def test_two_in_line_want_the_same_task_and_one_has_it(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    with line.led():
        both = [Claiming(fleet.ledger(who), t) for who in ("bob", "carol")]
        line.wait_for(2)
    assert sorted(one.ended() for one in both) == ["lost", "won"]
    assert len(claims_of(attacker)[t]) == 1


def test_a_batch_waits_in_line_as_one_and_lands_with_its_neighbours(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    bob = fleet.ledger("bob")
    outcomes = []

    def write() -> None:
        with bob.batch() as batch:
            batch.claim(f"{t}-1")
            batch.claim(f"{t}-2")
            batch.claim(t)
        outcomes.extend(one.outcome for one in batch.outcomes)

    writing = threading.Thread(target=write)
    with line.led():
        carol = Claiming(fleet.ledger("carol"), t)
        line.wait_for(1)
        writing.start()
        line.wait_for(2)
        slot = line.add(submit(attacker, f"{t}-slot"))
        line.wait_for(3)
    assert carol.ended() == "won"
    writing.join(30)
    assert slot.answer
    assert slot.answer.outcome == WON
    slot.leave()
    bob.connection.line().leader.take_all()
    assert outcomes == ["landed", "landed", "lost"]
    assert [len(claims_of(attacker)[name]) for name in (t, f"{t}-1", f"{t}-2")] == [1, 1, 1]


def test_more_than_one_leader_takes_along_are_all_answered(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    alice = fleet.ledger("alice")
    alice.head()
    with line.led():
        added = [line.add(submit(attacker, f"{t}-{n}")) for n in range(300)]
        claiming = Claiming(alice, t)
        line.wait_for(301)
    assert claiming.ended() == "won"
    landed = [one.answer.landed[one.ids[0]] for one in added if one.answer]
    ids = fleet.git("rev-list", "--reverse", LEDGER_REF).split()
    assert [ids[seq] for seq, _ in landed] == [oid for _, oid in landed]
    assert [seq for seq, _ in landed] == list(range(landed[0][0], landed[0][0] + 300))
    for one in added:
        one.leave()
    assert fleet.ledger("bob").claim(f"{t}-more").won  # from a copy that is behind: it serves


# -- the leader dies


def led_by_bob(fleet: Fleet, push_gate: PushGate, line: Line, t: str) -> tuple[Any, Any]:
    """Bob's process pushes for carol's too, and the server holds that push."""
    with line.led():
        bob = start(fleet, "bob", f"{t}-bob")
        line.wait_for(1)
        carol = start(fleet, "carol", t)
        line.wait_for(2)
        os.kill(carol.pid, signal.SIGSTOP)  # so that bob leads
        push_gate.set("hold")
    push_gate.wait_for("holding")
    line.wait_for(2, "taken")
    return bob, carol


def test_a_leader_that_dies_before_its_push_lands_is_succeeded_by_one_that_waits(
    t: str, fleet: Fleet, push_gate: PushGate, line: Line, attacker: Attacker
) -> None:
    bob, carol = led_by_bob(fleet, push_gate, line, t)
    kill(bob)
    os.kill(carol.pid, signal.SIGCONT)
    assert ended(carol)["outcome"] == "won"
    push_gate.open()
    assert [one.outcome for one in fleet.ledger("bob").resolve()] == ["voided"]
    assert tasks_of(attacker)[t] == 1
    assert tasks_of(attacker)[f"{t}-bob"] == 0  # nobody's claim lands for a session that has gone


def test_what_a_leader_landed_before_it_died_is_won_by_those_that_waited_and_not_doubled(
    t: str, fleet: Fleet, push_gate: PushGate, line: Line, attacker: Attacker
) -> None:
    bob, carol = led_by_bob(fleet, push_gate, line, t)
    head = fleet.head()
    kill(bob)
    push_gate.open()
    eventually(lambda: fleet.head() != head)
    os.kill(carol.pid, signal.SIGCONT)
    assert ended(carol)["outcome"] == "won"
    assert [one.outcome for one in fleet.ledger("bob").resolve()] == ["landed"]
    assert (tasks_of(attacker)[t], tasks_of(attacker)[f"{t}-bob"]) == (1, 1)


def test_a_no_to_what_a_dead_leader_may_still_land_is_not_believed(
    t: str, fleet: Fleet, push_gate: PushGate, line: Line, attacker: Attacker
) -> None:
    bob, carol = led_by_bob(fleet, push_gate, line, t)
    kill(bob)
    push_gate.set("now", "refuse")  # what the next leader, carol, hears
    os.kill(carol.pid, signal.SIGCONT)
    push_gate.wait_for("refused")
    assert ended(carol)["outcome"] == "won"  # it has sent it again
    push_gate.open()
    fleet.ledger("bob").resolve()
    assert tasks_of(attacker)[t] == 1


def test_a_leader_killed_after_its_push_landed(
    t: str, fleet: Fleet, push_gate: PushGate, line: Line, attacker: Attacker
) -> None:
    push_gate.set("hold-landed")
    with line.led():
        bob = start(fleet, "bob", f"{t}-bob")
        line.wait_for(1)
        carol = start(fleet, "carol", t)
        line.wait_for(2)
        os.kill(carol.pid, signal.SIGSTOP)
    push_gate.wait_for("holding")
    kill(bob)
    push_gate.open()
    os.kill(carol.pid, signal.SIGCONT)
    assert ended(carol)["outcome"] == "won"
    assert [one.outcome for one in fleet.ledger("bob").resolve()] == ["landed"]
    assert (tasks_of(attacker)[t], tasks_of(attacker)[f"{t}-bob"]) == (1, 1)


@pytest.mark.parametrize(
    ("what", "answer"),
    [(("now", "refuse"), UNSENT), (("now", "kill"), UNKNOWN), (("kill-landed",), UNKNOWN)],
    ids=["refused", "cut", "landed"],
)
def test_what_the_server_does_to_a_push_for_two_is_not_the_end_for_either(
    t: str,
    fleet: Fleet,
    push_gate: PushGate,
    line: Line,
    attacker: Attacker,
    what: tuple[str, ...],
    answer: str,
) -> None:
    """It refuses without saying whom, or gives no answer, whether it has landed or not."""
    with line.led():
        slot = line.add(submit(attacker, f"{t}-slot"))
        both = [Claiming(fleet.ledger(who), f"{t}-{who}") for who in ("bob", "carol")]
        line.wait_for(3)
        push_gate.set(*what)
    assert [one.ended() for one in both] == ["won", "won"]
    assert slot.answer
    assert slot.answer.outcome == answer
    slot.leave()
    both[0].ledger.connection.line().leader.take_all()
    push_gate.wait_for("refused" if "refuse" in what else "killed")
    assert (tasks_of(attacker)[f"{t}-bob"], tasks_of(attacker)[f"{t}-carol"]) == (1, 1)


def test_a_leader_that_is_stopped_is_not_waited_for(
    t: str, fleet: Fleet, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "STUCK", 0.5)
    with line.led(alive=False):
        assert Claiming(fleet.ledger("bob"), t).ended() == "won"


def test_a_leader_that_is_stopped_after_it_took_the_record_is_not_waited_for(
    t: str, fleet: Fleet, line: Line, attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_module, "STUCK", 1.0)
    with line.led(alive=False):
        os.utime(line.folder / "lock")
        claiming = Claiming(fleet.ledger("bob"), t)
        [slot] = line.wait_for(1)
        slot.rename(slot.with_suffix(".taken"))
        assert claiming.ended() == "won"
    assert tasks_of(attacker)[t] == 1


# -- a waiting process dies, or has waited for long enough


def test_the_record_of_a_process_that_was_killed_in_line_does_not_land(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    with line.led():
        bob = start(fleet, "bob", t)
        line.wait_for(1)
        kill(bob)
        carol = Claiming(fleet.ledger("carol"), f"{t}-carol")
        line.wait_for(2)
    assert carol.ended() == "won"
    assert line.litter == set()
    assert [one.outcome for one in fleet.ledger("bob").resolve()] == ["voided"]
    assert tasks_of(attacker)[t] == 0


def test_a_process_that_is_stopped_in_line_reads_its_answer_when_it_goes_on(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    with line.led():
        bob = start(fleet, "bob", t)
        line.wait_for(1)
        os.kill(bob.pid, signal.SIGSTOP)
    assert fleet.ledger("carol").claim(f"{t}-carol").won
    assert tasks_of(attacker)[t] == 1
    os.kill(bob.pid, signal.SIGCONT)
    assert ended(bob)["outcome"] == "won"


def test_a_record_that_waited_in_vain_was_never_sent(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    bob = hasty(fleet, "bob", 1)
    began = time.monotonic()
    with line.led():
        with pytest.raises(Failed) as failed:
            bob.claim(t)
        assert time.monotonic() - began < 5
    assert (failed.value.code, failed.value.exit_code) == ("local-lock", 1)
    assert bob.connection.local.journal.intents() == []
    assert fleet.ledger("carol").claim(f"{t}-carol").won
    assert tasks_of(attacker)[t] == 0


def test_a_record_that_was_taken_and_got_no_answer_is_unknown(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    bob = hasty(fleet, "bob", 4)
    with line.led():
        claiming = Claiming(bob, t)
        [slot] = line.wait_for(1)
        slot.rename(slot.with_suffix(".taken"))
        assert claiming.ended() == "unknown-outcome"
    [intent] = bob.connection.local.journal.intents()
    assert [one.outcome for one in bob.resolve()] == ["voided"]
    assert attacker.refusal(attacker.render(intent.signed)) == "replayed"


@pytest.mark.parametrize("kind", ["json", "taken"])
def test_an_interrupt_in_line_says_that_the_outcome_is_open(
    t: str, fleet: Fleet, line: Line, attacker: Attacker, kind: str
) -> None:
    with line.led():
        claiming = subprocess.Popen(
            [sys.executable, "-m", "coordledger", "--as", "bob", "claim", t, "--json"],
            cwd=fleet.clone("bob"),
            env=fleet.env,
            stdout=subprocess.PIPE,
        )
        [slot] = line.wait_for(1)
        slot.rename(slot.with_suffix(f".{kind}"))
        claiming.send_signal(signal.SIGINT)
        out, _ = claiming.communicate(timeout=20)
        assert line.litter == set()
    assert (claiming.returncode, json.loads(out)["error"]["code"]) == (5, "unknown-outcome")
    assert [one.outcome for one in fleet.ledger("bob").resolve()] == ["voided"]
    assert tasks_of(attacker)[t] == 0


# -- what does not belong there


def test_forged_and_broken_records_in_line_keep_no_other_back(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    good = submit(attacker, t)
    bad_mac = submit(attacker, f"{t}-bad")
    bad_mac.tag = bytes(32)
    unknown = attacker.sign(
        attacker.record("alice", "submit", task=f"{t}-2") | {"key": 7}, attacker.master
    )
    other = attacker.sign(
        attacker.record("alice", "submit", task=f"{t}-3") | {"ledger": "0" * 32}, attacker.master
    )
    newer = attacker.record("alice", "submit", task=f"{t}-4")
    newer["base"] = newer["base"] | {"seq": 10**9}
    odd = submit(attacker, f"{t}-5")
    payload, tag = odd.payload.decode(), b64encode(odd.tag).decode()

    def counting(pushed: int, payloads: int, tags: int) -> bytes:
        facts = {"pushed": ["x"] * pushed, "payloads": [payload] * payloads, "tags": [tag] * tags}
        return json.dumps(facts).encode()

    head, tail = json.dumps({"pushed": ["x"], "payloads": ["P"], "tags": ["T"]}).split('"P"')
    genesis = attacker.stolen(fleet.git("rev-list", "--max-parents=0", LEDGER_REF).strip())
    alice = fleet.ledger("alice")
    with line.led():
        added = {
            "good": line.add(good),
            "bad MAC": line.add(bad_mac),
            "unknown key": line.add(unknown),
            "another ledger": line.add(other),
            "future base": line.add(attacker.sign(newer, attacker.secret("alice"))),
            "genesis": line.add(genesis),
            "nothing": line.add(),
            "no JSON": line.add(raw=b"\xff\x00"),
            "a list": line.add(raw=b"[]"),
            "deep": line.add(raw=b"[" * 100_000),
            "no record": line.add(raw=f"{head}{json.dumps('{}')}{tail}".encode()),
            "not ASCII": line.add(raw=f"{head}{json.dumps('é')}{tail}".encode()),
            "too large": line.add(raw=f"{head}{json.dumps('x' * 9_000_000)}{tail}".encode()),
            "too few ids": line.add(raw=counting(0, 1, 1)),
            "too many ids": line.add(raw=counting(2, 1, 1)),
            "too few tags": line.add(raw=counting(2, 2, 1)),
            "landed": line.add(attacker.stolen(attacker.tip)),
        }
        line.wait_for(len(added))
        claiming = Claiming(alice, f"{t}-alice")
        line.wait_for(len(added) + 1)
    assert claiming.ended() == "won"
    said = {name: one.answer.outcome if one.answer else "" for name, one in added.items()}
    assert said.pop("good") == said.pop("landed") == WON
    assert said.pop("bad MAC") == REFUSED
    assert set(said.values()) == {LOST}
    for one in added.values():
        one.leave()
    alice.connection.line().leader.take_all()
    assert tasks_of(attacker)[t] == 1
    assert second_opinion(fleet.remote) == len(records_of(attacker))


def test_an_answer_that_is_broken_is_no_answer(t: str, fleet: Fleet, line: Line) -> None:
    elsewhere = (None, {}, {"f" * 40: [7, "e" * 40]})  # it says "won", and not where
    won = [json.dumps(Push(WON)._asdict() | {"landed": places}) for places in elsewhere]
    texts = ['{"outcome": "won"}', "[]", "{", '{"landed": 7}', *won]
    for number, text in enumerate(texts):
        with line.led():
            claiming = Claiming(fleet.ledger("bob"), f"{t}{number}")
            [slot] = line.wait_for(1)
            slots.write(slot, ".answer", json.loads("0"))
            slot.with_suffix(".answer").write_text(text)
            eventually(lambda slot=slot: not slot.exists())
        assert claiming.ended() == "won"


def test_a_record_that_has_waited_for_too_long_is_signed_again(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    attacker.later = -16_000
    old = submit(attacker, t)
    attacker.later = 0
    with line.led():
        slot = line.add(old)
    assert fleet.ledger("bob").claim(f"{t}-bob").won
    assert slot.answer == Push(LOST, "it waited for too long")
    slot.leave()
    fleet.ledger("bob").connection.line().leader.take_all()


# -- the shared copy


def test_a_base_that_the_shared_copy_cannot_see_sends_its_owner_alone(
    t: str, fleet: Fleet, line: Line, attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it has landed already cannot be told below the copy's edge."""
    monkeypatch.setattr(leader_module, "DEEP", 1)
    shutil.rmtree(line.folder, ignore_errors=True)
    signed = attacker.signed("alice", "send", channel="general", body=t)
    for one in (signed, submit(attacker, t), submit(attacker, f"{t}-2")):
        assert attacker.push(attacker.propose(one)).code == 0
    bob = fleet.ledger("bob")
    bob.head()
    with line.led():
        again = line.add(signed)
        claiming = Claiming(bob, f"{t}-bob")
        line.wait_for(2)
    assert claiming.ended() == "won"
    assert again.answer == Push(UNSENT, "its base is out of sight")
    again.leave()
    bob.connection.line().leader.take_all()
    shutil.rmtree(line.folder)
    fleet.ledger("bob").claim(f"{t}-again")


def test_the_shared_copy_catches_up_with_owners_that_have_seen_more(
    t: str, fleet: Fleet, line: Line, attacker: Attacker
) -> None:
    alice = fleet.ledger("alice")
    for number in range(2):
        assert attacker.push(attacker.propose(submit(attacker, f"{t}-elsewhere{number}"))).code == 0
        alice.head()
        with line.led():
            slot = line.add(submit(attacker, f"{t}-{number}"))
            claiming = Claiming(alice, f"{t}-alice{number}")
            line.wait_for(2)
        assert claiming.ended() == "won"
        assert slot.answer
        assert slot.answer.outcome == WON
        slot.leave()
        alice.connection.line().leader.take_all()


def break_objects(copy: Path) -> None:
    for path in copy.rglob("objects/*/*"):
        path.unlink()
        path.write_bytes(b"PACK" if path.suffix == ".pack" else b"")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "objects": break_objects,
    "no objects": lambda copy: shutil.rmtree(copy / "objects"),
    "head": lambda copy: (copy / "coordledger/main/trusted.json").write_text("{"),
    "half made": lambda copy: [
        shutil.rmtree(copy),
        copy.mkdir(),
        (copy / "HEAD").write_text("ref: refs/heads/main\n"),
    ],
    "gone": shutil.rmtree,
    "locked": lambda copy: (copy / "refs/coordledger/main.lock").write_text(""),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_shared_copy_keeps_no_process_back_and_is_made_anew(
    t: str, fleet: Fleet, line: Line, what: str
) -> None:
    bob, carol, copy = fleet.ledger("bob"), fleet.ledger("carol"), line.folder / "copy.git"

    def claim_together(name: str) -> None:
        with line.led():
            both = [Claiming(who, f"{t}-{agent_of(who)}{name}") for who in (bob, carol)]
            line.wait_for(2)
        assert [one.ended() for one in both] == ["won", "won"]

    for number in range(5):  # a leader that was hindered forgets the copy, and each pushes alone
        claim_together(f"before{number}")
        if (copy / "objects").is_dir():
            break
    DAMAGES[what](copy)
    claim_together("then")
    claim_together("afterwards")
    assert (line.folder / "copy.git/HEAD").exists()
    assert int((line.folder / "seq").read_text()) == fleet.ledger("alice").head().seq


def test_a_seq_that_is_wrong_costs_time_only(t: str, fleet: Fleet, line: Line) -> None:
    fleet.ledger("bob").claim(t)
    for text in ("1000000000", "-1", "x", ""):
        (line.folder / "seq").write_text(text)
        assert fleet.ledger("bob").claim(f"{t}-{text or 'none'}").won


def test_a_rewritten_remote_is_noticed_by_each_for_itself(
    founded: Callable[..., Fleet], t: str
) -> None:
    fleet = founded("bob")
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    line = Line(alice)
    with line.led():
        both = [Claiming(alice, "a"), Claiming(bob, "b")]
        line.wait_for(2)
    assert [one.ended() for one in both] == ["won", "won"]
    alice.head(), bob.head()
    fleet.git("update-ref", LEDGER_REF, f"{LEDGER_REF}~3")
    before = fleet.head()
    with line.led():
        both = [Claiming(alice, "c"), Claiming(bob, "d")]
        line.wait_for(2)
    assert [one.ended() for one in both] == ["remote-behind", "remote-behind"]
    assert fleet.head() == before


# -- the folder


def remove_places(folder: Path) -> None:
    for path in folder.glob("*-*"):
        path.unlink()


@pytest.mark.parametrize("remove", [shutil.rmtree, remove_places])
def test_a_folder_that_is_removed_in_the_middle_costs_no_process_anything(
    t: str, fleet: Fleet, line: Line, attacker: Attacker, remove: Callable[[Path], None]
) -> None:
    with line.led():
        both = [Claiming(fleet.ledger(who), f"{t}-{who}") for who in ("bob", "carol")]
        line.wait_for(2)
        with contextlib.suppress(OSError):  # they make it anew meanwhile
            remove(line.folder)
    assert [one.ended() for one in both] == ["won", "won"]
    assert (tasks_of(attacker)[f"{t}-bob"], tasks_of(attacker)[f"{t}-carol"]) == (1, 1)
    again = [Claiming(fleet.ledger(who), f"{t}-{who}2") for who in ("bob", "carol")]
    assert [one.ended() for one in again] == ["won", "won"]


def test_a_lock_that_is_removed_is_not_kept_on_to(t: str, fleet: Fleet, line: Line) -> None:
    bob = fleet.ledger("bob")
    assert bob.claim(t).won
    (line.folder / "lock").unlink()
    with line.led():
        claiming = Claiming(bob, f"{t}2")
        line.wait_for(1)
    assert claiming.ended() == "won"


def make_link(folder: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)


OBSTACLES: dict[str, Callable[[Path, Path], object]] = {
    "a link": make_link,
    "a file": lambda folder, _: folder.write_text(""),
    "a file above": lambda folder, _: [folder.parent.rmdir(), folder.parent.write_text("")],
    "somebody's": lambda folder, _: [folder.mkdir(0o777), os.chown(folder, 65534, 65534)],
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_without_a_folder_of_its_own_each_process_goes_alone(
    t: str, fleet: Fleet, tmp_path: Path, what: str
) -> None:
    if what == "somebody's" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    env = fleet.env | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    bob = opened(fleet, fleet.clone("bob"), "bob", environ=env)
    folder = bob.connection.line().folder
    folder.parent.mkdir(parents=True)
    OBSTACLES[what](folder, tmp_path / "elsewhere")
    assert bob.claim(t).won
    left = [path for path in tmp_path.rglob("*") if path.name in ("lock", "seq")]
    assert left == []


def test_a_folder_that_others_could_enter_is_closed(t: str, fleet: Fleet, line: Line) -> None:
    line.folder.chmod(0o777)
    assert fleet.ledger("bob").claim(t).won
    assert line.folder.stat().st_mode & 0o777 == 0o700


def test_it_can_be_switched_off(t: str, fleet: Fleet, tmp_path: Path) -> None:
    env = fleet.env | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = fleet.clone("bob")
    off = {**env, "COORDLEDGER_QUEUE": "off"}
    assert opened(fleet, path, "bob", environ=off).claim(t).won
    fleet.git("config", "coordledger.queue", "off", cwd=path)
    try:
        assert opened(fleet, path, "bob", environ=env).claim(f"{t}2").won
        assert not (tmp_path / "cache").exists()
        on = {**env, "COORDLEDGER_QUEUE": "on"}
        assert opened(fleet, path, "bob", environ=on).claim(f"{t}3").won
        assert (tmp_path / "cache").exists()
        fleet.git("config", "coordledger.queue", "perhaps", cwd=path)
        with pytest.raises(Failed) as failed:
            opened(fleet, path, "bob", environ=env)
        assert failed.value.code == "bad-config"
    finally:
        fleet.git("config", "--unset", "coordledger.queue", cwd=path)


def test_processes_that_push_the_same_way_share_a_line(fleet: Fleet, tmp_path: Path) -> None:
    def folder(**config: str) -> Path:
        path = tmp_path / f"clone{len(list(tmp_path.iterdir()))}"
        fleet.git("init", "--quiet", path)
        options = {"remote.origin.url": str(fleet.remote)} | config
        for name, value in options.items():
            fleet.git("config", name, value, cwd=path)
        return opened(fleet, path, "bob").connection.line().folder

    plain = folder()
    assert folder() == plain
    assert folder(**{"remote.origin.url": f"file://{fleet.remote}"}) == plain
    assert folder(**{"remote.origin.url": f"{fleet.root}/./{fleet.remote.name}"}) == plain
    assert folder(**{"remote.origin.fetch": "+refs/x:refs/y"}) == plain
    assert folder(**{"remote.origin.pushurl": "/somewhere/else"}) != plain
    assert folder(**{"url./tmp/.pushInsteadOf": "/elsewhere"}) != plain
    assert folder(**{"coordledger.ledger": "second"}) != plain


# -- a remote without a hook


def test_a_host_without_hooks_takes_all_and_nothing_twice(host: HooklessHost) -> None:
    host.found()
    names = [f"agent{n}" for n in range(4)]
    with host.ledger("alice") as alice:
        for name in names:
            alice.enroll(name)
    for name in names:
        host.join(name)
    ledgers = [host.ledger(name) for name in names]
    line = Line(ledgers[0])
    for number in range(2):
        with line.led():
            claiming = [Claiming(one, f"{agent_of(one)}-{number}") for one in ledgers]
            claiming += [Claiming(host.ledger("alice"), f"agent0-{number}")]
            line.wait_for(5)
        outcomes = [one.ended() for one in claiming]
        assert Counter(outcomes) == {"won": 4, "lost": 1}
    with host.ledger("alice") as alice:
        found = alice.audit(full=True)
        assert (found.problems, found.verdicts) == ((), {"authentic": 13})
    assert int(host.git("rev-list", "--count", LEDGER_REF)) == 13
    fsck(host.path, host.env)
    for one in ledgers:
        one.close()


# -- a server that sequences
