"""Every way in which a remote's history can go on, or not, and what the copy makes of it.

Rules: the remote is in memory, copy and repository are the real ones. Whatever is refused
moves nothing, and leaves no checkpoint behind, and no ref but for the head that is not to be
fetched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.memory_ledger import MASTER, SKEW, MemoryLedger, own_secrets
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.client import replica as replica_module
from coordledger.client.local_state import LocalState
from coordledger.client.replica import Replica
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Integrity, error
from coordledger.format import records
from coordledger.format.chain import AUTHENTIC, INVALID, UNVERIFIED
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring, Secret
from coordledger.git import outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OTHER = Secret("X" * 43)


class Reader:
    """A copy whose clock and keys a test sets."""

    def __init__(self, server: MemoryServer, path: Path, env: dict[str, str]) -> None:
        self.client = MemoryClient(server, path, env)
        self.local, self.now, self.keys = self.client.local, server.ledger.now, server.ledger.ring
        self.git = self.client.repository.git
        self.said: list[tuple[str, int, int]] = []
        self.replica = Replica(
            self.local,
            self.client.remote,  # type: ignore[arg-type]  # the same interface
            self.git,
            lambda _: self.keys,
            lambda: self.now,
            lambda *progress: self.said.append(progress),
        )

    def refuses(self, act: Callable[[], object] | None = None) -> str:
        """The slug with which it refuses to follow the remote, moving nothing."""
        before = self.local.trusted
        with pytest.raises(CoordledgerError) as caught:
            (act or self.replica.refresh)()
        assert self.local.trusted == before
        assert self.local.repository.ref(self.local.ref) == (before and before.commit)
        return caught.value.code

    def has_nothing_left_over(self) -> bool:
        stopped, ref = self.local.stopped, self.local.repository.ref(self.local.incoming)
        return self.local.checkpoint is None and ref == (stopped.head if stopped else None)


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer("bob")


@pytest.fixture
def reader(server: MemoryServer, tmp_path: Path, env: dict[str, str]) -> Iterator[Reader]:
    made = Reader(server, tmp_path / "reader.git", env)
    yield made
    made.client.close()


# -- what is followed


def test_a_first_contact_verifies_everything_and_a_later_one_what_is_new(
    server: MemoryServer, reader: Reader
) -> None:
    assert reader.replica.refresh().head.oid == server.ledger.head.oid
    trusted = reader.replica.trusted
    assert (trusted.seq, trusted.first, trusted.ledger) == (
        1,
        0,
        server.ledger.state.ledger["ledger"],
    )
    server.write("bob", "submit", task="t")
    assert not reader.replica.has_seen(server.ledger.head.oid)
    assert reader.replica.refresh().state.task("t")
    assert reader.replica.has_seen(server.ledger.head.oid)
    assert [reader.replica.commit_at(seq).seq for seq in range(3)] == [0, 1, 2]
    assert reader.replica.commit_at(3) is None
    assert reader.has_nothing_left_over()


def test_a_copy_that_is_up_to_date_asks_once_and_fetches_nothing(
    server: MemoryServer, reader: Reader
) -> None:
    reader.replica.refresh()
    looks = server.looks
    reader.replica.refresh()
    reader.replica.position()
    assert server.looks == looks + 1


# -- what is not


def _roll_back(server: MemoryServer) -> None:
    server.ledger = server.ledger.at(2)


def _fork(server: MemoryServer) -> None:
    server.ledger = server.ledger.at(2)
    server.write("bob", "submit", task="elsewhere")
    server.write("bob", "submit", task="and-more")


def _found_another(server: MemoryServer) -> None:
    server.ledger = MemoryLedger("bob", "carol", "dave", policy={"max_ttl": 7200})


def _put_on_head(server: MemoryServer, oid: str, content: bytes) -> None:
    """As a server without a hook takes it."""
    server.ledger.store[oid] = content
    server.ledger.log.append((oid, content))
    server.ledger.chain.head = parse_commit(oid, content)


def _forge(server: MemoryServer, secret: Secret | None = OTHER, **given: Any) -> None:
    ledger = server.ledger
    record = records.check(ledger.record("bob", "void", **given))
    _put_on_head(server, *ledger.forge(ledger.sign(record, secret)))


def _forge_below(server: MemoryServer) -> None:
    _forge(server)
    ledger = server.ledger
    record = records.check(ledger.record("alice", "void"))
    _put_on_head(server, *ledger.forge(ledger.sign(record)))


def _unknown_key(server: MemoryServer) -> None:
    _forge(server, MASTER.derive("ab" * 32, "bob", 2), key=2)


def _another_tree(server: MemoryServer) -> None:
    ledger = server.ledger
    first = parse_commit(*ledger.log[0])
    signed = ledger.sign(records.check(ledger.record("bob", "submit", task="x")))
    _put_on_head(server, *ledger.forge(signed, first.tree))


class Row(NamedTuple):
    """What happens to the server after the copy has joined, and how the copy refuses it."""

    happens: Callable[[MemoryServer], None]
    code: str


REFUSED = {
    "rolled back": Row(_roll_back, "remote-behind"),
    "forked": Row(_fork, "rewritten"),
    "another ledger": Row(_found_another, "other-ledger"),
    "a forged signature": Row(_forge, "bad-signature"),
    "a forged signature below a good record": Row(_forge_below, "bad-signature"),
    "a key that was never enrolled": Row(_unknown_key, "unknown-key"),
    "a tree that its record does not make": Row(_another_tree, "bad-commit"),
}


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_a_history_that_does_not_go_on_well_moves_nothing(
    server: MemoryServer, reader: Reader, row: Row
) -> None:
    server.write("bob", "submit", task="t")
    reader.replica.refresh()
    row.happens(server)
    assert reader.refuses() == row.code
    assert reader.has_nothing_left_over()
    assert reader.refuses(lambda: reader.replica.refresh(moved=True)) == row.code
    assert reader.replica.position().head.oid == reader.replica.trusted.commit


@pytest.mark.parametrize(
    "row",
    [row for row in REFUSED.values() if row.happens not in (_roll_back, _fork, _found_another)],
)
def test_a_first_contact_with_such_a_history_remembers_what_is_valid_of_it(
    server: MemoryServer, reader: Reader, row: Row
) -> None:
    good = server.ledger.head.oid
    row.happens(server)
    assert reader.replica.follow().head.oid == good == reader.replica.trusted.commit
    assert reader.replica.stop.code == row.code
    assert reader.refuses() == row.code
    assert reader.has_nothing_left_over()


def test_a_ref_that_is_gone_is_no_empty_ledger(
    server: MemoryServer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MemoryServer, "refs", {"refs/coordledger/other": server.ledger.head.oid})
        with pytest.raises(CoordledgerError, match="it has other") as caught:
            reader.replica.refresh()
        assert caught.value.code == "not-a-ledger"
    reader.replica.refresh()
    monkeypatch.setattr(MemoryServer, "refs", {})
    assert reader.refuses() == "ledger-gone"
    assert reader.has_nothing_left_over()


@pytest.mark.parametrize("hooked", [True, False])
def test_a_record_from_the_future_is_taken_once_one_could_follow_it(
    server: MemoryServer, reader: Reader, hooked: bool
) -> None:
    reader.replica.refresh()
    if hooked:
        vouched = outcome.Push(outcome.REFUSED, vouches=server.vouches)
        assert reader.replica.vouches.note_try(vouched)
    server.ledger.now += 2 * SKEW + 1
    server.write("bob", "submit", task="t")
    assert reader.refuses() == "from-future"
    assert reader.has_nothing_left_over()
    reader.now += 1
    assert reader.replica.refresh().state.task("t")
    assert reader.local.stopped is None
    assert reader.has_nothing_left_over()


# -- the keys at hand


def test_keys_that_come_later_are_used_from_then_on(server: MemoryServer, reader: Reader) -> None:
    """The chain that a long-lived process stands on was begun without them."""
    reader.keys = Keyring()
    reader.replica.refresh()
    assert reader.replica.verdict_of(reader.replica.commit_at(1)) == UNVERIFIED
    reader.keys = server.ledger.ring
    assert reader.replica.verdict_of(reader.replica.commit_at(1)) == AUTHENTIC
    _forge(server)
    assert reader.refuses() == "bad-signature"


def test_what_was_adopted_without_its_key_is_invalid_once_the_key_is_here(
    server: MemoryServer, reader: Reader
) -> None:
    reader.keys = Keyring()
    reader.replica.refresh()
    _forge(server)
    reader.replica.refresh()
    forged = reader.replica.commit_at(2)
    assert reader.replica.verdict_of(forged) == UNVERIFIED
    reader.keys = Keyring([MASTER], own_secrets)
    assert reader.replica.verdict_of(forged) == INVALID
    reader.keys = Keyring()
    assert reader.replica.verdict_of(forged) == UNVERIFIED


def test_the_mac_of_a_record_is_computed_once_for_the_same_keys(
    server: MemoryServer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        server.write("bob", "submit", task=f"t{number}")
    macs: list[bytes] = []
    sign = Secret.sign

    def counted(self: Secret, payload: bytes) -> bytes:
        macs.append(payload)
        return sign(self, payload)

    monkeypatch.setattr(Secret, "sign", counted)
    reader.replica.refresh()
    assert len(macs) == 7
    for _ in range(2):
        for seq in range(7):
            assert reader.replica.verdict_of(reader.replica.commit_at(seq)) == AUTHENTIC
    assert len(macs) == 7
    reader.keys = Keyring([MASTER], own_secrets)  # as each operation looks for keys anew
    reader.replica.verdict_of(reader.replica.commit_at(3))
    reader.replica.verdict_of(reader.replica.commit_at(3))
    assert len(macs) == 8


# -- what takes long


class Soon(Deadline):
    """It is over at the third look."""

    looks = 0

    def over(self) -> bool:
        self.looks += 1
        return self.looks == 3


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "TOLD", 2)
    monkeypatch.setattr(replica_module, "STEP", 4)


@pytest.mark.usefixtures("short_steps")
def test_a_verification_that_its_deadline_ends_is_gone_on_with(
    server: MemoryServer, reader: Reader
) -> None:
    for number in range(12):
        server.write("bob", "submit", task=f"t{number}")
    reader.git.deadline = Soon(20)
    assert reader.refuses() == "unfinished"
    assert reader.local.checkpoint.seq == 5
    assert reader.local.repository.ref(reader.local.incoming) == server.ledger.head.oid
    server.write("bob", "submit", task="in-between")
    reader.git.deadline = Deadline(20)
    reader.said.clear()
    assert reader.replica.refresh().head.oid == server.ledger.head.oid
    assert ("verifying", 2, 9) in reader.said  # of 15 records
    assert reader.has_nothing_left_over()
    assert [reader.replica.commit_at(seq).seq for seq in range(15)] == list(range(15))


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("what", [_forge, _roll_back])
def test_a_checkpoint_is_dropped_with_the_history_that_it_is_part_of(
    server: MemoryServer, reader: Reader, what: Callable[[MemoryServer], None]
) -> None:
    for number in range(12):
        server.write("bob", "submit", task=f"t{number}")
    reader.git.deadline = Soon(20)
    assert reader.refuses() == "unfinished"
    reader.git.deadline = Deadline(20)
    what(server)
    if what is _forge:
        assert reader.replica.follow().head.seq == 13
        assert reader.replica.stop.code == "bad-signature"
    else:  # nothing had been believed yet
        assert reader.replica.refresh().head.seq == 1
    assert reader.has_nothing_left_over()


def test_an_interruption_leaves_the_copy_as_it_was(server: MemoryServer, reader: Reader) -> None:
    reader.replica.refresh()
    server.write("bob", "submit", task="t")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = reader.local.trusted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader.local, "adopt", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.replica.refresh()
    assert reader.local.trusted == before
    assert reader.replica.position().head.oid == before.commit
    assert reader.replica.refresh().state.task("t")


# -- a shallow copy, and our own disk


def test_a_shallow_copy_believes_nothing_at_its_edge(server: MemoryServer, reader: Reader) -> None:
    server.write("bob", "submit", task="old")
    reader.replica.join(1, None)
    assert reader.replica.trusted.first == 2
    assert reader.replica.verdict_of(reader.replica.commit_at(2)) == UNVERIFIED
    assert reader.replica.commit_at(1) is None
    server.write("bob", "submit", task="new")
    server.write("bob", "submit", task="newer")
    reader.replica.refresh()
    assert reader.replica.verdict_of(reader.replica.commit_at(4)) == AUTHENTIC


@pytest.mark.parametrize("pin", ["0:" + "0" * 16, "f" * 32])
def test_what_a_pin_refuses_is_not_remembered(reader: Reader, pin: str) -> None:
    assert reader.refuses(lambda: reader.replica.join(None, pin)) == "pin-mismatch"
    assert reader.local.trusted is None


def test_a_head_that_was_tampered_with_is_not_believed(
    server: MemoryServer, reader: Reader
) -> None:
    reader.replica.refresh()
    trusted = reader.replica.trusted
    for wrong in (
        trusted._replace(digest="0" * 64),
        trusted._replace(seq=trusted.seq + 1),
        trusted._replace(commit=server.ledger.log[0][0]),
    ):
        reader.local.save(wrong)
        reader.replica._chain = None  # as in a new process
        with pytest.raises(Integrity) as caught:
            reader.replica.position()
        assert caught.value.code == "bad-copy"


def test_nothing_that_stands_in_memory_only_is_named_on_the_disk(
    server: MemoryServer, reader: Reader
) -> None:
    chain = reader.replica.refresh()
    before = reader.replica.trusted
    server.write("bob", "submit", task="t")
    tip = chain.copy()
    tip.judge(*server.ledger.log[-1])
    reader.replica.adopt_in_memory(tip, before)
    assert reader.replica.in_memory_only
    assert reader.replica.position().head.oid == server.ledger.head.oid
    assert LocalState(reader.local.repository, "main").trusted == before


def test_a_remote_that_is_away_is_no_change(
    server: MemoryServer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.replica.refresh()

    def away(*_: object) -> None:
        raise error("remote-unreachable", remote="memory", why="no route to host")

    monkeypatch.setattr(server, "look", away)
    assert reader.refuses() == "remote-unreachable"
    assert reader.has_nothing_left_over()
