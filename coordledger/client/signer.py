"""Sign a record: who signs, with which key, and what stands in every record.

Rules: of the valid keys whose secrets or private halves are here, the newest signs; an SSH key that
was named signs alone. The caller says what the
record is about (`Build`), and the chain whether it may be there. Nothing is sent.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from coordledger.client.ssh_keys import line_of
from coordledger.errors import error
from coordledger.format import records, signing, timestamps
from coordledger.format.signing import HMAC, SSH, Secret
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from coordledger.client.journal import Intent
    from coordledger.client.ssh_keys import SshKey, SshKeyFinder
    from coordledger.format.chain import Chain
    from coordledger.format.records import Record
    from coordledger.format.signing import Signed
    from coordledger.format.state import State

    Fields = dict[str, Any]
    Build = Callable[[State, int], tuple[str, Fields]]  # state, now -> kind, its fields


class Identity(Value):
    """An agent's session, and where the agent's secrets and SSH keys are."""

    agent: str
    session: str
    find: Callable[[str, str], tuple[str, list[Secret]]]  # as `SecretFinder.find`
    ssh_keys: SshKeyFinder

    def key(self, state: State, seq: int) -> tuple[int, Secret | SshKey]:
        """The number of the key that signs the record at `seq`, and what signs.

        Raises `Failed`: unknown-agent, key-revoked, alg-refused, no-secret-found, no-ssh-key,
        ssh-key-unknown, secret-exposed, bad-secret, bad-ssh-key.
        """
        valid = self._valid_keys(state)
        named = self.ssh_keys.named(self.agent) is not None
        ssh = self.ssh_keys.find(self.agent) if named else None
        where, secrets = "", None
        for key in reversed(valid):
            if key["alg"] == SSH:
                ssh = self.ssh_keys.find(self.agent) if ssh is None else ssh
            elif secrets is None and not named:
                where, secrets = self.find(self.agent, state.ledger["ledger"])
            if key["from"] <= seq:
                for candidate in (ssh if key["alg"] == SSH else secrets) or ():
                    entry = entry_of(candidate, state.ledger["nonce"], self.agent, key["id"])
                    if entry["verifier"] == key["verifier"]:
                        return key["id"], candidate
        if ssh:
            raise error(
                "ssh-key-unknown", agent=self.agent, key=line_of(ssh[-1].public, self.agent)
            )
        if secrets is None:
            raise error("no-ssh-key", agent=self.agent)
        raise error("no-secret-found", agent=self.agent, where=where)

    def _valid_keys(self, state: State) -> list[Record]:
        """The entries that may sign. Raises `Failed`: unknown-agent, key-revoked, alg-refused."""
        entry = state.agent(self.agent)
        if entry is None:
            raise error("unknown-agent", who=self.agent)
        valid = [key for key in entry["keys"] if key["until"] is None]
        if not valid:
            last = entry["keys"][-1]
            raise error("key-revoked", agent=self.agent, key=last["id"], seq=last["until"])
        allowed = [key for key in valid if key["alg"] == SSH or not state.requires_ssh]
        if not allowed:
            raise error("alg-refused", who=self.agent, key=valid[-1]["id"])
        return allowed


def entry_of(key: Secret | SshKey, nonce: str, agent: str, number: int) -> dict[str, str]:
    """What a record says of this key, as the agent's key with this number: alg and verifier."""
    if isinstance(key, Secret):
        return {"alg": HMAC, "verifier": key.fingerprint(nonce, agent, number)}
    return {"alg": SSH, "verifier": key.public}


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
