"""`coordledger report --serve`: to this machine's programs alone, as the ledger changes."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.chromium import Chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fleet import Fleet


class Served:
    """The command as a process, and what it answers."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        argv = [sys.executable, "-m", "coordledger", "report", "--serve", "--json"]
        self.process = subprocess.Popen(
            argv,
            cwd=fleet.clone("alice"),
            env=fleet.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.address = urlsplit(self.url)

    def ask(
        self, path: str = "", method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        port = self.address.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.putrequest(method, self.address.path + path, skip_host=True)
        for name, value in ({"Host": self.address.netloc} | headers).items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers, body

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def served(fleet: Fleet) -> Iterator[Served]:
    fleet.ledger("alice").submit("first", title="The first task")
    found = Served(fleet)
    yield found
    found.process.kill()
    found.process.communicate()


def test_only_who_knows_the_address_is_answered_and_only_get(served: Served) -> None:
    status, headers, body = served.ask()
    assert (status, body[:9]) == (200, b"<!doctype")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in headers
    status, headers, body = served.ask("data.json")
    assert status == 200
    assert served.ask("data.json", If_None_Match=headers["ETag"])[0] == 304
    for host in ("evil.example", "127.0.0.1", f"evil.example:{served.address.port}", ""):
        assert served.ask(Host=host)[0] == 421
    assert served.ask(Host=f"localhost:{served.address.port}")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"):
        assert served.ask(method=method)[0] in (405, 501)
    for path in ("x", "../", "data.json?", "%00", "data.json/"):
        assert served.ask(path)[0] == 404
    known, served.address = served.address, served.address._replace(path="/")
    assert served.ask()[0] == 404
    served.address = known
    taken = served.fleet.run("report", "--serve", "--port", known.port, agent="alice", check=1)
    assert f"--port: {known.port}: Address already in use" in taken.stderr
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    assert f"0100007F:{known.port:04X}" in listening
    assert f"00000000:{known.port:04X}" not in listening


def test_it_ends_on_ctrl_c_and_on_sigterm_without_a_word(fleet: Fleet) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        code, said = Served(fleet).end(number)
        assert (code, said.strip()) == (0, "")


def test_the_page_shows_what_comes_and_keeps_what_was_chosen(
    fleet: Fleet, served: Served, tmp_path: Path
) -> None:
    with Chromium(tmp_path / "profile") as browser:
        browser.show_as(1280, 900)
        browser.open(served.url)
        assert browser.run("document.querySelector('#live').textContent") == "live"
        browser.run("document.querySelector('[data-lanes=agent]').click()")
        fleet.ledger("alice").claim("first")
        browser.until("document.querySelectorAll('.bar').length === 1")
        assert browser.run("document.querySelector('.bar').ariaLabel").startswith(
            "alice held first"
        )
        assert browser.run("document.querySelector('[data-lanes=agent]').ariaPressed") == "true"
        assert browser.faults == []


def test_what_goes_wrong_later_is_shown_on_the_page(fleet: Fleet, served: Served) -> None:
    fleet.remote.rename(fleet.remote.with_name("away.git"))
    end = time.monotonic() + 60
    while not (found := json.loads(served.ask("data.json")[2])).get("trouble"):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "[remote-unreachable]" in found["trouble"]
    assert served.ask()[0] == 200
