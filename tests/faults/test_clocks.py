"""Clocks that are ahead, behind or jump: no lease is held twice, and errors say whose is off.

The time of these tests is made up: every agent has a clock of its own, and the hook reads
the server's from a file. Whole processes with another time are `faketime`'s.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.bookkeeping import claims_of, records_of
from support.git_daemon import daemon

from coordledger.errors import CoordledgerError, Failed, Integrity
from coordledger.server import sequencer

from .conftest import BY_EACH_WAY, ON_HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    from coordledger import Ledger

SKEW = 30_000  # milliseconds, the default policy's
DAY = 86_400_000

# In place of the hook's interpreter: the same, with the time that the file says.
_PYTHON = """#!/bin/sh
code=$5
shift 5
exec {python} -I -S -E -c "import time
with open('{clock}') as file: now = int(file.read())
time.time_ns = lambda: now * 1_000_000
$code" "$@"
"""


class World:
    """True time, which only passes when it is told to, and what clocks show of it."""

    def __init__(self, fleet: Fleet, *, hook: bool) -> None:
        self.fleet = fleet
        self.now = time.time_ns() // 1_000_000
        self._clock = fleet.root / "server-clock"
        path = fleet.remote / "hooks/pre-receive"
        if hook:
            text = path.read_text()
            real = re.search("^python=(.*)$", text, re.MULTILINE)
            assert real
            python = fleet.root / "python"
            python.write_text(_PYTHON.format(python=real[1], clock=self._clock))
            python.chmod(0o755)
            path.write_text(text.replace(real[0], f"python={shlex.quote(str(python))}"))
        else:
            path.unlink()
        self.server = 0  # how far the server's clock is ahead
        self.at(self.now)

    def at(self, now: int) -> None:
        self.now = now
        self._clock.write_text(str(now + self.server))

    def set_server(self, ahead: int) -> None:
        self.server = ahead
        self.at(self.now)

    def agent(self, name: str, ahead: int, session: str | None = None) -> Ledger:
        """The agent, whose clock is so many milliseconds ahead."""
        return self.fleet.ledger(name, session, clock=lambda: self.now + ahead)


@pytest.fixture
def world(
    make_fleet: Callable[..., Fleet], way: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., World]:
    def make(*, hook: bool = True) -> World:
        fleet = make_fleet()
        fleet.enroll("bob")
        made = World(fleet, hook=hook)
        if way == ON_HOST:  # the server's part is in this process
            monkeypatch.setattr(sequencer, "unix_ms", lambda: made.now + made.server)
        return made

    return make


def until_of(world: World, task: str) -> int:
    newest = claims_of(records_of(world.fleet.remote), task)[-1]
    return _parse(newest["until"])


def _parse(text: str) -> int:
    found = re.fullmatch(r"(.*)\.(\d{3})Z", text)
    assert found
    seconds = time.mktime(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    return int(seconds) * 1000 + int(found[2])


def is_live(ledger: Ledger, task: str) -> bool:
    """Whether this agent would still act on its claim."""
    try:
        ledger.require(task, by=ledger.connection.settings.agent)
    except CoordledgerError as fault:
        assert fault.code in ("not-live", "not-holder")
        return False
    return True


# -- leases


@pytest.mark.parametrize("hook", [True, False], ids=["with-hook", "without-hook"])
def test_no_clocks_within_the_limit_let_two_agents_hold_a_lease(
    world: Callable[..., World], hook: bool
) -> None:
    """The holder's last moment and the taker's first one, for the extremes of both clocks."""
    there = world(hook=hook)
    gaps = {}
    start = there.now
    # The chain's time is what the fastest clock made of it: begin with the slowest ones.
    for row, (holder, taker) in enumerate(
        [(-SKEW, -SKEW), (-SKEW, 0), (-SKEW, SKEW), (0, SKEW), (SKEW, -SKEW), (SKEW, SKEW)]
    ):
        task = f"t{row}"
        there.at(start + row * 1_000_000)
        alice, bob = there.agent("alice", holder), there.agent("bob", taker)
        assert alice.claim(task, ttl=timedelta(seconds=600)).won
        until = until_of(there, task)
        assert until == there.now + holder + 600_000

        # In true time: her clock shows until - max_skew, or the server's does, which tells her.
        last = until - SKEW - (max(holder, 0) if hook else holder)
        there.at(last - 1)
        assert is_live(alice, task)
        there.at(last)
        assert not is_live(alice, task)
        # His clock shows until + max_skew, and so does the server's.
        first = max(until + SKEW - taker, until + SKEW - (0 if hook else SKEW))
        assert last <= first
        gaps[(holder, taker)] = first - last
        there.at(first - 1)
        lost = bob.claim(task)
        assert (lost.outcome, lost.code) in [("lost", "held"), ("lost", "too-early")]
        there.at(first)
        won = bob.claim(task)
        assert won.claim
        assert (won.outcome, won.claim.agent, won.claim.epoch) == ("won", "bob", 2)
        assert not is_live(alice, task)
    if hook:
        assert gaps[(-SKEW, SKEW)] == 2 * SKEW  # the server's clock counts for both
    else:
        assert gaps[(-SKEW, SKEW)] == 0  # it just suffices
    assert gaps[(SKEW, -SKEW)] == 4 * SKEW
    records_of(there.fleet.remote)


@BY_EACH_WAY
def test_a_fast_taker_waits_for_the_servers_clock_too(world: Callable[..., World]) -> None:
    there = world()
    alice, bob = there.agent("alice", 0), there.agent("bob", SKEW)
    assert alice.claim("t", ttl=timedelta(seconds=60)).won
    until = until_of(there, "t")
    there.at(until)  # bob's clock shows until + max_skew
    lost = bob.claim("t")
    assert (lost.outcome, lost.code) == ("lost", "too-early")
    assert bob.connection.local.journal.intents() == []
    there.set_server(SKEW)  # a server that is as fast lets him, and she has stopped all the same
    assert not is_live(alice, "t")
    assert bob.claim("t").won


@BY_EACH_WAY
def test_a_clock_that_jumps_ahead_stops_its_agent_and_back_again_lets_it_go_on(
    world: Callable[..., World],
) -> None:
    there = world()
    jump = [0]
    alice = there.fleet.ledger("alice", clock=lambda: there.now + jump[0])
    assert alice.claim("t", ttl=timedelta(seconds=600)).won
    jump[0] = 3_600_000
    assert not is_live(alice, "t")
    with pytest.raises(CoordledgerError) as ahead:
        alice.renew("t", ttl=timedelta(hours=2))
    assert ahead.value.code == "expired"  # by the only clock that she has
    with pytest.raises(Failed) as ahead:
        alice.claim("u")
    assert ahead.value.code == "clock-skew"
    assert "60 min ahead of the server's, more than 30 s" in ahead.value.message
    jump[0] = -3_600_000
    with pytest.raises(Failed) as behind:
        alice.claim("u")
    assert behind.value.code in ("time-backwards", "clock-skew")
    assert re.search("(59|60) min behind", behind.value.message)
    jump[0] = 0
    assert is_live(alice, "t")
    assert alice.renew("t", ttl=timedelta(seconds=700)).status == "claimed"
    assert alice.complete("t").status == "done"
    assert alice.connection.local.journal.intents() == []
    assert claims_of(records_of(there.fleet.remote), "u") == []


def test_a_clock_that_jumps_between_two_attempts_of_a_write_signs_again_or_refuses(
    world: Callable[..., World],
) -> None:
    """Each look at the clock shows four seconds more, while the true time stands still."""
    there = world()
    bob = there.agent("bob", 0)
    looks = [0]

    def clock() -> int:
        looks[0] += 1
        return there.now + looks[0] * 4000

    alice = there.fleet.ledger("alice", clock=clock)
    won = 0
    for number in range(7):
        bob.send("x", channel="general")
        try:
            won += alice.claim(f"t{number}").won
        except Failed as fault:
            assert fault.code == "clock-skew"
    assert 0 < won < 7
    found = records_of(there.fleet.remote)
    assert sum(record["kind"] == "claim" for record in found) == won
    assert alice.connection.local.journal.intents() == []


# -- refusals say whose clock is off, and by how much


@BY_EACH_WAY
@pytest.mark.parametrize(
    ("server", "says"),
    [
        (95_000, "95 s behind the server's, more than 30 s"),
        (-95_000, "95 s ahead of the server's, more than 30 s"),
        (SKEW + 1, "30 s behind the server's, more than 30 s"),
        (SKEW, ""),
        (-SKEW, ""),
        (-SKEW - 1, "30 s ahead of the server's, more than 30 s"),
    ],
)
def test_a_server_whose_clock_is_off_is_named(
    world: Callable[..., World], server: int, says: str
) -> None:
    there = world()
    there.set_server(server)
    alice = there.agent("alice", 0)
    if not says:
        assert alice.claim("t").won
        return
    with pytest.raises(Failed) as refused:
        alice.claim("t")
    assert refused.value.code == "clock-skew"
    assert says in refused.value.message
    assert "the server's" in refused.value.hint
    assert alice.connection.local.journal.intents() == []
    there.set_server(0)
    assert alice.claim("t").won


@BY_EACH_WAY
def test_a_server_a_month_ahead_admits_nothing_until_its_owner_says_so(
    world: Callable[..., World],
) -> None:
    there = world()
    alice = there.agent("alice", 0)
    assert alice.claim("before").won
    there.set_server(31 * DAY)
    with pytest.raises(Failed) as refused:
        alice.claim("t")
    assert refused.value.code == "clock-skew"  # an honest clock is told how far off it is
    assert "31 d" in refused.value.message
    fast = there.agent("alice", 31 * DAY)  # one that followed the server
    with pytest.raises(Failed) as refused:
        fast.claim("t")
    assert refused.value.code == "gap"
    assert re.search("is 31 d .*older than the server's clock, more than 30 d", str(refused.value))
    command = "git --git-dir=REPO.git config coordledger.maxGap 32d"
    assert refused.value.hint.endswith(command)
    assert records_of(there.fleet.remote)[-1]["tasks"][0]["task"] == "before"
    assert fast.connection.local.journal.intents() == []
    there.fleet.git(*command.replace("REPO.git", str(there.fleet.remote)).split()[1:])
    assert fast.claim("t").won
    there.fleet.git("config", "--unset", "coordledger.maxGap")
    assert fast.claim("u").won  # the chain's time is there now
    # And there is no way back but for the owner to know: this is what the limit is for.
    there.set_server(0)
    with pytest.raises(Failed) as late:
        alice.claim("v")  # whose copy has it
    assert late.value.code == "time-backwards"  # and which record is in the way, until when
    seq, at = alice.head().seq, records_of(there.fleet.remote)[-1]["at"]
    dated = rf"record {seq} by alice is dated {at[:-5]}\.000Z: this one is 3[01] d behind it"
    assert re.match(dated, late.value.message)
    assert late.value.hint.endswith("at the server: coordledger repair REPO.git")
    bob = there.agent("bob", 0)  # whose copy has not taken it
    with pytest.raises(Integrity) as stopped:
        bob.claim("v")
    assert stopped.value.code == "from-future"
    dated = rf"record {seq - 1} \([0-9a-f]+\): by alice, dated [0-9T:.-]+Z, 31 d ahead of this"
    assert re.match(dated, stopped.value.message)
    assert stopped.value.hint.endswith(f": coordledger repair {there.fleet.remote}")
    assert [claim.task for claim in bob.tasks()] == ["before"]


def test_without_a_hook_readers_refuse_what_comes_from_the_future(
    world: Callable[..., World],
) -> None:
    there = world(hook=False)
    alice, bob = there.agent("alice", 95_000), there.agent("bob", 0)
    seq = bob.head().seq
    assert alice.claim("t").won  # nothing stops it
    for act in (lambda: bob.claim("u"), lambda: bob.send("x", to="alice")):
        assert bob.head().seq == seq
        assert bob.tasks() == []
        with pytest.raises(Integrity) as future:
            act()
        assert (future.value.code, future.value.exit_code) == ("from-future", 4)
        dated = rf"record {seq + 1} .*by alice, dated [0-9T:.-]+Z, 95 s ahead of this machine's"
        assert re.search(dated, future.value.message)
        assert bob.head(refresh=False).seq == seq
    assert bob.connection.local.journal.intents() == []
    there.at(there.now + 95_000 - SKEW)
    assert bob.head().seq == seq + 1
    assert bob.claim("t").code == "held"
    assert bob.claim("u").won


# -- whole processes


def test_a_process_with_another_time_is_refused_with_its_offset(fleet: Fleet) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("no faketime on this machine")
    clone = fleet.clone("alice")
    with daemon(fleet.root, fleet.env, writable=True) as port:
        url = f"git://127.0.0.1:{port}/{fleet.remote.name}"

        def claim(offset: str, task: str) -> tuple[int, dict[str, Any]]:
            env = _faketime(offset)
            argv = ("claim", task, "--remote", url, "--json")
            ran = fleet.run(*argv, cwd=clone, env=env)
            assert "Traceback" not in ran.stderr
            return ran.returncode, json.loads(ran.stdout)

        code, said = claim("+95s", "t")
        assert (code, said["error"]["code"]) == (1, "clock-skew")
        assert re.search(r"9[345] s ahead of the server's", said["error"]["message"])
        code, said = claim("-95s", "t")
        assert code == 1
        assert said["error"]["code"] in ("clock-skew", "time-backwards")
        assert "behind" in said["error"]["message"]
        code, said = claim("+15s", "t")
        assert (code, said["outcome"]) == (0, "won")
    assert len(claims_of(records_of(fleet.remote), "t")) == 1


def _faketime(offset: str) -> dict[str, str]:
    """What `faketime -f OFFSET` puts into a program's environment."""
    argv = ["faketime", "-f", offset, "env", "-0"]
    out = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout
    pairs = (entry.partition("=") for entry in out.split("\0") if entry)
    return {name: value for name, _, value in pairs if name in ("LD_PRELOAD", "FAKETIME")}
