"""A push: what it brings, and how it ended.

Rules: an outcome is never guessed. `LOST` and `REFUSED` only on the remote's (or our own git's)
complete word; `UNSENT` only if it is known that nothing was sent; everything else is `UNKNOWN`.
It reads what git says, in its report or on paper, and what a hook of ours answered; it knows
refs and ids, and nothing of records.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordledger import answers
from coordledger.answers import SEQUENCED, Landed, Refused, Unknown, Vouch
from coordledger.errors import error
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordledger.answers import Answer
    from coordledger.git.process import Ran
    from coordledger.git.push_protocol import Report

WON, LOST, REFUSED, UNSENT, UNKNOWN = "won", "lost", "refused", "unsent", "unknown"

AGAIN = "there was no time for it"  # the reason of a loss to nobody

# How git's versions say that somebody else's push came first.
_RACES = (
    "stale info",
    "fetch first",
    "non-fast-forward",
    "failed to update ref",
    "incorrect old value provided",
    "reference already exists",
    "cannot lock ref",
    "failed to lock",
    "needs force",
)
# HTTP's statuses that refuse a push completely, and those that mean "never", not "later".
REFUSALS = frozenset((401, 403, 404, 413))
TOO_MANY = 429
_FOR_GOOD = frozenset((501, 505))
_STATUS = r"(?:RPC failed; HTTP |returned error: )([0-9]{3})\b"  # as git says it
_NO_LOGIN = (
    "fatal: Authentication failed for ",
    "fatal: could not read Username for ",
    "fatal: could not read Password for ",
)
_COMPLETE = ("[remote rejected]", "[rejected]", "[no match]")
# How git refuses what it finds no room for, before any hook that lands records runs.
_NOT_STORED = ("unpacker error", "unable to migrate objects to permanent storage")
# With it no ref should have moved: a server that says "ok" of one contradicts itself.
_NOT_UNPACKED = "remote unpack failed: "


class Push(Value):
    """How a push ended. `code` is the hook's slug if the hook spoke, `why` for people,
    `blamed` the first digits of the commit that it refused. `landed` tells where commits
    have got to that somebody else put into their places: id as pushed -> seq, id. `later`: the
    server cannot do it now, and is not to be asked for so many seconds (0: it did not say).
    `vouches`: what the server says that it has verified; None where this push's end says nothing of
    that (one that loses may have been vouched for, too: for a chain that never came to be).
    """

    outcome: str
    why: str = ""
    code: str = ""
    locked: bool = False
    blamed: str = ""
    landed: Mapping[str, tuple[int, str]] | None = None
    sequenced: bool = False  # the server says that it sequences
    later: int | None = None
    vouches: tuple[Vouch, ...] | None = None
    # No hook could have landed it: an HTTP status refused it, or git had no room for its objects.
    kept_out: bool = False


class Move(Value):
    """What a push does to one more ref; an id of zeros: there is none."""

    ref: str
    old: str
    new: str


class PushPayload(Value):
    """The objects that a push brings, and what is to be done here on its way.

    `pack()` gives a pack of what is new there. `ready()` is called before anything is sent,
    maybe while the remote's program starts; it may raise OSError or `Integrity`. `store()`
    brings it into this repository, for git's own push, and may raise as well. `meanwhile()` is
    called while the remote is busy, and raises nothing.
    """

    pack: Callable[[], bytes]
    ready: Callable[[], None]
    store: Callable[[], None]
    meanwhile: Callable[[], None]


def is_later(status: int) -> bool:
    """Whether a status of HTTP's says that the server cannot do it now."""
    return status == TOO_MANY or (500 <= status <= 599 and status not in _FOR_GOOD)


def from_report(report: Report, ref: str, errors: str = "") -> Push:
    """How the push of `ref` ended, of which receive-pack made a report; `errors` it printed."""
    if ref not in report.refs:
        return Push(UNKNOWN, "the report says nothing of the ref")
    reason, printed = report.refs[ref], report.printed.split("\n")
    if reason is not None:
        return _refusal(reason, printed, errors + report.printed)
    if report.unpacked != "ok":
        return Push(UNKNOWN, f"{_NOT_UNPACKED}{report.unpacked}")
    return _won(printed)


def from_answers(given: list[Answer]) -> Push:
    """How a push would have ended that a server of ours answers so, without git around it. Where it
    says nothing, it is to be sent again.
    """
    unsure = next((one for one in given if isinstance(one, Unknown)), None)
    if unsure:
        return Push(UNKNOWN, unsure.why)
    refused = next((one for one in given if isinstance(one, Refused)), None)
    if refused:
        return _refusal(refused.code, list(map(str, given)), "")
    if not given:
        return Push(LOST, AGAIN)
    return Push(WON, landed=_places(given), vouches=answers.vouches(given))


