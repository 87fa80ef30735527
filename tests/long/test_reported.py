"""What has landed and was told to nobody: the same command again gives the answer.

Rules: real processes. Their output goes to a full disk, or to a reader that has gone: as after a
kill between the push and the answer, the journal alone knows what has landed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no full disk to be had")


@pytest.fixture
def two(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet()
    fleet.enroll("bob")
    return fleet


def unheard(fleet: Fleet, *argv: str, out: int | None = None, stdin: str = "") -> str:
    """Run bob's command, of which nobody hears; its errors. It must end as `output-lost`."""
    with FULL.open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "coordledger", *argv],
            cwd=fleet.clone("bob"),
            env=fleet.env,
            input=stdin,
            stdout=full if out is None else out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 5, ran.stderr
    assert "could not be printed" in ran.stderr
    return ran.stderr


def heard(fleet: Fleet, *argv: str, code: int = 0, stdin: str = "") -> Any:
    return json.loads(fleet.run(*argv, "--json", agent="bob", check=code, stdin=stdin).stdout)


def test_the_same_claim_again_gives_the_first_answer_once(two: Fleet) -> None:
    unheard(two, "claim", "t")
    again = heard(two, "claim", "t")
    assert (again["outcome"], again["resumed"], again["epoch"]) == ("won", True, 1)
    assert heard(two, "claim", "t", code=3)["code"] == "already-yours"  # it has been told
    assert len(two.ledger("bob").history("t")) == 1


def test_next_again_gives_the_task_that_it_had_got(two: Fleet) -> None:
    for task in ("first", "second"):
        two.ledger("alice").submit(task)
    unheard(two, "claim", "--next", "--json")
    again = heard(two, "claim", "--next")
    assert (again["task"], again["resumed"]) == ("first", True)
    following = heard(two, "claim", "--next")
    assert (following["task"], following["resumed"]) == ("second", False)


def test_an_answer_that_does_not_stand_any_more_is_not_given(two: Fleet) -> None:
    unheard(two, "claim", "t")
    alice = two.ledger("alice")
    alice.release("t", force=True)
    assert alice.claim("t").won
    assert heard(two, "claim", "t", code=3)["code"] == "held"


def test_another_session_does_not_get_the_answer(two: Fleet) -> None:
    unheard(two, "claim", "t")
    assert heard(two, "claim", "t", "--session", "other", code=3)["code"] == "held"


def test_a_message_is_not_sent_twice_unless_it_is_meant_twice(two: Fleet) -> None:
    unheard(two, "send", "--to", "alice", "hello")
    heard(two, "send", "--to", "alice", "hello")
    assert [one.body for one in two.ledger("alice").inbox()] == ["hello"]
    heard(two, "send", "--to", "alice", "hello")
    heard(two, "send", "--to", "alice", "another")
    assert len(two.ledger("alice").inbox()) == 3


def test_a_fact_that_was_not_heard_of_is_set_once(two: Fleet) -> None:
    unheard(two, "fact", "set", "k", "v")
    again = heard(two, "fact", "set", "k", "v")
    assert two.ledger("alice").head().seq == again["rev"]
    assert heard(two, "fact", "set", "k", "v")["rev"] == again["rev"] + 1  # it has been told
    unheard(two, "fact", "set", "k", "v", "--if", str(again["rev"] + 1))
    assert heard(two, "fact", "set", "k", "v", "--if", str(again["rev"] + 1))["value"] == "v"
    unheard(two, "fact", "set", "k", "w")
    two.ledger("alice").facts.set("k", "x")
    assert heard(two, "fact", "set", "k", "w")["rev"] == again["rev"] + 5  # w does not stand
    unheard(two, "fact", "rm", "k")
    heard(two, "fact", "rm", "k")
    assert heard(two, "fact", "rm", "k", code=1)["error"]["code"] == "unknown-fact"


def test_a_release_that_was_not_heard_of_is_no_failure(two: Fleet) -> None:
    heard(two, "claim", "t")
    unheard(two, "release", "t", "--reason", "no GPU")
    assert heard(two, "release", "t", "--reason", "no GPU")["status"] == "open"
    heard(two, "claim", "t")
    assert heard(two, "release", "t")["epoch"] == 2


@pytest.mark.parametrize("was_claimed", [False, True])
def test_a_withdrawal_that_was_not_heard_of_is_no_failure(two: Fleet, was_claimed: bool) -> None:
    heard(two, "submit", "t", "--title", "T")
    if was_claimed:
        heard(two, "claim", "t")
        heard(two, "release", "t")
    unheard(two, "withdraw", "t", "--reason", "not needed")
    again = heard(two, "withdraw", "t", "--reason", "not needed")
    assert (again["status"], again["title"]) == ("withdrawn", None)
    assert two.ledger("alice").status().seq == again["seq"]
    code = "withdrawn" if was_claimed else "unknown-task"
    told = heard(two, "withdraw", "t", code=3 if was_claimed else 1)
    assert (told.get("code") or told["error"]["code"]) == code  # it has been told


