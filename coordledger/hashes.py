"""SHA-1, SHA-256, SHA-512 and HMAC-SHA256 over whole byte strings, for all of coordledger.

hashlib loads OpenSSL, which takes longer than all that a push of one record needs. So the
first bytes of a process are hashed by the interpreter's own functions; a process that hashes more
gets hashlib, which is several times as fast. Both give the same digests.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Made = dict[str, Callable[[bytes], Any]]

LENGTHS = {"sha1": 40, "sha256": 64}  # of their digests, in hexadecimal digits
_ALGORITHMS = {length: name for name, length in LENGTHS.items()}
_HEX = frozenset("0123456789abcdef")
_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def _with_hashlib() -> Made:
    import hashlib  # noqa: PLC0415 - see above

    return {"sha1": hashlib.sha1, "sha256": hashlib.sha256}


def _built_in() -> tuple[Made, int]:
    """The functions to begin with, and for how many bytes."""
    try:
        from _sha1 import sha1  # type: ignore[import-not-found] # noqa: PLC0415

        if sys.version_info >= (3, 12):  # to look for one that is not there takes its time, too
            from _sha2 import sha256  # type: ignore[import-not-found] # noqa: PLC0415
        else:
            from _sha256 import sha256  # type: ignore[import-not-found] # noqa: PLC0415
    except ImportError:  # not every Python has them
        return _with_hashlib(), 0
    return {"sha1": sha1, "sha256": sha256}, 262_144


_made, _left = _built_in()


def digest(algo: str, data: bytes) -> bytes:
    """The digest of `data`; `algo` is sha1 or sha256."""
    global _made, _left  # noqa: PLW0603 - which of two equal functions is used
    if _left > 0:
        _left -= len(data) + _BLOCK
        if _left <= 0:
            _made = _with_hashlib()
    found: bytes = _made[algo](data).digest()
    return found


def sha512(data: bytes) -> bytes:
    """The digest of `data`, in a process that has a use for it."""
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha512 as made  # noqa: PLC0415 - as above
        else:
            from _sha512 import sha512 as made  # type: ignore[import-not-found] # noqa: PLC0415
    except ImportError:
        from hashlib import sha512 as made  # noqa: PLC0415
    found: bytes = made(data).digest()
    return found


def is_hex(text: str, *lengths: int) -> bool:
    """Whether `text` is nothing but small hexadecimal digits, and as long as one of `lengths`."""
    return _HEX.issuperset(text) and (not lengths or len(text) in lengths)


def is_digest(text: str) -> bool:
    """Whether `text` is as long as a digest in hexadecimal digits, and made of them."""
    return len(text) in _ALGORITHMS and _HEX.issuperset(text)


def algorithm(digits: str) -> str:
    """The algorithm that a digest of so many digits is of. KeyError if there is none."""
    return _ALGORITHMS[len(digits)]


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """The MAC of RFC 2104."""
    if len(key) > _BLOCK:
        key = digest("sha256", key)
    key = key.ljust(_BLOCK, b"\0")
    return digest("sha256", key.translate(_OUTER) + digest("sha256", key.translate(_INNER) + data))
