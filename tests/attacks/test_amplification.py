"""Small records that make the server write much: it is bounded, by whichever way they come.

A record writes each file that it changes anew. Sixteen pages of tasks are full here, and so are a
page of facts, a channel and an inbox; then an enrolled agent sends many small records that change
them.
"""

from __future__ import annotations

import functools
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.attack_batch import Batch
from support.attacker import fsck
from support.sequencing import enveloped, switch
from support.serve_process import serving
from support.ways_in import HANDED_ON, WAYS_IN

from coordledger.format.state import fact_path, page_path
from coordledger.server.admission import MAX_RENDERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet
    from support.ways_in import WayIn

# Full, and yet with room for what each way in may land: 382 bytes a claim on every page.
FILLING, TOO_MANY, WITHIN = 24, 22, 14
NOISE = "0123456789abcdef" * 63  # what deflates is not the point: the bytes are counted before


@functools.cache
def names_by_page() -> list[list[str]]:
    """Tasks that fall on the same sixteen pages, page by page. It takes a second: no process that
    runs none of these tests has to wait for it.
    """
    pages = [f"tasks/{a:02x}/{b:02x}.jsonl" for a in range(4) for b in range(4)]
    found: dict[str, list[str]] = {page: [] for page in pages}
    number, wanted = 0, FILLING + TOO_MANY + WITHIN * len(WAYS_IN)
    while min(map(len, found.values())) < wanted:
        found.get(page_path(f"x{number}"), []).append(f"x{number}")
        number += 1
    return list(found.values())


KEYS = [key for key in (f"f{n}" for n in range(4000)) if fact_path(key) == fact_path("f0")]


@pytest.fixture(scope="module")
def shared_fleet(
    founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    fleet = founded("bob", "carol", "erin")
    switch(fleet, sequence=True)
    batch = Batch(fleet, tmp_path_factory.mktemp("filler") / "batch.git")
    meta = dict.fromkeys("abcd", NOISE)
    for names in names_by_page():
        for name in names[:FILLING]:
            batch.put("bob", "submit", task=name, meta=meta)
        batch.send()
    batch.put("alice", "policy", set={"inbox_reserve": 0})  # an inbox that is full to its end
    for sender in ("alice", "bob", "carol", "erin"):
        for _ in range(2):
            batch.put(sender, "send", to="erin", body="x" * 60_000)
    sends(batch, 200)
    for key in KEYS[:30]:
        batch.put("bob", "fact", fact=key, value="x" * 4000)
    batch.send()
    assert 120_000 < len(batch.chain.state.tree.get(fact_path("f0")) or b"") < 131_072
    sizes = [
        len(batch.chain.state.tree.get(page_path(names[0])) or b"") for names in names_by_page()
    ]
    assert 105_000 < min(sizes) <= max(sizes) < 131_072
    assert len(batch.chain.state.tree.get("inbox/erin.jsonl") or b"") > 480_000
    batch.close()
    with serving(fleet):
        yield fleet


@pytest.fixture
def batch(shared_fleet: Fleet, tmp_path: Path) -> Iterator[Batch]:
    made = Batch(shared_fleet, tmp_path / "batch.git")
    yield made
    made.close()


def claims(batch: Batch, count: int, *, first: int = FILLING) -> list[str]:
    """Claims of sixteen tasks each that nobody offered, one on each page."""
    return [
        batch.put("bob", "claim", tasks=sorted(names[n] for names in names_by_page()))
        for n in range(first, first + count)
    ]


def sends(batch: Batch, count: int) -> list[str]:
    """To a channel, which keeps the newest 200: just large enough for it to stay full."""
    return [batch.put("bob", "send", channel="full", body="x" * 500) for _ in range(count)]


def letters(batch: Batch, count: int) -> list[str]:
    senders = itertools.cycle(("alice", "bob", "carol"))
    return [batch.put(next(senders), "send", to="erin", body="x") for _ in range(count)]


def facts(batch: Batch, count: int) -> list[str]:
    """Small ones on a full page, set again and again."""
    keys = itertools.cycle(KEYS[30:33])
    return [batch.put("bob", "fact", fact=next(keys), value="x") for _ in range(count)]


def stored(fleet: Fleet) -> int:
    return sum(path.stat().st_size for path in fleet.remote.glob("objects/*/*"))


@pytest.mark.parametrize("way", WAYS_IN.values(), ids=WAYS_IN)
@pytest.mark.parametrize(
    ("make", "count"), [(claims, TOO_MANY), (sends, 300), (letters, 72), (facts, 275)]
)
def test_what_would_render_more_than_is_allowed_is_refused_and_nothing_of_it_is_written(
    shared_fleet: Fleet,
    batch: Batch,
    way: WayIn,
    make: Callable[[Batch, int], list[str]],
    count: int,
) -> None:
    head, before = batch.tip, stored(shared_fleet)
    oids = make(batch, count)
    pushed = way.push(batch, enveloped(batch, *oids)[-1] if way.sequences else oids[-1])
    assert (pushed.slug, pushed.short) == ("too-much", "-")  # no single record is to blame
    assert batch.tip == head
    assert stored(shared_fleet) - before < 1_000_000


@pytest.mark.parametrize("way", HANDED_ON.values(), ids=HANDED_ON)
def test_what_would_render_more_where_it_was_made_than_where_it_lands_is_refused(
    shared_fleet: Fleet, batch: Batch, way: WayIn
) -> None:
    """The server renders it there, too, if it brings more than its commits, and keeps that."""
    sends(batch, 200)
    batch.send()
    below = batch.tip
    batch.put("alice", "drop", channel="full")
    batch.send()
    head, before = batch.tip, stored(shared_fleet)
    batch.go_on_from(below)
    pushed = way.push(batch, sends(batch, 290)[-1])
    assert (pushed.slug, pushed.short) == ("too-much", "-")
    assert batch.tip == head
    assert stored(shared_fleet) - before < 1_000_000
    batch.go_on_from(below)
    assert way.push(batch, sends(batch, 10)[-1]).slug == ""


@pytest.mark.parametrize("number", range(len(WAYS_IN)), ids=WAYS_IN)
def test_what_is_within_grows_the_repository_by_no_more_and_neighbours_get_their_turn(
    shared_fleet: Fleet, batch: Batch, number: int
) -> None:
    way, hour = list(WAYS_IN.values())[number], timedelta(hours=1)
    with shared_fleet.ledger("carol") as neighbour:
        neighbour.claim(f"mine-{number}", ttl=hour)
        before, head = stored(shared_fleet), batch.tip
        oids = claims(batch, WITHIN, first=FILLING + TOO_MANY + WITHIN * number)
        new = enveloped(batch, *oids)[-1] if way.sequences else oids[-1]
        with way.alone(shared_fleet, with_python=True), ThreadPoolExecutor(1) as pool:
            attack = pool.submit(batch.push, f"{new}:{way.ref}")
            time.sleep(0.2)
            began = time.monotonic()
            neighbour.renew(f"mine-{number}", ttl=2 * hour)
            took = time.monotonic() - began
            attacked = attack.result()
    assert took < 5
    assert stored(shared_fleet) - before < MAX_RENDERED
    if way.sequences:  # else one of the two has lost the race, and only the neighbour tries again
        assert attacked.slug == ""
        landed = shared_fleet.git("rev-list", "--count", f"{head}..{batch.tip}")
        assert int(landed) == WITHIN + 1
    fsck(shared_fleet.remote, shared_fleet.env)
