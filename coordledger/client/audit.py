"""Judge a copy's records again, and find where a remote's history stops being valid.

Rules of this file:
- An audit judges with the keys that are at hand now, and reports instead of raising; it ends
  at the first bad record, as nothing that follows has a place. A record that was audited without
  a key for it is judged again once there are other keys, and for as long as nobody has checked it.
- Its progress is saved now and then, so that an interrupted audit can be resumed. A record
  that has not been judged is never counted.
- A history is cut back only to a record that is valid, only where somebody wrote one that is not
  valid here and now (never for damage of our own copy), and only by compare-and-swap.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import coordledger  # what is made of its names is imported when it is made
from coordledger.client import judging, stops
from coordledger.client.heads import need_trusted
from coordledger.client.publish import push_error
from coordledger.client.replica import STEP, TOLD, keys_at_hand
from coordledger.deadline import Deadline
from coordledger.errors import CoordledgerError, Integrity, RuleBroken, error
from coordledger.format.chain import AUTHENTIC, UNVERIFIED, Chain
from coordledger.git.history import raw_parent
from coordledger.git.outcome import WON

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from coordledger.client.heads import Trusted
    from coordledger.client.judging import Lot
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica
    from coordledger.client.reports import Audit, Damage
    from coordledger.format.commit import Commit

    Counts = dict[str, dict[str, int]]  # of records, by their verdicts and by who has checked them
    Save = Callable[[Commit, Counts], None]  # the newest good record, the counts up to it
    See = Callable[[Commit, str], None]  # a good record, and who has checked it


class Findings(NamedTuple):
    """The counts, what is bad, and the seq of the last good record."""

    counts: Counts
    problems: list[dict[str, Any]]
    last: int


# -- an audit


def audit(
    connection: Connection,
    *,
    full: bool,
    since: int | None,
    resume: bool,
    trust: Iterable[Trusted] = (),
    see: See | None = None,
) -> Audit:
    """Judge what this clone has not audited yet and what nobody has checked, or from `since` on, or
    (`full`) everything; of a history that has what its reader does `trust`, and of no other. `see`
    as of `judge_again`.

    Only bringing the copy up to date is under the timeout. Raises `Failed`: bad-value, and as
    `Replica.refresh` does; `Integrity`: pin-mismatch.
    """
    known, replica = list(trust), connection.replica
    _read(connection, known)
    trusted = replica.trusted
    if since is not None and since > trusted.seq:
        raise error("bad-value", what="--since", why=f"the newest record is {trusted.seq}")
    keys = keys_at_hand(replica)
    start = since if since is not None else (0 if full else _unaudited(replica, keys))
    start = max(start, trusted.first)
    interrupted = interrupted_at(replica) if full and resume else None
    begin = interrupted["seq"] + 1 if interrupted else start

    def save(head: Commit, counts: Counts) -> None:
        place = {"seq": head.seq, "commit": head.oid, "counts": counts}
        noted: dict[str, Any] = {"auditing": place} if full else {}
        _save(connection, start, head.seq, counts, **noted)

    counted = interrupted["counts"] if interrupted else None
    counts, problems, last = judge_again(replica, begin, counted, save, see)
    last = -1 if problems else last
    _save(connection, start, last, counts, keys, **({"auditing": None} if full else {}))
    if replica.stop:
        problems.append(stops.facts_of(replica.stop))
    resumed = begin if interrupted else None
    return coordledger.Audit(
        ledger=trusted.ledger,
        head=trusted.commit,
        records=sum(counts["verdicts"].values()),
        verdicts=counts["verdicts"],
        checked=counts["checked"],
        problems=tuple(problems),
        since=start,
        resumed=resumed,
        compared=tuple(dict.fromkeys(one.what for one in known)),
    )


def _read(connection: Connection, known: list[Trusted]) -> None:
    """Bring the copy up to date. What is not of what is trusted is not remembered, where it is the
    first that was seen.
    """
    is_first = connection.local.trusted is None
    connection.read()
    try:
        need_trusted(connection.replica, known)
    except CoordledgerError:
        if is_first:
            connection.reset()
        raise


def _unaudited(replica: Replica, keys: str) -> int:
    """The oldest record that has to be judged by an audit of what is new: above the newest one that
    was audited; or the oldest that was left without a verdict, where other keys are here now, or
    the server has not vouched for it since.
    """
    trusted, newest = replica.trusted, replica.vouches.newest
    unaudited = trusted.audited + 1
    if trusted.unverified < 0:
        return unaudited
    vouched = newest.seq if newest and keys == trusted.keys else -1
    return min(unaudited, max(trusted.unverified, vouched + 1))


def _save(
    connection: Connection,
    start: int,
    last: int,
    counts: Counts,
    keys: str | None = None,
    **changes: Any,
) -> None:
    """Everything from `start` to `last` has been audited, with these verdicts and, if that was
    all there was to audit, with these `keys`. It may have taken long.
    """
    connection.git.work_until(Deadline(connection.settings.timeout))
    with connection.local.lock(connection.git.deadline):
        trusted = connection.replica.trusted
        if start <= trusted.audited + 1:  # without a gap
            older = trusted.unverified if 0 <= trusted.unverified < start else -1
            unverified = start if older < 0 and counts["verdicts"].get(UNVERIFIED) else older
            trusted = trusted._replace(
                audited=max(trusted.audited, last),
                unverified=unverified,
                keys=keys if keys is not None and older < 0 else trusted.keys,
            )
        connection.local.save(trusted._replace(**changes))


def verified_up_to(connection: Connection, *, full: bool) -> tuple[int, bool] | None:
    """After an interruption: up to which record an audit need not judge again, and whether
    that is one of everything, which has to be resumed; None if it has to begin anew.
    """
    trusted = connection.local.trusted
    if trusted is None:
        return None
    interrupted = interrupted_at(connection.replica) if full else None
    if interrupted:
        return interrupted["seq"], True
    return (trusted.audited, False) if trusted.audited >= 0 and not full else None


def interrupted_at(replica: Replica) -> dict[str, Any] | None:
    """How far an audit of everything had got when it was interrupted: seq, commit, counts."""
    noted = replica.trusted.auditing
    commit = replica.commit_at(noted["seq"]) if noted else None
    return noted if noted and commit and commit.oid == noted["commit"] else None


def judge_again(
    replica: Replica,
    since: int,
    counted: Counts | None = None,
    save: Save = lambda head, counts: None,
    see: See | None = None,
) -> Findings:
    """Judge the copy's records from `since` on; `counted` are the counts of those before it that
    are to be counted too. `save` is called every `STEP` records, and `see` with each good one.

    Raises `Integrity`: bad-copy.
    """
    trusted, repository = replica.trusted, replica.local.repository
    counts = {name: dict((counted or {}).get(name, {})) for name in ("verdicts", "checked")}

    def count(verdict: str, seq: int, commit: Commit | None) -> None:
        checked = replica.vouches.who_checked(verdict, seq)
        if commit and see:
            see(commit, checked)
        for name, value in (("verdicts", verdict), ("checked", checked)):
            counts[name][value] = counts[name].get(value, 0) + 1

    problems: list[dict[str, Any]] = []
    start = max(since, trusted.first)
    below = replica.commit_at(start - 1) if start > trusted.first else None
    if start == trusted.first and start > 0:
        # The edge of a shallow copy: nothing is known about what it builds on.
        below = replica.commit_at(start)
        count(UNVERIFIED, start, below)
    chain = Chain(repository.read, replica.keyring(), below, repository.algo)
    many = trusted.seq - (below.seq if below else -1)
    done = 0
    with contextlib.closing(_lots(replica, chain, below, one_by_one=see is not None)) as lots:
        for lot in lots:
            done += len(lot.judged)
            for judged, alike in zip(lot.judged, lot.alike, strict=True):
                verdict = judged.verdict
                if verdict == AUTHENTIC and not _is_rooted(replica, chain, alike):
                    verdict = UNVERIFIED
                count(verdict, judged.seq, None if judged.broken else chain.head)
                if judged.broken:
                    problems.append(_problem(judged.seq, judged.oid, judged.broken))
            if done % TOLD == 0:
                replica.progress("auditing", done, many)
            if done % STEP == 0 and chain.head and not problems:
                save(chain.head, counts)
    return Findings(counts, problems, chain.next_seq - 1)


def _lots(
    replica: Replica, chain: Chain, below: Commit | None, *, one_by_one: bool
) -> Generator[Lot, None, None]:
    """The verdicts on a copy's commits above `below`, where the chain stands."""
    trusted, start = replica.trusted, below.seq + 1 if below else 0

    def ids() -> Iterator[str]:
        return replica.local.indexed_ids(start, trusted.seq)

    def commits(done: int) -> Iterator[tuple[str, bytes]]:
        at = chain.head if done else below
        return commits_above(replica, at)

    many = 0 if one_by_one else trusted.seq - start + 1
    return judging.lots(replica, chain, many, ids, commits, None)


