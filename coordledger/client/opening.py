"""From what the caller says to a connection with one ledger.

Rules of this file: which repository, which remote, which keys, and how records get to the
remote (by pushes of this process, or in line with this user's other processes) is decided
here and nowhere else; who only reads imports none of the ways to write. An operation has the whole
timeout, from its `begin` on. It reads and writes for its callers, but knows no operation of theirs.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, NamedTuple, Self

import coordledger
from coordledger import files
from coordledger.client import config, secrets, stops
from coordledger.client.config import Host
from coordledger.client.journal import OPEN
from coordledger.client.local_state import LocalState
from coordledger.client.place import git_at
from coordledger.client.replica import Replica
from coordledger.client.signer import Identity
from coordledger.client.ssh_keys import SshKeyFinder
from coordledger.client.tries import ask
from coordledger.deadline import Deadline, unix_ms
from coordledger.errors import CoordledgerError, Failed, RuleBroken, disk_error, error
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS, is_identifier
from coordledger.format.signing import Keyring
from coordledger.git.address import NOWHERE
from coordledger.git.process import Git, child_environment
from coordledger.git.remote import Remote
from coordledger.git.repository import Repository, create_bare
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from coordledger.client.combining.line import Line
    from coordledger.client.combining.looks import Look, Looks
    from coordledger.client.combining.on_host import HostPublisher, Receiver
    from coordledger.client.config import Options, Settings
    from coordledger.client.operations import Operation
    from coordledger.client.publish import Published, Publisher
    from coordledger.client.replica import Progress
    from coordledger.client.ssh_keys import Ask
    from coordledger.client.writer import Stands, Writer
    from coordledger.format.signing import Secret
    from coordledger.format.state import State
    from coordledger.git.address import Address


_LOADED = files.facts(coordledger.__file__)  # of the version that this process runs
_PATIENCE = 5.0  # seconds that one who reads waits for a vouch


def _random_hex(count: int) -> str:
    return os.urandom(count).hex()


def _random_fraction() -> float:
    return int.from_bytes(os.urandom(4)) / 2**32


def silent(what: str, done: int, of: int) -> None:
    pass


def unheard(warning: str) -> None:
    pass


def nobody(file: str) -> str | None:
    """For a passphrase: there is nobody to be asked."""
    return None


class Connection:
    """One agent's session with one ledger: settings, verified copy, remote and keys.

    `clock()` gives milliseconds since 1970, `hexadecimal(n)` n random bytes in hex, `jitter()`
    a random float from 0 to 1.
    """

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        git: Git,
        *,
        clock: Callable[[], int] = unix_ms,
        progress: Progress = silent,
        warn: Callable[[str], None] = unheard,
        passphrase: Ask = nobody,
        code: Repository | None = None,
        base: Settings | None = None,
    ) -> None:
        """`git` runs in `repository`; `warn(sentence)` hears each warning once.

        `passphrase(file)` gives that of a private key, or None if nobody can be asked. `code` is
        where the code's commits are, if that is another repository; `base` are the settings of the
        agent whose session this is, if that has a key of its own.
        """
        self.settings, self.repository, self.git, self.clock = settings, repository, git, clock
        self.code, self._base = code or repository, base
        self._passphrase, self._of_base = passphrase, dict[str, Connection]()
        self.hexadecimal, self.jitter = _random_hex, _random_fraction
        self._keyrings: dict[str | None, Keyring] = {}
        self.given: list[Secret] = []  # to verify with, beside those that are found
        self._pushing: Publisher | None = None
        self._host: HostPublisher | None = None
        self._line: Line | None = None
        self._looks: Looks | None = None
        self._may_ask = False  # the server, for a vouch
        self.is_apart = False  # as `connect_apart` makes it
        self.warn = functools.cache(warn)
        self.finder = secrets.SecretFinder(settings, repository, self.warn)
        self.ssh_keys = SshKeyFinder(settings, repository, git, passphrase)
        self.remote = self._remote_from(git)
        self.local = LocalState(repository, settings.ledger, settings.branch, settings.folder_mode)
        self.replica = Replica(self.local, self.remote, git, self._keyring, clock, progress)
        self.replica.vouches.ask_first = self._ask_for_vouch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def as_agent(self, name: str) -> Connection:
        """The connection of the agent whose session this is, if it has that name; else this one."""
        if self._base is None or name != self._base.agent:
            return self
        if name not in self._of_base:
            self._of_base[name] = Connection(
                self._base,
                self.repository,
                self.git,
                clock=self.clock,
                warn=self.warn,
                passphrase=self._passphrase,
                code=self.code,
            )
        return self._of_base[name]

    def close(self) -> None:
        for other in self._of_base.values():
            other.close()
        if self._line is not None:
            self._line.close()
        if self._host is not None:
            self._host.close()
        self.replica.close()
        self.code.close()

    # -- reading and writing

    def begin(self) -> None:
        """Each operation has the whole timeout, and looks for secrets anew."""
        self.git.work_until(Deadline(self.settings.timeout))
        self._keyrings.clear()
        self._may_ask = False

    def read(self) -> State:
        """The newest state: the remote's, or (offline) the copy's. Where a bad record follows it
        there, a warning says so. Raises as `Replica.follow`.
        """
        self.begin()
        if self.settings.offline:
            self.replica.trusted  # noqa: B018 - raises if there is no copy
            stops.recall(self.replica)
            chain = self.replica.position()
        else:
            chain = self.replica.follow()
            self._may_ask = True
        self._warn_of_stop()
        return chain.state

    def join(self, depth: int | None, pin: str | None) -> None:
        """As `Replica.join`, with the warning of `read`."""
        self.begin()
        self.replica.join(depth, pin)
        self._warn_of_stop()

    def _warn_of_stop(self) -> None:
        """Raises the remote's bad record as an `Integrity`, where something that was told as landed
        lies beyond it: what is shown would not have it.
        """
        stop, last = self.replica.stop, self.replica.trusted.seq
        if stop is None:
            return
        if any(seq > last for seq, _ in self.local.told.all()):
            raise stop
        self.warn(f"{stop.message} [{stop.code}]; what is shown ends before it. {stop.hint}")

    def _ask_for_vouch(self) -> None:
        """Ask the server anew what it has verified: once for what a caller reads, only where it has
        vouched for what was pushed or tried last, and not for long.

        What others have written meanwhile is adopted: the vouch covers it, too.
        """
        if not self._may_ask or self.enforcement != "server":
            return
        self._may_ask, deadline, stop = False, self.git.deadline, self.replica.stop
        try:
            # What goes on when its time is over is not under it: an audit.
            left = 2 * _PATIENCE if deadline.over() else deadline.left()
            self.git.work_until(Deadline(min(_PATIENCE, left / 2)))
            vouch = ask(self).vouch
            if vouch and vouch.seq > self.replica.trusted.seq:
                self.replica.follow(moved=True)
        except (CoordledgerError, OSError):
            self.replica.stop = stop  # what was read is read
        finally:
            self.git.work_until(deadline)

    def write(self, operation: Operation) -> Published:
        """Land one record; or answer with the one that an earlier process has landed for the same
        operation without telling anybody. Raises as `Writer.write`.
        """
        self.begin()
        writer = self.writer()
        earlier = _recall(writer, operation.stands) if operation.stands else None
        return earlier or writer.write(
            operation.what,
            operation.build,
            look=operation.choose_again is not None,
            choose_again=operation.choose_again,
        )

    def recall(self, stands: Stands) -> Published | None:
        """The record that an earlier process has landed without telling anybody, if it is the one
        that is asked for. Raises as `Writer.recall`.
        """
        self.begin()
        return _recall(self.writer(), stands)

    def writer(self, *, direct: bool = False) -> Writer:
        """A writer for this agent, which pushes by itself or in line with other processes; if
        `direct` by itself, to the ledger's own ref.

        Raises `Failed`: two-addresses, no-agent, bad-ssh-key, secret-exposed.
        """
        self.settings.remote.need_one_place()
        if self.settings.session_keys and self.settings.agent == self.settings.base_agent:
            name = self.settings.need_agent
            self.warn(f"this session has no key of its own, and signs by {name}'s")
        from coordledger.client.publish import DirectPublisher  # noqa: PLC0415 - see above
        from coordledger.client.writer import Writer  # noqa: PLC0415

        publisher: Publisher = DirectPublisher()
        if not direct:
            publisher = self.line() if self.settings.queue else self._alone
            if self.host:
                self.host.ask(self.git.deadline)
        me = self.identity()
        if self.ssh_keys.unlock(me.agent):  # somebody typed, and nothing is locked yet
            self.git.work_until(Deadline(self.settings.timeout))
        return Writer(self.replica, me, self.clock, self.hexadecimal, self.jitter, publisher)

    def reset(self) -> None:
        """Forget the verified head."""
        with self.local.lock(self.git.deadline):
            self.local.reset()

    # -- what the copy remembers

    @property
    def enforcement(self) -> str:
        """Whether the server refuses forged records: server, none or unknown."""
        return self.replica.vouches.enforcement

    @property
    def oldest(self) -> int:
        """The seq of the oldest record of the copy: 0 if it is whole."""
        return self.replica.trusted.first

    def open_writes(self) -> list[str]:
        """The writes whose outcome is unknown and that no process is at, for people."""
        if not self.local.journal.intents():
            return []
        with self.local.lock(self.git.deadline):
            left = self.local.journal.left_behind()
        return [intent.what for intent in left if intent.outcome == OPEN]

    # -- who, and with which keys

    def identity(self) -> Identity:
        """Raises `Failed`: no-agent."""
        agent, session = self.settings.need_agent, self.settings.session
        session = session or self.settings.harness_session
        session = session or self.local.session(lambda: self.hexadecimal(4), self._say_copied)
        return Identity(agent, session, self._secrets_of, self.ssh_keys)

    def _secrets_of(self, agent: str, ledger_id: str) -> tuple[str, list[Secret]]:
        """As `SecretFinder.find`. Inside of the repository that has the master, the owner's secrets
        are derived anew if they are lost: whoever is there can do so anyway.
        """
        where, found = self.finder.find(agent, ledger_id)
        if found or not (self.repository and self.repository.is_bare):
            return where, found
        state = self.replica.position().state
        entry = state.agent(agent)
        if entry is None or agent != state.ledger["owner"]:
            return where, found
        nonce, numbers = state.ledger["nonce"], [key["id"] for key in entry["keys"]]
        masters = self.masters(ledger_id)
        return where, [one.derive(nonce, agent, number) for one in masters for number in numbers]

    def _say_copied(self, session: str) -> None:
        self.warn(f"this clone was copied from another place: its session is {session} from now on")

    def masters(self, ledger_id: str | None) -> list[Secret]:
        """The ledger's master secrets, if they are here. Raises `Failed`: secret-exposed, …"""
        return secrets.masters(self.settings, ledger_id)

    def _keyring(self, ledger_id: str | None) -> Keyring:
        """Every secret at hand: the master where it is, and single agents'."""
        if ledger_id not in self._keyrings:
            try:
                masters = self.masters(ledger_id)
            except Failed as fault:
                if fault.code not in ("secret-exposed", "bad-secret"):
                    raise
                masters = []

            def secrets_of(agent: str) -> list[Secret]:
                return [*self.given, *self.finder.quietly(agent, ledger_id)]

            self._keyrings[ledger_id] = Keyring([*self.given, *masters], secrets_of)
        return self._keyrings[ledger_id]

    # -- where the ledger lives, and the ways there

    def _remote_from(self, git: Git) -> Remote:
        """The remote as seen from `git`'s repository; straight, where git would add nothing."""
        settings, http = self.settings, None
        if settings.plain_http and settings.remote.is_plain_web:
            http = (settings.remote.url, settings.ca_file)
        return Remote(git, settings.remote, http)

    @property
    def _alone(self) -> Publisher:
        """The way to the remote without other processes' help."""
        return self.host or self._by_pushes()

    def _by_pushes(self) -> Publisher:
        if self._pushing is None:
            from coordledger.client.combining.sequenced import (  # noqa: PLC0415 - see above
                SequencedPublisher,
            )
            from coordledger.client.publish import DirectPublisher  # noqa: PLC0415

            self._pushing = SequencedPublisher(DirectPublisher())
        return self._pushing

    @property
    def host(self) -> HostPublisher | None:
        """What lands records without a push, if the remote is a folder and that is wanted."""
        settings, folder = self.settings, self.remote.folder
        if not (settings.direct and folder and settings.branch is None):
            return None
        if self._host is not None:
            return self._host
        from coordledger.client.combining.on_host import HostPublisher  # noqa: PLC0415 - see above

        def open_receiver() -> Receiver:
            from coordledger.server.receiver import Receiver  # noqa: PLC0415 - see pyproject.toml

            return Receiver(folder, settings.ledger, settings.environ, _LOADED)

        self._host = HostPublisher(self._by_pushes(), open_receiver)
        return self._host

    def why_pushed(self) -> str:
        """Why records go to the remote by pushes, for people; "" where they are landed here."""
        if not self.remote.folder:
            return "the remote is no folder of this machine, or git's configuration says more of it"
        if not self.settings.direct:
            return "coordledger.direct is off"
        if self.host is None:
            return "the ledger is kept on a branch"
        try:
            return self.host.why_not(self.git.deadline)
        except CoordledgerError as fault:
            return fault.message

    def line(self) -> Line:
        """Where this user's processes on this host line up to write to this ledger."""
        if self._line is None:
            settings = self.settings
            host = os.uname().nodename  # homes can be shared
            what = [host, settings.remote.target, *settings.transport_settings]
            what += [self.local.remote_ref, self.repository.algo]
            name = digest("sha256", "\n".join(what).encode()).hex()[:24]
            from coordledger.client.combining.line import Line  # noqa: PLC0415 - see above

            folder = settings.cache_dir / "queue" / name
            here = self.repository.root or self.repository.git_dir
            alone, direct = self._alone, self.host
            self._line = Line(folder, self._shared_copy, self.clock, alone, here, direct)
        return self._line

    def look(self, after: int) -> Look:
        """A look at the remote's head that was begun after that moment; of one that is elsewhere,
        one look serves this user's processes on this host.
        """
        if self._looks is None:
            from coordledger.client.combining.looks import Looks  # noqa: PLC0415 - see above

            shared = self.settings.queue and not self.remote.folder
            folder = self.line().folder if shared else None
            self._looks = Looks(folder, lambda: self.remote.head(self.local.remote_ref))
        return self._looks.after(after)

    def _shared_copy(self, path: Path, deadline: Deadline) -> Replica:
        """The copy of those in line. Where it goes, and as whom, is this clone's configuration."""
        if not (path / "HEAD").exists():
            form = f"--object-format={self.repository.algo}"
            create_bare(self.git, path, "--template=", form)
        here = f"include.path={self.repository.common_dir / 'config'}"
        environ = child_environment(self.settings.environ) | {"GIT_DIR": str(path)}
        cwd = self.repository.root or self.repository.git_dir
        git = Git(environ, cwd, deadline, options=("-c", here))
        repository = Repository.open(git, path)
        local = LocalState(repository, self.settings.ledger, self.settings.branch)
        config.need_same_way(self.settings, git, cwd)  # not all that counts is in that one file
        return Replica(local, self._remote_from(git), git, self._keyring, self.clock, silent)


