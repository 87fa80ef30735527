"""Bad input, in one table: each row is refused in its own way, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support.fleet import Fleet, hermetic

from coordledger.errors import ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FAILED, USAGE, LOST, INTEGRITY = 1, 2, 3, 4


@dataclass(frozen=True)
class Row:
    """`{root}` and `{remote}` in argv are the fleet's; `agent` says in whose clone it runs."""

    argv: str | tuple[str, ...]
    code: str
    exit: int = FAILED
    agent: str | None = "alice"
    stdin: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""


NOT_TASKS = {"too many spaces": " " * 67, "a control character": "a\x1b[2J", "nothing in it": ""}
NOT_NAMES = {
    "a slash": "a/b",
    "a space": "a b",
    "a capital": "Alice",
    "a control character": "a\x07",
    "an emoji": "a\U0001f600",
    "an override of direction": "a\u202eb",
}

ROWS = {
    # -- who
    "an agent that is not enrolled": Row("claim t", "unknown-agent", agent="mallory"),
    "a message to nobody": Row("send --to nobody hello", "unknown-agent"),
    "rotating an agent that is not there": Row("agent rotate nobody", "unknown-agent"),
    "revoking an agent that is not there": Row("agent revoke nobody", "unknown-agent"),
    "enrolling an agent twice": Row(
        "agent add bob", "agent-exists", hint="to give it a new key: coordledger agent rotate bob"
    ),
    "no agent configured": Row("--remote {remote} claim t", "no-agent", agent=None),
    "the owner's last key": Row("agent revoke alice", "last-key"),
    "enrolling without being an admin": Row("agent add carol", "not-permitted", agent="bob"),
    "changing the policy without being an admin": Row(
        "policy max_ttl=60", "not-permitted", agent="bob"
    ),
    # -- secrets
    "a secret that fits no key": Row(
        "claim t", "no-secret-found", env={"COORDINATION_SECRET": "x" * 43}
    ),
    "a secret that is too short": Row("claim t", "bad-secret", env={"COORDINATION_SECRET": "x"}),
    "a secret's file that others can read": Row(
        "claim t",
        "secret-exposed",
        env={"COORDINATION_SECRETS_DIR": "{root}/exposed", "XDG_CONFIG_HOME": "{root}/nowhere"},
    ),
    "a given secret's file that is missing": Row(
        "agent add carol --secret-file {root}/missing", "bad-secret"
    ),
    # -- leases
    "a lease of nothing": Row("claim t --ttl 0s", "bad-ttl"),
    "a lease without a unit": Row(
        "claim t --ttl 60", "no-unit", hint="60s for seconds, 60m for minutes"
    ),
    "renewing without a unit": Row("renew t --ttl 0", "no-unit"),
    "a timeout without a unit": Row(
        "--timeout 5 list", "no-unit", hint="5s for seconds, 5m for minutes"
    ),
    "a wait without a unit": Row("claim t --wait 0", "no-unit"),
    "waiting for messages without a unit": Row("inbox --wait 10", "no-unit"),
    "a skew without a unit": Row("init {root}/new.git --agent a --max-skew 30", "no-unit"),
    "a batch's line without a unit": Row(
        "batch", "no-unit", stdin='{"do": "claim", "task": "t", "ttl": "60"}'
    ),
    "a batch's line with a number": Row(
        "batch", "no-unit", stdin='{"do": "renew", "task": "t", "ttl": 60}'
    ),
    "a negative lease": Row("claim t --ttl -5m", "bad-ttl"),
    "a lease that is no duration": Row("renew t --ttl soon", "bad-ttl"),
    "a lease beyond the year 9999": Row("claim t --ttl 999999999d", "bad-ttl"),
    "a lease above the policy": Row("claim t --ttl 2d", "ttl-above-policy"),
    "a timeout of nothing": Row("--timeout 0s list", "bad-value"),
    "a wait that is no duration": Row("claim t --wait soon", "bad-value"),
    # -- claims
    "a task that another holds": Row("renew held", "not-holder", LOST),
    "completing what another holds": Row("complete held", "not-holder", LOST),
    "a task that is done": Row("renew finished", "done", LOST),
    "a lease that ran out": Row("complete expired", "expired", LOST),
    "a task that nobody claimed": Row("complete blocked", "not-claimed", LOST),
    "a task that is not there": Row("show nothing", "unknown-task"),
    "waiting for a task that is not there": Row("submit t --after nothing", "unknown-task"),
    "requiring what is not live": Row("require expired", "not-live", LOST),
    "requiring somebody else": Row("require held --by alice", "not-holder", LOST),
    "requiring without a key": Row(
        "--remote {root}/bare.git require held --check here",
        "no-key",
        agent=None,
        env={"XDG_CONFIG_HOME": "{root}/nobody"},
    ),
    "nothing left to claim": Row("--ledger empty claim --next", "nothing-to-claim", LOST),
    # -- texts
    "a body over the limit": Row("send --to bob -", "text-too-long", stdin="x" * 70_000),
    "a body over what is read": Row("send --to bob -", "too-large", stdin="x" * 1_100_000),
    "a body that is not UTF-8": Row("send --to bob -", "bad-value", stdin="\udcff\udcfe"),
    "an argument that is not UTF-8": Row("claim t --note \udcff", "bad-value"),
    "an empty body": Row("send --to bob -", "bad-value"),
    "a note over the limit": Row(("claim", "t", "--note", "n" * 5000), "text-too-long"),
    "a fact without a value": Row("submit t --meta x", "bad-value"),
    "a priority that is too high": Row("submit t --priority 99999999999999999", "bad-record"),
    "a message that is not in the inbox": Row("ack 4711", "not-in-inbox"),
    "an answer to no message": Row("send --to bob --thread 4711 x", "bad-thread"),
    "a policy that is no number": Row("policy max_ttl=long", "bad-value"),
    "a policy that is out of bounds": Row("policy max_ttl=1", "bad-policy"),
    "a policy that is fixed": Row("policy max_skew=60", "bad-value"),
    # -- where
    "a remote that is missing": Row("--remote {root}/missing list", "remote-unreachable"),
    "a remote that is no repository": Row("--remote {root} list", "remote-unreachable"),
    "a remote that is no ledger": Row("--remote {root}/other.git list", "not-a-ledger", agent=None),
    "a remote that lost its ledger": Row(
        "--remote {root}/other.git list", "ledger-gone", INTEGRITY
    ),
    "a remote that is not configured": Row("--remote nowhere list", "no-remote"),
    "joining what is missing": Row("join {root}/missing --agent bob", "remote-unreachable"),
    "a ledger that is there already": Row("init {remote} --agent bob", "ledger-exists", agent=None),
    "a ledger inside of a clone": Row("init {root}/alice --agent bob", "bad-value", agent=None),
    "a directory that is none": Row("-C {root}/missing list", "not-a-repository"),
    "a hook for what is no repository": Row("hook install {root}/missing", "not-a-repository"),
    "another head": Row(
        ("head", "--compare", f"{'0' * 32} 0:{'0' * 64}"), "head-differs", INTEGRITY
    ),
    "a head that is none": Row("head --compare nonsense", "bad-value"),
    "a pin that is none": Row("join {remote} --pin 0123456789abcdef", "bad-value"),
    "another pin": Row(f"join {{remote}} --pin {'0' * 32}", "pin-mismatch", INTEGRITY),
    "a reset that nobody confirms": Row("join {remote} --reset", "bad-value"),
    "a damaged copy": Row("list", "bad-copy", INTEGRITY, agent="damaged"),
    "writing offline": Row("claim t --offline", "bad-value"),
    "no git": Row("list", "no-git", env={"PATH": "{root}"}),
    # -- usage
    "a command that is none": Row("clam t", "usage", USAGE, hint="coordledger --help"),
    "an option that is none": Row("claim t --tll 5", "usage", USAGE),
    "a command without its task": Row("claim", "usage", USAGE, hint="coordledger claim --help"),
    "a task and --next": Row("claim t --next", "usage", USAGE),
    "a message to nowhere": Row("send hello", "usage", USAGE),
    "a number that is none": Row("ack one", "usage", USAGE),
    "an importance that is none": Row("send --to bob --importance huge x", "usage", USAGE),
    "a usage error with an escape in it": Row(("claim", "t", "--\x1b[2J"), "usage", USAGE),
}
ROWS |= {f"a task with {what}": Row(("claim", bad), "bad-task") for what, bad in NOT_TASKS.items()}
for what, bad in NOT_NAMES.items():
    ROWS[f"an agent with {what}"] = Row(("agent", "add", bad), "bad-agent")
    ROWS[f"a channel with {what}"] = Row(("send", "--channel", bad, "x"), "bad-channel")
