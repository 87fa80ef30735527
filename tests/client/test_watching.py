"""What a live screen reads: all of it once, and then what has changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.other_host import OtherHost

from coordledger.client import watching
from coordledger.client.claims import time_of
from coordledger.client.config import Options
from coordledger.client.opening import connect
from coordledger.client.watching import Watching
from coordledger.errors import Failed
from coordledger.format import timestamps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger


@pytest.fixture
def alice(fleet: Fleet) -> Ledger:
    return fleet.ledger("alice", "s1")


@pytest.fixture
def watcher(fleet: Fleet) -> Iterator[Watching]:
    options = Options(path=fleet.clone("alice"), agent="alice")
    with connect(options, fleet.env) as connection:
        yield Watching(connection)


def test_what_is_read_is_what_the_commands_tell(
    fleet: Fleet, alice: Ledger, watcher: Watching
) -> None:
    alice.submit("next", priority=5)
    alice.submit("last", after=["next"])
    alice.policy(max_attempts=1)
    alice.claim("vain")
    alice.release("vain", reason="no idea")
    alice.claim("held", note="half of it")
    alice.claim("ended")
    alice.complete("ended")
    alice.send("look", to="alice")
    read = watcher.read()
    listed = alice.some_tasks()
    assert Counter(read.counts) == Counter(listed.statuses)
    assert list(read.held) == [one for one in listed.tasks if one.task == "held"]
    assert read.stuck == len(alice.some_tasks(stuck=True).tasks) == 1
    assert list(read.news) == alice.log()
    assert list(read.agents) == alice.activity()
    asked = alice.status()  # which alone looks how records are written
    shown = replace(asked, session=read.status.session, writes=None, pushes_because=None)
    assert read.status == shown
    for choice, wanted in watching.CHOICES.items():
        found = alice.some_tasks(wanted.statuses, blocked=wanted.blocked, stuck=wanted.stuck)
        assert list(watcher.tasks(choice)) == list(found.tasks)
    found, records = watcher.describe("held")
    assert found == alice.describe("held")
    assert records == alice.log(task="held")


def test_what_has_not_changed_is_not_read_again(
    alice: Ledger, watcher: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[Any] = []
    whole = watching._page_of
    monkeypatch.setattr(watching, "_page_of", lambda tasks: pages.append(1) or whole(tasks))
    with alice.batch() as batch:
        for number in range(40):
            batch.submit(f"t{number}")
    alice.claim("t1")
    first = watcher.read()
    assert len(pages) > 20  # tasks are spread
    pages.clear()
    again = watcher.read()
    assert again.held is first.held
    assert again.news is first.news
    assert pages == []
    alice.claim("t2")
    then = watcher.read()
    assert len(pages) == 1
    assert {claim.task for claim in then.held} == {"t1", "t2"}
    assert [one.seq for one in then.news] == [*(one.seq for one in first.news), then.status.seq]
    assert then.counts == {"open": 38, "claimed": 2}


def test_a_lease_that_was_renewed_is_read_anew(alice: Ledger, watcher: Watching) -> None:
    alice.claim("t", ttl=timedelta(minutes=1))
    before = watcher.read().held[0].expires_at
    alice.renew("t", ttl=timedelta(hours=1), note="on my way")
    after = watcher.read().held[0]
    assert after.expires_at > before + timedelta(minutes=50)
    assert after.last.text == "on my way"


def test_without_the_remote_the_copy_tells_how_old_it_is(
    fleet: Fleet, alice: Ledger, watcher: Watching
) -> None:
    alice.submit("t")
    read = watcher.read()
    fleet.remote.rename(fleet.root / "away")
    with pytest.raises(Failed):
        watcher.read()
    again = watcher.recall()
    assert again.counts == {"open": 1}
    assert again.as_of == read.as_of
    options = Options(path=fleet.clone("alice"), agent="alice", offline=True)
    with connect(options, fleet.env) as connection:
        looked = timestamps.show(connection.local.looked_at)
        assert Watching(connection).read().as_of == time_of(looked)


def test_on_another_host_a_reading_is_one_question_and_what_is_new_one_vouch(
    fleet: Fleet, alice: Ledger
) -> None:
    fleet.enroll("bob")
    alice.claim("t")
    host = OtherHost(fleet, "bob")
    with connect(Options(path=host.path, agent="bob"), host.env) as connection:
        bob = Watching(connection)
        read = bob.read()
        assert {one.checked for one in (*read.news, *read.held)} == {"server"}
        host.called()
        bob.read()
        assert host.called() == ["upload"]
        alice.claim("more")
        vouches = connection.replica.vouches
        ask, vouches.ask_first = vouches.ask_first, lambda: None  # the server gives none
        assert bob.read().news[-1].checked == "nobody"
        assert host.called() == ["upload"]
        vouches.ask_first = ask
        read = bob.read()
        assert {one.checked for one in (*read.news, *read.held)} == {"server"}
        assert host.called() == ["upload", "receive"]
