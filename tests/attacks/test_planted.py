"""What somebody puts into a repository, a work tree or an environment: it changes no verdict."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.attack_batch import evil_server
from support.attacker import opened, plain
from support.fleet import LEDGER_REF, OWNER

from coordledger import keyfiles
from coordledger.errors import CoordledgerError, Failed, Integrity
from coordledger.format import canonical
from coordledger.format.commit import parse_commit
from coordledger.format.state import page_path
from coordledger.git.refs import read_plain

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.attacker import Attacker
    from support.fleet import Fleet

    Ran = subprocess.CompletedProcess[str]

TASK = "watched"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture(scope="module")
def story(shared_fleet: Fleet) -> Fleet:
    """A task that bob holds, and some messages."""
    bob = shared_fleet.ledger("bob", session="s1")
    bob.submit(TASK, priority=3)
    bob.claim(TASK)
    bob.send("hello", to="carol")
    return shared_fleet


@pytest.fixture
def copy(story: Fleet, tmp_path: Path) -> Iterator[Path]:
    """A clone of carol's to plant things in."""
    carol = story.clone("carol")
    story.ledger("carol").head()  # it has the story
    path = tmp_path / "copy"
    shutil.copytree(carol, path, symlinks=True)
    yield path


def seen(fleet: Fleet, path: Path, **environ: str) -> dict[str, object]:
    """What carol's clone says about the ledger, and how it is verified."""
    ledger = opened(fleet, path, "carol", environ=fleet.env | environ)
    audit = ledger.audit(full=True)
    claim = ledger.show(TASK)
    return {
        "verdicts": audit.verdicts,
        "problems": audit.problems,
        "holder": (claim.agent, claim.epoch, claim.priority, claim.verdict),
        "inbox": [(message.body, message.verdict) for message in ledger.inbox()],
    }


def finding(inside: Callable[..., Ran], fleet: Fleet, path: Path, name: str) -> tuple[bool, str]:
    """One check of doctor's in a clone: whether it is good, and what was found."""
    told = json.loads(inside(fleet, "-C", path, "--json", "doctor").stdout)
    [one] = [check for check in told["checks"] if check["name"] == name]
    return one["ok"], one["found"]


# -- in a clone's repository


def _replace(fleet: Fleet, path: Path) -> None:
    """The page says that carol has it; every commit is another."""
    page = fleet.git("rev-parse", f"{LEDGER_REF}:{page_path(TASK)}", cwd=path).strip()
    content = fleet.git("cat-file", "blob", page, cwd=path).replace('"bob"', '"eve"')
    file = path / "planted"
    file.write_text(content)
    other = fleet.git("hash-object", "-w", "planted", cwd=path).strip()
    fleet.git("replace", "-f", page, other, cwd=path)
    first, second, *_ = fleet.git("rev-list", LEDGER_REF, cwd=path).split()
    fleet.git("replace", "-f", second, first, cwd=path)


def _packed_replace(fleet: Fleet, path: Path) -> None:
    _replace(fleet, path)
    fleet.git("pack-refs", "--all", cwd=path)
    assert not any((path / ".git/refs/replace").glob("*"))


def _graft(fleet: Fleet, path: Path) -> None:
    ids = fleet.git("rev-list", LEDGER_REF, cwd=path).split()
    (path / ".git/info").mkdir(exist_ok=True)
    (path / ".git/info/grafts").write_text(f"{ids[1]} {ids[-1]}\n")


@pytest.mark.parametrize("plant", [_replace, _packed_replace, _graft])
def test_replaced_objects_and_grafts_change_nothing_and_doctor_tells(
    story: Fleet, copy: Path, inside: Callable[..., Ran], plant: Callable[[Fleet, Path], None]
) -> None:
    before = seen(story, copy)
    assert finding(inside, story, copy, "clone")[0] is True
    plant(story, copy)
    assert seen(story, copy) == before
    good, found = finding(inside, story, copy, "clone")
    assert good is False
    assert "changes what plain git shows" in found


@pytest.mark.parametrize("which", ["the head", "the first record", "every record"])
def test_a_shallow_file_that_somebody_wrote_changes_nothing(
    story: Fleet, copy: Path, which: str
) -> None:
    before = seen(story, copy)
    ids = story.git("rev-list", LEDGER_REF, cwd=copy).split()
    chosen = {"the head": ids[:1], "the first record": ids[-1:], "every record": ids}[which]
    (copy / ".git/shallow").write_text("".join(f"{oid}\n" for oid in chosen))
    assert seen(story, copy) == before
    story.ledger("bob").claim(f"after-{which.replace(' ', '-')}")
    after = opened(story, copy, "carol").audit(full=True)
    count = int(story.git("rev-list", "--count", LEDGER_REF))
    assert (after.verdicts, after.problems) == ({"authentic": count}, ())


