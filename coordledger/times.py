"""The one form of a time (docs/format.md, section 3) <-> milliseconds since 1970.

Inside coordledger a moment is an int of milliseconds (UTC), a span an int of
milliseconds too unless its name says seconds. Nobody reads a clock here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHAPE = "dddd-dd-ddTdd:dd:dd.dddZ"
LATEST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


def parse(text: str) -> int:
    """Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.mmmZ`; ValueError for all else."""
    if len(text) != len(_SHAPE) or not all(
        "0" <= char <= "9" if want == "d" else char == want
        for char, want in zip(text, _SHAPE, strict=True)
    ):
        raise ValueError("not YYYY-MM-DDTHH:MM:SS.mmmZ")
    moment = datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    if milliseconds < 0 or show(milliseconds) != text:  # newer Pythons read 24:00:00
        raise ValueError("not a moment of 1970 to 9999")
    return milliseconds


def show(moment: int) -> str:
    """`moment` (milliseconds since 1970, up to the year 9999) in the one form."""
    when = _EPOCH + timedelta(milliseconds=moment)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{moment % 1000:03d}Z"


def span(milliseconds: int) -> str:
    """A span for people: `850 ms`, `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds >= 2 * length or (unit == "s" and milliseconds >= length):
            return f"{milliseconds // length} {unit}"
    return f"{milliseconds} ms"
