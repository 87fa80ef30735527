"""The index of tasks: with it, without it, and with a spoilt one a list is the same."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_ledger import LEASE, SKEW
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.client import lines
from coordledger.client.choosing import Wanted
from coordledger.client.index import pages
from coordledger.client.replica import Replica
from coordledger.client.views import Views
from coordledger.errors import RuleBroken
from coordledger.format.signing import Keyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordledger.client.reports import Listing

TASKS = [f"t{number}" for number in range(30)]
WANTED = [
    Wanted(),
    Wanted(("open",)),
    Wanted(("claimed", "expired")),
    Wanted(agent="bob"),
    Wanted(labels=("a", "b"), any_label=True),
    Wanted(stuck=True),
    Wanted(blocked=True),
]


@pytest.fixture
def server() -> MemoryServer:
    made = MemoryServer("bob", "carol")
    dice = random.Random(7)
    for number, task in enumerate(TASKS):
        after = [TASKS[0]] if number % 7 == 3 else []
        labels = ["a"] if number % 3 else []
        made.write(
            "bob", "submit", task=task, priority=number % 3, after=after, labels=labels, title="x"
        )
    steps(made, dice, 60)
    return made


def steps(server: MemoryServer, dice: random.Random, count: int) -> None:
    """What two agents do with the tasks, as far as it is allowed."""
    for _ in range(count):
        kind = dice.choice(["claim", "claim", "complete", "release", "renew", "withdraw"])
        task, agent = dice.choice(TASKS), dice.choice(["bob", "carol"])
        try:
            server.write(agent, kind, **({"tasks": [task]} if kind == "claim" else {"task": task}))
        except RuleBroken:
            server.ledger.now += dice.choice([0, 0, LEASE + SKEW])


@pytest.fixture
def client(
    server: MemoryServer, tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MemoryClient]:
    monkeypatch.setattr(lines, "_LARGE", 0)
    made = MemoryClient(server, tmp_path / "reader.git", env)
    yield made
    made.close()


def listed(client: MemoryClient, wanted: Wanted = WANTED[0], limit: int | None = None) -> Listing:
    state = client.replica.refresh().state
    return Views(client.replica, client.now).listing(state, wanted, limit, None)


def need_same_as_without(client: MemoryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the index, twice (what was kept the first time is used the second), and without it."""
    state, views = client.replica.refresh().state, Views(client.replica, client.now)
    for large in (0, 0, 10**9):
        monkeypatch.setattr(lines, "_LARGE", large)
        found = [
            views.listing(state, wanted, limit, None) for wanted in WANTED for limit in (None, 3)
        ]
        for agent in ("bob", "carol"):
            found.append([*lines.claimable(client.replica, state, agent)])
            found.append(views.held_by(state, agent))
        if large == 0:
            first = found
    monkeypatch.setattr(lines, "_LARGE", 0)
    assert first == found


def database(client: MemoryClient) -> sqlite3.Connection:
    return sqlite3.connect(client.local.folder / pages.NAME, isolation_level=None)


def change(client: MemoryClient, statement: str, *values: Any) -> None:
    db = database(client)
    assert db.execute(statement, values).rowcount != 0
    db.close()


def test_a_list_is_the_same_with_and_without_it_whatever_happens(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(3)
    for _ in range(4):
        need_same_as_without(client, monkeypatch)
        steps(server, dice, 5)
    need_same_as_without(client, monkeypatch)


def test_what_is_filed_is_not_read_again(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = listed(client)
    asked, read = list[int](), list[str]()
    commit_at, ahead = Replica.commit_at, client.local.repository.read_ahead
    monkeypatch.setattr(
        Replica, "commit_at", lambda self, seq: (asked.append(seq), commit_at(self, seq))[1]
    )
    monkeypatch.setattr(
        client.local.repository, "read_ahead", lambda ids: (read.extend(ids), ahead(ids))
    )
    assert listed(client) == every
    assert (asked, read) == ([], [])
    server.write("bob", "submit", task="fresh")
    assert len(listed(client).tasks) == len(every.tasks) + 1
    assert len(set(asked)) <= 2
    assert len(read) <= 3  # a page, and a record


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA user_version = 99",
        "UPDATE texts SET line = CAST(replace(line, 'bob', 'eve') AS BLOB)",
        "UPDATE texts SET line = CAST(line AS TEXT)",
        "UPDATE texts SET facts = 7",
        "UPDATE pages SET oid = 'x'",
        "UPDATE folders SET oid = 'x'",
        "DELETE FROM texts WHERE number = 3",
        "UPDATE tasks SET page = 1",
        "DROP TABLE texts",
        "UPDATE texts SET facts = CAST(replace(facts, 'authentic', 'authentiC') AS BLOB)",
        "UPDATE texts SET facts = x'00'",
        "UPDATE basis SET oid = 'x'",
        "UPDATE basis SET ledger = 'x'",
        "DELETE FROM basis",
    ],
)
def test_one_that_was_spoilt_is_made_anew_or_not_believed(
    client: MemoryClient, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    every = listed(client)
    db = database(client)
    db.execute(statement)
    db.close()
    assert listed(client) == every
    need_same_as_without(client, monkeypatch)


def test_a_file_that_is_no_database_is_thrown_away(client: MemoryClient) -> None:
    every = listed(client)
    path = client.local.folder / pages.NAME
    for content in (b"no database", path.read_bytes()[:5000], b""):
        for file in client.local.folder.glob(f"{pages.NAME}-*"):
            file.unlink()
        path.write_bytes(content)
        assert listed(client) == every
        db = database(client)
        assert db.execute("SELECT count(*) FROM texts").fetchone() == (len(every.tasks),)
        db.close()


def test_where_there_can_be_none_the_pages_are_read(
    client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = listed(client)

    def no_lock(*_: object) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", no_lock)
        state = client.replica.position().state
        assert Views(client.replica, client.now).listing(state, Wanted(), None, None) == every
        assert lines.ask(client.replica, state, lambda index: 1) is None


def test_while_another_process_writes_for_long_the_pages_are_read(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(client)
    server.write("bob", "submit", task="fresh")
    monkeypatch.setattr(pages, "_PATIENCE", 0.05)
    other = database(client)
    other.execute("BEGIN IMMEDIATE")
    assert "fresh" in [claim.task for claim in listed(client).tasks]
    other.execute("ROLLBACK")
    other.close()


def test_what_was_kept_counts_for_the_keys_that_were_at_hand(client: MemoryClient) -> None:
    assert {claim.verdict for claim in listed(client).tasks} == {"authentic"}
    keyring_for, none = client.replica._keyring_for, Keyring()
    client.replica._keyring_for = lambda ledger: none
    assert {claim.verdict for claim in listed(client).tasks} == {"unverified"}
    client.replica._keyring_for = keyring_for
    assert {claim.verdict for claim in listed(client).tasks} == {"authentic"}