ROWS |= {
    "a recipient with a slash": Row("send --to ../x hello", "bad-agent"),
    "me with a capital": Row("--as Alice list", "bad-agent"),
    "a session with a slash": Row("--session a/b list", "bad-session"),
    "a ledger with a slash": Row("--ledger a/b list", "bad-ledger"),
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[Fleet]:
    """One fleet for the whole table, since no row may change it."""
    root = tmp_path_factory.mktemp("errors")
    env = hermetic(root)
    fleet = Fleet(root, env)
    fleet.enroll("bob")
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    fleet.run("claim", "expired", "--ttl", "1s", agent="alice", check=0)
    ended = time.monotonic() + 1
    bob.claim("held")
    bob.claim("finished")
    bob.complete("finished")
    alice.submit("blocked", after=["held"])
    fleet.clone("mallory")
    damaged = fleet.clone("damaged") / ".git" / "coordledger" / "main" / "trusted.json"
    damaged.write_text("{", "utf-8")
    fleet.run("--ledger", "empty", "init", fleet.remote, "--agent", "alice", check=0)
    fleet.git("init", "--quiet", "--bare", root / "other.git")
    # The same ledger, on a machine that has neither the master nor any secret.
    fleet.git("clone", "--quiet", "--mirror", fleet.remote, root / "bare.git")
    (root / "exposed").mkdir()
    exposed = root / "exposed" / "alice.secret"
    exposed.write_text("x" * 43, "utf-8")
    exposed.chmod(0o644)
    time.sleep(max(0, ended - time.monotonic()))
    yield fleet
    fleet.close()


def filled(fleet: Fleet, row: Row) -> tuple[list[str], dict[str, str]]:
    """The row's words and its changes of the environment."""
    named = {"root": fleet.root, "remote": fleet.remote}
    argv = row.argv.split() if isinstance(row.argv, str) else row.argv
    env = {name: value.format(**named) for name, value in row.env.items()}
    return [word.format(**named) for word in argv], env


@pytest.mark.parametrize("sentence", ROWS)
def test_it_is_refused_in_one_line(ground, inside, sentence):
    row = ROWS[sentence]
    argv, env = filled(ground, row)
    act = ground.run if row.stdin or env else partial(inside, ground)  # what a process gets
    before = ground.git("for-each-ref")
    ran = act(*argv, agent=row.agent, stdin=row.stdin, env=env)
    assert "Traceback" not in ran.stderr
    assert ground.git("for-each-ref") == before  # nothing was written
    assert ran.returncode == row.exit, ran.stderr
    assert ran.stdout == ""
    first, *rest = ran.stderr.splitlines()
    assert first.startswith("coordledger: ")
    assert [line.partition(" ")[0] for line in rest] in ([], ["hint:"])
    assert all(line.isascii() and line.isprintable() for line in (first, *rest))


@pytest.mark.parametrize("sentence", ROWS)
def test_it_is_refused_as_json(ground, inside, sentence):
    row = ROWS[sentence]
    argv, env = filled(ground, row)
    ran = inside(ground, "--json", *argv, agent=row.agent, stdin=row.stdin, env=env)
    assert (ran.returncode, ran.stderr) == (row.exit, "")
    told = json.loads(ran.stdout)["error"]
    assert told["code"] == row.code
    assert set(told) == {"code", "message", "hint"}
    assert row.hint in ("", told["hint"])


def test_the_table_of_errors_has_every_row():
    assert {row.code for row in ROWS.values()} <= set(ERRORS)


def test_a_fault_of_ours_is_no_traceback_but_for_those_who_ask(ground, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import coordledger.client.ledger as ledger\n"
        "def broken(*_, **__):\n    raise ZeroDivisionError('by design')\n"
        "ledger.Ledger.some_tasks = broken\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    ran = ground.run("list", agent="alice", env=env, check=FAILED)
    assert ran.stderr.splitlines() == [
        "coordledger: a fault in coordledger: ZeroDivisionError: by design",
        "hint: COORDLEDGER_DEBUG=1 shows where",
    ]
    ran = ground.run("list", agent="alice", env=env | {"COORDLEDGER_DEBUG": "1"}, check=FAILED)
    assert "Traceback" in ran.stderr


def coordledger_into(stdout: int, fleet: Fleet, *argv: str):
    """A run whose output goes to a file descriptor of ours."""
    return subprocess.run(
        [sys.executable, "-m", "coordledger", *argv],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=fleet.clone("alice"),
        env=fleet.env,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_an_output_that_cannot_be_written_is_told(ground, json_too):
    full = os.open("/dev/full", os.O_WRONLY)
    ran = coordledger_into(full, ground, "list", *json_too)
    os.close(full)
    why = "cannot write the output: No space left on device"
    assert (ran.returncode, ran.stderr) == (FAILED, f"coordledger: {why}\n")


@pytest.mark.parametrize(("argv", "code"), [("list", 0), ("claim held --json", LOST)])
def test_who_stops_reading_changes_nothing(ground, argv, code):
    read, write = os.pipe()
    os.close(read)
    ran = coordledger_into(write, ground, *argv.split())
    os.close(write)
    assert (ran.returncode, ran.stderr) == (code, "")
