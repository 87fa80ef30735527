"""The lines with which a server's hooks answer a push: rendered and parsed here, nowhere else.

    coordledger: refused COMMIT: CODE: MESSAGE
    coordledger: landed PUSHED SEQ OID
    coordledger: sequenced
    coordledger: unknown COMMIT: WHY
    coordledger: vouch LEDGER-ID SEQ:DIGEST at TIME

Rules of this file:
- A line is one line of printable ASCII, whatever its values were made of. COMMIT is up to twelve
  hex digits, or `-` where the answer speaks of no single commit (then "" is given for it).
- `parse` never raises, whatever a server prints: a line is one of these answers or None. A code
  that this version does not know is no code; its word stays in the message.
- `parse` undoes `str`: what a hook of this version says is what a client reads.

It decides nothing: which answers a push got, and what follows from them, is its readers' affair.
The hooks import it, so it imports `errors` and `hashes` alone; `git/` and all above may read it.
"""

from __future__ import annotations

from coordledger.errors import ERRORS, CoordledgerError, RuleBroken, printable
from coordledger.hashes import is_digest, is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_REFUSED, _LANDED = "coordledger: refused ", "coordledger: landed "
_SEQUENCED, _UNKNOWN = "coordledger: sequenced", "coordledger: unknown "
_VOUCH = "coordledger: vouch "
_DIGITS = frozenset("0123456789")
_SHORT = 12  # digits of a commit that an answer shows
_ID_DIGITS, _CHAIN_DIGITS = 32, 64
_TIME = "0000-00-00T00:00:00.000Z"
_SEQ_DIGITS = 15


class Answer:
    """One line. Two answers are equal if their lines are."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"<{self}>"


class Refused(Answer):
    """Nothing landed of what the push brought to this ref. `code` is a slug of `errors`, or ""
    where a newer server names one that this version does not know.
    """

    __slots__ = ("code", "commit", "message")

    def __init__(self, commit: str, code: str, message: str) -> None:
        self.commit, self.code, self.message = _short(commit), code, printable(message)

    def __str__(self) -> str:
        code = f"{self.code}: " if self.code else ""
        return f"{_REFUSED}{self.commit}: {code}{self.message}"


class Landed(Answer):
    """The record of the commit `pushed` is the ledger's record `seq`, in the commit `oid`."""

    __slots__ = ("oid", "pushed", "seq")

    def __init__(self, pushed: str, seq: int, oid: str) -> None:
        self.pushed, self.seq, self.oid = pushed, seq, oid

    def __str__(self) -> str:
        return f"{_LANDED}{self.pushed} {self.seq} {self.oid}"


class Unknown(Answer):
    """The push may or may not have landed."""

    __slots__ = ("commit", "why")

    def __init__(self, commit: str, why: str) -> None:
        self.commit, self.why = _short(commit), printable(why)

    def __str__(self) -> str:
        return f"{_UNKNOWN}{self.commit}: {self.why}"


class Vouch(Answer):
    """The hook has verified every record of the ledger up to `seq`, with the secrets; `digest` is
    the chain's there. It does not say that what the push brings has landed.

    `at` is the server's clock, in the one form of a time; whether the calendar has such a day is
    its reader's affair.
    """

    __slots__ = ("at", "digest", "ledger", "seq")

    def __init__(self, ledger: str, seq: int, digest: str, at: str) -> None:
        self.ledger, self.seq, self.digest, self.at = ledger, seq, digest, at

    def __str__(self) -> str:
        return f"{_VOUCH}{self.ledger} {self.seq}:{self.digest} at {self.at}"


class Sequenced(Answer):
    """The server takes records at refs/for/coordledger/*, too."""

    __slots__ = ()

    def __str__(self) -> str:
        return _SEQUENCED


SEQUENCED = Sequenced()


def _short(commit: str) -> str:
    is_commit = commit.strip("0") and is_hex(commit)  # zeros are git's word for none
    return commit[:_SHORT] if is_commit else "-"


def parse(line: str) -> Answer | None:
    """The answer that a printed line is, or None if it is something else."""
    if line == _SEQUENCED:
        return SEQUENCED
    if line.startswith(_REFUSED):
        commit, _, rest = line.removeprefix(_REFUSED).partition(": ")
        code, _, message = rest.partition(": ")
        return Refused(commit, code, message) if code in ERRORS else Refused(commit, "", rest)
    if line.startswith(_UNKNOWN):
        commit, _, why = line.removeprefix(_UNKNOWN).partition(": ")
        return Unknown(commit, why)
    if line.startswith(_LANDED):
        return _landed(line.removeprefix(_LANDED).split(" "))
    if line.startswith(_VOUCH):
        return _vouch(line.removeprefix(_VOUCH).split(" "))
    return None


def _landed(words: list[str]) -> Landed | None:
    if len(words) != 3 or not (is_digest(words[0]) and is_digest(words[2])):
        return None
    return Landed(words[0], int(words[1]), words[2]) if _is_seq(words[1]) else None


def _vouch(words: list[str]) -> Vouch | None:
    if len(words) != 4 or words[2] != "at" or not is_hex(words[0], _ID_DIGITS):
        return None
    seq, _, digest = words[1].partition(":")
    digits_as_0 = "".join("0" if letter in _DIGITS else letter for letter in words[3])
    if not (_is_seq(seq) and is_hex(digest, _CHAIN_DIGITS) and digits_as_0 == _TIME):
        return None
    return Vouch(words[0], int(seq), digest, words[3])


def _is_seq(word: str) -> bool:
    return 0 < len(word) <= _SEQ_DIGITS and _DIGITS.issuperset(word) and str(int(word)) == word


def read(lines: Iterable[str]) -> list[Answer]:
    """The answers among printed lines, in their order."""
    return [answer for answer in map(parse, lines) if answer is not None]


def vouches(given: Iterable[Answer]) -> tuple[Vouch, ...]:
    """The vouches among answers."""
    return tuple(answer for answer in given if isinstance(answer, Vouch))


def refused(commit: str, fault: Exception) -> Refused:
    """How a fault is said: a broken rule by its own code, anything else as `hook-broken`. A rule
    may know better which `commit` is to blame, or that none is.
    """
    if isinstance(fault, RuleBroken):
        return Refused(fault.data.get("commit", commit), fault.code, str(fault))
    return Refused(commit, "hook-broken", reason(fault))


def reason(fault: Exception) -> str:
    """The sentence of a fault, one line."""
    ours = isinstance(fault, (RuleBroken, CoordledgerError))
    return printable(fault if ours else f"{type(fault).__name__}: {fault}")
