"""What is shown of a state, and that no line of a state is believed beyond its record.

Rules: the records are real and verified; states that lie are made by hand, as only a server
without a hook, or a shallow copy's edge, could have them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_ledger import LEASE, SECOND, SKEW, files_of, state_of
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.client import listings
from coordledger.client.choosing import Wanted
from coordledger.client.views import Views, agent_of
from coordledger.errors import CoordledgerError
from coordledger.format import canonical
from coordledger.format.chain import AUTHENTIC, INVALID, UNVERIFIED
from coordledger.format.state import page_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordledger.client.claims import Claim
    from coordledger.format.state import State


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer("bob", "carol")


@pytest.fixture
def client(server: MemoryServer, tmp_path: Path, env: dict[str, str]) -> Iterator[MemoryClient]:
    made = MemoryClient(server, tmp_path / "reader.git", env)
    yield made
    made.close()


@pytest.fixture
def shown(client: MemoryClient) -> Views:
    return Views(client.replica, client.now)


def with_line(state: State, task: str, **changes: Any) -> State:
    """The same state, but that the task's line says something else."""
    line = canonical.encode(state.task(task) | changes) + b"\n"
    return state_of(files_of(state) | {page_path(task): line})


def with_message(state: State, path: str, **changes: Any) -> State:
    [line] = files_of(state)[path].splitlines()
    changed = canonical.encode(canonical.decode(line) | changes) + b"\n"
    return state_of(files_of(state) | {path: changed})


# -- tasks


