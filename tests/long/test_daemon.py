"""The resident verifier: the same verdicts sooner, and nothing but speed depends on it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.attacker import TRY_REF, Attacker, fsck, plain, second_opinion
from support.fleet import LEDGER_REF, Fleet
from support.forgeries import forged, good
from support.serve_process import serving, without_python

from coordledger.answers import Vouch, parse
from coordledger.server.daemon import MAX_AT_ONCE, MAX_REQUEST, Daemon
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def request(attacker: Attacker, new: str, *, there: Path | None = None, objects: str = "") -> bytes:
    """The hook's request; without quarantine the attacker's own objects are seen."""
    remote = attacker.fleet.remote
    head = f"coordledger 1 pre-receive\ndir={there or remote}\nobjects={objects}\n"
    head += f"alternates={attacker.folder / 'objects'}\nsequenced=\n\n"
    return f"action=get\ntimeout=900\n{head}{attacker.tip} {new} {LEDGER_REF}\nend\n".encode()


def say(fleet: Fleet, data: bytes) -> str:
    """The answer of the resident."""
    with closing(socket.socket(socket.AF_UNIX)) as asking:
        asking.settimeout(20)
        asking.connect(f"/proc/self/fd/{_folder(fleet)}/socket")
        try:
            asking.sendall(data)
            asking.shutdown(socket.SHUT_WR)
            parts = []
            while part := asking.recv(4096):
                parts.append(part)
        except TimeoutError:
            raise
        except OSError:  # closed before everything was said
            return ""
    return b"".join(parts).decode()


def passes(answer: str) -> bool:
    """Whether a resident lets a push to one ledger pass."""
    first, _, vouch = answer.partition("\n")
    return first == "coordledger 1 pass" and isinstance(parse(vouch.removesuffix("\n")), Vouch)


_OPEN: dict[Path, int] = {}


def _folder(fleet: Fleet) -> int:
    """The folder's descriptor: whole paths in a test are too long for a socket's name."""
    path = fleet.remote / "coordledger"
    if path not in _OPEN:
        _OPEN[path] = os.open(path, os.O_RDONLY)
    return _OPEN[path]


# -- the same verdicts


@pytest.fixture(scope="module")
def served(shared_fleet: Fleet) -> Iterator[Fleet]:
    """The file's fleet, with a resident and without any other way to pass."""
    with serving(shared_fleet), without_python(shared_fleet):
        yield shared_fleet


