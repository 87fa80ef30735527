"""Sign a record: who signs, with which key, and what stands in every record.

Rules: of the valid keys whose secrets are here, the newest signs. The caller says what the
record is about (`Build`), and the chain whether it may be there. Nothing is sent.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import error
from coordledger.format import records, signing, timestamps

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from coordledger.client.journal import Intent
    from coordledger.format.chain import Chain
    from coordledger.format.signing import Secret, Signed
    from coordledger.format.state import State

    Fields = dict[str, Any]
    Build = Callable[[State, int], tuple[str, Fields]]  # state, now -> kind, its fields


class Identity(NamedTuple):
    """An agent's session, and where the agent's secrets are."""

    agent: str
    session: str
    find: Callable[[str, str], tuple[str, list[Secret]]]  # as `SecretFinder.find`

    def key(self, state: State, seq: int) -> tuple[int, Secret]:
        """The number of the key that signs the record at `seq`, and its secret.

        Raises `Failed`: unknown-agent, key-revoked, no-secret-found, secret-exposed, bad-secret.
        """
        entry = state.agent(self.agent)
        if entry is None:
            raise error("unknown-agent", who=self.agent)
        valid = [key for key in entry["keys"] if key["until"] is None]
        if not valid:
            last = entry["keys"][-1]
            raise error("key-revoked", agent=self.agent, key=last["id"], seq=last["until"])
        where, secrets = self.find(self.agent, state.ledger["ledger"])
        nonce = state.ledger["nonce"]
        for key in reversed(valid):
            if key["from"] <= seq:
                for secret in secrets:
                    if secret.fingerprint(nonce, self.agent, key["id"]) == key["fingerprint"]:
                        return key["id"], secret
        raise error("no-secret-found", agent=self.agent, where=where)


class Signer:
    """Signs for an identity, and looks for each agent's secrets once."""

    def __init__(self, identity: Identity, clock: Callable[[], int]) -> None:
        """`clock()` gives milliseconds since 1970."""
        self._identity = identity._replace(find=functools.cache(identity.find))
        self._clock = clock

    def sign(self, chain: Chain, intent: Intent, build: Build) -> Signed:
        """A record of this intent, signed for the place after the chain's head.

        Raises the errors of `build` and of `Identity.key`, `RuleBroken`, `Failed`: not-joined.
        """
        if chain.head is None:
            raise error("not-joined")
        now = self._clock()
        signer = self._identity._replace(agent=intent.agent)
        number, secret = signer.key(chain.state, chain.head.seq + 1)
        kind, fields = build(chain.state, now)
        record = records.check(
            {
                "v": records.VERSION,
                "ledger": chain.state.ledger["ledger"],
                "at": timestamps.show(now),
                "agent": intent.agent,
                "key": number,
                "session": intent.session,
                "op": intent.op,
                "base": intent.base,
                "kind": kind,
            }
            | fields
        )
        return signing.sign(record, secret)

    def is_fresh(self, signed: Signed, skew: int) -> bool:
        """Whether it can be sent again: servers refuse a record once it is `skew` ms old."""
        return self._clock() - timestamps.parse(signed.record["at"]) <= skew // 3
