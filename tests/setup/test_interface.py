"""Founding and joining from Python: what a program says with the public names alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.fleet import hermetic

import coordledger
from coordledger import Failed, Integrity, Ledger

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def homes(tmp_path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The environments of alice and bob, on two machines."""
    return hermetic(tmp_path / "alice"), hermetic(tmp_path / "bob")


def clone(remote: Path, path: Path, env: dict[str, str]) -> Path:
    subprocess.run(["git", "clone", "--quiet", remote, path], env=env, check=True)
    return path


def test_a_ledger_is_founded_with_secrets_and_joined_on_another_machine(
    tmp_path: Path, homes: tuple[dict[str, str], dict[str, str]]
) -> None:
    alices, bobs = homes
    remote = tmp_path / "ledger.git"
    founded = coordledger.init("ledger.git", "alice", path=tmp_path, environ=alices)
    assert (founded.repository, founded.agent, founded.enforcement) == (
        str(remote),
        "alice",
        "server",
    )
    assert (founded.master, founded.configured) == (str(remote / "coordledger" / "master"), False)
    for_alice = clone(remote, tmp_path / "alices", alices)
    joined = coordledger.join(remote, "alice", path=for_alice, environ=alices)
    assert (joined.key, joined.whole, joined.public) == ("ready", True, None)
    with Ledger.open(remote, agent="alice", environ=alices) as ledger:
        secret = ledger.enroll("bob")
    carried = tmp_path / "carried"
    carried.write_bytes(secret.read_bytes())
    carried.chmod(0o600)
    secret.unlink()

    path, line = clone(remote, tmp_path / "bobs", bobs), f"{joined.head.seq}:{joined.head.digest}"
    given = {"path": path, "environ": bobs, "pin": line}
    assert coordledger.join("origin", "bob", **given).key == "no-secret"
    joined = coordledger.join("origin", "bob", secret_file="../carried", **given)
    assert (joined.agent, joined.key, joined.head.ledger) == ("bob", "ready", founded.ledger)
    with Ledger.open(path, environ=bobs) as ledger:
        assert ledger.claim("t").won
    with Ledger.open(for_alice, environ=alices) as ledger:
        assert ledger.show("t").agent == "bob"


def test_a_ledger_is_founded_with_an_ssh_key_and_joined_with_a_new_one(
    tmp_path: Path, homes: tuple[dict[str, str], dict[str, str]]
) -> None:
    alices, bobs = homes
    remote = tmp_path / "ledger.git"
    founded = coordledger.init(
        remote, "alice", path=tmp_path, ledger="x", ssh_key="new", environ=alices
    )
    assert (founded.master, founded.ref) == (None, "refs/coordledger/x")
    path = clone(remote, tmp_path / "bobs", bobs)
    given = {"path": path, "ledger": "x", "environ": bobs}
    joined = coordledger.join("origin", "bob", new_key=True, **given)
    assert joined.key == "not-enrolled"
    assert joined.public
    with Ledger.open(
        tmp_path, agent="alice", remote=str(remote), ledger="x", environ=alices
    ) as ledger:
        ledger.enroll_ssh("bob", joined.public)
    assert coordledger.join(path=path, environ=bobs).key == "ready"  # as it is configured
    with Ledger.open(path, environ=bobs) as ledger:
        assert ledger.claim("t").won
        assert ledger.show("t").checked == "here"


def test_what_cannot_be_founded_or_joined_says_why(
    tmp_path: Path, homes: tuple[dict[str, str], dict[str, str]]
) -> None:
    alices, bobs = homes
    remote = tmp_path / "ledger.git"
    coordledger.init(remote, "alice", path=tmp_path, environ=alices)
    other = coordledger.init("other.git", "alice", path=tmp_path, environ=alices)
    path = clone(remote, tmp_path / "bobs", bobs)
    for code, act in (
        ("ledger-exists", lambda: coordledger.init(remote, "alice", path=tmp_path, environ=alices)),
        ("no-agent", lambda: coordledger.join(remote, path=path, environ=bobs)),
        (
            "not-a-ledger",
            lambda: coordledger.join(remote, "b", path=path, ledger="y", environ=bobs),
        ),
        (
            "bad-secret",
            lambda: coordledger.join(remote, "b", path=path, secret_file="none", environ=bobs),
        ),
    ):
        with pytest.raises(Failed) as failed:
            act()
        assert failed.value.code == code
    with pytest.raises(Integrity) as failed_:
        coordledger.join(remote, "b", path=path, pin=other.ledger, environ=bobs)
    assert failed_.value.code == "pin-mismatch"
    assert coordledger.join(remote, "b", path=path, environ=bobs).key == "not-enrolled"


def test_a_name_of_the_package_is_imported_when_it_is_used() -> None:
    said = "import sys, coordledger; print('coordledger.setup' in sys.modules, coordledger.join)"
    ran = subprocess.run(
        [sys.executable, "-c", said],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith("False <function join")
