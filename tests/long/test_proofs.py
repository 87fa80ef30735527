"""Proofs: the page's commands, each byte of a file, long histories, hostile files."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from support import pages
from support.fleet import hermetic
from support.memory_ledger import MemoryLedger
from support.proofs import (
    ALL_SSH,
    Code,
    ledger_with,
    proof_of,
    records_in,
    refusal,
    resealed,
    with_records,
)
from support.ssh_hosts import Host

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = "docs/proof.md"
PROGRAM = f'coordledger() {{ "{sys.executable}" -m coordledger "$@"; }}\n'


def verified(home: Path, file: Path, *argv: str, memory: int = 0) -> tuple[int, str, str]:
    """How `verify-proof` ends in an empty home without git; `memory`: it may take so many bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-m", "coordledger", "verify-proof", str(file), *argv],
        cwd=home,
        env=hermetic(home) | {"PATH": "/nonexistent"},
        capture_output=True,
        timeout=300,
        check=False,
        preexec_fn=limit if memory else None,
    )
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


def ssh_ledger(root: Path, algo: str = "sha1") -> tuple[Host, Host, Path]:
    """alice and bob with SSH keys on two hosts; bob's third commit landed with two others."""
    alice, bob = Host(root, "alice"), Host(root, "bob")
    remote = root / "ledger.git"
    made = ("git", "init", "--quiet", f"--object-format={algo}")
    for host in (alice, bob):
        shutil.rmtree(host.root / ".git")
        host.run(*made, ".")
    alice.run(*made, "--bare", remote)

    def say(host: Host, *argv: str | Path) -> str:
        return host.run(sys.executable, "-m", "coordledger", *argv)

    say(alice, "init", remote, "--agent", "alice", "--ssh-key")
    say(alice, "join", remote, "--agent", "alice")
    line = json.loads(say(bob, "key", "new", "--agent", "bob", "--json"))["public"]
    say(alice, "agent", "add", "bob", "--ssh-key", line)
    say(alice, "hook", "install", remote, "--fence", "refs/heads/main")
    bob.run("git", "remote", "add", "origin", remote)
    say(bob, "join", "origin", "--agent", "bob")
    say(bob, "claim", "work", "--ttl", "2h")
    who = ("-c", "user.name=b", "-c", "user.email=b@example.com")
    for number in range(3):
        bob.run("git", *who, "commit", "--quiet", "--allow-empty", "-m", f"c{number}")
    say(bob, "push", "origin", "HEAD:refs/heads/main", "--task", "work")
    return alice, bob, remote


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_the_pages_commands_work_as_they_stand(tmp_path: Path, algo: str) -> None:
    alice, bob, _ = ssh_ledger(tmp_path, algo)
    key = alice.run(sys.executable, "-m", "coordledger", "key", "show", "--as", "alice")
    (bob.root / "alice.pub").write_text(key)
    (block,) = pages.blocks(PAGE)
    told = bob.run("sh", "-eu", "-c", PROGRAM + block)
    assert "compared     the owner's key" in told
    # And a reader on a third host, who has that key and the file alone.
    file = bob.root / "landed.proof"
    code, out, err = verified(tmp_path / "reader", file, "--trust", key.strip())
    assert (code, err) == (0, "")
    assert "all checked" in out
    oldest = bob.root / "oldest.proof"
    bob.run(sys.executable, "-m", "coordledger", "prove", "HEAD~2", "-o", oldest)
    code, out, err = verified(tmp_path / "reader", oldest, "--trust", key.strip())
    assert (code, err) == (0, "")
    assert "2 parents above it" in out
    bobs = bob.run(sys.executable, "-m", "coordledger", "key", "show", "--as", "bob").strip()
    code, out, err = verified(tmp_path / "reader", file, "--trust", bobs)
    assert (code, out) == (4, "")
    assert "the ledger was founded with ssh-ed25519" in err


def test_a_shallow_copy_that_has_the_landing_has_not_all_that_proves_it(tmp_path: Path) -> None:
    alice, bob, remote = ssh_ledger(tmp_path)
    carol = Host(tmp_path, "carol")
    url = f"file://{remote}"
    carol.run("git", "remote", "add", "origin", url)
    carol.run(sys.executable, "-m", "coordledger", "join", "origin", "--as", "carol", "--depth=1")
    alice.run("git", "fetch", "--quiet", remote, "main")
    who = ("-c", "user.name=b", "-c", "user.email=b@example.com")
    bob.run("git", *who, "commit", "--quiet", "--allow-empty", "-m", "more")
    bob.run(sys.executable, "-m", "coordledger", "push", "origin", "HEAD:main", "--task", "work")
    carol.run("git", "fetch", "--quiet", "origin", "main")
    argv = (sys.executable, "-m", "coordledger", "prove", "FETCH_HEAD", "--as", "carol", "--json")
    assert json.loads(carol.run(*argv, check=False))["error"]["code"] == "gone"


