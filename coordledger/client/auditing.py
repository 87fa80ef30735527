"""Which copy an audit is of: the clone's, or one that is fetched for it.

Rules of this file: a ledger that is named by where it lives, or that this clone has not joined, is
fetched into a copy apart from every clone: nothing is written into the clone around, and nothing is
pushed. The copy stays in the cache, so that the next audit of it begins at the verified head, and
notices a history that does not go on from there. Which ledgers the remote has, it says itself; one
that nobody has named is taken where it is the only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordledger.client.local_state import LocalState
from coordledger.client.opening import connect_apart, is_itself, located, need_remote, surroundings
from coordledger.errors import error
from coordledger.format.names import LEDGERS, is_identifier
from coordledger.git.remote import Remote
from coordledger.hashes import LENGTHS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.client.config import Options, Settings
    from coordledger.client.opening import Connection
    from coordledger.git.process import Git


def is_unjoined(options: Options, environ: Mapping[str, str]) -> bool:
    """Whether the options name a clone that has no copy of the ledger. Raises as `surroundings`."""
    settings, clone, _ = surroundings(options, environ)
    if options.offline or clone is None or is_itself(settings.remote, clone):
        return False
    try:
        return LocalState(clone, settings.ledger, settings.branch).trusted is None
    except PermissionError:  # another user's memory
        return False


def open_apart(
    options: Options, environ: Mapping[str, str], remote: str | None, **told: Any
) -> Connection:
    """A connection with the ledger at `remote` (a remote's name, a path, a URL; None: the
    configured one) by a copy apart; `told` is as of `connect`.

    Raises `Failed`: no-remote, not-a-ledger, several-ledgers, remote-unreachable, …
    """
    options, around = located(options, environ, remote)
    need_remote(options, around.settings)
    ledger, oid = _chosen(around.settings, around.git)
    algo = next((name for name, length in LENGTHS.items() if length == len(oid)), "sha1")
    return connect_apart(options, around, ledger, algo, **told)


def _chosen(settings: Settings, git: Git) -> tuple[str, str]:
    """The ledger that is meant, and the id of its head there. Raises as `open_apart`."""
    remote, name = Remote(git, settings.remote), settings.ledger
    if settings.branch:
        below, name_there = "refs/heads/", settings.branch
    else:
        below, name_there = LEDGERS, name
    there = remote.listing(below)
    if not there:
        remote.need_listing()
    ledgers = sorted(one for one in there if is_identifier(one)) if below == LEDGERS else []
    if not settings.names_ledger and below == LEDGERS and ledgers:
        if len(ledgers) > 1:
            raise error("several-ledgers", remote=remote.shown, names=", ".join(ledgers))
        [name] = [name_there] = ledgers
    if name_there not in there:
        others = f"; it has {', '.join(ledgers)}" if ledgers else ""
        raise error("not-a-ledger", remote=remote.shown, name=name_there, others=others)
    return name, there[name_there]
