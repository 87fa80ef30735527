"""Canaries: secrets that must turn up in their own files and nowhere else."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import shlex
import shutil
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from support.attacker import opened, plain
from support.fleet import LEDGER_REF

from coordledger.client import config
from coordledger.client.opening import surroundings
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, error
from coordledger.format import signing
from coordledger.format.signing import Keyring, Secret
from coordledger.git import process
from coordledger.git import process as git
from coordledger.git.address import without_password
from coordledger.git.process import Git
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

    Ran = subprocess.CompletedProcess[str]

DEBUG = {"COORDLEDGER_DEBUG": "1"}


def secrets_folder(fleet: Fleet) -> Path:
    return fleet.root.parent / "home/config/coordledger/secrets"


@pytest.fixture(scope="module")
def vault(shared_fleet: Fleet) -> Fleet:
    """The town, and a file with a secret that dave brings along."""
    brought = shared_fleet.root / "brought"
    brought.write_text("canary-of-daves-own-secret-" + "d" * 30 + "\n")
    brought.chmod(0o600)
    return shared_fleet


def canaries(fleet: Fleet) -> list[str]:
    """Every secret that there is by now."""
    files = [fleet.remote / "coordledger/master", fleet.root / "brought"]
    files += sorted(secrets_folder(fleet).glob("*/*.secret"))
    files += sorted((fleet.remote / "coordledger").glob("*.secret"))
    found = {line.strip() for file in files for line in file.read_text().splitlines()}
    assert len(found) > 4
    return sorted(found)


def clean(fleet: Fleet, text: str) -> None:
    for secret in canaries(fleet):
        assert secret not in text
        assert secret[:-1] not in text


# Succeeding and failing, each with tracebacks switched on. FILE is dave's secret file.
COMMANDS = [
    "agent add erin",
    "agent add dave --secret-file FILE",
    "agent add dave --secret-file FILE",
    "agent add frank --secret-file /missing",
    "agent rotate erin",
    "agent rotate nobody",
    "agent revoke erin --key 1",
    "agent revoke erin --key 1",
    "agent list",
    "submit secretly --meta k=v",
    "claim secretly",
    "claim secretly",
    "renew secretly --ttl 2h",
    "require secretly",
    "complete secretly",
    "release secretly",
    "send --to bob hello",
    "send --to nobody hello",
    "inbox",
    "ack 1",
    "list",
    "show secretly",
    "history secretly",
    "audit --full",
    "status",
    "head",
    "head --compare x",
    "policy",
    "policy max_ttl=7200",
    "resolve",
    "doctor",
    "join origin --agent alice",
    "join /missing --agent alice",
    "join origin --agent alice --pin 0123456789abcdef",
    "hook install REMOTE",
    "init REMOTE --agent alice",
    "--remote /missing list",
    "--ledger other init REMOTE --agent alice",
]


def test_no_command_prints_a_secret_whether_it_succeeds_or_fails(
    vault: Fleet, inside: Callable[..., Ran]
) -> None:
    codes = set()
    for number, line in enumerate(COMMANDS):
        flags = ["--json"] if number % 2 else []
        words = line.replace("FILE", str(vault.root / "brought"))
        words = words.replace("REMOTE", str(vault.remote))
        ran = inside(vault, *flags, *words.split(), agent="alice", env=DEBUG)
        clean(vault, ran.stdout + ran.stderr)
        codes.add(ran.returncode)
    assert {0, 1, 3} <= codes


def _bad(fleet: Fleet, name: str, content: str, mode: int = 0o600) -> str:
    path = fleet.root / name
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_no_error_quotes_a_secret_that_is_refused(vault: Fleet, inside: Callable[..., Ran]) -> None:
    canary = "refused-canary-" + "c" * 40
    files = {
        "short": "refused-canary",
        "spaces": f"{canary} {canary}",
        "control": f"{canary}\x1b[2J",
        "long": canary * 20,
        "many": f"{canary}\nrefused-canary\n",
        "huge": f"{canary}\n" * 2000,
    }
    for name, content in files.items():
        path = _bad(vault, name, content)
        for line in ("agent add grace --secret-file", "join origin --agent alice --secret-file"):
            ran = inside(vault, *line.split(), path, agent="alice", env=DEBUG, check=1)
            assert "canary" not in ran.stdout + ran.stderr
        env = DEBUG | {"COORDINATION_SECRET": content}
        ran = inside(vault, "claim", "t", agent="alice", env=env, check=1)
        assert "canary" not in ran.stdout + ran.stderr
    path = _bad(vault, "open", canary, 0o644)
    ran = inside(vault, "agent", "add", "grace", "--secret-file", path, agent="alice", env=DEBUG)
    assert ran.returncode == 1
    assert "canary" not in ran.stdout + ran.stderr
    env = DEBUG | {"COORDINATION_SECRET": canary}  # well formed, and no key's
    ran = inside(vault, "claim", "t", agent="alice", env=env, check=1)
    assert "canary" not in ran.stdout + ran.stderr


def test_a_fault_of_ours_shows_no_secret_even_with_its_traceback(
    vault: Fleet, tmp_path: Path
) -> None:
    """Whatever breaks while secrets are at hand, at any depth."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfrom coordledger.format import signing as signing\n"
        "real, left = signing.hmac_sha256, [int(os.environ['BREAK_AFTER'])]\n"
        "def mac(key, *rest):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0:\n        raise ZeroDivisionError(rest[0][:30])\n"
        "    return real(key, *rest)\n"
        "signing.hmac_sha256 = mac\n"
    )
    for after in ("0", "1"):
        env = DEBUG | {"PYTHONPATH": str(tmp_path), "BREAK_AFTER": after}
        ran = vault.run("claim", "t", agent="alice", env=env)
        assert "Traceback" in ran.stderr
        clean(vault, ran.stdout + ran.stderr)


