"""What a server says that it has verified: when it counts, and for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.memory_remote import MemoryClient, MemoryServer

from coordledger.answers import Vouch
from coordledger.client import by_commits, operations
from coordledger.client.vouches import Vouches
from coordledger.errors import Integrity
from coordledger.format.chain import AUTHENTIC, INVALID, UNKNOWN_KEY, UNVERIFIED
from coordledger.git.address import resolve
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, UNSENT, WON, Push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OTHER_LEDGER, OTHER_DIGEST = "ef" * 16, "12" * 32


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer("bob")


@pytest.fixture
def client(server: MemoryServer, tmp_path: Path, env: dict[str, str]) -> Iterator[MemoryClient]:
    made = MemoryClient(server, tmp_path / "alice.git", env)
    made.replica.refresh()
    yield made
    made.close()


def tried(*vouches: Vouch) -> Push:
    return Push(REFUSED, "a try", "try-ok", vouches=vouches or None)


def checked(client: MemoryClient, seq: int) -> str:
    return client.replica.vouches.who_checked(UNVERIFIED, seq)


def changed(vouch: Vouch, **facts: object) -> Vouch:
    values = {name: getattr(vouch, name) for name in ("ledger", "seq", "digest", "at")}
    return Vouch(**values | facts)  # type: ignore[arg-type]


def test_it_covers_all_up_to_its_record_and_nothing_above(
    server: MemoryServer, client: MemoryClient
) -> None:
    vouches = client.replica.vouches
    assert (vouches.enforcement, vouches.were_given, checked(client, 0)) == (
        "unknown",
        False,
        "nobody",
    )
    [vouch] = server.vouches
    assert vouches.note_try(tried(vouch)) == vouch
    server.write("bob", "submit", task="t")
    client.replica.refresh()
    assert [checked(client, seq) for seq in (0, 1, 2)] == ["server", "server", "nobody"]
    assert vouches.who_checked(UNVERIFIED, None, 1) == "server"
    assert vouches.who_checked(UNVERIFIED, 1, 2) == "nobody"
    assert (vouches.enforcement, vouches.newest) == ("server", vouch)


@pytest.mark.parametrize("seq", [0, 2])
def test_one_that_a_key_here_can_judge_is_judged_here(
    server: MemoryServer, client: MemoryClient, seq: int
) -> None:
    vouches = client.replica.vouches
    vouches.note_try(tried(*server.vouches))
    assert vouches.who_checked(AUTHENTIC, seq) == "here"
    assert vouches.who_checked(INVALID, seq) == "nobody"
    assert vouches.who_checked(UNKNOWN_KEY, seq) == "nobody"


def test_one_of_a_record_that_is_not_here_yet_waits_for_it(
    server: MemoryServer, client: MemoryClient
) -> None:
    server.write("bob", "submit", task="t")
    client.replica.vouches.note_try(tried(*server.vouches))
    assert checked(client, 1) == "nobody"
    server.write("bob", "submit", task="u")
    client.replica.refresh()
    assert (checked(client, 2), checked(client, 3)) == ("server", "nobody")


def test_an_older_one_still_counts_while_a_newer_one_waits(
    server: MemoryServer, client: MemoryClient
) -> None:
    vouches = client.replica.vouches
    vouches.note_try(tried(*server.vouches))
    server.write("bob", "submit", task="t")
    vouches.note_try(tried(*server.vouches))
    assert (checked(client, 1), checked(client, 2)) == ("server", "nobody")


def test_it_outlives_the_process_and_is_one_address_s(
    server: MemoryServer, client: MemoryClient
) -> None:
    [vouch] = server.vouches
    client.replica.vouches.note_try(tried(vouch))
    again = Vouches(client.replica)
    assert (again.enforcement, again.newest) == ("server", vouch)
    client.remote.address = resolve("memory::elsewhere", [], None)
    elsewhere = Vouches(client.replica)
    assert (elsewhere.enforcement, elsewhere.newest, elsewhere.were_given) == (
        "unknown",
        None,
        False,
    )
    elsewhere.note_try(Push(WON, vouches=()))
    assert Vouches(client.replica).enforcement == "none"
    assert client.replica.vouches.enforcement == "unknown"  # the file is the other address's now


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"answered":1,"fitting":"","pending":[],"url":"memory::"}\n',
        "\xff",
        "{" * 99,
    ],
)
def test_a_file_that_is_no_memory_counts_as_none(
    client: MemoryClient, server: MemoryServer, content: str
) -> None:
    client.replica.vouches.note_try(tried(*server.vouches))
    (client.local.folder / "vouches").write_text(content, "latin-1")
    assert (client.replica.vouches.enforcement, checked(client, 0)) == ("unknown", "nobody")
    client.replica.vouches.note_try(tried(*server.vouches))
    assert (client.replica.vouches.enforcement, checked(client, 0)) == ("server", "server")


ANSWERS: dict[str, tuple[Callable[[Vouch], Push], str]] = {
    "a try that is vouched for": (tried, "server"),
    "the same line twice": (lambda v: tried(v, changed(v)), "server"),
    "another ledger's line beside it": (
        lambda v: tried(changed(v, ledger=OTHER_LEDGER), v),
        "server",
    ),
    "two lines that differ": (lambda v: tried(v, changed(v, digest=OTHER_DIGEST)), "unknown"),
    "another ledger's line": (lambda v: tried(changed(v, ledger=OTHER_LEDGER)), "unknown"),
    "a day that there is not": (
        lambda v: tried(changed(v, at=f"2026-02-30{v.at[10:]}")),
        "unknown",
    ),
    "a try that is refused and not vouched for": (lambda _: tried(), "unknown"),
    "a try that lands": (lambda _: Push(WON, vouches=()), "none"),
    "a try that lands, whatever was printed": (lambda v: Push(WON, vouches=(v,)), "none"),
    "a try that was not sent": (lambda _: Push(UNSENT), "unknown"),
    "a try without an answer": (lambda _: Push(UNKNOWN), "unknown"),
    "a try that met another": (lambda _: Push(LOST), "unknown"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_whether_the_server_enforces_is_its_newest_answer(
    server: MemoryServer, client: MemoryClient, answer: str
) -> None:
    vouches, [vouch] = client.replica.vouches, server.vouches
    vouches.note_try(tried(vouch))
    push, enforcement = ANSWERS[answer]
    vouches.note_try(push(vouch))
    assert vouches.enforcement == enforcement
    assert checked(client, 1) == "server"  # what was verified stays so
    assert vouches.were_given


LANDED: dict[str, tuple[Callable[[Vouch], Push], str]] = {
    "the record is vouched for": (lambda v: Push(WON, vouches=(v,)), "server"),
    "a later one is": (lambda v: Push(WON, vouches=(changed(v, seq=9),)), "server"),
    "only what was below it is": (lambda v: Push(WON, vouches=(changed(v, seq=0),)), "none"),
    "nothing is": (lambda _: Push(WON, vouches=()), "none"),
    "found in the chain": (lambda _: Push(WON), "unknown"),
}


@pytest.mark.parametrize("answer", LANDED)
def test_a_push_that_lands_without_a_vouch_lowers_what_is_known(
    server: MemoryServer, client: MemoryClient, answer: str
) -> None:
    push, enforcement = LANDED[answer]
    [vouch] = server.vouches
    client.replica.vouches.note_landed(push(vouch), vouch.seq)
    assert client.replica.vouches.enforcement == enforcement


@pytest.mark.parametrize("hooked", [True, False])
def test_each_write_tells(
    server: MemoryServer, client: MemoryClient, env: dict[str, str], hooked: bool
) -> None:
    server.hooked = hooked
    wanted = operations.claim(["t"])
    client.writer.write(wanted.what, wanted.build)
    assert client.replica.vouches.enforcement == ("server" if hooked else "none")
    assert checked(client, 2) == ("server" if hooked else "nobody")


def test_a_server_that_has_verified_another_history_is_found_out(
    server: MemoryServer, client: MemoryClient
) -> None:
    [vouch] = server.vouches
    client.replica.vouches.note_try(tried(changed(vouch, digest=OTHER_DIGEST)))
    assert checked(client, 0) == "nobody"
    with pytest.raises(Integrity) as caught:
        client.replica.refresh()
    assert caught.value.code == "vouch-differs"
    assert f"record {vouch.seq} " in caught.value.message
    client.replica.vouches.note_try(tried(vouch))  # and what it says later does not undo it
    with pytest.raises(Integrity):
        client.replica.refresh()
    client.local.reset()
    assert client.replica.refresh().head


def test_nothing_of_many_records_is_adopted_before_they_reach_the_vouched_one(
    server: MemoryServer, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_commits, "PORTION", 1)
    before = client.local.trusted
    [vouch] = server.vouches
    client.replica.vouches.note_try(tried(changed(vouch, seq=4, digest=OTHER_DIGEST)))
    for task in ("t", "u", "v"):
        server.write("bob", "submit", task=task)
    with pytest.raises(Integrity) as caught:
        client.replica.refresh()
    assert caught.value.code == "vouch-differs"
    assert client.local.trusted == before


def test_a_chain_that_is_not_the_vouched_one_is_not_adopted(
    server: MemoryServer, client: MemoryClient
) -> None:
    before = client.local.trusted
    [vouch] = server.vouches
    client.replica.vouches.note_try(tried(changed(vouch, seq=2, digest=OTHER_DIGEST)))
    assert client.replica.refresh().head  # it has not got that far
    server.write("bob", "submit", task="t")
    with pytest.raises(Integrity) as caught:
        client.replica.refresh()
    assert caught.value.code == "vouch-differs"
    assert client.local.trusted == before


def test_what_is_remembered_of_another_chain_covers_nothing_of_this_one(
    server: MemoryServer, client: MemoryClient
) -> None:
    """As where another process writes down an older answer just after a reset."""
    vouches, [vouch] = client.replica.vouches, server.vouches
    vouches.note_try(tried(vouch))
    path = client.local.folder / "vouches"
    path.write_text(path.read_text().replace(vouch.digest, OTHER_DIGEST))
    assert (checked(client, 0), vouches.newest) == ("nobody", None)


def test_a_record_that_no_chain_will_reach_hides_nothing(
    server: MemoryServer, client: MemoryClient
) -> None:
    vouches, [vouch] = client.replica.vouches, server.vouches
    vouches.note_try(tried(vouch))
    for seq in range(10**15 - 20, 10**15):
        vouches.note_try(tried(changed(vouch, seq=seq)))
    assert (checked(client, 1), checked(client, 2)) == ("server", "nobody")
    assert len(vouches.pending) < 10
    server.write("bob", "submit", task="t")
    vouches.note_try(tried(*server.vouches))
    assert client.replica.refresh().head
    assert (checked(client, 2), checked(client, 3)) == ("server", "nobody")


def test_only_what_was_cut_off_is_waited_for_no_longer(
    server: MemoryServer, client: MemoryClient
) -> None:
    """Else a bad record on top would hide that the server has gone back."""
    vouches, [vouch] = client.replica.vouches, server.vouches
    for seq, digest in ((5, OTHER_DIGEST), (6, "34" * 32)):
        vouches.note_try(tried(changed(vouch, seq=seq, digest=digest)))
    vouches.drop({OTHER_DIGEST})
    assert [one.seq for one in Vouches(client.replica).pending] == [6]
    assert vouches.enforcement == "server"


def test_nobody_is_said_only_after_the_server_was_asked(
    server: MemoryServer, client: MemoryClient
) -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        client.replica.vouches.note_try(tried(*server.vouches))

    client.replica.vouches.ask_first = ask
    assert client.replica.vouches.who_checked(AUTHENTIC, 1) == "here"
    assert client.replica.vouches.who_checked(INVALID, 1) == "nobody"
    assert not asked
    assert [checked(client, seq) for seq in (1, 0)] == ["server", "server"]
    assert len(asked) == 1


def test_what_a_shallow_copy_begins_with_is_the_servers_word(
    server: MemoryServer, tmp_path: Path, env: dict[str, str]
) -> None:
    server.write("bob", "submit", task="t")
    [vouch] = server.vouches
    server.write("bob", "submit", task="u")
    client = MemoryClient(server, tmp_path / "shallow.git", env)
    client.replica.join(1, None)
    client.replica.vouches.note_try(tried(vouch))  # of a record below its edge
    assert checked(client, 3) == "nobody"
    client.replica.vouches.note_try(tried(*server.vouches))
    assert checked(client, 3) == "server"
    client.close()
