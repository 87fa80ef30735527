"""Bytes <-> value: the one canonical form (docs/format.md, section 2).

Rules: `encode` is the only encoder and `decode` the only decoder; whatever `decode`
returns, `encode` turns back into the very same bytes. It knows nothing of records.
"""

from __future__ import annotations

import json

from .errors import RuleBroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 8
MAX_BYTES = 131_072

_encoder = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
)


def encode(value: Any) -> bytes:
    """`value` (dict, list, str, int, bool, None) in canonical form."""
    return _encoder.encode(value).encode("ascii")


def size(text: str) -> int:
    """The bytes that `text` takes in a record, without its quotation marks."""
    return len(_encoder.encode(text)) - 2


def decode(data: bytes, limit: int = MAX_BYTES) -> Any:
    """The value of canonical `data`, at most `limit` bytes.

    Raises `RuleBroken`: too-large, bad-json, not-canonical.
    """
    if len(data) > limit:
        raise RuleBroken("too-large", what="the payload", size=len(data), limit=limit)
    try:
        value = _decoder.decode(data.decode("ascii"))
    except RecursionError:
        raise RuleBroken("bad-json", why="nested too deeply") from None
    except ValueError:
        raise RuleBroken("bad-json", why="it does not parse as ASCII JSON") from None
    _check(value, 1)
    if encode(value) != data:
        raise RuleBroken("not-canonical")
    return value


def read(line: bytes) -> Any:
    """The value of a line that `encode` has written: of a state, whose bytes the tree's id
    vouches for. ValueError if it is none after all.
    """
    return _plain.decode(line.decode("ascii"))


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 17 else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise RuleBroken("bad-json", why="an integer beyond 2^53 - 1")
    return value


def _no_float(_: str) -> NoReturn:
    raise RuleBroken("bad-json", why="a number that is not an integer")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise RuleBroken("bad-json", why="a name stands twice in an object")
    return members


_plain = json.JSONDecoder()
_decoder = json.JSONDecoder(
    parse_int=_integer,
    parse_float=_no_float,
    parse_constant=_no_float,
    object_pairs_hook=_members,
)


def _check(value: Any, depth: int) -> None:
    """Depth and surrogates: what the decoder lets through and the encoder would return."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise RuleBroken("bad-json", why="a lone surrogate") from None
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise RuleBroken("bad-json", why="nested too deeply")
        if isinstance(value, dict):
            for name in value:
                _check(name, depth)
            value = value.values()
        for item in value:
            _check(item, depth + 1)