# -- outside of the process


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_no_argument_no_childs_environment_and_no_write_has_a_secret(
    vault: Fleet, tmp_path: Path
) -> None:
    (bob_file,) = secrets_folder(vault).glob("*/bob.secret")
    bob = bob_file.read_text().strip()
    alice, bobs = vault.clone("alice"), vault.clone("bob")
    secret_name = "COORDINATION_SECRET_BOB"
    run = shlex.join([sys.executable, "-m", "coordledger"])
    script = f"""
cd {alice}
{run} agent add heidi
{run} agent add ivan --secret-file {vault.root / "brought"}
{run} doctor
cd {bobs}
{run} claim traced
{secret_name}=broken {run} claim again
cd {tmp_path}
{run} --remote {vault.remote} --as bob list
"""
    log = tmp_path / "trace"
    watch = ["strace", "-f", "-v", "-y", "-s", "100000", "-o", str(log), "--seccomp-bpf"]
    watch += ["-e", "trace=execve,write,writev,pwrite64,sendto,sendmsg"]
    env = vault.env | DEBUG | {secret_name: bob}
    ran = plain(*watch, "sh", "-c", script, cwd=tmp_path, env=env, timeout=120)
    clean(vault, (ran.stdout + ran.stderr).decode())
    lines = log.read_text("utf-8", "replace").splitlines()
    found = [line for line in lines if any(secret in line for secret in canaries(vault))]
    programs = [line for line in lines if 'execve("' in line and "/git" in line]
    assert len(programs) > 12
    assert secret_name in "".join(lines)
    own = re.compile(r" write\(\d+<[^>]*/(heidi|ivan)\.secret\.new>, ")
    for line in found:
        if 'execve("' in line:  # ours is given it by the caller, and passes it on to nobody
            command = re.search(r'execve\("([^"]*)", \[(.*?)\], \[', line)
            assert command, line[:200]
            assert re.search(r"/(sh|env|dash|bash|python[0-9.]*)$", command[1]), line[:200]
            assert '-m", "coordledger' in command[2] or command[2].startswith('"sh"'), command[2]
            assert bob not in command[2]
        else:
            assert own.search(line), line[:200]
    assert any(own.search(line) for line in found)
    assert "traced" in vault.git("log", "--format=%s", LEDGER_REF)


def test_no_object_and_no_file_of_any_repository_has_a_secret(vault: Fleet) -> None:
    vault.ledger("bob").claim("in-objects", note="x")
    vault.git("repack", "-q")  # some loose, some packed
    vault.ledger("bob").claim("in-objects-too")
    for agent in ("alice", "bob", "carol"):
        vault.ledger(agent).head()  # each clone has the records
    known = [secret.encode() for secret in canaries(vault)]
    own = {vault.remote / "coordledger/master", vault.root / "brought"}
    own |= set((vault.remote / "coordledger").glob("*.secret"))
    own |= set(secrets_folder(vault).glob("*/*.secret"))
    looked = 0
    for path in vault.root.parent.rglob("*"):
        if path.is_file() and not path.is_symlink() and path not in own:
            content = path.read_bytes()
            assert not [secret for secret in known if secret in content], path
            looked += 1
    assert looked > 100
    repositories = [vault.remote, *(path.parent for path in vault.root.glob("*/.git/HEAD"))]
    assert len(repositories) > 2
    everything = ("git", "cat-file", "--batch-all-objects", "--batch", "--unordered")
    for repository in repositories:
        dump = plain(*everything, cwd=repository, env=vault.env | {"GIT_DIR": str(repository)})
        assert dump.stdout.count(b"Coordledger-Signature") > 3
        assert not [secret for secret in known if secret in dump.stdout]


def test_every_file_with_a_secret_is_its_users_alone(vault: Fleet) -> None:
    files = [vault.remote / "coordledger/master", *secrets_folder(vault).glob("*/*.secret")]
    files += (vault.remote / "coordledger").glob("*.secret")
    assert len(files) > 3
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert (vault.remote / "coordledger").stat().st_mode & 0o077 == 0


