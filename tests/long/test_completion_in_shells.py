"""Completion in real shells: a key is pressed, and the program gets the name, whatever it is."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "next> "
HOSTILE = (
    "x1$(touch${IFS}pwn)z",
    "x2`touch${IFS}pwn`z",
    "x3;touch${IFS}pwn;z",
    "x4'\"z",
    "x5*z",
    "x6!a#z",
)
DEADLINE = 60.0
COMPLETED = b"z"  # each name ends with it, and nothing that is typed has it
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": [
        "fish",
        "--no-config",
        "--private",
        "-C",
        f"function fish_prompt; echo '{PROMPT}'; end",
    ],
}
SWITCH_ON = {
    "bash": 'eval "$(coordledger completion bash)"',
    "zsh": 'autoload -Uz compinit && compinit -u && eval "$(coordledger completion zsh)"',
    "fish": "coordledger completion fish | source",
}
SHELLS = [
    pytest.param(
        shell,
        marks=pytest.mark.skipif(
            shutil.which(shell) is None and not os.environ.get("CI"), reason=f"no {shell} here"
        ),
    )
    for shell in START
]


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """`coordledger` completes as it does; called, it writes its arguments down."""
    fleet = founded()
    alice = fleet.ledger("alice")
    with alice.batch() as batch:
        for task in ("fix-z", "ns:z", *HOSTILE):
            batch.submit(task)
    alice.head()
    programs = tmp_path_factory.mktemp("programs")
    program = programs / "coordledger"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "if '_COORDLEDGER_COMPLETE' in os.environ or sys.argv[1] == 'completion':\n"
        "    from coordledger.__main__ import main\n"
        "    from coordledger.client import completing\n"
        "    completing.PATIENCE = 30\n"  # other tests run beside this one
        "    sys.exit(main())\n"
        "with open('called', 'a') as file:\n"
        "    file.write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    program.chmod(0o755)
    fleet.env["PATH"] = f"{programs}:{fleet.env['PATH']}"
    return fleet


class Terminal:
    """A shell at a terminal, in alice's clone."""

    def __init__(self, shell: str, site: Fleet) -> None:
        self.cwd = site.clone("alice")
        (self.cwd / "called").unlink(missing_ok=True)
        env = site.env | {"TERM": "xterm", "PS1": PROMPT, "COLUMNS": "200"}
        self.said = b""
        self._process, self._fd = pty.fork()
        if not self._process:  # it has a terminal of its own
            os.chdir(self.cwd)
            os.execvpe(START[shell][0], START[shell], env)

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._fd)

    def type(self, text: str) -> None:
        self.said = b""
        os.write(self._fd, text.encode())

    def wait_for(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not done():
            assert time.monotonic() < end, self.said.decode("utf-8", "replace")
            if select.select([self._fd], [], [], 0.05)[0]:
                self.said += os.read(self._fd, 65_536)

    def run(self, text: str) -> list[str]:
        """Type it, with a tab at its end; once the line has grown, run it; its arguments."""
        before = len(self.called())
        self.type(text + "\t")
        self.wait_for(lambda: COMPLETED in self.said)
        self.type("\n")
        self.wait_for(lambda: len(self.called()) > before and PROMPT.encode() in self.said)
        return self.called()[-1]

    def called(self) -> list[list[str]]:
        """The arguments of each call."""
        path: Path = self.cwd / "called"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_guide_says_how_it_is_switched_on(shell: str) -> None:
    guide = " ".join(pages.text("docs/guide.md").split())
    assert f"`{SWITCH_ON[shell].rpartition(' && ')[2]}`" in guide


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completed_name_is_one_argument_whatever_it_is(shell: str, site: Fleet) -> None:
    assert shutil.which(shell), "the gate installs it"
    terminal = Terminal(shell, site)
    try:
        terminal.wait_for(lambda: PROMPT.encode() in terminal.said)
        terminal.type(SWITCH_ON[shell] + "; coordledger ready\n")
        terminal.wait_for(
            lambda: (
                bool(terminal.called())
                and PROMPT.encode() in terminal.said.rpartition(b"ready\r\n")[2]
            )
        )
        for name in ("fix-z", "ns:z", *HOSTILE):
            begun = name[:3] if name == "ns:z" else name[:2]
            assert terminal.run(f"coordledger show {begun}") == ["show", name]
        assert not list(terminal.cwd.glob("pwn*"))
    finally:
        terminal.close()