def _loose(path: Path, oid: str) -> Path:
    return path / oid[:2] / oid[2:]


@pytest.mark.parametrize("how", ["in place", "in alternates"])
@pytest.mark.parametrize("what", ["another page", "garbage", "nothing"])
def test_an_object_that_is_not_what_its_id_says_is_never_shown(
    story: Fleet, copy: Path, tmp_path: Path, how: str, what: str
) -> None:
    page = story.git("rev-parse", f"{LEDGER_REF}:{page_path(TASK)}", cwd=copy).strip()
    content = story.git("cat-file", "blob", page, cwd=copy).encode()
    evil = content.replace(b'"priority":3', b'"priority":9')
    lie = zlib.compress(b"blob %d\0%s" % (len(evil), evil))
    packed = {"another page": lie, "garbage": b"x" * 200, "nothing": b""}[what]
    own = _loose(copy / ".git/objects", page)
    target = own
    if how == "in alternates":
        target = _loose(tmp_path / "theirs", page)
        target.parent.mkdir(parents=True)
        (copy / ".git/objects/info").mkdir(exist_ok=True)
        (copy / ".git/objects/info/alternates").write_text(f"{tmp_path / 'theirs'}\n")
    own.unlink()
    target.write_bytes(packed)
    ledger = opened(story, copy, "carol", offline=True)
    with pytest.raises(Integrity) as damaged:
        ledger.show(TASK)
    assert damaged.value.code == "bad-copy"


