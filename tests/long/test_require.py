"""The gate across hosts: it opens for a vouch of this moment, and for what a key here checks."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.hookless_host import forge
from support.other_host import OtherHost

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline, unix_ms
from coordledger.errors import CoordledgerError, Integrity
from coordledger.format import timestamps
from coordledger.format.chain import UNVERIFIED
from coordledger.setup.doctor import examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet
    from support.hookless_host import HooklessHost

    from coordledger.format.chain import Judged

HOUR = 3_600_000


def refusal(act: Callable[[], object]) -> str:
    """The slug with which `act` is refused, or "" if it is not."""
    try:
        act()
    except CoordledgerError as refused:
        return refused.code
    return ""


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    made = make_fleet(max_skew=10)
    made.enroll("bob")
    return made


@pytest.fixture
def bob(fleet: Fleet) -> OtherHost:
    return OtherHost(fleet, "bob")


def take_hook_away(fleet: Fleet) -> None:
    (fleet.remote / "hooks" / "pre-receive").rename(fleet.root / "hook")


def put_hook_back(fleet: Fleet) -> None:
    (fleet.root / "hook").rename(fleet.remote / "hooks" / "pre-receive")


def with_hook(fleet: Fleet, script: str) -> None:
    """The server's hook is this shell script."""
    path = fleet.remote / "hooks" / "pre-receive"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def say(line: str) -> str:
    return f"echo '{line}' >&2"


def vouch_for(fleet: Fleet) -> str:
    """The line that the server's hook would say now."""
    head = fleet.ledger("alice").head()
    return f"coordledger: vouch {head.ledger} {head.seq}:{head.digest} at {now()}"


def now() -> str:
    return timestamps.show(unix_ms())


def tries(fleet: Fleet) -> str:
    return fleet.git("for-each-ref", "refs/coordledger-try")


def test_it_opens_across_hosts_while_the_server_vouches(fleet: Fleet, bob: OtherHost) -> None:
    fleet.ledger("alice").claim("t")
    with bob.ledger() as ledger:
        claim = ledger.require("t", by="alice", epoch=1)
        assert (claim.verdict, claim.checked) == ("unverified", "server")
        assert bob.called() == ["receive", "upload"]
        assert refusal(lambda: ledger.require("t", check="here")) == "no-key"
        ledger.claim("mine")
        assert ledger.require("mine", epoch=1, check="here").checked == "here"
        assert ledger.require("mine", epoch=1).checked == "here"


def test_it_needs_no_key_that_fits(fleet: Fleet, bob: OtherHost) -> None:
    alice = fleet.ledger("alice")
    alice.claim("t")
    alice.revoke("bob")
    with bob.ledger() as ledger:
        assert ledger.require("t", by="alice").checked == "server"


def test_it_stays_shut_when_the_hook_has_gone(fleet: Fleet, bob: OtherHost) -> None:
    fleet.ledger("alice").claim("t")
    with bob.ledger() as ledger:
        ledger.claim("mine")
        assert ledger.require("t").checked == "server"
        take_hook_away(fleet)
        assert refusal(lambda: ledger.require("t")) == "nobody-checked"
        assert ledger.status().enforcement == "none"
        assert ledger.require("mine", epoch=1).checked == "here"
        assert ledger.show("t").checked == "server"  # when it came, it was
        fleet.ledger("alice").claim("later")
        later = ledger.show("later")
        assert later.last
        assert (later.checked, later.last.checked) == ("nobody", "nobody")
        assert refusal(lambda: ledger.require("later")) == "nobody-checked"
        assert tries(fleet) == ""
        put_hook_back(fleet)
        assert ledger.require("later").checked == "server"  # it has verified the gap
        assert ledger.status().enforcement == "server"