@pytest.fixture
def attacker(served: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(served)


def test_right_records_pass_by_the_word_of_the_resident_alone(attacker: Attacker) -> None:
    assert attacker.push(good(attacker)).slug == ""
    assert attacker.push(attacker.voids(3)[-1]).slug == ""
    assert attacker.push(attacker.voids(150)[-1]).slug == ""  # git keeps these in a pack


def test_a_claim_of_the_api_passes(served: Fleet) -> None:
    bob = served.ledger("bob")
    assert bob.claim("resident").outcome == "won"
    assert bob.claim("resident").outcome == "lost"


def test_other_pushes_and_tries_and_noise(attacker: Attacker, served: Fleet) -> None:
    code = attacker.add(
        "commit",
        b"tree %s\nauthor x <x> 1 +0000\ncommitter x <x> 1 +0000\n\nx\n"
        % (attacker.tree().encode()),
    )
    assert attacker.push(f"{code}:refs/heads/beside").slug == ""
    assert attacker.push(f"{code}:refs/heads/with", good(attacker)).slug == ""
    assert attacker.refusal(f"{code}:refs/heads/without", forged(attacker)) == "bad-signature"
    assert attacker.refusal(f"{good(attacker)}:{TRY_REF}") == "try-ok"
    noise = {
        "GIT_TRACE": "1",
        "GIT_TRACE2": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": "!touch here",
        "GIT_ASKPASS": "/bin/false",
        "LC_ALL": "C.UTF-8",
    }
    assert attacker.push(forged(attacker), env=noise).slug == "bad-signature"
    assert attacker.push(good(attacker), env=noise).slug == ""


def test_after_a_collection_everything_is_read_from_packs(
    attacker: Attacker, served: Fleet
) -> None:
    assert attacker.push(good(attacker)).slug == ""
    for _ in range(2):  # the second time the packs that git had open are gone
        served.git("gc", "--quiet", "--prune=now")
        assert not (served.remote / LEDGER_REF).exists()
        assert attacker.refusal(forged(attacker)) == "bad-signature"
        assert attacker.push(good(attacker)).slug == ""
        assert attacker.push(good(attacker)).slug == ""


def test_what_a_refused_push_brought_is_forgotten(attacker: Attacker) -> None:
    first = good(attacker)
    second = good(attacker, on=first)
    assert attacker.refusal(f"{second}:{TRY_REF}") == "try-ok"
    whole = request(attacker, second)
    assert passes(say(attacker.fleet, whole))
    alone = whole.replace(str(attacker.folder / "objects").encode(), b"")
    assert say(attacker.fleet, alone) == "coordledger 1 unsure\n"


def test_what_has_landed_is_sound(served: Fleet) -> None:
    fsck(served.remote, served.env)
    assert second_opinion(served.remote) == int(served.git("rev-list", "--count", LEDGER_REF))


# -- requests that are not the hook's


def test_a_request_that_is_cut_off_is_never_passed(attacker: Attacker) -> None:
    whole = request(attacker, good(attacker))
    assert passes(say(attacker.fleet, whole))
    for end in range(0, len(whole), 7):
        assert say(attacker.fleet, whole[:end]) in ("", "coordledger 1 unsure\n")
    for end in range(len(whole) - 8, len(whole)):
        assert say(attacker.fleet, whole[:end]) == "coordledger 1 unsure\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"coordledger 1 ", b"coordledger 2 "),
        (b"pre-receive", b"proc-receive-x"),
        (b"pre-receive", b"\xff"),
        (b"action=get", b"action=store"),
        (b"timeout", b"time"),
        (b"dir=", b"dir=/nowhere"),
        (b"dir=", b"dir=\0"),
        (b"dir=", b"dri="),
        (b"objects=", b"obj="),
        (b"end\n", b"end\nmore\n"),
        (b"end\n", b"END\n"),
        (b"\n", b"\r\n"),
        (b"\n\n", b"\n"),
    ],
)
def test_another_request_is_answered_with_unsure(
    attacker: Attacker, old: bytes, new: bytes
) -> None:
    whole = request(attacker, good(attacker))
    assert old in whole
    assert say(attacker.fleet, whole.replace(old, new)) == "coordledger 1 unsure\n"


def test_garbage_and_too_much_end_nothing(attacker: Attacker) -> None:
    for data in (b"", b"\0" * 1000, b"GET / HTTP/1.0\r\n\r\n", b"x" * (MAX_REQUEST + 100_000)):
        assert say(attacker.fleet, data) in ("", "coordledger 1 unsure\n")
    assert passes(say(attacker.fleet, request(attacker, good(attacker))))


