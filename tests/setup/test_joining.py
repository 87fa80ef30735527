"""Entering a ledger: no question is asked twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from coordledger.client.config import Options
from coordledger.setup import joining

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
    tried = ["receive-pack"] * 2
    assert commands_of(trace) == [*asked, *remembered, *tried]
