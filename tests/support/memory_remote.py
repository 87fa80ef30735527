"""A ledger's remote in memory: the interface of `git.remote.Remote`, and a server behind it.

Rules: this is a simulator, no mock. A ref moves by compare-and-swap; what is pushed is read
out of the pack that the client made, and judged as the hook judges it, or sequenced as the
server's sequencer does it. `MemoryServer.plan` says how the next pushes end; without a plan
they end honestly. `MemoryServer.pushes` keeps what has left a client, and what `watch` saw
at that moment. A client's repository is a real one; no process talks to another.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from support.memory_ledger import MemoryLedger

from coordledger.answers import Vouch
from coordledger.client.combining.sequenced import SequencedPublisher
from coordledger.client.local_state import LocalState
from coordledger.client.publish import DirectPublisher
from coordledger.client.replica import Replica
from coordledger.client.signer import Identity
from coordledger.client.writer import Writer
from coordledger.deadline import Deadline
from coordledger.errors import RuleBroken, error
from coordledger.format import timestamps
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.names import ANSWERED, FOR, LEDGERS, TRIES
from coordledger.git.address import resolve
from coordledger.git.history import raw_parent
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, UNSENT, WON, Push
from coordledger.git.process import Git
from coordledger.git.remote import News
from coordledger.git.repository import Repository
from coordledger.git.tree import object_id
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from coordledger.client.journal import Intent
    from coordledger.client.publish import Publisher
    from coordledger.format.commit import Commit
    from coordledger.format.signing import Secret
    from coordledger.git.outcome import Move, PushPayload
    from coordledger.git.tree import Objects

REF = LEDGERS + "main"
FOR_REF = FOR + "main" + ANSWERED
_KINDS = {1: "commit", 2: "tree", 3: "blob"}
_BY_ANOTHER_WAY = ("not-fast-forward", "replayed")  # `git.remote` calls these lost


class Ending(NamedTuple):
    """How one push ends.

    `answer`: what the client hears, None for what the server has to say. `sent`: whether bytes
    leave the client. `arrives`: whether the server handles them; `late`: not before `deliver`.
    `first`: what others do before they arrive. `fault`: raised before anything is sent.
    `blames`: the number of the record, among those pushed, that the answer blames. `dies`: the
    client ends then, instead of hearing the answer.
    """

    answer: Push | None = None
    sent: bool = True
    arrives: bool = True
    late: bool = False
    first: Callable[[], object] = lambda: None
    fault: Exception | None = None
    blames: int | None = None
    dies: bool = False


_CUT = Push(UNKNOWN, "the connection was cut")
HONEST = Ending()
NOT_SENT = Ending(Push(UNSENT, "no route to host"), sent=False)
LANDED_UNANSWERED = Ending(_CUT)
DROPPED_UNANSWERED = Ending(_CUT, arrives=False)
STILL_UNDER_WAY = Ending(_CUT, late=True)
LOST_FOR_NOTHING = Ending(Push(LOST, "fetch first"), arrives=False)
STALE_LOCK = Ending(Push(LOST, "cannot lock ref", locked=True), arrives=False)


def refused(
    code: str = "", why: str = "no", *, blames: int | None = None, kept_out: bool = False
) -> Ending:
    """A complete no: with the hook's slug, or without one by something else on the server, or
    before any git there.
    """
    return Ending(Push(REFUSED, why, code, kept_out=kept_out), arrives=False, blames=blames)


def after(act: Callable[[], object], ending: Ending = HONEST) -> Ending:
    """As `ending`, with `act` done on the server just before the bytes arrive."""
    return ending._replace(first=act)


def failing(fault: Exception) -> Ending:
    """The client's own disk fails before anything is sent."""
    return Ending(fault=fault, sent=False)


class ClientDied(BaseException):
    """The client's process has ended here: nothing of it runs any more."""


