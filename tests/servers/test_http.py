"""HTTP on a kept connection: that it is kept, that git does it where git has to, and what
servers do that break off, lie, or dawdle.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from support import hosts
from support.fleet import LEDGER_REF
from support.proxy import Fault
from support.sites import SECONDS, Site, wait_until

from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.git import http as web
from coordledger.git import pktline
from coordledger.git.address import resolve
from coordledger.git.http import Later, Refused, SmartHttp, Unknown, Unsent
from coordledger.git.process import Git
from coordledger.git.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coordledger.client.ledger import Ledger

OURS = "git/coordledger"


@pytest.fixture
def site(site_of: Callable[[str], Site]) -> Site:
    return site_of("http")


class Log:
    """What nginx has noted since: a line for every answer.

    A line may come after its answer: what a mark of ours follows is complete.
    """

    def __init__(self, site: Site) -> None:
        self.site, self.start = site, 0
        self.start = len(self._all())

    def _all(self) -> list[list[str]]:
        host, mark = self.site.host, f"/{self.site.new('mark')}"
        assert host.log
        with socket.create_connection(("127.0.0.1", host.port), SECONDS) as sock:
            sock.sendall(f"GET {mark} HTTP/1.0\r\n\r\n".encode())
            sock.recv(1)
        wait_until(lambda: f" {mark} " in host.log.read_text(), "no mark in nginx's log")
        lines = [line.split(" ", 4) for line in host.log.read_text().splitlines()]
        return [line for line in lines if not line[2].startswith("/mark-")]

    def lines(self) -> list[list[str]]:
        return self._all()[self.start :]

    def posts(self) -> list[list[str]]:
        return [
            line
            for line in self.lines()
            if line[1] == "POST" and line[2].endswith("git-receive-pack")
        ]


def open_to_all(site: Site, tls: bool = False) -> str:
    """The ledger's URL where nobody is asked for a password."""
    site.git("config", "http.receivePack", "true", cwd=site.host.path, check=True)
    base = (
        f"https://127.0.0.1:{site.host.tls_port}" if tls else f"http://127.0.0.1:{site.host.port}"
    )
    return f"{base}/open/ledger.git"


def fresh(site: Site) -> Path:
    """A clone of bob's that has seen the newest head: what it does next is to push."""
    site.bob.head()
    return site.copy("bob")


# -- kept


@pytest.mark.parametrize("way", ["password", "open", "tls", "tls and password"])
def test_five_claims_take_one_connection_and_a_request_each(site: Site, way: str) -> None:
    remote, env = None, {}
    if way != "password":
        remote = open_to_all(site, tls="tls" in way)
    if way == "tls and password":
        remote = remote.replace("/open/", "/")
    if "tls" in way:
        env = {"GIT_SSL_CAINFO": str(site.host.ca)}
    ledger = site.open("bob", fresh(site), remote=remote, env=env)
    ledger.head()
    log, before = Log(site), site.head()
    for _ in range(5):
        assert ledger.claim(site.new("kept")).outcome == "won"
    assert len({line[0] for line in log.lines()}) == 1
    assert {line[4] for line in log.lines()} == {OURS}
    # What the server is able to do was asked once, before the first push.
    assert [line[1] for line in log.lines()] == ["GET", *["POST"] * 5]
    assert site.records_since(before) == 5


def test_the_head_is_asked_for_on_the_same_connection(site: Site) -> None:
    ledger = site.open("bob", fresh(site))
    ledger.head()
    log = Log(site)
    for _ in range(3):
        assert ledger.head().commit == site.head()
    assert ledger.claim(site.new("after-a-look")).outcome == "won"
    assert len({line[0] for line in log.lines()}) == 1
    assert {line[4] for line in log.lines()} == {OURS}


def test_a_helper_is_asked_once_and_told_that_it_was_right(site: Site) -> None:
    helper = hosts.helper(site.root / "asked-once", hosts.PASSWORD)
    path = fresh(site)
    site.git("config", "credential.helper", str(helper), cwd=path, check=True)
    ledger = site.open("bob", path, env={"GIT_CONFIG_GLOBAL": os.devnull})
    for _ in range(3):
        assert ledger.claim(site.new("helped")).outcome == "won"
    assert helper.with_name(f"{helper.name}.log").read_text().split() == ["get", "store"]


