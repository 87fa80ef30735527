"""SSH keys of the tests: the same on each run, made of a name."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordledger.format import sshsig


class SshKey:
    """A private key, as `signing.sign` takes it."""

    def __init__(self, seed: bytes) -> None:
        """`seed` is RFC 8032's private key: 32 bytes."""
        self.seed = seed
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.raw = self.private.public_key().public_bytes_raw()
        self.public = sshsig.encode_key(self.raw)

    @classmethod
    def of(cls, name: str) -> SshKey:
        return cls(hashlib.sha256(f"ssh key of {name}".encode()).digest())

    def sign(self, payload: bytes) -> bytes:
        return self.private.sign(sshsig.message(payload))
