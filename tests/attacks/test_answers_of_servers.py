"""What a hostile server answers to a push: an outcome that its report bears out, or none."""

from __future__ import annotations

import random
import time

import pytest
from support.hostile import BIDI, ESCAPES

from coordledger.errors import printable
from coordledger.git import pktline
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, WON, from_report
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.git.push_protocol import Advertisement, report

REF, OID = "refs/for/coordledger/main", "a" * 40
THERE = Advertisement({}, frozenset({"side-band-64k", "report-status"}))
PIECES = [
    *(
        f"ok {REF}\n",
        f"ng {REF} held\n",
        f"ng {REF} fetch first\n",
        "ok refs/heads/x\n",
        "unpack ok\n",
    ),
    *("unpack nothing\n", "ok\n", "ng\n", "\n", ESCAPES + "\n", BIDI + "\n", "x" * 60_000),
]
PRINTED = [
    *(f"coordledger: landed {OID} {seq} {OID}\n" for seq in (0, -1, 7, 10**14, 10**30, "1" * 5000)),
    *(
        f"coordledger: refused {OID[:12]}: {code}: {ESCAPES}\n"
        for code in ("held", "replayed", "x", "")
    ),
    *(f"coordledger: unknown -: {BIDI}\n", "coordledger: sequenced\n", "coordledger: vouch\n"),
    *(f"coordledger: vouch {'a' * 32} {10**40}:{'b' * 64} at now\n", ESCAPES, "\r", "y" * 60_000),
]


def answer(dice: random.Random) -> bytes:
    """Some packets on some bands, a whole report among them or none."""
    inner = b"".join(
        pktline.encode(dice.choice(PIECES).encode()) for _ in range(dice.randint(0, 4))
    ) + (FLUSH if dice.random() < 0.8 else b"")
    if dice.random() < 0.6:
        inner = pktline.encode(b"unpack ok\n") + inner
    packets = [pktline.encode(b"\1" + inner)] if len(inner) < 65_000 else []
    for _ in range(dice.randint(0, 5)):
        band = dice.choice((b"\2", b"\2", b"\2", b"\3", b"\1", b"\4", b""))
        said = pktline.encode(band + dice.choice(PRINTED).encode())
        packets.insert(dice.randint(0, len(packets)), said)
    whole = b"".join(packets) + (FLUSH if dice.random() < 0.9 else b"")
    return whole[: dice.randint(0, len(whole))] if dice.random() < 0.1 else whole


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_is_a_report_or_none_and_won_only_if_it_says_ok(seed: int) -> None:
    dice, began = random.Random(seed), time.monotonic()
    for _ in range(100):
        given = answer(dice)
        try:
            found = report(given, THERE)
        except ProtocolError as fault:
            assert printable(fault).isprintable()
            continue
        push = from_report(found, REF)
        assert push.outcome in {WON, LOST, REFUSED, UNKNOWN}
        if push.outcome == WON:
            assert f"ok {REF}".encode() in given
        assert all(0 <= seq < 10**15 for seq, _ in (push.landed or {}).values())
        assert printable(push.why).isprintable()
    assert time.monotonic() - began < 60
