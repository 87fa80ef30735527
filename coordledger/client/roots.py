"""Whose key is it that has signed? What a reader has to have checked before it says authentic.

Rules: a secret that is here says itself whose it is, by its fingerprint. An SSH key is whose the
record says that enrolled it; so that record has to be authentic here, too, and the one that
enrolled its signer's key, and so on, down to a secret that is here, or to the first record, which
the ledger's id certifies. Otherwise somebody who can push where no hook is would enrol a key of
their own by a forged MAC, which most readers cannot check, and all would take for checked what that
key has signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import RuleBroken
from coordledger.format.chain import AUTHENTIC, authenticate
from coordledger.format.signing import SSH

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.format.commit import Commit
    from coordledger.format.records import Record
    from coordledger.format.signing import Keyring
    from coordledger.format.state import State


class CheckedHere:
    """What was checked with the keys of one keyring: commits whose signatures are good
    (`authentic`, by their ids), and whose keys have signed.
    """

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.authentic: set[str] = set()
        self._rooted: dict[tuple[str, int], bool] = {}

    def is_rooted(
        self,
        record: Record,
        state_now: Callable[[], State],
        commit_at: Callable[[int], Commit | None],
    ) -> bool:
        """Whether it was checked here whose key has signed `record`, which is authentic.

        `state_now()` is the record's state or a later one; `commit_at(seq)` a commit of the copy
        whose place in the history it has verified.
        """
        passed: list[tuple[str, int]] = []
        while True:
            key = (record["agent"], record["key"])
            if key in self._rooted:
                answer = self._rooted[key]
                break
            passed.append(key)
            entry = (state_now().agent(key[0]) or {"keys": []})["keys"][key[1] - 1]
            if entry["alg"] != SSH:
                answer = True
                break
            if entry["from"] == 0:
                answer = commit_at(0) is not None  # else the state was taken on trust
                break
            enrolment = commit_at(entry["from"] - 1)
            if enrolment is None or not self._is_signed(enrolment, state_now()):
                answer = False
                break
            record = enrolment.record
        self._rooted.update(dict.fromkeys(passed, answer))
        return answer

    def _is_signed(self, commit: Commit, state: State) -> bool:
        try:
            return authenticate(state, commit.signed, commit.seq, self.keyring) == AUTHENTIC
        except RuleBroken:
            return False