def from_porcelain(
    ran: Ran, ref: str, new: str | None, moves: Sequence[Move] = (), *, sent: bool
) -> Push:
    """How the push of `new` to `ref` ended that `git push --porcelain` made.

    `sent`: git may have begun to send it; `moves` went with it, all or nothing.
    """
    errors = [line.strip() for line in ran.err.split("\n")]
    printed = [line.removeprefix("remote:").strip() for line in errors if line[:7] == "remote:"]
    for line in ran.out.splitlines():
        flag, _, rest = line.partition("\t")
        names, _, summary = rest.partition("\t")
        # One refspec was pushed; where it is sequenced, git prints the name that it got.
        if not (names.endswith(f":{ref}") or (new and names.startswith(f"{new}:"))):
            continue
        if flag in (" ", "*", "+", "-", "="):
            if any(line.startswith(f"error: {_NOT_UNPACKED}") for line in errors):
                return Push(UNKNOWN, ran.why())
            # The remote has it; whatever went wrong afterwards cannot undo that.
            return _won(printed)
        reason = summary.partition("(")[2].rpartition(")")[0] or summary
        push = _refusal(reason, printed, ran.err)
        push = _for_the_others(push, ran, moves) if "atomic" in reason else push
        if push.outcome == LOST or summary.startswith(_COMPLETE):
            return push
    return _without_report(ran, sent=sent)


def planned(ran: Ran) -> dict[str, tuple[str, str | None]]:
    """What `git push --dry-run --porcelain` would move: ref -> what it would get, "" for nothing;
    and what git has seen there, the beginning of an id, "" for nothing; None: it does not say.

    Raises `Failed`: code-moved, code-refused.
    """
    wanted: dict[str, tuple[str, str | None]] = {}
    for line in ran.out.splitlines():
        flag, tab, rest = line.partition("\t")
        names, _, summary = rest.partition("\t")
        source, _, ref = names.rpartition(":")
        if flag == "!":
            reason = summary.partition("(")[2].rpartition(")")[0] or summary
            code = "code-moved" if any(text in reason for text in _RACES) else "code-refused"
            raise error(code, why=f"{ref}: {reason}")
        if tab and flag != "=":
            seen = summary.partition(" ")[0].partition("..")[0]
            wanted[ref] = source, {"*": "", "-": None}.get(flag, seen)
    if ran.code:
        raise error("code-refused", why=ran.why())
    return wanted


def _for_the_others(push: Push, ran: Ran, moves: Sequence[Move]) -> Push:
    """A push that git refused as a whole: for which of the other refs, if it says so. Else
    somebody was faster, with one of them.
    """
    for line in ran.out.splitlines():
        flag, _, rest = line.partition("\t")
        names, _, summary = rest.partition("\t")
        ref = names.rpartition(":")[2]
        if flag != "!" or "atomic" in summary or ref not in {move.ref for move in moves}:
            continue
        reason = summary.partition("(")[2].rpartition(")")[0] or summary
        code = "code-moved" if any(text in reason for text in _RACES) else "code-refused"
        return push._replace(outcome=REFUSED, code=code, why=f"{ref}: {reason}")
    return push if push.code else push._replace(outcome=LOST)


def _without_report(ran: Ran, *, sent: bool) -> Push:
    """What git says that got no report. Over HTTP its words have the status that it got."""
    own = [line for line in ran.err.splitlines() if not line.startswith("remote:")]
    found = (re.search(_STATUS, line) for line in own if line.startswith(("error: ", "fatal: ")))
    status = next((int(match[1]) for match in found if match), 0)
    if not status and any(line.startswith(_NO_LOGIN) for line in own):
        status = 401
    why = f"HTTP {status}: {ran.why()}" if status else ran.why()
    if sent and status in REFUSALS:
        return Push(REFUSED, why, kept_out=True)
    later = 0 if is_later(status) else None
    return Push(UNKNOWN if sent else UNSENT, why, later=later)


def _won(printed: list[str]) -> Push:
    given = answers.read(printed)
    return Push(
        WON,
        landed=_places(given),
        sequenced=SEQUENCED in given,
        vouches=answers.vouches(given),
    )


def _places(given: list[Answer]) -> dict[str, tuple[int, str]] | None:
    """Where the commits of a push have got to, if the server says that of any."""
    return {one.pushed: (one.seq, one.oid) for one in given if isinstance(one, Landed)} or None


def _refusal(reason: str, printed: list[str], errors: str) -> Push:
    """A complete "no": `reason` is git's, `printed` the lines of the remote's hooks."""
    given = answers.read(printed)
    landed = _places(given)  # of what was pushed before: only a sequencer says that
    unsure = next((one for one in given if isinstance(one, Unknown)), None)
    if unsure:
        return Push(UNKNOWN, unsure.why)
    refused = next((one for one in given if isinstance(one, Refused)), None)
    code, commit = (refused.code, refused.commit) if refused else ("", "")
    sequenced = SEQUENCED in given
    # A record that is there already has landed by another way: as after a lost race, look for it.
    if code in ("not-fast-forward", "replayed") or any(text in reason for text in _RACES):
        locked = ".lock': File exists" in errors
        return Push(LOST, reason, code, locked=locked, sequenced=sequenced)
    why = refused.message if refused else ""
    why = why or next((line for line in printed if line), "") or reason
    later = 0 if code == "busy" else None
    # A try is always refused, and may be vouched for; what is refused otherwise is not.
    vouches = answers.vouches(given) or None
    push = Push(REFUSED, why, code, False, commit, landed, sequenced, later, vouches)
    return push._replace(kept_out=reason in _NOT_STORED)
