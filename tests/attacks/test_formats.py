"""However git keeps its objects and refs, the verdicts are the same, and two readers agree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import hostile
from support.attack_batch import Batch
from support.attacker import opened, plain, second_opinion
from support.fleet import LEDGER_REF
from support.second_reader import Invalid, Reader, read_chain, secrets_of

from coordledger.client.config import Options
from coordledger.errors import Failed, RuleBroken
from coordledger.git.tree import object_id
from coordledger.setup import joining

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

SECOND = Path(__file__).parents[1] / "support" / "second_reader.py"


@pytest.fixture(scope="module")
def story(shared_fleet: Fleet) -> Fleet:
    batch = Batch(shared_fleet, shared_fleet.root / "batch.git")
    for number in range(8):
        batch.put("bob", "submit", task=f"t{number}", priority=number, meta={"k": "v"})
    batch.put("bob", "claim", tasks=["t1", "t2"], note="naïve")
    batch.put("bob", "complete", task="t1", result="done")
    batch.put("alice", "enroll", who="dave")
    batch.put("carol", "send", to="bob", body="hello")
    batch.put("carol", "send", channel="general", body="all")
    batch.put("bob", "ack", messages=[batch.head.seq - 1])
    batch.put("alice", "revoke", who="dave")
    batch.send()
    batch.close()
    return shared_fleet


def second(repository: Path, env: dict[str, str], ref: str = LEDGER_REF) -> dict[str, Any]:
    """What the second reader says as a program, without any secret."""
    ran = plain(sys.executable, SECOND, repository, ref, cwd=repository, env=env)
    told: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == (4 if told["problem"] else 0)
    return told


def agreed(fleet: Fleet, path: Path, agent: str = "bob", remote: Path | None = None) -> Any:
    """What a clone says of the ledger; the second reader has to say the same of the server."""
    ledger = opened(fleet, path, agent)
    audit = ledger.audit(full=True)
    assert second_opinion(remote or fleet.remote) == audit.records == audit.verdicts["authentic"]
    return audit.verdicts, audit.problems, ledger.tasks(), ledger.messages("general")


# -- ways to keep objects and refs


def _loose(fleet: Fleet, path: Path) -> None:
    pack = path / "objects/pack"
    for file in pack.glob("*.pack"):
        moved = path / file.name
        for part in pack.glob(f"{file.stem}.*"):
            part.rename(path / part.name)
        subprocess.run(
            ["git", "unpack-objects", "-q"],
            cwd=path,
            env=fleet.env,
            input=moved.read_bytes(),
            check=True,
        )
    assert not list(pack.glob("*.pack"))


KEPT: dict[str, Callable[[Fleet, Path], object]] = {
    "as it came": lambda fleet, path: None,
    "loose": _loose,
    "packed": lambda fleet, path: fleet.git("repack", "-adq", cwd=path),
    "collected": lambda fleet, path: fleet.git("gc", "--quiet", "--prune=now", cwd=path),
    "with packed refs and indices": lambda fleet, path: (
        fleet.git("pack-refs", "--all", cwd=path),
        fleet.git("repack", "-dq", cwd=path),
        fleet.git("commit-graph", "write", "--reachable", cwd=path),
        fleet.git("multi-pack-index", "write", cwd=path),
    ),
    "with bitmaps": lambda fleet, path: fleet.git("repack", "-adbq", cwd=path),
}


@pytest.mark.parametrize("how", KEPT)
def test_the_same_is_read_however_a_clone_keeps_it(story: Fleet, tmp_path: Path, how: str) -> None:
    wanted = agreed(story, story.clone("bob"))
    copy = tmp_path / "copy"
    shutil.copytree(story.clone("bob"), copy, symlinks=True)
    KEPT[how](story, copy / ".git")
    assert agreed(story, copy) == wanted


@pytest.mark.parametrize("how", ["loose", "collected", "with bitmaps"])
def test_the_hook_judges_the_same_however_the_server_keeps_it(
    story: Fleet, attacker: Attacker, how: str
) -> None:
    KEPT[how](story, story.remote)
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), attacker.secret("carol")))
    assert attacker.refusal(bad) == "bad-signature"
    assert attacker.push(attacker.propose(attacker.signed("bob", "void"))).slug == ""


def _shallow_code(fleet: Fleet, path: Path) -> Path:
    fleet.git("clone", "--quiet", "--depth=1", f"file://{fleet.remote}", path)
    return path


def _worktree(fleet: Fleet, path: Path) -> Path:
    home = path.with_name("home-of-worktrees")
    fleet.git("clone", "--quiet", fleet.remote, home)
    named = ("-c", "user.name=x", "-c", "user.email=x@x")
    fleet.git(*named, "commit", "--quiet", "--allow-empty", "-m", "x", cwd=home)
    fleet.git("worktree", "add", "--quiet", "-b", "side", path, cwd=home)
    return path


def _bare(fleet: Fleet, path: Path) -> Path:
    fleet.git("clone", "--quiet", "--bare", fleet.remote, path)
    fleet.git("remote", "add", "server", fleet.remote, cwd=path)
    return path


def _with_alternates(fleet: Fleet, path: Path) -> Path:
    fleet.git("clone", "--quiet", "--shared", fleet.remote, path)
    return path


def _partial(fleet: Fleet, path: Path) -> Path:
    fleet.git("config", "uploadpack.allowFilter", "true")
    fleet.git("clone", "--quiet", "--filter=blob:none", f"file://{fleet.remote}", path)
    return path


@pytest.mark.parametrize("make", [_shallow_code, _worktree, _bare, _with_alternates, _partial])
def test_the_same_is_read_from_any_kind_of_repository(
    story: Fleet, tmp_path: Path, make: Callable[[Fleet, Path], Path]
) -> None:
    if make is _shallow_code:
        who = "x <x@x> 1 +0000"
        tree = story.head(f"{LEDGER_REF}^{{tree}}")
        text = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n"
        file = tmp_path / "commit"
        file.write_text(text)
        code = story.git("hash-object", "-t", "commit", "-w", file).strip()
        story.git("update-ref", "refs/heads/master", code)
    wanted = agreed(story, story.clone("bob"))
    path = make(story, tmp_path / "repository")
    remote = "server" if make is _bare else "origin"
    joining.join(Options(path=path, agent="bob"), story.env, remote)
    assert agreed(story, path) == wanted


# -- SHA-256


def test_a_sha_256_repository_holds_a_ledger_from_end_to_end(story: Fleet, tmp_path: Path) -> None:
    server, clone = tmp_path / "server.git", tmp_path / "clone"
    story.git("init", "--quiet", "--bare", "--object-format=sha256", server)
    story.run("init", server, "--agent", "alice", check=0)
    story.git("init", "--quiet", "--object-format=sha256", clone)
    story.git("remote", "add", "origin", server, cwd=clone)
    story.run("join", "origin", "--agent", "alice", cwd=clone, check=0)
    ledger = opened(story, clone, "alice")
    ledger.submit("x", priority=5, meta={"k": "v"})
    assert ledger.claim("x", note="☃").won
    assert ledger.complete("x", result="done").verdict == "authentic"
    ledger.send("hello", channel="general")
    assert len(ledger.head().commit) == 64
    wanted = agreed(story, clone, "alice", server)
    told = second(server, story.env)
    assert (told["records"], told["head"]) == (5, ledger.head().commit)
    for repository in (clone, server):
        story.git("gc", "--quiet", "--prune=now", cwd=repository)
        assert agreed(story, clone, "alice", server) == wanted
    assert not [
        check for check in story.run("doctor", cwd=clone).stdout.splitlines() if "FAIL" in check
    ]

    # The hook there refuses what it has to.
    head = story.git("rev-parse", LEDGER_REF, cwd=server).strip()
    raw = plain("git", "cat-file", "commit", head, cwd=server, env=story.env).stdout
    file = tmp_path / "forged"
    file.write_bytes(raw.replace(b"send to channel general", b"send to channel another"))
    forged = story.git("hash-object", "-t", "commit", "-w", file, cwd=clone).strip()
    again = plain(*("git", "push", server, f"+{forged}:{LEDGER_REF}"), cwd=clone, env=story.env)
    assert again.returncode != 0
    assert b"coordledger: refused" in again.stderr
    assert story.git("rev-parse", LEDGER_REF, cwd=server).strip() == head


@pytest.mark.parametrize("formats", [("sha1", "sha256"), ("sha256", "sha1")])
def test_clones_and_servers_of_other_formats_are_told_so(
    story: Fleet, tmp_path: Path, formats: tuple[str, str]
) -> None:
    here, there = formats
    server, clone = tmp_path / "server.git", tmp_path / "clone"
    story.git("init", "--quiet", "--bare", f"--object-format={there}", server)
    story.run("init", server, "--agent", "alice", check=0)
    story.git("init", "--quiet", f"--object-format={here}", clone)
    with pytest.raises(Failed) as refused:
        joining.join(Options(path=clone, agent="alice"), story.env, str(server))
    assert refused.value.code == "object-format"
    assert here in refused.value.message
    assert there in refused.value.message


@pytest.mark.parametrize(("name", "value"), [("refStorage", "madeUp"), ("madeUp", "true")])
def test_a_format_that_is_not_known_is_refused_by_its_name(
    story: Fleet, inside: Callable[..., Any], tmp_path: Path, name: str, value: str
) -> None:
    """As a newer git makes them."""
    path = tmp_path / "odd.git"
    story.git("init", "--quiet", "--bare", path)
    story.git("config", "core.repositoryFormatVersion", "1", cwd=path)
    story.git("config", f"extensions.{name}", value, cwd=path)
    (path / value).mkdir()
    before = sorted(path.rglob("*"))
    for argv in (
        ["init", path, "--agent", "alice"],
        ["-C", path, "list"],
        ["hook", "install", path],
    ):
        told = json.loads(inside(story, "--json", *argv, check=1).stdout)["error"]
        assert told["code"] == "object-format"
        assert name.lower() in told["message"].lower()
    assert sorted(path.rglob("*")) == before


# -- two readers


def test_both_readers_accept_the_valid_chain() -> None:
    for algo in ("sha1", "sha256"):
        ours, theirs = hostile.readers_after(0)
        if algo == "sha256":
            ours._algo = ours.state.tree._algo = "sha256"
        for oid, content in hostile.log(algo):
            assert ours.judge(oid, content) == "authentic"
            theirs.step(content)
        assert theirs.authentic == len(hostile.log(algo))


def test_the_second_reader_needs_no_secret_where_all_keys_are_ssh_keys() -> None:
    reader = Reader(secrets_of(None))
    rows = hostile.chain("ssh")["records"]
    for row in rows:
        reader.step(hostile.in_bytes(row["sha1"]["commit"]))
    assert (reader.authentic, reader.unverified) == (len(rows), 0)


@pytest.mark.parametrize("part", range(4))
def test_both_readers_refuse_every_malformed_vector(part: int) -> None:
    names = sorted(hostile.malformed())[part::4]
    for name in names:
        vector = hostile.malformed()[name]
        ours, theirs = hostile.readers_after(vector["after"], vector.get("voids", 0))
        content = hostile.in_bytes(vector["commit"])
        oid = vector.get("oid") or object_id("commit", content, "sha1")
        with pytest.raises(RuleBroken) as broken:
            ours.judge(oid, content)
        assert broken.value.code == vector["code"], name
        if "oid" not in vector:  # it reads commits by their own ids
            with pytest.raises(Invalid):
                theirs.step(content)
    assert len(names) > 70


def test_both_readers_stop_at_the_same_bad_record(
    story: Fleet, attacker: Attacker, inside: Callable[..., Any]
) -> None:
    """On a server without a hook: the chain is valid up to there, for both."""
    open_server = story.root / "open.git"
    story.git("clone", "--quiet", "--mirror", story.remote, open_server)
    (open_server / "objects/info").mkdir(exist_ok=True)
    alternates = open_server / "objects/info/alternates"
    alternates.write_text(f"{attacker.folder / 'objects'}\n{story.remote / 'objects'}\n")
    good = attacker.propose(attacker.signed("bob", "void"))
    bads = {
        "a subject": attacker.changed(good, b"void ", b"vold "),
        "a NUL": attacker.add("commit", attacker.raw(good) + b"\0"),
        "no line end": attacker.add("commit", attacker.raw(good)[:-1]),
        "a huge date": attacker.changed(good, b" +0000\n\n", b"9" * 30 + b" +0000\n\n"),
        "a tree": attacker.changed(good, attacker.head.tree.encode(), attacker.tree().encode()),
        "another's name": attacker.render(attacker.signed("carol", "complete", task="t2")),
        "no rights": attacker.render(attacker.signed("bob", "enroll", who="eve")),
    }
    seq = attacker.head.seq + 1
    for name, bad in bads.items():
        story.git("update-ref", LEDGER_REF, bad, cwd=open_server)
        reader = Reader(secrets_of(None))
        with pytest.raises(Invalid):
            for _, data in read_chain(open_server, LEDGER_REF):
                reader.step(data)
        assert len(reader.digests) == seq, name
        clone = story.root / f"reads-{name.replace(' ', '-')}"
        story.git("init", "--quiet", clone)
        joining = ("-C", clone, "--json", "join", f"file://{open_server}", "--agent", "bob")
        ran = inside(story, *joining, check=0)
        assert json.loads(ran.stdout)["head"]["seq"] == seq - 1
        assert f"warning: record {seq} " in ran.stderr, name
    told = second(open_server, story.env)
    assert (told["problem"]["seq"], told["records"]) == (seq, seq)
    story.git("update-ref", LEDGER_REF, good, cwd=open_server)
    assert second(open_server, story.env)["problem"] is None
    assert len(read_chain(open_server, LEDGER_REF)) == seq + 1
