"""Fixtures of tests of the server: a sequencing ledger of one's own, a resident, a mortal hook."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.sequencing import switch
from support.serve_process import serving

import coordledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.attacker import Attacker
    from support.fleet import Fleet
    from support.serve_process import ServeProcess


PACKAGE = Path(coordledger.__file__).parents[1]
CRASH_WORKER = Path(__file__).with_name("crash_worker.py")


@pytest.fixture(scope="module")
def sequenced_fleet(founded: Callable[..., Fleet]) -> Fleet:
    """A sequencing ledger with alice, bob and carol, for a whole file."""
    made = founded("bob", "carol")
    switch(made, sequence=True)
    return made


@pytest.fixture
def own_attacker(fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    """An attacker on a sequencing fleet of the test's own; only alice is there."""
    switch(fleet, sequence=True)
    return attacker_for(fleet)


@pytest.fixture
def served(own_attacker: Attacker) -> Iterator[ServeProcess]:
    with serving(own_attacker.fleet) as made:
        yield made


@pytest.fixture
def crashing(own_attacker: Attacker) -> Iterator[Callable[..., list[str]]]:
    """`crashing(3)`: from now on the hook dies at its 3rd step; gives the last one's steps."""
    folder, log = own_attacker.fleet.remote / "hooks", own_attacker.fleet.root / "came-by"
    texts = {path: path.read_text() for path in folder.glob("pr*-receive")}

    def fate(point: int = 0, seconds: int = 0, hook: str = "proc-receive") -> list[str]:
        argv = (
            f"'{sys.executable}' -I -S -E '{CRASH_WORKER}' '{PACKAGE}' {hook} "
            f"{point} '{log}' '{seconds or ''}'"
        )
        given = " sequenced" if hook == "pre-receive" else ""
        (folder / hook).write_text(f"#!/bin/sh\n# coordledger {hook}:\nexec {argv}{given}\n")
        seen = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return seen

    yield fate
    for path, text in texts.items():
        path.write_text(text)
