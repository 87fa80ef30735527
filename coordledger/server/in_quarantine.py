"""Land what is pushed to refs/for/coordledger/* while git keeps the push in quarantine.

Where git would start nothing but the hook proc-receive after this one, that hook need not start:
the records land here, as they would there, and the push is then answered as one of records that
are in the ledger already (docs/format.md, section 10). git refuses it, so nobody is told of its
refs, and what it brought goes with the quarantine: envelopes, and whatever came with them.

Rules of this file:
- It is for who pushes to `….answered`, and reads the answer instead of git's word of the ref.
- It is for a push of nothing but records of one ledger, in a repository of which `push_effects`
  knows that nothing else would happen. That is asked before the turn comes, and looked at again
  before the ref moves. Else nothing is done: the push goes on, through `arrival` and proc-receive.
- Records come out of the quarantine as signed bytes. All that is written is rendered anew, on the
  head that the ledger has in its turn, into the repository's own objects.
- What is started here knows nothing of the quarantine.

`sequencer` verifies, decides and lands.
"""

from __future__ import annotations

import posix

from coordledger import files
from coordledger.answers import Unknown
from coordledger.errors import RuleBroken
from coordledger.format.names import ANSWERED, ledger_for
from coordledger.git import spawn
from coordledger.git.loose import Reader
from coordledger.git.refs import parse_update
from coordledger.server import push_effects
from coordledger.server.sequencer import HandedOn, Sequencer, land_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.answers import Answer
    from coordledger.format.signing import Keyring

# What names the quarantine; and what `git config` reads, and git's server programs do not.
_INSIDE = (
    *("GIT_QUARANTINE_PATH", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    "GIT_CONFIG",
)
_TRANSACTION = "hooks/reference-transaction"
_OURS = ("pre-receive", "proc-receive")
# Folders may be links: what they lead to counts.
_WATCHED = (".", "config", "hooks/.", "info/.", "objects/info/.", _TRANSACTION)


def records_alone(pushed: bytes) -> tuple[str, str] | None:
    """The ledger and the newest commit of a push that brings records of one ledger to be sequenced,
    and does nothing else; None of any other.
    """
    try:
        _, new, ref = parse_update(pushed.removesuffix(b"\n").decode("ascii"))
    except (RuleBroken, ValueError):
        return None
    name = ledger_for(ref) if ref.endswith(ANSWERED) else ""
    return (name, new) if name and new.strip("0") else None


def outside(environ: dict[str, str]) -> dict[str, str]:
    """The environment of the repository that a push came to, without the push's quarantine."""
    return {name: value for name, value in environ.items() if name not in _INSIDE}


def land(
    name: str,
    new: str,
    pushed: Reader,
    keyring: Keyring,
    max_gap: Callable[[dict[str, str]], int],
) -> list[Answer] | None:
    """Land the records up to `new` in the ledger called `name`: the answers that end the push. None
    if nothing was done. `pushed` sees the quarantine.
    """
    environ = outside(pushed.environ)
    git_dir = environ.get("GIT_DIR", ".")
    watched = [f"{git_dir}/{path}" for path in _WATCHED]
    before = list(map(files.facts, watched))
    why, read = _why_not(git_dir, environ) if may_replace(git_dir, pushed.environ) else ("odd", [])
    if why:
        return None
    watched += read
    before += map(files.facts, read)

    def need_same() -> None:
        if list(map(files.facts, watched)) != before:
            raise HandedOn

    with Reader(environ) as objects:
        sequencer = Sequencer(name, environ, max_gap).use(objects, keyring, plain=True)
        try:
            ended = land_alone(new, lambda: sequencer, pushed=pushed, ready=need_same)
        except HandedOn:
            return None
    return [ended] if isinstance(ended, Unknown) else ended.answers


def may_replace(git_dir: str, environ: dict[str, str]) -> bool:
    """Whether git starts our hooks, and not somebody's who starts ours; and the objects that the
    push stands on are the repository's own, where they belong.
    """
    try:
        there = posix.stat(environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", ""))
        here = posix.stat(f"{git_dir}/objects")
        are_ours = all(_begins_as_ours(git_dir, name) for name in _OURS)
    except OSError:  # more than one folder, or a quoted one
        return False
    return are_ours and (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _begins_as_ours(git_dir: str, name: str) -> bool:
    begin = f"#!/bin/sh\n{push_effects.mark_of(name)}".encode("ascii")
    with open(f"{git_dir}/hooks/{name}", "rb", buffering=0) as file:  # noqa: PTH123
        return file.read(len(begin)) == begin


def _why_not(git_dir: str, environ: dict[str, str]) -> tuple[str, list[str]]:
    """What git would do beside, or ""; and the files of settings that it reads."""
    why = push_effects.why_not_by_files(git_dir)
    if not why and posix.access(f"{git_dir}/{_TRANSACTION}", posix.F_OK):
        from coordledger.server.shims import is_ours  # noqa: PLC0415 - 5 ms, where refs are fenced

        ours = is_ours(f"{git_dir}/hooks", "reference-transaction")
        why = "" if ours else f"there is a hook {_TRANSACTION}"
    if why:
        return why, []
    status, listed = spawn.run([*push_effects.ASKED], environ)
    if status:
        return "git cannot read its configuration", []
    why, read = push_effects.why_not_by_settings(listed.decode("utf-8", "surrogateescape"))
    return why, [path if path.startswith("/") else f"{git_dir}/{path}" for path in read]
