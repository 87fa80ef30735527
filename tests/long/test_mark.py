"""The mark and the vouch: how far a server has verified its ledger, and what it says of that."""

from __future__ import annotations

import os
import posix
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.attacker import TRY_REF, Attacker
from support.fleet import LEDGER_REF
from support.forgeries import code_commit, forged, good
from support.sequencing import grow, landed_lines
from support.serve_process import hidden, serving
from support.ways_in import WAYS_IN

from coordledger.errors import RuleBroken
from coordledger.format import timestamps
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring
from coordledger.git.loose import Reader
from coordledger.server import mark
from coordledger.server.admission import server_keyring
from coordledger.server.mark import Marks
from coordledger.server.sequencer import Sequencer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from support.attacker import Pushed
    from support.fleet import Fleet

HOOK = "hooks/pre-receive"
TAGGER = "tagger x <x@x> 1 +0000\n\nx\n"


@pytest.fixture(scope="module")
def shared_fleet(sequenced_fleet: Fleet) -> Iterator[Fleet]:
    """Everything that these tests do to it they undo, or the next push does."""
    with serving(sequenced_fleet):
        yield sequenced_fleet


def place(attacker: Attacker) -> Path:
    return attacker.fleet.remote / "coordledger/main.verified"


def marked(attacker: Attacker) -> tuple[str, ...]:
    return mark.read(str(place(attacker)))


def hook_gone(attacker: Attacker) -> AbstractContextManager[None]:
    return hidden(attacker.fleet, HOOK)


def without_hook(attacker: Attacker, oid: str) -> None:
    with hook_gone(attacker):
        assert attacker.push(oid).slug == ""


def put_back(attacker: Attacker, oid: str) -> None:
    """The server's owner puts the ledger back."""
    attacker.fleet.git("update-ref", LEDGER_REF, oid)


def vouches_for(attacker: Attacker, pushed: Pushed, oid: str) -> bool:
    """Whether the server says that it has verified up to this commit, just now, and no more."""
    head = parse_commit(oid, attacker.raw(oid))
    [said] = pushed.vouched
    assert abs(timestamps.parse(said.at) - attacker.now) < 30_000
    return (said.ledger, said.seq, said.digest) == (head.record["ledger"], head.seq, head.digest)


def refused_for(attacker: Attacker, pushed: Pushed, slug: str, seq: int, oid: str) -> None:
    """The push is refused for a record that lies in the ledger already, which is named."""
    assert pushed.slug == slug
    assert f"record {seq} ({oid[:12]})" in pushed.said[0]
    assert pushed.vouched == []


# -- the vouch


@pytest.mark.parametrize("name", WAYS_IN)
def test_what_is_admitted_is_vouched_for(attacker: Attacker, name: str) -> None:
    for count in (1, 3):
        *_, last = attacker.voids(count)
        pushed = WAYS_IN[name].push(attacker, last)
        assert pushed.slug == ""
        assert vouches_for(attacker, pushed, last)
        assert last in marked(attacker)


@pytest.mark.parametrize("name", [name for name, way in WAYS_IN.items() if way.sequences])
def test_sequenced_records_are_vouched_for_after_it_is_said_where_they_landed(
    attacker: Attacker, name: str
) -> None:
    stale = good(attacker)
    grow(attacker)
    for _ in range(2):  # the second time it is in the ledger already
        pushed = WAYS_IN[name].push(attacker, stale)
        assert vouches_for(attacker, pushed, attacker.tip)
        assert landed_lines(pushed.err)
        assert pushed.err.index("coordledger: landed") < pushed.err.index("coordledger: vouch")


@pytest.mark.parametrize("name", WAYS_IN)
def test_what_is_refused_gets_no_vouch_and_leaves_the_mark(attacker: Attacker, name: str) -> None:
    grow(attacker)
    before = place(attacker).read_bytes()
    pushed = WAYS_IN[name].push(attacker, forged(attacker))
    assert pushed.slug == "bad-signature"
    assert pushed.vouched == []
    assert place(attacker).read_bytes() == before


@pytest.mark.parametrize("resident", [True, False])
def test_whoever_may_push_may_ask_with_any_object(attacker: Attacker, *, resident: bool) -> None:
    grow(attacker)
    head = attacker.tip
    tries = {
        "try-ok": good(attacker),
        "bad-signature": forged(attacker),
        "bad-push": head,
        "bad-commit": code_commit(attacker),
    }
    tries_of_no_commit = [attacker.add("blob", b"who are you?"), attacker.add("tree", b"")]
    way = WAYS_IN["pre-receive by the resident" if resident else "pre-receive"]
    with way.alone(attacker.fleet, with_python=True):
        for slug, oid in [*tries.items(), *(("bad-push", oid) for oid in tries_of_no_commit)]:
            pushed = attacker.push(f"{oid}:{TRY_REF}")
            assert pushed.slug == slug
            assert vouches_for(attacker, pushed, head)
    assert attacker.tip == head


