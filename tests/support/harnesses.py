"""The real harnesses as users run them, in folders of their own, against a mock of the model.

Rules: a harness has a HOME of its own, and sees an environment made from nothing, and no
credentials; it reaches loopback only. What is written here is what a user of the harness has
before coordledger comes: where the model is, and that the folder is trusted. What connects
coordledger is written by `coordledger setup` and by nothing else. Each run has a deadline and a
process group that is killed with it; what it printed stays in its `transcripts`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from support.harness_binaries import PACKAGES, UnavailableError, fetch
from support.model_mocks import ModelMock, Shell, Tool, Write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.model_mocks import Script, Turn

DEADLINE = 120  # seconds; a run takes 2 to 10 on an idle machine
NOWHERE = "http://127.0.0.1:9"  # the proxy of whoever is not on loopback


class Harness:
    """How one harness is started, and what it calls its tools."""

    name: ClassVar[str]
    tools: ClassVar[str]  # before the names of the tools of an MCP server called coordledger

    def __init__(self) -> None:
        self.package = PACKAGES[self.name]
        self.program = fetch(self.package, os.environ)

    def settings(self, home: Path, folder: Path, url: str) -> dict[Path, str]:
        """What stands in which file before coordledger comes."""
        return {}

    def environment(self, home: Path, url: str) -> dict[str, str]:
        return {}

    def command(self, prompt: str) -> list[str]:
        raise NotImplementedError

    def terminal_command(self, prompt: str) -> list[str]:
        """As `command`, for a session that goes on after the answer, at a terminal."""
        raise NotImplementedError

    def translate(self, folder: Path, turn: Shell | Write) -> Tool:
        raise NotImplementedError


class Claude(Harness):
    name = "claude"
    tools = "mcp__coordledger__"
    _allowed = (
        "--allowedTools", "Write", "Bash", "mcp__coordledger", "mcp__plugin_coordledger_coordledger"
    )  # fmt: skip

    def settings(self, home: Path, folder: Path, url: str) -> dict[Path, str]:
        known = {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "customApiKeyResponses": {"approved": ["sk-ant-nobodys-key"], "rejected": []},
            "projects": {str(folder): {"hasTrustDialogAccepted": True}},
        }
        return {home / ".claude.json": json.dumps(known)}

    def environment(self, home: Path, url: str) -> dict[str, str]:
        return {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "sk-ant-nobodys-key",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def command(self, prompt: str) -> list[str]:
        return [str(self.program), "-p", prompt, *self._allowed]

    def terminal_command(self, prompt: str) -> list[str]:
        # Its default mode asks its maker's server about each command.
        return [str(self.program), prompt, "--permission-mode", "default", *self._allowed]

    def translate(self, folder: Path, turn: Shell | Write) -> Tool:
        if isinstance(turn, Shell):
            return Tool("Bash", {"command": turn.command, "description": "a command"})
        return Tool("Write", {"file_path": str(folder / turn.path), "content": turn.text})


class Codex(Harness):
    name = "codex"
    tools = "mcp__coordledger/"

    def settings(self, home: Path, folder: Path, url: str) -> dict[Path, str]:
        config = f"""\