def _is_rooted(replica: Replica, chain: Chain, seq: int | None) -> bool:
    """Whether it was checked here whose key has signed the record at `seq` (None: by a secret)."""
    if seq is None:
        return True
    head = chain.head
    commit = head if head and head.seq == seq else replica.commit_at(seq)
    return commit is not None and replica.is_rooted(commit)


def _problem(seq: int, oid: str, broken: RuleBroken) -> dict[str, Any]:
    return {"seq": seq, "commit": oid, "code": broken.code, "message": str(broken)}


def commits_above(replica: Replica, below: Commit | None) -> Iterator[tuple[str, bytes]]:
    """A copy's commits, up to its head: as the index has them for as long as each names the
    one before as its parent, and from there on as the commits themselves have it.

    Raises `Integrity`: bad-copy.
    """
    at, start = (below.oid, below.seq + 1) if below else (None, 0)
    trusted = replica.trusted
    for oid, content in _indexed(replica, start, trusted.seq):
        if raw_parent(content) != at:
            break
        yield oid, content
        at = oid
    if at == trusted.commit:
        return
    path = replica.ancestors(trusted.commit, {at})
    if path.below != at:
        raise error("bad-copy", why="commits of its history are missing")
    yield from path


def _indexed(replica: Replica, first: int, last: int) -> Iterator[tuple[str, bytes]]:
    """The commits under the ids of the index, which may be incomplete or wrong."""
    with contextlib.suppress(KeyError, RuleBroken):
        yield from replica.git.stream(replica.local.indexed_ids(first, last))


