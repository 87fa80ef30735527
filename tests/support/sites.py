"""One server with a ledger on it, two agents who joined by its URL, and ways to break it.

Rules: alice owns the ledger and has a copy of the master; bob has his own secret only,
carried to him as a file; each has a home of their own. The server's disk is looked at
directly, so that what a test believes does not come from what it tests. Tests share a
site: each uses task ids of its own, and leaves the server as it found it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from support import hosts
from support.fleet import LEDGER_REF, hermetic
from support.proxy import Fault, Proxy

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.deadline import Deadline
from coordledger.git.process import Git
from coordledger.setup import genesis, hooks, joining

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MARK = "TEST_MARK"  # an environment variable by which the processes of one call are found
SECONDS = 20  # that anything here may take


def clean(root: Path) -> dict[str, str]:
    """A hermetic environment that no proxy, agent or prompt of the user's reaches into."""
    names = ("DISPLAY", "GIT_TERMINAL_PROMPT", "SSH_ASKPASS", "SSH_AUTH_SOCK")
    return {
        name: value
        for name, value in hermetic(root).items()
        if name not in names and not name.lower().endswith("_proxy")
    }


def survivors(mark: str) -> list[str]:
    """The command lines of processes whose environment has this mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def on_a_terminal(command: list[str], env: dict[str, str]) -> tuple[int, str]:
    """Exit code and everything printed by a command that runs on a terminal of its own."""
    spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    ran = subprocess.run(
        [sys.executable, "-c", spawn, *command],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def wait_until(happened: Callable[[], object], why: str, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, why
        time.sleep(0.005)


class Site:
    """`alice` and `bob` are open ledgers, `env` and `clone` what they have, by agent."""

    def __init__(self, kind: str, root: Path) -> None:
        """Raises `hosts.Absent`."""
        self.kind, self.root = kind, root
        self.server_env = clean(root / "operator")
        self._open: list[Ledger] = []
        self._numbers = itertools.count(1)
        self.proxy: Proxy | None = None
        self.config = root / "path.gitconfig"  # of clones that have no proxy to go through
        self.host = hosts.start(kind, root / "host", self.server_env)
        try:
            self._found()
            if self.host.port:
                self.proxy = Proxy(self.host.port)
        except BaseException:
            self.close()
            raise

    def _found(self) -> None:
        options = Options(path=self.root, agent="alice")
        self.founded = genesis.init(options, self.server_env, str(self.host.path), 30)
        git = Git(self.server_env, self.root, Deadline(20))
        hooks.install_hook(self.host.path, git, sequence=False)  # git's own way of landing
        self.env = {
            agent: clean(self.root / f"{agent}-host") | self.host.env for agent in ("alice", "bob")
        }
        self.local = {agent: self.empty_clone(agent) for agent in ("alice", "bob")}
        self.git("remote", "add", "origin", self.host.url, cwd=self.local["alice"], check=True)
        self.joined = {"alice": self.join("alice", "origin", Path(self.founded.secret))}
        self.give_master("alice")
        self.alice = self.open("alice")
        secret = self.alice.enroll("bob")
        self.joined["bob"] = self.join("bob", self.host.url, secret)
        self.bob = self.open("bob")

    def join(self, agent: str, remote: str, secret: Path) -> joining.Joined:
        options = Options(path=self.local[agent], agent=agent)
        return joining.join(options, self.env[agent], remote, secret_file=secret)

    def give_master(self, agent: str) -> None:
        """As docs/operations.md says: copied to where agents are enrolled from."""
        home = Path(self.env[agent]["XDG_CONFIG_HOME"], "coordledger", "masters")
        home.mkdir(parents=True)
        shutil.copy(self.founded.master, home / self.founded.ledger)

    def close(self) -> None:
        for ledger in self._open:
            ledger.close()
        if self.proxy:
            self.proxy.stop()
        self.host.stop()

    # -- clones

    def new(self, what: str) -> str:
        """A name that no other test has."""
        return f"{what}-{next(self._numbers)}"

    def empty_clone(self, name: str) -> Path:
        path = self.root / name
        flags = ("--quiet", "--template=", "--initial-branch=main")
        self.git("init", *flags, path, cwd=self.root, check=True)
        return path

    def copy(self, agent: str) -> Path:
        """Another clone of the agent's, joined, with a session of its own; it borrows objects."""
        path, objects = self.root / self.new(agent), self.local[agent] / ".git" / "objects"
        shutil.copytree(
            self.local[agent],
            path,
            ignore=lambda folder, names: names if Path(folder) == objects else (),
        )
        (path / ".git" / "objects" / "info").mkdir()
        (path / ".git" / "objects" / "info" / "alternates").write_text(f"{objects}\n")
        shutil.rmtree(path / ".git" / "coordledger" / ".sessions", ignore_errors=True)
        return path

    def open(
        self,
        agent: str,
        path: Path | None = None,
        *,
        remote: str | None = None,
        timeout: float = SECONDS,
        env: Mapping[str, str | None] | None = None,
    ) -> Ledger:
        """A ledger; closed with the site. `env` changes the agent's (None removes a name)."""
        found = Ledger.open(
            path or self.local[agent],
            agent,
            remote=remote,
            timeout=timedelta(seconds=timeout),
            environ=self.environment(agent, env),
        )
        self._open.append(found)
        return found

    def environment(
        self, agent: str, changes: Mapping[str, str | None] | None = None
    ) -> dict[str, str]:
        changed = self.env[agent] | (changes or {})
        return {name: value for name, value in changed.items() if value is not None}

    def through_proxy(self, agent: str, timeout: float = SECONDS, mark: str = "-") -> Ledger:
        """A clone of the agent's whose way to the server can be broken."""
        remote = self.host.through(self.proxy.port) if self.proxy else None
        env = self.host.alone() if self.proxy else {"GIT_CONFIG_GLOBAL": str(self.config)}
        path = self.copy(agent)
        return self.open(agent, path, remote=remote, timeout=timeout, env=env | {MARK: mark})

    # -- plain git and other processes

    def git(
        self,
        *args: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """`git ARGS` in alice's clone, or elsewhere."""
        ran = subprocess.run(
            ["git", *map(str, args)],
            cwd=cwd or self.local["alice"],
            env=env or self.env["alice"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert not check or ran.returncode == 0, f"{args}: {ran.stdout}{ran.stderr}"
        return ran

    def claim_command(self, agent: str, *args: str) -> list[str]:
        """The command line that claims a task in a new clone of the agent's."""
        where = ["-C", str(self.copy(agent)), "--timeout", "8s", "--json"]
        return [sys.executable, "-m", "coordledger", "claim", "let-me-in", *where, *args]

    def code_commit(self, path: Path | None = None) -> str:
        """A commit of somebody's code, in alice's clone or another."""
        who = ("-c", "user.name=alice", "-c", "user.email=alice@example.org")
        tree = self.git("mktree", cwd=path, check=True).stdout.strip()
        message = self.new("code")
        ran = self.git(*who, "commit-tree", tree, "-m", message, cwd=path, check=True)
        return ran.stdout.strip()

    # -- the server's disk

    def refs(self) -> dict[str, str]:
        ran = self._there("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in ran.splitlines())

    def head(self) -> str:
        return self.refs()[LEDGER_REF]

    def records_since(self, head: str) -> int:
        return int(self._there("rev-list", "--count", f"{head}..{LEDGER_REF}"))

    def _there(self, *args: str) -> str:
        where = {"cwd": self.host.path, "env": self.server_env}
        return self.git(*args, **where, check=True).stdout.strip()  # type: ignore[arg-type]

    @contextlib.contextmanager
    def hook(self, name: str, script: str) -> Iterator[Path]:
        """A hook of the server's besides coordledger's own."""
        path = self.host.path / "hooks" / name
        assert not path.exists()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    # -- what goes wrong

    @contextlib.contextmanager
    def faulty(self, fault: Fault) -> Iterator[None]:
        """The proxy has this fault."""
        assert self.proxy
        self.proxy.fault = fault
        try:
            yield
        finally:
            self.proxy.fault = Fault()
            self.proxy.reset()

    @contextlib.contextmanager
    def answer_lost(self, *, away: bool) -> Iterator[None]:
        """The next push lands and its answer does not arrive; then the server is `away`, till
        the end, or back at once. At the end it is known that it was so.
        """
        lose = self._lost_in_proxy if self.proxy else self._lost_by_kill
        with lose(away=away):
            yield

    @contextlib.contextmanager
    def _lost_in_proxy(self, *, away: bool) -> Iterator[None]:
        """The server's own hook holds the push up, once all of it is there, until the proxy
        has gone deaf on that side; once the ref has moved, the connection is cut.
        """
        assert self.proxy
        proxy, push_gate, before = self.proxy, self.root / self.new("gate"), self.head()
        script = f"""
            rm -f "$0"; : > {push_gate}
            for i in $(seq 1000); do [ -e {push_gate} ] || exit 0; sleep 0.01; done
            exit 1"""
        faults: list[BaseException] = []

        def lose() -> None:
            try:
                wait_until(push_gate.exists, "no push arrived")
                proxy.fault = Fault(mute=True)
                push_gate.unlink()
                wait_until(lambda: self.head() != before, "the push did not land")
                wait_until(lambda: proxy.dropped, "the server said nothing")
                proxy.fault = Fault(refuse=away)
                proxy.reset()
            except BaseException as fault:  # noqa: BLE001 - raised by the main thread
                faults.append(fault)

        thread = threading.Thread(target=lose, daemon=True)
        proxy.dropped = 0
        with self.hook("pre-receive.chained", script), self.faulty(Fault()):
            thread.start()
            yield
            thread.join(SECONDS)
        if faults:
            raise faults[0]
        assert not thread.is_alive()

    @contextlib.contextmanager
    def _lost_by_kill(self, *, away: bool) -> Iterator[None]:
        """The server's process dies between its update of the ref and its answer."""
        path, elsewhere = self.host.path, self.root / "away.git"
        script = f"""
            [ "$1" = committed ] && grep -q " {LEDGER_REF}$" || exit 0
            rm -f "$0"
            {f"mv {path} {elsewhere}" if away else ":"}
            kill -9 $PPID"""
        with self.hook("reference-transaction", script) as hook:
            try:
                yield
                assert elsewhere.exists() == away
            finally:
                if elsewhere.exists():
                    elsewhere.rename(path)
            assert not hook.exists(), "no push landed"

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """The server takes what is said and never answers."""
        if self.proxy:
            with self.faulty(Fault(hole=True)):
                yield
        else:
            with self.hook("pre-receive.chained", "exec sleep 60"):
                yield

    @contextlib.contextmanager
    def half_an_answer(self, size: int) -> Iterator[None]:
        """Of every answer to a clone of `through_proxy`, `size` bytes arrive."""
        if self.proxy:
            with self.faulty(Fault(cut_down=size)):
                yield
            return
        # The server's program is the client's child here, and reads the same configuration.
        script = self.root / "half.sh"
        script.write_text(f'#!/bin/sh\n"$@" | head -c {size}\nkill -9 $PPID\n')
        script.chmod(0o755)
        self.config.write_text(f"[uploadpack]\n\tpackObjectsHook = {script}\n")
        try:
            yield
        finally:
            self.config.unlink()
