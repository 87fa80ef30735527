"""Section 3 and 4: what a field may hold. Which field holds what, test_records says."""

import pytest

from coordledger.format import fields
from coordledger.format.names import is_identifier, is_task

PAIR = fields.members({"name": fields.identifier, "seq": fields.count})


@pytest.mark.parametrize(
    ("rule", "value", "wrong"),
    [
        (fields.identifier, "Bob", "not an identifier"),
        (fields.task, "a b", "not a task id"),
        (fields.boolean, 1, "neither true nor false"),
        (fields.count, True, "not a count"),
        (fields.positive, 0, "not a positive integer"),
        (fields.text, None, "not a text"),
        (fields.filled_text, "", "not a text, or empty"),
        (fields.bounded_text(4, 1), "", "not a text of 1 to 4 bytes"),
        (fields.bounded_text(4), "é", "not a text of 0 to 4 bytes"),
        (fields.bounded_text(4), None, "not a text of 0 to 4 bytes"),
        (fields.time, "2026-02-30T00:00:00.000Z", "not a time"),
        (fields.integer(1, 3, "one of three"), 4, "not one of three"),
        (fields.hexadecimal(4), "00FF", "not 4 hexadecimal digits"),
        (fields.one_of("low", "high"), "mid", "not low or high"),
        (fields.or_null(fields.count), -1, "not a count"),
        (fields.array(fields.count, 1, 2, int), [], "not an array of 1 to 2"),
        (fields.array(fields.count, 1, 2, int), [1, "2"], "not a count"),
        (fields.array(fields.count, 1, 2, int), [2, 1], "not sorted, or twice the same"),
        (fields.array(fields.count, 1, 2, int), [1, 1], "not sorted, or twice the same"),
        (PAIR, {"name": "a"}, "not an object of exactly name, seq"),
        (PAIR, {"name": "a", "seq": 0, "more": 0}, "not an object of exactly name, seq"),
        (PAIR, {"name": "a", "seq": -1}, "seq: not a count"),
    ],
)
def test_a_rule_says_what_is_wrong(rule, value, wrong):
    assert rule(value) == wrong


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (fields.integer(1, 3, "one of three"), 3),
        (fields.hexadecimal(4), "00ff"),
        (fields.one_of("low", "high"), "high"),
        (fields.bounded_text(6, 6), "é"),
        (fields.or_null(fields.count), None),
        (fields.or_null(fields.count), 0),
        (fields.array(fields.count, 0, 2, int), []),
        (fields.array(fields.count, 1, 2, lambda number: -number), [2, 1]),
        (PAIR, {"seq": 0, "name": "a"}),
    ],
)
def test_a_rule_says_nothing_of_what_is_right(rule, value):
    assert rule(value) == ""


@pytest.mark.parametrize("value", [None, 1, True, [], {}, [[]], {"a": {}}, "\ud800", "x" * 300])
def test_a_rule_answers_whatever_the_value_is(value):
    rules = [
        fields.identifier, fields.task, fields.boolean, fields.count, fields.positive, fields.text,
        fields.filled_text, fields.time, fields.integer(0, 9, "small"), fields.hexadecimal(32),
        fields.bounded_text(9),
        fields.one_of("a"), fields.or_null(fields.time), fields.array(fields.count, 1, 9, int),
        PAIR,
    ]  # fmt: skip
    assert all(isinstance(rule(value), str) for rule in rules)


def test_names_are_told_of_any_value():
    assert [value for value in ("a", "0", "a_-", "x" * 64) if not is_identifier(value)] == []
    assert [
        value
        for value in ("", "-a", "_", "A", "é", "x" * 65, None, 1, b"a")
        if is_identifier(value)
    ] == []
    assert [value for value in ("#", "~" * 200) if not is_task(value)] == []
    assert [
        value for value in ("", " ", "\x7f", "é", "x" * 201, None, 1, b"a") if is_task(value)
    ] == []
