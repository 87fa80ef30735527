"""Every way in which a push can end, first or after one without an answer, and what is then told.

Rules: each row is one plan of the server's; the writer, the copy and the journal are the real
ones. Whatever the plan: no intent lands twice, no bytes leave that are not in the journal, and
an outcome that is told as final is still true when everything that was under way has arrived.
"""

from __future__ import annotations

import errno
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.memory_remote import (
    DROPPED_UNANSWERED,
    HONEST,
    LANDED_UNANSWERED,
    LOST_FOR_NOTHING,
    NOT_SENT,
    STALE_LOCK,
    STILL_UNDER_WAY,
    Ending,
    MemoryClient,
    MemoryServer,
    after,
    failing,
    refused,
)

from coordledger.client import operations
from coordledger.client.choosing import Choice, Wanted, urgency
from coordledger.client.publish import Published
from coordledger.client.writer import PATIENCE, STUCK_LOSSES
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Integrity, Lost, error
from coordledger.git.outcome import REFUSED, UNKNOWN, UNSENT, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.client.operations import Operation
    from coordledger.format.state import State

    Plan = Callable[[MemoryServer], list[Ending]]


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer("bob")


@pytest.fixture
def client(server: MemoryServer, tmp_path: Path, env: dict[str, str]) -> Iterator[MemoryClient]:
    made = MemoryClient(server, tmp_path / "alice.git", env)
    made.replica.refresh()
    server.watch = made.intents
    yield made
    made.close()


CLAIM = operations.claim(["t"], note="mine")
BUSY = Ending(Push(REFUSED, "no turn within 20 s", "busy", later=0), arrives=False)


def told(client: MemoryClient, wanted: Operation = CLAIM, *, look: bool = False) -> str:
    """How a write ends: "landed", or the slug of what it raises."""
    try:
        client.writer.write(wanted.what, wanted.build, look=look)
    except CoordledgerError as fault:
        return fault.code
    return "landed"


def bob_takes_it(server: MemoryServer) -> Ending:
    return after(lambda: server.write("bob", "claim", tasks=["t"]))


def bob_takes_another(server: MemoryServer) -> Ending:
    return after(lambda: server.write("bob", "claim", tasks=["another"]))


def landed_kinds(server: MemoryServer) -> list[str]:
    """The kinds of alice's records since she enrolled bob."""
    return [r["kind"] for r in server.records[2:] if r["agent"] == "alice"]


def check_promises(server: MemoryServer, client: MemoryClient, outcome: str, op: str) -> None:
    """The promises that hold whatever the plan was, also once late pushes have arrived."""
    for push in server.pushes:
        known = {intent.op: intent for intent in push.seen}
        for record, (_, content) in zip(push.records, push.commits, strict=True):
            journalled = known[record["op"]]
            if record["kind"] != "void":
                assert journalled.payload.encode() in content
    before = landed_kinds(server)
    server.deliver()
    kinds = {r["op"]: r["kind"] for r in server.records if r["op"] in server.ops()}
    if outcome == "unknown-outcome":
        assert [intent.op for intent in client.intents()] == [op]
        return
    assert client.intents() == []
    assert landed_kinds(server) == before
    assert kinds.get(op) == ("claim" if outcome == "landed" else kinds.get(op) and "void")


class Row(NamedTuple):
    """How the pushes end; how the write ends then, with how many pushes, and what alice landed."""

    plan: Plan
    outcome: str
    pushes: int
    kinds: list[str]


