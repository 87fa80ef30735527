"""How a push ended, out of receive-pack's report. (`git push` on paper: attacks/test_parsers.)"""

from __future__ import annotations

import pytest

from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, WON, from_report
from coordledger.git.push_protocol import Report

REF = "refs/coordledger/main"
HOOK = "coordledger: refused 0123456789ab: held: alice has it\n"


@pytest.mark.parametrize(
    ("refs", "printed", "outcome", "code"),
    [
        ({REF: None}, "", WON, ""),
        ({REF: None}, HOOK, WON, ""),  # what it says in the end counts
        ({}, "", UNKNOWN, ""),
        ({}, HOOK, UNKNOWN, ""),
        ({"refs/coordledger/other": None, REF + "2": None}, "", UNKNOWN, ""),
        ({REF: "failed to update ref"}, "", LOST, ""),
        ({REF: "incorrect old value provided"}, "", LOST, ""),
        ({REF: "pre-receive hook declined"}, HOOK, REFUSED, "held"),
        ({REF: "pre-receive hook declined"}, "no\n", REFUSED, ""),
        ({REF: "pre-receive hook declined"}, HOOK.replace("held", "unheard"), REFUSED, ""),
        ({REF: "pre-receive hook declined"}, "x" + HOOK, REFUSED, ""),
        ({REF: "pre-receive hook declined"}, HOOK.replace("held", "replayed"), LOST, ""),
    ],
)
def test_a_report_tells_the_outcome_or_none_is_told(
    refs: dict[str, str | None], printed: str, outcome: str, code: str
) -> None:
    push = from_report(Report("ok", refs, printed), REF)
    assert (push.outcome, push.code) == (outcome, code)


def test_a_refusal_names_the_hooks_commit_and_words() -> None:
    push = from_report(Report("ok", {REF: "pre-receive hook declined"}, HOOK), REF)
    assert (push.blamed, push.why) == ("0123456789ab", "alice has it")


def test_where_the_records_have_got_to_is_told() -> None:
    pushed, placed = "a" * 40, "b" * 40
    printed = f"coordledger: sequenced\ncoordledger: landed {pushed} 7 {placed}\n"
    push = from_report(Report("ok", {REF: None}, printed), REF)
    assert push.landed == {pushed: (7, placed)}
    assert push.sequenced
