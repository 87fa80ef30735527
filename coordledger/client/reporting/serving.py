"""The report on loopback, for as long as somebody looks: the page asks for newer data.

Rules of this file:
- It listens at 127.0.0.1 and answers GET alone, under an address with a word that nobody can guess:
  others who have an account on this machine reach loopback, too. The `Host` has to be ours, so that
  no name of somebody's that leads here makes their page ours (DNS rebinding); and no other page may
  frame or read what is answered.
- One thread reads the ledger, as one has to. Others answer with what it has made last.
- The remote is asked as long as a page asks. A page that is made from much is made rarely.
- What goes wrong once the page stands is shown on it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.client import waiting
from coordledger.client.reporting import rendering
from coordledger.client.reporting.gathering import gather
from coordledger.errors import CoordledgerError, error
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordledger.client.opening import Connection
    from coordledger.client.reporting.gathering import Report, Selection

ADDRESS = "127.0.0.1"
_LOOKS = 10.0  # seconds that the remote is asked for after a page has asked
_LEAST = 1.0  # seconds between two reports
_SHARE = 8  # of the time that making a report takes, between two of them
_PATIENCE = 10  # seconds for a request to come
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Made(NamedTuple):
    """What is answered; `tag` is another one whenever the data is."""

    page: bytes
    data: bytes
    tag: str


class Server(ThreadingMixIn, TCPServer):
    """Answers from what was made last; `asked` is set whenever a page asks."""

    daemon_threads = allow_reuse_address = True
    block_on_close = False
    made: _Made

    def __init__(self, port: int) -> None:
        """Raises `Failed`: bad-value, if the port is not to be had."""
        try:
            super().__init__((ADDRESS, port), _Answer)
        except OSError as fault:
            raise error("bad-value", what="--port", why=f"{port}: {fault.strerror}") from None
        path, port = f"/{secrets.token_urlsafe(16)}/", self.server_address[1]
        self.hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        self.page, self.url = path.encode(), f"http://{ADDRESS}:{port}{path}"
        self.asked = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away is no fault."""


class _Answer(BaseHTTPRequestHandler):
    server: Server
    timeout = _PATIENCE
    server_version, sys_version = "coordledger", ""

    def do_GET(self) -> None:
        made, hosts, path = self.server.made, self.headers.get_all("Host", []), self.path.encode()
        if len(hosts) != 1:
            self._say(HTTPStatus.BAD_REQUEST)
        elif hosts[0].lower() not in self.server.hosts:
            self._say(HTTPStatus.MISDIRECTED_REQUEST)
        elif secrets.compare_digest(path, self.server.page):
            self.server.asked.set()
            self._say(HTTPStatus.OK, made.page, "text/html; charset=utf-8")
        elif secrets.compare_digest(path, self.server.page + b"data.json"):
            self.server.asked.set()
            if self.headers["If-None-Match"] == made.tag:
                self._say(HTTPStatus.NOT_MODIFIED)
            else:
                self._say(HTTPStatus.OK, made.data, "application/json", ETag=made.tag)
        else:
            self._say(HTTPStatus.NOT_FOUND)

    def _say(
        self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain", **headers: str
    ) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | headers).items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            body = body or f"{status.value} {status.phrase}\n".encode()
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nobody asked to read who reads."""


def _render(report: Report, trouble: str = "") -> _Made:
    data = rendering.page_data(report, live=True) | {"trouble": trouble}
    shown = {name: value for name, value in data.items() if name != "made_at"}
    tag = digest("sha256", json.dumps(shown).encode()).hex()
    page = rendering.page(report, data, live=True).encode()
    return _Made(page, json.dumps(data, separators=(",", ":")).encode(), f'"{tag}"')


@contextlib.contextmanager
def _running(server: Server) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve(
    connection: Connection, selected: Selection, port: int, ready: Callable[[str], None]
) -> None:
    """Serve until it is interrupted (KeyboardInterrupt). `ready` hears of the address.

    Raises `Failed`: bad-value, if the port is not to be had; as `gather`, before that.
    """
    report = gather(connection, selected)
    server = Server(port)
    server.made = _render(report)
    with _running(server):
        ready(server.url)
        while True:
            server.asked.wait()
            server.asked.clear()
            report = _look(connection, selected, server, report)


def _look(connection: Connection, selected: Selection, server: Server, report: Report) -> Report:
    """Make what is answered anew as the ledger goes on, until no page has asked for a while."""
    end = time.monotonic() + _LOOKS
    while (now := time.monotonic()) < end:
        until = connection.clock() + int(1000 * min(_LOOKS, end - now))
        seen = waiting.newest(connection)
        try:
            if seen == report.head.commit:
                waiting.until_changed(connection, until, seen)
            begun = time.monotonic()
            report = gather(connection, selected)
            server.made = _render(report)
            time.sleep(max(_LEAST, _SHARE * (time.monotonic() - begun)))
        except CoordledgerError as fault:
            server.made = _render(report, f"{fault.message} [{fault.code}]")
            time.sleep(_LEAST)
        if server.asked.is_set():
            server.asked.clear()
            end = time.monotonic() + _LOOKS
    return report