def test_each_ledger_of_a_push_has_a_line_and_they_stand_or_fall_together(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[..., Attacker]
) -> None:
    fleet = make_fleet()
    fleet.run("--ledger", "other", "init", fleet.remote, "--agent", "alice", check=0)
    one, other = attacker_for(fleet), attacker_for(fleet, ref="refs/coordledger/other")
    (one.folder / "objects/info/alternates").write_text(f"{other.folder / 'objects'}\n")
    alices = [attacker.propose(attacker.signed("alice", "void")) for attacker in (one, other)]
    pushed = one.push(f"{alices[0]}:{LEDGER_REF}", f"{alices[1]}:{other.ref}")
    assert pushed.slug == ""
    assert len({said.ledger for said in pushed.vouched}) == 2
    pushed = one.push(good(one), f"{alices[0]}:{other.ref}")
    assert pushed.code != 0
    assert pushed.vouched == []


# -- the hook was gone


@pytest.mark.parametrize("name", WAYS_IN)
def test_what_came_without_the_hook_is_verified_first(attacker: Attacker, name: str) -> None:
    without_hook(attacker, attacker.voids(5)[-1])
    assert attacker.tip not in marked(attacker)
    last = good(attacker)
    pushed = WAYS_IN[name].push(attacker, last)
    assert vouches_for(attacker, pushed, last)
    assert marked(attacker)[1] == last


@pytest.mark.parametrize("name", WAYS_IN)
def test_a_bad_record_that_came_without_the_hook_stops_everything(
    attacker: Attacker, name: str
) -> None:
    before = attacker.tip
    bad = forged(attacker, on=good(attacker))
    seq = parse_commit(bad, attacker.raw(bad)).seq
    above = attacker.render(attacker.signed("bob", "void", on=bad), on=bad)
    for head in (bad, above):
        without_hook(attacker, head)
        pushed = WAYS_IN[name].push(attacker, good(attacker, on=head))
        refused_for(attacker, pushed, "invalid-below", seq, bad)
        assert attacker.tip == head
        asked = attacker.push(f"{head}:{TRY_REF}")
        refused_for(attacker, asked, "invalid-below", seq, bad)
    put_back(attacker, before)
    last = good(attacker)
    assert vouches_for(attacker, WAYS_IN[name].push(attacker, last), last)


def test_whatever_the_ref_points_to_is_named_and_never_a_fault(attacker: Attacker) -> None:
    before = attacker.tip
    for oid in (
        code_commit(attacker),
        attacker.add("commit", attacker.raw(before) + b"\n"),
        attacker.git("mktag", data=f"object {before}\ntype commit\ntag x\n{TAGGER}".encode()),
        attacker.changed(good(attacker), b"Coordledger-Seq", b"Coordledger-Sea"),
    ):
        put_back(attacker, before)
        without_hook(attacker, oid)
        pushed = attacker.push(f"{before}:{TRY_REF}")
        assert pushed.slug == "invalid-below"
        assert f"({oid[:12]})" in pushed.said[0]
    put_back(attacker, before)


def test_keys_count_by_position_where_the_hook_was_gone(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[..., Attacker]
) -> None:
    fleet = make_fleet()
    fleet.enroll("bob")
    attacker = attacker_for(fleet)
    first = attacker.propose(attacker.signed("bob", "void"))
    kept = attacker.signed("bob", "void", on=first)
    ended = attacker.propose(attacker.signed("alice", "revoke", on=first, who="bob"), on=first)
    without_hook(attacker, ended)
    assert vouches_for(attacker, attacker.push(f"{ended}:{TRY_REF}"), ended)
    late = attacker.render(kept, on=ended)
    without_hook(attacker, late)
    seq = parse_commit(late, attacker.raw(late)).seq
    refused_for(attacker, attacker.push(f"{late}:{TRY_REF}"), "invalid-below", seq, late)


def test_what_the_server_has_no_secret_for_is_not_vouched_for(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[..., Attacker]
) -> None:
    fleet = make_fleet()
    fleet.enroll("bob")
    attacker = attacker_for(fleet)
    oid = attacker.propose(attacker.signed("bob", "void"))
    without_hook(attacker, oid)
    master = fleet.remote / "coordledger/master"
    secret = attacker.secret("alice").reveal()
    with hidden(fleet, "coordledger/master"):
        alices = master.with_name("alice.secret")
        alices.touch(mode=0o600)
        alices.write_text(secret + "\n")
        pushed = attacker.push(good(attacker))
        assert pushed.slug == "no-secret"
        assert "bob/1" in pushed.said[0]
        assert pushed.vouched == []
    assert attacker.push(good(attacker)).slug == ""