def test_many_at_once_are_all_answered(attacker: Attacker) -> None:
    right, wrong = request(attacker, good(attacker)), request(attacker, forged(attacker))
    said: list[tuple[bool, str]] = []

    def ask(data: bytes) -> None:
        said.append((data is right, say(attacker.fleet, data)))

    threads = [threading.Thread(target=ask, args=(data,)) for data in [right, wrong] * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 40
    for true, answer in said:
        assert passes(answer) is true
        assert true or "bad-signature" in answer


def test_who_asks_and_says_nothing_keeps_nobody_waiting(attacker: Attacker) -> None:
    silent = []
    for _ in range(MAX_AT_ONCE // 2):
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(f"/proc/self/fd/{_folder(attacker.fleet)}/socket")
    start = time.monotonic()
    assert attacker.push(good(attacker)).slug == ""
    assert time.monotonic() - start < 4
    for one in silent:
        one.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_gets_no_answer(attacker: Attacker) -> None:
    folder = attacker.fleet.remote / "coordledger"
    data = request(attacker, good(attacker))
    script = (
        "import os, socket, sys\n"
        "os.fchdir(int(sys.argv[1]))\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "with socket.socket(socket.AF_UNIX) as s:\n"
        "    s.connect('socket')\n"
        "    try:\n"
        "        s.sendall(sys.stdin.buffer.read()); s.shutdown(1); print(s.recv(100))\n"
        "    except (ConnectionResetError, BrokenPipeError): print(b'')\n"
    )
    fd = _folder(attacker.fleet)
    folder.chmod(0o711)
    (folder / "socket").chmod(0o777)
    try:
        argv = [sys.executable, "-c", script, str(fd)]
        ran = subprocess.run(argv, input=data, pass_fds=[fd], capture_output=True, check=False)
        assert (ran.stdout, ran.returncode) == (b"b''\n", 0), ran.stderr
        assert passes(say(attacker.fleet, data))
    finally:
        (folder / "socket").chmod(0o700)
        folder.chmod(0o700)


# -- it comes and goes


def both(attacker: Attacker) -> None:
    """A right record passes and a forged one does not."""
    assert attacker.push(good(attacker)).slug == ""
    assert attacker.refusal(forged(attacker)) == "bad-signature"


def test_a_killed_resident_is_not_missed_and_followed_by_another(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    with serving(fleet) as resident:
        with without_python(fleet):
            both(attacker)
        resident.end(signal.SIGKILL)
        assert (fleet.remote / "coordledger/socket").exists()
        both(attacker)
    with serving(fleet), without_python(fleet):
        both(attacker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_resident_that_is_asked_to_leaves_nothing(fleet: Fleet, number: int) -> None:
    with serving(fleet) as resident:
        assert resident.end(number) == (0, "")
    assert not (fleet.remote / "coordledger/socket").exists()


def test_a_resident_that_dies_in_the_middle_is_not_waited_for(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    with serving(fleet) as resident:
        resident.send(signal.SIGSTOP)
        threading.Timer(0.7, resident.send, [signal.SIGKILL]).start()
        start = time.monotonic()
        assert attacker.push(good(attacker)).slug == ""
        assert 0.5 < time.monotonic() - start < 4


@pytest.mark.parametrize(
    "words",
    [
        *(b"", b"pass\n", b"coordledger 1 unsure\n", b"coordledger 2 pass\n", b"coordledger 1 "),
        *(b"coordledger 1 passed\n", b"coordledger 1 pass\ncoordledger 1 pass\n", b"\0\xff" * 50),
        *(b"coordledger 1 pass \n", b"coordledger 1 refused", b"*\n", b"x" * 1_000_000),
    ],
)
def test_words_that_are_not_the_residents_decide_nothing(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker], words: bytes
) -> None:
    attacker = attacker_for(fleet)
    other = socket.socket(socket.AF_UNIX)
    with closing(other):
        other.bind(f"/proc/self/fd/{_folder(fleet)}/socket")
        other.listen(8)
        heard = []

        def talk() -> None:
            for _ in range(2):
                asking, _ = other.accept()
                with closing(asking):
                    while part := asking.recv(4096):
                        heard.append(part)
                    try:
                        asking.sendall(words)
                    except OSError:
                        continue

        thread = threading.Thread(target=talk)
        thread.start()
        both(attacker)
        thread.join(timeout=10)
    assert LEDGER_REF.encode() in b"".join(heard)


def test_a_resident_that_gets_no_thread_serves_the_next_asker(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resident = Daemon([fleet.remote], fleet.env)
    monkeypatch.chdir(fleet.remote / "coordledger")
    try:
        with socket.socket(socket.AF_UNIX) as refused, socket.socket(socket.AF_UNIX) as answered:
            for asking in (refused, answered):
                asking.settimeout(10)
                asking.connect("socket")
            with monkeypatch.context() as patch:
                patch.setattr("threading.Thread.start", none_left)
                resident._accept(resident.repositories[0])
            assert refused.recv(100) == b""  # its hook does the work then
            answered.sendall(b"?")
            answered.shutdown(socket.SHUT_WR)
            resident._accept(resident.repositories[0])
            assert answered.recv(100) == b"coordledger 1 unsure\n"
    finally:
        resident.close()


@pytest.mark.parametrize("place", [b"", b"x"])
def test_a_file_where_the_socket_would_be_is_no_socket(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker], place: bytes
) -> None:
    attacker = attacker_for(fleet)
    (fleet.remote / "coordledger/socket").write_bytes(place)
    both(attacker)
    with serving(fleet), without_python(fleet):
        both(attacker)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_socket_of_another_users_is_not_asked(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    with serving(fleet):
        os.chown(fleet.remote / "coordledger/socket", 65534, 65534)
        with without_python(fleet):
            assert attacker.push(good(attacker)).code != 0
        both(attacker)


# -- what changes under it


def test_secrets_and_settings_are_read_for_each_push(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = make_fleet()
    attacker = attacker_for(fleet)
    master = fleet.remote / "coordledger/master"
    right = master.read_text()
    with serving(fleet):
        with without_python(fleet):
            both(attacker)
        master.write_text(mint().reveal() + "\n")
        assert attacker.refusal(good(attacker)) == "no-secret"
        master.write_text(right)
        master.chmod(0o644)
        assert attacker.refusal(good(attacker)) == "hook-broken"
        master.chmod(0o600)
        with without_python(fleet):
            both(attacker)
        own = fleet.remote / "coordledger/alice.secret"
        own.write_text(attacker.secret("alice").reveal() + "\n")
        own.chmod(0o600)
        master.rename(master.with_name("away"))
        with without_python(fleet):
            both(attacker)
        own.unlink()
        assert attacker.refusal(good(attacker)) == "no-secret"

        attacker.found(days_ago=40)
        assert attacker.refusal(attacker.propose(attacker.signed("alice", "void"))) == "no-secret"
        master.with_name("away").rename(master)
        assert attacker.refusal(attacker.propose(attacker.signed("alice", "void"))) == "gap"
        fleet.git("config", "coordledger.maxGap", "41d")
        assert attacker.push(attacker.propose(attacker.signed("alice", "void"))).slug == ""


def test_one_process_serves_several_repositories_and_mixes_nothing(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleets = [make_fleet(), make_fleet()]
    forges = [attacker_for(fleet) for fleet in fleets]
    with serving(*fleets), without_python(fleets[0]), without_python(fleets[1]):
        for attacker in forges:
            both(attacker)
        theirs = request(forges[0], good(forges[0]))
        assert passes(say(fleets[0], theirs))
        assert say(fleets[1], theirs) == "coordledger 1 unsure\n"


# -- starting it


def refused(fleet: Fleet, *paths: Path) -> str:
    ran = fleet.run("serve", *paths, check=1)
    return ran.stderr


def test_a_repository_is_served_once(fleet: Fleet) -> None:
    with serving(fleet) as resident:
        assert "is served already" in refused(fleet, fleet.remote)
        assert (fleet.remote / "coordledger/socket").exists()
        resident.end(signal.SIGKILL)
    with serving(fleet):
        pass


def test_what_cannot_be_served_safely_is_not(fleet: Fleet, tmp_path: Path) -> None:
    folder = fleet.remote / "coordledger"
    folder.chmod(0o750)
    assert "chmod 700" in refused(fleet, fleet.remote)
    folder.chmod(0o700)
    assert "not a git repository" in refused(fleet, tmp_path)
    plain("git", "init", "--quiet", "--bare", tmp_path / "b.git", cwd=tmp_path, env=fleet.env)
    assert "coordledger init" in refused(fleet, tmp_path / "b.git")
    plain("git", "init", "--quiet", tmp_path / "w", cwd=tmp_path, env=fleet.env)
    assert "work tree" in refused(fleet, tmp_path / "w")
    assert "not a git repository" in refused(fleet, fleet.remote, tmp_path)
    assert not (folder / "socket").exists()


def test_a_hook_that_does_not_ask_is_pointed_out(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks/pre-receive"
    hook.write_text(hook.read_text().replace("coordledger/socket", "coordledger/no"))
    with serving(fleet) as resident:
        _, err = resident.end(signal.SIGTERM)
    assert f"hook install {fleet.remote}" in err


def test_a_long_path_is_served(tmp_path: Path, env: dict[str, str]) -> None:
    fleet = Fleet(tmp_path / ("x" * 120), env)
    attacker = Attacker(fleet, tmp_path / "forge.git")
    with closing(attacker), serving(fleet), without_python(fleet):
        both(attacker)
    fleet.close()
