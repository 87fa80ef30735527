"""Write the vectors: PYTHONPATH=.:tests python -m vectors.make (see README.md here).

Rules: deterministic, so that a test can see whether the files are still what this writes.
The bad commits are put together line by line here, not by the code that they test.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import itertools
import json
import re
from base64 import b64encode
from pathlib import Path

from support.memory_ledger import LEGACY, MASTER, NONCE, SECOND, SKEW, START, MemoryLedger, refused
from support.ssh_keys import SshKey

from coordledger.errors import RuleBroken
from coordledger.format import canonical, records, rules, signing, sshsig, timestamps
from coordledger.format.commit import parse_commit
from coordledger.format.records import apply
from coordledger.format.rules.ledger import POLICY
from coordledger.format.state import fact_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HERE = Path(__file__).parent
SMALL = {
    "channel_messages": 2,
    "channels": 2,
    "inbox_messages": 3,
    "inbox_reserve": 1,
    "max_body": 600,
    "max_fact": 100,
    "max_text": 100,
    "max_ttl": 3600,
    "sender_bytes": 1024,
    "sender_messages": 2,
}


# -- the valid chain


def valid() -> tuple[MemoryLedger, dict[str, int]]:
    """The chain, and its moments: name -> how many records there are by then."""
    ssh = ("grace/1", "grace/3", "carol/2", "alice/3", "alice/4", "frank.x/6", "grace.s/1")
    fleet = MemoryLedger("bob", ssh=ssh)
    moments: dict[str, int] = {}

    def now(moment: str) -> None:
        moments[moment] = len(fleet.log)

    fleet.put("alice", "enroll", who="carol", role="admin")
    fleet.put("alice", "enroll", who="dave")
    now("enrolled")
    fleet.put("alice", "policy", set=SMALL)
    now("small")
    meta = {"note": 'caf\xe9 "\\ \U0001f600', "url": "https://example.org/1"}
    fleet.put("bob", "submit", task="plan#1", priority=5, meta=meta)
    fleet.put("bob", "submit", task="plan#2", after=["plan#1"], priority=-1_000_000)
    now("submitted")
    fleet.put("bob", "claim", tasks=["plan#1"])
    now("held")
    until = timestamps.show(fleet.now + 60 * SECOND)
    note = "three at once:\n\t\x7f\u2028"
    fleet.put("dave", "claim", tasks=["x/1", "x/2", "x/3"], until=until, note=note, session="s2")
    fleet.put("bob", "renew", task="plan#1", until=timestamps.show(fleet.now + 3600 * SECOND))
    now("renewed")
    fleet.put("bob", "send", to="alice", body="x" * 400)
    now("one message")
    fleet.put("carol", "send", channel="general", body="first", importance="low")
    thread = fleet.head.seq
    fleet.put("bob", "send", channel="general", body="second", thread=thread, importance="high")
    fleet.put("dave", "send", channel="general", body="third: the first one is shed")
    fleet.put("bob", "send", to="alice")
    now("two from bob")
    fleet.put("carol", "send", to="alice", thread=thread, importance="high")
    now("inbox full")
    inbox = [message["seq"] for message in fleet.state.inbox("alice")]
    fleet.put("alice", "ack", messages=inbox[:1])
    now("acked")
    fleet.put("alice", "ack", messages=inbox[1:])
    fleet.put("bob", "complete", task="plan#1", result="merged as 0123abc")
    now("done")
    fleet.put("carol", "claim", tasks=["plan#2"])
    fleet.put("carol", "release", task="plan#2", reason="no time")
    now("released")
    fleet.put("bob", "claim", tasks=["plan#2"])
    fleet.put("alice", "release", task="plan#2", force=True, reason="bob's machine is gone")
    same = fleet.put("bob", "void").commit.record["op"]
    fleet.put("carol", "void", op=same)  # another agent's intent may have the same number
    now("before takeover")
    fleet.now = timestamps.parse(until) + SKEW
    fleet.put("bob", "claim", tasks=["x/1"])
    fleet.put("dave", "claim", tasks=["plan#1"], reopen=True)
    fleet.put("alice", "enroll", who="alice")
    fleet.put("alice", "revoke", who="alice", id=1)  # a key can sign its own revocation
    fleet.put("alice", "enroll", who="bob", role="admin", key=2)
    fleet.put("bob", "void", key=2)
    fleet.put("alice", "revoke", who="dave", key=2)
    now("revoked")
    fleet.put("bob", "send", channel="ops")
    now("channels full")
    behind = timestamps.show(SECOND * fleet.head.committed - 2 * SKEW)
    fleet.put("bob", "void", at=behind)  # just not too late, and its author's date falls
    old = parse_commit(*fleet.log[moments["enrolled"]])
    fleet.put("bob", "void", base={"digest": old.digest, "seq": old.seq})
    fleet.put("carol", "ack", messages=_sent_to("carol", fleet))
    fleet.put("carol", "submit", task="gone", after=["plan#2"])
    fleet.put("carol", "submit", task="waits", after=["gone", "plan#2"])
    now("offered")
    fleet.put("carol", "withdraw", task="gone", reason="a mistake")
    fleet.put("bob", "withdraw", task="plan#2")
    now("withdrawn")
    fleet.put("carol", "submit", task="gone", after=["waits"])  # another task of that name
    fleet.put("carol", "claim", tasks=["waits"])  # for nothing any more
    fleet.put("carol", "submit", task="plan#2", after=["plan#1"], priority=3)
    fleet.put("alice", "withdraw", task="x/2", key=2)
    fleet.put("alice", "drop", channel="ops", key=2)
    fleet.put("alice", "enroll", who="grace", key=2)
    now("ssh")
    fleet.put("grace", "claim", tasks=["y"], note="signed with an SSH key")
    fleet.put("alice", "enroll", who="grace", key=2)  # from one algorithm to the other, and back
    fleet.put("grace", "void", key=2)
    fleet.put("alice", "enroll", who="grace", key=2)
    fleet.put("alice", "revoke", who="grace", id=1, key=2)
    fleet.put("grace", "void", key=3)
    fleet.put("alice", "enroll", who="carol", key=2, role="admin")
    fleet.put("carol", "send", to="grace", key=2)
    now("owner without")
    fleet.put("alice", "enroll", who="alice", key=2)
    now("both")
    fleet.put("alice", "policy", set={"require_alg": 1}, key=3)
    now("ssh only")
    fleet.put("grace", "void", key=3)
    fleet.put("alice", "enroll", who="alice", key=3)
    fleet.put("alice", "revoke", who="alice", id=3, key=3)
    fleet.put("carol", "policy", set={"require_alg": 0}, key=2)
    fleet.put("bob", "void", key=2)
    _facts_of(fleet, now)
    _put_delegates(fleet, now)
    _describe_and_hand_over(fleet, now)
    _bring_in(fleet, now)
    _use_the_reserve(fleet, now)
    now("end")
    return fleet, moments


def _on_one_page(count: int) -> list[str]:
    """Keys of facts that stand on the page of the first one."""
    keys = (f"fact/{n}" for n in itertools.count())
    page = fact_path("fact/0")
    return list(itertools.islice((key for key in keys if fact_path(key) == page), count))


def _facts_of(fleet: MemoryLedger, now: Callable[[str], None]) -> None:
    """Facts that are set, replaced, removed, set anew, and left behind by their end."""
    one, two, three = _on_one_page(3)
    fleet.put("carol", "fact", fact=one, value='first "\\ caf\xe9\x1b', key=2)
    fleet.put("grace", "fact", fact=one, value="", key=3)
    until = timestamps.show(fleet.now + 60 * SECOND)
    fleet.put("grace", "fact", fact=two, until=until, key=3)
    fleet.put("bob", "fact", fact="elsewhere", until=until, key=2)
    fleet.put("bob", "fact", fact='~"\\,', key=2)
    now("facts")
    fleet.put("bob", "fact", fact=one, value=None, key=2)
    now("removed")
    fleet.put("grace", "fact", fact=one, value="anew", key=3)  # at a revision that it never had
    now("anew")
    fleet.now = timestamps.parse(until) + 2 * SKEW
    now("ended")
    fleet.put("bob", "fact", fact="elsewhere", was=0, key=2)  # where an ended one stands
    fleet.put("bob", "fact", fact=three, key=2)  # the ended one on its page leaves
    fleet.put("bob", "fact", fact=three, value=None, key=2)
    fleet.put("grace", "fact", fact=one, value=None, key=3)  # the last one: the page leaves, too


def _put_delegates(fleet: MemoryLedger, now: Callable[[str], None]) -> None:
    """Frank's delegates on all levels, of both algorithms; a key of his ends, and they with it."""
    fleet.put("alice", "enroll", who="frank", key=2)
    fleet.put("frank", "enroll", who="frank.a")
    fleet.put("frank.a", "enroll", who="frank.a.b")
    fleet.put("frank", "enroll", who="frank.a.c")  # indirectly below
    fleet.put("frank.a.b", "enroll", who="frank.a.b.d", key=2, under=2)
    fleet.put("alice", "enroll", who="frank.w", key=2)  # by an admin
    fleet.put("frank", "enroll", who="frank.x")  # an SSH key under a secret
    fleet.put("grace", "enroll", who="grace.s", key=3, under=3)
    now("delegates")
    fleet.put("frank", "claim", tasks=["f/1"])
    fleet.put("frank.a.b", "claim", tasks=["f/2"], session="s9", key=2)
    fleet.put("frank.x", "submit", task="f/3", key=6)
    fleet.put("alice", "send", to="frank.a.b", key=2)
    fleet.put("frank.w", "send", to="grace.s", key=5)
    fleet.put("grace.s", "ack", messages=[fleet.head.seq])
    fleet.put("frank.a.b.d", "void", key=4)
    now("delegates busy")
    fleet.put("frank.a", "release", task="f/2", force=True)  # what is held below
    fleet.put("frank", "withdraw", task="f/3")  # what was offered below
    fleet.put("alice", "enroll", who="frank", key=2)
    fleet.put("frank", "enroll", who="frank.a", key=2, under=2)
    fleet.put("frank", "enroll", who="frank.y", key=2, under=2)
    now("frank has two keys")
    fleet.put("frank", "revoke", who="frank.w", key=2)  # of the other key
    fleet.put("alice", "revoke", who="frank", id=1, key=2)
    now("frank's first key ended")
    fleet.put("frank.y", "void", key=8)
    fleet.put("frank.a", "enroll", who="frank.a.b", key=7, under=7)  # the name comes again
    fleet.put("frank.a.b", "claim", tasks=["f/2"], key=9)
    fleet.put("frank", "revoke", who="frank.y", key=2)


def _describe_and_hand_over(fleet: MemoryLedger, now: Callable[[str], None]) -> None:
    body = "What has to be done:\n- \xfc\n"
    title, labels = "Log in \u2014 again", ["auth", "ui-2"]
    fleet.put("bob", "submit", task="epic", title=title, labels=labels, body=body)
    later = timestamps.show(fleet.now + 3600 * SECOND)
    fleet.put("bob", "submit", task="part", parent="epic", not_before=later, title="")
    now("described")
    changed = {"labels": ["auth"], "not_before": None, "priority": 7, "title": "One part"}
    fleet.put("bob", "edit", task="part", set=changed)
    changed = {"after": ["plan#1"], "meta": {"size": "l"}, "parent": "plan#1"}
    fleet.put("carol", "edit", task="epic", set=changed, key=2)  # an admin
    fleet.put("carol", "edit", task="epic", set={"after": [], "parent": None}, key=2)
    paths = ["README.md", "src/\xe9/"]
    fleet.put("bob", "claim", tasks=["part"], paths=paths, session="s2")
    fleet.put("bob", "claim", tasks=["epic", "x/3"], paths=["src/b", "src/bc/"])
    now("reserved")
    fleet.put("bob", "edit", task="x/3", set={"priority": 1})  # by its holder
    until = timestamps.show(fleet.now + 1800 * SECOND)
    given = {"task": "part", "session": "s2"}
    fleet.put("bob", "renew", **given, until=until, note="half of it")
    fleet.put("bob", "handoff", **given, to="grace", note="mind the \xe9")
    fleet.put("bob", "renew", **given, until=timestamps.show(fleet.now + 1801 * SECOND))
    now("taken back")
    fleet.put("bob", "handoff", **given, to="carol")
    fleet.put("bob", "handoff", **given, to="grace")
    now("handed over")
    fleet.put("grace", "claim", key=2, tasks=["part", "y2"], paths=["src/\xe9/a"])
    now("taken")
    later = timestamps.show(fleet.now + 600 * SECOND)
    fleet.put("grace", "release", key=2, task="part", not_before=later, reason="not today")
    now("given back")
    fleet.put("bob", "handoff", task="x/3", to="carol")
    first, second = "0" * 39 + "1", "ab" * 20
    fleet.put("bob", "land", task="x/3", old=first, new=second)  # and the offer has ended
    now("landed")
    moved = {"ref": "refs/heads/" + "x" * 244, "old": "cd" * 32, "new": "0" * 64}
    fleet.put("bob", "land", task="epic", **moved, complete=True, result="merged \xe9")
    fleet.put("carol", "claim", key=2, tasks=["epic"], reopen=True)
    fleet.put("carol", "land", key=2, task="epic", ref="refs/tags/v1", complete=True)
    fleet.put("alice", "policy", set={"reopen": 1, "max_attempts": 3}, key=2)
    now("reopened by by")
    fleet.put("bob", "claim", tasks=["epic"], reopen=True)
    fleet.put("bob", "complete", task="epic")
    fleet.put("alice", "policy", set={"reopen": 2}, key=2)
    now("reopened by admins")
    over = timestamps.parse(_line(fleet, "x/3")["until"]) + 2 * SKEW
    fleet.now = over
    fleet.put("grace", "claim", key=2, tasks=["new"], paths=["z"])  # and the others are removed
    fleet.put("carol", "withdraw", key=2, task="x/3")
    now("over")


