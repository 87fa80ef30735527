"""Changes of JSON texts that leave every other byte as it is.

Rules of this file:
- A text is parsed first, all of it; what is not plain JSON (comments, a comma too many, NaN) is
  refused with `Unreadable`, and so is a key on the way that stands twice.
- What is put in comes last where it belongs, in the layout of what stands beside it. `take` is the
  inverse of `put`, whatever was put in beside it since.
- What is left empty by `take` goes too, up to the outermost object: but not what was there, and
  empty, before `put`. That is told by a space before its closing bracket, which `put` leaves there.

It computes: no file is known here. Positions are those of characters.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    Path = tuple[str, ...]

WIDTH = 120  # characters: what is wider is laid out on several lines
_BLANK = re.compile(r"[ \t\r\n]*")
_MARK = " "  # before the closing bracket of what was empty
_DIGITS = 18  # of a number that is kept as one


class Unreadable(Exception):
    """The text is none that can be changed without a risk; `why` says it in words."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def _refuse(name: str) -> Any:
    raise Unreadable(f"{name} is not JSON")


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


_decoder = json.JSONDecoder(parse_constant=_refuse, parse_int=_number)


def parsed(text: str) -> dict[str, Any]:
    """The object that a text is. Raises Unreadable."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_number)
    except json.JSONDecodeError as fault:
        raise Unreadable(_why(text, fault)) from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise Unreadable("it is no JSON object")
    return value


def _why(text: str, fault: json.JSONDecodeError) -> str:
    if not text.strip():
        return "it is empty, which is not JSON"
    where = f"line {fault.lineno}, column {fault.colno}"
    if text[fault.pos : fault.pos + 2] in ("//", "/*"):
        return f"a comment in {where}: what has comments is not rewritten"
    return f"not plain JSON in {where}"


# -- where things stand


class _Part(NamedTuple):
    """A member of an object, or an item of a list: where its key, its value begin and it ends."""

    name: str | int
    start: int
    value: int
    end: int


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _parts(text: str, start: int) -> tuple[list[_Part], int]:
    """What the object or list at `start` has, and where its closing bracket stands."""
    parts: list[_Part] = []
    at, in_object = _skip(text, start + 1), text[start] == "{"
    while text[at] not in "}]":
        begin, name = at, len(parts)
        key: str | int = name
        if in_object:
            key, at = _decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # behind the colon
        value = at
        _, end = _decoder.raw_decode(text, value)
        parts.append(_Part(key, begin, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return parts, at


def _find(text: str, start: int, name: str | int) -> _Part | None:
    same = [part for part in _parts(text, start)[0] if part.name == name]
    if len(same) > 1:
        raise Unreadable(f'it has "{name}" twice')
    return same[0] if same else None


# -- layout


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _unit(text: str) -> str:
    """By how much each level is indented."""
    found = re.search(r"[{\[][ \t]*\r?\n([ \t]+)", text)
    return found[1] if found else "  "


class _Layout(NamedTuple):
    newline: str
    unit: str
    comma: str
    colon: str

    @classmethod
    def of(cls, text: str) -> _Layout:
        compact = re.search(r'"\s*:\S', text) and not re.search(r'"\s*:\s', text)
        return cls(_newline(text), _unit(text), *((",", ":") if compact else (", ", ": ")))

    def flat(self, value: Any) -> str:
        return json.dumps(value, separators=(self.comma, self.colon))

    def shown(self, value: Any, indent: str | None) -> str:
        """A value at a place that is indented so; `None`: on one line."""
        flat = self.flat(value)
        if indent is None or not isinstance(value, dict | list) or len(indent + flat) <= WIDTH:
            return flat
        return self.opened(value, indent)

    def opened(self, value: Any, indent: str) -> str:
        """An object or a list on several lines."""
        inner = indent + self.unit
        if isinstance(value, dict):
            rows = [f"{json.dumps(key)}: {self.shown(item, inner)}" for key, item in value.items()]
            ends = "{}"
        else:
            rows, ends = [self.shown(item, inner) for item in value], "[]"
        joined = f",{self.newline}{inner}".join(rows)
        return f"{ends[0]}{self.newline}{inner}{joined}{self.newline}{indent}{ends[1]}"

    def chain(self, names: Sequence[str], value: Any, indent: str | None, *, listed: bool) -> str:
        """`value` below `names`, as an item of a list if `listed`: none of these is there yet."""
        if not names and not listed:
            return self.shown(value, indent)
        inner = None if indent is None else indent + self.unit
        if names:
            below = self.chain(names[1:], value, inner, listed=listed)
            ends, shown = "{}", f"{json.dumps(names[0])}{self.colon}{below}"
        else:
            ends, shown = "[]", self.shown(value, inner)
        if inner is None:
            return ends[0] + shown + ends[1]
        return f"{ends[0]}{self.newline}{inner}{shown}{self.newline}{indent}{ends[1]}"


# -- the changes


def put(text: str, path: Path, value: Any, *, listed: bool) -> str:
    """The text with `value` as the last item of the list at `path`, or, if not `listed`, as the
    member at `path`, which must not be there. What is missing on the way is made.
    """
    parsed(text)
    at, names = _skip(text, 0), list(path)
    while names:
        if text[at] != "{":
            raise Unreadable(f'"{path[len(path) - len(names) - 1]}" is no object')
        part = _find(text, at, names[0])
        if part is None:
            break
        at = part.value
        names.pop(0)
    if not names and not listed:
        raise Unreadable(f'it has "{path[-1]}" already')
    if not names and text[at] != "[":
        raise Unreadable(f'"{path[-1]}" is no list')
    return _put_into(text, at, names, value, listed=listed)


def _put_into(text: str, at: int, names: list[str], value: Any, *, listed: bool) -> str:
    layout = _Layout.of(text)
    parts, close = _parts(text, at)
    if parts:
        before, indent = _separation(text, at, parts, layout)
        after, place = "", parts[-1].end
    else:
        before, after, place = "", _MARK, close
        indent = _depth(text, at, layout)
    if names:
        below = layout.chain(names[1:], value, indent, listed=listed)
        shown = f"{json.dumps(names[0])}{layout.colon}{below}"
    else:
        shown = layout.shown(value, indent)
    return text[:place] + before + shown + after + text[place:]


def _depth(text: str, at: int, layout: _Layout) -> str | None:
    """How far what is put into something empty is indented; None in a text of one line."""
    if "\n" not in text.strip():
        return layout.unit if text[: at + 1].strip() == "{" else None
    begin = text.rfind("\n", 0, at) + 1
    return text[begin : min(_skip(text, begin), at)] + layout.unit


def _separation(text: str, at: int, parts: list[_Part], layout: _Layout) -> tuple[str, str | None]:
    """What comes between the last part and a new one, and how far that is indented."""
    edge = text.index(",", parts[-2].end) if len(parts) > 1 else at
    gap = text[edge + 1 : parts[-1].start]
    if "\n" not in gap:
        return layout.comma, None
    indent = gap.rpartition("\n")[2]
    return f",{layout.newline}{indent}", indent


def take(text: str, path: tuple[str | int, ...]) -> str:
    """The text without the value at `path`, and without what is left empty by that."""
    starts = [_skip(text, 0)]
    for name in path:
        part = _find(text, starts[-1], name)
        if part is None:
            raise Unreadable(f'it has no "{name}"')
        starts.append(part.value)
    starts.pop()
    for level in range(len(path) - 1, -1, -1):
        parts, close = _parts(text, starts[level])
        if len(parts) > 1:
            index = next(i for i, part in enumerate(parts) if part.name == path[level])
            start, end = _cut(parts, index)
            return text[:start] + text[end:]
        if text[parts[0].end : close] == _MARK:  # it was empty before
            return text[: parts[0].start] + text[close:]
        if level == 0:
            return text[: starts[0] + 1] + text[parts[0].end :]
    return text


def _cut(parts: list[_Part], index: int) -> tuple[int, int]:
    """What goes with one of several parts: the comma before it, or behind the first one."""
    if index:
        return parts[index - 1].end, parts[index].end
    return parts[0].start, parts[1].start


def made(entries: Sequence[tuple[Path, Any, bool]], before: str = "") -> str:
    """The text of a file that is made for these entries: path, value, and whether it is an item of
    a list. `before` is what else has to stand in it. No change of another file gives this layout:
    by it `--remove` knows a file that was made, so that later versions have to keep it.
    """
    layout = _Layout("\n", "  ", ", ", ": ")
    (path, value, listed), *others = entries
    below = layout.chain(path[1:], value, "", listed=listed)
    text = f"{{{before}{json.dumps(path[0])}: {below}}}\n"
    for path, value, listed in others:
        text = put(text, path, value, listed=listed)
    return text
