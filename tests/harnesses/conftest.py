"""The real harnesses, each fetched when it is first asked for, and teams in which they work.

Rules: a harness that cannot be had is left out by name; whatever else is wrong fails. What the
sessions of a failed test printed stands in its report.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
from support.harness_binaries import UnavailableError
from support.harness_team import Team
from support.harnesses import HARNESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from support.harnesses import Harness

_teams: list[Team] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for session in (session for team in _teams for session in team.sessions):
            report.sections.append((f"{session.transcripts}", session.printed()))
    return report


@cache
def _tried(name: str) -> Harness | UnavailableError:
    try:
        return HARNESSES[name]()
    except UnavailableError as reason:
        return reason


def had(name: str) -> Harness:
    """The harness of this name, or the test is left out."""
    found = _tried(name)
    if isinstance(found, UnavailableError):
        pytest.skip(f"LEFT OUT: {name}: {found}")
    return found


@pytest.fixture(scope="module", params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Harness:
    return had(request.param)


@pytest.fixture(scope="session")
def harness_named() -> Callable[[str], Harness]:
    """`harness_named("claude")`, or the test is left out."""
    return had


@pytest.fixture(scope="module")
def make_team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Team]]:
    """Makes teams: `make_team("bob", "carol", max_skew="1s")`."""

    def make(*agents: str, **kw: str) -> Team:
        team = Team(tmp_path_factory.mktemp("team"), **kw)
        _teams.append(team)
        team.add(*agents)
        return team

    before = len(_teams)
    yield make
    while len(_teams) > before:
        _teams.pop().close()
