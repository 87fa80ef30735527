"""The resident process: it answers for the hooks, sooner than a new process could.

Rules of this file:
- It decides nothing of its own: `pre_receive.judge` and `sequencer` do, with the same inputs.
  A request that they cannot decide by itself is answered with `unsure`. A hook takes
  everything but a clear yes or no for a doubt and does the work itself.
- So it may be killed or stopped at any moment: only speed is lost.
- It remembers nothing from one request to the next but a running `git cat-file` for the
  repository's permanent objects, and of a ledger that is sequenced what its ids vouch for:
  ref, secrets and settings are read for each request.
- Records that are to be sequenced land through `combiner`, as soon as pre-receive asks where that
  may be (`in_quarantine`), else for proc-receive; a push that pre-receive lets pass moves the mark
  (`mark`). No other request writes.
- Only this user may ask, on a socket in the folder that holds the secrets.

A request comes through `git credential-cache`, git's own client for a socket:

    action=get
    timeout=900
    coordledger 1 KIND
    dir=…                       the repository, and what else the kind has
                                (an empty line)
    …                           for pre-receive the hook's standard input, for proc-receive
                                the one command
    end

The last line shows that nothing is cut off. The answer is `coordledger 1 unsure`, or `coordledger 1
undecided` where something may have landed, or `coordledger 1 pass` or `coordledger 1 refused`, and
for proc-receive `coordledger 1 reported …` with the packets for git. The lines to show follow.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import ExitStack, chdir, suppress
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.answers import Unknown
from coordledger.deadline import Deadline, unix_ms
from coordledger.errors import error
from coordledger.format import sshsig
from coordledger.format.names import LEDGERS
from coordledger.format.rules import load_all
from coordledger.git.cat_file import MAX_OBJECT, CatFile
from coordledger.git.loose import Reader
from coordledger.git.pktline import FLUSH
from coordledger.git.process import Git, child_environment, server_environment
from coordledger.git.repository import open_bare
from coordledger.server import eligibility, in_quarantine, pre_receive, proc_receive
from coordledger.server.admission import server_keyring
from coordledger.server.combiner import Combiner, Quarantined
from coordledger.server.sequencer import Sequencer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import NoReturn

    from coordledger.answers import Answer
    from coordledger.format.signing import Keyring
    from coordledger.git.cat_file import StoredObject
    from coordledger.server.eligibility import Finding
    from coordledger.server.sequencer import Outcome

SOCKET, LOCK = "socket", ".serve"  # no ledger's lock has such a name
MAX_REQUEST = 1_048_576  # a longer list of refs is the hook's own work
MAX_AT_ONCE, QUEUE = 16, 64
PATIENCE = 5.0  # seconds for a request to arrive; the hook waits no longer for the answer
SWITCHES = 0.0005  # seconds: a small push does not wait long while a large one is verified
PREFIX = (b"action=get", b"timeout=", b"coordledger 1 ")
UNSURE = "unsure"
UNDECIDED = "undecided"
# Refusals that may come from the surroundings of this process rather than from the push.
_DOUBTS = {"hook-broken", "bad-push", "no-secret", "paths-unread"}


class Request:
    """A question: a kind, named values, and lines."""

    def __init__(self, data: bytes, waits: Callable[[], bool]) -> None:
        """Raises `ValueError` if it is not whole, or none of ours. `waits()`: the asker does."""
        self.waits = waits
        head, _, rest = data.partition(b"\n\n")
        first, second, title, *lines = head.split(b"\n")
        if not (first == PREFIX[0] and second.startswith(PREFIX[1])):
            raise ValueError("not from git credential-cache")
        if not title.startswith(PREFIX[2]) or not rest.endswith(b"\nend\n"):
            raise ValueError("not a whole request of this version")
        self.kind = title.removeprefix(PREFIX[2]).decode("ascii")
        self.values = dict(os.fsdecode(line).split("=", 1) for line in lines)
        self.body = rest.removesuffix(b"end\n")


class ServedRepository:
    """A bare repository that is served: its socket, and its permanent objects."""

    def __init__(self, path: Path, environ: dict[str, str]) -> None:
        """Raises `Failed`: not-a-repository, bad-value, secret-exposed, already-served."""
        open_bare(path, Git(child_environment(environ), None, Deadline(PATIENCE)))
        self.path, self.folder = path, path / "coordledger"
        _need_private(self.folder)
        plain = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
        self.environ = plain | {"GIT_DIR": str(path)}
        self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        free = False
        with suppress(OSError):  # no locks on this file system
            free = files.try_lock(self._lock)
        if not free:
            os.close(self._lock)
            raise error("already-served", path=path)
        self.socket = _listen(self.folder)
        self._objects: CatFile | None = None
        self._loaded = files.facts(eligibility.PACKAGE)
        self._findings: dict[tuple[str, ...], Finding] = {}
        self._turn = threading.Lock()
        self.combiners: dict[str, Combiner] = {}

    def close(self) -> None:
        (self.folder / SOCKET).unlink(missing_ok=True)
        self.socket.close()
        os.close(self._lock)

    def is_at(self, path: str) -> bool:
        """Whether `path` leads to this repository."""
        try:
            return os.path.samefile(path, self.path)  # noqa: PTH121 - text of a request
        except (OSError, ValueError):
            return False

    def combiner(self, name: str) -> Combiner:
        """Where pushes to one ledger wait for their turn."""
        with self._turn:
            if name not in self.combiners:
                self.combiners[name] = Combiner(
                    Sequencer(name, self.environ, _not_configured),
                    threading.Lock(),
                    lambda: _Objects(self.environ, self),
                    lambda: server_keyring(str(self.folder)),
                )
            return self.combiners[name]

    def land(
        self, name: str, new: str, waits: Callable[[], bool], quarantined: Quarantined | None = None
    ) -> Outcome | None:
        """As `Combiner.land`, in one ledger."""
        outcome = self.combiner(name).land(new, waits, quarantined)
        if outcome and outcome.code == "no-create":
            self.combiners.pop(name, None)
        return outcome

    def finding(self, settings: dict[str, str]) -> Finding:
        """Whether a push would start nothing but proc-receive; `settings` name git's files of them
        in the environment of the hook that asks.
        """
        with self._turn:
            key = tuple(settings.values())
            found = self._findings.get(key)
            if found is None or not found.holds:
                own = {name: value for name, value in self.environ.items() if name not in settings}
                environ = own | {name: value for name, value in settings.items() if value}
                git = Git(server_environment(environ), self.path, Deadline(PATIENCE))
                found = eligibility.find(str(self.path), environ, git, self._loaded)
                self._findings = {key: found}
            return found

    def find(self, oid: str, limit: int) -> StoredObject | None:
        """A permanent object, whether packed or not."""
        with self._turn:
            if self._objects is None:
                self._objects = CatFile(self.environ, quiet=True)
            try:
                return self._objects.find(oid, limit)
            except BaseException:
                self._objects.__exit__()  # there may be more of the answer in the pipe
                self._objects = None
                raise


def _need_private(folder: Path) -> None:
    """Another user who can write there could answer in our place."""
    try:
        facts = folder.stat()
    except OSError:
        why = "it has no coordledger folder: coordledger init makes one"
        raise error("bad-value", what=str(folder.parent), why=why) from None
    if facts.st_uid != os.geteuid():
        raise error("secret-exposed", path=folder, why="it is another user's", fix="chown it")
    if facts.st_mode & 0o077:
        mode = f"mode {facts.st_mode & 0o777:04o} lets others in"
        raise error("secret-exposed", path=folder, why=mode, fix=f"chmod 700 {folder}")


def _listen(folder: Path) -> socket.socket:
    """A socket in `folder`, by its name there: a whole path may be too long for one."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o077)
    try:
        with chdir(folder):
            with suppress(FileNotFoundError):
                os.unlink(SOCKET)  # noqa: PTH108 - of a process that was killed: we have its lock
            listening.bind(SOCKET)
    finally:
        os.umask(mask)
    listening.listen(QUEUE)
    listening.setblocking(False)
    return listening