def _use_the_reserve(fleet: MemoryLedger, now: Callable[[str], None]) -> None:
    """An inbox whose last eight of sixteen messages are urgent ones: two of each agent."""
    policy = {"inbox_messages": 16, "inbox_reserve": 128, "max_body": 20_000}
    policy |= {"sender_bytes": 131_072, "sender_messages": 16}
    fleet.put("alice", "policy", set=policy, key=2)
    urgent = {"to": "alice", "importance": "high"}
    fleet.put("frank.a", "send", key=7, **urgent)
    for _ in range(7):
        fleet.put("bob", "send", to="alice", key=2)
    now("at the reserve")
    fleet.put("frank", "send", key=2, **urgent)
    now("two from frank and below")
    fleet.put("bob", "send", key=2, **urgent)
    fleet.put("alice", "policy", set={"inbox_reserve": 0}, key=2)
    for _ in range(2):
        fleet.put("bob", "send", to="alice", key=2)
    fleet.put("alice", "policy", set={"inbox_reserve": 4}, key=2)
    now("a share of one")
    fleet.put("grace", "send", key=2, **urgent)


def _bring_in(fleet: MemoryLedger, now: Callable[[str], None]) -> None:
    """Tasks and messages from elsewhere: offered, done, withdrawn, claimed with the next epoch."""
    until = timestamps.show(fleet.now + 600 * SECOND)
    given: dict[str, Any] = {"title": "Gr\xf6\xdfe", "labels": ["old"], "body": "as it was\n"}
    offer = {"agent": "grace", "until": until}
    fleet.put(
        "alice",
        "import",
        key=2,
        task="old/1",
        epoch=4,
        attempts=2,
        offer=offer,
        priority=1,
        **given,
    )
    nothing = dict.fromkeys(("agent", "at", "until", "tag")) | {"id": "", "mac": "missing"}
    bare = LEGACY | nothing
    done = {"status": "done", "result": "merged \x1b", "legacy": bare}
    fleet.put("carol", "import", key=2, task="old/2", epoch=3, **done)
    later = timestamps.show(fleet.now + 3600 * SECOND)
    given = {"after": ["old/1"], "parent": "old/2", "not_before": later, "meta": {"a": "b"}}
    given["legacy"] = LEGACY | {"mac": "valid"}
    fleet.put("alice", "import", key=2, task="old/3", **given)
    legacy = LEGACY | {"mac": "invalid"}
    fleet.put("alice", "import", key=2, task="old/4", epoch=1_000_000_000, legacy=legacy)
    fleet.put("carol", "archive", key=2, to="Bob", channel="#old", body="caf\xe9 \x1b")
    fleet.put("alice", "archive", key=2, legacy=bare)
    now("imported")
    fleet.put("carol", "edit", key=2, task="old/2", set={"priority": 1})
    fleet.put("alice", "withdraw", key=2, task="old/3")  # never claimed anywhere: it disappears
    fleet.put("carol", "withdraw", key=2, task="old/4")
    now("import withdrawn")
    fleet.put("bob", "submit", task="old/4")
    now("import submitted")
    fleet.put("grace", "claim", key=2, tasks=["old/1"])
    fleet.put("carol", "claim", key=2, tasks=["old/2"], reopen=True)
    fleet.put("bob", "claim", tasks=["old/4"])
    fleet.put("bob", "complete", task="old/4")


def _line(fleet: MemoryLedger, task: str) -> dict[str, Any]:
    found = fleet.state.task(task)
    assert found
    return found


def valid_ssh() -> MemoryLedger:
    """A ledger that has no secret: everybody verifies all of it."""
    fleet = MemoryLedger("bob", ssh=("alice/1", "alice/2", "bob/1"))
    fleet.put("bob", "claim", tasks=["fix#7"], note="caf\xe9")
    fleet.put("alice", "enroll", who="alice")
    fleet.put("alice", "revoke", who="alice", id=1)
    fleet.put("alice", "release", task="fix#7", key=2, force=True)
    return fleet


def _sent_to(agent: str, fleet: MemoryLedger) -> list[int]:
    return [fleet.put("bob", "send", to=agent).commit.seq]


def _in_sha256(fleet: MemoryLedger) -> MemoryLedger:
    other = MemoryLedger(algo="sha256").at(0)
    for it in fleet.log:
        other.land(parse_commit(*it).signed)
    return other


def chain_file(fleet: MemoryLedger) -> dict[str, Any]:
    other = _in_sha256(fleet)
    rows = []
    for seq, (it, in_256) in enumerate(zip(fleet.log, other.log, strict=True)):
        found = parse_commit(*it)
        changes = apply(fleet.at(seq).state, found.record, seq)
        row: dict[str, Any] = {
            "seq": seq,
            "payload": found.signed.payload.decode(),
            "tag": b64encode(found.signed.tag).decode(),
            "digest": found.digest,
            "files": {path: c and c.decode() for path, c in sorted(changes.items())},
        }
        for algo, (oid, content) in (("sha1", it), ("sha256", in_256)):
            tree = parse_commit(oid, content).tree
            row[algo] = {"tree": tree, "oid": oid, "commit": content.decode().split("\n")}
        rows.append(row)
    numbers = {(r["agent"], r["key"]) for r in (parse_commit(*it).record for it in fleet.log)}
    numbers |= {(name, k["id"]) for name in fleet.state.agents() for k in _keys(fleet, name)}
    keys = {f"{agent}/{key}": fleet.signing_key(agent, key) for agent, key in sorted(numbers)}
    secrets = {name: k.reveal() for name, k in keys.items() if isinstance(k, signing.Secret)}
    seeds = {name: k.seed.hex() for name, k in keys.items() if isinstance(k, SshKey)}
    given = {"master": MASTER.reveal(), "secrets": secrets} if secrets else {}
    return given | {"seeds": seeds, "records": rows}


def _keys(fleet: MemoryLedger, agent: str) -> list[dict[str, Any]]:
    entry = fleet.state.agent(agent)
    assert entry
    keys: list[dict[str, Any]] = entry["keys"]
    return keys


# -- the bad commits


def _unchanged(content: bytes) -> bytes:
    return content


class Draft:
    """The parts of one commit, as they ought to be; a case changes one of them.

    `good` is a record that could stand here; `broken` what the bad one says instead.
    """

    def __init__(self, then: MemoryLedger, agent: str, kind: str, **given: Any) -> None:
        broken = given.pop("broken", {})
        self.then = then
        self.good = then.record(agent, kind, **given)
        self.record = self.good | broken
        self.payload = canonical.encode(self.record)
        self.tag: bytes | None = None
        self.lines: dict[str, str | None] = {}
        self.edit: Callable[[bytes], bytes] = _unchanged
        self.oid: str | None = None
        self.voids = 0

    def without(self, *names: str) -> Draft:
        self.record = {name: v for name, v in self.record.items() if name not in names}
        if self.record.get("kind") == "genesis" and "ledger" not in names:
            self.record["ledger"] = signing.ledger_id(self.record)
        self.payload = canonical.encode(self.record)
        return self

    def spelled(self, old: str, new: str) -> Draft:
        """Another spelling of the payload, and signed as such."""
        assert self.payload.count(old.encode()) == 1, (old, self.payload)
        return self.saying(self.payload.replace(old.encode(), new.encode()))

    def saying(self, payload: bytes) -> Draft:
        self.payload = payload
        return self

    def signed(self, tag: Callable[[bytes], bytes]) -> Draft:
        self.tag = tag(self.payload)
        return self

    def line(self, **lines: str | None) -> Draft:
        self.lines = lines
        return self

    def edited(self, edit: Callable[[bytes], bytes]) -> Draft:
        self.edit = edit
        return self

    def tree(self) -> str:
        head = self.then.chain.head
        none = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
        before = self.then.state.tree.root or none
        if refused(records.check, self.record):
            return before
        changes: list[dict[str, bytes | None]] = []
        seq = head.seq + 1 if head else 0
        if refused(lambda: changes.append(apply(self.then.state, self.record, seq))):
            return before
        return self.then.state.tree.update(changes[0]).root

    def was_right(self) -> bool:
        """Whether the good record makes a valid commit, and that very one."""
        fine = copy.copy(self)
        fine.record, fine.payload = self.good, canonical.encode(self.good)
        fine.tag, fine.lines, fine.edit = None, {}, _unchanged
        try:
            proposal = self.then.chain.propose(self.then.sign(self.good))
        except RuleBroken:
            return False
        return proposal.content == fine.content()

    def changed(self) -> bool:
        """Whether anything was changed about the good record or its commit."""
        whole = self.payload == canonical.encode(self.good) and self.tag is None
        return not whole or bool(self.lines or self.oid) or self.edit is not _unchanged

    def subject(self) -> str:
        for record in (self.record, self.good):
            try:
                return records.subject(record)
            except (LookupError, TypeError, ValueError, AttributeError):
                continue
        raise AssertionError("a good record has a subject")

    def content(self) -> bytes:
        says = self.good | self.record
        head = self.then.chain.head
        try:
            at = timestamps.parse(says["at"]) // 1000
        except ValueError:
            at = timestamps.parse(self.good["at"]) // 1000
        tag = self.tag
        if tag is None:
            key = self.then.signing_key(self.good["agent"], self.good["key"])
            tag = key.sign(self.payload)
        before = bytes.fromhex(head.digest) if head else bytes(32)
        who = f"{says['agent']}/{says['session']} <{says['agent']}@{says['ledger']}>"
        key = f"{says['agent']}/{json.dumps(says['key'])}"
        alg = self.then.alg(self.good["agent"], self.good["key"])
        signature = f"{alg} {key} {b64encode(tag).decode()}"
        digest = hashlib.sha256(before + self.payload + b"\n" + tag).hexdigest()
        lines: dict[str, str | None] = {
            "tree": f"tree {self.tree()}",
            "parent": f"parent {head.oid}" if head else None,
            "author": f"author {who} {at} +0000",
            "committer": f"committer {who} {max(at, head.committed) if head else at} +0000",
            "empty": "",
            "subject": self.subject(),
            "empty2": "",
            "payload": self.payload.decode("latin-1"),
            "empty3": "",
            "signature": f"Coordledger-Signature: {signature}",
            "seq": f"Coordledger-Seq: {head.seq + 1 if head else 0}",
            "digest": f"Coordledger-Digest: {digest}",
            "end": "",
        }
        assert self.lines.keys() <= lines.keys()
        lines |= self.lines
        text = "\n".join(line for line in lines.values() if line is not None)
        return self.edit(text.encode("latin-1"))


def _compact(line: str) -> str | list[Any]:
    parts: list[Any] = []
    at = 0
    for run in re.finditer(r"(.)\1{999,}", line):
        parts += [line[at : run.start()], [run[1], len(run[0])]]
        at = run.end()
    return [*parts, line[at:]] if parts else line


class Cases:
    """The malformed vectors, collected by name."""

    def __init__(self, fleet: MemoryLedger, moments: dict[str, int]) -> None:
        self.fleet, self.moments = fleet, moments
        self.files: dict[str, dict[str, Any]] = {}

    def at(self, moment: str, voids: int = 0) -> MemoryLedger:
        then = self.fleet.at(self.moments.get(moment, 0))
        then.intents = 0xBAD0000
        for _ in range(voids):
            seq = then.head.seq + 1
            then.put("alice", "void", at=then.head.record["at"], op=f"{seq:032x}")
        return then

    def draft(self, moment: str, agent: str, kind: str, **given: Any) -> Draft:
        return Draft(self.at(moment), agent, kind, **given)

    def add(self, section: str, name: str, rule: str, code: str, draft: Draft) -> None:
        assert name not in self.files, name
        assert draft.was_right() or not draft.changed(), name  # so it is wrong in one way only
        content = draft.content()
        lines = [_compact(line) for line in content.decode("latin-1").split("\n")]
        found: dict[str, Any] = {"rule": rule, "section": section, "code": code}
        found["after"] = len(draft.then.log) - draft.voids
        if draft.voids:
            found["voids"] = draft.voids
        found["commit"] = lines
        if draft.oid:
            found["oid"] = draft.oid
        self.files[name] = found


def malformed(fleet: MemoryLedger, moments: dict[str, int]) -> dict[str, dict[str, Any]]:
    cases = Cases(fleet, moments)
    for section in (
        _canonical,
        _values,
        _kinds,
        _signatures,
        _commits,
        _chain,
        _agents,
        _delegates,
        _delegates_rules,
        _tasks,
        _work,
    ):
        section(cases)
    _ssh_keys(cases)
    _ssh_signatures(cases)
    _messages(cases)
    _facts(cases)
    _imports_shape(cases)
    _imports(cases)
    return cases.files


