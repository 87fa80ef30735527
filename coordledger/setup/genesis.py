"""Founding a ledger: its first record, and `init`.

Rules of this file:
- The owner writes a ledger's first record here, where the repository lives or to a remote
  without a hook; never by a push to a guarded repository.
- Nothing that exists is overwritten. The remote is asked first and the configuration written
  last, so that a failure leaves no half-configured clone.
- A secret is in its 0600 file before there is a record that names its key.
- A ledger whose owner signs with an SSH key has no master.
"""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from coordledger import keyfiles
from coordledger.client.ledger import Ledger
from coordledger.client.local_state import LocalState, TrustedHead
from coordledger.client.opening import connect, nobody, surroundings, unheard
from coordledger.client.place import git_at
from coordledger.client.publish import push_error
from coordledger.client.secrets import SecretFinder
from coordledger.client.signer import entry_of
from coordledger.client.ssh_keys import NEW, SshKeyFinder
from coordledger.deadline import unix_ms
from coordledger.errors import error
from coordledger.format import records, signing, timestamps
from coordledger.format.chain import Chain
from coordledger.format.names import LEDGERS, is_identifier
from coordledger.format.rules.ledger import POLICY
from coordledger.format.signing import Keyring, Secret
from coordledger.git.address import local_path
from coordledger.git.outcome import WON
from coordledger.git.repository import Repository, create_bare, open_bare
from coordledger.server import mark
from coordledger.setup import hooks, trying
from coordledger.setup.configuration import remember
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coordledger.client.config import Options, Settings
    from coordledger.client.opening import Connection
    from coordledger.client.ssh_keys import Ask, SshKey
    from coordledger.format.chain import Proposal
    from coordledger.git.process import Git

LEAST_SKEW, MOST_SKEW = 1, 3600  # seconds


class Founded(Value):
    """The result of `init`. `master` and `secret` are paths, never the secrets; with an SSH key
    `secret` says where that is, and there is no master. `enforcement`: server; none;
    unknown, if the hook was not heard (`why`, and what to `do` about it). `configured`: the clone
    around is turned to it. `done`: what was installed, as sentences. `head`: a commit's id.
    """

    ledger: str
    ref: str
    repository: str
    agent: str
    head: str
    enforcement: str
    secret: str
    master: str | None
    configured: bool
    done: tuple[str, ...]
    why: str = ""
    do: str = ""


# -- the first record


def mint() -> Secret:
    """A fresh secret: 32 random bytes in base64."""
    return Secret(b64encode(os.urandom(32)).decode("ascii"))


class First(NamedTuple):
    """The contents of a ledger's first record, but for the key: `max_skew` in seconds, `now` in
    milliseconds since 1970, `nonce` and `op` fresh random bytes in hex.
    """

    agent: str
    session: str
    max_skew: int
    now: int
    nonce: str
    op: str


def sign_genesis(key: Secret | SshKey, first: First) -> signing.Signed:
    """The first record of a ledger, signed with the owner's `key`."""
    policy = {key: default for key, (default, _, _) in POLICY.items()}
    record = {
        "v": records.VERSION,
        "at": timestamps.show(first.now),
        "agent": first.agent,
        "key": 1,
        "session": first.session,
        "op": first.op,
        "base": None,
        "kind": "genesis",
        "nonce": first.nonce,
        "policy": policy | {"max_skew": first.max_skew},
        **entry_of(key, first.nonce, first.agent, 1),
    }
    record["ledger"] = signing.ledger_id(record)
    return signing.sign(records.check(record), key)


def _propose(signed: signing.Signed, repository: Repository, masters: list[Secret]) -> Proposal:
    """The commit of a first record, its objects written into the repository."""
    chain = Chain(repository.read, Keyring(masters), None, repository.algo)
    proposal = chain.propose(signed)
    repository.write(proposal.objects)
    return proposal


# -- where the repository lives


