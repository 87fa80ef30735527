"""The one table of what each harness is given: hooks, MCP server, files; plain data.

Rules of this file: a hook is one call of `coordledger agent-hook HARNESS`, which reads the event
from stdin; so a row names events, and which tools they are about. Settings of a project are
everybody's who works on it: they name the program as it is found on PATH.
The plugin for Claude Code (`plugins/coordledger/`) has the same rows; a test compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = "coordledger"
SERVER = "coordledger"  # the name of the MCP server
SECONDS = 10  # how long a hook may take; it gives up by itself before
_LISTENS = 86_400  # seconds that a listener waits for mail, at most


class Entry(NamedTuple):
    """A value in a JSON file: an item of the list at `path`, or the member at `path`."""

    path: tuple[str, ...]
    value: Any
    listed: bool


class Hook(NamedTuple):
    """One row: an event, the tools it is about ("": all), whether it waits in the background, and
    the seconds that it may take.
    """

    event: str
    tools: str = ""
    listens: bool = False
    seconds: int = SECONDS


class JsonFile(NamedTuple):
    """A file of settings. `before` is what a file that is made has to begin with."""

    path: str
    entries: tuple[Entry, ...]
    before: str = ""


class Harness(NamedTuple):
    """A harness: how it is noticed, and what it is given in a project or for a user.

    `traces` are a project's files by which it is seen that somebody uses it. `folder` is its folder
    in the user's home, or where the environment's `variable` says.
    """

    name: str
    title: str
    programs: tuple[str, ...]
    folder: str
    traces: tuple[str, ...]
    project: str  # where the hooks of a project stand
    user: str
    hooks: tuple[Hook, ...] = ()  # none: a program in its language calls ours, at the same place
    shape: Callable[[str, Hook], Entry] | None = None
    before: str = ""
    server: Callable[[str, bool], JsonFile | None] | None = None
    toml: str = ""  # where its MCP server stands, if that is TOML
    variable: str = ""
    by_hand: str = ""  # how its server is put where `setup` does not write

    def settings(self, program: str, *, user: bool) -> JsonFile | None:
        """The file with the hooks, and what stands in it."""
        if self.shape is None:
            return None
        entries = tuple(self.shape(program, hook) for hook in self.hooks)
        return JsonFile(self.user if user else self.project, entries, self.before)


def _server(path: str, key: str, value: dict[str, Any]) -> JsonFile:
    return JsonFile(path, (Entry((key, SERVER), value, listed=False),))


def _stdio(program: str) -> dict[str, Any]:
    return {"command": program, "args": ["mcp"]}


def _claude_server(program: str, user: bool) -> JsonFile | None:
    """A user's stands in a file that Claude Code itself writes all the time."""
    return None if user else _server(".mcp.json", "mcpServers", _stdio(program))


def _server_at(path: str) -> Callable[[str, bool], JsonFile]:
    """A project's and a user's stand at the same place."""
    return lambda program, user: _server(path, "mcpServers", _stdio(program))


def _opencode_server(program: str, user: bool) -> JsonFile:
    path = ".config/opencode/opencode.json" if user else "opencode.json"
    value = {"type": "local", "command": [program, "mcp"], "enabled": True}
    return _server(path, "mcp", value)


def _copilot_server(program: str, user: bool) -> JsonFile:
    """A project's is VS Code's."""
    if not user:
        return _server(".vscode/mcp.json", "servers", {"type": "stdio"} | _stdio(program))
    value = {"type": "local"} | _stdio(program) | {"tools": ["*"]}
    return _server(".copilot/mcp-config.json", "mcpServers", value)


def _command(program: str, harness: str, hook: Hook) -> list[str]:
    return [program, "agent-hook", harness, *(["--listen"] if hook.listens else [])]


def _matcher(hook: Hook) -> dict[str, Any]:
    return {"matcher": hook.tools} if hook.tools else {}


def _group(hook: Hook, handler: dict[str, Any]) -> Entry:
    """As Claude Code, Codex and Gemini CLI have it: handlers in groups, each with a matcher."""
    return Entry(("hooks", hook.event), _matcher(hook) | {"hooks": [handler]}, listed=True)


def _claude(program: str, hook: Hook) -> Entry:
    command, *args = _command(program, "claude", hook)
    handler: dict[str, Any] = {"type": "command", "command": command, "args": args}
    waits = (
        {"asyncRewake": True, "timeout": _LISTENS} if hook.listens else {"timeout": hook.seconds}
    )
    return _group(hook, handler | waits)


def _line(program: str, harness: str, hook: Hook) -> str:
    from shlex import join  # noqa: PLC0415 - help needs none

    return join(_command(program, harness, hook))


