"""Paths that claims reserve: their form, when two overlap, and their lines in the state.

Rules: a reservation belongs to a claim and ends with it. Overlap is equality, or one being a folder
above the other: no globs and no folding of cases, so that it is the same everywhere. (Who looks at
files asks with `folded` paths.) A claim may have 32 paths and the file a few thousand, so none of
this compares each with each.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import canonical, timestamps
from coordledger.format.state import RESERVATIONS, line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

MAX_PATHS = 32  # of one claim
MAX_PATH = 1024
MAX_BYTES = 131_072


def path_problem(value: object) -> str:
    """What is wrong with a path, or ""."""
    if not isinstance(value, str) or not value:
        return "not a path"
    if canonical.size(value) > MAX_PATH:
        return f"a path of more than {MAX_PATH} bytes"
    if any(char < " " or "\x7f" <= char <= "\x9f" for char in value):
        return "a path with a control character"
    if any(part in ("", ".", "..") for part in value.removesuffix("/").split("/")):
        return "not a path in its normal form"
    return ""


class Area:
    """Some paths, to be asked which other ones overlap them."""

    def __init__(self, paths: Iterable[str]) -> None:
        paths = list(paths)
        self._names = {path.removesuffix("/") for path in paths}
        self._folders = {path for path in paths if path.endswith("/")}
        self._above = {folder for path in paths for folder in _folders_above(path)}

    def overlaps(self, path: str) -> bool:
        return (
            path.removesuffix("/") in self._names
            or path in self._above  # only a folder is
            or any(folder in self._folders for folder in _folders_above(path))
        )


def folded(path: str) -> str:
    """A path as file systems know it that fold cases and Unicode's forms."""
    if path.isascii():
        return path.lower()
    import unicodedata  # noqa: PLC0415 - the hooks do without it

    # Taken apart before and after: letters with two marks fold to other forms of theirs.
    apart = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFD", apart)


def as_folder(path: str) -> str:
    """A path as that of a folder, whatever it is: it then overlaps all that would be below it."""
    return path.removesuffix("/") + "/"


def _folders_above(path: str) -> Iterator[str]:
    at = path.find("/")
    while 0 <= at < len(path) - 1:
        yield path[: at + 1]
        at = path.find("/", at + 1)


def need_free(state: State, claim: Record, moment: int) -> None:
    """No path of the claim overlaps one of another's at `moment`. Raises `RuleBroken`: reserved."""
    if not claim["paths"]:
        return
    area, mine = Area(claim["paths"]), {item["task"] for item in claim["tasks"]}
    for line in of_others(state, (claim["agent"], claim["session"]), moment):
        if line["task"] in mine:
            continue
        for path in line["paths"]:
            if area.overlaps(path):
                names = ("agent", "session", "task", "until")
                raise RuleBroken("reserved", path=path, **{name: line[name] for name in names})


def of_others(state: State, holder: tuple[str, str] | None, moment: int) -> Iterator[Record]:
    """The lines that count at `moment` and are not this holder's (agent, session)."""
    return (line for line in _live(state, moment) if (line["agent"], line["session"]) != holder)


def own_area(state: State, holder: tuple[str, str], moment: int) -> Area:
    """What this holder (agent, session) has reserved at `moment`."""
    lines = [line for line in _live(state, moment) if (line["agent"], line["session"]) == holder]
    return Area(path for line in lines for path in line["paths"])


def _live(state: State, moment: int) -> Iterator[Record]:
    for line in state.reservations():
        if moment < timestamps.parse(line["until"]) + state.skew:
            yield line


def claimed(state: State, claim: Record) -> Changes:
    """The change that a claim makes to the reserved paths. Raises `RuleBroken`: paths-full."""
    names = [item["task"] for item in claim["tasks"]]
    if not claim["paths"]:
        return ended(state, names)
    # A server lets a record's time be a skew ahead of its own.
    now = timestamps.parse(claim["at"]) - 2 * state.skew
    kept = [
        line
        for line in state.reservations()
        if line["task"] not in names and timestamps.parse(line["until"]) > now
    ]
    fields = {name: claim[name] for name in ("agent", "session", "paths", "until")}
    return _file(kept + [fields | {"task": name} for name in names], MAX_BYTES)


def ended(state: State, names: Collection[str]) -> Changes:
    """The change that the end of the claims on these tasks makes to the reserved paths."""
    if not any(_has_line(state, name) for name in names):
        return {}
    return _file(line for line in state.reservations() if line["task"] not in names)


def renewed(state: State, name: str, until: str) -> Changes:
    """The change that a new end of the claim on a task makes to the reserved paths."""
    if not _has_line(state, name):
        return {}
    lines = state.reservations()
    return _file(line | {"until": until} if line["task"] == name else line for line in lines)


def _has_line(state: State, name: str) -> bool:
    """Whether the task may have a line: that is looked up without reading all of them."""
    content = state.tree.get(RESERVATIONS)
    return content is not None and line_of({"task": name})[1:-2] in content


def _file(lines: Iterable[Record], limit: int | None = None) -> Changes:
    content = b"".join(map(line_of, sorted(lines, key=lambda line: line["task"])))
    if limit and len(content) > limit:
        raise RuleBroken("paths-full", size=len(content), limit=limit)
    return {RESERVATIONS: content or None}