def test_a_password_that_has_changed_is_asked_for_again(site: Site) -> None:
    ledger = site.open("bob", fresh(site))
    assert ledger.claim(site.new("before")).outcome == "won"
    ledger.connection.remote._http._authorization = ["Authorization: Basic b2xkOm9sZA=="]
    log = Log(site)
    assert ledger.claim(site.new("afterwards")).outcome == "won"
    assert len(log.posts()) == 2
    assert [(line[3], line[4]) for line in log.posts()] == [("401", OURS), ("200", OURS)]


def test_a_lost_race_is_lost_and_the_connection_kept(site: Site) -> None:
    ledger, task = site.open("bob", fresh(site)), site.new("contended")
    assert ledger.claim(site.new("first")).outcome == "won"
    site.alice.claim(task)
    log, before = Log(site), site.head()
    assert (ledger.claim(task).outcome, ledger.claim(site.new("next")).outcome) == ("lost", "won")
    assert site.records_since(before) == 1
    ours = [line for line in log.lines() if line[4] == OURS]
    assert len({line[0] for line in ours}) == 1


@pytest.mark.parametrize("away", [0.0, 0.3], ids=["back at once", "away for a moment"])
def test_a_connection_that_was_closed_meanwhile_is_opened_again(site: Site, away: float) -> None:
    ledger, before = site.through_proxy("bob"), site.head()
    for _ in range(3):
        assert ledger.claim(site.new("again")).outcome == "won"
        site.proxy.reset()
        time.sleep(away)
    assert site.records_since(before) == 3
    assert ledger.connection.remote._http._fit


def test_an_old_connection_is_not_trusted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = site.open("bob", fresh(site))
    log = Log(site)
    assert ledger.claim(site.new("young")).outcome == "won"
    monkeypatch.setattr(web, "IDLE", 0.0)
    assert ledger.claim(site.new("old")).outcome == "won"
    assert len(log.posts()) == 2
    assert len({line[0] for line in log.posts()}) == 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # pytest's workers are
def test_a_forked_process_has_a_connection_of_its_own(site: Site) -> None:
    ledger = site.open("bob", fresh(site))
    assert ledger.claim(site.new("parent")).outcome == "won"
    log, task = Log(site), site.new("child")
    child = os.fork()
    if child == 0:
        os._exit(0 if ledger.claim(task).outcome == "won" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.claim(task).claims[0].session == ledger.connection.identity().session
    assert ledger.claim(site.new("parent")).outcome == "won"
    assert len(log.posts()) == 2
    assert len({line[0] for line in log.posts()}) == 2


# -- where git has to do it

CONFIGURED = {
    "a header": {"http.extraHeader": "X-Who: bob"},
    "cookies": {"http.cookieFile": "/nowhere"},
    "a header for one URL": {"http.http://127.0.0.1/.extraHeader": "X-Who: bob"},
    "no certificates": {"http.sslVerify": "false"},
    "another agent": {"http.userAgent": "git/bob"},
    "signed pushes": {"push.gpgSign": "if-asked"},
    "another name": {"url.http://127.0.0.1/.insteadOf": "short:"},
    "a protocol that is allowed": {"protocol.http.allow": "always"},
}
SAID = {
    "GIT_HTTP_USER_AGENT": "git/bob",
    "GIT_CURL_VERBOSE": "0",
    "GIT_SSL_NO_VERIFY": "1",
    "GIT_PROXY_SSL_CAINFO": "/nowhere",
    "GIT_SMART_HTTP": "1",
    "GIT_ALLOW_PROTOCOL": "http:https",
    "http_proxy": "",
    "HTTPS_PROXY": "http://127.0.0.1:1/",
    "ALL_PROXY": "",
    "no_proxy": "127.0.0.1",
}


def git_does_it(site: Site, ledger: Ledger) -> None:
    log = Log(site)
    assert ledger.claim(site.new("by-git")).outcome == "won"
    assert {line[4] == OURS for line in log.posts()} == {False}


@pytest.mark.parametrize("setting", CONFIGURED)
def test_git_pushes_where_its_configuration_says_how(site: Site, setting: str) -> None:
    path = fresh(site)
    for name, value in CONFIGURED[setting].items():
        site.git("config", name, value, cwd=path, check=True)
    git_does_it(site, site.open("bob", path))


@pytest.mark.parametrize("name", SAID)
def test_git_pushes_where_the_environment_says_how(site: Site, name: str) -> None:
    git_does_it(site, site.open("bob", fresh(site), env={name: SAID[name]}))


def test_git_pushes_where_the_url_or_netrc_has_the_password(site: Site) -> None:
    url = site.host.url.replace("://", f"://agent:{hosts.PASSWORD}@")
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull}
    git_does_it(site, site.open("bob", fresh(site), remote=url, env=nobody))
    home = site.root / site.new("home")
    home.mkdir()
    (home / ".netrc").write_text(f"machine 127.0.0.1 login agent password {hosts.PASSWORD}\n")
    git_does_it(site, site.open("bob", fresh(site), env=nobody | {"HOME": str(home)}))


