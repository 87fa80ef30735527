"""Pack what pushes have left loose, so that fetches find packs: now and then.

Rules: for records that the sequencer has landed, in a hook, the resident process, or a process that
takes the server's part; beside the pushes and never in their way: nothing waits for it, and what
becomes of it is git's business. The repository's owner switches it off as git's own upkeep: `git
config maintenance.auto false`. Ordinary pushes start none.

- After every COMMITS records their commits become a pack: who follows the ledger asks for no
  more. They are not compared with each other, which takes as long again, and stay loose, too.
- After every EVERY records it is git's own upkeep (git-maintenance(1), which keeps a lock of its
  own, and removes a loose object only once it is in a pack): it packs the rest, and makes one
  pack of many.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVERY = 512  # records: some 2,600 loose objects
COMMITS = 64
# A shell that ends at once: the hook's own output must be closed before git goes on.
_RUN = """{
	[ "$(git config --type=bool maintenance.auto)" = false ] || %s
} < /dev/null > /dev/null 2>&1 &"""
_ALL = "exec nice git maintenance run --quiet --task=loose-objects --task=incremental-repack"
_OF_COMMITS = """git rev-list --max-count="$2" "$1" |
		nice git pack-objects -q --window=0 --threads=1 "${GIT_DIR:-.}/objects/pack/pack" """


def start_if_due(old: int, new: int, head: str, environ: Mapping[str, str]) -> bool:
    """Start it if one of the records after seq `old`, up to `new` with the commit `head`, is the
    one; whether it is.
    """
    if old // COMMITS == new // COMMITS:
        return False
    what = _OF_COMMITS if old // EVERY == new // EVERY else _ALL
    since = new - old // COMMITS * COMMITS  # records
    try:
        shell = posix.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _RUN % what, "sh", head, str(since)],
            dict(environ),
            setsid=True,
            file_actions=[(posix.POSIX_SPAWN_CLOSE, fd) for fd in _handed_down()],
        )
    except OSError:  # as where no more processes may be had: the next time, then
        return False
    try:  # noqa: SIM105 - contextlib takes longer to import
        posix.waitpid(shell, 0)
    except ChildProcessError:  # a program that this is a part of has all its children waited for
        pass
    return True


def _handed_down() -> Iterable[int]:
    """The files that whoever pushes has left open for its programs: a pipe that is read to its
    end, a lock (`flock 9`). They must not stay open for as long as the upkeep takes.
    """
    for name in posix.listdir("/dev/fd"):
        fd = int(name)
        try:
            if fd > 2 and posix.get_inheritable(fd):
                yield fd
        except OSError:  # what has read the list
            continue
