"""What is in a ledger, read from raw commits by the second implementation.

Rules: nothing here believes coordledger. The chain is replayed by `second_reader`; what is
counted is counted again from the payloads themselves.
"""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from support.fleet import LEDGER_REF
from support.second_reader import Reader, read_chain, secrets_of

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

Record = dict[str, Any]


def replay(remote: Path) -> tuple[list[Record], Reader]:
    """Every record with its `seq`, and the reader that found all of them authentic."""
    master = (remote / "coordledger/master").read_bytes().splitlines()[-1]
    reader = Reader(secrets_of(master))
    found = []
    for seq, (_, content) in enumerate(read_chain(remote, LEDGER_REF)):
        reader.step(content)
        payload = next(line for line in content.split(b"\n") if line.startswith(b"{"))
        found.append(json.loads(payload) | {"seq": seq})
    assert (reader.authentic, reader.unverified) == (len(found), 0)
    ops = [(record["agent"], record["op"]) for record in found]
    assert len(set(ops)) == len(ops), "an intent landed twice"
    for task, epochs in epochs_of(found).items():
        assert epochs == list(range(1, len(epochs) + 1)), task
    return found, reader


def records_of(remote: Path) -> list[Record]:
    return replay(remote)[0]


def epochs_of(records: list[Record]) -> dict[str, list[int]]:
    """Task -> the epochs of its claims, in the chain's order."""
    found: dict[str, list[int]] = defaultdict(list)
    for record in records:
        for item in record["tasks"] if record["kind"] == "claim" else ():
            found[item["task"]].append(item["epoch"])
    return found


def claims_of(records: list[Record], task: str) -> list[Record]:
    return [
        record
        for record in records
        if record["kind"] == "claim" and task in [item["task"] for item in record["tasks"]]
    ]


def check_clone(fleet: Fleet, agent: str) -> None:
    """The clone's own view: it has everything, all of it authentic, and nothing is open."""
    ledger = fleet.ledger(agent)
    audit = ledger.audit(full=True)
    count = len(records_of(fleet.remote))
    assert (audit.problems, audit.verdicts) == ((), {"authentic": count})
    assert ledger.connection.local.journal.intents() == []
    assert litter(fleet.clone(agent)) == []


def litter(clone: Path) -> list[str]:
    """Lock files of refs, and what is in our folder and should not be."""
    git = clone / ".git"
    locks = [path for path in git.rglob("*.lock") if "objects" not in path.parts]
    ours = git / "coordledger" / "main"
    known = {"index", "intents", "lock", "looked", "trusted.json", "vouches"}
    locks_and_index = ("fetch.", "records.", "tasks.")  # of fetches, and what is looked up in
    names = (path for path in ours.iterdir() if not path.name.startswith(locks_and_index))
    odd = [path for path in names if path.name not in known]
    odd += list((ours / "intents").glob("*"))
    return [str(path.relative_to(git)) for path in [*locks, *odd]]


def fsck(remote: Path, env: dict[str, str]) -> None:
    argv = ["git", "fsck", "--strict", "--no-dangling"]
    ran = subprocess.run(
        argv, cwd=remote, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert ran.returncode == 0, ran.stderr