def _canonical(cases: Cases) -> None:
    def claim(note: str = "n") -> Draft:
        return cases.draft("submitted", "bob", "claim", tasks=["plan#1"], note=note)

    def submit(**more: Any) -> Draft:
        return cases.draft("submitted", "bob", "submit", task="new", **more)

    def add(name: str, rule: str, code: str, draft: Draft) -> None:
        cases.add("2", f"json-{name}", rule, code, draft)

    add("space", "there is no white space", "not-canonical", claim().spelled('"v":1', '"v": 1'))
    unsorted = claim()
    members = list(reversed(unsorted.record.items()))
    text = json.dumps(dict(members), separators=(",", ":")).encode()
    add("unsorted", "members are sorted", "not-canonical", unsorted.saying(text))
    twice = claim().spelled('"v":1', '"v":1,"v":1')
    add("name-twice", "no name stands twice in an object", "bad-json", twice)
    deep = claim().spelled('"rev":2', '"rev":2,"rev":2')
    add("name-twice-below", "no name stands twice in an object below", "bad-json", deep)
    spelled = [
        ("fraction", "there are no fractions", "bad-json", "0.0"),
        ("exponent", "there are no exponents", "bad-json", "0e0"),
        ("minus-zero", "zero has no sign", "not-canonical", "-0"),
        ("leading-zero", "numbers have no leading zero", "bad-json", "00"),
        ("too-large-integer", "integers end at 2^53 - 1", "bad-json", "9007199254740992"),
        ("too-small-integer", "integers begin at -2^53 + 1", "bad-json", "-9007199254740992"),
        ("nan", "NaN is no number", "bad-json", "NaN"),
        ("infinity", "Infinity is no number", "bad-json", "Infinity"),
    ]
    for name, rule, code, spelling in spelled:
        draft = submit().spelled('"priority":0', f'"priority":{spelling}')
        add(name, rule, code, draft)
    notes = [
        ("raw-utf-8", "beyond ASCII everything is escaped", "bad-json", "\xe9"),
        ("raw-control", "control characters are escaped", "bad-json", "\x01"),
        ("raw-tab", "a tab is escaped", "bad-json", "\t"),
        ("raw-delete", "U+007F is escaped", "not-canonical", "\x7f"),
        ("upper-case-escape", "escapes are in lower case", "not-canonical", "\\u00E9"),
        ("needless-escape", "no printable ASCII is escaped", "not-canonical", "\\u0041"),
        ("escaped-slash", "a slash is not escaped", "not-canonical", "\\/"),
        ("long-escape", "U+000A is written \\n", "not-canonical", "\\u000a"),
        ("unknown-escape", "there is no escape \\x", "bad-json", "\\x41"),
        ("lone-surrogate", "surrogates come in pairs", "bad-json", "\\ud83d"),
        ("turned-surrogates", "the high surrogate comes first", "bad-json", "\\ude00\\ud83d"),
    ]
    for name, rule, code, spelling in notes:
        add(name, rule, code, claim("@").spelled('"@"', f'"{spelling}"'))
    surrogate = submit(meta={"at": "x"}).spelled('"at":"x"', '"\\ud83d":"x"')
    add("lone-surrogate-name", "surrogates in names come in pairs", "bad-json", surrogate)
    nested = submit(meta={"x": "@"}).spelled('"@"', "[[[[[[[]]]]]]]")
    add("nested", "values are nested at most 8 deep", "bad-json", nested)
    large = cases.draft("enrolled", "bob", "send", to="alice", body="x")
    spare = canonical.MAX_BYTES + 1 - len(large.payload)
    large = large.spelled('"body":"x"', f'"body":"{"x" * (spare + 1)}"')
    add("too-large", "a payload has at most 131,072 bytes", "too-large", large)
    add("broken-off", "the payload is JSON", "bad-json", claim().spelled('"v":1}', '"v":1'))
    add("two-values", "the payload is one value", "bad-json", claim().spelled('"v":1}', '"v":1}{}'))
    add("array", "a record is an object", "bad-record", claim().saying(b"[]"))


def _values(cases: Cases) -> None:
    def add(name: str, rule: str, draft: Draft) -> None:
        cases.add("3", name, rule, "bad-record", draft)

    names = {
        "upper-case": "Bob",
        "leading-dash": "-s1",
        "leading-underscore": "_s1",
        "dot": "s.1",
        "too-long": "s" * 65,
        "empty": "",
        "space": "s 1",
    }
    for name, value in names.items():
        draft = cases.draft("small", "bob", "void", broken={"session": value})
        add(f"identifier-{name}", "an identifier is [a-z0-9][a-z0-9_-]{0,63}", draft)
    tasks = {
        "space": "a b",
        "too-long": "x" * 201,
        "empty": "",
        "delete": "a\x7f",
        "accent": "\xe9",
    }
    for name, value in tasks.items():
        broken = {"task": value}
        draft = cases.draft("small", "bob", "submit", task="a", broken=broken)
        add(f"task-{name}", "a task id is 1-200 characters, each U+0021-U+007E", draft)
    moments = {
        "zone": "2026-11-21T03:12:00.000+00:00Z",
        "without-milliseconds": "2026-11-21T03:12:00Z",
        "microseconds": "2026-11-21T03:12:00.000000Z",
        "offset": "2026-11-21T03:12:00.000+00:00",
        "lower-case": "2026-11-21t03:12:00.000z",
        "no-such-day": "2026-02-29T03:12:00.000Z",
        "leap-second": "2026-12-31T23:59:60.000Z",
        "hour-24": "2026-11-21T24:00:00.000Z",
        "before-1970": "1969-12-31T23:59:59.999Z",
    }
    for name, value in moments.items():
        rule = "a time is YYYY-MM-DDTHH:MM:SS.mmmZ and real, of 1970-9999, seconds 00-59"
        add(f"time-{name}", rule, cases.draft("small", "bob", "void", broken={"at": value}))
    rule = "an op is 32 hexadecimal digits, in lower case"
    for name, value in (("upper-case", "AB" * 16), ("short", "ab" * 15), ("dashes", "ab-" * 11)):
        draft = cases.draft("small", "bob", "void", broken={"op": value})
        add(f"op-{name}", rule, draft)
    rule = "a digest is 64 hexadecimal digits, in lower case"
    base = cases.draft("small", "bob", "void").good["base"]
    for name, value in (("upper-case", base["digest"].upper()), ("short", base["digest"][:40])):
        broken = {"base": base | {"digest": value}}
        add(f"digest-{name}", rule, cases.draft("small", "bob", "void", broken=broken))
    given = {"to": "alice"}
    for name, value in (("negative", -1), ("boolean", True), ("text", "1")):
        draft = cases.draft("small", "bob", "send", **given, broken={"thread": value})
        add(f"count-{name}", "a count is an integer from 0", draft)
    broken = {"rev": 0}
    draft = cases.draft("small", "bob", "submit", task="a", broken=broken)
    add("positive-zero", "a positive number begins at 1", draft)
    draft = cases.draft("small", "bob", "claim", tasks=["a"], broken={"reopen": 1})
    add("boolean-one", "1 is not true", draft)
    draft = cases.draft("small", "bob", "void", broken={"key": True})
    add("key-true", "true is not 1", draft)


def _kinds(cases: Cases) -> None:
    inbox = cases.at("inbox full").state.inbox("alice")
    given: dict[str, dict[str, Any]] = {
        "enroll": {"who": "erin"},
        "revoke": {"who": "bob"},
        "policy": {"set": {"channels": 3}},
        "submit": {"task": "new"},
        "claim": {"tasks": ["new"]},
        "renew": {"task": "plan#1"},
        "complete": {"task": "plan#1"},
        "release": {"task": "plan#1"},
        "send": {"to": "carol"},
        "ack": {"messages": [inbox[0]["seq"]]},
        "withdraw": {"task": "plan#2"},
        "edit": {"task": "plan#2", "set": {"priority": 1}},
        "handoff": {"task": "plan#1", "to": "carol"},
        "land": {"task": "plan#1"},
        "drop": {"channel": "general"},
        "fact": {"fact": "image"},
        "import": {"task": "new"},
    }

    def draft(kind: str, /, **broken: Any) -> Draft:
        if kind == "genesis":
            made = cases.draft("", "alice", "genesis", broken=broken)
            if "ledger" not in broken:
                made.record["ledger"] = signing.ledger_id(made.record)
                made.payload = canonical.encode(made.record)
            return made
        by_alice = ("enroll", "revoke", "policy", "ack", "drop", "import", "archive")
        agent = "alice" if kind in by_alice else "bob"
        moment = "held" if kind == "renew" else "inbox full"
        return cases.draft(moment, agent, kind, **given.get(kind, {}), broken=broken)

    def add(name: str, rule: str, made: Draft, code: str = "bad-record") -> None:
        cases.add("4", name, rule, code, made)

    every = "a record has exactly the common fields and the fields of its kind"
    for kind in rules.MODULES:
        last = next(reversed(records.COMMON | rules.kind_of(kind).fields))
        last = "session" if kind == "void" else last
        add(f"{kind}-misses-{last}", f"{every}: {last} is missing", draft(kind).without(last))
        add(f"{kind}-says-more", f"{every}: none has color", draft(kind, color=None))
    add("v-zero", "v is 1", draft("void", v=0))
    add("v-text", "v is an integer", draft("void", v="1"))
    newer = "a v above 1 is made by a newer version"
    add("newer-v", newer, draft("void", v=2), "newer-version")
    unknown = "an unknown kind is made by a newer version"
    add("newer-kind", unknown, draft("void", kind="merge"), "newer-version")
    add("newer-upgrade", "upgrade is reserved", draft("void", kind="upgrade"), "newer-version")
    add("kind-null", "a kind is a name", draft("void", kind=None))
    add("base-null", "only a genesis record has no base", draft("void", base=None))
    base = draft("void").good["base"]
    add("genesis-base", "a genesis record has no base", draft("genesis", base=base))
    add("base-says-more", "a base is a digest and a seq", draft("void", base=base | {"x": 1}))
    wrong: list[tuple[str, str, str, dict[str, Any]]] = [
        ("genesis-alg", "the algorithm is one of two", "genesis", {"alg": "hmac-sha1"}),
        ("enroll-alg", "the algorithm is one of two", "enroll", {"alg": "none"}),
        ("enroll-role", "a role is agent or admin", "enroll", {"role": "owner"}),
        ("policy-empty", "a policy record sets a key or more", "policy", {"set": {}}),
        ("policy-skew", "max_skew never changes", "policy", {"set": {"max_skew": 30}}),
        ("policy-unknown", "it sets keys of section 7", "policy", {"set": {"color": 1}}),
        ("priority-low", "a priority is at least -1,000,000", "submit", {"priority": -1_000_001}),
        ("priority-high", "a priority is at most 1,000,000", "submit", {"priority": 1_000_001}),
        (
            "meta-many",
            "meta has at most 16 members",
            "submit",
            {"meta": {f"m{n:02}": "" for n in range(17)}},
        ),
        ("meta-name", "names in meta are identifiers", "submit", {"meta": {"A": ""}}),
        ("meta-number", "values in meta are texts", "submit", {"meta": {"a": 1}}),
        ("meta-long", "a value in meta has size 1,024", "submit", {"meta": {"a": "\xe9" * 171}}),
        (
            "meta-bytes",
            "the canonical form of meta has at most 4,096 bytes",
            "submit",
            {"meta": dict.fromkeys("abcd", "x" * 1017)},
        ),
        (
            "after-many",
            "after has at most 16 ids",
            "submit",
            {"after": [f"t{n:02}" for n in range(17)]},
        ),
        ("after-unsorted", "after is sorted", "submit", {"after": ["plan#2", "plan#1"]}),
        ("after-bytes", "after is sorted by bytes", "submit", {"after": ["plan#1", "X/1"]}),
        ("after-twice", "after has no duplicates", "submit", {"after": ["plan#1", "plan#1"]}),
        ("title-long", "a title has size 256", "submit", {"title": "\xe9" * 42 + "abcde"}),
        ("title-number", "a title is a text or null", "submit", {"title": 1}),
        (
            "labels-many",
            "there are at most 16 labels",
            "submit",
            {"labels": [f"l{n:02}" for n in range(17)]},
        ),
        ("labels-unsorted", "labels are sorted", "submit", {"labels": ["b", "a"]}),
        ("labels-twice", "labels have no duplicates", "submit", {"labels": ["a", "a"]}),
        ("labels-name", "labels are identifiers", "submit", {"labels": ["A"]}),
        ("parent-name", "a parent is a task id or null", "submit", {"parent": "a b"}),
        ("not-before-day", "a moment is a time or null", "submit", {"not_before": "2026-11-21"}),
        ("body-number", "a body is a text or null", "submit", {"body": 1}),
        ("edit-nothing", "an edit sets a field or more", "edit", {"set": {}}),
        ("edit-body", "a body is never edited", "edit", {"set": {"body": "x"}}),
        ("edit-task", "an edit sets attributes alone", "edit", {"set": {"epoch": 1}}),
        ("edit-title", "what is set has its form", "edit", {"set": {"title": "x" * 257}}),
        ("edit-array", "what is set is an object", "edit", {"set": ["title"]}),
        ("renew-note-number", "a note is a text or null", "renew", {"note": 1}),
        ("release-not-before", "a moment is a time or null", "release", {"not_before": 1}),
        ("handoff-to-null", "an offer is made to an agent", "handoff", {"to": None}),
        ("handoff-note-number", "a note is a text or null", "handoff", {"note": 1}),
        ("land-old-short", "an object id has 40 or 64 digits", "land", {"old": "0" * 39}),
        ("land-old-case", "an object id is in lower case", "land", {"old": "AB" * 20}),
        ("land-lengths", "both ids have one length", "land", {"new": "12" * 32}),
        ("land-nowhere", "a ref moves", "land", {"new": "0" * 40}),
        ("land-complete-null", "complete is a boolean", "land", {"complete": None}),
        ("land-result", "a result goes with complete", "land", {"result": "merged"}),
        *(
            (f"land-ref-{name}", rule, "land", {"ref": ref})
            for name, rule, ref in (
                ("number", "a ref is a text", 1),
                ("short", "a ref begins with refs/", "main"),
                ("long", "a ref has 255 characters", "refs/heads/" + "x" * 245),
                ("ledger", "a ref is none of a ledger's", "refs/coordledger/other"),
                ("for", "a ref is none of refs/for/", "refs/for/main"),
                ("space", "a ref has no space", "refs/heads/a b"),
                ("unicode", "a ref is ASCII", "refs/heads/\xe9"),
                ("glob", "a ref has no glob", "refs/heads/*"),
                ("dots", "a ref has no two dots", "refs/heads/a..b"),
                ("at", "a ref has no @{", "refs/heads/a@{1"),
                ("empty-part", "a ref has no empty part", "refs/heads//a"),
                ("slash", "a ref has no slash at its end", "refs/heads/a/"),
                ("hidden", "no part begins with a dot", "refs/heads/.a"),
                ("lock", "no part ends with .lock", "refs/heads/a.lock/b"),
                ("dot", "a ref has no dot at its end", "refs/heads/a."),
            )
        ),
        (
            "paths-many",
            "a claim has at most 32 paths",
            "claim",
            {"paths": [f"p{n:02}" for n in range(33)]},
        ),
        ("paths-unsorted", "paths are sorted", "claim", {"paths": ["b", "a"]}),
        ("paths-twice", "paths have no duplicates", "claim", {"paths": ["a", "a"]}),
        ("path-number", "a path is a text", "claim", {"paths": [1]}),
        ("path-long", "a path has size 1,024", "claim", {"paths": ["\xe9" * 170 + "abcde"]}),
        ("path-empty", "a path has a part", "claim", {"paths": [""]}),
        ("path-root", "a path is relative", "claim", {"paths": ["/"]}),
        ("path-absolute", "a path is relative", "claim", {"paths": ["/a"]}),
        ("path-empty-part", "no part is empty", "claim", {"paths": ["a//b"]}),
        ("path-empty-end", "no part is empty", "claim", {"paths": ["a//"]}),
        ("path-dot", "no part is .", "claim", {"paths": ["./a"]}),
        ("path-dot-end", "no part is .", "claim", {"paths": ["a/./"]}),
        ("path-dots", "no part is ..", "claim", {"paths": ["a/../b"]}),
        ("path-nul", "a path has no control character", "claim", {"paths": ["a\0"]}),
        ("path-line", "a path has no control character", "claim", {"paths": ["a\nb"]}),
        ("path-delete", "a path has no control character", "claim", {"paths": ["a\x7f"]}),
        ("path-c1", "a path has no control character", "claim", {"paths": ["a\x9b1m"]}),
        ("claim-nothing", "a claim names a task or more", "claim", {"tasks": []}),
        ("claim-many", "a claim names at most 16 tasks", "claim", {"tasks": _claimed(17)}),
        ("claim-unsorted", "tasks are sorted", "claim", {"tasks": _claimed(2)[::-1]}),
        ("claim-twice", "no task is claimed twice", "claim", {"tasks": _claimed(1) * 2}),
        ("claim-item", "a claimed task is exactly 3 fields", "claim", {"tasks": [{"task": "a"}]}),
        ("note-number", "a note is a text or null", "claim", {"note": 1}),
        ("result-number", "a result is a text or null", "complete", {"result": 1}),
        ("reason-object", "a reason is a text or null", "release", {"reason": {}}),
        ("withdraw-reason-number", "a reason is a text or null", "withdraw", {"reason": 1}),
        ("drop-name", "a channel is an identifier", "drop", {"channel": "General"}),
        ("fact-value-number", "a value is a text or null", "fact", {"value": 1}),
        ("fact-key", "a key has the form of a task id", "fact", {"fact": "a b"}),
        ("fact-removes-nothing", "a removal names what it removes", "fact", {"value": None}),
        (
            "fact-removes-until",
            "a removal has no end",
            "fact",
            {"value": None, "was": 1, "until": "2026-11-21T04:00:00.000Z"},
        ),
        ("force-null", "force is a boolean", "release", {"force": None}),
        ("send-to-both", "a message has one addressee", "send", {"channel": "general"}),
        ("send-to-nobody", "a message has an addressee", "send", {"to": None}),
        ("send-importance", "importance is one of three", "send", {"importance": "urgent"}),
        ("send-empty", "a body is not empty", "send", {"body": ""}),
        ("ack-nothing", "an ack names a message or more", "ack", {"messages": []}),
        ("ack-many", "an ack names at most 256 messages", "ack", {"messages": [*range(257)]}),
        ("ack-unsorted", "messages are ascending", "ack", {"messages": [14, 10]}),
        ("ack-twice", "messages have no duplicates", "ack", {"messages": [10, 10]}),
    ]
    for name, rule, kind, broken in wrong:
        add(name, rule, draft(kind, **broken))
    policy = draft("genesis").good["policy"]
    some = {key: value for key, value in policy.items() if key != "channels"}
    add("genesis-policy-misses", "a policy has every key", draft("genesis", policy=some))
    for key, (_, least, most) in POLICY.items():
        for name, value in (("low", least - 1), ("high", most + 1)):
            rule = f"{key} is {least} to {most}"
            made = draft("genesis", policy=policy | {key: value})
            if key != "max_skew":
                made = draft("policy", set={key: value})
            cases.add("7", f"policy-{key}-{name}", rule, "bad-record", made)


