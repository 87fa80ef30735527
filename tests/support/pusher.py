"""Commits of code, and their land records, pushed with plain git to a server that fences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.attack_batch import Batch

if TYPE_CHECKING:
    from support.attacker import Pushed

MAIN = "refs/heads/main"
NOWHERE = "0" * 40


class Pusher(Batch):
    """By default bob, who has claimed `work`."""

    def code(self, text: str, *parents: str | None, more: str = "") -> str:
        """A commit of the code."""
        tree = self.tree(("100644", self.add("blob", text.encode()), "file"))
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
