"""Whose key is it that has signed? What a reader has to have checked before it says authentic.

Rules: a secret that is here says itself whose it is, by its fingerprint. An SSH key is whose the
record says that enrolled it; so that record has to be authentic here, too, and so has what its
signer was entitled by: the record that enrolled the signer's key, unless that is a secret that is
here, and, where the signer is no name above the key's, the one that gave it its role. All of
that goes on down to the first record, which has to be here, and which the ledger's id certifies; in
a shallow copy nothing gets there, for the state at its edge is one that nobody has checked.
Otherwise somebody who can push where no hook is would enrol a key of their own, or make themselves
an admin who enrols one in anybody's name, by a forged MAC, which most readers cannot check; and all
would take for checked what that key has signed.

A delegate may have left the newest state, so each commit's keys are looked up in one that has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import RuleBroken
from coordledger.format.chain import AUTHENTIC, authenticate
from coordledger.format.names import is_below
from coordledger.format.signing import SSH

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.signing import Keyring
    from coordledger.format.state import State

    StateFor = Callable[[Commit], State]  # a state that has the key that signed the commit
    CommitAt = Callable[[int], Commit | None]  # a commit of the copy, by its seq


class CheckedHere:
    """What was checked with the keys of one keyring: commits whose signatures are good
    (`authentic`, by their ids), and which enrolments count.
    """

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.authentic: set[str] = set()
        self._rooted: dict[int, bool] = {}  # enrolments and the first record, by seq

    def is_rooted(self, commit: Commit, state_for: StateFor, commit_at: CommitAt) -> bool:
        """Whether it was checked here whose key has signed `commit`, which is authentic."""
        whole = _enrolments_of_signer(state_for(commit), commit)
        if whole and commit_at(0) is None:  # then nobody has checked what the state says of keys
            return False
        pending = list(whole)
        while pending:
            seq = pending[-1]
            needed = None if seq in self._rooted else self._needed_by(seq, state_for, commit_at)
            open_ones = [below for below in needed or () if below not in self._rooted]
            if open_ones:
                pending += open_ones
                continue
            if needed is not None:
                self._rooted[seq] = all(self._rooted[below] for below in needed)
            self._rooted.setdefault(seq, False)
            pending.pop()
        return all(self._rooted[seq] for seq in whole)

    def _needed_by(self, seq: int, state_for: StateFor, commit_at: CommitAt) -> list[int] | None:
        """The records on which the enrolment at `seq` rests, all of them older; None if it was not
        checked here itself.
        """
        commit = commit_at(seq)
        if seq == 0 or commit is None:
            return [] if seq == 0 else None
        state, signer = state_for(commit), commit.record["agent"]
        if not self._is_signed(commit, state):
            return None
        needed = _enrolments_of_signer(state, commit)
        if not is_below(commit.record["who"], signer):
            needed.append(_entitled_at(state, signer, seq))
        return needed

    def _is_signed(self, commit: Commit, state: State) -> bool:
        try:
            return authenticate(state, commit.signed, commit.seq, self.keyring) == AUTHENTIC
        except RuleBroken:
            return False


def _enrolments_of_signer(state: State, commit: Commit) -> list[int]:
    """The seq of the record that says whose the key is, unless a secret itself says so."""
    key = state.key(commit.record["agent"], commit.record["key"], commit.seq)
    return [_brought_at(key)] if key["alg"] == SSH else []


def _entitled_at(state: State, admin: str, seq: int) -> int:
    """The seq of the record by which an admin is one in the record at `seq`: the newest of its
    enrolments, which gave it its role; the owner's is the first record.
    """
    entry = state.agent(admin)
    if entry is None or admin == state.ledger["owner"]:
        return 0
    return max(_brought_at(key) for key in entry["keys"] if key["from"] <= seq)


def _brought_at(key: Record) -> int:
    return max(int(key["from"]) - 1, 0)
