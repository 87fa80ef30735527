"""What a push to a ledger may do in a repository beside what our hooks do: hooks of others,
settings of git's, a repository that is kept in another way.

Rules of this file:
- Only what is known to be harmless passes: a setting, a hook or a file that this version does not
  know is a reason against. "" is the word for none.
- It is asked of git's whole configuration as `git receive-pack` would see it, and of every place
  where git looks for what it starts on a push.
- A hook imports it.

What follows from an answer is its readers' affair: `in_quarantine`, `eligibility`.
"""

from __future__ import annotations

import posix

from coordledger.format.names import FOR, LEDGERS

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
ODD_FILES = (
    *(".git", "commondir", "config.worktree", "reftable", "shallow", "info/grafts"),
    *("objects/info/alternates", "objects/info/http-alternates"),
)
# The hooks that a push would start, beside ours.
OTHERS = (
    *("update", "post-receive", "post-update", "pre-auto-gc", "pre-receive.chained"),
    "reference-transaction.chained",
)

_LONGEST = 4096  # bytes of HEAD: git keeps a reflog of it, whatever ref it is


def mark_of(hook: str) -> str:
    """How the second line of our hook of that name begins."""
    return f"# coordledger {hook}:"


# What asks git for its configuration, in the form that `why_not_by_settings` reads.
ASKED = ("config", "--null", "--show-origin", "--list")


def why_not_by_files(git_dir: str) -> str:
    """Whether git would look for something else there, or start somebody else's hook."""
    for name in ODD_FILES:
        if _is_there(f"{git_dir}/{name}"):
            return f"there is {name}"
    for name in OTHERS:
        if _is_there(f"{git_dir}/hooks/{name}"):
            return f"there is a hook {name}"
    try:
        with open(f"{git_dir}/HEAD", "rb") as file:  # noqa: PTH123
            return "HEAD is a ledger" if LEDGERS.encode() in file.read(_LONGEST) else ""
    except OSError:
        return "HEAD cannot be read"


def _is_there(path: str) -> bool:
    try:
        posix.lstat(path)
    except FileNotFoundError:
        return False
    except OSError:  # as where a file is on the way: it is not known
        pass
    return True


def why_not_by_settings(listed: str) -> tuple[str, list[str]]:
    """And the files that they come from. `listed` is git's answer to ASKED: origins, then names and
    values, a NUL after each.
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
