"""A chain that is judged in several processes has the verdicts of the walk in one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.bench import generate
from coordledger.client import judging
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError
from coordledger.format import timestamps
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring
from coordledger.git.process import Git
from coordledger.git.tree import object_id
from coordledger.setup import joining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Log = list[tuple[str, bytes]]

COUNT = 170
STRETCH = 40


@pytest.fixture(scope="module")
def server() -> MemoryServer:
    made = MemoryServer("bob", "carol")
    made.write("alice", "policy", set={"max_attempts": 9})
    number = 0
    while len(made.ledger.log) < COUNT:
        task, agent = f"t{number % 50}", ("bob", "carol")[number % 2]
        made.write(agent, "claim", tasks=[task])
        if number % 3:
            made.write(agent, "complete", task=task)
            made.write(agent, "claim", tasks=[task], reopen=True)
        made.write(agent, "release", task=task)
        number += 1
    return made


@pytest.fixture
def copy(server: MemoryServer, tmp_path: Path, env: dict[str, str]) -> Iterator[MemoryClient]:
    """A repository with all objects of the ledger, that has adopted nothing yet."""
    made = MemoryClient(server, tmp_path / "copy.git", env)
    made.remote.fetch("refs/coordledger/main", "refs/coordledger-incoming/main", None)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side from a few records on."""
    monkeypatch.setattr(judging, "WORTH", 2 * STRETCH)
    monkeypatch.setattr(judging, "_LEAST_STRETCH", STRETCH)
    monkeypatch.setattr(judging, "processes", lambda: 2)


sizes_seen: list[int] = []  # of the lots that came last
Verdicts = list[tuple[int, str, str, str]]


def verdicts(
    copy: MemoryClient, log: Log, *, many: int | None = None, now: int | None = None
) -> Any:
    """Of these commits from the first one on: each with its verdict, and where the chain stands."""
    repository = copy.local.repository
    keyring = copy.replica.keyring("any")
    chain = Chain(repository.read, keyring, None, repository.algo)
    ids = [oid for oid, _ in log]
    contents = dict(log)

    def commits(done: int) -> Log:
        return [(oid, contents[oid]) for oid in ids[done:]]

    count = len(log) if many is None else many
    found: Verdicts = []
    fault, sizes = "", set[int]()
    lots = judging.lots(copy.replica, chain, count, lambda: iter(ids), commits, now)
    with closing(lots):
        try:
            for lot in lots:
                sizes.add(len(lot.judged))
                found += [
                    (one.seq, one.oid, one.verdict, one.broken.code if one.broken else "")
                    for one in lot.judged
                ]
        except CoordledgerError as error:
            fault = error.code
    sizes_seen[:] = sizes
    return found, fault, chain.head and chain.head.oid


def need_same(copy: MemoryClient, log: Log, *, dies: bool = False, **kw: Any) -> Any:
    copy.local.repository.write({oid: ("commit", content) for oid, content in log})
    found = verdicts(copy, log, **kw)
    assert STRETCH in sizes_seen or len(found[0]) <= STRETCH or dies  # judged side by side
    assert found == verdicts(copy, log, many=0)
    return found


# -- what somebody has done to a history


def replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


def tag_flipped(log: Log, at: int) -> Log:
    head, _, tag = log[at][1].partition(b"\nCoordledger-Signature: hmac-sha256 ")
    words = tag.split(b" ", 1)
    flipped = (b"A" if words[1][:1] != b"A" else b"B") + words[1][1:]
    return with_content(
        log, at, head + b"\nCoordledger-Signature: hmac-sha256 " + words[0] + b" " + flipped
    )


def with_content(log: Log, at: int, content: bytes) -> Log:
    """Another commit at that place, and the following ones on it."""
    changed, parent = log[:at], (log[at][0], object_id("commit", content, "sha1"))
    changed.append((parent[1], content))
    for oid, after in log[at + 1 :]:
        old, new = parent
        content = after.replace(f"parent {old}".encode(), f"parent {new}".encode(), 1)
        parent = (oid, object_id("commit", content, "sha1"))
        changed.append((parent[1], content))
    return changed


MANGLED: dict[str, Callable[[Log, int], Log]] = {
    "nothing": lambda log, at: log,
    "the MAC is another": tag_flipped,
    "the tree is another's": lambda log, at: with_content(
        log, at, replaced(log[at][1], log[at][1][5:45], log[at - 1][1][5:45])
    ),
    "the tree is not there": lambda log, at: with_content(
        log, at, replaced(log[at][1], log[at][1][5:45], b"7" * 40)
    ),
    "the seq is another": lambda log, at: with_content(
        log, at, replaced(log[at][1], b"-Seq: %d" % at, b"-Seq: %d" % (at + 1))
    ),
    "the digest is another": lambda log, at: with_content(
        log, at, log[at][1][:-3] + (b"00" if log[at][1][-3:-1] != b"00" else b"11") + b"\n"
    ),
    "no record's commit": lambda log, at: with_content(
        log, at, b"\n".join(log[at][1].split(b"\n")[:4]) + b"\n\nhello\n"
    ),
    "one is missing": lambda log, at: log[:at] + log[at + 1 :],
    "one comes twice": lambda log, at: log[: at + 1] + log[at:],
}  # fmt: skip


PLACES = (STRETCH - 1, STRETCH, 3 * STRETCH + 7)  # the last of a stretch, the first, and another


