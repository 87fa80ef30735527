"""Proofs from a clone, verified by somebody who has nothing but the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet import LEDGER_REF, hermetic
from support.pusher import MAIN, NOWHERE, Pusher

import coordledger
from coordledger import Failed, Integrity, Ledger, verify_proof
from coordledger.client import proving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet

TAG = "refs/tags/v1"


class Site:
    """bob's clone; a, b, and m, a merge of b and x, came to main at once, and a tag of m."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet, self.clone = fleet, fleet.clone("bob")
        with fleet.ledger("bob", session="s1") as ledger:
            assert ledger.claim("work", ttl=timedelta(hours=2)).won
        push = self.pusher = Pusher(fleet, folder)
        self.a = push.code("a")
        self.b = push.code("b", self.a)
        self.x = push.code("x", more="gpgsig a\n b\n")
        self.m = push.code("m\n\nparent " + "f" * 40, self.b, self.x)
        about = f"object {self.m}\ntype commit\ntag v1\ntagger b <b@c> 1790000000 +0000\n\none\n"
        self.tag = push.add("tag", about.encode())
        for new, ref in ((self.m, MAIN), (self.tag, TAG)):
            record = push.lands(new, NOWHERE, ref)
            pushed = push.atomic(f"{record}:{LEDGER_REF}", f"{new}:{ref}")
            assert pushed.code == 0, pushed.err
        fleet.git("fetch", "--quiet", "--tags", "origin", cwd=self.clone)
        with fleet.ledger("bob", session="s1") as ledger:
            ledger.send("later", to="alice")

    def prove(self, name: str, **given: Any) -> bytes:
        with self.fleet.ledger("bob", session="s1") as ledger:
            return ledger.prove(name, **given)

    @property
    def master(self) -> Path:
        return self.fleet.remote / "coordledger/master"


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    fleet = founded("bob")
    fleet.run("hook", "install", fleet.remote, "--fence", MAIN, "--fence", TAG, check=0)
    made = Site(fleet, tmp_path_factory.mktemp("code") / "pusher.git")
    yield made
    made.pusher.close()


def elsewhere(
    folder: Path, *argv: str | Path, data: bytes = b"", check: int
) -> subprocess.CompletedProcess[str]:
    """`coordledger verify-proof ARGV` in an empty home, where there is no git."""
    home = folder / "nobody"
    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-m", "coordledger", "verify-proof", *map(str, argv)],
        cwd=home,
        env=hermetic(home) | {"PATH": "/nonexistent", "HOME": str(home / "none")},
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    out, err = ran.stdout.decode(), ran.stderr.decode()
    assert ran.returncode == check, out + err
    assert "Traceback" not in err
    assert [path.name for path in home.iterdir()] == ["home"]
    return subprocess.CompletedProcess(ran.args, ran.returncode, out, err)


def secrets_of(site: Site) -> list[coordledger.Secret]:
    return [coordledger.Secret(site.master.read_text().strip())]


@pytest.mark.parametrize(("name", "distance"), [("m", 0), ("b", 1), ("x", 1), ("a", 2)])
def test_a_commit_and_what_it_contains_are_proved(site: Site, name: str, distance: int) -> None:
    made = site.prove(getattr(site, name))
    found = verify_proof(made, secrets=secrets_of(site))
    assert (found.commit, found.new) == (getattr(site, name), site.m)
    assert (found.ref, found.distance, found.agent, found.task) == (MAIN, distance, "bob", "work")
    assert (found.records, found.unchecked, found.compared) == (4, 0, ())
    assert (found.claim_seq, found.seq) == (2, 3)


def test_another_ref_and_the_whole_ledger_when_asked_for(site: Site) -> None:
    found = verify_proof(site.prove(site.a, ref=TAG, whole=True), secrets=secrets_of(site))
    assert (found.ref, found.new, found.distance) == (TAG, site.tag, 3)
    assert (found.records, found.head.seq) == (6, 5)
    with site.fleet.ledger("bob") as ledger:
        assert found.head == ledger.head()


def test_a_ref_that_it_did_not_come_to_is_refused(site: Site) -> None:
    for name, ref, code in (
        (site.a, "refs/heads/x", "never-landed"),
        ("x", None, "unknown-commit"),
    ):
        with pytest.raises(Failed) as refused:
            site.prove(name, ref=ref)
        assert refused.value.code == code