class Surroundings(NamedTuple):
    """Settings, the repository around the path (None outside of any), and git there."""

    settings: Settings
    repository: Repository | None
    git: Git


def connect(
    options: Options,
    environ: Mapping[str, str],
    *,
    around: Surroundings | None = None,
    git: Git | None = None,
    clock: Callable[[], int] = unix_ms,
    progress: Progress = silent,
    warn: Callable[[str], None] = unheard,
    passphrase: Ask = nobody,
) -> Connection:
    """A connection; nothing is fetched yet. `around`: the surroundings, if they are known; else
    `git`, as of `surroundings`.

    Raises `Failed`: not-a-repository, no-remote, bad-agent, …
    """
    settings, repository, git = around or surroundings(options, environ, git)
    code = repository
    if not (settings.offline and repository):
        need_remote(options, settings)
    algo = None
    if repository and is_itself(settings.remote, repository):
        # What a client remembers, and moves, is never the server's own ref.
        algo, settings, repository = repository.algo, _by_its_folder(settings), None
    if repository is None:
        repository = _private_clone(settings, git, algo)
        git = repository.git = git_in(repository, environ, git.deadline)
    elif not (settings.offline or _can_be_kept_in(repository)):
        repository = _writable_copy(Surroundings(settings, repository, git), repository)
        git, settings = repository.git, settings._replace(queue=False)
    base = settings
    if settings.session_keys:
        from coordledger.client import session_keys  # noqa: PLC0415 - few have them

        ledger_folder = LocalState(repository, settings.ledger).folder
        settings = session_keys.applied(settings, ledger_folder, options, environ)
    return Connection(
        settings,
        repository,
        git,
        clock=clock,
        progress=progress,
        warn=warn,
        passphrase=passphrase,
        code=code,
        base=base._replace(session_keys=False) if settings.agent != base.agent else None,
    )


