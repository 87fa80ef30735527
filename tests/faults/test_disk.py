"""Disks that are full or read-only: one clear error, nothing half-written, and it works again."""

from __future__ import annotations

import json
import subprocess
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.bookkeeping import claims_of, fsck, records_of
from support.fleet import LEDGER_REF, Fleet
from support.git_daemon import daemon

from coordledger import Ledger
from coordledger.client.config import Options
from coordledger.errors import Failed
from coordledger.setup import joining

from .conftest import BY_EACH_WAY, IN_QUARANTINE, sequence_in_quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Agents, Disk

# Blocks that are left. With none nothing begins; with a few it stops somewhere on the way.
LEFT = (0, 1, 2, 3, 4, 6, 8, 12, 20)
# dulwich warns of a file that it could not close for want of room.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
DISK_IS_FULL = {"io", "remote-unreachable", "push-refused", "git-failed"}


def on_disk(fleet: Fleet, disk: Disk, agent: str) -> Path:
    """The agent's clone, joined, on that disk."""
    path = disk.path / agent
    fleet.git("clone", "--quiet", fleet.remote, path)
    joining.join(Options(path=path, agent=agent), fleet.env, "origin")
    return path


def fault_of(ran: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The error that a command printed with `--json`: one value, one sentence, no traceback."""
    assert ran.stderr == ""
    found: dict[str, str] = json.loads(ran.stdout)["error"]
    assert "\n" not in found["message"]
    return found


def check_all_or_nothing(
    fleet: Fleet, agents: Agents, clone: Path, disk: Disk, codes: set[str]
) -> None:
    """Claim at each degree of fullness; what was said and what landed agree, then and later."""
    said = {}
    for left in LEFT:
        task = f"t{left}"
        disk.fill(left)
        result = agents.run(clone, "alice", ("claim", task), timeout=8)["said"][0]
        said[left] = result.get("outcome") or result["code"]
        assert said[left] in {"won", *codes}, (left, result)
        if said[left] != "won":
            assert "\n" not in result["message"]
        records = records_of(fleet.remote)
        assert len(claims_of(records, task)) == (said[left] == "won"), left
        disk.clear()
        steps = (("resolve",), ("claim", task), ("complete", task))
        resolved, again, completed = agents.run(clone, "alice", *steps)["said"]
        assert {found["outcome"] for found in resolved} <= {
            "landed" if said[left] == "won" else "voided"
        }
        assert again["outcome"] == ("lost" if said[left] == "won" else "won"), (left, again)
        assert again["code"] in ("", "already-yours")
        assert completed["status"] == "done", (left, completed)
        assert len(claims_of(records_of(fleet.remote), task)) == 1
    assert said[0] != "won"
    assert "won" in said.values(), said
    fsck(fleet.remote, fleet.env)


# -- the client's


@BY_EACH_WAY
def test_a_full_disk_of_the_client_lets_a_claim_happen_or_not(
    fleet: Fleet, agents: Agents, make_disk: Callable[..., Disk]
) -> None:
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    check_all_or_nothing(fleet, agents, clone, disk, {"io", "remote-unreachable"})
    with Ledger.open(clone, "alice", environ=fleet.env) as alice:
        assert not alice.audit(full=True).problems
        assert alice.connection.local.journal.intents() == []


def test_a_full_disk_is_one_line_and_a_stable_code(
    fleet: Fleet, make_disk: Callable[..., Disk]
) -> None:
    fleet.enroll("bob")
    bob = fleet.ledger("bob")
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    disk.fill()
    ran = fleet.run("claim", "t", "--json", cwd=clone, check=1)
    fault = fault_of(ran)
    assert (fault["code"], "No space left" in fault["message"]) == ("io", True)
    ran = fleet.run("claim", "t", cwd=clone, check=1)
    assert len(ran.stderr.splitlines()) == 1
    bob.send("x", to="alice")  # so that there is something to fetch
    fault = fault_of(fleet.run("inbox", "--json", cwd=clone, check=1))
    assert fault["code"] in DISK_IS_FULL
    assert claims_of(records_of(fleet.remote), "t") == []
    disk.clear()
    assert [message["body"] for message in listed(fleet, clone, "inbox")] == ["x"]
    fleet.run("claim", "t", cwd=clone, check=0)


def test_a_full_disk_of_the_line_keeps_nobody_from_claiming(
    fleet: Fleet, make_disk: Callable[..., Disk]
) -> None:
    """Processes that wait for each other there, and cannot say anything any more."""
    disk = make_disk()
    env = fleet.env | {"XDG_CACHE_HOME": str(disk.path / "cache")}
    names = ("alice", "bob", "carol")
    for name in names[1:]:
        fleet.enroll(name)
    ledgers = [fleet.ledger(name, environ=env) for name in names]
    won: list[str] = []

    def claim(ledger: Ledger, left: int) -> None:
        for number in range(3):
            task = f"{ledger.connection.settings.agent}-{left}-{number}"
            won.extend([task] if ledger.claim(task).won else [])

    for left in (400, *LEFT):
        disk.fill(left)
        threads = [threading.Thread(target=claim, args=(ledger, left)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        disk.clear()
    assert len(won) == len(set(won)) == 3 * 3 * (1 + len(LEFT))
    records = records_of(fleet.remote)
    assert [len(claims_of(records, task)) for task in won] == [1] * len(won)
    fsck(fleet.remote, fleet.env)


def listed(fleet: Fleet, clone: Path, *argv: str, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]]
    found = json.loads(fleet.run(*argv, "--json", cwd=clone, check=code).stdout)
    return found


def test_a_claim_that_landed_is_won_although_the_disk_filled_up_meanwhile(
    fleet: Fleet, make_disk: Callable[..., Disk]
) -> None:
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    hook = fleet.remote / "hooks/post-receive"
    hook.write_text(f"#!/bin/sh\ncat /dev/zero > '{disk.path}/filler' 2> /dev/null\nexit 0\n")
    hook.chmod(0o755)
    with Ledger.open(clone, "alice", environ=fleet.env) as alice:
        seq = alice.head().seq
        result = alice.claim("t")
        assert result.claim
        assert (result.outcome, result.claim.epoch, result.claim.agent) == ("won", 1, "alice")
        assert len(claims_of(records_of(fleet.remote), "t")) == 1
        try:  # whether the journal still fits is the disk's affair
            other = alice.claim("other").outcome
        except Failed as full:
            other = full.code
        landed = len(claims_of(records_of(fleet.remote), "other"))
        assert (other, landed) in (("won", 1), ("io", 0))
        # In a process that knows less, it is still the same session's.
        disk.clear()
        hook.unlink()
    with Ledger.open(clone, "alice", environ=fleet.env) as alice:
        assert (alice.head().seq, alice.claim("t").code) == (seq + 1 + landed, "already-yours")
        assert alice.complete("t").status == "done"
        assert [found.outcome for found in alice.resolve()] in ([], ["landed"])
        assert not alice.audit(full=True).problems
    assert len(claims_of(records_of(fleet.remote), "t")) == 1


@pytest.mark.parametrize(
    ("hook", "killer", "outcome"),
    [
        (
            "reference-transaction",
            'if [ "$1" = committed ]; then {fill}; kill -9 $PPID; fi',
            "landed",
        ),
        ("pre-receive.chained", "{fill}; kill -9 $(ps -o ppid= -p $PPID)", "voided"),
    ],
    ids=["landed", "not-landed"],
)
def test_a_full_disk_after_a_push_without_an_answer_is_no_failure_but_unknown(
    fleet: Fleet, make_disk: Callable[..., Disk], hook: str, killer: str, outcome: str
) -> None:
    """The server dies before it answers, and then there is no room to look or to try again."""
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    fill = f"cat /dev/zero > '{disk.path}/filler' 2> /dev/null"
    path = fleet.remote / "hooks" / hook
    lines = ["#!/bin/sh", "grep -q refs/coordledger/ || exit 0", killer.format(fill=fill)]
    path.write_text("\n".join([*lines, "exit 0\n"]))
    path.chmod(0o755)
    ran = fleet.run("claim", "t", "--json", "--timeout", "5s", cwd=clone)
    assert ran.returncode == 5, ran.stdout
    assert fault_of(ran)["code"] == "unknown-outcome"
    assert len(claims_of(records_of(fleet.remote), "t")) == (outcome == "landed")
    path.unlink()
    disk.clear()
    [settled] = listed(fleet, clone, "resolve", code=0 if outcome == "landed" else 3)
    assert settled["outcome"] == outcome
    fleet.run("claim", "t", cwd=clone, check=3 if outcome == "landed" else 0)
    fleet.run("complete", "t", cwd=clone, check=0)
    assert len(claims_of(records_of(fleet.remote), "t")) == 1


@BY_EACH_WAY
def test_a_full_temporary_folder_stops_a_claim_before_it_is_sent(
    fleet: Fleet, make_disk: Callable[..., Disk]
) -> None:
    disk = make_disk()
    clone = fleet.clone("alice")
    disk.fill()
    env = {"TMPDIR": str(disk.path)}
    ran = fleet.run("claim", "t", "--json", cwd=clone, env=env)
    # Where another temporary folder is found, all is well.
    assert ran.returncode in (0, 1)
    landed = len(claims_of(records_of(fleet.remote), "t"))
    assert landed == (ran.returncode == 0)
    assert ran.returncode == 0 or fault_of(ran)["code"] in DISK_IS_FULL
    disk.clear()
    fleet.run("claim", "u", cwd=clone, env=env, check=0)


def test_a_read_only_clone_reads_and_writes_through_a_copy_of_the_users(
    fleet: Fleet, make_disk: Callable[..., Disk]
) -> None:
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True, timeout=20)
    fleet.run("claim", "t", cwd=clone, check=0)
    assert "t" in fleet.run("list", cwd=clone, check=0).stdout
    fleet.run("complete", "t", cwd=clone, check=0)
    subprocess.run(["mount", "-o", "remount,rw", str(disk.path)], check=True, timeout=20)
    fleet.run("claim", "u", cwd=clone, check=0)
    assert len(claims_of(records_of(fleet.remote), "t")) == 1


@pytest.mark.parametrize("left", [0, 1, 4, 12])
def test_where_an_index_finds_no_room_what_is_asked_of_it_is_answered_all_the_same(
    fleet: Fleet, make_disk: Callable[..., Disk], left: int
) -> None:
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    fleet.run("claim", "t", cwd=clone, check=0)
    disk.fill(left)
    ran = fleet.run("log", "--offline", "--kind", "claim", "--json", cwd=clone, check=0)
    assert [one["tasks"] for one in json.loads(ran.stdout)] == [["t"]]
    disk.clear()
    again = fleet.run("log", "--offline", "--kind", "claim", "--json", cwd=clone, check=0)
    assert again.stdout == ran.stdout
    assert (clone / ".git" / "coordledger" / "main" / "records.db").stat().st_size


def test_a_clone_that_cannot_be_written_is_looked_at_offline(
    fleet: Fleet, make_disk: Callable[..., Disk]
) -> None:
    disk = make_disk()
    clone = on_disk(fleet, disk, "alice")
    fleet.run("claim", "t", cwd=clone, check=0)
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True, timeout=20)
    walked = fleet.run("log", "--offline", "--json", cwd=clone, check=0).stdout
    told = json.loads(fleet.run("stats", "--offline", "--json", cwd=clone, check=0).stdout)
    assert told["total"]["claimed"] == 1
    subprocess.run(["mount", "-o", "remount,rw", str(disk.path)], check=True, timeout=20)
    assert fleet.run("log", "--offline", "--json", cwd=clone, check=0).stdout == walked


# -- the server's


@pytest.fixture
def small_server(
    make_disk: Callable[..., Disk], env: dict[str, str], tmp_path: Path, way: str
) -> Iterator[tuple[Fleet, Disk]]:
    """A fleet whose bare repository lies on a small disk."""
    disk = make_disk()
    fleet = Fleet(tmp_path / "fleet", env, name=str(disk.path / "ledger.git"))
    if way == IN_QUARANTINE:
        sequence_in_quarantine(fleet)
    yield fleet, disk
    fleet.close()


@BY_EACH_WAY
def test_a_full_disk_of_the_server_lets_a_claim_happen_or_not(
    small_server: tuple[Fleet, Disk], agents: Agents
) -> None:
    fleet, disk = small_server
    check_all_or_nothing(fleet, agents, fleet.clone("alice"), disk, {"push-refused", "hook-broken"})


def test_a_disk_that_fills_up_before_the_ref_moves_is_a_refusal(
    small_server: tuple[Fleet, Disk],
) -> None:
    fleet, disk = small_server
    alice = fleet.ledger("alice")
    hook = fleet.remote / "hooks/pre-receive.chained"
    hook.write_text(
        f"#!/bin/sh\ncat > /dev/null\ncat /dev/zero > '{disk.path}/filler' 2> /dev/null\nexit 0\n"
    )
    hook.chmod(0o755)
    head = fleet.head()
    with pytest.raises(Failed) as full:
        with_patience(fleet, 6).claim("t")
    assert full.value.code in ("push-refused", "hook-broken"), full.value
    assert fleet.head() == head
    hook.unlink()
    disk.clear()
    assert not (fleet.remote / f"{LEDGER_REF}.lock").exists()
    assert alice.connection.local.journal.intents() == []
    assert alice.claim("t").outcome == "won"
    fsck(fleet.remote, fleet.env)


def with_patience(fleet: Fleet, seconds: float) -> Ledger:
    return fleet.ledger("alice", timeout=timedelta(seconds=seconds))


@BY_EACH_WAY
def test_a_server_whose_disk_is_read_only_refuses_writes_and_serves_readers(
    small_server: tuple[Fleet, Disk],
) -> None:
    fleet, disk = small_server
    alice = fleet.ledger("alice")
    assert alice.claim("before").outcome == "won"
    subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True, timeout=20)
    with pytest.raises(Failed) as refused:
        alice.claim("t")
    assert refused.value.code in ("push-refused", "hook-broken"), refused.value
    assert alice.connection.local.journal.intents() == []
    assert [task.task for task in alice.tasks()] == ["before"]
    subprocess.run(["mount", "-o", "remount,rw", str(disk.path)], check=True, timeout=20)
    assert alice.claim("t").outcome == "won"


def test_a_server_without_receive_pack_refuses_writes_and_serves_readers(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    assert alice.claim("before").outcome == "won"
    with daemon(fleet.root, fleet.env, writable=False) as port:
        url = f"git://127.0.0.1:{port}/{fleet.remote.name}"
        with Ledger.open(fleet.clone("alice"), "alice", remote=url, environ=fleet.env) as reader:
            assert [task.task for task in reader.tasks()] == ["before"]
            with pytest.raises(Failed) as refused:
                reader.claim("t")
            assert refused.value.code in ("remote-unreachable", "push-refused")
            assert reader.connection.local.journal.intents() == []
            ran = fleet.run("claim", "t", "--remote", url, agent="alice", check=1)
            assert "Traceback" not in ran.stderr
            assert "access denied" in ran.stderr or "not enabled" in ran.stderr, ran.stderr
    assert alice.claim("t").outcome == "won"
