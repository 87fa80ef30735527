"""Installing the hooks into a bare repository, and finding out about those that are there.

Rules: there is no moment without a hook; a hook that was there is kept and runs first; nothing
else that exists is overwritten; every change is told. The secrets' folder is for the one account
that runs the pushes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger import files
from coordledger.errors import RuleBroken, error
from coordledger.format.names import FOR, LEDGERS
from coordledger.git.repository import open_bare
from coordledger.server.fence import PATHS, SUFFIX, is_pattern, read_fences
from coordledger.server.push_effects import mark_of
from coordledger.server.shims import HOOK, SEQUENCER, TRANSACTION, render

if TYPE_CHECKING:
    from coordledger.errors import CoordledgerError
    from coordledger.git.process import Git
    from coordledger.server.fence import Fences

CHAINED = "pre-receive.chained"
MARK = mark_of("pre-receive")
TRANSACTION_MARK = mark_of("reference-transaction")
OLDEST_TRANSACTION = (2, 28)  # that knows this hook
SEQUENCER_MARK = mark_of("proc-receive")
SEQUENCED = FOR.rstrip("/")
UNSEQUENCED = "coordledger.sequence"  # false in the repository where its owner has switched it off
OLDEST_GIT = (2, 29)  # that knows proc-receive
# Settings that make a busy ref cheap, to push to and to follow; `install_hook` tells which it has
# made. By the third one a copy gets commits without their trees, which it renders itself.
SETTINGS = {
    "receive.autogc": "false",
    "core.logAllRefUpdates": "true",
    "uploadpack.allowFilter": "true",
}
# Without it each push lists all refs once more, as those of the objects that its quarantine
# borrows from. Not where the repository borrows from another one indeed.
NO_ALTERNATES = {"core.alternateRefsCommand": "true"}


class Fence(NamedTuple):
    """Refs that are to move only with a land record of `ledger`; `anew`: those alone. `paths`:
    whether what others have reserved is refused there; None leaves that as it is.
    """

    ledger: str
    patterns: tuple[str, ...]
    anew: bool = False
    paths: bool | None = None


def install_hook(
    path: Path,
    git: Git,
    *,
    python: str = sys.executable,
    sequence: bool | None = None,
    fence: Fence | None = None,
) -> list[str]:
    """Put the hook into the bare repository at `path`; what was done, a line each.

    `sequence` switches sequencing on or off; None switches it on where it can be and its owner has
    not switched it off. `fence` None leaves the fence as it is. Raises `Failed`: not-a-repository,
    bad-value, no-git.
    """
    open_bare(path, git)
    unsequenced = _why_unsequenced(path, git)
    if sequence and unsequenced:
        raise unsequenced
    if sequence is None and not takes_sequenced(path, git):
        unsequenced = unsequenced or _why_not_unasked(path, git)
    if fence and (fence.patterns or fence.paths):
        _need_fencing(path, git, fence)
    interpreter = os.path.realpath(python)  # a version manager's shim takes 50 ms more
    return [  # in this order, each step on what the one before has done
        *_settle_hooks_path(path, git),
        *_put_hook(hook_path(path, git), MARK, interpreter),
        *_remove_strays(path, git),
        *_compile_for(interpreter),
        *_close_secrets(path / "coordledger"),
        *_make_pushes_cheap(path, git),
        *_forbid_shallow_pushes(path, git),
        *_switch_sequencing(path, git, interpreter, sequence, unsequenced),
        *_switch_fence(path, git, interpreter, fence),
    ]


def _in(path: Path) -> tuple[str, ...]:
    """Git's options for the repository at `path`; a bare one is named, as safe.bareRepository
    may want it.
    """
    return ("-C", str(path)) if (path / ".git").exists() else ("-C", str(path), "--git-dir=.")


def _settle_hooks_path(path: Path, git: Git) -> list[str]:
    asked = (*_in(path), "config", "--show-scope", "--get", "core.hooksPath")
    scope, _, elsewhere = git.run(*asked, hooks=None).out.strip().partition("\t")
    if not elsewhere:
        # On a path that many users push to, one user's own hooks path would hide this hook.
        git.output(*_in(path), "config", "core.hooksPath", "hooks")
        return ["set core.hooksPath=hooks"]
    if scope != "local":
        return [f"core.hooksPath is {scope}: every repository there has this hook now"]
    return []


def _put_hook(hook: Path, mark: str, python: str) -> list[str]:
    """Install the newest text; a hook of somebody else's is kept and runs first."""
    done = []
    hook.parent.mkdir(exist_ok=True)
    chained = hook.with_name(f"{hook.name}.chained")
    if hook.exists() and not _is_ours(hook, mark):
        if not chained.exists():
            chained.hardlink_to(hook)  # there is no moment without a hook
        elif not chained.samefile(hook):  # as where the disk was full the last time
            raise error("bad-value", what=str(chained), why="is there already: merge them by hand")
        done.append(f"kept the hook that was there as {chained}; it runs first")
    _write_hook(hook, python)
    return [*done, f"installed {hook}, run by {python}"]


