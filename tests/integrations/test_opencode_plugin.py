"""The program that opencode runs: what it asks `coordledger agent-hook opencode`, and what it makes
of the answers. Node runs it; `coordledger` is a script that keeps what it reads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from coordledger.integrations.connecting import plan

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")

ANSWERS = {
    "session.start": '{"context": "at the start"}',
    "prompt": '{"context": "with the prompt"}',
    "tool.execute.before": '{"refuse": "held by carol"}',
    "tool.execute.after": '{"context": "a message"}',
    "session.idle": '{"continue": "still held"}',
}
DRIVER = """
import { Coordledger } from "./plugin.mjs"
const prompts = []
const client = { session: { prompt: async (given) => prompts.push(given) } }
const hooks = await Coordledger({ client, directory: "/w", worktree: "/w" })
const out = { prompts }
const event = (type, properties) => hooks.event({ event: { type, properties } })
DO
console.log(JSON.stringify(out))
"""


class Plugin:
    """The plugin in a folder, with a program that answers it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answer(ANSWERS)

    def answer(self, answers: dict[str, str]) -> None:
        cases = "".join(
            f"*'\"{name}\"'*) printf '%s' '{told}';;\n" for name, told in answers.items()
        )
        self.program(
            f'in=$(cat); printf "%s\\n" "$in" >> "{self.root}/asked"\ncase $in in\n{cases}esac'
        )

    def program(self, script: str) -> None:
        path = self.root / "coordledger"
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)

    def run(self, do: str) -> tuple[Any, list[dict[str, Any]]]:
        """What came of it, and what was asked."""
        source = (Path(plan.__file__).parent / "opencode.js").read_text("utf-8")
        source = source.replace("directory, stdio", '"/", stdio').replace(
            "cwd: directory", 'cwd: "/"'
        )
        (self.root / "plugin.mjs").write_text(source, "utf-8")
        (self.root / "driver.mjs").write_text(DRIVER.replace("DO", do), "utf-8")
        ran = subprocess.run(
            [str(NODE), self.root / "driver.mjs"],
            env={"PATH": f"{self.root}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        asked = self.root / "asked"
        lines = asked.read_text("utf-8").splitlines() if asked.exists() else []
        asked.unlink(missing_ok=True)
        return json.loads(ran.stdout), [json.loads(line) for line in lines]


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


def test_a_session_is_told_at_its_start_and_with_each_prompt_and_ends_with_the_process(plugin):
    out, asked = plugin.run("""
        for (const system of [[], []]) {
          await hooks["chat.message"]({ sessionID: "ses_1" }, {})
          await hooks["experimental.chat.system.transform"]({ sessionID: "ses_1" }, { system })
          out.system = system
        }
        await event("session.compacted", { sessionID: "ses_1" })
        await hooks["experimental.chat.system.transform"]({ sessionID: "ses_1" }, { system: [] })
    """)
    assert out["system"] == ["at the start", "with the prompt"]
    assert [one["event"] for one in asked] == [
        *("session.start", "prompt", "prompt", "session.start", "session.end")
    ]
    assert {(one["sessionID"], one["directory"]) for one in asked} == {("ses_1", "/w")}


def test_an_edit_is_refused_by_what_is_thrown_and_other_tools_are_not_asked_about(plugin):
    out, asked = plugin.run("""
        const args = { filePath: "src/held.py" }
        for (const tool of ["write", "read", "bash"])
          await hooks["tool.execute.before"]({ sessionID: "s", tool }, { args }).catch(
            (fault) => (out[tool] = fault.message))
        const output = { output: "said" }
        await hooks["tool.execute.after"]({ sessionID: "s", tool: "bash" }, output)
        await hooks["tool.execute.after"]({ sessionID: "s", tool: "read" }, output)
        const shell = { env: {} }
        await hooks["shell.env"]({ sessionID: "s" }, shell)
        const ofServer = { task: "t1" }
        const claim = { sessionID: "s", tool: "coordledger_claim" }
        await hooks["tool.execute.before"](claim, { args: ofServer })
        Object.assign(out, { after: output.output, env: shell.env, ofServer })
    """)
    assert out["write"] == "held by carol"
    assert "read" not in out
    assert out["after"] == "said\na message"
    assert out["env"] == {"OPENCODE_SESSION_ID": "s"}
    assert out["ofServer"] == {"task": "t1", "session": "s"}
    before, after = asked
    assert (before["tool"], before["args"]) == ("write", {"filePath": "src/held.py"})
    assert (after["event"], after["tool"]) == ("tool.execute.after", "bash")


def test_an_idle_session_goes_on_once_and_one_of_its_children_does_not(plugin):
    out, asked = plugin.run("""
        await event("session.created", { info: { id: "child", parentID: "s" } })
        for (const sessionID of ["child", "s", "s"]) await event("session.idle", { sessionID })
        await event("session.deleted", { info: { id: "s" } })
    """)
    body = {"parts": [{"type": "text", "text": "still held"}]}
    assert out["prompts"][0] == {"path": {"id": "s"}, "body": body}
    assert [(one["event"], one["sessionID"], one.get("continued")) for one in asked] == [
        ("session.idle", "s", False),
        ("session.idle", "s", True),
        ("session.end", "s", None),
    ]


@pytest.mark.parametrize(
    "script", ["exit 1", "echo no JSON", "echo null", "echo '[]'", "kill -9 $$", None]
)
def test_whatever_fails_there_holds_no_session_up(plugin, script):
    if script is None:
        (plugin.root / "coordledger").unlink()
    else:
        plugin.program(script)
    out, _ = plugin.run("""
        const system = []
        await hooks["chat.message"]({ sessionID: "s" }, {})
        await hooks["experimental.chat.system.transform"]({ sessionID: "s" }, { system })
        await hooks["experimental.chat.system.transform"]({}, { system })
        await hooks["tool.execute.before"]({ sessionID: "s", tool: "write" }, { args: {} })
        const output = { output: "said" }
        await hooks["tool.execute.after"]({ sessionID: "s", tool: "bash" }, output)
        await event("session.idle", { sessionID: "s" })
        await event("something.new", undefined)
        Object.assign(out, { system, after: output.output })
    """)
    assert out == {"prompts": [], "system": [], "after": "said"}
