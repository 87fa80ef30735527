"""The fence: refs that move only with a record that says so (docs/format.md, section 10).

`coordledger/<ledger>.fence`, in the folder of the secrets, has a pattern a line: a ref, or the
beginning of refs and a `*`. The hooks' scripts read it too. Where `<ledger>.fence-paths` is beside
it, what is pushed to these refs may touch no paths of others: `path_fence`.

Rules of this file:
- What a push moves of fenced refs and what its land records say are the same, one by one, ledger by
  ledger. So code lands with its record or not at all, as far as git keeps a push together; the hook
  `reference-transaction` sees to that.
- No other ref has land records: nobody would see to it that it moves with them.
- A push names the ledger before the code. git writes refs in that order, and removes some after
  that: if it is killed in between, a record may stand without its move, and no move without it.
- What cannot be read is no fence that is missing: it raises.
"""

from __future__ import annotations

import posix

from coordledger.errors import RuleBroken
from coordledger.format.names import LEDGERS, is_code_ref, is_identifier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from coordledger.format.commit import Commit

SUFFIX, PATHS = ".fence", ".fence-paths"
MAX_BYTES = 65_536
_NO_PATTERN = frozenset("\\'\"`$;&|<>()#!{}")  # what no shell may have to read


def is_pattern(value: str) -> bool:
    """A ref that code may have, or the beginning of one and a `*`; harmless in a shell.

    It comes after the ledgers in the alphabet, in which `git push` sends refs: see `need_pairs`.
    """
    return (
        is_code_ref(value[:-1] + "x" if value.endswith("*") else value)
        and _NO_PATTERN.isdisjoint(value)
        and value > LEDGERS
    )


class Fences:
    """The patterns of each ledger that fences refs, by its name; `paths`: those that fence what
    others have reserved, too.
    """

    def __init__(self, patterns: dict[str, list[str]], paths: Collection[str] = ()) -> None:
        self.patterns, self.paths = patterns, paths

    def ledgers_of(self, ref: str) -> list[str]:
        """The ledgers that fence a ref."""
        return [name for name in self.patterns if self.covers(name, ref)]

    def covers(self, ledger: str, ref: str) -> bool:
        return any(
            ref.startswith(pattern[:-1]) if pattern.endswith("*") else ref == pattern
            for pattern in self.patterns.get(ledger, ())
        )

    def need_pairs(
        self,
        moves: Iterable[tuple[str, str, str]],
        landings: dict[str, list[Commit]],
        ahead: int,
        value: Callable[[str], str],
    ) -> None:
        """Each of the `moves` (old, new, ref) of a fenced ref has its land record, and each record
        its move. `landings`: by ledger, the commits of a push with these records. The first
        `ahead` of the moves come before the last ledger that the push names. `value`: what a ref
        has there.

        Raises `RuleBroken`: bad-push, code-moved, fenced, not-fenced, land-alone.
        """
        left: dict[tuple[str, str], tuple[str, str]] = {}
        for place, (old, new, ref) in enumerate(moves):
            for ledger in self.ledgers_of(ref):
                if (ledger, ref) in left:
                    raise RuleBroken("bad-push", why="a ref stands twice in the list")
                if place < ahead:
                    raise RuleBroken("bad-push", why=f"{ref} comes before a ledger")
                left[ledger, ref] = old, new
                # git compares the values of other moves itself, under the ref's lock.
                if not new.strip("0") and value(ref) != old:
                    raise RuleBroken("code-moved", why=ref, commit="")
        for ledger, commits in landings.items():
            for commit in commits:
                r = commit.record
                said = {"ref": r["ref"], "old": r["old"][:12], "new": r["new"][:12]}
                if not self.covers(ledger, r["ref"]):
                    raise RuleBroken("not-fenced", **said, commit=commit.oid)
                if left.pop((ledger, r["ref"]), None) != (r["old"], r["new"]):
                    raise RuleBroken("land-alone", **said, commit=commit.oid)
        for (ledger, ref), (old, new) in left.items():
            said = {"ref": ref, "old": old[:12], "new": new[:12]}
            raise RuleBroken("fenced", **said, ledger=ledger, commit="")


def read_fences(folder: str) -> Fences:
    """The fences in a repository's `coordledger` folder. Raises `RuleBroken`: hook-broken."""
    try:
        files = sorted(posix.listdir(folder))
    except FileNotFoundError:
        return Fences({})
    names = [name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)]
    paths = {name.removesuffix(PATHS) for name in files if name.endswith(PATHS)}
    return Fences({name: _read(f"{folder}/{name}{SUFFIX}") for name in names}, paths)


def _read(path: str) -> list[str]:
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes a hook three milliseconds
        content = file.read(MAX_BYTES + 1)
    lines = content.decode("ascii", "replace").split("\n")
    cut = lines.pop() or not lines  # who fences nothing has no such file
    name = path.rpartition("/")[2].removesuffix(SUFFIX)
    if len(content) > MAX_BYTES or cut or not is_identifier(name):
        raise RuleBroken("hook-broken", why=f"{path} is no fence")
    for line in lines:
        if not is_pattern(line):
            raise RuleBroken("hook-broken", why=f"{path} has a line that is no pattern")
    return lines
