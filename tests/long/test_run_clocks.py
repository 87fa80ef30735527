"""`run` under clocks that are set, and on machines that sleep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import runs
from support.runs import Running, beat, is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

CLOCKS = str(Path(runs.__file__).with_name("run_with_set_clocks.py"))
HOUR = 3600.0
PROMPT = 15.0  # seconds, of a lease that has a minute


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet(max_skew=1)
    fleet.enroll("bob")
    fleet.ledger("alice").submit("t")
    return fleet


@pytest.fixture
def run(fleet: Fleet) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(ttl: str, *command: str) -> Running:
        argv = ("t", "--ttl", ttl, "--", *command)
        made.append(Running(fleet, "bob", *argv, program=(CLOCKS,)))
        return made[-1]

    yield start
    for one in made:
        one.close()


def set_clocks(one: Running, *, steady: float = 0.0, wall: float = 0.0) -> float:
    """When it was done."""
    beside = one.seen / "clocks.new"
    beside.write_text(f"{steady} {wall}")
    beside.rename(one.seen / "clocks")
    return time.monotonic()


@pytest.mark.parametrize(
    ("steady", "wall"),
    [(0.0, HOUR), (HOUR, HOUR), (HOUR, 0.0)],
    ids=["the wall clock is set forward", "the machine slept", "and its wall clock was wrong"],
)
def test_a_command_ends_at_once_when_either_clock_says_that_its_lease_is_over(run, steady, wall):
    one = run("60s", *beat("SIGTERM"))
    pid = one.pid("beats")
    began = set_clocks(one, steady=steady, wall=wall)
    assert one.end()[0] == 120
    assert time.monotonic() - began < PROMPT
    assert not is_alive(pid)


def test_a_clock_that_is_set_back_gives_no_time(run, fleet):
    one = run("10s", *beat("SIGTERM"))
    pid = one.pid("beats")
    until = one.usable_until(1.0)
    set_clocks(one, wall=-HOUR)
    fleet.remote.rename(f"{fleet.remote}.away")
    assert one.end()[0] == 120
    assert not is_alive(pid)
    assert one.last_beat() < until


def test_a_jump_beyond_half_of_the_lease_renews_it_at_once(run):
    one = run("120s", *beat())
    one.wait_for("beats")
    assert "renew" not in one.kinds()
    set_clocks(one, steady=70.0, wall=0.0)
    wait_until(lambda: "renew" in one.kinds(), "it is not renewed", PROMPT)
    assert is_alive(one.pid("beats"))


def test_the_watcher_sees_a_jump_while_run_is_stopped(run):
    import signal

    one = run("60s", *beat("SIGTERM"))
    pid = one.pid("beats")
    one.process.send_signal(signal.SIGSTOP)
    set_clocks(one, steady=HOUR, wall=HOUR)
    wait_until(lambda: not is_alive(pid), "it outlives its lease", PROMPT)
    one.process.send_signal(signal.SIGCONT)
    assert one.end()[0] == 120