class Pushed(NamedTuple):
    """A push whose bytes have left a client."""

    ref: str
    old: str | None
    new: str | None
    commits: list[tuple[str, bytes]]  # the new ones, oldest first
    objects: Objects
    seen: Any  # what `watch` said when they left

    @property
    def records(self) -> list[dict[str, Any]]:
        return [parse_commit(*commit).record for commit in self.commits]


class MemoryServer:
    """The server of one ledger. It may be told to sequence at any time, and to stop."""

    def __init__(self, *agents: str, sequences: bool = False, hooked: bool = True) -> None:
        """Alice's ledger, with `agents` enrolled. Without a hook nobody refuses a bad record: a
        client that pushes one fails the test.
        """
        self.ledger = MemoryLedger(*agents)
        self.sequences, self.hooked = sequences, hooked
        self.plan: deque[Ending] = deque()
        self.pushes: list[Pushed] = []
        self.watch: Callable[[], object] = lambda: None
        self.looks = 0  # how often somebody asked for the head or fetched
        self.away = False  # it answers no such question
        self._under_way: list[Pushed] = []
        self._refs: dict[str, str] = {}

    # -- what a test asks and does

    @property
    def refs(self) -> dict[str, str]:
        return self._refs | {REF: self.ledger.head.oid}

    @property
    def records(self) -> list[dict[str, Any]]:
        """The ledger's, oldest first, each with its seq."""
        found = (parse_commit(*commit) for commit in self.ledger.log)
        return [commit.record | {"seq": commit.seq} for commit in found]

    def ops(self) -> list[str]:
        """The intents that have landed. None may be in here twice."""
        ops = [record["op"] for record in self.records]
        assert len(set(ops)) == len(ops), "an intent landed twice"
        return ops

    def write(self, agent: str, kind: str, **given: Any) -> Commit:
        """A record of somebody else's lands."""
        return self.ledger.put(agent, kind, **given).commit

    def deliver(self) -> list[Push]:
        """Pushes that were still under way arrive; the answers that no client hears."""
        late, self._under_way = self._under_way, []
        return [self._receive(push) for push in late]

    @property
    def vouches(self) -> tuple[Vouch, ...]:
        """What its hook, if it has one, says that it has verified: it has judged everything."""
        head, at = self.ledger.head, timestamps.show(self.ledger.now)
        vouch = Vouch(head.record["ledger"], head.seq, head.digest, at)
        return (vouch,) if self.hooked else ()

    def look(self, ref: str) -> str | None:
        """The id that a ref has. Raises `Failed`: remote-unreachable."""
        self.looks += 1
        if self.away:
            raise error("remote-unreachable", remote="memory", why="no route to host")
        return self.refs.get(ref)

    # -- what a client's push comes to

    def take(self, ref: str, old: str | None, new: str | None, payload: PushPayload | None) -> Push:
        ending = self.plan.popleft() if self.plan else HONEST
        pack = b""
        if payload:
            payload.ready()
            pack = payload.pack()
        if ending.fault:
            raise ending.fault
        if not ending.sent and ending.dies:
            raise ClientDied
        if not ending.sent:
            return ending.answer or Push(UNSENT, "not sent")
        objects = _unpack(pack, self.ledger.algo) if pack else {}
        push = Pushed(ref, old, new, _commits(new, objects), objects, self.watch())
        self.pushes.append(push)
        ending.first()
        if payload:
            payload.meanwhile()
        said = None
        if ending.late:
            self._under_way.append(push)
        elif ending.arrives:
            said = self._receive(push)
        if ending.dies:
            raise ClientDied
        return _with_blame(ending.answer or said or _CUT, push, ending.blames)

    def _receive(self, push: Pushed) -> Push:
        if push.ref == REF:
            return self._compare_and_swap(push)._replace(sequenced=self.sequences)
        if push.ref == FOR_REF and self.sequences:
            return self._sequence(push)
        if push.ref == FOR_REF and self.hooked:
            return Push(REFUSED, "this server does not sequence", "not-sequenced")
        if self.hooked and push.ref.startswith(TRIES):
            return Push(REFUSED, "a try", "try-ok", vouches=self.vouches)
        if self.refs.get(push.ref) != push.old:
            return Push(LOST, "stale info")
        self._refs[push.ref] = push.new or ""  # as git does where no hook is asked
        return Push(WON, vouches=())

    def _compare_and_swap(self, push: Pushed) -> Push:
        ledger, below = self.ledger, push.commits[0][1] if push.commits else b""
        if push.old != ledger.head.oid:
            return Push(LOST, "fetch first")
        if raw_parent(below) != push.old:
            return Push(LOST, "non-fast-forward")
        stored = {oid: content for oid, (_, content) in push.objects.items()} | ledger.store
        trial = Chain(stored.__getitem__, ledger.ring, ledger.head, ledger.algo)
        for oid, content in push.commits if self.hooked else ():
            try:
                trial.judge(oid, content)
            except RuleBroken as broken:
                if broken.code in _BY_ANOTHER_WAY:
                    return Push(LOST, "pre-receive hook declined", broken.code)
                return Push(REFUSED, str(broken), broken.code, blamed=oid[:12])
        ledger.store.update(stored)
        for oid, content in push.commits:
            ledger.chain.judge(oid, content)
            ledger.log.append((oid, content))
        return Push(WON, vouches=self.vouches)

    def _sequence(self, push: Pushed) -> Push:
        """All of it on the head of this moment, or nothing; what has landed counts as landed."""
        ledger = self.ledger
        trial, new, landed = ledger.chain.copy(), [], {}
        for oid, content in push.commits:
            signed = parse_commit(oid, content).signed
            r = signed.record
            there = trial.find(r["agent"], r["op"], r["base"]["seq"])
            try:
                if there is None or there.signed.payload != signed.payload:
                    _, proposal = trial.check(signed)
                    trial.advance(proposal)
                    new.append(signed)
                    there = proposal.commit
            except RuleBroken as broken:
                if broken.code in _BY_ANOTHER_WAY:
                    return Push(LOST, "refused", broken.code)
                return Push(REFUSED, str(broken), broken.code, blamed=oid[:12])
            landed[oid] = (there.seq, there.oid)
        for signed in new:
            ledger.land(signed)
        return Push(WON, landed=landed, sequenced=True, vouches=self.vouches)


