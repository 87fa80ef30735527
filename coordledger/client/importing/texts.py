"""Values from elsewhere as texts of the format: cleaned, cut to a size, parsed as times.

Rules: whatever type a value has, it becomes a text or is refused by `ValueError`. What is cut says
so at its end, with its length and digest. Sizes are those of the canonical form.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from coordledger.format import canonical, timestamps
from coordledger.format.names import is_identifier

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 60  # characters of a value that a note shows


def as_text(value: object, notes: list[str], what: str) -> str | None:
    """The value as a text; None if there is none.

    Raises `ValueError`: it is of no type that a text can be made of.
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
        if text.encode("utf-8") != value:
            notes.append(f"{what}: not UTF-8, what is not was replaced")
        return text
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        notes.append(f"{what}: a number, taken as a text")
        return str(value)
    raise ValueError(f"{what} is no text")


def parsed(text: str | bytes) -> Any:
    """JSON as a value without lone surrogates, wherever they stand. Raises `ValueError`,
    `RecursionError`.
    """
    return _cleaned(json.loads(text))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {_cleaned(name): _cleaned(item) for name, item in value.items()}
    return value


def cut(text: str, limit: int, notes: list[str], what: str) -> str:
    """The text, or as much of its beginning as has room together with what says so."""
    if canonical.size(text) <= limit:
        return text
    data = text.encode("utf-8")
    mark = f" [cut: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}]"
    if len(mark) > limit:
        mark = ""
    room = limit - len(mark)
    kept, most = 0, min(room, len(text))
    while kept < most:  # by halves: a database may have thousands of long texts
        middle = (kept + most + 1) // 2
        kept, most = (middle, most) if canonical.size(text[:middle]) <= room else (kept, middle - 1)
    notes.append(f"{what}: cut, it has {canonical.size(text)} bytes and may have {limit}")
    return text[:kept] + mark


def identifier(text: str) -> str:
    """An identifier that looks like the text; "" if there is none."""
    lower = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in text.lower())
    name = lower.strip("-").lstrip("_-")[:64]
    return name if is_identifier(name) else ""


def moment(value: object, notes: list[str], what: str) -> int | None:
    """A time as milliseconds since 1970: ISO 8601, UTC where it names no zone. None, with a note,
    if it is none.
    """
    if value is None:
        return None
    try:
        if not isinstance(value, str | bytes) or len(value) > _SHOWN:
            raise ValueError
        text = value.decode("ascii") if isinstance(value, bytes) else value
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
        timestamps.parse(timestamps.show(milliseconds))
    except (ValueError, OverflowError):
        notes.append(f"{what}: no time")
        return None
    return milliseconds


def shown(value: object) -> str:
    """A value in a note."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
