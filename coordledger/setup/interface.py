"""Founding and joining as functions for Python programs: `coordledger.init`, `coordledger.join`.

Rules: what a caller says becomes the same options as the command line's; nothing is decided here.
Nobody is asked for a passphrase: a key that has one is used through ssh-agent.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.client import operations
from coordledger.client.config import Options
from coordledger.client.opening import silent, unheard
from coordledger.setup import genesis, joining

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordledger.client.replica import Progress
    from coordledger.setup.genesis import Founded
    from coordledger.setup.joining import Joined


def init(
    target: str | Path,
    agent: str | None = None,
    *,
    path: str | Path = ".",
    ledger: str | None = None,
    branch: str | None = None,
    max_skew: timedelta = timedelta(seconds=30),
    ssh_key: str | None = None,
    timeout: timedelta = timedelta(seconds=30),
    environ: Mapping[str, str] | None = None,
) -> Founded:
    """Found a ledger at `target`: a folder of this machine, whose bare repository is made if it
    is absent, and whose hook is installed; or the URL of a host that runs no hook.

    `agent` owns it. A relative `target` is below `path`; the clone around `path`, if there is one,
    is configured for the ledger. `ledger` is its name (main), `branch` keeps it on that branch of
    a host without hooks, `max_skew` is how far clocks may be apart, in whole seconds, for ever.
    Without `ssh_key` (a file, a line, "git", "new") a master is made, from which agents' secrets
    are derived. `timeout` and `environ` as in `Ledger.open`. Raises `Failed`: no-agent,
    ledger-exists, already-joined, not-a-repository, bad-value, bad-ssh-key, push-refused;
    `OutcomeUnknown`.
    """
    options = Options(
        path=Path(path),
        agent=agent,
        ledger=ledger,
        branch=branch,
        timeout=operations.seconds(timeout),
        ssh_key=ssh_key,
    )
    env = os.environ if environ is None else environ
    return genesis.init(options, env, _place(path, target), int(max_skew.total_seconds()))


def join(
    remote: str | Path | None = None,
    agent: str | None = None,
    *,
    path: str | Path = ".",
    ledger: str | None = None,
    branch: str | None = None,
    secret_file: str | Path | None = None,
    ssh_key: str | None = None,
    new_key: bool = False,
    depth: int | None = None,
    pin: str | None = None,
    timeout: timedelta = timedelta(seconds=30),
    environ: Mapping[str, str] | None = None,
    progress: Progress = silent,
    warn: Callable[[str], None] = unheard,
) -> Joined:
    """Enter the ledger at `remote` (a remote's name, a folder, a URL; None: the configured one) as
    `agent`: fetch it, verify it, remember its head, and configure the clone around `path`, or the
    user's own folder outside of any.

    `ledger` and `branch` as in `init`. The agent's secret is taken from `secret_file` (relative to
    `path`), and kept; or `ssh_key` (a file, a line, "git") signs, or with `new_key` one that is
    made where the agent has none here. Whether the key is one of the ledger's is `Joined.key`, and
    no error. `depth` and `pin` as in `Ledger.join`; `timeout`, `environ` and `progress` as in
    `Ledger.open`; `warn(sentence)` hears what is odd. Raises `Failed`: no-agent, no-remote,
    not-a-ledger, bad-secret, secret-exposed, bad-ssh-key, two-addresses, bad-value; `Integrity`:
    pin-mismatch, …
    """
    options = Options(
        path=Path(path),
        agent=agent,
        ledger=ledger,
        branch=branch,
        timeout=operations.seconds(timeout),
        ssh_key=ssh_key,
    )
    return joining.join(
        options,
        os.environ if environ is None else environ,
        None if remote is None else _place(path, remote),
        secret_file=None if secret_file is None else Path(path) / secret_file,
        new_key=new_key,
        depth=depth,
        pin=pin,
        progress=progress,
        warn=warn,
    )


def _place(path: str | Path, target: str | Path) -> str:
    """A `Path` is a folder, never a remote's name."""
    return str((path / target).absolute()) if isinstance(target, Path) else target
