"""`watch` on a real terminal: what is seen, what keys do, and that the terminal is given back."""

from __future__ import annotations

import os
import re
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attack_batch import Batch
from support.git_daemon import daemon
from support.hostile import TEXTS, is_harmless
from support.proxy import Fault, Proxy
from support.runs import PATIENCE
from support.screens import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

INK = re.compile(rb"\x1b\[(\d+;)*[34][0-7](;\d+)*m")  # a colour of the terminal's
QUICK = ("watch", "--interval", "1s")


def lease_of(screen: Screen, task: str) -> str:
    """What is left of it, as is seen."""
    return next(line.split()[3] for line in screen.lines if line[2:].startswith(task))


@pytest.fixture(scope="module")
def busy_fleet(founded: Callable[..., Fleet]) -> Fleet:
    fleet = founded("bob", "carol")
    alice = fleet.ledger("alice", "s1")
    for name in ("build", "docs", "tests"):
        alice.submit(name, title=f"About {name}")
    fleet.ledger("bob", "s2").claim("build", ttl=timedelta(hours=3), note="half of it")
    fleet.ledger("carol", "s3").claim("docs", ttl=timedelta(hours=2))
    return fleet


def test_it_shows_what_happens_and_quits(busy_fleet: Fleet) -> None:
    with Screen(busy_fleet, "alice", *QUICK) as screen:
        screen.see("bob/s2", "  2:59:", "half of it")
        busy_fleet.ledger("bob", "s2").claim("tests")
        screen.see("HELD 3")
        busy_fleet.ledger("alice", "s1").release("tests", force=True, reason="not yours")
        screen.see("by force from bob; not yours")
        left = lease_of(screen, "build")
        screen.until(lambda: lease_of(screen, "build") < left)  # it counts down
        screen.type("q")
        assert screen.end() == 0
        assert screen.is_restored()


def test_only_what_has_changed_is_sent_again(busy_fleet: Fleet) -> None:
    with Screen(busy_fleet, "alice", "watch", "--interval", "30s") as screen:
        screen.see("HELD 2", "q quit", "r refresh")  # the whole of the first frame
        sent = len(screen.sent)
        before = screen.text
        screen.until(lambda: screen.text != before)  # a second has passed
        assert len(screen.sent) - sent < 400


def test_keys_filter_open_and_go_back(busy_fleet: Fleet) -> None:
    with Screen(busy_fleet, "alice", "watch") as screen:
        screen.see("HELD 2")
        screen.type("/agent:bob\r")
        screen.see("HELD 1 of 2", "build", without="About docs")
        screen.type("\r")
        screen.see("HISTORY", "About build", "half of it")
        screen.type("\x1b")
        screen.see("AGENTS")
        screen.type("\x1b")
        screen.see("HELD 2")
        screen.type("s")
        screen.see("OPEN 1")
        screen.type("?")
        screen.see("ask the remote now")


def test_it_is_drawn_anew_in_another_size_and_without_colours(busy_fleet: Fleet) -> None:
    with Screen(busy_fleet, "alice", "watch", NO_COLOR="1") as screen:
        screen.see("AGENTS 3")
        screen.resize(160, 40)
        screen.until(lambda: "AGENTS 3" in screen.text.partition("bob/s2")[0])  # beside the tasks
        screen.resize(60, 12)
        screen.until(lambda: "AGENTS 3" not in screen.text.partition("bob/s2")[0])
        screen.resize(20, 5)
        screen.see("too small")
        screen.type("q")
        assert screen.end() == 0
        assert not INK.search(screen.sent)


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_gives_the_terminal_back(
    busy_fleet: Fleet, by: signal.Signals, code: int
) -> None:
    with Screen(busy_fleet, "alice", *QUICK) as screen:
        screen.see("HELD 2")
        screen.process.send_signal(by)
        assert screen.end() == code
        assert screen.is_restored()


