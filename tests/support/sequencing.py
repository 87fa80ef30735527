"""Pushes to refs/for/coordledger/*, and what the server says that has landed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from support.attacker import Pushed, fsck, second_opinion
from support.fleet import LEDGER_REF

from coordledger.deadline import Deadline
from coordledger.format.commit import envelope, parse_commit
from coordledger.git.process import Git
from coordledger.setup.hooks import install_hook

if TYPE_CHECKING:
    from support.attacker import Attacker
    from support.fleet import Fleet


FOR_REF = "refs/for/coordledger/main"
ANSWERED_REF = "refs/for/coordledger/main.answered"


ZERO = "0" * 40


_LANDED = re.compile("coordledger: landed ([0-9a-f]+) ([0-9]+) ([0-9a-f]+)")


def switch(fleet: Fleet, *, sequence: bool | None) -> list[str]:
    git = Git(fleet.env, fleet.root, Deadline(20))
    return install_hook(fleet.remote, git, sequence=sequence)


def landed(pushed: Pushed) -> list[tuple[str, int, str]]:
    """Pushed id, seq and id of what landed; the push must say nothing else."""
    assert pushed.slug == ""
    return [(old, int(seq), new) for old, seq, new in landed_lines(pushed.err)]


def landed_lines(printed: str) -> list[tuple[str, str, str]]:
    """Pushed id, seq and id in each line that says so, whatever else is printed."""
    return _LANDED.findall(printed)


def send(attacker: Attacker, oid: str, ref: str = FOR_REF) -> Pushed:
    return attacker.push(f"{oid}:{ref}")


def grow(attacker: Attacker, count: int = 1) -> None:
    """Other people's records, by ordinary pushes."""
    assert attacker.push(attacker.voids(count)[-1]).slug == ""


def seq_of(attacker: Attacker, oid: str) -> int:
    return parse_commit(oid, attacker.raw(oid)).seq


def is_sound(attacker: Attacker) -> None:
    """Everybody agrees that the chain is good, and nothing lies about."""
    fleet = attacker.fleet
    count = int(fleet.git("rev-list", "--count", LEDGER_REF))
    audit = fleet.ledger("alice").audit(full=True)
    assert (audit.problems, audit.verdicts) == ((), {"authentic": count})
    assert second_opinion(fleet.remote) == count
    fsck(fleet.remote, fleet.env)
    assert not list(fleet.remote.glob("refs/**/*.lock"))
    assert not (fleet.remote / "refs/for").exists()


def enveloped(attacker: Attacker, *oids: str) -> list[str]:
    """The records of some commits, as our clients send them."""
    found: list[str] = []
    for oid in oids:
        above = found[-1] if found else None
        content = envelope(attacker.raw(oid), above, attacker.add("tree", b""))
        found.append(attacker.add("commit", content))
    return found


def lying(attacker: Attacker, oid: str, seq: int) -> str:
    """A commit with another seq."""
    line = b"Coordledger-Seq: %d" % seq
    return attacker.add("commit", re.sub(rb"(?m)^Coordledger-Seq: .*", line, attacker.raw(oid)))


def bring(attacker: Attacker, *oids: str) -> None:
    assert attacker.push(*(f"{oid}:refs/heads/{oid}" for oid in oids)).slug == ""