FIRST: dict[str, Row] = {
    "won": Row(lambda s: [HONEST], "landed", 1, ["claim"]),
    "lost to an unrelated record: sent again": Row(
        lambda s: [bob_takes_another(s)], "landed", 2, ["claim"]
    ),
    "lost to bob's claim of the same task": Row(lambda s: [bob_takes_it(s)], "held", 1, []),
    "lost where nobody has won, but not for ever": Row(
        lambda s: [LOST_FOR_NOTHING] * (STUCK_LOSSES - 1), "landed", STUCK_LOSSES, ["claim"]
    ),
    "lost where nobody ever wins": Row(
        lambda s: [LOST_FOR_NOTHING] * 99, "push-refused", STUCK_LOSSES, []
    ),
    "a lock that stays": Row(lambda s: [STALE_LOCK] * 99, "stale-lock", STUCK_LOSSES, []),
    "a lock that goes away": Row(lambda s: [STALE_LOCK], "landed", 2, ["claim"]),
    "no answer, and it landed": Row(lambda s: [LANDED_UNANSWERED], "landed", 1, ["claim"]),
    "no answer, and it did not land": Row(
        lambda s: [DROPPED_UNANSWERED], "landed", 2, ["claim"]
    ),
    "no answer, and it is still under way": Row(
        lambda s: [STILL_UNDER_WAY], "landed", 2, ["claim"]
    ),
    "refused by the hook as lost": Row(lambda s: [refused("too-early")], "too-early", 1, []),
    "overtaken on the server's head, again and again": Row(
        lambda s: [refused("stale-rev")] * 3, "landed", 4, ["claim"]
    ),
    "refused by the hook": Row(lambda s: [refused("clock-skew")], "clock-skew", 1, []),
    "refused without a slug": Row(lambda s: [refused()], "push-refused", 1, []),
    "refused because of somebody else's record": Row(
        lambda s: [refused("clock-skew", blames=0)], "clock-skew", 1, []
    ),
    "not sent": Row(lambda s: [NOT_SENT], "remote-unreachable", 0, []),
    "our own disk fails": Row(lambda s: [failing(OSError(errno.EIO, "sick"))], "io", 0, []),
    "the time is over before it is sent": Row(
        lambda s: [failing(error("timeout", seconds="1"))], "timeout", 0, []
    ),
}  # fmt: skip