def test_no_hook_of_a_clone_runs_and_no_setting_of_it_matters(
    story: Fleet, copy: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    names = ("pre-push", "reference-transaction", "post-checkout", "post-rewrite", "pre-auto-gc")
    for folder in (hooks, copy / ".git/hooks"):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
            (folder / name).chmod(0o755)
    settings = {
        "core.hooksPath": hooks,
        "push.default": "nothing",
        "push.followTags": "true",
        "push.recurseSubmodules": "on-demand",
        "fetch.prune": "true",
        "fetch.recurseSubmodules": "true",
        "fetch.writeCommitGraph": "true",
        "remote.origin.tagOpt": "--tags",
        "remote.origin.prune": "true",
        "transfer.hideRefs": "refs/coordledger",
        "core.useReplaceRefs": "true",
        "log.showSignature": "true",
        "alias.push": "!false",
        "alias.fetch": "!false",
    }
    for name, value in settings.items():
        story.git("config", name, value, cwd=copy)
    before = seen(story, story.clone("carol"))
    assert seen(story, copy) == before
    assert opened(story, copy, "carol").claim("with-hooks").won
    # What has to be fetched comes alone, and moves refs without a word.
    assert story.ledger("bob").claim("meanwhile").won
    story.git("tag", "planted", LEDGER_REF)
    try:
        assert opened(story, copy, "carol").show("meanwhile").agent == "bob"
        assert "planted" not in story.git("tag", cwd=copy)
    finally:
        story.git("tag", "-d", "planted")
    assert not ran.exists()


def test_a_gitlink_or_a_symlink_of_the_code_is_none_of_the_ledgers_business(
    story: Fleet, copy: Path, tmp_path: Path
) -> None:
    """Code that is checked out beside the ledger: links where the ledger has its files."""
    (copy / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = ext::sh -c false\n')
    target = tmp_path / "elsewhere"
    target.write_text("untouched")
    for name in ("ledger.json", "tasks", "agents", "coordledger"):
        (copy / name).symlink_to(target)
    story.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x", cwd=copy)
    story.git("add", ".gitmodules", "ledger.json", cwd=copy)
    assert seen(story, copy) == seen(story, story.clone("carol"))
    assert opened(story, copy, "carol").claim("with-links").won
    assert target.read_text() == "untouched"


@pytest.mark.parametrize("name", ["trusted.json", "index", "log", "lock"])
def test_symlinks_among_the_clones_own_files_lead_to_no_wrong_verdict(
    story: Fleet, copy: Path, tmp_path: Path, name: str
) -> None:
    folder = copy / ".git/coordledger/main"
    before = seen(story, copy)
    target = tmp_path / "target"
    if (folder / name).exists():
        (folder / name).rename(target)
    (folder / name).symlink_to(target)
    if name == "lock":  # who holds it is written there: not into a file of somebody else's
        target.write_text("mine")
        with pytest.raises(CoordledgerError) as caught:
            seen(story, copy)
        assert caught.value.code == "io"
        assert str(folder / name) in caught.value.message
        assert target.read_text() == "mine"
        return
    assert seen(story, copy) == before
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/null" if name == "log" else tmp_path / "missing" / "at-all")
    try:
        after = seen(story, copy)
    except (CoordledgerError, OSError) as fault:  # the command line tells both in one line
        assert not isinstance(fault, CoordledgerError) or fault.code in ("io", "bad-copy")
    else:  # without an index it may know less, and says so
        assert after["verdicts"] == before["verdicts"]
        assert after["holder"] in (before["holder"], ("bob", 1, 3, "unverified"))


# -- what a shallow copy takes on trust


def test_a_stolen_claim_in_a_made_up_state_is_never_called_authentic(
    story: Fleet, attacker: Attacker, tmp_path: Path
) -> None:
    """The record is bob's own, and the reader has bob's key; the lease's end is a lie."""
    bob = story.ledger("bob", session="s1")
    won = bob.claim("long-over", ttl=timedelta(minutes=1)).claim
    assert won
    assert won.commit
    bob.release("long-over")
    task = (attacker.stand(won.commit).state.task("long-over") or {}) | {
        "until": "2999-01-01T00:00:00.000Z"
    }
    changes = {page_path("long-over"): canonical.encode(task) + b"\n"}
    server = evil_server(story, attacker, "stale", dict(changes), stolen=won.commit)
    copy = tmp_path / "copy"
    story.git("init", "--quiet", copy)
    reader = opened(story, copy, "bob", remote=f"file://{server}")
    reader.join(depth=1)
    assert reader.show("long-over").verdict == "unverified"
    assert {event.verdict for event in reader.history("long-over")} == {"unverified"}
    for check, code in ((None, "nobody-checked"), ("here", "no-key")):
        with pytest.raises(Failed) as refused:
            reader.require("long-over", check=check)
        assert refused.value.code == code
    # From what this copy has verified itself, it speaks as ever.
    assert bob.show(TASK).verdict == "authentic"


def test_a_shallow_copy_vouches_for_no_pin_and_no_head(
    story: Fleet, attacker: Attacker, tmp_path: Path
) -> None:
    """Its oldest record says of itself which seq and which digest it has."""
    known = story.ledger("bob").head()
    server = evil_server(story, attacker, "pinned", {})
    fake = story.git("rev-parse", LEDGER_REF, cwd=server).strip()
    digest = parse_commit(fake, attacker.raw(fake)).digest
    seq = b"Seq: %d" % (known.seq + 1)
    fake = attacker.changed(
        fake, attacker.stolen(fake).payload, attacker.stolen(known.commit).payload
    )
    fake = attacker.changed(fake, digest.encode(), known.digest.encode())
    fake = attacker.changed(fake, seq, b"Seq: %d" % known.seq)
    story.git("update-ref", LEDGER_REF, fake, cwd=server)
    for pin in (known.ledger, f"{known.seq}:{known.digest}", known.line()):
        copy = tmp_path / f"copy{len(pin)}"
        story.git("init", "--quiet", copy)
        reader = opened(story, copy, "bob", remote=f"file://{server}")
        with pytest.raises(Failed) as refused:
            reader.join(depth=1, pin=pin)
        assert refused.value.code == "bad-value"
        assert reader.connection.local.trusted is None
    reader.join(depth=1)
    assert reader.head().digest == known.digest  # so it says
    with pytest.raises(Failed) as refused:
        reader.compare(known.line())
    assert refused.value.code == "gone"


# -- whose repository it is


@needs_root
def test_a_repository_of_somebody_else_starts_no_program(story: Fleet, tmp_path: Path) -> None:
    """git refuses one, because its configuration names programs; with GIT_DIR it would not."""
    marker = tmp_path / "started"
    theirs = tmp_path / "theirs"
    story.git("init", "--quiet", theirs)
    story.git("config", "core.sshCommand", f"touch {marker}; false", cwd=theirs)
    story.git("config", "remote.origin.url", "ssh://nowhere/x", cwd=theirs)
    below = theirs / "below"
    below.mkdir()
    for path in (theirs, *theirs.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    ran = story.run("list", cwd=below, check=1)
    assert "belongs to somebody else" in ran.stderr
    assert not marker.exists()
    for path in (theirs / ".git", below):  # half of it is enough for a lie
        os.chown(path, 0, 0)
    assert "belongs to somebody else" in story.run("list", cwd=below, check=1).stderr
    assert not marker.exists()
    trusting = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory"}
    env = trusting | {"GIT_CONFIG_VALUE_0": "*"}
    assert "belongs to" not in story.run("list", cwd=below, env=env, check=1).stderr
    assert marker.exists()  # who tells git to trust it is heard


# -- secrets in files


@pytest.fixture
def own(story: Fleet, copy: Path) -> Path:
    """Carol's secret in her work tree, the only place where it is."""
    folder = copy / "secrets/coordination"
    folder.mkdir(parents=True)
    secret = folder / "carol.secret"
    (home,) = (story.root.parent / "home/config/coordledger/secrets").glob("*/carol.secret")
    secret.write_bytes(home.read_bytes())
    secret.chmod(0o600)
    return secret


@pytest.fixture
def elsewhere(story: Fleet) -> dict[str, str]:
    """The environment of who has no secret but in the work tree."""
    return story.env | {"XDG_CONFIG_HOME": str(story.root / "no-configuration")}


def _symlink(secret: Path) -> None:
    secret.rename(secret.with_name("elsewhere"))
    secret.symlink_to(secret.with_name("elsewhere"))


def _fifo(secret: Path) -> None:
    secret.unlink()
    os.mkfifo(secret, 0o600)


def _folder(secret: Path) -> None:
    secret.unlink()
    secret.mkdir(0o700)


EXPOSED = {
    "a symlink": _symlink,
    "readable by the group": lambda secret: secret.chmod(0o640),
    "readable by all": lambda secret: secret.chmod(0o604),
    "writable by the group": lambda secret: secret.chmod(0o620),
    "a pipe": _fifo,
    "a folder": _folder,
    "somebody else's": lambda secret: os.chown(secret, 12345, 12345),
}


@pytest.mark.parametrize("how", EXPOSED)
def test_an_exposed_secret_is_refused_and_not_repeated(
    story: Fleet, copy: Path, own: Path, elsewhere: dict[str, str], how: str
) -> None:
    if how == "somebody else's" and os.geteuid() != 0:
        pytest.skip("only root can give files to others")
    text = own.read_text().strip()
    EXPOSED[how](own)
    with pytest.raises(Failed) as refused:
        opened(story, copy, "carol", environ=elsewhere).claim("exposed")
    assert refused.value.code == "secret-exposed"
    assert text not in f"{refused.value} {refused.value.hint} {refused.value.data}"
    with pytest.raises(Failed):
        keyfiles.read(str(own))


def test_a_symlinked_folder_of_secrets_shows_nobodys_file(
    story: Fleet, copy: Path, own: Path, elsewhere: dict[str, str], tmp_path: Path
) -> None:
    """A checkout may bring a symlink: it can name a file, and never make us print it."""
    private = tmp_path / "ssh"
    private.mkdir()
    key = private / "carol.secret"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nprivate-canary-0123456789\n")
    key.chmod(0o600)
    shutil.rmtree(own.parent)
    own.parent.symlink_to(private)
    env = elsewhere | {"COORDLEDGER_DEBUG": "1"}
    ran = story.run("-C", copy, "claim", "linked", env=env, check=1)
    assert "holds no usable secret" in ran.stderr
    assert "canary" not in ran.stdout + ran.stderr


def _tracked_file(root: Path) -> None:
    pass


def _tracked_link_to_a_file(root: Path) -> None:
    path = root / "secrets/coordination/carol.secret"
    path.unlink()
    path.symlink_to("/dev/zero")


def _tracked_link_to_a_folder(root: Path) -> None:
    (root / "secrets").rename(root / "evil")
    (root / "secrets").symlink_to("evil")


def _tracked_link_out_of_the_tree(root: Path) -> None:
    (root / "secrets").rename(root.parent / "evil")
    (root / "secrets").symlink_to("../evil")


COMMIT = ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet")
TRACKED = (
    _tracked_file,
    _tracked_link_to_a_file,
    _tracked_link_to_a_folder,
    _tracked_link_out_of_the_tree,
)


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("how", TRACKED)
def test_a_secret_that_came_with_the_code_is_never_used_nor_named_in_a_hint(
    story: Fleet,
    copy: Path,
    own: Path,
    elsewhere: dict[str, str],
    how: Callable[[Path], None],
    mode: int,
) -> None:
    own.chmod(mode)
    how(copy)
    story.git("add", "--force", ".", cwd=copy)
    for staged_only in (True, False):
        refused = story.run("-C", copy, "claim", "tracked", agent="carol", env=elsewhere, check=1)
        assert "part of the repository" in refused.stderr
        hint = refused.stderr.partition("hint: ")[2]
        assert hint
        assert "secrets/coordination" not in hint
        assert str(copy) not in hint
        if staged_only:
            story.git(*COMMIT, "--message", "secrets", cwd=copy)
    story.git("rm", "--quiet", "--cached", "-r", ".", cwd=copy)  # committed, but staged no more
    refused = story.run("-C", copy, "claim", "tracked", agent="carol", env=elsewhere, check=1)
    assert "part of the repository" in refused.stderr


def test_a_tracked_secret_silences_nobody_who_has_his_own(
    story: Fleet, copy: Path, own: Path
) -> None:
    own.write_text("x" * 43 + "\n")
    story.git("add", "--force", "secrets", cwd=copy)
    story.git(*COMMIT, "--message", "secrets", cwd=copy)
    tracked = {"COORDINATION_SECRETS_DIR": str(own.parent)}
    for more in ({}, tracked):
        task = f"own-secret-{len(more)}"
        ran = story.run("-C", copy, "claim", task, agent="carol", env=story.env | more, check=0)
        assert ("part of the repository" in ran.stderr) == bool(more)


def test_an_exposed_master_lets_nothing_in(fleet: Fleet) -> None:
    master = fleet.remote / "coordledger/master"
    elsewhere = fleet.root / "elsewhere"
    shutil.copy(master, elsewhere)
    master.unlink()
    master.symlink_to(elsewhere)
    with pytest.raises(Failed) as refused:
        fleet.ledger(OWNER).submit("t")
    assert refused.value.code == "hook-broken"
    assert elsewhere.read_text().strip() not in str(refused.value)


# -- in the environment


def test_noise_in_the_environment_changes_no_verdict_and_leaks_nothing(
    story: Fleet, copy: Path, tmp_path: Path
) -> None:
    folder = story.root.parent / "home/config/coordledger/secrets"
    (secret_file,) = folder.glob("*/carol.secret")
    secret = secret_file.read_text().strip()
    trace = tmp_path / "trace"
    noise = {
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "nowhere"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(tmp_path / "nowhere"),
        "GIT_COMMON_DIR": str(tmp_path / "nowhere"),
        "GIT_WORK_TREE": str(tmp_path),
        "GIT_INDEX_FILE": str(tmp_path / "nowhere"),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_REPLACE_REF_BASE": "refs/heads/",
        "GIT_GRAFT_FILE": str(tmp_path / "nowhere"),
        "GIT_SHALLOW_FILE": str(tmp_path / "nowhere"),
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_QUARANTINE_PATH": str(tmp_path / "nowhere"),
        "GIT_PREFIX": "below/",
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(tmp_path / "hooks"),
        "GIT_CONFIG_KEY_1": "core.useReplaceRefs",
        "GIT_CONFIG_VALUE_1": "true",
        "GIT_TRACE_PACKET": str(trace),
        "GIT_TRACE_SETUP": str(trace),
        "GIT_TRACE2_EVENT": str(trace),
        "GIT_TRACE": "2",
        "GIT_CURL_VERBOSE": "1",
        "GIT_PUSH_OPTION_COUNT": "1",
        "GIT_PUSH_OPTION_0": "x",
        "COORDINATION_SECRET": secret,
        "PYTHONHASHSEED": "1",
        "LC_ALL": "C",
        "LANG": "tr_TR.UTF-8",
        "TZ": "Asia/Kathmandu",
        "COLUMNS": "1",
        "PAGER": "false",
        "EDITOR": "false",
    }
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-push", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    plainly = story.run("-C", copy, "--json", "audit", "--full", check=0)
    noisily = story.run("-C", copy, "--json", "audit", "--full", env=noise, check=0)
    assert json.loads(noisily.stdout) == json.loads(plainly.stdout)
    assert seen(story, copy, **noise) == seen(story, copy)
    won = story.run("-C", copy, "claim", "in-the-noise", env=noise, check=0)
    lost = story.run("-C", copy, "claim", TASK, env=noise, check=3)
    assert "is held by bob/s1" in lost.stderr
    assert not (tmp_path / "ran").exists()
    told = "".join(ran.stdout + ran.stderr for ran in (noisily, won, lost))
    assert secret not in told
    assert secret not in trace.read_text("utf-8", "replace")


def test_git_dir_names_the_repository_and_nothing_else_does(
    story: Fleet, copy: Path, tmp_path: Path
) -> None:
    env = {"GIT_DIR": str(copy / ".git"), "GIT_WORK_TREE": "/", "COORDLEDGER_AGENT": "carol"}
    ran = story.run("--json", "show", TASK, cwd=tmp_path, env=env, check=0)
    assert json.loads(ran.stdout)["agent"] == "bob"
    env["GIT_DIR"] = str(tmp_path / "none")
    assert "not a git repository" in story.run("list", cwd=copy, env=env, check=1).stderr


# -- on the server


def test_a_pushers_environment_options_and_namespaces_change_nothing(attacker: Attacker) -> None:
    fleet = attacker.fleet
    fleet.git("config", "receive.advertisePushOptions", "true")
    good = attacker.propose(attacker.signed("bob", "void"))
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), attacker.secret("carol")))
    assert attacker.refusal("--push-option=skip", "-o", "coordledger=off", bad) == "bad-signature"
    assert attacker.refusal("--atomic", good, f"{bad}:{LEDGER_REF}x") == "no-create"
    refs = fleet.git("for-each-ref")
    for oid in (good, bad):
        pushed = attacker.push(oid, env={"GIT_NAMESPACE": "elsewhere"})
        assert pushed.slug in ("not-fast-forward", "bad-push")
    assert fleet.git("for-each-ref") == refs
    assert attacker.push("--push-option=x", good).slug == ""


