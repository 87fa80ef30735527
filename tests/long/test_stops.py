"""One bad record hides nothing that came before it: readers go on below it, nobody builds on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.attacker import opened
from support.fleet import LEDGER_REF

from coordledger.client.config import Options
from coordledger.client.journal import LANDED, Intent
from coordledger.errors import Integrity
from coordledger.git.history import CommitRange
from coordledger.setup import joining
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger


@pytest.fixture
def open_fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """A ledger without a hook, with some of everything that can be read."""
    fleet = make_fleet()
    (fleet.remote / "hooks/pre-receive").unlink()
    fleet.enroll("bob")
    bob = fleet.ledger("bob")
    bob.claim("held")
    bob.send("real", channel="general")
    bob.send("direct", to="alice")
    fleet.ledger("alice").head()
    return fleet


@pytest.fixture
def forge(open_fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(open_fleet)


def spoil(forge: Attacker, tail: int = 0) -> str:
    """Put a record with a wrong MAC on the remote, and good ones after it; its id."""
    bad = forge.propose(forge.sign(forge.record("bob", "submit", task="FORGED"), mint()))
    tip = bad
    for _ in range(tail):
        tip = forge.propose(forge.signed("bob", "void", on=tip), on=tip)
    assert forge.push(tip).slug == ""
    return bad


def integrity(act: Callable[[], object]) -> Integrity:
    with pytest.raises(Integrity) as caught:
        act()
    return caught.value


READS = [
    ("list",),
    ("show", "held"),
    ("history", "held"),
    ("status",),
    ("inbox",),
    ("messages", "--channel", "general"),
    ("channel", "list"),
    ("agent", "list"),
    ("policy",),
    ("head",),
    ("list", "--offline"),
]
WRITES = [
    ("submit", "t"),
    ("claim", "t"),
    ("claim", "--next"),
    ("claim", "t", "--dry-run"),
    ("send", "--channel", "general", "hello"),
    ("agent", "add", "carol"),
    ("policy", "max_ttl=7200"),
    ("require", "held"),
    ("audit",),
]


def test_every_read_goes_on_with_a_warning_and_every_write_is_an_integrity_error(
    open_fleet: Fleet, forge: Attacker, inside: Callable[..., object]
) -> None:
    seq = open_fleet.ledger("alice").head().seq
    bad = spoil(forge, tail=3)
    for argv in READS:
        ran = inside(open_fleet, *argv, agent="alice", check=0)
        assert "FORGED" not in ran.stdout  # type: ignore[attr-defined]
        [warning] = ran.stderr.splitlines()  # type: ignore[attr-defined]
        for said in (f"record {seq + 1} ({bad[:12]})", "[bad-signature]", "coordledger repair"):
            assert said in warning
    for argv in WRITES:
        inside(open_fleet, *argv, agent="alice", check=4)
    ran = inside(open_fleet, "status", "--json", agent="alice", check=0)
    stopped = json.loads(ran.stdout)["stopped_at"]  # type: ignore[attr-defined]
    assert (stopped["seq"], stopped["commit"]) == (seq + 1, bad)
    assert set(stopped) == {"seq", "commit", "code", "message"}
    assert open_fleet.ledger("alice").connection.local.journal.intents() == []


def test_a_newcomer_joins_what_is_valid_whatever_ledger_the_head_says_that_it_is_of(
    open_fleet: Fleet, forge: Attacker
) -> None:
    """The keys are looked for under the name that the first record certifies."""
    head = open_fleet.ledger("alice").head()
    bad = spoil(forge)
    liar = forge.signed("bob", "void", on=bad, ledger="f" * 32)
    assert forge.push(forge.render(liar, on=bad)).slug == ""
    path = open_fleet.root / "newcomer"
    open_fleet.git("clone", "--quiet", open_fleet.remote, path)
    warnings: list[str] = []
    options = Options(path=path, agent="alice")
    joined = joining.join(options, open_fleet.env, "origin", warn=warnings.append)
    assert joined.head == head
    assert any("[bad-signature]" in warning for warning in warnings)


def work_of(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many commits a read walks and judges, and how often it fetches."""
    walked: list[str] = []
    fetched: list[str] = []
    with monkeypatch.context() as patch:
        add, fetch = CommitRange.add, ledger.connection.remote.fetch

        def counted(self: CommitRange, oid: str, content: bytes) -> None:
            walked.append(oid)
            add(self, oid, content)

        patch.setattr(CommitRange, "add", counted)
        patch.setattr(ledger.connection.remote, "fetch", lambda *a: fetched.append("") or fetch(*a))
        ledger.tasks()
    return len(walked), len(fetched)


