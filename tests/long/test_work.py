"""How much is done for one operation: counted, not timed, and the numbers are exact.

A change that moves a number says so here. What is counted, in one process that has the
ledger open, with a remote on the same machine:

- started: programs of git's that the client starts
- pushes, fetches: connections to the remote (`receive-pack`, `upload-pack`), whether
  something is sent or not
- read: objects that the client reads; written: those that it writes into its own
  repository; landed: those that are new on the remote
- macs: of records, that the client computes to sign them or to verify them: once for each
- hashed: objects whose id the client computes, to make or to check them
- deflated: contents that the client deflates, as loose objects and for the pack
- processes: all that are started, git's own children and the hook's too; syncs: waits for
  a disk, but for those for the folders of loose objects: how many these are is chance. These
  two only where strace is installed, and with the git that they were counted with: versions
  differ in what they start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.counted_work import END, MARK
from support.fleet import LEDGER_REF
from support.serve_process import serving

from coordledger.client import lines, scan
from coordledger.client.replica import Replica
from coordledger.git import pktline
from coordledger.git.cat_file import CatFile
from coordledger.git.repository import Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from support.fleet import Fleet

    Counts = dict[str, dict[str, int]]

GIT = "2.39"  # of the last two columns
COLUMNS = [
    "started",
    "pushes",
    "fetches",
    "read",
    "written",
    "landed",
    "macs",
    "hashed",
    "deflated",
    "processes",
    "syncs",
]
EXPECTED = {
    "claim":                         (1, 1, 0, 0, 5, 5, 1, 5, 10, 6, 4),
    "claim, held by another":        (1, 0, 1, 1, 0, 0, 3, 1, 0, 1, 0),
    "claim, just lost":              (2, 1, 1, 1, 5, 0, 3, 12, 5, 3, 4),
    "claim, behind":                 (3, 2, 1, 0, 10, 5, 2, 16, 15, 9, 8),
    "renew":                         (1, 1, 0, 1, 5, 5, 2, 6, 10, 6, 4),
    "batch of 20":                   (2, 1, 0, 0, 100, 100, 20, 100, 100, 8, 8),
    "complete":                      (1, 1, 0, 1, 5, 5, 2, 6, 10, 7, 4),
    "tasks":                         (1, 0, 1, 27, 0, 0, 27, 27, 0, 1, 0),
    "tasks, behind":                 (1, 0, 1, 28, 5, 0, 28, 34, 0, 2, 2),
    "inbox":                         (1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0),
    "hook":                          (0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0),
    "join":                          (8, 1, 1, 32, 0, 0, 31, 187, 1, 16, 3),
    "sequenced: claim":              (1, 1, 0, 0, 5, 5, 1, 7, 7, 7, 11),
    "sequenced: claim, just lost":   (2, 1, 1, 1, 5, 0, 3, 14, 7, 9, 4),
    "sequenced: claim, behind":      (1, 1, 0, 0, 0, 5, 1, 7, 2, 7, 11),
    "sequenced: batch of 20":        (2, 1, 0, 1, 100, 100, 20, 122, 121, 9, 14),
    "resident: claim":               (1, 1, 0, 0, 5, 5, 1, 5, 10, 7, 4),
    "resident: batch of 20":         (2, 1, 0, 0, 100, 100, 20, 100, 100, 8, 8),
    "resident: hook":                (1, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0),
    "direct: claim":                 (0, 0, 0, 0, 5, 5, 2, 17, 5, 0, 11),
    "direct: claim, just lost":      (1, 0, 1, 1, 5, 0, 4, 21, 0, 2, 4),
    "direct: claim, behind":         (0, 0, 0, 0, 0, 5, 2, 17, 5, 0, 11),
    "direct: batch of 20":           (1, 0, 0, 1, 100, 100, 40, 203, 200, 1, 14),
    "direct: complete":              (1, 0, 0, 1, 5, 5, 3, 13, 5, 1, 11),
}  # fmt: skip

FANS = re.compile(r"/objects(/[0-9a-f]{2})?>")
STRACE = shutil.which("strace")
WORKER = Path(__file__).parents[1] / "support" / "counted_work.py"


@pytest.fixture(scope="module")
def counted(founded: Callable[..., Fleet]) -> Counts:
    """Everything that there is to count, by operation."""
    plain, served = (founded("bob") for _ in range(2))
    sequenced, near = founded("bob", sequence=True), founded("bob")
    near.env = near.env | {"COORDLEDGER_DIRECT": "on"}
    found = _count(plain, "") | _count(sequenced, "sequenced: ") | _count(near, "direct: ")
    with serving(served):
        return found | _count(served, "resident: ")


def _count(fleet: Fleet, where: str) -> Counts:
    """The operations that are expected of such a server, in their order."""
    named = (name.rpartition(": ") for name in EXPECTED)
    operations = [name for kind, colon, name in named if kind + colon == where]
    trace, calls = fleet.root / "trace", fleet.root / "calls"
    argv = [sys.executable, str(WORKER), str(fleet.clone("alice")), str(fleet.clone("bob"))]
    traced = [
        STRACE,
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-y",
        "-e",
        "trace=execve,fsync,fdatasync,chdir",
        "-o",
        str(calls),
    ]
    ran = subprocess.run(
        [*(traced if STRACE else []), *argv, str(trace), *operations],
        env=fleet.env | {"GIT_TRACE2_EVENT": str(trace)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: Counts = {}
    for line in ran.stdout.splitlines():
        found |= json.loads(line)
    if STRACE:
        for name, more in _calls(calls).items():
            found[name] |= more
    return {where + name: counts for name, counts in found.items()}


def _calls(path: Path) -> Counts:
    """Starts of programs and waits for a disk between the marks."""
    found: Counts = {}
    now = between = {"processes": 0, "syncs": 0}
    for line in path.read_text("utf-8", "replace").splitlines():
        call = re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line)
        # Where calls of several threads overlap, one line has what is asked, another the answer.
        unwanted = "resumed>" if call and "sync" in call[1] else "<unfinished"
        if call is None or unwanted in line:
            continue
        entered = re.search(f'"{MARK}([^"]*)"', line)
        if entered:
            now = between if entered[1] == END else {"processes": 0, "syncs": 0}
            found |= {entered[1]: now} if now is not between else {}
        elif call[1] == "execve":
            now["processes"] += line.endswith(" = 0")
        elif call[1] in ("fsync", "fdatasync"):
            now["syncs"] += FANS.search(line) is None
    return found


def test_every_operation_does_this_much_and_no_more(counted: Counts) -> None:
    columns = COLUMNS if _comparable() else COLUMNS[:-2]
    expected = {name: counts[: len(columns)] for name, counts in EXPECTED.items()}
    found = {name: tuple(counts[c] for c in columns) for name, counts in counted.items()}
    rows = [f"\n    {name!r:<34}{counts}" for name, counts in found.items()]
    assert found == expected, f"counted now:\n    {columns}{''.join(rows)}"


def _comparable() -> bool:
    version = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True)
    return bool(STRACE) and version.stdout.split()[2].startswith(f"{GIT}.")


UNUSED = {
    *("dulwich", "rich", "json", "hashlib", "random", "tempfile", "shutil", "base64", "logging"),
    *(
        "dataclasses",
        "importlib.metadata",
        "coordledger.client.judging",
        "coordledger.client.reports",
    ),
}
# What only a push needs, and commands that were not typed.
ONLY_A_PUSH = {f"coordledger.git.{name}" for name in ("pack", "pktline", "receive_pack")}
OTHER_COMMANDS = {f"coordledger.cli.{name}" for name in ("admin", "audit", "log", "tasks", "watch")}


def _imported(fleet: Fleet, *argv: str, **environ: str) -> set[str]:
    """The modules that a command of alice's imports."""
    command = [sys.executable, "-X", "importtime", "-m", "coordledger", *argv]
    env = fleet.env | {"COORDLEDGER_AGENT": "alice"} | environ
    ran = subprocess.run(
        command, cwd=fleet.clone("alice"), env=env, capture_output=True, text=True, check=True
    )
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}


