"""What is to be sequenced, and lands before git lets the push in: where nothing comes after it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain
from support.fleet import LEDGER_REF
from support.forgeries import good, submitted
from support.sequencing import ANSWERED_REF, FOR_REF, ZERO, bring, enveloped, is_sound, landed, send
from support.serve_process import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.attacker import Attacker
    from support.fleet import Fleet

    Change = Callable[[Fleet], object]


def _hook(name: str) -> Change:
    def make(fleet: Fleet) -> None:
        path = fleet.remote / "hooks" / name
        path.write_text(f"#!/bin/sh\necho {name} >> '{fleet.root}/told'\n")
        path.chmod(0o755)

    return make


def _config(*args: str) -> Change:
    return lambda fleet: fleet.git("config", *args)


def _user(text: str) -> Change:
    return lambda fleet: (fleet.root / "user.gitconfig").write_text(text)


def _borrowed(fleet: Fleet) -> None:
    (fleet.remote / "objects/info/alternates").write_text(f"{fleet.root}/elsewhere\n")


def _ledger_at_head(fleet: Fleet) -> None:
    """Then git keeps a reflog of HEAD."""
    fleet.git("symbolic-ref", "HEAD", LEDGER_REF)
    fleet.git("config", "core.logAllRefUpdates", "true")


def _wrapped(name: str) -> Change:
    """The owner's own hook, which starts ours first."""

    def make(fleet: Fleet) -> None:
        hook = fleet.remote / "hooks" / name
        ours = hook.with_suffix(".ours")
        ours.write_text(hook.read_text())
        ours.chmod(0o755)
        hook.write_text(f"#!/bin/sh\n$0.ours || exit 1\necho {name} >> '{fleet.root}/told'\n")

    return make


# What would happen after the hook, or beside what it writes itself.
AFTER: dict[str, Change] = {
    "a post-receive hook": _hook("post-receive"),
    "a post-update hook": _hook("post-update"),
    "somebody's hook for transactions": _hook("reference-transaction"),
    "somebody's hook behind ours": _hook("reference-transaction.chained"),
    "a hook by git's configuration": _config("hook.x.command", "true"),
    "files for dumb servers": _config("receive.updateServerInfo", "true"),
    "a reflog": _config("core.logAllRefUpdates", "always"),
    "a shared repository": _config("core.sharedRepository", "0660"),
    "a user's settings": _user("[receive]\n\tupdateServerInfo = true\n"),
    "settings in another file": _user("[include]\n\tpath = elsewhere\n"),
    "borrowed objects": _borrowed,
    "a reflog of HEAD": _ledger_at_head,
    "somebody's hook around pre-receive": _wrapped("pre-receive"),
    "somebody's hook around proc-receive": _wrapped("proc-receive"),
}
TOLD = {
    "a post-receive hook": "post-receive",
    "a post-update hook": "post-update",
    "somebody's hook around pre-receive": "pre-receive",
    "somebody's hook around proc-receive": "proc-receive",
}


@pytest.fixture
def with_user(own_attacker: Attacker) -> Attacker:
    """The server's git has a user's configuration."""
    path = own_attacker.fleet.root / "user.gitconfig"
    path.write_text("[user]\n\tname = x\n")
    own_attacker.fleet.env = own_attacker.fleet.env | {"GIT_CONFIG_GLOBAL": str(path)}
    return own_attacker


@pytest.mark.parametrize("resident", [False, True], ids=["by the hook", "by the resident"])
def test_nothing_that_git_would_do_afterwards_is_left_out(
    with_user: Attacker, resident: bool
) -> None:
    """Whether git has let a push in shows in its own word, and in what it keeps of it."""
    fleet, seq = with_user.fleet, 1
    with serving(fleet) if resident else nullcontext():
        for case, change in AFTER.items():
            for is_there in (False, True):
                before = {path: path.read_bytes() for path in _files(fleet)}
                if is_there:
                    change(fleet)
                oid = submitted(with_user, f"t{seq}", on=with_user.tip)
                pushed = send(with_user, oid, ANSWERED_REF)
                assert [(old, number) for old, number, _ in landed(pushed)] == [(oid, seq)], case
                assert (pushed.code == 0) == is_there, case
                seq += 1
                told = fleet.root / "told"
                assert not (is_there and case in TOLD) or told.read_text() == f"{TOLD[case]}\n"
                told.unlink(missing_ok=True)
                for path in set(_files(fleet)) - set(before):
                    path.unlink()
                for path, content in before.items():
                    path.write_bytes(content)
    is_sound(with_user)