def need_remote(options: Options, settings: Settings) -> None:
    """Raises `Failed`: no-remote."""
    if settings.remote.kind == NOWHERE:
        typed = options.remote or settings.environ.get("COORDLEDGER_REMOTE")
        advice = _advice(settings.remote, typed=bool(typed))
        raise error("no-remote", remote=settings.remote.given, advice=advice)


def _by_its_folder(settings: Settings) -> Settings:
    """The settings with a remote that is named by where it lies on this machine alone."""
    place = str(settings.remote.folder)
    return settings._replace(remote=settings.remote._replace(given=place, name=None, url=place))


def connect_apart(
    options: Options,
    around: Surroundings,
    ledger: str,
    algo: str,
    **told: Any,
) -> Connection:
    """A connection with one `ledger` of the remote by a copy that only such connections have: a
    bare repository in the cache, which nothing else reads or moves. Of the clone around it has the
    settings by which git gets to the remote, and nothing else. `algo` names the ledger's objects;
    `told` is as of `connect`. Raises `Failed`: bad-config.
    """
    settings, clone, git = around
    if clone and is_itself(settings.remote, clone):
        settings, clone = _by_its_folder(settings), None
    name = digest("sha256", f"apart\n{algo}\n{settings.remote.target}".encode()).hex()[:24]
    path = settings.cache_dir / f"{name}.git"
    if not (path / "HEAD").exists():
        files.make_folders(str(path.parent), 0o700)
        create_bare(git, path, "--template=", f"--object-format={algo}")
    if clone:
        copy = _beside(settings, clone, git, path, algo)
    else:
        copy = Repository.open(git, path)
        copy.git = git_in(copy, settings.environ, git.deadline)
    settings = settings._replace(ledger=ledger, queue=False)
    connection = Connection(settings, copy, copy.git, **told)
    connection.is_apart, connection.replica.reset_by = True, "audit"
    return connection


