"""A process may end at any point of a write, and again while the next one settles it.

Rules: the points are those between which something becomes durable, here or on the remote.
What comes after is another process with the same folder and nothing in memory. Whatever the
points: an intent lands once or never, its outcome is told as the ledger has it, and what is
still under way when it is told changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.memory_remote import ClientDied, Ending, MemoryClient, MemoryServer, after

from coordledger.client import operations
from coordledger.errors import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.client.journal import Intent
    from coordledger.client.signer import Fields
    from coordledger.format.chain import Chain
    from coordledger.format.state import State

    Process = Callable[..., MemoryClient]


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer("bob")


@pytest.fixture
def process(server: MemoryServer, tmp_path: Path, env: dict[str, str]) -> Iterator[Process]:
    """Starts another process, of alice's by default, in the same repository."""
    started: list[MemoryClient] = []

    def start(**who: str) -> MemoryClient:
        started.append(MemoryClient(server, tmp_path / "alice.git", env, **who))
        server.watch = started[-1].intents
        return started[-1]

    yield start
    for client in started:
        client.close()


def before_the_journal(server: MemoryServer, client: MemoryClient) -> None:
    def record(*intents: Intent) -> None:
        raise ClientDied

    client.local.journal.record = record  # type: ignore[method-assign]


def before_it_is_forgotten(server: MemoryServer, client: MemoryClient) -> None:
    def forget(*intents: Intent) -> None:
        raise ClientDied

    client.local.journal.forget = forget  # type: ignore[method-assign]


def at_the_push(**ending: bool) -> Callable[[MemoryServer, MemoryClient], None]:
    return lambda server, client: server.plan.append(Ending(dies=True, **ending))


# Where a process ends, and what becomes of the intent: None if there is nothing to settle.
POINTS: dict[str, tuple[Callable[[MemoryServer, MemoryClient], None], str | None]] = {
    "before the journal": (before_the_journal, None),
    "journalled and not sent": (at_the_push(sent=False), "voided"),
    "sent, and it never arrives": (at_the_push(arrives=False), "voided"),
    "sent, and it arrives late": (at_the_push(late=True), "voided"),
    "sent, and it lands": (at_the_push(), "landed"),
    "answered and not forgotten": (before_it_is_forgotten, "landed"),
}
AGAIN = {name: point for name, (point, _) in POINTS.items() if name != "before the journal"}


def die_claiming(server: MemoryServer, client: MemoryClient, point: str) -> None:
    client.replica.refresh()
    POINTS[point][0](server, client)
    wanted = operations.claim(["t"])
    with pytest.raises(ClientDied):
        client.writer.write(wanted.what, wanted.build)
    client.close()


def check(server: MemoryServer, client: MemoryClient, outcome: str | None) -> None:
    """Nothing is open, one record or none says how it ended, and late arrivals change nothing."""
    assert client.intents() == []
    before = server.ops()
    server.deliver()
    assert server.ops() == before
    kinds = [record["kind"] for record in server.records[2:] if record["kind"] != "send"]
    assert kinds == {"landed": ["claim"], "voided": ["void"], None: []}[outcome]


@pytest.mark.parametrize("point", POINTS)
def test_the_next_process_resolves_what_one_has_left(
    server: MemoryServer, process: Process, point: str
) -> None:
    die_claiming(server, process(), point)
    client = process()
    outcome = POINTS[point][1]
    assert [one.outcome for one in client.writer.resolve()] == ([outcome] if outcome else [])
    check(server, client, outcome)


@pytest.mark.parametrize("point", POINTS)
def test_the_next_write_settles_what_one_has_left(
    server: MemoryServer, process: Process, point: str
) -> None:
    die_claiming(server, process(), point)
    client = process()
    wanted = operations.send("hello", channel="x")
    client.writer.write(wanted.what, wanted.build)
    outcome = POINTS[point][1]
    assert [one.outcome for one in client.writer.resolve()] == ([outcome] if outcome else [])
    check(server, client, outcome)


