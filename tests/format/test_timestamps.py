"""Section 3: the one form of a time."""

import calendar
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordledger.format import timestamps

NO_TIMES = [
    "",
    "2026-11-21T03:10:00Z",
    "2026-11-21T03:10:00.00Z",
    "2026-11-21T03:10:00.000000Z",
    "2026-11-21T03:10:00.000",
    "2026-11-21T03:10:00.000z",
    "2026-11-21t03:10:00.000Z",
    "2026-11-21 03:10:00.000Z",
    "2026-11-21T03:10:00.000+00:00",
    "2026-11-21T03:10:00.000+00:00Z",
    "2026-11-21T03:10:00.000-12:30Z",
    "2026-11-21T03:10:00.000Z\n",
    " 2026-11-21T03:10:00.000Z",
    "2026-11-21T03:10:00,000Z",
    "2026-02-29T00:00:00.000Z",
    "2026-04-31T00:00:00.000Z",
    "2026-13-01T00:00:00.000Z",
    "2026-00-01T00:00:00.000Z",
    "2026-01-00T00:00:00.000Z",
    "2026-01-01T24:00:00.000Z",
    "2026-01-01T23:60:00.000Z",
    "2026-12-31T23:59:60.000Z",
    "1969-12-31T23:59:59.999Z",
    "0000-01-01T00:00:00.000Z",
    "+026-01-01T00:00:00.000Z",
    "२०२६-11-21T03:10:00.000Z",
    "2026-W47-6T03:10:00.000Z",
]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="not "):
        try:
            timestamps.parse(text)
        except ValueError as error:
            raise ValueError(f"not {error}") from None


@given(st.integers(0, timestamps.LATEST))
def test_a_moment_is_read_as_it_was_shown(moment):
    assert timestamps.parse(timestamps.show(moment)) == moment


@given(st.integers(0, timestamps.LATEST))
@example(951_782_400_000)  # 2000-02-29
@example(4_107_542_400_000)  # 2100-03-01
def test_the_calendar_is_the_standard_librarys(moment):
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment)
    assert timestamps.show(moment) == when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@given(st.from_regex(r"(?a:[12]\d{3}-[01]\d-[0-3]\d)T(?a:[0-2]\d:[0-6]\d:[0-6]\d\.\d{3})Z\Z"))
def test_just_the_moments_of_the_standard_library_are_read(text):
    try:
        when = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        when = None
    if when is None or when.year < 1970 or "T24" in text:
        with pytest.raises(ValueError, match="not "):
            timestamps.parse(text)
    else:
        assert timestamps.parse(text) == (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
            milliseconds=1
        )


@given(st.text("0123456789-T:.Z+ \n٣", max_size=26))
def test_no_other_text_is_a_moment(text):
    try:
        moment = timestamps.parse(text)
    except ValueError:
        return
    assert timestamps.show(moment) == text


def test_the_first_and_the_last_moment():
    assert timestamps.parse("1970-01-01T00:00:00.000Z") == 0
    assert timestamps.parse("9999-12-31T23:59:59.999Z") == timestamps.LATEST
    assert timestamps.parse("2024-02-29T00:00:00.001Z") == 1_709_164_800_001


def test_a_span_is_shown_in_the_largest_unit_that_fits():
    shown = {0: "0 ms", 999: "999 ms", 1000: "1 s", 119_999: "119 s", 120_000: "2 min"}
    shown |= {7_200_000: "2 h", 172_800_000: "2 d"}
    assert {moment: timestamps.span(moment) for moment in shown} == shown


# Texts near the one form: its characters, some replaced, lost or come in.
_NEARLY = st.tuples(
    st.integers(0, timestamps.LATEST).map(timestamps.show),
    st.lists(
        st.tuples(
            st.integers(0, 23),
            st.integers(0, 1),
            st.text("0123456789-T:.Z+, tzW\n३\ud800", max_size=2),
        ),
        max_size=3,
    ),
)


@given(_NEARLY)
@settings(max_examples=1000)
def test_a_text_near_a_time_is_one_if_a_moment_is_shown_so_and_only_then(nearly):
    text, changes = nearly
    for at, lost, instead in changes:
        text = text[:at] + instead + text[at + lost :]
    assert _read(text) == _read_plainly(text)


def _read(text):
    try:
        return timestamps.parse(text)
    except ValueError:
        return None


def _read_plainly(text):
    """What the specification says, word for word: digits, marks, and a calendar."""
    found = re.fullmatch(r"(?a:(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})Z)", text)
    if not found:
        return None
    year, month, day, hour, minute, second, thousandth = map(int, found.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if year < 1970 or not 1 <= month <= 12 or not 1 <= day <= days[month - 1]:
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    before = sum(366 if calendar.isleap(y) else 365 for y in range(1970, year))
    seconds = (before + sum(days[: month - 1]) + day - 1) * 86_400
    return 1000 * (seconds + 3600 * hour + 60 * minute + second) + thousandth


def test_a_python_without_the_c_module_reads_and_shows_the_same():
    moments = [0, 1, 951_782_400_000, 1_709_164_800_001, 4_107_542_400_000, timestamps.LATEST]
    code = (
        "import sys; sys.modules['_datetime'] = None\n"
        "from coordledger.format import timestamps\n"
        "assert hasattr(timestamps.datetime.fromisoformat, '__code__')\n"  # written in Python
        f"for moment, text in {[(moment, timestamps.show(moment)) for moment in moments]!r}:\n"
        "    assert timestamps.show(moment) == text\n"
        "    assert timestamps.parse(text) == moment\n"
        f"for text in {NO_TIMES!r}:\n"
        "    try: timestamps.parse(text)\n"
        "    except ValueError: pass\n"
        "    else: assert False, text\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
