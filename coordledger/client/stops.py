"""Where a remote's history stops being valid, and what that says.

Rules of this file:
- A record stops a copy that is invalid, of a newer version, or from the future: so far ahead of
  this clock that no record that is made now could follow it.
- Of a stop it is noted which commit it was, and what the remote's head was: neither is fetched nor
  walked again. That it is bad is found out each time, as keys, clock and version change.

`Replica.follow` says when it is looked for.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from coordledger.client.local_state import Stop
from coordledger.errors import Integrity, RuleBroken
from coordledger.format import timestamps
from coordledger.format.chain import Chain
from coordledger.format.commit import parse_commit
from coordledger.git.history import raw_parent

if TYPE_CHECKING:
    from coordledger.client.replica import Replica
    from coordledger.format.chain import Judged
    from coordledger.format.commit import Commit


def fault_of(replica: Replica, chain: Chain, judged: Judged) -> Integrity | None:
    """Why a record that was judged stops the copy, if it does; the chain stands on it if it is
    valid.
    """
    if judged.broken:
        return judged.broken.theirs(judged.seq, judged.oid, _repair_command(replica))
    if chain.head and is_from_future(replica, chain, chain.head):
        return from_future(replica, chain.head)
    return None


def is_from_future(replica: Replica, chain: Chain, commit: Commit) -> bool:
    """Whether no record that is made now could follow the commit."""
    ahead = timestamps.parse(commit.record["at"]) - replica.clock()
    return bool(ahead > 2 * chain.state.skew)


def from_future(replica: Replica, commit: Commit) -> Integrity:
    """The error of a commit that is from the future."""
    agent, at = commit.record["agent"], commit.record["at"]
    ahead = timestamps.span(timestamps.parse(at) - replica.clock())
    broken = RuleBroken("from-future", agent=agent, at=at, ahead=ahead)
    return broken.theirs(commit.seq, commit.oid, _repair_command(replica))


def facts_of(stop: Integrity) -> dict[str, Any]:
    """Which record stops a copy, and why, for programs."""
    return stop.data | {"code": stop.code, "message": stop.message}


def below(replica: Replica, chain: Chain, bad: str) -> Chain:
    """The chain below the commit `bad`. It stands on it where that is valid, but too early."""
    repository, head = replica.local.repository, chain.head
    if head is None or head.oid != bad:
        return chain
    parent = parse_commit(head.parent, repository.read(head.parent)) if head.parent else None
    return Chain(repository.read, replica.keyring(head.record["ledger"]), parent, repository.algo)


def recall(replica: Replica) -> None:
    """Where the remote is not asked: what is noted stops the copy again."""
    replica.stop, stopped = None, replica.local.stopped
    if stopped:
        stop_again(replica, stopped.head)


def stop_again(replica: Replica, head: str) -> bool:
    """Whether the noted record stops the copy still: the remote's `head` goes on after it, and it
    is bad. It alone is judged. Sets the copy's `stop`, then.
    """
    local, stopped, trusted = replica.local, replica.local.stopped, replica.local.trusted
    if stopped is None or trusted is None:
        return False
    noted = {stopped.head, stopped.commit}
    below = replica.ancestors(head, {*noted, trusted.commit, None}).below
    if below not in noted:
        if below in (trusted.commit, None):
            forget(replica)
        return False
    try:
        content = local.repository.read(stopped.commit)
    except KeyError:
        return False
    if raw_parent(content) != trusted.commit:
        return False
    chain = replica.position().copy()
    [judged] = replica.judge(chain, [(stopped.commit, content)])
    replica.stop = fault_of(replica, chain, judged)
    if replica.stop and head != stopped.head:
        with local.lock(replica.git.deadline):
            local.save_stop(stopped._replace(head=head))
    return replica.stop is not None


def forget(replica: Replica) -> None:
    """The remote does not lead over the noted record any more: it was cut off, and with it those
    above it. What the hook had vouched for among them is nothing that the chain has to have.
    """
    local, stopped, trusted = replica.local, replica.local.stopped, replica.local.trusted
    if stopped is None:
        return
    if replica.vouches.pending:
        digests, known = set[str](), {stopped.commit, trusted.commit if trusted else None, None}
        with contextlib.suppress(KeyError, Integrity):
            bad = (stopped.commit, local.repository.read(stopped.commit))
            for oid, content in (bad, *replica.ancestors(stopped.head, known)):
                with contextlib.suppress(RuleBroken):
                    digests.add(parse_commit(oid, content).digest)
        replica.vouches.drop(digests)
    local.forget_stop()


def note(replica: Replica, head: str, bad: str) -> None:
    """Note that the remote's `head` leads over the commit `bad`, or ("") over no bad one."""
    local = replica.local
    if bad:
        with local.lock(replica.git.deadline):
            local.save_stop(Stop(head, bad))
    else:
        local.forget_stop()


def _repair_command(replica: Replica) -> str:
    """The command that cuts a bad record off, to be copied."""
    import shlex  # noqa: PLC0415 - for the hint of an error

    local, folder = replica.local, replica.remote.address.folder
    ledger = ["--ledger", local.name] if local.name != "main" else []
    server = shlex.join(["coordledger", "repair", folder or "REPO.git", *ledger])
    if folder and os.path.exists(f"{folder}/coordledger/master"):  # noqa: PTH110 - as a string
        return server
    command = shlex.join(["coordledger", "repair", *ledger])
    return f"{command}; where a hook forbids that, at the server: {server}"
