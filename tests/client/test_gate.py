"""Which claims pass the gate for scripts: those that are live, of the one meant, and authentic."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_ledger import LEASE, SKEW
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.answers import Vouch
from coordledger.client.gate import _latest, need_checked, need_live
from coordledger.client.tries import Asked
from coordledger.client.views import Views
from coordledger.errors import CoordledgerError, error
from coordledger.format import timestamps
from coordledger.git.outcome import REFUSED, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.client.claims import Claim
    from coordledger.format.state import State


class Gate:
    """Bob's claim of a task, in its second epoch, as a reader sees it."""

    def __init__(self, server: MemoryServer, client: MemoryClient) -> None:
        for who in ("carol", "bob"):
            server.write(who, "claim", tasks=["t"])
            if who == "carol":
                server.write(who, "release", task="t")
        self.replica = client.replica
        self.state: State = client.replica.refresh().state
        self.claim: Claim = Views(client.replica, client.now).claim(self.state, "t")
        assert (self.claim.agent, self.claim.epoch, self.claim.verdict) == ("bob", 2, "authentic")
        assert self.claim.expires_at is not None
        self.end = int(self.claim.expires_at.timestamp() * 1000)

    def live(self, at: int, by: str | None = None, epoch: int | None = None) -> str:
        return refusal(need_live, self.claim, self.state, at, by=by, epoch=epoch)


def refusal(act: Callable[..., None], *args: Any, **given: Any) -> str:
    """The slug with which a claim does not pass, or "" if it does."""
    try:
        act(*args, **given)
    except CoordledgerError as refused:
        return refused.code
    return ""


@pytest.fixture
def gate(tmp_path: Path, env: dict[str, str]) -> Iterator[Gate]:
    server = MemoryServer("bob", "carol")
    client = MemoryClient(server, tmp_path / "reader.git", env)
    yield Gate(server, client)
    client.close()


def test_a_lease_counts_until_a_skew_before_its_end(gate: Gate) -> None:
    assert gate.live(gate.end - LEASE) == ""
    assert gate.live(gate.end - SKEW - 1) == ""
    assert gate.live(gate.end - SKEW) == "not-live"
    assert gate.live(gate.end) == "not-live"


@pytest.mark.parametrize(
    ("by", "epoch", "code"),
    [
        (None, None, ""),
        ("bob", 2, ""),
        ("carol", None, "not-holder"),
        ("carol", 2, "not-holder"),
        (None, 1, "wrong-epoch"),
        (None, 3, "wrong-epoch"),
        ("bob", 0, "wrong-epoch"),
    ],
)
def test_the_holder_and_the_epoch_have_to_be_those_that_are_meant(
    gate: Gate, by: str | None, epoch: int | None, code: str
) -> None:
    assert gate.live(gate.end - LEASE, by, epoch) == code


VOUCH = Vouch("ab" * 16, 7, "cd" * 32, "2026-11-29T08:00:00.000Z")
ANSWERS = {
    "a vouch": Asked(Push(REFUSED, code="try-ok", vouches=(VOUCH,)), VOUCH, 0),
    "no hook": Asked(Push(WON, vouches=()), None, 0),
    "no word of a hook": Asked(Push(REFUSED, "HTTP 403"), None, 0),
    "a refusal": Asked(Push(REFUSED), None, 0, error("unverified-below", why="record 7")),
    "nothing": None,
}


@pytest.mark.parametrize(("now", "since"), [(7000, 5000), (2000, 0), (1000, 0)])
def test_the_time_since_the_server_was_asked_counts(gate: Gate, now: int, since: int) -> None:
    """By a clock that may be set back meanwhile."""
    vouch = Vouch("ab" * 16, 7, "cd" * 32, "2900-01-01T00:00:00.000Z")
    connection: Any = SimpleNamespace(clock=lambda: now, replica=gate.replica)
    asked = Asked(Push(REFUSED), vouch, 2000)
    assert _latest(connection, gate.state, asked) == timestamps.parse(vouch.at) + since


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("checked", ["here", "server", "nobody"])
def test_it_opens_for_what_is_checked_here_or_vouched_for_now(
    gate: Gate, checked: str, answer: str, here: bool
) -> None:
    verdict = "authentic" if checked == "here" else "unverified"
    claim = replace(gate.claim, verdict=verdict, checked=checked)
    vouched = answer == "a vouch"
    code = refusal(need_checked, claim, ANSWERS[answer], here=here, vouched=vouched)
    if here:
        assert code == ("" if checked == "here" else "no-key")
    elif answer == "a refusal":
        assert code == "unverified-below"
    elif checked == "here" or (checked, answer) == ("server", "a vouch"):
        assert code == ""
    else:
        assert code == "nobody-checked"


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("verdict", ["unknown-key", "invalid"])
def test_it_opens_for_no_claim_that_is_bad(gate: Gate, verdict: str, answer: str) -> None:
    claim = replace(gate.claim, verdict=verdict, checked="nobody")
    for here in (True, False):
        code = refusal(need_checked, claim, ANSWERS[answer], here=here, vouched=True)
        assert code == "bad-signature"
