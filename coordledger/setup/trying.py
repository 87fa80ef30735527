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
from coordledger.format.names import LEDGERS, TRIES
from coordledger.git import pktline, receive_pack
from coordledger.git.outcome import WON
from coordledger.git.repository import open_bare
from coordledger.git.tree import object_id
from coordledger.server.shims import TRANSACTION
from coordledger.setup import hooks

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.git.process import Git
    from coordledger.git.repository import Repository

BROKEN = "hook-broken"  # the words of a hook whose Python does not start


class Tried(NamedTuple):
    """`enforcement`: server, none (pushes land unseen) or unknown (they are refused, but not by
    the verification); where it is not server, `why`, and what to `do`.
    """

    enforcement: str
    why: str = ""
    do: str = ""


class TriedFence(NamedTuple):
    """What a ledger fences, `paths` of others too or not; where that is not in force, `why`."""

    ledger: str
    patterns: tuple[str, ...]
    paths: bool
    why: str = ""

    @property
    def shown(self) -> str:
        """What it fences, in words."""
        return " ".join([*self.patterns, *(["and paths of others"] if self.paths else [])])


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


def try_fences(path: Path, git: Git) -> list[TriedFence]:
    """Try to move a fenced ref of each ledger in the repository at `path`, once by a push and once
    in a transaction of git's own: both have to be refused. None can happen: the push says a value
    that the ref has not, and git takes the transaction back. Raises `Failed`: hook-broken, …
    """
    repository = open_bare(path, git)
    fenced = hooks.fences(path)
    return [
        TriedFence(
            ledger,
            tuple(patterns),
            ledger in fenced.paths,
            _gap(path, git, repository, ledger, patterns[0]),
        )
        for ledger, patterns in fenced.patterns.items()
    ]


def _gap(path: Path, git: Git, repository: Repository, ledger: str, pattern: str) -> str:
    """Why a fenced ref could move without a record; "" if it cannot."""
    ref = f"{pattern[:-1]}coordledger-try" if pattern.endswith("*") else pattern
    made_up, oid = (object_id("blob", text, repository.algo) for text in (b"was\n", b"try\n"))
    command = f"{made_up} {oid} {ref}\0report-status object-format={repository.algo}"
    pack = repository.pack({oid: ("blob", b"try\n")})
    pushed = pktline.encode(command.encode()) + pktline.FLUSH + pack
    ran = git.run("receive-pack", str(path), hooks=None, stdin=pushed)
    if "coordledger: refused -: fenced: " not in ran.err:
        return f"a push of {ref} was not refused for the fence: {ran.why() or 'it was let in'}"
    head, now = repository.ref(LEDGERS + ledger), repository.ref(ref)
    if head is None:
        return f"there is no ledger {ledger}: nothing can move {ref}"
    words = f"start\nupdate {ref} {head} {now or '0' * len(head)}\nprepare\nabort\n"
    where = ("-C", str(path), "--git-dir=.")
    ran = git.run(*where, "update-ref", "--stdin", hooks=None, stdin=words)
    if "coordledger: refused -: not-together: " in ran.err:
        return ""
    return f"git does not run the hook {hooks.hook_path(path, git, TRANSACTION)}: {ran.why()}"


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
