"""Operations that go together: one push, one outcome each."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.attacker import fsck, second_opinion

from coordledger import Failed, Ledger, Lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet


@pytest.fixture
def pushes(fleet: Fleet) -> Callable[[], int]:
    """How many pushes to the ledger the server's hook was asked about."""
    log = fleet.root / "pushes"
    log.touch()
    chained = fleet.remote / "hooks" / "pre-receive.chained"
    chained.write_text(f"#!/bin/sh\ncat >> '{log}'\n")
    chained.chmod(0o755)
    return lambda: log.read_text().count("/coordledger/main\n")


def test_a_batch_lands_with_one_push(fleet: Fleet, pushes: Callable[[], int]) -> None:
    with fleet.ledger("alice") as ledger:
        with ledger.batch() as batch:
            for number in range(50):
                batch.submit(f"t{number}", priority=number)
                batch.claim(f"t{number}", note="mine")
            batch.complete("t7", result="done")
            batch.send("hello", channel="general")
        assert [one.outcome for one in batch.outcomes] == ["landed"] * 102
        assert [one.epoch for one in batch.outcomes[:3]] == [None, 1, None]
        seqs = [one.seq for one in batch.outcomes]
        assert seqs == list(range(seqs[0] or 0, (seqs[0] or 0) + 102))
        assert ledger.show("t7").result == "done"
        assert ledger.connection.local.journal.intents() == []
    assert pushes() == 1
    fsck(fleet.remote, fleet.env)
    assert second_opinion(fleet.remote) == 103


def test_what_is_refused_keeps_nothing_else_back(fleet: Fleet, pushes: Callable[[], int]) -> None:
    fleet.enroll("bob")
    assert fleet.ledger("bob").claim("taken").won
    before = pushes()
    with fleet.ledger("alice") as ledger:
        with ledger.batch() as batch:
            batch.claim("taken")
            batch.claim("free")
            batch.complete("never-seen")
            batch.send("x", to="nobody")
        codes = [(one.outcome, one.code) for one in batch.outcomes]
        assert codes == [
            ("lost", "held"),
            ("landed", ""),
            ("failed", "unknown-task"),
            ("failed", "unknown-agent"),
        ]
        assert [type(one.error) for one in batch.outcomes] == [Lost, type(None), Failed, Failed]
    assert pushes() == before + 1


