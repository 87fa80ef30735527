"""`coordledger setup` from the outside: what it writes into a project and a home, and takes out.

Nothing of the machine's is seen: HOME is the test's own, and PATH has no harness but those that a
test puts there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordledger import cli
from coordledger.integrations.connecting import plan, table

NAMES = tuple(table.HARNESSES)


class Machine:
    """A project and a home, and the command run there."""

    def __init__(self, root: Path, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.project, self.bin = Path(env["HOME"]), root / "project", root / "bin"
        self.bin.mkdir()
        self.put("coordledger", self.bin, "#!/bin/sh\n").chmod(0o755)
        subprocess.run(["git", "init", "-q", self.project], check=True)
        self._capsys = capsys

    def put(self, name: str, folder: Path | None = None, text: str | bytes = "") -> Path:
        path = (folder or self.project) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def run(self, *argv: str, check: int | None = 0) -> str:
        """What it says, on both streams."""
        self._capsys.readouterr()
        code = cli.main(["setup", "-C", str(self.project), *argv])
        said = self._capsys.readouterr()
        assert check in (None, code), said.out + said.err
        return said.out + said.err

    def json(self, *argv: str, check: int = 0) -> Any:
        return json.loads(self.run(*argv, "--json", check=check))

    def tree(self, top: Path | None = None) -> dict[str, tuple[int, bytes | str | None]]:
        """Everything below a folder: modes, and what is in the files."""
        found: dict[str, tuple[int, bytes | str | None]] = {}
        for path in sorted((top or self.project).rglob("*")):
            if ".git" in path.parts:
                continue
            content: bytes | str | None = None
            if path.is_symlink():
                content = str(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
            found[str(path)] = (path.lstat().st_mode, content)
        return found

    def settings(self, name: str) -> Any:
        return json.loads((self.project / name).read_text("utf-8"))


@pytest.fixture
def machine(
    tmp_path: Path,
    env: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Machine:
    made = Machine(tmp_path, env, capsys)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    return made


# -- there and back


@pytest.mark.parametrize("scope", ["--project", "--user"])
@pytest.mark.parametrize("mcp", ["--mcp", "--no-mcp"])
def test_all_harnesses_are_connected_and_disconnected_without_a_trace(machine, scope, mcp):
    before = machine.tree(), machine.tree(machine.home)
    machine.run(*NAMES, scope, mcp)
    connected = machine.tree(), machine.tree(machine.home)
    assert connected != before
    assert "connected already" in machine.run(*NAMES, scope, mcp)
    assert (machine.tree(), machine.tree(machine.home)) == connected
    machine.run(*NAMES, scope, "--check")
    machine.run("--remove", scope)
    assert (machine.tree(), machine.tree(machine.home)) == before
    machine.run(*NAMES, scope, "--check", check=1)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_harness_is_given_is_taken_from_the_table(machine, name):
    machine.run(name)
    row = table.HARNESSES[name]
    settings = row.settings("coordledger", user=False)
    if settings is None:
        text = (machine.project / row.project).read_text("utf-8")
        assert 'PROGRAM = "coordledger"\n' in text
        assert 'ARGUMENTS = ["agent-hook", "opencode"]' in text
        return
    there = machine.settings(settings.path)["hooks"]
    for entry in settings.entries:
        assert entry.value in there[entry.path[1]]
    assert sum(map(len, there.values())) == len(settings.entries)


def test_foreign_settings_stay_as_they_are_and_come_back_to_the_byte(machine):
    machine.put(".claude/settings.json", text='{\r\n\t"permissions": {"allow": []},\r\n\t"z": 1}')
    machine.put("AGENTS.md", text="# Ours\n\nBe kind.")
    machine.put("CLAUDE.md", text="# Claude\r\n")
    machine.put(".codex/config.toml", text='model = "m" # mine\n')
    machine.put("opencode.json", text='{"$schema": "https://opencode.ai/config.json"}')
    machine.put(".cursor/hooks.json", text='{"version": 1, "hooks": {}}\n')
    (machine.project / ".claude" / "settings.json").chmod(0o600)
    before = machine.tree()
    machine.run(*NAMES, "--mcp")
    text = (machine.project / ".claude" / "settings.json").read_bytes()
    assert text.startswith(
        b'{\r\n\t"permissions": {"allow": []},\r\n\t"z": 1,\r\n\t"hooks": {\r\n\t\t'
    )
    assert b"\n" not in text.replace(b"\r\n", b"")
    assert (
        (machine.project / "AGENTS.md").read_text("utf-8").startswith("# Ours\n\nBe kind.\n\n<!--")
    )
    machine.run("--remove")
    assert machine.tree() == before


def test_one_that_is_taken_out_leaves_the_others_and_the_instructions(machine):
    machine.run("claude", "codex")
    machine.run("claude", "--remove")
    assert not (machine.project / ".claude").exists()
    assert not (machine.project / "CLAUDE.md").exists()
    assert "coordledger" in (machine.project / "AGENTS.md").read_text("utf-8")
    machine.run("codex", "--remove")
    assert machine.tree() == {}


def test_removing_where_nothing_is_says_so_and_is_no_error(machine):
    assert "not connected" in machine.run("claude", "--remove")
    machine.run("--remove")
    assert machine.tree() == {}


# -- what is found, what is said


def test_without_names_those_are_connected_that_are_noticed(machine, monkeypatch):
    assert "no harness was found here" in machine.run(check=1)
    machine.put("codex", machine.bin).chmod(0o755)
    (machine.home / ".gemini").mkdir()
    machine.put("CLAUDE.md", text="# Claude\n")
    value = machine.json()
    assert value["noticed"] == {
        "claude": "CLAUDE.md",
        "codex": "codex on PATH",
        "gemini": "~/.gemini",
    }
    assert [result["name"] for result in value["results"]] == [
        *("claude", "codex", "gemini", "AGENTS.md")
    ]
    assert "claude (.claude): connected already" in machine.run()


def test_a_dry_run_shows_what_is_then_written_and_writes_nothing(machine):
    machine.put(
        ".claude/settings.json", text='{"env": {"A": "\x1b[31m"}}'.replace("\x1b", "\\u001b")
    )
    machine.put("AGENTS.md", text="one\x1b[31m\n")
    before = machine.tree()
    shown = machine.run("claude", "--dry-run")
    assert machine.tree() == before
    assert "\x1b" not in shown
    assert "--- a/.claude/settings.json\n+++ b/.claude/settings.json\n" in shown
    assert "--- /dev/null\n+++ b/CLAUDE.md\n" in shown
    (files,) = [one["files"] for one in machine.json("claude", "--dry-run")["results"][:1]]
    assert [(one["path"], one["action"]) for one in files] == [
        (".claude/settings.json", "changed"),
        (".mcp.json", "unchanged"),
        ("CLAUDE.md", "created"),
    ]
    patch = "\n".join(
        one["diff"]
        for result in machine.json("claude", "--dry-run")["results"]
        for one in result["files"]
        if one["diff"]
    )
    subprocess.run(
        ["git", "apply", "-"], cwd=machine.project, input=f"{patch}\n".encode(), check=True
    )
    machine.run("claude", "--check")


def test_the_check_says_what_differs(machine):
    machine.run("claude")
    path = machine.project / ".claude" / "settings.json"
    path.write_text(path.read_text("utf-8").replace('"timeout": 10}', '"timeout": 1}', 1), "utf-8")
    said = machine.run("claude", "--check", check=1)
    assert ".claude/settings.json: hooks.SessionStart.0 is another" in said
    value = machine.json("claude", "--check", check=1)
    assert not value["same"]
    machine.run("claude")
    machine.run("claude", "--check")


def test_the_mcp_server_stays_as_it_is_unless_it_is_asked_for(machine):
    machine.run("gemini", "cursor", "--mcp")
    machine.run("gemini", "cursor")
    assert "mcpServers" in machine.settings(".gemini/settings.json")
    machine.run("gemini", "cursor", "--no-mcp")
    assert "mcpServers" not in machine.settings(".gemini/settings.json")
    assert not (machine.project / ".cursor" / "mcp.json").exists()
    machine.run("gemini", "cursor")
    assert "mcpServers" not in machine.settings(".gemini/settings.json")


def test_somebodys_own_server_of_that_name_is_left_alone(machine):
    text = '{"mcpServers": {"coordledger": {"command": "wrapper"}}}'
    machine.put(".cursor/mcp.json", text=text)
    assert "mcpServers.coordledger is somebody's own" in machine.run("cursor", "--mcp")
    machine.run("cursor", "--remove")
    assert (machine.project / ".cursor" / "mcp.json").read_text("utf-8") == text


def test_what_keeps_a_harness_from_running_its_hooks_is_said(machine):
    machine.put(".claude/settings.local.json", text='{"disableAllHooks": true}')
    said = machine.run("claude", "codex", "gemini")
    assert "settings.local.json has disableAllHooks: no hook runs" in said
    assert "Codex does not trust this project" in said
    assert "Gemini CLI does not trust this folder" in said
    (machine.bin / "coordledger").unlink()
    assert "coordledger is not on PATH" in machine.run("claude")


def test_a_user_without_the_program_on_path_gets_its_whole_name(machine, monkeypatch):
    (machine.bin / "coordledger").unlink()
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/coordledger"])
    machine.run("codex", "--user")
    hooks = json.loads((machine.home / ".codex" / "hooks.json").read_text("utf-8"))["hooks"]
    assert hooks["Stop"][0]["hooks"][0]["command"] == "/opt/venv/bin/coordledger agent-hook codex"
    machine.run("opencode", "--user")
    plugin = machine.home / ".config" / "opencode" / "plugins" / "coordledger.js"
    text = plugin.read_text("utf-8")
    assert 'PROGRAM = "/opt/venv/bin/coordledger"\n' in text
    assert 'SERVER = "coordledger"\n' in text
    machine.run("--user", "--remove")
    assert machine.tree(machine.home) == {}


def test_a_user_who_has_moved_a_harnesss_folder_is_served_there(machine, monkeypatch, tmp_path):
    (tmp_path / "moved").mkdir()
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "moved"))
    machine.run("codex", "--user", "--mcp")
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [
        "config.toml",
        "hooks.json",
    ]
    machine.run("codex", "--user", "--remove")
    assert list((tmp_path / "moved").iterdir()) == []


def test_a_users_server_of_claude_code_is_put_there_by_its_own_command(machine):
    said = machine.run("claude", "--user", "--mcp")
    assert "claude mcp add --scope user coordledger -- coordledger mcp" in said
    assert [path.name for path in machine.home.rglob("*.json")] == ["settings.json"]


def test_claude_reads_the_instructions_once_however_they_are_imported(machine):
    machine.put("CLAUDE.md", text="Read this:\n@AGENTS.md\n")
    before = machine.tree()
    machine.run("claude")
    assert (machine.project / "CLAUDE.md").read_text("utf-8") == "Read this:\n@AGENTS.md\n"
    machine.run("--remove")
    assert machine.tree() == before
    (machine.project / "CLAUDE.md").unlink()
    (machine.project / "CLAUDE.md").symlink_to("AGENTS.md")
    machine.put("AGENTS.md", text="# All\n")
    machine.run("claude")
    assert "@AGENTS.md" not in (machine.project / "AGENTS.md").read_text("utf-8")
    machine.run("--remove")
    assert (machine.project / "AGENTS.md").read_text("utf-8") == "# All\n"


def test_the_instructions_are_short():
    from importlib import resources

    text = (resources.files(plan.__package__) / "instructions.md").read_text("utf-8")
    assert len(text) < 800  # characters: less than 210 tokens


# -- what is refused


def refused(machine: Machine, *argv: str) -> str:
    before = machine.tree()
    said = machine.run(*argv, check=1)
    assert machine.tree() == before, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{\n  // mine\n  "a": 1\n}', "a comment in line 2, column 3"),
        ('{"a": 1,}', "not plain JSON in line 1, column 9"),
        ("", "it is empty, which is not JSON"),
        ('{"hooks": []}', '"hooks" is no object'),
        ("x" * (1 << 20) + "x", "it has 1048577 bytes, more than 1048576"),
        (b"\xff", "it is not UTF-8"),
    ],
)
def test_settings_that_cannot_be_changed_are_refused_and_the_others_written(machine, text, why):
    path = machine.put(".gemini/settings.json", text=text)
    before = path.read_bytes()
    said = machine.run("gemini", "codex", check=1)
    assert f"coordledger: .gemini/settings.json: {why}" in said
    assert path.read_bytes() == before
    assert (machine.project / ".codex" / "hooks.json").exists()
    value = machine.json("gemini", check=1)
    assert value["results"][0]["refused"]["code"] == "settings-refused"


def test_all_files_of_one_harness_are_written_or_none(machine):
    machine.put(".mcp.json", text="{,}")
    machine.put("AGENTS.md", text="<!-- coordledger:begin -->\n")
    refused(machine, "claude", "--mcp")


@pytest.mark.parametrize("leads_to", ["/tmp", "..", "../outside", ".git", ".git/hooks", "loop"])
def test_a_folder_that_leads_out_of_the_project_is_refused(machine, leads_to):
    machine.put("outside/settings.json", machine.project.parent, "{}")
    (machine.project / "loop").symlink_to("loop")
    (machine.project / ".claude").symlink_to(leads_to)
    refused(machine, "claude")
    assert (machine.project.parent / "outside" / "settings.json").read_text("utf-8") == "{}"


@pytest.mark.parametrize("name", [".claude/settings.json", "AGENTS.md", "CLAUDE.md"])
def test_a_file_that_leads_out_of_the_project_is_refused(machine, name):
    outside = machine.put("outside.json", machine.home, "{}")
    (machine.project / ".claude").mkdir()
    (machine.project / name).symlink_to(outside)
    machine.run("claude", check=1)
    assert outside.read_text("utf-8") == "{}"
    assert (machine.project / name).is_symlink()


def test_a_link_that_stays_inside_is_written_through(machine):
    machine.put("dotfiles/claude.json", machine.home, '{"a": 1}\n')
    (machine.home / ".claude").mkdir()
    (machine.home / ".claude" / "settings.json").symlink_to("../dotfiles/claude.json")
    before = machine.tree(machine.home)
    machine.run("claude", "--user")
    assert (machine.home / ".claude" / "settings.json").is_symlink()
    assert "agent-hook" in (machine.home / "dotfiles" / "claude.json").read_text("utf-8")
    machine.run("claude", "--user", "--remove")
    assert machine.tree(machine.home) == before


def test_what_is_no_file_and_what_is_read_only_is_refused(machine):
    os.mkfifo(machine.put(".codex/x").with_name("hooks.json"))
    assert ".codex/hooks.json: it is no file" in machine.run("codex", check=1)
    machine.put(".gemini/settings.json", text="{}").chmod(0o444)
    assert ".gemini/settings.json: it is read-only" in machine.run("gemini", check=1)
    machine.put(".cursor", text="a file")
    assert ".cursor/mcp.json: what should be a folder is a file" in machine.run("cursor", check=1)


def test_outside_of_a_project_it_needs_the_user(machine, tmp_path):
    (tmp_path / "nowhere").mkdir()
    machine.project = tmp_path / "nowhere"
    said = machine.run("claude", check=1)
    assert "is in no git work tree" in said
    assert "--user" in said
    machine.run("claude", "--user")
    assert machine.tree() == {}


def test_options_that_do_not_go_together_are_a_usage_error(machine):
    for argv in (["--check", "--remove"], ["--check", "--dry-run"], ["vim"]):
        machine.run(*argv, check=2)


# -- interruptions

DIES = """
import os, sys
from coordledger import cli
count, rename = int(sys.argv[1]), os.rename
def dies(*paths):
    global count
    count -= 1
    if count < 0:
        os._exit(9)
    rename(*paths)
