"""What coordledger promises, over every way in which git reaches a server.

Each test runs once for each of `hosts.KINDS`, against a real server of that kind.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import hosts
from support.fleet import LEDGER_REF
from support.proxy import Fault
from support.serve_process import break_python
from support.sites import SECONDS, Site, on_a_terminal, survivors, wait_until

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Failed, Lost, OutcomeUnknown
from coordledger.format.signing import Signed
from coordledger.git.process import ENDING, Git
from coordledger.git.remote import Remote
from coordledger.setup import doctor, genesis, hooks, joining

from .conftest import absent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AGENT = Path(__file__).parents[1] / "support" / "server_agent.py"
LARGE = base64.b64encode(os.urandom(36_000)).decode()  # and does not get smaller in a pack
wired = pytest.mark.parametrize("site", [k for k in hosts.KINDS if k != "path"], indirect=True)


def push(site: Site, *args: str) -> subprocess.CompletedProcess[str]:
    """Plain git pushes from alice's clone to the ledger's URL."""
    flags = [arg for arg in args if arg.startswith("-")]
    return site.git("push", *flags, site.host.url, *(arg for arg in args if arg not in flags))


def record(site: Site, *, forged: bool = False) -> str:
    """A commit on the ledger's head with a record of alice's; `forged`: its MAC is wrong."""
    ledger = site.alice
    chain = ledger.connection.replica.position()
    if chain.head is None or chain.head.oid != site.head():
        chain = ledger.connection.replica.refresh()
    signed = ledger.connection.writer().sample(chain)
    if forged:
        signed = Signed(signed.payload, signed.record, bytes(byte ^ 1 for byte in signed.tag))
    proposal = chain.propose(signed)
    ledger.connection.local.repository.write(proposal.objects)
    return proposal.commit.oid


# -- the way in


def test_joining_by_url_shows_that_the_server_enforces_the_ledger(site: Site) -> None:
    for agent in ("alice", "bob"):
        found = site.joined[agent]
        assert (found.key, found.enforcement, found.whole) == ("ready", "server", True)
        assert found.head.ledger == site.founded.ledger
    assert site.bob.status().enforcement == "server"


@wired
def test_a_push_cannot_found_a_ledger(site: Site) -> None:
    options = Options(path=site.empty_clone(site.new("founder")), agent="alice", ledger="other")
    before = site.refs()
    with pytest.raises(Failed) as refused:
        genesis.init(options, site.env["alice"], site.host.url, 30)
    assert refused.value.code == "no-create"
    assert "coordledger init PATH" in refused.value.hint
    assert site.refs() == before


def test_a_depth_1_clone_is_small_and_works(site: Site) -> None:
    path = site.empty_clone(site.new("shallow"))
    options = Options(path=path, agent="bob")
    found = joining.join(options, site.env["bob"], site.host.url, depth=1)
    assert (found.whole, found.enforcement) == (False, "server")
    assert found.head.commit == site.head()
    assert site.git("rev-list", "--count", LEDGER_REF, cwd=path, check=True).stdout == "1\n"
    shallow = site.open("bob", path)
    assert shallow.claim("from-a-shallow-clone").outcome == "won"
    assert shallow.audit().problems == ()


@wired
def test_the_server_vouches_for_what_no_key_here_can_check(site: Site) -> None:
    site.alice.claim("vouched")
    claim = site.bob.require("vouched", by="alice")
    assert (claim.verdict, claim.checked) == ("unverified", "server")
    assert {one.checked for one in site.bob.tasks()} <= {"here", "server"}
    audit = site.bob.audit(full=True)
    assert set(audit.checked) <= {"here", "server"}
    assert audit.checked["server"] == audit.verdicts["unverified"]
    assert not [ref for ref in site.refs() if ref.startswith("refs/coordledger-try")]
    path = site.bob.connection.repository.root
    checks = {c.name: c for c in doctor.examine(Options(path, agent="bob"), site.env["bob"])}
    assert checks["enforcement"].ok
    authenticates = not site.host.url.startswith(("git://", "http://"))
    assert ("server" in checks) != authenticates


def test_everybody_checks_a_ledger_of_ssh_keys_by_themselves(site: Site) -> None:
    name = site.new("keys")
    founding = Options(path=site.root, agent="alice", ledger=name, ssh_key="new")
    genesis.init(founding, site.server_env, str(site.host.path), 30)
    env = {"alice": site.server_env | site.host.env, "bob": site.env["bob"]}
    options = {
        agent: Options(path=site.empty_clone(site.new(agent)), agent=agent, ledger=name)
        for agent in env
    }
    for agent, found in options.items():
        joined = joining.join(found, env[agent], site.host.url, new_key=agent == "bob")
        assert joined.enforcement == "server"
    with (
        Ledger.open(options["alice"].path, "alice", ledger=name, environ=env["alice"]) as alice,
        Ledger.open(options["bob"].path, "bob", ledger=name, environ=env["bob"]) as bob,
    ):
        alice.enroll_ssh("bob", str(joined.public))
        assert bob.claim("t").claims[0].checked == "here"
        assert alice.require("t", by="bob", check="here").agent == "bob"
        for ledger in (alice, bob):
            audit = ledger.audit(full=True)
            assert (audit.verdicts, audit.checked) == ({"authentic": 3}, {"here": 3})


# -- the work


def test_claim_renew_complete_and_a_lost_claim(site: Site) -> None:
    won = site.alice.claim("shared", note="first")
    assert (won.outcome, won.claims[0].agent, won.claims[0].epoch) == ("won", "alice", 1)
    lost = site.bob.claim("shared")
    assert (lost.outcome, lost.code) == ("lost", "held")
    assert lost.claims[0].session == won.claims[0].session
    with pytest.raises(Lost, match="held by alice"):
        site.bob.complete("shared")
    renewed = site.alice.renew(
        "shared", ttl=2 * (won.claims[0].expires_at - won.claims[0].claimed_at)
    )
    assert renewed.expires_at > won.claims[0].expires_at
    assert site.alice.complete("shared", result="merged").status == "done"
    assert site.bob.claim("shared").code == "done"


def test_a_copy_follows_by_commits_alone_and_has_their_trees(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.bob.head()
    with site.alice.batch() as batch:
        for _ in range(20):
            batch.submit(site.new("followed"))
    fetches: list[str] = []
    monkeypatch.setattr(Remote, "fetch", lambda *given: fetches.append(given[1]))
    assert site.bob.head().commit == site.head()
    assert fetches == []
    path = site.bob.connection.repository.git_dir
    site.git("fsck", "--strict", cwd=path, check=True)
    site.git("rev-list", "--objects", "--quiet", LEDGER_REF, cwd=path, check=True)


def test_messages_arrive_and_are_acknowledged(site: Site) -> None:
    sent = site.alice.send("are you on it?", to="bob", importance="high")
    (found,) = site.bob.inbox()
    assert (found.seq, found.sender, found.body) == (sent.seq, "alice", "are you on it?")
    assert site.bob.ack(found.seq) == [found.seq]
    assert site.bob.inbox() == []
    with pytest.raises(Failed, match="no message"):
        site.bob.ack(found.seq)


def test_of_processes_that_race_one_wins(site: Site) -> None:
    task = site.new("race")
    runners = [
        subprocess.Popen(
            [sys.executable, str(AGENT), str(site.copy(agent)), agent, task],
            env=site.env[agent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for agent in ("alice", "bob", "alice")
    ]
    try:
        for runner in runners:
            assert runner.stdout.readline() == "ready\n", runner.communicate(timeout=SECONDS)
        for runner in runners:
            runner.stdin.write("\n")
            runner.stdin.flush()
        outputs = [runner.communicate(timeout=SECONDS) for runner in runners]
    finally:
        for runner in runners:
            runner.kill()
            runner.wait(SECONDS)
    assert [err for out, err in outputs] == ["", "", ""]
    results = [json.loads(out) for out, err in outputs]
    assert sorted(result["outcome"] for result in results) == ["lost", "lost", "won"]
    assert {result["epoch"] for result in results} == {1}
    assert len({result["session"] for result in results}) == 1


# -- attacks


def _rewound(site: Site) -> tuple[str, ...]:
    record(site)  # alice's clone knows the head
    return ("--force", f"{site.founded.head}:{LEDGER_REF}")


ATTACKS: dict[str, tuple[str, Callable[[Site], tuple[str, ...]]]] = {
    "a record with a wrong MAC": (
        "bad-signature",
        lambda site: (f"{record(site, forged=True)}:{LEDGER_REF}",),
    ),
    "a rewind": ("not-fast-forward", _rewound),
    "a deletion": ("no-delete", lambda site: (f":{LEDGER_REF}",)),
    "another ledger": (
        "no-create",
        lambda site: (f"{site.founded.head}:refs/coordledger/{site.new('more')}",),
    ),
    "code with a forged record": (
        "bad-signature",
        lambda site: (
            f"{site.code_commit()}:refs/heads/{site.new('mixed')}",
            f"{record(site, forged=True)}:{LEDGER_REF}",
        ),
    ),
    "code with a forged record, atomic": (
        "bad-signature",
        lambda site: (
            "--atomic",
            f"{record(site, forged=True)}:{LEDGER_REF}",
            f"{site.code_commit()}:refs/heads/{site.new('mixed')}",
        ),
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_server_refuses(site: Site, attack: str) -> None:
    slug, prepare = ATTACKS[attack]
    args = prepare(site)
    before = site.refs()
    ran = push(site, *args)
    assert ran.returncode != 0
    refusals = [line.rstrip() for line in ran.stderr.splitlines() if "coordledger:" in line]
    assert len(refusals) == 1, ran.stderr
    assert re.fullmatch(
        rf"remote: coordledger: refused ([0-9a-f]{{12}}|-): {slug}: [ -~]+", refusals[0]
    )
    assert "Traceback" not in ran.stderr
    assert site.refs() == before


# -- beside code


@pytest.mark.parametrize("flags", [(), ("--atomic",)], ids=["plain", "atomic"])
def test_code_and_a_good_record_pass_in_one_push(site: Site, flags: tuple[str, ...]) -> None:
    code, branch, good = site.code_commit(), f"refs/heads/{site.new('mixed')}", record(site)
    ran = push(site, *flags, f"{code}:{branch}", f"{good}:{LEDGER_REF}")
    assert ran.returncode == 0, ran.stderr
    assert (site.refs()[branch], site.head()) == (code, good)


def test_code_is_pushed_and_fetched_as_ever(site: Site) -> None:
    first, second = site.code_commit(), site.code_commit()
    branch, ledger = f"refs/heads/{site.new('branch')}", site.head()
    assert push(site, f"{first}:{branch}").returncode == 0
    fetched = site.git("fetch", site.host.url, branch, cwd=site.local["bob"], env=site.env["bob"])
    assert fetched.returncode == 0, fetched.stderr
    assert push(site, "--force", f"{second}:{branch}").returncode == 0
    assert site.refs()[branch] == second
    assert push(site, f":{branch}").returncode == 0
    assert branch not in site.refs()
    assert site.head() == ledger


# -- no way in


@pytest.mark.parametrize("site", ["http", "ssh", "gitolite"], indirect=True)
def test_wrong_credentials_are_an_error_and_no_question(site: Site) -> None:
    assert site.host.wrong
    start = time.monotonic()
    code, printed = on_a_terminal(site.claim_command("bob"), site.env["bob"] | site.host.wrong)
    assert time.monotonic() - start < 8
    error = json.loads(printed)["error"]  # the one line: nobody asked for anything
    assert (code, error["code"]) == (1, "remote-unreachable")
    assert re.search(r"Authentication failed|Permission denied", error["message"])
    assert hosts.WRONG_PASSWORD not in printed


@pytest.mark.parametrize("site", ["http"], indirect=True)
def test_no_password_is_asked_for_and_none_is_shown(site: Site) -> None:
    nobody = site.environment("bob", {"GIT_CONFIG_GLOBAL": os.devnull})
    url = site.host.url.replace("://", f"://agent:{hosts.WRONG_PASSWORD}@")
    for remote, why in [(site.host.url, "could not read Username"), (url, "Authentication failed")]:
        code, printed = on_a_terminal(site.claim_command("bob", "--remote", remote), nobody)
        error = json.loads(printed)["error"]
        assert (code, error["code"]) == (1, "remote-unreachable")
        assert why in error["message"]
        assert hosts.WRONG_PASSWORD not in printed


def test_a_repository_that_is_not_there_is_a_clear_error(site: Site) -> None:
    url = site.host.url.replace("/ledger", "/nothing")
    ledger = site.open("bob", site.empty_clone(site.new("lost")), remote=url)
    with pytest.raises(Failed) as failed:
        ledger.join()
    assert failed.value.code == "remote-unreachable"
    assert re.search(
        r"not appear|not exported|not found|denied", failed.value.message, re.IGNORECASE
    )


# -- faults


def test_a_write_whose_answer_is_lost_is_won_after_a_look(site: Site) -> None:
    ledger, before = site.through_proxy("alice"), site.head()
    with site.answer_lost(away=False):
        result = ledger.claim("unheard")
    assert result.outcome == "won"
    assert site.records_since(before) == 1
    assert ledger.connection.local.journal.intents() == []
    assert site.bob.claim("unheard").claims[0].session == result.claims[0].session


def test_a_write_whose_answer_is_lost_for_good_is_unknown_and_then_resolved(site: Site) -> None:
    ledger, before = site.through_proxy("alice"), site.head()
    with site.answer_lost(away=True), pytest.raises(OutcomeUnknown) as unknown:
        ledger.claim("unknown")
    assert unknown.value.code == "unknown-outcome"
    (settled,) = ledger.resolve()
    assert (settled.what, settled.outcome) == ("claim unknown", "landed")
    assert ledger.resolve() == []
    assert site.records_since(before) == 1
    assert ledger.show("unknown").session == ledger.connection.identity().session


def test_a_silent_server_ends_at_the_deadline_and_leaves_no_process(site: Site) -> None:
    mark, task = site.new(f"mark-{site.kind}"), site.new("silent")
    timeout = 0.4 if site.proxy else 1.0
    ledger = site.through_proxy("alice", timeout, mark)

    def others() -> list[str]:
        """Beside what reads packed objects for as long as the ledger is open."""
        return [line for line in survivors(mark) if "git cat-file --batch" not in line]

    # A push to a path has arrived when its server falls silent; elsewhere nothing was sent.
    expected = [(lambda: ledger.claim(task), "unknown-outcome", 5)]
    if site.proxy:
        expected = [(lambda: ledger.claim(task), "remote-unreachable", 1)]
        expected += [(ledger.head, "timeout", 1)]
    with site.silent():
        for call, code, exit_code in expected:
            start = time.monotonic()
            with pytest.raises(CoordledgerError, match="no answer within") as failed:
                call()
            assert timeout <= time.monotonic() - start < timeout + ENDING
            assert (failed.value.code, failed.value.exit_code) == (code, exit_code)
            # All were told to end before the call returned; give them the time to do so.
            wait_until(lambda: not others(), "a process was left behind", 1)
    ledger.close()
    assert not survivors(mark)
    later = site.open("alice", ledger.connection.settings.path)
    assert [settled.outcome for settled in later.resolve()] == ([] if site.proxy else ["voided"])
    assert later.claim(task).claims[0].epoch == 1


@pytest.mark.parametrize("site", ["daemon", "http"], indirect=True)
def test_a_slow_line_only_takes_longer(site: Site) -> None:
    ledger = site.through_proxy("bob")
    with site.faulty(Fault(delay=0.01)):
        assert ledger.claim("slow").outcome == "won"


@wired
def test_a_push_that_is_cut_off_in_the_middle_is_sent_again_and_lands_once(site: Site) -> None:
    ledger, before = site.through_proxy("alice"), site.head()
    with site.faulty(Fault(cut_up=25_000, once=True)):
        ledger.send(LARGE, channel="uploads")
        assert site.proxy.fault == Fault()  # it was cut
    assert site.records_since(before) == 1
    assert ledger.connection.local.journal.intents() == []


@wired
def test_a_server_that_is_away_is_an_error_and_leaves_nothing_open(site: Site) -> None:
    ledger, before = site.through_proxy("alice"), site.head()
    with site.faulty(Fault(refuse=True)), pytest.raises(Failed) as failed:
        ledger.claim("nobody-there")
    assert failed.value.code == "remote-unreachable"
    assert ledger.connection.local.journal.intents() == []
    assert site.head() == before


def test_half_an_answer_moves_nothing(site: Site) -> None:
    ledger = site.through_proxy("bob")
    before = ledger.connection.local.trusted
    sent = site.alice.send(LARGE, channel="downloads")
    with site.half_an_answer(20_000):
        with pytest.raises(Failed) as failed:
            ledger.head()
        assert failed.value.code == "remote-unreachable"
        assert failed.value.message
        assert ledger.connection.local.trusted == before
        assert ledger.connection.local.repository.ref(LEDGER_REF) == before.commit
        assert ledger.connection.local.repository.ref(ledger.connection.local.incoming) is None
    assert ledger.head().seq >= sent.seq
    assert ledger.messages("downloads")[-1].body == LARGE


# -- where the server sequences, as `init` leaves it


@pytest.fixture
def sequencing(site: Site) -> Iterator[Site]:
    """Nothing lands by proc-receive; but for gitolite, whose update hook has to be asked."""
    git = Git(site.server_env, site.root, Deadline(20))
    hooks.install_hook(site.host.path, git, sequence=True)
    hook = site.host.path / "hooks/proc-receive"
    whole = hook.read_text() if site.kind == "gitolite" else break_python(hook)
    yield site
    hook.write_text(whole)
    hooks.install_hook(site.host.path, git, sequence=False)


def test_what_is_sequenced_is_told_how_it_has_landed(sequencing: Site) -> None:
    """git refuses the push of what has landed in quarantine, and with it the whole chain."""
    site, before = sequencing, sequencing.head()
    site.alice.send("so that she hears of it", channel="general")
    won = site.alice.claim("sequenced")
    assert (won.outcome, won.claims[0].agent) == ("won", "alice")
    lost = site.bob.claim("sequenced")
    assert (lost.outcome, lost.code, lost.claims[0].agent) == ("lost", "held", "alice")
    tasks = [site.new("sequenced") for _ in range(3)]
    with site.alice.batch() as batch:
        for task in ("sequenced", *tasks):
            batch.submit(task)
    assert [one.code for one in batch.outcomes] == ["task-exists", "", "", ""]
    assert site.alice.complete("sequenced").status == "done"
    assert site.records_since(before) == 6
    oid = record(site)
    ran = push(site, f"{oid}:refs/for/coordledger/main.answered")
    assert f"coordledger: landed {oid} " in ran.stderr
    assert (ran.returncode == 0) == (site.kind == "gitolite")
    assert site.head() == oid
    for ledger in (site.alice, site.bob):
        assert ledger.head().commit == oid
        assert ledger.connection.local.journal.intents() == []


def test_a_sequenced_write_whose_answer_is_lost_is_won_after_a_look(sequencing: Site) -> None:
    site = sequencing
    ledger = site.through_proxy("alice")
    ledger.send("so that it hears of it", channel="general")
    before, task = site.head(), site.new("unheard")
    with site.answer_lost(away=False):
        assert ledger.claim(task).outcome == "won"
    assert site.records_since(before) == 1
    assert ledger.connection.local.journal.intents() == []


# -- afterwards


def test_everything_so_far_passes_an_audit_from_scratch(site: Site) -> None:
    path = site.empty_clone(site.new("auditor"))
    auditor = site.open("alice", path, remote=site.host.url)
    auditor.join(pin=site.founded.ledger)
    found = auditor.audit(full=True)
    count = site.records_since(site.founded.head) + 1
    assert found.head == site.head()
    assert (found.problems, found.verdicts) == ((), {"authentic": count})


# -- the suite itself


def test_a_missing_server_is_skipped_but_fails_in_ci() -> None:
    with pytest.raises(pytest.skip.Exception, match="needs sshd"):
        absent("ssh", hosts.Absent("sshd"), {})
    with pytest.raises(pytest.fail.Exception, match="needs sshd"):
        absent("ssh", hosts.Absent("sshd"), {"CI": "true"})


# -- code under a claim


def test_code_lands_under_a_claim_and_not_without_one(site: Site) -> None:
    main = f"refs/heads/{site.new('fenced')}"
    git = Git(site.server_env, site.root, Deadline(SECONDS))
    hooks.install_hook(site.host.path, git, fence=hooks.Fence("main", (main,)))
    try:
        new = site.code_commit(site.bob.connection.repository.root)
        before = site.refs()
        alone = push(site, f"{site.code_commit()}:{main}")
        assert alone.returncode != 0
        assert f"coordledger: refused -: fenced: {main} is fenced" in alone.stderr
        task = site.new("land")
        with pytest.raises(Failed):
            site.bob.push(f"{new}:{main}", task=task)
        assert site.refs() == before
        assert site.bob.claim(task).outcome == "won"
        done = site.bob.push(f"{new}:{main}", task=task, complete=True)
        assert [(one.ref, one.new) for one in done.refs] == [(main, new)]
        assert site.refs()[main] == new
        assert site.alice.show(task).status == "done"
        other = site.code_commit(site.bob.connection.repository.root)
        with pytest.raises(Lost):
            site.bob.push(f"+{other}:{main}", task=task)
        assert site.refs()[main] == new
    finally:
        hooks.install_hook(site.host.path, git, fence=hooks.Fence("main", (), anew=True))