model = "gpt-5.5"
model_provider = "mock"
[model_providers.mock]
name = "mock"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "MOCK_KEY"
request_max_retries = 0
stream_max_retries = 0
supports_websockets = false
[projects."{folder}"]
trust_level = "trusted"
"""
        return {home / ".codex" / "config.toml": config}

    def environment(self, home: Path, url: str) -> dict[str, str]:
        return {"MOCK_KEY": "x", "CODEX_HOME": str(home / ".codex")}

    def command(self, prompt: str) -> list[str]:
        bypass = "--dangerously-bypass-approvals-and-sandbox"
        return [str(self.program), "exec", bypass, "--dangerously-bypass-hook-trust", prompt]

    def translate(self, folder: Path, turn: Shell | Write) -> Tool:
        if isinstance(turn, Shell):
            return Tool("exec_command", {"cmd": turn.command})
        added = "".join(f"+{line}\n" for line in turn.text.splitlines())
        patch = f"*** Begin Patch\n*** Add File: {turn.path}\n{added}*** End Patch\n"
        return Tool("apply_patch", text=patch)


class Gemini(Harness):
    name = "gemini"
    tools = "mcp_coordledger_"

    def __init__(self) -> None:
        super().__init__()
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        if int(node.stdout.lstrip("v").partition(".")[0]) < 20:
            raise UnavailableError(f"it needs Node.js 20, and here is {node.stdout.strip()}")

    def settings(self, home: Path, folder: Path, url: str) -> dict[Path, str]:
        own = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "general": {"enableAutoUpdate": False},
            "privacy": {"usageStatisticsEnabled": False},
            "telemetry": {"enabled": False},
        }
        return {
            home / ".gemini" / "settings.json": json.dumps(own),
            home / ".gemini" / "trustedFolders.json": json.dumps({str(folder): "TRUST_FOLDER"}),
        }

    def environment(self, home: Path, url: str) -> dict[str, str]:
        return {
            "GEMINI_API_KEY": "x", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_NO_RELAUNCH": "true",
        }  # fmt: skip

    def command(self, prompt: str) -> list[str]:
        node = shutil.which("node") or "node"
        # A model by name: else it asks one which model to ask.
        return [node, str(self.program), "-y", "-m", "gemini-2.5-flash", "-p", prompt]

    def translate(self, folder: Path, turn: Shell | Write) -> Tool:
        if isinstance(turn, Shell):
            return Tool("run_shell_command", {"command": turn.command})
        return Tool("write_file", {"file_path": str(folder / turn.path), "content": turn.text})


class Opencode(Harness):
    name = "opencode"
    tools = "coordledger_"

    def settings(self, home: Path, folder: Path, url: str) -> dict[Path, str]:
        model = {"name": "m1", "tool_call": True, "limit": {"context": 100000, "output": 4000}}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "mock",
            "options": {"baseURL": f"{url}/v1", "apiKey": "x"},
            "models": {"m1": model},
        }
        config = {
            "autoupdate": False, "share": "disabled", "model": "mock/m1", "small_model": "mock/m1",
            "permission": {"*": "allow"}, "provider": {"mock": provider},
        }  # fmt: skip
        return {
            home / ".config" / "opencode" / "opencode.json": json.dumps(config),
            # Beside a plugin it installs one package, for types; it need not try so for a minute.
            home / ".npmrc": "offline=true\nfetch-retries=0\n",
        }

    def environment(self, home: Path, url: str) -> dict[str, str]:
        off = ("AUTOUPDATE", "MODELS_FETCH", "DEFAULT_PLUGINS", "LSP_DOWNLOAD", "SHARE")
        return {f"OPENCODE_DISABLE_{what}": "1" for what in off}

    def command(self, prompt: str) -> list[str]:
        return [str(self.program), "run", prompt]

    def terminal_command(self, prompt: str) -> list[str]:
        return [str(self.program), "--prompt", prompt]

    def translate(self, folder: Path, turn: Shell | Write) -> Tool:
        if isinstance(turn, Shell):
            return Tool("bash", {"command": turn.command, "description": "a command"})
        return Tool("write", {"filePath": str(folder / turn.path), "content": turn.text})


HARNESSES: dict[str, type[Harness]] = {
    kind.name: kind for kind in (Claude, Codex, Gemini, Opencode)
}


def bare_environment(home: Path) -> dict[str, str]:
    """`env -i`: a PATH, a HOME, a language, and a proxy for everything that is not on loopback."""
    node = shutil.which("node")
    path = [str(Path(sys.executable).parent), *([str(Path(node).parent)] if node else [])]
    return {
        "PATH": os.pathsep.join([*path, "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TMPDIR": str(home / "tmp"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "HTTPS_PROXY": NOWHERE,
        "HTTP_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
    }


@dataclass
class Session:
    """One run of a harness in `folder`, with `home` as HOME; `start` and `wait`, or `run`."""

    harness: Harness
    home: Path
    folder: Path
    mock: ModelMock
    transcripts: Path
    process: subprocess.Popen[bytes] | None = None
    options: Sequence[str] = ()
    terminal: int = -1
    watcher: threading.Thread | None = None

    @property
    def env(self) -> dict[str, str]:
        return bare_environment(self.home) | self.harness.environment(self.home, self.mock.url)

    def start(self, prompt: str = "Go on.") -> None:
        with (
            (self.transcripts / "stdout").open("ab") as out,
            (self.transcripts / "stderr").open("ab") as err,
        ):
            self.process = subprocess.Popen(
                [*self.harness.command(prompt), *self.options], cwd=self.folder, env=self.env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    def start_at_terminal(self, prompt: str) -> None:
        """The same at a terminal, where `type` types; `kill` ends it."""
        self.terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
        command = self.harness.terminal_command(prompt)
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdin=end, stdout=end, stderr=end,
            start_new_session=True,
        )  # fmt: skip
        os.close(end)
        self.watcher = threading.Thread(target=self._watch, args=(self.terminal,), daemon=True)
        self.watcher.start()

    def type(self, keys: bytes) -> None:
        with contextlib.suppress(OSError):  # the program has ended
            os.write(self.terminal, keys)

    def _watch(self, terminal: int) -> None:
        ended = contextlib.suppress(OSError)  # so a terminal ends whose program has
        with (self.transcripts / "stdout").open("ab", buffering=0) as file, ended:
            while some := os.read(terminal, 1 << 16):
                file.write(some)

    def wait(self, deadline: float = DEADLINE) -> int:
        """The exit code. Nothing of it runs any longer when this returns."""
        assert self.process
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.harness.name} runs after {deadline} s") from None
        finally:
            self.kill()
        assert self.mock.faults == []
        return code

    def run(self, prompt: str = "Go on.") -> int:
        self.start(prompt)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to its whole process group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.watcher:
            self.watcher.join(5)  # a terminal ends when all have closed it
            os.close(self.terminal)
            self.watcher = None

    def printed(self) -> str:
        """The ends of what it printed."""
        parts = []
        for name in ("stdout", "stderr"):
            file = self.transcripts / name
            text = file.read_text("utf-8", "replace") if file.exists() else ""
            parts.append(f"-- {name}\n{text[-4000:]}")
        return "\n".join(parts)


def prepared(
    harness: Harness, home: Path, folder: Path, script: Iterable[Turn] | Script, transcripts: Path
) -> Session:
    """A session that can be started: its mock runs, its settings are written."""
    transcripts.mkdir(parents=True, exist_ok=True)
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    mock = ModelMock(
        script, lambda turn: harness.translate(folder, turn), transcripts / "requests.jsonl"
    )
    # Codex runs commands in a login shell, for which Debian's /etc/profile sets another PATH.
    profile = f"PATH={shlex.quote(bare_environment(home)['PATH'])}\n"
    files = {home / ".profile": profile} | harness.settings(home, folder, mock.url)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Session(harness, home, folder, mock, transcripts)
