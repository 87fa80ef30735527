"""Grow a long, valid ledger in a bare repository of its own: for measuring and for tests.

Rules: every record is signed with its agent's real key and placed by `Chain.propose`, so that
what comes out is what a fleet would have pushed; there is no second renderer. The same seed
makes the same work. Objects are written as packs of some thousand records, through git
itself. It asks no hook (there is no push), and what it makes has only seen this machine.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.client.signer import entry_of
from coordledger.client.ssh_keys import KeyFile, file_of
from coordledger.format import records, signing, timestamps
from coordledger.format.chain import Chain
from coordledger.format.names import LEDGERS
from coordledger.format.signing import Keyring
from coordledger.hashes import digest
from coordledger.server import mark
from coordledger.setup import genesis, hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from coordledger.client.ssh_keys import SshKey
    from coordledger.format.records import Record
    from coordledger.format.signing import Secret
    from coordledger.git.process import Git
    from coordledger.git.repository import Repository
    from coordledger.git.tree import Objects

    Progress = Callable[[str, int, int], None]
    Fields = dict[str, Any]

OWNER = "alice"
STEP = 1000  # milliseconds from one record to the next
LEASE = 600_000
BEHIND = 8  # the most records that a signer has not seen yet
PER_PACK = 2000
AT_WORK = 64  # tasks that are claimed at one time


@dataclass(frozen=True, slots=True)
class Grown:
    """What was made; `tasks` counts the lines of the state."""

    repository: Path
    ledger: str
    nonce: str
    head: str
    records: int
    tasks: int

    ssh: bool

    def secret_of(self, agent: str) -> Secret:
        """Of alice, or of agent-1 and so on: what they sign with."""
        return _master(self.repository).derive(self.nonce, agent, 1)

    def put_down(self, agent: str, path: Path) -> None:
        """Write what the agent signs with to a file of its own: a secret, or a private key."""
        if self.ssh:
            keyfiles.create(str(path), _private_key(agent))
        else:
            keyfiles.append(str(path), self.secret_of(agent))


def _private_key(agent: str) -> bytes:
    """The agent's SSH key, the same each time: it guards nothing."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - seldom
        Ed25519PrivateKey,
    )

    return file_of(Ed25519PrivateKey.from_private_bytes(digest("sha256", agent.encode())))


def _master(repository: Path) -> Secret:
    found = keyfiles.read(str(repository / "coordledger" / "master"))
    if not found:
        raise FileNotFoundError("the repository has no master")
    return found[-1]


