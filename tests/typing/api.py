"""The Python interface as type checkers see it: mypy reads this file, nothing runs it.

What has to be an error is marked as one: mypy complains about a mark that is not needed.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

import coordledger
from coordledger import (
    Acked,
    Activity,
    Agent,
    AgentStats,
    Audit,
    Authority,
    Batch,
    Before,
    Blame,
    Claim,
    ClaimResult,
    CoordledgerError,
    Damage,
    Delegate,
    Description,
    Event,
    Fact,
    Facts,
    Failed,
    Founded,
    Guarded,
    Head,
    Imported,
    ImportedRow,
    Integrity,
    Joined,
    Key,
    Landing,
    LandRecord,
    Ledger,
    Legacy,
    Listing,
    LogEntry,
    Lost,
    Message,
    Outcome,
    OutcomeUnknown,
    Proof,
    Purged,
    Reservation,
    Reserved,
    Secret,
    Settled,
    Spread,
    Stats,
    Status,
    init,
    join,
)

assert_type(coordledger.__version__, str)


def opens(path: Path) -> None:
    with Ledger.open(agent="alice") as ledger:
        assert_type(ledger, Ledger)
    ledger = Ledger.open(
        path,
        "alice",
        session="run-1",
        remote="origin",
        ledger="main",
        timeout=timedelta(seconds=5),
        offline=True,
        environ={"HOME": "/home/alice"},
        clock=lambda: 0,
        progress=lambda what, done, of: None,
    )
    ledger.close()
    Ledger.open(path, timeout=5)  # type: ignore[arg-type]
    Ledger.open(path, "alice", "run-1")  # type: ignore[call-arg]


def founds(path: Path) -> None:
    founded = init(path, "alice", path=path, max_skew=timedelta(seconds=5), ssh_key="new")
    assert_type(founded, Founded)
    assert_type((founded.ledger, founded.master), tuple[str, str | None])
    assert_type(init("ssh://host/p", "alice", ledger="x", branch="ledger", environ={}), Founded)
    init(path, max_skew=30)  # type: ignore[arg-type]
    init(path, "alice", path)  # type: ignore[call-arg]
    joined = join("origin", "bob", path=path, secret_file="bob.secret", depth=5, pin="x")
    assert_type(joined, Joined)
    assert_type((joined.head, joined.key), tuple[Head, str])
    assert_type(joined.public, str | None)
    join(path, "bob", new_key=True, progress=lambda what, done, of: None, warn=print)
    join(timeout=5)  # type: ignore[arg-type]


def looks(ledger: Ledger, at: datetime) -> None:
    log = ledger.log(since=at, until=at, task="a", agent="b", kinds=["claim"], after=5, limit=10)
    assert_type(log, list[LogEntry])
    assert_type(log[0].before, tuple[Before, ...])
    assert_type(
        (log[0].at, log[0].tasks, log[0].epoch), tuple[datetime, tuple[str, ...], int | None]
    )
    for entry in ledger.follow(task="a", after=5, cancel=threading.Event()):
        assert_type(entry, LogEntry)
    stats = ledger.stats(since=at)
    assert_type(stats, Stats)
    assert_type((stats.agents, stats.total), tuple[tuple[AgentStats, ...], AgentStats])
    assert_type(stats.total.duration, Spread)
    assert_type(stats.total.waiting.median, timedelta | None)
    assert_type(ledger.activity(), list[Activity])
    ledger.log(since="yesterday")  # type: ignore[arg-type]


def claims(ledger: Ledger) -> None:
    minutes = timedelta(minutes=30)
    result = ledger.claim("a", "b", ttl=minutes, wait=minutes, reopen=True, note="x", dry_run=True)
    assert_type(result, ClaimResult)
    assert_type(result.won, bool)
    assert_type(result.claim, Claim | None)
    assert_type(result.claims, tuple[Claim, ...])
    assert_type(
        (result.outcome, result.code, result.message, result.hint), tuple[str, str, str, str]
    )
    assert_type(ledger.claim_next(ttl=minutes, wait=minutes, note="x", dry_run=True), ClaimResult)
    assert_type(ledger.submit("a", priority=5, meta={"branch": "x"}, after=["b"]), Claim)
    assert_type(ledger.withdraw("a", reason="a mistake"), Claim)
    assert_type(ledger.renew("a", ttl=minutes), Claim)
    assert_type(ledger.complete("a", result="merged"), Claim)
    assert_type(ledger.release("a", reason="gone", force=True), Claim)
    assert_type(ledger.require("a", by="bob", epoch=1, check="here"), Claim)
    assert_type(ledger.tasks(), list[Claim])
    assert_type(ledger.some_tasks(["open"], "bob", 10, labels=["a"], stuck=True), Listing)
    assert_type(ledger.some_tasks().tasks, tuple[Claim, ...])
    assert_type(ledger.edit("a", title="A", labels=["x"], not_before=None), Claim)
    ledger.edit("a", body="x")  # type: ignore[call-arg]
    ledger.edit("a", priority="5")  # type: ignore[arg-type]
    assert_type(ledger.handoff("a", to="bob", note="yours"), Claim)
    assert_type(ledger.claim_next(labels=["x"], max_attempts=3, resume=True), ClaimResult)
    assert_type(ledger.describe("a"), Description)
    assert_type(ledger.describe("a").parts, dict[str, int])
    assert_type(ledger.paths(), list[Reservation])
    assert_type(ledger.guard(["src", Path("README.md")]), Guarded)
    assert_type(ledger.guard("src").reserved, tuple[Reserved, ...])
    assert_type(ledger.guard([]).age, timedelta)
    assert_type(ledger.history("a"), list[Event])
    assert_type(ledger.push("HEAD:main", task="a", complete=True, result="merged"), Landing)
    claim = ledger.show("a")
    assert_type(claim, Claim)
    assert_type(claim.epoch, int)
    assert_type(claim.agent, str | None)
    assert_type(claim.expires_at, datetime | None)
    assert_type(claim.meta, dict[str, str])
    assert_type(claim.waits_for, tuple[str, ...])
    claim.epoch = 2  # type: ignore[misc]
    stop = threading.Event()
    assert_type(ledger.claim("a", wait=minutes, cancel=stop), ClaimResult)
    assert_type(ledger.claim_next(wait=minutes, cancel=stop), ClaimResult)
    assert_type(ledger.wait("a", until="free", timeout=minutes, cancel=stop), list[Claim])
    ledger.wait("a", cancel=True)  # type: ignore[arg-type]
    ledger.claim(["a", "b"])  # type: ignore[arg-type]
    ledger.claim("a", ttl=30)  # type: ignore[arg-type]


def imports(ledger: Ledger, path: Path) -> None:
    found = ledger.import_from("gptme", path, agents={"b*": "bob"}, secrets="old", dry_run=True)
    assert_type(found, Imported)
    assert_type(found.rows, tuple[ImportedRow, ...])
    assert_type(found.counts, dict[str, int])
    ledger.import_from("github", "x", repository="o/r", source="s", before=lambda plan: None)
    ledger.import_from("beads", path, agents=["bob"])  # type: ignore[arg-type]
    assert_type(ledger.export("csv"), str)
    assert_type(ledger.show("a").legacy, Legacy | None)
    assert_type([message.legacy for message in ledger.messages()], list[Legacy | None])


def batches(ledger: Ledger) -> None:
    with ledger.batch() as batch:
        assert_type(batch, Batch)
        batch.submit("a", priority=1)
        batch.claim("a", ttl=timedelta(hours=1))
        batch.renew("a")
        batch.complete("a", result="merged")
        batch.release("b")
        batch.send("hello", to="bob")
        batch.set_fact("k", "v", ttl=timedelta(hours=1), if_rev=0)
        batch.remove_fact("k")
        batch.set_fact("k")  # type: ignore[call-arg]
        batch.line('{"do": "submit", "task": "a"}', lambda text: timedelta(minutes=1))
    assert_type(batch.outcomes, list[Outcome])
    for outcome in batch.outcomes:
        assert_type(outcome.landed, bool)
        assert_type(outcome.seq, int | None)
        assert_type(outcome.error, CoordledgerError | None)


def facts(ledger: Ledger) -> None:
    assert_type(ledger.facts, Facts)
    fact = ledger.facts.set("k", "v", ttl=timedelta(hours=1), if_rev=0)
    assert_type(fact, Fact)
    assert_type((fact.key, fact.value, fact.rev, fact.agent), tuple[str, str, int, str])
    assert_type(fact.expires_at, datetime | None)
    assert_type(ledger.facts.get("k"), Fact)
    assert_type(ledger.facts.list("build/"), list[Fact])
    ledger.facts.remove("k", if_rev=7)
    ledger.facts.set("k", 7)  # type: ignore[arg-type]
    ledger.facts.set("k", "v", ttl=30)  # type: ignore[arg-type]
    ledger.facts.set("k", "v", if_rev="7")  # type: ignore[arg-type]
    fact.value = "w"  # type: ignore[misc]


def messages(ledger: Ledger) -> None:
    message = ledger.send("hello", to="bob", thread=7, importance="high")
    assert_type(message, Message)
    assert_type(message.sent_at, datetime)
    assert_type(ledger.send("hello", channel="general"), Message)
    assert_type(ledger.inbox(), list[Message])
    assert_type(ledger.inbox(wait=timedelta(hours=1), cancel=threading.Event()), list[Message])
    assert_type(ledger.messages("general", 10), list[Message])
    assert_type(ledger.messages(sender="bob", thread=7, since=3)[0].acked, Acked | None)
    assert_type(ledger.ack(1, 2), list[int])
    assert_type(ledger.ack(everything=True), list[int])


def agents(ledger: Ledger, secret: Secret) -> None:
    for agent in ledger.agents():
        assert_type(agent, Agent)
        assert_type(agent.keys, tuple[Key, ...])
    assert_type(ledger.enroll("bob", admin=True), Path)
    assert_type(ledger.enroll("bob", secret=secret), Path)
    ledger.enroll_ssh("bob", "ssh-ed25519 AAAA...", admin=True)
    assert_type(ledger.delegate("x", ssh=True), Delegate)
    assert_type(ledger.purge("bob"), Purged)
    assert_type(ledger.revoke("bob", 1), list[int])
    assert_type(ledger.policy(), dict[str, int])
    assert_type(ledger.policy(max_ttl=60), dict[str, int])


def care(ledger: Ledger) -> None:
    assert_type(ledger.join(depth=100, pin="x"), Head)
    assert_type(ledger.head(refresh=False), Head)
    assert_type(ledger.compare("x").line(), str)
    assert_type(ledger.status(), Status)
    assert_type(
        ledger.audit(full=True, since=1, resume=True, trust=["x"], secrets=[], report="r.md"), Audit
    )
    assert_type(ledger.resolve(), list[Settled])
    damage = ledger.damage()
    assert_type(damage, Damage | None)
    ledger.repair(damage)  # type: ignore[arg-type]
    if damage:
        assert_type(damage.fault, Integrity)
        assert_type(damage.last, Head)
        assert_type(ledger.repair(damage), Head)


def code(ledger: Ledger) -> None:
    found = ledger.blame("HEAD")
    assert_type(found, Blame)
    assert_type(found.landings, tuple[LandRecord, ...])
    made = ledger.prove("HEAD", ref="refs/heads/main", whole=True)
    assert_type(made, bytes)
    proof = coordledger.verify_proof(made, trust=["x"], secrets=[], chain_only=True)
    assert_type(proof, Proof)
    assert_type(proof.keys, tuple[Authority, ...])


def errors(ledger: Ledger) -> None:
    try:
        ledger.claim("a")
    except (Failed, Lost, Integrity, OutcomeUnknown) as fault:
        known: CoordledgerError = fault
        assert_type((known.code, known.message, known.hint), tuple[str, str, str])
        assert_type(known.exit_code, int)
