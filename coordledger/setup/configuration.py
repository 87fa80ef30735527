"""Configuration that set-up writes: remote, agent, ledger, for the commands that follow.

Rules: only `coordledger.*` is written, to the clone's own configuration, or to the user's file
outside of any clone. Work trees of one clone share its configuration: where there are several, or
another agent has joined, a work tree's own file is written, which git reads after the shared one
(`extensions.worktreeConfig`). No agent's name is replaced in silence. Secrets are never written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from coordledger import files
from coordledger.client.opening import unheard
from coordledger.client.ssh_keys import NEW, lasting
from coordledger.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordledger.client.config import Settings
    from coordledger.client.opening import Surroundings
    from coordledger.git.process import Git
    from coordledger.git.repository import Repository

_OWN = "config.worktree"  # in a work tree's git folder
_MAINS = ("core.bare", "core.worktree")


def remember(around: Surroundings, remote: str, warn: Callable[[str], None] = unheard) -> str:
    """Write remote, agent, ledger and a key that was named to where commands in these
    surroundings look; that place.
    """
    settings, repository, git = around
    git.work_until(Deadline(settings.timeout))  # the first contact may have taken all of it
    chosen = {"remote": remote, "agent": settings.need_agent, "ledger": settings.ledger}
    chosen |= {"branch": settings.branch} if settings.branch else {}
    if settings.ssh_key not in (None, NEW):  # those that were made are found without a word
        chosen["sshKey"] = lasting(str(settings.ssh_key), settings.path)
    before = settings.configured_agent
    if repository is None:
        place = settings.config_dir / "config"
        files.make_folders(str(place.parent), 0o700)
        os.close(files.open_in(str(place.parent), place.name, os.O_WRONLY))  # its mode is kept
        where = ["--file", str(place)]
    elif _is_shared(settings, repository):
        place = _own_file(repository, git)
        where = ["--file", str(place)]
        if repository.git_dir != repository.common_dir:  # the shared name stays the others'
            before = git.run("config", *where, "--get", "coordledger.agent").out.strip()
    else:
        place, where = repository.git_dir, ["--local"]
    for name, value in chosen.items():
        git.output("config", *where, f"coordledger.{name}", value)
    if before and before != settings.agent:
        warn(f"commands here were {before}'s, and are {settings.agent}'s from now on")
    return str(place)


def _is_shared(settings: Settings, repository: Repository) -> bool:
    """Whether the clone's configuration speaks for another work tree or agent as well, or
    something of this work tree's own stands before it.
    """
    linked = repository.common_dir / "worktrees"
    return (
        (linked.is_dir() and any(linked.iterdir()))
        or settings.configured_agent not in (None, settings.agent)
        or (repository.git_dir / _OWN).exists()
    )


def _own_file(repository: Repository, git: Git) -> Path:
    """The file of this work tree's own configuration, which git is made to read.

    From then on each work tree reads what the shared one says of `core.bare` and `core.worktree`:
    where these are set, they become the main work tree's own (git-worktree(1)).
    """
    shared = ("config", "--file", str(repository.common_dir / "config"))
    if git.run(*shared, "--type=bool", "--get", "extensions.worktreeConfig").out.strip() != "true":
        given = {name: git.run(*shared, "--get", name).out.removesuffix("\n") for name in _MAINS}
        moved = {name: value for name, value in given.items() if value not in ("", "false")}
        mains = ("config", "--file", str(repository.common_dir / _OWN))
        for name, value in moved.items():
            git.output(*mains, name, value)
        git.output(*shared, "extensions.worktreeConfig", "true")
        for name in moved:
            git.output(*shared, "--unset-all", name)
    return repository.git_dir / _OWN