class Packs:
    """Objects on their way into a repository: readable at once, written by thousands."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._waiting: Objects = {}

    def read(self, oid: str) -> bytes:
        return self._waiting[oid][1] if oid in self._waiting else self._repository.read(oid)

    def add(self, objects: Objects) -> None:
        self._waiting.update(objects)

    def flush(self) -> None:
        """Write what waits."""
        self._repository.write(self._waiting)
        self._waiting.clear()


BARE: dict[str, Any] = {  # what a submit says of a task of which there is nothing to say
    "priority": 0,
    "meta": {},
    "after": [],
    "title": None,
    "labels": [],
    "parent": None,
    "not_before": None,
    "body": None,
}


class _Story:
    """Some agents at work on one chain, all in turn, as the dice have it."""

    def __init__(
        self, chain: Chain, start: int, seed: int, key_of: Callable[[str], Secret | SshKey]
    ) -> None:
        self.chain, self._key_of, self._now = chain, functools.cache(key_of), start
        self._dice = random.Random(seed)  # noqa: S311 - no secret is made of it
        self._seen: list[dict[str, Any]] = []
        self._held: list[tuple[str, str]] = []  # task and its holder, the oldest first
        self._offered: list[str] = []
        self.tasks = 0
        self.agents = [OWNER]

    def sign(self, agent: str, kind: str, fields: Fields) -> signing.Signed:
        head = self.chain.head
        if head is None:
            raise AssertionError("a ledger begins with its genesis record")
        self._now += STEP
        self._seen = [*self._seen[-BEHIND:], {"digest": head.digest, "seq": head.seq}]
        record: Record = {
            "v": records.VERSION,
            "ledger": head.record["ledger"],
            "at": timestamps.show(self._now),
            "agent": agent,
            "key": 1,
            "session": f"{agent}-run",
            "op": f"{self._dice.getrandbits(128):032x}",
            "base": self._dice.choice(self._seen),
            "kind": kind,
        }
        return signing.sign(records.check(record | fields), self._key_of(agent))

    def enroll(self, who: str) -> signing.Signed:
        nonce = self.chain.state.ledger["nonce"]
        self.agents.append(who)
        return self.sign(
            OWNER,
            "enroll",
            {
                "who": who,
                "rev": 1,
                "id": 1,
                "role": "agent",
                "under": None,
                **entry_of(self._key_of(who), nonce, who, 1),
            },
        )

    # -- what they do: `claims` is the plainest, `work` a day in a fleet's life

    def claims(self) -> signing.Signed:
        """A claim on a task that nobody has named before."""
        self._held.clear()
        return self._claim(self._new_task())

    def work(self) -> signing.Signed:
        """Submit, claim, renew at times, complete; and talk about it."""
        dice = self._dice.random()
        if dice < 0.12:
            return self._send()
        if dice < 0.14:
            return self._ack()
        if dice < 0.42:
            return self._submit()
        if len(self._held) < AT_WORK and self._offered:
            return self._claim(self._offered.pop(self._dice.randrange(len(self._offered))))
        if not self._held:
            return self._submit()
        return self._renew() if dice < 0.55 else self._end()

    def _new_task(self) -> str:
        self.tasks += 1
        return f"github:example/project#{self.tasks}"

    def _submit(self) -> signing.Signed:
        task = self._new_task()
        self._offered.append(task)
        meta = {"label": self._dice.choice(("bug", "docs", "feature"))}
        fields = {"task": task, "rev": 1, "priority": self._dice.randrange(10), "meta": meta}
        title = f"Mend what was reported as number {self.tasks}"
        return self.sign(self._somebody(), "submit", BARE | fields | {"title": title})

    def bare(self) -> signing.Signed:
        """A task of which nothing is said but its id."""
        return self.sign(self._somebody(), "submit", BARE | {"task": self._new_task(), "rev": 1})

    def described(self) -> signing.Signed:
        """A task with all that can be said of it in a line or two; a part of the first one."""
        task = self._new_task()
        said = {
            "title": f"Mend what was reported as number {self.tasks}, and see that it stays so",
            "labels": ["backend", f"team-{self.tasks % 7}"],
            "parent": None if self.tasks == 1 else "github:example/project#1",
            "meta": {"url": f"https://example.org/{self.tasks}"},
            "body": "What was seen, and what ought to be seen instead. " * 8,
        }
        return self.sign(self._somebody(), "submit", BARE | said | {"task": task, "rev": 1})

    def _claim(self, task: str) -> signing.Signed:
        found = self.chain.state.task(task) or {"rev": 0, "epoch": 0}
        agent = self._somebody()
        self._held.append((task, agent))
        item = {"task": task, "rev": found["rev"] + 1, "epoch": found["epoch"] + 1}
        fields = {"tasks": [item], "until": self._later(), "reopen": False, "note": None}
        fields["paths"] = []
        return self.sign(agent, "claim", fields)

    def _renew(self) -> signing.Signed:
        task, agent = self._held.pop(0)
        self._held.append((task, agent))
        return self.sign(
            agent, "renew", self._holding(task) | {"until": self._later(), "note": None}
        )

    def _end(self) -> signing.Signed:
        task, agent = self._held.pop(0)
        if self._dice.random() < 0.05:
            self._offered.append(task)
            gone = {"reason": "out of ideas", "force": False, "not_before": None}
            return self.sign(agent, "release", self._holding(task) | gone)
        result = f"merged as {self._dice.getrandbits(160):040x}"
        return self.sign(agent, "complete", self._holding(task) | {"result": result})

    def _holding(self, task: str) -> Fields:
        found = self.chain.state.task(task)
        if found is None:
            raise AssertionError("what is held is there")
        return {"task": task, "rev": found["rev"] + 1, "epoch": found["epoch"]}

    def _send(self) -> signing.Signed:
        sender, other = self._somebody(), self._somebody()
        room = len(self.chain.state.inbox(other)) < 32
        direct = room and self._dice.random() < 0.7
        where = {"to": other if direct else None, "channel": None if direct else "general"}
        body = "I have looked at it, and the fault is in the parser. " * self._dice.randint(1, 4)
        more = {"thread": None, "importance": "normal", "body": body}
        return self.sign(sender, "send", where | more)

    def _ack(self) -> signing.Signed:
        agent = self._somebody()
        waiting = [line["seq"] for line in self.chain.state.inbox(agent)]
        if not waiting:
            return self._submit()
        return self.sign(agent, "ack", {"messages": waiting})

    def _somebody(self) -> str:
        return self._dice.choice(self.agents)

    def _later(self) -> str:
        return timestamps.show(self._now + STEP + LEASE)


MIXES = {
    "claims": _Story.claims,
    "work": _Story.work,
    "bare": _Story.bare,
    "described": _Story.described,
}


def grow(
    repository: Path,
    git: Git,
    count: int,
    *,
    now: int,
    mix: str = "work",
    agents: int = 8,
    name: str = "main",
    seed: int = 1,
    ssh: bool = False,
    progress: Progress = lambda what, done, of: None,
) -> Grown:
    """A ledger of `count` records whose newest is of about `now` (milliseconds), at
    `repository`, which is created and gets the hook.

    `mix` is one of `MIXES`; alice owns the ledger, agent-1 to agent-N work with her. The
    master lies where `init` puts it, and all keys derive from it; with `ssh` all are SSH keys.
    Raises `Failed`: ledger-exists, not-a-repository.
    """
    if count <= agents + 1:
        raise ValueError(f"more than {agents + 1} records")
    start = now - count * STEP
    made = genesis.create_repository(repository, git)
    hooks.install_hook(repository, git)
    nonce = random.Random(seed).randbytes(32).hex()  # noqa: S311 - it need not be secret
    said = genesis.First(OWNER, f"{OWNER}-run", 30, start, nonce, f"{seed:032x}")
    # Nothing is kept: all secrets are derived, see `secret_of`.
    owner = KeyFile(_private_key(OWNER), OWNER) if ssh else None
    first = genesis.create_in_repository(made, name, said, lambda *_: None, owner)

    def key_of(agent: str) -> Secret | SshKey:
        if ssh:
            return KeyFile(_private_key(agent), agent)
        return _master(repository).derive(nonce, agent, 1)

    packs = Packs(made)
    chain = Chain(packs.read, Keyring(), first.commit, made.algo)
    story = _Story(chain, start, seed, key_of)
    act = MIXES[mix]
    for done in range(1, count):
        signed = story.enroll(f"agent-{done}") if done <= agents else act(story)
        proposal = chain.propose(signed)
        packs.add(proposal.objects)
        chain.advance(proposal)
        if done % PER_PACK == 0:
            packs.flush()
            progress("growing", done, count)
    packs.flush()
    head = chain.head
    if head is None:
        raise AssertionError("it has a head")
    made.set_ref(LEDGERS + name, head.oid)
    mark.write(mark.path_in(str(made.git_dir), name), head.oid, head.oid, durable=True)
    made.close()
    return Grown(repository, head.record["ledger"], nonce, head.oid, count, story.tasks, ssh)


def settle(repository: Path, git: Git) -> None:
    """As `git gc` leaves what came push by push. What comes as a pack of whole objects it
    would leave whole: so deltas are asked for.
    """
    git.output("-C", str(repository), "repack", "-a", "-d", "-f", "--quiet")
    git.output("-C", str(repository), "pack-refs", "--all")
