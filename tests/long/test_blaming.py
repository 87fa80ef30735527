"""Under whose claim a commit of the code came to a fenced ref."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF
from support.pusher import MAIN, NOWHERE, Pusher

from coordledger import Failed
from coordledger.git import ancestry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger import Blame
    from coordledger.git.process import Git

RELEASE, TAG, LEGACY = "refs/heads/release", "refs/tags/v1", "refs/heads/legacy"
FENCED = ("--fence", LEGACY, "--fence", MAIN, "--fence", RELEASE, "--fence", "refs/tags/*")


class Site:
    """Four commits: a, b and c on main, and d, a merge of c and of x, in which a tag points."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        with fleet.ledger("bob", session="s1") as ledger:
            assert ledger.claim("work", ttl=timedelta(hours=2)).won
        with fleet.ledger("carol", session="s1") as ledger:
            assert ledger.claim("hers", ttl=timedelta(hours=2)).won
        push = self.pusher = Pusher(fleet, folder)
        self.a = push.code("a")
        self.b = push.code("b", self.a)
        self.c = push.code("c", self.b)
        self.x = push.code("x")
        self.d = push.code("d", self.c, self.x)
        who = "Bob <bob@example.com> 1790000000 +0000"
        about = f"object {self.d}\ntype commit\ntag v1\ntagger {who}\n\none\n"
        self.tag = push.add("tag", about.encode())
        self.land(self.b, NOWHERE)
        self.land(self.d, self.b, agent="carol", task="hers")
        self.land(self.c, NOWHERE, RELEASE)
        self.land(self.d, self.c, RELEASE)
        self.land(self.tag, NOWHERE, TAG, agent="carol", task="hers")
        self.o = push.code("there before the fence")
        assert push.push(f"{self.o}:refs/heads/free").code == 0
        fleet.git("-c", "core.hooksPath=/dev/null", "update-ref", LEGACY, self.o)
        self.land(push.code("more", self.o), self.o, LEGACY)
        self.land(self.a, self.d)  # back
        self.land(self.d, self.a)  # and there again
        fleet.git("fetch", "--quiet", "--tags", "origin", cwd=fleet.clone("bob"))

    def land(self, new: str, old: str, ref: str = MAIN, **given: str) -> None:
        push = self.pusher
        record = push.lands(new, old, ref, **given)
        pushed = push.atomic(f"{record}:{LEDGER_REF}", f"{new}:{ref}")
        assert pushed.code == 0, pushed.err

    def blame(self, name: str) -> Blame:
        with self.fleet.ledger("bob", session="s1") as ledger:
            return ledger.blame(name)


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    fleet = founded("bob", "carol")
    fleet.run("hook", "install", fleet.remote, *FENCED, check=0)
    made = Site(fleet, tmp_path_factory.mktemp("code") / "pusher.git")
    yield made
    made.pusher.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", [(MAIN, "b", "work", "bob"), (RELEASE, "c", "work", "bob"), (TAG, "tag", "hers")]),
        ("b", [(MAIN, "b", "work", "bob"), (RELEASE, "c", "work", "bob"), (TAG, "tag", "hers")]),
        ("c", [(MAIN, "d", "hers", "carol"), (RELEASE, "c", "work"), (TAG, "tag", "hers")]),
        ("x", [(MAIN, "d", "hers", "carol"), (RELEASE, "d", "work"), (TAG, "tag", "hers")]),
        ("d", [(MAIN, "d", "hers", "carol"), (RELEASE, "d", "work"), (TAG, "tag", "hers")]),
        ("tag", [(MAIN, "d", "hers", "carol"), (RELEASE, "d", "work"), (TAG, "tag", "hers")]),
    ],
)
def test_of_each_ref_the_oldest_record_that_brought_the_commit(
    site: Site, name: str, expected: list[tuple[str, ...]]
) -> None:
    found = site.blame(getattr(site, name))
    told = [(one.ref, one.new, one.task, one.agent) for one in found.landings]
    assert found.unseen == 0
    assert len(told) == len(expected)
    for (ref, new, *who), got in zip(expected, told, strict=True):
        assert (ref, getattr(site, new), *who) == got[: 2 + len(who)]


