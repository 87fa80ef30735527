"""What an inbox shows, and what of the mail can be read when no inbox and no channel has it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from coordledger import Failed
from coordledger.client import mailbox, scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    from coordledger import Ledger, Message
    from coordledger.client.operations import Operation
    from coordledger.client.publish import Published


def seqs(messages: list[Message]) -> list[int]:
    return [message.seq for message in messages]


@pytest.fixture
def fleet(founded: Callable[..., Fleet]) -> Fleet:
    return founded("bob", "carol")


@pytest.fixture
def alice(fleet: Fleet) -> Ledger:
    return fleet.ledger("alice")


@pytest.fixture
def bob(fleet: Fleet) -> Ledger:
    return fleet.ledger("bob")


def configured(fleet: Fleet, agent: str, channels: str) -> Ledger:
    clone = fleet.clone(agent)
    subprocess.run(["git", "config", "coordledger.channels", channels], cwd=clone, check=True)
    return fleet.ledger(agent)


# -- the inbox


def test_the_inbox_shows_every_channel_unless_some_are_named(
    fleet: Fleet, alice: Ledger, bob: Ledger
) -> None:
    plans = bob.send("who?", channel="plans").seq
    tests = bob.send("red", channel="tests").seq
    assert seqs(alice.inbox()) == [plans, tests]
    assert alice.status().unread == 2
    assert seqs(configured(fleet, "alice", "tests").inbox()) == [tests]
    assert fleet.ledger("alice").status().unread == 1


def test_all_that_the_inbox_shows_is_acknowledged_and_no_more(
    fleet: Fleet, alice: Ledger, bob: Ledger
) -> None:
    direct = bob.send("x", to="alice").seq
    mine = alice.send("mine", channel="plans").seq
    plans = bob.send("who?", channel="plans").seq
    bob.send("red", channel="tests")
    reader = configured(fleet, "alice", "plans")
    assert reader.ack(everything=True) == [direct, plans]
    assert reader.ack(everything=True) == []
    assert seqs(reader.inbox(everything=True)) == [mine, plans]
    assert [one.acked is None for one in bob.messages(sender="bob")] == [False, True, True]


@pytest.mark.parametrize("others", [1, 2])
def test_two_sessions_acknowledge_all_at_the_same_moment(
    fleet: Fleet, alice: Ledger, bob: Ledger, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    sent = [bob.send(body, to="alice").seq for body in ("one", "two")]
    second, write = fleet.ledger("alice", session="two"), alice.connection.write

    def overtaken(operation: Operation) -> Published:
        second.ack(*sent[:others])
        return write(operation)

    monkeypatch.setattr(alice.connection, "write", overtaken)
    assert alice.ack(everything=True) == sent
    monkeypatch.undo()
    assert alice.inbox() == []
    with pytest.raises(Failed, match="no message"):
        second.ack(*sent)


# -- what was sent


def test_a_sender_sees_what_was_acknowledged_and_by_which_record(
    alice: Ledger, bob: Ledger
) -> None:
    first, second = (bob.send(text, to="alice").seq for text in ("one", "two"))
    alice.ack(first)
    one, two = bob.messages(sender="bob", to="alice")
    assert (one.seq, two.seq, two.acked) == (first, second, None)
    assert one.acked is not None
    assert one.acked.seq == second + 1
    assert one.acked.at >= one.sent_at
    assert (one.acked.verdict, one.acked.checked) == (one.verdict, one.checked)


def test_mail_is_read_by_sender_addressee_channel_and_place(alice: Ledger, bob: Ledger) -> None:
    a = bob.send("a", to="alice").seq
    b = alice.send("b", to="bob").seq
    c = bob.send('{"kind":"ack"}', channel="plans").seq
    assert seqs(alice.messages()) == [a, b, c]
    assert seqs(alice.messages(sender="bob")) == [a, c]
    assert seqs(alice.messages(to="bob")) == [b]
    assert seqs(alice.messages("plans", sender="bob")) == [c]
    assert seqs(alice.messages("plans", sender="alice")) == []
    assert seqs(alice.messages(since=b)) == [b, c]
    assert seqs(alice.messages(limit=2)) == [b, c]
    assert seqs(alice.messages(limit=1, to="alice")) == [a]


def test_what_a_channel_has_lost_is_still_in_the_records(alice: Ledger, bob: Ledger) -> None:
    seq = bob.send("x", channel="plans").seq
    alice.drop_channel("plans")
    assert alice.messages("plans") == []
    assert seqs(alice.messages("plans", since=0)) == [seq]


def test_a_thread_is_all_that_answers_its_first_message_or_an_answer_to_it(
    alice: Ledger, bob: Ledger
) -> None:
    first = bob.send("a", to="alice").seq
    other = bob.send("b", to="alice").seq
    answer = alice.send("re a", to="bob", thread=first).seq
    alice.send("re b", to="bob", thread=other)
    moved = bob.send("re re a", channel="plans", thread=answer).seq
    for member in (first, answer, moved):
        assert seqs(alice.messages(thread=member)) == [first, answer, moved]
    assert seqs(alice.messages(thread=first, limit=1)) == [moved]
    assert seqs(alice.messages(thread=first, to="bob")) == [answer]
    assert alice.messages(thread=moved + 100) == []


def test_what_answers_no_message_is_a_thread_of_its_own(alice: Ledger, bob: Ledger) -> None:
    claimed = alice.claim("t").claims[0].seq
    answer = bob.send("why?", to="alice", thread=claimed).seq
    assert seqs(alice.messages(thread=claimed)) == [answer]


def test_records_are_read_in_lots_and_over_a_lost_index(
    alice: Ledger, bob: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_LOT", 2)
    sent = [bob.send(f"m{n}", to="alice").seq for n in range(5)]
    assert seqs(alice.messages(to="alice")) == sent
    (alice.connection.local.folder / "index").unlink()
    assert seqs(alice.messages(to="alice")) == sent


def test_no_more_is_read_than_is_asked_for(
    alice: Ledger, bob: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [bob.send(f"m{n}", to="alice").seq for n in range(4)]
    monkeypatch.setattr(scan, "_LOT", 1)
    lots: list[int] = []
    alice.connection.replica.progress = lambda what, done, of: lots.append(done)
    assert seqs(alice.messages(to="alice", limit=2)) == sent[2:]
    assert lots == [0, 1]
    monkeypatch.setattr(mailbox, "MOST", 1)
    assert seqs(alice.messages()) == sent[3:]


# -- a full inbox


def test_the_error_of_a_full_inbox_says_who_fills_it(founded: Callable[..., Fleet]) -> None:
    fleet = founded("bob", "carol")
    alice, bob, carol = map(fleet.ledger, ("alice", "bob", "carol"))
    alice.policy(inbox_messages=3, inbox_reserve=0)
    for ledger in (bob, carol, bob):
        ledger.send("x", to="alice")
    with pytest.raises(Failed, match="3 messages: 2 from bob, 1 from carol") as full:
        carol.send("x", to="alice")
    assert full.value.code == "mailbox-full"
