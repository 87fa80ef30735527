"""`run` at a terminal, below a shell with job control: ^C, ^Z, fg, and who reads what is typed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest
from support.runs import PATIENCE, is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

if not shutil.which("bash"):
    pytest.skip("no bash", allow_module_level=True)

RUN = f"{sys.executable} -m coordledger run t"
# Says whether it is in the foreground, and what is typed.
READ = (
    "import os; print('front', os.tcgetpgrp(0) == os.getpgrp(), flush=True);"
    " print('read', input(), flush=True)"
)
# In short sleeps: an interrupt that arrives just before a program reads is noticed by the next one.
WAIT = f"{READ.rpartition(' print(')[0]} import time; [time.sleep(0.02) for _ in iter(int, 1)]"
PAGER = """
import os, sys
terminal = os.open("/dev/tty", os.O_RDWR)
print("pager front", os.tcgetpgrp(terminal) == os.getpgrp(), flush=True)
print(sys.stdin.read())
"""


class Shell:
    """bash on a terminal of its own."""

    def __init__(self, fleet: Fleet) -> None:
        self._master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.said = ""
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=fleet.clone("bob"),
            env=fleet.env | {"PS1": "", "PS2": "", "HISTFILE": "", "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads
        )
        os.close(slave)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        self.said = ""
        os.write(self._master, text.encode())

    def hear(self, words: str) -> str:
        """Wait until `words` are printed; all that was since the last typing."""
        end = time.monotonic() + PATIENCE
        while words not in self.said:
            left = end - time.monotonic()
            assert left > 0, f"no {words!r} in {self.said!r}"
            if select.select([self._master], [], [], left)[0]:
                self.said += os.read(self._master, 65_536).decode()
        return self.said


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    fleet = make_fleet(max_skew=1)
    fleet.enroll("bob")
    fleet.ledger("alice").submit("t")
    return fleet


@pytest.fixture
def shell(fleet: Fleet) -> Iterator[Shell]:
    shell = Shell(fleet)
    yield shell
    shell.close()


def reader(shell: Shell, *, after: str = "") -> None:
    shell.type(f'{RUN} -- {sys.executable} -c "{READ}"{after}; echo "code=$?"\n')


def test_the_command_has_the_terminal_and_gives_it_back(shell):
    reader(shell)
    shell.hear("front True")
    shell.type("hello\n")
    shell.hear("read hello")
    shell.hear("code=0")
    shell.type("echo still $((40 + 2))\n")
    shell.hear("still 42")


def test_interrupting_ends_the_command_and_gives_the_task_back(shell, fleet):
    shell.type(f'{RUN} -- {sys.executable} -c "{WAIT}"; echo "code=$?"\n')
    shell.hear("front True")
    shell.type("\x03")
    shell.hear("code=130")
    assert fleet.ledger("bob").show("t").last.text == "signal 2"
    shell.type("echo still $((40 + 2))\n")
    shell.hear("still 42")


def test_a_command_that_is_stopped_stops_run_and_goes_on_with_fg(shell, fleet):
    reader(shell)
    shell.hear("front True")
    shell.type("\x1a")
    shell.hear("Stopped")
    shell.type("jobs; echo jobs-end\n")
    assert "Stopped" in shell.hear("jobs-end")
    shell.type("fg\n")
    time.sleep(0.5)  # until bash has moved the job to the front, it reads what is typed itself
    shell.type("again\n")
    shell.hear("read again")
    wait_until(lambda: fleet.ledger("bob").show("t").status == "open", "it was not given back")


def test_a_stopped_command_does_not_outlive_its_lease(shell, fleet):
    beat = "import os; print('pid', os.getpid(), 'is alive', flush=True); input()"
    shell.type(f'{RUN} --ttl 6s -- {sys.executable} -c "{beat}"; echo "code=$?"\n')
    said = shell.hear(" is alive")
    pid = int(said.partition("pid ")[2].split()[0])
    shell.type("\x1a")
    shell.hear("Stopped")
    until = fleet.ledger("bob").show("t").expires_at.timestamp() - 1
    wait_until(lambda: not is_alive(pid), "it outlives its lease", 20)
    assert time.time() < until
    shell.type("fg; echo code=$?\n")
    shell.hear("code=120")


def test_a_pager_of_the_same_job_keeps_the_terminal_until_the_command_asks_for_it(shell, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text(PAGER)
    shell.type(f"{RUN} -- sleep 2 | {sys.executable} {pager}; echo code=$?\n")
    shell.hear("pager front True")
    shell.hear("code=0")
    reader(shell, after=" | cat")
    shell.hear("front ")
    shell.type("asked\n")
    shell.hear("read asked")
    shell.hear("code=0")


def test_in_the_background_the_command_is_stopped_where_it_reads_the_terminal(shell, fleet):
    shell.type(f'{RUN} -- {sys.executable} -c "{READ}" &\n')
    shell.hear("front False")
    wait_until(lambda: fleet.ledger("bob").show("t").status == "claimed", "it was not claimed")
    time.sleep(0.5)
    shell.type("jobs; echo jobs-end\n")
    assert "Stopped" in shell.hear("jobs-end")
    shell.type("fg\n")
    time.sleep(0.5)
    shell.type("typed\n")
    shell.hear("read typed")
