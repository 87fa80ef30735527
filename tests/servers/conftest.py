"""One server of each kind for the whole session, started when it is first needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest
from support import hosts
from support.sites import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def absent(kind: str, why: hosts.Absent, environ: Mapping[str, str]) -> NoReturn:
    """Skip, and say why; where all kinds have to be there, fail."""
    said = f"no {kind} server on this machine: it needs {why}"
    if environ.get("CI") == "true":
        pytest.fail(said, pytrace=False)
    pytest.skip(said)


@pytest.fixture(scope="session")
def site_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Site]]:
    """The site of a kind: `site_of("ssh")`."""
    found: dict[str, Site | hosts.Absent] = {}

    def get(kind: str) -> Site:
        if kind not in found:
            try:
                found[kind] = Site(kind, tmp_path_factory.mktemp(kind))
            except hosts.Absent as why:
                found[kind] = why
        site = found[kind]
        if isinstance(site, hosts.Absent):
            absent(kind, site, os.environ)
        return site

    yield get
    for site in found.values():
        if isinstance(site, Site):
            site.close()


@pytest.fixture(scope="session", params=hosts.KINDS)
def site(request: pytest.FixtureRequest, site_of: Callable[[str], Site]) -> Site:
    """Every kind in turn."""
    return site_of(request.param)
