"""The one form of a time (docs/format.md, section 3) <-> milliseconds since 1970.

Inside coordledger a moment is an int of milliseconds (UTC), a span an int of
milliseconds too unless its name says seconds. No clock is read here.

The standard library's calendar does the work, called at its C module where there is one:
the module around it imports more than that.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
else:
    try:
        from _datetime import datetime, timedelta
    except ImportError:  # not every Python has it
        from datetime import datetime, timedelta

LATEST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

_1970 = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, like all here; a zone only takes time
_MILLISECOND = timedelta(milliseconds=1)

_parsed: dict[str, int] = {}  # the newest: one record's times are asked for time and again
_MOST = 256


def parse(text: str) -> int:
    """Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.mmmZ`; ValueError for all else."""
    moment = _parsed.get(text)
    if moment is None:
        if len(_parsed) >= _MOST:
            _parsed.clear()
        moment = _parsed[text] = _parse(text)
    return moment


def _parse(text: str) -> int:
    try:
        when = datetime.fromisoformat(text[:-1])
    except ValueError:
        raise ValueError("not a date and time") from None
    # It reads many forms, of which one is written; one with a zone is shown with the zone.
    if when.tzinfo is not None or _in_form(when) != text:
        raise ValueError("not YYYY-MM-DDTHH:MM:SS.mmmZ")
    moment = (when - _1970) // _MILLISECOND
    if moment < 0:
        raise ValueError("not a moment of 1970 to 9999")
    return moment


def recall(text: str) -> int:
    """As `parse`, of a text that was parsed before: that of a record in a verified chain."""
    return (datetime.fromisoformat(text[:-1]) - _1970) // _MILLISECOND


def show(moment: int) -> str:
    """`moment` (milliseconds since 1970, up to the year 9999) in the one form."""
    return _in_form(_1970 + timedelta(milliseconds=moment))


def _in_form(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds") + "Z"


def span(milliseconds: int) -> str:
    """A span for people: `850 ms`, `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds >= 2 * length or (unit == "s" and milliseconds >= length):
            return f"{milliseconds // length} {unit}"
    return f"{milliseconds} ms"
