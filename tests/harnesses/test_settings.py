"""What `coordledger setup` writes, and the plugin, as the real harnesses read them.

Claude Code validates the plugin and the marketplace. Codex lists the hooks that it finds, whether
they are trusted, and its MCP servers; what it does not trust is what `doctor` finds.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.harnesses import bare_environment

from coordledger.integrations.connecting import findings, plan, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.harnesses import Harness

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60  # seconds


@pytest.fixture
def project(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path / "project"], check=True)
    (tmp_path / "home" / ".codex").mkdir(parents=True)
    (tmp_path / "home" / "tmp").mkdir()
    return tmp_path / "project"


def environment(project: Path) -> dict[str, str]:
    home = project.parent / "home"
    return bare_environment(home) | {"CODEX_HOME": str(home / ".codex")}


def run(program: Path, *argv: str | Path, project: Path) -> str:
    ran = subprocess.run(
        [program, *argv],
        cwd=project,
        env=environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def test_claude_code_takes_the_plugin_and_the_marketplace(
    harness_named: Callable[[str], Harness], project: Path
) -> None:
    claude = harness_named("claude").program
    said = run(claude, "plugin", "validate", ROOT / "plugins" / "coordledger", project=project)
    assert "Validation passed" in said
    rows = table.HARNESSES["claude"].hooks
    assert said.count('["agent-hook","claude"') == len(rows)
    assert "skills: coordledger:coordledger" in said
    said = run(claude, "plugin", "validate", ROOT, project=project)
    assert "Validation passed" in said


def codex_hooks(codex: Path, project: Path) -> dict[str, Any]:
    """What Codex's own interface says of the hooks of a project."""
    process = subprocess.Popen(
        [codex, "app-server"],
        cwd=project,
        env=environment(project),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    late = threading.Timer(DEADLINE, process.kill)
    late.start()
    try:
        assert process.stdin
        assert process.stdout
        client = {"name": "test", "version": "1", "title": "test"}
        for asked in (
            {"id": 1, "method": "initialize", "params": {"clientInfo": client}},
            {"method": "initialized"},
            {"id": 2, "method": "hooks/list", "params": {"cwds": [str(project)]}},
        ):
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if answer.get("id") == 2:
                (found,) = answer["result"]["data"]
                return found  # type: ignore[no-any-return]
    finally:
        late.cancel()
        process.kill()
        process.communicate()
    raise AssertionError("Codex gave no answer")


def test_codex_finds_each_hook_and_runs_none_before_it_is_trusted_as_doctor_says(
    harness_named: Callable[[str], Harness], project: Path
) -> None:
    codex, row = harness_named("codex").program, table.HARNESSES["codex"]
    scope = plan.Scope(project, False, "coordledger", environment(project))
    plan.carry_out(scope, ["codex"], connect=True, mcp=True, write=True)
    config = project.parent / "home" / ".codex" / "config.toml"

    def skipped() -> bool:
        return any("skips" in one.found for one in findings.look(scope, row))

    assert codex_hooks(codex, project)["hooks"] == []
    assert skipped()

    trust = f'[projects."{project}"]\ntrust_level = "trusted"\n'
    config.write_text(trust, "utf-8")
    found = codex_hooks(codex, project)
    assert (found["warnings"], found["errors"]) == ([], [])
    assert {hook["command"] for hook in found["hooks"]} == {"coordledger agent-hook codex"}
    # SessionStart is session_start in its keys
    names = sorted(hook["key"].split(":")[1] for hook in found["hooks"])
    assert names == sorted(re.sub("(?<!^)([A-Z])", r"_\1", one.event).lower() for one in row.hooks)
    assert {hook["trustStatus"] for hook in found["hooks"]} == {"untrusted"}
    assert skipped()
    assert "coordledger" in run(codex, "mcp", "list", project=project)

    for hook in found["hooks"]:
        trust += f'[hooks.state."{hook["key"]}"]\ntrusted_hash = "{hook["currentHash"]}"\n'
    config.write_text(trust, "utf-8")
    assert {hook["trustStatus"] for hook in codex_hooks(codex, project)["hooks"]} == {"trusted"}
    assert not skipped()
