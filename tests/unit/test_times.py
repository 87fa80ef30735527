"""Section 3: the one form of a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordledger import times

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
            times.parse(text)
        except ValueError as error:
            raise ValueError(f"not {error}") from None


@given(st.integers(0, times.LATEST))
def test_a_moment_is_read_as_it_was_shown(moment):
    assert times.parse(times.show(moment)) == moment


def test_the_first_and_the_last_moment():
    assert times.parse("1970-01-01T00:00:00.000Z") == 0
    assert times.parse("9999-12-31T23:59:59.999Z") == times.LATEST
    assert times.parse("2024-02-29T00:00:00.001Z") == 1_709_164_800_001


def test_a_span_is_shown_in_the_largest_unit_that_fits():
    shown = {0: "0 ms", 999: "999 ms", 1000: "1 s", 119_999: "119 s", 120_000: "2 min"}
    shown |= {7_200_000: "2 h", 172_800_000: "2 d"}
    assert {moment: times.span(moment) for moment in shown} == shown