def test_a_claim_is_shown_with_its_record_and_its_lease(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    landed = server.write("bob", "claim", tasks=["t"], note="on a branch")
    claim = shown.claim(client.replica.refresh().state, "t")
    assert (claim.status, claim.agent, claim.epoch, claim.note) == (
        "claimed",
        "bob",
        1,
        "on a branch",
    )
    assert (claim.seq, claim.commit, claim.verdict) == (landed.seq, landed.oid, AUTHENTIC)
    assert claim.expires_at - claim.claimed_at == timedelta(milliseconds=LEASE)
    assert claim.claimable_at - claim.expires_at == timedelta(milliseconds=SKEW)


@pytest.mark.parametrize(
    "lie",
    [
        {"agent": "carol"},
        {"session": "s2"},
        {"epoch": 2},
        {"claim_seq": 2, "last_seq": 2},  # an enrolment
    ],
)
def test_a_line_that_is_not_its_claims_is_invalid(
    server: MemoryServer, client: MemoryClient, shown: Views, lie: dict[str, Any]
) -> None:
    server.write("bob", "claim", tasks=["t"])
    state = client.replica.refresh().state
    assert shown.claim(with_line(state, "t"), "t").verdict == AUTHENTIC
    assert shown.claim(with_line(state, "t", **lie), "t").verdict == INVALID


def test_a_line_without_its_records_is_unverified(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    server.write("bob", "claim", tasks=["t"])
    state = client.replica.refresh().state
    for seqs in ({"claim_seq": 99}, {"last_seq": 99}, {"claim_seq": 99, "last_seq": 99}):
        assert shown.claim(with_line(state, "t", **seqs), "t").verdict == UNVERIFIED


def listed(shown: Views, state: State, **wanted: Any) -> tuple[Claim, ...]:
    return shown.listing(state, Wanted(**wanted), None, None).tasks


def test_statuses_are_those_of_the_moment(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    server.write("bob", "submit", task="open")
    server.write("bob", "claim", tasks=["held"])
    server.write("bob", "claim", tasks=["over"])
    server.write("bob", "complete", task="over", result="done it")
    state = client.replica.refresh().state
    statuses = {claim.task: claim.status for claim in listed(shown, state)}
    assert statuses == {"open": "open", "held": "claimed", "over": "done"}
    server.ledger.now += LEASE + 10 * SECOND
    assert shown.claim(state, "held").status == "expired"
    assert shown.claim(state, "over").result == "done it"


def test_a_list_has_the_urgent_ones_first_the_completed_last_and_counts_all(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    for task, priority in (("low", 0), ("high", 5), ("mine", 1)):
        server.write("bob", "submit", task=task, priority=priority)
    server.write("carol", "claim", tasks=["mine"])
    server.write("carol", "claim", tasks=["finished"])
    server.write("carol", "complete", task="finished")
    state = client.replica.refresh().state
    everything = shown.listing(state, Wanted(), None, None)
    assert [claim.task for claim in everything.tasks] == ["high", "mine", "low", "finished"]
    assert everything.statuses == {"open": 2, "claimed": 1, "done": 1}
    first = shown.listing(state, Wanted(["open", "done"]), 1, None)
    assert ([claim.task for claim in first.tasks], first.count) == (["high"], 3)
    assert [one.task for one in listed(shown, state, agent="carol")] == ["mine", "finished"]
    assert [claim.task for claim in shown.held_by(state, "carol")] == ["mine"]


def test_what_was_said_last_is_shown_with_the_task(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    def last() -> tuple[str, str, str | None]:
        found = shown.claim(client.replica.refresh().state, "t").last
        assert found is not None
        assert found.verdict == AUTHENTIC
        return found.kind, found.agent, found.text

    server.write("bob", "submit", task="t")
    assert last() == ("submit", "bob", None)
    server.write("bob", "claim", tasks=["t"], note="on branch fix-7")
    assert last() == ("claim", "bob", "on branch fix-7")
    server.ledger.now += SECOND
    server.write("bob", "renew", task="t")
    assert last() == ("renew", "bob", "on branch fix-7")
    server.write("bob", "release", task="t", reason="tests red")
    assert last() == ("release", "bob", "tests red")
    server.write("carol", "claim", tasks=["t", "u"])
    server.write("carol", "complete", task="t", result="merged")
    assert last() == ("complete", "carol", "merged")


def test_a_line_that_names_another_tasks_record_says_nothing_of_it(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    server.write("bob", "submit", task="t")
    other = server.write("bob", "claim", tasks=["u"], note="of u")
    state = client.replica.refresh().state
    assert shown.claim(with_line(state, "t", last_seq=other.seq), "t").last is None
    assert shown.claim(with_line(state, "t", last_seq=99), "t").last is None


def test_what_an_agent_holds_is_found_without_parsing_other_lines(
    server: MemoryServer, client: MemoryClient, shown: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        server.write("bob", "claim", tasks=[f"t{number}"])
        server.write("bob", "complete", task=f"t{number}")
    liar = {"agent": "bob", "status": "claimed"}
    server.write("carol", "submit", task="liar", meta=liar)
    server.write("bob", "claim", tasks=["mine"])
    server.write("carol", "claim", tasks=["hers"])
    state = client.replica.refresh().state
    parsed: list[bytes] = []

    def counted(line: bytes) -> Any:
        parsed.append(line)
        return canonical.read(line)

    monkeypatch.setattr("coordledger.format.state.value_of", counted)
    assert [claim.task for claim in shown.held_by(state, "bob")] == ["mine"]
    assert sum(b'"priority"' in line for line in parsed) == 3  # what is claimed, or looks like it


def test_many_tasks_are_read_in_lots(
    server: MemoryServer, client: MemoryClient, shown: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "_LOT", 2)
    for number in range(5):
        server.write("bob", "submit", task=f"t{number}")
    claims = listed(shown, client.replica.refresh().state)
    assert [claim.task for claim in claims] == [f"t{n}" for n in range(5)]
    assert {claim.verdict for claim in claims} == {AUTHENTIC}


def test_the_history_of_a_task_has_its_records_and_no_others(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    server.write("bob", "submit", task="t")
    server.write("bob", "claim", tasks=["another"])
    server.write("bob", "claim", tasks=["another-one", "t"], note="both")
    server.write("bob", "release", task="t", reason="no time")
    events = shown.history(client.replica.refresh().state, "t")
    assert [(event.kind, event.epoch, event.text) for event in events] == [
        ("submit", None, None),
        ("claim", 1, "both"),
        ("release", 1, "no time"),
    ]
    assert {event.verdict for event in events} == {AUTHENTIC}
    with pytest.raises(CoordledgerError) as caught:
        shown.history(client.replica.position().state, "unheard-of")
    assert caught.value.code == "unknown-task"


# -- messages and agents


@pytest.mark.parametrize(
    "lie", [{"body": "pay me"}, {"agent": "carol"}, {"importance": "high"}, {"seq": 1}]
)
def test_a_message_that_is_not_its_records_is_invalid(
    server: MemoryServer, client: MemoryClient, shown: Views, lie: dict[str, Any]
) -> None:
    server.write("bob", "send", to="alice")
    server.write("bob", "send", channel="general")
    state = client.replica.refresh().state
    for path, channels, direct in (
        ("inbox/alice.jsonl", (), True),
        ("channels/general.jsonl", ("general",), False),
    ):
        [good] = shown.inbox(with_message(state, path), ["alice"], channels, direct=direct)
        assert (good.body, good.sender, good.verdict) == ("hello", "bob", AUTHENTIC)
        [bad] = shown.inbox(with_message(state, path, **lie), ["alice"], channels, direct=direct)
        assert bad.verdict == INVALID


def test_an_inbox_leaves_out_what_is_read_and_what_one_has_said_oneself(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    server.write("alice", "send", channel="general", body="mine")
    read = server.write("bob", "send", channel="general", body="read")
    server.write("bob", "send", to="alice", body="to alice")
    server.write("carol", "send", channel="general", body="new")
    state = client.replica.refresh().state
    client.local.save(client.replica.trusted.with_read("alice", "general", {read.seq}))
    unread = [message.body for message in shown.inbox(state, ["alice"], ["general"])]
    assert unread == ["to alice", "new"]
    everything = shown.inbox(state, ["alice"], ["general"], everything=True)
    assert [message.body for message in everything] == ["mine", "read", "to alice", "new"]
    assert [message.body for message in shown.inbox(state, ["bob"], ["general"])] == ["mine", "new"]


def test_agents_have_roles_and_keys(server: MemoryServer, client: MemoryClient) -> None:
    server.write("alice", "revoke", who="carol")
    state = client.replica.refresh().state
    agents = [agent_of(state, name) for name in state.agents()]
    assert [(agent.agent, agent.role, agent.active) for agent in agents] == [
        ("alice", "owner", True),
        ("bob", "agent", True),
        ("carol", "agent", False),
    ]


# -- facts


def test_a_fact_is_shown_with_its_record(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    landed = server.write("bob", "fact", fact="k", value="v")
    state = client.replica.refresh().state
    [fact] = shown.facts(shown.fact_lines(state))
    assert (fact.key, fact.value, fact.agent) == ("k", "v", "bob")
    assert (fact.rev, fact.commit, fact.verdict) == (landed.seq, landed.oid, AUTHENTIC)


@pytest.mark.parametrize(
    "lie",
    [
        *({"value": "w"}, {"agent": "carol"}, {"session": "other"}, {"fact": "j"}),
        *({"at": "2026-11-21T03:10:00.000Z"}, {"until": "2100-11-21T03:10:00.000Z"}, {"rev": 1}),
    ],
    ids=str,
)
def test_a_fact_that_is_not_what_its_record_says_is_invalid(
    server: MemoryServer, client: MemoryClient, shown: Views, lie: dict[str, Any]
) -> None:
    server.write("bob", "fact", fact="k", value="v")
    line = client.replica.refresh().state.fact("k")
    assert line
    assert shown.fact(line | lie).verdict == INVALID


def test_a_fact_whose_record_is_not_here_is_unverified(
    server: MemoryServer, client: MemoryClient, shown: Views
) -> None:
    server.write("bob", "fact", fact="k", value="v")
    line = client.replica.refresh().state.fact("k")
    assert line
    assert shown.fact(line | {"rev": 999}).verdict == UNVERIFIED