def test_a_certificate_that_git_might_trust_is_git_s_to_judge(site: Site) -> None:
    remote = open_to_all(site, tls=True)
    ledger = site.open("bob", fresh(site), remote=remote)
    with pytest.raises(Failed, match="certificate") as failed:
        ledger.claim("never")
    assert failed.value.code == "remote-unreachable"
    assert not ledger.connection.remote._http._fit


# -- servers that do something else


Answer = bytes | Callable[[socket.socket], None] | None


class Script:
    """A server on a loopback port that answers each request with the next of `answers`;
    None cuts the connection. What it was asked is in `asked`.
    """

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked = list(answers), list[bytes]()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/ledger.git"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with sock, contextlib.suppress(OSError):  # a client that has had enough
                sock.settimeout(SECONDS)
                self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        came = b""
        while self.answers:
            while not (whole := re.match(rb"(?s)(.*?\r\n\r\n)", came)):
                more = sock.recv(65536)
                if not more:
                    return
                came += more
            length = re.search(rb"Content-Length: (\d+)", whole[1])
            size = whole.end() + (int(length[1]) if length else 0)
            while len(came) < size:
                came += sock.recv(65536)
            self.asked.append(came[:size])
            came = came[size:]
            answer = self.answers.pop(0)
            if answer is None:
                return
            if callable(answer):
                answer(sock)
                return
            sock.sendall(answer)
            if b"Content-Length" not in answer and b"chunked" not in answer:
                return


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    started: list[Script] = []

    def start(*answers: Answer) -> Script:
        started.append(Script(*answers))
        return started[-1]

    yield start
    for one in started:
        one.close()


OLD, NEW = "1" * 40, "2" * 40
ADVERTISED = (
    pktline.encode(b"# service=git-receive-pack\n")
    + pktline.FLUSH
    + pktline.encode(f"{OLD} {LEDGER_REF}".encode() + b"\0report-status side-band-64k\n")
    + pktline.FLUSH
)


def report(line: str) -> bytes:
    inner = pktline.encode(b"unpack ok\n") + pktline.encode(f"{line}\n".encode()) + pktline.FLUSH
    return pktline.encode(b"\1" + inner) + pktline.FLUSH


WON, LOST = report(f"ok {LEDGER_REF}"), report(f"ng {LEDGER_REF} failed to update ref")


def http(
    body: bytes, kind: str = "result", *, form: str = "length", status: str = "200 OK"
) -> bytes:
    kind = kind if "/" in kind else f"application/x-git-receive-pack-{kind}"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
    if form == "length":
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    if form == "chunked":
        chunk = b"%x\r\n%s\r\n" % (len(body), body)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk + b"0\r\n\r\n"
    return f"{head}\r\n".encode() + body


GREETING = http(ADVERTISED, "advertisement")


