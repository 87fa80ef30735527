"""Make proofs out of a verified copy, and verify them without one.

Rules of this file: what a proof is made of comes from the copy, whose digests are computed anew on
the way, so that damage is not passed on. To verify one takes the file, what its reader trusts and,
for records of secrets, these: no repository, no settings, no network. What is trusted is compared
with each record as it passes, so that a ledger of somebody else's costs no more than its first one.
Who was not compared with anything trusted is told so. What holds is `format.proof`'s to say.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import coordledger
from coordledger.client.audit import commits_above
from coordledger.client.blaming import code_of, landings_of, need_commit
from coordledger.client.claims import time_of
from coordledger.client.heads import trusted
from coordledger.deadline import Deadline
from coordledger.errors import RuleBroken, error
from coordledger.format import proof
from coordledger.format.commit import next_digest, recall_commit
from coordledger.format.signing import Keyring
from coordledger.git import ancestry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from coordledger.client.heads import Trusted
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Progress
    from coordledger.client.reports import Proof
    from coordledger.format.commit import Commit
    from coordledger.format.proof import Judged
    from coordledger.format.signing import Secret

PATIENCE = timedelta(minutes=10)
_TOLD = 100  # records between two words about how far it has come


# -- to make one


def prove(connection: Connection, name: str, ref: str | None, *, whole: bool) -> bytes:
    """As `Ledger.prove`."""
    connection.read()
    trusted = connection.replica.trusted
    oid = need_commit(code_of(connection), name)
    landings, _ = landings_of(connection, oid)
    landing = next((one for one in landings if ref in (None, one.record["ref"])), None)
    if landing is None:
        raise error("never-landed", commit=oid[:12], left=f" named {ref}" if ref else "")
    if trusted.first:
        raise error("gone", seq=0)
    path = _path(connection, landing.record["new"], oid)
    last = trusted.seq if whole else landing.seq
    try:
        return proof.encode(oid, landing.seq, _signed(connection, last), path)
    except RuleBroken as broken:
        raise broken.own() from None


def _path(connection: Connection, new: str, oid: str) -> Iterator[bytes]:
    """The contents of what leads from `new` to the commit."""
    read, at = connection.code.read, new
    commit = ancestry.commits_of(code_of(connection), [new])[new]
    while at != commit:  # a tag
        content = read(at)
        yield content
        at = content.partition(b"\n")[0].removeprefix(b"object ").decode("ascii")
    for at in ancestry.way_down(code_of(connection), commit, oid)[:-1]:
        yield read(at)


def _signed(connection: Connection, last: int) -> Iterator[tuple[bytes, bytes]]:
    """Payload and tag of the records up to `last`. Raises `Integrity`: bad-copy."""
    replica, digest = connection.replica, None
    newest = replica.commit_at(last)
    with contextlib.suppress(RuleBroken):
        for oid, content in commits_above(replica, None):
            commit = recall_commit(oid, content)
            digest = next_digest(digest, commit.signed)
            if commit.seq == last and (newest is None or digest != newest.digest):
                break
            yield commit.signed.payload, commit.signed.tag
            if commit.seq == last:
                return
            if commit.seq % _TOLD == 0:
                replica.progress("reading", commit.seq, last)
    raise error("bad-copy", why="its records are not those that were verified")


# -- to verify one


def judge(
    data: bytes,
    trust: Iterable[Trusted],
    secrets: Iterable[Secret],
    deadline: Deadline,
    *,
    chain_only: bool = False,
    progress: Progress = lambda what, done, of: None,
) -> Proof:
    """What the proof in a file's bytes shows. Raises `Integrity`: bad-proof, proof-differs,
    newer-version; `Failed`: proof-unchecked (not with `chain_only`), proof-shorter, timeout.
    """
    known, given = list(trust), list(secrets)

    def seen(commit: Commit) -> None:
        for one in known:
            why = one.differs(commit) if one.seq == commit.seq else ""
            if why:
                raise RuleBroken("proof-differs", why=why)
        if commit.seq % _TOLD == 0:
            progress("verifying", commit.seq, 0)
        deadline.left()

    try:
        found = proof.decode(data)
        judged = proof.judge(found, Keyring(given, lambda agent: given), seen)
        for one in known:
            if one.seq > judged.last.seq:
                raise RuleBroken("proof-shorter", last=judged.last.seq, seq=one.seq)
    except RuleBroken as broken:
        raise broken.own() from None
    if judged.first and not chain_only:
        record, first = judged.first.record, judged.first.seq
        many = {"count": judged.unchecked, "records": judged.last.seq + 1}
        who = {"agent": record["agent"], "key": record["key"]}
        raise error("proof-unchecked", **many, **who, seq=first)
    return _shown(found.commit, judged, known)


def _shown(commit: str, judged: Judged, known: list[Trusted]) -> Proof:
    record, task, last = judged.landing.record, judged.task, judged.last
    return coordledger.Proof(
        commit=commit,
        ref=record["ref"],
        old=record["old"],
        new=record["new"],
        distance=judged.distance,
        task=record["task"],
        epoch=record["epoch"],
        agent=record["agent"],
        session=record["session"],
        at=time_of(record["at"]),
        seq=judged.landing.seq,
        claim_seq=task["claim_seq"],
        claimed_at=time_of(task["claimed_at"]),
        expires_at=time_of(task["until"]),
        owner=judged.keys[-1].agent,
        keys=tuple(coordledger.Authority(*one) for one in judged.keys),
        records=last.seq + 1,
        unchecked=judged.unchecked,
        head=coordledger.Head(record["ledger"], last.seq, last.digest, last.oid),
        compared=tuple(dict.fromkeys(_compared(one, judged.landing.seq) for one in known)),
    )


def _compared(one: Trusted, landing: int) -> str:
    """What was compared: a head from before the landing says nothing of what followed it."""
    return "older-head" if one.what == "head" and one.seq < landing else one.what


def verify_proof(
    proof: bytes,
    *,
    trust: Iterable[str] = (),
    secrets: Iterable[Secret] = (),
    chain_only: bool = False,
    timeout: timedelta = PATIENCE,
) -> Proof:
    """What a `proof`, the bytes of a file that `Ledger.prove` has made, shows. It asks nobody.

    `trust`: what is known of the ledger from elsewhere, each the owner's public SSH key (OpenSSH's
    line, or a file), the ledger's id, or `Head.line()`. `secrets` verify what secrets have signed;
    `chain_only` is content where some are missing. It ends within the `timeout`. Raises
    `Integrity`: bad-proof, proof-differs, newer-version; `Failed`: proof-unchecked, proof-shorter,
    bad-value, bad-ssh-key, timeout.
    """
    known = [one for word in trust for one in trusted(word, Path())]
    deadline = Deadline(timeout.total_seconds())
    return judge(proof, known, secrets, deadline, chain_only=chain_only)