def test_it_stays_shut_while_the_hook_finds_what_it_cannot_vouch_for(
    host: HooklessHost, fleet: Fleet, bob: OtherHost
) -> None:
    fleet.ledger("alice").claim("t")
    with bob.ledger() as ledger:
        ledger.claim("mine")
        take_hook_away(fleet)
        forge_in(fleet)
        put_hook_back(fleet)
        assert refusal(lambda: ledger.require("t")) == "invalid-below"
        assert refusal(lambda: ledger.require("mine", epoch=1)) == "invalid-below"
        assert ledger.require("mine", epoch=1, check="here").checked == "here"
        assert ledger.status().enforcement == "unknown"


def forge_in(fleet: Fleet) -> None:
    """A record of alice's whose MAC is of nobody lands."""
    forge(_AsHost(fleet), "alice")  # type: ignore[arg-type]


class _AsHost:
    """A fleet without its hook, for `forge`."""

    def __init__(self, fleet: Fleet) -> None:
        self.root, self.ledger, self.url = fleet.root, fleet.ledger, str(fleet.remote)
        self.git = fleet.git


@pytest.mark.parametrize("off", [-2 * HOUR, 2 * HOUR])
def test_a_lease_ends_by_the_servers_clock_and_by_this_ones(
    fleet: Fleet, bob: OtherHost, off: int
) -> None:
    fleet.ledger("alice").claim("short", ttl=timedelta(seconds=13))
    fleet.ledger("alice").claim("long", ttl=timedelta(hours=1))
    with bob.ledger() as ledger:
        ledger.tasks()
    with bob.ledger(clock=lambda: unix_ms() + off) as ledger:
        assert refusal(lambda: ledger.require("long")) == ("" if off < 0 else "not-live")
        wait = 13 - 10  # a lease counts until a skew before its end
        end = unix_ms() + 1000 * wait
        while unix_ms() < end + 100:
            pass
        assert refusal(lambda: ledger.require("short")) == "not-live"  # no record has come since


def test_where_no_hook_tells_the_time_the_chain_does(host: HooklessHost) -> None:
    host.found()
    with host.ledger("alice") as alice:
        claim = alice.claim("t", ttl=timedelta(minutes=2)).claim
        assert claim
        assert claim.expires_at
        assert alice.require("t", epoch=1).checked == "here"
        later = int(claim.expires_at.timestamp() * 1000) + 1000
        alice.connection.clock = lambda: later
        alice.connection.replica.clock = lambda: later
        alice.submit("newer")
        alice.connection.clock = lambda: later - 2 * HOUR
        assert refusal(lambda: alice.require("t", epoch=1)) in ("not-live", "from-future")


def test_where_no_hook_has_ever_answered_a_gate_that_can_do_without_leaves_it_alone(
    host: HooklessHost,
) -> None:
    host.found()
    pushes = host.root / "pushes"
    hook = host.path / "hooks" / "post-receive"
    hook.write_text(f"#!/bin/sh\ncat >> {pushes}\n")
    hook.chmod(0o755)
    with host.ledger("alice") as alice:
        alice.claim("t")
        pushes.write_text("")
        assert alice.require("t", epoch=1).checked == "here"
        assert pushes.read_text() == ""
    assert host.git("for-each-ref", "--format=%(refname)") == "refs/coordledger/main"


def test_a_vouch_of_another_address_counts_for_nothing(fleet: Fleet, bob: OtherHost) -> None:
    fleet.ledger("alice").claim("t")
    with bob.ledger() as ledger:
        assert ledger.require("t").checked == "server"
    copied = fleet.root / "copied.git"
    shutil.copytree(fleet.remote, copied)
    (copied / "hooks" / "pre-receive").unlink()
    fleet.git("remote", "set-url", "origin", f"host:{copied}", cwd=bob.path)
    with bob.ledger() as ledger:
        status = ledger.status()
        assert (status.enforcement, status.vouched) == ("unknown", None)
        assert ledger.show("t").checked == "nobody"
        assert refusal(lambda: ledger.require("t")) == "nobody-checked"
        assert ledger.status().enforcement == "none"