@pytest.fixture
def speak(tmp_path: Path) -> Iterator[Callable[..., SmartHttp]]:
    """`speak(server, seconds)`: a client of it, alone, that knows a password."""
    made: list[SmartHttp] = []
    config = tmp_path / "gitconfig"
    config.write_text(f"[credential]\n\thelper = {hosts.helper(tmp_path / 'helper', 'secret')}\n")

    def start(server: Script, seconds: float = SECONDS) -> SmartHttp:
        git = Git(os.environ | {"GIT_CONFIG_GLOBAL": str(config)}, tmp_path, Deadline(seconds))
        made.append(SmartHttp(git, server.url, None))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("form", ["length", "chunked", "close"])
@pytest.mark.parametrize("body", [WON, LOST], ids=["won", "lost"])
def test_an_answer_that_breaks_off_is_unknown_wherever_it_does(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], form: str, body: bytes
) -> None:
    answer = http(body, form=form)
    # The end that matters is the report's own flush; what follows it says nothing.
    needed = answer.index(body) + len(body) - len(pktline.FLUSH)
    cuts = [*range(0, needed, 3), needed - 1]
    server = script(
        *(one for cut in cuts for one in (GREETING, lambda s, c=cut: s.sendall(answer[:c])))
    )
    client = speak(server)
    for _ in cuts:
        with pytest.raises(Unknown):
            client.push(LEDGER_REF, OLD, NEW, b"")
    server.answers += [GREETING, answer, http(body)]
    for _ in range(2):
        assert client.push(LEDGER_REF, OLD, NEW, b"").unpacked == "ok"


def test_a_head_that_is_known_to_be_another_costs_no_push(
    script: Callable[..., Script], speak: Callable[..., SmartHttp]
) -> None:
    server = script(GREETING, http(LOST))
    client = speak(server)
    assert client.push(LEDGER_REF, NEW, OLD, b"") is None
    assert len(server.asked) == 1
    assert client.push(LEDGER_REF, NEW, OLD, b"").refs == {LEDGER_REF: "failed to update ref"}
    assert (len(server.asked), server.connections) == (2, 1)


def test_an_interrupt_leaves_no_answer_for_the_next_push(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = script(GREETING, http(WON), GREETING, http(LOST))
    client = speak(server)

    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        client.push(LEDGER_REF, NEW, OLD, b"")  # the greeting alone
        patch.setattr(web.HTTPResponse, "begin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.push(LEDGER_REF, OLD, NEW, b"")
    assert client.push(LEDGER_REF, OLD, NEW, b"").refs == {LEDGER_REF: "failed to update ref"}
    assert server.connections == 2


def test_what_nobody_asked_for_is_no_answer(
    script: Callable[..., Script], speak: Callable[..., SmartHttp]
) -> None:
    def twice(sock: socket.socket) -> None:
        sock.sendall(http(WON))
        time.sleep(0.05)
        sock.sendall(http(WON))
        sock.recv(1)

    server = script(GREETING, twice, http(LOST))
    client = speak(server)
    assert client.push(LEDGER_REF, OLD, NEW, b"").refs == {LEDGER_REF: None}
    time.sleep(0.2)
    assert client.push(LEDGER_REF, OLD, NEW, b"").refs == {LEDGER_REF: "failed to update ref"}
    assert server.connections == 2


def test_a_connection_that_the_server_will_close_is_not_used_again(
    script: Callable[..., Script], speak: Callable[..., SmartHttp]
) -> None:
    def lingering(sock: socket.socket) -> None:
        sock.sendall(http(WON, status="200 OK\r\nConnection: close"))
        sock.recv(1)  # closes when the client does

    server = script(GREETING, lingering, http(LOST))
    client = speak(server, 2)
    assert client.push(LEDGER_REF, OLD, NEW, b"").refs == {LEDGER_REF: None}
    assert client.push(LEDGER_REF, OLD, NEW, b"").refs == {LEDGER_REF: "failed to update ref"}
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        http(b"<html>Welcome to our hotel</html>", "text/html"),
        http(ADVERTISED, "application/x-git-upload-pack-advertisement"),
        http(b"", "text/html", status="302 Found\r\nLocation: http://127.0.0.1:1/"),
        http(b"", "text/html", status="403 Forbidden"),
        http(b"", "text/html", status="401 Unauthorized\r\nWWW-Authenticate: Negotiate"),
        http(b"", "text/html", status="401 Unauthorized"),
    ],
    ids=["a portal", "another service", "a redirect", "forbidden", "another kind", "no kind"],
)
def test_what_is_not_understood_is_git_s_for_good(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], answer: bytes
) -> None:
    server = script(answer, GREETING, http(WON))
    client = speak(server)
    for _ in range(2):
        with pytest.raises(Unsent):
            client.push(LEDGER_REF, OLD, NEW, b"")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", ["200 OK", "307 Moved\r\nLocation: /", "409 No", "501 Never"])