def _codex(program: str, hook: Hook) -> Entry:
    command = _line(program, "codex", hook)
    return _group(hook, {"type": "command", "command": command, "timeout": hook.seconds})


def _gemini(program: str, hook: Hook) -> Entry:
    command = _line(program, "gemini", hook)
    handler = {
        "type": "command",
        "name": PROGRAM,
        "command": command,
        "timeout": hook.seconds * 1000,
    }
    return _group(hook, handler)


def _cursor(program: str, hook: Hook) -> Entry:
    value = {"command": _line(program, "cursor", hook), "timeout": hook.seconds} | _matcher(hook)
    return Entry(("hooks", hook.event), value, listed=True)


def _copilot(program: str, hook: Hook) -> Entry:
    command = _line(program, "copilot", hook)
    value = {"type": "command", "bash": command, "timeoutSec": hook.seconds}
    return Entry(("hooks", hook.event), value, listed=True)


_CLAUDE = (
    Hook("SessionStart"),
    Hook("SessionStart", listens=True),
    Hook("UserPromptSubmit"),
    Hook("PreToolUse", "Edit|MultiEdit|NotebookEdit|Write"),
    Hook("PostToolUse", "Bash"),
    Hook("Stop"),
    Hook("Stop", listens=True),
    Hook("SessionEnd"),
)
_CODEX = (
    Hook("SessionStart"),
    Hook("UserPromptSubmit"),
    Hook("PreToolUse", "^apply_patch$"),
    Hook("PostToolUse", "^Bash$"),
    Hook("Stop"),
    Hook("SessionEnd", seconds=3),  # more is cut, with a warning
)
_GEMINI = (
    Hook("SessionStart"),
    Hook("BeforeAgent"),
    Hook("BeforeTool", "write_file|replace"),
    Hook("AfterTool", "run_shell_command"),
    Hook("AfterAgent"),
    Hook("SessionEnd"),
)
_CURSOR = (
    Hook("sessionStart"),
    Hook("preToolUse", "Write|Edit|StrReplace|MultiEdit|Delete|EditNotebook"),
    Hook("postToolUse", "Shell"),
    Hook("stop"),
    Hook("sessionEnd"),
)
# In this form of their names the events tell which they are, and VS Code knows them too.
_COPILOT = (
    Hook("SessionStart"),
    Hook("UserPromptSubmit"),
    Hook("PreToolUse"),
    Hook("PostToolUse"),
    Hook("Stop"),
    Hook("SessionEnd"),
)

HARNESSES = {
    row.name: row
    for row in (
        Harness(
            "claude",
            "Claude Code",
            programs=("claude",),
            folder=".claude",
            traces=(".claude", "CLAUDE.md"),
            project=".claude/settings.json",
            user=".claude/settings.json",
            hooks=_CLAUDE,
            shape=_claude,
            server=_claude_server,
            variable="CLAUDE_CONFIG_DIR",
            by_hand="claude mcp add --scope user coordledger -- coordledger mcp",
        ),
        Harness(
            "codex",
            "Codex",
            programs=("codex",),
            folder=".codex",
            traces=(".codex",),
            project=".codex/hooks.json",
            user=".codex/hooks.json",
            hooks=_CODEX,
            shape=_codex,
            toml=".codex/config.toml",
            variable="CODEX_HOME",
        ),
        Harness(
            "gemini",
            "Gemini CLI",
            programs=("gemini",),
            folder=".gemini",
            traces=(".gemini", "GEMINI.md"),
            project=".gemini/settings.json",
            user=".gemini/settings.json",
            hooks=_GEMINI,
            shape=_gemini,
            server=_server_at(".gemini/settings.json"),
        ),
        Harness(
            "opencode",
            "opencode",
            programs=("opencode",),
            folder=".config/opencode",
            traces=(".opencode", "opencode.json", "opencode.jsonc"),
            project=".opencode/plugins/coordledger.js",
            user=".config/opencode/plugins/coordledger.js",
            server=_opencode_server,
        ),
        Harness(
            "cursor",
            "Cursor",
            programs=("cursor", "cursor-agent"),
            folder=".cursor",
            traces=(".cursor", ".cursorrules"),
            project=".cursor/hooks.json",
            user=".cursor/hooks.json",
            hooks=_CURSOR,
            shape=_cursor,
            before='"version": 1, ',
            server=_server_at(".cursor/mcp.json"),
        ),
        Harness(
            "copilot",
            "GitHub Copilot",
            programs=("copilot",),
            folder=".copilot",
            traces=(".github/hooks", ".github/copilot-instructions.md"),
            project=".github/hooks/coordledger.json",
            user=".copilot/hooks/coordledger.json",
            hooks=_COPILOT,
            shape=_copilot,
            before='"version": 1, ',
            server=_copilot_server,
        ),
    )
}
