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
from typing import TYPE_CHECKING, NamedTuple

import coordledger
from coordledger import files
from coordledger.format.names import FOR, LEDGERS
from coordledger.server.shims import HOOK, TRANSACTION, is_ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from coordledger.git.process import Git

    Facts = tuple[int, ...] | None

PACKAGE = coordledger.__file__
TOGGLES = frozenset(("true", "false", "yes", "no", "on", "off", "1", "0", ""))
NO = frozenset(("false", "no", "off", "0"))
ANY: frozenset[str] = frozenset()

# Settings of the sections that git's server programs read, and the values with which a push of
# records does what it does without them.
_UNDERSTOOD: dict[str, frozenset[str]] = {
    "core.repositoryformatversion": frozenset(("0", "1")),
    "core.bare": frozenset(("true",)),
    "core.hookspath": frozenset(("hooks",)),
    "core.alternaterefscommand": frozenset(("true",)),  # the program
    "core.sharedrepository": NO | {"umask"},
    "core.logallrefupdates": TOGGLES,  # not `always`: then git writes the reflog
    "extensions.objectformat": frozenset(("sha1", "sha256")),
    "receive.autogc": NO,
    "receive.fsckobjects": NO,
    "transfer.fsckobjects": NO,
    "receive.maxinputsize": frozenset(("0",)),
    "receive.procreceiverefs": frozenset((FOR.rstrip("/"),)),
    "receive.shallowupdate": NO,
    "receive.updateserverinfo": NO,
} | dict.fromkeys(
    (
        *("receive.advertiseatomic", "receive.advertisepushoptions", "receive.denycurrentbranch"),
        *("receive.denydeletecurrent", "receive.denydeletes", "receive.denynonfastforwards"),
        *("receive.keepalive", "receive.unpacklimit", "transfer.unpacklimit"),
        *("transfer.advertisesid", "transfer.credentialsinurl"),
        *("core.abbrev", "core.askpass", "core.attributesfile", "core.autocrlf"),
        *("core.bigfilethreshold", "core.commentchar", "core.commitgraph", "core.compression"),
        *("core.createobject", "core.deltabasecachelimit", "core.editor", "core.eol"),
        *("core.excludesfile", "core.filemode", "core.filesreflocktimeout", "core.fsmonitor"),
        *("core.fsync", "core.fsyncmethod", "core.fsyncobjectfiles", "core.gitproxy"),
        *("core.ignorecase", "core.loosecompression", "core.multipackindex"),
        *("core.packedgitlimit", "core.packedgitwindowsize", "core.packedrefstimeout"),
        *("core.pager", "core.precomposeunicode", "core.preloadindex", "core.protecthfs"),
        *("core.protectntfs", "core.quotepath", "core.safecrlf", "core.sshcommand"),
        *("core.symlinks", "core.trustctime", "core.untrackedcache", "core.warnambiguousrefs"),
        "core.whitespace",
    ),
    ANY,
)
_LISTS = ("receive.procreceiverefs",)  # all values count, of others the last one
_NEEDED = ("core.bare", "receive.autogc")  # without them git has another value in mind
# git's server programs read these, and sections of their own for hooks; of others they read nothing
# that matters here.
_SECTIONS = ("core.", "extensions.", "fsck.", "hook.", "receive.", "transfer.")
# Where the repository would be another's part, keep its refs in another way, or borrow objects.
_ODD_FILES = (
    *(".git", "commondir", "config.worktree", "reftable", "shallow", "info/grafts"),
    *("objects/info/alternates", "objects/info/http-alternates"),
)
# Nobody but this account may write what is in there, or is there.
_OWN = (
    *("", "HEAD", "config", "hooks", f"hooks/{HOOK}", "objects", "objects/pack", "refs"),
    *("refs/coordledger", "coordledger"),
)
# The hooks that a push would start, beside these two of ours.
_OTHERS = (
    *("update", "post-receive", "post-update", "pre-auto-gc", f"{HOOK}.chained"),
    f"{TRANSACTION}.chained",
)
_SYSTEM_WIDE = ("/etc/gitconfig", "/usr/etc/gitconfig", "/usr/local/etc/gitconfig")


class Finding(NamedTuple):
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
    paths = tuple(_watched(git_dir, environ))
    before = stamp(paths)
    try:
        why = _why_not_by_files(git_dir)
    except OSError as fault:
        why = str(fault)
    if files.facts(PACKAGE) != loaded:
        why = "coordledger was updated since this process began"
    if why:
        return Finding(why, paths, before)
    asked = ("--git-dir=.", "config", "--null", "--show-origin", "--list")
    ran = git.run(*asked, hooks=None)
    if ran.code:
        return Finding(f"git cannot read its configuration: {ran.why()}", paths, before)
    why, origins = _why_not_by_settings(ran.out)
    more = tuple(os.path.join(git_dir, path) for path in origins)  # noqa: PTH118 - may be absolute
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
    hooks = (HOOK, TRANSACTION, *_OTHERS)
    paths = [f"{git_dir}/{name}" for name in (*_OWN, *_ODD_FILES, *(f"hooks/{h}" for h in hooks))]
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
    for name in _ODD_FILES:
        if os.path.lexists(f"{git_dir}/{name}"):
            return f"there is {name}"
    with open(f"{git_dir}/HEAD", "rb") as file:  # noqa: PTH123 - a string
        if LEDGERS.encode() in file.read(1024):
            return "HEAD is a ledger"
    return _why_not_by_hooks(f"{git_dir}/hooks")


def _why_not_by_hooks(folder: str) -> str:
    for name in _OTHERS:
        if os.path.lexists(f"{folder}/{name}"):
            return f"there is a hook {name}"
    if not os.access(f"{folder}/{HOOK}", os.X_OK) or not is_ours(folder, HOOK):
        return f"its hook {HOOK} is not this version's: coordledger hook install"
    if os.path.lexists(f"{folder}/{TRANSACTION}") and not is_ours(folder, TRANSACTION):
        return f"its hook {TRANSACTION} is not this version's: coordledger hook install"
    return ""


def _why_not_by_settings(listed: str) -> tuple[str, list[str]]:
    """And the files that they come from. `listed` has origins, then names and values, a NUL after
    each.
    """
    parts = listed.split("\0")
    origins = list(dict.fromkeys(origin.partition(":")[2] for origin in parts[:-1:2]))
    values: dict[str, list[str]] = {}
    for entry in parts[1::2]:
        name, has_value, value = entry.partition("\n")
        values.setdefault(name, []).append(value if has_value else "true")
    for name, given in values.items():
        if name.startswith(("include.", "includeif.")):
            return f"git's configuration includes other files ({name})", origins
        if not name.startswith(_SECTIONS):
            continue
        good = _UNDERSTOOD.get(name)
        for value in given if name in _LISTS else given[-1:]:
            is_good = good and (value in good or value.lower() in good & TOGGLES)
            if good is None or (good and not is_good):
                return f"{name} is {value}", origins
    missing = [name for name in _NEEDED if name not in values]
    return f"{missing[0]} is not set" if missing else "", origins
