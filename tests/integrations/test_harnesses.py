"""What each harness says, as an event, and what is answered, as it reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordledger.integrations.harnesses import (
    EDIT,
    END,
    HARNESSES,
    OTHER,
    PROMPT,
    START,
    STOP,
    TOOL,
    Answer,
    Event,
    harness,
)
from coordledger.integrations.harnesses.shapes import MOST_PATHS

UUID = "3f2a91bc-1111-4222-8333-1234567890ab"
CLAUDE = {"session_id": UUID, "transcript_path": "/t.jsonl", "cwd": "/w", "permission_mode": "x"}
CODEX = {"session_id": UUID, "turn_id": "1", "transcript_path": None, "cwd": "/w", "model": "m"}
GEMINI = {"session_id": UUID, "transcript_path": "/t", "cwd": "/w", "timestamp": "2026-01-01"}
OPENCODE = {"sessionID": "ses_1", "directory": "/w"}
CURSOR = {"conversation_id": UUID, "generation_id": "g", "workspace_roots": ["/w", "/v"]}
COPILOT = {"sessionId": UUID, "timestamp": 1, "cwd": "/w"}
VSCODE = {"session_id": UUID, "timestamp": "2026-01-01T00:00:00Z", "cwd": "/w"}
PATCH = (
    "*** Begin Patch\n*** Add File: new.py\n+*** Add File: not-this.py\n"
    "*** Update File: old name.py\n*** Move to: moved.py\n@@\n-a\n+b\n*** Delete File: gone.py\n"
    "*** End Patch\n"
)
PATCHED = ("new.py", "old name.py", "moved.py", "gone.py")


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"hook_event_name": name} | more


def before(tool: str, given: Any, name: str = "PreToolUse") -> dict[str, Any]:
    return named(name, tool_name=tool, tool_input=given, tool_use_id="t")


EVENTS: list[tuple[str, dict[str, Any], dict[str, Any], str, tuple[str, ...]]] = [
    *(
        ("claude", CLAUDE, named("SessionStart", source=source), START, ())
        for source in ("startup", "resume", "clear", "compact", "fork")
    ),
    ("claude", CLAUDE, named("UserPromptSubmit", prompt="x"), PROMPT, ()),
    ("claude", CLAUDE, before("Write", {"file_path": "/w/a", "content": "x"}), EDIT, ("/w/a",)),
    ("claude", CLAUDE, before("Edit", {"file_path": "/w/a"}), EDIT, ("/w/a",)),
    ("claude", CLAUDE, before("MultiEdit", {"file_path": "/w/a", "edits": []}), EDIT, ("/w/a",)),
    ("claude", CLAUDE, before("NotebookEdit", {"notebook_path": "/w/n"}), EDIT, ("/w/n",)),
    ("claude", CLAUDE, before("Read", {"file_path": "/w/a"}), OTHER, ()),
    ("claude", CLAUDE, before("Bash", {"command": "rm /w/a"}), OTHER, ()),
    ("claude", CLAUDE, named("PostToolUse", tool_name="Bash", tool_response={}), TOOL, ()),
    ("claude", CLAUDE, named("Stop", stop_hook_active=False), STOP, ()),
    ("claude", CLAUDE, named("SessionEnd", reason="clear"), END, ()),
    ("claude", CLAUDE, named("SubagentStop", agent_id="a"), OTHER, ()),
    ("claude", CLAUDE, named("PreCompact", trigger="auto"), OTHER, ()),
    ("codex", CODEX, named("SessionStart", source="compact"), START, ()),
    ("codex", CODEX, before("apply_patch", {"command": PATCH}), EDIT, PATCHED),
    ("codex", CODEX, before("apply_patch", {"command": ["apply_patch", PATCH]}), EDIT, PATCHED),
    ("codex", CODEX, before("apply_patch", PATCH), EDIT, PATCHED),
    ("codex", CODEX, before("Bash", {"command": f"apply_patch <<'E'\n{PATCH}E"}), EDIT, PATCHED),
    ("codex", CODEX, before("Bash", {"command": f"cat <<'E'\n{PATCH}E"}), OTHER, ()),
    ("codex", CODEX, named("PostToolUse", tool_name="Bash"), TOOL, ()),
    ("codex", CODEX, named("Stop", stop_hook_active=False), STOP, ()),
    ("codex", CODEX, named("SessionEnd", reason="other"), END, ()),
    ("gemini", GEMINI, named("SessionStart", source="startup"), START, ()),
    ("gemini", GEMINI, named("BeforeAgent", prompt="x"), PROMPT, ()),
    ("gemini", GEMINI, before("write_file", {"file_path": "/w/a"}, "BeforeTool"), EDIT, ("/w/a",)),
    ("gemini", GEMINI, before("replace", {"file_path": "a"}, "BeforeTool"), EDIT, ("a",)),
    ("gemini", GEMINI, before("run_shell_command", {"command": "x"}, "BeforeTool"), OTHER, ()),
    ("gemini", GEMINI, named("AfterTool", tool_name="run_shell_command"), TOOL, ()),
    ("gemini", GEMINI, named("AfterAgent", prompt_response="x"), STOP, ()),
    ("gemini", GEMINI, named("SessionEnd", reason="exit"), END, ()),
    ("opencode", OPENCODE, {"event": "session.start"}, START, ()),
    ("opencode", OPENCODE, {"event": "prompt"}, PROMPT, ()),
    (
        *("opencode", OPENCODE),
        {"event": "tool.execute.before", "tool": "write", "args": {"filePath": "/w/a"}},
        *(EDIT, ("/w/a",)),
    ),
    (
        *("opencode", OPENCODE),
        {"event": "tool.execute.before", "tool": "patch", "args": {"patchText": PATCH}},
        *(EDIT, PATCHED),
    ),
    (
        *("opencode", OPENCODE),
        {"event": "tool.execute.before", "tool": "bash", "args": {"command": "x"}},
        *(OTHER, ()),
    ),
    ("opencode", OPENCODE, {"event": "tool.execute.after", "tool": "bash"}, TOOL, ()),
    ("opencode", OPENCODE, {"event": "session.idle"}, STOP, ()),
    ("opencode", OPENCODE, {"event": "session.end"}, END, ()),
    ("cursor", CURSOR, named("sessionStart"), START, ()),
    ("cursor", CURSOR, before("Write", {"file_path": "/w/a"}, "preToolUse"), EDIT, ("/w/a",)),
    ("cursor", CURSOR, before("Write", '{"path": "a"}', "preToolUse"), EDIT, ("a",)),
    ("cursor", CURSOR, before("Shell", {"command": "x"}, "preToolUse"), OTHER, ()),
    ("cursor", CURSOR, named("postToolUse", tool_name="Shell"), TOOL, ()),
    ("cursor", CURSOR, named("stop", status="completed", loop_count=0), STOP, ()),
    ("cursor", CURSOR, named("sessionEnd"), END, ()),
    ("copilot", COPILOT, {"source": "new", "initialPrompt": "x"}, START, ()),
    ("copilot", COPILOT, {"prompt": "x"}, PROMPT, ()),
    ("copilot", COPILOT, {"toolName": "edit", "toolArgs": {"path": "a"}}, EDIT, ("a",)),
    ("copilot", COPILOT, {"toolName": "create", "toolArgs": '{"path": "a"}'}, EDIT, ("a",)),
    ("copilot", COPILOT, {"toolName": "bash", "toolArgs": {"command": "x"}}, OTHER, ()),
    ("copilot", COPILOT, {"toolName": "edit", "toolArgs": {}, "toolResult": {}}, TOOL, ()),
    ("copilot", COPILOT, {"transcriptPath": "/t", "stopReason": "end_turn"}, STOP, ()),
    ("copilot", COPILOT, {"agentName": "a", "stopReason": "end_turn"}, OTHER, ()),
    ("copilot", COPILOT, {"trigger": "auto", "customInstructions": ""}, OTHER, ()),
    ("copilot", COPILOT, {"reason": "complete"}, END, ()),
    ("copilot", VSCODE, named("SessionStart", source="new"), START, ()),
    ("copilot", VSCODE, before("editFiles", {"files": ["a", "b"]}), EDIT, ("a", "b")),
    ("copilot", VSCODE, named("PostToolUse", tool_name="edit", tool_input={}), TOOL, ()),
    ("copilot", VSCODE, named("Stop", stop_reason="end_turn"), STOP, ()),
]


@pytest.mark.parametrize(("name", "common", "said", "kind", "paths"), EVENTS)
def test_what_a_harness_says_is_one_event(
    name: str, common: dict[str, Any], said: dict[str, Any], kind: str, paths: tuple[str, ...]
) -> None:
    event = harness(name).parse(common | said)
    assert (event.kind, event.paths) == (kind, paths)
    assert event.session == ("ses_1" if name == "opencode" else UUID)
    assert event.cwd == "/w"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("claude", CLAUDE | named("Stop", stop_hook_active=True)),
        ("codex", CODEX | named("Stop", stop_hook_active=True)),
        ("gemini", GEMINI | named("AfterAgent", stop_hook_active=True)),
        ("opencode", OPENCODE | {"event": "session.idle", "continued": True}),
        ("cursor", CURSOR | named("stop", status="completed", loop_count=1)),
        ("cursor", CURSOR | named("stop", status="aborted", loop_count=0)),
    ],
)
def test_a_stop_that_was_held_up_or_is_wanted_is_known(name: str, said: dict[str, Any]) -> None:
    event = harness(name).parse(said)
    assert event.kind == STOP
    assert event.goes_on


def test_an_event_in_a_subagent_is_known() -> None:
    said = CLAUDE | named("PostToolUse", agent_id="a1", agent_type="x")
    assert harness("claude").parse(said).nested
    assert not harness("claude").parse(CLAUDE | named("PostToolUse")).nested


SAYS = Answer(context="the context", refusal="the refusal", reason="the reason")


def specific(name: str, **said: str) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": name} | said}


def denied(name: str) -> dict[str, Any]:
    return specific(name, permissionDecision="deny", permissionDecisionReason="the refusal")


ANSWERS: list[tuple[str, str, str, dict[str, Any] | None]] = [
    *(
        (name, kind, event, specific(event, additionalContext="the context"))
        for name in ("claude", "codex", "copilot")
        for kind, event in ((START, "SessionStart"), (PROMPT, "UserPromptSubmit"))
    ),
    *((name, TOOL, "PostToolUse", specific("PostToolUse", additionalContext="the context"))
      for name in ("claude", "codex", "copilot")),
    *((name, EDIT, "PreToolUse", denied("PreToolUse")) for name in ("claude", "codex", "copilot")),
    *((name, STOP, "Stop", {"decision": "block", "reason": "the reason"})
      for name in ("claude", "codex", "copilot")),
    ("gemini", START, "SessionStart", specific("SessionStart", additionalContext="the context")),
    ("gemini", EDIT, "BeforeTool", {"decision": "deny", "reason": "the refusal"}),
    ("gemini", STOP, "AfterAgent", {"decision": "deny", "reason": "the reason"}),
    ("opencode", START, "session.start", {"context": "the context"}),
    ("opencode", EDIT, "tool.execute.before", {"refuse": "the refusal"}),
    ("opencode", STOP, "session.idle", {"continue": "the reason"}),
    ("cursor", START, "sessionStart", {"additional_context": "the context"}),
    (
        *("cursor", EDIT, "preToolUse"),
        {
            "permission": "deny",
            "user_message": "the refusal",
            "agent_message": "the refusal",
        },
    ),
    ("cursor", STOP, "stop", {"followup_message": "the reason"}),
    ("copilot", START, "", {"additionalContext": "the context"}),
    (
        *("copilot", EDIT, ""),
        {"permissionDecision": "deny", "permissionDecisionReason": "the refusal"},
    ),
    ("copilot", STOP, "", {"decision": "block", "reason": "the reason"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "event", "expected"), ANSWERS)
def test_an_answer_is_what_the_harness_reads(
    name: str, kind: str, event: str, expected: dict[str, Any]
) -> None:
    output = harness(name).render(Event(kind=kind, name=event), SAYS)
    assert (json.loads(output.stdout), output.stderr, output.code) == (expected, "", 0)


@pytest.mark.parametrize("name", HARNESSES)
def test_nothing_to_say_is_the_neutral_answer_and_no_answer_allows_anything(name: str) -> None:
    nothing = "" if name in ("claude", "codex", "copilot") else "{}\n"
    for kind in (START, PROMPT, EDIT, TOOL, STOP, END, OTHER):
        event = Event(kind=kind, name="X")
        assert harness(name).render(event, Answer()) == (nothing, "", 0)
        assert "allow" not in harness(name).render(event, SAYS).stdout
    for kind in (END, OTHER):
        assert harness(name).render(Event(kind=kind, name="X"), SAYS) == (nothing, "", 0)


def test_of_many_paths_only_so_many_are_taken_and_none_that_no_file_has() -> None:
    given = {"files": [f"f{number}" for number in range(5000)]}
    found = harness("copilot").parse(VSCODE | before("editFiles", given)).paths
    assert len(found) == MOST_PATHS
    for path in ("", "a\0b", "x" * 5000, 7, None, {}):
        assert harness("claude").parse(CLAUDE | before("Write", {"file_path": path})).paths == ()


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = (
    LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=4), LEAVES, max_size=3)
)
MEMBERS = st.sampled_from(
    sorted({name for _, common, said, _, _ in EVENTS for name in common | said})
)
NAMES = st.sampled_from(
    sorted({value for *_, said, _, _ in EVENTS for value in said.values() if type(value) is str})
)


@given(st.sampled_from(HARNESSES), st.dictionaries(MEMBERS, JSON | NAMES, max_size=8))
def test_no_event_makes_a_module_fail(name: str, said: dict[str, Any]) -> None:
    event = harness(name).parse(said)
    assert all(isinstance(one, str) for one in (event.kind, event.session, event.cwd, event.name))
    assert all(isinstance(path, str) for path in event.paths)
    assert bool(event.paths) == (event.kind == EDIT)
    output = harness(name).render(event, SAYS)
    assert output.code == 0
    assert not output.stdout or isinstance(json.loads(output.stdout), dict)
