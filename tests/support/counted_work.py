"""One process whose work is counted: python counted_work.py CLONE OTHER TRACE OPERATION...

`CLONE` is alice's, `OTHER` bob's. Each operation prepares itself, then happens between two
marks; one line of JSON tells what was counted here. `TRACE` is where git's programs write
what they do (GIT_TRACE2_EVENT). A mark is a folder that is not there: who traces this
process sees that it cannot be entered.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

from coordledger import Ledger, hashes
from coordledger.client.config import Options
from coordledger.client.opening import surroundings
from coordledger.format.signing import Secret
from coordledger.git.repository import Repository
from coordledger.setup import joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK, END = "/coordledger-counts/", "end"


def mark(name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chdir(MARK + name)


def objects(repository: Path) -> int:
    """How many there are, in whatever form."""
    env = {name: value for name, value in os.environ.items() if name != "GIT_TRACE2_EVENT"}
    argv = ["git", "-C", str(repository), "count-objects", "-v"]
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    counts = dict(line.split(": ") for line in said.splitlines())
    return int(counts["count"]) + int(counts["in-pack"])


class Work:
    """The operations, by the names that the test has; `prepare` comes first and is not counted."""

    def __init__(self, alice: Ledger, bob: Ledger) -> None:
        self.alice, self.bob = alice, bob
        self.server = Path(alice.connection.settings.remote.folder or "")
        self.fresh = self.server.with_name("fresh")
        self.pushed = b""
        self.operations: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "claim": (alice.tasks, lambda: alice.claim("mine")),
            "claim, held by another": (alice.tasks, lambda: alice.claim("bobs")),
            "claim, just lost": (lambda: bob.claim("new"), lambda: alice.claim("new")),
            "claim, behind": (lambda: bob.claim("other"), lambda: alice.claim("mine-too")),
            "renew": (alice.tasks, lambda: alice.renew("mine")),
            "batch of 20": (alice.tasks, self.batch),
            "complete": (alice.tasks, lambda: alice.complete("mine")),
            "tasks": (alice.tasks, alice.tasks),
            "tasks, behind": (lambda: bob.claim("more"), alice.tasks),
            "inbox": (alice.tasks, alice.inbox),
            "hook": (self.push_without_ref, self.hook),
            "join": (self.clone, self.join),
        }

    def push_without_ref(self) -> None:
        """A record whose objects are on the server, as the hook finds them."""
        self.alice.tasks()
        chain = self.alice.connection.replica.position()
        proposal = chain.propose(self.alice.connection.writer().sample(chain))
        there = surroundings(Options(self.server), os.environ).repository
        assert there
        there.write(proposal.objects)
        line = f"{chain.head.oid} {proposal.commit.oid} {self.alice.connection.local.ref}\n"
        self.pushed = line.encode()

    def clone(self) -> None:
        subprocess.run(["git", "clone", "--quiet", str(self.server), str(self.fresh)], check=True)

    def join(self) -> None:
        joined = joining.join(Options(path=self.fresh, agent="bob"), os.environ, "origin")
        assert joined.enforcement == "server"

    def batch(self) -> None:
        with self.alice.batch() as batch:
            for number in range(20):
                batch.claim(f"batch-{number}")
        assert all(outcome.landed for outcome in batch.outcomes)

    def hook(self) -> None:
        hook = str(self.server / "hooks" / "pre-receive")
        env = os.environ | {"GIT_DIR": "."}
        subprocess.run([hook], cwd=self.server, env=env, input=self.pushed, check=True)


def main() -> None:
    clone, other, trace, *operations = sys.argv[1:]
    reads = macs = hashed = deflated = 0
    read, sign = Repository.read, Secret.sign

    def counted_read(self: Repository, oid: str) -> bytes:
        nonlocal reads
        reads += 1
        return read(self, oid)

    def counted_sign(self: Secret, payload: bytes) -> bytes:
        nonlocal macs
        macs += 1
        return sign(self, payload)

    def counted_ids(compute: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def counted(data: bytes) -> Any:
            nonlocal hashed
            hashed += data.startswith((b"blob ", b"tree ", b"commit "))
            return compute(data)

        return counted

    def counted_deflate(*settings: int) -> Any:
        nonlocal deflated
        deflated += 1
        return compressobj(*settings)

    made = hashes._with_hashlib()
    hashes._made, hashes._left = {name: counted_ids(f) for name, f in made.items()}, 0
    compressobj, zlib.compressobj = zlib.compressobj, counted_deflate
    Repository.read = counted_read  # type: ignore[method-assign]
    Secret.sign = counted_sign  # type: ignore[method-assign]
    with Ledger.open(clone, "alice") as alice, Ledger.open(other, "bob") as bob:
        alice.claim("earlier")
        bob.claim("bobs")
        work = Work(alice, bob)
        here = Path(clone, ".git")
        for name in operations:
            prepare, act = work.operations[name]
            prepare()
            before = objects(here), objects(work.server), Path(trace).stat().st_size
            reads = macs = hashed = deflated = 0
            mark(name)
            act()
            mark(END)
            with Path(trace).open("rb") as log:
                log.seek(before[2])
                events = [json.loads(line) for line in log]
            names = [event["name"] for event in events if event["event"] == "cmd_name"]
            ours = {event["sid"] for event in events if "/" not in event["sid"]}
            found = {
                "started": len(ours),
                "pushes": names.count("receive-pack"),
                "fetches": names.count("upload-pack"),
                "read": reads,
                "written": objects(here) - before[0],
                "landed": objects(work.server) - before[1],
                "macs": macs,
                "hashed": hashed,
                "deflated": deflated,
            }
            print(json.dumps({name: found}), flush=True)


if __name__ == "__main__":
    main()
