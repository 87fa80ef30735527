"""Configuration that set-up writes: remote, agent, ledger, for the commands that follow.

Rules: only `coordledger.*` is written, to the clone's own configuration, or to the user's file
outside of any clone. Secrets are never written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger import files
from coordledger.deadline import Deadline

if TYPE_CHECKING:
    from coordledger.client.opening import Surroundings


def remember(around: Surroundings, remote: str) -> str:
    """Write remote, agent and ledger to where commands in these surroundings look; that place."""
    settings, repository, git = around
    git.work_until(Deadline(settings.timeout))  # the first contact may have taken all of it
    chosen = {"remote": remote, "agent": settings.need_agent, "ledger": settings.ledger}
    chosen |= {"branch": settings.branch} if settings.branch else {}
    if repository:
        where, place = ["--local"], repository.git_dir
    else:
        place = settings.config_dir / "config"
        files.make_folders(str(place.parent), 0o700)
        where = ["--file", str(place)]
    for name, value in chosen.items():
        git.output("config", *where, f"coordledger.{name}", value)
    return str(place)
