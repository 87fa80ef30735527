"""The plugin for Claude Code says what `coordledger setup` does: one table for both.

`python tests/integrations/test_plugin.py` writes its hooks anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

import coordledger
from coordledger.cli.common import root
from coordledger.integrations.connecting import table

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins" / "coordledger"
HOOKS = PLUGIN / "hooks" / "hooks.json"
CLAUDE = table.HARNESSES["claude"]


def loaded(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def hooks() -> str:
    """The plugin's hooks, as the table has them."""
    settings = CLAUDE.settings(table.PROGRAM, user=False)
    assert settings
    by_event: dict[str, list[Any]] = {}
    for entry in settings.entries:
        by_event.setdefault(entry.path[1], []).append(entry.value)
    return json.dumps({"hooks": by_event}, indent=2) + "\n"


def test_the_plugins_hooks_are_those_that_setup_writes():
    assert HOOKS.read_text("utf-8") == hooks()


def test_the_plugins_server_is_the_one_that_setup_writes():
    assert CLAUDE.server
    server = CLAUDE.server(table.PROGRAM, False)
    assert server
    (entry,) = server.entries
    assert loaded(PLUGIN / ".mcp.json") == {"mcpServers": {entry.path[1]: entry.value}}


def test_the_marketplace_has_the_plugin_by_its_name_and_this_version():
    (listed,) = loaded(ROOT / ".claude-plugin" / "marketplace.json")["plugins"]
    plugin = loaded(ROOT / listed["source"] / ".claude-plugin" / "plugin.json")
    assert listed["name"] == plugin["name"] == table.PROGRAM
    assert listed["description"] == plugin["description"]
    assert plugin["version"] == coordledger.__version__


def test_the_skill_names_commands_and_options_that_there_are():
    text = (PLUGIN / "skills" / "coordledger" / "SKILL.md").read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    assert front.startswith("name: coordledger\ndescription: ")
    assert len(front) < 400  # characters, in every prompt
    for line in re.findall(r"`coordledger ([^`]+)`", body):
        words = line.split()
        found: click.Command = root
        while isinstance(found, click.Group) and words:
            found = found.commands[words.pop(0)]
        options = {name for param in found.params for name in param.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


@pytest.mark.parametrize("name", table.HARNESSES)
def test_every_row_of_the_table_is_understood_by_the_program_that_is_called(name):
    from coordledger.integrations.harnesses import EDIT, OTHER, harness

    module = harness(name)
    for hook in table.HARNESSES[name].hooks:
        tools = hook.tools.strip("^$").split("|") if hook.tools else [""]
        for tool in tools:
            path = {"file_path": "a", "command": "*** Begin Patch\n*** Add File: a\n"}
            event = module.parse(
                {
                    "hook_event_name": hook.event,
                    "session_id": "s",
                    "tool_name": tool or "create",
                    "tool_input": path,
                }
            )
            assert event.kind != OTHER, hook
            if (tool and "before" in hook.event.lower()) or hook.event.lower().startswith("pre"):
                assert event.kind == EDIT, (hook, tool)


if __name__ == "__main__":
    HOOKS.write_text(hooks(), "utf-8")
