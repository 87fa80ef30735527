"""A remote that has not got the ledger, for each reason in its own words."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from coordledger.errors import CoordledgerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fleet import Fleet


class EmptyPage(BaseHTTPRequestHandler):
    """What some proxies answer to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def empty_page() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), EmptyPage)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/ledger.git"
    server.shutdown()
    server.server_close()
    thread.join()


def refusal(fleet: Fleet, remote: str | Path) -> CoordledgerError:
    """What alice, who has seen the ledger, is told of the remote."""
    fleet.git("remote", "set-url", "origin", str(remote), cwd=fleet.clone("alice"))
    with pytest.raises(CoordledgerError) as refused:
        fleet.ledger("alice").tasks()
    return refused.value


def test_each_reason_has_its_own_code_and_only_a_fork_suggests_to_reset(
    fleet: Fleet, empty_page: str
) -> None:
    alice = fleet.ledger("alice")
    older, bare = fleet.root / "older.git", fleet.root / "bare.git"
    alice.submit("one")
    shutil.copytree(fleet.remote, older)
    alice.submit("two")
    fleet.git("init", "--quiet", "--bare", bare)
    told = {
        "ledger-gone": refusal(fleet, bare),
        "remote-behind": refusal(fleet, older),
        "remote-unreachable": refusal(fleet, empty_page),
    }
    assert {code: fault.code for code, fault in told.items()} == {code: code for code in told}
    assert [fault.exit_code for fault in told.values()] == [4, 4, 1]
    assert all("--reset" not in fault.hint for fault in told.values())
    fleet.git("remote", "set-url", "origin", str(fleet.remote), cwd=fleet.clone("alice"))
    assert len(fleet.ledger("alice").tasks()) == 2


def test_a_first_contact_with_an_empty_page_is_no_ledger_that_is_missing(
    fleet: Fleet, empty_page: str
) -> None:
    ran = fleet.run("--remote", empty_page, "list", check=1)
    assert "lists nothing" in ran.stderr


def test_a_ledger_that_is_gone_is_looked_for_at_the_other_remotes(fleet: Fleet) -> None:
    clone = fleet.clone("alice")
    fork = fleet.root / "my-fork.git"
    fleet.git("init", "--quiet", "--bare", fork)
    fleet.git("remote", "rename", "origin", "upstream", cwd=clone)
    fleet.git("remote", "add", "origin", str(fork), cwd=clone)
    with pytest.raises(CoordledgerError) as refused:
        fleet.ledger("alice").tasks()
    assert refused.value.code == "ledger-gone"
    assert "upstream" in refused.value.hint


def test_the_command_that_resets_names_everything_that_it_needs(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    alice.submit("one")
    fork = fleet.root / "a fork.git"
    shutil.copytree(fleet.remote, fork)
    alice.submit("two")
    fleet.git("clone", "--quiet", fork, fleet.root / "eve")
    fleet.run(
        "--remote",
        fork,
        "submit",
        "other",
        cwd=fleet.root / "eve",
        env={"COORDLEDGER_AGENT": "alice"},
        check=0,
    )
    refused = refusal(fleet, fork)
    assert refused.code == "rewritten"
    assert refused.hint.endswith(": coordledger join origin --reset")
    with pytest.raises(CoordledgerError) as typed:
        fleet.ledger("alice", remote=str(fork)).tasks()
    assert typed.value.hint.endswith(f": coordledger join '{fork}' --reset")
    with pytest.raises(CoordledgerError) as written:
        fleet.ledger("alice", remote=str(fork)).submit("three")
    assert written.value.code == "rewritten"


def test_a_remote_that_ends_below_a_shallow_copys_edge_is_no_fork(fleet: Fleet) -> None:
    older = fleet.root / "older.git"
    shutil.copytree(fleet.remote, older)
    for task in ("one", "two"):
        fleet.ledger("alice").submit(task)
    path = fleet.root / "shallow"
    fleet.git("clone", "--quiet", "--no-local", fleet.remote, path)
    fleet.run("join", "origin", "--agent", "carol", "--depth", "1", cwd=path, check=0)
    fleet.git("remote", "set-url", "origin", str(older), cwd=path)
    ran = fleet.run("list", cwd=path, check=4)
    assert "is an older copy" in ran.stderr
    assert "--reset" not in ran.stderr
