"""What people know of a ledger from elsewhere: a line `LEDGER SEQ:DIGEST`, as `head` prints it, or
its owner's public key.

Rules of this file: a pin is for a first contact, a comparison for a copy that exists; what is
trusted is compared with a proof, and by an audit. Each says that a history is the same only where
the record itself was verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.ssh_keys import given_public
from coordledger.errors import Failed, error
from coordledger.format.signing import SSH
from coordledger.hashes import is_hex
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica
    from coordledger.format.commit import Commit

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


# -- what a reader trusts


class Trusted(Value):
    """What a reader knows from elsewhere: `what` it is (owner, ledger or head), the `seq` of the
    record that shows it, and whether it is so, or why not.
    """

    what: str
    seq: int
    differs: Callable[[Commit], str]


def trusted(word: str, folder: Path) -> list[Trusted]:
    """What somebody typed: the line of the owner's public key, a file with it, or a line of
    `head`. Raises `Failed`: bad-ssh-key, bad-value.
    """
    if word.startswith(f"{SSH} ") or (word and (folder / word).is_file()):
        return [_owner(given_public(word, folder))]
    return list(_heads(word))


def _owner(public: str) -> Trusted:

    def differs(first: Commit) -> str:
        record = first.record
        if record["verifier"] == public:
            return ""
        return f"the ledger was founded with {record['alg']} {record['verifier']}"

    return Trusted("owner", 0, differs)


def _heads(line: str) -> Iterator[Trusted]:
    """A ledger's id, `SEQ:DIGEST`, or both. Raises `Failed`: bad-value."""
    try:
        ledger, seq, digest = parse_head_line(line, "--trust")
    except Failed:
        why = (
            "a public SSH key, a file with one, LEDGER-ID, SEQ:DIGEST, or both as head prints them"
        )
        raise error("bad-value", what="--trust", why=why) from None

    def other_ledger(first: Commit) -> str:
        theirs = first.record["ledger"]
        return "" if theirs == ledger else f"its ledger is {theirs}"

    def other_head(commit: Commit) -> str:
        return "" if commit.digest.startswith(digest) else f"record {seq} has another digest"

    if ledger is not None:
        yield Trusted("ledger", 0, other_ledger)
    if seq is not None:
        yield Trusted("head", seq, other_head)


def need_trusted(replica: Replica, known: Iterable[Trusted]) -> None:
    """Raises `Integrity`: pin-mismatch, where the copy is not of what is trusted; `Failed`:
    bad-value, where it cannot be told.
    """
    for one in known:
        commit = replica.commit_at(one.seq)
        if replica.trusted.first:  # as with a pin
            raise error("bad-value", what="--trust", why="a shallow copy cannot check it")
        if commit is None:
            replica.need_valid_remote()
            raise error("pin-mismatch", why=f"it has no record {one.seq}")
        if why := one.differs(commit):
            raise error("pin-mismatch", why=why)
