"""A copy follows by commits alone, and comes to what whole objects would have made of it."""

from __future__ import annotations

import json
import shutil
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support.attacker import Attacker, fsck, opened
from support.fleet import LEDGER_REF

from coordledger.client import by_commits
from coordledger.client.config import Options
from coordledger.client.replica import Replica
from coordledger.deadline import Deadline
from coordledger.errors import Failed, Integrity
from coordledger.git.process import Git
from coordledger.git.remote import News, Remote
from coordledger.setup import doctor, hooks, joining
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.fleet import Fleet

    from coordledger.client.ledger import Ledger


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who has git fetch whole objects: the refs that they fetched into."""
    found: list[str] = []
    fetch = Remote.fetch

    def noted(remote: Remote, ref: str, into: str, depth: int | None) -> bool:
        found.append(into)
        return fetch(remote, ref, into, depth)

    monkeypatch.setattr(Remote, "fetch", noted)
    return found


@pytest.fixture
def town(make_fleet: Callable[..., Fleet]) -> Fleet:
    """Alice and bob have joined; no hook refuses anything."""
    fleet = make_fleet().with_agents("bob")
    (fleet.remote / "hooks/pre-receive").unlink()
    fleet.ledger("bob").claim("one")
    fleet.ledger("alice").head()
    return fleet


def land(fleet: Fleet, count: int) -> None:
    """So many records of bob's."""
    with fleet.ledger("bob").batch() as batch:
        for n in range(count):
            batch.submit(f"task-{count}-{n}", title="what is to be done")


def whole(fleet: Fleet) -> None:
    fleet.git("config", "uploadpack.allowFilter", "false")


@pytest.mark.parametrize("count", [1, 3, 40], ids=["loose", "few", "a pack"])
@pytest.mark.parametrize(
    "upkeep", [("gc", "-q"), ("repack", "-a", "-d", "-q")], ids=["gc", "repack"]
)
def test_a_clone_has_everything_by_then_and_stays_an_ordinary_one(
    town: Fleet, fetches: list[str], count: int, upkeep: tuple[str, ...]
) -> None:
    clone = town.clone("alice")
    config = (clone / ".git/config").read_bytes()
    land(town, count)
    fetches.clear()
    alice = town.ledger("alice")
    assert alice.head().commit == town.head()
    assert fetches == []
    for _ in range(2):
        assert (clone / ".git/config").read_bytes() == config
        assert not list((clone / ".git/objects").rglob("*.promisor"))
        assert not list((clone / ".git/objects").rglob("*.keep"))
        assert town.git("for-each-ref", "refs/coordledger-incoming", cwd=clone) == ""
        fsck(clone / ".git", town.env)
        log = town.git("log", "--format=%H", "--stat", LEDGER_REF, cwd=clone)
        assert log.count("\n") > count
        town.git(*upkeep, cwd=clone)
        if upkeep[0] == "gc":
            town.git("gc", "-q", "--prune=now", cwd=clone)
    assert alice.audit(full=True).problems == ()
    assert opened(town, clone, "alice", offline=True).show("task-1-0" if count == 1 else "one")


@pytest.mark.parametrize("depth", [None, 1])
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_shallow_copies_and_packed_servers_are_followed_so(
    town: Fleet, fetches: list[str], depth: int | None, *, packed: bool
) -> None:
    path = town.root / "newcomer"
    town.git("init", "--quiet", path)
    joining.join(Options(path=path, agent="bob"), town.env, str(town.remote), depth=depth)
    land(town, 40)
    if packed:
        town.git("gc", "-q")
    fetches.clear()
    reader = opened(town, path, "bob")
    assert reader.head().commit == town.head()
    assert fetches == []
    fsck(path / ".git", town.env)
    assert reader.audit().problems == ()


def test_a_server_that_does_not_offer_it_is_fetched_from_whole(
    town: Fleet, fetches: list[str]
) -> None:
    whole(town)
    assert not [
        line
        for line in hooks.install_hook(town.remote, Git(town.env, town.root, Deadline(20)))
        if "allowFilter" in line
    ]
    assert town.git("config", "uploadpack.allowFilter") == "false\n"
    (town.remote / "hooks/pre-receive").unlink()
    land(town, 3)
    fetches.clear()
    assert town.ledger("alice").head().commit == town.head()
    assert len(fetches) == 1


def test_a_server_that_refuses_this_filter_is_fetched_from_whole(
    town: Fleet, fetches: list[str]
) -> None:
    town.git("config", "uploadpackfilter.tree.allow", "false")
    land(town, 3)
    fetches.clear()
    assert town.ledger("alice").head().commit == town.head()
    assert len(fetches) == 1


