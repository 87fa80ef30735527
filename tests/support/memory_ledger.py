"""What the tests share: a ledger in memory, and everybody's secrets.

Rules: nothing here touches a disk, a clock or a random source, so the same test makes
the same bytes on each run. `MemoryLedger` plays the writers; whatever a test refuses, both the
writer (`Chain.propose`) and the reader (`Chain.judge`) have to refuse alike.
"""

from __future__ import annotations

from support.ssh_keys import SshKey

from coordledger.errors import RuleBroken
from coordledger.format import records, signing, timestamps
from coordledger.format.chain import AUTHENTIC, Chain, Proposal
from coordledger.format.commit import Commit, parse_commit, render_commit, successor
from coordledger.format.names import first_name, name_above
from coordledger.format.rules.ledger import POLICY as LIMITS
from coordledger.format.signing import HMAC, SSH
from coordledger.format.state import State
from coordledger.git import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Any

MASTER = signing.Secret("M" * 43)
OWN = signing.Secret("carols-own-secret-which-is-not-derived-from-the-master")
NONCE = "ab" * 32
START = timestamps.parse("2026-11-21T03:10:00.000Z")
SECOND = 1000
SKEW = 30 * SECOND  # the default policy's
LEASE = 600 * SECOND  # of a claim that says nothing else
UNDESCRIBED: dict[str, Any] = {  # the attributes of a task of which nothing is said
    "priority": 0,
    "meta": {},
    "after": [],
    "title": None,
    "labels": [],
    "parent": None,
    "not_before": None,
}
MOVE = {"old": "0" * 40, "new": "12" * 20}  # of a ref that a record says to have moved
LEGACY: dict[str, Any] = {
    "source": "an older system",
    "id": "its #1",
    "agent": "Bob",
    "at": "2026-11-20T00:00:00.000Z",
    "until": "2026-11-20 01:00:00",
    "tag": "bm9uZQ==",
    "mac": "unknown",
}
POLICY = {key: default for key, (default, _, _) in LIMITS.items()}


def own_secrets(agent: str) -> list[signing.Secret]:
    """What was put down for one agent, as a keyring asks for it."""
    return [OWN] if agent == "carol" else []