def test_a_resident_that_knows_a_head_looks_again_when_the_ref_has_moved(
    own_attacker: Attacker,
) -> None:
    fleet, way = own_attacker.fleet, WAYS_IN["proc-receive by the resident"]
    with serving(fleet):
        assert way.push(own_attacker, good(own_attacker)).slug == ""
        known = own_attacker.tip
        bad = forged(own_attacker)
        seq = parse_commit(bad, own_attacker.raw(bad)).seq
        for _ in range(2):
            without_hook(own_attacker, bad)
            pushed = way.push(own_attacker, good(own_attacker, on=bad))
            refused_for(own_attacker, pushed, "invalid-below", seq, bad)
            put_back(own_attacker, known)
            assert way.push(own_attacker, good(own_attacker)).slug == ""
            put_back(own_attacker, known)


def test_the_sequencer_looks_by_itself_for_the_ref_may_move_after_pre_receive(
    attacker: Attacker,
) -> None:
    before, bad = attacker.tip, forged(attacker)
    environ = {"GIT_DIR": str(attacker.fleet.remote), "PATH": attacker.fleet.env["PATH"]}
    keyring = server_keyring(str(attacker.fleet.remote / "coordledger"))
    new = good(attacker)
    with Reader(environ | {"GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{attacker.folder}/objects"}) as at:
        sequencer = Sequencer("main", environ).use(at, keyring)
        push = sequencer.read_push(new)
        without_hook(attacker, bad)
        with pytest.raises(RuleBroken, match=bad[:12]):
            sequencer.run([push])
    put_back(attacker, before)


# -- the mark


def _copy_of_another(attacker: Attacker, path: Path) -> None:
    mark.write(str(path), "a" * 40, "b" * 40, durable=False)


def _of_a_lost_push(attacker: Attacker, path: Path) -> None:
    mark.write(str(path), "a" * 40, attacker.tip, durable=False)


def _torn(attacker: Attacker, path: Path) -> None:
    """Half of a newer line over an older one."""
    older = mark._render(attacker.tip, "a" * 40)
    newer = mark._render("c" * 40, attacker.tip)
    path.write_bytes(newer[:60] + older[60:])


def _link(attacker: Attacker, path: Path) -> None:
    elsewhere = attacker.folder / "planted"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)


