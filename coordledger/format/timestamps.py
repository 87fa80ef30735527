"""The one form of a time (docs/format.md, section 3) <-> milliseconds since 1970.

Inside coordledger a moment is an int of milliseconds (UTC), a span an int of
milliseconds too unless its name says seconds. Nobody reads a clock here.

The calendar is computed with integers: `datetime` would take a tenth of the hook's time.
Years begin in March here, so that a leap day is the last of its year.
"""

from __future__ import annotations

LATEST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z
_DAY = 86_400_000
_DAYS_TO_1970 = 719_468  # from 0000-03-01


_parsed: dict[str, int] = {}  # the newest: one record's times are asked for time and again
_MOST = 256


def parse(text: str) -> int:
    """Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.mmmZ`; ValueError for all else."""
    found = _parsed.get(text)
    if found is None:
        if len(_parsed) >= _MOST:
            _parsed.clear()
        found = _parsed[text] = _parse(text)
    return found


def _parse(text: str) -> int:
    digits = (
        text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19] + text[20:23]
    )
    marks = text[4:20:3] + text[23:]
    if len(text) != 24 or marks != "--T::.Z" or not digits.isdecimal():
        raise ValueError("not YYYY-MM-DDTHH:MM:SS.mmmZ")
    years, months = divmod(12 * int(digits[:4]) + int(digits[4:6]) - 3, 12)
    days = _days_before(years) + _days_of(months) + int(digits[6:8]) - 1 - _DAYS_TO_1970
    minutes = 60 * int(digits[8:10]) + int(digits[10:12])
    milliseconds = days * _DAY + 60_000 * minutes + int(digits[12:])
    if milliseconds < 0 or show(milliseconds) != text:  # no such day or hour, other digits
        raise ValueError("not a moment of 1970 to 9999")
    return milliseconds


def show(moment: int) -> str:
    """`moment` (milliseconds since 1970, up to the year 9999) in the one form."""
    days, rest = divmod(moment, _DAY)
    days += _DAYS_TO_1970
    years = 400 * (days + 2) // 146_097  # or one too many
    while _days_before(years) > days:
        years -= 1
    days -= _days_before(years)
    months = (5 * days + 2) // 153  # whole ones since March
    day = days - _days_of(months) + 1
    year, month = divmod(12 * years + months + 2, 12)
    seconds, thousandths = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    clock = f"{hour:02}:{minute:02}:{second:02}.{thousandths:03}"
    return f"{year:04}-{month + 1:02}-{day:02}T{clock}Z"


def _days_of(months: int) -> int:
    """The days of so many months, from March: 31, 30, 31, 30, 31, and again."""
    return (153 * months + 2) // 5


def _days_before(years: int) -> int:
    """The days of so many years, from 0000-03-01."""
    return 365 * years + years // 4 - years // 100 + years // 400


def span(milliseconds: int) -> str:
    """A span for people: `850 ms`, `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds >= 2 * length or (unit == "s" and milliseconds >= length):
            return f"{milliseconds // length} {unit}"
    return f"{milliseconds} ms"
