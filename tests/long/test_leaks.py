"""What docs/operations.md says to do after a leak, or without an owner, line by line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import pages
from support.fleet import hermetic

PAGE = "docs/operations.md"


class Account:
    """The account that owns a repository, and the ledger of alice's and bob's in it."""

    def __init__(self, root: Path, *founding: str) -> None:
        self.env = hermetic(root)
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        self.root, self.repository = root, root / "project.git"
        self.play(root, f"coordledger init project.git --agent alice {' '.join(founding)}")
        self.play(self.repository, "coordledger key new --agent bob > bob.pub")
        by = " --ssh-key bob.pub" if founding else ""
        self.play(self.repository, f"coordledger agent add bob{by}")
        self.play(self.repository, "coordledger claim held --as bob")

    def play(self, where: Path, script: str, code: int = 0) -> str:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=where,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def here(self, script: str, code: int = 0) -> str:
        return self.play(self.repository, script, code)

    def keys(self, agent: str) -> list[tuple[str, bool]]:
        """Kind of each key, and whether it is valid."""
        agents = json.loads(self.here("coordledger agent list --json"))
        [found] = [one for one in agents if one["agent"] == agent]
        return [(key["alg"].partition("-")[0], key["until_seq"] is None) for key in found["keys"]]


def scripts(title: str) -> list[str]:
    text = pages.text(PAGE).partition(f"### {title}\n")[2].partition("\n### ")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("founding", [[], ["--ssh-key"]], ids=["a secret", "an SSH key"])
def test_an_agents_leaked_key_ends_with_one_command(tmp_path: Path, founding: list[str]) -> None:
    account = Account(tmp_path, *founding)
    ending, anew = scripts("An agent's secret, or its SSH key")
    assert "gave back 1" in account.here(ending)
    assert "revoked" in account.here("coordledger claim stolen --as bob", code=1)
    assert '"status": "open"' in account.here("coordledger show held --json")
    account.here(anew)
    assert [valid for _, valid in account.keys("bob")] == [False, True]
    account.here("coordledger claim held --as bob")


def test_nothing_that_a_leaked_master_signs_is_valid_any_more(tmp_path: Path) -> None:
    account = Account(tmp_path)
    leaked = (account.repository / "coordledger" / "master").read_text()
    secrets = account.root / "copied"
    shutil.copytree(Path(account.env["XDG_CONFIG_HOME"]) / "coordledger", secrets)
    [changing] = scripts("The master")
    account.here(changing)
    assert account.keys("alice") == account.keys("bob") == [("hmac", False), ("hmac", True)]
    assert "authentic" in account.here(
        "coordledger hook verify . --full && coordledger audit --full"
    )
    assert (account.repository / "coordledger" / "master").read_text().startswith(leaked)
    account.here("coordledger claim more --as bob")
    # what was copied with it
    account.env = account.env | {"XDG_CONFIG_HOME": str(account.root / "thief")}
    shutil.copytree(secrets, account.root / "thief" / "coordledger")
    thief = account.root / "clone"
    account.play(account.root, f"git init -q {thief}")
    join = f"coordledger join {account.repository} --agent bob --json"
    assert '"key": "no-secret"' in account.play(thief, join)


@pytest.mark.parametrize("founding", [[], ["--ssh-key"]], ids=["a secret", "an SSH key"])
def test_a_lost_owner_comes_back(tmp_path: Path, founding: list[str]) -> None:
    account = Account(tmp_path, *founding)
    by_master, by_spare = scripts("A lost owner")
    config = Path(account.env["XDG_CONFIG_HOME"]) / "coordledger"
    if founding:
        *before, ending = by_spare.splitlines()
        account.here("\n".join(before))
        next(config.glob("keys/alice/1")).unlink()  # lost now: the spare one signs
        account.here(ending)
    else:
        shutil.rmtree(config / "secrets")
        assert "no secret" in account.here(
            "coordledger claim t --as bob", code=1
        )  # for alice alone
        account.here(by_master)
    assert [valid for _, valid in account.keys("alice")] == [False, True]
    account.here("coordledger submit more")
