"""How long a wait takes, and what ends it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from coordledger.client import waiting
from coordledger.client.claims import ClaimResult
from coordledger.client.waiting import MOST_WAIT, POLL_LEAST, POLL_MOST, until_changed, until_won
from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable

LOST, WON = ClaimResult("lost", (), "held"), ClaimResult("won", ())


class World:
    """A clock that only sleeping moves, a remote whose head moves when it is told to, and tasks
    whose leases end.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slept, self.looks = 1_000_000, list[float](), 0
        self.moves_at: list[int] = []  # looks
        self.away_at: list[int] = []
        self.leases: list[int] = []
        self.clock = lambda: self.now
        self.jitter = lambda: 0.5
        self.begin = lambda: None
        state = SimpleNamespace(skew=30_000, claimable_at=lambda task: task["until"])
        position = SimpleNamespace(state=state)
        self.replica = SimpleNamespace(is_behind=self._look, position=lambda: position)
        self.lines = lambda state: [{"status": "claimed", "until": at} for at in self.leases]
        monkeypatch.setattr(waiting.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(1000 * seconds)

    def _look(self) -> bool:
        self.looks += 1
        if self.looks in self.away_at:
            raise error("remote-unreachable", remote="x", why="no route")
        return self.looks in self.moves_at


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    return World(monkeypatch)


def attempts(*results: ClaimResult) -> Callable[[], ClaimResult]:
    return iter(results).__next__


def test_a_wait_ends_when_the_remote_has_moved(world: Any) -> None:
    world.moves_at = [3]
    until_changed(world, world.now + 60_000)
    assert world.looks == 3
    assert world.slept == [POLL_LEAST, POLL_LEAST * 1.5, POLL_LEAST * 1.5**2]


def test_looks_become_rarer_and_the_wait_ends_in_time(world: Any) -> None:
    end = world.now + 60_000
    until_changed(world, end)
    assert world.now == end
    assert max(world.slept) == POLL_MOST
    assert world.looks < 20


def test_a_remote_that_is_away_for_a_moment_ends_no_wait(world: Any) -> None:
    world.away_at, world.moves_at = [1, 2], [3]
    until_changed(world, world.now + 60_000)
    assert world.looks == 3


def test_a_wait_that_is_over_sleeps_no_more(world: Any) -> None:
    until_changed(world, world.now)
    assert (world.slept, world.looks) == ([], 0)


def test_a_claim_is_attempted_again_when_a_lease_ends(world: Any) -> None:
    world.leases = [world.now - 5, world.now + 2_000, world.now + 9_000]
    until_won(world, world, attempts(LOST, WON), world.now + 60_000)
    assert world.now == 1_002_000


def test_a_claim_that_is_too_early_waits_for_the_servers_clock(world: Any) -> None:
    early = ClaimResult("lost", (), "too-early")
    until_won(world, world, attempts(early, WON), world.now + 60_000)
    assert world.now == 1_030_000


def test_without_any_lease_only_the_remote_or_the_end_is_waited_for(world: Any) -> None:
    result = until_won(world, world, attempts(LOST, LOST), world.now + 20_000)
    assert (result, world.now) == (LOST, 1_020_000)
    assert MOST_WAIT > 20_000


@pytest.mark.parametrize("code", ["done", "already-yours", "wrong-epoch", "not-holder"])
def test_what_no_wait_can_change_is_told_at_once(world: Any, code: str) -> None:
    lost = ClaimResult("lost", (), code)
    assert until_won(world, world, attempts(lost), world.now + 60_000) is lost
    assert world.slept == []
