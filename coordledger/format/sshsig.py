"""SSH keys that verify records (docs/format.md, section 5, ssh-ed25519).

Rules: the keys and signatures that are refused are refused here, by arithmetic, whatever the
library below would say; the library multiplies points. It is loaded when the first signature is
checked: a process that meets none never waits for it. Private keys are not known here, nor is
OpenSSH's armor: a record carries the raw signature.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from coordledger.hashes import sha512

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TYPE = "ssh-ed25519"
NAMESPACE = "coordledger.record.v1"
HASH = "sha512"

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = 0x52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3  # -121665/121666
_ORDER_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER = {0, 1, P - 1, _ORDER_8, P - _ORDER_8}


def string(data: bytes) -> bytes:
    """A string of SSH (RFC 4251, section 5)."""
    return len(data).to_bytes(4, "big") + data


_HEAD = string(TYPE.encode("ascii")) + (32).to_bytes(4, "big")


def _y_of(point: bytes) -> int:
    return int.from_bytes(point, "little") % 2**255


def encode_key(raw: bytes) -> str:
    """The public key of these 32 bytes as records have it: OpenSSH's wire form in base64."""
    return b2a_base64(_HEAD + raw, newline=False).decode("ascii")


def decode_key(text: str) -> bytes:
    """The 32 bytes of a public key. ValueError says why it is none that may sign."""
    wire = a2b_base64(text.encode("ascii"), strict_mode=True)  # both raise a ValueError
    raw = wire.removeprefix(_HEAD)
    if len(raw) != 32 or encode_key(raw) != text:
        raise ValueError("not an ssh-ed25519 key")
    y = _y_of(raw)
    if y >= P:
        raise ValueError("a key whose encoding is not canonical")
    if y in _SMALL_ORDER:
        raise ValueError("a key of small order")
    if pow((y * y - 1) * (D * y * y + 1), (P - 1) // 2, P) != 1:  # a/b is a square if a*b is one
        raise ValueError("a key that is no point of the curve")
    return raw


def message(payload: bytes) -> bytes:
    """What is signed for a record's payload (PROTOCOL.sshsig: the signed data)."""
    parts = (NAMESPACE.encode("ascii"), b"", HASH.encode("ascii"), sha512(payload))
    return b"SSHSIG" + b"".join(map(string, parts))


class PublicKey:
    """The verifying half of an agent's key."""

    __slots__ = ("_check", "_text")

    def __init__(self, text: str) -> None:
        """`text` is a public key that stands in a valid record."""
        self._text = text
        self._check: Callable[[bytes, bytes], object] | None = None

    def verifies(self, payload: bytes, tag: bytes) -> bool:
        """Whether `tag` (64 bytes) is a signature of `payload` by this key. ValueError if it is
        no key.
        """
        if int.from_bytes(tag[32:], "little") >= L or _y_of(tag[:32]) in _SMALL_ORDER:
            return False
        if self._check is None:
            self._check = _load()(decode_key(self._text)).verify
        try:
            self._check(tag, message(payload))
        except Exception as fault:
            from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - a forgery's

            if isinstance(fault, InvalidSignature):
                return False
            raise
        return True


def _load() -> Callable[[bytes], Any]:
    """Cryptography's constructor of public keys.

    Its public module loads what concerns private keys, typing and abc too, and takes a hook 12 ms;
    the class itself is in the binding, 4 ms. Where the binding has another form the public
    module does the same. ImportError: it is missing, or broken in whatever way.
    """
    try:
        from cryptography.hazmat.bindings._rust import openssl  # noqa: PLC0415 - see PublicKey

        make: Callable[[bytes], Any] = openssl.ed25519.from_public_bytes
    except Exception:  # noqa: BLE001 - the next import says which
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
                Ed25519PublicKey,
            )
        except Exception as fault:  # noqa: BLE001
            raise ImportError(f"cryptography cannot be loaded: {fault}") from None
        make = Ed25519PublicKey.from_public_bytes
    return make


def load() -> None:
    """Load what checks signatures, for a process that may outlive the files of its code."""
    _load()
