"""Keys: secrets, their fingerprints and MACs, and who verifies what (docs/format.md, section 5).

Rules: one framing (`pae`), one MAC (`_mac`), one comparison (`Secret.verifies`); signing
and verifying stand over the same function. A `Secret` never shows itself: not in repr, not
in str, not when pickled. `Keyring.find` is the one place that knows what an algorithm verifies
with: a secret that is here, or the public key in the entry (`sshsig`, loaded for the first one).
Where secrets are kept, and which key an agent may use, is not decided here.
"""

from __future__ import annotations

from _operator import _compare_digest as compare_digest  # hmac around it loads OpenSSL
from binascii import b2a_base64

from coordledger.errors import RuleBroken
from coordledger.format import canonical
from coordledger.hashes import digest, hmac_sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, NoReturn, Protocol

    from coordledger.format.sshsig import PublicKey

    Keys = Sequence[tuple[str, dict[str, Any]]]

    class SigningKey(Protocol):
        """What signs: a secret, or the private half of a public key."""

        def sign(self, payload: bytes) -> bytes:
            """The tag of a record's `payload`."""

    class VerifyingKey(Protocol):
        """What verifies: a secret, or a public key."""

        def verifies(self, payload: bytes, tag: bytes) -> bool:
            """Whether `tag` (of the algorithm's length) is one of `payload`."""


HMAC, SSH = "hmac-sha256", "ssh-ed25519"
TAG_BYTES = {HMAC: 32, SSH: 64}
LEAST, MOST = 43, 512


def pae(kind: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding (github.com/secure-systems-lab/dsse)."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode("ascii"), len(body), body)


def ledger_id(genesis: dict[str, Any]) -> str:
    """The id that a genesis record certifies itself by: 32 hexadecimal digits."""
    body = canonical.encode({k: v for k, v in genesis.items() if k != "ledger"})
    return digest("sha256", pae("coordledger.genesis.v1", body)).hex()[:32]


class Secret:
    """One line of printable ASCII that only its agent and the server know.

    `agent` and `key` (a number) name the key that it is the secret of, `nonce` is the genesis
    record's. It shows nothing of itself but by `reveal`.
    """

    __slots__ = ("_key",)

    def __init__(self, line: str) -> None:
        """`line` without surrounding white space. ValueError if it is no secret."""
        if not LEAST <= len(line) <= MOST:
            raise ValueError(f"it must have {LEAST} to {MOST} characters")
        if not all("!" <= char <= "~" for char in line):
            raise ValueError("it must be printable ASCII without spaces")
        self._key = line.encode("ascii")

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def _mac(self, kind: str, body: bytes) -> bytes:
        return hmac_sha256(self._key, pae(kind, body))

    def sign(self, payload: bytes) -> bytes:
        """The tag (32 bytes) of a record's `payload`."""
        return self._mac("coordledger.record.v1", payload)

    def verifies(self, payload: bytes, tag: bytes) -> bool:
        """Whether `tag` is the one of `payload`, compared in constant time."""
        return compare_digest(self.sign(payload), tag)

    def fingerprint(self, nonce: str, agent: str, key: int) -> str:
        """The key as the ledger lists it: 64 hexadecimal digits."""
        return self._mac("coordledger.fingerprint.v1", canonical.encode([nonce, agent, key])).hex()

    def derive(self, nonce: str, agent: str, key: int) -> Secret:
        """As the master, or as the secret of the key above: the secret of an agent's key."""
        tag = self._mac("coordledger.key.v1", canonical.encode([nonce, agent, key]))
        return Secret(b2a_base64(tag, newline=False).decode("ascii"))

    def reveal(self) -> str:
        """The line itself, to be written to a secret file and nowhere else."""
        return self._key.decode("ascii")


class Keyring:
    """What one process verifies with: masters, single secrets of agents, and all public keys.

    `find` picks secrets by fingerprint, so that a wrong or outdated secret is no secret
    rather than a bad signature.
    """

    def __init__(
        self,
        masters: Iterable[Secret] = (),
        secrets_of: Callable[[str], Iterable[Secret]] = lambda agent: (),
    ) -> None:
        """`secrets_of` gives the secrets that were put down for one agent."""
        self.masters, self.secrets_of = list(masters), secrets_of
        self._secrets: dict[tuple[str, str, int, str], Secret | None] = {}
        self._public: dict[str, PublicKey] = {}

    def find(
        self, nonce: str, agent: str, key: int, entry: dict[str, Any], above: Keys = ()
    ) -> VerifyingKey | None:
        """What verifies the records of the agent's key with this entry; None without its secret.

        `entry` has `alg` and `verifier`: the state's, or a genesis record. `above`: the keys that a
        delegate's stands under, the nearest first, each with its agent.
        """
        verifier = entry["verifier"]
        if entry["alg"] == SSH:
            if verifier not in self._public:
                from coordledger.format.sshsig import PublicKey  # noqa: PLC0415 - if there is one

                self._public[verifier] = PublicKey(verifier)
            return self._public[verifier]
        wanted = (nonce, agent, key, verifier)
        if wanted not in self._secrets:
            self._secrets[wanted] = self._search(*wanted, above)
        return self._secrets[wanted]

    def _search(
        self, nonce: str, agent: str, key: int, fingerprint: str, above: Keys
    ) -> Secret | None:
        for secret in self._candidates(nonce, agent, key, above):
            if compare_digest(secret.fingerprint(nonce, agent, key), fingerprint):
                return secret
        return None

    def _candidates(self, nonce: str, agent: str, key: int, above: Keys) -> Iterator[Secret]:
        yield from self.secrets_of(agent)
        for master in self._deriving(nonce, above):
            yield master.derive(nonce, agent, key)

    def _deriving(self, nonce: str, above: Keys) -> list[Secret]:
        """What an agent's secret may be derived from: the masters, or the one of the key above."""
        if not above:
            return self.masters
        (agent, entry), *higher = above
        found = self.find(nonce, agent, entry["id"], entry, higher)
        return [found] if isinstance(found, Secret) else []


class Signed:
    """A record as it was signed: the payload, its value and the tag over it.

    It names no parent: anybody may put it on any head that it fits, without the secret,
    and rules 3, 4 and 6 of section 9 let it land once at most.
    """

    __slots__ = ("payload", "record", "tag")

    def __init__(self, payload: bytes, record: dict[str, Any], tag: bytes) -> None:
        """`record` is what `payload` parses to; `tag` is the claim, not yet checked."""
        self.payload, self.record, self.tag = payload, record, tag


def sign(record: dict[str, Any], key: SigningKey) -> Signed:
    """`record` (of a valid shape) signed with `key`. Raises `RuleBroken`: too-large."""
    payload, limit = canonical.encode(record), canonical.MAX_BYTES
    if len(payload) > limit:
        raise RuleBroken("too-large", what="the record", size=len(payload), limit=limit)
    return Signed(payload, record, key.sign(payload))
