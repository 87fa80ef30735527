"""Entering a ledger: `join`, and leaving a verified history for the remote's: `reset`.

Rules: the remote is asked first and the configuration written last, so that a failure
leaves no half-configured clone; secrets go to 0600 files before anything names them;
what exists is detected and kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger import keyfiles
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect, located, nobody, silent, unheard
from coordledger.client.reports import Head
from coordledger.client.signer import entry_of
from coordledger.client.ssh_keys import line_of
from coordledger.errors import CoordledgerError, Integrity, RuleBroken, error
from coordledger.format.commit import parse_commit
from coordledger.setup.configuration import remember
from coordledger.setup.doctor import NOT_COMPARED, NOT_COMPARED_DO, probe
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coordledger.client.config import Options
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Progress
    from coordledger.client.ssh_keys import Ask
    from coordledger.format.signing import Secret


class Joined(Value):
    """The result of `join`. `key`: ready, no-secret, unknown-key, revoked or not-enrolled.
    `public`: the line of the agent's SSH key, if it has one here. `enforcement`: server, none or
    unknown. `whole`: all records are here. `configured`: the file or folder that remembers it.
    """

    head: Head
    remote: str
    agent: str
    key: str
    enforcement: str
    whole: bool
    configured: str
    public: str | None = None


def join(
    options: Options,
    environ: Mapping[str, str],
    remote: str | None,
    *,
    secret_file: Path | None = None,
    new_key: bool = False,
    depth: int | None = None,
    pin: str | None = None,
    progress: Progress = silent,
    warn: Callable[[str], None] = unheard,
    passphrase: Ask = nobody,
) -> Joined:
    """Enter the ledger at `remote` (a remote's name, a path, a URL; None: the configured one).

    `new_key` makes an SSH key where the agent has none here. Raises `Failed`: no-agent,
    no-remote, not-a-ledger, bad-secret, …; `Integrity`.
    """
    options, around = located(options, environ, remote)
    made = connect(
        options, environ, around=around, progress=progress, warn=warn, passphrase=passphrase
    )
    with Ledger(made) as ledger:
        connection, settings = ledger.connection, ledger.connection.settings
        settings.remote.need_one_place()
        agent = settings.need_agent
        given = _given_secret(secret_file, connection.finder.trusted)
        head = ledger.join(depth=depth, pin=pin)
        _need_fit(connection, agent, given, secret_file)
        for secret in given:
            connection.finder.keep(agent, head.ledger, secret)
        ssh_keys = connection.ssh_keys.find(agent)
        if new_key and not ssh_keys:
            ssh_keys = [connection.ssh_keys.make(agent)]
        configured = remember(around, str(options.remote), warn)
        key = _key_state(connection)
        if not probe(connection):
            warn(f"{NOT_COMPARED}; {NOT_COMPARED_DO}")
        return Joined(
            head=head,
            remote=settings.remote.shown,
            agent=agent,
            key=key,
            enforcement=connection.enforcement,
            whole=connection.oldest == 0,
            configured=configured,
            public=line_of(ssh_keys[-1].public, agent) if ssh_keys else None,
        )


def absolute(options: Options, environ: Mapping[str, str], remote: str | None) -> str:
    """A path as it will be understood from anywhere; everything else as it is; for None the
    configured remote.
    """
    options, _ = located(options, environ, remote)
    return str(options.remote)


def _given_secret(path: Path | None, trusted: str | None) -> list[Secret]:
    if path is None:
        return []
    given = keyfiles.read(str(path), trusted)
    if given is None:
        raise error("bad-secret", where=path, why="there is no such file")
    return given


def _need_fit(
    connection: Connection, agent: str, given: list[Secret], secret_file: Path | None
) -> None:
    """A file that was named holds a secret of a valid key, if the agent has any."""
    state = connection.replica.position().state
    entry = state.agent(agent)
    keys = [key for key in entry["keys"] if key["until"] is None] if entry else []
    nonce = state.ledger["nonce"]
    fits = any(
        entry_of(secret, nonce, agent, key["id"])["verifier"] == key["verifier"]
        for secret in given
        for key in keys
    )
    if given and keys and not fits:
        why = f"it fits no valid key of {agent} in this ledger"
        raise error("bad-secret", where=secret_file, why=why)


# How an agent's key is reported, for each reason why there is none to sign with.
_WITHOUT_KEY = {
    "unknown-agent": "not-enrolled",
    "no-secret-found": "no-secret",
    "no-ssh-key": "no-secret",
    "ssh-key-unknown": "unknown-key",
    "key-revoked": "revoked",
    "alg-refused": "unknown-key",
}


def _key_state(connection: Connection) -> str:
    chain = connection.replica.position()
    try:
        connection.identity().key(chain.state, chain.next_seq)
    except CoordledgerError as fault:
        if fault.code not in _WITHOUT_KEY:
            raise
        return _WITHOUT_KEY[fault.code]
    return "ready"


def peek(ledger: Ledger) -> tuple[Head | None, Head]:
    """The remembered head and the one that the remote has now, the latter not verified.

    Raises `Failed`: not-a-ledger, remote-unreachable.
    """
    local, remote = ledger.connection.local, ledger.connection.remote
    try:
        known = local.trusted
    except Integrity:  # a damaged copy: what `reset` gets rid of
        known = None
    with local.incoming_ref() as ref:
        oid = local.repository.ref(ref) if remote.fetch(local.remote_ref, ref, None) else None
    try:
        head = parse_commit(str(oid), local.repository.read(str(oid)))
    except (KeyError, RuleBroken):
        raise error("not-a-ledger", remote=remote.shown, name=local.name, others="") from None
    old = Head(known.ledger, known.seq, known.digest, known.commit) if known else None
    return old, Head(head.record["ledger"], head.seq, head.digest, head.oid)


def reset(ledger: Ledger, old: Head | None, new: Head) -> None:
    """Leave `old` for `new`: the caller has shown both and was told yes. It is logged."""
    ledger.connection.local.log(f"reset: from {old.line() if old else '-'} to {new.line()}")
    ledger.reset()
