"""What `doctor` and `setup` say of a harness that is connected, and does not run its hooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coordledger.integrations.connecting import findings, plan, table
from coordledger.integrations.connecting.plan import Scope


class Place:
    """A project and a home, with one harness that is connected."""

    def __init__(self, root: Path, name: str) -> None:
        self.home, self.top, self.row = root / "home", root / "project", table.HARNESSES[name]
        for folder in (self.home, self.top, root / "bin"):
            folder.mkdir()
        (root / "bin" / "coordledger").write_text("#!/bin/sh\n", "utf-8")
        (root / "bin" / "coordledger").chmod(0o755)
        environ = {"HOME": str(self.home), "PATH": str(root / "bin")}
        self.scope = Scope(self.top, False, "coordledger", environ)
        plan.carry_out(self.scope, [name], connect=True, mcp=None, write=True)

    def put(self, path: Path, text: str | dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")

    def said(self) -> list[str]:
        """What is not as it should be."""
        found = findings.look(self.scope, self.row)
        assert found[0].is_good == (not found[0].do)
        assert all(one.do for one in found if not one.is_good)
        return [one.found for one in found if not one.is_good]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path, request.param)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", [name], indirect=True)


@of("cursor")
def test_what_is_not_connected_is_not_spoken_of(place):
    assert place.said() == []
    plan.carry_out(place.scope, ["cursor"], connect=False, mcp=None, write=True)
    assert findings.look(place.scope, place.row) == []


@of("cursor")
def test_hooks_of_another_version_and_a_missing_program_are_found(place):
    settings = place.top / ".cursor" / "hooks.json"
    place.put(settings, settings.read_text("utf-8").replace('"timeout": 10', '"timeout": 9', 1))
    Path(place.scope.environ["PATH"], "coordledger").unlink()
    first, second = place.said()
    assert first.startswith("not as this version has it: .cursor/hooks.json: hooks.sessionStart.0")
    assert second == "coordledger is not on PATH: its hooks fail to start"


@of("claude")
@pytest.mark.parametrize("where", ["home", "project", "local"])
def test_claude_codes_switch_is_found_wherever_it_stands(place, where):
    assert place.said() == []
    value = {"disableAllHooks": True}
    if where == "project":
        path = place.top / ".claude" / "settings.json"
        value |= json.loads(path.read_text("utf-8"))
    elif where == "home":
        path = place.home / ".claude" / "settings.json"
    else:
        path = place.top / ".claude" / "settings.local.json"
    place.put(path, value)
    assert place.said() == [f"{path.name} has disableAllHooks: no hook runs"]


@of("claude")
def test_what_is_connected_twice_is_found(place):
    user = place.scope._replace(top=place.home, user=True)
    plan.carry_out(user, ["claude"], connect=True, mcp=None, write=True)
    assert place.said() == ["connected for all projects of the user, too: its hooks run twice"]
    assert [one.is_good for one in findings.look(user, place.row)] == [True]


@pytest.mark.parametrize("place", ["codex", "gemini", "cursor"], indirect=True)
def test_a_server_without_the_extra_is_found(place, monkeypatch):
    monkeypatch.setattr(findings, "find_spec", lambda name: None)
    needs = "its MCP server needs what is not installed: coordledger[mcp]"
    assert needs not in place.said()
    plan.carry_out(place.scope, [place.row.name], connect=True, mcp=True, write=True)
    assert needs in place.said()
    monkeypatch.undo()
    assert needs not in place.said()


@of("claude")
def test_the_plugin_beside_the_settings_is_found(place):
    place.put(
        place.home / ".claude" / "settings.json",
        {"enabledPlugins": {"coordledger@coordledger": True, "other@x": True}},
    )
    assert place.said() == [
        "the plugin coordledger@coordledger has the same hooks: each of them runs twice"
    ]


@of("codex")
def test_codex_trusts_the_project_then_each_hook(place):
    config = place.home / ".codex" / "config.toml"
    assert place.said() == ["Codex does not trust this project: it skips its hooks without a word"]
    text = f'[projects."{place.top}"]\ntrust_level = "trusted"\n'
    place.put(config, text)
    untrusted = ["its user has not trusted the hooks: Codex skips them without a word"]
    assert place.said() == untrusted
    keys = [
        f"{place.top}/.codex/hooks.json:{event}:0:0"
        for event in (
            *("session_start", "user_prompt_submit", "pre_tool_use", "post_tool_use", "stop"),
            "session_end",
        )
    ]
    states = [f'[hooks.state."{key}"]\ntrusted_hash = "sha256:00"\n' for key in keys]
    place.put(config, text + "".join(states[:-1]))
    assert place.said() == untrusted
    place.put(config, text + "".join(states))
    assert place.said() == []
    place.put(config, text + "".join(states) + "[features]\nhooks = false\n")
    assert place.said() == ["config.toml switches hooks off (features.hooks)"]


@of("gemini")
def test_gemini_cli_trusts_the_folder_or_one_above_it(place):
    own = place.home / ".gemini"
    untrusted = ["Gemini CLI does not trust this folder: it skips its settings without a word"]
    assert place.said() == untrusted
    folders = own / "trustedFolders.json"
    for path, rule, trusts in (
        (place.top, "TRUST_FOLDER", True),
        (place.top.parent, "TRUST_FOLDER", True),
        (place.top / "below", "TRUST_PARENT", True),
        (place.top, "DO_NOT_TRUST", False),
        (place.top / "below", "TRUST_FOLDER", False),
    ):
        place.put(folders, {str(path): rule})
        assert place.said() == ([] if trusts else untrusted)
    place.put(own / "settings.json", {"security": {"folderTrust": {"enabled": False}}})
    assert place.said() == []


@of("gemini")
def test_gemini_clis_switches_are_found(place):
    own = place.home / ".gemini"
    place.put(own / "trustedFolders.json", {str(place.top): "TRUST_FOLDER"})
    place.put(own / "settings.json", {"hooksConfig": {"enabled": False}})
    assert place.said() == ["settings.json has hooksConfig.enabled: false"]
    place.put(own / "settings.json", {"hooksConfig": {"disabled": ["coordledger"]}})
    assert place.said() == ["settings.json disables them (hooksConfig.disabled)"]


@of("gemini")
@pytest.mark.parametrize("text", ["{,}", "[]", '{"hooksConfig": [], "security": 1}', "\x00"])
def test_settings_that_cannot_be_read_are_no_finding(place, text):
    for name in ("settings.json", "trustedFolders.json"):
        place.put(place.home / ".gemini" / name, text)
    assert place.said() == [
        "Gemini CLI does not trust this folder: it skips its settings without a word"
    ]


def test_doctor_says_what_is_connected_and_fails_for_what_is_used_and_skipped(
    fleet, inside, tmp_path
):
    clone, bin_folder = fleet.clone("alice"), tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "coordledger").symlink_to("/bin/true")
    env = {"PATH": f"{bin_folder}:/usr/bin:/bin"}
    inside(fleet, "setup", "claude", "codex", agent="alice", env=env, check=0)
    said = inside(fleet, "doctor", "--json", agent="alice", env=env, check=0)
    checks = {one["name"]: one for one in json.loads(said.stdout)["checks"]}
    assert checks["claude"]["found"] == "connected by .claude/settings.json"
    assert checks["codex"]["ok"] is None
    Path(fleet.env["HOME"], ".codex").mkdir()
    said = inside(fleet, "doctor", agent="alice", env=env, check=1)
    assert "ok   codex: connected by .codex/hooks.json" in said.stdout
    assert "FAIL codex: Codex does not trust this project" in said.stdout
    assert f"run codex in {clone}" in said.stdout