def create_repository(path: Path, git: Git) -> Repository:
    """The bare repository at `path`, created if there is nothing yet.

    Raises `Failed`: not-a-repository if something else is there.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        create_bare(git, path)
    return open_bare(path, git)


def need_no_ledger(repository: Repository, name: str) -> None:
    """Raises `Failed`: ledger-exists."""
    if repository.ref(LocalState(repository, name).ref) is not None:
        raise error("ledger-exists", remote=repository.git_dir, name=name)


def create_in_repository(
    repository: Repository,
    name: str,
    first: First,
    keep: Callable[[str, Secret], object],
    ssh_key: SshKey | None = None,
) -> Proposal:
    """Write the first record into a bare repository.

    It is signed with `ssh_key`, or with a secret that is derived from the master, which is minted
    if the repository has none; `keep(ledger id, secret)` puts that secret into its file, before
    there is a record that names it. Raises `Failed`: ledger-exists.
    """
    need_no_ledger(repository, name)
    masters = [] if ssh_key else _masters_of(repository)
    key = ssh_key or masters[-1].derive(first.nonce, first.agent, 1)
    signed = sign_genesis(key, first)
    if isinstance(key, Secret):
        keep(signed.record["ledger"], key)
    proposal = _propose(signed, repository, masters)
    if not repository.add_ref(LocalState(repository, name).ref, proposal.commit.oid):
        raise error("ledger-exists", remote=repository.git_dir, name=name)
    place = mark.path_in(str(repository.git_dir), name)
    mark.write(place, proposal.commit.oid, proposal.commit.oid, durable=True)
    return proposal


def _masters_of(repository: Repository) -> list[Secret]:
    path = repository.git_dir / "coordledger" / "master"
    masters = keyfiles.read(str(path))
    if masters is None:
        masters = [mint()]
        keyfiles.append(str(path), masters[0])
    return masters


# -- on a remote without a hook


def create_on_remote(
    connection: Connection,
    first: First,
    keep: Callable[[str, Secret], object],
    ssh_key: SshKey | None = None,
) -> None:
    """Push the first record to a remote without a hook.

    A master is kept in the user's configuration; `keep` and `ssh_key` as in
    `create_in_repository`. Raises `Failed`: ledger-exists, push-refused, …; `OutcomeUnknown`.
    """
    local, remote = connection.local, connection.remote
    if remote.head(local.remote_ref) is not None:
        raise error("ledger-exists", remote=remote.shown, name=local.name)
    master = mint()
    key = ssh_key or master.derive(first.nonce, first.agent, 1)
    signed = sign_genesis(key, first)
    ledger_id = signed.record["ledger"]
    if isinstance(key, Secret):
        keep(ledger_id, key)
        keyfiles.append(str(connection.settings.config_dir / "masters" / ledger_id), master)
    head = _propose(signed, local.repository, [master]).commit
    push = remote.push(local.remote_ref, None, head.oid)
    if push.outcome != WON:
        raise push_error(push, remote.shown)
    with local.lock(connection.git.deadline):
        local.adopt(TrustedHead(ledger_id, head.oid, head.seq, head.digest), [(0, head.oid)])
    connection.replica.vouches.note_landed(push, head.seq)


# -- the command


def init(
    options: Options,
    environ: Mapping[str, str],
    target: str,
    max_skew: int,
    passphrase: Ask = nobody,
) -> Founded:
    """Found the ledger at `target`: a directory of this machine, or a URL without a hook.

    `max_skew` in seconds; `passphrase` as in `connect`. An SSH key that is named signs the
    first record. Raises `Failed`: no-agent, ledger-exists, already-joined, bad-value, …
    """
    if not LEAST_SKEW <= max_skew <= MOST_SKEW:
        why = f"{LEAST_SKEW} to {MOST_SKEW} seconds"
        raise error("bad-value", what="--max-skew", why=why)
    path = local_path(target)
    if path is None:
        return _init_on_remote(options, environ, target, max_skew, passphrase)
    return _init_in_repository(options, environ, path, max_skew, passphrase)


def _need_unjoined(local: LocalState) -> None:
    """A clone that follows a ledger is not turned to another one in passing."""
    if local.trusted:
        raise error("already-joined", ours=local.trusted.ledger)


def owners_key(ssh_keys: SshKeyFinder, agent: str) -> SshKey | None:
    """The SSH key that founds the ledger, if one was named: one that is made already, for `NEW`,
    or a new one. None: it is founded with a secret. Raises `Failed`: bad-ssh-key, secret-exposed.
    """
    word = ssh_keys.named(agent)
    if word is None:
        return None
    if word == NEW:
        made = ssh_keys.find(agent)
        return made[-1] if made else ssh_keys.make(agent)
    ssh_keys.unlock(agent)
    return ssh_keys.find(agent)[-1]


def _founder(settings: Settings) -> str:
    """Raises `Failed`: no-agent, bad-value."""
    agent = settings.need_agent
    if not is_identifier(agent):
        raise error("bad-value", what="--agent", why="a delegate founds no ledger: no dots here")
    return agent


def _first(settings: Settings, max_skew: int) -> First:
    return First(
        settings.need_agent,
        settings.session or "init",
        max_skew,
        unix_ms(),
        nonce=secrets.token_hex(32),
        op=secrets.token_hex(16),
    )


def _init_in_repository(
    options: Options, environ: Mapping[str, str], target: str, max_skew: int, passphrase: Ask
) -> Founded:
    around = surroundings(options._replace(remote=target), environ)
    settings, clone, _ = around
    agent = _founder(settings)
    if settings.remote.name:
        why = f"a remote of this clone has that name: give its URL, or the folder as ./{target}"
        raise error("bad-value", what=target, why=why)
    if settings.branch:
        why = "for hosts without hooks: the hook guards refs/coordledger/* alone"
        raise error("bad-value", what="--branch", why=why)
    if clone:
        _need_unjoined(LocalState(clone, settings.ledger))
    path = (options.path / target).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    git = git_at(options, environ)
    repository = create_repository(path, git)
    need_no_ledger(repository, settings.ledger)
    done = hooks.install_hook(path, git)
    tried = trying.try_hook(path, git)
    finder = SecretFinder(settings, clone, unheard)
    keep = partial(finder.keep, agent)
    ssh_key = owners_key(SshKeyFinder(settings, clone, git, passphrase), agent)
    said = _first(settings, max_skew)
    first = create_in_repository(repository, settings.ledger, said, keep, ssh_key)
    configured = clone is not None and clone.git_dir != repository.git_dir
    if configured:
        remember(around, str(path))
    return Founded(
        ledger=first.commit.record["ledger"],
        ref=LEDGERS + settings.ledger,
        repository=str(path),
        agent=agent,
        head=first.commit.oid,
        enforcement=tried.enforcement,
        secret=ssh_key.where if ssh_key else str(finder.home(agent, first.commit.record["ledger"])),
        master=None if ssh_key else str(path / "coordledger" / "master"),
        configured=configured,
        done=tuple(done),
        why=tried.why,
        do=tried.do,
    )


def _init_on_remote(
    options: Options, environ: Mapping[str, str], target: str, max_skew: int, passphrase: Ask
) -> Founded:
    options = options._replace(remote=target)
    around = surroundings(options, environ)
    with Ledger(connect(options, environ, around=around, passphrase=passphrase)) as ledger:
        connection, settings = ledger.connection, ledger.connection.settings
        agent = _founder(settings)
        _need_unjoined(connection.local)
        keep = partial(connection.finder.keep, agent)
        ssh_key = owners_key(connection.ssh_keys, agent)
        create_on_remote(connection, _first(settings, max_skew), keep, ssh_key)
        head = ledger.head(refresh=False)
        remember(around, target)
        return Founded(
            ledger=head.ledger,
            ref=connection.local.remote_ref,
            repository=settings.remote.shown,
            agent=agent,
            head=head.commit,
            enforcement="none",
            secret=ssh_key.where if ssh_key else str(connection.finder.home(agent, head.ledger)),
            master=None if ssh_key else str(settings.config_dir / "masters" / head.ledger),
            configured=True,
            done=(),
        )