def test_it_ends_when_its_terminal_is_gone_even_if_hang_ups_are_ignored(busy_fleet: Fleet) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a program inherits, as of nohup
    try:
        screen = Screen(busy_fleet, "alice", *QUICK)
    finally:
        signal.signal(signal.SIGHUP, before)
    with screen:
        screen.see("HELD 2")
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), screen.master)
        assert screen.process.wait(PATIENCE) == 0


def test_it_is_stopped_and_goes_on_also_on_a_terminal_without_a_size(busy_fleet: Fleet) -> None:
    with Screen(busy_fleet, "alice", "watch") as screen:
        screen.resize(0, 0)
        screen.see("HELD 2", "q quit")
        screen.type("\x1a")
        screen.until(screen.is_stopped)
        screen.until(screen.is_restored)
        sent = len(screen.sent)
        screen.process.send_signal(signal.SIGCONT)
        screen.until(lambda: b"HELD" in screen.sent[sent:])
        screen.type("q")
        assert screen.end() == 0


def test_a_remote_that_is_away_is_said_and_nothing_passes_for_fresh(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet()
    fleet.ledger("alice").submit("t")
    fleet.ledger("alice").claim("t", ttl=timedelta(seconds=5))
    with Screen(fleet, "alice", *QUICK) as screen:
        screen.see("as it stood")
        away = fleet.remote.rename(fleet.root / "away")
        screen.see("CANNOT READ the remote", "shown is how it stood at", without="as it stood")
        screen.see("!! ended? ")  # a renewal may not have been seen
        away.rename(fleet.remote)
        screen.see("as it stood", "!! ended ")


def test_keys_are_answered_and_it_quits_while_the_remote_says_nothing(
    make_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    fleet = make_fleet()
    fleet.ledger("alice").submit("t")
    served = daemon(fleet.root, fleet.env, writable=False)
    with served as port, Proxy(port) as proxy:
        fleet.git("-C", str(fleet.clone("alice")), "remote", "set-url", "origin",
                  f"git://127.0.0.1:{proxy.port}/{fleet.remote.name}")  # fmt: skip
        with Screen(fleet, "alice", *QUICK) as screen:
            screen.see("as it stood")
            proxy.fault = Fault(hole=True)
            screen.see("ASKING the remote")
            screen.type("s\r")
            screen.see("HISTORY")
            screen.type("q")
            assert screen.end() == 0
            assert screen.is_restored()


def test_hostile_text_does_nothing(shared_fleet: Fleet, tmp_path: Path) -> None:
    batch = Batch(shared_fleet, tmp_path / "batch.git")
    for number, text in enumerate(TEXTS.values()):
        batch.put("bob", "submit", task=f"h{number}", title=text, body=text)
        batch.put("bob", "claim", tasks=[f"h{number}"], note=text)
        batch.put("bob", "send", channel="general", body=text)
    batch.send()
    batch.close()
    with Screen(shared_fleet, "alice", "watch", size=(200, 60)) as screen:
        screen.see(f"HELD {len(TEXTS)}")
        screen.type("\r")
        screen.see("HISTORY")
        screen.type("\x1b")
        screen.see("AGENTS")
        assert is_harmless(screen.text)
        assert not screen.display.title
        assert b"\x1b]" not in screen.sent
        assert b"\x9b" not in screen.sent.replace(b"\xe2\x96\x9b", b"")
        for line in screen.lines:  # nothing has moved the cursor
            assert len(line) <= 200


def test_it_needs_a_terminal_and_says_so(shared_fleet: Fleet) -> None:
    ran = shared_fleet.run("watch", agent="alice", check=1)
    assert ran.stderr.splitlines()[0].endswith("watch needs a terminal to draw on")
    assert "--once" in ran.stderr
    ran = shared_fleet.run("watch", "--once", agent="alice", check=0)
    assert ran.stdout.startswith(" coordledger main")
