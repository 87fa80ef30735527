"""git's own programs, always with a deadline.

Rules: every call ends: by itself, or killed with all its children when the deadline
has passed. No prompt, no hook of the user's, messages in English (they are parsed).
The output of a program is returned, never shown. A server's program on this machine
(`Service`) is told nothing of the repository that it is called from, as git does it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import subprocess
from typing import TYPE_CHECKING, Self

from coordledger.errors import error
from coordledger.git.address import without_password
from coordledger.git.cat_file import CatFile
from coordledger.git.loose import Reader
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

    from coordledger.deadline import Deadline
    from coordledger.errors import CoordledgerError
    from coordledger.git.cat_file import StoredObject

ENDING = 2.0  # seconds that git gets to clean up after it was asked to stop

# Lines that git adds below ssh's own reason.
_UNINFORMATIVE = (
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
)
_INFORMATIVE = ("fatal:", "FATAL:", "error:", "ssh:")  # the second is gitolite's


class Ran(Value):
    """The end of a program: its exit code, and what it has printed."""

    code: int
    out: str
    err: str

    def why(self) -> str:
        """The line that says what went wrong: the last fatal one, else the last."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        lines = [line for line in lines if line not in _UNINFORMATIVE] or lines
        informative = [line for line in lines if line.startswith(_INFORMATIVE)]
        line = (informative or lines or [f"exit code {self.code}"])[-1]
        for prefix in ("fatal: ", "FATAL: ", "error: "):
            line = line.removeprefix(prefix)
        return without_password(line)


# How git's versions say that a repository is somebody else's, or a bare one that was not named.
_UNTRUSTED = r"(?:dubious ownership in repository at '|unsafe repository \(')(.+?)'"
_UNNAMED = r"cannot use bare repository '(.+?)' \(safe\.bareRepository"


def untrusted(said: str) -> CoordledgerError | None:
    """The error that it is if git has `said` that it opens no such repository; else None."""
    if found := re.search(_UNTRUSTED, said):
        return error("not-trusted", path=found[1])
    if found := re.search(_UNNAMED, said):
        return error("not-named", path=found[1])
    return None


def _not_started(fault: OSError) -> CoordledgerError:
    """Git is not there, or no process can be made."""
    scarce = fault.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
    return error("no-process" if scarce else "no-git", why=fault.strerror)


# A partial clone asks no remote for an object that is missing; the second is for git < 2.44.
NO_REMOTE = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}

# Names that git takes out of the environment of a server's program that it starts itself, beside
# what names the repository's parts (those are taken out for all of git's programs).
_ABOUT_HERE = ("GIT_DIR", "GIT_NO_REPLACE_OBJECTS", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT")

# By these git tells its hooks and aliases about one repository: not for another one.
_LOCAL = frozenset(
    f"GIT_{name}"
    for name in (
        "ALTERNATE_OBJECT_DIRECTORIES",
        "COMMON_DIR",
        "CONFIG",  # for `git config` alone, in the place of all of git's configuration
        "DIR",
        "GRAFT_FILE",
        "INDEX_FILE",
        "NAMESPACE",
        "OBJECT_DIRECTORY",
        "PREFIX",
        "QUARANTINE_PATH",
        "REPLACE_REF_BASE",
        "SHALLOW_FILE",
        "WORK_TREE",
    )
)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for git: without secrets, and without what names a repository."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("COORDINATION_SECRET") and name not in _LOCAL
    }


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment that git gives to a server's program on this machine."""
    return {k: v for k, v in child_environment(environ).items() if k not in _ABOUT_HERE}