# -- inside of the process


def test_a_secret_and_a_keyring_show_nothing_of_themselves() -> None:
    line = "shown-canary-" + "s" * 40
    secret = Secret(line)
    ring = Keyring([secret], lambda agent: [secret])
    fingerprint = secret.derive("0" * 64, "alice", 1).fingerprint("0", "a", 1)
    ring.find("0" * 64, "alice", 1, {"alg": signing.HMAC, "verifier": fingerprint})
    plainly = Keyring([secret])
    for held in (secret, ring, plainly, [secret], {"secret": secret}, signing.Signed(b"", {}, b"")):
        shown = f"{held!r} {held!s} {held!a} {[held]} {(held,)!r}"
        assert "canary" not in shown
        assert "canary" not in "".join(traceback.format_exception_only(ValueError(held)))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for held in (secret, plainly.masters):
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(held, protocol)
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not pickled"):
            act(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)
    assert not hasattr(secret, "__dict__")


def test_a_traceback_with_all_variables_shows_no_secret() -> None:
    line = "deep-canary-" + "d" * 40
    secret = Secret(line)
    del line
    try:
        secret._mac("coordledger.record.v1", None)  # type: ignore[arg-type] - to make it fail
    except TypeError as fault:
        told = traceback.TracebackException.from_exception(fault, capture_locals=True)
        text = io.StringIO()
        text.writelines(told.format())
        assert "canary" not in text.getvalue()
        assert "Secret(...)" in text.getvalue()


def test_what_is_made_at_random_is_never_the_same() -> None:
    assert len({mint().reveal() for _ in range(50)}) == 50


def test_git_is_given_no_secret_of_the_environment(vault: Fleet) -> None:
    given = {
        "COORDINATION_SECRET": "a" * 43,
        "COORDINATION_SECRET_ALICE": "b" * 43,
        "COORDINATION_SECRETS_DIR": "/somewhere",
        "PATH": "/bin",
    }
    assert process.child_environment(given) == {"PATH": "/bin"}
    env = vault.env | given | {"PATH": vault.env["PATH"]}
    settings, store, ran = surroundings(config.Options(path=vault.clone("alice")), env)
    assert store
    store.close()
    assert not [name for name in ran._environ if name.startswith("COORDINATION")]
    assert "aaaaaaaa" not in repr(settings)


# -- passwords of remotes


URLS = [
    ("https://user:hunter-two@127.0.0.1:1/x.git", "hunter-two"),
    ("https://user:hunter@two@127.0.0.1:1/x.git", "two@"),
    ("https://hunter-token@127.0.0.1:1/x.git", "hunter-token"),
    ("http://user:hunter%2Ftwo@127.0.0.1:1/x.git", "hunter%2Ftwo"),
    ("https://u:hunter:two@127.0.0.1:1/a@b/x.git", "hunter:two"),
]


@pytest.mark.parametrize(("url", "password"), URLS)
def test_the_password_in_a_remotes_url_is_not_shown(
    vault: Fleet, inside: Callable[..., Ran], tmp_path: Path, url: str, password: str
) -> None:
    clone = tmp_path / "clone"
    vault.git("clone", "--quiet", vault.remote, clone)
    vault.git("remote", "set-url", "origin", url, cwd=clone)
    for argv in (
        ["--json", "list"],
        ["doctor"],
        ["join", "origin"],
        ["join", url],
        ["--remote", url, "status"],
    ):
        ran = inside(vault, "-C", clone, "--as", "bob", *argv, env=DEBUG, check=1)
        assert password not in ran.stdout + ran.stderr, argv
    with pytest.raises(CoordledgerError) as failed:
        opened(vault, clone, "bob", remote=url).tasks()
    assert password not in f"{failed.value} {failed.value.data}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@h/x", "https://h/x"),
        ("https://u:p@q@h/x", "https://h/x"),
        ("fatal: 'https://u:p@h/a@b' and ssh://me@h:1/x", "fatal: 'https://h/a@b' and ssh://h:1/x"),
        ("https://h/a@b", "https://h/a@b"),
        ("git@host:path", "git@host:path"),
    ],
)
def test_the_users_part_of_a_url_is_left_out_and_nothing_else(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_what_git_says_of_a_url_is_shown_without_its_password(tmp_path: Path) -> None:
    ran = git.Ran(128, "", "fatal: unable to access 'https://u:pw@h/': no\n")
    assert "pw" not in ran.why()
    runner = Git({"PATH": "/usr/bin:/bin"}, tmp_path, Deadline(10))
    failed = runner.run("ls-remote", "https://u:canary-pw@127.0.0.1:1/x")
    assert failed.code
    assert "canary" not in failed.why()
    assert "canary" not in error("git-failed", why=failed.why()).message
