"""Where an agent's secret is looked for: the first place that has a usable one decides."""

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
from coordledger.git.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

NAMED, OWN, GIVEN, GIVEN_FLAT, USERS, USERS_FLAT, TREE = (digit * 43 for digit in "1234567")
LEDGER, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def tree(env: dict[str, str], tmp_path: Path) -> Path:
    """A work tree of alice's."""
    root = tmp_path / "tree"
    Git(env, tmp_path, Deadline(20)).output("init", "--quiet", str(root))
    return root


def finder(env: dict[str, str], root: Path, warnings: list[str] | None = None) -> SecretFinder:
    """Alice's, in a work tree."""
    git = Git(env, root, Deadline(20))
    options = Options(path=root, agent="alice")
    heard = [] if warnings is None else warnings
    settings = config.load(options, env, git, None)
    return SecretFinder(settings, Repository.open(git), heard.append)


def lines(found: list[Secret]) -> list[str]:
    return [secret.reveal() for secret in found]


def users(env: dict[str, str]) -> Path:
    return config.config_dir(env) / "secrets"


def test_the_first_place_that_has_one_decides(
    env: dict[str, str], tree: Path, tmp_path: Path
) -> None:
    """A place is a folder: what is for one ledger stands before what is for any."""
    given = tmp_path / "given"
    places = [
        {given / LEDGER: GIVEN, given: GIVEN_FLAT},
        {users(env) / LEDGER: USERS, users(env): USERS_FLAT},
        {tree / "secrets" / "coordination": TREE},
    ]
    for folder, line in (item for place in places for item in place.items()):
        keyfiles.append(str(folder / "alice.secret"), Secret(line))
    variables = {
        "COORDINATION_SECRET_ALICE": NAMED,
        "COORDINATION_SECRET": OWN,
        "COORDINATION_SECRETS_DIR": str(given),
    }
    env = env | variables
    for wanted, gone in zip(([NAMED], [OWN], [GIVEN, GIVEN_FLAT]), variables, strict=True):
        assert lines(finder(env, tree).find("alice", LEDGER)[1]) == wanted
        env = {name: value for name, value in env.items() if name != gone}
    for place in places[1:]:
        for folder in place:
            where, found = finder(env, tree).find("alice", LEDGER)
            assert where == str(folder / "alice.secret")
            assert lines(found)[0] == place[folder]
            (folder / "alice.secret").unlink()
    where, found = finder(env, tree).find("alice", LEDGER)
    assert (where, found) == (str(users(env) / LEDGER / "alice.secret"), [])


def test_one_ledgers_secret_is_not_in_anothers_file(env: dict[str, str], tree: Path) -> None:
    alices = finder(env, tree)
    files = [alices.keep("bob", LEDGER, Secret(USERS)), alices.keep("bob", OTHER, Secret(TREE))]
    assert [file.read_text().split() for file in files] == [[USERS], [TREE]]
    assert lines(alices.find("bob", LEDGER)[1]) == [USERS]
    assert lines(alices.find("bob", OTHER)[1]) == [TREE]
    assert alices.find("bob", "c" * 32)[1] == []
    assert files[0] == users(env) / LEDGER / "bob.secret"


def test_the_variable_without_a_name_is_nobody_elses_secret(
    env: dict[str, str], tree: Path
) -> None:
    found = finder(env | {"COORDINATION_SECRET": OWN}, tree)
    assert lines(found.find("alice", LEDGER)[1]) == [OWN]
    assert found.find("bob", LEDGER)[1] == []
    assert list(found.quietly("bob", LEDGER)) == []


def test_an_unusable_file_is_passed_over_with_a_warning(
    env: dict[str, str], tree: Path, warnings: list[str]
) -> None:
    exposed = users(env) / LEDGER / "alice.secret"
    keyfiles.append(str(exposed), Secret(USERS))
    exposed.chmod(0o640)
    alices = finder(env, tree, warnings)
    with pytest.raises(Failed) as refused:  # there is nothing else
        alices.find("alice", LEDGER)
    assert refused.value.code == "secret-exposed"
    assert list(alices.quietly("alice", LEDGER)) == []
    assert warnings == []
    keyfiles.append(str(tree / "secrets" / "coordination" / "alice.secret"), Secret(TREE))
    assert lines(alices.find("alice", LEDGER)[1]) == [TREE]
    assert [str(exposed) in warning for warning in warnings] == [True]
    assert lines(list(alices.quietly("alice", LEDGER))) == [TREE]
    assert len(warnings) == 1


def test_a_new_secret_is_never_written_into_a_work_tree(
    env: dict[str, str], tree: Path, tmp_path: Path
) -> None:
    keyfiles.append(str(tree / "secrets" / "coordination" / "alice.secret"), Secret(TREE))
    home = users(env) / LEDGER / "alice.secret"
    assert finder(env, tree).home("alice", LEDGER) == home
    given = env | {"COORDINATION_SECRETS_DIR": str(tmp_path / "given")}
    assert finder(given, tree).home("alice", LEDGER) == tmp_path / "given" / LEDGER / home.name


def test_nothing_is_kept_below_a_folder_that_others_may_write_to(
    env: dict[str, str], tree: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    given.chmod(0o777)
    alices = finder(env | {"COORDINATION_SECRETS_DIR": str(given)}, tree)
    with pytest.raises(Failed) as refused:
        alices.keep("alice", LEDGER, Secret(USERS))
    assert refused.value.code == "secret-exposed"
    assert list(given.iterdir()) == []
