"""How a write ends: won, lost or unknown; and what is unknown is settled for good."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import fsck, opened, second_opinion
from support.fleet import LEDGER_REF
from support.push_gate import PushGate, ended, eventually, kill, start

from coordledger.deadline import Deadline
from coordledger.errors import Failed, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger
    from coordledger.format.signing import Signed

WORKER = Path(__file__).parents[1] / "support" / "worker.py"


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Fleet:
    """Alice and bob, each with a clone, and the gate before the server."""
    fleet = founded("bob")  # the gate stops git's own transactions
    fleet.clone("bob")
    PushGate(fleet)
    return fleet


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Fleet:
    assert [
        name
        for who in ("alice", "bob")
        for name in shared_fleet.ledger(who).connection.local.journal.intents()
    ] == []
    return shared_fleet


@pytest.fixture
def t(request: pytest.FixtureRequest) -> str:
    """A task of the test's own."""
    return request.node.name


def only_intent(ledger: Ledger) -> Signed:
    [intent] = ledger.connection.local.journal.intents()
    return intent.signed


def ops(attacker: Attacker) -> list[str]:
    """The ops of all records, newest first."""
    return [
        attacker.stolen(oid).record["op"]
        for oid in attacker.fleet.git("rev-list", LEDGER_REF).split()
    ]


def git_is_gone(folder: Path) -> bool:
    """Whether no push is under way any more: the gate's script has left the folder."""
    return not any(
        link.resolve() == folder
        for link in Path("/proc").glob("[0-9]*/cwd")
        if os.access(link, os.R_OK)
    )


# -- the client dies


