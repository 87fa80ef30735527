"""The local copy alone: what answers without the network, and without writing.

Rules: nothing is fetched, whatever is missing; nothing is made where there is no copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.opening import connect, surroundings, unheard
from coordledger.errors import RuleBroken, error
from coordledger.format.commit import parse_commit
from coordledger.format.state import State
from coordledger.git.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordledger.client.config import Options
    from coordledger.client.opening import Connection


def open_here(
    options: Options, environ: Mapping[str, str], *, warn: Callable[[str], None] = unheard
) -> Connection | None:
    """A connection that asks the local copy alone; None where there is none: outside of a work
    tree, or of a clone that has joined. Raises `Failed`: bad-config, bad-agent, …
    """
    around = surroundings(options, environ)
    if around.repository is None or around.repository.root is None:
        return None
    around = around._replace(settings=around.settings._replace(offline=True))
    connection = connect(options, environ, around=around, warn=warn)
    if connection.local.trusted is None:
        connection.close()
        return None
    return connection


def state_here(connection: Connection) -> State:
    """The verified state as the copy has it: a `Replica` that misses an object would fetch it.
    Objects are read as they are asked for, and then may be missing (KeyError). Raises `Failed`:
    not-joined; `Integrity`: bad-copy.
    """
    trusted, repository = connection.replica.trusted, connection.local.repository
    try:
        head = parse_commit(trusted.commit, repository.read(trusted.commit))
    except (KeyError, RuleBroken):
        raise error("bad-copy", why=f"commit {trusted.commit[:12]} is missing") from None
    return State(Tree(repository.read, head.tree, repository.algo))
