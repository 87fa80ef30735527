"""What a refused push tells: the server's sentence, and the hint that belongs to it."""

from __future__ import annotations

import pytest

from coordledger import answers
from coordledger.client.publish import push_error
from coordledger.errors import RuleBroken
from coordledger.git.outcome import REFUSED, Push


def hint_of(line: str) -> str:
    """The hint of the error that a refusal becomes."""
    answer = answers.parse(line)
    assert isinstance(answer, answers.Refused)
    push = Push(REFUSED, answer.message, answer.code)
    return push_error(push, "somewhere").hint


@pytest.mark.parametrize(
    ("broken", "end"),
    [
        (
            RuleBroken("gap", gap="62 d", limit="30 d", suggest="63d"),
            "git --git-dir=REPO.git config coordledger.maxGap 63d",
        ),
        (
            RuleBroken(
                "time-backwards", seq=5, agent="a", at="2030-01-01T00:00:00.000Z", behind="2 d"
            ),
            "at the server: coordledger repair REPO.git",
        ),
        (RuleBroken("unknown-key", agent="bob", key=1), "coordledger agent add bob"),
    ],
)
def test_a_refusal_reaches_the_client_with_its_hint_filled_in(broken: RuleBroken, end: str) -> None:
    assert hint_of(str(answers.refused("0" * 40, broken))).endswith(end)


@pytest.mark.parametrize(
    "message",
    [
        "the ledger lists no valid key $(reboot)/1",
        "the ledger lists no valid key a;reboot/1",
        "the ledger lists no valid key --admin/1",
        "the ledger lists no valid key a b/1",
        "another sentence altogether",
        "",
    ],
)
def test_no_servers_word_gets_into_a_hint_but_a_plain_one(message: str) -> None:
    assert hint_of(f"coordledger: refused -: unknown-key: {message}") == ""


def test_a_hint_that_the_sentence_does_not_fill_is_left_out() -> None:
    held = RuleBroken("held", task="t", agent="a", session="s", until="x", claimable_at="y")
    assert hint_of(str(answers.refused("", held))) == ""
