"""The sequencer: real pushes to refs/for/coordledger/*, answered by the real proc-receive hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fleet import LEDGER_REF

from coordledger.git import Deadline, Git
from coordledger.server import install_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet import Fleet

    from .forge import Forge

FOR_REF = "refs/for/coordledger/main"


def switch(fleet: Fleet, sequence: bool | None) -> list[str]:
    git = Git(fleet.env, fleet.root, Deadline(20))
    return install_hook(fleet.remote, git, sequence=sequence)


@pytest.fixture(scope="module")
def town(founded: Callable[..., Fleet]) -> Fleet:
    made = founded("bob", "carol")
    switch(made, sequence=True)
    return made


def test_a_record_on_the_head_lands_as_it_was_pushed(town: Fleet, forge: Forge) -> None:
    oid = forge.place(forge.signed("bob", "void"))
    pushed = forge.push(f"{oid}:{FOR_REF}")
    print(pushed.err, pushed.out)
    assert pushed.code == 0
    assert forge.tip == oid
