"""Bytes <-> value: the one canonical form (docs/format.md, section 2).

Rules: `encode` is the only encoder and `decode` the only decoder; whatever `decode`
returns, `encode` turns back into the very same bytes. It knows nothing of records.

The standard library's JSON does the work, called at its C functions where they are: the
package around them imports `re` and more, which would be a quarter of the hook's time. These
functions are private to it, so they are tried out before they are used: on a Python where
anything about them is different, the package does the work.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    ToText = Callable[[Any], str]
    FromText = Callable[[str], Any]
    Codec = tuple[ToText, FromText, FromText]  # write; read strictly; read what we have written

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 8
MAX_BYTES = 131_072


def encode(value: Any) -> bytes:
    """`value` (dict, list, str, int, bool, None) in canonical form."""
    return _to_text(value).encode("ascii")


def size(text: str) -> int:
    """The bytes that `text` takes in a record, without its quotation marks."""
    return len(_to_text(text)) - 2


def decode(data: bytes, limit: int = MAX_BYTES) -> Any:
    """The value of canonical `data`, at most `limit` bytes.

    Raises `RuleBroken`: too-large, bad-json, not-canonical.
    """
    if len(data) > limit:
        raise RuleBroken("too-large", what="the payload", size=len(data), limit=limit)
    try:
        value = _from_text(data.decode("ascii"))
    except RecursionError:
        raise RuleBroken("bad-json", why="nested too deeply") from None
    except ValueError:
        raise RuleBroken("bad-json", why="it does not parse as ASCII JSON") from None
    if b"\\u" in data or data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _check(value, 1)  # without an escape no surrogate, with few brackets no depth
    if encode(value) != data:
        raise RuleBroken("not-canonical")
    return value


def read(line: bytes) -> Any:
    """The value of a line that `encode` has written: of a state, whose bytes the tree's id
    vouches for, or of a file of our own. ValueError if it is none after all.
    """
    return _from_trusted_text(line.decode("ascii"))


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


class _Rules:
    """How the scanner makes values: of a payload strictly, of a line of our own plainly."""

    strict = True
    object_hook = array_hook = None  # the latter since Python 3.15

    def __init__(self, *, strictly: bool) -> None:
        self.object_pairs_hook = _members if strictly else None
        self.parse_int = _integer if strictly else int
        self.parse_float = self.parse_constant = _no_float if strictly else float


def _with_c() -> Codec:
    import _json as c  # noqa: PLC0415

    named: Any = c  # its stubs ask for more than it does
    escape = named.encode_basestring_ascii
    chunks = named.make_encoder(None, None, escape, None, ":", ",", True, False, False)

    def reader(*, strictly: bool) -> FromText:
        scan = named.make_scanner(_Rules(strictly=strictly))

        def from_text(text: str) -> Any:
            bare = text.strip(" \t\n\r")
            try:
                value, end = scan(bare, 0)
            except (StopIteration, SystemError):  # the latter before 3.12, until json is imported
                raise ValueError("no value") from None
            if end != len(bare):
                raise ValueError("more than one value")
            return value

        return from_text

    return lambda value: "".join(chunks(value, 0)), reader(strictly=True), reader(strictly=False)


def _with_package() -> Codec:
    import json  # noqa: PLC0415

    encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
    strict = json.JSONDecoder(
        parse_int=_integer,
        parse_float=_no_float,
        parse_constant=_no_float,
        object_pairs_hook=_members,
    )
    return encoder.encode, strict.decode, json.JSONDecoder().decode


_SAMPLE: Any = {"b": [0, -7, True, False, None, {}], "a": '"\\/\n\x7f\xe9\U0001f600'}
_WRITTEN = r'{"a":"\"\\/\n\u007f\u00e9\ud83d\ude00","b":[0,-7,true,false,null,{}]}'
# Texts that the strict reader itself has to refuse: to write it again and compare may not do.
_REFUSED = ("1.0", "NaN", "9007199254740992", '{"a":1,"a":1}')


def _works(codec: Codec) -> bool:
    """Whether it does, on a sample, what `encode`, `decode` and `read` count on."""
    to_text, from_text, from_trusted_text = codec
    if to_text(_SAMPLE) != _WRITTEN:
        return False
    for reader in (from_text, from_trusted_text):
        value = reader(_WRITTEN)
        if value != _SAMPLE or to_text(value) != _WRITTEN:
            return False
    return all(_refuses(from_text, text) for text in _REFUSED)


def _refuses(from_text: FromText, text: str) -> bool:
    try:
        from_text(text)
    except RuleBroken:
        return True
    return False


def _codec() -> Codec:
    try:
        codec = _with_c()
        if _works(codec):
            return codec
    except Exception:  # noqa: BLE001, S110 - not every Python has them, or has them like this
        pass
    return _with_package()


_to_text, _from_text, _from_trusted_text = _codec()


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
