"""git's smart HTTP (gitprotocol-http(5)), on a connection that is kept.

Rules: it does what git does where nothing is configured, and nothing else: no redirect, no
proxy, no cookie. It leaves to git what it does not understand (`Unsent`). Nothing is sent
twice, but for what a 401 says "has not been applied" (RFC 9110, 15.5.2): a push that
was sent ends with a whole report, with a status that is a complete refusal (`Refused`), or as
`Unknown`; a server that says "later" is not asked again here (`Later`). Passwords come from
`git credential` and go into the one header. Every wait ends at git's deadline; answers are bounded.

A connection is used again only while it is silent, young and this process's own, and after
answers that were read to their end.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import queue
import select
import socket
import ssl
import threading
import time
from base64 import b64encode
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coordledger.errors import Failed, printable
from coordledger.git import push_protocol
from coordledger.git.outcome import REFUSALS, TOO_MANY, is_later
from coordledger.git.pktline import ProtocolError
from coordledger.git.remote import News

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

    from coordledger.deadline import Deadline
    from coordledger.git.process import Git

MOST = 16 << 20  # bytes of an answer; a longer list of refs is git's
IDLE = 30.0  # seconds after which something on the way may have forgotten a connection
MOST_LISTED = 1 << 16  # bytes of refs that are worth less than git's asking for one
_UPLOAD, _RECEIVE = "git-upload-pack", "git-receive-pack"
_OK, _UNAUTHORIZED = 200, 401
_FAULTS = (
    OSError,
    HTTPException,
    Failed,
    ValueError,  # odd hosts
    ProtocolError,
)


class Unsent(Exception):
    """Nothing has moved there, and git is to do it."""


class Unknown(Exception):
    """It was sent, and there is no whole answer."""


class Refused(Exception):
    """It was sent, and HTTP's status says that nothing was applied."""


class Later(Exception):
    """The server is to be asked again, not before so many `seconds` (0: it did not say).

    `sent`: the push may have been applied all the same.
    """

    def __init__(self, why: str, seconds: int, *, sent: bool) -> None:
        super().__init__(why)
        self.seconds, self.sent = seconds, sent