def test_a_byte_of_the_file_that_is_another_is_seen() -> None:
    ledger, code = ledger_with("sha1")
    good = proof_of(ledger, code.line[1], code.tip, [code.contents[c] for c in code.line[:1:-1]])
    assert refusal(good) == ""
    for at in range(len(good)):
        for change in (1, 0x20, 0x80):
            bad = good[:at] + bytes([good[at] ^ change]) + good[at + 1 :]
            assert refusal(bad) in ("bad-proof", "newer-version"), (at, change)
        assert refusal(good[:at]) == "bad-proof"


def test_a_byte_of_a_record_or_of_a_commit_that_is_another_is_seen_under_a_checksum_that_fits() -> (
    None
):
    ledger, code = ledger_with("sha1")
    path = [code.contents[c] for c in code.line[:1:-1]]
    good = proof_of(ledger, code.line[1], code.tip, path)
    records = records_in(good)
    for number, record in enumerate(records):
        for at in range(len(record)):
            changed = record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]
            bad = with_records(good, [*records[:number], changed, *records[number + 1 :]])
            assert refusal(bad) in ("bad-proof", "newer-version"), (number, at)
    for number, content in enumerate(path):
        for at in range(len(content)):
            changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            mixed = [*path[:number], changed, *path[number + 1 :]]
            bad = proof_of(ledger, code.line[1], code.tip, mixed)
            assert refusal(bad) == "bad-proof", (number, at)


def _long(count: int) -> tuple[MemoryLedger, Code]:
    """A ledger whose landing comes after so many other records; nothing is kept of older states."""
    code = Code("sha1")
    ledger = MemoryLedger("bob", ssh=ALL_SSH)
    for number in range(count):
        ledger.put("bob", "submit", task=f"t{number:05}", body="x" * (number % 50))
    ledger.put("bob", "claim", tasks=["work"])
    ledger.put("bob", "land", task="work", ref="refs/heads/main", old=code.none, new=code.tip)
    return ledger, code


def test_a_long_ledger_is_verified_in_little_memory(tmp_path: Path) -> None:
    ledger, code = _long(3000)
    data = proof_of(ledger, code.tip, code.tip, land=3003)
    assert len(data) < 3003 * 260
    (tmp_path / "long.proof").write_bytes(data)
    code_, out, err = verified(tmp_path / "home", tmp_path / "long.proof", memory=1_000_000_000)
    assert (code_, err) == (0, "")
    assert "3004, all checked" in out


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "33 MiB of nothing": lambda good: b"\0" * 34_600_000,
    "33 MiB of brackets": lambda good: b"[" * 33_554_431 + b"\n",
    "32 MiB of objects": lambda good: b'{"a":' * 6_000_000 + b"}\n",
    "32 MiB of lists": lambda good: b'{"a":[' + b"[]," * 11_000_000 + b"[]]}\n",
    "32 MiB of empty objects": lambda good: b'{"a":[' + b"{}," * 11_000_000 + b"{}]}\n",
    "32 MiB of texts": lambda good: b'{"a":"' + b'","' * 11_000_000 + b'"}\n',
    "32 MiB in one text": lambda good: b'{"proof":"' + b"a" * 33_000_000 + b'"}\n',
    "32 MiB of digits": lambda good: b'{"proof":' + b"1" * 33_000_000 + b"}\n",
    "a bomb of records": lambda good: resealed(
        good, items=lambda raw: zlib.compress(raw + b"\0\0\0\1x" * 40_000_000, 9)
    ),
    "one item of a bomb": lambda good: resealed(
        good, items=lambda raw: zlib.compress(b"\0\2\0\0" + b"{" * 200_000_000, 9)
    ),
    "a bomb of empty objects": lambda good: resealed(
        good,
        path=json.loads(resealed(good, items=lambda _: zlib.compress(b"\0" * 300_000_000)))[
            "records"
        ],
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_line_in_little_time_and_memory(case: str, tmp_path: Path) -> None:
    ledger, code = ledger_with("sha1")
    file = tmp_path / "bad.proof"
    file.write_bytes(HOSTILE[case](proof_of(ledger, code.tip, code.tip)))
    code_, out, err = verified(tmp_path / "home", file, memory=700_000_000)
    assert (code_, out) == (4, ""), err
    assert len(err.splitlines()) == 1, err
    assert "the proof does not hold" in err
