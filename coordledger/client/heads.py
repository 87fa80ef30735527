"""Lines that people carry from one copy to another: `LEDGER SEQ:DIGEST`, as `head` prints it.

Rules of this file: a pin is for a first contact, a comparison for a copy that exists; either
says that a history is the same only where this copy has verified the record itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import error
from coordledger.hashes import is_hex

if TYPE_CHECKING:
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica

LEAST_DIGITS = 16  # of a digest


def parse_head_line(text: str, what: str) -> tuple[str | None, int | None, str]:
    """Ledger id, seq and digest, or what is there of a line that has only one half.

    `what` names the option for people. Raises `Failed`: bad-value.
    """
    words = text.split()
    ledger = words.pop(0) if words and ":" not in words[0] else None
    seq, _, digest = (words.pop(0) if words else "").partition(":")
    good = ledger is None or is_hex(ledger, 32)
    if ledger is None or seq or digest:
        good = good and seq.isdecimal() and len(seq) <= 16
        good = good and LEAST_DIGITS <= len(digest) <= 64 and is_hex(digest)
    if words or not good:
        raise error(
            "bad-value", what=what, why="LEDGER-ID, SEQ:DIGEST, or both as head prints them"
        )
    return ledger, int(seq) if seq else None, digest


def check_pin(replica: Replica, pin: str) -> None:
    """Raises `Integrity`: pin-mismatch, `Failed`: bad-value."""
    ledger, seq, digest = parse_head_line(pin, "--pin")
    trusted = replica.trusted
    if trusted.first:  # its oldest record says of itself what its digest is
        why = "a shallow copy cannot check it: join without --depth"
        raise error("bad-value", what="--pin", why=why)
    if ledger not in (None, trusted.ledger):
        raise error("pin-mismatch", why=f"it is {trusted.ledger}")
    if seq is None:
        return
    commit = replica.commit_at(seq)
    if commit is None:
        raise error("pin-mismatch", why=f"this copy has no record {seq}")
    if not commit.digest.startswith(digest):
        raise error("pin-mismatch", why=f"record {seq} has the digest {commit.digest}")


def compare(connection: Connection, line: str) -> None:
    """Whether another copy's line belongs to this history, which is brought up to date.

    Raises `Integrity`: head-differs; `Failed`: bad-value, gone.
    """
    ledger, seq, digest = parse_head_line(line, "--compare")
    connection.read()
    replica, trusted = connection.replica, connection.replica.trusted
    if ledger not in (None, trusted.ledger):
        raise error("head-differs", why=f"it is ledger {ledger}, this is {trusted.ledger}")
    if seq is None:
        return
    if seq > trusted.seq:
        replica.need_valid_remote()
        raise error("head-differs", why=f"record {seq} is not in the remote's history")
    commit = replica.commit_at(seq)
    if commit is None or 0 < seq <= trusted.first:
        raise error("gone", seq=seq)
    if not commit.digest.startswith(digest):
        raise error("head-differs", why=f"at record {seq} it has another digest")
