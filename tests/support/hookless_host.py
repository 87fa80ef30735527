"""A host that runs no hooks, as some hosting services are, and forged records on it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.format.chain import Chain
from coordledger.format.signing import Signed, sign
from coordledger.setup import genesis, joining

if TYPE_CHECKING:
    from pathlib import Path


class HooklessHost:
    """A bare repository behind an ssh that is none: a URL, and no hook."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self.path = root, root / "host.git"
        ssh = root / "ssh"
        ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
        ssh.chmod(0o700)
        self.env = env | {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "simple"}
        self.url = f"somewhere:{self.path}"
        self.git("init", "--quiet", "--bare", str(self.path), cwd=root)

    def git(self, *argv: str, cwd: Path | None = None) -> str:
        ran = subprocess.run(
            ["git", *argv],
            cwd=cwd or self.path,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def clone(self, agent: str) -> Path:
        path = self.root / agent
        self.git("init", "--quiet", str(path), cwd=self.root)
        return path

    def ledger(self, agent: str) -> Ledger:
        return Ledger.open(self.root / agent, agent, environ=self.env)

    def found(self, branch: str | None = None) -> genesis.Founded:
        options = Options(self.clone("alice"), agent="alice", branch=branch)
        return genesis.init(options, self.env, self.url, 30)

    def join(self, agent: str, **kw: Any) -> joining.Joined:
        return joining.join(Options(self.clone(agent), agent=agent, **kw), self.env, self.url)


def forge(host: HooklessHost, agent: str, **changes: Any) -> str:
    """Put a commit with a changed record, but for the MAC all right, on the host's ledger."""
    ledger = host.ledger(agent)
    chain = ledger.connection.replica.refresh()
    signed = ledger.connection.writer().sample(chain)
    record = signed.record | changes
    _, secret = ledger.connection.identity().key(
        chain.state, chain.head.seq + 1 if chain.head else 0
    )
    tag = sign(record, secret).tag
    proposal = Chain(
        ledger.connection.local.repository.read,
        ledger.connection.replica.keyring(),
        chain.head,
        "sha1",
    ).propose(Signed(sign(record, secret).payload, record, bytes(byte ^ 255 for byte in tag)))
    ledger.connection.local.repository.write(proposal.objects)
    ledger.close()
    oid = proposal.commit.oid
    host.git(
        "push",
        "--quiet",
        host.url,
        f"{oid}:{ledger.connection.local.remote_ref}",
        cwd=host.root / agent,
    )
    return oid