# An intent that may still land is called lost only once its void has landed, and never failed.
AFTER_AN_UNANSWERED_ONE: dict[str, Row] = {
    "won": Row(lambda s: [HONEST], "landed", 2, ["claim"]),
    "lost to an unrelated record: sent again": Row(
        lambda s: [bob_takes_another(s)], "landed", 3, ["claim"]
    ),
    "lost to bob's claim, and voided": Row(lambda s: [bob_takes_it(s)], "held", 3, ["void"]),
    "lost to bob's claim, and the void is lost once": Row(
        lambda s: [bob_takes_it(s), bob_takes_another(s)], "held", 4, ["void"]
    ),
    "lost to bob's claim, and the void lands without an answer": Row(
        lambda s: [bob_takes_it(s), LANDED_UNANSWERED], "held", 3, ["void"]
    ),
    "lost to bob's claim, and the void is dropped once": Row(
        lambda s: [bob_takes_it(s), DROPPED_UNANSWERED], "held", 4, ["void"]
    ),
    "lost to bob's claim, and the void is not sent at first": Row(
        lambda s: [bob_takes_it(s), NOT_SENT], "held", 3, ["void"]
    ),
    "lost to bob's claim, and the void is refused": Row(
        lambda s: [bob_takes_it(s), refused("clock-skew")], "unknown-outcome", 3, []
    ),
    "lost to bob's claim, and the void is refused as lost": Row(
        lambda s: [bob_takes_it(s), refused("too-early")], "unknown-outcome", 3, []
    ),
    "lost to bob's claim, and the void is never answered": Row(
        lambda s: [bob_takes_it(s)] + [DROPPED_UNANSWERED] * 99,
        "unknown-outcome", 2 + PATIENCE, [],
    ),
    "lost to bob's claim, and the void is never sent": Row(
        lambda s: [bob_takes_it(s)] + [NOT_SENT] * 99, "unknown-outcome", 2, []
    ),
    "lost to bob's claim, and our own disk fails at the void": Row(
        lambda s: [bob_takes_it(s), failing(OSError(errno.EIO, "sick"))],
        "unknown-outcome", 2, [],
    ),
    "lost where nobody ever wins": Row(
        lambda s: [LOST_FOR_NOTHING] * 99, "unknown-outcome", 1 + STUCK_LOSSES, []
    ),
    "no answer again, and it landed": Row(lambda s: [LANDED_UNANSWERED], "landed", 2, ["claim"]),
    "no answer again, and it did not land": Row(
        lambda s: [DROPPED_UNANSWERED], "landed", 3, ["claim"]
    ),
    "no answer again, and it is still under way": Row(
        lambda s: [STILL_UNDER_WAY], "landed", 3, ["claim"]
    ),
    "refused by the hook as lost, and voided": Row(
        lambda s: [refused("too-early")], "too-early", 3, ["void"]
    ),
    "refused by the hook": Row(lambda s: [refused("clock-skew")], "unknown-outcome", 2, []),
    "refused without a slug": Row(lambda s: [refused()], "unknown-outcome", 2, []),
    "not sent": Row(lambda s: [NOT_SENT], "unknown-outcome", 1, []),
    "our own disk fails": Row(
        lambda s: [failing(OSError(errno.EIO, "sick"))], "unknown-outcome", 1, []
    ),
    "the time is over before it is sent": Row(
        lambda s: [failing(error("timeout", seconds="1"))], "unknown-outcome", 1, []
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", FIRST.values(), ids=FIRST)
def test_the_first_attempt_ends_as_the_remote_says(
    server: MemoryServer, client: MemoryClient, row: Row
) -> None:
    server.plan.extend(row.plan(server))
    assert told(client) == row.outcome
    server.plan.clear()
    assert (len(server.pushes), landed_kinds(server)) == (row.pushes, row.kinds)
    op = server.pushes[0].records[0]["op"] if server.pushes else ""
    check_promises(server, client, row.outcome, op)


@pytest.mark.parametrize("before", [DROPPED_UNANSWERED, STILL_UNDER_WAY], ids=["dropped", "late"])
@pytest.mark.parametrize("row", AFTER_AN_UNANSWERED_ONE.values(), ids=AFTER_AN_UNANSWERED_ONE)
def test_after_an_unanswered_attempt_nothing_is_guessed(
    server: MemoryServer, client: MemoryClient, before: Ending, row: Row
) -> None:
    server.plan.extend([before, *row.plan(server)])
    assert told(client) == row.outcome
    server.plan.clear()
    assert (len(server.pushes), landed_kinds(server)) == (row.pushes, row.kinds)
    check_promises(server, client, row.outcome, server.pushes[0].records[0]["op"])


@pytest.mark.parametrize(
    ("arrived", "outcome"),
    [(DROPPED_UNANSWERED, "voided"), (STILL_UNDER_WAY, "voided"), (LANDED_UNANSWERED, "landed")],
    ids=["dropped", "late", "landed"],
)
@pytest.mark.parametrize("how", ["resolve", "the next write"])
def test_what_was_left_open_is_settled_once_the_remote_answers(
    server: MemoryServer, client: MemoryClient, arrived: Ending, outcome: str, how: str
) -> None:
    def cut_off() -> None:
        server.away = True

    server.plan.append(after(cut_off, arrived))
    assert told(client) == "unknown-outcome"
    server.away = False
    [left] = client.intents()
    if how == "the next write":
        assert told(client, operations.send("hello", channel="x")) == "landed"
        [kept] = client.intents()
        assert (kept.op, kept.outcome) == (left.op, outcome)
    [settled] = client.writer.resolve()
    assert (settled.op, settled.outcome) == (left.op, outcome)
    assert client.intents() == []
    assert client.writer.resolve() == []
    server.deliver()
    [record] = [r for r in server.records if r["op"] == left.op]
    assert record["kind"] == {"voided": "void", "landed": "claim"}[outcome]
    assert settled.seq == record["seq"]
    server.ops()


VOIDS: dict[str, tuple[Plan, str, int]] = {
    "won": (lambda s: [HONEST], "voided", 1),
    "lost once": (lambda s: [bob_takes_another(s)], "voided", 2),
    "landed without an answer": (lambda s: [LANDED_UNANSWERED], "voided", 1),
    "dropped once": (lambda s: [DROPPED_UNANSWERED], "voided", 2),
    "not sent once": (lambda s: [NOT_SENT], "voided", 1),
    "refused": (lambda s: [refused("clock-skew")], "open", 1),
    "refused as lost": (lambda s: [refused("held")], "open", 1),
    "refused without a slug": (lambda s: [refused()], "open", 1),
    "dropped for ever": (lambda s: [DROPPED_UNANSWERED] * 99, "open", PATIENCE),
    "never sent": (lambda s: [NOT_SENT] * 99, "open", 0),
    "our own disk fails": (lambda s: [failing(OSError(errno.EIO, "sick"))], "open", 0),
    "the time is over": (lambda s: [failing(error("timeout", seconds="1"))], "open", 0),
}


@pytest.mark.parametrize(("plan", "outcome", "pushes"), VOIDS.values(), ids=VOIDS)
def test_resolve_lands_a_void_like_any_other_record(
    server: MemoryServer, client: MemoryClient, plan: Plan, outcome: str, pushes: int
) -> None:
    left = leave_open(server, client)
    server.plan.extend(plan(server))
    [settled] = client.writer.resolve()
    server.plan.clear()
    assert (settled.op, settled.outcome, len(server.pushes)) == (left, outcome, pushes)
    assert landed_kinds(server) == (["void"] if outcome == "voided" else [])
    if outcome == "open":
        assert [intent.op for intent in client.intents()] == [left]
        assert [one.outcome for one in client.writer.resolve()] == ["voided"]
    server.deliver()
    assert landed_kinds(server) == ["void"]
    assert client.intents() == []


def leave_open(server: MemoryServer, client: MemoryClient, wanted: Operation = CLAIM) -> str:
    """An intent whose push is still under way when its process ends; its op."""
    server.plan.extend([STILL_UNDER_WAY, failing(error("timeout", seconds="1"))])
    assert told(client, wanted) == "unknown-outcome"
    server.pushes.clear()
    return client.intents()[-1].op


def test_an_open_intent_keeps_the_next_write_back_until_it_is_settled(
    server: MemoryServer, client: MemoryClient
) -> None:
    op = leave_open(server, client)
    [journalled] = client.intents()
    server.plan.append(refused("clock-skew"))
    assert told(client, operations.claim(["other"])) == "unknown-outcome"
    assert client.intents() == [journalled]  # the bytes that may land, not the void's
    assert server.pushes[0].records[0]["kind"] == "void"
    assert len(server.pushes) == 1
    assert told(client, operations.claim(["other"])) == "landed"
    assert [(r["op"] == op, r["kind"]) for r in server.records[-2:]] == [
        (True, "void"),
        (False, "claim"),
    ]


@pytest.mark.parametrize("secret", [True, False], ids=["with its secret", "without"])
def test_a_void_needs_no_push_where_the_chain_has_left_its_base_behind(
    server: MemoryServer, client: MemoryClient, *, secret: bool
) -> None:
    op = leave_open(server, client)
    if not secret:
        client.secrets["alice"] = []
    for number in range(1100):
        server.write("bob", "submit", task=f"t{number}")
    [settled] = client.writer.resolve()
    assert (settled.op, settled.outcome, settled.seq, server.pushes) == (op, "voided", None, [])
    assert [push.outcome for push in server.deliver()] == ["lost"]


def test_settling_needs_no_room_on_the_disk_for_the_journal(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent that may have been sent is in there; its void needs no entry of its own."""
    leave_open(server, client)

    def full(*intents: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(client.local.journal, "record", full)
    assert [one.outcome for one in client.writer.resolve()] == ["voided"]


def test_after_a_lost_race_the_remote_is_fetched_from_without_a_question(
    server: MemoryServer, client: MemoryClient
) -> None:
    looks = server.looks
    server.plan.append(bob_takes_another(server))
    assert told(client) == "landed"
    assert server.looks == looks + 1
    server.plan.append(STALE_LOCK)
    assert told(client, operations.complete("t")) == "landed"
    assert server.looks == looks + 2


def test_what_a_key_has_signed_that_is_revoked_is_void_by_that(
    server: MemoryServer, tmp_path: Path, env: dict[str, str]
) -> None:
    bob = MemoryClient(server, tmp_path / "bob.git", env, "bob")
    op = leave_open(server, bob)
    server.write("alice", "revoke", who="bob")
    [settled] = bob.writer.resolve()
    assert (settled.op, settled.outcome, settled.seq) == (op, "voided", None)
    server.deliver()
    assert op not in server.ops()
    bob.close()


def test_what_a_key_has_signed_whose_secret_is_gone_stays_open(
    server: MemoryServer, tmp_path: Path, env: dict[str, str]
) -> None:
    """The key is valid, and the bytes that are under way may land."""
    bob = MemoryClient(server, tmp_path / "bob.git", env, "bob")
    op = leave_open(server, bob)
    bob.secrets["bob"] = []
    [intent] = bob.writer.resolve()
    assert (intent.op, intent.outcome) == (op, "open")
    assert [left.op for left in bob.intents()] == [op]
    server.deliver()
    [settled] = bob.writer.resolve()
    assert (settled.op, settled.outcome) == (op, "landed")
    bob.close()


def test_after_a_reset_to_an_older_copy_an_intent_above_it_stays_open_and_stops_nobody(
    server: MemoryServer, client: MemoryClient
) -> None:
    op = leave_open(server, client)
    server.ledger = server.ledger.at(2)  # a restored backup, older than the intent's base
    [intent] = client.intents()
    client.local.journal.record(intent._replace(base=intent.base | {"seq": 7}))
    client.local.reset()
    assert told(client) == "landed"
    assert [intent.op for intent in client.intents()] == [op]
    assert [one.outcome for one in client.writer.resolve()] == ["open"]


def test_a_rewritten_remote_is_told_and_settles_nothing(
    server: MemoryServer, client: MemoryClient
) -> None:
    told(client)
    op = leave_open(server, client, operations.claim(["other"]))
    server.ledger = server.ledger.at(2)
    with pytest.raises(Integrity, match="older copy"):
        client.writer.resolve()
    assert [intent.op for intent in client.intents()] == [op]
    assert told(client, operations.claim(["third"])) == "remote-behind"
    assert server.pushes == []


def test_no_is_decided_on_the_newest_state_and_yes_by_the_compare_and_swap(
    server: MemoryServer, client: MemoryClient
) -> None:
    server.write("bob", "claim", tasks=["t"])
    client.replica.refresh()
    assert told(client) == "held"
    server.write("bob", "release", task="t")  # which alice has not seen
    looks = server.looks
    assert told(client) == "landed"
    assert server.looks > looks
    looks = server.looks
    assert told(client, operations.complete("t")) == "landed"
    assert server.looks == looks  # one push, and no question before it


def test_a_write_that_depends_on_more_than_one_object_looks_first(
    server: MemoryServer, client: MemoryClient
) -> None:
    server.write("bob", "submit", task="urgent", priority=9)
    seen = []

    def build(state: State, at: int) -> tuple[str, dict[str, object]]:
        seen.append(state.task("urgent") is not None)
        return operations.send("hello", channel="x").build(state, at)

    client.writer.write("a choice", build, look=True)
    assert seen == [True]


def test_the_servers_no_to_one_choice_is_no_answer_to_the_next_one(
    server: MemoryServer, client: MemoryClient
) -> None:
    for task in ("a", "b", "c"):
        server.write("bob", "submit", task=task)
    client.replica.refresh()
    choice = Choice(lambda state: iter(sorted(state.tasks(), key=urgency)), Wanted(), None)
    wanted = operations.claim_of("next", choice.make, ttl=None, reopen=False, note=None)

    def next_task() -> str:
        client.writer.write(wanted.what, wanted.build, look=True, choose_again=choice.is_refused)
        return choice.tasks[0]

    # Somebody else gets it while it is under way; the server says so, as a sequencer does.
    taken = after(lambda: server.write("bob", "claim", tasks=["a"]), refused("held"))
    server.plan.append(taken)
    assert next_task() == "b"
    # By the server's clock a lease has not ended: the others are chosen first.
    server.plan.append(refused("too-early"))
    server.write("bob", "submit", task="d")
    assert next_task() == "d"
    with pytest.raises(Lost) as lost:
        next_task()
    assert lost.value.code == "too-early"
    server.ledger.now += 1001
    assert next_task() == "c"
    with pytest.raises(Lost) as lost:
        next_task()
    assert lost.value.code == "nothing-to-claim"


def test_a_record_that_grew_old_on_the_way_is_signed_afresh(
    server: MemoryServer, client: MemoryClient
) -> None:
    def slow() -> None:
        server.ledger.now += server.ledger.state.skew + 2000

    slow_way = after(slow, refused("clock-skew"))
    server.plan.append(slow_way)
    assert told(client) == "landed"
    first, second = (push.records[0] for push in server.pushes)
    assert first["op"] == second["op"]
    assert first["at"] < second["at"]
    # A clock that is wrong makes no record old.
    server.plan.append(refused("clock-skew"))
    assert told(client, operations.renew("t", ttl=timedelta(hours=2))) == "clock-skew"


def test_where_the_way_stays_slow_no_clock_is_blamed(
    server: MemoryServer, client: MemoryClient
) -> None:
    def slow() -> None:
        server.ledger.now += server.ledger.state.skew + 2000
        if len(server.pushes) == 3:
            client.replica.git.deadline = Deadline(0)

    server.plan.extend([after(slow, refused("clock-skew"))] * 9)
    assert told(client) == "record-aged"
    assert len(server.pushes) == 3


def test_where_no_hook_is_known_success_is_said_when_the_ref_was_looked_at(
    server: MemoryServer, client: MemoryClient
) -> None:
    """A server that does not compare and swap says yes to a push that has moved nothing."""
    server.plan.append(Ending(Push(WON), arrives=False))
    assert told(client) == "landed"
    assert len(server.pushes) == 2
    assert [r["kind"] for r in server.records if r["agent"] == "alice"][-1] == "claim"
    # Somebody's record is on top of it by the time it is looked at: it has landed once.
    server.plan.append(Ending(Push(WON), late=False))
    look = server.look

    def overtaken(ref: str) -> str | None:
        server.look = look  # type: ignore[method-assign]
        server.write("bob", "submit", task="on-top")
        return look(ref)

    server.look = overtaken  # type: ignore[method-assign]
    assert told(client, operations.claim(["second"])) == "landed"
    server.ops()


def test_a_server_that_cannot_now_is_asked_again_when_it_said(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("coordledger.client.writer.time.sleep", pauses.append)
    busy = Push(UNSENT, "HTTP 429: slow down", later=3)
    server.plan.extend([Ending(busy, sent=False), Ending(busy._replace(later=0), sent=False)])
    assert told(client) == "landed"
    assert 3 <= pauses[0] < 4
    assert 1 <= pauses[1] < 2  # it did not say: twice as long each time


@pytest.mark.parametrize(
    ("outcome", "code"), [(UNSENT, "remote-unreachable"), (UNKNOWN, "unknown-outcome")]
)
def test_what_would_be_later_than_the_deadline_ends_with_the_servers_words(
    server: MemoryServer, client: MemoryClient, outcome: str, code: str
) -> None:
    push = Push(outcome, "HTTP 503: not here", later=60)
    server.plan.append(Ending(push, sent=outcome == UNKNOWN, arrives=False))
    with pytest.raises(CoordledgerError, match="HTTP 503: not here") as ended:
        client.writer.write(CLAIM.what, CLAIM.build)
    assert ended.value.code == code
    assert told(client, operations.claim(["another"])) == "landed"  # and nothing is in the way


def test_a_server_that_is_busy_is_asked_again_and_called_busy(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("coordledger.client.writer.time.sleep", pauses.append)
    server.plan.append(BUSY)
    assert told(client) == "landed"
    assert len(pauses) == 1
    server.plan.append(after(lambda: client.replica.git.work_until(Deadline(0.1)), BUSY))
    assert told(client, operations.claim(["another"])) == "busy"
    assert (len(pauses), client.intents()) == (1, [])


def test_no_attempt_is_begun_that_would_wait_in_vain_until_the_deadline(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end without an answer, and the write would be unknown."""
    now = [0.0]
    deadline = Deadline(30, lambda: now[0])
    client.replica.git.work_until(deadline)
    monkeypatch.setattr("coordledger.client.writer.time.sleep", lambda _: None)
    monkeypatch.setattr("coordledger.client.writer.time.monotonic", lambda: now[0])
    server.plan.append(after(lambda: now.__setitem__(0, 20.0), BUSY))
    assert told(client) == "busy"
    assert len(server.pushes) == 1


def test_what_is_sent_again_is_the_same_bytes_as_long_as_they_are_fresh(
    server: MemoryServer, client: MemoryClient
) -> None:
    server.plan.extend([bob_takes_another(server), DROPPED_UNANSWERED])
    assert told(client) == "landed"
    assert len({str(push.records) for push in server.pushes}) == 1
    server.pushes.clear()

    def later() -> None:
        server.ledger.now += server.ledger.state.skew

    server.plan.extend([DROPPED_UNANSWERED._replace(first=later)])
    assert told(client, operations.complete("t")) == "landed"
    [old], [new] = (push.records for push in server.pushes)
    assert old["at"] != new["at"]
    assert (old["op"], old["base"]) == (new["op"], new["base"])  # it may have been sent


def test_what_was_refused_for_certain_takes_a_newer_base(
    server: MemoryServer, client: MemoryClient
) -> None:
    def much_later() -> None:
        server.write("bob", "claim", tasks=["another"])
        server.ledger.now += server.ledger.state.skew

    server.plan.append(after(much_later))
    assert told(client) == "landed"
    [old], [new] = (push.records for push in server.pushes)
    assert new["base"]["seq"] == old["base"]["seq"] + 1
    assert new["op"] == old["op"]


# -- several that go together


def batch(client: MemoryClient, *wanted: Operation) -> list[str]:
    outcomes = client.writer.write_all([(one.what, one.build, None) for one in wanted])
    return ["landed" if isinstance(one, Published) else one.code for one in outcomes]


def three() -> tuple[Operation, Operation, Operation]:
    return operations.claim(["a"]), operations.claim(["t"]), operations.claim(["c"])


def test_one_that_is_blamed_keeps_no_other_back(server: MemoryServer, client: MemoryClient) -> None:
    server.plan.append(refused("too-early", blames=1))
    assert batch(client, *three()) == ["landed", "too-early", "landed"]
    assert [len(push.records) for push in server.pushes] == [3, 2]
    assert client.intents() == []


@pytest.mark.parametrize("code", ["busy", "too-much", "too-many-records"])
def test_what_is_too_much_for_one_push_goes_in_smaller_ones(
    server: MemoryServer, client: MemoryClient, code: str
) -> None:
    server.plan.append(BUSY if code == "busy" else refused(code))
    wanted = [operations.claim([name]) for name in "abcde"]
    assert batch(client, *wanted) == ["landed"] * 5
    assert [len(push.records) for push in server.pushes] == [5, 2, 2, 1]
    assert client.intents() == []


def test_one_record_that_is_too_much_is_refused(server: MemoryServer, client: MemoryClient) -> None:
    server.plan.append(refused("too-much"))
    assert batch(client, operations.claim(["a"])) == ["too-much"]
    assert len(server.pushes) == 1


def test_a_refusal_that_blames_none_means_all(server: MemoryServer, client: MemoryClient) -> None:
    server.plan.append(refused("clock-skew"))
    assert batch(client, *three()) == ["clock-skew"] * 3
    assert (len(server.pushes), client.intents()) == (1, [])


def test_one_that_is_lost_after_no_answer_is_voided_before_the_others_go_on(
    server: MemoryServer, client: MemoryClient
) -> None:
    plan = STILL_UNDER_WAY._replace(first=lambda: server.write("bob", "claim", tasks=["t"]))
    server.plan.append(plan)
    assert batch(client, *three()) == ["landed", "held", "landed"]
    assert sorted(landed_kinds(server)) == ["claim", "claim", "void"]
    before = landed_kinds(server)
    server.deliver()
    assert landed_kinds(server) == before
    assert client.intents() == []
    assert len(set(server.ops())) == len(server.records)


def test_of_several_that_are_open_each_has_its_own_end(
    server: MemoryServer, client: MemoryClient
) -> None:
    server.plan.extend([STILL_UNDER_WAY, failing(error("timeout", seconds="1"))])
    assert batch(client, *three()) == ["unknown-outcome"] * 3
    assert len(client.intents()) == 3
    server.deliver()
    client.local.journal.forget(client.intents()[0])
    assert [(one.what, one.outcome) for one in client.writer.resolve()] == [
        ("claim t", "landed"),
        ("claim c", "landed"),
    ]
    assert client.intents() == []


# -- a server that sequences


@pytest.fixture
def sequenced(server: MemoryServer, client: MemoryClient) -> MemoryServer:
    """A server that the client knows to sequence."""
    server.sequences = True
    assert told(client, operations.send("hello", channel="x")) == "landed"
    server.pushes.clear()
    return server


def test_it_lands_elsewhere_than_it_was_planned(
    sequenced: MemoryServer, client: MemoryClient
) -> None:
    sequenced.write("bob", "claim", tasks=["another"])  # which alice has not seen
    published = client.writer.write(CLAIM.what, CLAIM.build)
    assert len(sequenced.pushes) == 1
    assert (published.seq, published.oid) == (sequenced.ledger.head.seq, sequenced.ledger.head.oid)
    assert published.here.seq == published.seq - 1
    assert client.replica.refresh().head.oid == published.oid  # type: ignore[union-attr]
    check_promises(sequenced, client, "landed", published.here.record["op"])


REFUSED_UNDER_WAY = refused()._replace(arrives=True, late=True)
SEQUENCED: dict[str, Row] = {
    "decided there on a newer state: decided again here": Row(
        lambda s: [bob_takes_it(s)], "held", 1, []
    ),
    "refused there and not here: sent once more": Row(
        lambda s: [refused("clock-skew", blames=0)], "landed", 2, ["claim"]
    ),
    "refused twice": Row(lambda s: [refused("clock-skew")] * 2, "clock-skew", 2, []),
    "not sent at first": Row(lambda s: [NOT_SENT], "landed", 1, ["claim"]),
    "never sent": Row(lambda s: [NOT_SENT] * 2, "remote-unreachable", 0, []),
    "no answer, and it landed": Row(lambda s: [LANDED_UNANSWERED], "landed", 1, ["claim"]),
    "no answer, and it did not land": Row(lambda s: [DROPPED_UNANSWERED], "landed", 2, ["claim"]),
    "no answer, and it is still under way": Row(
        lambda s: [STILL_UNDER_WAY], "landed", 2, ["claim"]
    ),
    "no answer, then lost to bob's claim": Row(
        lambda s: [after(lambda: s.write("bob", "claim", tasks=["t"]), STILL_UNDER_WAY)],
        "held", 2, ["void"],
    ),
    "a no that is not the hook's own, then lost to bob's claim": Row(
        lambda s: [after(lambda: s.write("bob", "claim", tasks=["t"]), REFUSED_UNDER_WAY)],
        "held", 2, ["void"],
    ),
    "a no that is not the hook's own is no answer": Row(
        lambda s: [refused()], "landed", 2, ["claim"]
    ),
    "a no before any git has seen it is one": Row(
        lambda s: [refused(kept_out=True)] * 2, "push-refused", 2, []
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", SEQUENCED.values(), ids=SEQUENCED)
def test_a_server_that_sequences_is_believed_only_in_its_own_words(
    sequenced: MemoryServer, client: MemoryClient, row: Row
) -> None:
    sequenced.plan.extend(row.plan(sequenced))
    assert told(client) == row.outcome
    sequenced.plan.clear()
    kinds = landed_kinds(sequenced)[1:]
    assert (len(sequenced.pushes), kinds) == (row.pushes, row.kinds)
    op = sequenced.pushes[0].records[0]["op"] if sequenced.pushes else ""
    check_promises(sequenced, client, row.outcome, op)


def test_a_server_that_sequences_blames_one_record_by_its_envelope(
    sequenced: MemoryServer, client: MemoryClient
) -> None:
    sequenced.plan.extend([refused("too-early", blames=1)] * 2)
    assert batch(client, *three()) == ["landed", "too-early", "landed"]
    assert [len(push.records) for push in sequenced.pushes] == [3, 3, 2]


def test_a_server_that_stops_sequencing_is_noticed(
    sequenced: MemoryServer, client: MemoryClient
) -> None:
    sequenced.sequences = False
    assert told(client) == "landed"
    assert [push.ref.split("/")[1] for push in sequenced.pushes] == ["for", "coordledger"]
    assert told(client, operations.complete("t")) == "landed"
    assert len(sequenced.pushes) == 3
    assert not client.replica.trusted.sequenced


def test_where_no_hook_answers_a_ref_of_that_name_is_not_taken_for_the_ledger(
    sequenced: MemoryServer, client: MemoryClient
) -> None:
    sequenced.sequences = sequenced.hooked = False
    assert told(client) == "landed"
    assert [push.ref.split("/")[1] for push in sequenced.pushes] == ["for", "coordledger"]
    assert landed_kinds(sequenced)[1:] == ["claim"]


# -- the copy


def test_a_write_waits_for_nobody_once_its_time_is_over(
    server: MemoryServer, client: MemoryClient
) -> None:
    client.replica.git.deadline = Deadline(0)
    assert told(client) == "timeout"
    assert (server.pushes, client.intents()) == ([], [])


def test_the_copy_follows_what_has_landed(server: MemoryServer, client: MemoryClient) -> None:
    told(client)
    assert client.replica.trusted.commit == server.ledger.head.oid
    looks = server.looks
    assert client.replica.position().state.task("t")["agent"] == "alice"  # type: ignore[index]
    assert server.looks == looks


def test_what_an_answer_leaves_out_is_looked_for(
    sequenced: MemoryServer, client: MemoryClient
) -> None:
    """It is not where it was planned: somebody else's record has come first."""
    sequenced.write("bob", "claim", tasks=["another"])
    sequenced.plan.append(Ending(Push(WON, landed={"f" * 40: (9, "e" * 40)})))
    published = client.writer.write(CLAIM.what, CLAIM.build)
    assert len(sequenced.pushes) == 1
    assert (published.seq, published.oid) == (sequenced.ledger.head.seq, sequenced.ledger.head.oid)


def test_an_answer_that_does_not_say_where_it_landed_is_no_answer(
    sequenced: MemoryServer, client: MemoryClient
) -> None:
    sequenced.plan.append(Ending(Push(WON, landed={"f" * 40: (9, "e" * 40)})))
    published = client.writer.write(CLAIM.what, CLAIM.build)
    assert len(sequenced.pushes) == 1
    assert published.oid == sequenced.ledger.head.oid
    sequenced.ops()


def without_its_folder(client: MemoryClient) -> None:
    folder = client.local.folder
    folder.rename(folder.with_name("away"))
    folder.write_bytes(b"")


def with_a_damaged_journal(client: MemoryClient) -> None:
    for path in (client.local.folder / "intents").iterdir():
        path.write_bytes(b"nonsense")


@pytest.mark.parametrize("damaged", [without_its_folder, with_a_damaged_journal])
def test_what_has_landed_is_told_although_the_copy_is_damaged_meanwhile(
    server: MemoryServer, client: MemoryClient, damaged: Callable[[MemoryClient], None]
) -> None:
    server.plan.append(after(lambda: damaged(client)))
    published = client.writer.write(CLAIM.what, CLAIM.build)
    assert isinstance(published, Published)
    assert server.records[published.seq]["kind"] == "claim"
