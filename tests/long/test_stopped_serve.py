"""A resident verifier that has stopped: each push waits for it, and then does without."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from support.serve_process import serving, without_python

from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet


def good(attacker: Attacker) -> str:
    return attacker.propose(attacker.signed("alice", "void"))


def both(attacker: Attacker) -> None:
    """A right record passes and a forged one does not."""
    assert attacker.push(good(attacker)).slug == ""
    forged = attacker.propose(attacker.sign(attacker.record("alice", "void"), mint()))
    assert attacker.refusal(forged) == "bad-signature"


def test_a_stopped_resident_costs_seconds(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    with serving(fleet) as resident:
        resident.send(signal.SIGSTOP)
        start = time.monotonic()
        both(attacker)
        assert time.monotonic() - start < 20
        folder = os.open(fleet.remote / "coordledger", os.O_RDONLY)  # its whole path is too long
        waiting = []
        for _ in range(100):  # until not even a connection is taken any more
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            waiting.append(one)
            if one.connect_ex(f"/proc/self/fd/{folder}/socket"):
                break
        assert 1 < len(waiting) < 100
        start = time.monotonic()
        assert attacker.push(good(attacker)).slug == ""
        assert time.monotonic() - start < 15
        for one in waiting:
            one.close()
        os.close(folder)
        assert "`coordledger serve` does not answer" in fleet.run("doctor", agent="alice").stdout
        resident.send(signal.SIGCONT)
        with without_python(fleet):
            both(attacker)
        assert fleet.run("doctor", agent="alice").returncode == 0
