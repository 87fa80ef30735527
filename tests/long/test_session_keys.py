"""A key for each session of a harness: made by its hooks, used by its commands, ended with it."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import second_opinion
from support.refusals import refusal

from coordledger.client import administration, session_keys
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.integrations import agent_hook, jobs, own_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

ONE, TWO = "3f2a91bc-1111-4222-8333-1234567890ab", "3f2a91bc-1111-4222-8333-123456789fff"
DEADLINE = 60.0  # seconds


class Harness:
    """A session of Claude Code in bob's clone, as its hooks and its shells are processes."""

    def __init__(self, fleet: Fleet, session: str = ONE) -> None:
        self.fleet, self.id, self.name = fleet, session, f"claude-{session[-8:]}"
        self.delegate = f"bob.{self.name}"
        self.clone = fleet.clone("bob")
        self.keys = self.clone / ".git/coordledger/main/session-keys"

    def hook(self, event: str, **more: Any) -> str:
        said = {"session_id": self.id, "cwd": str(self.clone), "hook_event_name": event} | more
        return self.fleet.run("agent-hook", "claude", stdin=json.dumps(said), check=0).stdout

    def run(self, *argv: str, check: int = 0, **env: str) -> Any:
        env |= {"CLAUDE_CODE_SESSION_ID": self.id}
        return self.fleet.run(*argv, agent="bob", env=env, check=check)

    def begin(self) -> None:
        self.hook("SessionStart", source="startup")

    def log(self) -> str:
        file = self.clone / ".git/coordledger/.hooks/log"
        return file.read_text() if file.exists() else ""

    def secret(self) -> list[Path]:
        return list(self.fleet.root.parent.rglob(f"{self.delegate}.secret"))


@pytest.fixture
def bobs(fleet: Fleet) -> Fleet:
    fleet.enroll("bob")
    fleet.git("config", "coordledger.sessionKeys", "true", cwd=fleet.clone("bob"))
    fleet.ledger("bob").head()
    return fleet


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def delegates(fleet: Fleet) -> list[str]:
    return [one.agent for one in fleet.ledger("alice").agents() if "." in one.agent]


def test_a_session_signs_by_its_own_key_from_beginning_to_end(bobs: Fleet) -> None:
    session, alice = Harness(bobs), bobs.ledger("alice")
    session.begin()
    won = json.loads(session.run("claim", "t", "--json").stdout)
    assert (won["agent"], won["session"]) == (session.delegate, session.name)
    alice.send("to the agent", to="bob")
    alice.send("to the session", to=session.delegate)
    alice.send("to all", channel="general")
    told = session.hook("UserPromptSubmit", prompt="x")
    session.run("inbox")
    told = session.hook("UserPromptSubmit", prompt="x") or told
    assert all(text in told for text in ("to the agent", "to the session", "to all"))
    assert "It holds t until" in session.hook("SessionStart", source="compact")
    assert "task t until" in session.hook("Stop", stop_hook_active=False)
    session.run("ack", "--all")
    assert session.run("inbox").stdout == "no messages\n"
    assert bobs.ledger("bob").inbox() == []
    session.hook("SessionEnd", reason="other")
    until(lambda: delegates(bobs) == [])
    task = alice.show("t")
    assert (task.status, task.last and task.last.agent) == ("open", session.delegate)
    assert session.secret() == []
    assert session.log() == ""
    until(lambda: [file.suffix for file in session.keys.iterdir()] == [".lock"])
    assert alice.audit(full=True).verdicts == {"authentic": alice.head().seq + 1}
    assert second_opinion(bobs.remote) == alice.head().seq + 1


class Quick(Harness):
    """The same, but its hooks and commands run in this process, and what hooks leave to another
    one when `works` says so.
    """

    def __init__(self, fleet: Fleet, patch: pytest.MonkeyPatch, session: str = ONE) -> None:
        super().__init__(fleet, session)
        self.env = fleet.env | {"CLAUDE_CODE_SESSION_ID": session}
        self.left: list[tuple[str, str, str]] = []
        self.warned: list[str] = []
        patch.setattr(jobs, "start", lambda *asked: self.left.append(asked[:3]))

    def hook(self, event: str, **more: Any) -> str:
        said = {"session_id": self.id, "cwd": str(self.clone), "hook_event_name": event} | more
        return agent_hook.answer(("claude",), self.fleet.env, json.dumps(said).encode).stdout

    def works(self, *names: str) -> None:
        """Do what was left, or of that what is named, in this order."""
        options = Options(path=self.clone)
        wanted = names or tuple(job for job, _, _ in self.left)
        for name in wanted:
            jobs.do(name, options, self.env, f"claude {self.id}")
        self.left = [one for one in self.left if one[0] not in wanted]

    def begin(self) -> None:
        super().begin()
        self.works(jobs.ENROL)

    def ledger(self, **env: str) -> Ledger:
        options = Options(path=self.clone)
        return Ledger(connect(options, self.env | env, warn=self.warned.append))

    def signs_as(self) -> str | None:
        with self.ledger() as ledger:
            return ledger.connection.settings.agent