def test_an_odd_answer_to_a_push_is_unknown_and_what_follows_is_git_s(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], status: str
) -> None:
    answer = http(b"<html>", "text/html", status=status)
    server = script(GREETING, answer, GREETING, http(WON))
    client = speak(server)
    with pytest.raises(Unknown, match=f"answered {status[:3]}"):
        client.push(LEDGER_REF, OLD, NEW, b"")
    with pytest.raises(Unsent):
        client.push(LEDGER_REF, OLD, NEW, b"")
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "413 Too Large"])
def test_a_status_that_refuses_a_push_is_a_complete_no(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], status: str
) -> None:
    answer = http(b"\n  one branch only\nmore", "text/plain", status=status)
    server = script(GREETING, answer, GREETING, http(WON))
    client = speak(server)
    with pytest.raises(Refused, match=f"^HTTP {status[:3]}: one branch only$"):
        client.push(LEDGER_REF, OLD, NEW, b"")
    assert client.push(LEDGER_REF, OLD, NEW, b"").refs == {LEDGER_REF: None}


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [
        ("503 Busy", "Retry-After: 60", 60),
        ("502 Bad", "X: y", 0),
        ("429 Slow", "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("504 Late", "Retry-After: soon", 0),
    ],
)
def test_a_server_that_cannot_now_says_when(
    script: Callable[..., Script],
    speak: Callable[..., SmartHttp],
    status: str,
    header: str,
    seconds: int,
) -> None:
    answer = http(b"", "text/plain", status=f"{status}\r\n{header}")
    client = speak(script(GREETING, answer, answer))
    with pytest.raises(Later) as later:
        client.push(LEDGER_REF, OLD, NEW, b"")
    # Too many requests: none was applied. A gateway's failure says nothing of that.
    assert (later.value.seconds, later.value.sent) == (seconds, status[:3] != "429")
    assert str(later.value).startswith(f"HTTP {status[:3]}: ")
    with pytest.raises(Later) as later:
        client.push(LEDGER_REF, OLD, NEW, b"")  # of the advertisement
    assert not later.value.sent


@pytest.mark.parametrize(("answer", "blind"), [(WON, True), (LOST, False)])
def test_a_server_that_swaps_without_comparing_is_found_out(
    script: Callable[..., Script], tmp_path: Path, answer: bytes, *, blind: bool
) -> None:
    server = script(GREETING, http(answer))
    git = Git(os.environ, tmp_path, Deadline(SECONDS))
    remote = Remote(git, resolve(server.url, [], None), (server.url, None))
    assert remote.swaps_without_comparing(LEDGER_REF, NEW, OLD, b"PACK") is blind
    assert f"{NEW} {OLD} {LEDGER_REF}".encode() in server.asked[1]
    remote.close()