def _remove_strays(path: Path, git: Git) -> list[str]:
    """Refs that were made while there was no hook: clients would take one for a rival."""
    done = []
    strays = git.output(*_in(path), "for-each-ref", "--format=%(refname)", f"{SEQUENCED}/")
    for ref in strays.split():
        git.output(*_in(path), "update-ref", "-d", ref)
        done.append(f"removed {ref}, which only a server without this hook could have made")
    return done


def _compile_for(python: str) -> list[str]:
    """Cache the bytecode of this package, as the account that runs the hook may not be able to."""
    import compileall  # noqa: PLC0415 - its import takes longer than what most commands do

    package = Path(__file__).parent.parent
    is_ours = python == os.path.realpath(sys.executable)
    if not is_ours or compileall.compile_dir(package, quiet=2):
        return []
    what = f"{python} -m compileall {package}"
    return [f"every push compiles the hook, until somebody who may write there runs: {what}"]


def _close_secrets(folder: Path) -> list[str]:
    folder.mkdir(mode=0o700, exist_ok=True)  # a ledger of SSH keys has no secret, but a mark
    if not folder.stat().st_mode & 0o077:
        return []
    folder.chmod(0o700)
    return [f"chmod 700 {folder}"]


def _make_pushes_cheap(path: Path, git: Git) -> list[str]:
    done = []
    borrows = (path / "objects" / "info" / "alternates").exists()
    for name, value in (SETTINGS if borrows else SETTINGS | NO_ALTERNATES).items():
        if not git.run(*_in(path), "config", "--get", name).out.strip():
            git.output(*_in(path), "config", name, value)
            done.append(f"set {name}={value}")
    return done


def _forbid_shallow_pushes(path: Path, git: Git) -> list[str]:
    if not takes_shallow(path, git):
        return []
    git.output(*_in(path), "config", "receive.shallowUpdate", "false")
    return ["set receive.shallowUpdate=false: a push could have cut the ledger's history"]


def _is_ours(hook: Path, mark: str) -> bool:
    return hook.exists() and mark in hook.read_text("utf-8", "replace")


def _write_hook(hook: Path, python: str) -> None:
    """Put the newest text of the hook that `hook` names there."""
    files.replace(str(hook), render(hook.name, python), f"{hook}.{os.getpid()}.new", mode=0o755)


def _why_unsequenced(path: Path, git: Git) -> CoordledgerError | None:
    """What is in the way of sequencing: no-git if git is too old, bad-value if the hook's place is
    taken.
    """
    numbers, printed = git.version()
    if numbers < OLDEST_GIT:
        return error("no-git", why=f"{printed} knows no proc-receive hook, 2.29 does")
    hook = hook_path(path, git, SEQUENCER)
    if hook.exists() and not _is_ours(hook, SEQUENCER_MARK):
        return error("bad-value", what=str(hook), why="is there already: git runs only one")
    return None


def _why_not_unasked(path: Path, git: Git) -> CoordledgerError | None:
    """What only the repository's owner can decide."""
    hook = hook_path(path, git, "update")
    if not hook.exists():
        return None
    why = "git runs it for no record in sequence; --sequence if that may be so"
    return error("bad-value", what=str(hook), why=why)


def _switch_sequencing(
    path: Path, git: Git, python: str, sequence: bool | None, unsequenced: CoordledgerError | None
) -> list[str]:
    """Switch it on or off, or on unless that is not wanted or `unsequenced` is in the way."""
    asked = ("config", "--local", "--type=bool", "--get", UNSEQUENCED)
    refused = git.run(*_in(path), *asked).out.strip() == "false"
    if sequence is False or (sequence is None and refused):
        return _stop_sequencing(path, git, anew=not refused)
    if unsequenced:
        return [f"not sequenced: {unsequenced.message}"]
    hook, done = hook_path(path, git, SEQUENCER), []
    if refused:
        git.output(*_in(path), "config", "--local", "--unset-all", UNSEQUENCED)
        done.append(f"unset {UNSEQUENCED}")
    _write_hook(hook, python)
    done.append(f"installed {hook}, run by {python}")
    if not takes_sequenced(path, git):
        every = ("receive.procReceiveRefs", SEQUENCED)
        git.output(*_in(path), "config", "--local", "--add", *every)
        done.append(f"set receive.procReceiveRefs={SEQUENCED}: records land in the order they come")
    return done


def _stop_sequencing(path: Path, git: Git, *, anew: bool) -> list[str]:
    hook, done = hook_path(path, git, SEQUENCER), []
    if anew:  # so that the next `hook install` leaves it off
        git.output(*_in(path), "config", "--local", UNSEQUENCED, "false")
        done.append(f"set {UNSEQUENCED}=false")
    if takes_sequenced(path, git):
        every = ("receive.procReceiveRefs", f"^{SEQUENCED}$")
        git.output(*_in(path), "config", "--local", "--unset-all", *every)
        done.append(f"unset receive.procReceiveRefs={SEQUENCED}: pushes there are refused")
    if _is_ours(hook, SEQUENCER_MARK):
        hook.unlink()
        done.append(f"removed {hook}")
    return done


