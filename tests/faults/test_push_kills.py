"""SIGKILL of the client at every step of a push of code under a claim: both have landed or nothing,
and the same command again does what is left to do.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.bookkeeping import check_clone, fsck, litter, records_of
from support.pusher import MAIN, fence

if TYPE_CHECKING:
    from support.fleet import Fleet

    from .conftest import Agents

KILLED = 9
# Steps that leave behind what those beside them do, or that every write takes (test_kill.py).
SAME = ("os.rmdir ", " fan", " opened", " scratch", " sent", "pre-push", "refs/coordledger")
SAME += ("main/lock", "main/index", "main/looked", "2 os.rename", "2 open")


def settled(fleet: Fleet) -> None:
    """Wait for what a killed client has started: git, here and at the server."""
    marks = (str(fleet.remote).encode(), str(fleet.clone("alice")).encode())
    end = time.monotonic() + 60
    while any(any(mark in line for mark in marks) for line in _running()):
        assert time.monotonic() < end
        time.sleep(0.02)


def _running() -> list[bytes]:
    """The git programs that run, and where: their words, and the folder in which they are."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            if b"git" in words.partition(b"\0")[0]:
                found.append(words + bytes((process / "cwd").readlink()))
        except OSError:
            continue
    return found


class Desk:
    """Alice's clone, where she makes one commit after the other."""

    def __init__(self, fleet: Fleet, agents: Agents) -> None:
        self.fleet, self.agents, self.clone = fleet, agents, fleet.clone("alice")
        fleet.enroll("bob")
        self.bob = fleet.ledger("bob")
        fence(fleet)
        for key in ("user.name", "user.email"):
            fleet.git("config", key, "x@example.com", cwd=self.clone)

    def commit(self, text: str) -> str:
        self.fleet.git("commit", "--quiet", "--allow-empty", "-m", text, cwd=self.clone)
        return self.fleet.git("rev-parse", "HEAD", cwd=self.clone).strip()

    def push(self, task: str, **more: object) -> dict[str, object]:
        """A push that loses its first race: somebody else has written meanwhile."""
        self.bob.send("x", channel="general")
        push = ("push", f"HEAD:{MAIN}", {"task": task, "complete": True})
        return self.agents.run(self.clone, "alice", push, **more)

    @property
    def main(self) -> str:
        return self.fleet.git("for-each-ref", "--format=%(objectname)", MAIN).strip()

    def landings(self, new: str) -> int:
        """How many records say that main has come to a commit."""
        subjects = self.fleet.git("log", "--format=%s", "refs/coordledger/main").splitlines()
        lands = [line for line in subjects if line.startswith("land ")]
        return sum(line.endswith(f"..{new[:12]}") for line in lands)


def test_a_client_that_dies_at_any_step_of_a_push_of_code_can_push_again(
    fleet: Fleet, agents: Agents
) -> None:
    desk = Desk(fleet, agents)
    desk.commit("first")
    agents.run(desk.clone, "alice", ("claim", "first"))
    rehearsal = desk.push("first")
    assert rehearsal["said"][0]["claim"]["status"] == "done"  # type: ignore[index]
    points = [
        point
        for point in dict.fromkeys(rehearsal["points"])  # type: ignore[call-overload]
        if not any(part in point for part in SAME)
    ]
    assert len(points) > 12, points
    seen = set()
    for number, point in enumerate(points):
        task, old, new = f"t{number}", desk.main, desk.commit(point)
        agents.run(desk.clone, "alice", ("claim", task))
        dead = desk.push(task, die_at=point)
        assert (dead["died"], dead["said"]) == (KILLED, []), point
        settled(fleet)
        landed = desk.main == new
        assert landed or desk.main == old, point
        assert desk.landings(new) == landed, point
        again = desk.push(task)["said"][0]  # type: ignore[index]
        told = again.get("code") or ("resumed" if again["resumed"] else "landed")
        seen.add((landed, told))
        assert told in (("resumed", "nothing-to-land") if landed else ("landed",)), (point, again)
        assert (desk.main, desk.landings(new)) == (new, 1), point
        with fleet.ledger("alice") as ledger:
            assert ledger.show(task).status == "done", point
            assert {one.outcome for one in ledger.resolve()} <= {"landed", "voided"}, point
    assert {(True, "resumed"), (False, "landed")} <= seen, seen
    agents.run(desk.clone, "alice", ("claim", "last"))
    desk.commit("last")
    assert "claim" in desk.push("last")["said"][0]  # type: ignore[index]
    assert litter(desk.clone) == []
    assert len(records_of(fleet.remote)) > len(points)
    check_clone(fleet, "alice")
    fsck(fleet.remote, fleet.env)
