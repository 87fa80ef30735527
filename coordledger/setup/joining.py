"""From nothing to a working clone: `init` founds a ledger, `join` enters one.

Rules: the remote is asked first and the configuration written last, so that a failure
leaves no half-configured clone; secrets go to 0600 files before anything names them;
what exists is detected and kept.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.client.config import SecretFinder
from coordledger.client.ledger import Ledger, git_at, silent, surroundings
from coordledger.client.local_state import LocalState
from coordledger.client.reports import Head
from coordledger.errors import CoordledgerError, Integrity, RuleBroken, error
from coordledger.format.commit import parse_commit
from coordledger.format.names import LEDGERS
from coordledger.setup import hooks
from coordledger.setup.doctor import probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.client.config import Options, Settings
    from coordledger.client.replica import Progress
    from coordledger.format.signing import Secret

LEAST_SKEW, MOST_SKEW = 1, 3600


@dataclass(frozen=True, slots=True)
class Founded:
    """What `init` made. `master` and `secret` are paths, never the secrets."""

    ledger: str
    ref: str
    repository: str
    agent: str
    head: str
    enforcement: str
    secret: str
    master: str
    configured: bool
    done: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """What `join` found. `key`: ready, no-secret, revoked or not-enrolled."""

    head: Head
    remote: str
    agent: str
    key: str
    enforcement: str
    whole: bool
    configured: str


def init(options: Options, environ: Mapping[str, str], target: str, max_skew: int) -> Founded:
    """Found the ledger at `target`: a directory of this machine, or a URL without a hook.

    `max_skew` in seconds. Raises `Failed`: no-agent, ledger-exists, bad-value, …
    """
    if not LEAST_SKEW <= max_skew <= MOST_SKEW:
        why = f"{LEAST_SKEW} to {MOST_SKEW} seconds"
        raise error("bad-value", what="--max-skew", why=why)
    if _is_url(target):
        return _init_there(options, environ, target, max_skew)
    return _init_here(options, environ, target, max_skew)


def _need_unjoined(local: LocalState) -> None:
    """A clone that follows a ledger is not turned to another one in passing."""
    if local.trusted:
        raise error("already-joined", ours=local.trusted.ledger)


def _is_url(target: str) -> bool:
    """As git tells them apart: a scheme, or host:path before any slash."""
    if target.startswith("file://"):
        return False
    return "://" in target or (
        ":" in target.split("/", maxsplit=1)[0] and not Path(target).exists()
    )


def _first(settings: Settings, max_skew: int) -> hooks.First:
    return hooks.First(
        settings.need_agent,
        settings.session or "init",
        max_skew,
        time.time_ns() // 1_000_000,
        nonce=secrets.token_hex(32),
        op=secrets.token_hex(16),
    )


def _init_here(options: Options, environ: Mapping[str, str], target: str, max_skew: int) -> Founded:
    settings, around, _ = surroundings(options, environ)
    agent = settings.need_agent
    if settings.branch:
        why = "for hosts without hooks: the hook guards refs/coordledger/* alone"
        raise error("bad-value", what="--branch", why=why)
    if around:
        _need_unjoined(LocalState(around, settings.ledger))
    path = (options.path / target.removeprefix("file://")).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    git = git_at(options, environ)
    repository = hooks.create_repository(path, git)
    hooks.need_no_ledger(repository, settings.ledger)
    done = hooks.install_hook(path, git)
    home = str(SecretFinder(settings, around.root if around else None).home(agent))

    def keep(secret: Secret) -> None:
        keyfiles.append(home, secret)

    proposal = hooks.create_in_repository(
        repository, settings.ledger, _first(settings, max_skew), keep
    )
    configured = around is not None and around.git_dir != repository.git_dir
    if configured:
        _configure_around(options, environ, settings, str(path))
    return Founded(
        ledger=proposal.commit.record["ledger"],
        ref=LEDGERS + settings.ledger,
        repository=str(path),
        agent=agent,
        head=proposal.commit.oid,
        enforcement="server",
        secret=home,
        master=str(path / "coordledger" / "master"),
        configured=configured,
        done=tuple(done),
    )


def _init_there(
    options: Options, environ: Mapping[str, str], target: str, max_skew: int
) -> Founded:
    with Ledger.from_options(options._replace(remote=target), environ) as ledger:
        settings = ledger.settings
        agent = settings.need_agent
        _need_unjoined(ledger.local)
        home = str(ledger.finder.home(agent))

        def keep(secret: Secret) -> None:
            keyfiles.append(home, secret)

        hooks.create_on_remote(ledger, _first(settings, max_skew), keep)
        head = ledger.head(refresh=False)
        _configure_around(options, environ, settings, target)
        return Founded(
            ledger=head.ledger,
            ref=ledger.local.remote_ref,
            repository=ledger.settings.shown_remote,
            agent=agent,
            head=head.commit,
            enforcement="none",
            secret=home,
            master=str(settings.config_dir / "masters" / head.ledger),
            configured=True,
            done=(),
        )


def join(
    options: Options,
    environ: Mapping[str, str],
    remote: str,
    *,
    secret_file: Path | None = None,
    depth: int | None = None,
    pin: str | None = None,
    progress: Progress = silent,
) -> Joined:
    """Enter the ledger at `remote` (a remote's name, a path, a URL).

    Raises `Failed`: no-agent, no-remote, not-a-ledger, bad-secret, …; `Integrity`.
    """
    found = absolute(options, remote)
    options = options._replace(remote=found)
    with Ledger.from_options(options, environ, progress=progress) as ledger:
        agent = ledger.settings.need_agent
        given = _given_secret(secret_file)
        head = ledger.join(depth=depth, pin=pin)
        _need_fit(ledger, agent, given, secret_file)
        for secret in given:
            keyfiles.append(str(ledger.finder.home(agent)), secret)
        configured = _configure_around(options, environ, ledger.settings, found)
        key = _key_state(ledger)
        return Joined(
            head=head,
            remote=ledger.settings.shown_remote,
            agent=agent,
            key=key,
            enforcement=probe(ledger) if key == "ready" else ledger.replica.trusted.enforcement,
            whole=ledger.replica.trusted.first == 0,
            configured=configured,
        )


def absolute(options: Options, remote: str) -> str:
    """A path as it will be understood from anywhere; everything else as it is."""
    path = options.path / remote
    looks_like_path = "/" in remote and "://" not in remote
    if (looks_like_path or remote in (".", "..")) and path.is_dir():
        return str(path.resolve())
    return remote


def _given_secret(path: Path | None) -> list[Secret]:
    if path is None:
        return []
    found = keyfiles.read(str(path))
    if found is None:
        raise error("bad-secret", where=path, why="there is no such file")
    return found


def _need_fit(ledger: Ledger, agent: str, given: list[Secret], secret_file: Path | None) -> None:
    """A file that was named holds a secret of a valid key, if the agent has any."""
    now = ledger.replica.position().state
    entry = now.agent(agent)
    keys = [key for key in entry["keys"] if key["until"] is None] if entry else []
    nonce = now.ledger["nonce"]
    fits = any(
        secret.fingerprint(nonce, agent, key["id"]) == key["fingerprint"]
        for secret in given
        for key in keys
    )
    if given and keys and not fits:
        why = f"it fits no valid key of {agent} in this ledger"
        raise error("bad-secret", where=secret_file, why=why)


def _key_state(ledger: Ledger) -> str:
    chain = ledger.replica.position()
    try:
        ledger.identity().key(chain.state, chain.head.seq + 1 if chain.head else 0)
    except CoordledgerError as fault:
        if fault.code == "unknown-agent":
            return "not-enrolled"
        if fault.code == "no-secret-found":
            return "no-secret"
        if fault.code == "key-revoked":
            return "revoked"
        raise
    return "ready"


def _configure_around(
    options: Options, environ: Mapping[str, str], settings: Settings, remote: str
) -> str:
    """Remember remote, agent and ledger where this directory's commands will look."""
    _, around, git = surroundings(options, environ)
    file = None if around else settings.config_dir / "config"
    chosen = {"remote": remote, "agent": settings.need_agent, "ledger": settings.ledger}
    chosen |= {"branch": settings.branch} if settings.branch else {}
    hooks.configure(git, chosen, file)
    return str(file or (around.git_dir if around else ""))


def peek(ledger: Ledger) -> tuple[Head | None, Head]:
    """The remembered head and the one that the remote has now, the latter not verified.

    Raises `Failed`: not-a-ledger, remote-unreachable.
    """
    local, remote = ledger.local, ledger.remote
    try:
        known = local.trusted
    except Integrity:  # a damaged copy: what `reset` gets rid of
        known = None
    if not remote.fetch(local.remote_ref, local.incoming, None):
        raise error("not-a-ledger", remote=remote.shown, name=local.name, others="")
    oid = local.repository.ref(local.incoming)
    try:
        there = parse_commit(str(oid), local.repository.read(str(oid)))
    except (KeyError, RuleBroken):
        raise error("not-a-ledger", remote=remote.shown, name=local.name, others="") from None
    finally:
        local.repository.set_ref(local.incoming, None)
    old = Head(known.ledger, known.seq, known.digest, known.commit) if known else None
    return old, Head(there.record["ledger"], there.seq, there.digest, there.oid)


def reset(ledger: Ledger, old: Head | None, new: Head) -> None:
    """Leave `old` for `new`: the caller has shown both and was told yes. It is logged."""
    ledger.local.log(f"reset: from {old.line() if old else '-'} to {new.line()}")
    ledger.reset()
