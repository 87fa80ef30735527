"""A ledger after a race: what its chain says, and that nothing about it is wrong."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from support.attacker import fsck, second_opinion
from support.fleet import LEDGER_REF

if TYPE_CHECKING:
    from support.attacker import Attacker
    from support.fleet import Fleet


def records_of(attacker: Attacker) -> list[dict[str, Any]]:
    oids = attacker.fleet.git("rev-list", "--reverse", LEDGER_REF).split()
    return [attacker.stolen(oid).record | {"seq": seq} for seq, oid in enumerate(oids)]


def claims_of(attacker: Attacker) -> dict[str, list[tuple[int, str]]]:
    """Task -> (epoch, agent) of each claim in the chain, in order."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for record in records_of(attacker):
        for item in record["tasks"] if record["kind"] == "claim" else ():
            found[item["task"]].append((item["epoch"], record["agent"]))
    return found


def check_soundness(fleet: Fleet, agent: str) -> None:
    count = int(fleet.git("rev-list", "--count", LEDGER_REF))
    audit = fleet.ledger(agent).audit(full=True)
    assert (audit.problems, audit.verdicts) == ((), {"authentic": count})
    assert second_opinion(fleet.remote) == count
    fsck(fleet.remote, fleet.env)
    assert not list(fleet.remote.glob("refs/**/*.lock"))
    assert fleet.ledger(agent).connection.local.journal.intents() == []
