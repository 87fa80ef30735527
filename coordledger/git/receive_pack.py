"""git's server program for pushes to a folder of this machine, started by us and talked with.

Rules: only where git itself would do nothing else. That takes a third of the time of `git push`,
and the advertisement tells the head before anything is sent. The folder is an absolute path.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from coordledger.errors import Failed
from coordledger.git import pktline, push_protocol
from coordledger.git.outcome import LOST, UNKNOWN, UNSENT, Push, from_report
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.git.process import Ran

if TYPE_CHECKING:
    from coordledger.git.outcome import PushPayload
    from coordledger.git.process import Git, Service
    from coordledger.git.push_protocol import Advertisement


def push(
    git: Git, folder: str, ref: str, old: str | None, new: str | None, payload: PushPayload
) -> Push:
    """As `Remote.push`."""
    sent = False
    try:
        with git.service("receive-pack", folder) as service:
            payload.ready()
            pack = payload.pack()
            advertised = advertisement(service)
            if advertised.refs.get(ref) != old:
                with contextlib.suppress(Failed):
                    service.finish(FLUSH)
                return Push(LOST, "another head is there")
            request = push_protocol.request(advertised, [(old, new, ref)], pack)
            if service.fits(request):
                sent = True
                service.send(request)
                request = b""
            payload.meanwhile()
            sent = True
            answer, errors = service.finish(request)
            report = push_protocol.report(answer, advertised)
    except (Failed, ProtocolError) as fault:
        return Push(UNKNOWN if sent else UNSENT, str(fault))
    return from_report(report, ref, errors)


def advertisement(service: Service) -> Advertisement:
    """The words with which the program begins. Raises `ProtocolError`; `Failed`: timeout."""
    packets: list[bytes] = []
    rest = b""
    while True:
        more = service.read()
        whole, rest, ended = pktline.split(rest + more)  # read once: there may be many refs
        packets += whole
        if ended:
            return push_protocol.advertisement(packets)
        if not more:
            _, errors = service.finish()
            raise ProtocolError(Ran(-1, "", errors).why())
