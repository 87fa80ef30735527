"""The log, the figures and the agents: who took over from whom, how long it took, who was seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.past import MINUTE, with_a_past

from coordledger import CoordledgerError, Failed
from coordledger.client.index import store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger import AgentStats, Ledger


@pytest.fixture
def busy(tmp_path: Path, env: dict[str, str]) -> Iterator[Fleet]:
    fleet = with_a_past(tmp_path / "fleet", env)
    yield fleet
    fleet.close()


@pytest.fixture
def alice(busy: Fleet) -> Ledger:
    return busy.ledger("alice")


def index_of(fleet: Fleet, agent: str) -> Path:
    return fleet.clone(agent) / ".git" / "coordledger" / "main" / store.NAME


def test_the_log_tells_who_took_over_from_whom_and_how_late(alice: Ledger) -> None:
    log = alice.log(task="slow")
    assert [(one.kind, one.agent) for one in log] == [
        ("submit", "alice"),
        ("claim", "alice"),
        ("claim", "bob"),
        ("handoff", "bob"),
        ("claim", "carol"),
        ("complete", "carol"),
    ]
    _, first, taken, _, handed, done = log
    assert first.before == ()
    (before,) = taken.before
    assert (before.what, before.agent, before.task) == ("took over", "alice", "slow")
    assert before.expires_at == first.at + 10 * MINUTE
    assert taken.at - before.expires_at > 29 * MINUTE
    assert [(one.what, one.agent) for one in handed.before] == [("was handed", "bob")]
    assert [(one.what, one.agent) for one in done.before] == [("done", "carol")]
    assert done.before[0].claimed_at == handed.at
    assert {(one.verdict, one.checked) for one in log} == {("authentic", "here")}
    (forced,) = alice.log(kinds=["release"])
    assert [(one.what, one.agent) for one in forced.before] == [("forced", "bob")]
    assert forced.text == "bob is gone"


def test_the_log_is_narrowed_down_by_time_agent_kind_and_number(alice: Ledger) -> None:
    everything = alice.log()
    assert [one.seq for one in everything] == [*range(alice.head().seq + 1)]
    recent = datetime.now(UTC) - 30 * MINUTE
    assert alice.log(since=recent) == [one for one in everything if one.at >= recent]
    assert alice.log(until=recent) == [one for one in everything if one.at < recent]
    assert alice.log(agent="bob") == [one for one in everything if one.agent == "bob"]
    assert alice.log(kinds=["claim"], limit=2) == [o for o in everything if o.kind == "claim"][-2:]
    assert alice.log(after=everything[-3].seq) == everything[-2:]
    with pytest.raises(Failed) as caught:
        alice.log(kinds=["clam"])
    assert caught.value.code == "bad-value"


def test_what_comes_is_followed(busy: Fleet) -> None:
    alice, carol = busy.ledger("alice"), busy.ledger("carol")
    last = alice.head().seq
    following = alice.follow(after=last - 1)
    assert next(following).text == "it is done"
    carol.claim("new")
    carol.complete("new")
    assert [(one.kind, one.tasks) for one in (next(following), next(following))] == [
        ("claim", ("new",)),
        ("complete", ("new",)),
    ]
    following.close()


def test_the_figures_are_those_of_what_happened(alice: Ledger) -> None:
    found = alice.stats()
    by = {one.agent: one for one in found.agents}
    assert counts(by["alice"]) == (2, 0, 0, 0, 1, 0)
    assert counts(by["bob"]) == (2, 1, 0, 0, 0, 1)
    assert counts(by["carol"]) == (1, 0, 1, 0, 0, 0)
    assert counts(found.total) == (5, 1, 1, 0, 1, 1)
    duration = found.total.duration
    assert duration.count == 1
    assert duration.median == duration.p95 == duration.total
    assert duration.median
    assert 15 * MINUTE < duration.median < 16 * MINUTE
    assert found.total.waiting.count == 1
    hours = (found.until - found.since) / timedelta(hours=1)
    assert found.total.per_hour == pytest.approx(1 / hours, abs=0.001)
    late = alice.stats(since=datetime.now(UTC) - 30 * MINUTE)
    assert counts(late.total) == (3, 1, 1, 0, 1, 1)
    nothing = alice.stats(until=datetime.now(UTC) - 2000 * MINUTE)
    assert (nothing.agents, nothing.total.duration.median) == ((), None)


def counts(one: AgentStats) -> tuple[int, ...]:
    return (one.claimed, one.taken_over, one.done, one.given_back, one.lost, one.forced)


def test_agents_are_told_with_what_they_hold_and_when_they_were_seen(alice: Ledger) -> None:
    delegate = alice.delegate("helper")
    by = {one.agent: one for one in alice.activity()}
    assert by["alice"].holds == ("odd",)
    assert by["alice"].delegates == (delegate.agent,)
    assert by[delegate.agent].last_seen is None
    assert (by["carol"].holds, by["carol"].done_today, by["bob"].unread) == ((), 1, 1)
    assert by["bob"].keys == ("hmac-sha256",)
    log = alice.log(agent="bob")
    assert by["bob"].last_seen == log[-1].at


def test_history_and_messages_are_the_same_with_an_index_and_without(
    busy: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = busy.ledger("bob")
    bob.send("an answer", to="carol", thread=bob.inbox()[0].seq)
    bob.ack(everything=True)
    carol = busy.ledger("carol")
    monkeypatch.setattr("coordledger.client.scan._MANY", 0)

    def told() -> list[object]:
        thread = carol.messages()[0].seq
        asked = [{}, {"to": "bob"}, {"sender": "carol"}, {"thread": thread}, {"since": thread + 1}]
        return [carol.history("slow"), *(carol.messages(**one) for one in asked)]

    walked = told()
    assert not index_of(busy, "carol").exists()
    carol.log(limit=1)
    assert index_of(busy, "carol").exists()
    monkeypatch.setattr("coordledger.client.scan.newest_first", None)
    assert told() == walked


def test_a_python_without_sqlite_says_so_and_walks(
    busy: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    carol = busy.ledger("carol")
    monkeypatch.setitem(sys.modules, "coordledger.client.index.store", None)
    monkeypatch.delattr("coordledger.client.index.store", raising=False)
    with pytest.raises(CoordledgerError) as caught:
        carol.log()
    assert caught.value.code == "no-sqlite"
    assert [one.kind for one in carol.history("slow")][-1] == "complete"
    assert len(carol.messages()) == 1


def test_a_claim_does_not_load_sqlite(busy: Fleet) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from coordledger import cli; code = cli.main(['claim', 'fresh']);"
        "print(code, 'sqlite3' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=busy.clone("bob"),
        env=busy.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "0 False"