def _need_fencing(path: Path, git: Git, fence: Fence) -> None:
    """Raises `Failed`: no-git if git is too old, bad-value where a fence would have a gap."""
    numbers, printed = git.version()
    if numbers < OLDEST_TRANSACTION:
        raise error("no-git", why=f"{printed} knows no reference-transaction hook, 2.28 does")
    for pattern in fence.patterns:
        if not is_pattern(pattern):
            why = f"{pattern!a} is no ref after {LEDGERS}, nor the beginning of one and a *"
            raise error("bad-value", what="--fence", why=why)
    if not (fence.patterns or (not fence.anew and fence.ledger in fences(path).patterns)):
        raise error(
            "bad-value",
            what="--fence-paths",
            why="goes with --fence: only a push there says under which claim it comes",
        )
    for name, value, why in (
        ("core.ignoreCase", "true", "a ref in other letters would be the same file"),
        ("receive.advertiseAtomic", "false", "no push could move the ledger with the code"),
    ):
        asked = ("config", "--type=bool", "--get", name)
        if git.run(*_in(path), *asked).out.strip() == value:
            raise error("bad-value", what="--fence", why=f"{name} is {value} there: {why}")


def fences(path: Path) -> Fences:
    """What is fenced in the repository at `path`. Raises `Failed`: hook-broken."""
    try:
        return read_fences(str(path / "coordledger"))
    except RuleBroken as broken:
        raise broken.own() from None
    except OSError as fault:
        raise error("hook-broken", why=fault) from None


def _switch_fence(path: Path, git: Git, python: str, fence: Fence | None) -> list[str]:
    """Fence more refs, or none any more, and keep the hook that this needs up to date."""
    done: list[str] = []
    there = fences(path).patterns
    if fence is not None:
        file = path / "coordledger" / f"{fence.ledger}{SUFFIX}"
        before = there.pop(fence.ledger, [])
        after = sorted({*(() if fence.anew else before), *fence.patterns})
        if after:
            there[fence.ledger] = after
    hook = hook_path(path, git, TRANSACTION)
    ours = _is_ours(hook, TRANSACTION_MARK)
    if there:  # the hook is there before the fence that needs it, and goes after it
        done += _put_hook(hook, TRANSACTION_MARK, python)
    if fence is not None and after != before:
        if after:
            content = "".join(f"{pattern}\n" for pattern in after).encode("ascii")
            files.replace(str(file), content, f"{file}.{os.getpid()}.new", mode=0o600, durable=True)
        else:
            file.unlink()
        done += [f"no longer fenced: {ref}" for ref in before if ref not in after]
        done += [f"fenced by ledger {fence.ledger}: {ref}" for ref in after if ref not in before]
    if fence is not None:
        done += _switch_paths(path, fence, fenced=bool(after))
    if ours and not there:
        chained = hook.with_name(f"{hook.name}.chained")
        if chained.exists():
            chained.replace(hook)
            done.append(f"put the hook that was there back as {hook}")
        else:
            hook.unlink()
            done.append(f"removed {hook}")
    return done


def _switch_paths(path: Path, fence: Fence, *, fenced: bool) -> list[str]:
    """Fence what others have reserved, or no longer: without fenced refs there is nothing to."""
    file = path / "coordledger" / f"{fence.ledger}{PATHS}"
    before = file.exists()
    after = fenced and (before if fence.paths is None else fence.paths)
    if after and not before:
        files.replace(str(file), b"", f"{file}.{os.getpid()}.new", mode=0o600, durable=True)
        return [f"fenced by ledger {fence.ledger}: the paths that others have reserved"]
    if before and not after:
        file.unlink()
        return ["no longer fenced: the paths that others have reserved"]
    return []


def takes_sequenced(path: Path, git: Git) -> bool:
    """Whether records that are pushed to `refs/for/` there are handed to the sequencer."""
    asked = ("config", "--local", "--get-all", "receive.procReceiveRefs")
    return SEQUENCED in git.run(*_in(path), *asked).out.split()


def takes_shallow(path: Path, git: Git) -> bool:
    """Whether a push may declare commits parentless there: then no fetch would reach below."""
    asked = ("config", "--type=bool", "--get", "receive.shallowUpdate")
    return git.run(*_in(path), *asked).out.strip() == "true"


def settles_filters(path: Path, git: Git) -> bool:
    """Whether somebody has said there if copies may leave trees out; git's own default is no."""
    return bool(git.run(*_in(path), "config", "--get", "uploadpack.allowFilter").out.strip())


def hook_path(path: Path, git: Git, name: str = HOOK) -> Path:
    """Where git looks for the hook when somebody pushes to `path`: follows core.hooksPath."""
    asked = (*_in(path), "rev-parse", "--git-path", "hooks")
    return path / git.run(*asked, hooks=None).out.strip() / name


def asks_resident(path: Path, git: Git) -> bool:
    """Whether the hook at `path` asks `coordledger serve`: older ones do not."""
    hook = hook_path(path, git)
    return hook.exists() and "coordledger/socket" in hook.read_text("utf-8", "replace")