def test_a_landing_names_its_record_and_who_has_checked_it(site: Site) -> None:
    [one, *_] = site.blame(site.a).landings
    with site.fleet.ledger("bob", session="s1") as ledger:
        events = ledger.history("work")
    [event] = [event for event in events if event.seq == one.seq]
    assert (event.kind, event.commit, event.at) == ("land", one.commit, one.at)
    assert (one.old, one.epoch, one.session) == (NOWHERE, 1, "s1")
    assert (one.verdict, one.checked) == ("authentic", "here")


def test_names_that_git_takes(site: Site) -> None:
    for name in (site.a[:12], "origin/main~3", "v1~3", "origin/release~3"):
        assert site.blame(name).commit == site.a


@pytest.mark.parametrize("name", ["", "nothing", "f" * 40, "HEAD:file", "--all", "a\nb", "\udcff"])
def test_what_names_no_commit_is_refused(site: Site, name: str) -> None:
    with pytest.raises(Failed) as refused:
        site.blame(name)
    assert refused.value.code == "unknown-commit"


def test_a_commit_that_no_record_brought_is_told_so(site: Site) -> None:
    clone = site.fleet.clone("bob")
    site.fleet.git("fetch", "--quiet", site.pusher.folder, site.d, cwd=clone)
    tree = site.fleet.git("rev-parse", f"{site.d}^{{tree}}", cwd=clone).strip()
    who = ("-c", "user.name=b", "-c", "user.email=b@example.com")
    ahead = site.fleet.git(*who, "commit-tree", "-m", "x", "-p", site.d, tree, cwd=clone).strip()
    with pytest.raises(Failed) as refused:
        site.blame(ahead)
    assert refused.value.code == "never-landed"


def test_what_was_there_before_the_fence_was_brought_by_no_record(site: Site) -> None:
    with pytest.raises(Failed) as refused:
        site.blame(site.o)
    assert refused.value.code == "never-landed"


def test_replace_refs_and_grafts_change_nothing(site: Site) -> None:
    clone = site.fleet.clone("bob")
    before = site.blame(site.x)
    site.fleet.git("replace", "--graft", site.d, site.c, cwd=clone)
    assert site.blame(site.x) == before
    site.fleet.git("replace", "-d", site.d, cwd=clone)


def test_commits_that_are_not_here_are_counted(site: Site, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    site.fleet.git("clone", "-q", "--depth=1", "-b", "main", f"file://{site.fleet.remote}", shallow)
    argv = ("blame-claim", "HEAD", "--json", "--as", "bob")
    ran = site.fleet.run(*argv, cwd=shallow, check=0)
    assert json.loads(ran.stdout)["unseen"] == 3  # b on main, c on release, and on the old one


def test_in_the_repository_itself(site: Site) -> None:
    ran = site.fleet.run("blame-claim", "main", "--json", cwd=site.fleet.remote, check=0)
    assert json.loads(ran.stdout)["commit"] == site.d


def test_people_are_shown_ref_move_holder_and_record(site: Site) -> None:
    ran = site.fleet.run("blame-claim", site.a, agent="bob", check=0)
    assert f"{MAIN}  {NOWHERE[:12]}..{site.b[:12]}" in ran.stdout
    assert "bob/s1" in ran.stdout
    assert "work, epoch 1" in ran.stdout


def test_git_is_asked_as_often_for_many_records_as_for_few(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = ancestry._run

    def run(git: Git, *args: str, stdin: str) -> str:
        asked.append(args[0])
        return real(git, *args, stdin=stdin)

    monkeypatch.setattr(ancestry, "_run", run)
    site.blame(site.a)
    assert asked == ["cat-file", "rev-list"]
