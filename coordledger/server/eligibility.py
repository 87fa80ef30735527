"""Whether a push to a repository of this machine would do nothing but what `receiver` does itself.

Rules of this file:
- `why_not` says what stands against it; "" is a yes. Only what is known to be harmless passes: a
  setting, a hook or a file that this version does not know is a reason to push.
- It is asked of git's whole configuration as `git receive-pack` would see it, and of every place
  where git looks for what it starts on a push.
- The repository, its hooks, settings and secrets are this account's, and no other can write them:
  then a push would run as this account as well, and see the same.
- The hook there has to be this very package's. Another version verifies by other rules.
- An answer holds as long as `stamp` is the same: what it was found by has not changed.

It changes nothing, and says nothing of the records: `receiver` verifies them.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import coordledger
from coordledger import files
from coordledger.server.push_effects import (
    ASKED,
    ODD_FILES,
    OTHERS,
    why_not_by_files,
    why_not_by_settings,
)
from coordledger.server.shims import HOOK, TRANSACTION, is_ours
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordledger.deadline import Deadline
    from coordledger.git.process import Git

    Facts = tuple[int, ...] | None

PACKAGE = coordledger.__file__
# Nobody but this account may write what is in there, or is there.
_OWN = (
    *("", "HEAD", "config", "hooks", f"hooks/{HOOK}", "objects", "objects/pack", "refs"),
    *("refs/coordledger", "coordledger"),
)
_SYSTEM_WIDE = ("/etc/gitconfig", "/usr/etc/gitconfig", "/usr/local/etc/gitconfig")


class Finding(Value):
    """`why` not, or ""; it holds while the files at `paths` have the same `stamp`."""

    why: str
    paths: tuple[str, ...]
    stamp: tuple[Facts, ...]

    @property
    def holds(self) -> bool:
        return stamp(self.paths) == self.stamp


def find(git_dir: str, environ: Mapping[str, str], git: Git, loaded: Facts) -> Finding:
    """Ask it of the repository at `git_dir`; `git` runs there. `loaded`: the facts of PACKAGE when
    this process began. Raises `Failed`: no-git, timeout.
    """
    return Question(git_dir, environ, git, loaded).answer(git.deadline)


class Question:
    """As `find`, where the answer is not needed at once: git is at it meanwhile."""

    def __init__(self, git_dir: str, environ: Mapping[str, str], git: Git, loaded: Facts) -> None:
        self._git_dir, self._git, self._loaded = git_dir, git, loaded
        self._paths = tuple(_watched(git_dir, environ))
        self._stamp = stamp(self._paths)  # before git reads them
        git.begin("--git-dir=.", *ASKED, hooks=None)

    def answer(self, deadline: Deadline) -> Finding:
        """Raises `Failed`: no-git, timeout."""
        with self._git as git:
            git.work_until(deadline)
            return self._find(git)

    def close(self) -> None:
        """Nobody wants the answer."""
        with self._git:
            pass

    def _find(self, git: Git) -> Finding:
        paths, before = self._paths, self._stamp
        try:
            why = _why_not_by_files(self._git_dir)
        except OSError as fault:
            why = str(fault)
        if files.facts(PACKAGE) != self._loaded:
            why = "coordledger was updated since this process began"
        if why:
            return Finding(why, paths, before)
        ran = git.run("--git-dir=.", *ASKED, hooks=None)
        if ran.code:
            return Finding(f"git cannot read its configuration: {ran.why()}", paths, before)
        why, origins = why_not_by_settings(ran.out)
        more = tuple(os.path.join(self._git_dir, path) for path in origins)  # noqa: PTH118 - may be absolute
        return Finding(why, paths + more, before + stamp(more))


def stamp(paths: Iterable[str]) -> tuple[Facts, ...]:
    """What is another once one of these files has been changed, replaced, made or removed."""
    return tuple(map(_facts, paths))


def _facts(path: str) -> Facts:
    """As `files.facts`; of a folder, to which others add all the time, whose it is, and which one.
    Names in it that matter are asked for by themselves. Of a link, what it leads to, too.
    """
    found = files.facts(path)
    if found and stat.S_ISLNK(found[2]):
        return (*found, *(files.facts(os.path.realpath(path)) or ()))
    if found and stat.S_ISDIR(found[2]) and not path.endswith("/hooks"):
        return found[:4]
    return found


def _watched(git_dir: str, environ: Mapping[str, str]) -> list[str]:
    hooks = (HOOK, TRANSACTION, *OTHERS)
    paths = [f"{git_dir}/{name}" for name in (*_OWN, *ODD_FILES, *(f"hooks/{h}" for h in hooks))]
    home = environ.get("HOME", "")
    above = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    named = [environ.get("GIT_CONFIG_GLOBAL", ""), environ.get("GIT_CONFIG_SYSTEM", "")]
    return [
        PACKAGE,
        *paths,
        f"{home}/.gitconfig",
        f"{above}/git/config",
        *_SYSTEM_WIDE,
        *filter(None, named),
    ]


def _why_not_by_files(git_dir: str) -> str:
    me = os.geteuid()
    if os.getuid() != me:
        return "this process runs as another user than it was started by"
    for name in _OWN:
        path = f"{git_dir}/{name}".rstrip("/")
        try:
            found = os.lstat(path)
        except OSError:
            return f"there is no {path}"
        if stat.S_ISLNK(found.st_mode):
            return f"{path} is a link"
        if found.st_uid != me:
            return f"{path} is another account's"
        if found.st_mode & 0o022:
            return f"others may write {path}"
    why = why_not_by_files(git_dir)
    if why:
        return why
    return _why_not_by_hooks(f"{git_dir}/hooks")


def _why_not_by_hooks(folder: str) -> str:
    if not os.access(f"{folder}/{HOOK}", os.X_OK) or not is_ours(folder, HOOK):
        return f"its hook {HOOK} is not this version's: coordledger hook install"
    if os.path.lexists(f"{folder}/{TRANSACTION}") and not is_ours(folder, TRANSACTION):
        return f"its hook {TRANSACTION} is not this version's: coordledger hook install"
    return ""
