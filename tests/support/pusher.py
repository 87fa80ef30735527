"""Commits of code, and their land records, pushed with plain git to a server that fences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.attack_batch import Batch
from support.attacker import Pushed, packet, plain

if TYPE_CHECKING:
    from support.fleet import Fleet

MAIN, RELEASE, FREE = "refs/heads/main", "refs/heads/release/1", "refs/heads/free"
FENCED = (MAIN, "refs/heads/release/*")
NOWHERE = "0" * 40


def fence(fleet: Fleet, *patterns: str, paths: bool = False) -> None:
    """Fence refs of the fleet's remote, and what others have reserved there."""
    given = [word for pattern in patterns or FENCED for word in ("--fence", pattern)]
    more = ["--fence-paths"] if paths else []
    fleet.run("hook", "install", fleet.remote, *given, *more, check=0)


class Pusher(Batch):
    """By default bob, who has claimed `work`."""

    def code(self, text: str, *parents: str | None, more: str = "") -> str:
        """A commit of the code."""
        tree = self.tree(("100644", self.add("blob", text.encode()), "file"))
        return self.commit(tree, text, *parents, more=more)

    def commit(self, tree: str, text: str, *parents: str | None, more: str = "") -> str:
        above = "".join(f"parent {parent}\n" for parent in parents if parent)
        who = "Bob <bob@example.com> 1790000000 +0000"
        content = f"tree {tree}\n{above}author {who}\ncommitter {who}\n{more}\n{text}\n"
        return self.add("commit", content.encode())

    def lands(
        self, new: str, old: str, ref: str = MAIN, agent: str = "bob", **given: object
    ) -> str:
        """A land record on what was put before; the ledger's commit."""
        return self.put(agent, "land", **{"task": "work"} | given, ref=ref, old=old, new=new)

    def there(self, ref: str) -> str:
        ran = self.fleet.git("for-each-ref", "--format=%(objectname)", ref).strip()
        return ran or NOWHERE

    def atomic(self, *refspecs: str) -> Pushed:
        return self.push("--atomic", *refspecs)

    def by_hand(self, *commands: tuple[str, str, str], atomic: bool = False) -> Pushed:
        """A push in git's protocol by hand: each command has the old value that it likes."""
        wanted = [new for _, new, _ in commands if new.strip("0")]
        there = self.fleet.git("for-each-ref", "--format=^%(objectname)").split()
        revisions = "\n".join([*wanted, *there, ""]).encode()
        packed = ("git", "pack-objects", "--stdout", "--revs", "-q")
        pack = plain(*packed, cwd=self.folder, env=self.fleet.env, data=revisions).stdout
        features = f"report-status object-format={self.algo}{' atomic' if atomic else ''}"
        lines = [" ".join(command).encode() for command in commands]
        lines[0] += b"\0" + features.encode()
        asked = b"".join(map(packet, lines)) + b"0000" + pack
        program = ("git", "receive-pack", self.fleet.remote)
        ran = plain(*program, cwd=self.folder, env=self.fleet.env, data=asked)
        landed = b"\nng " not in ran.stdout[4:].replace(b"ng refs", b"\nng refs")
        return Pushed(
            0 if landed else 1, ran.stdout.decode("utf-8", "replace"), ran.stderr.decode()
        )
