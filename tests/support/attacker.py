"""An attacker who writes to the remote with plain git: bytes, trees, commits, pushes.

Rules: an `Attacker` is a bare repository that borrows the remote's objects, so that it can
take anything out of the ledger and put anything on top. It obeys no rule unless asked to
(`propose`). It knows the master, because tests also need records that are right in all but
one thing; a test that plays somebody without secrets uses none of it.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support import memory_ledger
from support.fleet import LEDGER_REF
from support.second_reader import Reader, read_chain, secrets_of

from coordledger import answers, keyfiles
from coordledger.answers import Vouch
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.errors import ERRORS
from coordledger.format import timestamps
from coordledger.format.chain import Chain, Proposal
from coordledger.format.commit import parse_commit, render_commit, successor
from coordledger.format.names import name_above
from coordledger.format.signing import Keyring
from coordledger.git.process import Git
from coordledger.git.repository import Repository
from coordledger.setup import genesis

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger.format.records import Record
    from coordledger.format.signing import Secret, Signed

TRY_REF = "refs/coordledger-try/main"
_REFUSED = re.compile(r"coordledger: refused ([0-9a-f]{12}|-): ([a-z-]+): ([ -~]+)")


def plain(
    *args: str | Path,
    cwd: Path,
    env: Mapping[str, str],
    data: bytes = b"",
    timeout: float = 30,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, whatever its exit code."""
    return subprocess.run(
        [*map(str, args)],
        cwd=cwd,
        env=dict(env),
        input=data,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


@dataclass(frozen=True)
class Pushed:
    """How a push (or a run of the hook) ended. `said` is what the server's side printed."""

    code: int
    out: str
    err: str

    @classmethod
    def of(cls, ran: subprocess.CompletedProcess[bytes]) -> Pushed:
        return cls(ran.returncode, ran.stdout.decode(), ran.stderr.decode())

    @property
    def said(self) -> list[str]:
        lines = [line.removeprefix("remote:").strip() for line in self.err.splitlines()]
        return [line for line in lines if "coordledger" in line and "refused" in line]

    @property
    def slug(self) -> str:
        """The slug of the one line with which the hook refused; "" if the push passed, or was
        told where all its records have landed before.
        """
        if self.code == 0 or "coordledger: landed " in self.err:
            assert not self.said, self.err
            return ""
        assert len(self.said) == 1, self.err
        found = _REFUSED.fullmatch(self.said[0])
        assert found, self.err
        assert found[2] in ERRORS
        assert "Traceback" not in self.err
        return found[2]

    @property
    def vouched(self) -> list[Vouch]:
        """How far the server says that it has verified."""
        lines = (line.removeprefix("remote:").strip() for line in self.err.splitlines())
        return [one for one in answers.read(lines) if isinstance(one, Vouch)]

    @property
    def short(self) -> str:
        """The short id in the refusal."""
        found = _REFUSED.fullmatch(self.said[0])
        assert found
        return found[1]


class Attacker(memory_ledger.MemoryLedger):
    """`record` and `sign` are those of `MemoryLedger`, on the remote's head, with real time."""

    def __init__(self, fleet: Fleet, folder: Path, ref: str = LEDGER_REF) -> None:
        self.fleet, self.folder, self.ref, self.algo = fleet, folder, ref, "sha1"
        fleet.git("init", "--quiet", "--bare", "--template=", folder)
        (folder / "objects/info/alternates").write_text(f"{fleet.remote / 'objects'}\n")
        self.master = (keyfiles.read(str(fleet.remote / "coordledger/master")) or [])[-1]
        self.intents = secrets.randbits(96)
        self.unders: dict[tuple[str, int], int] = {}
        self.later = 0  # milliseconds that the forger's clock is ahead
        self._on: str | None = None
        self._one_at_a_time = threading.RLock()
        self._store, self._remote = (
            Repository.open(Git(fleet.env, path, Deadline(60)), path)
            for path in (folder, fleet.remote)
        )

    def close(self) -> None:
        self._store.close()
        self._remote.close()

    # -- where the remote stands

    @property
    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.later

    @property
    def tip(self) -> str:
        """The id of the remote's head."""
        found = self._remote.ref(self.ref)
        assert found
        return found

    @property
    def chain(self) -> Chain:
        """Where records are made for: the tip, but for `signed(on=...)`."""
        return self.stand(self._on or self.tip)

    def stand(self, oid: str, keyring: Keyring | None = None) -> Chain:
        """A reader that trusts `oid`; without a keyring it holds no secret at all."""
        head = parse_commit(oid, self.raw(oid))
        return Chain(self.raw, keyring or Keyring(), head, self.algo)

    def raw(self, oid: str) -> bytes:
        with self._one_at_a_time:  # pools of threads push through one attacker
            return self._store.read(oid)

    def stolen(self, oid: str) -> Signed:
        """The signed record out of a commit: what everybody can read."""
        return parse_commit(oid, self.raw(oid)).signed

    # -- records, as memory_ledger.MemoryLedger makes them

    def secret(self, agent: str, key: int = 1) -> Secret:
        above = name_above(agent)
        master = self.secret(above, self.unders.get((agent, key), 1)) if above else self.master
        return master.derive(self.state.ledger["nonce"], agent, key)

    def signed(self, agent: str, kind: str, on: str | None = None, **given: Any) -> Signed:
        """A record that would be accepted on a head, but for what `given` changes; well signed."""
        self._on = on
        try:
            return self.sign(self.record(agent, kind, **given))
        finally:
            self._on = None

    def later_by(self, record: Record, milliseconds: int) -> str:
        return timestamps.show(timestamps.parse(record["at"]) + milliseconds)

    def found(self, days_ago: int) -> str:
        """Replace the whole ledger by one that was founded long ago, with the same master."""
        at = self.now - days_ago * 86_400_000
        numbers = (secrets.token_hex(32), secrets.token_hex(16))
        secret = self.master.derive(numbers[0], "alice", 1)
        signed = genesis.sign_genesis(secret, genesis.First("alice", "init", 30, at, *numbers))
        proposal = Chain(self.raw, Keyring(), None, self.algo).propose(signed)
        self._remote.write(proposal.objects)
        self._remote.set_ref(self.ref, proposal.commit.oid)
        return proposal.commit.oid

    # -- objects

    def git(self, *args: str | Path, data: bytes = b"", check: bool = True) -> str:
        ran = plain("git", *args, cwd=self.folder, env=self.fleet.env, data=data)
        assert not check or ran.returncode == 0, ran.stderr
        return ran.stdout.decode().strip()

    def add(self, kind: str, content: bytes) -> str:
        """Write any object, however odd."""
        return self.git("hash-object", "-t", kind, "-w", "--stdin", "--literally", data=content)

    def tree(self, *entries: tuple[str, str, str]) -> str:
        """A tree of (mode, id, name), in that order and unchecked."""
        return self.add(
            "tree",
            b"".join(
                f"{mode} {name}".encode("utf-8", "surrogateescape") + b"\0" + bytes.fromhex(oid)
                for mode, oid, name in entries
            ),
        )

    def entries(self, tree: str) -> list[tuple[str, str, str]]:
        found = (line.split(maxsplit=3) for line in self.git("ls-tree", tree).splitlines())
        return [(mode, oid, name) for mode, _, oid, name in found]

    def propose(self, signed: Signed, on: str | None = None) -> str:
        """The one right commit of `signed` on a head, every rule but the MAC obeyed."""
        proposal = self.stand(on or self.tip).propose(signed)
        self._store.write(proposal.objects)
        return proposal.commit.oid

    def voids(self, count: int) -> list[str]:
        """A line of good records on the tip, none of them pushed."""
        chain, ids = self.chain, []
        head = self.head
        record = self.record("alice", "void", base={"seq": head.seq, "digest": head.digest})
        secret = self.secret("alice")
        for _ in range(count):
            self.intents += 1
            proposal = chain.propose(self.sign(record | {"op": f"{self.intents:032x}"}, secret))
            self.write(proposal)
            chain.advance(proposal)
            ids.append(proposal.commit.oid)
        return ids

    def write(self, proposal: Proposal) -> None:
        self._store.write(proposal.objects)

    def render(self, signed: Signed, on: str | None = None, tree: str | None = None) -> str:
        """The commit of `signed` on a head without any rule, by default with the old tree."""
        parent = parse_commit(on or self.tip, self.raw(on or self.tip))
        content = render_commit(successor(parent, tree or parent.tree, signed), "hmac-sha256")
        return self.add("commit", content)

    def changed(self, oid: str, old: bytes, new: bytes) -> str:
        """The commit with one part of its bytes replaced, where it occurs first."""
        content = self.raw(oid)
        assert old in content
        return self.add("commit", content.replace(old, new, 1))

    # -- pushes

    def push(self, *refspecs: str, env: Mapping[str, str] | None = None) -> Pushed:
        """`git push --force REFSPECS`; an id alone goes to the ledger."""
        full = [
            spec if ":" in spec or spec.startswith("-") else f"{spec}:{self.ref}"
            for spec in refspecs
        ]
        return Pushed.of(
            plain(
                *("git", "push", "--force", self.fleet.remote, *full),
                cwd=self.folder,
                env=self.fleet.env | (env or {}),
            )
        )

    def raw_push(self, old: str, new: str, ref: str) -> Pushed:
        """A push in git's protocol by hand: `old` is whatever the client likes to claim."""
        wanted = f"{new}\n^{self.tip}\n".encode()
        pack = plain(
            *("git", "pack-objects", "--stdout", "--revs", "-q"),
            cwd=self.folder,
            env=self.fleet.env,
            data=wanted,
        ).stdout
        command = packet(f"{old} {new} {ref}\0report-status".encode()) + b"0000"
        ran = plain(
            *("git", "receive-pack", self.fleet.remote),
            cwd=self.folder,
            env=self.fleet.env,
            data=command + pack,
        )
        landed = f"ok {ref}\n".encode() in ran.stdout
        return Pushed(0 if landed else 1, ran.stdout.decode(), ran.stderr.decode())

    def refusal(self, *refspecs: str) -> str:
        """The slug with which a real push is refused. Nothing may have moved."""
        before = self.refs()
        pushed = self.push(*refspecs)
        assert pushed.code != 0, "it landed"
        assert self.refs() == before
        return pushed.slug

    def refs(self) -> dict[str, str]:
        """The remote's loose refs, lock files and all: its pushes write no others."""
        folder = self.fleet.remote / "refs"
        return {
            str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*")
            if path.is_file()
        }

    def hook(self, pushed: bytes, **environ: str) -> Pushed:
        """The hook alone, with any standard input. It sees what the attacker has."""
        env = self.fleet.env | {
            "GIT_DIR": ".",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(self.folder / "objects"),
        }
        return Pushed.of(
            plain(
                *(self.fleet.remote / "hooks/pre-receive",),
                cwd=self.fleet.remote,
                env=env | environ,
                data=pushed,
            )
        )


def opened(fleet: Fleet, path: Path, agent: str | None, **kw: Any) -> Ledger:
    """A `Ledger` anywhere; closed with the fleet."""
    found = Ledger.open(path, agent, **({"environ": fleet.env} | kw))
    fleet._open.append(found)
    return found


def packet(line: bytes) -> bytes:
    return b"%04x%s" % (len(line) + 4, line)


def second_opinion(remote: Path, ref: str = LEDGER_REF) -> int:
    """Have the second implementation read the chain with all secrets; how many records."""
    master = (remote / "coordledger/master").read_bytes().splitlines()[-1]
    reader = Reader(secrets_of(master))
    for _, data in read_chain(remote, ref):
        reader.step(data)
    assert reader.unverified == 0
    return reader.authentic


def fsck(remote: Path, env: Mapping[str, str]) -> None:
    ran = plain("git", "fsck", "--strict", cwd=remote, env=env)
    found = [line for line in ran.stderr.decode().splitlines() if "dangling" not in line]
    assert (ran.returncode, [line for line in found if line.startswith("error")]) == (0, []), found
