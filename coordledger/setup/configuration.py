"""What set-up writes into configuration: remote, agent, ledger, for the commands that follow.

Rules: only `coordledger.*` is written, to the clone's own configuration, or to the user's file
outside of any clone. Secrets are never written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.opening import surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coordledger.client.config import Options, Settings
    from coordledger.git.process import Git


def remember(options: Options, environ: Mapping[str, str], settings: Settings, remote: str) -> str:
    """Write remote, agent and ledger to where this directory's commands will look; that place."""
    _, around, git = surroundings(options, environ)
    file = None if around else settings.config_dir / "config"
    chosen = {"remote": remote, "agent": settings.need_agent, "ledger": settings.ledger}
    chosen |= {"branch": settings.branch} if settings.branch else {}
    _write(git, chosen, file)
    return str(file or (around.git_dir if around else ""))


def _write(git: Git, settings: dict[str, str], file: Path | None) -> None:
    """Write `coordledger.*` into the clone's configuration, or into `file`."""
    where = ["--local"]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        where = ["--file", str(file)]
    for name, value in settings.items():
        git.output("config", *where, f"coordledger.{name}", value)