def refused(act: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """The slug with which `act` refuses, or "" if it does not refuse."""
    try:
        act(*args, **kwargs)
    except RuleBroken as error:
        assert str(error)  # its sentence can be built
        return error.code
    return ""


def state_of(files: dict[str, bytes], algo: str = "sha1") -> State:
    """A state with these files, whatever a chain would have to do to get there."""
    objects: dict[str, bytes] = {}
    made = tree.Tree(objects.__getitem__, None, algo).update(dict(files))
    objects.update({oid: content for oid, (_, content) in made.objects.items()})
    return State(tree.Tree(objects.__getitem__, made.root, algo))


def files_of(found: State) -> dict[str, bytes]:
    """Every file of a state."""
    files: dict[str, bytes] = {}

    def walk(folder: str) -> None:
        for name in found.tree.names(folder):
            path = f"{folder}/{name}" if folder else name
            content = found.tree.get(path)
            if content is None:
                walk(path)
            else:
                files[path] = content

    walk("")
    return files


class MemoryLedger:
    """A ledger of alice's and its agents. Its clock advances a second with each record.

    `carol` has a secret of her own; everybody else's are derived from the master. The keys named in
    `ssh`, as agent/number, are SSH keys.
    """

    def __init__(
        self,
        *agents: str,
        algo: str = "sha1",
        policy: dict[str, int] | None = None,
        ssh: Container[str] = (),
    ) -> None:
        """A genesis record, then one key for each of `agents`, as an agent."""
        self.algo, self.ssh = algo, ssh
        self.store: dict[str, bytes] = {}
        self.log: list[tuple[str, bytes]] = []  # oid and content of each commit
        self.now = START
        self.intents = 0
        self.unders: dict[tuple[str, int], int] = {}  # which key a delegate's stands under
        self.ring = signing.Keyring([MASTER], own_secrets)
        self.chain = self.fresh_verifier()
        self.put("alice", "genesis", policy=POLICY | (policy or {}))
        for agent in agents:
            self.put("alice", "enroll", who=agent)

    # -- readers

    def fresh_verifier(self, keyring: signing.Keyring | None = None) -> Chain:
        """A reader that has seen nothing and holds all secrets, or those of `keyring`."""
        return Chain(self.store.__getitem__, keyring or self.ring, None, self.algo)

    def verifier_at(self, length: int, keyring: signing.Keyring | None = None) -> Chain:
        """A reader that trusts the head of the first `length` records and kept nothing else."""
        head = parse_commit(*self.log[length - 1]) if length else None
        return Chain(self.store.__getitem__, keyring or self.ring, head, self.algo)

    def at(self, length: int) -> MemoryLedger:
        """This fleet as it was after its first `length` records."""
        then = MemoryLedger.__new__(MemoryLedger)
        then.__dict__.update(self.__dict__)
        then.store, then.log = dict(self.store), self.log[:length]
        then.unders = dict(self.unders)
        then.chain = then.verifier_at(length)
        if then.chain.head:
            then.now = max(
                timestamps.parse(then.chain.head.record["at"]), SECOND * then.chain.head.committed
            )
            then.now += SECOND
        else:
            then.now = START
        return then

    @property
    def state(self) -> State:
        return self.chain.state

    @property
    def head(self) -> Commit:
        assert self.chain.head is not None
        return self.chain.head

    # -- writers

    ssh: Container[str] = ()  # of a ledger that is made in another way

    def alg(self, agent: str, key: int) -> str:
        return SSH if f"{agent}/{key}" in self.ssh else HMAC

    def secret(self, agent: str, key: int = 1) -> signing.Secret:
        if (agent, key) == ("carol", 1):
            return OWN
        above = name_above(agent)
        master = self.secret(above, self.unders.get((agent, key), 1)) if above else MASTER
        return master.derive(NONCE, agent, key)

    def signing_key(self, agent: str, key: int) -> signing.SigningKey:
        ssh = self.alg(agent, key) == SSH
        return SshKey.of(f"{agent}/{key}") if ssh else self.secret(agent, key)

    def entry(self, agent: str, key: int, nonce: str = NONCE) -> dict[str, str]:
        """What a record says of a key that it brings."""
        if self.alg(agent, key) == SSH:
            return {"alg": SSH, "verifier": SshKey.of(f"{agent}/{key}").public}
        return {"alg": HMAC, "verifier": self.secret(agent, key).fingerprint(nonce, agent, key)}

    def record(self, agent: str, kind: str, **given: Any) -> records.Record:
        """A record that would be accepted now; `given` replaces what it would have said.

        `tasks` of a claim may be names: their rev and epoch are looked up.
        """
        self.intents += 1
        head = self.chain.head
        record: records.Record = {
            "v": 1,
            "ledger": self.state.ledger["ledger"] if head else "",
            "at": timestamps.show(self.now),
            "agent": agent,
            "key": 1,
            "session": "s1",
            "op": f"{self.intents:032x}",
            "base": {"digest": head.digest, "seq": head.seq} if head else None,
            "kind": kind,
        }
        record |= self._usual(agent, kind, given) | given
        if kind == "claim":
            record["tasks"] = [
                self._next(item) if isinstance(item, str) else item for item in record["tasks"]
            ]
        if kind == "genesis":
            record |= {"base": None} | given
            record["ledger"] = given.get("ledger", signing.ledger_id(record))
        return record

    def _next(self, task: str) -> dict[str, Any]:
        found = self.state.task(task) or {"rev": 0, "epoch": 0}
        return {"task": task, "rev": found["rev"] + 1, "epoch": found["epoch"] + 1}

    def _usual(self, agent: str, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        later = timestamps.show(min(self.now + LEASE, timestamps.LATEST))
        if kind in ("enroll", "revoke"):
            who = given["who"]
            entry = self.state.agent(who) or {"rev": 0, "keys": []}
            if kind == "revoke":
                return {
                    "rev": entry["rev"] + 1,
                    "id": max([key["id"] for key in entry["keys"]], default=0),
                }
            counting, under = self.state.agent(first_name(who)), None
            delegate = counting and name_above(who)
            number = (counting["issued"] if delegate else len(entry["keys"])) + 1
            number = given.get("id", number)
            if name_above(who):
                under = self.unders[who, number] = given.get("under", 1)
            role = "admin" if who == "alice" else "agent"
            key = self.entry(who, number, self.state.ledger["nonce"])
            return {"rev": entry["rev"] + 1, "id": number, **key, "role": role, "under": under}
        if kind in ("withdraw", "edit"):
            task = self.state.task(given["task"]) or {"rev": 0}
            return {"rev": task["rev"] + 1} | ({"reason": None} if kind == "withdraw" else {})
        if kind in ("renew", "complete", "release", "handoff", "land"):
            task = self.state.task(given["task"]) or {"rev": 0, "epoch": 1}
            held = {"rev": task["rev"] + 1, "epoch": max(1, task["epoch"])}
            more: dict[str, Any] = {
                "renew": {"until": later, "note": None},
                "complete": {"result": None},
                "release": {"reason": None, "force": False, "not_before": None},
                "handoff": {"note": None},
                "land": {"ref": "refs/heads/main", **MOVE, "complete": False, "result": None},
            }[kind]
            return held | more
        rest: dict[str, dict[str, Any]] = {
            "genesis": {
                "nonce": NONCE,
                "policy": POLICY,
                **self.entry(agent, 1),
            },
            "policy": {"rev": self.state.ledger.get("policy_rev", 0) + 1},
            "submit": {"rev": self._submitted_rev(given), "body": None, **UNDESCRIBED},
            "claim": {"until": later, "reopen": False, "note": None, "paths": []},
            "import": {
                "rev": 1,
                "status": "open",
                "epoch": 0,
                "attempts": 0,
                "body": None,
                "result": None,
                "offer": None,
                "legacy": LEGACY,
                **UNDESCRIBED,
            },
            "archive": {"to": None, "channel": None, "body": "hello", "legacy": LEGACY},
            "fact": {"was": self._rev_of_fact(given), "value": "true", "until": None},
            "send": {
                "to": None,
                "channel": None,
                "thread": None,
                "importance": "normal",
                "body": "hello",
            },
        }
        return rest.get(kind, {})

    def _rev_of_fact(self, given: dict[str, Any]) -> int:
        fact = self.state.fact(given["fact"]) if "fact" in given else None
        return int(fact["rev"]) if fact else 0

    def _submitted_rev(self, given: dict[str, Any]) -> int:
        task = self.state.task(given["task"]) if "task" in given else None
        return int(task["rev"]) + 1 if task and task["status"] == "withdrawn" else 1

    def sign(self, record: records.Record, key: signing.SigningKey | None = None) -> signing.Signed:
        """`record` signed with its signer's key, or with `key`."""
        return signing.sign(record, key or self.signing_key(record["agent"], record["key"]))

    def land(self, signed: signing.Signed) -> Proposal:
        """Put a signed record on the head."""
        proposal = self.chain.propose(signed)
        self.store.update({oid: content for oid, (_, content) in proposal.objects.items()})
        self.chain.advance(proposal)
        self.log.append((proposal.commit.oid, proposal.content))
        self.now += SECOND
        return proposal

    def put(self, agent: str, kind: str, **given: Any) -> Proposal:
        """Record, sign and land."""
        return self.land(self.sign(records.check(self.record(agent, kind, **given))))

    def forge(self, signed: signing.Signed, tree: str | None = None) -> tuple[str, bytes]:
        """The commit that a writer without rules puts on the head (with the head's tree)."""
        alg = self.alg(signed.record["agent"], signed.record["key"])
        content = render_commit(successor(self.chain.head, tree or self.head.tree, signed), alg)
        return self.oid(content), content

    def oid(self, content: bytes) -> str:
        return tree.object_id("commit", content, self.algo)

    def refusal(self, agent: str, kind: str, **given: Any) -> str:
        """The slug that this record would be refused with, or ""."""
        return self.refusal_of(self.sign(records.check(self.record(agent, kind, **given))))

    def refusal_of(self, signed: signing.Signed) -> str:
        """As `refusal`. Reader and writer have to agree, and the reader must not move."""
        before = self.chain.head
        why = refused(self.chain.propose, signed)
        if why:
            assert refused(self.chain.judge, *self.forge(signed)) == why
        else:
            proposal = self.chain.propose(signed)
            reader = self.verifier_at(len(self.log))
            assert reader.judge(proposal.commit.oid, proposal.content) == AUTHENTIC
        assert self.chain.head is before
        return why