def _claimed(count: int) -> list[dict[str, Any]]:
    return [{"task": f"t{n:02}", "rev": 1, "epoch": 1} for n in range(count)]


def _signatures(cases: Cases) -> None:
    def void(agent: str = "bob") -> Draft:
        return cases.draft("small", agent, "void")

    def add(name: str, rule: str, draft: Draft, code: str = "bad-signature") -> None:
        cases.add("5", f"tag-{name}", rule, code, draft)

    right = void().then.secret("bob").sign
    add("turned", "the tag is the payload's MAC", void().signed(lambda p: _turned(right(p))))
    add("truncated", "a tag has all its 32 bytes", void().signed(lambda p: right(p)[:16]))
    add("one-byte-less", "a tag has all its 32 bytes", void().signed(lambda p: right(p)[:31]))
    add("longer", "a tag has 32 bytes", void().signed(lambda p: right(p) + b"\0"))
    add("empty", "a tag has 32 bytes", void().signed(lambda _: b""))
    add("zero", "the tag is the payload's MAC", void().signed(lambda _: bytes(32)))
    add(
        "anothers",
        "the tag is by the signer's secret",
        void().signed(void().then.secret("dave").sign),
    )
    add("masters", "the tag is not by the master secret", void().signed(MASTER.sign))
    add("next-key", "the tag is by the named key", void().signed(void().then.secret("bob", 2).sign))
    key = void().then.secret("bob")
    plain = key.reveal().encode()

    def framed(kind: str) -> Callable[[bytes], bytes]:
        return lambda payload: key._mac(kind, payload)

    def bare(payload: bytes) -> bytes:
        return hmac.digest(plain, payload, "sha256")

    add("bare", "the MAC is over PAE(type, payload)", void().signed(bare))
    add("other-type", "the type is that of records", void().signed(framed("coordledger.key.v1")))
    other = void()
    other.payload = canonical.encode(other.record | {"op": "0" * 32})
    tag = right(other.payload)
    add("of-another-record", "the tag is of this payload", void().signed(lambda _: tag))
    made = cases.draft("", "alice", "genesis")
    made.signed(made.then.secret("bob").sign)
    add("genesis", "a genesis record's tag is by its own key", made)

    def respelled(edit: Callable[[str], str]) -> Draft:
        draft = void()
        line = next(
            line
            for line in draft.content().decode().split("\n")
            if line.startswith("Coordledger-Signature")
        )
        return draft.line(signature=edit(line))

    spelled = {
        "missing": ("the signature line has a tag", lambda line: line.rsplit(" ", 1)[0]),
        "unpadded": ("base64 is padded", lambda line: line[:-1]),
        "url-base64": ("base64 is of RFC 4648 section 4", lambda line: line[:-5] + "_-_-="),
        "not-base64": ("the tag is base64", lambda line: line[:-5] + "!!!!="),
        "spare-bits": ("base64 has no stray bits", lambda line: line[:-2] + _next(line[-2]) + "="),
    }
    for name, (rule, edit) in spelled.items():
        add(name, rule, respelled(edit), "bad-commit")
    line = "Coordledger-Signature: hmac-sha256 bob/1 "
    upper = respelled(lambda text: text.replace("hmac-sha256", "HMAC-SHA256"))
    cases.add("6", "line-alg", "the alg is that of the key's entry", "bad-commit", upper)
    for name, who in (("agent", "dave/1"), ("key", "bob/2")):
        edited = respelled(lambda text, who=who: text.replace(line, line.replace("bob/1", who)))
        cases.add("6", f"line-{name}", "the line names the record's key", "bad-commit", edited)


def _turned(tag: bytes) -> bytes:
    return tag[:-1] + bytes([tag[-1] ^ 1])


# -- SSH keys

# Points of the curve, found by hand: y of a point that is not of small order, and below 19, so that
# y + p is another encoding of it; and y of no point.
LOW_Y, NO_POINT_Y = 3, 2
ORDER_8_Y = 2707385501144840649318225287225658788936804267575313519463743609750303402022


def _point(y: int) -> bytes:
    return y.to_bytes(32, "little")


def _ssh_keys(cases: Cases) -> None:
    """Keys that nobody may enrol."""

    def add(name: str, rule: str, verifier: str, alg: str = signing.SSH, **given: Any) -> None:
        broken = {"alg": alg, "verifier": verifier}
        draft = cases.draft("small", "alice", "enroll", who="grace", broken=broken)
        if given.get("genesis"):
            draft = cases.draft("", "alice", "genesis", broken=broken)
            draft.record["ledger"] = signing.ledger_id(draft.record)
            draft.payload = canonical.encode(draft.record)
        cases.add("5", f"key-{name}", rule, "bad-record", draft)

    key = SshKey.of("grace/1")
    p = sshsig.P
    small = {"y-0": 0, "y-1": 1, "y-minus-1": p - 1, "order-8": ORDER_8_Y}
    small |= {"order-8-too": p - ORDER_8_Y, "order-8-turned": ORDER_8_Y + 2**255}
    for name, y in small.items():
        rule = "a public key is not of small order"
        add(f"small-{name}", rule, sshsig.encode_key(_point(y)))
    add("small-genesis", rule, sshsig.encode_key(_point(1)), genesis=True)
    rule = "the encoding of a public key is canonical"
    add("not-canonical", rule, sshsig.encode_key(_point(p + LOW_Y)))
    add("not-canonical-too", rule, sshsig.encode_key(_point(p + LOW_Y + 2**255)))
    add("not-canonical-small", rule, sshsig.encode_key(_point(p)))
    add("no-point", "a public key is a point", sshsig.encode_key(_point(NO_POINT_Y)))

    def wire(*parts: bytes) -> str:
        return b64encode(b"".join(map(sshsig.string, parts))).decode()

    rule = "a public key is of the type ssh-ed25519"
    add("rsa", rule, wire(b"ssh-rsa", b"\1\0\1", b"\0" + b"\xc5" * 255))
    add("security-key", rule, wire(b"sk-ssh-ed25519@openssh.com", key.raw, b"ssh:"))
    add("ed448", rule, wire(b"ssh-ed448", key.raw + key.raw[:25]))
    rule = "a public key is exactly these 51 bytes"
    add("31-bytes", rule, wire(b"ssh-ed25519", key.raw[:31]))
    add("33-bytes", rule, wire(b"ssh-ed25519", key.raw + b"\0"))
    add("more", rule, wire(b"ssh-ed25519", key.raw, b""))
    add("raw", rule, b64encode(key.raw).decode())
    rule = "a public key is the second word of OpenSSH's line"
    add("line", rule, f"ssh-ed25519 {key.public}")
    add("comment", rule, f"{key.public} grace@desk")
    add("line-end", rule, f"{key.public}\n")
    add("url-base64", rule, key.public[:-2] + "-_")
    add("accent", rule, key.public[:-1] + "\xe9")
    rule = "a verifier is that of the algorithm beside it"
    add("fingerprint", rule, "ab" * 32)
    add("under-hmac", rule, key.public, alg=signing.HMAC)
    rule = "the algorithm is one of two"
    for alg in ("ssh-rsa", "ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com"):
        add(f"alg-{alg.partition('@')[0]}", rule, key.public, alg=alg)


def _signed_data(payload: bytes, **other: bytes) -> bytes:
    parts = {"namespace": b"coordledger.record.v1", "reserved": b"", "hash": b"sha512"}
    parts |= {"digest": hashlib.sha512(payload).digest()} | other
    return b"SSHSIG" + b"".join(map(sshsig.string, parts.values()))