os.rename = dies
sys.exit(cli.main(["setup", "claude", "cursor", "--mcp", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("moment", range(6))
def test_a_setup_that_was_killed_is_mended_by_the_next(machine, moment):
    machine.run("claude", "cursor", "--mcp")
    whole = machine.tree()
    machine.run("--remove")
    command = [sys.executable, "-c", DIES, str(moment), "-C", str(machine.project)]
    assert subprocess.run(command, check=False).returncode == 9
    half = machine.tree()
    assert half != whole
    machine.run("--remove")
    assert machine.tree() == {}
    subprocess.run(command, check=False)
    assert machine.tree() == half
    machine.run("claude", "cursor", "--mcp")
    assert machine.tree() == whole
    machine.run("--remove")
    assert machine.tree() == {}


def test_a_write_that_fails_takes_the_others_of_its_harness_back(machine, monkeypatch):
    machine.put(".claude/settings.json", text='{"a": 1}').chmod(0o640)
    before = machine.tree()
    rename = os.rename

    def fails(source: str, target: Path) -> None:
        if Path(target).name == "CLAUDE.md":
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fails)
        said = machine.run("claude", check=1)
    assert "No space left on device" in said
    assert machine.tree() == before


def test_a_file_that_changes_meanwhile_is_not_overwritten(machine, monkeypatch):
    path = machine.put(".claude/settings.json", text='{"a": 1}')
    prepare = plan.files._prepare

    def meanwhile(change: Any, made: list[Path]) -> None:
        prepare(change, made)
        path.write_text('{"a": 2}', "utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(plan.files, "_prepare", meanwhile)
        assert "somebody has changed it meanwhile" in machine.run("claude", check=1)
    assert path.read_text("utf-8") == '{"a": 2}'
    assert [one.name for one in path.parent.iterdir()] == ["settings.json"]