def _recall(writer: Writer, stands: Stands) -> Published | None:
    try:
        return writer.recall(stands)
    except OSError as fault:
        raise disk_error(fault) from None


def _advice(missing: Address, *, typed: bool) -> str:
    """How to name a remote that is there: git's fork workflow renames the one that was cloned.

    `typed`: a flag or the environment named the one that is missing, and wins again.
    """
    if not missing.others:
        return "coordledger join URL --agent NAME, or --remote URL; a folder: ./FOLDER"
    best = "upstream" if "upstream" in missing.others else missing.others[0]
    import shlex  # noqa: PLC0415 - for the hint of an error

    remotes, word = " ".join(missing.others), shlex.quote(best)
    command = f"--remote {word}" if typed else f"git config coordledger.remote {word}"
    return f"there are: {remotes}; to take one: {command}"


def surroundings(
    options: Options, environ: Mapping[str, str], git: Git | None = None
) -> Surroundings:
    """The surroundings of the options' path; `git` is there, if it has begun to look (`place`).

    Raises `Failed`: not-a-repository, bad-config, …
    """
    outside = git or git_at(options, environ)
    with outside:
        if not options.path.is_dir():
            raise error("not-a-repository", path=options.path)
        named, inside = environ.get("GIT_DIR"), outside
        try:
            path = options.path.absolute() / named if named else None
            repository = Repository.open(outside, path)
            inside = repository.git = git_in(repository, environ, outside.deadline)
        except Failed as fault:
            if fault.code != "not-a-repository" or named:
                raise
            repository = None
        base = (repository.root or repository.git_dir) if repository else None
        host = _host(repository) if repository and repository.is_bare else None
        settings = config.load(options, environ, inside if named else outside, base, host)
    return Surroundings(settings, repository, inside)