PRINTED = {
    "in the middle of a line": lambda line: f"welcome: {line}",
    "with more behind it": lambda line: f"{line}, believe me",
    "another ledger's": lambda line: line.replace(line.split()[2], "ab" * 16),
    "of a record that there is not": lambda line: line.replace(
        line.split()[3], f"99999:{'12' * 32}"
    ),
    "of another history": lambda line: line.replace(line.split()[3].split(":")[1], "12" * 32),
    "of a day that there is not": lambda line: line[:-24] + "2026-02-30T00:00:00.000Z",
}


@pytest.mark.parametrize("how", PRINTED)
def test_what_only_looks_like_a_vouch_opens_nothing(fleet: Fleet, bob: OtherHost, how: str) -> None:
    fleet.ledger("alice").claim("t")
    line = vouch_for(fleet)
    refused = "coordledger: refused -: try-ok: a try"
    with_hook(fleet, f"{say(PRINTED[how](line))}\n{say(refused)}\nexit 1")
    with bob.ledger() as ledger:
        expected = {
            "of a record that there is not": "remote-behind",
            "of another history": "vouch-differs",
        }
        assert refusal(lambda: ledger.require("t")) == expected.get(how, "nobody-checked")


def test_a_server_that_lies_well_is_believed_and_one_that_lands_tries_is_not(
    fleet: Fleet, bob: OtherHost
) -> None:
    """A vouch is the server's word: nothing but the way there says whose."""
    fleet.ledger("alice").claim("t")
    line = vouch_for(fleet)
    with_hook(fleet, f"{say(line)}\nexit 1")
    with bob.ledger() as ledger:
        assert ledger.require("t").checked == "server"
        with_hook(fleet, say(line))  # no hook of ours takes a try
        assert refusal(lambda: ledger.require("t")) == "nobody-checked"
        assert tries(fleet) == ""


def test_a_server_that_lands_a_forged_try_enforces_nothing(fleet: Fleet, bob: OtherHost) -> None:
    fleet.ledger("alice").claim("t")
    line, tried = vouch_for(fleet), fleet.root / "tried"
    real = f"{say(line)}; {say('coordledger: refused -: try-ok: a try')}; touch {tried}; exit 1"
    with_hook(fleet, f"[ -e {tried} ] && exit 0\n{real}")
    checks = examine(Options(bob.path, agent="bob"), bob.env)
    assert [check.ok for check in checks if check.name == "enforcement"] == [False]
    with bob.ledger() as ledger:
        assert ledger.status().enforcement == "none"
    assert tries(fleet) == ""


def test_a_server_whose_clock_is_far_off_shuts_it_and_opens_nothing(
    fleet: Fleet, bob: OtherHost
) -> None:
    fleet.ledger("alice").claim("t", ttl=timedelta(minutes=20))
    line = vouch_for(fleet)
    for off, code in ((2 * HOUR, "not-live"), (-2 * HOUR, "")):
        at = timestamps.show(unix_ms() + off)
        with_hook(fleet, f"{say(line[:-24] + at)}\nexit 1")
        with bob.ledger() as ledger:
            assert refusal(lambda ledger=ledger: ledger.require("t")) == code
        with bob.ledger(clock=lambda: unix_ms() + HOUR) as ledger:  # the later of both counts
            assert refusal(lambda ledger=ledger: ledger.require("t")) == "not-live"


def test_the_last_moment_that_there_is_shuts_it_like_any_other(
    fleet: Fleet, bob: OtherHost
) -> None:
    fleet.ledger("alice").claim("t")
    line = vouch_for(fleet)
    with_hook(fleet, f"{say(line[:-24] + '9999-12-31T23:59:59.999Z')}\nexit 1")
    with bob.ledger() as ledger:
        assert refusal(lambda: ledger.require("t")) == "not-live"
        vouched = ledger.status().vouched
        assert vouched
        assert vouched.at.year == 9999


