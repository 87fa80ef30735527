"""The fence around paths: code that lands under a claim touches nothing that others have reserved.

Rules of this file:
- It is about fenced refs alone: only a land record says who pushes, and under which claim.
- What a push changes is the difference between what its ref has and what it is to have, as trees:
  no history, no merge and no rename makes it smaller. A ref that is removed loses all that it
  has; one that is made changes what it has otherwise than each of the fenced refs.
- What overlaps, and which claims count, is decided by `format.reservations`, in the state on which
  the record stands, by the server's clock. A name counts as a folder, too: it may be a submodule,
  or take a folder's place. And cases and Unicode's forms are folded, as they may be where it is
  checked out; but what the holder has reserved by its own name is the holder's.
- It fails closed: what cannot be read, within bounds, is refused. Where nobody else has reserved
  anything, nothing is read.

It is imported by `pre_receive` for a push of code alone, in a repository that asks for it.
"""

from __future__ import annotations

from coordledger.errors import CoordledgerError, RuleBroken
from coordledger.format.reservations import Area, as_folder, folded, of_others, own_area
from coordledger.git.differences import Trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.format.records import Record
    from coordledger.format.state import State
    from coordledger.git.loose import Reader
    from coordledger.server.fence import Fences

MAX_BYTES = 33_554_432  # of trees, for one push


class PathFence:
    """The paths of one push, which brings `objects`, at `now` (milliseconds since 1970)."""

    def __init__(self, fences: Fences, objects: Reader, now: int) -> None:
        self._fences, self._objects, self._now = fences, objects, now
        self._trees = Trees(objects, MAX_BYTES)

    def need_untouched(self, ledger: str, land: Record, state: State) -> None:
        """`state`: the one that the record was made for. Raises `RuleBroken`: reserved,
        paths-unread.
        """
        holder = land["agent"], land["session"]
        others = list(of_others(state, holder, self._now))
        if not others:
            return
        own, area = own_area(state, holder, self._now), _area(others)
        try:
            name = next(
                (
                    name
                    for name in self._changed(ledger, land["old"], land["new"], area)
                    if _overlaps(area, name) and not own.overlaps(name)
                ),
                None,
            )
        except (CoordledgerError, RuleBroken, ValueError, KeyError) as fault:
            why = f"no object {fault}" if isinstance(fault, KeyError) else fault
            raise RuleBroken("paths-unread", ref=land["ref"], why=why) from None
        if name is not None:
            line = next(line for line in others if _overlaps(_area([line]), name))
            fields = ("agent", "session", "task", "until")
            raise RuleBroken("reserved", path=name, **{field: line[field] for field in fields})

    def _changed(self, ledger: str, old: str, new: str, area: Area) -> Iterable[str]:
        """The files that the move of a fenced ref changes, and that the area may be about."""

        def between(one: str | None, other: str | None) -> Iterable[str]:
            return self._trees.differing(one, other, lambda name: area.overlaps(folded(name)))

        if old.strip("0"):
            return between(old, new if new.strip("0") else None)
        names: set[str] | None = None
        for oid in self._fenced(ledger):
            changed = between(oid, new)
            names = set(changed) if names is None else names.intersection(changed)
            if not names:
                break
        return between(None, new) if names is None else sorted(names)

    def _fenced(self, ledger: str) -> list[str]:
        """The commits that the fenced refs have, each once."""
        import subprocess  # noqa: PLC0415 - for a ref that is made, only

        patterns = self._fences.patterns[ledger]
        asked = [*patterns, *(f"{one}/**" for one in patterns if one.endswith("*"))]
        form = "%(objectname) %(objecttype)%(*objecttype) %(refname)"
        ran = subprocess.run(
            ["git", "for-each-ref", f"--format={form}", *asked],
            env=self._objects.environ,
            capture_output=True,
            check=True,
        )
        lines = ran.stdout.decode("utf-8", "surrogateescape").splitlines()
        found = (line.split(" ", 2) for line in lines)
        return list(
            dict.fromkeys(
                oid
                for oid, kind, ref in found
                if kind.endswith("commit") and self._fences.covers(ledger, ref)
            )
        )


def _area(lines: list[Record]) -> Area:
    """Who makes a folder of a reserved name leaves no place for a file."""
    return Area(as_folder(folded(path)) for line in lines for path in line["paths"])


def _overlaps(area: Area, name: str) -> bool:
    return area.overlaps(as_folder(folded(name)))