def located(
    options: Options, environ: Mapping[str, str], remote: str | None
) -> tuple[Options, Surroundings]:
    """The options with `remote` (None: the configured one) as it will be understood from anywhere,
    and what is there. Raises as `surroundings`.
    """
    if remote is None:
        around = surroundings(options, environ)
        return options._replace(remote=around.settings.remote.given), around
    options = options._replace(remote=remote)
    around = surroundings(options, environ)
    absolute = around.settings.remote.typed_in(options.path)
    if absolute == remote:
        return options, around
    options = options._replace(remote=absolute)
    return options, surroundings(options, environ)


def is_itself(remote: Address, repository: Repository) -> bool:
    """Whether the remote is the very repository that the command runs in."""
    places = (repository.git_dir, repository.common_dir, repository.root)
    return remote.folder in [os.path.realpath(place) for place in places if place]


def _host(repository: Repository) -> Host:
    """The bare repository that the command runs in. What it says of the owner is no proof, and
    none is needed: who it names has to sign.
    """

    def owner(name: str) -> str | None:
        with contextlib.suppress(LookupError, TypeError, ValueError, RuleBroken, CoordledgerError):
            oid = str(repository.ref(LEDGERS + name))
            head = parse_commit(oid, repository.read(oid))
            chain = Chain(repository.read, Keyring(), head, repository.algo)
            named = str(chain.state.ledger["owner"])
            return named if is_identifier(named) else None
        return None

    is_served = (repository.git_dir / "coordledger" / "master").exists()
    return Host(repository.git_dir, is_served, owner)


