"""Which paths a commit or a push is about to change, by their names in the repository.

Rules: git puts a NUL after each name, which may be any bytes: what is no UTF-8 are surrogates. A
rename is the removal of one name and the making of another, and both count. Of a merge counts what
it has from none of its parents. What the remote has already is not about to be changed, so a push
is compared with the places where its new history begins.

Nothing is decided here about whether it may be changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import error
from coordledger.hashes import LENGTHS, is_hex

if TYPE_CHECKING:
    from coordledger.git.process import Git, Ran
    from coordledger.git.repository import Repository

_AS_NAMES = ("-z", "--name-only", "--no-renames", "--ignore-submodules=none")


class Update(NamedTuple):
    """A ref that a push moves to the object `new`; the remote says that it has `old` there, "" if
    there is no such ref.
    """

    new: str
    old: str


def updates_in(told: bytes, codeless: tuple[str, ...]) -> list[Update]:
    """What git tells a pre-push hook on its standard input, a line for each ref:
    `<local ref> <local oid> <remote ref> <remote oid>`. Deletions, and refs whose names begin as
    one of the `codeless`, are left out. Raises `Failed`: bad-value.
    """
    found = []
    for line in told.decode("utf-8", "surrogateescape").split("\n"):
        if not line:
            continue
        _, *oids, ref, old = [*line.rsplit(" ", 3), "", "", ""][:4]
        new = "".join(oids)
        if not ref or not (_is_oid(new) and _is_oid(old)):
            raise error("bad-value", what="stdin", why="no line of those that git tells a pre-push")
        if new.strip("0"):
            found += updates_of(new, ref, old if old.strip("0") else "", codeless)
    return found


def updates_of(new: str, ref: str, old: str, codeless: tuple[str, ...]) -> list[Update]:
    """The update of one `ref` of the remote, unless that is `codeless`; `new` and `old` are names
    of objects as git takes them. Raises `Failed`: bad-value.
    """
    if not new or new.startswith("-"):
        raise error("bad-value", what="--push", why="nobody says what is pushed")
    return [] if ref.startswith(codeless) else [Update(new, old)]


def _is_oid(text: str) -> bool:
    return any(is_hex(text, length) for length in LENGTHS.values())


def staged(repository: Repository, index: str | None = None) -> list[str]:
    """What the next commit changes; `index` is git's own word for where it is being made ready
    (`GIT_INDEX_FILE`). Raises `Failed`: git-failed, no-git, timeout.
    """
    merged = repository.git_dir / "MERGE_HEAD"
    parents = merged.read_text("ascii").split() if merged.exists() else []
    environ = {"GIT_INDEX_FILE": index} if index else {}
    changed = [
        set(_names(_run(repository.git, "diff", "--cached", *_AS_NAMES, *of, **environ)))
        for of in ([], *([parent] for parent in parents))
    ]
    return sorted(set.intersection(*changed))


def pushed(repository: Repository, updates: list[Update], remote: str | None) -> list[str]:
    """What these updates change of what the remote, by its name, has.

    What it has is known by its word on each ref and by the refs that follow it here (any remote's,
    where none follow this one). Raises `Failed`: git-failed, no-git, timeout.
    """
    git = repository.git
    followed = "--remotes"
    if remote and _run(git, "for-each-ref", "--count=1", f"refs/remotes/{remote}/").out:
        followed = f"--remotes={remote}"
    known = [f"^{one.old}" for one in updates if one.old]
    names: set[str] = set()
    for tip in dict.fromkeys(one.new for one in updates):
        told = "\n".join([tip, *known, ""])
        asked = ("rev-list", "--boundary", "--ignore-missing", "--stdin", "--not", followed)
        lines = _run(git, *asked, stdin=told).out.split()
        commits = [line for line in lines if not line.startswith("-")]
        if commits:
            names.update(_changed(git, commits[0], [line[1:] for line in lines if line[0] == "-"]))
    return sorted(names)


def _changed(git: Git, tip: str, begin: list[str]) -> list[str]:
    """What differs at the commit `tip` from each of the commits at which its new history begins."""
    if not begin:
        return _names(_run(git, "ls-tree", "-r", "-z", "--name-only", "--full-tree", tip))
    asked = ("diff-tree", "--stdin", "--no-commit-id", "-c", "-r", *_AS_NAMES)
    return _names(_run(git, *asked, stdin=" ".join([tip, *begin]) + "\n"))


def _run(git: Git, *args: str, stdin: str | None = None, **environ: str) -> Ran:
    ran = git.run(*args, stdin=stdin, errors="surrogateescape", **environ)
    if ran.code:
        raise error("git-failed", why=ran.why())
    return ran


def _names(ran: Ran) -> list[str]:
    return [name for name in ran.out.split("\0") if name]