@pytest.mark.parametrize(
    ("name", "at"),
    [(name, PLACES[number % 3]) for number, name in enumerate(MANGLED)]
    + [("the MAC is another", at) for at in (0, PLACES[2])],
)
def test_a_mangled_chain_has_the_same_verdicts_side_by_side(
    server: MemoryServer, copy: MemoryClient, name: str, at: int
) -> None:
    log = server.ledger.log
    found, _, _ = need_same(copy, MANGLED[name](log, at))
    assert len(found) == len(log) if name == "nothing" else len(found) <= at + 2


def test_what_is_from_the_future_ends_what_is_judged_side_by_side(
    server: MemoryServer, copy: MemoryClient
) -> None:
    middle = parse_commit(*server.ledger.log[100]).record["at"]
    found, _, _ = need_same(copy, server.ledger.log, now=timestamps.parse(middle))
    assert len(found) == len(server.ledger.log)


def test_where_keys_are_missing_the_verdicts_are_the_same(
    server: MemoryServer, copy: MemoryClient
) -> None:
    ring = server.ledger.ring
    for masters, secrets_of in (([], ring.secrets_of), (ring.masters, lambda agent: ())):
        keyring = Keyring(masters, secrets_of)
        copy.replica._keyring_for = lambda ledger, keyring=keyring: keyring
        need_same(copy, server.ledger.log)


def test_states_between_that_are_not_here_are_made_anew(
    server: MemoryServer, tmp_path: Path, env: dict[str, str]
) -> None:
    bare = MemoryClient(server, tmp_path / "bare.git", env)
    found, fault, _ = need_same(bare, server.ledger.log)  # commits, and no trees
    assert (len(found), fault) == (len(server.ledger.log), "")
    bare.close()


def workers(monkeypatch: pytest.MonkeyPatch) -> list[judging._Worker]:
    """Those that are started from now on."""
    started: list[judging._Worker] = []
    init = judging._Worker.__init__

    def noted(self: judging._Worker, replica: Any) -> None:
        init(self, replica)
        started.append(self)

    monkeypatch.setattr(judging._Worker, "__init__", noted)
    return started


def test_a_worker_that_dies_is_done_without(
    server: MemoryServer, copy: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = workers(monkeypatch)
    hear = judging._Worker.hear

    def heard(self: judging._Worker) -> Any:
        answer = hear(self)
        if "end" in answer:
            started[1]._process.kill()
            started[1]._process.wait()
        return answer

    monkeypatch.setattr(judging._Worker, "hear", heard)
    found, _, _ = need_same(copy, server.ledger.log, dies=True)
    assert len(found) == len(server.ledger.log)
    assert len(started) == 2


def test_who_stops_listening_leaves_no_process_and_no_secret_to_be_seen(
    server: MemoryServer, copy: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = workers(monkeypatch)
    repository, log = copy.local.repository, server.ledger.log
    chain = Chain(repository.read, copy.replica.keyring("any"), None, repository.algo)
    lots = judging.lots(
        copy.replica,
        chain,
        len(log),
        lambda: (oid for oid, _ in log),
        lambda done: log[done:],
        None,
    )
    next(lots)
    secrets = [one.reveal() for agent in ("alice", "bob") for one in [server.ledger.secret(agent)]]
    for worker in started:
        place = Path("/proc", str(worker._process.pid))
        seen = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        assert not any(secret.encode() in seen for secret in secrets)
    lots.close()
    assert len(started) == 2
    assert all(worker._process.poll() is not None for worker in started)


ABANDONED = """
import os, sys, time
from coordledger.client import judging
judging.WORTH, judging._LEAST_STRETCH, judging.processes = 80, 40, lambda: 2
from coordledger import Ledger
hear = judging._Worker.hear
def heard(self):
    print(self._process.pid, flush=True)
    time.sleep(60)
judging._Worker.hear = heard
with Ledger.open(sys.argv[1], "alice", remote=sys.argv[2]) as ledger:
    ledger.audit(full=True)
"""


def test_an_audit_of_ssh_keys_counts_the_same_and_dies_with_its_caller(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, git = time.time_ns() // 1_000_000, Git(env, None, Deadline(60))
    by_ssh = generate.grow(tmp_path / "ledger.git", git, 200, now=now, ssh=True)
    by_ssh.put_down("alice", tmp_path / "key")
    clone = tmp_path / "clone"
    Git(env, None, Deadline(20)).output("init", "--quiet", str(clone))
    options = Options(path=clone, agent="alice", remote=str(by_ssh.repository))
    joining.join(options, env, str(by_ssh.repository))
    with Ledger.open(clone, "alice", environ=env, remote=str(by_ssh.repository)) as ledger:
        side_by_side = ledger.audit(full=True)
        monkeypatch.setattr(judging, "processes", lambda: 1)
        assert ledger.audit(full=True) == side_by_side
    assert side_by_side.records == 200
    argv = [sys.executable, "-c", ABANDONED, str(clone), str(by_ssh.repository)]
    caller = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert caller.stdout
    worker = int(caller.stdout.readline())
    caller.send_signal(signal.SIGKILL)
    caller.communicate()
    end = time.monotonic() + 30
    while time.monotonic() < end and _is_alive(worker):
        time.sleep(0.02)
    assert not _is_alive(worker)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path("/proc", str(pid), "status").read_text()
