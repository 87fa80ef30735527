"""git where a command runs, and what it is asked first, before the answers are needed.

Rules: git takes some milliseconds to say where the repository is and how it is configured; a
command imports meanwhile what it needs afterwards (`begin`). The questions are those that
`Repository.open` and `config.load` ask, which get an answer that nobody has asked for ahead when
they ask. Nothing is decided here, and this imports little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.config import GIT_CONFIG
from coordledger.deadline import Deadline
from coordledger.git.process import Git, child_environment
from coordledger.git.repository import WHERE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.client.config import Options


def git_at(options: Options, environ: Mapping[str, str]) -> Git:
    """Git in a directory, for repositories that are named in its arguments."""
    return Git(child_environment(environ), options.path, Deadline(options.timeout))


def begin(options: Options, environ: Mapping[str, str]) -> Git:
    """The same, and it has begun to look around: for `opening.surroundings`, which ends it."""
    git = git_at(options, environ)
    if "GIT_DIR" not in environ:  # else it is asked in the repository that this names
        git.begin(*WHERE)
        git.begin(*GIT_CONFIG)
    return git