@pytest.mark.parametrize("how", ["resolve", "the next write"])
@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("point", [name for name, (_, outcome) in POINTS.items() if outcome])
def test_a_process_that_ends_while_it_settles_is_settled_after_in_turn(
    server: MemoryServer, process: Process, point: str, again: str, how: str
) -> None:
    die_claiming(server, process(), point)
    second = process()
    wanted = operations.send("hello", channel="x")
    AGAIN[again](server, second)
    try:
        if how == "resolve":
            second.writer.resolve()
        else:
            second.writer.write(wanted.what, wanted.build)
    except ClientDied:
        second.close()
    server.plan.clear()
    third = process()
    settled = third.writer.resolve()
    ends = {record["op"]: record["kind"] for record in server.records}
    for one in settled:
        assert one.outcome in ("landed", "voided")
        assert (ends[one.op] == "void") == (one.outcome == "voided")
    assert third.intents() == []
    before = server.ops()
    server.deliver()
    assert server.ops() == before


@pytest.mark.parametrize("point", POINTS)
def test_the_same_command_again_makes_one_claim(
    server: MemoryServer, process: Process, point: str
) -> None:
    die_claiming(server, process(), point)
    again, wanted = process(), operations.claim(["t"])
    assert wanted.stands
    published = again.writer.recall(wanted.stands) or again.writer.write(wanted.what, wanted.build)
    assert published.resumed is (POINTS[point][1] == "landed")
    server.deliver()
    assert [r["kind"] for r in server.records if r["kind"] == "claim"] == ["claim"]
    assert "open" not in {intent.outcome for intent in again.intents()}


def test_an_answer_that_is_about_to_be_reported_is_nobody_elses(
    server: MemoryServer, process: Process
) -> None:
    """Two runs in one work tree have one session, and one of them the claim."""
    first, second, wanted = process(), process(), operations.claim(["t"])
    first.local.journal.waits_for_report = True
    first.replica.refresh()
    first.writer.write(wanted.what, wanted.build)
    assert wanted.stands
    assert second.writer.recall(wanted.stands) is None
    with pytest.raises(Lost) as lost:
        second.writer.write(wanted.what, wanted.build)
    assert lost.value.code == "already-yours"
    first.local.journal.reported()
    assert second.writer.recall(wanted.stands) is None
    assert first.intents() == []


SIBLINGS = {
    "another agent": {"agent": "bob"},
    "another session": {"session": "s2"},
    "this very session": {},
}


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("point", [name for name, (_, outcome) in POINTS.items() if outcome])
def test_a_process_that_writes_keeps_the_answers_of_others_from_nobody(
    server: MemoryServer, process: Process, point: str, sibling: str
) -> None:
    die_claiming(server, process(), point)
    again, other = process(), process(**SIBLINGS[sibling])
    wanted, hello = operations.claim(["t"]), operations.send("hello", channel="x")
    assert wanted.stands
    heard = []

    def call_again() -> None:
        heard.append(again.writer.recall(wanted.stands))

    def while_it_pushes(state: State, at: int) -> tuple[str, Fields]:
        server.plan.append(after(call_again))  # not before what was left open is settled
        return hello.build(state, at)

    other.writer.write(hello.what, while_it_pushes)
    [resumed] = heard
    assert (resumed is not None) is (POINTS[point][1] == "landed")


def test_of_two_that_call_again_at_once_one_gets_the_answer(
    server: MemoryServer, process: Process
) -> None:
    die_claiming(server, process(), "sent, and it lands")
    first, second, wanted = process(), process(), operations.claim(["t"])
    first.local.journal.waits_for_report = True
    assert wanted.stands
    assert first.writer.recall(wanted.stands)
    assert second.writer.recall(wanted.stands) is None
    first.local.journal.reported()
    assert first.intents() == []


def test_another_command_leaves_the_answer_to_the_one_that_it_is_for(
    server: MemoryServer, process: Process
) -> None:
    die_claiming(server, process(), "sent, and it lands")
    other, again = process(), process()
    wanted, another = operations.claim(["t"]), operations.claim(["u"])
    assert wanted.stands
    assert another.stands
    heard = []
    refresh = other.replica.refresh

    def refresh_and_wait(*, moved: bool = False) -> Chain:
        chain = refresh(moved=moved)
        if [intent.outcome for intent in other.intents()] == ["landed"]:  # it is settled
            heard.append(again.writer.recall(wanted.stands))
        return chain

    other.replica.refresh = refresh_and_wait  # type: ignore[method-assign]
    assert other.writer.recall(another.stands) is None
    assert [one.resumed for one in heard if one] == [True]
