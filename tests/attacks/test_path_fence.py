"""Code that lands under a claim touches nothing that others have reserved, however it is pushed.

All pushes here are plain git's. bob, who pushes, is enrolled and has a live claim.
"""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.fleet import LEDGER_REF
from support.pusher import FREE, MAIN, NOWHERE, RELEASE, Pusher, fence
from support.serve_process import serving
from support.ways_in import DIRECT

from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.attacker import Pushed
    from support.fleet import Fleet

HOUR = timedelta(hours=1)
FILE, PROGRAM, LINK, MODULE = "100644", "100755", "120000", "160000"
LOGIN = "src/auth/login.py"
LETTER = "docs/\xe9.md"
MARKS = "docs/\u0390"  # its capital has one of its marks apart
HERS = ["src/auth/", "README.md", "new/place/", "vendor/lib/deep/x.c", LETTER, "Makefile"]
HERS += ["notes", MARKS]
Files = dict[str, tuple[str, str]]

OLD: Files = {
    LOGIN: (FILE, "one"),
    "src/other.py": (FILE, "one"),
    "README.md": (FILE, "one"),
    "vendor/lib": (MODULE, "1" * 40),
    LETTER: (FILE, "one"),
    "makefile": (FILE, "one"),
}
BASE: Files = OLD | {LOGIN: (FILE, "two"), "src/other.py": (FILE, "two")}


class Coder(Pusher):
    """Makes commits of many files."""

    def files(self, files: Files) -> str:
        """A tree. Names are put as they are; `//` stands for a `/` that divides no folders."""
        here: dict[str, tuple[str, str]] = {}
        below: dict[str, Files] = {}
        for name, (mode, text) in files.items():
            top, _, rest = name.replace("//", "\0").partition("/")
            if rest:
                below.setdefault(top, {})[rest.replace("\0", "//")] = mode, text
            else:
                oid = text if mode == MODULE else self.blob(text)
                here[top.replace("\0", "/")] = mode, oid
        folders = {name: ("40000", self.files(found)) for name, found in below.items()}
        both = [(mode, oid, name) for name, (mode, oid) in (here | folders).items()]
        return self.tree(*sorted(both, key=lambda one: one[2] + "/" * (one[0] == "40000")))

    def add(self, kind: str, content: bytes) -> str:
        oid = object_id(kind, content, self.algo)
        self._store.write({oid: (kind, content)})
        return oid

    def blob(self, text: str) -> str:
        return self.add("blob", text.encode())

    def made(self, changed: Files, *parents: str, without: tuple[str, ...] = ()) -> str:
        """A commit on main that changes so much."""
        files = {name: at for name, at in (BASE | changed).items() if name not in without}
        return self.commit(self.files(files), "made", *(parents or (self.there(MAIN),)))

    def land(self, new: str, ref: str = MAIN, agent: str = "bob", task: str = "work") -> Pushed:
        """Push it with its record, as it should be."""
        self.go_on_from(self.tip)
        old = self.there(ref)
        record = self.lands(new, old, ref, agent=agent, task=task)
        spec = f"{new}:{ref}" if new != NOWHERE else f":{ref}"
        return self.atomic(f"+{record}:{LEDGER_REF}", f"+{spec}" if old != NOWHERE else spec)

    def restore(self, ref: str, value: str) -> None:
        """Put a ref back, as the owner can."""
        aside = ("-c", "core.hooksPath=/x", "update-ref")
        if value == NOWHERE:
            self.fleet.git(*aside, "-d", ref)
        else:
            self.fleet.git(*aside, ref, value)


