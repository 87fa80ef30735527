"""Entering a ledger: no question is asked twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from coordledger.client.config import Options
from coordledger.errors import Failed
from coordledger.setup import doctor, joining

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet


def commands_of(trace: Path) -> list[str]:
    """The commands of git's that this process ran, without those that git itself started."""
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    argvs = [e["argv"] for e in events if e["event"] == "start" and "/" not in e["sid"]]
    options = ("-", "core.hooksPath=", "maintenance.auto=", "gc.auto=")
    return [next(w for w in argv[1:] if not w.startswith(options)) for argv in argvs]


def test_join_asks_the_clone_and_the_remote_once(fleet: Fleet, tmp_path: Path) -> None:
    fleet.enroll("bob")
    path, trace = tmp_path / "clone", tmp_path / "trace"
    fleet.git("clone", "--quiet", fleet.remote, path)
    env = fleet.env | {"GIT_TRACE2_EVENT": str(trace)}
    joined = joining.join(Options(path=path, agent="bob"), env, "origin")
    assert (joined.key, joined.enforcement) == ("ready", "server")
    asked = ["rev-parse", "config", "fetch"]
    remembered = ["config"] * 3  # remote, agent, ledger
    assert commands_of(trace) == [*asked, *remembered, "receive-pack"]  # a try


def test_of_two_addresses_none_is_joined_or_written_to(fleet: Fleet, tmp_path: Path) -> None:
    """bob would win at the fork what alice wins at the ledger."""
    fleet.enroll("bob")
    fork = tmp_path / "fork.git"
    fleet.git("clone", "--quiet", "--mirror", fleet.remote, fork)
    bob = fleet.clone("bob")
    with fleet.ledger("bob") as ledger:
        ledger.submit("one")
    fleet.git("remote", "set-url", "--push", "origin", fork, cwd=bob)
    options = Options(path=bob, agent="bob")
    with pytest.raises(Failed) as refused:
        joining.join(options, fleet.env, "origin")
    assert refused.value.code == "two-addresses"
    with fleet.ledger("bob") as ledger:
        assert [claim.task for claim in ledger.tasks()] == ["one"]  # reading has one address
        for write in (lambda: ledger.claim("one"), lambda: ledger.send("x", channel="general")):
            with pytest.raises(Failed) as refused:
                write()
            assert refused.value.code == "two-addresses"
    [check] = [c for c in doctor.examine(options, fleet.env) if c.name == "configuration"]
    assert not check.ok
    assert "coordledger.remote" in check.do
    fleet.git("config", "coordledger.remote", fleet.remote, cwd=bob)
    with fleet.ledger("bob") as ledger:
        assert ledger.claim("one").won