def test_what_the_server_refuses_is_refused_for_itself(make_fleet: Callable[..., Fleet]) -> None:
    """A takeover that is due by the client's clock, and not by the server's."""
    fleet = make_fleet(max_skew=5)
    fleet.enroll("bob")
    fleet.clone("bob")
    alice = fleet.ledger("alice")
    alice.claim("held", ttl=timedelta(seconds=1))
    bob = fleet.ledger("bob", clock=lambda: time.time_ns() // 1_000_000 + 4500)
    time.sleep(1.8)
    with bob.batch() as batch:
        batch.claim("a")
        batch.claim("held")
        batch.claim("b")
    assert [(one.outcome, one.code) for one in batch.outcomes] == [
        ("landed", ""),
        ("lost", "too-early"),
        ("landed", ""),
    ]


def test_a_lost_race_tells_each_its_own_outcome(fleet: Fleet) -> None:
    fleet.enroll("bob")
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    alice.head()
    bob.claim("a")  # alice has not seen it
    with alice.batch() as batch:
        batch.claim("a")
        batch.claim("b")
    assert [one.outcome for one in batch.outcomes] == ["lost", "landed"]


def test_nothing_is_sent_when_the_block_fails(fleet: Fleet, pushes: Callable[[], int]) -> None:
    ledger = fleet.ledger("alice")
    with pytest.raises(Failed, match="not a task"), ledger.batch() as batch:
        batch.submit("fine")
        batch.submit("not fine")
    with ledger.batch():
        pass
    assert pushes() == 0


def test_lines_on_stdin_are_operations(fleet: Fleet) -> None:
    lines = [
        {"do": "submit", "task": "t", "meta": {"k": "v"}},
        {"do": "claim", "task": "t", "ttl": "5m"},
        {"do": "claim", "tasks": ["t", "u"]},
        {"do": "renew", "task": "t", "ttl": "10m"},
        {"do": "release", "task": "t", "reason": "no", "not_before": "2100-01-01T00:00:00Z"},
        {"do": "submit", "task": "later", "not_before": "2h"},
        {"do": "edit", "task": "later", "not_before": "2100-01-01T01:00:00+01:00"},
        {"do": "set_fact", "key": "k", "value": "v", "ttl": "1h"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    ran = fleet.run("batch", "--json", agent="alice", stdin=text)
    said = json.loads(ran.stdout)
    assert [one["outcome"] for one in said] == ["landed", "landed", "lost", *["landed"] * 5]
    assert ran.returncode == 3
    ledger = fleet.ledger("alice")
    for task in ("t", "later"):
        assert ledger.show(task).not_before == datetime(2100, 1, 1, tzinfo=UTC)
    assert ledger.facts.get("k").value == "v"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        "[" * 100_000,
        '{"task": "t"}',
        '{"do": "dance", "task": "t"}',
        '{"do": "claim"}',
        '{"do": "claim", "tasks": "t"}',
        '{"do": "claim", "task": 7}',
        '{"do": "claim", "tasks": [1, "a"]}',
        '{"do": "claim", "tasks": [{}]}',
        '{"do": "claim", "task": "a", "tasks": ["b"]}',
        '{"do": "submit", "task": "a", "after": [[1]]}',
        '{"do": "claim", "task": "t", "ttl": 7}',
        '{"do": "claim", "task": "t", "ttl": "soon"}',
        '{"do": "submit", "task": "t", "priority": true}',
        '{"do": "submit", "task": "t", "after": "abc"}',
        '{"do": "submit", "task": "t", "extra": 1}',
        '{"do": "submit", "task": "t", "not_before": 7}',
        '{"do": "submit", "task": "t", "not_before": "soon"}',
        '{"do": "submit", "task": "t", "not_before": "2026-11-21T03:10:00"}',
        '{"do": "claim", "task": "t", "not_before": "10m"}',
        '{"do": "send", "body": "b"}',
        '{"do": "fact", "key": "k", "value": "v"}',
        '{"do": "set_fact", "key": "k"}',
        '{"do": "set_fact", "value": "v"}',
        '{"do": "set_fact", "key": "a b", "value": "v"}',
        '{"do": "set_fact", "key": ["k"], "value": "v"}',
        '{"do": "set_fact", "key": "k", "value": null}',
        '{"do": "set_fact", "key": "k", "value": 7}',
        '{"do": "set_fact", "key": "k", "value": "v", "ttl": "soon"}',
        '{"do": "set_fact", "key": "k", "value": "v", "if_rev": "7"}',
        '{"do": "set_fact", "key": "k", "value": "v", "if_rev": -1}',
        '{"do": "set_fact", "key": "k", "value": "v", "if_rev": true}',
        '{"do": "remove_fact", "key": "k", "value": "v"}',
        '{"do": "remove_fact", "key": "k", "if_rev": 0}',
        '{"do": "remove_fact"}',
    ],
)
def test_a_line_that_is_no_operation_sends_nothing(fleet: Fleet, line: str) -> None:
    text = '{"do": "submit", "task": "good"}\n' + line + "\n"
    ran = fleet.run("batch", agent="alice", stdin=text)
    if line:
        assert ran.returncode == 1
        assert ran.stderr.startswith("coordledger: ")
        assert "Traceback" not in ran.stderr
        assert fleet.ledger("alice").tasks() == []
        assert fleet.ledger("alice").facts.list() == []
    else:
        assert ran.returncode == 0


def test_a_ledger_that_has_been_open_for_longer_than_its_timeout_writes_as_before(
    fleet: Fleet,
) -> None:
    ledger = Ledger.open(
        fleet.clone("alice"), "alice", environ=fleet.env, timeout=timedelta(seconds=2)
    )
    with ledger:
        ledger.head()
        time.sleep(2.1)
        with ledger.batch() as batch:  # so many that they become a pack
            for number in range(20):
                batch.claim(f"late-{number}")
        assert {outcome.outcome for outcome in batch.outcomes} == {"landed"}
        assert not ledger.connection.local.repository.has("0" * 40)