def _ssh_signatures(cases: Cases) -> None:
    key = SshKey.of("grace/1")

    def void(agent: str = "grace") -> Draft:
        return cases.draft("ssh", agent, "void")

    def add(name: str, rule: str, tag: Callable[[bytes], bytes], agent: str = "grace") -> None:
        draft = void(agent).signed(tag)
        cases.add("5", f"ssh-{name}", rule, "bad-signature", draft)

    rule = "the tag is a signature of the payload"
    add("turned", rule, lambda payload: _turned(key.sign(payload)))
    add("turned-r", rule, lambda payload: bytes([key.sign(payload)[0] ^ 1]) + key.sign(payload)[1:])
    add("zero", rule, lambda _: bytes(64))
    add("of-another-payload", rule, lambda payload: key.sign(payload + b" "))
    add("anothers", "the tag is by the named key", SshKey.of("grace/3").sign)
    rule = "a tag of ssh-ed25519 has 64 bytes"
    add("empty", rule, lambda _: b"")
    add("one-byte-less", rule, lambda payload: key.sign(payload)[:63])
    add("longer", rule, lambda payload: key.sign(payload) + b"\0")
    add("wire-form", rule, lambda payload: sshsig.string(b"ssh-ed25519") + key.sign(payload))
    add("hmac", rule, void().then.secret("grace").sign)
    add("under-hmac", "a tag of hmac-sha256 has 32 bytes", SshKey.of("bob/1").sign, agent="carol")

    def more(payload: bytes) -> bytes:
        tag = key.sign(payload)
        return tag[:32] + (int.from_bytes(tag[32:], "little") + sshsig.L).to_bytes(32, "little")

    add("s-too-large", "S is below L", more)
    a = _scalar(key)

    def with_r(r: bytes) -> Callable[[bytes], bytes]:
        """By the key, with the neutral point for R, which is written as `r`."""

        def tag(payload: bytes) -> bytes:
            hashed = hashlib.sha512(r + key.raw + _signed_data(payload)).digest()
            s = int.from_bytes(hashed, "little") * a % sshsig.L
            return r + s.to_bytes(32, "little")

        return tag

    add("r-small-order", "R is not of small order", with_r(_point(1)))
    rule = "R is compared byte for byte"
    add("r-not-canonical", rule, with_r(_point(sshsig.P + 1)))
    add("r-minus-zero", rule, with_r(_point(1 + 2**255)))

    def says(name: str, rule: str, data: Callable[[bytes], bytes]) -> None:
        add(name, rule, lambda payload: key.private.sign(data(payload)))

    rule = "the namespace is coordledger.record.v1"
    says("namespace-git", rule, lambda p: _signed_data(p, namespace=b"git"))
    says("namespace-empty", rule, lambda p: _signed_data(p, namespace=b""))
    rule = "the hash is sha512"
    by_256 = {"hash": b"sha256"}
    says("hash", rule, lambda p: _signed_data(p, **by_256, digest=hashlib.sha256(p).digest()))
    says("hash-name", rule, lambda p: _signed_data(p, **by_256))
    says("reserved", "reserved is empty", lambda p: _signed_data(p, reserved=b"x"))
    says("magic", "the message begins with SSHSIG", lambda p: _signed_data(p)[6:])
    says("bare", "what is signed is the message", lambda p: p)
    says("pae", "what is signed is the message", lambda p: signing.pae(sshsig.NAMESPACE, p))
    line = (
        f"Coordledger-Signature: hmac-sha256 grace/1 {b64encode(key.sign(void().payload)).decode()}"
    )
    other = void().line(signature=line)
    cases.add("6", "line-alg-ssh", "the alg is that of the key's entry", "bad-commit", other)


def _scalar(key: SshKey) -> int:
    """The secret scalar of RFC 8032, 5.1.5."""
    h = bytearray(hashlib.sha512(key.seed).digest()[:32])
    h[0] &= 248
    h[31] = h[31] & 127 | 64
    return int.from_bytes(h, "little")