@pytest.fixture
def session(bobs: Fleet, monkeypatch: pytest.MonkeyPatch) -> Quick:
    return Quick(bobs, monkeypatch)


@pytest.fixture
def beside(bobs: Fleet, session: Quick, monkeypatch: pytest.MonkeyPatch) -> Quick:
    """Another session of the same agent, in the same clone."""
    return Quick(bobs, monkeypatch, TWO)


# -- beside each other


def test_a_session_has_no_power_over_what_another_one_of_its_agent_holds(
    session: Quick, beside: Quick
) -> None:
    session.begin()
    beside.begin()
    with session.ledger() as mine:
        mine.claim("t")
        mine.submit("offered")
    # Whatever it says of its session: to say that it is the other one takes its files.
    for env in ({}, {"COORDLEDGER_SESSION": session.name}):
        with beside.ledger(**env) as theirs:
            assert theirs.connection.settings.agent != session.delegate
            assert not theirs.claim("t").won
            for act in (theirs.renew, theirs.complete, theirs.release):
                assert refusal(lambda act=act: act("t")) == "not-holder"  # type: ignore[misc]
    with beside.ledger() as theirs:
        assert refusal(lambda: theirs.withdraw("offered")) == "not-permitted"
    told = beside.hook("SessionStart", source="compact")
    assert "It holds no task. Other sessions of this agent hold 1." in told


def test_its_key_is_its_accounts_alone(session: Quick) -> None:
    session.begin()
    [secret] = session.secret()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(session.keys.stat().st_mode) == 0o700
    for file in session.keys.iterdir():
        assert secret.read_text().strip() not in file.read_text()


@pytest.mark.parametrize("name", ["alice", "bob.other", "bob.claude-89fffff", "", "x" * 9000])
def test_a_file_makes_a_session_nobody_else(session: Quick, name: str) -> None:
    session.begin()
    (session.keys / f"{session.name}.signs").write_text(name)
    assert session.signs_as() == "bob"


# -- what was said by name


def test_an_agent_a_key_or_a_session_that_was_named_wins(session: Quick) -> None:
    session.begin()
    assert session.signs_as() == session.delegate
    for env in ({"COORDLEDGER_AGENT": "bob"}, {"COORDLEDGER_SESSION": "script"}):
        with session.ledger(**env) as ledger:
            assert ledger.connection.settings.agent == "bob"
    with Ledger.open(session.clone, "bob", environ=session.env) as ledger:
        assert ledger.connection.settings.agent == "bob"
    assert session.warned == []
    del session.env["CLAUDE_CODE_SESSION_ID"]  # a person's shell
    with session.ledger() as ledger:
        assert ledger.claim("t").claim is not None
        assert ledger.show("t").agent == "bob"
    assert session.warned == []


def test_what_run_starts_is_of_the_session(session: Quick) -> None:
    session.begin()
    child = (
        f"{sys.executable} -m coordledger show t --json; {sys.executable} -m coordledger renew t"
    )
    ran = session.run("run", "t", "--complete", "--", "sh", "-c", child)
    assert f'"agent": "{session.delegate}"' in ran.stdout
    assert session.fleet.ledger("alice").show("t").status == "done"


def test_an_offer_to_the_agent_itself_is_taken_in_its_name(session: Quick) -> None:
    alice = session.fleet.ledger("alice")
    alice.claim("t")
    session.begin()
    alice.handoff("t", to="bob")
    session.run("inbox")
    told = session.hook("PostToolUse")
    assert "(coordledger --as bob claim takes it over)" in told
    session.run("--as", "bob", "claim", "t")
    assert "coordledger --as bob complete t" in session.hook("Stop", stop_hook_active=False)
    session.hook("SessionEnd", reason="other")
    session.works()
    assert (alice.show("t").status, delegates(session.fleet)) == ("open", [])


# -- where there is none, or not yet


