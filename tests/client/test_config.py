"""Where each setting comes from, and what is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import platformdirs
import pytest

from coordledger.client import config
from coordledger.client.config import SETTINGS, Options, Settings
from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.git.process import Git

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {
    "agent": ("one", "two", "three", "four"),
    "session": ("one", "two", "three", "four"),
    "ledger": ("one", "two", "three", "four"),
    "remote": ("one.git", "two.git", "three.git", "four.git"),
}


def load(env: dict[str, str], root: Path, given: dict[str, str], **options: Any) -> Settings:
    """The settings in a fresh repository whose configuration has `given`."""
    git = Git(env, root, Deadline(20))
    git.output("init", "--quiet", str(root / "work"))
    git = Git(env, root / "work", Deadline(20))
    for name, value in given.items():
        git.output("config", name, value)
    return config.load(Options(path=root / "work", **options), env, git, root / "work")


def shown(settings: Settings, name: str) -> Any:
    return settings.remote.given if name == "remote" else getattr(settings, name)


@pytest.mark.parametrize("row", SETTINGS, ids=[row.name for row in SETTINGS])
def test_an_option_wins_over_the_environment_that_over_git_and_that_over_the_default(
    env: dict[str, str], tmp_path: Path, row: config.Setting
) -> None:
    default = row.parse(row.default) if row.default else None
    env = {name: value for name, value in env.items() if name != row.variable}
    assert shown(load(env, tmp_path, {}), row.name) == default
    if row.name not in GOOD:
        return
    option, variable, key, _ = GOOD[row.name]
    given = {f"coordledger.{row.name}": key}
    assert shown(load(env, tmp_path, given), row.name) == key
    assert row.variable
    named = env | {row.variable: variable}
    assert shown(load(named, tmp_path, given), row.name) == variable
    assert shown(load(named, tmp_path, given, **{row.name: option}), row.name) == option
    empty = env | {row.variable: ""}  # as if it were not there
    assert shown(load(empty, tmp_path, given), row.name) == key


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("agent", "Not An Agent", "bad-agent"),
        ("session", "a/b", "bad-session"),
        ("ledger", "../x", "bad-ledger"),
        ("branch", "a..b", "bad-value"),
        ("channels", "good, Bad", "bad-channel"),
        ("queue", "perhaps", "bad-config"),
        ("direct", "perhaps", "bad-config"),
    ],
)
def test_a_value_of_another_form_is_refused(
    env: dict[str, str], tmp_path: Path, name: str, value: str, code: str
) -> None:
    with pytest.raises(Failed) as failed:
        load(env | {"COORDLEDGER_DIRECT": ""}, tmp_path, {f"coordledger.{name}": value})
    assert failed.value.code == code


@pytest.mark.parametrize("name", ["queue", "direct"])
@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("TRUE", True), ("1", True), ("off", False), ("no", False)]
)
def test_ways_are_switched_as_git_switches(
    env: dict[str, str], tmp_path: Path, name: str, text: str, value: bool
) -> None:
    variable = f"COORDLEDGER_{name.upper()}"
    plain = env | {variable: ""}
    assert getattr(load(plain, tmp_path, {f"coordledger.{name}": text}), name) is value
    assert getattr(load(plain | {variable: text}, tmp_path, {}), name) is value


def test_channels_are_listed_with_commas_or_blanks(env: dict[str, str], tmp_path: Path) -> None:
    given = {"coordledger.channels": "general, news\tother"}
    assert load(env, tmp_path, given).channels == ("general", "news", "other")


def test_unknown_keys_are_reported(env: dict[str, str], tmp_path: Path) -> None:
    given = {"coordledger.agent": "alice", "coordledger.agnet": "bob", "coordledger.x": "y"}
    assert load(env, tmp_path, given).unknown_keys == ("agnet", "x")


def test_outside_of_a_repository_the_users_own_file_counts(
    env: dict[str, str], tmp_path: Path
) -> None:
    own = config.config_dir(env) / "config"
    own.parent.mkdir(parents=True)
    own.write_text("[coordledger]\n\tagent = alice\n")
    git = Git(env, tmp_path, Deadline(20))
    options = Options(path=tmp_path)
    assert config.load(options, env, git, None).agent == "alice"
    assert config.load(options, env, git, tmp_path).agent is None


def test_nothing_of_the_environment_is_shown(env: dict[str, str], tmp_path: Path) -> None:
    settings = load(env | {"COORDINATION_SECRET": "hidden"}, tmp_path, {})
    assert "hidden" not in repr(settings)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs is asked")
def test_the_users_folders_are_where_platformdirs_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"HOME": str(tmp_path)}
    given = "coordledger", False
    assert config.config_dir(environ) == platformdirs.user_config_path(*given)
    assert config.cache_dir(environ) == platformdirs.user_cache_path(*given)
