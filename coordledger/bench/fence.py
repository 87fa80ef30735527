"""What a fence costs: pushes of other refs, pushes under a claim, and the look before a commit.

FLOOR is as in `write`. Beside the fence's pushes stands one of git's own that moves two refs
at once, to a repository without any hook: what a record and its code come to at least.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from .figures import against, timed
from .workspace import OWNER
from .write import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from coordledger.client.ledger import Ledger

    from .figures import Report, Rows, Took
    from .workspace import BenchFleet, Workspace

ROUNDS = 20
WARM_UP = 2
OTHER = "neighbour"
RESERVED = [f"src/part{number}/" for number in range(20)]
HOUR = timedelta(hours=1)


class Pushes:
    """Pushes of a file that is new, from one clone."""

    def __init__(self, workspace: Workspace, clone: Path) -> None:
        self._ground, self._clone = workspace, clone

    def commit(self) -> None:
        file = self._clone / "free" / "file"
        file.parent.mkdir(exist_ok=True)
        with file.open("a", encoding="utf-8") as text:
            text.write("x\n")
        self._ground.git(self._clone, "add", "free")
        self._ground.git(self._clone, "commit", "--quiet", "--message=x")

    def push(self, *words: str) -> Callable[[int], Took]:
        def act(number: int) -> Took:
            self.commit()
            return timed(lambda: self._ground.git(self._clone, "push", "--quiet", *words))

        return act


class Fenced(Pushes):
    """Pushes to main, where it is fenced, by the owner's claim on one task."""

    def __init__(self, workspace: Workspace, fleet: BenchFleet, ledger: Ledger) -> None:
        super().__init__(workspace, fleet.clones[OWNER])
        self._ledger = ledger
        self._took: list[Took] = []
        remote: Any = ledger.connection.remote
        push = remote.push

        def watched(*given: Any, **named: Any) -> Any:
            answers: list[Any] = []
            self._took.append(timed(lambda: answers.append(push(*given, **named))))
            return answers[0]

        remote.push = watched

    def whole(self, number: int) -> Took:
        """A push by the Python interface; what git's part of it took is kept."""
        self.commit()
        return timed(lambda: self._ledger.push("HEAD:refs/heads/main", task="work"))

    def last(self, number: int) -> Took:
        return self._took[-1]


def run(workspace: Workspace, rounds: int, report: Report) -> Rows:
    """Rows, and what is left out."""
    plain = Pushes(workspace, workspace.local(str(workspace.bare("floor")), workspace.root / "f"))
    both = Pushes(workspace, workspace.local(str(workspace.bare("both")), workspace.root / "b"))
    hooked = workspace.fleet("hooked")
    unfenced = Pushes(workspace, hooked.clones[OWNER])
    fences = {name: _fenced(workspace, name) for name in ("fenced", "paths")}
    beside = Pushes(workspace, fences["fenced"].clones[OWNER])
    with fences["fenced"].open(OWNER) as one, fences["paths"].open(OWNER) as other:
        fenced = Fenced(workspace, fences["fenced"], one)
        paths = Fenced(workspace, fences["paths"], other)
        here = fences["paths"].clones[OWNER]
        acts: dict[str, Callable[[int], Took]] = {
            FLOOR: plain.push("origin", "HEAD:main"),
            "git push --atomic of two refs, no hook": both.push(
                "--atomic", "origin", "HEAD:main", "HEAD:refs/heads/two"
            ),
            "git push of another ref, the ledger's hook": unfenced.push(
                "origin", "HEAD:refs/heads/other"
            ),
            "git push of another ref, beside a fence": beside.push(
                "origin", "HEAD:refs/heads/other"
            ),
            "Ledger.push to a fenced ref": fenced.whole,
            "- git's push of code and record": fenced.last,
            "the same, with --fence-paths": paths.whole,
            "- git's push of code and record, with --fence-paths": paths.last,
            "coordledger guard FILE": lambda number: timed(
                lambda: workspace.command(here, "guard", "free/file")
            ),
            "- coordledger --help": lambda number: timed(lambda: workspace.command(here, "--help")),
            "Ledger.guard, Python interface": lambda number: timed(
                lambda: other.guard([here / "free/file"])
            ),
        }
        return against(FLOOR, acts, rounds, WARM_UP, report), {}


def _fenced(workspace: Workspace, name: str) -> BenchFleet:
    """A ledger that fences main; its owner has a claim, and a neighbour has reserved folders."""
    fleet = workspace.fleet(name, [OTHER])
    more = ["--fence-paths"] if name == "paths" else []
    install = ("hook", "install", str(fleet.remote), "--fence", "refs/heads/main", *more)
    workspace.command(workspace.root, *install)
    with fleet.open(OTHER) as ledger:
        ledger.claim("theirs", ttl=HOUR, paths=RESERVED)
    with fleet.open(OWNER) as ledger:
        ledger.claim("work", ttl=HOUR, paths=["free/"])
    return fleet
