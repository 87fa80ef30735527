"""The values that a field of a record may hold (docs/format.md, sections 3 and 4).

A `Rule` says what is wrong with a value, or "" if nothing is. Rules are values that are
built from each other, so that a kind's shape is a table (`rules`). Each knows one value:
what two fields have to do with each other, and with the state, is the kind's matter.
"""

from __future__ import annotations

from itertools import pairwise

from coordledger.format import canonical, timestamps
from coordledger.format.names import is_agent, is_identifier, is_task
from coordledger.hashes import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Rule = Callable[[Any], str]  # what is wrong with a value, or ""
    Fields = dict[str, Rule]


def is_integer(value: object, least: int, most: int = canonical.MAX_INTEGER) -> bool:
    return type(value) is int and least <= value <= most  # True is no integer here


# -- rules


def identifier(value: Any) -> str:
    return "" if is_identifier(value) else "not an identifier"


def agent(value: Any) -> str:
    return "" if is_agent(value) else "not an agent's name"


def task(value: Any) -> str:
    return "" if is_task(value) else "not a task id"


def boolean(value: Any) -> str:
    return "" if type(value) is bool else "neither true nor false"


def count(value: Any) -> str:
    return "" if is_integer(value, 0) else "not a count"


def positive(value: Any) -> str:
    return "" if is_integer(value, 1) else "not a positive integer"


def text(value: Any) -> str:
    return "" if isinstance(value, str) else "not a text"


def filled_text(value: Any) -> str:
    return "" if isinstance(value, str) and value else "not a text, or empty"


def time(value: Any) -> str:
    if not isinstance(value, str):
        return "not a time"
    try:
        timestamps.parse(value)
    except ValueError:
        return "not a time"
    return ""


# -- rules that are made of others


def integer(least: int, most: int, what: str) -> Rule:
    """An integer within these bounds, which people call `what`."""
    return lambda value: "" if is_integer(value, least, most) else f"not {what}"


def hexadecimal(digits: int) -> Rule:
    def rule(value: Any) -> str:
        good = isinstance(value, str) and is_hex(value, digits)
        return "" if good else f"not {digits} hexadecimal digits"

    return rule


def bounded_text(most: int, least: int = 0) -> Rule:
    """A text whose size is within these bounds."""

    def rule(value: Any) -> str:
        good = isinstance(value, str) and least <= canonical.size(value) <= most
        return "" if good else f"not a text of {least} to {most} bytes"

    return rule


def one_of(*values: str) -> Rule:
    def rule(value: Any) -> str:
        return "" if isinstance(value, str) and value in values else f"not {' or '.join(values)}"

    return rule


def or_null(rule: Rule) -> Rule:
    return lambda value: "" if value is None else rule(value)


def array(item: Rule, least: int, most: int, sort_key: Callable[[Any], Any]) -> Rule:
    """An array of `least` to `most` items, ascending by `sort_key` and without duplicates."""

    def rule(value: Any) -> str:
        if not isinstance(value, list) or not least <= len(value) <= most:
            return f"not an array of {least} to {most}"
        wrong = next(filter(None, map(item, value)), "")
        if wrong:
            return wrong
        ascending = all(a < b for a, b in pairwise(map(sort_key, value)))
        return "" if ascending else "not sorted, or twice the same"

    return rule


def members(fields: Fields) -> Rule:
    """An object that has exactly these members."""

    def rule(value: Any) -> str:
        if not isinstance(value, dict) or value.keys() != fields.keys():
            return f"not an object of exactly {', '.join(sorted(fields))}"
        for name, member in fields.items():
            wrong = member(value[name])
            if wrong:
                return f"{name}: {wrong}"
        return ""

    return rule