def hangs(path: Path, patience: float = 2.0) -> bool:
    """Whether a process serves the repository at `path` and does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, chdir(path / "coordledger"):
        asking.settimeout(patience)
        try:
            asking.connect(SOCKET)
            asking.sendall(b"?")
            asking.shutdown(socket.SHUT_WR)
            asking.recv(100)
        except (TimeoutError, BlockingIOError):  # the latter: its queue is full
            return True
        except OSError:
            return False
        return False


class _Objects(Reader):
    """The objects that a push sees; permanent ones that are packed come from the running git."""

    def __init__(self, environ: dict[str, str], repository: ServedRepository) -> None:
        super().__init__(environ)
        self._repository = repository

    def find_by_git(self, name: str, limit: int = MAX_OBJECT) -> StoredObject | None:
        if name.startswith(LEDGERS):  # always anew
            return super().find_by_git(name, limit)
        return self._repository.find(name, limit) or super().find_by_git(name, limit)


def _not_configured(_: dict[str, str]) -> NoReturn:
    raise NotImplementedError("settings may come from the hook's environment")


# By these a hook says where git's settings are.
_SETTINGS = (
    *("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"),
    "GIT_CONFIG_NOSYSTEM",
)


def _pre_receive(request: Request, repository: ServedRepository) -> str:
    """Judge a push, or land it, while git holds it back.

    Nothing lands after the hook has gone: it may have refused the push by itself in between.
    """
    variables = {
        "GIT_OBJECT_DIRECTORY": request.values["objects"],
        "GIT_QUARANTINE_PATH": request.values["objects"],
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": request.values["alternates"],
    }
    environ = repository.environ | {name: value for name, value in variables.items() if value}

    def land(name: str, new: str, pushed: Reader, _: Keyring) -> list[Answer] | None:
        if not in_quarantine.may_replace(str(repository.path), environ):
            return None
        finding = repository.finding({name: request.values[name] for name in _SETTINGS})
        if finding.why:
            return None
        quarantined = Quarantined(pushed, finding)
        outcome = repository.land(name, new, request.waits, quarantined)
        return outcome.answers if outcome else [Unknown(new, "the resident process lost its turn")]

    given = pre_receive.judge(
        request.body,
        environ,
        unix_ms(),
        lambda environ: _Objects(environ, repository),
        _not_configured,
        sequenced=request.values["sequenced"] == "sequenced",
        land=land if request.values.get("settings") == "known" else None,
    )
    refused = pre_receive.refusal(given)
    if refused and refused.code in _DOUBTS:
        return UNSURE
    if any(isinstance(one, Unknown) for one in given):
        return UNDECIDED
    return "\n".join(["refused" if pre_receive.stops(given) else "pass", *map(str, given)])


def _proc_receive(request: Request, repository: ServedRepository) -> str:
    """Land one push. A hook that gets no answer may find it landed, and then says so.

    Nothing lands after the hook has gone: it may have refused the push by itself in between.
    """
    new, ref = proc_receive.parse_command(request.body.removesuffix(b"\n"))
    name = proc_receive.ledger_of(ref)
    if not new.strip("0"):
        return UNSURE
    outcome = repository.land(name, new, request.waits)
    if outcome is None or outcome.code in _DOUBTS:
        return UNSURE
    packets = (proc_receive.report(ref, outcome) + FLUSH).decode("ascii")
    return "\n".join([f"reported {packets}", *map(str, outcome.answers)])


# The kinds of requests, and what answers each.
KINDS: dict[str, Callable[[Request, ServedRepository], str]] = {
    "pre-receive": _pre_receive,
    "proc-receive": _proc_receive,
}


def answer(data: bytes, repository: ServedRepository, waits: Callable[[], bool]) -> str:
    """The answer to a request, whatever it is."""
    try:
        request = Request(data, waits)
        if not repository.is_at(request.values["dir"]):
            return UNSURE
        return KINDS[request.kind](request, repository)
    except Exception:  # noqa: BLE001 - the hook that asked finds out by itself
        return UNSURE


class Daemon:
    """Serves repositories until it is told to stop."""

    def __init__(self, paths: list[Path], environ: dict[str, str]) -> None:
        """Raises `Failed`, see `ServedRepository`."""
        sshsig.load()
        load_all()  # an upgrade replaces the files of the code; this process keeps the old one
        with ExitStack() as stack:
            self.repositories = []
            for path in paths:
                self.repositories.append(ServedRepository(path, environ))
                stack.callback(self.repositories[-1].close)
            self._closing = stack.pop_all()
        self._free = threading.BoundedSemaphore(MAX_AT_ONCE)

    def close(self) -> None:
        """Remove the sockets. Requests that are being answered end with the process."""
        self._closing.close()

    def run(self) -> NoReturn:
        """Serve. Ends by an exception of a signal's handler only."""
        sys.setswitchinterval(SWITCHES)
        with selectors.DefaultSelector() as waiting:
            for repository in self.repositories:
                waiting.register(repository.socket, selectors.EVENT_READ, repository)
            while True:
                for key, _ in waiting.select():
                    self._accept(key.data)

    def _accept(self, repository: ServedRepository) -> None:
        self._free.acquire()  # askers that come meanwhile wait in the socket's own queue
        asking = None
        try:
            asking, _ = repository.socket.accept()
            threading.Thread(target=self._serve, args=(asking, repository), daemon=True).start()
        except (OSError, RuntimeError):  # gone already, or out of file descriptors or of threads
            if asking:
                asking.close()
            self._free.release()
            time.sleep(0.01)

    def _serve(self, asking: socket.socket, repository: ServedRepository) -> None:
        try:
            with asking, suppress(OSError):
                data = _received(asking) if _is_ours(asking) else b""
                if data:
                    line = f"coordledger 1 {answer(data, repository, lambda: _waits(asking))}\n"
                    asking.sendall(line.encode("ascii", "replace"))
        finally:
            self._free.release()


