"""Commands about SSH keys: making them, showing them, and what OpenSSH checks records with.

Rules: only public halves are printed. No ledger is asked for a key that is made or shown, so that
it can be done before one is joined.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from coordledger.errors import error

from . import params
from .common import NAME, ask_passphrase, command, group, root
from .output import safe

if TYPE_CHECKING:
    from coordledger.client.ssh_keys import SshKey, SshKeyFinder

    from .common import App

agent_option = click.option(
    "--agent", "me", type=params.AGENT, metavar="AGENT", help="Whose it is."
)

keys = group(
    "key",
    parent=root,
    example="coordledger key new --agent bob",
    doc="Make an SSH key to sign records with, or show it.",
)


def _finder(app: App, me: str | None) -> tuple[str, SshKeyFinder]:
    from coordledger.client.opening import surroundings  # noqa: PLC0415 - help needs none
    from coordledger.client.ssh_keys import SshKeyFinder  # noqa: PLC0415

    app.agent = me or app.agent
    settings, repository, git = surroundings(app.options(), os.environ)
    return settings.need_agent, SshKeyFinder(settings, repository, git, ask_passphrase)


def _show(app: App, agent: str, key: SshKey) -> None:
    from coordledger.client.ssh_keys import line_of  # noqa: PLC0415 - help needs none

    line = line_of(key.public, agent)
    app.screen.value({"agent": agent, "public": line, "where": key.where})
    app.screen.line(safe(line))
    app.screen.note(
        f"to enrol it, an admin runs: {NAME} agent add {agent} --ssh-key {shlex.quote(line)}"
    )


@command("new", parent=keys, example="coordledger key new --agent bob")
@agent_option
@click.option("--another", is_flag=True, help="Beside one that is there, to change to it.")
def new(app: App, me: str | None, another: bool) -> None:
    """Make an SSH key for AGENT, and print the line that an admin enrols.

    The private half stays in a file on this host that only this user reads.
    """
    agent, finder = _finder(app, me)
    if finder.named(agent) is not None:
        _show(app, agent, finder.find(agent)[-1])
        return
    made = finder.find(agent)
    if made and not another:
        raise error("key-exists", agent=agent, path=made[-1].where)
    _show(app, agent, finder.make(agent))


@command("show", parent=keys, example="coordledger key show")
@agent_option
def show(app: App, me: str | None) -> None:
    """Print the public line of AGENT's SSH key. Of the one that is named, else the newest."""
    agent, finder = _finder(app, me)
    found = finder.find(agent)
    if not found:
        raise error("no-ssh-key", agent=agent)
    _show(app, agent, found[-1])


@command(
    "allowed-signers",
    parent=root,
    example="coordledger allowed-signers > signers    # for ssh-keygen -Y verify",
)
def allowed_signers(app: App) -> None:
    """Print the SSH keys as OpenSSH's allowed_signers file. Each with its time."""
    from coordledger.client import openssh  # noqa: PLC0415 - help needs none

    with app.ledger() as ledger:
        lines = openssh.allowed_signers(ledger.connection)
    app.screen.value(lines)
    for line in lines:
        app.screen.line(line)
