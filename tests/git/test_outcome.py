"""How a push ended, out of a report. (Out of what git prints: test_parsers.)"""

from __future__ import annotations

import pytest

from coordledger.git.outcome import (
    LOST,
    REFUSED,
    UNKNOWN,
    UNSENT,
    WON,
    from_porcelain,
    from_report,
)
from coordledger.git.process import Ran
from coordledger.git.push_protocol import Report

REF = "refs/coordledger/main"
ONE, TWO = "1" * 40, "2" * 40


def report(reason: str | None, *printed: str) -> Report:
    return Report("ok", {REF: reason}, "".join(f"{line}\n" for line in printed))


def test_a_ref_that_the_report_leaves_out_has_an_unknown_outcome() -> None:
    assert from_report(report(None), "refs/coordledger/other").outcome == UNKNOWN


def test_a_server_that_has_unpacked_nothing_has_moved_no_ref() -> None:
    said = Report("index-pack abnormal exit", {REF: None}, "")
    assert from_report(said, REF).outcome == UNKNOWN
    line = f"*\t{ONE}:{REF}\t[new reference]\n"
    err = "error: remote unpack failed: index-pack abnormal exit\n"
    assert from_porcelain(Ran(1, line, err), REF, ONE, sent=True).outcome == UNKNOWN
    assert from_porcelain(Ran(1, line, f"remote: {err}"), REF, ONE, sent=True).outcome == WON


def test_what_the_hook_says_of_a_push_that_landed_is_read() -> None:
    push = from_report(report(None), REF)
    assert (push.outcome, push.landed, push.sequenced) == (WON, None, False)
    lines = ("motd", f"coordledger: landed {ONE} 7 {TWO}", "coordledger: sequenced")
    push = from_report(report(None, *lines), REF)
    assert (push.outcome, push.landed, push.sequenced) == (WON, {ONE: (7, TWO)}, True)


VOUCH = f"coordledger: vouch {'ef' * 16} 7:{'12' * 32} at 2026-11-29T08:00:00.000Z"


def test_a_vouch_counts_where_the_push_landed_or_was_refused_and_never_where_it_lost() -> None:
    """One that loses was verified on a head that is none any more: its chain never came to be."""
    [said] = from_report(report(None, "motd", VOUCH), REF).vouches or ()
    assert str(said) == VOUCH
    assert from_report(report(None, "motd"), REF).vouches == ()
    refused = f"coordledger: refused {ONE[:12]}: try-ok: a try"
    [said] = from_report(report("pre-receive hook declined", VOUCH, refused), REF).vouches or ()
    assert str(said) == VOUCH
    assert from_report(report("pre-receive hook declined", refused), REF).vouches is None
    assert from_report(report("fetch first", VOUCH), REF).vouches is None
    ran = Ran(128, "", f"remote: {VOUCH}\nfatal: the remote end hung up unexpectedly")
    assert from_porcelain(ran, REF, ONE, sent=True).vouches is None


@pytest.mark.parametrize(
    "reason",
    ["fetch first", "stale info", "failed to update ref", "incorrect old value provided"],
)
def test_a_race_that_git_tells_of_is_lost(reason: str) -> None:
    push = from_report(report(reason), REF)
    assert (push.outcome, push.locked) == (LOST, False)
    held = "error: Unable to create 'x/main.lock': File exists."
    assert from_report(report(reason), REF, held).locked


@pytest.mark.parametrize("code", ["not-fast-forward", "replayed"])
def test_a_refusal_that_means_a_race_is_lost(code: str) -> None:
    line = f"coordledger: refused {ONE[:12]}: {code}: too late"
    push = from_report(report("pre-receive hook declined", line), REF)
    assert (push.outcome, push.code) == (LOST, code)


def test_a_ledger_that_is_busy_is_a_complete_no_for_now() -> None:
    line = "coordledger: refused -: busy: the ledger is busy: no turn within 20 s"
    push = from_report(report("busy", line), REF)
    assert (push.outcome, push.code, push.later) == (REFUSED, "busy", 0)
    other = from_report(report("held", line.replace("busy", "held")), REF)
    assert (other.outcome, other.code, other.later) == (REFUSED, "held", None)