def _files(fleet: Fleet) -> list[Path]:
    """Those that a case changes."""
    there = [fleet.root / "user.gitconfig", fleet.remote / "config", fleet.remote / "HEAD"]
    more = [*fleet.remote.glob("hooks/*"), fleet.remote / "objects/info/alternates"]
    return [path for path in (*there, *more) if path.is_file()]


def _for_group(folder: Path) -> None:
    """Of one that this process's files have not of themselves."""
    others = set(os.getgroups()) - {os.getegid()} or {os.getegid() + 1}
    try:
        os.chown(folder, -1, min(others))
    except PermissionError:
        pytest.skip("this account is in one group")
    folder.chmod(0o2750)


def _for_account(folder: Path) -> None:
    """By an access list: a version, and tag, permissions and id of each entry (acl(5))."""
    entries = [(1, 7, -1), (2, 5, 33), (4, 0, -1), (16, 5, -1), (32, 0, -1)]
    parts = (struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(folder, "system.posix_acl_default", b"".join([struct.pack("<I", 2), *parts]))


@pytest.mark.parametrize("allow", [_for_group, _for_account])
def test_who_may_read_the_ref_by_its_folders_leave_may_do_so_ever_after(
    own_attacker: Attacker, allow: Callable[[Path], None]
) -> None:
    """As another account that serves the repository to readers."""
    ref = own_attacker.fleet.remote / LEDGER_REF
    allow(ref.parent)
    oid = good(own_attacker)
    pushed = send(own_attacker, oid, ANSWERED_REF)
    assert (pushed.code, len(landed(pushed))) == (1, 1)
    assert ref.read_text() == f"{oid}\n"
    assert ref.stat().st_gid == ref.parent.stat().st_gid
    lists = [name for name in os.listxattr(ref.parent) if name == "system.posix_acl_default"]
    assert len(lists) == ("system.posix_acl_access" in os.listxattr(ref))


@pytest.mark.parametrize("linked", [False, True], ids=["", "in a folder of hooks elsewhere"])
def test_a_hook_that_comes_while_it_waits_is_not_left_out(
    own_attacker: Attacker, *, linked: bool
) -> None:
    fleet, oid = own_attacker.fleet, good(own_attacker)
    if linked:
        (fleet.remote / "hooks").rename(fleet.root / "hooks")
        (fleet.remote / "hooks").symlink_to(fleet.root / "hooks")
    with (fleet.remote / "coordledger/main.lock").open("w") as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        pushing = pool.submit(send, own_attacker, oid, ANSWERED_REF)
        _wait_for_asker(file.name)
        _hook("post-receive")(fleet)
        fcntl.flock(file, fcntl.LOCK_UN)
        pushed = pushing.result()
    assert (pushed.code, len(landed(pushed))) == (0, 1)
    assert (fleet.root / "told").read_text() == "post-receive\n"
    is_sound(own_attacker)


def _wait_for_asker(path: str) -> None:
    """Until another process stands at the lock: the kernel lists those that wait with an arrow."""
    inode, end = f":{Path(path).stat().st_ino} ", time.monotonic() + 20
    while time.monotonic() < end:
        locks = Path("/proc/locks").read_text().splitlines()
        if any("->" in line and inode in line for line in locks):
            return
        time.sleep(0.01)
    raise AssertionError


@pytest.mark.parametrize("asked", ["", "yes"])
def test_a_hook_whose_resident_may_still_land_a_push_does_not_refuse_it(
    own_attacker: Attacker, crashing: Callable[..., list[str]], asked: str
) -> None:
    """It gets no turn. What is no record to be sequenced no resident lands."""
    oid = good(own_attacker)
    bring(own_attacker, oid)
    crashing(0, seconds=1, hook="pre-receive")
    with _in_turn(own_attacker.fleet):
        said = [_judged(own_attacker, oid, ref, asked) for ref in (ANSWERED_REF, LEDGER_REF)]
    busy = "coordledger: unknown " if asked else "coordledger: refused "
    assert said[0].startswith(busy)
    assert said[1].startswith("coordledger: refused ")
    assert own_attacker.tip != oid


def test_what_a_resident_may_land_in_its_turn_is_refused_after_that_only(
    own_attacker: Attacker, crashing: Callable[..., list[str]]
) -> None:
    """What is handed on is judged without the lock, and may be judged otherwise in that turn: by
    another clock, or above a record that lands in it, too.
    """
    base = own_attacker.tip
    first, bad = (submitted(own_attacker, "t", on=base) for _ in range(2))
    assert len(landed(send(own_attacker, first, ANSWERED_REF))) == 1
    bring(own_attacker, bad)
    crashing(0, seconds=1, hook="pre-receive")
    _hook("post-receive")(own_attacker.fleet)
    with _in_turn(own_attacker.fleet):
        assert _judged(own_attacker, bad, ANSWERED_REF, "yes").startswith("coordledger: unknown ")
    assert " task-exists: " in _judged(own_attacker, bad, ANSWERED_REF, "yes")
    none = ANSWERED_REF.replace("main", "none")
    assert " no-create: " in _judged(own_attacker, bad, none, "yes")
    assert not (own_attacker.fleet.remote / "coordledger/none.lock").exists()


@contextmanager
def _in_turn(fleet: Fleet) -> Iterator[None]:
    with (fleet.remote / "coordledger/main.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _judged(attacker: Attacker, oid: str, ref: str, asked: str) -> str:
    """What the hook says by itself, which has `asked` a resident before, or has not."""
    fleet = attacker.fleet
    argv = (fleet.remote / "hooks/pre-receive").read_text().splitlines()[-1]
    return plain(
        *("sh", "-c", f"{argv} '{asked}' << END\n{ZERO} {oid} {ref}\nEND"),
        cwd=fleet.remote,
        env=fleet.env | {"GIT_DIR": ".", "GIT_ALTERNATE_OBJECT_DIRECTORIES": "objects"},
    ).stderr.decode()


@pytest.mark.parametrize("size", [0, 20])
def test_an_object_that_a_crash_has_left_without_its_content_is_written_anew(
    own_attacker: Attacker, size: int
) -> None:
    """git does not bring loose objects to the disk, and has given this one its name before."""
    oid = good(own_attacker)
    path = own_attacker.fleet.remote / f"objects/{oid[:2]}/{oid[2:]}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    [envelope] = enveloped(own_attacker, oid)
    assert landed(send(own_attacker, envelope, ANSWERED_REF)) == [(envelope, 1, oid)]
    is_sound(own_attacker)


@pytest.mark.parametrize(("ref", "word"), [(FOR_REF, "refused -"), (ANSWERED_REF, "unknown -")])
def test_a_hook_without_python_refuses_what_no_resident_lands(
    own_attacker: Attacker, ref: str, word: str
) -> None:
    """One was asked, and has not answered: its socket is there, and nobody listens."""
    with socket(AF_UNIX) as silent, chdir(own_attacker.fleet.remote / "coordledger"):
        silent.bind("socket")  # a whole path may be too long for one
    hook = own_attacker.fleet.remote / "hooks/pre-receive"
    hook.write_text(re.sub("(?m)^python=.*", "python=/nowhere", hook.read_text()))
    pushed = send(own_attacker, good(own_attacker), ref)
    assert pushed.code == 1
    assert f"coordledger: {word}: " in pushed.err
