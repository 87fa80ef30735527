"""Where an agent's secret is looked for: the first place that has one decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordledger import keyfiles
from coordledger.client import config
from coordledger.client.config import Options
from coordledger.client.secrets import SecretFinder
from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.format.signing import Secret
from coordledger.git.process import Git

if TYPE_CHECKING:
    from pathlib import Path

NAMED, OWN, GIVEN, TREE, USERS = (digit * 43 for digit in "12345")


def finder(env: dict[str, str], root: Path) -> SecretFinder:
    """Alice's, in a work tree."""
    git = Git(env, root, Deadline(20))
    options = Options(path=root, agent="alice")
    return SecretFinder(config.load(options, env, git, None), root)


def lines(found: list[Secret]) -> list[str]:
    return [secret.reveal() for secret in found]


def test_the_first_place_that_has_one_decides(env: dict[str, str], tmp_path: Path) -> None:
    given = tmp_path / "given"
    files = {
        given / "alice.secret": GIVEN,
        tmp_path / "secrets" / "coordination" / "alice.secret": TREE,
        config.config_dir(env) / "secrets" / "alice.secret": USERS,
    }
    for path, line in files.items():
        keyfiles.append(str(path), Secret(line))
    variables = {
        "COORDINATION_SECRET_ALICE": NAMED,
        "COORDINATION_SECRET": OWN,
        "COORDINATION_SECRETS_DIR": str(given),
    }
    env = env | variables
    for line, gone in zip((NAMED, OWN, GIVEN), variables, strict=True):
        assert lines(finder(env, tmp_path).find("alice")[1]) == [line]
        env = {name: value for name, value in env.items() if name != gone}
    for path, line in list(files.items())[1:]:
        where, found = finder(env, tmp_path).find("alice")
        assert (where, lines(found)) == (str(path), [line])
        path.unlink()
    assert finder(env, tmp_path).find("alice")[1] == []


def test_the_variable_without_a_name_is_nobody_elses_secret(
    env: dict[str, str], tmp_path: Path
) -> None:
    found = finder(env | {"COORDINATION_SECRET": OWN}, tmp_path)
    assert lines(found.find("alice")[1]) == [OWN]
    assert found.find("bob")[1] == []
    assert list(found.quietly("bob")) == []


def test_an_exposed_secret_stops_the_search_and_is_no_key_for_others_records(
    env: dict[str, str], tmp_path: Path
) -> None:
    """It is never passed over for one further down."""
    tree = tmp_path / "secrets" / "coordination" / "alice.secret"
    keyfiles.append(str(tree), Secret(TREE))
    keyfiles.append(str(config.config_dir(env) / "secrets" / "alice.secret"), Secret(USERS))
    tree.chmod(0o640)
    found = finder(env, tmp_path)
    with pytest.raises(Failed) as refused:
        found.find("alice")
    assert refused.value.code == "secret-exposed"
    assert list(found.quietly("alice")) == []


def test_a_new_secret_is_never_written_into_a_work_tree(
    env: dict[str, str], tmp_path: Path
) -> None:
    keyfiles.append(str(tmp_path / "secrets" / "coordination" / "alice.secret"), Secret(TREE))
    home = config.config_dir(env) / "secrets" / "alice.secret"
    assert finder(env, tmp_path).home("alice") == home
    given = env | {"COORDINATION_SECRETS_DIR": str(tmp_path / "given")}
    assert finder(given, tmp_path).home("alice") == tmp_path / "given" / "alice.secret"
