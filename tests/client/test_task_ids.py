"""Names from other trackers as task ids, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordledger.client.task_ids import decode, encode
from coordledger.format.names import is_task

PAIRS = {
    "fix login": "fix%20login",
    "größe": "gr%C3%B6%C3%9Fe",
    "100% sure": "100%25%20sure",
    "a%20b c": "a%2520b%20c",
    "\u65e5\u672c": "%E6%97%A5%E6%9C%AC",
    "\u202eabc": "%E2%80%AEabc",
}


@pytest.mark.parametrize(("name", "task"), PAIRS.items())
def test_what_no_id_may_have_is_encoded_and_shown_decoded(name: str, task: str) -> None:
    assert encode(name) == task
    assert decode(task) == name
    assert encode(task) == task  # as a program has read it


@pytest.mark.parametrize(
    "task",
    [
        "task-1",
        "50%",
        "a%zz",
        "a%2",
        "a%41",
        "a%c3%b6",
        "a%FF",
        "%25",
        "a%20b%FF",
        "a%0Ab",
        "a%2520b",
    ],
)
def test_an_id_that_is_no_names_encoded_form_is_shown_as_it_is(task: str) -> None:
    assert encode(task) == task
    assert decode(task) == task


@pytest.mark.parametrize("name", ["a\nb", "a\x00", "\x7f ", "\x9b31m", "\ud800"])
def test_a_name_with_a_control_character_or_half_a_character_is_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"control|surrogates"):
        encode(name)


@given(st.text(min_size=1))
def test_a_name_is_what_its_id_is_decoded_to(name: str) -> None:
    try:
        task = encode(name)
    except ValueError:
        return
    assert is_task(task) or len(task) > 200
    assert decode(task) == name or is_task(name)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200))
def test_every_id_stays_and_what_is_shown_for_it_means_it(task: str) -> None:
    assert encode(task) == task
    assert encode(decode(task)) == task
