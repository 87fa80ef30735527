"""The proc-receive hook: its words with receive-pack, and which refs it answers for."""

from __future__ import annotations

import fcntl
import io
import re
import shlex
import shutil
import subprocess
import time
from socket import socketpair
from typing import TYPE_CHECKING

import pytest
from support.attacker import TRY_REF, packet, plain
from support.fleet import LEDGER_REF
from support.forgeries import code_commit, forged, good, submitted
from support.sequencing import (
    FOR_REF,
    ZERO,
    bring,
    landed,
    landed_lines,
    send,
    switch,
)

from coordledger.answers import Unknown
from coordledger.errors import RuleBroken
from coordledger.git.loose import Reader
from coordledger.server import proc_receive
from coordledger.server.admission import server_keyring
from coordledger.server.sequencer import Sequencer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import NoReturn

    from support.attacker import Attacker
    from support.fleet import Fleet
    from support.serve_process import ServeProcess


@pytest.fixture(scope="module")
def shared_fleet(sequenced_fleet: Fleet) -> Fleet:
    return sequenced_fleet


# -- which refs


def test_a_ledger_is_neither_made_nor_deleted_nor_misnamed(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid, head = good(attacker), attacker.tip
    assert send(attacker, oid, "refs/for/coordledger/other").slug == "no-create"
    for name in ("UPPER", "a.b", "a/b", "-x", "x" * 65):
        assert send(attacker, oid, f"refs/for/coordledger/{name}").slug == "bad-ref"
    assert send(attacker, oid, "refs/for/coordledger").slug == "bad-ref"
    zero = attacker.raw_push(oid, ZERO, FOR_REF)
    assert "no-delete" in zero.out
    assert attacker.tip == head
    assert not (shared_fleet.remote / "refs/for").exists()


@pytest.mark.parametrize(
    "ref", ["refs/For/coordledger/main", "refs/for/Coordledger/main", "refs/For/coordledger"]
)
@pytest.mark.parametrize("below", ["", "refs/heads/"])
def test_no_ref_is_made_that_looks_like_it(
    shared_fleet: Fleet, attacker: Attacker, ref: str, below: str
) -> None:
    oid = good(attacker)
    assert attacker.refusal(f"{oid}:{below}{ref}") == "bad-ref"


def test_a_branch_with_the_refs_full_name_cannot_take_its_pushes(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    """`git push` would take it for what is meant."""
    oid = good(attacker)
    assert attacker.refusal(f"{oid}:refs/heads/{FOR_REF}") == "bad-ref"
    assert len(landed(send(attacker, oid))) == 1


def test_one_refused_ref_stops_a_push_and_refs_that_pass_are_answered_each_on_its_own(
    own_attacker: Attacker,
) -> None:
    fleet = own_attacker.fleet
    fleet.git("update-ref", "refs/coordledger/twin", own_attacker.tip)
    right, code = good(own_attacker), code_commit(own_attacker)
    bad, head = forged(own_attacker), own_attacker.tip
    twin, branch = "refs/for/coordledger/twin", f"{code}:refs/heads/x"
    pushed = own_attacker.push(f"{right}:{FOR_REF}", f"{bad}:{twin}", branch)
    assert (pushed.slug, pushed.short) == ("bad-signature", bad[:12])
    assert landed_lines(pushed.err) == []
    assert own_attacker.tip == head
    assert "heads/x" not in own_attacker.refs()
    pushed = own_attacker.push(f"{right}:{FOR_REF}", f"{right}:{twin}", branch)
    assert [new for *_, new in landed_lines(pushed.err)] == [right, right]
    assert (pushed.code, own_attacker.tip, fleet.head("refs/heads/x")) == (0, right, code)
    # The same ledger by both ways: the ordinary one is too late.
    both = [submitted(own_attacker, task) for task in "ab"]
    pushed = own_attacker.push(f"{both[0]}:{FOR_REF}", f"{both[1]}:{LEDGER_REF}")
    assert (own_attacker.tip, pushed.code) == (both[0], 1)


def test_the_rest_of_a_refused_commit_does_not_speak_for_the_next_ledger(
    own_attacker: Attacker,
) -> None:
    """Bytes above the limit stay in git's pipe, behind which the next answers come."""
    fleet, lie = own_attacker.fleet, b"no record"
    for name in ("aaa", "bbb"):
        fleet.git("update-ref", f"refs/coordledger/{name}", own_attacker.tip)
    fleet.git("config", "receive.unpackLimit", "1")
    fleet.git("pack-refs", "--all")
    lying = f"{own_attacker.tip} commit {len(lie)}\n".encode() + lie + b"\n"
    large = own_attacker.add("commit", f"tree {own_attacker.tree()}\n".encode() + lying * 4500)
    right = good(own_attacker)
    bring(own_attacker, large, right)
    asked = [(large, "aaa"), (large, "bbb"), (right, "main")]
    lines = [packet(f"{ZERO} {oid} refs/for/coordledger/{to}".encode()) for oid, to in asked]
    ran = plain(
        *(fleet.remote / "hooks/proc-receive",),
        cwd=fleet.remote,
        env=fleet.env | {"GIT_DIR": "."},
        data=b"000eversion=1\n0000" + b"".join(lines) + b"0000",
    )
    assert ran.stdout.count(b"too-large") == 2
    assert f"coordledger: landed {right} " in ran.stderr.decode()
    assert own_attacker.tip == right


def test_a_ref_that_stands_in_the_list_twice_is_refused(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    oid, head = good(attacker), attacker.tip
    line = packet(f"{ZERO} {oid} {FOR_REF}".encode())
    ran = plain(
        *(shared_fleet.remote / "hooks/proc-receive",),
        cwd=shared_fleet.remote,
        env=shared_fleet.env
        | {"GIT_DIR": ".", "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(attacker.folder / "objects")},
        data=b"000eversion=1\n0000" + line * 2 + b"0000",
    )
    assert ran.stdout.count(b"ng refs/for/coordledger/main bad-push") == 2
    assert attacker.tip == head


def test_the_time_for_many_refs_grows_with_their_number() -> None:
    count, asked = 40_000, 0

    def make(_: str) -> NoReturn:
        nonlocal asked
        asked += 1
        raise RuleBroken("no-create")

    commands = [("1" * 40, f"{FOR_REF}-{number}") for number in range(count)]
    out, began = io.BytesIO(), time.process_time()
    proc_receive.answer_commands(
        [*commands, commands[0]], out, io.StringIO(), make, atomic=False, asked=False
    )
    assert time.process_time() - began < 5
    assert asked == count - 1
    assert (out.getvalue().count(b" no-create"), out.getvalue().count(b" bad-push")) == (asked, 2)


# -- what git says beside


def test_an_atomic_push_is_refused_as_a_whole(shared_fleet: Fleet, attacker: Attacker) -> None:
    """git could take back the others, and never what the hook has landed."""
    oid, head = good(attacker), attacker.tip
    branch = f"{code_commit(attacker)}:refs/heads/atomic"
    pushed = attacker.push("--atomic", f"{oid}:{FOR_REF}", branch)
    assert pushed.slug == "bad-push"
    assert "atomic" in pushed.said[0]
    assert attacker.tip == head
    assert not plain(
        "git", "show-ref", "refs/heads/atomic", cwd=shared_fleet.remote, env=shared_fleet.env
    ).stdout


def test_push_options_and_a_namespace_change_nothing(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    shared_fleet.git("config", "receive.advertisePushOptions", "true")
    oid = good(attacker)
    assert len(landed(attacker.push("-o", "coordledger=off", f"{oid}:{FOR_REF}"))) == 1
    bad = forged(attacker)
    pushed = attacker.push(f"{bad}:{FOR_REF}", env={"GIT_NAMESPACE": "elsewhere"})
    assert pushed.slug == "bad-signature"


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"00",
        b"zzzz",
        b"0003",
        b"000eversion=1\n",
        b"000eversion=1\n0000",
        b"000eversion=1\n00000009x y z",
        b"000eversion=1\n0000000chello0000",
        packet(b"version=1\n") + b"0000" + packet(b"x" * 65_000) + b"0000",
        b"000eversion=1\n0000" + packet(b"\xff\xfe refs/for/coordledger/\xff x") + b"0000",
    ],
)
def test_odd_input_is_answered_with_a_line_or_a_no(shared_fleet: Fleet, given: bytes) -> None:
    ran = plain(
        *(shared_fleet.remote / "hooks/proc-receive",),
        cwd=shared_fleet.remote,
        env=shared_fleet.env | {"GIT_DIR": "."},
        data=given,
    )
    assert b"ok " not in ran.stdout
    lines = ran.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("coordledger: refused ")
    assert lines[0].isascii()
    assert lines[0].isprintable()


SHELLS = [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_any_shell_speaks_with_git_and_hands_over_the_rest(
    own_attacker: Attacker, served: ServeProcess, shell: list[str]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    oid = good(own_attacker)
    assert len(landed(send(own_attacker, oid))) == 1
    one = packet(f"{ZERO} {oid} {FOR_REF}".encode())
    two = packet(f"{ZERO} {oid} refs/for/coordledger/none".encode())
    odd = packet(f"{ZERO} {oid} refs/for/coordledger/".encode() + b"\xff\xe3")
    for version, commands, answers in [
        (b"version=1\n", one, [b"ok refs/for/coordledger/main"]),
        (b"version=1\0push-options\n", one, [b"ok refs/for/coordledger/main"]),
        (b"version=1\0atomic\n", one, [b"ng refs/for/coordledger/main bad-push"]),
        (b"version=1\0push-options atomic\n", one, [b"ng refs/for/coordledger/main bad-push"]),
        (b"version=1\n", two, [b"ng refs/for/coordledger/none no-create"]),
        (b"version=1\n", odd, [b"ng refs/for/coordledger/\xff\xe3 bad-ref"]),
        (b"version=1\n", one + two, [b"ok refs/for/coordledger/main", b"none no-create"]),
        (b"version=1\n", two + odd + one, [b"none no-create", b"\xff\xe3 bad-ref", b"ok refs"]),
    ]:
        ours, theirs = socketpair()
        with ours, theirs, ours.makefile("rb") as answer:
            process = subprocess.Popen(
                [*shell, own_attacker.fleet.remote / "hooks/proc-receive"],
                cwd=own_attacker.fleet.remote,
                env=own_attacker.fleet.env | {"GIT_DIR": "."},
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE,
            )
            # As git does it: the pipe stays open, and nothing comes before the version's answer.
            ours.settimeout(20)
            ours.sendall(packet(version) + b"0000")
            assert proc_receive.read_lines(answer.read) == [b"version=1"]
            ours.sendall(commands + b"0000")
            said = b"\n".join(proc_receive.read_lines(answer.read))
            process.communicate(timeout=20)
        assert process.returncode == 0
        assert all(text in said for text in answers), said
        assert said.count(b"ok ") + said.count(b"ng ") == len(answers)


def test_what_is_not_one_plain_command_goes_to_python(
    own_attacker: Attacker, served: ServeProcess
) -> None:
    fleet = own_attacker.fleet
    fleet.git("update-ref", "refs/coordledger/twin", own_attacker.tip)
    fleet.git("config", "receive.advertisePushOptions", "true")
    oid = good(own_attacker)
    both = own_attacker.push(f"{oid}:{FOR_REF}", f"{oid}:refs/for/coordledger/twin")
    assert len(landed(both)) == 2
    other = submitted(own_attacker, "t")
    assert len(landed(own_attacker.push("-o", "x", f"{other}:{FOR_REF}"))) == 1
    third = submitted(own_attacker, "u")
    atomic = ("--atomic", f"{third}:{FOR_REF}", f"{third}:refs/for/coordledger/twin")
    said = own_attacker.push(*atomic).said
    assert [line.split(": ")[2] for line in said] == ["bad-push", "bad-push"]
    assert landed(own_attacker.push("-o", "x", f"{other}:{FOR_REF}"))[0][2] == own_attacker.tip


def test_a_hook_that_asked_a_resident_and_gets_no_turn_does_not_know(
    own_attacker: Attacker, served: ServeProcess, crashing: Callable[..., list[str]]
) -> None:
    """It may have stopped in the middle of its own turn."""
    oid = good(own_attacker)
    line = f"{ZERO} {oid} {FOR_REF}"
    bring(own_attacker, oid)
    crashing(0, seconds=1)
    with (own_attacker.fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        argv = (own_attacker.fleet.remote / "hooks/proc-receive").read_text().splitlines()[-1]
        given = f"0000{packet(line.encode()).decode()}0000"
        ran = plain(
            *("sh", "-c", f"{argv} 000eversion=1 {shlex.quote(given)}"),
            cwd=own_attacker.fleet.remote,
            env=own_attacker.fleet.env | {"GIT_DIR": "."},
        )
    assert ran.stdout == b"0000"
    assert ran.stderr.startswith(b"coordledger: unknown ")


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RuleBroken("busy", why="no turn"), "busy"),
        (RuleBroken("no-create"), "no-create"),
        (OSError(5, "sick"), "hook-broken"),
        (RuntimeError("odd"), "hook-broken"),
    ],
    ids=["busy", "rule", "disk", "odd"],
)
def test_no_is_said_where_nothing_can_have_landed(asked: bool, fault: Exception, code: str) -> None:
    """A resident that was asked may be why there is no turn, or go on with its own."""

    def make(name: str) -> Sequencer:
        raise fault

    outcome = proc_receive.land_command(("a" * 40, FOR_REF), make, asked=asked)
    if asked and code != "no-create":
        assert isinstance(outcome, Unknown)
    else:
        assert not isinstance(outcome, Unknown)
        assert outcome.code == code


@pytest.mark.parametrize("asked", [False, True])
def test_what_may_have_moved_the_ref_is_no_refusal(
    attacker: Attacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """There is no git that could say whether it has."""
    head, oid = attacker.tip, good(attacker)
    bring(attacker, oid)
    environ = {"GIT_DIR": str(attacker.fleet.remote)}

    def make(name: str) -> Sequencer:
        keyring = server_keyring(f"{attacker.fleet.remote}/coordledger")
        return Sequencer(name, environ).use(Reader(environ), keyring)

    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        outcome = proc_receive.land_command((oid, FOR_REF), make, asked=asked)
    assert isinstance(outcome, Unknown)
    assert attacker.tip == head


# -- a hook that cannot work


@pytest.mark.parametrize("line", ["python=/nowhere/python3", "package=/nowhere"])
def test_a_hook_that_cannot_start_refuses_records_and_nothing_else(
    own_attacker: Attacker, line: str
) -> None:
    hook = own_attacker.fleet.remote / "hooks/proc-receive"
    hook.write_text(re.sub(f"(?m)^{line.partition('=')[0]}=.*", line, hook.read_text()))
    oid, head = good(own_attacker), own_attacker.tip
    pushed = own_attacker.push(f"{oid}:{FOR_REF}", f"{code_commit(own_attacker)}:refs/heads/x")
    assert pushed.slug == "hook-broken"
    assert own_attacker.tip == head
    assert own_attacker.fleet.head("refs/heads/x")


def test_an_exposed_master_and_a_full_disk_land_nothing(own_attacker: Attacker) -> None:
    remote, oid, head = (
        own_attacker.fleet.remote,
        good(own_attacker),
        own_attacker.tip,
    )
    (remote / "coordledger/master").chmod(0o644)
    assert send(own_attacker, oid).slug == "hook-broken"
    (remote / "coordledger/master").chmod(0o600)
    assert own_attacker.tip == head


# -- on and off


def test_a_push_to_a_ledger_learns_that_it_is_sequenced(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    said = "remote: coordledger: sequenced"
    for ref in (LEDGER_REF, TRY_REF):
        oid = good(attacker)
        assert attacker.push(f"{oid}:{ref}").err.count(said) == 1
    assert said not in attacker.push(f"{code_commit(attacker)}:refs/heads/y").err
    switch(shared_fleet, sequence=False)
    oid = good(attacker)
    assert said not in attacker.push(f"{oid}:{TRY_REF}").err
    switch(shared_fleet, sequence=True)


def test_where_it_is_off_pushes_are_refused_and_make_no_ref(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    oid = attacker.propose(attacker.signed("alice", "void"))
    assert attacker.refusal(f"{oid}:{FOR_REF}") == "not-sequenced"
    assert attacker.refusal(f"{oid}:refs/For/coordledger/main") == "bad-ref"
    assert attacker.push(f"{code_commit(attacker)}:refs/for/master").slug == ""  # nobody's of ours
    switch(fleet, sequence=True)
    config = fleet.remote / "config"
    hook = fleet.remote / "hooks/proc-receive"
    assert len(landed(send(attacker, oid))) == 1
    # Half of it taken away by hand is off, too.
    text = config.read_text()
    for broken in (
        text.replace("procReceiveRefs", "xprocReceiveRefs"),
        text.replace("[receive]", "[x]"),
    ):
        config.write_text(broken)
        assert attacker.refusal(f"{oid}:{FOR_REF}") == "not-sequenced"
    config.write_text(text)
    hook.chmod(0o644)
    assert attacker.refusal(f"{oid}:{FOR_REF}") == "not-sequenced"
    hook.chmod(0o755)
    assert len(landed(send(attacker, oid))) == 1