@pytest.mark.parametrize("offers", ["true", "false"])
def test_over_ssh_it_takes_one_connection_and_leaves_an_ordinary_clone(
    town: Fleet, fetches: list[str], offers: str
) -> None:
    calls, ssh = town.root / "calls", town.root / "ssh"
    ssh.write_text(f'#!/bin/sh\necho call >> "{calls}"\nshift $(($# - 1))\nexec sh -c "$1"\n')
    ssh.chmod(0o755)
    env = town.env | {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "simple"}
    clone = town.clone("alice")
    town.git("config", "transfer.fsckObjects", "true", cwd=clone)
    town.git("config", "coordledger.remote", f"ssh://host{town.remote}", cwd=clone)
    config = (clone / ".git/config").read_bytes()
    town.git("config", "uploadpack.allowFilter", offers)
    for count in (1, 40):
        land(town, count)
        fetches.clear()
        calls.write_text("")
        reader = opened(town, clone, "alice", environ=env)
        assert reader.head().commit == town.head()
        assert (fetches, calls.read_text()) == ([], "call\n")
        fsck(clone / ".git", town.env)
        assert (clone / ".git/config").read_bytes() == config
        assert not list((clone / ".git/objects").rglob("*.promisor"))
        assert not list((clone / ".git/objects").rglob("*.keep"))
        assert reader.audit(full=True).problems == ()
        calls.write_text("")
        assert reader.head().commit == town.head()  # nothing is new
        assert (fetches, calls.read_text()) == ([], "call\n")
    town.git("update-ref", "-d", LEDGER_REF)
    with pytest.raises(Integrity, match="any more"):
        reader.head()


# -- what is not plain ends as if it had come whole


def _forged(forge: Attacker) -> str:
    return forge.propose(forge.sign(forge.record("bob", "submit", task="FORGED"), mint()))


def _own_tree(forge: Attacker) -> str:
    """A right record with the tree of the one before."""
    return forge.render(forge.signed("bob", "submit", task="lies"))


def _another_tree(forge: Attacker) -> str:
    blob = forge.add("blob", b"x")
    return forge.render(forge.signed("bob", "void"), tree=forge.tree(("100644", blob, "x")))


def _other_words(forge: Attacker) -> str:
    return forge.changed(
        forge.propose(forge.signed("bob", "void")), b"Coordledger-Seq", b"Coordledger-SEQ"
    )


def _other_time(forge: Attacker) -> str:
    forge.later = 600_000
    return forge.propose(forge.signed("bob", "claim", tasks=["tomorrow"]))


def _no_record(forge: Attacker) -> str:
    who = "x <x@x> 1 +0000"
    raw = f"tree {forge.tree()}\nparent {forge.tip}\nauthor {who}\ncommitter {who}\n\nx\n"
    return forge.add("commit", raw.encode())


def _merge(forge: Attacker) -> str:
    honest = forge.propose(forge.signed("bob", "void"))
    return forge.changed(honest, b"\nauthor", f"\nparent {forge.tip}\nauthor".encode())


def _replayed(forge: Attacker) -> str:
    return forge.render(forge.stolen(forge.tip))


def _forked(forge: Attacker) -> str:
    below = parent = forge.git("rev-parse", f"{forge.tip}~3")  # a copy knows more
    for _ in range(3):
        parent = forge.propose(forge.signed("bob", "void", on=parent), on=parent)
    assert parent != below
    return parent


BAD = [
    _forged,
    _own_tree,
    _another_tree,
    _other_words,
    _other_time,
    _no_record,
    _merge,
    _replayed,
    _forked,
]


def _verdict(ledger: Ledger) -> Any:
    """All that a reader is told, and where its copy stands then."""
    try:
        ledger.head()
        stopped = ledger.status().stopped_at
        end: Any = {k: v for k, v in (stopped or {}).items() if k != "message"}
        why = (stopped or {}).get("message", "")
    except Integrity as fault:
        end, why = (fault.code, fault.data), fault.message
    head = ledger.connection.local.trusted
    assert head
    return end, why.partition(" ahead")[0], head.commit