class MemoryRemote:
    """A `MemoryServer` as seen from one repository."""

    shown, folder, head_is_cheap = "memory", None, True
    address = resolve("memory::", [], None)

    def __init__(self, server: MemoryServer, repository: Repository) -> None:
        self.server, self._repository = server, repository

    def close(self) -> None:
        pass

    def head(self, ref: str) -> str | None:
        return self.server.look(ref)

    def news(self, ref: str, have: str, objects: str) -> News:
        """As of a server that hands over commits without their trees."""
        head = self.server.look(ref)
        if head in (None, have):
            return News(head)
        commits = {}
        for oid, content in self.server.ledger.log:
            commits[oid] = content
            if oid == have:
                commits.clear()
            if oid == head:
                break
        return News(head, commits)

    def need_listing(self) -> None:
        pass

    def listing(self, below: str) -> dict[str, str]:
        refs = self.server.refs
        return {ref.removeprefix(below): refs[ref] for ref in refs if ref.startswith(below)}

    def fetch(self, ref: str, into: str, depth: int | None) -> bool:
        """`depth`: how many records' commits come along; the state is always whole."""
        head = self.server.look(ref)
        if head is None:
            return False
        ledger = self.server.ledger
        ids = [oid for oid, _ in ledger.log]
        at = ids.index(head) + 1
        left_out = set(ids[: at - depth]) if depth else set()
        self._repository.write(
            {
                oid: (_kind(oid, content, ledger.algo), content)
                for oid, content in ledger.store.items()
                if oid not in left_out
            }
        )
        self._repository.set_ref(into, head)
        return True

    def push(
        self,
        ref: str,
        old: str | None,
        new: str | None,
        payload: PushPayload | None = None,
        moves: Sequence[Move] = (),
    ) -> Push:
        assert not moves, "it has no code"
        return self.server.take(ref, old, new, payload)


