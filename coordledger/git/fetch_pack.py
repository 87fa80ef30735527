"""Commits without their trees by `git fetch-pack`, from where git has to make the connection.

Rules: for SSH and `git://`, as git is configured to speak them. What comes is indexed by git in a
folder of its own, beside the clone's objects and not among them, is read there and goes with it:
the clone gets no object, no ref and no setting by this, and becomes no partial one. A server that
does not know the filter sends everything; of that the commits are read all the same. Whether they
lead from one place to the other is not looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.git import fetch_protocol
from coordledger.git.pktline import ProtocolError
from coordledger.git.remote import News
from coordledger.hashes import algorithm

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.git.process import Ran

# What comes is verified by its ids, and by whoever asked: git would miss the trees.
_OPTIONS = ("-c", "fetch.fsckObjects=false", "-c", "core.alternateRefsCommand=true")
_NOT_PLAIN = frozenset(':"\n')  # in a path these mean something else


def news(run: Callable[..., Ran], url: str, ref: str, have: str, objects: str) -> News | Ran:
    """What `ref` has at `url`, and the commits that are not in the folder `objects`; or how git
    has failed. `run` is `Git.run`, or one like it. Raises `ProtocolError`; `Failed`: timeout.
    """
    if not _NOT_PLAIN.isdisjoint(objects) or url.startswith("-"):
        raise ProtocolError("an odd path")
    import tempfile  # noqa: PLC0415 - which imports much, and is not always needed

    with tempfile.TemporaryDirectory(prefix="coordledger-", ignore_cleanup_errors=True) as folder:
        beside = {"GIT_OBJECT_DIRECTORY": folder, "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects}
        asked = ("--keep", "--quiet", "--no-progress", "--filter=tree:0", url, ref)
        ran = run(*_OPTIONS, "fetch-pack", *asked, **beside)
        if ran.code:
            return ran
        lines = (line.partition(" ") for line in ran.out.splitlines())
        head = next((oid for oid, _, name in lines if name == ref), None)
        packs = list(Path(folder, "pack").glob("*.pack"))
        if head is None or head == have or len(packs) != 1:
            return News(head)
        if packs[0].stat().st_size > fetch_protocol.MOST_BYTES:
            return News(head)
        return News(head, fetch_protocol.commits_in(packs[0].read_bytes(), algorithm(head)))