class Git:
    """Runs `git` with one environment, in one place."""

    def __init__(
        self,
        environ: Mapping[str, str],
        cwd: Path | None,
        deadline: Deadline,
        options: tuple[str, ...] = (),
    ) -> None:
        """`options` are git's own, before the command."""
        self._environ = dict(environ) | {
            "LC_ALL": "C",
            "LANGUAGE": "",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
        }
        self.cwd, self.deadline, self._options = cwd, deadline, options
        self._begun: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End what was begun and not asked for."""
        while self._begun:
            _end(self._begun.popitem()[1])

    @property
    def environ(self) -> dict[str, str]:
        """The environment of git, for another program that calls it so."""
        return dict(self._environ)

    def work_until(self, deadline: Deadline) -> None:
        """From now on every call ends by `deadline`: another operation begins."""
        self.deadline = deadline

    def begin(self, *args: str, hooks: str | None = os.devnull) -> None:
        """Start `git ARGS`: a `run` of the same, which is to come, finds it under way."""
        command = self._command(args, hooks)
        with contextlib.suppress(OSError):  # `run` finds the same, and says it
            self._begun[command] = self._start(command, {}, has_input=False)

    def _command(self, args: tuple[str, ...], hooks: str | None) -> tuple[str, ...]:
        no_hooks = ("-c", f"core.hooksPath={hooks}") if hooks else ()
        return ("git", *self._options, *no_hooks, *args)

    def _start(
        self, command: tuple[str, ...], environ: dict[str, str], *, has_input: bool
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=self._environ | environ,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # no terminal to prompt on, and one group to kill
        )

    def run(
        self,
        *args: str,
        hooks: str | None = os.devnull,
        stdin: str | bytes | None = None,
        errors: str = "replace",
        **environ: str,
    ) -> Ran:
        """Run `git ARGS` and wait for it; `hooks` None leaves the configured ones in force,
        `stdin` is its standard input, `errors` what becomes of output that is not UTF-8.

        Raises `Failed`: no-git, timeout.
        """
        command, begun = self._command(args, hooks), None
        if not environ and stdin is None:
            begun = self._begun.pop(command, None)
        left = self.deadline.left()
        try:
            process = begun or self._start(command, environ, has_input=stdin is not None)
        except OSError as fault:
            if self.cwd and not self.cwd.is_dir():
                raise error("not-a-repository", path=self.cwd) from None
            raise _not_started(fault) from None
        try:
            given = stdin.encode() if isinstance(stdin, str) else stdin
            out, err = process.communicate(given, timeout=left)
        except subprocess.TimeoutExpired:
            _end(process)
            raise error("timeout", seconds=f"{self.deadline.seconds:g}") from None
        except BaseException:
            _end(process)
            raise
        return Ran(process.returncode, out.decode("utf-8", errors), _text(err))

    def run_without_folders(
        self, *args: str, hooks: str | None = os.devnull, **environ: str
    ) -> Ran:
        """As `run`; but no folder of this machine is opened as a remote."""
        allowed = self._environ.get("GIT_ALLOW_PROTOCOL")
        if allowed is None:
            return self.run("-c", "protocol.file.allow=never", *args, hooks=hooks, **environ)
        rest = ":".join(name for name in allowed.split(":") if name != "file")
        environ |= {"GIT_ALLOW_PROTOCOL": rest}  # -c would not count
        return self.run(*args, hooks=hooks, **environ)

    def objects(self) -> CatFile:
        """A reader of the repository's objects. It waits for no remote, and so has no deadline.

        Raises `Failed`: no-git.
        """
        try:
            return CatFile(self._environ | NO_REMOTE, quiet=True)
        except OSError as fault:
            raise _not_started(fault) from None

    def stream(self, oids: Iterable[str]) -> Generator[tuple[str, bytes], None, None]:
        """Ids and contents of many objects of the repository. Like `objects`, it has no deadline.

        Raises `KeyError`: one is not there; `RuleBroken`: too-large, bad-push; `Failed`: no-git.
        """
        with contextlib.closing(self.stored_in(oids)) as stored:
            for oid, _, content in stored:
                yield oid, content

    def stored_in(self, oids: Iterable[str], **environ: str) -> Generator[StoredObject, None, None]:
        """As `stream`, with their kinds; of the repository that the environment names then."""
        from coordledger.git.object_stream import ObjectStream  # noqa: PLC0415 - for many objects

        try:
            objects = ObjectStream(oids, self._environ | NO_REMOTE | environ)
        except OSError as fault:
            raise _not_started(fault) from None
        with contextlib.closing(objects):
            yield from objects

    def history(self, *args: str) -> Generator[str, None, None]:
        """The ids that `git rev-list --first-parent ARGS` prints: as the commits themselves name
        their parents, whatever else git has been told of them; as far as they are here, and a
        shallow copy goes. Like `objects`, it has no deadline. Raises `Failed`: no-git.
        """
        try:
            process = subprocess.Popen(
                ["git", "-c", "core.commitGraph=false", "rev-list", "--first-parent", *args],
                env=self._environ | NO_REMOTE | {"GIT_GRAFT_FILE": os.devnull},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as fault:
            raise _not_started(fault) from None
        try:
            for line in process.stdout or ():
                yield line.decode("ascii").rstrip("\n")
        finally:
            _end(process)

    def reader(self, git_dir: Path, objects: str) -> Reader:
        """A reader of objects that prefers their own files. Like `objects`, it has no deadline."""
        where = {"GIT_DIR": str(git_dir), "GIT_OBJECT_DIRECTORY": objects}
        return Reader(self._environ | NO_REMOTE | where, quiet=True)

    def service(self, *args: str) -> Service:
        """Start `git ARGS` to talk with. Raises `Failed`: no-git, timeout."""
        self.deadline.left()
        environ = server_environment(self._environ)
        try:
            process = subprocess.Popen(
                ["git", *args],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as fault:
            raise _not_started(fault) from None
        return Service(process, self.deadline)

    def output(self, *args: str) -> str:
        """The output of `git ARGS`. Raises `Failed`: git-failed, no-git, timeout."""
        ran = self.run(*args)
        if ran.code:
            raise error("git-failed", why=ran.why())
        return ran.out

    def version(self) -> tuple[tuple[int, ...], str]:
        """The first two numbers of git's version, and all that it says of it.

        Raises as `output` does.
        """
        printed = self.output("version").strip()
        return tuple(map(int, re.findall(r"\d+", printed)[:2])), printed


class Service:
    """A program of git's that answers on its standard output what it is asked on its input."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: Deadline) -> None:
        self._process, self._deadline = process, deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            _end(self._process)

    def read(self) -> bytes:
        """The bytes that it has printed since; none if it has ended. Raises `Failed`: timeout."""
        out = self._process.stdout
        poll = select.poll()  # `select` itself takes no high numbers
        if out is not None:
            poll.register(out, select.POLLIN)
        if out is None or not poll.poll(1000 * self._deadline.left()):
            raise error("timeout", seconds=f"{self._deadline.seconds:g}")
        return os.read(out.fileno(), 65_536)

    def answer(self, data: bytes, limit: int) -> bytes:
        """Write the rest of its input, which it reads before it prints more; all that it prints
        then, cut off above `limit` bytes. Raises `Failed`: timeout.
        """
        self.send(data)
        parts, size = [], 0
        while size <= limit:
            part = self.read()
            if not part:
                self.finish()
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def fits(self, data: bytes) -> bool:
        """Whether `send` can write it at once, without waiting for the program to read."""
        pipe = self._process.stdin
        if pipe is None:
            return False
        with contextlib.suppress(OSError, AttributeError):  # not every system lets one ask
            size = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
            return len(data) <= size or len(data) <= fcntl.fcntl(
                pipe, fcntl.F_SETPIPE_SZ, len(data)
            )
        return False

    def send(self, data: bytes) -> None:
        """Write all of its input, which `fits`."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # its answer tells
                self._process.stdin.write(data)
            self._process.stdin.close()
            self._process.stdin = None

    def finish(self, data: bytes = b"") -> tuple[bytes, str]:
        """Write the rest of its input; the rest of what it printed, and its errors.

        Raises `Failed`: timeout.
        """
        try:
            out, err = self._process.communicate(data, timeout=self._deadline.left())
        except subprocess.TimeoutExpired:
            raise error("timeout", seconds=f"{self._deadline.seconds:g}") from None
        return out, _text(err)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """No process of the group outlives the call, not even one that git itself did not wait for."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.communicate(timeout=ENDING)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return