@pytest.mark.parametrize("above", [0, 2], ids=["last", "below good ones"])
@pytest.mark.parametrize("make", BAD)
def test_what_is_bad_ends_as_if_it_had_come_whole(
    town: Fleet,
    attacker_for: Callable[[Fleet], Attacker],
    make: Callable[[Attacker], str],
    above: int,
) -> None:
    for name in ("by commits", "whole"):
        path = town.root / name
        town.git("init", "--quiet", path)
        joining.join(Options(path=path, agent="bob"), town.env, str(town.remote))
    land(town, 2)
    forge = attacker_for(town)
    tip = make(forge)
    for _ in range(above if make is not _other_time else 0):
        if make in (_no_record, _replayed, _other_words, _another_tree):
            break  # nobody can make a record on these
        tip = forge.propose(forge.signed("alice", "void", on=tip), on=tip)
    assert forge.push(tip).slug == ""
    found = []
    for name in ("by commits", "whole"):
        if name == "whole":
            whole(town)
        ledger = opened(town, town.root / name, "bob")
        found.append(_verdict(ledger))
        fsck(town.root / name / ".git", town.env)
        assert _verdict(opened(town, town.root / name, "bob")) == found[-1]
    assert found[0] == found[1]
    assert found[0][0]


LIES: dict[str, Callable[[str, dict[str, bytes], Fleet], News]] = {
    "fewer": lambda head, commits, fleet: News(head, dict(list(commits.items())[:-1])),
    "none of the newest": lambda head, commits, fleet: News(
        head, {oid: c for oid, c in commits.items() if oid != head}
    ),
    "nothing": lambda head, commits, fleet: News(head, {}),
    "a head that is not there": lambda head, commits, fleet: News("1" * 40, commits),
    "a circle": lambda head, commits, fleet: News(
        head, {oid: f"tree x\nparent {oid}\n\n".encode() for oid in commits}
    ),
    "other bytes": lambda head, commits, fleet: News(
        head,
        {oid: c.replace(b"Coordledger-Seq: ", b"Coordledger-Seq: 1") for oid, c in commits.items()},
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_server_says_there_is_believed_by_nobody(
    town: Fleet, fetches: list[str], monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    land(town, 5)
    alice = town.ledger("alice")
    remote = alice.connection.remote
    honest = remote.news

    def lying(ref: str, have: str, objects: str) -> News | None:
        news = honest(ref, have, objects)
        if not (news and news.head and news.commits):
            return news
        return LIES[lie](news.head, news.commits, town)

    monkeypatch.setattr(remote, "news", lying)
    fetches.clear()
    assert alice.head().commit == town.head()
    assert len(fetches) == 1
    fsck(town.clone("alice") / ".git", town.env)


def test_more_than_is_wanted_changes_nothing(
    town: Fleet, fetches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    land(town, 5)
    alice = town.ledger("alice")
    honest = alice.connection.remote.news

    def more(ref: str, have: str, objects: str) -> News | None:
        news = honest(ref, have, objects)
        return news and News(news.head, (news.commits or {}) | {"2" * 40: b"tree x\n\n"})

    monkeypatch.setattr(alice.connection.remote, "news", more)
    fetches.clear()
    assert alice.head().commit == town.head()
    assert fetches == []
    assert (
        town.git("cat-file", "--batch-check", "--batch-all-objects", cwd=town.clone("alice")).count(
            "2" * 40
        )
        == 0
    )


PROGRAMS = {  # what the server's program does once it has said its refs
    "ends": "exit 0",
    "never ends": "exec yes 0005x",
    "dies": r"printf '0008NAK\n0016\003out of memory...'; exit 1",
    "sends an empty pack": r"printf '0008NAK\n0011\001PACK\0\0\0\2\0\0\0\0' && printf 0000",
}


def saying(fleet: Fleet, then: str) -> dict[str, str]:
    """An environment in which `git upload-pack` does this, after it has listed the refs."""
    git, folder = shutil.which("git"), fleet.root / "bin"
    folder.mkdir()
    said = f'"{git}" upload-pack --advertise-refs "$2"; {then}'
    (folder / "git").write_text(
        f'#!/bin/sh\nif [ "$1" = upload-pack ]; then {said}; exit; fi\nexec "{git}" "$@"\n'
    )
    (folder / "git").chmod(0o755)
    return fleet.env | {"PATH": f"{folder}:{fleet.env['PATH']}"}


@pytest.mark.parametrize("then", PROGRAMS)
def test_a_program_that_answers_oddly_is_left_and_git_fetches(
    town: Fleet, fetches: list[str], then: str
) -> None:
    clone = town.clone("alice")
    land(town, 3)
    fetches.clear()
    reader = opened(town, clone, "alice", environ=saying(town, PROGRAMS[then]))
    assert reader.head().commit == town.head()
    assert len(fetches) == 1
    fsck(clone / ".git", town.env)


def test_a_program_that_says_nothing_ends_at_the_deadline(town: Fleet, fetches: list[str]) -> None:
    clone = town.clone("alice")
    land(town, 3)
    fetches.clear()
    env = saying(town, "exec sleep 60")
    began = time.monotonic()
    with pytest.raises(Failed) as caught:
        opened(town, clone, "alice", environ=env, timeout=timedelta(seconds=4)).head()
    assert caught.value.code == "timeout"
    assert time.monotonic() - began < 20
    assert fetches == []


def test_doctor_names_a_server_that_sends_everything_unless_its_owner_wants_that(
    fleet: Fleet,
) -> None:
    path, env = fleet.clone("alice"), fleet.env

    def found() -> tuple[bool | None, str]:
        checks = {one.name: one for one in doctor.examine(Options(path, agent="alice"), env)}
        one = checks["server's files"]
        return one.ok, one.do if "allowFilter" in one.found else ""

    assert found() == (True, "")
    fleet.git("config", "--unset", "uploadpack.allowFilter")
    ok, do = found()
    assert ok is None
    assert do == f"coordledger hook install {fleet.remote}"
    fleet.git("config", "uploadpack.allowFilter", "false")
    assert found() == (True, "")


# -- more than is judged at a time


def test_many_are_adopted_a_portion_at_a_time(
    town: Fleet, fetches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_commits, "PORTION", 20)
    clone, adopted = town.clone("alice"), list[int]()
    adopt = Replica.adopt

    def noted(replica: Replica, *given: Any) -> bool:
        adopted.append(len(given[1]))
        return adopt(replica, *given)

    monkeypatch.setattr(Replica, "adopt", noted)
    land(town, 45)
    fetches.clear()
    adopted.clear()
    reader = opened(town, clone, "alice")
    assert reader.head().commit == town.head()
    assert (fetches, adopted) == ([], [20, 20, 5])
    fsck(clone / ".git", town.env)
    assert reader.audit(full=True).problems == ()
    assert not list((clone / ".git/objects").rglob("*.keep"))


def test_a_bad_record_in_a_later_portion_stops_the_copy_below_it(
    town: Fleet,
    attacker_for: Callable[[Fleet], Attacker],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_commits, "PORTION", 20)
    town.clone("alice")
    land(town, 25)
    good = town.head()
    forge = attacker_for(town)
    assert forge.push(_forged(forge)).slug == ""
    alice = town.ledger("alice")
    end = _verdict(alice)
    assert (end[0]["code"], end[2]) == ("bad-signature", good)
    fsck(town.clone("alice") / ".git", town.env)


@pytest.mark.parametrize("portion", [20, 1000])
def test_nothing_is_adopted_before_it_has_what_the_remote_has_told_of(
    town: Fleet, fetches: list[str], monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    """A remote that says another thing than before has moved nothing, as ever."""
    monkeypatch.setattr(by_commits, "PORTION", portion)
    before = town.ledger("alice").head()
    land(town, 45)
    alice = town.ledger("alice")
    told = alice.connection.local.told
    told.add(before.seq + 30, "3" * 40)
    fetches.clear()
    with pytest.raises(Integrity) as caught:
        alice.head()
    assert caught.value.code == "told-lost"
    assert len(fetches) == 1
    head = alice.connection.local.trusted
    assert head
    assert head.commit == before.commit


# -- a process that dies, and two at once


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("count", [2, 40], ids=["loose", "a pack"])
def test_a_process_that_dies_before_it_adopts_leaves_a_sound_clone(
    town: Fleet, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    clone = town.clone("alice")
    before = town.ledger("alice").head().commit
    land(town, count)
    with monkeypatch.context() as patched:

        def killed(*_: object, **__: object) -> bool:
            raise Killed

        patched.setattr(Replica, "adopt", killed)
        with pytest.raises(Killed):
            town.ledger("alice").head()
    assert town.git("rev-parse", LEDGER_REF, cwd=clone).strip() == before
    fsck(clone / ".git", town.env)
    town.git("gc", "-q", "--prune=now", cwd=clone)
    fsck(clone / ".git", town.env)
    assert town.ledger("alice").head().commit == town.head()
    fsck(clone / ".git", town.env)


def test_who_was_overtaken_moves_nothing_back(
    town: Fleet, fetches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    land(town, 2)
    alice, neighbour = town.ledger("alice"), town.ledger("alice")
    remote = alice.connection.remote
    honest = remote.news

    def slow(ref: str, have: str, objects: str) -> News | None:
        news = honest(ref, have, objects)
        land(town, 1)
        neighbour.head()
        return news

    fetches.clear()
    monkeypatch.setattr(remote, "news", slow)
    assert alice.head().commit == town.head()
    assert json.loads((alice.connection.local.folder / "trusted.json").read_bytes())["commit"] == (
        town.head()
    )
    fsck(town.clone("alice") / ".git", town.env)