def test_a_cold_claim_imports_little_even_where_objects_and_refs_are_packed(
    founded: Callable[..., Fleet],
) -> None:
    fleet = founded("bob")
    fleet.run("submit", "first", agent="alice", check=0)
    fleet.git("gc", "--quiet", cwd=fleet.clone("alice"))
    imported = _imported(fleet, "claim", "first")
    assert "coordledger.client.writer" in imported
    assert imported.isdisjoint(UNUSED | OTHER_COMMANDS)
    without = _imported(fleet, "claim", "second", COORDLEDGER_DIRECT="on")
    assert "coordledger.server.receiver" in without
    assert without.isdisjoint(UNUSED | OTHER_COMMANDS | ONLY_A_PUSH)


def test_prime_imports_little(founded: Callable[..., Fleet]) -> None:
    imported = _imported(founded("bob"), "prime")
    assert "coordledger.integrations.prime" in imported
    assert imported.isdisjoint((UNUSED | OTHER_COMMANDS) - {"coordledger.client.reports"})


def test_a_list_reads_the_records_that_it_shows_and_asks_for_pages_together(
    founded: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = founded("bob")
    with fleet.ledger("alice") as alice:
        with alice.batch() as batch:
            for number in range(60):
                batch.submit(f"t{number}", priority=number % 3)
        alice.claim("t1", "t4")
    fleet.git("gc", "--quiet", cwd=fleet.clone("bob"))
    with fleet.ledger("bob") as bob:
        bob.head()
        shown, asked = [], []
        commit_at, find_all = Replica.commit_at, CatFile.find_all
        find = CatFile.find

        def one(self: Replica, seq: int) -> object:
            shown.append(seq)
            return commit_at(self, seq)

        def alone(self: CatFile, name: str, *limit: int) -> object:
            asked.append(1)
            return find(self, name, *limit)

        def together(self: CatFile, names: list[str], *limit: int) -> object:
            asked.append(len(names))
            return find_all(self, names, *limit)

        monkeypatch.setattr(Replica, "commit_at", one)
        monkeypatch.setattr(CatFile, "find", alone)
        monkeypatch.setattr(CatFile, "find_all", together)
        found = bob.some_tasks(["open"], limit=2)
        assert ([task.task for task in found.tasks], found.count) == (["t2", "t5"], 58)
        assert len(shown) == 2
        assert max(asked) > 40  # pages
        alone_before = asked.count(1)
        everything = bob.some_tasks()
        assert (len(everything.tasks), everything.count) == (60, 60)
        assert asked.count(1) - alone_before < 10  # and the records
        mine = bob.some_tasks(["claimed"], "alice", 1)
        assert ([task.task for task in mine.tasks], mine.count) == (["t1"], 2)
        assert bob.tasks() == list(everything.tasks)


# Records that are looked at, and objects that are read, once both indexes are filled.
READS = {
    "list": (0, 0),
    "list, the first two": (0, 0),
    "list, one label": (0, 0),
    "the next one": (3, 2),
    "history": (2, 2),
    "status": (0, 0),
    "list, after a claim": (1, 1),
}


def test_reads_of_a_large_ledger_read_what_is_new(
    founded: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, looked, read = founded("bob"), list[int](), list[str]()
    monkeypatch.setattr(lines, "_LARGE", 0)  # as if it were large
    monkeypatch.setattr(scan, "_MANY", 0)
    monkeypatch.setattr(scan, "_MORE", 0)
    commit_at, find, ahead = Replica.commit_at, Repository._find, Repository.read_ahead

    def one(self: Replica, seq: int) -> object:
        looked.append(seq)
        return commit_at(self, seq)

    def found(self: Repository, oid: str) -> object:
        read.append(oid)
        return find(self, oid)

    def together(self: Repository, oids: list[str]) -> None:
        read.extend(oids)
        ahead(self, oids)

    with fleet.ledger("alice") as alice, fleet.ledger("bob") as bob:
        with alice.batch() as batch:
            for number in range(60):
                batch.submit(f"t{number}", priority=number % 3, labels=["odd"] * (number % 2))
        alice.claim("t1", "t4")
        fleet.git("gc", "--quiet", cwd=fleet.clone("bob"))
        bob.tasks()
        bob.history("t1")
        monkeypatch.setattr(Replica, "commit_at", one)
        monkeypatch.setattr(Repository, "_find", found)
        monkeypatch.setattr(Repository, "read_ahead", together)

        def work(act: Callable[[], object]) -> tuple[int, int]:
            looked.clear()
            read.clear()
            act()
            return len(set(looked)), len(set(read))

        counts = {
            "list": work(bob.tasks),
            "list, the first two": work(lambda: bob.some_tasks(limit=2)),
            "list, one label": work(lambda: bob.some_tasks(["open"], labels=["odd"])),
            "the next one": work(lambda: bob.claim_next(dry_run=True)),
            "history": work(lambda: bob.history("t1")),
            "status": work(bob.status),
        }
        alice.claim("t7")
        bob.head()
        counts["list, after a claim"] = work(bob.tasks)
    assert counts == READS


def test_a_list_looks_for_the_head_as_often_however_long_it_is(
    founded: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, looked, stat = founded("bob"), list[str](), os.stat

    def counted(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("trusted.json"):
            looked.append(str(path))
        return stat(path, **more)

    with fleet.ledger("alice") as alice, fleet.ledger("bob") as bob:
        with alice.batch() as batch:
            for number in range(60):
                batch.submit(f"t{number}")
        alice.claim("t1", "t4")
        bob.head()
        monkeypatch.setattr("coordledger.client.local_state.os.stat", counted)
        counts = []
        for limit in (2, 60):
            looked.clear()
            assert len(bob.some_tasks(limit=limit).tasks) == limit
            counts.append(len(looked))
        assert counts[0] == counts[1]
        with alice.connection.local.held_head():  # and yet what it moves itself is seen
            bob.submit("t60")
            assert alice.claim("t60").won
            assert alice.describe("t60").claim.agent == "alice"


def test_what_a_remote_with_many_refs_says_is_read_once(
    founded: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = founded("bob")
    head = fleet.git("rev-parse", LEDGER_REF).strip()
    lines = "".join(f"{head} refs/tags/t{n:05}\n" for n in range(5000))
    (fleet.remote / "packed-refs").write_text(f"# pack-refs with: sorted\n{lines}")
    said: list[int] = []
    split = pktline.split

    def counted(data: bytes) -> tuple[list[bytes], bytes, bool]:
        said.append(len(data))
        return split(data)

    monkeypatch.setattr(pktline, "split", counted)
    with fleet.ledger("alice") as alice:
        assert alice.claim("t").won
    listed = len(fleet.git("for-each-ref", "--format=%(objectname) %(refname)"))
    assert listed < sum(said) < 3 * listed