def test_objects_that_came_with_a_branch_are_checked_when_the_ledger_moves(
    attacker: Attacker,
) -> None:
    """A first push brings the commits as ordinary work, a second one only moves the ref."""
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), attacker.secret("carol")))
    good = attacker.propose(attacker.signed("bob", "void"))
    assert attacker.push(f"{bad}:refs/heads/bad", f"{good}:refs/heads/good").slug == ""
    assert attacker.refusal(bad) == "bad-signature"
    assert attacker.push(good).slug == ""
    attacker.fleet.git("branch", "-D", "bad", "good")


def test_a_replacement_does_not_stand_in_for_an_object_that_is_missing(attacker: Attacker) -> None:
    """Who may push refs/replace/* could promise a tree that nobody ever gets."""
    fleet = attacker.fleet
    proposal = attacker.chain.propose(attacker.signed("bob", "submit", task="with-holes"))
    attacker.write(proposal)
    head, landing = attacker.tip, proposal.commit.oid
    for kind in ("blob", "tree"):
        victim = next(oid for oid, (what, _) in proposal.objects.items() if what == kind)
        other = attacker.add("blob", b"x") if kind == "blob" else attacker.tree()
        assert attacker.push(f"{other}:refs/replace/{victim}").slug == ""
        sent = "".join(f"{oid}\n" for oid in proposal.objects if oid != victim)
        pack = plain(
            *("git", "pack-objects", "--stdout", "-q"),
            cwd=attacker.folder,
            env=fleet.env,
            data=sent.encode(),
        ).stdout
        line = f"{head} {landing} {LEDGER_REF}\0report-status".encode()
        ran = plain(
            *("git", "receive-pack", fleet.remote),
            cwd=attacker.folder,
            env=fleet.env,
            data=b"%04x%s0000%s" % (len(line) + 4, line, pack),
        )
        assert b"ng " + LEDGER_REF.encode() in ran.stdout
        assert attacker.tip == head
        fleet.git("update-ref", "-d", f"refs/replace/{victim}")
    assert canonical.decode(proposal.commit.signed.payload)["task"] == "with-holes"


# -- in the remote's folder


def test_nobody_waits_for_a_pipe_or_reads_by_a_link_in_the_remotes_folder(
    fleet: Fleet, tmp_path: Path
) -> None:
    noted, report = fleet.remote / "coordledger/repairs.log", tmp_path / "report.md"
    private = tmp_path / "private"
    private.write_text("x main: in private\n")
    audit = ("audit", f"file://{fleet.remote}", "--report", report)
    for plant in (os.mkfifo, lambda path: path.symlink_to(private)):
        plant(noted)
        fleet.run(*audit, check=0)
        noted.unlink()
        assert "in private" not in report.read_text()
    noted.write_text(private.read_text())
    fleet.run(*audit, check=0)
    assert "in private" in report.read_text()
    os.mkfifo(tmp_path / "ref")
    assert read_plain(str(tmp_path), "ref") is None
