"""Where agents run that have no home, no clone of their own, and secrets that a platform mounts."""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

import pytest

from coordledger import keyfiles
from coordledger.client import config
from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect
from coordledger.errors import Failed, Integrity
from coordledger.git.repository import Repository
from coordledger.setup import joining

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

LINE = "m" * 43
OTHER = 12345  # a user whom no file knows


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder with a secret as Kubernetes mounts it."""
    folder = tmp_path / "volume"
    (folder / "..data").mkdir(parents=True)
    (folder / "..data" / "bob.secret").write_text(LINE + "\n")
    (folder / "..data" / "bob.secret").chmod(0o444)
    (folder / "bob.secret").symlink_to("..data/bob.secret")
    return folder


def refusal(path: Path, trusted: Path | None = None) -> Failed:
    with pytest.raises(Failed) as refused:
        keyfiles.read(str(path), str(trusted) if trusted else None)
    assert refused.value.code == "secret-exposed"
    return refused.value


# -- mounted secrets


def test_a_mounted_secret_is_read_where_its_folder_is_trusted(volume: Path) -> None:
    for path in (volume / "bob.secret", volume / "..data" / "bob.secret"):
        if os.geteuid() == 0:
            os.chown(volume / "..data" / "bob.secret", OTHER, OTHER)
        found = keyfiles.read(str(path), str(volume)) or []
        assert [secret.reveal() for secret in found] == [LINE]
    assert keyfiles.read(str(volume / "carol.secret"), str(volume)) is None


def test_a_refusal_of_what_may_be_mounted_names_the_way_to_trust_it(volume: Path) -> None:
    opt_in = f"export COORDLEDGER_SECRETS_TRUSTED={volume}"
    assert opt_in in refusal(volume / "bob.secret").hint
    assert "..data" in refusal(volume / "..data" / "bob.secret").hint


def test_trust_in_one_folder_is_none_in_another(volume: Path, tmp_path: Path) -> None:
    refusal(volume / "bob.secret", tmp_path / "elsewhere")
    refusal(volume / "bob.secret", volume / "..data")  # the link is not in there
    outside = tmp_path / "outside"
    outside.write_text(LINE + "\n")
    (volume / "carol.secret").symlink_to(outside)
    refusal(volume / "carol.secret", volume)
    (volume / "dave.secret").symlink_to("../outside")
    refusal(volume / "dave.secret", volume)
    refusal(tmp_path / "volume" / ".." / "outside", volume)
    os.mkfifo(volume / "eve.secret")
    refusal(volume / "eve.secret", volume)


def test_an_agent_signs_with_a_mounted_secret(fleet: Fleet, tmp_path: Path, volume: Path) -> None:
    secret = fleet.enroll("bob").read_text()
    mounted = volume / "..data" / "bob.secret"
    mounted.chmod(0o600)
    mounted.write_text(secret)
    mounted.chmod(0o444)
    env = {"XDG_CONFIG_HOME": str(tmp_path / "none"), "COORDINATION_SECRETS_DIR": str(volume)}
    refused = fleet.run("claim", "t", agent="bob", env=env, check=1)
    assert f"export COORDLEDGER_SECRETS_TRUSTED={volume}" in refused.stderr
    env["COORDLEDGER_SECRETS_TRUSTED"] = str(volume)
    assert fleet.run("claim", "t", agent="bob", env=env).returncode == 0


# -- no home


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return {"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}


def test_who_has_no_home_has_a_folder_of_his_own(homeless: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / f"coordledger-{os.geteuid()}"
    assert config.config_dir(homeless) == folder / "config"
    assert config.cache_dir(homeless) == folder / "cache"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert config.config_dir(homeless | {"XDG_CONFIG_HOME": "/x"}).parts[:2] == ("/", "x")


@pytest.mark.parametrize("how", ["a link", "open to all", "a file", "another's"])
def test_a_folder_that_somebody_else_made_is_refused(
    homeless: dict[str, str], tmp_path: Path, how: str
) -> None:
    folder = tmp_path / f"coordledger-{os.geteuid()}"
    if how == "a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "theirs")
    elif how == "a file":
        folder.touch(mode=0o600)
    else:
        folder.mkdir(mode=0o700)
        if how == "open to all":
            folder.chmod(0o777)
        elif os.geteuid() != 0:
            pytest.skip("only root can give folders to others")
        else:
            os.chown(folder, OTHER, OTHER)
    with pytest.raises(Failed) as refused:
        config.config_dir(homeless)
    assert refused.value.code == "secret-exposed"


def test_an_agent_without_a_home_claims_with_a_secret_of_the_environment(
    fleet: Fleet, homeless: dict[str, str], tmp_path: Path
) -> None:
    secret = fleet.enroll("bob").read_text().strip()
    env = {name: value for name, value in fleet.env.items() if name != "HOME"}
    env = {name: value for name, value in env.items() if not name.startswith("XDG_")}
    env |= homeless | {"COORDINATION_SECRET": secret}
    with Ledger.open(fleet.clone("bob"), "bob", environ=env) as bob:
        assert bob.claim("homeless").won
    outside = tmp_path / "outside"
    outside.mkdir()
    with Ledger.open(outside, "bob", environ=env, remote=str(fleet.remote)) as bob:
        assert bob.show("homeless").agent == "bob"


# -- a clone that cannot be written


def test_a_clone_that_cannot_be_written_is_read_and_written_through_a_copy(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.enroll("bob")
    path = fleet.clone("bob")
    with fleet.ledger("bob") as bob:
        bob.submit("t")
        known = bob.head(refresh=False)
    before = sorted((file, file.stat().st_mtime_ns) for file in path.rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr(Repository, "is_writable", False)
        with Ledger.open(path, "bob", environ=fleet.env) as bob:
            assert bob.head(refresh=False) == known  # it goes on from the verified head
            assert bob.claim("t").won
            assert bob.show("t").agent == "bob"
        with Ledger.open(path, "bob", environ=fleet.env) as bob:
            assert bob.renew("t").agent == "bob"  # the same session
    after = sorted((file, file.stat().st_mtime_ns) for file in path.rglob("*"))
    assert after == before


def test_the_copy_of_a_clone_never_goes_back_behind_the_clones_head(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = fleet.git("rev-parse", "refs/coordledger/main").strip()
    with fleet.ledger("alice") as alice:
        alice.submit("t")
        path = fleet.clone("alice")
    fleet.git("update-ref", "refs/coordledger/main", older)
    monkeypatch.setattr(Repository, "is_writable", False)
    with (
        Ledger.open(path, "alice", environ=fleet.env) as alice,
        pytest.raises(Exception, match=r".") as refused,
    ):
        alice.tasks()
    assert getattr(refused.value, "exit_code", None) == 4


def test_what_the_copy_was_told_outlives_that_the_clone_moves_on(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fleet.ledger("alice") as alice:
        alice.submit("t")
        path = fleet.clone("alice")
        joining.join(Options(path, agent="alice"), fleet.env, "origin")

        def copy() -> Ledger:
            monkeypatch.setattr(Repository, "is_writable", False)
            return Ledger.open(path, "alice", environ=fleet.env)

        with copy() as ledger:
            ledger.submit("u")
            assert ledger.status().enforcement == "server"
            ledger.connection.local.told.add(99, "ab" * 20)
        monkeypatch.undo()
        alice.submit("v")
        with Ledger.open(path, "alice", environ=fleet.env) as ledger:
            ledger.tasks()
        with copy() as ledger:
            assert ledger.connection.enforcement == "server"
            with pytest.raises(Integrity) as caught:
                ledger.tasks()
            assert caught.value.code == "told-lost"


# -- a clone that a group shares


@pytest.mark.parametrize(
    ("shared", "folder", "file"),
    [("group", 0o770, 0o660), ("false", 0o700, 0o600), ("0640", 0o750, 0o640)],
)
def test_what_is_kept_in_a_shared_clone_is_shared(
    fleet: Fleet, tmp_path: Path, shared: str, folder: int, file: int
) -> None:
    fleet.enroll("bob")
    path = tmp_path / "shared"
    fleet.git("clone", "--quiet", "-c", f"core.sharedRepository={shared}", fleet.remote, path)
    joining.join(Options(path=path, agent="bob"), fleet.env, "origin")
    with Ledger(connect(Options(path, agent="bob"), fleet.env)) as bob:
        assert bob.claim("t").won
        bob.connection.local.told.add(bob.head().seq, fleet.head())
    ours = path / ".git" / "coordledger"
    modes = {(one.is_dir(), stat.S_IMODE(one.stat().st_mode) & 0o777) for one in ours.rglob("*")}
    assert modes == {(True, folder), (False, file)}
    refs = path / ".git" / "refs"
    assert (refs / "coordledger").stat().st_mode & 0o777 == refs.stat().st_mode & 0o777
