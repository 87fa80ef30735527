"""SIGKILL at every step of a push of code under a claim: no code without its record."""

from __future__ import annotations

import shlex
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.bookkeeping import fsck
from support.fleet import LEDGER_REF, Fleet
from support.pusher import MAIN, NOWHERE, fence

from coordledger import Ledger
from coordledger.errors import CoordledgerError, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASE = "refs/heads/release/1"


class Server:
    """Alice's fenced remote, and her clone, with a task that she holds and a commit to push."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.clone = fleet, fleet.clone("alice")
        fence(fleet)
        fleet.git("config", "user.name", "x", cwd=self.clone)
        fleet.git("config", "user.email", "x@example.com", cwd=self.clone)
        self.push_of("first")

    def ledger(self) -> Ledger:
        return Ledger.open(
            self.clone, "alice", session="s1", timeout=timedelta(seconds=6), environ=self.fleet.env
        )

    def push_of(self, task: str, die_at: str = "", *, complete: bool = True) -> object:
        """What became of a push of one more commit; git is killed before it writes `die_at`."""
        commit = ("commit", "--quiet", "--allow-empty", "-m", task)
        self.fleet.git(*commit, cwd=self.clone)
        self.new = self.fleet.git("rev-parse", "HEAD", cwd=self.clone).strip()
        with self.ledger() as ledger:
            assert ledger.claim(task, ttl=timedelta(hours=1)).outcome == "won"
        program = "git-receive-pack"
        if die_at:
            lock = f"{self.fleet.remote}/./{die_at}.lock"
            words = ("strace", "-f", "-qq", "-o", self.fleet.root / "trace", "-P", lock)
            words += ("-e", "trace=rename", "-e", "inject=rename:signal=SIGKILL", program)
            program = shlex.join(map(str, words))
        self.fleet.git("config", "remote.origin.receivepack", program, cwd=self.clone)
        with self.ledger() as ledger:
            try:
                return ledger.push("HEAD:main", "HEAD:release/1", task=task, complete=complete)
            except CoordledgerError as fault:
                return fault

    def there(self, ref: str) -> str:
        return self.fleet.git("for-each-ref", "--format=%(objectname)", ref).strip() or NOWHERE

    def heal(self) -> list[str]:
        """Remove the locks that git has left, as its owner is told to; which there were."""
        self.fleet.git("config", "remote.origin.receivepack", "git-receive-pack", cwd=self.clone)
        locks = [*(self.fleet.remote / "refs").rglob("*.lock")]
        for lock in locks:
            lock.unlink()
        return [path.name for path in locks]

    def told(self) -> dict[str, str]:
        """What the records say that the refs have."""
        subjects = self.fleet.git("log", "--reverse", "--format=%s", LEDGER_REF).splitlines()
        lands = (line.split() for line in subjects if line.startswith("land "))
        return {words[-2]: words[-1].partition("..")[2] for words in lands}


@pytest.fixture
def server(fleet: Fleet) -> Iterator[Server]:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    return Server(fleet)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("die_at", [LEDGER_REF, MAIN, RELEASE])
def test_no_code_lands_without_its_record_where_git_dies_between_two_refs(
    server: Server, die_at: str, complete: bool
) -> None:
    before = server.told()
    ended = server.push_of("second", die_at, complete=complete)
    written = {LEDGER_REF: (), MAIN: (LEDGER_REF,), RELEASE: (LEDGER_REF, MAIN)}[die_at]
    for ref in (MAIN, RELEASE):
        assert (server.there(ref) == server.new) is (ref in written)
        assert before[ref] == server.told()[ref] or LEDGER_REF in written
    # What has not happened is not said to have.
    assert isinstance(ended, OutcomeUnknown)
    assert ended.code == ("not-moved" if written else "unknown-outcome")
    assert server.heal()
    with server.ledger() as ledger:
        ledger.resolve()
        if written and complete:
            assert ledger.show("second").status == "done"
            ledger.claim("third", ttl=timedelta(hours=1))
        task = "third" if written and complete else "second"
        ledger.push("HEAD:main", "HEAD:release/1", task=task, complete=True)
        assert ledger.show(task).status == "done"
    assert [server.there(ref) for ref in (MAIN, RELEASE)] == [server.new] * 2
    assert server.told() == {MAIN: server.new[:12], RELEASE: server.new[:12]}
    assert server.fleet.ledger("alice").audit(full=True).problems == ()
    fsck(server.fleet.remote, server.fleet.env)


STAGES = {
    "arrived": ("pre-receive.chained", "true", "$(ps -o ppid= -p $PPID)"),
    "prepared": ("reference-transaction.chained", '[ "$1" = prepared ]', "$(ps -o ppid= -p $PPID)"),
    "committed": (
        "reference-transaction.chained",
        '[ "$1" = committed ]',
        "$(ps -o ppid= -p $PPID)",
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_server_that_dies_on_a_push_of_code_leaves_all_or_nothing(
    server: Server, stage: str
) -> None:
    name, when, whom = STAGES[stage]
    hook = server.fleet.remote / "hooks" / name
    script = f"grep -q {MAIN} || exit 0\nif {when}; then kill -9 {whom}; fi\nexit 0\n"
    hook.write_text(f"#!/bin/sh\n{script}")
    hook.chmod(0o755)
    try:
        ended = server.push_of("second")
    finally:
        hook.unlink()
    landed = server.there(MAIN) == server.new
    assert landed is (stage == "committed")
    assert (server.there(RELEASE) == server.new) is landed
    assert (server.told()[MAIN] == server.new[:12]) is landed
    assert isinstance(ended, OutcomeUnknown) is not landed
    server.heal()
    if not landed:
        with server.ledger() as ledger:
            ledger.resolve()
            ledger.push("HEAD:main", "HEAD:release/1", task="second", complete=True)
    assert [server.there(ref) for ref in (MAIN, RELEASE)] == [server.new] * 2
    subjects = server.fleet.git("log", "--format=%s", LEDGER_REF).splitlines()
    assert len([line for line in subjects if line.startswith("land second ")]) == 2