# -- when somebody let a bad record in


def find_damage(replica: Replica) -> Damage | None:
    """Where the remote's history stops being valid; None if it does not.

    Records that this copy has adopted are judged again, too: keys may have come since, and a clock
    may have been set right. Raises `Integrity`: rewritten, where there is nothing to cut back to.
    """
    return _damage_above(replica) or _damage_adopted(replica) or _future_adopted(replica)


def _damage_above(replica: Replica) -> Damage | None:
    """In what this copy has not adopted."""
    chain, stopped = replica.follow(), replica.local.stopped
    if replica.stop is None or stopped is None or chain.head is None:
        return None
    return _damage(chain.state.ledger["ledger"], stopped.head, replica.stop, chain.head)


def _damage_adopted(replica: Replica) -> Damage | None:
    trusted = replica.trusted
    _, problems, last = judge_again(replica, trusted.first)
    good = replica.commit_at(last) if problems else None
    if good is None:
        return None
    fault = Integrity("bad-chain", f"record {last + 1}: {problems[0]['message']}")
    return _damage(trusted.ledger, trusted.commit, fault, good)


def _future_adopted(replica: Replica) -> Damage | None:
    """The newest records, if they are from the future: this copy's clock was wrong, too."""
    chain, first = replica.position(), None
    commit = chain.head
    while commit and stops.is_from_future(replica, chain, commit):
        first, commit = commit, replica.commit_at(commit.seq - 1)
    if first is None or commit is None:
        return None
    fault = stops.from_future(replica, first)
    return _damage(replica.trusted.ledger, replica.trusted.commit, fault, commit)


def _damage(ledger: str, head: str, fault: Integrity, last: Commit) -> Damage:
    end = coordledger.Head(ledger, last.seq, last.digest, last.oid)
    return coordledger.Damage(head, fault, end)


def repair(connection: Connection, damage: Damage) -> None:
    """Cut the remote back to the last valid record. It is logged. Raises `Failed`: push-refused."""
    local, remote, last = connection.local, connection.remote, damage.last
    local.log(f"repair: from {damage.head} to {last.seq}:{last.digest}")
    push = remote.push(local.remote_ref, damage.head, last.commit)
    if push.outcome != WON:
        fault = push_error(push, remote.shown)
        if push.code:  # a hook of ours guards the ref against this
            fault.hint = "where the repository lives, its owner runs: coordledger repair REPO.git"
        raise fault
    if connection.replica.trusted.seq > last.seq:  # adopted before the keys were here
        connection.reset()