def _next(char: str) -> str:
    """The base64 character whose last bit differs."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(char) ^ 1]


def _commits(cases: Cases) -> None:
    def void(**given: Any) -> Draft:
        return cases.draft("small", "bob", "void", **given)

    def add(name: str, rule: str, draft: Draft, code: str = "bad-commit") -> None:
        cases.add("6", f"commit-{name}", rule, code, draft)

    def replaced(old: bytes, new: bytes) -> Draft:
        draft = void()
        content = draft.content()
        assert content.count(old) >= 1, old
        return draft.edited(lambda content: content.replace(old, new, 1))

    then = void().then
    whole = void().content().decode()
    lines = {line.split(" ")[0].rstrip(":"): line for line in whole.split("\n")}
    at = timestamps.parse(void().good["at"]) // 1000
    other = cases.at("enrolled").head
    add("tree", "the tree is the state after the record", void().line(tree=f"tree {other.tree}"))
    add("parent", "the parent is the newest commit", void().line(parent=f"parent {other.oid}"))
    add("no-parent", "only the genesis commit has no parent", void().line(parent=None))
    two = f"{lines['parent']}\nparent {other.oid}"
    add("two-parents", "a commit has one parent", void().line(parent=two))
    genesis = cases.draft("", "alice", "genesis").line(parent=f"parent {other.oid}")
    add("genesis-parent", "the genesis commit has no parent", genesis)
    for name in ("author", "committer"):
        for what, old, new in (
            ("name", "bob/s1", "bob/s2"),
            ("mail", "<bob@", "<dave@"),
            ("date", f"> {at} ", f"> {at + 1} "),
            ("zone", "+0000", "+0100"),
            ("minus-zone", "+0000", "-0000"),
        ):
            rule = f"the {name} line is derived from the record"
            add(f"{name}-{what}", rule, void().line(**{name: lines[name].replace(old, new)}))
    late = cases.draft("small", "bob", "void", at=timestamps.show(then.now - 20 * SECOND))
    falls = late.content().decode().split("\n")[2].replace("author", "committer")
    add("date-falls", "the committer's date never falls", late.line(committer=falls))
    parts = cases.draft("small", "bob", "void", at=timestamps.show(then.now + 999))
    up = parts.content().decode().split("\n")[2].replace(f"> {at} ", f"> {at + 1} ")
    add("date-rounded-up", "a date is rounded down", parts.line(author=up))
    add("subject", "the subject is the record's", void().line(subject="void"))
    add("no-subject", "there is a subject", void().line(subject=None, empty2=None))
    add("seq", "the seq is the parent's + 1", void().line(seq="Coordledger-Seq: 6"))
    add("seq-zeros", "integers are in decimal", void().line(seq="Coordledger-Seq: 05"))
    again = lines["Coordledger-Digest"].split(" ")
    digest = {"upper-case": again[1].upper(), "short": again[1][:-2], "parents": then.head.digest}
    for name, value in digest.items():
        rule = "the digest is of the parent's digest, payload and tag"
        add(f"digest-{name}", rule, void().line(digest=f"{again[0]} {value}"))
    header = {"encoding": "encoding UTF-8", "gpgsig": "gpgsig none", "mergetag": "mergetag x"}
    for name, line in header.items():
        made = void().line(committer=f"{lines['committer']}\n{line}")
        add(f"header-{name}", "there is no other header", made)
    missing = ("Signature", "Seq", "Digest")
    for name in missing:
        made = void().line(**{name.lower(): None})
        add(f"no-{name.lower()}", f"there is a {name.lower()} line", made)
    turned = f"{lines['Coordledger-Seq']}\n{lines['Coordledger-Signature']}"
    add("order", "the lines have their order", void().line(signature=turned, seq=None))
    more = f"{lines['Coordledger-Digest']}\nSigned-off-by: bob"
    add("trailer", "there are three lines after the payload", void().line(digest=more))
    add("no-end", "the last line ends too", void().line(end=None))
    add("more-end", "nothing comes after the last line", void().line(end="\n"))
    add("no-empty-line", "empty lines set the parts apart", void().line(empty3=None))
    add("cr", "a line ends with one U+000A", replaced(b"\n", b"\r\n"))
    add("space-at-end", "the lines are just these bytes", replaced(b"\n\n", b" \n\n"))
    add("nul", "the lines are just these bytes", replaced(b"void ", b"void\0"))
    add("empty", "a commit has its lines", void().edited(lambda _: b""))
    add("trailer-name", "the names of the lines are these", replaced(b"-Seq:", b"-seq:"))
    made = void()
    made.oid = other.oid
    add("id", "an object's id is the hash of its bytes", made)
    add("tree-word", "the first word is tree", replaced(b"tree ", b""))
    wide = void().edited(lambda content: content + b"x" * 262_144)
    add("too-large", "no valid commit has more than 262,144 bytes", wide, "too-large")


def _chain(cases: Cases) -> None:
    def add(section: str, name: str, rule: str, code: str, draft: Draft) -> None:
        cases.add(section, name, rule, code, draft)

    def void(moment: str, agent: str = "bob", **given: Any) -> Draft:
        return cases.draft(moment, agent, "void", **given)

    def genesis(**given: Any) -> Draft:
        return cases.draft("", "alice", "genesis", **given)

    # 5 and 9, genesis
    draft = genesis(ledger="0" * 32)
    add("5", "genesis-ledger", "the ledger id is certified by the record", "bad-genesis", draft)
    add("9", "genesis-key", "a genesis record's key is 1", "bad-genesis", genesis(key=2))
    again = cases.draft("small", "alice", "genesis")
    add("9", "genesis-again", "there is one genesis record", "bad-genesis", again)
    first = cases.draft("small", "bob", "void")
    first.then = cases.at("")
    add("9", "genesis-missing", "the first record is a genesis record", "bad-genesis", first)
    other = MemoryLedger("bob", policy={"channels": 7}).state.ledger["ledger"]
    add(
        "9.1",
        "another-ledgers",
        "the ledger is the chain's",
        "wrong-ledger",
        void("small", ledger=other),
    )
    # rule 2
    rule = "the signer is enrolled"
    add("9.2", "key-of-nobody", rule, "unknown-key", void("small", "erin"))
    rule = "the signer's file lists the key"
    add("9.2", "key-not-enrolled", rule, "unknown-key", void("small", key=2))
    rule = "a key does not sign after its revocation"
    add("9.2", "key-revoked", rule, "unknown-key", void("revoked", "dave"))
    add("9.2", "key-revoked-owners", rule, "unknown-key", void("revoked", "alice"))
    # rule 3
    then = cases.at("small")
    base = {"digest": then.head.digest, "seq": then.head.seq}
    newer = void("small", base=base | {"seq": then.head.seq + 1})
    add("9.3", "base-newer", "the base is not newer than the parent", "bad-base", newer)
    wrong = void("small", base=base | {"digest": "0" * 64})
    add("9.3", "base-digest", "the base has the chain's digest", "bad-base", wrong)
    shifted = void("small", base=base | {"seq": then.head.seq - 1})
    add("9.3", "base-shifted", "the digest is the one at that seq", "bad-base", shifted)
    far = Draft(cases.at("small", 1025), "bob", "void", base=base)
    far.voids = 1025
    add("9.3", "base-far", "the base is at most 1,024 records back", "bad-base", far)
    # rule 4
    for moment, name in (("held", "claim"), ("one message", "send"), ("done", "complete")):
        then = cases.at(moment)
        found = then.head.record
        again = Draft(then, found["agent"], "void")
        again.record = again.good = found
        again.payload = then.head.signed.payload
        rule = f"the same record does not come again: a {name}"
        add("9.4", f"replay-{name}", rule, "replayed", again)
        given = {"op": found["op"], "base": found["base"], "session": "s9"}
        rule = f"an intent lands once, signed again or not: a {name}"
        draft = void(moment, found["agent"], **given)
        add("9.4", f"replay-{name}-signed-again", rule, "replayed", draft)
    # rule 5
    then = cases.at("revoked")
    edge = SECOND * then.head.committed - 2 * SKEW
    rule = "time falls back by at most two skews"
    add("9.5", "time", rule, "time-backwards", void("revoked", at=timestamps.show(edge - 1)))


def _agents(cases: Cases) -> None:
    def add(
        name: str, rule: str, code: str, moment: str, agent: str, kind: str, **given: Any
    ) -> None:
        cases.add("9", name, rule, code, cases.draft(moment, agent, kind, **given))

    small = "small"
    for rev, word in ((1, "same"), (3, "skipped")):
        rule = "rev is the one before + 1: agents"
        given = {"who": "bob", "rev": rev}
        add(f"rev-enroll-{word}", rule, "stale-rev", small, "alice", "enroll", **given)
        add(f"rev-revoke-{word}", rule, "stale-rev", small, "alice", "revoke", **given)
        given = {"set": {"channels": 3}, "rev": rev + 1}
        rule = "rev is the one before + 1: the policy"
        add(f"rev-policy-{word}", rule, "stale-rev", small, "alice", "policy", **given)
    add(
        "rev-enroll-new",
        "an absent agent's rev is 0",
        "stale-rev",
        small,
        "alice",
        "enroll",
        who="erin",
        rev=2,
    )
    rule = "it takes an admin"
    denied = "not-permitted"
    add("enroll-by-agent", rule, denied, small, "bob", "enroll", who="erin")
    add("enroll-oneself", rule, denied, small, "bob", "enroll", who="bob", role="admin")
    add("revoke-by-agent", rule, denied, small, "bob", "revoke", who="dave")
    add("revoke-oneself", rule, denied, small, "bob", "revoke", who="bob")
    add("policy-by-agent", rule, denied, small, "bob", "policy", set={"channels": 3})
    rule = "only the owner changes the owner's keys"
    add("enroll-the-owner", rule, denied, small, "carol", "enroll", who="alice")
    add("revoke-the-owner", rule, denied, small, "carol", "revoke", who="alice")
    rule = "the owner stays an admin"
    add("enroll-owner-as-agent", rule, denied, small, "alice", "enroll", who="alice", role="agent")
    rule = "a new key has the next number"
    for number, word in ((1, "same"), (3, "skipped")):
        add(f"enroll-{word}-id", rule, "bad-key", small, "alice", "enroll", who="bob", id=number)
    add("enroll-new-id", rule, "bad-key", small, "alice", "enroll", who="erin", id=2)
    rule = "the revoked key exists"
    add("revoke-no-key", rule, "bad-key", small, "alice", "revoke", who="bob", id=2)
    add("revoke-nobody", rule, "bad-key", small, "alice", "revoke", who="erin", id=1)
    rule = "a key is revoked once"
    add("revoke-twice", rule, "bad-key", "revoked", "alice", "revoke", who="dave", key=2)
    rule = "the owner's last key stays"
    add("revoke-last", rule, "last-key", small, "alice", "revoke", who="alice")
    given = {"who": "alice", "id": 2, "key": 2}
    add("revoke-last-of-two", rule, "last-key", "revoked", "alice", "revoke", **given)
    rule, code, only, given = "require_alg is 1", "alg-refused", "ssh only", {"key": 3}
    add("require-alg", f"{rule}: an SSH key signs", code, only, "bob", "void", key=2)
    what = f"{rule}: an SSH key is enrolled"
    add("require-alg-enroll", what, code, only, "alice", "enroll", who="bob", **given)
    add(
        "require-alg-delegate", what, code, only, "grace", "enroll", who="grace.t", under=3, **given
    )
    what = f"{rule}: the owner's last SSH key stays"
    add("require-alg-last", what, "last-key", only, "alice", "revoke", who="alice", id=3, **given)
    given = {"set": {"require_alg": 1}, "key": 2}
    what = f"{rule}: who sets it has an SSH key"
    add("require-alg-by-secret", what, code, "both", "alice", "policy", **given)
    what = f"{rule}: the owner has an SSH key"
    add("require-alg-owner", what, code, "owner without", "carol", "policy", **given)
    policy = cases.draft("", "alice", "genesis").good["policy"] | {"require_alg": 1}
    add("require-alg-genesis", what, code, "", "alice", "genesis", policy=policy)


def _delegates(cases: Cases) -> None:
    delegates, busy = "delegates", "delegates busy"

    def add(section: str, name: str, rule: str, code: str, draft: Draft) -> None:
        cases.add(section, f"delegate-{name}", rule, code, draft)

    names = {
        "dot-first": ".frank",
        "dot-last": "frank.",
        "two-dots": "frank..q",
        "part": "frank.Q",
        "part-minus": "frank.-q",
        "part-long": f"frank.{'q' * 65}",
        "five-parts": "frank.a.b.c.d",
        "too-long": ".".join(["q" * 50, "q" * 50, "q" * 27]),
        "slash": "frank/q",
    }
    rule = "an agent's name is one to four identifiers joined by dots, at most 128 characters"
    for word, name in names.items():
        draft = cases.draft(delegates, "frank", "enroll", who="frank.q", broken={"who": name})
        add("3", f"name-{word}", rule, "bad-record", draft)
    for kind, field, given in (
        ("void", "session", {}),
        ("send", "channel", {"channel": "general"}),
    ):
        draft = cases.draft(busy, "frank", kind, **given, broken={field: "a.b"})
        add("4", field, f"a {field} is an identifier", "bad-record", draft)
    founder = cases.draft("", "alice", "genesis", broken={"agent": "alice.a"})
    founder.record["ledger"] = signing.ledger_id(founder.record)
    founder.payload = canonical.encode(founder.record)
    add("4", "founds", "no delegate founds a ledger", "bad-record", founder)

    def enrolment(word: str, rule: str, who: str = "frank.q", **broken: Any) -> None:
        draft = cases.draft(delegates, "alice", "enroll", who=who, key=2, broken=broken)
        add("4", word, rule, "bad-record", draft)

    enrolment("under-null", "a delegate's key stands under another", under=None)
    enrolment("under-zero", "it stands under a key's number", under=0)
    enrolment("under-without-dot", "only a delegate's does", who="judy", under=1)
    enrolment("admin", "a delegate is no admin", role="admin")


def _delegates_rules(cases: Cases) -> None:
    delegates, busy = "delegates", "delegates busy"
    two, ended, end = "frank has two keys", "frank's first key ended", "end"

    def put(word: str, rule: str, code: str, moment: str, *what: str, **given: Any) -> None:
        cases.add("9", f"delegate-{word}", rule, code, cases.draft(moment, *what, **given))

    denied = "not-permitted"
    rule = "it takes an admin, or a name above"
    for word, signer, key, who in (
        ("another", "grace", 3, "frank.q"),
        ("sibling", "frank.x", 6, "frank.a.q"),
        ("itself", "frank.a", 1, "frank.a"),
        ("upwards", "frank.a", 1, "frank"),
        ("beside", "frank.a", 1, "frank.q"),
    ):
        put(f"enroll-{word}", rule, denied, delegates, signer, "enroll", who=who, key=key)
    for word, signer, key, who in (
        ("another", "grace", 3, "frank.a"),
        ("sibling", "frank.x", 6, "frank.a"),
        ("itself", "frank.a", 1, "frank.a"),
        ("upwards", "frank.a", 1, "frank"),
    ):
        put(f"revoke-{word}", rule, denied, delegates, signer, "revoke", who=who, key=key)
    put(
        "of-nobody",
        "the name above has a key",
        "bad-key",
        ended,
        "alice",
        "enroll",
        who="judy.a",
        key=2,
    )
    rule = "the owner's delegates are the owner's matter"
    owners: dict[str, Any] = {"who": "alice.q", "under": 2, "key": 2}
    put("of-the-owner", rule, denied, ended, "carol", "enroll", **owners)
    rule = "the key that it stands under is valid"
    frank: dict[str, Any] = {"who": "frank.q", "key": 2}
    put("under-none", rule, "bad-key", ended, "frank", "enroll", under=3, **frank)
    put("under-ended", rule, "bad-key", ended, "alice", "enroll", under=1, **frank)
    rule = "a key vouches for itself, and for no other of the same agent"
    put("under-other", rule, "bad-key", two, "frank", "enroll", under=1, **frank)
    below = frank | {"who": "frank.a.q"}
    put("under-other-below", rule, "bad-key", two, "frank", "enroll", under=1, **below)
    rule = "the keys of all below a name are numbered in a row"
    for word, number in (("same", 8), ("skipped", 10)):
        given = frank | {"id": number, "under": 2}
        put(f"id-{word}", rule, "stale-rev", ended, "frank", "enroll", **given)
    again = {"who": "frank.y", "id": 8, "key": 2, "under": 2}
    put("id-again", "no number comes again", "stale-rev", end, "frank", "enroll", **again)
    again = {"who": "frank.x", "id": 1, "key": 2, "under": 2}
    put("id-of-a-new-name", "no number comes again", "stale-rev", ended, "frank", "enroll", **again)
    rule = "a key ends with the one that it stands under"
    for word, signer, key in (
        ("ended", "frank.x", 6),
        ("ended-of-two", "frank.a", 1),
        ("ended-below", "frank.a.b", 2),
        ("ended-deep-below", "frank.a.b.d", 4),
    ):
        put(word, rule, "unknown-key", ended, signer, "void", key=key)
    rule = "a new key of a name revives no old one"
    put("not-revived", rule, "unknown-key", end, "frank.a.b", "void", key=2)
    put("revoked", "a revoked delegate signs nothing", "unknown-key", end, "frank.y", "void", key=8)
    rule = "the addressee has a valid key"
    put("send", rule, "unknown-agent", ended, "grace", "send", to="frank.x", key=3)
    rule = "an inbox ends with its delegate"
    gone = [m["seq"] for m in cases.at(busy).state.inbox("frank.a.b")]
    put("inbox", rule, "not-in-inbox", end, "frank.a.b", "ack", messages=gone, key=9)
    rule = "by force: an admin, or a name above the holder"
    for word, signer, key, task in (
        ("upwards", "frank.a", 1, "f/1"),
        ("sibling", "frank.x", 6, "f/2"),
        ("itself", "frank.a.b", 2, "f/2"),
    ):
        given = {"task": task, "key": key, "force": True}
        put(f"force-{word}", rule, denied, busy, signer, "release", **given)
    rule = "who is above does not hold what is held below"
    for kind in ("renew", "complete", "release"):
        put(kind, rule, "not-holder", busy, "frank.a", kind, task="f/2", session="s9")
    rule = "offered by the signer, or below it"
    given = {"task": "f/3", "key": 1}
    put("withdraw", rule, denied, busy, "frank.a", "withdraw", **given)

    right = cases.at(busy)
    stolen = {
        "masters": MASTER.derive(NONCE, "frank.a", 1),
        "names-above": right.secret("frank"),
        "sibling": right.secret("frank.w", 5),
        "delegate": right.secret("frank.a.b", 2),
        "brother-number": right.secret("frank").derive(NONCE, "frank.a", 2),
    }
    for word, secret in stolen.items():
        rule = "a delegate's secret is derived from the one of the key above"
        draft = cases.draft(busy, "frank.a", "void").signed(secret.sign)
        cases.add("5", f"delegate-secret-{word}", rule, "bad-signature", draft)


def _tasks(cases: Cases) -> None:
    def add(
        name: str, rule: str, code: str, moment: str, agent: str, kind: str, **given: Any
    ) -> None:
        cases.add("9", name, rule, code, cases.draft(moment, agent, kind, **given))

    def until(moment: str, milliseconds: int) -> str:
        return timestamps.show(cases.at(moment).now + milliseconds)

    def lease_end(moment: str, task: str) -> int:
        found = cases.at(moment).state.task(task)
        assert found
        return timestamps.parse(found["until"])

    plan1, plan2 = "plan#1", "plan#2"
    long = "\xe9" * 17  # 102 bytes in a record
    # submit
    add(
        "submit-twice",
        "a task is submitted once",
        "task-exists",
        "held",
        "bob",
        "submit",
        task=plan2,
    )
    rule = "what a task waits for exists"
    add("submit-after", rule, "unknown-task", "held", "bob", "submit", task="n", after=["m"])
    add("submit-after-itself", rule, "unknown-task", "held", "bob", "submit", task="n", after=["n"])
    add(
        "rev-submit",
        "an absent task's rev is 0",
        "stale-rev",
        "held",
        "bob",
        "submit",
        task="n",
        rev=2,
    )
    rule = "a withdrawn task's rev goes on"
    add("rev-submit-withdrawn", rule, "stale-rev", "withdrawn", "bob", "submit", task=plan2, rev=1)
    rule = "what a withdrawn task waits for was there before it"
    given = {"task": plan2, "after": ["x/1"]}
    add("submit-after-newer", rule, "after-newer", "withdrawn", "bob", "submit", **given)
    # withdraw
    verb = "withdraw"
    add("withdraw-unknown", "the task exists", "unknown-task", "held", "bob", verb, task="n")
    rule = "a task is withdrawn by its submitter or an admin"
    add("withdraw-anothers", rule, "not-permitted", "held", "dave", verb, task=plan2)
    rule = "what nobody offered is withdrawn by an admin"
    given = {"task": "x/1", "at": timestamps.show(lease_end("before takeover", "x/1") + SKEW)}
    add("withdraw-unoffered", rule, "not-permitted", "before takeover", "dave", verb, **given)
    rule = "nobody withdraws a held task"
    add("withdraw-held", rule, "held", "held", "bob", verb, task=plan1)
    add("withdraw-held-admin", rule, "held", "held", "carol", verb, task=plan1)
    at = timestamps.show(lease_end("before takeover", "x/1") + SKEW - 1)
    rule = "an expired task can be withdrawn a skew after its end"
    add("withdraw-too-early", rule, "held", "before takeover", "carol", verb, task="x/1", at=at)
    rule = "what is done is not withdrawn"
    add("withdraw-done", rule, "done", "done", "bob", verb, task=plan1)
    rule = "a task is withdrawn once"
    add("withdraw-again", rule, "withdrawn", "withdrawn", "carol", verb, task=plan2)
    add("withdraw-gone", "the task exists", "unknown-task", "withdrawn", "carol", verb, task="gone")
    rule = "rev is the one before + 1: tasks"
    for rev, word in ((1, "same"), (3, "skipped")):
        add(f"rev-withdraw-{word}", rule, "stale-rev", "held", "bob", verb, task=plan2, rev=rev)
    rule = "a reason is within max_text"
    add("withdraw-reason", rule, "text-too-long", "held", "bob", verb, task=plan2, reason=long)
    rule = "a withdrawn task is submitted before it is claimed"
    given: dict[str, Any] = {"tasks": [plan2]}
    add("claim-withdrawn", rule, "withdrawn", "withdrawn", "bob", "claim", **given)
    add(
        "claim-withdrawn-reopen",
        rule,
        "withdrawn",
        "withdrawn",
        "bob",
        "claim",
        **given,
        reopen=True,
    )
    for kind in ("renew", "complete", "release", "handoff", "land"):
        rule, given = "the task is claimed", {"task": plan2, "rev": 8}
        given |= {"to": "carol"} if kind == "handoff" else {}
        add(
            f"{kind}-withdrawn",
            "the task is claimed",
            "withdrawn",
            "withdrawn",
            "bob",
            kind,
            **given,
        )
    # claim
    now, early = "submitted", "held"
    rule = "a lease ends after it begins"
    add(
        "claim-ends-at-once",
        rule,
        "bad-lease",
        now,
        "bob",
        "claim",
        tasks=[plan1],
        until=until(now, 0),
    )
    end = until(now, 3_600_001)
    rule = "a lease is at most max_ttl long"
    add("claim-ttl", rule, "ttl-above-policy", now, "bob", "claim", tasks=[plan1], until=end)
    rule = "a note is within max_text"
    add("claim-note", rule, "text-too-long", now, "bob", "claim", tasks=[plan1], note=long)
    for rev, word in ((1, "same"), (3, "skipped")):
        item = {"task": plan1, "rev": rev, "epoch": 1}
        rule = "rev is the one before + 1: tasks"
        add(f"rev-claim-{word}", rule, "stale-rev", now, "bob", "claim", tasks=[item])
        given = {"task": plan1, "rev": rev + 1}
        for kind in ("renew", "complete", "release", "handoff", "land"):
            more = {"to": "carol"} if kind == "handoff" else {}
            add(f"rev-{kind}-{word}", rule, "stale-rev", early, "bob", kind, **given, **more)
    rule = "a claim raises the epoch by one"
    for epoch, word in ((1, "same"), (3, "skipped")):
        item = {"task": plan2, "rev": 4, "epoch": epoch}
        add(f"epoch-claim-{word}", rule, "wrong-epoch", "released", "bob", "claim", tasks=[item])
    item = {"task": "n", "rev": 1, "epoch": 2}
    add("epoch-claim-new", rule, "wrong-epoch", now, "bob", "claim", tasks=[item])
    rule = "nobody claims a held task"
    add("claim-held", rule, "held", early, "dave", "claim", tasks=[plan1])
    add("claim-held-reopen", rule, "held", early, "dave", "claim", tasks=[plan1], reopen=True)
    add("claim-held-own-session", rule, "already-yours", early, "bob", "claim", tasks=[plan1])
    given = {"tasks": [plan1], "session": "s2"}
    add("claim-held-other-session", rule, "held", early, "bob", "claim", **given)
    rule = "a group is claimed as a whole"
    add("claim-group", rule, "held", early, "dave", "claim", tasks=["a", plan1, "z"])
    take = timestamps.show(lease_end("before takeover", "x/1") + SKEW - 1)
    rule = "an expired task can be taken over a skew after its end"
    given = {"tasks": ["x/1"], "at": take}
    add("claim-too-early", rule, "held", "before takeover", "bob", "claim", **given)
    rule = "a done task is claimed with reopen alone"
    add("claim-done", rule, "done", "done", "dave", "claim", tasks=[plan1])
    rule = "what a task waits for is done"
    add("claim-blocked", rule, "blocked", early, "dave", "claim", tasks=[plan2])
    add("claim-blocked-reopen", rule, "blocked", early, "dave", "claim", tasks=[plan2], reopen=True)
    # held
    over = timestamps.show(lease_end("renewed", "x/1"))
    later = timestamps.show(timestamps.parse(over) + 60_000)
    to = {"to": "carol"}
    more = {"renew": {"until": later}, "complete": {}, "release": {}, "handoff": to, "land": {}}
    for kind, extra in more.items():
        also = to if kind == "handoff" else {}
        given = {"task": "n", **also}
        add(f"{kind}-unknown", "the task exists", "unknown-task", early, "bob", kind, **given)
        add(
            f"{kind}-open",
            "the task is claimed",
            "not-claimed",
            now,
            "bob",
            kind,
            task=plan1,
            epoch=1,
            **also,
        )
        given = {"task": plan1, **also}
        add(f"{kind}-done", "the task is not done", "done", "done", "bob", kind, **given)
        rule = "the signer holds the task"
        add(f"{kind}-by-another", rule, "not-holder", "renewed", "dave", kind, **given)
        rule = "the signer's session holds the task"
        given = {"task": plan1, "session": "s2", **also}
        add(f"{kind}-by-session", rule, "not-holder", "renewed", "bob", kind, **given)
        rule = "the lease is not over"
        given = {"task": "x/1", "session": "s2", "at": over, **extra}
        add(f"{kind}-expired", rule, "expired", "before takeover", "dave", kind, **given)
        rule = "the epoch is the task's"
        given = {"task": plan1, "epoch": 2, **also}
        add(f"epoch-{kind}", rule, "wrong-epoch", early, "bob", kind, **given)
    rule = "a renewal ends later"
    given = {"task": plan1, "until": timestamps.show(lease_end(early, plan1))}
    add("renew-not-later", rule, "not-later", early, "bob", "renew", **given)
    rule = "a renewal is at most max_ttl long"
    given = {"task": plan1, "until": until(early, 3_600_001)}
    add("renew-ttl", rule, "ttl-above-policy", early, "bob", "renew", **given)
    rule = "a result is within max_text"
    add("complete-result", rule, "text-too-long", early, "bob", "complete", task=plan1, result=long)
    rule = "a reason is within max_text"
    add("release-reason", rule, "text-too-long", early, "bob", "release", task=plan1, reason=long)
    given = {"task": plan1, "force": True}
    rule = "force takes an admin"
    add("force-by-holder", rule, "not-permitted", early, "bob", "release", **given)
    rule = "only a claimed task is released by force"
    add("force-open", rule, "not-claimed", now, "carol", "release", **given, epoch=1)
    add("force-done", rule, "done", "done", "carol", "release", **given)
    add("force-unknown", rule, "unknown-task", now, "carol", "release", task="n", force=True)
    rule = "the epoch is the task's"
    add("epoch-force", rule, "wrong-epoch", early, "carol", "release", **given, epoch=2)
    rule = "rev is the one before + 1: tasks"
    add("rev-force", rule, "stale-rev", early, "carol", "release", **given, rev=2)
    rule = "a reason is within max_text"
    add("force-reason", rule, "text-too-long", early, "carol", "release", **given, reason=long)


def _work(cases: Cases) -> None:
    """Descriptions of tasks, offers, paths."""

    def add(
        name: str, rule: str, code: str, moment: str, agent: str, kind: str, **given: Any
    ) -> None:
        cases.add("9", name, rule, code, cases.draft(moment, agent, kind, **given))

    def at(task: str, moment: str, more: int = 0) -> str:
        line = _line(cases.at(moment), task)
        return timestamps.show(timestamps.parse(line["until"] or line["not_before"]) + more)

    then = "described"
    add(
        "submit-body",
        "a body is within max_body",
        "text-too-long",
        then,
        "bob",
        "submit",
        task="n",
        body="x" * 601,
    )
    given: dict[str, Any] = {"task": "n", "parent": "m"}
    add("submit-parent", "a parent exists", "unknown-task", then, "bob", "submit", **given)
    rule = "a parent was there before the task"
    add("submit-in-itself", rule, "unknown-task", then, "bob", "submit", task="n", parent="n")
    given = {"task": "plan#2", "parent": "x/1"}
    add("submit-parent-newer", rule, "parent-newer", "withdrawn", "bob", "submit", **given)
    # edit
    rule = "a task is edited by its submitter, its holder or an admin"
    given = {"task": "part", "set": {"priority": 1}}
    add("edit-anothers", rule, "not-permitted", then, "grace", "edit", key=2, **given)
    given |= {"task": "y"}
    end = at("y", then)
    add("edit-expired", rule, "not-permitted", then, "grace", "edit", key=2, **given, at=end)
    given |= {"session": "s2", "key": 2}
    add("edit-other-session", rule, "not-permitted", then, "grace", "edit", **given)
    given = {"task": "n", "set": {"priority": 1}}
    add("edit-unknown", "the task exists", "unknown-task", then, "bob", "edit", **given)
    given = {"task": "plan#2", "set": {"priority": 1}}
    add("edit-withdrawn", "it is not withdrawn", "withdrawn", "withdrawn", "carol", "edit", **given)
    for rev, word in ((1, "same"), (3, "skipped")):
        rule, given = "rev is the one before + 1: tasks", {"task": "part", "set": {"priority": 1}}
        add(f"rev-edit-{word}", rule, "stale-rev", then, "bob", "edit", **given, rev=rev)
    rule = "what a task waits for was there before it"
    for name, after, code in (
        ("newer", "part", "after-newer"),
        ("itself", "epic", "after-newer"),
        ("unknown", "n", "unknown-task"),
    ):
        given = {"task": "epic", "set": {"after": [after]}}
        add(f"edit-after-{name}", rule, code, then, "bob", "edit", **given)
        given = {"task": "epic", "set": {"parent": after}}
        of_parent = code.replace("after", "parent")
        rule = "a parent was there before the task"
        add(f"edit-parent-{name}", rule, of_parent, then, "bob", "edit", **given)
    # not_before, reopen
    rule = "a task is not claimed before its time"
    add("claim-not-yet", rule, "not-yet", then, "bob", "claim", tasks=["part"])
    rule = "a task that was given back is not claimed before its time"
    early = at("part", "given back", -1)
    given = {"tasks": ["part"], "at": early}
    add("claim-given-back", rule, "not-yet", "given back", "bob", "claim", **given)
    given = {"tasks": ["epic"], "reopen": True, "key": 2}
    rule = "by the policy its submitter or an admin reopens a task"
    add("reopen-anothers", rule, "not-permitted", "reopened by by", "grace", "claim", **given)
    rule = "by the policy an admin reopens a task"
    given = {"tasks": ["epic"], "reopen": True}
    demoted = "reopened by admins"
    add("reopen-no-admin", rule, "not-permitted", demoted, "grace", "claim", key=2, **given)
    # handoff
    # land
    then = "landed"
    given = {"task": "x/3", "complete": True, "result": "x" * 101}
    add(
        "land-result-long",
        "a result is within max_text",
        "text-too-long",
        then,
        "bob",
        "land",
        **given,
    )
    given = {"task": "x/3", "session": "s2"}
    add("land-session", "who lands holds the task", "not-holder", then, "bob", "land", **given)
    then = "reserved"
    given = {"task": "part", "session": "s2"}
    rule = "an offer is made to somebody else"
    add("handoff-to-oneself", rule, "to-oneself", then, "bob", "handoff", **given, to="bob")
    rule = "an offer is made to an enrolled agent"
    add("handoff-to-unknown", rule, "unknown-agent", then, "bob", "handoff", **given, to="erin")
    rule = "an offer is made to an agent with an active key"
    add("handoff-to-revoked", rule, "unknown-agent", then, "bob", "handoff", **given, to="dave")
    rule, note = "a note is within max_text", "x" * 101
    given |= {"note": note}
    add("handoff-note", rule, "text-too-long", then, "bob", "handoff", **given, to="grace")
    add("renew-note", rule, "text-too-long", then, "bob", "renew", **given)
    then, given = "handed over", {"tasks": ["part"]}
    rule = "what is offered to one is taken by no other"
    add("claim-offered", rule, "held", then, "carol", "claim", **given, key=2)
    rule = "an offer ends with the lease"
    end = at("part", then)
    given = {"tasks": ["part"], "at": end, "until": at("part", then, 60_000)}
    add("claim-offer-over", rule, "held", then, "grace", "claim", **given, key=2)
    given = {"tasks": ["part"]}
    rule = "an offer ends with the next record of its giver"
    add("claim-taken-back", rule, "held", "taken back", "grace", "claim", **given, key=2)
    rule = "a claim that takes an offer raises the epoch by one"
    given = {"tasks": [{"task": "part", "rev": 8, "epoch": 1}]}
    add("epoch-claim-offered", rule, "wrong-epoch", then, "grace", "claim", **given, key=2)
    rule = "what was taken over is no longer the giver's"
    given = {"task": "part", "session": "s2"}
    add("renew-taken", rule, "not-holder", "taken", "bob", "renew", **given)
    # paths
    then = "reserved"
    for name, path in (
        ("same", "README.md"),
        ("same-folder", "README.md/"),
        ("same-file", "src/b/"),
        ("below", "src/bc/d"),
        ("above", "src/"),
        ("unicode", "src/\xe9/x/y"),
    ):
        rule = "what is claimed overlaps no path of another's claim"
        given = {"tasks": ["n"], "paths": [path], "key": 2}
        add(f"claim-path-{name}", rule, "reserved", then, "grace", "claim", **given)
    rule = "another session's claim is another's"
    given = {"tasks": ["n"], "paths": ["README.md"], "session": "s3"}
    add("claim-path-session", rule, "reserved", then, "bob", "claim", **given)
    rule = "paths are free a skew after the end of their claim"
    given = {"tasks": ["n"], "paths": ["src/b"], "key": 2, "at": at("epic", then, SKEW - 1)}
    given["until"] = at("epic", then, 2 * SKEW)
    add("claim-path-early", rule, "reserved", then, "grace", "claim", **given)
    rule = "the list of paths has at most 131,072 bytes"
    long = [f"{n:02}{'x' * 1022}" for n in range(32)]
    given = {"tasks": ["n1", "n2", "n3", "n4"], "paths": long, "key": 2}
    add("claim-paths-full", rule, "paths-full", then, "grace", "claim", **given)


def _messages(cases: Cases) -> None:
    def add(
        name: str, rule: str, code: str, moment: str, agent: str, kind: str, **given: Any
    ) -> None:
        cases.add("9", name, rule, code, cases.draft(moment, agent, kind, **given))

    body = "\xe9" * 100 + "x"  # 601 bytes in a record
    rule = "a body is within max_body"
    add("send-body", rule, "text-too-long", "small", "bob", "send", to="alice", body=body)
    add("send-body-channel", rule, "text-too-long", "small", "bob", "send", channel="c", body=body)
    rule = "a thread is a seq that the signer had read"
    thread = cases.at("small").head.seq + 1
    add("send-thread", rule, "bad-thread", "small", "bob", "send", to="alice", thread=thread)
    old = cases.at("small").record("bob", "void")["base"]
    given = {"to": "alice", "thread": old["seq"] + 1, "base": old}
    add("send-thread-unread", rule, "bad-thread", "held", "bob", "send", **given)
    rule = "the addressee is enrolled"
    add("send-to-unknown", rule, "unknown-agent", "small", "bob", "send", to="erin")
    rule = "the addressee has an active key"
    add("send-to-revoked", rule, "unknown-agent", "revoked", "bob", "send", to="dave")
    full = "mailbox-full"
    rule = "an inbox has at most inbox_messages lines"
    urgent = {"to": "alice", "importance": "high"}
    add("send-inbox", rule, full, "inbox full", "dave", "send", **urgent)
    rule = "the reserve of an inbox is for messages of importance high"
    add("send-reserve", rule, full, "two from bob", "carol", "send", to="alice")
    given = {"key": 2, "to": "alice", "importance": "low"}
    add("send-reserve-low", rule, full, "at the reserve", "grace", "send", **given)
    rule = "an agent and those below it get a quarter of the reserve"
    two = "two from frank and below"
    for name, agent, key in (
        ("", "frank", 2),
        ("-above", "frank.a", 7),
        ("-below", "frank.a.b", 9),
    ):
        add(f"send-reserve-share{name}", rule, full, two, agent, "send", key=key, **urgent)
    rule = "a quarter of the reserve is one message at least, and no more if it is less than two"
    add("send-reserve-one", rule, full, "a share of one", "bob", "send", key=2, **urgent)
    rule = "a quarter of the reserve is 16,384 bytes"
    given = {"key": 2, "body": "x" * 16_384, **urgent}
    add("send-reserve-bytes", rule, full, "at the reserve", "grace", "send", **given)
    rule = "a sender has at most sender_messages lines in an inbox"
    add("send-sender-messages", rule, full, "two from bob", "bob", "send", to="alice")
    rule = "a sender has at most sender_bytes bytes in an inbox"
    then = cases.at("one message")
    size = len(then.state.tree.get("inbox/alice.jsonl") or b"")
    room = 1024 - size - (size - 400 + len(f"{then.head.seq + 1}") - len(f"{then.head.seq}"))
    body = "y" * (room + 1)
    add("send-sender-bytes", rule, full, "one message", "bob", "send", to="alice", body=body)
    rule = "there are at most channels channels"
    add("send-channels", rule, "too-many-channels", "channels full", "bob", "send", channel="more")
    rule = "a channel is dropped by an admin"
    add("drop-by-agent", rule, "not-permitted", "inbox full", "bob", "drop", channel="general")
    rule = "a channel that is dropped is there"
    add("drop-unknown", rule, "unknown-channel", "inbox full", "carol", "drop", channel="ops")
    rule = "an ack names messages in the signer's inbox"
    moment = "inbox full"
    inbox = [message["seq"] for message in cases.at(moment).state.inbox("alice")]
    missing = "not-in-inbox"
    add("ack-anothers", rule, missing, moment, "bob", "ack", messages=inbox[:1])
    add("ack-acked", rule, missing, "acked", "alice", "ack", messages=inbox[:1])
    add("ack-channel", rule, missing, moment, "alice", "ack", messages=[inbox[0] + 1])
    add("ack-one-of-two", rule, missing, moment, "alice", "ack", messages=[0, inbox[0]])


def _facts(cases: Cases) -> None:
    def add(name: str, rule: str, code: str, moment: str, **given: Any) -> None:
        cases.add("9", name, rule, code, cases.draft(moment, "grace", "fact", key=3, **given))

    one, two, _ = _on_one_page(3)
    changed, early = "fact-changed", cases.at("ended").state.fact(two)
    assert early
    over = timestamps.parse(early["until"]) + 2 * SKEW
    rule = "a fact takes the place of the one that its signer had read"
    rev = cases.at("facts").head.seq
    for name, was in (("none", 0), ("older", rev - 4), ("newer", rev + 1)):
        add(f"fact-was-{name}", rule, changed, "facts", fact=one, broken={"was": was})
    add("fact-was-absent", rule, changed, "facts", fact="n", broken={"was": rev})
    add("fact-was-anothers", rule, changed, "facts", fact=two, broken={"was": rev})
    rule = "a removed fact never comes back to a revision"
    for name, moment in (("removed", "removed"), ("anew", "anew")):
        add(f"fact-was-{name}", rule, changed, moment, fact=one, broken={"was": rev - 3})
    rule = "what is removed is there"
    given: dict[str, Any] = {"value": None, "was": rev}
    add("fact-removes-none", rule, changed, "removed", fact=one, broken=given)
    rule = "a fact has ended two skews after its end"
    at = timestamps.show(over - 1)
    add("fact-was-none-too-early", rule, changed, "anew", fact=two, at=at, broken={"was": 0})
    rule = "a fact ends after it begins"
    draft = cases.draft("facts", "grace", "fact", key=3, fact="n")
    at_once = {"until": draft.good["at"]}
    add("fact-ends-at-once", rule, "fact-ends-at-once", "facts", fact="n", broken=at_once)
    rule = "a value is within max_fact"
    long = {"value": "\xe9" * 17}  # 102 bytes in a record
    add("fact-value", rule, "text-too-long", "facts", fact="n", broken=long)


def _imports_shape(cases: Cases) -> None:
    at = "2026-11-21T03:40:00.000Z"
    offer = {"agent": "grace", "until": at}

    def add(name: str, rule: str, kind: str, given: dict[str, Any], **broken: Any) -> None:
        given = {"task": "n"} | given if kind == "import" else given
        draft = cases.draft("imported", "alice", kind, key=2, **given, broken=broken)
        cases.add("4", f"{kind}-{name}", rule, "bad-record", draft)

    done = {"status": "done"}
    add("status", "a task is imported as open or done", "import", {}, status="claimed")
    rule = "an epoch is at most 1,000,000,000"
    add("epoch-high", rule, "import", {}, epoch=1_000_000_001)
    add("epoch-negative", "an epoch is at least 0", "import", {}, epoch=-1)
    add("epoch-true", "true is not 1", "import", {}, epoch=True)
    add("attempts-high", "attempts are at most 1,000,000", "import", {}, attempts=1_000_001)
    add("attempts-done", "what is done has no attempts", "import", done, attempts=1)
    add("result-open", "what is open has no result", "import", {}, result="x")
    add("result-number", "a result is a text or null", "import", done, result=1)
    add("offer-done", "what is done is offered to nobody", "import", done, offer=offer)
    more = offer | {"seq": 1}
    add("offer-says-more", "an offer is an agent and a time", "import", {}, offer=more)
    add("offer-nobody", "an offer is an agent and a time", "import", {}, offer={"until": at})
    add("priority", "a priority is at most 1,000,000", "import", {}, priority=1_000_001)
    accent = "\xe9"
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("source-empty", "a source is not empty", {"source": ""}),
        ("source-long", "a source has size 256", {"source": accent * 43}),
        ("id-long", "an id has size 1,024", {"id": accent * 171}),
        ("id-null", "an id is a text", {"id": None}),
        ("agent-long", "an agent's name elsewhere has size 512", {"agent": accent * 86}),
        ("at-form", "a moment is a time or null", {"at": "2026-11-20 00:00:00"}),
        ("until-long", "an end elsewhere has size 64", {"until": accent * 11}),
        ("tag-long", "a tag elsewhere has size 256", {"tag": accent * 43}),
        ("mac-word", "a MAC was one of four", {"mac": "authentic"}),
        ("mac-missing", "a MAC is missing where there is no tag", {"mac": "missing"}),
        ("mac-without-tag", "a MAC is missing where there is no tag", {"tag": None}),
        ("says-more", "a legacy has exactly its members", {"key": 1}),
    ]
    for name, rule, said in wrong:
        for kind in ("import", "archive"):
            add(f"legacy-{name}", rule, kind, {}, legacy=LEGACY | said)
    for kind in ("import", "archive"):
        add("legacy-null", "a legacy is an object", kind, {}, legacy=None)
    add("to-long", "an addressee has size 256", "archive", {}, to=accent * 43)
    add("channel-long", "a channel has size 256", "archive", {}, channel=accent * 43)
    add("empty", "a body is not empty", "archive", {}, body="")


def _imports(cases: Cases) -> None:
    then = "imported"

    def add(name: str, rule: str, code: str, agent: str, kind: str, **given: Any) -> None:
        moment = given.pop("moment", then)
        cases.add("9", name, rule, code, cases.draft(moment, agent, kind, key=2, **given))

    def brings(name: str, rule: str, code: str, **given: Any) -> None:
        given = {"task": "n"} | given
        add(f"import-{name}", rule, code, "alice", "import", **given)

    rule, denied = "it takes an admin", "not-permitted"
    add("import-by-agent", rule, denied, "grace", "import", task="n")
    add("archive-by-agent", rule, denied, "grace", "archive")
    rule = "what is imported is absent"
    brings("twice", rule, "task-exists", task="old/1", rev=1)
    brings("next-rev", rule, "task-exists", task="old/1", rev=2)
    brings("withdrawn", rule, "task-exists", task="old/4", rev=3, moment="import withdrawn")
    brings("rev", "an absent task's rev is 0", "stale-rev", rev=2)
    rule = "what a task waits for exists"
    brings("after", rule, "unknown-task", after=["m"])
    brings("after-itself", rule, "unknown-task", after=["n"])
    brings("parent", "a parent exists", "unknown-task", parent="m")
    long = "\xe9" * 17  # 102 bytes in a record
    brings("body", "a body is within max_body", "text-too-long", body="x" * 601)
    brings("result", "a result is within max_text", "text-too-long", status="done", result=long)
    add(
        "archive-body",
        "a body is within max_body",
        "text-too-long",
        "alice",
        "archive",
        body="x" * 601,
    )
    at = cases.at(then).now
    good = {"agent": "grace", "until": timestamps.show(at + SECOND)}
    brings(
        "offer-unknown",
        "an offer is made to an enrolled agent",
        "unknown-agent",
        offer=good | {"agent": "erin"},
    )
    rule = "an offer is made to an agent with an active key"
    brings("offer-revoked", rule, "unknown-agent", offer=good | {"agent": "dave"})
    rule = "an offer ends after it begins"
    brings("offer-ends-at-once", rule, "bad-lease", offer=good | {"until": timestamps.show(at)})
    rule, end = "an offer is at most max_ttl long", timestamps.show(at + 3_600_001)
    brings("offer-ttl", rule, "ttl-above-policy", offer=good | {"until": end})
    rule = "what is offered to one is taken by no other"
    add("claim-import-offered", rule, "offered", "carol", "claim", tasks=["old/1"])
    rule = "the next claim has the next epoch"
    item = {"task": "old/1", "rev": 2, "epoch": 1}
    add("epoch-claim-imported", rule, "wrong-epoch", "grace", "claim", tasks=[item])
    rule = "a withdrawn task keeps its epoch"
    item = {"task": "old/4", "rev": 4, "epoch": 1}
    given = {"tasks": [item], "moment": "import submitted"}
    add("epoch-claim-import-withdrawn", rule, "wrong-epoch", "carol", "claim", **given)
    rule = "a done task is claimed with reopen alone"
    add("claim-import-done", rule, "done", "carol", "claim", tasks=["old/2"])
    given = {"tasks": ["old/2"], "reopen": True}
    rule = "by the policy an admin reopens a task"
    add("reopen-import", rule, denied, "grace", "claim", **given)
    rule = "what is done is not withdrawn"
    add("withdraw-import-done", rule, "done", "carol", "withdraw", task="old/2")
    rule = "a task is withdrawn by its submitter or an admin"
    add("withdraw-imported", rule, denied, "grace", "withdraw", task="old/1")


# -- files


def build() -> dict[str, str]:
    """Every file: its path below this folder -> its text."""
    fleet, moments = valid()
    found = {"valid/chain.json": chain_file(fleet), "valid/ssh.json": chain_file(valid_ssh())}
    cases = malformed(fleet, moments)
    found |= {f"malformed/{name}.json": case for name, case in cases.items()}
    return {path: json.dumps(value, indent=1) + "\n" for path, value in found.items()}


def main() -> None:
    files = build()
    for folder in ("valid", "malformed"):
        (HERE / folder).mkdir(exist_ok=True)
        for old in (HERE / folder).glob("*.json"):
            old.unlink()
    for path, text in files.items():
        (HERE / path).write_text(text)
    print(f"{len(files)} files, from {timestamps.show(START)} on")


if __name__ == "__main__":
    main()
