"""Long ledgers: made quickly, verified in a flat memory, and never for nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain, second_opinion
from support.fleet import LEDGER_REF

from coordledger import keyfiles
from coordledger.bench import generate
from coordledger.client import audit
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Integrity
from coordledger.format import timestamps
from coordledger.git.cat_file import CatFile
from coordledger.git.history import SHORT, ancestors
from coordledger.git.process import Git
from coordledger.setup import joining

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from support.fleet import Fleet

COUNT = 3900
INCOMING = "refs/coordledger-incoming/main"


class Long:
    """A grown ledger's bare repository, and clones of it."""

    def __init__(self, root: Path, env: dict[str, str], count: int, **kw: Any) -> None:
        self.root, self.env, self.remote = root, env, root / "long.git"
        now = time.time_ns() // 1_000_000
        self.grown = generate.grow(self.remote, self.git, count, now=now, **kw)

    @property
    def git(self) -> Git:
        return Git(self.env, None, Deadline(60))

    def clone(self, name: str) -> Path:
        path = self.root / name
        self.git.output("init", "--quiet", str(path))
        self.git.output("-C", str(path), "remote", "add", "origin", str(self.remote))
        return path

    def joined(self, name: str) -> Path:
        path = self.clone(name)
        joining.join(Options(path=path, agent="alice"), self.env, "origin")
        return path

    def open(self, path: Path, **kw: Any) -> Ledger:
        return Ledger.open(path, "alice", environ=self.env, remote=str(self.remote), **kw)

    def start(self, path: Path, *argv: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "coordledger", "--remote", str(self.remote), *argv]
        return subprocess.Popen(
            command,
            cwd=path,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def long(founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Long:
    """3,900 records; alice has all the keys, because the remote is on her machine."""
    return Long(tmp_path_factory.mktemp("long"), founded().env, COUNT)


@pytest.fixture(scope="module")
def copy(long: Long) -> Path:
    return long.joined("copy")


def noted(path: Path, name: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a running process has noted in its clone, as soon as that has what it waits for."""
    file = path / ".git/coordledger/main" / f"{name}.json"
    while process.poll() is None:
        found = json.loads(file.read_bytes()) if file.exists() else {"audited": -1}
        if found.get("audited") != -1:
            return dict(found)
        time.sleep(0.002)
    raise AssertionError(f"it ended before it noted anything: {process.communicate()}")


def told(said: list[tuple[str, int, int]], what: str) -> int:
    """Of how many it was spoken."""
    return next(of for name, _, of in said if name == what)


# -- what is grown


@pytest.mark.parametrize("mix", generate.MIXES)
def test_a_grown_ledger_is_one_that_agents_can_go_on_with(
    fleet: Fleet, tmp_path: Path, mix: str
) -> None:
    made = Long(tmp_path / "small", fleet.env, 300, mix=mix, agents=3)
    assert second_opinion(made.remote) == made.grown.records == 300
    path = made.joined("alice")
    keyfiles.append(str(tmp_path / "alice.secret"), made.grown.secret_of("alice"))
    env = made.env | {"COORDINATION_SECRETS_DIR": str(tmp_path)}
    with Ledger.open(path, "alice", environ=env) as alice:
        assert alice.claim("one-more").won
        assert alice.audit(full=True).verdicts == {"authentic": 301}


# -- an audit


def test_an_audit_that_is_killed_is_gone_on_with(long: Long, copy: Path) -> None:
    path = long.root / "killed"
    shutil.copytree(copy, path)
    process = long.start(path, "audit", "--full", "--offline")
    place = noted(path, "trusted", process)["auditing"]
    process.kill()
    process.communicate()
    assert 0 < place["seq"] < COUNT - 1
    said: list[tuple[str, int, int]] = []
    with long.open(path, offline=True, progress=lambda *now: said.append(now)) as ledger:
        now = ledger.connection.replica.trusted.auditing
        assert now["counts"]["verdicts"] == {"authentic": now["seq"] + 1}
        found = ledger.audit(full=True, resume=True)
        assert (found.since, found.resumed) == (0, now["seq"] + 1)
        assert (found.records, found.verdicts) == (COUNT, {"authentic": COUNT})
        assert told(said, "auditing") == COUNT - 1 - now["seq"]
        again = ledger.audit(full=True, resume=True)  # that one was finished
        assert (again.records, again.resumed) == (COUNT, None)
        assert ledger.audit().records == 0


def test_an_interrupted_audit_says_how_to_go_on(long: Long, copy: Path) -> None:
    path = long.root / "interrupted"
    shutil.copytree(copy, path)
    for argv, hint in (
        (["--full"], b"audit --full --resume goes on"),
        ([], b"audit goes on"),
    ):
        process = long.start(path, "audit", "--offline", *argv)
        noted(path, "trusted", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert out == b""
        assert hint in err
        assert process.returncode == 130
        trusted = path / ".git/coordledger/main/trusted.json"
        facts = json.loads(trusted.read_bytes())
        trusted.write_text(json.dumps(facts | {"audited": -1, "auditing": None}))


def test_what_an_interrupted_audit_had_not_verified_is_never_counted(
    long: Long, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "STEP", 1000)
    path = long.root / "stopped"
    shutil.copytree(copy, path)

    def stop(what: str, done: int, of: int) -> None:
        if done == 1500:
            raise KeyboardInterrupt

    with long.open(path, offline=True, progress=stop) as ledger, pytest.raises(KeyboardInterrupt):
        ledger.audit(full=True)
    with long.open(path, offline=True) as ledger:
        assert ledger.connection.replica.trusted.auditing["seq"] == 999
        assert ledger.connection.replica.trusted.audited == 999
        plain = ledger.audit()
        assert (plain.since, plain.records, plain.resumed) == (1000, COUNT - 1000, None)
        assert ledger.connection.replica.trusted.audited == COUNT - 1
        assert ledger.audit(full=True, resume=True).resumed == 1000
    # What is noted about another history is no place to go on from.
    trusted = path / ".git/coordledger/main/trusted.json"
    strange = {"seq": 999, "commit": "1" * 40, "verdicts": {"authentic": 1000}}
    trusted.write_text(json.dumps(json.loads(trusted.read_bytes()) | {"auditing": strange}))
    with long.open(path, offline=True) as ledger:
        assert ledger.audit(full=True, resume=True).resumed is None


@pytest.mark.parametrize("damage", ["gone", "cut", "shuffled", "junk"])
def test_an_audit_is_misled_by_no_damaged_index(long: Long, copy: Path, damage: str) -> None:
    path = long.root / f"index-{damage}"
    shutil.copytree(copy, path)
    index = path / ".git/coordledger/main/index"
    lines = index.read_bytes().splitlines(keepends=True)
    if damage == "gone":
        index.unlink()
    elif damage == "cut":
        index.write_bytes(b"".join(lines[:100]))
    elif damage == "shuffled":
        index.write_bytes(b"".join([*lines[:200], lines[300], *lines[201:]]))
    else:
        index.write_bytes(b"".join([*lines[:200], b"HEAD\n".rjust(41), *lines[201:]]))
    with long.open(path, offline=True) as ledger:
        found = ledger.audit(full=True)
        assert (found.verdicts, found.problems) == ({"authentic": COUNT}, ())


def test_an_audit_takes_no_more_memory_for_more_records(long: Long, copy: Path) -> None:
    with long.open(copy, offline=True) as ledger:
        peaks = []
        for since in (COUNT - 1600, 0):
            audit.judge_again(ledger.connection.replica, COUNT - 10)  # what is loaded once
            tracemalloc.start()
            audit.judge_again(ledger.connection.replica, since)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # Half of the records are enough to fill what is kept of the newest ones.
    assert peaks[1] < 1.3 * peaks[0], peaks


# -- a first join, and a late one


def test_a_join_that_is_killed_is_gone_on_with(long: Long, tmp_path: Path) -> None:
    """Though the ledger has grown in between."""
    remote = tmp_path / "growing.git"
    shutil.copytree(long.remote, remote)
    older = long.git.output("-C", str(remote), "rev-parse", f"{LEDGER_REF}~50").strip()
    long.git.output("-C", str(remote), "update-ref", LEDGER_REF, older)
    path = long.clone("unlucky")
    process = long.start(path, "join", str(remote), "--agent", "alice")
    noted(path, "verified", process)
    process.kill()
    process.communicate()
    folder = path / ".git/coordledger/main"
    assert not (folder / "trusted.json").exists()
    asked = long.start(path, "list", "--offline")
    assert b"has not joined" in asked.communicate()[1]
    assert asked.returncode == 1
    long.git.output("-C", str(remote), "update-ref", LEDGER_REF, long.grown.head)
    objects = _bytes_below(path / ".git/objects")
    done = json.loads((folder / "verified.json").read_bytes())["seq"]
    said: list[tuple[str, int, int]] = []
    with Ledger.open(
        path,
        "alice",
        environ=long.env,
        remote=str(remote),
        progress=lambda *now: said.append(now),
    ) as ledger:
        assert ledger.join().commit == long.grown.head
        assert told(said, "verifying") == COUNT - 1 - done
        assert ledger.audit(full=True).verdicts == {"authentic": COUNT}
        assert ledger.connection.replica.commit_at(done - 5).seq == done - 5
    assert _bytes_below(path / ".git/objects") < 1.2 * objects  # nothing came twice
    assert not (folder / "verified.json").exists()
    refs = long.git.output("-C", str(path), "for-each-ref", INCOMING)
    assert refs == ""


def _bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


class Soon(Deadline):
    """It is over whenever so many records have been looked at."""

    def over(self) -> bool:
        self.looks = getattr(self, "looks", 0) + 1
        return self.looks == 15


def test_a_join_that_takes_too_long_ends_and_is_gone_on_with(
    long: Long, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = long.clone("slow")
    monkeypatch.setattr("coordledger.client.opening.Deadline", Soon)
    ends = []
    with long.open(path) as ledger:
        for _ in range(COUNT):
            try:
                ledger.join()
                break
            except CoordledgerError as fault:
                ends.append(fault)
                assert ledger.connection.local.trusted is None
        assert [fault.code for fault in ends] == ["unfinished"] * 2
        assert ends[1].message == f"1500 of {COUNT - 1500} new records verified within 30 s"
        assert ledger.head(refresh=False).seq == COUNT - 1


def test_a_pin_is_not_forgotten_by_who_goes_on(long: Long, monkeypatch: pytest.MonkeyPatch) -> None:
    path = long.clone("pinned")
    with long.open(path) as ledger, monkeypatch.context() as patch:
        patch.setattr("coordledger.client.opening.Deadline", Soon)
        with pytest.raises(CoordledgerError, match=f"1500 of {COUNT}"):
            ledger.join(pin="3000:" + "0" * 16)
    with long.open(path) as ledger:
        with pytest.raises(Integrity, match="pinned"):
            ledger.join(pin="3000:" + "0" * 16)
        assert ledger.connection.local.trusted is None
        assert ledger.connection.local.checkpoint is None


def test_a_bad_record_after_an_interrupted_join_is_met_and_not_adopted(
    long: Long, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.git"
    shutil.copytree(long.remote, evil)
    head = long.git.output("-C", str(evil), "rev-parse", LEDGER_REF).strip()
    content = long.git.output("-C", str(evil), "cat-file", "commit", head).encode()
    forged = plain(
        "git", "hash-object", "-t", "commit", "-w", "--stdin",
        cwd=evil, env=long.env, data=content.replace(b"\n\n", b"\n\nx", 1),
    ).stdout.decode().strip()  # fmt: skip
    long.git.output("-C", str(evil), "update-ref", LEDGER_REF, forged)
    path = long.clone("evil")
    with Ledger.open(path, "alice", environ=long.env, remote=str(evil)) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr("coordledger.client.opening.Deadline", Soon)
            with pytest.raises(CoordledgerError, match=f"1500 of {COUNT}"):
                ledger.join()
        assert ledger.connection.local.checkpoint.seq == 1499
        assert ledger.join().seq == COUNT - 2
        stopped_at = ledger.status().stopped_at
        assert stopped_at
        assert stopped_at["seq"] == COUNT - 1
        assert ledger.connection.local.checkpoint is None


def test_a_note_that_is_wrong_is_not_gone_on_from(long: Long) -> None:
    """A clone's files are its owner's; whatever is in this one, nothing unverified gets in."""
    path = long.clone("misled")
    folder = path / ".git/coordledger/main"
    folder.mkdir(parents=True)
    strange = {"ledger": "x", "commit": "x", "seq": 1, "digest": "x"}
    for text in ("", "{}", "[]", json.dumps(strange)):
        (folder / "verified.json").write_text(text)
        with long.open(path) as ledger:
            assert ledger.join().seq == COUNT - 1
            assert not (folder / "verified.json").exists() or text in ("", "{}", "[]")
            ledger.reset()


def test_a_clone_that_was_away_for_long_catches_up_in_steps(
    long: Long, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It moves to the new head, or stays at the one that it had: whole objects are fetched."""
    monkeypatch.setattr("coordledger.git.fetch_protocol.offers_commits", lambda advertised: False)
    behind = tmp_path / "behind.git"
    shutil.copytree(long.remote, behind)
    old = long.git.output("-C", str(behind), "rev-parse", f"{LEDGER_REF}~2000").strip()
    long.git.output("-C", str(behind), "update-ref", LEDGER_REF, old)
    path = long.clone("away")
    with Ledger.open(path, "alice", environ=long.env, remote=str(behind)) as ledger:
        assert ledger.join().seq == COUNT - 2001
    with long.open(path) as ledger, monkeypatch.context() as patch:
        patch.setattr("coordledger.client.opening.Deadline", Soon)
        with pytest.raises(CoordledgerError, match="1500 of 2000"):
            ledger.head()
        assert ledger.head(refresh=False).seq == COUNT - 2001
        assert ledger.connection.local.repository.ref(ledger.connection.local.ref) == old
        assert ledger.head().seq == COUNT - 1


# -- reading in order


def test_a_path_is_the_same_however_long_it_is(long: Long, copy: Path) -> None:
    with long.open(copy, offline=True) as ledger:
        store, git = ledger.connection.local.repository, ledger.connection.git
        whole = list(ledger.connection.local.indexed_ids(0, COUNT - 1))
        assert whole[-1] == long.grown.head
        for count in (0, 1, SHORT - 1, SHORT, SHORT + 1, 300, COUNT):
            known = whole[-count - 1] if count < COUNT else None
            path = ancestors(store.read, git, long.grown.head, {known})
            assert path.below == known
            assert len(path) == count
            assert len(path._contents) <= SHORT
            assert [oid for oid, _ in path] == whole[COUNT - count :]
            assert all(content == store.read(oid) for oid, content in path)


def test_a_long_way_is_listed_and_not_asked_for(
    long: Long, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    find = CatFile.find

    def counted(self: CatFile, *what: Any) -> Any:
        nonlocal asked
        asked += 1
        return find(self, *what)

    monkeypatch.setattr(CatFile, "find", counted)
    with long.open(copy, offline=True) as ledger:
        store, git = ledger.connection.local.repository, ledger.connection.git
        before = asked
        assert len(ancestors(store.read, git, long.grown.head, {None})) == COUNT
        assert asked - before <= SHORT + 1


def test_the_way_is_that_of_the_commits_whatever_git_is_told(long: Long, copy: Path) -> None:
    """Grafts, replace refs and the edge of a shallow copy change what git itself walks."""
    path = long.root / "grafted"
    shutil.copytree(copy, path)
    with long.open(path, offline=True) as ledger:
        ids = list(ledger.connection.local.indexed_ids(0, COUNT - 1))
        long.git.output("-C", str(path), "replace", ids[2500], ids[10])
        (path / ".git/info").mkdir(exist_ok=True)
        (path / ".git/info/grafts").write_text(f"{ids[2800]} {ids[2]}\n")
        (path / ".git/shallow").write_text(f"{ids[2700]}\n")
        seen = ancestors(
            ledger.connection.local.repository.read, ledger.connection.git, ids[-1], set()
        )
        assert list(seen.ids()) == ids
        assert ledger.audit(full=True).verdicts == {"authentic": COUNT}


@pytest.mark.parametrize("short", [True, False])
def test_a_commit_that_the_disk_has_spoilt_is_nobodys_forgery(
    long: Long, copy: Path, short: bool
) -> None:
    """git does not look whether what it has under an id is that id's."""
    path = long.root / f"spoilt-{short}"
    shutil.copytree(copy, path)
    with long.open(path, offline=True) as ledger:
        seq = COUNT - 20 if short else 2500
        victim = ledger.connection.replica.commit_at(seq).oid
        loose = path / ".git/objects" / victim[:2] / victim[2:]
        loose.parent.mkdir(exist_ok=True)
        right = long.git.output("-C", str(path), "cat-file", "commit", victim).encode()
        fresh = plain(
            "git", "hash-object", "-t", "commit", "-w", "--stdin",
            cwd=path, env=long.env, data=right.replace(b"\n\n", b"\n\nx", 1),
        ).stdout.decode().strip()  # fmt: skip
        shutil.copy(path / ".git/objects" / fresh[:2] / fresh[2:], loose)
        for pack in (path / ".git/objects/pack").glob("*"):
            pack.chmod(0o600)
    # Objects are taken from packs first: without the victim in one, the loose file counts.
    _unpack_all_but(path, long, victim)
    with long.open(path, offline=True) as ledger, pytest.raises(Integrity) as caught:
        ledger.audit(full=not short, since=COUNT - 40 if short else None)
    assert caught.value.code == "bad-copy"


def _unpack_all_but(path: Path, long: Long, victim: str) -> None:
    """Pack the repository again without one object."""
    packs = list((path / ".git/objects/pack").glob("*.pack"))
    listed = long.git.output("-C", str(path), "cat-file", "--batch-all-objects", "--batch-check")
    ids = [line.split()[0] for line in listed.splitlines()]
    keep = "".join(f"{oid}\n" for oid in ids if oid != victim).encode()
    made = plain(
        "git", "pack-objects", "--quiet", str(path / ".git/objects/pack/pack"),
        cwd=path, env=long.env, data=keep,
    ).stdout.decode().strip()  # fmt: skip
    for pack in packs:
        for part in pack.parent.glob(f"{pack.stem}.*"):
            if made not in part.name:
                part.unlink()


def test_times_of_a_grown_ledger_end_now(long: Long, copy: Path) -> None:
    with long.open(copy, offline=True) as ledger:
        head = ledger.connection.replica.position().head
        assert abs(timestamps.parse(head.record["at"]) / 1000 - time.time()) < 3600