@pytest.fixture(scope="module")
def shared_fleet(
    founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """main is at BASE, which is made on OLD; release/1 is at OLD."""
    fleet = founded("bob", "carol")
    fence(fleet, MAIN, "refs/heads/release/*", "refs/tags/v*")
    with fleet.ledger("bob", session="s1") as bob:
        bob.claim("work", ttl=2 * HOUR, paths=["own/", "makefile"])
    coder = Coder(fleet, tmp_path_factory.mktemp("coder") / "coder.git")
    old = coder.commit(coder.files(OLD), "old")
    assert coder.land(old, RELEASE).slug == ""
    assert coder.land(coder.commit(coder.files(BASE), "base", old)).slug == ""
    coder.close()
    with fleet.ledger("alice", session="s1") as alice:
        alice.claim("hers", ttl=2 * HOUR, paths=HERS)
    fence(fleet, MAIN, paths=True)
    with serving(fleet):
        yield fleet


@pytest.fixture
def coder(shared_fleet: Fleet, tmp_path: Path) -> Iterator[Coder]:
    """main and release/1 are put back after it."""
    made = Coder(shared_fleet, tmp_path / "coder.git")
    refs = {ref: made.there(ref) for ref in (MAIN, RELEASE)}
    yield made
    for ref, value in refs.items():
        if made.there(ref) != value:
            made.restore(ref, value)
    made.close()


# What is changed, what is left out, and the name that the refusal says; "" if it lands.
CHANGES: dict[str, tuple[Files, tuple[str, ...], str]] = {
    "another file": ({"src/other.py": (FILE, "x"), "src/authentic": (FILE, "x")}, (), ""),
    "one's own": ({"own/file": (FILE, "x")}, (), ""),
    "a file": ({"README.md": (FILE, "x")}, (), "README.md"),
    "a file in a folder": ({LOGIN: (FILE, "x")}, (), LOGIN),
    "one that is new in it": ({"src/auth/a/b/c": (FILE, "x")}, (), "src/auth/a/b/c"),
    "a name of any bytes": ({"src/auth/\udcff\n": (FILE, "x")}, (), "src/auth/"),
    "removed": ({}, (LOGIN,), LOGIN),
    "moved away": ({"own/login.py": BASE[LOGIN]}, (LOGIN,), LOGIN),
    "moved in": ({"src/auth/other.py": BASE["src/other.py"]}, ("src/other.py",), "src/auth/other"),
    "its mode": ({LOGIN: (PROGRAM, "two")}, (), LOGIN),
    "its type": ({LOGIN: (LINK, "two")}, (), LOGIN),
    "a link in the folder's place": ({"src/auth": (LINK, "../own")}, (LOGIN,), "src/auth"),
    "a file above what is not there yet": ({"new": (FILE, "x")}, (), "new"),
    "a link above what is not there yet": ({"new/place": (LINK, "/")}, (), "new/place"),
    "a submodule with what is reserved": ({"vendor/lib": (MODULE, "2" * 40)}, (), "vendor/lib"),
    "a submodule that becomes a folder": (
        {"vendor/lib/y": (FILE, "x")},
        ("vendor/lib",),
        "vendor/lib",
    ),
    "in other letters": ({"SRC/Auth/x": (FILE, "x")}, (), "SRC/Auth/x"),
    "a folder above in other letters": ({"New": (FILE, "x")}, (), "New"),
    "in Unicode's other form": (
        {unicodedata.normalize("NFD", LETTER): (FILE, "x")},
        (),
        "docs/e",
    ),
    "a folder in a file's place": ({"notes/a/x": (FILE, "x")}, (), "notes/a/x"),
    "in capitals with marks": ({"docs/\u03aa\u0301": (FILE, "x")}, (), "docs/"),
    "one's own that is another's in other letters": ({"makefile": (FILE, "x")}, (), ""),
    "another's that is one's own in other letters": ({"Makefile": (FILE, "x")}, (), "Makefile"),
    "a name with a slash in it": ({"src//auth//x": (FILE, "x")}, (), "cannot be told"),
    "by way of a folder above": ({"../src/auth/x": (FILE, "x")}, (), "cannot be told"),
    "out of it by way of a folder above": (
        {"src/auth/../x": (FILE, "x")},
        (),
        "cannot be told",
    ),
    "by way of the folder itself": ({"src/./auth/x": (FILE, "x")}, (), "cannot be told"),
    "a name that is too long": ({"x" * 800: (FILE, "x")}, (), "cannot be told"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_others_have_reserved_is_not_changed(coder: Coder, case: str) -> None:
    changed, without, told = CHANGES[case]
    before = coder.refs()
    pushed = coder.land(coder.made(changed, without=without))
    if not told:
        assert pushed.slug == "", pushed.err
        return
    assert pushed.slug == ("paths-unread" if told == "cannot be told" else "reserved"), pushed.err
    assert told in pushed.said[0], pushed.err
    assert coder.refs() == before


@pytest.mark.parametrize("way", DIRECT)
def test_by_each_way_in_it_is_the_same(coder: Coder, way: str) -> None:
    bad, good = coder.made({LOGIN: (FILE, way)}), coder.made({"own/x": (FILE, way)})
    with DIRECT[way].alone(coder.fleet):
        pushed = coder.land(bad)
        assert pushed.slug == "reserved"
        assert f"{LOGIN} is reserved by alice/s1 for hers until" in pushed.said[0]
        assert coder.land(good).slug == ""


def test_the_holder_may_and_another_session_of_hers_may_not(coder: Coder) -> None:
    with coder.fleet.ledger("alice", session="s2") as alice:
        alice.claim("beside", ttl=HOUR)
    new = coder.made({LOGIN: (FILE, "hers")})
    coder.go_on_from(coder.tip)
    record = coder.lands(new, coder.there(MAIN), agent="alice", task="beside", session="s2")
    assert coder.atomic(f"{record}:{LEDGER_REF}", f"{new}:{MAIN}").slug == "reserved"
    assert coder.land(new, agent="alice", task="hers").slug == ""


def test_two_entries_of_one_name_and_any_order_hide_nothing(coder: Coder) -> None:
    evil, main = coder.blob("evil"), coder.there(MAIN)
    entries = coder.entries(coder.git("rev-parse", f"{main}^{{tree}}"))
    readme = next(one for one in entries if one[2] == "README.md")
    rest = [one for one in entries if one != readme]
    other = (FILE, evil, "README.md")
    for order in ([readme, other], [other, readme], [*rest, other], [other, *rest[::-1], readme]):
        both = [one for one in (*order, *rest) if one in order or order[-1] not in rest]
        tree = coder.tree(*dict.fromkeys(both))
        pushed = coder.land(coder.commit(tree, "odd", main))
        assert pushed.slug in ("reserved", "paths-unread"), pushed.err


# -- histories


def test_what_was_changed_and_changed_back_is_not_changed(coder: Coder) -> None:
    there = coder.made({LOGIN: (FILE, "x")})
    assert coder.land(coder.made({"own/x": (FILE, "back")}, there)).slug == ""


def evil_merge(coder: Coder) -> str:
    """Its tree has what its second parent has, from before hers."""
    return coder.made({LOGIN: OLD[LOGIN]}, coder.there(MAIN), coder.there(RELEASE))


HISTORIES: dict[str, Callable[[Coder], str]] = {
    "a merge that is neither side": lambda c: c.made(
        {LOGIN: (FILE, "x")}, c.there(MAIN), c.there(RELEASE)
    ),
    "a merge that takes back": evil_merge,
    "a merge in a merge": lambda c: c.made({LOGIN: (FILE, "x")}, c.there(MAIN), evil_merge(c)),
    "backwards": lambda c: c.there(RELEASE),
    "another root": lambda c: c.commit(c.files(OLD), "root"),
    "taken back in a commit": lambda c: c.made({LOGIN: OLD[LOGIN]}),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_no_history_makes_the_change_smaller(coder: Coder, case: str) -> None:
    pushed = coder.land(HISTORIES[case](coder))
    assert pushed.slug == "reserved", pushed.err
    assert LOGIN in pushed.said[0]


def test_what_another_branch_has_is_not_free(coder: Coder) -> None:
    """Others' branches are not fenced: a detour over them is none."""
    new = coder.made({LOGIN: (FILE, "x")})
    assert coder.push(f"{new}:{FREE}").code == 0
    assert coder.land(new).slug == "reserved"


def test_replace_refs_that_are_pushed_change_nothing(coder: Coder) -> None:
    evil, good = coder.made({LOGIN: (FILE, "x")}), coder.made({"own/x": (FILE, "x")})
    trees = [coder.git("rev-parse", f"{oid}^{{tree}}") for oid in (evil, good)]
    for one, other in ((evil, good), trees):
        assert coder.push(f"{one}:refs/keep/{one}", f"{other}:refs/replace/{one}").code == 0
    assert coder.land(evil).slug == "reserved"


# -- refs that begin and end


def test_a_ref_that_is_made_may_have_what_a_fenced_one_has(coder: Coder) -> None:
    ref = "refs/heads/release/made"
    for new in (coder.there(MAIN), coder.there(RELEASE), coder.made({"own/x": (FILE, "made")})):
        assert coder.land(new, ref).slug == ""
        coder.restore(ref, NOWHERE)
    hidden = coder.made({LOGIN: (FILE, "x")})
    assert coder.land(coder.made({"own/x": (FILE, "over")}, hidden)).slug == ""
    assert coder.land(hidden, ref).slug == "reserved"  # main has it in its history alone
    tagged = coder.add("tag", f"object {hidden}\ntype commit\ntag v\n\nx\n".encode())
    assert coder.land(tagged, "refs/tags/v1").slug == "reserved"
    good = coder.add("tag", f"object {coder.there(MAIN)}\ntype commit\ntag v\n\nx\n".encode())
    assert coder.land(good, "refs/tags/v1").slug == ""
    coder.restore("refs/tags/v1", NOWHERE)


def test_a_ref_that_is_removed_loses_all_that_it_has(coder: Coder) -> None:
    """Else it could be made anew, with something else."""
    assert coder.land(NOWHERE, RELEASE).slug == "reserved"


def test_what_is_no_commit_is_not_guessed_at(coder: Coder) -> None:
    ref = "refs/tags/v-odd"
    assert coder.land(coder.blob("no commit"), ref).slug == "paths-unread"


# -- much


def test_what_stands_for_very_much_is_not_read(coder: Coder) -> None:
    """Beside what is reserved no folder is opened; there, the first file is one too many, and
    folders that have none are counted.
    """
    file = coder.tree((FILE, coder.blob("x"), "x"))
    bombs = []
    for inside in (file, coder.tree()):
        tree = inside
        for _ in range(40):
            tree = coder.tree(*(("40000", tree, f"{n:02}") for n in range(20)))
        bombs.append(coder.tree(("40000", tree, "place")))
    base = coder.entries(coder.git("rev-parse", f"{coder.there(MAIN)}^{{tree}}"))
    for tree, where, slug in (
        (bombs[0], "zz", ""),
        (bombs[0], "new", "reserved"),
        (bombs[1], "new", "paths-unread"),
    ):
        new = coder.commit(coder.tree(*base, ("40000", tree, where)), "much", coder.there(MAIN))
        pushed = coder.land(new)
        assert pushed.slug == slug, pushed.err


def test_folders_that_are_too_deep_for_a_checkout_are_not_followed(coder: Coder) -> None:
    tree = coder.tree((FILE, coder.blob("x"), "x"))
    for _ in range(1500):
        tree = coder.tree(("40000", tree, "ddd"))
    tree = coder.tree(("40000", tree, "place"))
    base = coder.entries(coder.git("rev-parse", f"{coder.there(MAIN)}^{{tree}}"))
    new = coder.commit(coder.tree(*base, ("40000", tree, "new")), "deep", coder.there(MAIN))
    assert coder.land(new).slug == "paths-unread"


# -- where nothing is reserved, and where it is not asked for


def test_what_nobody_has_reserved_any_longer_is_free(coder: Coder) -> None:
    with coder.fleet.ledger("carol", session="s1") as carol:
        carol.claim("carols", ttl=HOUR, paths=["free/"])
        new = coder.made({"free/x": (FILE, "x")})
        assert coder.land(new).slug == "reserved"
        carol.release("carols")
    assert coder.land(new).slug == ""


def test_it_is_switched_off_and_on_and_told(coder: Coder) -> None:
    new = coder.made({LOGIN: (FILE, "x")})
    install = ("hook", "install", coder.fleet.remote)
    off = coder.fleet.run(*install, "--no-fence-paths", check=0).stdout
    assert "no longer fenced: the paths that others have reserved" in off
    assert coder.land(new).slug == ""
    on = coder.fleet.run(*install, "--fence-paths", check=0).stdout
    assert "fenced by ledger main: the paths that others have reserved" in on
    assert coder.land(coder.made({LOGIN: (FILE, "y")})).slug == "reserved"
