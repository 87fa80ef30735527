"""The main flow as people and scripts see it: real processes, exit codes, JSON's shape."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable

CLAIM = """
    task status agent session epoch rev claimed_at expires_at claimable_at note result priority
    meta after waits_for seq commit verdict
""".split()  # noqa: SIM905
MESSAGE = """
    seq from session to channel thread importance body sent_at commit verdict
""".split()  # noqa: SIM905
STATUS = """
    ledger ref remote head seq agent session enforcement claims unread
""".split()  # noqa: SIM905
TIME = "dddd-dd-ddTdd:dd:dd.dddZ"


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """Alice and bob, both joined."""
    fleet.enroll("bob")
    return fleet


@pytest.fixture
def told(two: Fleet, inside: Callable[..., Any]) -> Callable[..., Any]:
    """`told("bob", "list", code=0)`: the one JSON value that a command prints.

    `real` starts a process for it.
    """

    def run(agent: str, *argv: str | Path, code: int = 0, real: bool = False, **kw: Any) -> Any:
        act = two.run if real else partial(inside, two)
        ran = act(*argv, "--json", agent=agent, check=code, **kw)
        assert ran.stdout.isascii()
        assert ran.stderr == ""
        return json.loads(ran.stdout)

    return run


def shape(moment: str) -> str:
    return "".join("d" if char.isdecimal() else char for char in moment)


def test_from_nothing_to_a_fleet(tmp_path, env):
    fleet = Fleet.__new__(Fleet)  # only its way of running commands: nothing is founded yet
    fleet.root, fleet.env, fleet.remote = tmp_path, env, tmp_path / "project.git"
    ran = fleet.run("init", "project.git", "--agent", "alice", check=0)
    assert "enforcement  server" in ran.stdout
    assert f"{fleet.remote}/coordledger/master (0600)" in ran.stdout
    for agent in ("alice", "bob"):
        fleet.git("clone", "--quiet", fleet.remote, tmp_path / agent)
    alice, bob = tmp_path / "alice", tmp_path / "bob"
    assert "key          ready" in fleet.run("join", "origin", "--agent", "alice", cwd=alice).stdout
    ran = fleet.run("agent", "add", "bob", "--json", cwd=alice, check=0)
    secret = Path(json.loads(ran.stdout)["secret"])
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text("ascii").strip() not in ran.stdout + ran.stderr
    carried = tmp_path / "carried"
    secret.rename(carried)
    joining = ("join", "origin", "--agent", "bob", "--json")
    assert json.loads(fleet.run(*joining, cwd=bob, check=0).stdout)["key"] == "no-secret"
    ran = fleet.run(*joining, "--secret-file", carried, cwd=bob, check=0)
    assert json.loads(ran.stdout)["key"] == "ready"
    assert fleet.run("claim", "t", cwd=bob, check=0).stdout.startswith("won t  epoch 1  until ")
    ran = fleet.run("init", "project.git", "--agent", "bob", "--json", check=1)
    assert json.loads(ran.stdout)["error"]["code"] == "ledger-exists"


def test_a_task_from_offer_to_done(told):
    told = partial(told, real=True)
    offered = told("alice", "submit", "t", "--priority", "5", "--meta", "branch=fix-7")
    assert list(offered) == CLAIM
    assert (offered["status"], offered["priority"]) == ("open", 5)
    assert told("alice", "submit", "t") == offered  # repeating it changes nothing

    won = told("bob", "claim", "t", "--ttl", "30m", "--note", "gr\u00fc\u00dfe")
    assert list(won) == [*CLAIM, "outcome"]
    assert (won["outcome"], won["agent"], won["epoch"]) == ("won", "bob", 1)
    assert (won["note"], won["verdict"]) == ("gr\u00fc\u00dfe", "authentic")
    assert {shape(won[name]) for name in ("claimed_at", "expires_at", "claimable_at")} == {TIME}

    lost = told("alice", "claim", "t", code=3)
    assert lost == won | {"outcome": "lost", "code": "held"}
    assert told("bob", "claim", "t", code=3)["code"] == "already-yours"
    renewed = told("bob", "renew", "t", "--ttl", "2h")
    assert renewed["expires_at"] > won["expires_at"]
    done = told("bob", "complete", "t", "--result", "merged")
    assert (done["status"], done["result"], done["expires_at"]) == ("done", "merged", None)
    assert told("bob", "complete", "t") == done
    assert told("alice", "claim", "t", code=3)["code"] == "done"
    assert told("alice", "claim", "t", "--reopen")["epoch"] == 2
    shown = told("bob", "show", "t")
    assert list(shown) == [*CLAIM, "page"]
    kinds = [event["kind"] for event in told("bob", "history", "t")]
    assert kinds == ["submit", "claim", "renew", "complete", "claim"]


def test_a_session_that_was_given_renews_its_own_claim(told):
    mine = ("--session", "run-1", "--ttl", "10m")
    assert told("bob", "claim", "t", *mine)["outcome"] == "won"
    renewed = told("bob", "claim", "t", "--session", "run-1", "--ttl", "20m")
    assert (renewed["outcome"], renewed["epoch"]) == ("renewed", 1)
    assert told("bob", "claim", "t", "--session", "run-2", code=3)["code"] == "held"


def test_several_tasks_are_won_together_or_not_at_all(told):
    assert [one["outcome"] for one in told("bob", "claim", "a", "b")] == ["won", "won"]
    way = told("alice", "claim", "b", "c", code=3)
    assert [(one["task"], one["outcome"]) for one in way] == [("b", "lost")]
    assert {one["task"] for one in told("alice", "list")} == {"a", "b"}


def test_the_next_task_is_the_most_urgent_that_is_free(told):
    told("alice", "submit", "small")
    told("alice", "submit", "urgent", "--priority", "9", "--after", "small")
    assert told("bob", "claim", "--next")["task"] == "small"
    assert told("bob", "claim", "--next", code=3)["error"]["code"] == "nothing-to-claim"
    told("bob", "complete", "small")
    assert told("bob", "claim", "--next", "--wait", "10s")["task"] == "urgent"


def test_a_dry_run_tells_and_writes_nothing(two, told):
    before = two.head()
    assert told("bob", "claim", "t", "--dry-run")["outcome"] == "won"
    assert two.run("claim", "t", "--dry-run", agent="bob", check=0).stdout.startswith("would be")
    assert two.head() == before
    told("alice", "claim", "t")
    assert told("bob", "claim", "t", "--dry-run", code=3)["outcome"] == "lost"


def test_the_list_is_filtered(two, told):
    for task in ("one", "two", "three"):
        told("alice", "submit", task)
    told("bob", "claim", "one")
    told("bob", "complete", "one")
    told("bob", "claim", "two", "--ttl", "5m")

    def names(*filters: str) -> list[str]:
        return [one["task"] for one in told("bob", "list", *filters)]

    assert names() == ["two", "three", "one"]  # what is done comes last
    assert names("--open") == ["three"]
    assert names("--claimed", "--done") == ["two", "one"]
    assert names("--mine", "--claimed") == ["two"]
    assert names("--expired") == []
    assert names("--limit", "1") == ["two"]
    said = two.run("list", "--limit", "2", agent="bob", check=0).stdout.splitlines()
    assert said[0].split() == ["TASK", "STATUS", "PRIO", "HOLDER", "UNTIL", "NOTE"]
    assert said[-1] == "and 1 more"


def test_giving_back_and_taking_away(told):
    told("bob", "claim", "t")
    assert told("alice", "release", "t", code=3)["error"]["code"] == "not-holder"
    assert told("alice", "release", "t", "--force", "--reason", "gone")["status"] == "open"
    told("bob", "claim", "t")
    assert told("bob", "release", "t")["agent"] is None
    told("alice", "claim", "t")
    refused = told("bob", "release", "t", "--force", code=1)
    assert refused["error"]["code"] == "not-permitted"


def test_messages_are_sent_read_and_acknowledged(two, told):
    body = "first line\nsecond \u202eline\x1b[31m"
    to_alice = ("--to", "alice", "--importance", "high", "-")
    sent = told("bob", "send", *to_alice, stdin=body, real=True)
    assert list(sent) == MESSAGE
    assert (sent["from"], sent["to"], sent["body"]) == ("bob", "alice", body)
    shouted = told("bob", "send", "--channel", "general", "hello all")
    inbox = told("alice", "inbox")
    assert [message["seq"] for message in inbox] == [sent["seq"], shouted["seq"]]
    assert shape(inbox[0]["sent_at"]) == TIME
    shown = two.run("inbox", agent="alice", check=0).stdout.splitlines()
    assert shown[0].startswith(f"{sent['seq']}  bob/")
    assert shown[1:3] == ["    first line", r"    second \u202eline\x1b[31m"]
    seqs = [str(message["seq"]) for message in inbox]
    assert told("alice", "ack", *seqs) == {"acked": [sent["seq"], shouted["seq"]]}
    assert told("alice", "inbox") == []
    assert [m["body"] for m in told("alice", "inbox", "--all")] == ["hello all"]
    assert [m["body"] for m in told("alice", "messages", "--channel", "general")] == ["hello all"]
    assert told("alice", "inbox", "--wait", "1s") == []
    reply = told("alice", "send", "--to", "bob", "--thread", str(sent["seq"]), "seen")
    assert reply["thread"] == sent["seq"]


def test_a_gate_for_scripts(two, told):
    told("bob", "claim", "t")
    assert told("alice", "require", "t", "--by", "bob", "--epoch", "1")["status"] == "claimed"
    assert told("alice", "require", "t", "--epoch", "2", code=3)["error"]["code"] == "wrong-epoch"
    told("bob", "complete", "t")
    two.run("require", "t", agent="alice", check=3)


def test_audit_head_and_status(two, told):
    told = partial(told, real=True)
    told("bob", "claim", "t")
    audit = told("alice", "audit", "--full")
    assert (audit["records"], audit["verdicts"], audit["problems"]) == (3, {"authentic": 3}, [])
    assert told("alice", "audit")["records"] == 0
    head = told("alice", "head")
    assert list(head) == ["ledger", "seq", "digest", "commit", "line"]
    assert head["line"] == two.run("head", agent="bob", check=0).stdout.strip()
    assert told("bob", "head", "--compare", head["line"])["line"] == head["line"]
    other = head["line"][:-1] + ("0" if head["line"][-1] != "0" else "1")
    assert told("bob", "head", "--compare", other, code=4)["error"]["code"] == "head-differs"
    status = told("bob", "status")
    assert list(status) == STATUS
    assert [claim["task"] for claim in status["claims"]] == ["t"]
    assert (status["agent"], status["seq"], status["unread"]) == ("bob", 2, 0)
    assert told("bob", "resolve") == []


def test_the_local_copy_answers_without_the_remote(two, told):
    told("bob", "claim", "t")
    gone = two.remote.rename(two.remote.with_suffix(".away"))
    assert told("bob", "list", code=1)["error"]["code"] == "remote-unreachable"
    assert [one["task"] for one in told("bob", "list", "--offline")] == ["t"]
    gone.rename(two.remote)


def test_a_rewritten_history_is_refused_until_it_is_reset(two, told):
    before = two.head()
    told("bob", "claim", "t")
    two.git("update-ref", "refs/coordledger/main", before)
    assert told("bob", "list", code=4)["error"]["code"] == "rewritten"
    ran = two.run("join", "origin", "--reset", "--yes", agent="bob", check=0)
    heads = [line.partition(": ")[0] for line in ran.stderr.splitlines()]
    assert heads == ["verified here", "remote's head"]
    assert told("bob", "list") == []


def test_a_damaged_copy_is_refused_until_it_is_reset(two, told):
    (two.clone("bob") / ".git" / "coordledger" / "main" / "trusted.json").write_text("{")
    assert told("bob", "list", code=4)["error"]["hint"] == "coordledger join --reset"
    two.run("join", "origin", "--reset", "--yes", agent="bob", check=0)
    assert told("bob", "list") == []


def test_keys_come_and_go(two, told):
    assert told("alice", "agent", "rotate", "bob")["agent"] == "bob"
    assert told("alice", "agent", "revoke", "bob", "--key", "1") == {"agent": "bob", "revoked": [1]}
    told("bob", "claim", "t")
    bob = next(one for one in told("alice", "agent", "list") if one["agent"] == "bob")
    assert bob["active"]
    assert [key["until_seq"] is None for key in bob["keys"]] == [False, True]
    assert told("alice", "agent", "revoke", "bob")["revoked"] == [2]
    assert told("bob", "claim", "u", code=1)["error"]["code"] == "key-revoked"
    told("alice", "agent", "add", "bob")
    told("bob", "claim", "u")


def test_the_policy_is_shown_and_changed(told):
    assert told("alice", "policy")["max_ttl"] == 86_400
    assert told("alice", "policy", "max_ttl=60", "max_body=100")["max_body"] == 100
    assert told("bob", "claim", "t", "--ttl", "2m", code=1)["error"]["code"] == "ttl-above-policy"


def test_the_hook_is_installed_beside_one_that_was_there(two, tmp_path):
    other = tmp_path / "other.git"
    two.git("init", "--quiet", "--bare", other)
    own = other / "hooks" / "pre-receive"
    own.write_text("#!/bin/sh\nexit 0\n")
    own.chmod(0o755)
    ran = two.run("hook", "install", other, check=0)
    assert "kept the hook that was there" in ran.stdout
    assert os.access(own, os.X_OK)
    ran = two.run("hook", "pre-receive", stdin="", cwd=two.remote, check=1)
    assert ran.stderr.startswith("coordledger: refused ")


def test_doctor_finds_a_set_up_that_works_and_one_that_does_not(two, told):
    assert told("alice", "doctor")["ok"]
    (two.remote / "hooks" / "pre-receive").chmod(0o644)
    ran = two.run("doctor", agent="alice")
    assert ran.returncode == 1
    assert any(line.startswith("FAIL ") and " -> " in line for line in ran.stdout.splitlines())
    assert not told("alice", "doctor", code=1)["ok"]


def test_unknown_configuration_is_reported_and_nothing_else(two):
    two.git("config", "coordledger.agnet", "x", cwd=two.clone("bob"))
    ran = two.run("list", agent="bob", check=0)
    assert ran.stderr == "warning: unknown configuration key coordledger.agnet\n"


def test_common_options_stand_before_the_command_or_after_it(two):
    clone = two.clone("bob")
    before = two.run("-C", clone, "--json", "list", check=0)
    after = two.run("list", "-C", clone, "--json", check=0)
    assert before.stdout == after.stdout == "[]\n"
    said = two.run("claim", "t", "--note", "--json", agent="bob", check=0).stdout
    assert said.startswith("won t")  # here it was a note
    inside = two.run("agent", "--json", "list", "-C", clone, check=0)
    assert json.loads(inside.stdout)[0]["agent"] == "alice"


@pytest.mark.parametrize(("number", "idle"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_write_is_unknown_and_an_interrupted_wait_is_not(two, told, number, idle):
    """The hook holds the push up, so that the signal comes in the middle of it."""
    clone = two.clone("bob")
    chained = two.remote / "hooks" / "pre-receive.chained"
    mark = two.root / "in-the-hook"
    chained.write_text(f'#!/bin/sh\ncat > /dev/null\n: > "{mark}"\nsleep 6\nexit 1\n')
    chained.chmod(0o755)

    def interrupted(*argv: str, ready: Callable[[], bool]) -> tuple[int, str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordledger", *argv],
            cwd=clone,
            env=two.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that were started in the background ignore ^C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread
        )
        while not ready():
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=30)[1]
        return process.returncode, said.splitlines()[0]

    code, said = interrupted("claim", "t", ready=mark.exists)
    assert (code, said) == (5, "coordledger: the push may or may not have landed: interrupted")
    chained.unlink()
    assert [one["outcome"] for one in told("bob", "resolve", code=3)] == ["voided"]

    started = time.monotonic()
    code, said = interrupted(
        "inbox", "--wait", "1m", ready=lambda: time.monotonic() > started + 0.8
    )
    assert (code, said) == (idle, "coordledger: interrupted")


def test_an_unknown_outcome_stays_open_while_nobody_answers(two, told):
    told("bob", "claim", "before")
    journal = two.clone("bob") / ".git" / "coordledger" / "main" / "intents"
    ledger = two.ledger("bob")
    head = ledger.head()
    intent = {
        "op": "ab" * 16,
        "base": {"digest": head.digest, "seq": head.seq},
        "agent": "bob",
        "session": "s",
        "what": "claim t",
    }
    journal.mkdir(exist_ok=True)
    (journal / "left.json").write_text(json.dumps([intent]))
    away = two.remote.rename(two.remote.with_suffix(".away"))
    assert [one["outcome"] for one in told("bob", "resolve", code=5)] == ["open"]
    away.rename(two.remote)
