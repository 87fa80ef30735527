"""git's server program for fetches from a folder of this machine, started by us and talked with.

Rules: only where git itself would do nothing else. One start of it tells the head, and hands over
the commits that are new, where it can do so without their trees. Nothing is written here, and
whether they lead from one place to the other is not looked at. The folder is an absolute path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.git.pktline import FLUSH
from coordledger.git.receive_pack import advertisement
from coordledger.git.remote import News

if TYPE_CHECKING:
    from coordledger.git.process import Git


def head(git: Git, folder: str, ref: str) -> str | None:
    """The id that `ref` has there, or None. Raises `ProtocolError`; `Failed`: timeout, no-git."""
    with git.service("upload-pack", folder) as service:
        advertised = advertisement(service)
        service.finish(FLUSH)
        return advertised.refs.get(ref)


def news(git: Git, folder: str, ref: str, have: str) -> News:
    """What `ref` has there beyond the commit `have`. Raises as `head` does."""
    with git.service("upload-pack", folder) as service:
        advertised = advertisement(service)
        head = advertised.refs.get(ref)
        if head in (None, have):
            service.finish(FLUSH)
            return News(head)
        from coordledger.git import fetch_protocol  # noqa: PLC0415 - most looks find nothing new

        if not fetch_protocol.offers_commits(advertised):
            service.finish(FLUSH)
            return News(head)
        asked = fetch_protocol.request(advertised, head, have)
        answer = service.answer(asked, fetch_protocol.MOST_BYTES)
        return News(head, fetch_protocol.commits(answer, advertised.algo))