class SmartHttp:
    """One repository on one server."""

    def __init__(self, git: Git, url: str, ca_file: str | None) -> None:
        """`url` as `Address.is_plain_web` has it; `ca_file` vouches for the server instead
        of the system's files.
        """
        self._git, self._url, self._ca_file = git, url.rstrip("/"), ca_file
        self._at = urlsplit(self._url)
        self._sock: socket.socket | None = None
        self._opened_by, self._used = 0, 0.0
        self._advertised: push_protocol.Advertisement | None = None
        self._authorization: list[str] = []  # the header, once it was asked for
        self._fit = self._lists = True  # as far as is known, git is not needed
        self._spoke = False

    def close(self) -> None:
        if self._sock:
            self._sock.close()
            self._sock = None

    def push(
        self,
        ref: str,
        old: str | None,
        new: str | None,
        pack: bytes,
        meanwhile: Callable[[], None] = lambda: None,
        *,
        blindly: bool = False,
    ) -> push_protocol.Report | None:
        """Move `ref` there; None if it is known to be elsewhere than at `old`, unless it is to be
        tried `blindly`. `meanwhile` is called while the server works.

        Raises `Unsent`, `Unknown`, `Refused`, `Later`.
        """
        sent = False
        try:
            advertised = self._advertised
            if advertised is None:
                advertised = self._advertised = push_protocol.service_advertisement(
                    self._ask(_RECEIVE), _RECEIVE
                )
                if advertised.refs.get(ref) != old and not blindly:
                    return None
            self._advertised = None  # until the server has answered as it should
            self._connect()
            sent = True
            asked = push_protocol.request(advertised, [(old, new, ref)], pack)
            report = push_protocol.report(self._ask(_RECEIVE, asked, meanwhile), advertised)
        except _FAULTS as fault:
            raise self._failed(fault, sent=sent) from None
        self._advertised = advertised
        return report

    @property
    def advertises(self) -> bool:
        """Whether the server has spoken git's smart protocol, and git is not needed."""
        return self._spoke and self._fit

    def head(self, ref: str) -> str | None:
        """The id that `ref` has there, or None. Raises `Unsent`."""
        return self._listed().refs.get(ref)

    def news(self, ref: str, have: str) -> News:
        """What `ref` has there beyond the commit `have`. Raises `Unsent`."""
        advertised = self._listed()
        head = advertised.refs.get(ref)
        if head in (None, have):
            return News(head)
        from coordledger.git import fetch_protocol  # noqa: PLC0415 - most looks find nothing new

        if not fetch_protocol.offers_commits(advertised):
            return News(head)
        try:
            answer = self._ask(_UPLOAD, fetch_protocol.request(advertised, head, have))
            return News(head, fetch_protocol.commits(answer, advertised.algo))
        except (Later, Refused):
            return News(head)
        except _FAULTS as fault:
            raise self._failed(fault, sent=False) from None

    def _listed(self) -> push_protocol.Advertisement:
        """The refs there. Raises `Unsent`."""
        if not self._lists:
            raise Unsent("git asks for the one ref")
        try:
            answer = self._ask(_UPLOAD)
            advertised = push_protocol.service_advertisement(answer, _UPLOAD)
        except Later as later:  # git asks once more, and says it
            raise Unsent(str(later)) from None
        except _FAULTS as fault:
            raise self._failed(fault, sent=False) from None
        self._lists, self._spoke = len(answer) < MOST_LISTED, True
        return advertised

    def _failed(self, fault: BaseException, *, sent: bool) -> Unsent | Unknown:
        self.close()
        if isinstance(fault, ssl.SSLCertVerificationError):
            self._fit = False
        return (Unknown if sent else Unsent)(str(fault))

    def _ask(
        self, service: str, body: bytes = b"", meanwhile: Callable[[], None] = lambda: None
    ) -> bytes:
        """The service's advertisement, or what it says to `body`.

        Raises `Unsent` where nothing was applied, `Refused`, `Later`; what else goes wrong is in
        `_FAULTS`.
        """
        if not self._fit:
            raise Unsent("git does this")
        login = ""
        answer, content = self._exchange(service, body, meanwhile)
        if answer.status == _UNAUTHORIZED:
            login = self._log_in(answer.headers.get_all("WWW-Authenticate", []))
            answer, content = self._exchange(service, body)
            if answer.status == _UNAUTHORIZED:
                raise self._unfit("wrong credentials")
        if is_later(answer.status):
            seconds = _retry_after(answer.headers.get("Retry-After", ""))
            sent = bool(body) and answer.status != TOO_MANY
            raise Later(_in_words(answer, content), seconds, sent=sent)
        if body and answer.status in REFUSALS:
            raise Refused(_in_words(answer, content))
        typed = answer.headers.get_content_type()
        kind = "result" if body else "advertisement"
        if answer.status != _OK or typed != f"application/x-{service}-{kind}":
            self._fit = False
            raise ProtocolError(f"the server answered {answer.status} ({typed})")
        if login:
            with contextlib.suppress(Failed):  # what was answered stays so
                self._git.run("credential", "approve", stdin=login)
        return content

    def _log_in(self, challenges: list[str]) -> str:
        """Ask the user's credential helpers. What they say wrong is for git to take back."""
        if len(challenges) != 1 or not challenges[0].lower().startswith("basic"):
            raise self._unfit("another kind of authentication")
        login = self._git.run("credential", "fill", stdin=f"url={self._url}\n\n").out
        fields = dict(line.split("=", 1) for line in login.splitlines() if "=" in line)
        if not {"username", "password"} <= fields.keys() or "\ufffd" in login:
            raise self._unfit("no credentials")
        pair = f"{fields['username']}:{fields['password']}".encode()
        self._authorization = [f"Authorization: Basic {b64encode(pair).decode('ascii')}"]
        return login

    def _unfit(self, why: str) -> Unsent:
        self._fit = False
        self.close()
        return Unsent(why)

    # -- the connection

    def _exchange(
        self, service: str, body: bytes, meanwhile: Callable[[], None] = lambda: None
    ) -> tuple[HTTPResponse, bytes]:
        deadline = self._git.deadline
        asked = "POST {}/{}" if body else "GET {}/info/refs?service={}"
        lines = [
            f"{asked.format(self._at.path, service)} HTTP/1.1",
            f"Host: {self._at.netloc}",
            "User-Agent: git/coordledger",  # other programs get web pages from some servers
            "Accept-Encoding: identity",
            *self._authorization,
        ]
        if body:
            lines.append(f"Content-Type: application/x-{service}-request")
            lines.append(f"Content-Length: {len(body)}")
        whole = "\r\n".join([*lines, "", ""]).encode("ascii") + body
        sock, self._sock = self._connect(), None  # not kept, should this be broken off
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                _send(sock, whole, deadline)  # a server that has heard enough may have answered
            meanwhile()
            reader = _Reader(sock, deadline)
            answer = HTTPResponse(reader)  # type: ignore[arg-type]
            with answer:
                answer.begin()
                reader.in_head = False
                content = answer.read(MOST + 1)
                if len(content) > MOST:
                    raise ProtocolError("too long an answer")
        except BaseException:
            sock.close()
            raise
        self._sock, self._used = sock, time.monotonic()
        if answer.will_close:
            self.close()
        return answer, content

    def _connect(self) -> socket.socket:
        """The kept connection, or a new one."""
        if self._sock and (
            self._opened_by != os.getpid()  # its answers are for the process that forked this one
            or time.monotonic() - self._used > IDLE
            or _speaks(self._sock)
        ):
            self.close()
        if self._sock is None:
            self._sock = _within(self._git.deadline, self._open)
            self._opened_by, self._used = os.getpid(), time.monotonic()
        return self._sock

    def _open(self, seconds: float) -> socket.socket:
        secure = self._at.scheme == "https"
        port = self._at.port or (443 if secure else 80)
        sock = socket.create_connection((self._at.hostname, port), seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                context = ssl.create_default_context(cafile=self._ca_file)
                sock = context.wrap_socket(sock, server_hostname=self._at.hostname)
        except BaseException:
            sock.close()
            raise
        return sock


def _retry_after(text: str) -> int:
    """The seconds that the header asks for, or the date in it; 0 if it says nothing."""
    if text.strip().isdecimal():
        return int(text[:9])
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - which takes long

    try:
        return max(0, math.ceil(parsedate_to_datetime(text).timestamp() - time.time()))
    except (TypeError, ValueError, OverflowError):
        return 0


def _in_words(answer: HTTPResponse, content: bytes) -> str:
    """The status and the first line of the body."""
    lines = (line.strip() for line in content[:4096].decode("utf-8", "replace").splitlines())
    first = next((line for line in lines if line), answer.reason)
    return f"HTTP {answer.status}: {printable(first)}"


class _Reader(io.RawIOBase):
    """The file that `HTTPResponse` reads: a socket of which every read ends at the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self.in_head = True  # half a head would be taken for one with fewer lines

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(self._deadline.left())
        size = self._sock.recv_into(buffer)
        if not size and self.in_head:
            raise ConnectionResetError("the server closed the connection")
        return size


def _send(sock: socket.socket, data: bytes, deadline: Deadline) -> None:
    left = memoryview(data)
    while left:
        sock.settimeout(deadline.left())
        left = left[sock.send(left) :]


def _speaks(sock: socket.socket) -> bool:
    """Whether a silent connection was closed, or has bytes that were not asked for."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _within(deadline: Deadline, connect: Callable[[float], socket.socket]) -> socket.socket:
    """`connect`, but no longer than the deadline: looking a name up knows none."""
    done: queue.SimpleQueue[socket.socket | BaseException] = queue.SimpleQueue()
    seconds = deadline.left()

    def run() -> None:
        try:
            done.put(connect(seconds))
        except BaseException as fault:  # noqa: BLE001 - raised by the one who waits
            done.put(fault)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("no connection") from None
    if isinstance(result, BaseException):
        raise result
    return result
