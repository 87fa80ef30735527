"""Try out a repository's hook, before anybody is told that the server enforces a ledger.

Rules of this file: what counts is a push through git's own program, which the hook has to refuse
in its own words. Files and modes are only looked at to say why it did not. What lands is deleted.
"""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING, NamedTuple

from coordledger.client import tries
from coordledger.format.names import TRIES
from coordledger.git import receive_pack
from coordledger.git.outcome import WON
from coordledger.git.repository import open_bare
from coordledger.git.tree import object_id
from coordledger.setup import hooks

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.git.process import Git

BROKEN = "hook-broken"  # the words of a hook whose Python does not start


class Tried(NamedTuple):
    """`enforcement`: server, none (pushes land unseen) or unknown (they are refused, but not by
    the verification); where it is not server, `why`, and what to `do`.
    """

    enforcement: str
    why: str = ""
    do: str = ""


def try_hook(path: Path, git: Git) -> Tried:
    """Push what is no record to the repository at `path`. Raises `Failed`: not-a-repository, …"""
    repository = open_bare(path, git)
    oid = object_id("blob", b"", repository.algo)
    payload = tries.payload(repository, {oid: ("blob", b"")})
    ref = f"{TRIES}of-the-hook"
    push = receive_pack.push(git, str(path), ref, repository.ref(ref), oid, payload)
    if push.outcome == WON:
        repository.set_ref(ref, None)
        why, do = _why_idle(path, hooks.hook_path(path, git))
        return Tried("none", why, do)
    if push.code and push.code != BROKEN:
        return Tried("server")
    hook = hooks.hook_path(path, git)
    why = push.why or push.outcome
    if push.code == BROKEN:
        return Tried("unknown", f"the hook refuses every push: {why}", _install(path))
    chained = hook.with_name(hooks.CHAINED)
    do = f"look at {chained}, which runs first" if chained.exists() else "push to it by hand to see"
    return Tried("unknown", f"the hook was not heard: {why}", do)


def _why_idle(path: Path, hook: Path) -> tuple[str, str]:
    """Why git did not run the hook, and what to do."""
    if problem := unusable(path, hook):
        return problem
    return (
        f"git does not run the hook at {hook}",
        f"git -C {shlex.quote(str(path))} config core.hooksPath",
    )


def unusable(path: Path, hook: Path) -> tuple[str, str] | None:
    """What keeps git from running the hook, and what to do; None if its file looks right."""
    if not hook.exists():
        return f"no hook at {hook}", _install(path)
    if not hook.stat().st_mode & stat.S_IXUSR:
        return f"{hook} is not executable", f"chmod +x {shlex.quote(str(hook))}"
    if not os.access(hook, os.X_OK):
        there = f"git -C {shlex.quote(str(path))} config core.hooksPath /FOLDER/ELSEWHERE"
        do = f"mount it with exec, or: {there}, and hook install again"
        return f"{hook} cannot be executed: its file system is mounted noexec", do
    if hooks.MARK not in hook.read_text("utf-8", "replace"):
        return f"{hook} is not coordledger's", _install(path)
    return None


def _install(path: Path) -> str:
    return f"coordledger hook install {shlex.quote(str(path))}"