def test_what_follows_a_bad_record_is_not_walked_again(
    open_fleet: Fleet, forge: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = spoil(forge, tail=20)
    alice = open_fleet.ledger("alice")
    assert work_of(alice, monkeypatch) == (21, 1)
    assert alice.connection.replica.has_seen(
        open_fleet.head()
    )  # so that whoever waits does not spin
    assert work_of(open_fleet.ledger("alice"), monkeypatch) == (0, 0)
    tip = forge.propose(forge.signed("bob", "void"))  # by somebody who has no key to check with
    assert forge.push(tip).slug == ""
    assert work_of(open_fleet.ledger("alice"), monkeypatch) == (1, 1)
    assert work_of(open_fleet.ledger("alice"), monkeypatch) == (0, 0)
    status = open_fleet.ledger("alice").status()
    assert status.stopped_at is not None
    assert status.stopped_at["commit"] == bad


@pytest.mark.parametrize("grown", [False, True])
def test_a_remote_that_was_put_right_is_followed_again(
    open_fleet: Fleet, forge: Attacker, grown: bool
) -> None:
    alice = open_fleet.ledger("alice")
    good = alice.head()
    spoil(forge, tail=2)
    assert alice.status().stopped_at
    open_fleet.git("update-ref", LEDGER_REF, good.commit)
    if grown:
        assert open_fleet.ledger("bob").claim("more").won
    assert alice.status().stopped_at is None
    assert open_fleet.ledger("alice").claim("after").won
    local = alice.connection.local
    assert (local.stopped, local.repository.ref(local.incoming)) == (None, None)


def test_a_remote_that_was_rewritten_is_still_an_error_for_readers(
    open_fleet: Fleet, forge: Attacker
) -> None:
    alice = open_fleet.ledger("alice")
    spoil(forge)
    assert alice.status().stopped_at
    parent = open_fleet.git("rev-parse", f"{LEDGER_REF}~3").strip()
    other = forge.propose(forge.signed("bob", "void", on=parent), on=parent)
    open_fleet.git("fetch", "--quiet", forge.folder, other)
    open_fleet.git("update-ref", LEDGER_REF, other)
    assert integrity(alice.tasks).code in ("rewritten", "remote-behind")
    assert integrity(alice.tasks).code in ("rewritten", "remote-behind")


def test_what_was_told_as_landed_beyond_a_bad_record_is_not_hidden_by_a_warning(
    open_fleet: Fleet, forge: Attacker
) -> None:
    bob = open_fleet.ledger("bob")
    seq = bob.head().seq
    spoil(forge, tail=2)
    with bob.connection.local.lock(bob.connection.git.deadline):
        bob.connection.local.told.add(seq + 3, forge.tip)
    for act in (bob.tasks, bob.head, lambda: bob.claim("t"), lambda: bob.require("held", epoch=1)):
        assert integrity(act).code == "bad-signature"
    assert bob.connection.local.told.all() == [(seq + 3, forge.tip)]


def test_what_has_landed_below_a_bad_record_is_resolved(open_fleet: Fleet, forge: Attacker) -> None:
    """And what may lie beyond it stays open."""
    bob = open_fleet.ledger("bob")
    head = bob.head()
    base = {"digest": head.digest, "seq": head.seq}
    signed = forge.signed("bob", "submit", task="mine")
    assert forge.push(forge.propose(signed)).slug == ""
    bad = spoil(forge)
    session = bob.connection.identity().session
    landed = Intent(signed.record["op"], base, "bob", session, "submit mine").carrying(signed)
    bob.connection.local.journal.record(landed)
    bob.connection.local.journal.release()  # its process has ended
    [settled] = open_fleet.ledger("bob").resolve()
    assert (settled.outcome, settled.seq) == (LANDED, head.seq + 1)
    open_ = Intent("ab" * 16, base, "bob", session, "claim x").carrying(
        forge.signed("bob", "void", op="ab" * 16)
    )
    bob.connection.local.journal.record(open_)
    bob.connection.local.journal.release()
    assert integrity(open_fleet.ledger("bob").resolve).data["commit"] == bad
    assert [intent.op for intent in bob.connection.local.journal.intents()] == ["ab" * 16]


@pytest.mark.parametrize("queue", ["on", "off"])
def test_no_way_of_writing_builds_on_a_bad_record(
    open_fleet: Fleet, forge: Attacker, queue: str
) -> None:
    env = open_fleet.env | {"COORDLEDGER_QUEUE": queue}
    alice = open_fleet.ledger("alice", environ=env)
    assert alice.claim("before").won
    good = open_fleet.head()
    spoil(forge)
    bad = open_fleet.head()
    for _ in range(2):
        assert integrity(lambda: alice.claim("t")).code == "bad-signature"
        assert open_fleet.head() == bad
    open_fleet.git("update-ref", LEDGER_REF, good)
    assert alice.claim("t").won


def test_a_record_from_the_future_stops_readers_for_as_long_as_it_is_one(
    open_fleet: Fleet, forge: Attacker
) -> None:
    forge.later = 20 * 86_400_000
    assert forge.push(forge.propose(forge.signed("bob", "submit", task="ahead"))).slug == ""
    alice = open_fleet.ledger("alice")
    assert "ahead" not in [claim.task for claim in alice.tasks()]
    fault = integrity(lambda: alice.claim("t"))
    assert fault.code == "from-future"
    assert "by bob, dated " in fault.message
    assert fault.hint.endswith(f"coordledger repair {open_fleet.remote}")
    later = opened(open_fleet, open_fleet.clone("alice"), "alice", clock=lambda: forge.now)
    assert later.show("ahead").agent is None


def test_one_who_had_taken_a_record_from_the_future_can_cut_it_off_without_a_hook(
    open_fleet: Fleet, forge: Attacker
) -> None:
    good = open_fleet.head()
    forge.later = 20 * 86_400_000
    assert forge.push(forge.propose(forge.signed("bob", "void"))).slug == ""
    ahead = opened(open_fleet, open_fleet.clone("alice"), "alice", clock=lambda: forge.now)
    ahead.tasks()
    alice = open_fleet.ledger("alice")
    found = alice.damage()
    assert found is not None
    assert (found.fault.code, found.last.commit) == ("from-future", good)
    alice.repair(found)
    assert open_fleet.head() == good
    assert alice.claim("t").won