def git_in(repository: Repository, environ: Mapping[str, str], deadline: Deadline) -> Git:
    """Git for this very repository, whatever the directory; relative URLs are its root's."""
    env = child_environment(environ) | {"GIT_DIR": str(repository.git_dir)}
    return Git(env, repository.root or repository.git_dir, deadline)


def _can_be_kept_in(clone: Repository) -> bool:
    """Whether this user may add to the clone, and to what coordledger has in it."""
    ours = clone.common_dir / "coordledger"
    mine = os.access(ours, os.R_OK | os.W_OK | os.X_OK) or not os.access(ours, os.F_OK)
    return clone.is_writable and mine


def _writable_copy(around: Surroundings, clone: Repository) -> Repository:
    """A bare repository in the cache for a clone that cannot be written: it borrows the clone's
    objects and settings, and goes on from the head that was verified there. Like any bare one it
    has no work tree, so none of the code's files is looked at for secrets.
    """
    settings, _, git = around
    name = digest("sha256", f"{clone.git_dir}\n{settings.remote.target}".encode()).hex()[:24]
    path = settings.cache_dir / f"{name}.git"
    if not (path / "HEAD").exists():
        files.make_folders(str(path.parent), 0o700)
        form = f"--object-format={clone.algo}"
        create_bare(git, path, "--template=", form)
    files.make_folders(str(path / "objects" / "info"), 0o700)
    borrowed = os.fsencode(clone.common_dir / "objects") + b"\n"
    alternates = str(path / "objects" / "info" / "alternates")
    files.replace(alternates, borrowed, f"{alternates}.{os.getpid()}")
    copy = _beside(settings, clone, git, path, clone.algo)
    _borrow_head(
        LocalState(clone, settings.ledger, settings.branch),
        LocalState(copy, settings.ledger, settings.branch),
        git.deadline,
    )
    return copy


def _beside(settings: Settings, clone: Repository, git: Git, path: Path, algo: str) -> Repository:
    """The bare repository at `path`, with the clone's settings. Raises as `need_same_way`."""
    environ = child_environment(settings.environ) | {"GIT_DIR": str(path)}
    here = f"include.path={clone.common_dir / 'config'}"
    base = clone.root or clone.git_dir
    there = Git(environ, base, git.deadline, options=("-c", here))
    config.need_same_way(settings, there, base)
    return Repository(there, path, None, algo)


def _borrow_head(theirs: LocalState, ours: LocalState, deadline: Deadline) -> None:
    """Go on from the newest verified head of a clone that continues the copy's own."""
    try:
        newest = theirs.trusted
    except PermissionError:  # another user's memory
        return
    known = ours.trusted
    if newest is None or (known and theirs.id_at(known.seq) != known.commit):
        return
    if known is None or known.seq < newest.seq:
        ids = theirs.indexed_ids(newest.first, newest.seq)
        with ours.lock(deadline):
            if ours.trusted == known:  # no other process has moved it
                ours.forget_head()  # what the remote has told this copy still counts
                ours.adopt(newest, list(enumerate(ids, newest.first)))


def _private_clone(settings: Settings, git: Git, algo: str | None) -> Repository:
    """A bare repository in the cache: what serves outside of any repository. `algo` names its
    objects, if that is known.
    """
    name = digest("sha256", settings.remote.given.encode()).hex()[:24]
    path = settings.cache_dir / f"{name}.git"
    if not (path / "HEAD").exists():
        files.make_folders(str(path.parent), 0o700)
        form = [f"--object-format={algo}"] if algo else []
        create_bare(git, path, "--template=", *form)
    return Repository.open(git, path)