@pytest.mark.parametrize("everything", [False, True])
def test_an_acknowledgement_that_was_not_heard_of_is_no_failure(
    two: Fleet, everything: bool
) -> None:
    alice = two.ledger("alice")
    first, second = (alice.send(body, to="bob").seq for body in ("one", "two"))
    argv = ["ack", *(["--all"] if everything else [str(first), str(second)])]
    unheard(two, *argv)
    third = alice.send("three", to="bob").seq
    again = heard(two, *argv)["acked"]
    assert again == ([third] if everything else [first, second])
    assert [one.seq for one in two.ledger("bob").inbox()] == ([] if everything else [third])
    if not everything:
        assert heard(two, *argv, code=1)["error"]["code"] == "not-in-inbox"


def test_a_handoff_and_an_edit_again_change_nothing_more(two: Fleet) -> None:
    heard(two, "claim", "t")
    unheard(two, "edit", "t", "--title", "T")
    assert heard(two, "edit", "t", "--title", "T")["title"] == "T"
    unheard(two, "handoff", "t", "--to", "alice")
    assert heard(two, "handoff", "t", "--to", "alice")["offered_to"] == "alice"
    alice = two.ledger("alice")
    assert [one.task for one in alice.inbox()] == ["t"]
    assert alice.claim("t").won


def test_a_key_is_not_made_twice(two: Fleet) -> None:
    two.enroll("bob", admin=True)
    two.enroll("carol")
    before = {agent.agent: len(agent.keys) for agent in two.ledger("alice").agents()}
    unheard(two, "agent", "rotate", "carol")
    heard(two, "agent", "rotate", "carol")
    after = {agent.agent: len(agent.keys) for agent in two.ledger("alice").agents()}
    assert after == before | {"carol": 2}


def test_what_is_done_to_agents_and_channels_is_not_done_twice(two: Fleet) -> None:
    two.enroll("bob", admin=True)
    two.ledger("alice").send("x", channel="c")

    def twice(*argv: str) -> Any:
        unheard(two, *argv)
        return heard(two, *argv)

    assert twice("agent", "delegate", "x")["agent"] == "bob.x"
    made = twice("agent", "delegate")
    assert two.ledger(made["agent"], session="s1").claim("t").won
    assert twice("agent", "add", "dan")["secret"].endswith("dan.secret")
    assert twice("agent", "revoke", "bob.x") == {"agent": "bob.x", "revoked": [1], "ended": []}
    assert twice("agent", "revoke", "dan", "--key", "1")["revoked"] == [1]
    assert twice("channel", "drop", "c") == {"dropped": "c"}
    names = {one.agent for one in two.ledger("alice").agents()}
    assert names == {"alice", "bob", made["agent"], "dan"}
    for argv, code in {
        ("agent", "delegate", made["agent"]): "agent-exists",
        ("agent", "revoke", "bob.x"): "unknown-agent",
        ("agent", "revoke", "dan", "--key", "1"): "bad-key",
        ("channel", "drop", "c"): "unknown-channel",
    }.items():
        assert heard(two, *argv, code=1)["error"]["code"] == code  # it has been told


def test_a_batch_again_gives_what_has_landed(two: Fleet) -> None:
    lines = '{"do": "claim", "task": "t"}\n{"do": "send", "to": "alice", "body": "x"}\n'
    unheard(two, "batch", stdin=lines)
    outcomes = heard(two, "batch", stdin=lines)
    assert [one["outcome"] for one in outcomes] == ["landed", "landed"]
    assert len(two.ledger("alice").inbox()) == 1


def test_resolve_names_task_and_epoch_until_that_was_heard(two: Fleet) -> None:
    unheard(two, "claim", "a", "b")
    unheard(two, "resolve")
    told = heard(two, "resolve")
    assert [(one["task"], one["epoch"], one["outcome"]) for one in told] == [
        ("a", 1, "landed"),
        ("b", 1, "landed"),
    ]
    assert heard(two, "resolve") == []


def test_a_reader_that_has_gone_has_not_heard(two: Fleet) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        unheard(two, "claim", "t", out=writes)
    finally:
        os.close(writes)
    assert heard(two, "claim", "t")["resumed"] is True


def test_nothing_has_landed_where_only_reading_could_not_be_printed(two: Fleet) -> None:
    with FULL.open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "coordledger", "list"],
            cwd=two.clone("bob"),
            env=two.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 1