def _fifo(attacker: Attacker, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILT: dict[str, Callable[[Attacker, Path], object]] = {
    "lost": lambda attacker, path: path.unlink(),
    "empty": lambda attacker, path: path.write_bytes(b""),
    "cut off": lambda attacker, path: path.write_bytes(path.read_bytes()[:50]),
    "longer": lambda attacker, path: path.write_bytes(path.read_bytes() + b"x"),
    "torn": _torn,
    "of a push to another ledger": _copy_of_another,
    "of a push that has lost": _of_a_lost_push,
    "a link": _link,
    "a pipe": _fifo,
    "writable by others": lambda attacker, path: path.chmod(0o666),
    "of zeros": lambda attacker, path: path.write_bytes(b"\0" * 91),
    "garbage": lambda attacker, path: path.write_bytes(b"\xff\n" * 5000),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_mark_that_is_spoilt_costs_no_more_than_verifying_again(
    attacker: Attacker, case: str
) -> None:
    grow(attacker)
    path = place(attacker)
    SPOILT[case](attacker, path)
    assert (marked(attacker) == ()) is not case.startswith("of a push ")
    last = good(attacker)
    assert vouches_for(attacker, attacker.push(last), last)
    assert last in marked(attacker)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.is_symlink()
    assert not list(path.parent.glob("*.new"))


@pytest.mark.parametrize("case", SPOILT)
def test_a_mark_that_is_spoilt_lets_nothing_bad_through(attacker: Attacker, case: str) -> None:
    before = attacker.tip
    bad = forged(attacker)
    without_hook(attacker, bad)
    path = place(attacker)
    whole = path.read_bytes()
    if case != "of a push that has lost":  # only this very account could say that of it
        SPOILT[case](attacker, path)
        seq = parse_commit(bad, attacker.raw(bad)).seq
        pushed = attacker.push(good(attacker, on=bad))
        refused_for(attacker, pushed, "invalid-below", seq, bad)
    put_back(attacker, before)
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    path.chmod(0o600)


def test_what_another_account_has_written_is_no_mark(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert attacker.tip in marked(attacker)
    monkeypatch.setattr(posix, "geteuid", lambda: os.getuid() + 1)
    assert marked(attacker) == ()


def test_a_file_that_has_a_second_name_is_not_written_over(attacker: Attacker) -> None:
    other = attacker.folder / "other"
    os.link(place(attacker), other)
    before = other.read_bytes()
    grow(attacker)
    assert other.read_bytes() == before
    assert attacker.tip in marked(attacker)


def test_where_it_cannot_be_kept_nothing_is_admitted(attacker: Attacker) -> None:
    path = place(attacker)
    whole = path.read_bytes()
    path.unlink()
    path.mkdir()
    try:
        pushed = attacker.push(good(attacker))
        assert pushed.slug == "hook-broken"
        assert "cannot write ./coordledger/main.verified: " in pushed.said[0]
    finally:
        path.rmdir()
    path.write_bytes(whole)
    path.chmod(0o600)


def test_a_ledger_that_its_owner_has_put_back_is_verified_still(attacker: Attacker) -> None:
    """As after a repair, or with the mark of a newer copy: what lies below was verified with it."""
    before = attacker.tip
    for _ in range(2):
        grow(attacker, 3)
    put_back(attacker, before)
    assert before not in marked(attacker)
    with hidden(attacker.fleet, "coordledger/master"):  # nothing can be verified again
        assert vouches_for(attacker, attacker.push(f"{before}:{TRY_REF}"), before)
    assert marked(attacker) == (before, before)


def test_two_pushes_at_once_leave_a_mark_that_is_right(attacker: Attacker) -> None:
    for _ in range(3):
        oids = [good(attacker) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            ended = list(pool.map(attacker.push, oids))
        assert [pushed.code for pushed in ended].count(0) == 1
        last = good(attacker)
        assert vouches_for(attacker, attacker.push(last), last)


def test_a_push_that_has_lost_does_not_set_the_mark_back(attacker: Attacker) -> None:
    old = parse_commit(attacker.tip, attacker.raw(attacker.tip))
    slow = good(attacker)
    grow(attacker, 3)
    before = place(attacker).read_bytes()
    marks = Marks({"GIT_DIR": str(attacker.fleet.remote)}, Reader({}), Keyring())
    marks.keep("main", old, parse_commit(slow, attacker.raw(slow)))
    assert place(attacker).read_bytes() == before


def test_a_push_that_verifies_for_long_does_not_set_the_mark_back(attacker: Attacker) -> None:
    old = attacker.tip
    grow(attacker, 3)
    before = place(attacker).read_bytes()
    environ = {"GIT_DIR": str(attacker.fleet.remote), "PATH": attacker.fleet.env["PATH"]}
    keyring = server_keyring(str(attacker.fleet.remote / "coordledger"))
    with hidden(attacker.fleet, "coordledger/main.verified"), Reader(environ) as objects:
        Marks(environ, objects, keyring).need("main", old)
        assert not place(attacker).exists()
    assert place(attacker).read_bytes() == before


def test_it_is_brought_to_the_disk_often_enough(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a crash sets it back, the hook verifies what is missing by itself."""
    synced: list[int] = []
    monkeypatch.setattr("posix.fsync", synced.append)
    marks = Marks({"GIT_DIR": str(attacker.fleet.remote)}, Reader({}), Keyring())
    old, new = (parse_commit(attacker.tip, attacker.raw(attacker.tip)) for _ in range(2))
    with_its_own = place(attacker).read_bytes()
    for old.seq, new.seq, times in ((0, 1, 0), (510, 511, 0), (511, 512, 1), (400, 1424, 1)):
        marks.keep("main", old, new)
        assert len(synced) == times, new.seq
        synced.clear()
    place(attacker).write_bytes(with_its_own)


def test_who_reads_while_it_is_written_sees_one_or_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "main.verified")
    lines = [("a" * 40, "b" * 40), ("c" * 40, "d" * 40)]
    mark.write(path, *lines[0], durable=False)
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for line in lines:
                mark.write(path, *line, durable=False)

    writer = threading.Thread(target=write)
    writer.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert mark.read(path) in lines
    over.set()
    writer.join()


def test_a_ledger_of_sha256_has_it_too(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[..., Attacker], env: dict[str, str]
) -> None:
    env["GIT_DEFAULT_HASH"] = "sha256"
    fleet = make_fleet(anew=True)
    alice = fleet.ledger("alice")
    alice.submit("one")
    path = str(fleet.remote / "coordledger/main.verified")
    assert fleet.head() in mark.read(path)
    assert len(fleet.head()) == 64
    with hidden(fleet, HOOK):
        alice.submit("two")
    assert fleet.head() not in mark.read(path)
    alice.submit("three")
    assert fleet.head() in mark.read(path)