@pytest.mark.parametrize("end", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_an_answer_is_a_whole_line_and_no_part_of_what_another_hook_prints(end: str) -> None:
    """Such a hook may print the names of others' branches, or the subjects of their commits."""
    line = f"newest: fix{end}coordledger: sequenced"
    assert not from_report(report(None, line), REF).sequenced
    err = f"remote: newest: fix{end}remote: coordledger: sequenced\n"
    ran = Ran(0, f"*\t{ONE}:{REF}\t[new reference]\n", err)
    push = from_porcelain(ran, REF, ONE, sent=True)
    assert (push.outcome, push.sequenced) == (WON, False)


def test_a_refusal_has_the_hooks_words_or_the_first_of_the_servers_or_gits() -> None:
    declined = "pre-receive hook declined"
    line = f"coordledger: refused {ONE[:12]}: held: by bob"
    push = from_report(report(declined, "motd", line), REF)
    assert (push.outcome, push.code, push.why) == (REFUSED, "held", "by bob")
    assert push.blamed == ONE[:12]
    push = from_report(report(declined, "coordledger: refused -: no-such-code: why"), REF)
    assert (push.code, push.why) == ("", "no-such-code: why")
    push = from_report(report(declined, "", "the disk is full"), REF)
    assert (push.code, push.why, push.blamed) == ("", "the disk is full", "")
    assert from_report(report(declined), REF).why == declined


@pytest.mark.parametrize(
    ("reason", "kept_out"),
    [
        ("unpacker error", True),
        ("unable to migrate objects to permanent storage", True),
        ("pre-receive hook declined", False),
        ("proc-receive failed to report status", False),
    ],
)
def test_what_git_could_not_store_no_hook_has_landed(reason: str, kept_out: bool) -> None:
    ran = Ran(1, f"!\t{ONE}:{REF}\t[remote rejected] ({reason})\n", "")
    for push in (from_report(report(reason), REF), from_porcelain(ran, REF, ONE, sent=True)):
        assert (push.outcome, push.kept_out) == (REFUSED, kept_out)


def test_a_hook_that_does_not_know_has_refused_nothing() -> None:
    """git says "declined" of whatever a hook ends: the hook's own line counts."""
    push = from_report(report("pre-receive hook declined", "coordledger: unknown -: busy"), REF)
    assert (push.outcome, push.why) == (UNKNOWN, "busy")


GIT_SAYS = "error: RPC failed; HTTP {0} curl 22 The requested URL returned error: {0}\n"
HUNG_UP = "fatal: the remote end hung up unexpectedly\nEverything up-to-date\n"


@pytest.mark.parametrize(
    ("errors", "sent", "outcome", "later"),
    [
        (GIT_SAYS.format(403) + HUNG_UP, True, REFUSED, None),
        (GIT_SAYS.format(413) + HUNG_UP, True, REFUSED, None),
        ("fatal: Authentication failed for 'https://h/p/'\n", True, REFUSED, None),
        ("fatal: could not read Username for 'https://h': No such device\n", True, REFUSED, None),
        (GIT_SAYS.format(503) + HUNG_UP, True, UNKNOWN, 0),
        (GIT_SAYS.format(501) + HUNG_UP, True, UNKNOWN, None),
        ("fatal: unable to access 'h': The requested URL returned error: 429\n", False, UNSENT, 0),
        (f"remote: {GIT_SAYS.format(403)}{HUNG_UP}", True, UNKNOWN, None),  # the server's words
    ],
)
def test_a_status_that_git_tells_of_is_read(
    errors: str, outcome: str, later: int | None, *, sent: bool
) -> None:
    push = from_porcelain(Ran(128, "", errors), REF, ONE, sent=sent)
    assert (push.outcome, push.later) == (outcome, later)
    assert (outcome == UNKNOWN and later is None) or push.why.startswith("HTTP ")
