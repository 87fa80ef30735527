"""A TCP proxy on a loopback port that can be told to misbehave, also in mid-connection.

Rules: it changes no byte: it passes on, delays, drops, or cuts. `fault` counts from the
moment at which it is set, for connections that are open too, and for each of them alone.
With a port it stands in front of that server; without one it is a forward proxy for HTTP
(absolute URIs and CONNECT, loopback targets only), which counts its requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 10
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close says RST
_TARGET = re.compile(rb"(CONNECT |[A-Z]+ http://)127\.0\.0\.1:(\d+)[ /]")


@dataclass(frozen=True)
class Fault:
    """What goes wrong; nothing, if nothing is said."""

    refuse: bool = False  # a new connection is reset at once
    hole: bool = False  # nothing passes, in either direction
    mute: bool = False  # what the server says is dropped
    delay: float = 0.0  # seconds that every piece is held back
    cut_up: int | None = None  # reset once the client has sent so many bytes
    cut_down: int | None = None  # reset after so many of the server's bytes
    once: bool = False  # the first cut ends the fault


class Proxy:
    """Listens on `port` from its construction to `stop`."""

    def __init__(self, target: int | None = None) -> None:
        """`target` is the server's port; without it, requests say where they go."""
        self.target = target
        self.fault = Fault()
        self.connections = self.requests = 0
        self.dropped = 0  # bytes of the server's
        self.pairs: set[_Client] = set()
        self.loop = asyncio.new_event_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        starting = self.loop.create_server(lambda: _Client(self), sock=listener)
        self._server = self.loop.run_until_complete(starting)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def reset(self) -> None:
        """Reset every open connection, now."""
        self._in_loop(self._abort_all)

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        self._in_loop(self._server.close)
        self._in_loop(self._abort_all)
        self._in_loop(lambda: None)  # the closed sockets' callbacks have run
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_SECONDS)
        self.loop.close()

    def _abort_all(self) -> None:
        for pair in list(self.pairs):
            pair.abort()

    def _in_loop(self, act: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                act()
            finally:
                done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(_SECONDS), "the proxy's thread does not answer"


def _abort(transport: asyncio.BaseTransport | None) -> None:
    if isinstance(transport, asyncio.Transport):
        found = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


def _acknowledge(transport: asyncio.Transport | None) -> None:
    """At once, or Nagle's algorithm on the other side waits for it: 40 ms each time."""
    if transport is not None:
        with contextlib.suppress(OSError):
            found = transport.get_extra_info("socket")
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class _Client(asyncio.Protocol):
    """One connection: this side is the client's, `_Server` the server's."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.fault = proxy.fault
        self.up = self.down = 0  # bytes since the fault was set
        self._waiting = b""  # from the client, until the server is there
        self._opening: asyncio.Task[None] | None = None
        self._eof = self._cut = False

    def abort(self) -> None:
        self.proxy.pairs.discard(self)
        if self._opening is not None:
            self._opening.cancel()
        _abort(self.client)
        _abort(self.server)

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.client = transport
        self.proxy.connections += 1
        self.proxy.pairs.add(self)
        if self.now().refuse:
            self.abort()
        elif self.proxy.target and not self.fault.hole:
            self.open(self.proxy.target, b"")

    def data_received(self, data: bytes) -> None:
        _acknowledge(self.client)
        if self.now().hole:
            return
        self.proxy.requests += len(_TARGET.findall(data)) if self.proxy.target is None else 0
        if self.server is not None:
            self.upwards(data)
            return
        self._waiting += data
        if self._opening is None and b"\r\n\r\n" in self._waiting:
            asked = _TARGET.match(self._waiting)
            if asked is None:
                self.abort()
                return
            answer = b""
            if asked[1] == b"CONNECT ":
                answer = b"HTTP/1.1 200 OK\r\n\r\n"
                self._waiting = self._waiting.partition(b"\r\n\r\n")[2]
            self.open(int(asked[2]), answer)

    def eof_received(self) -> bool:
        if self.server is not None:
            self.later(self.server.write_eof)
        self._eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.pairs.discard(self)
        if self._opening is not None:
            self._opening.cancel()
        if self.server is not None:
            self.server.close()

    # -- passing on

    def now(self) -> Fault:
        if self.fault is not self.proxy.fault:
            self.fault, self.up, self.down = self.proxy.fault, 0, 0
        return self.fault

    def later(self, act: Callable[[], None]) -> None:
        if self.fault.delay:
            self.proxy.loop.call_later(self.fault.delay, act)
        else:
            act()

    def open(self, port: int, answer: bytes) -> None:
        async def connect() -> None:
            try:
                there = await self.proxy.loop.create_connection(
                    lambda: _Server(self), "127.0.0.1", port
                )
            except OSError:
                self.abort()
                return
            self.server = there[0]
            if answer and self.client is not None:
                self.client.write(answer)
            if self._waiting:
                self.upwards(self._waiting)
            if self._eof:
                self.later(self.server.write_eof)

        self._opening = self.proxy.loop.create_task(connect())

    def upwards(self, data: bytes) -> None:
        self._pass_on(self.server, data, self.fault.cut_up, self.up)
        self.up += len(data)

    def downwards(self, data: bytes) -> None:
        _acknowledge(self.server)
        if self.now().hole or self.fault.mute:
            self.proxy.dropped += len(data)
        else:
            self._pass_on(self.client, data, self.fault.cut_down, self.down)
        self.down += len(data)

    def _pass_on(
        self, to: asyncio.Transport | None, data: bytes, limit: int | None, before: int
    ) -> None:
        if self._cut:
            return
        whole = limit is None or before + len(data) < limit
        piece = data if whole or limit is None else data[: max(0, limit - before)]
        if to is not None and piece:
            self.later(lambda: to.write(piece))
        if not whole:
            self._cut = True
            if self.fault.once:
                self.proxy.fault = Fault()
            # Aborting drops what was not sent yet: the kernel has to have it first.
            self.proxy.loop.call_later(self.fault.delay + 0.02, self.abort)


class _Server(asyncio.Protocol):
    def __init__(self, pair: _Client) -> None:
        self.pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.pair not in self.pair.proxy.pairs:
            _abort(transport)

    def data_received(self, data: bytes) -> None:
        self.pair.downwards(data)

    def eof_received(self) -> bool:
        if self.pair.client is not None and not (self.pair.now().hole or self.pair.fault.mute):
            self.pair.later(self.pair.client.write_eof)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        pair = self.pair
        if pair.client is not None and not (pair.now().hole or pair.fault.mute):
            pair.later(pair.client.close)