@pytest.mark.parametrize("older", [1, 2])
def test_an_older_vouch_that_is_said_again_opens_nothing(
    fleet: Fleet, bob: OtherHost, older: int
) -> None:
    """What the server has vouched for before shows how it was then."""
    alice = fleet.ledger("alice")
    lines = [vouch_for(fleet)]
    alice.submit("u")
    lines.append(vouch_for(fleet))
    alice.claim("t")
    with bob.ledger() as ledger:
        assert ledger.require("t").checked == "server"
        with_hook(fleet, f"{say(lines[-older])}\nexit 1")
        assert refusal(lambda: ledger.require("t")) == "nobody-checked"
        assert ledger.show("t").checked == "server"


def test_a_server_that_was_restored_to_an_older_copy_opens_nothing(
    fleet: Fleet, bob: OtherHost, tmp_path: Path
) -> None:
    alice = fleet.ledger("alice")
    alice.claim("t")
    shutil.copytree(fleet.remote, tmp_path / "backup.git")
    alice.submit("u")
    with bob.ledger() as ledger:
        assert ledger.require("t").checked == "server"
        shutil.rmtree(fleet.remote)
        shutil.copytree(tmp_path / "backup.git", fleet.remote)
        assert refusal(lambda: ledger.require("t")) == "remote-behind"
        assert refusal(ledger.tasks) == "remote-behind"