class MemoryClient:
    """One agent's process: a repository, its copy of the ledger, and a writer.

    The repository may be there already, as an earlier process has left it.
    """

    processes = 0

    def __init__(
        self,
        server: MemoryServer,
        path: Path,
        environ: dict[str, str],
        agent: str = "alice",
        session: str = "s1",
        publisher: Publisher | None = None,
    ) -> None:
        """`publisher`: by default what agents have whose processes do not line up."""
        ledger = server.ledger
        self.server, self.deadline = server, Deadline(20)
        git = Git(environ | {"GIT_DIR": str(path)}, None, self.deadline)
        git.output("init", "--quiet", "--bare", "--template=", "--", str(path))
        self.repository = Repository.open(git, path)
        self.local = LocalState(self.repository, "main")
        self.remote = MemoryRemote(server, self.repository)
        self.replica = Replica(
            self.local,
            self.remote,  # type: ignore[arg-type]  # the same interface
            git,
            lambda _: ledger.ring,
            self.now,
            lambda what, done, of: None,
        )
        MemoryClient.processes += 1
        self._number, self._ops = MemoryClient.processes, 0
        self.secrets = {who: [ledger.secret(who)] for who in ledger.state.agents()}
        self._identity = Identity(agent, session, self._secrets_of, self)
        self._publisher = publisher or SequencedPublisher(DirectPublisher())

    def _secrets_of(self, agent: str, ledger: str) -> tuple[str, list[Secret]]:
        return agent, self.secrets[agent]

    def named(self, agent: str) -> None:
        """As `SshKeyFinder.named`: nobody here has an SSH key."""

    def now(self) -> int:
        return self.server.ledger.now

    @property
    def writer(self) -> Writer:
        """A new one for each write, as a `Ledger` makes it."""
        me, hexadecimal = self._identity, self._hexadecimal
        return Writer(self.replica, me, self.now, hexadecimal, lambda: 0.0, self._publisher)

    def _hexadecimal(self, count: int) -> str:
        self._ops += 1
        return digest("sha256", f"{self._number} {self._ops}".encode()).hex()[: 2 * count]

    def intents(self) -> list[Intent]:
        """The journal's intents, as they lie on the disk."""
        return self.local.journal.intents()

    def close(self) -> None:
        self.replica.close()


def _with_blame(push: Push, pushed: Pushed, number: int | None) -> Push:
    return push if number is None else push._replace(blamed=pushed.commits[number][0][:12])


def _commits(new: str | None, objects: Objects) -> list[tuple[str, bytes]]:
    """The commits that a push brings, oldest first."""
    found = []
    while new is not None and new in objects:
        found.append((new, objects[new][1]))
        new = raw_parent(objects[new][1])
    return found[::-1]


def _kind(oid: str, content: bytes, algo: str) -> str:
    return next(kind for kind in _KINDS.values() if object_id(kind, content, algo) == oid)


def _unpack(pack: bytes, algo: str) -> Objects:
    """The objects of a pack without deltas (gitformat-pack(5))."""
    assert pack[:8] == b"PACK\0\0\0\2"
    objects: Objects = {}
    at = 12
    for _ in range(int.from_bytes(pack[8:12], "big")):
        kind = _KINDS[pack[at] >> 4 & 7]
        while pack[at] & 128:  # the size, which the stream has too
            at += 1
        inflating = zlib.decompressobj()
        content = inflating.decompress(pack[at + 1 :])
        at = len(pack) - len(inflating.unused_data)
        objects[object_id(kind, content, algo)] = (kind, content)
    assert digest(algo, pack[:at]) == pack[at:]
    return objects