def test_a_long_answer_is_not_read_to_its_end(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MOST", 10_000)
    sent = 0

    def endless(sock: socket.socket) -> None:
        nonlocal sent
        sock.sendall(http(b"", form="close"))
        while True:
            sent += sock.send(b"0005\2" * 1000)

    server = script(GREETING, endless)
    with pytest.raises(Unknown, match="too long"):
        speak(server).push(LEDGER_REF, OLD, NEW, b"")
    assert sent < 20_000_000  # what sockets buffer


@pytest.mark.parametrize("part", ["headers", "body", "sending"])
def test_a_server_that_dawdles_ends_at_the_deadline(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], part: str
) -> None:
    def drip(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nX: " if part == "headers" else http(b"", form="close"))
        for _ in range(200):
            sock.sendall(b"0")
            time.sleep(0.02)

    def deaf(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        time.sleep(4)

    server = script(deaf) if part == "sending" else script(GREETING, drip)
    client = speak(server, 0.5)
    start = time.monotonic()
    with pytest.raises(Unknown):
        client.push(LEDGER_REF, OLD, NEW, bytes(50_000_000 if part == "sending" else 0))
    assert 0.3 < time.monotonic() - start < 3.5  # the server takes 4 s


def test_a_portal_in_the_way_is_a_clear_error(site: Site, script: Callable[..., Script]) -> None:
    page = http(b"<html>\nWelcome to our hotel\n</html>\n", "text/html")
    server = script(*[page] * 9)
    ledger, before = site.open("bob", fresh(site), remote=server.url), site.head()
    with pytest.raises(Failed) as failed:
        ledger.claim("in-a-hotel")
    assert failed.value.code == "remote-unreachable"
    assert "not valid: is this a git repository?" in failed.value.message
    assert ledger.connection.local.journal.intents() == []
    assert site.head() == before


def test_a_redirect_is_followed_as_git_does(site: Site) -> None:
    moved = open_to_all(site).replace("/open/", "/moved/")
    git_does_it(site, site.open("bob", fresh(site), remote=moved))


def test_only_pushes_may_need_a_password(
    script: Callable[..., Script], speak: Callable[..., SmartHttp]
) -> None:
    """The advertisement is for everybody, the push is not: it is asked for then."""
    asks = http(b"", "text/html", status='401 No\r\nWWW-Authenticate: Basic realm="git"')
    server = script(GREETING, asks, http(WON))
    assert speak(server).push(LEDGER_REF, OLD, NEW, b"PACK").refs == {LEDGER_REF: None}
    first, second = server.asked[1:]
    assert b"Authorization: Basic " not in first
    assert b"Authorization: Basic " in second
    assert first.endswith(b"PACK")
    assert second.endswith(b"PACK")


def test_a_wrong_password_is_for_git_to_take_back(
    script: Callable[..., Script], speak: Callable[..., SmartHttp], tmp_path: Path
) -> None:
    asks = http(b"", "text/html", status='401 No\r\nWWW-Authenticate: Basic realm="git"')
    server = script(asks, asks, asks)
    client = speak(server)
    for _ in range(2):
        with pytest.raises(Unsent):
            client.push(LEDGER_REF, OLD, NEW, b"")
    assert len(server.asked) == 2
    assert (tmp_path / "helper.log").read_text() == "get\n"


# -- nothing is done twice


@pytest.mark.parametrize("size", [1, 40, 150, 230, 300, 350])
def test_a_push_whose_answer_breaks_off_lands_once(site: Site, size: int) -> None:
    ledger = site.through_proxy("alice")
    assert ledger.claim(site.new("whole")).outcome == "won"
    before = site.head()
    with site.faulty(Fault(cut_down=size, once=True)):
        assert ledger.claim(site.new("cut")).outcome == "won"
        assert site.proxy.fault == Fault()  # it was cut
    assert site.records_since(before) == 1
    assert ledger.connection.local.journal.intents() == []
    assert ledger.connection.remote._http._fit


def test_no_password_is_in_what_is_shown(site: Site) -> None:
    ledger = site.through_proxy("bob", timeout=2)
    assert ledger.claim(site.new("secret")).outcome == "won"
    with site.faulty(Fault(cut_down=10)), pytest.raises(Exception) as failed:
        ledger.claim(site.new("secret"))
    said = json.dumps([str(failed.value), repr(failed.value), repr(ledger.connection.settings)])
    for secret in (hosts.PASSWORD, ledger.connection.remote._http._authorization[0].split()[-1]):
        assert secret not in said
