"""The main job, seen: `coordledger demo`.

Everything here happens as a user would make it happen: `coordledger` and `git` as
processes, a bare repository with the real hook, separate clones with separate
configurations and secrets. It has no machinery of its own; it looks at what the commands
say and fails if anything is not as promised.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordledger import answers
from coordledger.answers import Refused
from coordledger.errors import error

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS = ("alice", "bob", "carol")
TASKS = ("fix-login", "add-search", "update-docs", "speed-up-ci")
SECONDS = 60
REF = "refs/coordledger/main"


@dataclass(frozen=True, slots=True)
class _Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class _Stage:
    """A directory with a remote and a clone (a "host") for each agent."""

    def __init__(self, root: Path, echo: Callable[[str], None], *, colour: bool) -> None:
        self.root, self._echo, self._colour = root, echo, colour
        self.remote = root / "ledger.git"

    def _environ(self, host: str) -> dict[str, str]:
        ours = ("COORDLEDGER_", "COORDINATION_", "GIT_", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        home = str(self.root / "hosts" / host)
        return kept | {
            "HOME": home,
            "XDG_CONFIG_HOME": f"{home}/.config",
            "XDG_CACHE_HOME": f"{home}/.cache",
            "GIT_CONFIG_NOSYSTEM": "1",
            "NO_COLOR": "1",
        }

    def start(self, host: str, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            argv,
            cwd=self._where(host),
            env=self._environ(host),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _where(self, host: str) -> Path:
        """The host's clone, or its home before there is one."""
        home = self.root / "hosts" / host
        home.mkdir(parents=True, exist_ok=True)
        return home / "clone" if (home / "clone").is_dir() else home

    def cl(self, host: str, *argv: str) -> subprocess.Popen[str]:
        return self.start(host, sys.executable, "-m", "coordledger", *argv, "--json")

    @staticmethod
    def said(process: subprocess.Popen[str]) -> _Said:
        out, err = process.communicate(timeout=SECONDS)
        return _Said(process.returncode, out, err)

    def must(self, host: str, *argv: str, code: int = 0) -> _Said:
        said = self.said(self.cl(host, *argv))
        self.expect(f"coordledger {' '.join(argv)}", said.code == code, said)
        return said

    def git(self, host: str, *argv: str, stdin: str | None = None, fails: bool = False) -> _Said:
        done = subprocess.run(
            ["git", *argv],
            cwd=self._where(host),
            env=self._environ(host),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = _Said(done.returncode, done.stdout, done.stderr)
        self.expect(f"git {' '.join(argv)}", (said.code != 0) == fails, said)
        return said

    def expect(self, what: str, good: bool, said: _Said | None = None) -> None:
        if not good:
            lines = (said.err or said.out).strip().splitlines() if said else []
            raise error("demo-failed", why=f"{what}: {lines[-1] if lines else 'not so'}")

    # -- what people see

    def title(self, text: str) -> None:
        self._echo("\n" + (f"\033[1;36m{text}\033[0m" if self._colour else text))

    def line(self, text: str, colour: str = "") -> None:
        codes = {"green": "32", "red": "31", "dim": "2", "yellow": "33"}
        on = self._colour and colour
        self._echo("  " + (f"\033[{codes[colour]}m{text}\033[0m" if on else text))


def run(echo: Callable[[str], None], *, colour: bool) -> None:
    """Play the demo. Raises `Failed`: demo-failed if anything is not as promised."""
    with tempfile.TemporaryDirectory(prefix="coordledger-demo-") as folder:
        stage = _Stage(Path(folder), echo, colour=colour)
        _set_up(stage)
        _race(stage)
        _messages(stage)
        _forger(stage)
        _log(stage)
        _audit(stage)


def _set_up(stage: _Stage) -> None:
    stage.title("1. A bare repository becomes a ledger; three agents join on separate clones")
    made = stage.must("alice", "init", str(stage.remote), "--as", "alice").json
    stage.line(f"coordledger init ledger.git --agent alice   -> ledger {made['ledger']}")
    for agent in AGENTS:
        stage.git(agent, "clone", "--quiet", str(stage.remote), "clone")
    stage.must("alice", "join", str(stage.remote), "--as", "alice")
    path = stage.must("alice", "agent", "add", "bob").json["secret"]
    _join(stage, "bob", "--secret-file", path)
    stage.line(
        "bob enrolled by alice, who carries a secret to bob: HMAC, whoever verifies can sign"
    )
    public = stage.must("carol", "key", "new", "--as", "carol").json["public"]
    stage.must("alice", "agent", "add", "carol", "--ssh-key", public)
    _join(stage, "carol")
    stage.line("carol enrolled by the line of her own SSH key: nothing secret travels")


def _join(stage: _Stage, agent: str, *more: str) -> None:
    joined = stage.must(agent, "join", str(stage.remote), "--as", agent, *more).json
    stage.expect(f"{agent} can sign", joined["key"] == "ready")


def _race(stage: _Stage) -> None:
    stage.title("2. Every agent wants every task at the same moment")
    for task in TASKS:
        stage.must("alice", "submit", task)
    for turn, task in enumerate(TASKS):
        for looking in [stage.cl(agent, "list") for agent in AGENTS]:
            stage.said(looking)  # nobody starts with an older copy
        order = AGENTS[turn % 3 :] + AGENTS[: turn % 3]  # and none is always the first
        racing = {agent: stage.cl(agent, "claim", task, "--ttl", "30m") for agent in order}
        codes = {agent: stage.said(process).code for agent, process in racing.items()}
        winners = [agent for agent, code in codes.items() if code == 0]
        losers = [agent for agent, code in codes.items() if code == 3]
        stage.expect(f"one winner of {task}", len(winners) == 1 and len(losers) == 2)
        stage.line(f"{task:<12} won by {winners[0]:<6} lost by {', '.join(losers)}", "green")
        holder = winners[0]
    stage.must(holder, "complete", TASKS[-1], "--result", "merged")
    stage.line(f"{TASKS[-1]} completed by {holder}")


def _messages(stage: _Stage) -> None:
    stage.title("3. Messages are records too")
    stage.must("bob", "send", "--to", "alice", "--importance", "high", "the tests are flaky")
    inbox = stage.must("alice", "inbox").json
    stage.expect("alice got bob's message", [m["from"] for m in inbox] == ["bob"])
    message = inbox[0]
    stage.line(f"{message['from']} -> {message['to']}: {message['body']} ({message['verdict']})")
    stage.must("alice", "ack", str(message["seq"]))
    stage.expect("it is acknowledged", stage.must("alice", "inbox").json == [])
    stage.line("alice acknowledged it; her inbox is empty")
    stage.must("carol", "send", "--to", "bob", "I look at the flaky ones")
    seen = stage.must("bob", "inbox").json
    stage.expect("somebody has checked what carol has signed", seen[0]["checked"] != "nobody")
    where = {"here": "on bob's own host, with carol's public key", "server": "by the server"}
    stage.line(f"carol -> bob: checked {where[seen[0]['checked']]}")


def _forger(stage: _Stage) -> None:
    stage.title("4. mallory can push, has no key, and wants to write as bob and as carol")
    stage.git("mallory", "clone", "--quiet", str(stage.remote), "clone")
    stage.git("mallory", "fetch", "--quiet", "origin", f"{REF}:{REF}")
    head = stage.git("mallory", "rev-parse", REF).out.strip()
    for agent, alg in (("bob", "hmac-sha256"), ("carol", "ssh-ed25519")):
        _forge(stage, agent, alg, head)
    _refused(stage, "not-fast-forward", "push", "--force", "origin", f"{head}~2:{REF}")
    _refused(stage, "no-delete", "push", "origin", f":{REF}")


def _forge(stage: _Stage, agent: str, alg: str, head: str) -> None:
    """Push the agent's newest record again, with another intent and the same signature."""
    newest = ("log", "--format=%H", "-1", f"--author={agent}/", REF)
    commit = stage.git("mallory", "cat-file", "commit", stage.git("mallory", *newest).out.strip())
    stage.expect(f"{agent} signs with {alg}", f": {alg} {agent}/1 " in commit.out)
    parent = next(line for line in commit.out.splitlines() if line.startswith("parent "))
    op = commit.out.partition('"op":"')[2][:32]
    forged = commit.out.replace(parent, f"parent {head}").replace(op, op[::-1])
    oid = stage.git("mallory", "hash-object", "-t", "commit", "-w", "--stdin", stdin=forged).out
    stage.line(f"$ git hash-object -t commit -w --stdin < a-record-of-{agent}s-{alg}", "dim")
    _refused(stage, "bad-signature", "push", "origin", f"{oid.strip()}:{REF}")


def _refused(stage: _Stage, code: str, *argv: str) -> None:
    stage.line(f"$ git {' '.join(argv)}", "dim")
    ran = stage.git("mallory", *argv, fails=True)
    printed = [line.removeprefix("remote:").strip() for line in ran.err.splitlines()]
    refusals = [answer for answer in answers.read(printed) if isinstance(answer, Refused)]
    stage.expect(f"refused as {code}", [refused.code for refused in refusals] == [code], ran)
    stage.line(f"remote: {refusals[0]}", "red")


def _log(stage: _Stage) -> None:
    stage.title(f"5. What people read: git log --oneline {REF}")
    stage.git("alice", "fetch", "--quiet", "origin", f"{REF}:{REF}")
    for line in stage.git("alice", "log", "--oneline", REF).out.splitlines():
        stage.line(line)


def _audit(stage: _Stage) -> None:
    stage.title("6. coordledger audit --full, by alice, who has the master secret")
    audit = stage.must("alice", "audit", "--full").json
    counts = audit["verdicts"]
    stage.expect("all is authentic", counts == {"authentic": audit["records"]})
    stage.line(f"{audit['records']} records: {counts['authentic']} authentic, 0 problems", "green")