def test_anywhere_with_the_file_alone_and_the_secret(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "landed.proof"
    site.fleet.run("prove", site.a, "-o", file, agent="bob", check=0)
    id_of = site.fleet.founded.ledger
    told = elsewhere(tmp_path, file, "--secret-file", site.master, "--trust", id_of, check=0).stdout
    assert f"proved  {site.a} came to {MAIN}" in told
    assert "compared     the ledger's id" in told
    assert "4, all checked" in told
    told = elsewhere(tmp_path, file, "--secret-file", site.master, check=0).stdout
    assert id_of in told
    assert "not compared with anything that you trust" in told


def test_without_the_secret_it_is_unchecked_and_says_so(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "landed.proof"
    site.fleet.run("prove", site.a, "-o", file, agent="bob", check=0)
    refused = elsewhere(tmp_path, file, check=1)
    assert "no secret here for 4 of 4 records" in refused.stderr
    assert refused.stdout == ""
    told = elsewhere(tmp_path, file, "--chain-only", check=0).stdout
    assert "4 of them checked by nobody" in told
    assert told.startswith(f"NOT PROVED  {site.a}")


def test_json(site: Site, tmp_path: Path) -> None:
    ran = site.fleet.run("prove", site.a, "--json", agent="bob", check=0)
    made = json.loads(ran.stdout)["proof"].encode()
    piped = elsewhere(tmp_path, "-", "--chain-only", "--json", data=made, check=0)
    told = json.loads(piped.stdout)
    assert (told["commit"], told["unchecked"], told["compared"]) == (site.a, 4, [])
    assert told["head"]["seq"] == 3
    assert [key["agent"] for key in told["keys"]] == ["bob", "alice"]
    refused = elsewhere(tmp_path, "-", "--json", data=made[:-9], check=4)
    assert json.loads(refused.stdout)["error"]["code"] == "bad-proof"


def test_what_is_no_file_or_no_proof_is_one_line(site: Site, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(os.urandom(1000))
    cases: list[tuple[tuple[str | Path, ...], int]] = [
        ((tmp_path / "missing",), 1),
        ((tmp_path,), 1),
        ((tmp_path / "foreign",), 4),
        (("/dev/null",), 4),
        (("/dev/zero",), 4),
        ((tmp_path / "foreign", "--trust", "x"), 1),
        ((tmp_path / "foreign", "--trust", tmp_path / "foreign"), 1),
        ((tmp_path / "foreign", "--secret-file", tmp_path / "missing"), 1),
        ((tmp_path / "foreign", "--secret-file", tmp_path / "foreign"), 1),
        ((), 2),
    ]
    for argv, code in cases:
        said = elsewhere(tmp_path, *argv, check=code).stderr.splitlines()
        assert len([line for line in said if not line.startswith("hint:")]) == 1, said


def test_a_heads_line_is_compared(site: Site) -> None:
    made, secrets = site.prove(site.a, whole=True), secrets_of(site)
    with site.fleet.ledger("bob") as ledger:
        line = ledger.head().line()
    assert verify_proof(made, trust=[line], secrets=secrets).compared == ("ledger", "head")
    other = "0" if line[-1] != "0" else "1"
    for wrong in (line[:-1] + other, "0" * 32 + line[32:]):
        with pytest.raises(Integrity) as refused:
            verify_proof(made, trust=[wrong], secrets=secrets)
        assert refused.value.code == "proof-differs"
    with pytest.raises(Failed) as later:
        verify_proof(made, trust=[f"9999:{'0' * 64}"], secrets=secrets)
    assert later.value.code == "proof-shorter"


def test_time_is_bounded(site: Site) -> None:
    with pytest.raises(Failed) as refused:
        verify_proof(site.prove(site.a), chain_only=True, timeout=timedelta(0))
    assert refused.value.code == "timeout"


def test_a_copy_whose_records_were_changed_makes_none(site: Site, tmp_path: Path) -> None:
    clone = tmp_path / "copy"
    site.fleet.git("clone", "-q", "-b", "main", site.fleet.remote, clone)
    site.fleet.run("join", "origin", "--as", "bob", cwd=clone, check=0)
    with Ledger.open(clone, "bob", environ=site.fleet.env, offline=True) as ledger:
        good = ledger.prove(site.a)
        index = next((clone / ".git/coordledger").rglob("*index*"))
        lines = index.read_bytes().splitlines(keepends=True)
        index.write_bytes(lines[0] + lines[2] + lines[1] + b"".join(lines[3:]))
        assert ledger.prove(site.a) == good


def test_records_of_another_history_are_not_given_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk may have it whose packs nobody has checked."""

    def changed(*given: Any) -> Iterator[tuple[str, bytes]]:
        for oid, content in real(*given):
            yield oid, content.replace(b'"session":"init"', b'"session":"xxxx"')

    real = proving.commits_above
    monkeypatch.setattr(proving, "commits_above", changed)
    with pytest.raises(Integrity) as refused:
        site.prove(site.a)
    assert refused.value.code == "bad-copy"