def test_a_command_waits_for_the_key_and_not_for_long(
    session: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.hook("SessionStart", source="startup")
    monkeypatch.setattr(session_keys, "PATIENCE", 0.3)
    with session.ledger() as ledger:
        assert ledger.claim("t").won
    assert session.warned == ["this session has no key of its own, and signs by bob's"]
    session.works(jobs.ENROL)  # it comes too late: nobody changes names in the middle
    assert session.signs_as() == "bob"
    assert "no key for claude-567890ab" in session.log()
    session.hook("SessionEnd", reason="other")
    session.works()
    assert delegates(session.fleet) == []
    assert session.fleet.ledger("alice").show("t").status == "open"


def test_hooks_wait_for_nothing(session: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_keys.SessionKey, "wait", lambda self: pytest.fail("waited"))
    assert "this session is bob/claude" in session.hook("SessionStart", source="startup")
    assert session.hook("Stop", stop_hook_active=False) == ""


def test_where_none_can_be_made_the_agents_own_key_signs_and_the_log_says_why(
    session: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_keys, "MOST", 0)
    session.begin()
    assert "no key for claude-567890ab: there are 0 delegates below bob" in session.log()
    with session.ledger() as ledger:
        ledger.claim("t")
        assert ledger.show("t").agent == "bob"
    assert len(session.warned) == 1
    monkeypatch.setattr(own_keys, "MOST", 9)
    session.hook("SessionStart", source="compact")
    session.works()
    assert session.signs_as() == "bob"  # it holds something as bob


def test_a_remote_that_is_away_is_no_fault_of_the_session(session: Quick) -> None:
    away = session.fleet.remote.rename(session.fleet.root / "away")
    session.begin()
    assert "no key for" in session.log()
    away.rename(session.fleet.remote)
    assert session.signs_as() == "bob"


def test_a_key_that_somebody_has_revoked_is_not_replaced_by_the_agents_own(session: Quick) -> None:
    session.begin()
    session.fleet.ledger("alice").revoke(session.delegate)
    with session.ledger() as ledger:
        assert refusal(lambda: ledger.claim("t")) == "unknown-agent"
    ran = session.run("claim", "t", check=1)
    assert f"no active agent {session.delegate}" in ran.stderr


def test_a_session_that_has_ended_leaves_nothing_to_sign_with(session: Quick) -> None:
    """Its id may stand in a file or a shell for longer."""
    session.begin()
    session.hook("SessionEnd", reason="other")
    assert session.signs_as() == "bob"  # also before its key is revoked
    session.works()
    with session.ledger() as ledger:
        ledger.claim("t")
        assert ledger.show("t").agent == "bob"
    assert session.warned == ["this session has no key of its own, and signs by bob's"]


def test_the_agents_secret_may_be_in_the_environment(session: Quick) -> None:
    [secret] = session.fleet.root.parent.rglob("bob.secret")
    session.env["COORDINATION_SECRET"] = secret.read_text().strip()
    secret.unlink()
    session.begin()
    with session.ledger() as ledger:
        ledger.claim("t")
        claim = ledger.require("t")
    assert (claim.agent, claim.verdict) == (session.delegate, "authentic")
    assert session.log() == ""


# -- its end


@pytest.mark.parametrize("ends", [True, False])
def test_what_happens_while_a_key_is_enrolled_is_not_passed_over(
    session: Quick, beside: Quick, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """The session ends, or a command has waited too long."""
    real = administration.delegate

    def slow(*args: Any, **kw: Any) -> Any:
        made = real(*args, **kw)
        if ends:
            session.hook("SessionEnd", reason="other")
        else:
            monkeypatch.setattr(session_keys, "PATIENCE", 0.0)
            assert session.signs_as() == "bob"
        return made

    monkeypatch.setattr(administration, "delegate", slow)
    session.begin()
    assert session.signs_as() == "bob"
    assert delegates(session.fleet) == [session.delegate]
    if ends:
        session.works(jobs.RELEASE)
    else:  # of no use to a session that is alive
        monkeypatch.setattr(administration, "delegate", real)
        beside.begin()
    assert session.delegate not in delegates(session.fleet)
    assert session.secret() == []
    assert session.signs_as() == "bob"
    session.hook("SessionEnd", reason="other")
    beside.hook("SessionEnd", reason="other")
    beside.works(jobs.RELEASE)
    assert {file.suffix for file in session.keys.iterdir()} == {".lock"}


@pytest.mark.parametrize("order", [(jobs.ENROL, jobs.RELEASE), (jobs.RELEASE, jobs.ENROL)])
def test_a_session_that_ends_at_once_leaves_no_key(session: Quick, order: tuple[str, ...]) -> None:
    session.hook("SessionStart", source="startup")
    session.hook("SessionEnd", reason="other")
    session.works(*order)
    beside = session.fleet.ledger("alice")
    assert [one.agent for one in beside.agents()] == ["alice", "bob"]
    assert session.secret() == []
    assert not list(session.keys.glob("*.asked")) + list(session.keys.glob("*.ended"))


def test_a_session_that_is_resumed_at_once_gets_another_key(session: Quick) -> None:
    session.begin()
    with session.ledger() as ledger:
        ledger.claim("t")
    session.hook("SessionEnd", reason="other")
    session.hook("SessionStart", source="resume")
    session.works(jobs.ENROL)
    assert session.signs_as() == session.delegate
    session.works(jobs.RELEASE)  # it is about the one before
    with session.ledger() as ledger:
        assert ledger.claim("t").won
        assert ledger.require("t").verdict == "authentic"


def test_a_session_whose_leases_are_kept_keeps_its_key(session: Quick) -> None:
    session.fleet.git("config", "coordledger.onSessionEnd", "keep", cwd=session.clone)
    session.begin()
    with session.ledger() as ledger:
        ledger.claim("t")
    session.hook("SessionEnd", reason="other")
    session.works()
    session.hook("SessionStart", source="resume")
    session.works()
    with session.ledger() as ledger:
        assert ledger.complete("t").agent == session.delegate


def grow_old(session: Harness) -> None:
    for file in session.keys.glob(f"{session.name}.*"):
        os.utime(file, (time.time() - 2 * own_keys.SILENT,) * 2)


def test_what_a_session_that_died_has_left_is_tidied_up_by_a_later_one(
    session: Quick, beside: Quick
) -> None:
    session.begin()
    with session.ledger() as ledger:
        ledger.claim("t")
    grow_old(session)
    beside.begin()
    assert delegates(session.fleet) == [session.delegate, beside.delegate]  # a lease is alive
    with session.ledger() as ledger:
        ledger.complete("t")
    beside.works(jobs.ENROL)
    assert len(delegates(session.fleet)) == 2  # it has just been seen
    grow_old(session)
    beside.works(jobs.ENROL)
    assert delegates(session.fleet) == [beside.delegate]
    assert session.secret() == []
    assert beside.log() == ""


def test_there_are_never_more_than_so_many(
    session: Quick, beside: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_keys, "MOST", 1)
    session.begin()
    beside.begin()
    assert delegates(session.fleet) == [session.delegate]
    assert re.search(r"no key for claude-56789fff: there are 1 delegates", beside.log())
    beside.hook("SessionEnd", reason="other")
    grow_old(session)
    beside.begin()
    assert delegates(session.fleet) == [beside.delegate]


def test_a_delegate_of_that_name_that_others_have_enrolled_is_left_alone(session: Quick) -> None:
    session.fleet.ledger("bob").delegate(session.name)
    [secret] = session.secret()
    elsewhere = secret.rename(session.fleet.root / "elsewhere")
    session.begin()
    assert "is enrolled already" in session.log()
    assert session.signs_as() == "bob"
    session.hook("SessionEnd", reason="other")
    session.works()
    assert delegates(session.fleet) == [session.delegate]
    assert elsewhere.exists()


def test_an_ssh_key_goes_with_its_session(session: Quick) -> None:
    bob = session.fleet.ledger("bob")
    made = bob.connection.ssh_keys.make("bob")
    session.fleet.ledger("alice").enroll_ssh("bob", f"ssh-ed25519 {made.public} bob")
    session.fleet.git("config", "coordledger.sshKey", made.where, cwd=session.clone)
    session.begin()
    keys = session.fleet.root.parent / "home/config/coordledger/keys" / session.delegate
    assert len(list(keys.iterdir())) == 1
    with session.ledger() as ledger:
        assert ledger.claim("t").won
        assert ledger.require("t").agent == session.delegate
    session.hook("SessionEnd", reason="other")
    session.works()
    assert delegates(session.fleet) == []
    assert not keys.exists()
    assert session.log() == ""


def test_a_harness_whose_shells_know_no_session_gets_none(session: Quick) -> None:
    said = {"session_id": ONE, "cwd": str(session.clone), "hook_event_name": "SessionStart"}
    agent_hook.answer(("gemini",), session.env, json.dumps(said).encode)
    agent_hook.answer(("gemini",), session.fleet.env, json.dumps(said).encode)
    assert jobs.ENROL not in [job for job, _, _ in session.left]
    assert not session.keys.exists()


def test_doctor_and_setup_say_whether_it_is_in_force(session: Quick) -> None:
    def doctor(**env: str) -> dict[str, Any]:
        found = json.loads(session.run("doctor", "--json", **env).stdout)
        return {one["name"]: one for one in found["checks"]}.get("session keys", {})

    session.begin()
    assert doctor()["found"] == "on: 1 sessions of this clone sign by a key of their own"
    assert doctor(COORDLEDGER_AGENT="bob")["ok"] is None
    ran = session.run("setup", "gemini", "claude", "--dry-run")
    assert "gemini: it tells its shells no session" in ran.stderr
    assert "claude: it tells" not in ran.stderr
    session.fleet.git("config", "coordledger.sessionKeys", "perhaps", cwd=session.clone)
    ran = session.run("claim", "t", check=1)
    assert "coordledger.sessionKeys: perhaps is neither on nor off" in ran.stderr