def test_a_shallow_copy_stands_on_the_vouch(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    alice.claim("t")
    alice.submit("u")
    bob = OtherHost(fleet, "bob", depth=1)
    assert (bob.joined.whole, bob.joined.enforcement) == (False, "server")
    with bob.ledger() as ledger:
        assert {claim.checked for claim in ledger.tasks()} == {"server"}
        assert ledger.require("t").commit is None
        assert ledger.audit(full=True).checked == {"server": 1}
        assert ledger.claim("u").won
        assert ledger.require("u", epoch=1).checked == "here"
        alice.submit("v")
        take_hook_away(fleet)
        assert refusal(lambda: ledger.require("t")) == "nobody-checked"


def test_a_shallow_copy_goes_by_no_vouch_that_ends_below_it(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    alice.claim("t")
    line = vouch_for(fleet)
    alice.submit("u")
    bob = OtherHost(fleet, "bob", depth=1)
    with bob.ledger() as ledger:
        assert ledger.require("t").checked == "server"
        with_hook(fleet, f"{say(line)}\nexit 1")
        assert refusal(lambda: ledger.require("t")) == "nobody-checked"


def test_one_who_reads_asks_for_a_vouch_before_nobody_is_said(fleet: Fleet, bob: OtherHost) -> None:
    alice = fleet.ledger("alice")
    alice.claim("t")
    alice.send("hello", to="bob")
    with bob.ledger() as ledger:
        assert ledger.show("t").checked == "server"
        assert bob.called() == ["upload", "receive"]
        assert [event.checked for event in ledger.history("t")] == ["server"]
        assert [message.checked for message in ledger.inbox()] == ["server"]
        assert set(bob.called()) == {"upload"}
        assert ledger.audit(full=True).checked == {"server": ledger.head().seq + 1}
        bob.called()
        assert ledger.claim("t").outcome == "lost"  # who only wants to write has no time for it
        assert bob.called() == ["upload"]
        take_hook_away(fleet)
        alice.submit("u")
        assert ledger.show("u").checked == "nobody"
        assert bob.called() == ["upload", "receive", "receive"]  # it landed, and was deleted
        assert ledger.show("u").checked == "nobody"
        assert bob.called() == ["upload"]
        assert [one.task for one in ledger.some_tasks(checked="nobody").tasks] == ["u"]
        assert [one.task for one in ledger.some_tasks(checked="server").tasks] == ["t"]
        assert ledger.some_tasks(checked="here").count == 0
    assert tries(fleet) == ""


def test_an_audit_that_takes_long_asks_all_the_same(fleet: Fleet, bob: OtherHost) -> None:
    fleet.ledger("alice").claim("t")
    with bob.ledger() as ledger:
        git, judge = ledger.connection.git, ledger.connection.replica.judge

        def judge_late(*given: Any) -> Iterator[Judged]:
            git.work_until(Deadline(0))
            yield from judge(*given)

        ledger.connection.replica.judge = judge_late  # type: ignore[method-assign]
        assert ledger.audit(full=True).checked == {"server": ledger.head().seq + 1}


def test_a_bad_record_is_not_forgotten_where_a_vouch_was_asked_for_in_vain(
    fleet: Fleet, bob: OtherHost
) -> None:
    alice = fleet.ledger("alice")
    alice.claim("t")
    with bob.ledger() as ledger:
        connection, stop = ledger.connection, Integrity("from-future", "the next one is")
        connection.read()
        connection.replica.stop = stop
        alice.submit("u")  # so that the vouch leads to another look at the remote
        ssh = fleet.root / "ssh-bob"
        ssh.write_text(
            ssh.read_text().replace("exec sh", "case $1 in *upload*) exit 1; esac; exec sh")
        )
        bob.called()
        assert connection.replica.vouches.who_checked(UNVERIFIED, 2) == "nobody"
        assert bob.called() == ["receive", "upload"]
        assert connection.replica.stop is stop


def test_who_may_not_push_reads_on_and_asks_only_once(fleet: Fleet, bob: OtherHost) -> None:
    fleet.ledger("alice").claim("t")
    with bob.ledger() as ledger:
        ssh = fleet.root / "ssh-bob"
        ssh.write_text(
            ssh.read_text().replace("exec sh", "case $1 in *receive*) exit 1; esac; exec sh")
        )
        bob.called()
        for calls in (["upload", "receive"], ["upload"]):
            assert ledger.show("t").checked == "nobody"
            assert bob.called() == calls
        assert refusal(lambda: ledger.require("t")) == "remote-unreachable"


@pytest.mark.parametrize("content", ["", "try\n", "other"])
def test_a_try_that_was_cut_off_is_in_nobodys_way(
    fleet: Fleet, bob: OtherHost, content: str
) -> None:
    """It lay there while the hook was away; the hook now lets nobody delete it."""
    blob = fleet.root / "blob"
    blob.write_text(content)
    oid = fleet.git("hash-object", "-w", str(blob)).strip()
    fleet.git("update-ref", "refs/coordledger-try/main", oid)
    fleet.ledger("alice").submit("t")
    with bob.ledger() as ledger:
        assert ledger.show("t").checked == "server"


@pytest.mark.parametrize("grown", [False, True])
def test_what_was_vouched_for_and_then_cut_off_is_in_nobodys_way(
    fleet: Fleet, bob: OtherHost, grown: bool
) -> None:
    """The hook takes a record from the future that came without it; the owner does not."""
    alice = fleet.ledger("alice")
    alice.claim("t")
    with bob.ledger() as ledger:
        assert ledger.require("t").checked == "server"
        take_hook_away(fleet)
        with Ledger.open(
            fleet.clone("ahead"), "alice", environ=fleet.env, clock=lambda: unix_ms() + HOUR
        ) as ahead:
            ahead.submit("from-the-future")
            if grown:
                ahead.submit("on-top-of-it")
        put_hook_back(fleet)
        assert refusal(lambda: ledger.require("t")) == "from-future"
        fleet.run("repair", fleet.remote, "--yes", check=0)
        if grown:
            alice.submit("u")
        assert ledger.require("t").checked == "server"
        alice.submit("v")
        assert ledger.require("t").checked == "server"
        assert ledger.status().stopped_at is None
