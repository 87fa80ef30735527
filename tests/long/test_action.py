"""The GitHub Action: its steps, run by bash as the runner does it, with inputs that are hostile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.reserved_site import change, reserved_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
EXAMPLE = yaml.safe_load((ROOT / "examples/github/deploy.yml").read_text("utf-8"))
INSTALL, CHECK = ACTION["runs"]["steps"]
HOSTILE = (
    "'\"; touch pwned; $(touch pwned) `touch pwned`\ntouch pwned\n#",
    "--help",
    "x --help",
)


class Runner:
    """What GitHub's runner does with a step: it fills in expressions, and bash gets the script."""

    def __init__(self, site: Fleet, temp: Path) -> None:
        self.site, self.temp = site, temp
        self.clone = site.root / "checkout"
        self.before = ""

    def fill(self, text: str, inputs: dict[str, str]) -> str:
        defaults = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
        known = {f"inputs.{name}": value for name, value in (defaults | inputs).items()}
        known |= {"github.action_path": str(ROOT), "runner.temp": str(self.temp)}
        known |= {"github.event.pull_request.base.sha": "", "github.event.before": self.before}

        def value(found: re.Match[str]) -> str:
            return next((known[one] for one in found[1].split(" || ") if known[one]), "")

        return re.sub(r"\$\{\{ (.*?) \}\}", value, text)

    def run(self, step: dict[str, Any], **given: str) -> tuple[int, str]:
        """A step with these inputs (`_` for `-`): its exit code, and its output."""
        inputs = {name.replace("_", "-"): value for name, value in given.items()}
        script = self.temp / "step.sh"
        script.write_text(step["run"])
        assert step["shell"] == "bash"
        where = self.fill(step.get("working-directory", "."), inputs)
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.clone / where,
            env=self.site.env
            | {name: self.fill(value, inputs) for name, value in step["env"].items()},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    def check(self, command: str, **given: str) -> tuple[int, str]:
        return self.run(CHECK, command=command, **given)


@pytest.fixture(scope="module")
def runner(
    founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    site = reserved_site(founded("bob"))
    made = Runner(site, tmp_path_factory.mktemp("runner"))
    made.clone.mkdir()
    del site.env["PYTHONWARNINGS"]  # pip has some
    code, said = made.run(INSTALL)
    assert code == 0, said
    made.clone.rmdir()
    site.git("clone", "-q", "-b", "main", site.remote, made.clone, cwd=site.root)
    site.git("config", "user.name", "x", cwd=made.clone)
    site.git("config", "user.email", "x@example.org", cwd=made.clone)
    yield made


@pytest.fixture
def secret(runner: Runner) -> str:
    [file] = Path(runner.site.env["XDG_CONFIG_HOME"]).rglob("alice.secret")
    return file.read_text("ascii")


def test_a_ledger_is_audited(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = runner.site.ledger("alice").head().ledger
    code, said = runner.check("audit", pin=pin)
    assert code == 0, said
    assert said.startswith("::stop-commands::")
    token = said.partition("\n")[0].rpartition(":")[2]
    assert said.endswith(f"::{token}::\n") or f"::{token}::\n" in said
    code, said = runner.check("audit", pin="0" * 32)
    assert code == 4, said
    # As on a runner, which has no secret, and where no hook vouches for anything.
    monkeypatch.setitem(runner.site.env, "XDG_CONFIG_HOME", str(runner.temp / "empty"))
    (runner.clone / ".git/coordledger/main/vouches").unlink()
    remote = runner.site.remote
    master, hook = remote / "coordledger" / "master", remote / "hooks" / "pre-receive"
    for file in (master, hook):
        file.rename(file.with_name("aside"))
    try:
        for allowed, expected in (("false", 1), ("true", 0), ("$(id)", 1)):
            code, said = runner.check("audit", allow_unverified=allowed)
            assert code == expected, said
    finally:
        for file in (master, hook):
            file.with_name("aside").rename(file)


def test_a_live_claim_opens_the_gate_and_nothing_else_does(runner: Runner, secret: str) -> None:
    for given, expected in (
        ({"task": "auth", "by": "alice", "epoch": "1"}, 0),
        ({"task": "auth"}, 0),
        ({"task": "auth", "by": "bob"}, 3),
        ({"task": "auth", "by": "alice", "epoch": "2"}, 3),
        ({"task": "never"}, 1),
        ({"task": ""}, 1),
        ({}, 1),
    ):
        code, said = runner.check("require", secret=secret, agent="alice", **given)
        assert code == expected, said
        assert secret.strip() not in said


@pytest.mark.parametrize("text", HOSTILE)
def test_an_input_is_a_value_whatever_it_says(runner: Runner, text: str) -> None:
    for command, name in (
        ("require", "task"), ("require", "by"), ("require", "epoch"), ("guard", "base"),
        ("audit", "pin"), ("audit", "remote"), ("audit", "ledger"), ("audit", "agent"),
    ):  # fmt: skip
        given = {"task": "auth"} | {name: text}
        code, said = runner.check(command, **given)
        assert code != 0, (name, said)
    code, said = runner.check(text)
    assert code == 2, said
    assert not list(runner.site.root.rglob("pwned"))
    assert not Path("pwned").exists()


def test_a_change_of_what_others_have_reserved_is_refused(runner: Runner) -> None:
    git, root = runner.site.git, runner.clone
    base = git("rev-parse", "HEAD", cwd=root).strip()
    try:
        change(root, "free.py", "sub/-x")
        git("add", "-A", cwd=root)
        git("commit", "-qm", "x", cwd=root)
        assert runner.check("guard", base=base)[0] == 0
        change(root, "README.md")
        git("commit", "-qam", "y", cwd=root)
        runner.before = base
        code, said = runner.check("guard", working_directory="sub")
        assert code == 3, said
        assert "README.md is reserved by alice/desk for auth until" in said
        assert runner.check("guard", agent="alice")[0] == 0
        assert runner.check("guard", base="HEAD")[0] == 0
        runner.before = "0" * 40  # a new branch
        assert runner.check("guard")[0] != 0
    finally:
        runner.before = ""
        git("reset", "-q", "--hard", base, cwd=root)


def test_nothing_is_filled_into_a_script_and_each_input_says_what_it_is() -> None:
    filled = ""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert "${{" not in step["name"]
        filled += " ".join([*step["env"].values(), step.get("working-directory", "")])
    for name, one in ACTION["inputs"].items():
        assert one["description"]
        assert f"inputs.{name}" in filled


def test_the_example_gives_what_the_action_takes_and_its_secret_to_one_job_alone() -> None:
    for job in EXAMPLE["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            if step.get("uses", "").startswith("example/coordledger@"):
                assert set(step["with"]) <= set(ACTION["inputs"])
                if "secret" in step["with"]:
                    assert job["environment"]