def test_killed_before_its_push_lands_and_then_it_lands(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    kill(process)
    head = fleet.head()
    alice = fleet.ledger("alice")
    signed = only_intent(alice)
    push_gate.open()
    eventually(lambda: fleet.head() != head)
    [settled] = alice.resolve()
    assert (settled.what, settled.outcome, settled.op) == (
        f"claim {t}",
        "landed",
        signed.record["op"],
    )
    assert settled.seq == attacker.head.seq
    assert attacker.head.signed.payload == signed.payload
    assert alice.show(t).agent == "alice"
    assert alice.resolve() == []


def test_killed_before_its_push_is_refused_it_is_voided_for_good(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold", "refuse")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    kill(process)
    alice = fleet.ledger("alice")
    signed = only_intent(alice)
    push_gate.open()
    push_gate.wait_for("refused")
    [settled] = alice.resolve()
    assert (settled.outcome, settled.seq) == ("voided", attacker.head.seq)
    assert attacker.head.record["kind"] == "void"
    assert attacker.refusal(attacker.render(signed)) == "replayed"
    assert fleet.ledger("bob").claim(t).outcome == "won"
    assert attacker.refusal(attacker.render(signed)) == "replayed"


def test_voided_while_its_push_is_still_under_way_it_does_not_land(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    kill(process)
    alice = fleet.ledger("alice")
    op = only_intent(alice).record["op"]
    assert [settled.outcome for settled in alice.resolve()] == ["voided"]
    push_gate.open()
    eventually(lambda: git_is_gone(push_gate.folder))
    time.sleep(0.1)
    assert attacker.head.record["kind"] == "void"
    assert ops(attacker).count(op) == 1
    assert fleet.ledger("bob").claim(t).outcome == "won"


def test_killed_after_its_push_landed(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold-landed")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    kill(process)
    push_gate.open()
    alice = fleet.ledger("alice")
    [settled] = alice.resolve()
    assert (settled.outcome, settled.seq) == ("landed", attacker.head.seq)
    assert alice.complete(t).status == "done"  # the same session holds it


def test_the_next_write_settles_what_a_dead_process_left_open(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold", "refuse")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    kill(process)
    alice = fleet.ledger("alice")
    signed = only_intent(alice)
    push_gate.open()
    push_gate.wait_for("refused")
    assert alice.claim(f"{t}-other").outcome == "won"
    kinds = [
        attacker.stolen(oid).record["kind"] for oid in fleet.git("rev-list", LEDGER_REF).split()
    ]
    assert kinds[:2] == ["claim", "void"]
    assert attacker.refusal(attacker.render(signed)) == "replayed"
    [settled] = fleet.ledger("alice").resolve()  # and it can still be asked for
    assert (settled.outcome, settled.op) == ("voided", signed.record["op"])
    assert fleet.ledger("alice").resolve() == []


# -- the answer is lost


def test_a_lost_answer_to_a_push_that_landed_is_won_and_not_doubled(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("kill-landed")
    before = len(ops(attacker))
    result = fleet.ledger("alice").claim(t)
    assert (push_gate.folder / "killed").exists()
    assert result.claim
    assert (result.outcome, result.claim.epoch) == ("won", 1)
    assert len(ops(attacker)) == before + 1
    assert fleet.ledger("alice").connection.local.journal.intents() == []


def test_a_lost_answer_to_a_push_that_did_not_land_is_sent_again(
    fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("now", "kill")
    before = len(ops(attacker))
    sent = fleet.ledger("alice").send("once", channel="general")
    assert (push_gate.folder / "killed").exists()
    assert sent.seq == attacker.head.seq
    assert len(ops(attacker)) == before + 1
    assert fleet.ledger("alice").connection.local.journal.intents() == []


def test_without_an_answer_and_beaten_by_another_it_is_lost_and_voided(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold", "kill")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    alone = fleet.env | {"COORDLEDGER_QUEUE": "off"}  # in line, bob would wait for alice first
    assert fleet.ledger("bob", environ=alone).claim(t).outcome == "won"
    signed = only_intent(fleet.ledger("alice"))
    push_gate.open()
    assert ended(process) == {"task": t, "outcome": "lost", "code": "held", "epoch": 1}
    assert attacker.head.record["kind"] == "void"
    assert attacker.head.record["op"] == signed.record["op"]
    assert fleet.ledger("alice").connection.local.journal.intents() == []
    fleet.ledger("bob").release(t)
    assert attacker.refusal(attacker.render(signed)) == "replayed"


@pytest.mark.parametrize(
    ("what", "outcome"), [(("vanish-landed", "kill-landed"), "landed"),
                          (("now", "vanish", "kill"), "voided")]
)  # fmt: skip
def test_if_the_server_is_gone_before_it_answered_the_outcome_is_unknown(
    t: str,
    fleet: Fleet,
    push_gate: PushGate,
    attacker: Attacker,
    what: tuple[str, ...],
    outcome: str,
) -> None:
    push_gate.set(*what)
    alice = opened(fleet, fleet.clone("alice"), "alice", timeout=timedelta(seconds=2))
    with pytest.raises(OutcomeUnknown) as unknown:
        alice.claim(t)
    assert (unknown.value.code, unknown.value.exit_code) == ("unknown-outcome", 5)
    signed = only_intent(alice)
    assert signed.record["kind"] == "claim"
    assert [settled.outcome for settled in alice.resolve()] == ["open"]  # still no server
    with pytest.raises(OutcomeUnknown):
        alice.claim(f"{t}-other")
    assert only_intent(alice).payload == signed.payload

    push_gate.bring_back()
    [settled] = alice.resolve()
    assert settled.outcome == outcome
    assert ops(attacker).count(signed.record["op"]) == 1
    landed = attacker.head
    assert landed.record["op"] == signed.record["op"]
    assert (landed.signed.payload == signed.payload) == (outcome == "landed")
    assert (landed.record["kind"] == "void") == (outcome == "voided")
    assert attacker.refusal(attacker.render(signed)) == "replayed"
    assert fleet.ledger("bob").claim(t).outcome == ("lost" if outcome == "landed" else "won")


# -- a plain no


def test_a_server_that_is_away_costs_nothing_and_leaves_nothing_open(
    t: str, fleet: Fleet, push_gate: PushGate
) -> None:
    alice = opened(fleet, fleet.clone("alice"), "alice", timeout=timedelta(seconds=3))
    fleet.remote.rename(f"{fleet.remote}.away")
    for act in (lambda: alice.claim(t), alice.tasks, lambda: alice.send("x", to="bob")):
        with pytest.raises(Failed) as failed:
            act()
        assert (failed.value.code, failed.value.exit_code) == ("remote-unreachable", 1)
        assert alice.connection.local.journal.intents() == []
    assert alice.resolve() == []
    push_gate.bring_back()
    assert alice.claim(t).outcome == "won"


def test_a_refusal_by_somebody_elses_hook_is_final_and_leaves_nothing_open(
    t: str, fleet: Fleet, push_gate: PushGate
) -> None:
    push_gate.set("now", "refuse")
    with pytest.raises(Failed) as refused:
        fleet.ledger("alice").claim(t)
    assert refused.value.code == "push-refused"
    assert fleet.ledger("alice").connection.local.journal.intents() == []


def test_a_stale_lock_is_reported_as_what_it_is(t: str, fleet: Fleet, attacker: Attacker) -> None:
    alice = fleet.ledger("alice")
    lock = fleet.remote / f"{LEDGER_REF}.lock"
    lock.touch()
    with pytest.raises(Failed) as failed:
        alice.claim(t)
    assert failed.value.code == "stale-lock"
    assert alice.connection.local.journal.intents() == []
    lock.unlink()
    assert alice.claim(t).outcome == "won"


def test_a_stopped_process_that_has_the_clone_s_lock_is_named_to_who_waits_in_vain(
    t: str, fleet: Fleet
) -> None:
    alice = fleet.ledger("alice")
    fleet.ledger("bob").send(t, channel="general")  # so that there is something to adopt
    hasty = opened(fleet, fleet.clone("alice"), "alice", timeout=timedelta(seconds=1))
    began = time.monotonic()
    with (
        alice.connection.local.lock(alice.connection.git.deadline),
        pytest.raises(Failed) as failed,
    ):
        hasty.tasks()
    assert failed.value.code == "local-lock"
    assert f"is held by process {os.getpid()} on " in failed.value.message
    assert str(fleet.clone("alice")) in failed.value.message
    assert time.monotonic() - began < 5


def test_a_write_that_has_landed_is_won_and_remembered_whoever_has_the_clone_s_lock(
    t: str, fleet: Fleet
) -> None:
    alice = fleet.ledger("alice")
    other = opened(fleet, fleet.clone("alice"), "alice", timeout=timedelta(seconds=10))
    other.head()
    with alice.connection.local.lock(Deadline(10)):
        claim = other.claim(t)
    assert claim.won
    assert alice.connection.local.told.all() == [(claim.claim.seq, claim.claim.commit)]
    assert alice.show(t).agent == "alice"
    assert alice.connection.local.told.all() == []


def test_a_server_that_hangs_is_left_on_time(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    push_gate.set("hold")
    hasty = opened(fleet, fleet.clone("alice"), "alice", timeout=timedelta(seconds=0.8))
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        hasty.claim(t)
    assert time.monotonic() - began < 6
    op = only_intent(hasty).record["op"]
    (push_gate.folder / "holding").unlink()
    [settled] = fleet.ledger("alice").resolve()
    assert settled.op == op
    eventually(lambda: git_is_gone(push_gate.folder))
    assert ops(attacker).count(op) == 1
    kind = "claim" if settled.outcome == "landed" else "void"
    assert {attacker.head.record["op"], attacker.head.record["kind"]} == {op, kind}


def test_a_remote_that_never_speaks_is_left_on_time(t: str, fleet: Fleet) -> None:
    silent = fleet.root / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 30\n")
    silent.chmod(0o755)
    env = fleet.env | {"GIT_SSH_COMMAND": str(silent), "GIT_SSH_VARIANT": "simple"}
    path = fleet.clone("alice")
    hasty = opened(
        fleet, path, "alice", remote="host:x", environ=env, timeout=timedelta(seconds=0.4)
    )
    began = time.monotonic()
    with pytest.raises(Failed) as failed:
        hasty.tasks()
    assert failed.value.code == "timeout"
    assert time.monotonic() - began < 6
    assert fleet.ledger("alice").claim(t).outcome == "won"


# -- races with others


def test_after_an_unrelated_record_came_first_the_same_bytes_land_on_it(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    fleet.env["COORDLEDGER_QUEUE"] = "off"  # as from two hosts
    push_gate.set("hold")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    signed = only_intent(fleet.ledger("alice"))
    assert fleet.ledger("bob").claim(f"{t}-unrelated").outcome == "won"
    push_gate.open()
    assert ended(process)["outcome"] == "won"
    assert attacker.head.signed.payload == signed.payload
    assert attacker.head.seq == signed.record["base"]["seq"] + 2


def test_after_another_took_the_task_first_it_is_lost(
    t: str, fleet: Fleet, push_gate: PushGate, attacker: Attacker
) -> None:
    fleet.env["COORDLEDGER_QUEUE"] = "off"  # as from two hosts
    push_gate.set("hold")
    process = start(fleet, "alice", t)
    push_gate.wait_for("holding")
    op = only_intent(fleet.ledger("alice")).record["op"]
    assert fleet.ledger("bob").claim(t).outcome == "won"
    push_gate.open()
    assert ended(process)["outcome"] == "lost"
    assert op not in ops(attacker)
    assert fleet.ledger("alice").connection.local.journal.intents() == []
    assert second_opinion(fleet.remote) == len(ops(attacker))


def test_a_lost_claim_is_lost_on_the_newest_state_only(t: str, fleet: Fleet) -> None:
    """What the clone remembers says held; the remote knows better."""
    fleet.enroll("bob")
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    assert alice.claim(t).outcome == "won"
    assert bob.claim(t).outcome == "lost"
    alice.release(t)
    assert bob.claim(t).outcome == "won"


def test_the_rest_of_a_batch_never_rewinds_what_settled_one_of_it(
    make_fleet: Callable[..., Fleet],
) -> None:
    """On a host without hooks nothing else would keep it from that."""
    fleet = make_fleet()
    fleet.enroll("bob")
    push_gate = PushGate(fleet)
    hook = fleet.remote / "hooks/pre-receive"
    gates = hook.with_suffix(".chained").read_text()
    hook.write_text(gates.replace("$(ps -o ppid= -p $PPID)", "$PPID"))  # no ledger's hook between
    fleet.env["COORDLEDGER_QUEUE"] = "off"
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    push_gate.set("hold", "kill")
    outcomes = []

    def write() -> None:
        with alice.batch() as batch:
            batch.claim("a")
            batch.claim("b")
        outcomes.extend(one.outcome for one in batch.outcomes)

    writing = threading.Thread(target=write)
    writing.start()
    push_gate.wait_for("holding")
    assert bob.claim("a").won
    push_gate.open()
    writing.join(30)
    assert outcomes == ["lost", "landed"]
    oids = fleet.git("rev-list", "--reverse", LEDGER_REF).split()
    kinds = [fleet.git("show", "-s", "--format=%s", oid).split()[0] for oid in oids]
    assert kinds == ["genesis", "enroll", "claim", "void", "claim"]
    assert second_opinion(fleet.remote) == 5
    assert bob.head().seq == alice.head().seq == 4


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with-others"])
@pytest.mark.parametrize("sick", [1, 2], ids=["once", "twice"])
def test_what_cannot_be_stored_while_it_lands_is_stored_later_or_not_adopted(
    fleet: Fleet, t: str, monkeypatch: pytest.MonkeyPatch, sick: int, *, others: bool
) -> None:
    """It has landed, and is said to have; but a copy never names what it has not got."""
    with fleet.ledger("alice") as alice:
        before = alice.head()
        store, failures = alice.connection.local.repository, iter(range(sick))
        write = store.write

        def failing(*given: Any) -> None:
            if next(failures, None) is not None:
                raise OSError(errno.EIO, "the disk is sick")
            write(*given)

        monkeypatch.setattr(store, "write", failing)
        won = alice.claim(t)
        assert won.won
        adopted = json.loads((alice.connection.local.folder / "trusted.json").read_bytes())[
            "commit"
        ]
        assert adopted == (fleet.head() if sick == 1 else before.commit)
        assert store.has(adopted)
        assert store.ref(LEDGER_REF) == adopted
        assert alice.complete(t).status == "done"
        adopted = json.loads((alice.connection.local.folder / "trusted.json").read_bytes())[
            "commit"
        ]
        assert adopted == (fleet.head() if sick == 1 else before.commit)
        if others:
            fleet.ledger("bob").claim(f"{t}-bob")
            assert alice.head().commit == fleet.head()
            assert alice.claim(f"{t}-after").won
            adopted = json.loads((alice.connection.local.folder / "trusted.json").read_bytes())[
                "commit"
            ]
            assert adopted == fleet.head()
    later = fleet.ledger("alice")
    assert later.head().commit == fleet.head()
    assert later.audit(full=True).problems == ()
    fsck(fleet.clone("alice") / ".git", fleet.env)