def _is_ours(asking: socket.socket) -> bool:
    """Whether this very user asks. Where the system does not tell, the folder keeps others out."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    facts = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", facts)
    return bool(uid == os.geteuid())


def _waits(asking: socket.socket) -> bool:
    """Whether the other side is still there: its half that hears, the other is closed."""
    poll = select.poll()
    poll.register(asking, 0)
    return not poll.poll(0)  # which tells of hang-ups unasked


def _received(asking: socket.socket) -> bytes:
    """All that is sent, b"" if it is too much or takes too long."""
    parts: list[bytes] = []
    size, end = 0, time.monotonic() + PATIENCE
    while size <= MAX_REQUEST:
        left = end - time.monotonic()
        if left <= 0:
            return b""
        asking.settimeout(left)
        part = asking.recv(65_536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    return b""


class _Stop(BaseException):
    """A signal asked for the end."""


def main(paths: list[Path], environ: dict[str, str], ready: Callable[[list[Path]], None]) -> None:
    """Serve the repositories until SIGTERM or SIGINT; `ready` is called once all are."""

    def stop(*_: object) -> NoReturn:
        raise _Stop

    resident = Daemon(paths, environ)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        ready([repository.path for repository in resident.repositories])
        resident.run()
    except _Stop:
        pass
    finally:
        resident.close()
